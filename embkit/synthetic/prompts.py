"""What a language model is asked, to the letter, and what of its answer counts as a query."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..data import text_checks
from ..data.domain import normalise
from ..data.text_checks import scripts, words
from ..errors import EmbkitError, unknown
from .backends import Failure

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
            raise EmbkitError(
                f"kinds or examples of prompt {self.name!r} have another shape ({error})",
                expected="kinds={kind: (label, description)}, examples={kind: [(document, query)]}",
                hint="look at ek.synthetic.PROMPTS['general'].kinds and .examples",
            ) from error

    def render(self, document: str, kind: str) -> str:
        """The text that is sent: it ends where the model goes on; fails for an unknown kind."""
        if kind not in self.kinds:
            raise unknown("kind of query", kind, self.kinds)
        label, what = self.kinds[kind]
        blocks = [self.instruction.replace("{what}", what)]
        blocks += [f"{self.label}: {d}\n{label}: {q}" for d, q in self.examples[kind]]
        shown = " ".join(document.split())[: self.longest].rstrip()
        return "\n\n".join([*blocks, f"{self.label}: {shown}\n{label}:"])

    def replace(self, **changes: Any) -> Prompt:
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


def _prompt(
    name: str, instruction: str, kinds: dict[str, tuple[str, str]], shots: str, label: str
) -> Prompt:
    """A prompt whose examples are a document and, below it, a query of each kind ("-" for none)."""
    examples: dict[str, list[Pair]] = {kind: [] for kind in kinds}
    lines = iter(shots.strip().splitlines())
    for document, *queries in zip(*[lines] * (1 + len(kinds)), strict=True):
        for kind, query in zip(kinds, queries, strict=True):
            if query != "-":
                examples[kind].append((document, query.removeprefix("- ")))
    return Prompt(name, instruction, kinds, examples, label)


# Injuries, and titles made up in the manner of ICD-10-CM: no profile holds one of them, so no
# example is asked about, tested on, or given away. Which examples a kind has was tried out with a
# model of 135M parameters.
_ICD10CM = _prompt(
    "icd10cm",
    "After each title of a disease or injury stands {what}. One line each.",
    {
        "keyword": ("Key words", "a few plain key words that find it"),
        "question": ("Question", "a question that someone asks about it, in plain words"),
        "layman": ("Patient", "what a patient says, in everyday words"),
    },
    """
Motion sickness, initial encounter
- nausea when traveling
- why do I get nauseous when traveling
- feel sick and dizzy in the car
Sprain of unspecified ligament of right ankle
- right ankle ligament sprain
- how is a twisted right ankle treated
- twisted my right ankle and it swelled up
Malignant neoplasm of the left thumb
- left thumb cancer
-
- cancer in my left thumb
Anaphylactic reaction due to peanuts
- peanut allergy anaphylaxis
- what to do in a severe allergic reaction to peanuts
- throat swells up after eating peanuts
Heat exhaustion, unspecified
- heat exhaustion symptoms
- why do I feel faint after working in the heat
- faint and weak after too long in the sun
Leukemia of mast cells, in relapse
- mast cell leukemia came back
-
- blood cancer of the mast cells came back
Burn of second degree of left hand
- left hand burn with blisters
- how to treat a blistering burn on the left hand
- blisters on my left hand from hot water
Type 1 diabetes mellitus with painful neuropathy of hands
- diabetes hand nerve pain
-
- my sugar is high and my hands burn and tingle
Concussion without loss of consciousness
- mild head injury no blackout
- can you have a concussion without passing out
- hit my head and now it hurts, but I did not pass out
Frostbite of toes
-
- what happens to toes that are frozen
-
Toxic effect of venom of bees, accidental
- bee sting
- is a bee sting poisonous
- got stung by a bee and my arm is swollen
""",
    "Title",
)

_GENERAL = _prompt(
    "general",
    "After each document stands {what}. One line each.",
    {
        "keyword": ("Key words", "a few key words that someone types to find it"),
        "question": ("Question", "a question that it answers"),
        "layman": ("Request", "what someone says who needs it and does not know its terms"),
    },
    """
Refunds are paid to the original method of payment within 14 days of the return.
- refund time after return
- how long does a refund take
- sent the shoes back two weeks ago, where is my money
Returns the index of the first element for which the predicate is true, or -1.
- index of first matching element
- how do I find the position of the first element that matches
- where in the list is the first thing that fits
The Atacama Desert in northern Chile is the driest place outside the polar regions.
- driest desert Chile
- which desert is the driest
- place in South America where it never rains
Descale the boiler every three months; the red lamp blinks when it is due.
- boiler descaling interval
- why is the red lamp on the boiler blinking
- coffee machine flashes red and the water is slow
Photosynthesis converts light into chemical energy that is stored in sugars.
- photosynthesis light to sugar
- how do plants store the energy of light
- how leaves turn sun into food
""",
    "Document",
)

PROMPTS: dict[str, Prompt] = {"icd10cm": _ICD10CM, "general": _GENERAL}
