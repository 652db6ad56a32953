"""run, start, train, approaches: what trains."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import auditing, training
from ..advice import starting
from ..advice.advise import advise
from ..assets import catalogue
from ..auditing.base import PROBLEM
from ..data import Domain
from ..distributed import team
from ..errors import EmbkitError, unknown
from ..evaluation.kept import keep
from ..evaluation.ranking import leaderboard
from ..evaluation.report import Report, compare
from ..evaluation.scores import Scores
from ..evaluation.verdict import verdict
from ..files import read_json, readable, write_atomic
from ..recipes.recipe import PRESETS, Recipe
from ..runs import Run
from ..search.hybrid import Fusion
from ..search.passages import Passages
from ..session import paths, quiet
from .planning import Plan, plan
from .results import show
from .subjects import WORDS, scored, the_domain, the_writer
from .terminal import OK, answer, note, say


def run(chosen: argparse.Namespace) -> int:
    started, tell = time.perf_counter(), note if chosen.json else say
    quiet()
    domain = the_domain(chosen)
    tell(f"{domain!r}")
    if domain.report:
        tell(f"read: {'; '.join(domain.report.splits)}; put aside: {domain.report.put_aside}")
    options = {"epochs": chosen.epochs, "max_length": chosen.max_length, "quick": chosen.quick}
    options["passages"] = chosen.passages
    planned = plan(domain, chosen.model, max_pairs=chosen.pairs, **options)
    scores, summary, _ = _scored(planned, domain, tell, _kept(domain))
    report, found = compare(scores, "base"), verdict(scores)
    folder = report.save(_kept(domain), domain)
    result = {"audit": summary, "plan": str(planned), "folder": str(folder)}
    told = f"verdict: {found}\n\nwritten: {folder / 'leaderboard.json'} and report.html"
    return _done(chosen.json, started, report, told, result | {"verdict": asdict(found)})


def _done(as_json: bool, started: float, report: Report, said: str, result: dict[str, Any]) -> int:
    """Writes what a command has found: the report, what is said of it, how long it took."""
    minutes = (time.perf_counter() - started) / 60
    told = f"\n{report.to_text()}\n\n{said}; {minutes:.1f} minutes"
    return answer(as_json, result | {"leaderboard": report.rows, "minutes": minutes}, told)


def start(chosen: argparse.Namespace) -> int:
    began = time.perf_counter()

    def tell(text: object) -> None:
        (note if chosen.json else say)(f"[{(time.perf_counter() - began) / 60:.1f} min] {text}")

    quiet()
    made = starting.start(
        chosen.folder,
        model=chosen.model,
        writer=the_writer(chosen.writer, chosen.endpoint),
        queries=chosen.queries,
        size=chosen.passages,
        alone=chosen.yes,
        told=tell,
    )
    result: dict[str, Any] = {"folder": str(made.folder), "ready": made.ready, "people": made.proof}
    if not made.ready:
        return answer(chosen.json, result, f"\n{made.proof}.")
    domain = made.domain
    tell(f"{made.proof}. {domain!r}")
    advice = advise(domain, chosen.model, minutes=2.0, quiet=True)
    tell(f"advice: {advice!r}")
    planned = plan(domain, chosen.model, passages=chosen.passages, if_long=True)
    if advice.approach is None or "hard" not in advice.approach:  # nothing says that they help
        plain = planned.contrastive.replace(hard_negatives=0, relative_margin=None)
        planned = replace(planned, contrastive=plain)
    scores, summary, trained = _scored(planned, domain, tell, made.folder, full=False)
    report = compare(scores, "base")
    report.save(made.folder, domain)
    verdicts = {split: verdict(_of(split, scores)) for split in domain.test_splits}
    by = {"confirmed": "by people", "written": "by the model, seen by nobody"}
    said = "\n".join(f"verdict on {s} ({by.get(s, s)}): {v}" for s, v in verdicts.items())
    result |= {"audit": summary, "advice": advice.answer, "plan": str(planned)}
    result |= {"verdicts": {split: asdict(found) for split, found in verdicts.items()}}
    result["model"] = str(trained.path / "model")
    said += (
        f"\n\n{made.proof}.\ntrained: {result['model']}\nwritten: {made.folder}, with report.html"
    )
    return _done(chosen.json, began, report, said, result)


def _of(split: str, scores: Sequence[Scores]) -> list[Scores]:
    """The scores on one test alone."""
    return [replace(s, per_query={split: s.per_query[split]}, subsets={}) for s in scores]


def _scored(
    planned: Plan,
    domain: Domain,
    tell: Callable[[object], Any],
    folder: Path,
    full: bool = True,
) -> tuple[list[Scores], str, Run]:
    """The scores of what needs no training, and of what is trained at the rate that dev chooses;
    the audit's summary, which is kept in a folder; and the run. ``full``: also those of another
    general model, and of LoRA."""
    recipe = planned.contrastive
    scores = _untrained(domain, recipe.model, tell, recipe.passage_size, full)
    summary = _audited(domain, recipe.model, folder)
    tell(f"audit: {summary}")
    if planned.unread:
        tell(f"window: {planned.unread}; --passages 128 cuts long documents")
    tell(f"plan: {planned}")
    rate = planned.rates[0]
    if len(planned.rates) > 1:
        tried = training.experiments.tune(planned.trial, domain, learning_rate=planned.rates)
        rate = tried.best.learning_rate
    done = training.trainer.train(planned.contrastive.replace(learning_rate=rate), domain)
    scores.append(scored(done, domain))
    if full and (beside := _lora(planned, rate, domain)):
        scores.append(beside)
    return scores, summary, done


def _untrained(
    domain: Domain,
    model: str,
    tell: Callable[[object], Any],
    size: int | None = None,
    full: bool = True,
) -> list[Scores]:
    """What costs no training: word search, the model (on passages of a size, too), words and model
    fused; with ``full`` a better general model."""
    scores = [scored("bm25", domain), scored(model, domain)]
    searched: Any = Passages(model, size) if size else model
    if size:
        scores.append(scored(searched, domain))
    scores.append(scored(Fusion(searched), domain, "hybrid"))
    if full and model != catalogue.ALTERNATIVE:
        if catalogue.is_here(catalogue.ALTERNATIVE):
            scores.append(scored(catalogue.ALTERNATIVE, domain, catalogue.UNTRAINED))
        else:
            tell(catalogue.NOT_HERE)
    return scores


def _kept(domain: Domain) -> Path:
    """runs/NAME (NAME-HASH, if other content of that name came first), where an audit is kept."""
    for name in (domain.name, f"{domain.name}-{domain.hash[:8]}"):
        folder = paths().runs / name
        kept = read_json(folder / "audit.json")
        if kept.get("domain_hash", domain.hash) == domain.hash:
            break
    return folder


def _audited(domain: Domain, model: str, folder: Path) -> str:
    """The audit's summary, with the names of what is a problem; kept for the next time."""
    kept = read_json(folder / "audit.json")
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
    hint = 'python -c "import embkit as ek; print(ek.Recipe().to_json())" > recipe.json'
    with readable(chosen.recipe, OSError, UnicodeDecodeError, hint=hint):
        text = chosen.recipe.read_text(encoding="utf-8")
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
    where = found.report.save(paths().runs / "approaches" / domain.profile, domain)
    rates = found.frame()["learning rate"].dropna()
    chose = "; ".join(f"{name} {rate:g}" for name, rate in rates.items())
    seeds = ", ".join(map(str, chosen.seeds))
    more = f"\n\nseeds {seeds}; learning rates that dev chose: {chose}\n"
    more += f"nDCG@10 on the general probe, mean over the seeds: {told}\n"
    more += f"written: {where / 'leaderboard.json'} and report.html"
    return show(found.report, chosen.json, more=more)
