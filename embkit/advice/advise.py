"""Should you fine-tune? The evidence, the rules, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..data import Domain
from ..display import Shown, Table
from ..evaluation.verdict import FINE_TUNE, LEVEL
from .evidence import Evidence, gather
from .rules import THEN, TRY, Limits, remarks, trained, untrained

LARGE = 300_000_000  # parameters from which training all of them wants a large GPU


@dataclass(frozen=True, repr=False)
class Advice(Shown):
    """Whether to fine-tune, with what first, and the rules that say so."""

    decision: str  # fine-tune, keep the general model, label more first, or perhaps
    approach: str | None  # what to train first, where the decision is to train
    reasons: tuple[tuple[str, str], ...]  # (rule, what it says here), the one that decided first
    evidence: Evidence  # what all of it rests on
    limits: Limits  # what was asked for

    @property
    def expected(self) -> tuple[float, float, float] | None:
        """nDCG@10 on dev of contrastive training on all pairs, and its interval; None unknown."""
        return self.evidence.expected

    @property
    def answer(self) -> str:
        """The decision, and what to train first."""
        return self.decision + (f", {self.approach} first" if self.approach else "")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "decision": self.decision,
            "approach": self.approach,
            "reasons": [{"rule": rule, "says": text} for rule, text in self.reasons],
            "expected": self.expected,
            "limits": vars(self.limits),
            "evidence": self.evidence.to_dict(),
        }

    def table(self) -> Table:
        """The answer, and one row a rule that holds."""
        return Table([self.answer, ""], self.reasons)

    def _repr_html_(self) -> str:
        return self.table().to_html() + self.evidence._repr_html_()

    def __repr__(self) -> str:
        return "\n".join([self.answer, *(f"- {rule}: {text}" for rule, text in self.reasons)])


def advise(
    domain: Domain,
    model: str = "minilm",
    *,
    target: float | None = None,
    query_ms: float | None = None,
    index_mb: float | None = None,
    quiet: bool = False,
) -> Advice:
    """Measures a domain and says whether to fine-tune a general model on it.

    Where the general model is already good enough, or labels are too few, nothing is trained.
    Otherwise a few small runs are, and kept: the second call is free. No test split is read, so
    that a later test proves the advice right or wrong.

    Args:
        target: nDCG@10 that would do; 0 to 1.
        query_ms: milliseconds that encoding a query may take.
        index_mb: megabytes that all vectors may take.

    Raises:
        EmbkitError: no dev queries, a limit out of range, or the model cannot be had.
    """
    limits = Limits(target, query_ms, index_mb)
    evidence = gather(domain, model, train=False)
    if not any(untrained(evidence, limits)):
        evidence = gather(domain, model, quiet=quiet)
    return decide(evidence, limits)


def decide(evidence: Evidence, limits: Limits | None = None) -> Advice:
    """What the rules say of evidence: the first that holds decides, remarks follow."""
    limits = limits or Limits()
    rule, why = next(chain(untrained(evidence, limits), trained(evidence)))
    approach, reasons = None, [(rule, why)]
    if THEN[rule] in (FINE_TUNE, TRY):
        approach, because = _approach(evidence)
        reasons.append(("what first", because))
    return Advice(THEN[rule], approach, (*reasons, *remarks(evidence, limits)), evidence, limits)


def _approach(evidence: Evidence) -> tuple[str, str]:
    """Contrastive, unless a trial beats it by a paired test; LoRA on a large model."""
    tried = evidence.trials
    better = {n: t for n, t in tried.items() if t.over_contrastive > 0 and t.p_contrastive < LEVEL}
    best = max(better, key=lambda name: better[name].over_contrastive, default="contrastive")
    if best in better:
        trial = better[best]
        why = (
            f"{trial.over_contrastive:+.3f} nDCG@10 on dev over contrastive training on the same "
            f"{trial.pairs:,} pairs (p = {max(trial.p_contrastive, 0.001):.3f})"
        )
    elif len(tried) > 1:
        why = "the plainest: on dev, nothing that was tried beats it by a paired test"
    else:
        why = "the plainest; nothing else was tried"
    if evidence.parameters >= LARGE:
        return f"LoRA, {best}", f"{why}; LoRA because of {evidence.parameters:,} parameters"
    return best, why
