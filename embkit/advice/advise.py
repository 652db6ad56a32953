"""Should you fine-tune? The evidence, the rules in one table, and what they say together."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..data import Domain
from ..errors import EmbkitError
from ..evaluation.verdict import FINE_TUNE, KEEP, LEVEL, WORTH, queries_needed
from .evidence import FEW_PAIRS, Evidence, gather

if TYPE_CHECKING:
    import pandas as pd

LABEL, TRY = "label more first", "perhaps: the full run decides"
CEILING = 0.9  # nDCG@10: what is missing above is more often a wrong label than a wrong model
FEW_DEV = 50  # dev queries: half an interval is then about 0.1
SPREAD = 0.25  # of paired differences over queries, where none was measured
LARGE = 300_000_000  # parameters from which training all of them wants a large GPU
FRAGMENTED = 2.0  # pieces a word from which a model hardly knows the words


class Rule(NamedTuple):
    """One line of the table: when it holds, what it says, and where that comes from."""

    name: str
    when: str
    then: str
    source: str
    holds: Callable[[Evidence, Limits], str | None]  # the reason in words, or None


@dataclass(frozen=True)
class Limits:
    """What the user asks for: nDCG@10, milliseconds a query, megabytes of vectors."""

    target: float | None = None
    query_ms: float | None = None
    index_mb: float | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("target", 0, 1), ("query_ms", 0, None), ("index_mb", 0, None)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (
                number and low < value and (high is None or value <= high)
            ):
                raise EmbkitError(
                    f"{name}={value!r}",
                    expected="a number above 0" + (" and at most 1 (nDCG@10)" if high else ""),
                    hint="ek.advise(domain, target=0.6, query_ms=20, index_mb=50)",
                )


@dataclass(frozen=True, repr=False)
class Advice:
    """Whether to fine-tune, with what first, and the rules that say so.

    Args:
        decision: ``fine-tune``, ``keep the general model``, ``label more first`` or ``perhaps:
            the full run decides``.
        approach: what to train first, where the decision is to train.
        reasons: (rule, what it says here), the one that decided first.
        evidence: what all of it rests on.
        limits: what was asked for.
    """

    decision: str
    approach: str | None
    reasons: tuple[tuple[str, str], ...]
    evidence: Evidence
    limits: Limits

    @property
    def expected(self) -> tuple[float, float, float] | None:
        """nDCG@10 on dev of contrastive training on all pairs, and its interval; None unknown."""
        curve, pairs = self.evidence.curve, self.evidence.pairs
        return (curve.at(pairs), *curve.interval(pairs)) if curve else None

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

    def __repr__(self) -> str:
        first = f" ({self.approach} first)" if self.approach else ""
        lines = [f"{self.decision}{first}"]
        return "\n".join([*lines, *(f"- {rule}: {text}" for rule, text in self.reasons)])

    def _repr_html_(self) -> str:
        first = f", {html.escape(self.approach)} first" if self.approach else ""
        items = "".join(
            f"<li>{html.escape(rule)}: {html.escape(text)}</li>" for rule, text in self.reasons
        )
        head = f"<p><b>{html.escape(self.decision)}</b>{first}</p>"
        return f"{head}<ul>{items}</ul>{self.evidence._repr_html_()}"


def advise(
    domain: Domain,
    model: str = "minilm",
    *,
    target: float | None = None,
    query_ms: float | None = None,
    index_mb: float | None = None,
    quiet: bool = False,
    **options: Any,
) -> Advice:
    """Measures a domain and says whether to fine-tune a general model on it.

    Where the general model is already good enough, or labels are too few, nothing is trained.
    Otherwise a few small runs are, and kept: the second call is free. No test split is read, so
    that a later test proves the advice right or wrong.

    Args:
        domain: yours.
        model: the general model.
        target: nDCG@10 that would do; 0 to 1.
        query_ms: milliseconds that encoding a query may take.
        index_mb: megabytes that all vectors may take.
        quiet: no progress bars.
        options: ``recipe``, ``sizes`` and ``trials``, as for ``evidence.gather``.

    Raises:
        EmbkitError: no dev queries, a limit out of range, or the model cannot be had.

    Example:
        >>> advise(load_domain("my_folder"), target=0.7)  # doctest: +SKIP
    """
    limits = Limits(target, query_ms, index_mb)
    first = gather(domain, model, train=False, **options)
    if settled := _first(first, limits, UNTRAINED):
        return settled
    return decide(gather(domain, model, quiet=quiet, **options), limits)


def decide(evidence: Evidence, limits: Limits | None = None) -> Advice:
    """What the rules say of evidence: the first that holds decides, remarks follow.

    Args:
        evidence: of ``gather``, or made by hand.
        limits: what is asked for.
    """
    limits = limits or Limits()
    found = _first(evidence, limits, (*UNTRAINED, *TRAINED))
    assert found is not None  # the last rule always holds
    return found


def _first(evidence: Evidence, limits: Limits, rules: tuple[Rule, ...]) -> Advice | None:
    for rule in rules:
        if (why := rule.holds(evidence, limits)) is not None:
            notes = [(r.name, told) for r in REMARKS if (told := r.holds(evidence, limits))]
            train = rule.then in (FINE_TUNE, TRY)
            approach = None
            if train:
                approach, because = _approach(evidence)
                notes.insert(0, ("what first", because))
            return Advice(rule.then, approach, ((rule.name, why), *notes), evidence, limits)
    return None


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


def needed(evidence: Evidence) -> int:
    """Queries that a paired test needs to see a difference of ``WORTH``, by the spread seen."""
    spreads = [trial.sd for trial in evidence.trials.values()]
    return queries_needed(max(spreads) if spreads else SPREAD)


# The rules. Each gives its reason, or None where it does not hold.


def _few_dev(e: Evidence, _: Limits) -> str | None:
    if e.dev_queries >= FEW_DEV:
        return None
    return (
        f"{e.dev_queries} dev queries show no difference below about "
        f"{2 * SPREAD / max(e.dev_queries, 1) ** 0.5:.2f}; label {FEW_DEV} at least, and about "
        f"{needed(e):,} for test, to see one of {WORTH}"
    )


def _few_pairs(e: Evidence, _: Limits) -> str | None:
    if e.pairs >= FEW_PAIRS:
        return None
    return (
        f"{e.pairs} training pairs; below {FEW_PAIRS} a gain is hardly to be had, and a loss is "
        f"easily: label {FEW_PAIRS - e.pairs:,} more, or have queries generated"
    )


def _met(e: Evidence, limits: Limits) -> str | None:
    if limits.target is None or e.base_ci[0] < limits.target:
        return None
    return f"{e.model} has {e.base:.3f} [{e.base_ci[0]:.3f}, …] on dev; {limits.target:g} was asked"


def _ceiling(e: Evidence, limits: Limits) -> str | None:
    wanted = limits.target is not None and limits.target > e.base
    if e.base_ci[0] < CEILING or wanted:
        return None
    return (
        f"{e.model} has {e.base:.3f} [{e.base_ci[0]:.3f}, {e.base_ci[1]:.3f}] on dev: look at what "
        "it misses before training anything; often the label is wrong"
    )


def _best_trial(e: Evidence) -> tuple[str, Any]:
    return max(e.trials.items(), key=lambda item: item[1].gain)


def _gains(e: Evidence, limits: Limits) -> str | None:
    if not e.trials or not e.curve:
        return None
    name, trial = _best_trial(e)
    low, high = e.curve.interval(e.pairs)
    seen = trial.gain >= WORTH and trial.p * len(e.trials) < LEVEL
    if not seen and low <= e.base:
        return None
    if e.curve.at(e.pairs) - e.base < WORTH and not seen:
        return None
    return (
        f"{name} on {trial.pairs:,} pairs gains {trial.gain:+.3f} [{trial.low:+.3f}, "
        f"{trial.high:+.3f}] on dev; contrastive training on all {e.pairs:,} should reach "
        f"{e.curve.at(e.pairs):.3f} [{low:.3f}, {high:.3f}] where {e.model} has {e.base:.3f}"
    )


def _nothing(e: Evidence, _: Limits) -> str | None:
    if not e.trials or not e.curve:
        return None
    name, trial = _best_trial(e)
    expected, (_low, high) = e.curve.at(e.pairs), e.curve.interval(e.pairs)
    hopeless = high < e.base + WORTH
    unseen = trial.high < WORTH and expected < e.base + WORTH
    if not hopeless and not unseen:
        return None
    return (
        f"the best small run, {name}, gains {trial.gain:+.3f} [{trial.low:+.3f}, "
        f"{trial.high:+.3f}] on dev, and all {e.pairs:,} pairs should give {expected:.3f} where "
        f"{e.model} has {e.base:.3f}: less than {WORTH} to be had"
    )


def _unsure(e: Evidence, _: Limits) -> str | None:
    if not e.trials or not e.curve:
        return "nothing was trained yet"
    low, high = e.curve.interval(e.pairs)
    return (
        f"the small runs neither show a gain of {WORTH} nor rule it out; all {e.pairs:,} pairs: "
        f"{e.curve.at(e.pairs):.3f} [{low:.3f}, {high:.3f}] where {e.model} has {e.base:.3f}"
    )


def _out_of_reach(e: Evidence, limits: Limits) -> str | None:
    if limits.target is None or not e.curve or limits.target <= e.curve.interval(e.pairs)[1]:
        return None
    high = e.curve.interval(e.pairs)[1]
    more = next(
        (n for n in (2**k * e.pairs for k in range(1, 11)) if e.curve.at(n) > limits.target), 0
    )
    told = f"about {more:,} pairs by the curve" if more else "not by more pairs alone"
    return (
        f"{limits.target:g} lies above {high:.3f}, the most to expect of these pairs: {told}; a "
        "larger model, or a reranker on top, are the other ways"
    )


def _slow(e: Evidence, limits: Limits) -> str | None:
    if limits.query_ms is None or e.query_ms <= limits.query_ms:
        return None
    return (
        f"a query takes {e.query_ms:.1f} ms to encode, {limits.query_ms:g} is the limit: distil "
        "into fewer layers, export to int8, or take a smaller model"
    )


def _bulky(e: Evidence, limits: Limits) -> str | None:
    if limits.index_mb is None or e.index_mb <= limits.index_mb:
        return None
    return (
        f"vectors take {e.index_mb:,.1f} MB, {limits.index_mb:g} is the limit: train Matryoshka "
        f"sizes and cut to 1/{-(-e.index_mb // limits.index_mb):.0f}, or quantise"
    )


def _odd_words(e: Evidence, _: Limits) -> str | None:
    if e.pieces < FRAGMENTED:
        return None
    return (
        f"{e.pieces:.2f} pieces a word, {e.whole:.0%} of the words whole: {e.model} hardly knows "
        "these words, so that fine-tuning has more to give, and more to learn"
    )


def _short(e: Evidence, _: Limits) -> str | None:
    if e.short_gap > -0.1:
        return None
    return (
        f"short queries do worse by {-e.short_gap:.3f} nDCG@10: label short ones, and try a prompt "
        "on queries"
    )


def _words_win(e: Evidence, _: Limits) -> str | None:
    if e.words < e.base + WORTH:
        return None
    return f"BM25 has {e.words:.3f} where {e.model} has {e.base:.3f}: put both together first"


def _small_dev(e: Evidence, _: Limits) -> str | None:
    least = min(e.dev_queries, e.test_queries)
    if least >= needed(e):
        return None
    return (
        f"{e.dev_queries:,} dev and {e.test_queries:,} test queries; about {needed(e):,} are "
        f"needed to see a difference of {WORTH}"
    )


def _doubling(e: Evidence, _: Limits) -> str | None:
    if not e.curve:
        return None
    gain = e.curve.at(2 * e.pairs) - e.curve.at(e.pairs)
    return f"twice as many should give {gain:+.3f} nDCG@10 by the curve"


PAIRED = "queries_needed: level 5%, power 80%; lesson 02"
UNTRAINED = (
    Rule(
        "dev too small",
        f"fewer than {FEW_DEV} dev queries",
        LABEL,
        PAIRED,
        _few_dev,
    ),
    Rule(
        "target met",
        "the general model's interval lies above the target",
        KEEP,
        "the interval over dev queries; lesson 02",
        _met,
    ),
    Rule(
        "at the ceiling",
        f"the general model's interval lies above {CEILING} nDCG@10, and no target above it",
        KEEP,
        "Northcutt et al. 2021, label errors in test sets, arXiv:2103.14749",
        _ceiling,
    ),
    Rule(
        "pairs too few",
        f"fewer than {FEW_PAIRS} training pairs",
        LABEL,
        "small runs on ICD-10-CM; lesson 13",
        _few_pairs,
    ),
)
TRAINED = (
    Rule(
        "gain seen",
        f"a small run gains {WORTH} or more (p < {LEVEL}), or the curve's interval lies above "
        "the general model",
        FINE_TUNE,
        "paired test on dev; Hernandez et al. 2021, arXiv:2102.01293",
        _gains,
    ),
    Rule(
        "nothing to gain",
        f"no small run, nor the curve, leaves room for {WORTH}",
        KEEP,
        "as above",
        _nothing,
    ),
    Rule("unsure", "otherwise", TRY, "as above", _unsure),
)
REMARKS = (
    Rule(
        "target out of reach",
        "the target lies above the curve's interval",
        "more pairs, a larger model, a reranker",
        "Hernandez et al. 2021",
        _out_of_reach,
    ),
    Rule(
        "too slow",
        "a query takes longer than the limit",
        "fewer layers, int8, a smaller model",
        "lesson 06; onnx_export",
        _slow,
    ),
    Rule(
        "too large",
        "all vectors take more than the limit",
        "Matryoshka sizes, quantisation",
        "Kusupati et al. 2022, arXiv:2205.13147; lesson 07",
        _bulky,
    ),
    Rule(
        "words in pieces",
        f"{FRAGMENTED:g} or more pieces a word",
        "expect more of fine-tuning",
        "lessons 01 and 13",
        _odd_words,
    ),
    Rule(
        "short queries",
        "the shorter half of the queries does 0.1 nDCG@10 worse",
        "label short ones; prompts",
        "lessons 01 and 08",
        _short,
    ),
    Rule(
        "words win",
        f"BM25 beats the general model by {WORTH}",
        "hybrid search first",
        "Thakur et al. 2021, BEIR, arXiv:2104.08663",
        _words_win,
    ),
    Rule(
        "queries for a proof",
        "fewer dev or test queries than a paired test needs",
        "label more queries before claiming anything",
        PAIRED,
        _small_dev,
    ),
    Rule(
        "more pairs",
        "there is a curve",
        "what labelling as many again is worth",
        "Hernandez et al. 2021",
        _doubling,
    ),
)


def advice_rules() -> pd.DataFrame:
    """All rules in their order: the first of the upper ones that holds decides, the rest remark."""
    import pandas as pd

    rows = [(r.name, r.when, r.then, r.source) for r in (*UNTRAINED, *TRAINED, *REMARKS)]
    return pd.DataFrame(rows, columns=["rule", "when", "then", "source"]).set_index("rule")


__all__ = ["Advice", "Limits", "advice_rules", "advise", "decide"]
