"""A learning curve: what few labels gave, and what all of them will give, with an interval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import refusals

refused = refusals(__file__)
# Pairs that weigh as much as what the general model knew already. Chosen on ICD-10-CM (workshop)
# with runs on 250 to 2,000 pairs alone: with 5,000, those below 2,000 tell best what 2,000 give
# (off by less than 0.001 on the mean; with 2,000 by -0.005, with 10,000 by +0.002). Runs on all
# pairs took no part.
HEAD_START = 5_000
# How far one run lies from the curve, in ln(1 - nDCG), and as how many runs that experience counts.
SPREAD, EXPERIENCE = 0.03, 8


@dataclass(frozen=True, repr=False)
class Curve:
    """nDCG@10 by the number of training pairs, carried on from small runs.

    A general model is as if it had seen pairs before, h of them: with n more, its error falls as

        1 - nDCG(n) = (1 - nDCG(0)) · (1 + n / h)^-b

    nDCG(0) is the general model's own, measured; h is ``HEAD_START``; b is fitted by least squares
    in logarithms. A plain power law in n misses that small runs lie near n = 0: on ICD-10-CM it
    expects too little. The interval is that of one further run: Student's t, with the spread of the
    points around the curve pooled with the usual one (``SPREAD``), as three points say little; all
    points were measured on the same dev queries, whose sampling moves them together (``error``).
    Fails for no point, or a value outside 0 to 1.

    Paper: Hernandez et al., Scaling laws for transfer, 2021 (pre-training as so much more data).
    """

    start: float  # nDCG@10 of the general model
    points: Mapping[int, float]  # pairs -> nDCG@10 of a run on so many; one or more
    error: float = 0.0  # standard error of the gain of the run on the most pairs, over queries

    def __post_init__(self) -> None:
        fits = all(n > 0 and 0 <= value <= 1 for n, value in self.points.items())
        if not self.points or not fits or not 0 <= self.start <= 1:
            raise refused("curve", start=self.start, points=dict(self.points))

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """The points in logarithms: ln(1 + n / h), and how far the error has fallen there."""
        x = np.log1p(np.array(list(self.points), dtype=float) / HEAD_START)
        return x, np.log(self._error / np.maximum(1 - np.array(list(self.points.values())), 1e-3))

    @property
    def _error(self) -> float:
        return max(1 - self.start, 1e-3)

    @property
    def power(self) -> float:
        """b: how fast the error falls; below 0, training hurts."""
        x, y = self._places
        return float(x @ y / (x @ x))

    def at(self, pairs: int) -> float:
        """The expected nDCG@10 after training on so many pairs."""
        return 1 - self._error * (1 + pairs / HEAD_START) ** -self.power

    def pairs_for(self, target: float, pairs: int) -> int | None:
        """Of twice, four times and so on as many pairs, the first that should exceed a target."""
        return next((n for k in range(1, 11) if self.at(n := 2**k * pairs) > target), None)

    def interval(self, pairs: int) -> tuple[float, float]:
        """Within what a run on so many pairs will end, with a probability of 95%, on queries like
        dev's."""
        from scipy import stats

        (x, y), place = self._places, math.log1p(pairs / HEAD_START)
        left, free = y - self.power * x, EXPERIENCE + len(x) - 1
        spread = math.sqrt((EXPERIENCE * SPREAD**2 + left @ left) / free)
        own = stats.t.ppf(0.975, free) * spread * math.sqrt(1 + place**2 / (x @ x))
        most = int(x.argmax())  # the error of its gain, carried on as the gain itself is
        shared = self.error / (self._error * math.exp(-y[most])) * place / x[most]
        width = math.hypot(own, stats.norm.ppf(0.975) * shared)
        falls = self.power * place
        low, high = (1 - self._error * math.exp(s - falls) for s in (width, -width))
        return max(0.0, low), high

    def rows(self, *pairs: int) -> list[dict[str, float | int | None]]:
        """One dict a number of pairs: ``measured`` (or None), ``expected``, ``low``, ``high``."""
        return [
            {"pairs": n, "measured": self.points.get(n), "expected": self.at(n)}
            | dict(zip(("low", "high"), self.interval(n), strict=True))
            for n in sorted({*self.points, *pairs})
        ]

    def __repr__(self) -> str:
        told = ", ".join(f"{n:,}: {value:.3f}" for n, value in sorted(self.points.items()))
        return f"Curve(from {self.start:.3f}; {told}; power {self.power:.3f})"
