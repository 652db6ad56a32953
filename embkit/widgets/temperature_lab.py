"""A batch's similarities under sliders for temperature and size: softmax, loss, gradient."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import traitlets
from matplotlib.image import imsave

from ..errors import EmbkitError
from ..losses.in_batch import BatchLoss, batch_loss
from ..plots import AMOUNTS
from .base import LOOK, Panel, sketch

LOWEST, HIGHEST = 0.005, 1.0
CURVE = np.geomspace(LOWEST, HIGHEST, 33).tolist()
MOST = 256  # pairs in a batch


class TemperatureLab(Panel):
    """One real batch; move the temperature and see what is learnt from which negative.

    Three matrices: the similarities, the softmax of each row, the gradient of the loss by each
    similarity (orange pulls together, purple pushes apart); and the loss over all temperatures.
    ``query`` picks a row, whose hardest negatives are listed.

    Args:
        similarities: of query i to document j, the right ones on the diagonal, (pairs, pairs).

    Fails for a matrix that is not square, another number of texts, and (a TraitError) a setting
    out of range.

    Example:
        >>> lab = TemperatureLab([[0.9, 0.2], [0.4, 0.8]], ["a", "b"], ["A", "B"])
        >>> lab.temperature = 0.02
        >>> round(lab.result.loss, 4)
        0.0
    """

    temperature = traitlets.Float(
        0.05, min=LOWEST, max=HIGHEST, help="similarities are divided by it"
    )
    batch = traitlets.Int(2, min=2, help="pairs: a query has one negative fewer")
    query = traitlets.Int(0, min=0, help="the row that is looked at, from 0")

    def __init__(self, similarities: Any, queries: Sequence[str], documents: Sequence[str]) -> None:
        self.similarities, self._texts = np.asarray(similarities, float), (queries, documents)
        batch_loss(self.similarities, self.temperature)  # refuses what is no batch
        most = len(self.similarities)
        if not most == len(queries) == len(documents) or not 2 <= most <= MOST:
            raise EmbkitError(
                f"a matrix of {most} rows for {len(queries)} queries, {len(documents)} documents",
                expected=f"2 to {MOST} pairs, and a text for each query and document",
                hint="ek.widgets.TemperatureLab(queries @ documents.T, query_texts, texts)",
            )
        self._curves: dict[int, dict[float, float]] = {}
        super().__init__(batch=most)
        ends: Any = {"min": np.log10(LOWEST), "max": np.log10(HIGHEST), "step": 0.01}
        heat = ipywidgets.FloatLogSlider(**ends, description="temperature", **LOOK)
        pairs = ipywidgets.IntSlider(min=2, max=most, description="pairs in batch", **LOOK)
        query = ipywidgets.IntSlider(max=most - 1, description="query", **LOOK)
        sliders = self.link(temperature=heat, batch=pairs, query=query)
        self.children = [*sliders, self.page, self.status]
        self.on(["temperature", "batch", "query"], self._draw)
        self._draw()

    @property
    def _part(self) -> np.ndarray:
        """The shown batch's similarities."""
        return self.similarities[: self.batch, : self.batch]

    @property
    def result(self) -> BatchLoss:
        """Softmax, loss and gradient of what is shown."""
        return batch_loss(self._part, self.temperature)

    @property
    def curve(self) -> dict[float, float]:
        """The loss of the shown batch by temperature."""
        if self.batch not in self._curves:
            self._curves[self.batch] = {t: batch_loss(self._part, t).loss for t in CURVE}
        return self._curves[self.batch]

    def hardest(self, most: int = 3) -> list[tuple[str, float, float]]:
        """The looked-at query's hardest negatives: text, similarity, share of the push."""
        row = min(self.query, len(self._part) - 1)
        shares = self.result.softmax[row].copy()
        shares[row] = 0
        push = shares / max(shares.sum(), 1e-300)
        order = np.argsort(-self._part[row], kind="stable")
        chosen = [int(i) for i in order if i != row][:most]
        return [(self._texts[1][i], self.similarities[row, i], float(push[i])) for i in chosen]

    def _draw(self) -> None:
        self.tell()
        found, row = self.result, min(self.query, len(self._part) - 1)
        pictures = {}
        push = float(np.abs(found.gradient).max()) or 1.0
        matrices: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
            "similarity": (self._part, {"cmap": AMOUNTS}),
            "softmax of each row": (found.softmax, {"cmap": AMOUNTS, "vmin": 0, "vmax": 1}),
            "gradient": (found.gradient, {"cmap": "PuOr", "vmin": -push, "vmax": push}),
        }
        for name, (matrix, look) in matrices.items():
            file = io.BytesIO()  # a picture with a pixel a number, which the page makes larger
            imsave(file, matrix, format="png", **look)
            pictures[name] = base64.b64encode(file.getvalue()).decode()
        curve: Any = {"series": {"": [*self.curve.items()]}, "mark": self.temperature}
        texts = dict(zip(("query", "right"), (texts[row] for texts in self._texts), strict=True))
        losses = sketch("loss by temperature", **curve, logx=True, height=180)
        shown = {"result": found, "share": found.softmax[row, row], "matrices": pictures} | texts
        self.show("temperature_lab", self.page, losses=losses, **shown)

    def __repr__(self) -> str:
        return f"TemperatureLab({self.result!r})"
