"""A slider over dimensions: what nDCG, memory and one query's results become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets
import traitlets

from ..data import Domain
from ..data.domain import Hidden, right_documents
from ..errors import EmbkitError
from ..evaluation.intervals import mean_interval
from ..evaluation.metrics import ranking_from_arrays
from ..evaluation.ranking import check_query, score
from ..models.encoding import Vectors, encode_as
from ..models.loading import as_model
from ..search.index import Found, exact_search
from ..search.tiered import truncate
from .base import LOOK, Panel, sketch

STEPS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
MOST = 4  # models beside each other
K = 10


class TruncationLab(Panel):
    """Move the slider: every model's vectors are truncated there, and searched again.

    The score of each size is measured when the lab is made; a query is searched anew for every
    place of the slider. From code: ``lab.size = 32``, ``lab.query = "..."``. Fails for no model or
    too many, an empty query, a size that is no step.

    Args:
        models: name -> a Run, a model or its name; up to four.
        split: whose nDCG@10 is shown; default: the first test split.
    """

    size = traitlets.Int(help="dimensions that are left")
    query = traitlets.Unicode(help="what is searched for")

    def __init__(self, models: Mapping[str, Any], domain: Domain, *, split: str = "") -> None:
        if not isinstance(models, Mapping) or not 1 <= len(models) <= MOST:
            given = f"TruncationLab() was given {models!r}"[:200]
            hint = "ek.widgets.TruncationLab({'plain': run, 'general': 'minilm'}, domain)"
            raise EmbkitError(given, expected=f"one to {MOST} models, by name", hint=hint)
        super().__init__()
        self.domain, self.split = domain, split or domain.test_splits[0]
        self._judged = domain.split(self.split)
        ids = list(self._judged), list(domain.corpus)
        self._ids, self._hidden = ids, domain.hidden(*ids)
        self.models = {name: as_model(what) for name, what in models.items()}
        texts = list(domain.corpus.values())
        self._documents = {n: encode_as(m, texts, "document") for n, m in self.models.items()}
        widest = max(v.shape[1] for v in self._documents.values())
        self.sizes = tuple(sorted({s for s in STEPS if s < widest} | {widest}))
        self.table = {name: self._measured(name) for name in self.models}
        self.query = domain.queries[next(iter(self._judged))]
        self.size = max(s for s in self.sizes if s <= 64)
        self._ask()
        self.on("query", self._ask)
        self.on("size", self._draw)
        slider = ipywidgets.SelectionSlider(options=self.sizes, description="dimensions", **LOOK)
        box = ipywidgets.Text(description="query", continuous_update=False, **LOOK)
        self.children = [*self.link(size=slider, query=box), self.page, self.status]

    @traitlets.validate("size")
    def _a_step(self, proposal: Any) -> int:
        size = proposal["value"]
        if size not in self.sizes:
            near = min(self.sizes, key=lambda s: abs(s - size))
            steps = ", ".join(map(str, self.sizes))
            raise EmbkitError(f"size={size}", expected=f"one of {steps}", hint=f"lab.size = {near}")
        return size

    @property
    def scores(self) -> dict[str, tuple[float, float, float]]:
        """nDCG@10 of each model at this size, with its interval; of a narrower one's whole."""
        return {name: rows[min(self.size, max(rows))] for name, rows in self.table.items()}

    @property
    def megabytes(self) -> float:
        """Of the corpus's vectors at this size, as float32."""
        return self.size * 4 * len(self.domain.corpus) / 1e6

    @property
    def results(self) -> dict[str, list[tuple[str, float]]]:
        """The query's best documents at this size: model -> [(id, similarity), …]."""
        found = {}
        for name in self.models:
            places, scores = self._search(name, self._asked[name], self.size)
            rows = zip(places[0].tolist(), scores[0].tolist(), strict=True)
            found[name] = [(self._ids[1][i], score) for i, score in rows]
        return found

    def _search(self, name: str, asked: Vectors, size: int, hidden: Hidden = None) -> Found:
        """Exact search of truncated vectors, or of the whole ones that have fewer dimensions."""
        documents = self._documents[name]
        size = min(size, documents.shape[1])
        return exact_search(truncate(asked, size), truncate(documents, size), K, hidden)

    def _measured(self, name: str) -> dict[int, tuple[float, float, float]]:
        """Size -> (nDCG@10, low, high)."""
        texts = [self.domain.queries[q] for q in self._judged]
        asked, rows = encode_as(self.models[name], texts, "query"), {}
        for size in sorted({min(s, asked.shape[1]) for s in self.sizes}):
            found = self._search(name, asked, size, self._hidden)
            ranking = ranking_from_arrays(*self._ids, *found)
            values = score(ranking, self.domain, self.split, ["ndcg@10"])["ndcg@10"]
            rows[size] = float(values.mean()), *mean_interval(values)
        return rows

    def _ask(self) -> None:
        check_query(self.query)  # the last results stay
        self._asked = {
            n: encode_as(m, [self.query], "query", cache=False) for n, m in self.models.items()
        }
        self._draw()

    def _draw(self) -> None:
        self.tell()
        corpus, queries = self.domain.corpus, self.domain.queries
        same = [row for q, row in self._judged.items() if queries[q] == self.query]
        right = set(right_documents(same[-1])) if same else set()
        told = "{}: nDCG@10 {:.3f} [{:.3f}, {:.3f}]".format
        heads = [told(name, *found) for name, found in self.scores.items()]
        tables = self.table.items()
        curves = {name: [(size, row[0]) for size, row in rows.items()] for name, rows in tables}
        label = f"nDCG@10 by dimensions, the shown one {self.size}"
        drawn = sketch(label, curves, mark=self.size, logx=True, width=560, height=120)
        shown: Any = {"corpus": corpus, "right": right, "heads": heads}
        self.show("truncation_lab", self.page, curves=drawn, **shown)

    def __repr__(self) -> str:
        said = ", ".join(f"{name} {mean:.3f}" for name, (mean, _, _) in self.scores.items())
        return f"TruncationLab({self.size} dimensions, nDCG@10 on {self.split!r}: {said})"
