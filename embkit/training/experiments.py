"""What is tried on dev: values of one field; and comparisons that need many runs, arms of one
cost, each with its own learning rate from dev."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..assets.catalogue import ALTERNATIVE, NOT_HERE, UNTRAINED, is_here
from ..data import Domain
from ..data.sources.python_code import PROBE, general_probe
from ..display import Shown, Table, table
from ..errors import EmbkitError
from ..evaluation.intervals import PairedTest, clusters, paired_test
from ..evaluation.ranking import evaluate
from ..evaluation.report import Report, compare, with_interval
from ..evaluation.scores import Scores, over_seeds
from ..files import filled
from ..pairs.pairs import collect, sets
from ..recipes.recipe import SOURCES, Recipe, preset
from ..runs import Run
from .refusals import refused
from .trainer import train

if TYPE_CHECKING:
    import pandas as pd

DEV = "dev nDCG@10"
RATES = (1e-4, 2e-4, 4e-4)
REFERENCES = ("bm25", "minilm", "hybrid", ALTERNATIVE)  # what is scored beside runs as it is
FACTORS = (0.5, 1.0, 2.0)  # of a preset's learning rate, for dev to choose among


@dataclass(frozen=True, repr=False)
class GridResult(Shown):
    """Runs over the values of one field; the dev split alone chooses among them."""

    field: str
    runs: tuple[Run, ...]
    less: tuple[PairedTest | None, ...]  # of each run, what the best has more on dev's queries;
    # None for itself, and for a run of before the queries were kept

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
        """The runs, with what each has less than the best. The best is marked, where dev's queries
        tell it from all others; the caption names those it is not told from, and the edge."""
        score, told, near = f"{self.runs[0].dev_name} nDCG@10", [], []
        for (value, dev, seconds), test in zip(map(dict.values, self.rows), self.less, strict=True):
            value = f"{value:.4g}" if isinstance(value, float) else str(value)
            less = with_interval(test.delta, test[1:3], ".3f") if test else ""
            near += [value] if test and test.ci_low <= 0 else []
            told.append({self.field: value, score: f"{dev:.3f}", "less than the best [95%]": less})
            told[-1]["seconds"] = f"{seconds:.0f}"
        noise = f"Dev's queries do not tell from the best: {', '.join(near)}. " if near else ""
        edge = f"The best {self.field} is the {self.edge} that was tried: try further out."
        best = {(self.runs.index(self.best_run), 1)} if not near else set()
        return table(told, caption=(noise + edge * bool(self.edge)).strip(), bold=best)

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
        raise refused("fields", number=len(values), fields=sorted(values))
    ((name, tried),) = values.items()
    recipes = [recipe.replace(**{name: value}) for value in tried]
    runs = tuple(train(r, domain, quiet=quiet) for r in recipes)
    scored = [run.record.get("dev_queries") for run in runs]
    best = max(runs, key=lambda run: run.dev_score).record.get("dev_queries")
    codes = clusters(domain, "dev").codes(best or ())
    tests = (
        paired_test(best, one, codes) if best and one and one is not best else None
        for one in scored
    )
    return GridResult(name, runs, tuple(tests))


def available(domain: Domain) -> dict[str, dict[str, Any]]:
    """The arms of ``SOURCES`` that a domain has the data for."""
    has = {"human", *sets(domain)}
    return {
        arm: changes
        for arm, changes in SOURCES.items()
        if changes.get("pairs", "human").removesuffix(":all") in has
        and (changes.get("miner") != "human" or domain.negatives)
    }


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Arms trained at equal cost, and what each scored."""

    pairs: int  # training pairs of an arm, at most
    sweeps: dict[str, GridResult]  # arm -> the runs among which dev chose the learning rate
    scores: dict[str, Scores]  # arm -> test scores of the chosen run
    baseline: str  # the arm that the others are tested against

    @cached_property  # its paired tests take seconds
    def report(self) -> Report:
        """Every arm and split with its interval, and p against the baseline arm."""
        return compare(list(self.scores.values()), baseline=self.baseline)

    def frame(self) -> pd.DataFrame:
        """One row an arm: nDCG@10 and its difference to the baseline on each split."""
        import pandas as pd

        rows: dict[str, dict[str, Any]] = {arm: {} for arm in self.scores}
        for row in self.report.rows:
            if not row["subset"]:
                told = {"": "ndcg@10", ": difference": "delta_vs_base", ": p": "p_holm"}
                rows[row["label"]] |= {f"{row['split']}{name}": row[k] for name, k in told.items()}
        for arm, sweep in self.sweeps.items():
            best = sweep.best_run
            rows[arm] |= {"learning rate": best.recipe.learning_rate, "dev": best.dev_score}
            rows[arm]["seconds"] = best.seconds
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("trained on")

    def table(self) -> Table:
        """One row an arm, with what dev chose for it."""
        told: dict[str, dict[str, str]] = {arm: {"trained on": arm} for arm in self.scores}
        for row in (row for row in self.report.rows if not row["subset"]):
            own, p = told[row["label"]], row["p_holm"]
            own[row["split"]] = f"{row['ndcg@10']:.3f}"
            if p is not None:
                stars = "**" if p < 0.01 else "*" if p < 0.05 else ""
                own[row["split"]] += f" ({row['delta_vs_base']:+.3f}{stars})"
        for arm, sweep in self.sweeps.items():
            told[arm]["learning rate"] = f"{sweep.best.learning_rate:g}"
            told[arm]["s"] = f"{sweep.best_run.seconds:.0f}"
        caption = filled(Path(__file__).with_name("compared.jinja"), found=self)
        return table(told.values(), caption=caption)

    def __repr__(self) -> str:
        return self.report.to_text()


