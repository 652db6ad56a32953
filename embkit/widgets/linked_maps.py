"""The same documents on two maps, before and after: what is chosen on one is chosen on both."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import traitlets
from matplotlib.figure import Figure

from ..display import Table
from ..errors import EmbkitError, unknown
from ..plots import AMOUNTS
from ..plots.figures import LIGHT, color
from ..plots.space import REST, SIDES, classes, space_maps
from ..space.space import COLOURS, Space
from .base import Panel
from .drawing import framed

LISTED = 12  # documents of a selection whose texts are shown
FOUND = 5  # documents that a query is joined with
HEIGHT = 420  # pixels of a map


class LinkedMaps(Panel):
    """Two maps of one fit: hover shows a document's text, a lasso chooses on both at once.

    Hold shift and draw to choose; type a query to drop it in as a star, joined with what it finds.
    From code: ``maps.select([0, 7])``, ``maps.query = "..."``, ``maps.by = "drift"``.

    Args:
        space: from ``ek.space.fit_space``.
        method: which map to begin with; default: the first that was fitted.
        by: colour to begin with, as in ``Space.colours``.

    Raises:
        EmbkitError: no Space, a map or colour that there is not, jupyter-scatter missing.
    """

    method = traitlets.Unicode(help="umap or pca")
    by = traitlets.Unicode(help="what the points are coloured by")
    query = traitlets.Unicode(help="dropped in as a star; empty: none")
    selection = traitlets.List(traitlets.Int(), help="numbers of the chosen documents")

    def __init__(self, space: Space, method: str | None = None, by: str = "group") -> None:
        if not isinstance(space, Space):
            raise EmbkitError(
                f"LinkedMaps() was given {type(space).__name__}",
                expected="a Space",
                hint="ek.widgets.LinkedMaps(ek.space.fit_space('minilm', run, domain))",
            )
        import pandas as pd

        super().__init__()
        self.space = space
        self._found: tuple[np.ndarray, tuple[np.ndarray, np.ndarray]] | None = None
        self._texts = list(space.domain.corpus.values())
        with self.hold_trait_notifications():
            self.method, self.by = method or next(iter(space.maps)), by
        points = [dict(zip("xy", self._points(side).T, strict=True)) for side in SIDES]
        # the scatters read from these
        self._frames = tuple(pd.DataFrame(part | {"text": self._texts}) for part in points)
        extents = self._extent(0), self._extent(1)
        self.scatters = tuple(_scatter(frame, *extents) for frame in self._frames)
        self.titles = tuple(ipywidgets.HTML() for _ in SIDES)
        self.page = ipywidgets.HTML()
        self._entitle()
        self._colour()
        self._tell_chosen()
        self.on("method", self._move)
        self.on("by", self._colour)
        self.on("query", self._drop)
        self.on("selection", self._choose)
        for scatter in self.scatters:
            scatter.widget.observe(self.guarded(self._picked), "selection")
        self.children = [self._controls(), self._grid(), self.page, self.status]

    @traitlets.validate("method", "by")
    def _known(self, proposal: Any) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        known = COLOURS if name == "by" else tuple(self.space.maps)
        if value not in known:
            raise unknown("colour" if name == "by" else "map", value, known)
        return value

    @traitlets.validate("selection")
    def _in_corpus(self, proposal: Any) -> list[int]:
        most = len(self._texts)
        if bad := [number for number in proposal["value"] if not 0 <= number < most]:
            raise EmbkitError(
                f"document number {bad[0]} of {most:,}",
                expected=f"numbers from 0 to {most - 1}",
                hint="maps.select_ids([...]) takes the documents' ids",
            )
        return proposal["value"]

    def select(self, numbers: Sequence[int]) -> None:
        """Chooses documents by their numbers on both maps; an empty list chooses none."""
        self.selection = [int(number) for number in numbers]

    def select_ids(self, ids: Sequence[str]) -> None:
        """Chooses documents by their ids on both maps."""
        place = {document: number for number, document in enumerate(self.space.ids)}
        if missing := [document for document in ids if document not in place]:
            raise unknown("document", missing[0], list(place)[:1000])
        self.select([place[document] for document in ids])

    @property
    def found(self) -> dict[str, list[str]]:
        """Ids of the documents that the query finds: ``before`` and ``after``, best first."""
        near: tuple[Any, Any] = self._found[1] if self._found else ((), ())
        return {s: [self.space.ids[i] for i in n] for s, n in zip(SIDES, near, strict=True)}

    def picture(self) -> Figure:
        """Both maps, for readers without a kernel."""
        return space_maps(
            self.space, self.method, self.by, query=self.query.strip(), selected=self.selection
        )

    def _points(self, side: str) -> np.ndarray:
        return getattr(self.space.maps[self.method], side)

    def _extent(self, axis: int) -> tuple[float, float]:
        """Both maps show one stretch, so that a place on one is that place on the other."""
        both = np.concatenate([self._points(side)[:, axis] for side in SIDES])
        room = float(np.ptp(both)) * 0.03 or 1.0
        return float(both.min()) - room, float(both.max()) + room

    def _grid(self) -> Any:
        from jscatter import compose

        grid = compose(
            list(self.scatters), sync_view=True, sync_selection=True, sync_hover=True,
            cols=2, row_height=HEIGHT,
        )  # fmt: skip
        heads = ipywidgets.HBox([ipywidgets.Box([t], layout={"width": "50%"}) for t in self.titles])
        return ipywidgets.VBox([heads, grid])

    def _controls(self) -> Any:
        colour = ipywidgets.Dropdown(options=COLOURS, description="colour")
        method = ipywidgets.Dropdown(options=tuple(self.space.maps), description="map")
        query = ipywidgets.Text(
            placeholder="drop in a query", continuous_update=False, description="query"
        )
        controls = self.link(by=colour, method=method, query=query)
        clear = ipywidgets.Button(description="choose none")
        clear.on_click(self.guarded(lambda _: self.select([])))
        return ipywidgets.HBox([*controls, clear])

    def _colour(self) -> None:
        self.tell()
        values = _column(self.space.colours(self.by))
        for scatter, frame in zip(self.scatters, self._frames, strict=True):
            frame[self.by] = values
            if isinstance(values, np.ndarray):
                scatter.color(by=self.by, map=AMOUNTS, norm=(values.min(), values.max()))
                scatter.opacity(default=0.8)
            else:
                names = enumerate(values.categories)
                tints = {name: LIGHT if name in REST else color(i) for i, name in names}
                scatter.color(by=self.by, map=tints)
            scatter.legend(True, position="bottom-right", size="small")

    def _move(self) -> None:
        for side, scatter, frame in zip(SIDES, self.scatters, self._frames, strict=True):
            frame["x"], frame["y"] = self._points(side).T
            scatter.xy("x", "y", x_scale=self._extent(0), y_scale=self._extent(1))
        self._entitle()
        self._drop()

    def _entitle(self) -> None:
        trust = self.space.maps[self.method].trust
        for title, name, value in zip(self.titles, self.space.names, trust, strict=True):
            title.value = f"<b>{html.escape(name[:80])}</b>, trustworthiness {value:.3f}"

    def _drop(self) -> None:
        from jscatter import Line

        self.tell()
        lines: tuple[list[Any], list[Any]] = ([], [])
        self._found = None
        if self.query.strip():
            self._found = self.space.place(self.query, self.method, FOUND)
            reach = 0.012 * (self._extent(0)[1] - self._extent(0)[0])
            places, lists = self._found
            for mine, star, near, side in zip(lines, places, lists, SIDES, strict=True):
                ends = self._points(side)[near]
                mine += [Line([tuple(star.tolist()), tuple(end)]) for end in ends.tolist()]
                mine.append(Line(_star(star, reach), line_color="#d60036", line_width=3))
        for scatter, mine in zip(self.scatters, lines, strict=True):
            scatter.annotations(mine)
        self._tell_chosen()

    def _picked(self, change: Any) -> None:
        """A lasso on either map; the other one follows."""
        self.select(sorted(int(number) for number in change["new"]))

    def _choose(self) -> None:
        self.tell()
        chosen = np.array(self.selection, dtype=np.uint32)
        for scatter in self.scatters:
            if sorted(scatter.widget.selection.tolist()) != self.selection:
                scatter.selection(chosen)
        self._tell_chosen()

    def _tell_chosen(self) -> None:
        parts = []
        if self._found:
            lists = [[self._texts[i][:160] for i in near] for near in self._found[1]]
            found = Table([f"{n}: found" for n in self.space.names], [*zip(*lists, strict=True)])
            parts.append(f"★ <i>{html.escape(self.query[:200])}</i>{framed(found)}")
        if self.selection:
            space, rest = self.space, len(self.selection) - LISTED
            rows = [
                (space.ids[i], self._texts[i][:160], f"{space.drift[i]:.2f}")
                for i in self.selection[:LISTED]
            ]
            more = f"and {rest:,} more" if rest > 0 else ""
            parts.append(framed(Table(("chosen", "text", "drift"), rows, more)))
        hint = "Nothing is chosen: hold shift and draw around points, or click one."
        self.page.value = "".join(parts) or hint


def _column(values: np.ndarray) -> Any:
    """The points' colours as a column: amounts, or names of which the rarest are one."""
    import pandas as pd

    if values.dtype.kind in "fi":
        return values.astype(float)
    names = classes(values)
    kept = [value if value in names else REST[1] for value in values.astype(str)]
    return pd.Categorical(kept, categories=sorted({*names, *kept}))


def _scatter(frame: Any, x: tuple[float, float], y: tuple[float, float]) -> Any:
    """One map of a frame with ``x``, ``y`` and ``text``, that shows these stretches."""
    try:
        import jscatter
    except ImportError as error:
        raise EmbkitError(
            "linked maps need the package jupyter-scatter, which is not installed",
            expected="pip install 'jupyter-scatter>=1.0.1,<2'",
            hint="ek.plots.space_maps(space) draws the same maps without it",
        ) from error
    made = jscatter.Scatter(x="x", y="y", data=frame, height=HEIGHT)
    made.xy(x_scale=x, y_scale=y)
    made.tooltip(True, properties=[], preview="text", preview_type="text", preview_text_lines=4)
    made.size(default=float(np.clip(7 - 1.25 * np.log10(len(frame)), 1.2, 5)))
    made.axes(False)
    return made


def _star(centre: np.ndarray, reach: float) -> list[tuple[float, float]]:
    """The outline of a five-pointed star."""
    turns = np.pi / 2 + np.arange(6) * 4 * np.pi / 5
    x, y = map(float, centre)  # the page takes no numpy numbers
    return [(x + reach * float(np.cos(a)), y + reach * float(np.sin(a))) for a in turns]
