"""What counts as an answer: the query in what a language model wrote, or why there is none."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection

from ..data import text_checks
from ..data.domain import normalise
from ..data.text_checks import scripts, words
from .backends import Failure
from .prompts import Prompt

MAX_WORDS = 24  # of a query; longer answers are refused, not cut
_LEAD = re.compile(r"^(?:[-*•–>#]+|\(?\d{1,2}[.)])\s+")  # a bullet or a number
_QUOTES = "\"'“”„‘’«»`*_ "
_REFUSAL = re.compile(
    r"^(i'?m sorry|i am sorry|sorry,|i can(?:no|')t\b|as an ai\b|i am an ai\b|i'm an ai\b)", re.I
)


def plain(text: str) -> str:
    """The form in which two queries count as the same: case, spaces and end marks aside."""
    return normalise(text).rstrip(" ?.!,;:")


def clean(
    answer: str, document: str, prompt: Prompt, kind: str, languages: Collection[str] = ()
) -> str | Failure:
    """A query out of what a model wrote for a document, or why there is none in it.

    The first line counts, without label, bullet and quotes. Refused are: nothing, half JSON,
    another script than the document's or none of the ``languages`` (English names; empty for any),
    too many words, a text that repeats itself, few letters, an apology, and an example of the
    prompt word for word. Whether the query is any good is for the filters to say.

    Example:
        >>> from embkit.synthetic.prompts import PROMPTS
        >>> clean('- Patient: "ringing in my ear"', "Tinnitus", PROMPTS["icd10cm"], "layman")
        'ringing in my ear'
    """
    text = re.sub(r"<think>.*?</think>", "", answer, flags=re.S).strip()
    text = re.sub(r"^```\w*\s*|\s*```$", "", text)
    if text[:1] in ("{", "["):
        whole, text = text, _from_json(text, kind) or ""
        if not text:
            return Failure(f"half JSON, or JSON without a query: {whole[:60]!r}", silent=False)
    line = next((line.strip() for line in text.splitlines() if line.strip(_QUOTES + "\t")), "")
    labels = [label for label, _ in prompt.kinds.values()] + [*prompt.kinds, "query", "answer"]
    label = re.compile(rf"^\W*({'|'.join(map(re.escape, labels))})\W*:\s*", re.I)
    for pattern in (_LEAD, label, _LEAD):
        line = pattern.sub("", line)
    line = " ".join(line.strip(_QUOTES).rstrip(_QUOTES + ",;:").split())
    reason = _wrong(line, document, prompt, kind, languages)
    if reason is None:
        return line
    return Failure(f"{reason}: {line[:60]!r}" if line else reason, silent=False)


def _from_json(text: str, kind: str) -> str | None:
    """The query in a whole JSON value: a text, the first of a list, or an object's."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list):
        found = found[0] if found else None
    if isinstance(found, dict):
        found = next((found[n] for n in ("query", kind, *found) if n in found), None)
    return found if isinstance(found, str) else None


def _wrong(
    line: str, document: str, prompt: Prompt, kind: str, languages: Collection[str]
) -> str | None:
    found = words(line)
    if not found:
        return "an empty answer"
    letters = sum(c.isalpha() for c in line)
    if letters < 0.5 * len("".join(line.split())) or "\ufffd" in line or not line.isprintable():
        return "garbage"
    if len(found) > MAX_WORDS:
        return f"too many words: {len(found):,}, at most {MAX_WORDS}"
    script = next(iter(scripts([document])), None)
    if script and scripts([line]).get(script, 0.0) < 0.7:
        return f"another language: the document is in {script} letters"
    told = set(text_checks.languages([line]))
    if languages and told and not told & set(languages):
        return f"another language: {', '.join(told)}"
    if _REFUSAL.match(line):
        return "a refusal"
    # one word three times in a row, or a run of three words twice
    runs = Counter(zip(found, found[1:], found[2:], strict=False))
    if any(a == b == c or n > 1 for (a, b, c), n in runs.items()):
        return "it repeats itself"
    if plain(line) in {plain(query) for _, query in prompt.examples[kind]}:
        return "an example of the prompt, word for word"
    return None
