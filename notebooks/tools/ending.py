"""The last lines of ``make run``: what was tried, what is best, what it costs, the verdict."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from embkit.display import WIDTH, Table, some_of
from embkit.evaluation.report import Report, base_of, with_interval
from embkit.evaluation.verdict import verdict

LINES = 20  # of the ending; the verdict has what the rest leaves
MINUTE, MB = 60, 1e6


def ending(
    report: Report, course: Path, page: Path, seconds: float | None = None, jobs: int = 1
) -> str:
    """At most 20 lines of at most 100 characters about everything that was evaluated.

    Args:
        report: of ``leaderboard``, with its scores.
        course: the page that links the executed notebooks; ``page``: the report's.
        seconds: what the notebooks took this time, so many (``jobs``) side by side.
    """
    by = {one.label: one for one in report.scores}
    rows: dict[str, Any] = {}  # label -> its first row, which has what is not of a split
    for row in report.rows:
        rows.setdefault(row["label"], row)
    base = str(report.baseline)
    # what is made of trained models has no parameters of its own that are known to be trained
    trained = {label: row for label, row in rows.items() if row["trainable_params"] != 0}
    free = {label: row for label, row in rows.items() if label not in trained}
    best, other = _highest(trained), _highest(free)

    # what was tried, and what it cost
    tried = f"{some_of(len(rows), 'approach', 'approaches')}: {len(rows) - len(trained)} without "
    tried += f"training, {len(trained)} trained"
    spent = sum((row["train_seconds"] or 0) * row["seeds"] for row in trained.values())
    cost = f"{_time(spent)} of training in all"
    cost += f"; the notebooks took {_time(seconds)} this time" if seconds else ""
    cost += f", {jobs} at a time" if seconds and jobs > 1 else ""
    told = {"tried": tried, "cost": cost}
    if best:
        told["best on dev"] = f"{best} ({_dev(rows[best])})"
        told |= {"its cost": price} if (price := _cost(rows[best])) else {}
    if other:
        told["untrained"] = (
            f"{other} ({_dev(rows[other])}) is the best on dev of what needs no training"
        )
    lines = [_folded(f"{name}:".ljust(13), text, 2) for name, text in told.items()]

    # the best on each test, against the base and against what needs no training
    if best:
        head = ["test", "queries", "nDCG@10 [95%]", f"against {base}", "against untrained"]
        own = other is None or base in (other, rows[other]["approach"])  # one column is enough
        one, rest = by[best], [] if own else [by[other or ""]]
        rivals = [base_of(one, report.scores, base), *rest]
        cells = []
        for split, frame in one.per_query.items():
            tests = (one.test(rival, split) for rival in rivals)
            gains = [(t.delta, t.estimate.within(-1.0, 1.0)) for t in tests]
            told_ = [with_interval(delta, interval, "+.3f") for delta, interval in gains]
            score = with_interval(one.mean(split), one.ci(split), ".3f")
            cells.append([split, f"{len(frame):,}", score, *told_])
        lines += ["", Table(head[: 4 + len(rest)], cells).to_text()]
    room = max(1, LINES - "\n".join(lines).count("\n") - 5)
    lines += ["", _folded("verdict:".ljust(13), str(verdict(report)), room)]
    lines += ["", f"report:      {page}", f"course:      {course}"]
    return "\n".join(lines)


def _highest(rows: dict[str, Any]) -> str | None:
    """The label of what has the highest dev; none where dev has scored none."""
    known = {label: row["dev"] for label, row in rows.items() if row["dev"] is not None}
    return max(known, key=known.__getitem__, default=None)


def _time(seconds: float) -> str:
    return f"{seconds / MINUTE:.0f} min" if seconds >= 2 * MINUTE else f"{seconds:.0f} s"


def _dev(row: dict[str, Any]) -> str:
    return f"nDCG@10 {row['dev']:.3f} on dev"


def _cost(row: dict[str, Any]) -> str:
    told = [f"{_time(row['train_seconds'])} of training"] if row["train_seconds"] else []
    if row["peak_memory_mb"]:
        told.append(f"{row['peak_memory_mb'] / 1e3:.1f} GB of memory")
    if row["trainable_params"]:
        told.append(f"{row['trainable_params'] / MB:.1f}M trained parameters")
    if row["bytes_per_embedding"]:
        told.append(f"{row['bytes_per_embedding']:,} bytes a document")
    return ", ".join(told)


def _folded(name: str, text: str, most: int) -> str:
    """A name and a text on so many lines at most, the rest is in the report."""
    lines = textwrap.wrap(text, WIDTH - len(name))
    if len(lines) > most:
        lines = lines[:most]
        lines[-1] = lines[-1][: WIDTH - len(name) - 2].rstrip() + " …"
    return name + f"\n{' ' * len(name)}".join(lines)
