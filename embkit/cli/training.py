"""run, train, sources: what trains."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import auditing
from ..assets.catalogue import folder_fingerprint, resolve
from ..auditing.base import PROBLEM
from ..data import Domain
from ..distributed import team
from ..errors import EmbkitError, unknown
from ..evaluation.ranking import leaderboard
from ..evaluation.scores import Scores, compare
from ..evaluation.verdict import verdict
from ..files import write_atomic
from ..recipes.presets import PRESETS
from ..recipes.recipe import Recipe
from ..session import paths, quiet
from .planning import Plan, plan
from .results import show
from .terminal import OK, answer, command, note, option, say, scored, the_domain

if TYPE_CHECKING:
    from ..training.experiments import Comparison


@command(
    "try it all on a domain: audit, baselines, fine-tuning, LoRA, leaderboard, verdict",
    "run my_folder",
    option("--model", default="minilm", help="the model to start from (minilm)"),
    option("--epochs", type=int, help="passes over the pairs (default: by size)"),
    option("--pairs", type=int, help="pairs at most (default: as many as about 15 minutes allow)"),
    option("--max-length", type=int, help="tokens a text while training (default: by the lengths)"),
    option(
        "--quick",
        action="store_true",
        help="a first look: at most 1,000 pairs, one epoch, no choice of learning rate",
    ),
    more=(
        "What is finished is reused: the same command again takes seconds. Leaderboard and report "
        "are left in runs/NAME/ (runs/NAME-HASH/ where another domain of that name was first)."
    ),
    domain="domain",
)
def run(chosen: argparse.Namespace) -> int:
    """Audit, baselines, contrastive with hard negatives, LoRA, leaderboard, verdict."""
    from ..training.trainer import train as fit
    from ..training.trials import tune

    started = time.perf_counter()
    tell = note if chosen.json else say
    quiet()
    domain = the_domain(chosen)
    tell(f"{domain!r}")
    if domain.report:
        tell(f"read: {'; '.join(domain.report.splits)}; put aside: {domain.report.put_aside}")
    options = {"epochs": chosen.epochs, "max_length": chosen.max_length, "quick": chosen.quick}
    planned = plan(domain, chosen.model, max_pairs=chosen.pairs, **options)
    scores = [scored("bm25", domain), scored(chosen.model, domain)]
    summary = _audited(domain, chosen.model)
    tell(f"audit: {summary}")
    tell(f"plan: {planned}")
    rate = planned.rates[0]
    if len(planned.rates) > 1:
        rate = tune(planned.trial, domain, learning_rate=planned.rates).best.learning_rate
    scores.append(scored(fit(planned.contrastive.replace(learning_rate=rate), domain), domain))
    lora = _lora(planned, rate, domain)
    scores += [lora] if lora else []
    report, found = compare(scores, "base"), verdict(scores)
    folder = report.save(_folder(domain))
    minutes = (time.perf_counter() - started) / 60
    result: dict[str, Any] = {"audit": summary, "plan": str(planned), "folder": str(folder)}
    result |= {"verdict": found.to_dict(), "leaderboard": report.rows, "minutes": minutes}
    written = f"written: {folder / 'leaderboard.json'} and report.html; {minutes:.1f} minutes"
    told = f"\n{report.to_text()}\n\nverdict: {found}\n\n{written}"
    return answer(chosen.json, result, told)


def _kept_audit(folder: Path) -> dict[str, Any]:
    """The audit that an earlier ``run`` left; empty where there is none, or it was cut off."""
    try:
        return dict(json.loads((folder / "audit.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _folder(domain: Domain) -> Path:
    """runs/NAME, or runs/NAME-HASH where a domain of that name and other content came first."""
    folder = paths().runs / domain.name
    first = _kept_audit(folder).get("domain_hash", domain.hash)
    return folder if first == domain.hash else folder.with_name(f"{folder.name}-{domain.hash[:8]}")


def _audited(domain: Domain, model: str) -> str:
    """The audit's summary, with the names of what is a problem; kept for the next time."""
    folder = _folder(domain)
    key = {"domain_hash": domain.hash, "model": folder_fingerprint(resolve(model))}
    kept = _kept_audit(folder)
    if key.items() <= kept.items():
        return str(kept["summary"])
    found = auditing.audit(domain, model=model)
    problems = [finding.name for finding in found.findings if finding.verdict == PROBLEM]
    named = f" ({', '.join(problems)}: python -m embkit check)" if problems else ""
    record = key | {"summary": found.summary + named, **json.loads(found.to_json())}
    write_atomic(folder / "audit.json", json.dumps(record))
    return found.summary + named


def _lora(planned: Plan, rate: float, domain: Domain) -> Scores | None:
    """The scores of LoRA; None, and a note, for a model that has no such layers."""
    from ..training.trainer import train as fit

    try:
        done = fit(planned.lora(rate), domain)
    except EmbkitError as error:
        note(f"LoRA is left out: {error}")
        return None
    return scored(done, domain)


