"""What an audit is made of: the texts and labels that are read, and what each check finds.

Every threshold is a rule of thumb; each sentence gives the figure behind its verdict.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..data import Domain
from ..data.domain import own_documents, right_documents
from ..display import visible
from ..errors import EmbkitError
from ..models.encoding import encode_as

OK, LOOK, PROBLEM = "ok", "look", "problem"
TEXTS = 50_000  # texts of a kind that one of the slower checks reads; larger sets are sampled
NEAR = 10_000  # queries of a split that are compared with those of training
NO_ANSWER = "queries without a right document"


@dataclass(frozen=True)
class Finding:
    """One line of an audit."""

    name: str  # what was looked at
    verdict: str  # OK, LOOK (decide for yourself) or PROBLEM (mend it before you train)
    sentence: str  # what was found, with its figures
    examples: tuple[str, ...] = ()
    todo: str = ""  # what to do next, if anything
    numbers: Mapping[str, float] = field(default_factory=dict)  # the figures, for a program


@dataclass
class Draft:
    """A finding in the making."""

    name: str
    parts: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    todo: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    def say(self, part: str = "", todo: str = "", examples: Iterable[str] = ()) -> None:
        """Adds a part of the sentence, what to do about it, and cases of it."""
        self.parts += [part] if part else []
        self.todo += [todo] if todo else []
        self.examples += examples

    def finding(self, bad: object = False) -> Finding:
        """A problem where it is bad; else something to look at where there is something to do."""
        text, todo = "; ".join(self.parts), "; ".join(self.todo)
        verdict = PROBLEM if bad else LOOK if todo else OK
        sentence, examples = f"{text[:1].upper()}{text[1:]}.", tuple(self.examples)
        return Finding(self.name, verdict, sentence, examples, todo, self.numbers)


@dataclass(frozen=True)
class Sample:
    """Texts and labels that fit together, and what was left out to get there."""

    name: str
    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, Mapping[str, int]]]  # every query has a right document
    tests: tuple[str, ...]
    groups: Mapping[str, str]
    held_out: str | None
    left_out: Mapping[str, list[str]]  # cause -> the texts or ids
    model: Any
    scores: Any

    @property
    def splits(self) -> list[str]:
        """The splits that are not trained on."""
        return [split for split in self.qrels if split != "train"]

    @cached_property
    def right(self) -> dict[str, dict[str, set[str]]]:
        """Split -> query -> its right documents."""
        return {
            split: {q: set(right_documents(judged)) for q, judged in of.items()}
            for split, of in self.qrels.items()
        }

    @cached_property
    def own(self) -> frozenset[str]:
        """The queries that stand in the corpus too, under their own id, as in ``Domain.own``."""
        return own_documents(self.corpus, self.queries, self.qrels.values())

    @cached_property
    def asked(self) -> dict[str, str]:
        """Query -> its split, for every query of some split."""
        return {query: split for split, judged in self.qrels.items() for query in judged}

    @cached_property
    def trained(self) -> set[str]:
        """Documents that are right for some training query."""
        return set().union(*self.right.get("train", {}).values())

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """The documents' and the queries' texts, as many as the slower checks read."""
        return {
            "documents": [self.corpus[d] for d in self.some(self.corpus)],
            "queries": [self.queries[q] for q in self.some(self.asked)],
        }

    def some(self, keys: Iterable[str], most: int = TEXTS) -> list[str]:
        """At most so many of the keys, drawn with seed 0, in their order."""
        keys = list(keys)
        if len(keys) <= most:
            return keys
        return [keys[i] for i in sorted(random.Random(0).sample(range(len(keys)), most))]

    def of(self, split: str, most: int = TEXTS) -> list[str]:
        """Query ids of a split, in the order in which ``evaluate`` encodes them."""
        return self.some(self.qrels.get(split, ()), most)

    @property
    def sampled(self) -> str:
        """Which checks read a part, and how many of how many; empty where all was read."""
        kinds = {"documents": len(self.corpus), "queries": len(self.asked)}
        splits = {f"{split} queries": len(of) for split, of in self.qrels.items()}
        train = {"train queries": splits.pop("train queries", 0)}
        pieces = self.tokenizer is not None
        slower = ", encoding and tokenizer fragmentation" if pieces else " and encoding"
        found = []
        for what, sizes, most in (
            (f"lengths, languages{slower} read", kinds, TEXTS),
            ("copies were looked for in", train | splits, TEXTS),
            ("near-duplicates were looked for in", splits, NEAR),
            ("near-duplicates were compared with", train, TEXTS),
        ):
            parts = [f"{most:,} of {n:,} {kind}" for kind, n in sizes.items() if n > most]
            found += [f"{what} {' and '.join(parts)}"] if parts else []
        said = f"Sampled: {'; '.join(found)}. Labels and equal texts are counted in full."
        return said if found else ""

    def encode(self, texts: Sequence[str], kind: str = "query") -> np.ndarray:
        """Unit vectors (texts, dim) as queries or documents, from the cache of evaluation."""
        return encode_as(self.model, texts, kind)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, if it has one that counts pieces."""
        found = getattr(self.model, "tokenizer", None)
        return found if callable(found) and hasattr(found, "tokenize") else None


