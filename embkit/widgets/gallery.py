"""A search box over pictures: type words and see pictures; pick one and read the nearest words."""

import itertools
from collections.abc import Mapping
from typing import Any

import traitlets

from ..data import Domain
from ..data.images import data_url, is_picture
from ..data.sources.captioned import TO_IMAGE
from ..search.passages import index_of
from .base import Page, Search, page, refused

WORDS = 5  # captions that are shown for a picked picture


class Gallery(Page):
    """Searches a domain's held-out pictures with your words, by several models, one row each.

    Pick a picture, and each model says which of the held-out captions lie nearest to it. Fails for
    no models, or a domain without pictures.

    Args:
        models: row's name -> a model that reads texts and pictures.
        query: the first search; default: a caption of the domain's own.
        k: pictures a row.
    """

    _esm, _css = page("gallery")
    query = traitlets.Unicode().tag(sync=True)
    found: Any = traitlets.List().tag(sync=True)
    words: Any = traitlets.List().tag(sync=True)

    def __init__(
        self, models: Mapping[str, Any], domain: Domain, query: str | None = None, *, k: int = 8
    ) -> None:
        if not models or TO_IMAGE not in domain.qrels:
            raise refused("gallery", n=len(models), domain=domain.name)
        super().__init__()
        self.models, self.k = dict(models), k
        self._captions: dict[str, list[str]] = {}
        for asked, judged in domain.split(TO_IMAGE).items():
            for document in judged:
                self._captions.setdefault(domain.corpus[document], []).append(domain.queries[asked])
        self._pictures = list(self._captions)
        self._texts = list(dict.fromkeys(itertools.chain(*self._captions.values())))
        self._seen = {name: index_of(m, self._pictures).search for name, m in self.models.items()}
        self._read = {name: index_of(m, self._texts).search for name, m in self.models.items()}
        self.search(self._texts[0] if query is None else query)

    def search(self, text: str) -> None:
        """Shows the pictures that lie nearest to a text, for each model."""
        with self.told():
            self.query, self.words = text.strip(), []
            if not self.query or is_picture(self.query):
                raise refused("empty search")
            self.found = [[name, self._row(search)] for name, search in self._seen.items()]
            self.tell(f"{len(self._pictures):,} pictures that training never saw.")

    def pick(self, name: str, place: int) -> None:
        """Shows the captions nearest to a picture: the one at a place (from 0) of a row."""
        with self.told():
            item = dict(self.found)[name][place]
            asked = [self._pictures[item["at"]]]
            best = {model: search(asked, WORDS)[0][0] for model, search in self._read.items()}
            self.words = [[model, [self._texts[i] for i in row]] for model, row in best.items()]
            self.tell(f"The words nearest to the picture of “{item['caption']}”:")

    def _row(self, search: Search) -> list[dict[str, Any]]:
        places, scores = search([self.query], self.k)
        row = []
        for i, score in zip(places[0].tolist(), scores[0], strict=True):
            picture = self._pictures[i]
            captions = self._captions[picture]
            item = {"picture": data_url(picture), "caption": ", ".join(captions), "at": i}
            row.append(item | {"score": f"{score:.2f}", "right": self.query in captions})
        return row

    def heard(self, content: Any) -> None:
        if "search" in content:
            self.search(str(content["search"]))
        else:
            self.pick(str(content.get("row")), int(content.get("pick", 0)))

    def __repr__(self) -> str:
        return f"Gallery({self.query!r}, {len(self._pictures):,} pictures)"
