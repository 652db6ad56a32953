"""How many mined negatives are right answers that nobody labelled? Two imperfect classifiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data import Domain
from ..data.domain import right_documents
from ..display import Table
from ..errors import EmbkitError
from ..evaluation.intervals import mean_interval
from .mining import CrossEncoderScores, Mined

LIKELY_HIT = 0.5  # of two right documents, either may score higher


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
    """An estimate of the share of mined negatives that are right answers.

    A negative is suspect where the cross-encoder scores it at least as high as the positive. That
    classifier errs: it also suspects documents that people marked as wrong (the false alarms),
    and it notices only about half of the truly right ones, since of two right documents either
    may score higher. The estimate corrects for both (Rogan and Gladen 1978,
    https://doi.org/10.1093/oxfordjournals.aje.a112510):
    (suspected - false alarms) / (1/2 - false alarms), clipped to [0, 1].
    """

    sample: tuple[Suspect, ...]  # the negatives looked at, most suspect first
    suspected: float  # share of the sample that is suspect
    suspected_ci: tuple[float, float]  # its 95% interval
    false_alarms: float | None  # suspected share of what people marked; None where nobody did
    marked: int  # how many people marked
    confirmed: float  # share of all mined negatives that people marked as wrong for that query

    @property
    def rate(self) -> float | None:
        """The estimated share of false negatives; None where the cross-encoder cannot tell."""
        if self.false_alarms is None or self.false_alarms >= LIKELY_HIT:
            return None
        corrected = (self.suspected - self.false_alarms) / (LIKELY_HIT - self.false_alarms)
        return float(np.clip(corrected, 0.0, 1.0))

    def verdict(self) -> str:
        """The figures in a sentence or two."""
        low, high = self.suspected_ci
        said = (
            f"of {len(self.sample):,} mined negatives the cross-encoder scores "
            f"{self.suspected:.0%} [{low:.0%}, {high:.0%}] at least as high as the positive"
        )
        if self.false_alarms is not None:
            said += f"; but also {self.false_alarms:.0%} of the {self.marked:,} documents that "
            said += "people marked as wrong"
        said += f". People had marked {self.confirmed:.1%} of all mined negatives as wrong. "
        if self.rate is None:
            return said + "No estimate: the cross-encoder cannot tell right from wrong here."
        return (
            said + f"Corrected for both errors, {self.rate:.0%} are false negatives: at the most, "
            "where what people marked is easier than what was mined, since the cross-encoder then "
            "raises more false alarms among the mined ones."
        )

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
    ``negatives``), with a cross-encoder: the first share, corrected by the second."""
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
        confirmed=float(np.mean([d in marked.get(mined.anchors[r], ()) for r, d in places])),
    )
