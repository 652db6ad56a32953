"""Sweeps with optuna: several settings at once, kept in a file, hopeless ones cut short."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import Domain
from ..display import Table
from ..errors import EmbkitError, not_installed, unknown
from ..pairs.pairs import collect
from ..recipes.recipe import FIELDS, Recipe
from ..runs import store
from .trainer import train
from .trials import DEV, Trials

if TYPE_CHECKING:
    import optuna

Range = Sequence[Any]  # [values to choose among], (low, high), or (low, high, "log")
RUNG = 0.25  # of the pairs: what a trial is first trained on


@dataclass(frozen=True, repr=False)
class SweepResult(Trials):
    """What a sweep tried; the dev split alone was read.

    ``rows`` holds one dict a trial: its settings, ``small`` (nDCG@10 on the dev sample, after a
    quarter of the pairs), ``dev nDCG@10`` (the same after all; None where it was cut short),
    ``state``, ``seconds``.
    """

    recipe: Recipe
    fields: tuple[str, ...]  # those that were searched
    rows: tuple[dict[str, Any], ...]
    file: Path  # where they are kept
    dev_name: str
    caption = "small: nDCG@10 after a quarter of the pairs"

    @property
    def best(self) -> Recipe:
        """The recipe with the best dev score on all pairs.

        Raises:
            EmbkitError: no trial was finished.
        """
        return self.recipe.replace(**{name: self.best_row[name] for name in self.fields})

    def table(self) -> Table:
        """The trials, the best first."""
        order = sorted(self.rows, key=lambda row: (row[DEV] or 0, row["small"]), reverse=True)
        return Trials.table(replace(self, rows=tuple(order)))


def sweep(
    recipe: Recipe,
    domain: Domain,
    space: Mapping[str, Range],
    *,
    trials: int = 10,
    name: str = "sweep",
    stop: threading.Event | None = None,
    quiet: bool = False,
) -> SweepResult:
    """Searches settings of a recipe with optuna's TPE, on the dev split.

    A trial is trained on a quarter of the pairs first; when that scores below the median of the
    trials before it, it is cut short (MedianPruner). Trials are kept in a journal in the store:
    the same call goes on from there, up to ``trials`` in all, and a trial that a kill interrupted
    is tried again first. Runs are kept as always.

    Args:
        space: field of the recipe -> a list of values, ``(low, high)``, or ``(low, high, "log")``,
            such as ``{"learning_rate": (1e-5, 1e-2, "log"), "batch_size": [64, 128]}``.
        trials: how many in all, earlier calls included.
        name: of the sweep; another space or recipe under one name is refused.
        stop: when set, the search ends after the step in hand, as in ``train``.

    Raises:
        EmbkitError: optuna is not installed, an unknown field, a range that is none, or a name
            that another sweep has.
        KeyboardInterrupt: stopped.

    Paper: Akiba et al., Optuna: a next-generation hyperparameter optimization framework, 2019.
    """
    try:
        import optuna
    except ImportError as error:
        raise not_installed("optuna is not installed", "sweeps") from error
    for field, given in space.items():
        _check(recipe, field, given)
    if not space or trials < 1:
        raise EmbkitError(
            f"a sweep of {len(space)} fields with {trials} trials",
            expected="one field or more, and one trial or more",
            hint='ek.training.sweep(recipe, domain, {"learning_rate": (1e-5, 1e-2, "log")})',
        )
    # what was tried before under this name; what a kill left running is first in the queue
    file = store(domain) / "sweeps" / f"{name}.journal"
    file.parent.mkdir(parents=True, exist_ok=True)
    study, states = _study(file), optuna.trial.TrialState
    written = json.dumps([recipe.hash, {f: list(r) for f, r in space.items()}], sort_keys=True)
    if study.user_attrs.get("what", written) != written:
        raise EmbkitError(
            f"the sweep {name!r} is there, with another recipe or other ranges",
            expected="the same recipe and ranges as when it began",
            hint=f"name={name + '-2'!r}",
        )
    study.set_user_attr("what", written)
    for trial in study.get_trials(states=(states.RUNNING,)):
        if trial.params:
            study.enqueue_trial(trial.params)
        study.tell(trial.number, state=states.FAIL)

    # the trials that are left: a quarter of the pairs, and all of them where that was no loss
    few = max(2, int((recipe.max_pairs or len(collect(domain, recipe.pairs)[0])) * RUNG))

    def tried(trial: Any) -> float:
        chosen = recipe.replace(**{f: _suggest(trial, f, r) for f, r in space.items()})
        try:
            small = train(chosen.replace(max_pairs=few), domain, stop=stop, quiet=quiet)
            trial.report(small.dev_score, step=few)
            trial.set_user_attr("small", small.dev_score)
            trial.set_user_attr("seconds", small.seconds)
            if trial.should_prune():
                raise optuna.TrialPruned
            run = train(chosen, domain, stop=stop, quiet=quiet)
        except KeyboardInterrupt:  # tried again by the next call
            study.enqueue_trial(trial.params)
            raise
        trial.set_user_attr("seconds", small.seconds + run.seconds)
        return run.dev_score

    over = (states.COMPLETE, states.PRUNED)
    left = trials - len(study.get_trials(states=over))
    if left > 0:
        study.optimize(tried, n_trials=left)
    rows = []
    for trial in study.get_trials(states=over):
        done = trial.state == states.COMPLETE
        row = {f: _rounded(trial.params[f]) for f in space} | {"small": trial.user_attrs["small"]}
        row |= {DEV: trial.value if done else None, "state": "finished" if done else "cut short"}
        rows.append(row | {"seconds": trial.user_attrs["seconds"]})
    return SweepResult(recipe, tuple(space), tuple(rows), file, domain.dev_name)


def _check(recipe: Recipe, field: str, given: Range) -> None:
    """Refuses a range that is none, or that has a value which the recipe does not take."""
    if field not in FIELDS:
        raise unknown("recipe field", field, FIELDS)
    span = isinstance(given, tuple) and len(given) in (2, 3) and (given[2:] in ((), ("log",)))
    if not (span and given[0] < given[1]) and not (isinstance(given, list) and given):
        raise EmbkitError(
            f"{field}: {given!r}",
            expected='[values], (low, high) with low < high, or (low, high, "log")',
            hint=f'{{"{field}": [{getattr(recipe, field)!r}]}}',
        )
    for value in given[:2] if span else given:
        recipe.replace(**{field: value})


def _suggest(trial: Any, field: str, given: Range) -> Any:
    if isinstance(given, list):
        return trial.suggest_categorical(field, given)
    whole = all(isinstance(value, int) for value in given[:2])
    pick = trial.suggest_int if whole else trial.suggest_float
    return _rounded(pick(field, given[0], given[1], log=given[-1] == "log"))


def _study(file: Path) -> optuna.Study:
    """The study that a file keeps."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(file)))
    made = storage.get_all_studies()
    return optuna.create_study(
        study_name="sweep",
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        # a search that goes on must not draw again what it drew before
        sampler=optuna.samplers.TPESampler(
            seed=sum(storage.get_n_trials(s._study_id) for s in made)
        ),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )


def _rounded(value: Any) -> Any:
    """Three digits: a recipe that can be read, and typed."""
    return float(f"{value:.3g}") if isinstance(value, float) else value