@command(
    "train a recipe (JSON) and score it beside the model it starts from",
    "train recipe.json --domain my_folder",
    option("recipe", type=Path, help="a file that recipe.to_json() wrote"),
    more=(
        "A run that was stopped goes on from its last checkpoint. Several devices: torchrun "
        "--nproc-per-node N -m embkit train recipe.json (or accelerate launch)."
    ),
)
def train(chosen: argparse.Namespace) -> int:
    """Trains a recipe, scores it and its start, prints everything scored on the domain."""
    from ..training.trainer import train as fit

    try:
        text = chosen.recipe.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise EmbkitError(
            f"{str(chosen.recipe)!r} cannot be read: {why}",
            expected="a JSON file that recipe.to_json() wrote",
            hint='python -c "import embkit as ek; print(ek.Recipe().to_json())" > recipe.json',
        ) from error
    recipe = Recipe.from_json(text)
    domain = the_domain(chosen)
    done = fit(recipe, domain)
    if not team().first:  # launched by torchrun or accelerate: one process is enough to tell
        return OK
    scored(done, domain)
    scored(recipe.model, domain)
    return show(leaderboard(domain), chosen.json)


@command(
    "compare kinds of training data at equal cost, each with its best learning rate on dev",
    'sources --pairs 1000 --arms "human, in-batch" "human + BM25"',
    option("--arms", nargs="+", metavar="ARM", help="which (default: all there are)"),
    option("--pairs", type=int, default=2000, help="pairs of each arm, at most (2000)"),
    option("--epochs", type=int, default=1, help="passes over the pairs (1)"),
    option(
        "--rates",
        nargs="+",
        type=float,
        metavar="RATE",
        help="learning rates that dev chooses among",
    ),
    more="Leaderboard and report are left in runs/sources/.",
)
def sources(chosen: argparse.Namespace) -> int:
    """Compares kinds of training data at equal cost."""
    from ..training.experiments import SOURCES, available, equal_cost

    domain = the_domain(chosen)
    there = available(domain)
    if strange := [arm for arm in chosen.arms or () if arm not in SOURCES]:
        raise unknown("arm", strange[0], SOURCES)
    arms = {arm: SOURCES[arm] for arm in chosen.arms or there}
    if missing := [arm for arm in SOURCES if arm not in there]:
        note(f"left out, because {domain.name} has no data for them: {'; '.join(missing)}")
    recipe = Recipe(epochs=chosen.epochs, batch_size=64, max_pairs=chosen.pairs)
    found = equal_cost(recipe, domain, arms, rates=chosen.rates)
    return _compared(found, "sources", chosen.json, f"{found.pairs:,} pairs each")


@command(
    "train every approach with several seeds, each with its best learning rate on dev",
    "approaches --only contrastive corpus --seeds 42 43 44 --against contrastive",
    option("--only", nargs="+", metavar="NAME", help="which (default: all presets)"),
    option("--seeds", nargs="+", type=int, default=[42, 43, 44], metavar="SEED"),
    option("--against", default="base", metavar="NAME", help="tested against (base)"),
    option(
        "--factors",
        nargs="+",
        type=float,
        metavar="FACTOR",
        help="of a preset's learning rate, for dev to choose among (0.5 1 2)",
    ),
    option("--epochs", type=int, help="passes over the pairs (as the presets say)"),
    more="Leaderboard and report are left in runs/approaches/PROFILE/.",
)
def approaches(chosen: argparse.Namespace) -> int:
    """Compares presets, each over several seeds."""
    from ..training.experiments import approaches as compared

    domain = the_domain(chosen)
    names = chosen.only or list(PRESETS)
    if chosen.against not in ("base", "bm25", *names):
        raise unknown("approach", chosen.against, ["base", "bm25", *names])
    given = {"epochs": chosen.epochs, "factors": chosen.factors}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    found = compared(domain, names, seeds=chosen.seeds, baseline=chosen.against, **changes)
    general = {s.label: s.meta.get("general_ndcg@10") for s in found.scores.values()}
    told = "; ".join(f"{name} {value:.3f}" for name, value in general.items() if value)
    seeds = f"seeds {', '.join(map(str, chosen.seeds))}"
    probe = f"nDCG@10 on the general probe, mean over the seeds: {told}"
    return _compared(found, f"approaches/{domain.profile}", chosen.json, seeds, probe)


def _compared(found: Comparison, folder: str, as_json: bool, first: str, *more: str) -> int:
    """Saves a comparison's report and prints it, with the learning rates that dev chose."""
    where = found.report.save(paths().runs / folder)
    rates = found.frame()["learning rate"].dropna()
    told = "; ".join(f"{name} {rate:g}" for name, rate in rates.items())
    lines = [f"\n\n{first}; learning rates that dev chose: {told}", *more]
    lines.append(f"written: {where / 'leaderboard.json'} and report.html")
    return show(found.report, as_json, more="\n".join(lines))
