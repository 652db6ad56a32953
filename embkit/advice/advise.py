"""Should you fine-tune? Rules, and what they say of evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from ..data import Domain
from ..display import Shown, Table, some_of
from ..errors import EmbkitError
from ..evaluation.decision import FINE_TUNE, KEEP, SWITCH
from ..evaluation.intervals import LEVEL, SPREAD, WORTH, Estimate, holm, queries_needed
from .alternatives import HYBRID
from .evidence import Evidence, Trial, gather
from .planning import FEW_PAIRS

if TYPE_CHECKING:
    import pandas as pd

LARGE = 300_000_000  # parameters from which training all of them wants a large GPU
LABEL, TRY, BOTH = "label more first", "perhaps: the full run decides", "hybrid search first"
CEILING = 0.9  # nDCG@10: what is missing above is more often a wrong label than a wrong model
FEW_DEV = 50  # dev queries: half an interval is then about 0.1
FRAGMENTED = 2  # tokens a word from which a model hardly knows the words
_NAMES: dict[str, Any] = {"few_dev": FEW_DEV, "few_pairs": FEW_PAIRS, "worth": WORTH}
_NAMES |= {"fragmented": FRAGMENTED, "level": LEVEL, "label": LABEL, "perhaps": TRY, "both": BOTH}
_NAMES |= {"ceiling": CEILING, "keep": KEEP, "switch": SWITCH, "fine_tune": FINE_TUNE}
# a line a rule: its name, when it holds, what then, its source
_TEXT = Template(Path(__file__).with_name("rules.txt").read_text(encoding="utf-8"))
ROWS = [line.split(" | ") for line in _TEXT.substitute(_NAMES).splitlines()]
THEN = {name: then for name, _, then, _ in ROWS}
Reasons = dict[str, str]  # the name of a rule that holds -> what it says here


def advice_rules() -> pd.DataFrame:
    """All rules in their order: the first of the upper ones that holds decides, the rest remark."""
    import pandas as pd

    return pd.DataFrame(ROWS, columns=["rule", "when", "then", "source"]).set_index("rule")


@dataclass(frozen=True, repr=False)
class Advice(Shown):
    """Whether to fine-tune, with what first, and the rules that say so."""

    decision: str  # fine-tune, keep the general model, label more first, or perhaps
    approach: str | None  # what to train first, where the decision is to train
    reasons: tuple[tuple[str, str], ...]  # (rule, what it says here), the one that decided first
    evidence: Evidence  # what all of it rests on
    target: float | None = None  # nDCG@10 that was asked for

    @property
    def answer(self) -> str:
        return self.decision + (f", {self.approach} first" if self.approach else "")

    def to_dict(self) -> dict[str, Any]:
        return {
            "decision": self.decision,
            "approach": self.approach,
            "reasons": [{"rule": rule, "says": text} for rule, text in self.reasons],
            "expected": self.evidence.expected,
            "target": self.target,
            "evidence": self.evidence.to_dict(),
        }

    def table(self) -> Table:
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
    minutes: float = 5.0,
    quiet: bool = False,
    told: Callable[[object], object] | None = None,
) -> Advice:
    """Measures a domain and says whether to fine-tune a general model on it.

    Where the general model is already good enough, or dev is too small to tell, that is all that is
    measured. Otherwise another general model and hybrid search are, and where labels are enough a
    few small runs, which are kept: the second call is free. No test split is read, so that a later
    test proves the advice right or wrong.

    Args:
        target: nDCG@10 that would do; 0 to 1.
        minutes: that it may take here; the plan keeps to it, where it can.
        told: called with the plan, which tells the minutes, before anything is encoded.

    Fails without dev queries, for a target out of range, and where the model cannot be had.
    """
    if target is not None and not 0 < target <= 1:
        expected, hint = "a number above 0 and at most 1 (nDCG@10)", "ek.advise(domain, target=0.6)"
        raise EmbkitError(f"target={target!r}", expected=expected, hint=hint)
    settled = lambda found: bool(untrained(found, target))  # noqa: E731
    found = gather(domain, model, minutes=minutes, enough=settled, quiet=quiet, told=told)
    return decide(found, target)


def decide(evidence: Evidence, target: float | None = None) -> Advice:
    """What the rules say of evidence: the first that holds decides, remarks follow."""
    held = untrained(evidence, target) | alternative(evidence) | trained(evidence)
    rule = next(iter(held))
    approach, reasons = None, {rule: held[rule]}
    if "pairs too few" in held:  # remarked where something else decided
        reasons["pairs too few"] = held["pairs too few"]
    if THEN[rule] in (FINE_TUNE, TRY):
        approach, reasons["what first"] = _approach(evidence)
    reasons |= remarks(evidence, target)
    return Advice(THEN[rule], approach, tuple(reasons.items()), evidence, target)


def winners(tests: Mapping[str, Estimate], least: float = WORTH) -> list[str]:
    """What gains so much or more, the most first, p corrected for the number of tests (Holm)."""
    p = holm([test.p for test in tests.values()])
    gains = {
        name: test.mean for (name, test), own in zip(tests.items(), p, strict=True) if own < LEVEL
    }
    return sorted((name for name in gains if gains[name] >= least), key=lambda name: -gains[name])


def beats(e: Evidence, other: str) -> list[str]:
    """The small runs that beat something else that was tried, the most first."""
    return winners({n: t.over[other] for n, t in e.trials.items() if other in t.over}, least=0.0)


def _approach(e: Evidence) -> tuple[str, str]:
    """Contrastive, unless a trial beats it by a paired test; LoRA on a large model."""
    best = next(iter(beats(e, "contrastive")), "contrastive")
    if best != "contrastive":
        trial = e.trials[best]
        why = (
            f"{trial.over['contrastive'].mean:+.3f} nDCG@10 on dev over contrastive training on "
            f"the same {trial.pairs:,} pairs (p < {LEVEL}, corrected)"
        )
    else:
        beaten = ": on dev, nothing that was tried beats it by a paired test"
        why = "the plainest" + (beaten if len(e.trials) > 1 else "; nothing else was tried")
    if e.parameters >= LARGE:
        return f"LoRA, {best}", f"{why}; LoRA because of {e.parameters:,} parameters"
    return best, why


def needed(e: Evidence) -> int:
    """Queries that a paired test needs to see a difference of ``WORTH``, in clusters like dev's."""
    return queries_needed(SPREAD, WORTH, e.effect)


