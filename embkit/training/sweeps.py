"""Sweeps with optuna: several settings at once, kept in a file, hopeless ones cut short."""

from __future__ import annotations

import html
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import Domain
from ..errors import EmbkitError, not_installed, unknown
from ..recipes.recipe import FIELDS, Recipe
from ..runs import store
from .trainer import train

if TYPE_CHECKING:
    import optuna
    import pandas as pd

Range = Sequence[Any]  # [values to choose among], (low, high), or (low, high, "log")
RUNG = 0.25  # of the pairs: what a trial is first trained on


@dataclass(frozen=True, repr=False)
class SweepResult:
    """What a sweep tried; the dev split alone was read.

    Args:
        recipe: what all trials share.
        fields: the settings that were searched.
        rows: one dict a trial: its settings, ``small`` (dev nDCG@10 on a quarter of the pairs),
            ``dev nDCG@10`` (on all; None where it was cut short), ``state``, ``seconds``.
        file: where they are kept.
    """

    recipe: Recipe
    fields: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    file: Path

    @property
    def best(self) -> Recipe:
        """The recipe with the best dev score on all pairs.

        Raises:
            EmbkitError: no trial was finished.
        """
        done = [row for row in self.rows if row["dev nDCG@10"] is not None]
        if not done:
            raise EmbkitError(
                f"{len(self.rows)} trials, none of them finished",
                expected="one trial at least that was trained on all pairs",
                hint="ek.training.sweep(recipe, domain, space, trials=10) goes on from here",
            )
        row = max(done, key=lambda row: row["dev nDCG@10"])
        return self.recipe.replace(**{name: row[name] for name in self.fields})

    def frame(self) -> pd.DataFrame:
        """The trials, the best first."""
        import pandas as pd

        table = pd.DataFrame(self.rows)
        return table.sort_values(["dev nDCG@10", "small"], ascending=False, na_position="last")

    def __repr__(self) -> str:
        states = [row["state"] for row in self.rows]
        told = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        return f"Trials of {', '.join(self.fields)}: {told}"

    def _repr_html_(self) -> str:
        names = [*self.fields, "small", "dev nDCG@10", "state", "seconds"]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = ""
        for row in self.frame().to_dict("records"):
            cells = "".join(f"<td>{html.escape(_told(row[name]))}</td>" for name in names)
            body += f"<tr>{cells}</tr>"
        note = "small: dev nDCG@10 after a quarter of the pairs"
        return f"<table><caption>{note}</caption><tr>{head}</tr>{body}</table>"


def sweep(
    recipe: Recipe,
    domain: Domain,
    space: Mapping[str, Range],
    *,
    trials: int = 10,
    name: str = "sweep",
    seed: int = 0,
    stop: threading.Event | None = None,
    quiet: bool = False,
) -> SweepResult:
    """Searches settings of a recipe with optuna's TPE, on the dev split.

    A trial is trained on a quarter of the pairs first; when that scores below the median of the
    trials before it, it is cut short (MedianPruner). Trials are kept in a journal in the store:
    the same call goes on from there, up to ``trials`` in all, and a trial that a kill interrupted
    is tried again first. Runs are kept as always.

    Args:
        recipe: what all trials share.
        domain: on what; test splits are not read.
        space: field of the recipe -> a list of values, ``(low, high)``, or ``(low, high, "log")``.
        trials: how many in all, earlier calls included.
        name: of the sweep; another space or recipe under one name is refused.
        seed: of the search.
        stop: when set, the search ends after the step in hand, as in ``train``.
        quiet: no progress bars.

    Raises:
        EmbkitError: optuna is not installed, an unknown field, a range that is none, or a name
            that another sweep has.
        KeyboardInterrupt: stopped.

    Example:
        >>> space = {"learning_rate": (1e-5, 1e-2, "log"), "batch_size": [64, 128]}
        >>> sweep(Recipe(epochs=1), domain, space, trials=20)  # doctest: +SKIP

    Paper: Akiba et al., Optuna: a next-generation hyperparameter optimization framework, 2019.
    """
    found = _library()
    ranges = {field: _checked(recipe, field, given) for field, given in space.items()}
    if not ranges or trials < 1:
        raise EmbkitError(
            f"a sweep of {len(ranges)} fields with {trials} trials",
            expected="one field or more, and one trial or more",
            hint='sweep(recipe, domain, {"learning_rate": (1e-5, 1e-2, "log")}, trials=10)',
        )
    file = store(domain) / "sweeps" / f"{name}.journal"
    file.parent.mkdir(parents=True, exist_ok=True)
    study = _study(found, file, seed)
    _same_sweep(study, recipe, ranges, name)
    _take_up_again(found, study)
    pairs = recipe.max_pairs or _pairs(recipe, domain)
    few = max(2, int(pairs * RUNG))

    def objective(trial: Any) -> float:
        try:
            return tried(trial)
        except KeyboardInterrupt:  # to be gone on with
            study.enqueue_trial(trial.params)
            raise

    def tried(trial: Any) -> float:
        chosen = recipe.replace(**{f: _suggest(trial, f, r) for f, r in ranges.items()})
        small = train(chosen.replace(max_pairs=few), domain, stop=stop, quiet=quiet)
        trial.report(small.dev_score, step=few)
        trial.set_user_attr("small", small.dev_score)
        trial.set_user_attr("seconds", small.seconds)
        if trial.should_prune():
            raise found.TrialPruned
        run = train(chosen, domain, stop=stop, quiet=quiet)
        trial.set_user_attr("seconds", small.seconds + run.seconds)
        return run.dev_score

    over = (found.trial.TrialState.COMPLETE, found.trial.TrialState.PRUNED)
    left = trials - len(study.get_trials(states=over))
    if left > 0:
        study.optimize(objective, n_trials=left)
    return _trials(study, recipe, tuple(ranges), file, over)