def sample_of(source: Any, **settings: Any) -> Sample:
    """Sorts out what of a domain can be audited; what cannot is counted by its cause."""
    fields = vars(source) if isinstance(source, Domain) else source
    if not isinstance(fields, Mapping) or not {"corpus", "queries", "qrels"} <= set(fields):
        given = repr(source) if isinstance(source, str) else type(source).__name__
        raise EmbkitError(
            f"audit() was given {given}",
            expected="a Domain, or a mapping with corpus, queries and qrels",
            hint='ek.audit(ek.load_domain("icd10cm"))',
        )
    left_out: dict[str, list[str]] = {}
    corpus = _texts(fields["corpus"], "empty documents", left_out)
    queries = _texts(fields["queries"], "empty queries", left_out)
    if not corpus or not queries:
        raise EmbkitError(
            f"{len(corpus)} documents and {len(queries)} queries with text",
            expected="some of both",
            hint="check how the source was read: which field holds the text?",
        )
    qrels: dict[str, dict[str, dict[str, int]]] = {split: {} for split in fields["qrels"]}
    for split, of in fields["qrels"].items():
        for query, judged in of.items():
            if query not in queries:
                left_out.setdefault("labels of unknown queries", []).append(str(query))
                continue
            known = {d: grade for d, grade in judged.items() if d in corpus}
            for d in judged.keys() - known.keys():
                left_out.setdefault("labels of unknown documents", []).append(str(d))
            if any(grade > 0 for grade in known.values()):
                qrels[split][query] = known
            else:
                left_out.setdefault(NO_ANSWER, []).append(queries[query])
    tests = fields.get("test_splits") or [s for s in qrels if s not in ("train", "dev")]
    name, groups = str(fields.get("name", "your data")), fields.get("groups") or {}
    apart = fields.get("held_out")
    return Sample(name, corpus, queries, qrels, tuple(tests), groups, apart, left_out, **settings)


def _texts(given: Mapping[str, Any], cause: str, left_out: dict[str, list[str]]) -> dict[str, str]:
    found = {k: text for k, text in given.items() if isinstance(text, str) and text.strip()}
    if len(found) < len(given):
        left_out[cause] = [str(key) for key in given if key not in found]
    return found


# How findings speak


def of(part: int, whole: int) -> str:
    """A count beside its share: ``12 of 345 (3.5%)``."""
    return f"{part:,} of {whole:,} ({percent(part / whole if whole else 0.0)})"


def percent(share: float) -> str:
    """A share as text; what is not quite none, or not quite all, does not read as such."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 < share < 1 else f"{share:.1%}"


def some_of(n: int, one: str, many: str) -> str:
    """A count and its noun."""
    return f"{n:,} {one if n == 1 else many}"


def quote(text: str, most: int = 80) -> str:
    """A text's beginning in quotes, on one line, with what cannot be seen spelt out."""
    cut = " ".join(text[: 4 * most].split())
    short = cut if len(cut) <= most and len(text) <= 4 * most else cut[: most - 1].rstrip() + "…"
    return f"“{visible(short)}”"