def untrained(e: Evidence, target: float | None) -> Reasons:
    """The rules that hold before anything is trained; the first decides."""
    held: Reasons = {}
    if e.dev_queries < FEW_DEV:
        held["dev too small"] = (
            f"{some_of(e.dev_queries, 'dev query shows', 'dev queries show')} no difference below "
            f"{e.visible:.2f}; label {FEW_DEV} at least, {needed(e):,} for test, to see {WORTH}"
        )
    if target is not None and e.base_ci[0] >= target:
        held["target met"] = f"{e.model} has {e.base_told} on dev; {target:g} was asked"
    if e.base_ci[0] >= CEILING and (target or 0) <= e.base:
        held["at the ceiling"] = (
            f"{e.model} has {e.base_told} on dev: look at what it misses before training "
            "anything; often the label is wrong"
        )
    return held


def alternative(e: Evidence) -> Reasons:
    """The rule of what needs no training, where it wins and no small run beats it."""
    won = winners({name: trial.test for name, trial in e.alternatives.items()})
    if not won or beats(e, won[0]):
        return {}
    then = f"no small run beats it: {_best(e.trials)}" if e.trials else "no small run was made"
    told = f"{won[0]} gains {e.alternatives[won[0]].told}, without training, and {then}"
    return {"hybrid wins" if won[0] == HYBRID else "another model wins": told}


def _best(tried: Mapping[str, Trial]) -> str:
    name = max(tried, key=lambda name: tried[name].test.mean)
    return f"{name}, {tried[name].told}"


def trained(e: Evidence) -> Reasons:
    """The rules that hold after the small runs; the first decides, and one always holds."""
    if e.pairs < FEW_PAIRS:
        label = f"label {FEW_PAIRS - e.pairs:,} more, or generate queries"
        few = f"{some_of(e.pairs, 'training pair', 'training pairs')}; below {FEW_PAIRS} a gain is "
        return {"pairs too few": f"{few}unlikely, a loss is likely: {label}"}
    if not (e.trials and e.expected):
        return {"unsure": "nothing was trained yet"}
    held: Reasons = {}
    middle, _, high = e.expected
    all_pairs = f"all {e.pairs:,} pairs: {e.expected_told} where {e.model} has {e.base:.3f}"
    if won := winners({name: trial.test for name, trial in e.trials.items()}):
        trial = e.trials[won[0]]
        held["gain seen"] = (
            f"{won[0]} on {trial.pairs:,} pairs gains {trial.told} on dev; contrastive training on "
            + all_pairs
            + (f"; without training, the best is {_best(e.alternatives)}" if e.alternatives else "")
        )
    least = e.base + WORTH
    none = all(trial.test.high < WORTH for trial in e.trials.values())
    if high < least or (none and middle < least):
        held["nothing to gain"] = (
            f"less than {WORTH}: the best small run, {_best(e.trials)} on dev; {all_pairs}"
        )
    held["unsure"] = f"the small runs neither show a gain of {WORTH} nor rule it out; {all_pairs}"
    return held


def remarks(e: Evidence, target: float | None) -> Reasons:
    """The rules that remark, whichever decided."""
    held: Reasons = {}
    if target is not None and e.curve and e.expected and target > e.expected[2]:
        more = [n for n in (2**k * e.pairs for k in range(1, 11)) if e.curve.at(n) > target]
        told = f"about {more[0]:,} pairs by the curve" if more else "not by more pairs alone"
        held["target out of reach"] = (
            f"{target:g} lies above {e.expected[2]:.3f}, the most to expect of these pairs: "
            f"{told}; a larger model, or a reranker on top, are the other ways"
        )
    if e.fertility >= FRAGMENTED:
        held["fragmented words"] = (
            f"{e.fertility:.2f} tokens a word, {e.whole:.0%} of the words whole: {e.model} "
            "hardly knows these words, so that fine-tuning has more to give, and more to learn"
        )
    if e.unread:
        held["documents cut"] = f"{e.unread}; cut long documents: Recipe(passage_size=128)"
    if min(e.dev_queries, e.test_queries) < needed(e):
        held["queries for a proof"] = (
            f"{some_of(e.dev_queries, 'query', 'queries')} of dev and {e.test_queries:,} of the "
            f"tests show differences from {e.visible:.3f} and {e.visible_in_tests:.3f} on; about "
            f"{needed(e):,} are needed to see one of {WORTH}"
        )
    if e.curve is not None:
        held["more pairs"] = (
            f"twice as many should give {e.curve.at(2 * e.pairs) - e.curve.at(e.pairs):+.3f} "
            "nDCG@10 by the curve"
        )
    return held
