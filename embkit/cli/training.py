"""run, train, approaches: what trains."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import auditing, training
from ..assets import catalogue
from ..auditing.base import PROBLEM
from ..data import Domain
from ..distributed import team
from ..errors import EmbkitError, unknown
from ..evaluation.comparison import compare
from ..evaluation.kept import keep
from ..evaluation.ranking import leaderboard
from ..evaluation.scores import Scores
from ..evaluation.verdict import verdict
from ..files import read_json, write_atomic
from ..recipes.presets import PRESETS
from ..recipes.recipe import Recipe
from ..search.hybrid import Fusion
from ..session import paths, quiet
from .planning import Plan, plan
from .results import show
from .terminal import OK, WORDS, answer, note, say, scored, the_domain


def run(chosen: argparse.Namespace) -> int:
    started, tell = time.perf_counter(), note if chosen.json else say
    quiet()
    domain = the_domain(chosen)
    tell(f"{domain!r}")
    if domain.report:
        tell(f"read: {'; '.join(domain.report.splits)}; put aside: {domain.report.put_aside}")
    options = {"epochs": chosen.epochs, "max_length": chosen.max_length, "quick": chosen.quick}
    planned = plan(domain, chosen.model, max_pairs=chosen.pairs, **options)
    scores = _untrained(domain, chosen.model, tell)
    summary = _audited(domain, chosen.model)
    tell(f"audit: {summary}")
    if planned.unread:
        tell(f"window: {planned.unread}")
    tell(f"plan: {planned}")
    rate = planned.rates[0]
    if len(planned.rates) > 1:
        tried = training.trials.tune(planned.trial, domain, learning_rate=planned.rates)
        rate = tried.best.learning_rate
    done = training.trainer.train(planned.contrastive.replace(learning_rate=rate), domain)
    lora = _lora(planned, rate, domain)
    scores += [scored(done, domain), *([lora] if lora else [])]
    report, found = compare(scores, "base"), verdict(scores)
    folder = report.save(_kept(domain)[0])
    minutes = (time.perf_counter() - started) / 60
    result: dict[str, Any] = {"audit": summary, "plan": str(planned), "folder": str(folder)}
    result |= {"verdict": found.to_dict(), "leaderboard": report.rows, "minutes": minutes}
    written = f"written: {folder / 'leaderboard.json'} and report.html; {minutes:.1f} minutes"
    told = f"\n{report.to_text()}\n\nverdict: {found}\n\n{written}"
    return answer(chosen.json, result, told)


def _untrained(domain: Domain, model: str, tell: Callable[[object], int]) -> list[Scores]:
    """What costs no training: word search, the model, both fused, a better general model."""
    scores = [scored("bm25", domain), scored(model, domain)]
    scores.append(scored(Fusion(model), domain, "hybrid"))
    if model != catalogue.ALTERNATIVE:
        if catalogue.is_here(catalogue.ALTERNATIVE):
            scores.append(scored(catalogue.ALTERNATIVE, domain, catalogue.UNTRAINED))
        else:
            tell(catalogue.NOT_HERE)
    return scores


def _kept(domain: Domain) -> tuple[Path, dict[str, Any]]:
    """runs/NAME (NAME-HASH, if other content of that name came first), and the audit kept there."""
    for name in (domain.name, f"{domain.name}-{domain.hash[:8]}"):
        folder = paths().runs / name
        kept = read_json(folder / "audit.json")
        if kept.get("domain_hash", domain.hash) == domain.hash:
            break
    return folder, kept


def _audited(domain: Domain, model: str) -> str:
    """The audit's summary, with the names of what is a problem; kept for the next time."""
    folder, kept = _kept(domain)
    weights = catalogue.folder_fingerprint(catalogue.resolve(model))
    key = {"domain_hash": domain.hash, "model": weights}
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
    try:
        done = training.trainer.train(planned.lora(rate), domain)
    except EmbkitError as error:
        note(f"LoRA is left out: {error}")
        return None
    return scored(done, domain)


def train(chosen: argparse.Namespace) -> int:
    try:
        text = chosen.recipe.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise EmbkitError(
            f"{str(chosen.recipe)!r} cannot be read: {why}",
            expected="a JSON file that recipe.to_json() wrote",
            hint='python -c "import embkit as ek; print(ek.Recipe().to_json())" > recipe.json',
        ) from error
    recipe, domain = Recipe.from_json(text), the_domain(chosen)
    done = training.trainer.train(recipe, domain)
    if not team().first:  # launched by torchrun or accelerate: one process is enough to tell
        return OK
    scored(done, domain)
    scored(recipe.model, domain)
    return show(leaderboard(domain), chosen.json)


def approaches(chosen: argparse.Namespace) -> int:
    domain, names = the_domain(chosen), chosen.only or list(PRESETS)
    known = ("base", *WORDS, catalogue.UNTRAINED, *names)
    if chosen.against not in known:
        raise unknown("approach", chosen.against, known)
    given = {"epochs": chosen.epochs, "factors": chosen.factors}
    given = {name: value for name, value in given.items() if value is not None}
    options = {"seeds": chosen.seeds, "baseline": chosen.against, **given}
    found = training.experiments.approaches(domain, names, **options)
    for name, one in found.scores.items() if chosen.keep else ():
        sweep = found.sweeps.get(name)
        keep(one, domain, json.loads(sweep.best.to_json()) if sweep else None)
    general = {s.label: s.meta.get("general_ndcg@10") for s in found.scores.values()}
    told = "; ".join(f"{name} {value:.3f}" for name, value in general.items() if value)
    where = found.report.save(paths().runs / "approaches" / domain.profile)
    rates = found.frame()["learning rate"].dropna()
    chose = "; ".join(f"{name} {rate:g}" for name, rate in rates.items())
    seeds = ", ".join(map(str, chosen.seeds))
    more = f"\n\nseeds {seeds}; learning rates that dev chose: {chose}\n"
    more += f"nDCG@10 on the general probe, mean over the seeds: {told}\n"
    more += f"written: {where / 'leaderboard.json'} and report.html"
    return show(found.report, chosen.json, more=more)
