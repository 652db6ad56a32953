"""A slider over dimensions: what nDCG, memory and one query's results become."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import traitlets
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ..data import Domain
from ..errors import EmbkitError
from ..evaluation.metrics import bootstrap_ci, ranking_from_arrays
from ..evaluation.ranking import score
from ..models.encoding import encode_as
from ..models.loading import as_model
from ..models.vectors import Vectors
from ..plots import COLORS, DASHES, lines
from ..search.index import exact_search
from ..search.tiered import truncate
from ..space.maps import Arrays, kept
from .base import Panel, table

STEPS = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
MOST = 4  # models beside each other
K = 10


class TruncationLab(Panel):
    """Move the slider: every model's vectors are cut there, and searched again.

    The score of each size is measured when the lab is made (kept on disk, so that this is slow
    once); a query is searched anew for every place of the slider.

    Args:
        models: name -> a Run, a model or its name; up to four.
        domain: what is searched.
        split: whose nDCG@10 is shown; default: the first test split.
        query: to begin with; default: the split's first.
        size: dimensions to begin with; default: 64, or the largest below.

    Raises:
        EmbkitError: no model or too many, an empty query, a size that is no step.

    Example:
        >>> lab = TruncationLab({"plain": run}, domain)  # doctest: +SKIP
        >>> lab.size = 32  # doctest: +SKIP
        >>> lab.scores["plain"]  # doctest: +SKIP
        (0.58, 0.54, 0.62)
    """

    size = traitlets.Int(help="dimensions that are left")
    query = traitlets.Unicode(help="what is searched for")

    def __init__(
        self,
        models: Mapping[str, Any],
        domain: Domain,
        *,
        split: str | None = None,
        query: str | None = None,
        size: int | None = None,
    ) -> None:
        if not isinstance(models, Mapping) or not 1 <= len(models) <= MOST:
            raise EmbkitError(
                f"TruncationLab() was given {models!r}"[:200],
                expected=f"one to {MOST} models, by name",
                hint="TruncationLab({'plain': run, 'general': 'minilm'}, domain)",
            )
        super().__init__()
        self.domain, self.split = domain, split or domain.test_splits[0]
        self._judged = domain.split(self.split)
        self.models = {name: as_model(what) for name, what in models.items()}
        texts = list(domain.corpus.values())
        self._documents = {n: encode_as(m, texts, "document") for n, m in self.models.items()}
        widest = max(v.shape[1] for v in self._documents.values())
        self.sizes = tuple(sorted({s for s in STEPS if s < widest} | {widest}))
        self.table = {name: self._measured(name) for name in self.models}
        self.page = ipywidgets.HTML()
        first = next(iter(self._judged))
        self.query = domain.queries[first] if query is None else query
        self.size = max(s for s in self.sizes if s <= 64) if size is None else size
        self._asked = self._encoded(self.query)
        self._draw()
        self.observe(self.guarded(self._ask), "query")
        self.observe(self.guarded(self._draw), "size")
        self.children = [*self._controls(), self.page, self.status]

    @traitlets.validate("size")
    def _a_step(self, proposal: Any) -> int:
        if proposal["value"] not in self.sizes:
            near = min(self.sizes, key=lambda s: abs(s - proposal["value"]))
            raise EmbkitError(
                f"size={proposal['value']}",
                expected=f"one of {', '.join(map(str, self.sizes))}",
                hint=f"lab.size = {near}",
            )
        return proposal["value"]

    @property
    def scores(self) -> dict[str, tuple[float, float, float]]:
        """nDCG@10 of each model at this size, with its interval."""
        return {name: rows[self._size(name)] for name, rows in self.table.items()}

    @property
    def megabytes(self) -> float:
        """Of the corpus's vectors at this size, as float32."""
        return self.size * 4 * len(self.domain.corpus) / 1e6

    @property
    def results(self) -> dict[str, list[tuple[str, float]]]:
        """The query's best documents at this size: model -> [(id, similarity), …]."""
        ids, found = list(self.domain.corpus), {}
        for name, documents in self._documents.items():
            size = self._size(name)
            asked = truncate(self._asked[name], size)
            scores = documents[:, :size] @ asked[0] / self._lengths(name, size)
            best = np.argsort(-scores, kind="stable")[:K]
            found[name] = [(ids[i], float(scores[i])) for i in best]
        return found

    def picture(self) -> Figure:
        """The curves of nDCG@10, for readers without a kernel."""
        series = {
            name: tuple([rows[min(s, max(rows))][i] for s in self.sizes] for i in range(3))
            for name, rows in self.table.items()
        }
        figure = lines(self.sizes, series, "dimensions", f"nDCG@10 on {self.split}", logx=True)
        axes = figure.axes[0]
        ticks = [s for s in self.sizes if s & (s - 1) == 0 or s == self.sizes[-1]]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.axvline(self.size, color="black", lw=1, ls=":")
        axes.set_title(f"{self.size} dimensions: {self.megabytes:,.1f} MB", fontsize=11)
        return figure

    def _size(self, name: str) -> int:
        """This size, or the whole of a model that has fewer dimensions."""
        return min(self.size, self._documents[name].shape[1])

    def _lengths(self, name: str, size: int) -> np.ndarray:
        """Lengths of a model's cut documents, shape (documents,); kept once computed."""
        cache = self.__dict__.setdefault("_cut_lengths", {})
        if (name, size) not in cache:
            part = self._documents[name][:, :size]
            cache[name, size] = np.maximum(np.sqrt(np.einsum("ij,ij->i", part, part)), 1e-12)
        return cache[name, size]

    def _measured(self, name: str) -> dict[int, tuple[float, float, float]]:
        """Size -> (nDCG@10, low, high), from disk the second time."""
        documents, queries = self._documents[name], list(self._judged)
        texts = [self.domain.queries[q] for q in queries]
        asked = encode_as(self.models[name], texts, "query")
        sizes = sorted({min(s, documents.shape[1]) for s in self.sizes})

        def measure() -> Arrays:
            rows = [self._score(truncate(asked, s), truncate(documents, s), queries) for s in sizes]
            return {"rows": np.array(rows)}

        settings = {"domain": self.domain.hash, "split": self.split, "sizes": sizes}
        found = kept("sizes", (asked, documents), settings, measure)["rows"]
        return {s: (m, low, high) for s, (m, low, high) in zip(sizes, found.tolist(), strict=True)}

    def _score(
        self, asked: Vectors, documents: Vectors, queries: list[str]
    ) -> tuple[float, float, float]:
        found = exact_search(asked, documents, K)
        ranking = ranking_from_arrays(queries, list(self.domain.corpus), *found)
        values = score(ranking, self.domain, self.split, ["ndcg@10"])["ndcg@10"]
        return float(values.mean()), *bootstrap_ci(values)

    def _encoded(self, query: str) -> dict[str, Vectors]:
        if not query.strip():
            hint = "lab.query = 'low iron in the blood'"
            raise EmbkitError("an empty query", expected="a few words", hint=hint)
        return {n: encode_as(m, [query], "query", cache=False) for n, m in self.models.items()}

    def _ask(self, _: Any = None) -> None:
        self._asked = self._encoded(self.query)  # an empty one leaves the last results
        self._draw()

    def _draw(self, _: Any = None) -> None:
        self.tell("")
        corpus, found = self.domain.corpus, self.results
        text = {self.domain.queries[q]: judged for q, judged in self._judged.items()}
        right = {d for d, grade in text.get(self.query, {}).items() if grade > 0}
        heads = [
            f"{name}: nDCG@10 {mean:.3f} [{low:.3f}, {high:.3f}]"
            for name, (mean, low, high) in self.scores.items()
        ]
        rows = [
            [f"{'★ ' if d in right else ''}{corpus[d][:160]} ({s:.2f})" for d, s in row]
            for row in zip(*found.values(), strict=True)
        ]
        share = self.size / self.sizes[-1]
        self.page.value = (
            f"<p style='margin:4px 0'><b>{self.size} dimensions: {self.megabytes:,.1f} MB</b> for "
            f"{len(corpus):,} documents, {share:.0%} of the whole; "
            f"{self.size * 4 / 1000:,.2f} GB a million. ★ right for "
            f"<i>{html.escape(self.query[:200])}</i></p>"
            f"{_curves(self.table, self.sizes, self.size)}{table(heads, rows)}"
        )

    def _controls(self) -> list[Any]:
        wide = {"layout": ipywidgets.Layout(width="46em"), "style": {"description_width": "8em"}}
        slider = ipywidgets.SelectionSlider(
            options=self.sizes, value=self.size, description="dimensions", **wide
        )
        box = ipywidgets.Text(
            value=self.query, description="query", continuous_update=False, **wide
        )
        traitlets.link((self, "size"), (slider, "value"))
        traitlets.link((self, "query"), (box, "value"))
        return [slider, box]

    def __repr__(self) -> str:
        said = ", ".join(f"{name} {mean:.3f}" for name, (mean, _, _) in self.scores.items())
        return f"TruncationLab({self.size} dimensions, nDCG@10 on {self.split!r}: {said})"


