"""A learning curve: what few labels gave, and what all of them will give, with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..display import Shown, Table, table
from ..errors import EmbkitError

# Pairs that weigh as much as what the general model knew already. Chosen on ICD-10-CM (workshop)
# with runs on 250 to 2,000 pairs alone: with 5,000, those below 2,000 tell best what 2,000 give
# (off by less than 0.001 on the mean; with 2,000 by -0.005, with 10,000 by +0.002). Runs on all
# pairs took no part.
HEAD_START = 5_000
# How far one run lies from the curve, in ln(1 - nDCG), and as how many runs that experience counts.
SPREAD, EXPERIENCE = 0.03, 8


@dataclass(frozen=True, repr=False)
class Curve(Shown):
    """nDCG@10 by the number of training pairs, carried on from small runs.

    A general model is as if it had seen pairs before, h of them: with n more, its error falls as

        1 - nDCG(n) = (1 - nDCG(0)) · (1 + n / h)^-b

    nDCG(0) is the general model's own, measured; h is ``HEAD_START``; b is fitted by least squares
    in logarithms. A plain power law in n misses that small runs lie near n = 0: on ICD-10-CM it
    expects too little. The interval is that of one further run: Student's t, with the spread of the
    points around the curve pooled with the usual one (``SPREAD``), as three points say little.

    Raises:
        EmbkitError: no point, or a value outside 0 to 1.

    Example:
        >>> curve = Curve(0.448, {500: 0.476, 1000: 0.518, 2000: 0.545})
        >>> round(curve.at(4160), 2)
        0.62

    Paper: Hernandez et al., Scaling laws for transfer, 2021 (pre-training as so much more data).
    """

    start: float  # nDCG@10 of the general model
    points: Mapping[int, float]  # pairs -> nDCG@10 of a run on so many; one or more

    def __post_init__(self) -> None:
        fits = all(n > 0 and 0 <= value <= 1 for n, value in self.points.items())
        if not self.points or not fits or not 0 <= self.start <= 1:
            raise EmbkitError(
                f"a learning curve from {self.start!r} through {dict(self.points)}",
                expected="a start, and one point or more: pairs (above 0) -> nDCG@10 (0 to 1)",
                hint="ek.advice.Curve(0.45, {250: 0.46, 500: 0.48, 1000: 0.52})",
            )

    @cached_property
    def _fit(self) -> tuple[float, float, float]:
        """The power; the sum of squares of the places; the spread around the curve."""
        x = np.log1p(np.array(list(self.points), dtype=float) / HEAD_START)
        y = np.array([math.log(self._error / max(1 - v, 1e-3)) for v in self.points.values()])
        power, squares = float(x @ y) / float(x @ x), float(x @ x)
        left = y - power * x
        free = EXPERIENCE + len(x) - 1
        return power, squares, math.sqrt((EXPERIENCE * SPREAD**2 + float(left @ left)) / free)

    @property
    def _error(self) -> float:
        return max(1 - self.start, 1e-3)

    @property
    def power(self) -> float:
        """b: how fast the error falls; below 0, training hurts."""
        return self._fit[0]

    def at(self, pairs: int) -> float:
        """The expected nDCG@10 after training on so many pairs."""
        return 1 - self._error * (1 + pairs / HEAD_START) ** -self.power

    def interval(self, pairs: int) -> tuple[float, float]:
        """Within what a run on so many pairs will end, with a probability of 95%."""
        from scipy import stats

        power, squares, spread = self._fit
        place = math.log1p(pairs / HEAD_START)
        free = EXPERIENCE + len(self.points) - 1
        width = float(stats.t.ppf(0.975, free)) * spread * math.sqrt(1 + place**2 / squares)
        low, high = (1 - self._error * math.exp(-power * place + s) for s in (width, -width))
        return max(0.0, low), high

    def rows(self, *pairs: int) -> list[dict[str, float | int | None]]:
        """One dict a number of pairs: ``measured`` (or None), ``expected``, ``low``, ``high``."""
        rows: list[dict[str, float | int | None]] = []
        for n in sorted({*self.points, *pairs}):
            low, high = self.interval(n)
            row = {"pairs": n, "measured": self.points.get(n), "expected": self.at(n)}
            rows.append(row | {"low": low, "high": high})
        return rows

    def __repr__(self) -> str:
        told = ", ".join(f"{n:,}: {value:.3f}" for n, value in sorted(self.points.items()))
        return f"Curve(from {self.start:.3f}; {told}; power {self.power:.3f})"

    def table(self) -> Table:
        """What was measured beside the curve."""
        points = {0: self.start, **dict(sorted(self.points.items()))}
        rows = [
            {"pairs": f"{n:,}", "nDCG@10": f"{value:.3f}", "curve": f"{self.at(n):.3f}"}
            for n, value in points.items()
        ]
        law = f"the error falls with (1 + pairs / {HEAD_START:,}) ^ -{self.power:.3f}"
        return table(rows, caption=law)
