"""What the panels share: errors that are shown, a still picture beside the view, text as text."""

from __future__ import annotations

import base64
import functools
import html
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import traitlets
from matplotlib.figure import Figure

from ..errors import EmbkitError
from ..plots.figures import _figure, _plain, _short, alt, alt_text, png, style

PICTURE_DPI = 80  # of a still picture: a notebook with its outputs stays small
UNBROKEN = 14  # letters of a table's cell that is never broken into lines


class Panel(ipywidgets.VBox):
    """A box of controls whose callbacks cannot fail unseen, with a picture for readers.

    What goes wrong in a callback is shown in ``message``, and kept in ``error``. Beside the view,
    the panel's output holds a PNG of ``picture()``, which GitHub and printers show. A subclass
    makes its controls, gives them to ``children``, and puts ``self.status`` among them.
    """

    message = traitlets.Unicode(help="what the panel has to say: an error, or what to do next")
    error: Exception | None = None

    def __init__(self, **kwargs: Any) -> None:
        self.status = ipywidgets.HTML()
        super().__init__(**kwargs)
        self.add_class("embkit-panel")
        self.layout.padding = "8px"

    @traitlets.observe("message")
    def _show_message(self, change: Any) -> None:
        text = html.escape(change["new"])
        colour = "var(--jp-error-color1, #b00020)" if self.error else "inherit"
        self.status.value = (
            f"<div role='status' class='embkit-message' style='white-space:pre-wrap;"
            f"overflow-wrap:anywhere;color:{colour}'>{text}</div>"
        )

    def fail(self, error: Exception) -> None:
        """Shows an error and what to do about it."""
        self.error = error
        self.message = ""  # the same message twice is shown twice
        self.message = f"Not done. {error if isinstance(error, EmbkitError) else repr(error)}"

    def tell(self, message: str) -> None:
        """Shows a message that is no error."""
        self.error = None
        self.message = message

    def guarded(self, call: Callable[..., Any]) -> Callable[..., None]:
        """The call as a callback: its errors are shown, where they would vanish."""

        @functools.wraps(call)
        def callback(*args: Any, **kwargs: Any) -> None:
            try:
                call(*args, **kwargs)
            except Exception as error:
                self.fail(error)

        return callback

    def picture(self) -> Figure:
        """What the panel shows, as a figure for readers without a kernel."""
        raise NotImplementedError

    def still(self) -> bytes:
        """``picture()`` as a PNG."""
        return _drawn(self.picture())

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = super()._repr_mimebundle_(**kwargs) or {}
        try:
            figure = self.picture()
            data = {**data, "image/png": base64.b64encode(_drawn(figure)).decode()}
        except Exception as error:  # the view is more than its picture
            self.fail(error)
            return data, {}
        return data, {"image/png": {"alt": alt_text(figure) or repr(self)}}


def _drawn(figure: Figure) -> bytes:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # an emoji that the font lacks
        return png(figure, dpi=PICTURE_DPI)


def listing(
    title: str,
    columns: Mapping[str, Sequence[tuple[str, bool]]],
    notes: str = "",
    width: float = 9.5,
) -> Figure:
    """Columns of text side by side: the still picture of lists.

    Args:
        title: above them.
        columns: heading -> rows of (text, whether it is marked, with a star and in bold).
        notes: below them, a line each.
        width: inches.
    """
    rows = max((len(column) for column in columns.values()), default=0)
    lines = notes.splitlines()
    with style():
        figure = _figure(width, 0.26 * (rows + len(lines) + 3))
        axes = figure.subplots()
        axes.set(xlim=(0, max(1, len(columns))), ylim=(rows + len(lines) + 1.6, -1.4))
        axes.axis("off")
        axes.text(0, -0.9, _plain(_short(title, 110)), weight="bold", va="center")
        most = int(width * 12.5 / max(1, len(columns)))
        for x, (heading, column) in enumerate(columns.items()):
            axes.text(x, 0.1, _plain(heading), color="#0b57a4", va="center", size=10)
            for y, (text, marked) in enumerate(column, start=1):
                shown = _plain(_short(f"★ {text}" if marked else text, most))
                axes.text(x, y, shown, weight="bold" if marked else None, va="center", size=9)
        for y, line in enumerate(lines, start=rows + 1):
            axes.text(0, y + 0.3, _plain(_short(line, 130)), va="center", size=9, color="#444444")
    said = "; ".join(
        f"{heading}: " + ", ".join(("★ " if m else "") + _short(t, 60) for t, m in column[:3])
        for heading, column in columns.items()
    )
    return alt(figure, f"{title}. {said}. {notes}".strip())


def table(head: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[int] = ()) -> str:
    """An HTML table; every cell is text. ``marked`` rows are bold; short cells stay on one line."""

    def cell(tag: str, text: str) -> str:
        kept = "white-space:nowrap" if len(str(text)) <= UNBROKEN else "overflow-wrap:anywhere"
        style = f"text-align:left;padding:2px 8px;{kept};vertical-align:top"
        return f"<{tag} style='{style}'>{html.escape(str(text))}</{tag}>"

    top = "".join(cell("th", name) for name in head)
    body = "".join(
        f"<tr{' style=font-weight:600' if number in marked else ''}>"
        + "".join(cell("td", text) for text in row)
        + "</tr>"
        for number, row in enumerate(rows)
    )
    style = "width:100%;border-collapse:collapse;line-height:1.4"
    return f"<table style='{style}'><tr>{top}</tr>{body}</table>"


def own_domain(what: Any, domain: Any) -> str:
    """A warning if a run was trained on another domain or content than this; else nothing."""
    record = getattr(what, "record", None) or {}
    if record.get("domain_hash", domain.hash) == domain.hash:
        return ""
    return (
        f"{what.path.name} was trained on {record.get('domain')!r}, not on this "
        f"{domain.name!r} ({domain.profile})."
    )