def _library() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise not_installed("optuna is not installed", "sweeps") from error
    return optuna


def _pairs(recipe: Recipe, domain: Domain) -> int:
    from ..pairs.pairs import collect

    return len(collect(domain, recipe.pairs)[0])


def _checked(recipe: Recipe, field: str, given: Range) -> Range:
    """A range whose every value the recipe takes."""
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
    return given


def _suggest(trial: Any, field: str, given: Range) -> Any:
    if isinstance(given, list):
        return trial.suggest_categorical(field, given)
    whole = all(isinstance(value, int) for value in given[:2])
    pick = trial.suggest_int if whole else trial.suggest_float
    value = pick(field, given[0], given[1], log=given[-1] == "log")
    return value if whole else float(f"{value:.3g}")  # a recipe that can be read, and typed


def _study(found: Any, file: Path, seed: int) -> optuna.Study:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    found.logging.set_verbosity(found.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(file)))
    made = len(storage.get_all_studies())
    done = storage.get_n_trials(storage.get_all_studies()[0]._study_id) if made else 0
    return found.create_study(
        study_name="sweep",
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        # a resumed search must not draw again what it drew before
        sampler=found.samplers.TPESampler(seed=seed + done),
        pruner=found.pruners.MedianPruner(n_startup_trials=3),
    )


def _same_sweep(study: Any, recipe: Recipe, ranges: Mapping[str, Range], name: str) -> None:
    written = json.dumps([recipe.hash, {f: list(r) for f, r in ranges.items()}], sort_keys=True)
    if study.user_attrs.get("what", written) != written:
        raise EmbkitError(
            f"the sweep {name!r} is there, with another recipe or other ranges",
            expected="the same recipe and ranges as when it began",
            hint=f"name={name + '-2'!r}",
        )
    study.set_user_attr("what", written)


def _take_up_again(found: Any, study: Any) -> None:
    """What a kill left running is marked as failed, and put first in the queue."""
    states = found.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):
        if trial.params:
            study.enqueue_trial(trial.params)
        study.tell(trial.number, state=states.FAIL)


def _trials(
    study: Any, recipe: Recipe, fields: tuple[str, ...], file: Path, over: tuple[Any, ...]
) -> SweepResult:
    rows = []
    for trial in study.get_trials(states=over):
        tried = {f: _rounded(trial.params[f]) for f in fields}
        done = trial.state == over[0]
        rows.append(
            tried
            | {
                "small": trial.user_attrs["small"],
                "dev nDCG@10": trial.value if done else None,
                "state": "finished" if done else "cut short",
                "seconds": trial.user_attrs["seconds"],
            }
        )
    return SweepResult(recipe, fields, tuple(rows), file)


def _rounded(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _told(value: Any) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


__all__ = ["SweepResult", "sweep"]
