"""Should you fine-tune? Rules, and what they say of evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Template

from ..data import Domain
from ..display import Frame, Shown, Table, some_of
from ..evaluation.decision import FINE_TUNE, KEEP, SWITCH
from ..evaluation.intervals import LEVEL, SPREAD, WORTH, Estimate, holm, queries_needed
from ..files import told_by
from .curves import refused
from .evidence import HYBRID, Evidence, Trial, gather
from .planning import FEW_PAIRS

LARGE = 300_000_000  # parameters from which training all of them wants a large GPU
LABEL, TRY, BOTH = "label more first", "perhaps: the full run decides", "hybrid search first"
CEILING = 0.9  # nDCG@10: what is missing above is more often a wrong label than a wrong model
FEW_DEV = 50  # dev queries: half an interval is then about 0.1
FRAGMENTED = 2  # tokens a word from which a model hardly knows the words
_NAMES: dict[str, Any] = {"few_dev": FEW_DEV, "few_pairs": FEW_PAIRS, "worth": WORTH}
_NAMES |= {"fragmented": FRAGMENTED, "level": LEVEL, "label": LABEL, "perhaps": TRY, "both": BOTH}
_NAMES |= {"ceiling": CEILING, "keep": KEEP, "switch": SWITCH, "fine_tune": FINE_TUNE}
RULES: dict[str, dict[str, str]] = told_by(__file__, "rules.toml")
THEN = {n: Template(rule["then"]).render(_NAMES) for n, rule in RULES.items() if "then" in rule}
DECISIONS = {LABEL, KEEP, SWITCH, BOTH, FINE_TUNE, TRY}


def advice_rules() -> Frame:
    """All rules in their order: the first of the upper ones that holds decides, the rest remark."""
    import pandas as pd

    rows = [
        [name, *(Template(rule[key]).render(_NAMES) for key in ("when", "then", "source"))]
        for name, rule in RULES.items()
        if name in THEN
    ]
    return pd.DataFrame(rows, columns=["rule", "when", "then", "source"]).set_index("rule")


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
        raise refused("target", target=target)
    settled = lambda found: any(untrained(found, target).values())  # noqa: E731
    found = gather(domain, model, minutes=minutes, enough=settled, quiet=quiet, told=told)
    return decide(found, target)


def decide(e: Evidence, target: float | None = None) -> Advice:
    """What the rules say of evidence: the first that holds decides, remarks follow."""
    free, won = (
        next(iter(winners({name: trial.test for name, trial in tried.items()})), None)
        for tried in (e.alternatives, e.trials)
    )
    free = None if free and beats(e, free) else free  # what wins untrained, if no small run does
    held = [name for name, holds in rules(e, target, free, won).items() if holds]
    decision = THEN[held[0]]
    told = {"pairs too few", held[0]} | {name for name in held if THEN[name] not in DECISIONS}
    values = _NAMES | {"e": e, "target": target, "free": free, "won": won, "needed": needed(e)}
    values |= {"some_of": some_of, "best": _best, "large": e.parameters >= LARGE}
    approach, order = None, [n for n in held if n in told]
    if decision in (FINE_TUNE, TRY):  # contrastive, unless a trial beats it by a paired test
        values["best_trial"] = best = next(iter(beats(e, "contrastive")), "contrastive")
        approach = f"LoRA, {best}" if values["large"] else best
        order.insert(1, "what first")
    reasons = {name: Template(RULES[name]["says"]).render(values) for name in order}
    return Advice(decision, approach, tuple(reasons.items()), e, target)


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


def needed(e: Evidence) -> int:
    """Queries that a paired test needs to see a difference of ``WORTH``, in clusters like dev's."""
    return queries_needed(SPREAD, WORTH, e.effect)


def untrained(e: Evidence, target: float | None) -> dict[str, bool]:
    """Which rules hold before anything is trained."""
    return {
        "dev too small": e.dev_queries < FEW_DEV,
        "target met": target is not None and e.base_ci[0] >= target,
        "at the ceiling": e.base_ci[0] >= CEILING and (target or 0) <= e.base,
    }


def rules(e: Evidence, target: float | None, free: str | None, won: str | None) -> dict[str, bool]:
    """Which rules hold, in their order; one of those that decide always does.

    ``free``: what wins without training; ``won``: the small run that gains most, if one does.
    """
    many, least = e.pairs >= FEW_PAIRS, e.base + WORTH
    known = bool(e.trials and e.expected) and many
    middle, _, high = e.expected or (0.0, 0.0, 0.0)
    none = all(trial.test.high < WORTH for trial in e.trials.values())
    return untrained(e, target) | {
        "another model wins": free not in (None, HYBRID),
        "hybrid wins": free == HYBRID,
        "pairs too few": not many,
        "gain seen": known and won is not None,
        "nothing to gain": known and (high < least or (none and middle < least)),
        "unsure": many,
        "target out of reach": bool(e.expected) and target is not None and target > high,
        "fragmented words": e.fertility >= FRAGMENTED,
        "documents cut": bool(e.unread),
        "queries for a proof": min(e.dev_queries, e.test_queries) < needed(e),
        "more pairs": e.curve is not None,
    }


def _best(tried: Mapping[str, Trial]) -> str:
    name = max(tried, key=lambda name: tried[name].test.mean)
    return f"{name}, {tried[name].told}"