def equal_cost(
    recipe: Recipe,
    domain: Domain,
    arms: Mapping[str, Mapping[str, Any]],
    *,
    rates: Sequence[float] | None = None,
    references: Sequence[str] = REFERENCES,
    quiet: bool = False,
) -> Comparison:
    """Trains each arm on as many pairs as the arm with the fewest has, and compares them.

    Every arm starts from the same model, takes the same number of steps, and gets the learning
    rate that scored best on dev. The test splits choose nothing. The first arm is the baseline.

    Args:
        recipe: what all arms share; ``max_pairs`` caps the number of pairs.
        arms: name -> the arm's changes to the recipe.
        rates: learning rates to try for each arm; default: ``RATES``, in ``smoke`` the middle one.
        references: what is scored beside the arms as it is; a model that its package was not
            fetched for is left out, with a warning.

    Raises:
        EmbkitError: no arm, or an arm without pairs.
    """
    if not arms:
        raise refused("no arm")
    if rates is None:
        rates = RATES[1:2] if domain.profile == "smoke" else RATES
    recipes = {arm: recipe.replace(**changes) for arm, changes in arms.items()}
    sizes = [len(collect(domain, arm.pairs)[0]) for arm in recipes.values()]
    pairs = min([*sizes, *([recipe.max_pairs] if recipe.max_pairs else [])])
    sweeps, scores = {}, {}
    for arm, changed in recipes.items():
        same = changed.replace(max_pairs=pairs)
        sweeps[arm] = tune(same, domain, quiet=quiet, learning_rate=list(rates))
        scores[arm] = evaluate(sweeps[arm].best_run, domain).labelled(arm)
    for name, called in _there(references).items():
        scores[called or name] = evaluate(name, domain, name=called).labelled(called or name)
    return Comparison(pairs, sweeps, scores, next(iter(arms)))


def approaches(
    domain: Domain,
    names: Sequence[str],
    *,
    seeds: Sequence[int] = (42, 43, 44),
    baseline: str = "base",
    factors: Sequence[float] = FACTORS,
    references: Sequence[str] = REFERENCES,
    quiet: bool = False,
    **changes: Any,
) -> Comparison:
    """Trains presets with several seeds each, and compares their means over the seeds.

    For each preset, dev chooses among its learning rate times each factor, with the first seed;
    the chosen recipe is then trained with every seed. A query's score is its mean over the
    seeds; intervals and tests are over clusters of queries and over seeds, and no seed is picked.
    Each run is also evaluated on ``general_probe``: what was forgotten stands in the leaderboard.

    Args:
        names: which of ``PRESETS``.
        seeds: of the runs; three or more for a row that a claim rests on.
        baseline: the name to test against: a preset, or ``base``.
        factors: of a preset's learning rate; ``(1,)`` takes the presets' own, which the lessons
            chose on dev.
        references: what is evaluated beside them without any training, as in ``equal_cost``.
        changes: to every recipe, such as ``epochs=1``.

    Raises:
        EmbkitError: an unknown preset (names the nearest), no seed, no factor or one of 0 or less.
    """
    if not seeds:
        raise EmbkitError("no seed", expected="at least one", hint="seeds=(42, 43, 44)")
    if not factors or min(factors) <= 0:
        given = f"factors={tuple(factors)}"
        raise EmbkitError(given, expected="numbers above 0", hint="factors=(0.5, 1, 2)")
    recipes = {name: preset(name, **changes) for name in names}
    sweeps, scores, pairs = {}, {}, 0
    for name, called in _there(references).items():
        found = _evaluated([name], domain, called)
        scores[found.approach] = found.labelled(found.approach)
    for name, recipe in recipes.items():
        first = recipe.replace(seed=seeds[0])
        rates = [recipe.learning_rate * factor for factor in factors]
        sweeps[name] = tune(first, domain, quiet=quiet, learning_rate=rates)
        best = sweeps[name].best
        runs = [train(best.replace(seed=seed), domain, quiet=quiet) for seed in seeds]
        scores[name] = _evaluated(runs, domain).labelled(name)
        pairs = max(pairs, *(run.record["pairs"] for run in runs))
    return Comparison(pairs, sweeps, scores, baseline)


def _there(references: Sequence[str]) -> dict[str, str | None]:
    """The references that can be scored, each with its name in tables if that is another."""
    there = [name for name in references if name != ALTERNATIVE or is_here(name)]
    if len(there) < len(references):
        warnings.warn(NOT_HERE, stacklevel=3)
    return {name: UNTRAINED if name == ALTERNATIVE else None for name in there}


def _evaluated(subjects: Sequence[Any], domain: Domain, name: str | None = None) -> Scores:
    """The mean scores of several runs, and their mean on the general probe beside them."""
    found = over_seeds([evaluate(subject, domain, name=name) for subject in subjects])
    general = over_seeds([evaluate(subject, general_probe(), name=name) for subject in subjects])
    return replace(found, meta=found.meta | {"general_ndcg@10": general.mean(PROBE)})
