"""Panels whose sliders compute: a batch's loss, truncated vectors, the rules of mining."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import traitlets
from matplotlib.image import imsave

from ..data.domain import Domain, Hidden, right_documents
from ..evaluation.intervals import mean_interval
from ..evaluation.metrics import ranking_from_arrays
from ..evaluation.ranking import check_query, score
from ..losses.in_batch import BatchLoss, batch_loss
from ..models.encoding import Vectors, encode_as
from ..models.loading import as_model
from ..pairs.mining import SHOWN, Mined, Pair, mine
from ..plots import AMOUNTS
from ..search.index import Found, exact_search
from ..search.tiered import truncate
from .base import LOOK, Panel, refused, sketch

LOWEST, HIGHEST = 0.005, 1.0  # temperatures
CURVE = np.geomspace(LOWEST, HIGHEST, 33).tolist()
MOST_PAIRS = 256  # in a batch
STEPS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)  # dimensions
MOST_MODELS = 4  # beside each other
K = 10  # documents that are found
DEEPEST = 200  # the end of the window of mining, at most
TRIPLETS = 6


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
        if not most == len(queries) == len(documents) or not 2 <= most <= MOST_PAIRS:
            texts = {"queries": len(queries), "documents": len(documents)}
            raise refused("no batch", rows=most, most=MOST_PAIRS, **texts)
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

    def title(self) -> str:
        return f"{self.batch} pairs at temperature {self.temperature:.3g}"

    def __repr__(self) -> str:
        return f"TemperatureLab({self.result!r})"


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
        if not isinstance(models, Mapping) or not 1 <= len(models) <= MOST_MODELS:
            raise refused("truncation", given=repr(models)[:170], most=MOST_MODELS)
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
            raise refused("size", size=size, steps=steps, near=near)
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


class NegativesLab(Panel):
    """Move the window and the margin: ``mine`` runs anew at every step of a slider.

    The vectors are made once. Settings are traits: set them from code as the sliders do. Fails for
    no pairs, or no such model. Example: ``lab.margin = 0.1``; ``lab.mined`` is what comes out.

    Args:
        pairs: (query id, anchor, document id) rows, such as ``training_pairs(...).rows``.
        model: what ranks: a model, a Run, or a name.
        most: so many of the pairs, evenly spaced; the rest is left out, so that a slider answers
            at once.
    """

    range_min = traitlets.Int(0, help="skip so many of the best candidates that are left")
    range_max = traitlets.Int(50, help="look no deeper than so many candidates that are left")
    margin = traitlets.Float(0.0, help="relative margin: 0.05 keeps what is at most 95% as near")
    keep_relatives = traitlets.Bool(False, help="keep ancestors and descendants of the positive")
    mined: Mined | None = None

    def __init__(
        self,
        domain: Domain,
        pairs: Sequence[Pair],
        *,
        model: Any = "minilm",
        most: int = 300,
        **settings: Any,
    ) -> None:
        if not pairs:
            raise refused("no pairs")
        self.domain, self.pairs_given = domain, len(pairs)
        self.pairs = [pairs[i] for i in _spread(len(pairs), most)]
        # vectors of the corpus and of the anchors, given back without encoding anew
        ranks, asked = as_model(model), list(dict.fromkeys(anchor for _, anchor, _ in self.pairs))
        anchors = dict(zip(asked, encode_as(ranks, asked, "query"), strict=True))
        documents = encode_as(ranks, list(domain.corpus.values()), "document")
        self._vectors = lambda texts: (  # anchors come again, in other orders
            [anchors[text] for text in texts] if anchors.keys() >= set(texts) else documents
        )
        deepest = min(DEEPEST, len(domain.corpus))
        self._ends = ipywidgets.IntRangeSlider(description="ranks", min=0, max=deepest, **LOOK)
        self._ends.add_class("embkit-ranks")
        margins: Any = {"description": "relative margin", "max": 0.5, "step": 0.01}
        self._margin = ipywidgets.FloatSlider(**margins, **LOOK)
        self._relatives = ipywidgets.Checkbox(description="keep relatives of the positive")
        self.results = ipywidgets.HTML()
        super().__init__(**settings)
        self.range_max = min(self.range_max, deepest)
        self._ends.value = (self.range_min, self.range_max)
        linked = self.link(margin=self._margin, keep_relatives=self._relatives)
        self.children = [self._ends, *linked, self.status, self.results]
        self._ends.observe(self.guarded(lambda change: self._window(*change["new"])), "value")
        self.on(["range_min", "range_max", "margin", "keep_relatives"], self._mine)
        self.guarded(self._mine)()

    def _window(self, low: int, high: int) -> None:
        with self.hold_trait_notifications():
            self.range_min, self.range_max = low, high

    def _mine(self) -> None:
        """Mines anew; if the rules leave no window, what was mined before stays."""
        if self.range_min <= self.range_max:
            self._ends.value = (self.range_min, self.range_max)
        window: Any = {"range_min": self.range_min, "range_max": self.range_max}
        rules: Any = {"keep_relatives": self.keep_relatives, "relative_margin": self.margin or None}
        self.mined = mine(self.domain, self.pairs, model=self._vectors, **window, **rules)
        scores = self.mined.scores[:, 0]
        hardest = np.nanmean(scores) if np.isfinite(scores).any() else np.nan
        shown: Any = {"mined": self.mined, "triplets": _spread(len(self.mined), TRIPLETS)}
        shown |= {"hardest": hardest, "right": np.nanmean(self.mined.positive_scores)}
        self.show("negatives_lab", self.results, most=SHOWN, **shown)
        few = f"Mined for {len(self.pairs):,} of the {self.pairs_given:,} pairs."
        self.tell(few if len(self.pairs) < self.pairs_given else "")

    def title(self) -> str:
        kept = ", relatives kept" if self.keep_relatives else ""
        return f"ranks {self.range_min} to {self.range_max}, margin {self.margin:.0%}{kept}"

    def __repr__(self) -> str:
        return f"NegativesLab({self.mined!r})"


def _spread(total: int, most: int) -> list[int]:
    """So many places of a list at most, evenly spaced."""
    return np.linspace(0, total - 1, min(most, total)).astype(int).tolist()
