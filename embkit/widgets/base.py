"""What the panels share: errors that are shown, a still picture beside the view, text as text."""

from __future__ import annotations

import base64
import contextlib
import functools
import html
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import anywidget
import ipywidgets
import traitlets
from matplotlib.figure import Figure

from ..errors import EmbkitError
from ..plots import figures as draw

PICTURE_DPI = 80  # of a still picture: a notebook with its outputs stays small
LOOK: dict[str, Any] = {"style": {"description_width": "9em"}, "layout": {"width": "46em"}}

# Text reaches a page as textContent, never as markup. Keys stop at the panel: in JupyterLab's
# command mode 1 makes a cell a heading and 0 0 restarts the kernel.
SCRIPT = """
const make = (tag, parent, attributes = {}, text = "") => {
  const node = parent.appendChild(document.createElement(tag));
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return Object.assign(node, { textContent: text });
};
const ofLab = ({ key, ctrlKey, metaKey, altKey, shiftKey }) => ctrlKey || metaKey || altKey ||
  ["Escape", "Tab"].includes(key) || (key === "Enter" && shiftKey);  // these are JupyterLab's
const follow = (model, update) => {
  update();
  model.on("change", update);
  return () => model.off("change", update);
};
"""


def not_done(error: Exception) -> str:
    """What a panel says of an error."""
    return f"Not done. {error if isinstance(error, EmbkitError) else repr(error)}"


class Page(anywidget.AnyWidget):
    """A panel with a script of its own; what goes wrong is shown in ``message``.

    A subclass gives ``_esm`` (after ``SCRIPT``), ``_css``, ``still`` and ``heard``.
    """

    error: Exception | None = None
    message = traitlets.Unicode().tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.on_msg(lambda _, content, __: self.heard(content))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """A callback's error would vanish: ``message`` shows it, ``error`` keeps it."""
        self.error = None
        try:
            yield
        except Exception as error:
            self.error = error
            self.message = not_done(error)

    def heard(self, content: Mapping[str, Any]) -> None:
        """What the page sends."""
        raise NotImplementedError

    def still(self) -> str:
        """What is shown as plain HTML, for readers without a kernel."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return data | {"text/html": self.still()}, metadata


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
        colour = "var(--jp-error-color1, #b00020)" if self.error else "inherit"
        self.status.value = (
            f"<div role='status' class='embkit-message' style='white-space:pre-wrap;"
            f"overflow-wrap:anywhere;color:{colour}'>{html.escape(change['new'])}</div>"
        )

    def fail(self, error: Exception) -> None:
        """Shows an error and what to do about it."""
        self.error = error
        self.message = ""  # the same message twice is shown twice
        self.message = not_done(error)

    def tell(self, *messages: str) -> None:
        """Shows messages that are no errors; empty ones are left out."""
        self.error = None
        self.message = " ".join(filter(None, messages))

    def guarded(self, call: Callable[..., Any]) -> Callable[..., None]:
        """The call as a callback: its errors are shown, where they would vanish."""

        @functools.wraps(call)
        def callback(*args: Any, **kwargs: Any) -> None:
            try:
                call(*args, **kwargs)
            except Exception as error:
                self.fail(error)

        return callback

    def on(self, names: str | Sequence[str], call: Callable[[], Any]) -> None:
        """Calls after a change of these traits."""
        names = [names] if isinstance(names, str) else list(names)
        self.observe(self.guarded(lambda _: call()), names)

    def link(self, **controls: Any) -> list[Any]:
        """Ties controls to the traits of their names, and names them for the page's style."""
        for name, control in controls.items():
            control.add_class(f"embkit-{name}")
            traitlets.link((self, name), (control, "value"))
        return list(controls.values())

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
        return data, {"image/png": {"alt": draw.alt_text(figure) or repr(self)}}


def _drawn(figure: Figure) -> bytes:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # an emoji that the font lacks
        return draw.png(figure, dpi=PICTURE_DPI)


def own_domain(domain: Any, *subjects: Any) -> str:
    """A warning for each run that was trained on another domain or content than this."""
    said = []
    for what in subjects:
        record = getattr(what, "record", None) or {}
        if record.get("domain_hash", domain.hash) != domain.hash:
            said.append(
                f"{what.path.name} was trained on {record.get('domain')!r}, not on this "
                f"{domain.name!r} ({domain.profile})."
            )
    return " ".join(said)
