"""How many mined negatives are right answers that nobody labelled? Two imperfect witnesses."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import Domain
from ..errors import EmbkitError
from ..evaluation.metrics import bootstrap_ci
from .mining import Mined

LIKELY_HIT = 0.5  # of two right documents, either may score higher


@dataclass(frozen=True)
class Suspect:
    """A mined negative, and what speaks for and against its being one."""

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
    witness errs: it also suspects documents that people marked as wrong (the false alarms), and
    it notices only about half of the truly right ones, since of two right documents either may
    score higher. The estimate corrects for both (Rogan and Gladen 1978,
    https://doi.org/10.1093/oxfordjournals.aje.a112510):
    (suspected - false alarms) / (1/2 - false alarms), cut to [0, 1]. It is an upper bound where
    the marked documents are easier than the mined ones: then it expects too few false alarms.

    Args:
        sample: the negatives looked at, most suspect first.
        suspected: share of the sample that is suspect.
        suspected_ci: its 95% bootstrap interval.
        false_alarms: share of people's marked negatives that the cross-encoder suspects; None
            where nobody marked any.
        marked: how many of those there were.
        confirmed: share of all mined negatives that people marked as wrong for that query.
    """

    sample: tuple[Suspect, ...]
    suspected: float
    suspected_ci: tuple[float, float]
    false_alarms: float | None
    marked: int
    confirmed: float

    @property
    def rate(self) -> float | None:
        """The estimated share of false negatives; None where the witness is no witness."""
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
            said += (
                f"; but also {self.false_alarms:.0%} of the {self.marked:,} documents that people "
                "marked as wrong"
            )
        said += f". People had marked {self.confirmed:.1%} of all mined negatives as wrong. "
        if self.rate is None:
            return said + "No estimate: this witness cannot tell right from wrong here."
        return (
            said + f"Corrected for both errors, {self.rate:.0%} are false negatives: at the most, "
            "where what people marked is easier than what was mined, since the cross-encoder then "
            "raises more false alarms among the mined ones."
        )

    def __repr__(self) -> str:
        return f"FalseNegatives({self.verdict()})"

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td style='text-align:left'>{html.escape(text)}</td>"
                for text in (s.anchor, s.positive, s.negative)
            )
            + f"<td>{s.positive_score:.1f}</td><td>{s.negative_score:.1f}</td>"
            f"<td style='text-align:left'>{html.escape(', '.join(s.reasons))}</td></tr>"
            for s in self.sample[:8]
        )
        heads = ("anchor", "positive", "mined negative", "its score", "theirs", "why it is suspect")
        head = "".join(f"<th>{name}</th>" for name in heads)
        return f"<p>{html.escape(self.verdict())}</p><table><tr>{head}</tr>{rows}</table>"


def find_false_negatives(
    mined: Mined,
    domain: Domain,
    score: Callable[[list[tuple[str, str]]], Any],
    *,
    sample: int = 300,
    seed: int = 0,
) -> FalseNegatives:
    """Judges a sample of mined negatives with a cross-encoder, and the cross-encoder with people.

    Args:
        mined: what ``mine`` found.
        domain: on what; its ``negatives`` are what people marked as wrong.
        score: a cross-encoder's scores of (query, document) pairs.
        sample: how many negatives, and how many marked ones, are scored.
        seed: of the samples.

    Raises:
        EmbkitError: nothing was mined.

    Example:
        >>> teacher = ek.models.load_cross_encoder()  # doctest: +SKIP
        >>> find_false_negatives(mined, domain, lambda pairs: ek.models.score_pairs(teacher, pairs))
    """
    places = [(row, d) for row, negatives in enumerate(mined.negatives) for d in negatives]
    if not places:
        raise EmbkitError("no mined negatives", expected="at least one", hint="ek.mine(...)")
    rng = np.random.default_rng(seed)
    chosen = [places[i] for i in rng.permutation(len(places))[:sample]]
    marked = _marked(domain)
    judged = [
        (domain.queries[query], _positive(domain, query), wrong)
        for query in sorted(domain.split("train"))
        for wrong in domain.negatives.get(query, ())
    ]
    judged = [judged[i] for i in rng.permutation(len(judged))[:sample]]
    asked = [(mined.anchors[r], mined.positives[r], d) for r, d in chosen]
    right, wrong = _scores(domain, score, [*asked, *judged])
    suspect = wrong >= right
    found = [
        Suspect(
            anchor,
            domain.corpus[positive],
            domain.corpus[negative],
            float(right[i]),
            float(wrong[i]),
            tuple(_reasons(domain, anchor, positive, negative, suspect[i], marked)),
        )
        for i, (anchor, positive, negative) in enumerate(asked)
    ]
    mine_, theirs = suspect[: len(asked)].astype(float), suspect[len(asked) :]
    return FalseNegatives(
        sample=tuple(sorted(found, key=lambda s: s.positive_score - s.negative_score)),
        suspected=float(mine_.mean()),
        suspected_ci=bootstrap_ci(mine_),
        false_alarms=float(theirs.mean()) if len(theirs) else None,
        marked=len(judged),
        confirmed=float(np.mean([d in marked.get(mined.anchors[r], ()) for r, d in places])),
    )


def _marked(domain: Domain) -> dict[str, set[str]]:
    """Query text -> documents that people marked as wrong for it."""
    return {domain.queries[q]: set(wrong) for q, wrong in domain.negatives.items()}


def _positive(domain: Domain, query: str) -> str:
    return next(d for d, grade in domain.qrels["train"][query].items() if grade > 0)


def _scores(
    domain: Domain, score: Any, rows: Sequence[tuple[str, str, str]]
) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(anchor, domain.corpus[positive]) for anchor, positive, _ in rows]
    pairs += [(anchor, domain.corpus[negative]) for anchor, _, negative in rows]
    scores = np.asarray(score(pairs), dtype=float)
    return scores[: len(rows)], scores[len(rows) :]


def _reasons(domain, anchor, positive, negative, suspect, marked) -> list[str]:
    found = ["the cross-encoder prefers it"] if suspect else []
    if negative in marked.get(anchor, ()):
        found.append("people marked it as wrong")
    if positive in domain.groups and domain.groups.get(negative) == domain.groups[positive]:
        found.append("same group as the positive")
    words = [set(domain.corpus[d].casefold().split()) for d in (positive, negative)]
    if words[0] <= words[1] or words[1] <= words[0]:
        found.append("one text holds all the other's words")
    return found
