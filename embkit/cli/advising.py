"""advise: should this domain be fine-tuned at all, and how far can the advice be trusted."""

from __future__ import annotations

import argparse
from typing import Any

from .terminal import OK, Commands, as_json, command, note, say, the_domain


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(
        commands,
        advise,
        "say whether to fine-tune: evidence, a learning curve from small runs, rules, a verdict",
        "advise my_folder --target 0.7",
        "Only train and dev are read. Small runs are kept: the same command again takes seconds.",
        domain="domain",
    )
    parser.add_argument("--model", default="minilm", help="the general model (minilm)")
    parser.add_argument("--target", type=float, help="nDCG@10 that would do, 0 to 1")
    parser.add_argument("--query-ms", type=float, help="milliseconds that a query may take")
    parser.add_argument("--index-mb", type=float, help="megabytes that all vectors may take")
    parser.add_argument("--rules", action="store_true", help="print the table of rules, and end")
    parser.add_argument(
        "--check",
        type=int,
        metavar="N",
        help="train on all pairs, too, and see how often N small resamplings predict that run",
    )


def advise(chosen: argparse.Namespace) -> int:
    """Prints the advice, and its check if it is asked for."""
    from ..advice.advise import advise as advised
    from ..advice.check import validate_curve
    from ..advice.rules import advice_rules

    if chosen.rules:
        rules = advice_rules().reset_index().to_dict("records")
        if chosen.json:
            as_json(rules)
        for row in () if chosen.json else rules:
            say(f"{row['rule']}: {row['when']} -> {row['then']}  ({row['source']})")
        return OK
    domain = the_domain(chosen)
    limits = {"target": chosen.target, "query_ms": chosen.query_ms, "index_mb": chosen.index_mb}
    found = advised(domain, chosen.model, **limits)
    checked = None
    if chosen.check:
        note(f"checking the curve: {chosen.check} resamplings against the run on all pairs")
        checked = validate_curve(domain, chosen.model, resamplings=chosen.check)
    if chosen.json:
        told: dict[str, Any] = found.to_dict()
        as_json(told | ({"check": checked.to_dict()} if checked else {}))
        return OK
    say(f"{domain!r}\n\n{found.evidence!r}\n\n{found!r}")
    if checked:
        say(f"\n{checked!r}")
    return OK
