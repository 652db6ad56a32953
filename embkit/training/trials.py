"""``tune``: values of one field are tried, and the dev split chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data import Domain
from ..display import Shown, Table, table
from ..errors import EmbkitError
from ..recipes.recipe import Recipe
from ..runs import Run
from .trainer import train

DEV = "dev nDCG@10"


@dataclass(frozen=True, repr=False)
class GridResult(Shown):
    """Runs over the values of one field; the dev split alone chooses among them."""

    field: str
    runs: tuple[Run, ...]

    @property
    def rows(self) -> tuple[dict[str, Any], ...]:
        """One dict a value: the value, its dev score, the seconds it took."""
        tried = [(getattr(run.recipe, self.field), run) for run in self.runs]
        return tuple({self.field: v, DEV: r.dev_score, "seconds": r.seconds} for v, r in tried)

    @property
    def edge(self) -> str | None:
        """``lowest`` or ``highest`` where the best value is the last that was tried on its side."""
        values = [getattr(run.recipe, self.field) for run in self.runs]
        if len({*values}) < 2 or not all(type(value) in (int, float) for value in values):
            return None
        best = getattr(self.best, self.field)
        return {min(values): "lowest", max(values): "highest"}.get(best)

    @property
    def best_run(self) -> Run:
        """The run with the best dev score."""
        return max(self.runs, key=lambda run: run.dev_score)

    @property
    def best(self) -> Recipe:
        """The recipe with the best dev score."""
        return self.best_run.recipe

    def table(self) -> Table:
        """The runs, the best one marked; the caption says where it lies at the edge."""
        score, told = f"{self.runs[0].dev_name} nDCG@10", []
        for value, dev, seconds in map(dict.values, self.rows):
            value = f"{value:.4g}" if isinstance(value, float) else str(value)
            told.append({self.field: value, score: f"{dev:.3f}", "seconds": f"{seconds:.0f}"})
        edge = f"The best {self.field} is the {self.edge} that was tried: try further out."
        best = {(self.runs.index(self.best_run), 1)}
        return table(told, caption=edge if self.edge else "", bold=best)

    def __repr__(self) -> str:
        return str(self)


def tune(recipe: Recipe, domain: Domain, *, quiet: bool = False, **values: Sequence) -> GridResult:
    """Trains a recipe with each value of one field and lets the dev split choose.

    Args:
        values: one field with a list of values, such as ``learning_rate=[1e-4, 4e-4]``.

    Raises:
        EmbkitError: no field or several, or as ``train`` raises.
    """
    if len(values) != 1:
        raise EmbkitError(
            f"tune() was given {len(values)} fields: {sorted(values)}",
            expected="one field with a list of values",
            hint="ek.tune(recipe, domain, learning_rate=[1e-4, 4e-4])",
        )
    ((name, tried),) = values.items()
    recipes = [recipe.replace(**{name: value}) for value in tried]
    return GridResult(name, tuple(train(r, domain, quiet=quiet) for r in recipes))
