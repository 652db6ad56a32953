"""The small table that runs, heads and counts show themselves with: a name and a value a row."""

from __future__ import annotations

import html
from collections.abc import Mapping


def facts(rows: Mapping[str, str], caption: str = "") -> str:
    """An HTML table of names and values, all of it escaped.

    Args:
        rows: name -> value, as text.
        caption: above them; none if empty.

    Example:
        >>> facts({"seconds": "3"})
        "<table><tr><td style='text-align:left'>seconds</td><td>3</td></tr></table>"
    """
    head = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    cells = "".join(
        f"<tr><td style='text-align:left'>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>"
        for k, v in rows.items()
    )
    return f"<table>{head}{cells}</table>"
