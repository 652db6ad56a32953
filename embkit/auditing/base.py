"""What an audit is made of: the texts and labels that are read, and what each check finds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..data import Domain
from ..data.domain import right_documents
from ..display import visible
from ..errors import EmbkitError

OK, LOOK, PROBLEM = "ok", "look", "problem"
TEXTS = 50_000  # texts of a kind that one of the slower checks reads; larger sets are sampled
NEAR = 10_000  # queries of a split that are compared with those of training
NO_ANSWER = "queries without a right document"


@dataclass(frozen=True)
class Finding:
    """One line of an audit.

    Args:
        name: what was looked at.
        verdict: ``ok``, ``look`` (decide for yourself) or ``problem`` (mend it before you train).
        sentence: what was found, with its figures.
        examples: a few cases, as text.
        todo: what to do next; empty when there is nothing to do.
        numbers: the figures, for a program.
        drawing: makes the finding's figure, where a figure says more.
    """

    name: str
    verdict: str
    sentence: str
    examples: tuple[str, ...] = ()
    todo: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    drawing: Callable[[], Any] | None = field(default=None, repr=False, compare=False)


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
    sample: int
    seed: int

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
        """At most so many of the keys, in their order; which, the seed decides."""
        keys = list(keys)
        if len(keys) <= most:
            return keys
        return [keys[i] for i in sorted(random.Random(self.seed).sample(range(len(keys)), most))]

    def of(self, split: str, most: int = TEXTS) -> list[str]:
        """Query ids of a split, in the order in which ``evaluate`` encodes them."""
        return self.some(self.qrels.get(split, ()), most)

    @property
    def sampled(self) -> str:
        """Which checks read a part, and how many of how many; empty where all was read."""
        kinds = {"documents": len(self.corpus), "queries": len(self.asked)}
        splits = {f"{split} queries": len(of) for split, of in self.qrels.items()}
        train = {"train queries": splits.pop("train queries", 0)}
        slower = "lengths, languages and encoding"
        if self.tokenizer is not None:
            slower = "lengths, languages, encoding and tokenizer fragmentation"
        found = []
        for what, sizes, most in (
            (f"{slower} read", kinds, TEXTS),
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
        from ..models.encoding import encode_as

        return encode_as(self.model, texts, kind)

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, if it has one that counts pieces."""
        found = getattr(self.model, "tokenizer", None)
        return found if callable(found) and hasattr(found, "tokenize") else None


def sample_of(source: Any, **settings: Any) -> Sample:
    """Sorts out what can be audited; what cannot is counted by its cause.

    Args:
        source: a Domain, or a mapping with ``corpus``, ``queries`` and ``qrels`` (as in Domain,
            unchecked), and perhaps ``name``, ``test_splits``, ``groups`` and ``held_out``.
        settings: ``model``, ``scores``, ``sample`` and ``seed`` of the Sample.

    Raises:
        EmbkitError: the source is neither, or has no text at all.
    """
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
    qrels: dict[str, dict[str, dict[str, int]]] = {}
    for split, of in fields["qrels"].items():
        qrels[split] = {}
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


def finding(
    name: str,
    parts: Iterable[str],
    examples: Iterable[str],
    todo: Iterable[str],
    numbers: Mapping[str, float],
    *,
    bad: object = False,
    drawing: Callable[[], Any] | None = None,
) -> Finding:
    """A finding whose sentence is made of the parts that say something.

    It is a problem where it is bad; else there is something to look at where there is something
    to do.
    """
    text, next_ = "; ".join(filter(None, parts)), "; ".join(todo)
    verdict = PROBLEM if bad else LOOK if next_ else OK
    sentence = f"{text[:1].upper()}{text[1:]}."
    return Finding(name, verdict, sentence, tuple(examples), next_, numbers, drawing)


def of(part: int, whole: int) -> str:
    """A count beside its share: ``12 of 345 (3.5%)``."""
    return f"{part:,} of {whole:,} ({percent(part / whole if whole else 0.0)})"


def percent(share: float) -> str:
    """A share as text; what is not quite none, or not quite all, does not read as such.

    Example:
        >>> percent(0.123), percent(0.0002), percent(0.9999)
        ('12.3%', '<0.1%', '>99.9%')
    """
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 < share < 1:
        return ">99.9%"
    return f"{share:.1%}"


def some_of(n: int, one: str, many: str) -> str:
    """A count and its noun."""
    return f"{n:,} {one if n == 1 else many}"


def quote(text: str, most: int = 80) -> str:
    """A text's beginning in quotes, on one line, with what cannot be seen spelt out.

    Example:
        >>> quote("low\\u200b iron\\n<b>")
        '“low\\\\u200b iron <b>”'
    """
    cut = " ".join(text[: 4 * most].split())
    short = cut if len(cut) <= most and len(text) <= 4 * most else cut[: most - 1].rstrip() + "…"
    return f"“{visible(short)}”"


# Figures, drawn when they are asked for


def histogram(
    values: Mapping[str, np.ndarray], xlabel: str, bins: int = 30
) -> Callable[[], Any] | None:
    """Draws histograms; the largest 1% are put at the right edge, so that the rest can be seen."""
    values = {name: counts for name, counts in values.items() if len(counts)}
    if not values:
        return None
    everything = np.concatenate(list(values.values()))
    most = np.percentile(everything, 99)
    span = int(most - everything.min())
    if np.issubdtype(everything.dtype, np.integer) and 1 <= span <= 60:
        bins = span
    shown = {name: np.minimum(counts, most) for name, counts in values.items()}
    return partial(draw, "histogram", shown, xlabel, bins)


def draw(kind: str, *args: Any) -> Any:
    """A figure of ``plots``, which needs matplotlib."""
    from .. import plots

    return getattr(plots, kind)(*args)
