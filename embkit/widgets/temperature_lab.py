"""A batch's similarities under sliders for temperature and size: softmax, loss, gradient."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import ipywidgets
import matplotlib
import numpy as np
import traitlets
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ..errors import EmbkitError
from ..losses.in_batch import BatchLoss, batch_loss
from ..plots import AMOUNTS, COLORS
from ..plots.space import batch_softmax
from .base import Panel

LOWEST, HIGHEST = 0.005, 1.0
CURVE = np.geomspace(LOWEST, HIGHEST, 33)
PIXELS = 230  # of a matrix's side
MOST = 256  # pairs in a batch


class TemperatureLab(Panel):
    """One real batch; move the temperature and see what is learnt from which negative.

    Three matrices: the similarities, the softmax of each row, the gradient of the loss by each
    similarity (orange pulls together, purple pushes apart); and the loss over all temperatures.
    ``query`` picks a row, whose hardest negatives are listed.

    Args:
        similarities: of query i to document j, the right ones on the diagonal, (pairs, pairs).
        queries: their texts.
        documents: their texts.
        temperature: to begin with.
        batch: pairs to begin with; default: all.

    Raises:
        EmbkitError: a matrix that is not square, another number of texts, a temperature or batch
            out of range.

    Example:
        >>> lab = TemperatureLab([[0.9, 0.2], [0.4, 0.8]], ["a", "b"], ["A", "B"])
        >>> lab.temperature = 0.02
        >>> round(lab.result.loss, 4)
        0.0
    """

    temperature = traitlets.Float(0.05, help="similarities are divided by it")
    batch = traitlets.Int(2, help="pairs: a query has one negative fewer")
    query = traitlets.Int(0, help="the row that is looked at, from 0")

    def __init__(
        self,
        similarities: Any,
        queries: Sequence[str],
        documents: Sequence[str],
        *,
        temperature: float = 0.05,
        batch: int | None = None,
    ) -> None:
        values = np.asarray(similarities, dtype=float)
        batch_loss(values, temperature)  # refuses what is no batch
        if not len(values) == len(queries) == len(documents) or not 2 <= len(values) <= MOST:
            raise EmbkitError(
                f"a matrix of {len(values)} rows for {len(queries)} queries and "
                f"{len(documents)} documents",
                expected=f"2 to {MOST} pairs, and a text for each query and document",
                hint="TemperatureLab(queries @ documents.T, query_texts, document_texts)",
            )
        super().__init__()
        self.page = ipywidgets.HTML()
        self.similarities, self._texts = values, (list(queries), list(documents))
        self._curves: dict[int, list[float]] = {}
        with self.hold_trait_notifications():
            self.batch = len(values) if batch is None else batch
            self.temperature = temperature
        self.observe(self.guarded(self._draw), ["temperature", "batch", "query"])
        self._draw()
        self.children = [*self._sliders(), self.page, self.status]

    @traitlets.validate("temperature", "batch", "query")
    def _in_range(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        low, high = self._range(name)
        if not low <= value <= high:
            raise EmbkitError(
                f"{name}={value}", expected=f"from {low} to {high}", hint=f"lab.{name} = {low}"
            )
        return value

    def _range(self, name: str) -> tuple[float, float]:
        pairs = len(self.similarities)
        ranges = {"temperature": (LOWEST, HIGHEST), "batch": (2, pairs), "query": (0, pairs - 1)}
        return ranges[name]

    @property
    def result(self) -> BatchLoss:
        """Softmax, loss and gradient of what is shown."""
        return batch_loss(self.similarities[: self.batch, : self.batch], self.temperature)

    @property
    def curve(self) -> dict[float, float]:
        """The loss of the shown batch by temperature."""
        if self.batch not in self._curves:
            part = self.similarities[: self.batch, : self.batch]
            self._curves[self.batch] = [batch_loss(part, t).loss for t in CURVE]
        return dict(zip(CURVE.tolist(), self._curves[self.batch], strict=True))

    def hardest(self, most: int = 3) -> list[tuple[str, float, float]]:
        """The looked-at query's hardest negatives: text, similarity, share of the push."""
        row = min(self.query, self.batch - 1)
        shares = self.result.softmax[row].copy()
        shares[row] = 0
        order = np.argsort(-self.similarities[row, : self.batch], kind="stable")
        push = shares / max(shares.sum(), 1e-300)
        chosen = [int(i) for i in order if i != row][:most]
        return [(self._texts[1][i], self.similarities[row, i], float(push[i])) for i in chosen]

    def picture(self) -> Figure:
        """The shown batch, for readers without a kernel."""
        part = self.similarities[: self.batch, : self.batch]
        return batch_softmax(part, self.temperature, self.curve)

    def _draw(self, _: Any = None) -> None:
        self.tell("")
        found, row = self.result, min(self.query, self.batch - 1)
        part = self.similarities[: self.batch, : self.batch]
        pushes = found.gradient / (np.abs(found.gradient).max() or 1.0)
        span = np.ptp(part) or 1.0
        shades = [
            _shades((part - part.min()) / span, AMOUNTS),
            _shades(found.softmax, AMOUNTS),
            _shades((pushes + 1) / 2, "PuOr"),
        ]
        said = (
            f"loss {found.loss:.3f}; the right documents' mean share {found.right:.2f}; "
            f"the hardest negative's share of the push {found.hardest:.2f}"
        )
        rows = "".join(
            f"<li>{html.escape(text[:160])}: similarity {similarity:.2f}, {share:.0%} of the push"
            for text, similarity, share in self.hardest()
        )
        heads = "".join(
            f"<span style='flex:1'>{head}</span>"
            for head in ("similarity", "softmax of each row", "gradient")
        )
        query, right = (texts[row][:160] for texts in self._texts)
        self.page.value = (
            f"<b>{said}</b><div style='display:flex;gap:12px'><div style='min-width:0'>"
            f"<div style='display:flex'>{heads}</div><img alt='{said}' style='max-width:100%' "
            f"src='data:image/png;base64,{_joined(shades)}'></div>"
            f"<div>loss by temperature<br>{self._line(found)}</div></div>"
            f"<p style='margin:4px 0'>{html.escape(query)} → {html.escape(right)}: "
            f"{found.softmax[row, row]:.0%} of the softmax. Its hardest negatives:"
            f"<ul style='margin:0'>{rows}</ul></p>"
        )

    def _line(self, found: BatchLoss) -> str:
        """The loss over temperatures as SVG, with a mark at the shown one."""
        losses = list(self.curve.values())
        top = max(*losses, found.loss, 1e-9)

        def at(t: float, loss: float) -> str:
            x = 10 + 200 * np.log(t / LOWEST) / np.log(HIGHEST / LOWEST)
            return f"{x:.1f},{PIXELS - 20 - (PIXELS - 40) * loss / top:.1f}"

        line = " ".join(at(t, loss) for t, loss in self.curve.items())
        x, y = at(self.temperature, found.loss).split(",")
        return (
            f"<svg width='220' height='{PIXELS}' role='img' aria-label='loss by temperature'>"
            f"<polyline points='{line}' fill='none' stroke='{to_hex(COLORS[0])}' stroke-width='2'/>"
            f"<circle cx='{x}' cy='{y}' r='5' fill='{to_hex(COLORS[1])}'/>"
            f"<text x='10' y='{PIXELS - 4}' font-size='11' fill='currentColor'>{LOWEST:g}</text>"
            f"<text x='190' y='{PIXELS - 4}' font-size='11' fill='currentColor'>{HIGHEST:g}</text>"
            "</svg>"
        )

    def _sliders(self) -> list[Any]:
        wide = {
            "layout": ipywidgets.Layout(width="46em"),
            "style": {"description_width": "8em"},
        }
        low, high = np.log10(LOWEST), np.log10(HIGHEST)
        most = len(self.similarities)
        made = {
            "temperature": ipywidgets.FloatLogSlider(min=low, max=high, step=0.01, **wide),
            "batch": ipywidgets.IntSlider(min=2, max=most, description="pairs in batch", **wide),
            "query": ipywidgets.IntSlider(max=most - 1, description="query", **wide),
        }
        made["temperature"].description = "temperature"
        for name, slider in made.items():
            traitlets.link((self, name), (slider, "value"))
        return list(made.values())

    def __repr__(self) -> str:
        return f"TemperatureLab({self.result!r})"


def _shades(matrix: np.ndarray, name: str) -> np.ndarray:
    """A matrix of 0 to 1 as pixels of a colour map, at one size, shape (PIXELS, PIXELS, 3)."""
    table = (matplotlib.colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)
    small = table[np.clip(matrix * 255, 0, 255).astype(int)]
    take = np.arange(PIXELS) * len(matrix) // PIXELS
    return small[take][:, take]


def _joined(pictures: Sequence[np.ndarray]) -> str:
    """Pictures side by side as one PNG, in base64."""
    from PIL import Image

    gap = np.full((PIXELS, 12, 3), 255, np.uint8)
    row = [part for picture in pictures for part in (picture, gap)]
    stream = io.BytesIO()
    Image.fromarray(np.hstack(row)).save(stream, "PNG", compress_level=1)
    return base64.b64encode(stream.getvalue()).decode()
