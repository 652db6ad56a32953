"""run, train, sources: what trains."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EmbkitError, unknown
from .results import show
from .terminal import OK, as_json, command, note, option, say, scored, the_domain

if TYPE_CHECKING:
    from ..data import Domain
    from ..evaluation.scores import Scores
    from ..training.experiments import Comparison
    from .planning import Plan


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
    from ..evaluation.scores import compare
    from ..evaluation.verdict import verdict
    from ..session import quiet
    from ..training.trainer import train as fit
    from ..training.trials import tune
    from .planning import plan

    started = time.perf_counter()
    tell = note if chosen.json else say
    quiet()
    domain = the_domain(chosen)
    tell(f"{domain!r}")
    if domain.report:
        tell(f"read: {'; '.join(domain.report.splits)}; put aside: {domain.report.put_aside}")
    options = {"epochs": chosen.epochs, "max_length": chosen.max_length}
    options |= {"max_pairs": chosen.pairs, "quick": chosen.quick}
    planned = plan(domain, chosen.model, **options)
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
    report = compare(scores, "base")
    found = verdict(scores)
    folder = report.save(_folder(domain))
    minutes = (time.perf_counter() - started) / 60
    if chosen.json:
        result: dict[str, Any] = {"audit": summary, "plan": str(planned), "folder": str(folder)}
        result |= {"verdict": found.to_dict(), "leaderboard": report.rows, "minutes": minutes}
        as_json(result)
        return OK
    say()
    show(report, False, found)
    say(f"\nwritten: {folder / 'leaderboard.json'} and report.html; {minutes:.1f} minutes")
    return OK


def _folder(domain: Domain) -> Path:
    """runs/NAME, or runs/NAME-HASH where a domain of that name and other content came first."""
    from ..session import paths

    folder = paths().runs / domain.name
    try:
        first = json.loads((folder / "audit.json").read_text(encoding="utf-8"))["domain_hash"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder
    return folder if first == domain.hash else folder.with_name(f"{folder.name}-{domain.hash[:8]}")


def _audited(domain: Domain, model: str) -> str:
    """The audit's summary, with the names of what is a problem; kept for the next time."""
    from ..assets.catalogue import folder_fingerprint, resolve
    from ..auditing import audit
    from ..auditing.base import PROBLEM
    from ..files import write_atomic

    kept = _folder(domain) / "audit.json"
    key = {"domain_hash": domain.hash, "model": folder_fingerprint(resolve(model))}
    try:
        record = json.loads(kept.read_text(encoding="utf-8"))
        if key.items() <= record.items():
            return str(record["summary"])
    except (OSError, ValueError, KeyError, AttributeError):
        pass  # not there, or cut off: done anew
    found = audit(domain, model=model)
    problems = [finding.name for finding in found.findings if finding.verdict == PROBLEM]
    named = f" ({', '.join(problems)}: python -m embkit check)" if problems else ""
    summary = found.summary + named
    write_atomic(kept, json.dumps(key | {"summary": summary, **json.loads(found.to_json())}))
    return summary


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
    from ..distributed import team
    from ..evaluation.ranking import leaderboard
    from ..recipes.recipe import Recipe
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
    show(leaderboard(domain), chosen.json)
    return OK


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
    from ..recipes.recipe import Recipe
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
    from ..recipes.presets import PRESETS
    from ..training.experiments import approaches as compared

    domain = the_domain(chosen)
    names = chosen.only or list(PRESETS)
    if chosen.against not in ("base", "bm25", *names):
        raise unknown("approach", chosen.against, ["base", "bm25", *names])
    changes: dict[str, Any] = {} if chosen.epochs is None else {"epochs": chosen.epochs}
    if chosen.factors is not None:
        changes["factors"] = chosen.factors
    found = compared(domain, names, seeds=chosen.seeds, baseline=chosen.against, **changes)
    general = {s.label: s.meta.get("general_ndcg@10") for s in found.scores.values()}
    told = "; ".join(f"{name} {value:.3f}" for name, value in general.items() if value)
    seeds = f"seeds {', '.join(map(str, chosen.seeds))}"
    probe = f"nDCG@10 on the general probe, mean over the seeds: {told}"
    return _compared(found, f"approaches/{domain.profile}", chosen.json, seeds, probe)


def _compared(found: Comparison, folder: str, json: bool, first: str, *more: str) -> int:
    """Saves a comparison's report and prints it, with the learning rates that dev chose."""
    from ..session import paths

    where = found.report.save(paths().runs / folder)
    show(found.report, json)
    if not json:
        rates = found.frame()["learning rate"].dropna()
        told = "; ".join(f"{name} {rate:g}" for name, rate in rates.items())
        say(f"\n{first}; learning rates that dev chose: {told}")
        for line in (*more, f"written: {where / 'leaderboard.json'} and report.html"):
            say(line)
    return OK
