"""What an audit is made of: the texts and labels that are read, and what each check finds.

Every threshold is a rule of thumb; each sentence gives the figure behind its verdict.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from ..data.domain import Domain, right_documents
from ..display import percent, short, some_of, visible
from ..models.encoding import encode_as
from ..models.window import tokenizer_of

OK, LOOK, PROBLEM = "ok", "look", "problem"
TEXTS = 50_000  # texts of a kind that one of the slower checks reads; larger sets are sampled
NEAR = 10_000  # queries of a split that are compared with those of training


@dataclass
class Finding:
    """One line of an audit."""

    name: str  # what was looked at
    verdict: str  # OK, LOOK (decide for yourself) or PROBLEM (mend it before you train)
    sentence: str  # what was found, with its figures
    examples: tuple[str, ...]
    todo: str  # what to do next, if anything
    numbers: Mapping[str, float]  # the figures, for a program


def finding(
    m: Sample, name: str, numbers: Mapping[str, float], bad: object = False, **told: Any
) -> Finding:
    """A finding in the words of ``findings.jinja``, which know the sample ``m``, the numbers and
    what they are ``told``: a problem where it is bad; else something to look at where there is
    something to do."""
    words = _words()
    context = words.new_context({"m": m, "numbers": numbers, **told})
    parts = "".join(words.blocks[re.sub(r"\W", "_", name)](context))
    lines = re.sub(r"\n +", " ", parts).split("\n")
    todo, cases = (
        [line.removeprefix(lead) for line in lines if line.startswith(lead)]
        for lead in ("next: ", "- ")
    )
    said = "; ".join(line for line in lines if line and not line.startswith(("next: ", "- ")))
    verdict = PROBLEM if bad else LOOK if todo else OK
    sentence = f"{said[:1].upper()}{said[1:]}."
    return Finding(name, verdict, sentence, tuple(cases), "; ".join(todo), numbers)


@cache
def _words() -> Any:
    shown = lambda value: re.sub(r"\s*\n\s*", " ", str(value))  # noqa: E731
    words = Environment(undefined=StrictUndefined, trim_blocks=True, finalize=shown)
    words.globals |= {"of": of, "quote": quote, "percent": percent, "some_of": some_of}
    words.globals["each"] = lambda form, rows: ", ".join(form.format(*row) for row in rows.items())
    return words.from_string(Path(__file__).with_name("findings.jinja").read_text("utf-8"))


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
    return f"“{visible(short(text[: 20 * most], most))}”"
