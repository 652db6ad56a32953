"""What the panels share: errors that are shown, what is still seen without a kernel, tables."""

import base64
import contextlib
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import numpy as np
import traitlets
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ..display import as_html
from ..errors import EmbkitError, refusals
from ..plots import figures as draw

refused = refusals(__file__)
PICTURE_DPI = 80  # of a still picture: a notebook with its outputs stays small
SVG_DASHES = ("none", "6 3", "6 3 2 3", "2 3")  # of a sketch's lines, as ``draw.DASHES``
Names = tuple[str, str]  # what two models are called
Search = Callable[[list[str], int], tuple[np.ndarray, np.ndarray]]
LOOK: dict[str, Any] = {"style": {"description_width": "9em"}, "layout": {"width": "46em"}}
PAGES = Path(__file__).parent / "pages"


def page(name: str) -> tuple[str, str]:
    """A page's script, after what all pages share, and its style."""
    parts = ("page.js", f"{name}.js", f"{name}.css")
    shared, script, style = ((PAGES / part).read_text(encoding="utf-8") for part in parts)
    return shared + script, style


class Told:
    """A callback's error would vanish: ``message`` shows it, ``error`` keeps it."""

    message: Any
    error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Shows an error and what to do about it."""
        self.error = error
        self.message = ""  # the same message twice is shown twice
        self.message = f"Not done. {error if isinstance(error, EmbkitError) else repr(error)}"

    def tell(self, *messages: str) -> None:
        """Shows messages that are no errors; empty ones are left out."""
        self.error = None
        self.message = " ".join(filter(None, messages))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Errors inside are shown."""
        try:
            yield
        except Exception as error:
            self.fail(error)

    def guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call as a callback whose errors are shown."""
        return self.told()(call)


class Page(Told, anywidget.AnyWidget):
    """A panel with a script of its own: ``_esm`` and ``_css``, of ``page``."""

    message = traitlets.Unicode().tag(sync=True)
    heard: Callable[[Any], None]  # takes what the page sends

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.on_msg(self.guarded(lambda _, content, __: self.heard(content)))

    def still(self) -> str:
        """What is shown as plain HTML, for readers without a kernel: the class's own template."""
        return as_html(f"widgets/pages/{type(self).__name__.lower()}.jinja", panel=self)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return data | {"text/html": self.still()}, metadata


class Panel(Told, ipywidgets.VBox):
    """A box of controls whose callbacks cannot fail unseen.

    For readers without a kernel the output holds, beside the view, a PNG of ``picture()``; or,
    of a panel that has none, ``still()``: what it is set to, and the HTML that it shows. A subclass
    gives its controls to ``children``, and puts ``self.status`` among them.
    """

    message = traitlets.Unicode(help="what the panel has to say: an error, or what to do next")

    def __init__(self, **kwargs: Any) -> None:
        self.status, self.page = ipywidgets.HTML(), ipywidgets.HTML()  # messages; what it shows
        super().__init__(**kwargs)
        self.add_class("embkit-panel")
        self.layout.padding = "8px"

    @traitlets.observe("message")
    def _show_message(self, change: Any) -> None:
        colour = "var(--jp-error-color1, #b00020)" if self.error else "inherit"
        self.status.value = (
            f"<div role='status' class='embkit-message' style='white-space:pre-wrap;"
            f"overflow-wrap:anywhere;color:{colour}'>{html.escape(change['new'])}</div>"
        )

    def on(self, names: str | Sequence[str], call: Callable[[], Any]) -> None:
        """Calls after a change of these traits."""
        self.observe(self.guarded(lambda _: call()), names)

    def link(self, **controls: Any) -> list[Any]:
        """Ties controls to the traits of their names, and names them for the page's style."""
        for name, control in controls.items():
            control.add_class(f"embkit-{name}")
            traitlets.link((self, name), (control, "value"))
        return list(controls.values())

    def button(self, text: str, call: Callable[[], Any], **look: Any) -> ipywidgets.Button:
        """A button that calls."""
        made = ipywidgets.Button(description=text, **look)
        made.add_class(f"embkit-{text.lower().replace(' ', '-')}")
        made.on_click(self.guarded(lambda _: call()))
        return made

    def show(self, template: str, place: ipywidgets.HTML, **values: Any) -> None:
        """Shows a template of ``pages`` in a place of the panel; it reads the panel and values."""
        place.value = as_html(f"widgets/pages/{template}.jinja", panel=self, **values)

    def picture(self) -> Figure | None:
        """What a panel of curves or maps shows, as a figure."""
        return None

    def title(self) -> str:
        """What the controls are set to."""
        return repr(self).partition("(")[2].removesuffix(")")

    def still(self) -> str:
        """``title()`` and what the panel shows, as HTML."""
        parts = (part.value for part in self.children if isinstance(part, ipywidgets.HTML))
        return f"<p><b>{html.escape(self.title())}</b></p>{''.join(parts)}"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = super()._repr_mimebundle_(**kwargs) or {}
        try:
            figure = self.picture()
            if figure is None:
                return data | {"text/html": self.still()}, {}
            png = base64.b64encode(draw.png(figure, PICTURE_DPI)).decode()
        except Exception as error:  # the view is more than its picture
            self.fail(error)
            return data, {}
        about = {"image/png": {"alt": draw.alt_text(figure) or repr(self)}}
        return {**data, "image/png": png}, about


def own_domain(domain: Any, *subjects: Any) -> str:
    """A warning for each run that was trained on another domain or content than this."""
    records = ((what, getattr(what, "record", None) or {}) for what in subjects)
    return " ".join(
        f"{what.path.name} was trained on {record.get('domain')!r}, not on this {domain.name!r} "
        f"({domain.profile})."
        for what, record in records
        if record.get("domain_hash", domain.hash) != domain.hash
    )


def stood(rank: int | None, ranked: int = 0) -> str:
    """A rank in words, of a list that was cut after so many documents, if it was."""
    if rank is not None:
        return f"rank {rank:,}"
    return f"rank beyond {ranked}" if ranked else "not found"


def sketch(
    label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    mark: float | None = None,
    logx: bool = False,
    width: int = 260,
    height: int = 90,
) -> dict[str, Any]:
    """Lines as a template draws them within a millisecond: for what follows a slider or a training.

    Args:
        label: what is shown; above the lines, with the range of their values.
        series: name -> (x, y) points; an empty name is not written.
        mark: an x at which a line stands.
        logx: whether x is spaced by its logarithm.
    """
    scale: Callable[[float], float] = np.log if logx else float
    xs, ys = zip(*(point for points in series.values() for point in points), strict=True)
    left, low = scale(min(xs)), min(ys)
    across, up = max(scale(max(xs)) - left, 1e-12), max(max(ys) - low, 1e-12)
    looks = draw.numbers([*series]).values()

    def at(x: float, y: float) -> str:
        right, above = (scale(x) - left) / across, (y - low) / up
        return f"{4 + right * (width - 8):.1f},{height - 4 - above * (height - 8):.1f}"

    return {
        "label": f"{label} ({low:.4g} to {max(ys):.4g})",
        "width": width,
        "height": height,
        "mark": None if mark is None else at(mark, low).split(",")[0],
        "series": [
            {"name": name, "path": " ".join(at(*point) for point in points)}
            | {"colour": to_hex(draw.color(number)), "dashes": SVG_DASHES[number % 4]}
            for number, (name, points) in zip(looks, series.items(), strict=True)
        ],
    }
