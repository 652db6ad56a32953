"""The same documents on two maps, before and after: what is chosen on one is chosen on both."""

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets
import jscatter
import numpy as np
import pandas as pd
import traitlets
from jscatter import Line
from matplotlib.figure import Figure

from ..plots import AMOUNTS
from ..plots.figures import LIGHT, color
from ..plots.space import REST, space_maps
from ..space.space import COLOURS, Space
from .base import Panel, refused

LISTED = 12  # documents of a selection whose texts are shown
FOUND = 5  # documents that a query is joined with
HEIGHT = 420  # pixels of a map
SHOWN = 160  # characters of a document


class LinkedMaps(Panel):
    """Two maps of one fit: hover shows a document's text, a lasso chooses on both at once.

    Hold shift and draw to choose; type a query to drop it in as a star, joined with what it finds.
    From code: ``maps.select([0, 7])``, ``maps.query = "..."``. ``space`` is from
    ``ek.space.fit_space``, ``by`` a colour of ``Space.colours``. Fails for no Space, and for a
    document or a colour (a TraitError) that there is not.
    """

    by = traitlets.Enum(COLOURS, "group", help="what the points are coloured by")
    query = traitlets.Unicode(help="dropped in as a star; empty: none")
    selection = traitlets.List(traitlets.Int(), help="numbers of the chosen documents")

    def __init__(self, space: Space, by: str = "group") -> None:
        if not isinstance(space, Space):
            raise refused("no space", kind=type(space).__name__)
        super().__init__()
        self.space, self._texts = space, list(space.domain.corpus.values())
        self.near: Sequence[Any] = ((), ())  # numbers of what the query finds on each side
        self.by, self._points = by, (space.map.before, space.map.after)
        both = np.concatenate(self._points)  # one stretch: a place on one is a place on the other
        room = np.ptp(both, axis=0) * 0.03 + 1e-9
        x, y = np.transpose([both.min(axis=0) - room, both.max(axis=0) + room]).tolist()
        self._reach = 0.012 * (x[1] - x[0])  # of a star
        self._frames = [  # the scatters read from these
            pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "text": self._texts})
            for points in self._points
        ]
        self.scatters = tuple(_scatter(frame, x, y) for frame in self._frames)
        self._colour()
        self._tell_chosen()
        self.on("by", self._colour)
        self.on("query", self._drop)
        self.on("selection", self._choose)
        picked = self.guarded(lambda change: self.select(sorted(change["new"])))
        for scatter in self.scatters:
            scatter.widget.observe(picked, "selection")
        self.children = self._parts()

    @traitlets.validate("selection")
    def _in_corpus(self, proposal: Any) -> list[int]:
        most = len(self._texts)
        if bad := [number for number in proposal["value"] if not 0 <= number < most]:
            raise refused("document", number=bad[0], most=most, last=most - 1)
        return proposal["value"]

    def select(self, numbers: Sequence[int]) -> None:
        """Chooses documents by their numbers on both maps; an empty list chooses none."""
        self.selection = [int(number) for number in numbers]

    def picture(self) -> Figure:
        return space_maps(self.space, self.by, query=self.query.strip(), selected=self.selection)

    def _parts(self) -> list[Any]:
        """What stands on the page, from top to bottom."""
        hint: Any = {"placeholder": "drop in a query", "description": "query"}
        box = ipywidgets.Text(continuous_update=False, **hint)
        look = ipywidgets.Dropdown(options=COLOURS, description="colour")
        controls = self.link(by=look, query=box)
        controls.append(self.button("choose none", lambda: self.select([])))
        sides = zip(self.space.names, self.space.map.trust, strict=True)
        told = (f"<b>{html.escape(name[:80])}</b>, trustworthiness {t:.3f}" for name, t in sides)
        heads = [ipywidgets.HTML(text, layout={"width": "50%"}) for text in told]
        together: Any = {"sync_view": True, "sync_selection": True, "sync_hover": True}
        grid = jscatter.compose(list(self.scatters), cols=2, row_height=HEIGHT, **together)
        rows = [ipywidgets.HBox(row) for row in (controls, heads)]
        return [*rows, grid, self.page, self.status]

    def _colour(self) -> None:
        self.tell()
        values: Any = self.space.colours(self.by)
        look: dict[str, Any] = {"by": self.by}
        if amounts := values.dtype.kind in "fi":
            values = values.astype(float)  # the page takes no narrower numbers
            look |= {"map": AMOUNTS, "norm": (values.min(), values.max())}
        else:
            values = pd.Categorical(values)
            tints = [LIGHT if n in REST else color(i) for i, n in enumerate(values.categories)]
            look["map"] = dict(zip(values.categories, tints, strict=True))
        for scatter, frame in zip(self.scatters, self._frames, strict=True):
            frame[self.by] = values
            scatter.color(**look)
            if amounts:
                scatter.opacity(default=0.8)
            scatter.legend(True, position="bottom-right", size="small")

    def _drop(self) -> None:
        self.tell()
        self.near = ((), ())
        lines: tuple[list[Any], list[Any]] = ([], [])
        if self.query.strip():
            places, self.near = self.space.place(self.query, FOUND)
            sides = zip(lines, places, self.near, self._points, strict=True)
            for mine, star, near, points in sides:
                mine += [Line([tuple(star.tolist()), tuple(end)]) for end in points[near].tolist()]
                mine += [Line(_star(star, self._reach), line_color="#d60036", line_width=3)]
        for scatter, mine in zip(self.scatters, lines, strict=True):
            scatter.annotations(mine)
        self._tell_chosen()

    def _choose(self) -> None:
        self.tell()
        chosen = np.array(self.selection, dtype=np.uint32)
        for scatter in self.scatters:
            if sorted(scatter.widget.selection.tolist()) != self.selection:
                scatter.selection(chosen)
        self._tell_chosen()

    def _tell_chosen(self) -> None:
        self.show("linked_maps", self.page, texts=self._texts, most=SHOWN, listed=LISTED)


def _scatter(frame: Any, x: list[float], y: list[float]) -> Any:
    """One map of a frame with ``x``, ``y`` and ``text``, that shows these stretches."""
    made = jscatter.Scatter(x="x", y="y", data=frame, height=HEIGHT)
    made.xy(x_scale=tuple(x), y_scale=tuple(y))
    made.tooltip(True, properties=[], preview="text", preview_type="text", preview_text_lines=4)
    made.size(default=float(np.clip(7 - 1.25 * np.log10(len(frame)), 1.2, 5)))
    made.axes(False)
    return made


def _star(centre: np.ndarray, reach: float) -> list[tuple[float, ...]]:
    """The outline of a five-pointed star."""
    turns = np.pi / 2 + np.arange(6) * 4 * np.pi / 5
    ends = centre + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return [tuple(end) for end in ends.tolist()]  # the page takes no numpy numbers
