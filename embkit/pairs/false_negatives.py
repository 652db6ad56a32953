"""Mined negatives that may be right answers nobody labelled: those a cross-encoder prefers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data import Domain
from ..data.domain import right_documents
from ..display import Table
from ..errors import EmbkitError
from ..evaluation.intervals import mean_interval
from .mining import CrossEncoderScores, Mined


@dataclass(frozen=True)
class Suspect:
    """A mined negative, and what speaks against its being one."""

    anchor: str
    positive: str
    negative: str
    positive_score: float  # the cross-encoder's
    negative_score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class FalseNegatives:
    """Mined negatives, and how many a cross-encoder scores at least as high as the positive.

    It errs: ``false_alarms`` is how often it does so with documents that people marked as wrong.
    """

    sample: tuple[Suspect, ...]  # the negatives looked at, most suspect first
    suspected: float  # share of the sample that is suspect
    suspected_ci: tuple[float, float]  # its 95% interval
    false_alarms: float | None  # suspected share of what people marked; None where nobody did
    marked: int  # how many people marked

    def verdict(self) -> str:
        """The figures in a sentence."""
        low, high = self.suspected_ci
        said = f"of {len(self.sample):,} mined negatives the cross-encoder scores "
        said += f"{self.suspected:.0%} [{low:.0%}, {high:.0%}] at least as high as the positive"
        if self.false_alarms is not None:
            said += f"; but also {self.false_alarms:.0%} of the {self.marked:,} documents that "
            said += "people marked as wrong"
        return said

    def __repr__(self) -> str:
        return f"FalseNegatives({self.verdict()})"

    def _repr_html_(self) -> str:
        head = ["anchor", "positive", "mined negative", "positive's score", "negative's score"]
        cells = [
            [s.anchor, s.positive, s.negative]
            + [f"{s.positive_score:.1f}", f"{s.negative_score:.1f}", ", ".join(s.reasons)]
            for s in self.sample[:8]
        ]
        return Table([*head, "why it is suspect"], cells, self.verdict()).to_html()


def find_false_negatives(
    mined: Mined, domain: Domain, score: CrossEncoderScores, *, sample: int = 300
) -> FalseNegatives:
    """Scores ``sample`` mined negatives, and as many that people marked as wrong (the domain's
    ``negatives``), with a cross-encoder. ``mine(reranker_filter=score)`` leaves the suspects out.
    """
    places = [(row, d) for row, negatives in enumerate(mined.negatives) for d in negatives]
    if not places:
        raise EmbkitError("no mined negatives", expected="at least one", hint="ek.mine(...)")
    # (anchor, positive, negative): a sample of what was mined, and one of what people marked
    rng, corpus = np.random.default_rng(0), domain.corpus
    chosen = [places[i] for i in rng.permutation(len(places))[:sample]]
    asked = [(mined.anchors[r], mined.positives[r], d) for r, d in chosen]
    judged = [
        (domain.queries[query], next(right_documents(right)), wrong)
        for query, right in sorted(domain.split("train").items())
        for wrong in domain.negatives.get(query, ())
    ]
    judged = [judged[i] for i in rng.permutation(len(judged))[:sample]]
    # what the cross-encoder says of both
    rows = [*asked, *judged]
    texts = [(anchor, corpus[positive]) for anchor, positive, _ in rows]
    texts += [(anchor, corpus[negative]) for anchor, _, negative in rows]
    right, wrong = np.asarray(score(texts), dtype=float).reshape(2, len(rows))
    suspect = wrong >= right
    of_mined, of_marked = suspect[: len(asked)].astype(float), suspect[len(asked) :]
    # what else speaks for it
    marked = {domain.queries[q]: documents for q, documents in domain.negatives.items()}
    found = []
    for i, (anchor, positive, negative) in enumerate(asked):
        own, other = (set(corpus[d].casefold().split()) for d in (positive, negative))
        group = domain.groups.get(positive)
        told = {
            "the cross-encoder prefers it": suspect[i],
            "people marked it as wrong": negative in marked.get(anchor, ()),
            "same group as the positive": group and domain.groups.get(negative) == group,
            "one text holds all the other's words": own <= other or other <= own,
        }
        reasons = tuple(reason for reason, holds in told.items() if holds)
        scores = float(right[i]), float(wrong[i])
        found.append(Suspect(anchor, corpus[positive], corpus[negative], *scores, reasons))
    return FalseNegatives(
        sample=tuple(sorted(found, key=lambda s: s.positive_score - s.negative_score)),
        suspected=float(of_mined.mean()),
        suspected_ci=mean_interval(of_mined),
        false_alarms=float(of_marked.mean()) if len(of_marked) else None,
        marked=len(judged),
    )
