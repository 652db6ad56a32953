"""How far a learning curve can be believed: small runs drawn again, against a run on all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data import Domain
from ..display import Shown, Table, table
from ..errors import EmbkitError
from ..models.loading import load_model
from ..pairs.pairs import collect
from . import evidence

CLOSE = 0.02  # nDCG@10
SEEDS = (42, 43, 44)  # of the run on all pairs


@dataclass(frozen=True, repr=False)
class CurveValidation(Shown):
    """What small runs predicted of the run on all pairs, one prediction a resampling."""

    pairs: int  # of the full run
    reached: float  # its nDCG@10 on dev, the mean over ``SEEDS``: one run alone is off by 0.01
    rows: tuple[dict[str, float], ...]  # ``seed``, ``expected``, ``low``, ``high``, ``error``

    @property
    def close(self) -> int:
        """How many predictions are off by ``CLOSE`` at most."""
        return sum(abs(row["error"]) <= CLOSE for row in self.rows)

    @property
    def covered(self) -> int:
        """In how many the interval holds what was reached."""
        return sum(row["low"] <= self.reached <= row["high"] for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {"pairs": self.pairs, "reached": self.reached, "rows": list(self.rows)}
        return found | {"close": self.close, "covered": self.covered}

    def table(self) -> Table:
        """One row a resampling; what they come to, below."""
        rows = [
            {
                "seed": f"{row['seed']:g}",
                "expected": f"{row['expected']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                "off by": f"{row['error']:+.3f}",
            }
            for row in self.rows
        ]
        return table(rows, caption=self.summary)

    @property
    def summary(self) -> str:
        """How many predictions were close, in one sentence."""
        return (
            f"{self.pairs:,} pairs reached {self.reached:.3f} on dev: {self.close} of "
            f"{len(self.rows)} predictions within {CLOSE}, {self.covered} intervals hold it"
        )

    def __repr__(self) -> str:
        return f"{self}\n{self.summary}"


def validate_curve(
    domain: Domain,
    model: str = "minilm",
    *,
    sizes: Sequence[int] | None = None,
    resamplings: int = 10,
) -> CurveValidation:
    """Draws the small runs' pairs anew, several times, and compares with the run on all pairs.

    Args:
        domain: on what; train and dev alone are read.
        model: the general model.
        sizes: pairs of the small runs; all below the domain's number of pairs.
        resamplings: how often; each trains all the small runs.

    Raises:
        EmbkitError: no resampling, or so few pairs that the small runs are the full one.
    """
    from ..training.trainer import train

    pairs = len(collect(domain, "human")[0])
    recipe, used = evidence.default_recipe(pairs, model), evidence.small_sizes(pairs, sizes)
    if resamplings < 1 or max(used) >= pairs:
        raise EmbkitError(
            f"{resamplings} resamplings of {', '.join(map(str, used))} out of {pairs:,} pairs",
            expected=f"one or more, and more pairs than {max(sizes or evidence.SIZES):,}",
            hint="ek.advice.validate_curve(domain, sizes=(100, 200, 400), resamplings=10)",
        )
    full = [train(recipe.replace(seed=seed), domain) for seed in SEEDS]
    reached = sum(float(evidence.on_dev(run, domain).mean()) for run in full) / len(full)
    base, rows = evidence.untrained_on_dev(load_model(model), domain), []
    for seed in range(1, resamplings + 1):
        runs = evidence.small_runs(recipe.replace(seed=seed), domain, used)
        curve = evidence.curve_through(base, runs)
        expected, (low, high) = curve.at(pairs), curve.interval(pairs)
        row = {"seed": seed, "expected": expected, "low": low, "high": high}
        rows.append(row | {"error": expected - reached})
    return CurveValidation(pairs, reached, tuple(rows))
