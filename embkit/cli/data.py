"""check, export, generate, card, advise: what is done with a domain before it is trained on."""

import argparse
import json
from typing import Any

from .. import auditing
from ..advice import advise as advice
from ..auditing.base import PROBLEM, TEXTS
from ..data import SOURCES
from ..errors import EmbkitError
from ..export import cards
from ..export import export as out
from ..files import write_atomic
from ..session import paths
from ..synthetic import sets
from . import subjects
from . import terminal as shell
from .terminal import FOUND, OK


def check(chosen: argparse.Namespace) -> int:
    domain = subjects.the_domain(chosen)
    if chosen.model and len(domain.corpus) <= TEXTS:  # of a larger one the audit reads a part
        subjects.encoded(chosen.model, list(domain.corpus.values()))
    found = auditing.audit(domain, model=chosen.model)
    read = dict(domain.report.facts()) if domain.report else {}
    told = f"{domain.report!r}\n\n" if domain.report else ""
    shell.answer(chosen.json, {"read": read, **json.loads(found.to_json())}, told + found.to_text())
    return FOUND if found.verdict == PROBLEM else OK


def export(chosen: argparse.Namespace) -> int:
    domain, target = subjects.the_domain(chosen), chosen.target
    if chosen.what == "beir":
        return shell.say(f"written: {out.to_beir(domain, target, replace=chosen.replace)}")
    scores = chosen.what == "scores"  # of whatever can be scored
    if scores and target.exists() and not chosen.replace:
        expected, hint = "a name that nobody has taken", "another name, or --replace"
        raise EmbkitError(f"{target} is there", expected=expected, hint=hint)
    found = subjects.subject if scores and chosen.run else subjects.run_or_best
    what: Any = found(domain, chosen.run)
    if what is None:
        told = f"nothing has been trained on {domain.name!r} yet"
        hint = f"python -m embkit run {domain.name}"
        raise EmbkitError(told, expected="a finished run", hint=hint)
    if scores:
        return shell.say(f"written: {subjects.scored(what, domain).save(target)}")
    return shell.say(f"written: {out.export_model(what, target, replace=chosen.replace)}")


def generate(chosen: argparse.Namespace) -> int:
    backend = subjects.the_writer(chosen.model, chosen.endpoint)
    handed = ("limit", "seed", "name", "per_document", "budget")
    options = {name: getattr(chosen, name) for name in handed}
    where, filtered = sets.make_set(subjects.the_domain(chosen), backend, **options)
    shell.say(filtered)
    return shell.say(f"written: {where}, and its card {where.with_suffix('.md').name}")


def card(chosen: argparse.Namespace) -> int:
    own = chosen.domain not in SOURCES
    text = cards.card(subjects.the_domain(chosen) if own else chosen.domain)
    target = chosen.to or (None if own else paths().written / chosen.domain / "README.md")
    if target is None:
        return shell.say(text)
    return shell.note(f"written: {write_atomic(target, text)}")


def advise(chosen: argparse.Namespace) -> int:
    if chosen.rules:
        rules = advice.advice_rules().reset_index().to_dict("records")
        lines = (f"{r['rule']}: {r['when']} -> {r['then']}  ({r['source']})" for r in rules)
        return shell.answer(chosen.json, rules, "\n".join(lines))
    domain = subjects.the_domain(chosen)
    options = {"target": chosen.target, "minutes": chosen.minutes}
    found = advice.advise(domain, chosen.model, told=shell.note, **options)
    text = f"{domain!r}\n\n{found.evidence!r}\n\n{found!r}"
    return shell.answer(chosen.json, found.to_dict(), text)