def _curves(
    table: Mapping[str, Mapping[int, tuple[float, float, float]]], sizes: Sequence[int], shown: int
) -> str:
    """nDCG@10 by size as SVG, with a line at the shown one."""
    top = max(high for rows in table.values() for _, _, high in rows.values()) or 1.0
    width, height = 560, 120
    span = max(np.log(sizes[-1] / sizes[0]), 1e-9)

    def x(size: int) -> float:
        return 10 + (width - 20) * np.log(size / sizes[0]) / span

    drawn = f"<path d='M{x(shown):.0f} 5V{height}' stroke='currentColor'/>"
    for number, (name, rows) in enumerate(table.items()):
        points = " ".join(
            f"{x(s):.1f},{height - (height - 10) * m / top:.1f}" for s, (m, _, _) in rows.items()
        )
        dash = "" if DASHES[number] == "-" else f" stroke-dasharray='{3 + 3 * number} 3'"
        colour, y = to_hex(COLORS[number]), 10 + 16 * number
        drawn += (
            f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2'{dash}/>"
            f"<line x1='14' x2='40' y1='{y}' y2='{y}' stroke='{colour}' stroke-width='2'{dash}/>"
            f"<text x='46' y='{y + 4}' font-size='12' fill='currentColor'>"
            f"{html.escape(name[:40])}</text>"
        )
    label = f"nDCG@10 by dimensions, the shown one {shown}"
    return f"<svg width='{width}' height='{height}' role='img' aria-label='{label}'>{drawn}</svg>"
