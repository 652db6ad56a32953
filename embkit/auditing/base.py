"""What an audit is made of: the texts and labels that are read, and what each check finds.

Every threshold is a rule of thumb; each sentence gives the figure behind its verdict.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..data import Domain
from ..data.domain import right_documents
from ..display import percent, visible
from ..models.encoding import encode_as
from ..models.window import tokenizer_of

OK, LOOK, PROBLEM = "ok", "look", "problem"
TEXTS = 50_000  # texts of a kind that one of the slower checks reads; larger sets are sampled
NEAR = 10_000  # queries of a split that are compared with those of training


@dataclass
class Finding:
    """One line of an audit; a check puts it together."""

    name: str  # what was looked at
    verdict: str = OK  # or LOOK (decide for yourself), or PROBLEM (mend it before you train)
    sentence: str = ""  # what was found, with its figures
    examples: tuple[str, ...] = ()
    todo: str = ""  # what to do next, if anything
    numbers: dict[str, float] = field(default_factory=dict)  # the figures, for a program

    def say(self, part: str = "", todo: str = "", examples: Iterable[str] = ()) -> None:
        """Adds a part of the sentence, what to do about it, and cases of it."""
        self.sentence = "; ".join(filter(None, [self.sentence, part]))
        self.todo = "; ".join(filter(None, [self.todo, todo]))
        self.examples += tuple(examples)

    def judged(self, bad: object = False) -> Finding:
        """A problem where it is bad; else something to look at where there is something to do."""
        self.verdict = PROBLEM if bad else LOOK if self.todo else OK
        self.sentence = f"{self.sentence[:1].upper()}{self.sentence[1:]}."
        return self


class Sample:
    """A domain's texts and labels, as the checks read them."""

    def __init__(self, domain: Domain, model: Any = None, scores: Any = None) -> None:
        self.domain, self.model, self.scores = domain, model, scores
        self.corpus, self.queries, self.qrels = domain.corpus, domain.queries, domain.qrels
        self.tests, self.groups, self.held_out = domain.test_splits, domain.groups, domain.held_out
        self.own, self.trained = domain.own, domain.trained_documents
        self.splits = [split for split in self.qrels if split != "train"]
        self.tokenizer = tokenizer_of(model)

    @cached_property
    def right(self) -> dict[str, dict[str, set[str]]]:
        """Split -> query -> its right documents."""
        sets = lambda of: {q: set(right_documents(judged)) for q, judged in of.items()}  # noqa: E731
        return {split: sets(of) for split, of in self.qrels.items()}

    @cached_property
    def asked(self) -> dict[str, str]:
        """Query -> its split, for every query of some split."""
        return {query: split for split, judged in self.qrels.items() for query in judged}

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
        return self.some(self.qrels[split], most)

    @property
    def sampled(self) -> str:
        """Which checks read a part, and how many of how many; empty where all was read."""
        kinds = {"documents": len(self.corpus), "queries": len(self.asked)}
        splits = {f"{split} queries": len(of) for split, of in self.qrels.items()}
        train = {"train queries": splits.pop("train queries", 0)}
        slower = ", encoding and tokenizer fragmentation" if self.tokenizer else " and encoding"
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


# How findings speak


def of(part: int, whole: int) -> str:
    """A count beside its share: ``12 of 345 (3.5%)``."""
    return f"{part:,} of {whole:,} ({percent(part / whole if whole else 0.0)})"


def quote(text: str, most: int = 80) -> str:
    """A text's beginning in quotes, on one line, with what cannot be seen spelt out."""
    cut = " ".join(text[: 4 * most].split())
    short = cut if len(cut) <= most and len(text) <= 4 * most else cut[: most - 1].rstrip() + "…"
    return f"“{visible(short)}”"
