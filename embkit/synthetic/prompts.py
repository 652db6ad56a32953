"""What a language model is asked, to the letter, and what of its answer counts as a query."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from ..data import text_checks
from ..data.domain import normalise
from ..data.text_checks import scripts, words
from ..errors import unknown
from ..files import told_by
from .backends import Failure, refused

Pair = tuple[str, str]  # (document, query)
MAX_WORDS = 24  # of a query; longer answers are refused, not cut
_LEAD = re.compile(r"^(?:[-*•–>#]+|\(?\d{1,2}[.)])\s+")  # a bullet or a number
_QUOTES = "\"'“”„‘’«»`*_ "
_REFUSAL = re.compile(
    r"^(i'?m sorry|i am sorry|sorry,|i can(?:no|')t\b|as an ai\b|i am an ai\b|i'm an ai\b)", re.I
)


@dataclass(frozen=True, repr=False)
class Prompt:
    """A few-shot prompt for queries of several kinds.

    The documents of its examples are never asked about with it: the answer already stands there.

    Fails for no kind, no example for a kind, an example that is not two texts.
    """

    name: str
    instruction: str  # the first line; {what} becomes the kind's description
    kinds: Mapping[str, tuple[str, str]]  # kind -> (label before the query, description)
    examples: Mapping[str, Sequence[Pair]]  # kind -> (document, query) pairs
    label: str = "Document"  # stands before every document
    longest: int = 2000  # characters of a document that are shown; the rest is cut

    def __post_init__(self) -> None:
        try:
            if not [self.render("", kind) for kind in self.kinds]:
                raise ValueError("no kinds")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise refused("prompt", name=self.name, why=error) from error

    def render(self, document: str, kind: str) -> str:
        """The text that is sent: it ends where the model goes on; fails for an unknown kind."""
        if kind not in self.kinds:
            raise unknown("kind of query", kind, self.kinds)
        label, what = self.kinds[kind]
        blocks = [self.instruction.replace("{what}", what)]
        blocks += [f"{self.label}: {d}\n{label}: {q}" for d, q in self.examples[kind]]
        shown = " ".join(document.split())[: self.longest].rstrip()
        return "\n\n".join([*blocks, f"{self.label}: {shown}\n{label}:"])

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; fails for a field that does not exist."""
        for name in changes.keys() - (known := self.__dataclass_fields__.keys()):
            raise unknown("prompt field", name, known)
        return replace(self, **changes)

    @property
    def documents(self) -> frozenset[str]:
        """The examples' documents, normalised."""
        return frozenset(normalise(d) for pairs in self.examples.values() for d, _ in pairs)

    @property
    def hash(self) -> str:
        """Content hash: 16 characters."""
        return content_hash(asdict(self))[:16]

    def __repr__(self) -> str:
        shown = (f"[{kind}]\n{self.render('...', kind)} ..." for kind in self.kinds)
        return "\n\n".join([f"Prompt {self.name!r}", *shown])


def content_hash(value: Any) -> str:
    """32 characters for what JSON can hold."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def plain(text: str) -> str:
    """The form in which two queries count as the same: case, spaces and end marks aside."""
    return normalise(text).rstrip(" ?.!,;:")


def clean(
    answer: str, document: str, prompt: Prompt, kind: str, languages: Collection[str] = ()
) -> str | Failure:
    """A query out of what a model wrote for a document, or why there is none in it.

    The first line counts, without label, bullet and quotes. ``languages`` are English names of
    those that it may be in; empty for any. Whether it is any good is for the filters to say.
    """
    text = re.sub(r"<think>.*?</think>", "", answer, flags=re.S).strip()
    text = re.sub(r"^```\w*\s*|\s*```$", "", text)
    if text.startswith(("{", "[")):
        return Failure(f"JSON: {text[:60]!r}", again=True)
    line = next((line.strip() for line in text.splitlines() if line.strip(_QUOTES + "\t")), "")
    labels = [label for label, _ in prompt.kinds.values()] + [*prompt.kinds, "query", "answer"]
    label = re.compile(rf"^\W*({'|'.join(map(re.escape, labels))})\W*:\s*", re.I)
    for pattern in (_LEAD, label, _LEAD):
        line = pattern.sub("", line)
    line = " ".join(line.strip(_QUOTES).rstrip(_QUOTES + ",;:").split())
    reason = _wrong(line, document, prompt, kind, languages)
    if reason is None:
        return line
    return Failure(f"{reason}: {line[:60]!r}" if line else reason, again=True)


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


def _read(name: str) -> Prompt:
    return Prompt(name, **told_by(__file__, f"prompt_{name}.toml"))


# The examples of icd10cm: injuries, and titles made up in the manner of ICD-10-CM. No profile holds
# one of them, so no example is asked about, tested on, or given away. Which examples a kind has was
# tried out with a model of 135M parameters.
PROMPTS: dict[str, Prompt] = {name: _read(name) for name in ("icd10cm", "general")}
