"""Sliders for the rules of mining; the triplets that come out; what each rule removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from ..data.domain import Domain
from ..errors import EmbkitError
from ..models.encoding import encode_as
from ..models.loading import as_model
from ..pairs.mining import SHOWN, Mined, Pair, mine
from .base import LOOK, Panel

DEEPEST = 200  # the window's end, at most
TRIPLETS = 6


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
            expected = "(query id, anchor, document id) rows"
            hint = "ek.widgets.NegativesLab(domain, ek.training_pairs(recipe, domain).rows)"
            raise EmbkitError("NegativesLab() was given no pairs", expected=expected, hint=hint)
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
