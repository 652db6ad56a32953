"""Training pairs: where they come from, what may meet in a batch, and the negatives beside them."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import session
from ..data.domain import Domain, normalise
from ..display import Table
from ..errors import unknown
from ..losses.batches import Apart, padded
from ..models.loading import load_model
from ..recipes.recipe import Recipe
from ..recipes.views import APART, CORPUS
from ..search.passages import cut_by
from .mining import Mined, mine
from .rules import Pair, own_of, refused, relatives, right_of

if TYPE_CHECKING:
    from datasets import Dataset

EVERYTHING = ":all"  # after a set's name: what its filters removed is kept, too
NONE = -1  # in a row of places: nothing more
FAMILY, ALSO = "family", "also"  # columns that say which rows may not meet in a batch


@dataclass(frozen=True, repr=False)
class TrainingPairs:
    """What a recipe trains on, row by row; documents are those of ``domain``."""

    domain: Domain
    rows: tuple[Pair, ...]  # (query id, anchor text, document id), in the order before shuffling
    mined: Mined | None = None  # the hard negatives, one row a pair
    unique: str = "texts"  # or "families": what may stand only once in a batch
    dropped: dict[str, int] = field(default_factory=dict)  # why a set's rows were left out
    corpus_labels: bool = False  # the data set says which places of the corpus are right
    right_labels: bool = False  # the same for a loss over the batch: what is right beside its own
    taught: Taught | None = None  # what a teacher says about the rows, and about texts beside them
    known: tuple[Pair, ...] = ()  # not trained on: what else is right for an anchor
    apart: bool = True  # a batch's documents are negatives: none may be right for another row
    cut: bool = False  # of a document one passage is shown, which the sampler does not compare

    def __len__(self) -> int:
        return len(self.taught.labels) if self.taught else len(self.rows)

    @property
    def families(self) -> list[str]:
        """Each row's family: its document's group, or the document where there are no groups."""
        found = [self.domain.groups.get(document, document) for _, _, document in self.rows]
        return [*found, *(self.taught.texts if self.taught else ())]

    @property
    def labelled(self) -> bool:
        """Whether a row's label says what is right, in so many places as there are."""
        return self.corpus_labels or self.right_labels

    @cached_property
    def right(self) -> dict[str, dict[str, None]]:
        """What is known to be right for each anchor, however much of it is trained on."""
        return right_of((*self.rows, *self.known))

    @property
    def _negatives(self) -> tuple[tuple[str, ...], ...]:
        return self.mined.negatives if self.mined else ()

    def dataset(self) -> Dataset:
        """Columns ``anchor``, ``positive``, ``negative_1`` and so on: what the loss reads."""
        from datasets import Dataset

        corpus = self.domain.corpus
        columns: dict[str, list[Any]] = {
            "anchor": [anchor for _, anchor, _ in self.rows],
            "positive": [corpus[document] for _, _, document in self.rows],
        }
        for n, negatives in enumerate(zip(*self._negatives, strict=True), start=1):
            columns[f"negative_{n}"] = [corpus[document] for document in negatives]
        if self.labelled:
            columns["label"] = self.labels()
        return Dataset.from_dict(self.taught.columns(columns) if self.taught else columns)

    def labels(self) -> list[list[int]]:
        """Each row's positive as its place in the corpus, then what else is right for its anchor;
        ``padded`` makes the rows of a batch equally long."""
        number = {document: i for i, document in enumerate(self.domain.corpus)}
        return [
            [number[d] for d in dict.fromkeys((document, *self.right[normalise(anchor)]))]
            for _, anchor, document in self.rows
        ]

    def places(self) -> list[list[int]]:
        """``labels``, as long as the longest; -1 fills them up."""
        return padded({"label": self.labels()})["label"]

    def record(self) -> Dataset:
        """The data set as a run keeps it: with a column ``family`` where families matter, and
        ``also`` where a row's document is right for an anchor that is not trained on with it."""
        data = self.dataset()
        if self.unique == "families":
            data = data.add_column(FAMILY, self.families)
        also = self._also() if self.apart and (self.known or self.domain.own) else []
        return data.add_column(ALSO, also) if any(also) else data

    def _also(self) -> list[list[str]]:
        """Texts among the rows' documents that are right for an anchor, beside its own rows', or
        are the anchor's own document."""
        trained = {(anchor, document): i for i, (_, anchor, document) in enumerate(self.rows)}
        shown = {document for _, document in trained}.union(*self._negatives)
        one = {anchor: i for (anchor, _), i in trained.items()}  # a row of each anchor
        also: list[list[str]] = [[] for _ in range(len(self))]
        own = own_of(self.domain)
        for anchor, i in one.items():
            of_anchor = [*self.right[normalise(anchor)], own.get(normalise(anchor), "")]
            others = (d for d in of_anchor if d in shown)
            also[i] = [self.domain.corpus[d] for d in others if (anchor, d) not in trained]
        return also

    def __repr__(self) -> str:
        beside = f", {self.mined!r}" if self.mined else ""
        return f"TrainingPairs({len(self):,} pairs of {self.domain.name!r}{beside})"

    def _repr_html_(self) -> str:
        cells = [[anchor, self.domain.corpus[document]] for _, anchor, document in self.rows[:5]]
        said = [repr(self), *(f"left out: {why}: {n:,}" for why, n in self.dropped.items())]
        shown = Table(["anchor", "positive"], cells, "; ".join(said)).to_html()
        return shown + (self.mined._repr_html_() if self.mined else "")


def make_pairs(recipe: Recipe, domain: Domain) -> TrainingPairs:
    """A recipe's pairs: collected, sampled, shuffled and mined as it says; no teacher is asked.
    Fails for an unknown set of pairs, or fewer than two pairs."""
    loss, most = recipe.approach, recipe.max_pairs
    rows, dropped = collect(domain, recipe.pairs)
    known = [*rows, *([] if "human" in recipe.pairs else collect(domain)[0])]
    if most is not None and most < len(rows):
        order = np.random.default_rng(recipe.seed).permutation(len(rows))[:most]
        rows = [rows[i] for i in order]
    if recipe.shuffle_labels:
        order = np.random.default_rng(recipe.seed).permutation(len(rows))
        rows = [(q, anchor, rows[i][2]) for (q, anchor, _), i in zip(rows, order, strict=True)]
        known = []  # the control knows no label
    if len(rows) < 2:
        raise refused("few pairs", n=len(rows), domain=domain.name)
    return TrainingPairs(
        domain,
        tuple(rows),
        _mined(recipe, domain, rows, known) if recipe.mining.number else None,
        recipe.unique_in_batch,
        dropped,
        corpus_labels=loss in CORPUS,
        right_labels=loss == "clip"
        and any(len(found) > 1 for found in right_of((*rows, *known)).values()),
        known=tuple(known),
        apart=loss in APART,
        cut=recipe.passage_size is not None,
    )


def _mined(recipe: Recipe, domain: Domain, rows: list[Pair], known: list[Pair]) -> Mined:
    mining = recipe.mining
    options = dict(vars(mining))
    if (prompts := options.pop("prompts")) and mining.miner == "dense":
        options["model"] = load_model(mining.model, prompts=prompts)
    options["model"] = cut_by(recipe.passages, options["model"])
    if mining.reranker_filter:
        from ..models.cross_encoder import load_cross_encoder, score_pairs

        reranker = load_cross_encoder(mining.reranker_filter)
        options["reranker_filter"] = partial(score_pairs, reranker)
    return mine(domain, rows, options.pop("number"), known=known, **options)


def collect(
    domain: Domain, sources: Sequence[str] = ("human",)
) -> tuple[list[Pair], dict[str, int]]:
    """The rows of sources of pairs, and how many were left out for which cause.

    ``human`` is the domain's own training split. Any other name is a set of generated queries,
    ``data/<domain>/<name>.jsonl``; with ``:all`` after it, what its filters removed comes too.
    Of a set, rows are left out whose document the domain's profile does not hold or belongs to a
    group held out for testing, and queries that are asked in a test or dev split.
    """
    rows: list[Pair] = []
    dropped: Counter[str] = Counter()
    for name in [sources] if isinstance(sources, str) else sources:
        if name == "human":
            rows += [(query, domain.queries[query], d) for query, d in domain.right("train")]
        else:
            rows += _from_set(domain, name, dropped)
    return rows, dict(dropped)


def sets(domain: Domain) -> list[str]:
    """The names of a domain's sets of generated queries."""
    where = session.paths()
    folders = {folder / domain.name for folder in (where.data, where.written)}
    found = {path.stem for folder in folders for path in folder.glob("*.jsonl")}
    return sorted(found - {"corpus", "queries"})  # of a folder in BEIR's layout that lies there


def _from_set(domain: Domain, name: str, dropped: Counter[str]) -> Iterator[Pair]:
    from ..synthetic.generation import read_set

    everything, name = name.endswith(EVERYTHING), name.removesuffix(EVERYTHING)
    if name not in sets(domain):
        raise unknown("source of pairs", name, ["human", *sets(domain)])
    judged = {query for split, qrels in domain.qrels.items() if split != "train" for query in qrels}
    asked = {normalise(domain.queries[query]) for query in judged}
    for place, row in enumerate(read_set(_file(domain, name))):
        document = row["document"]
        if row.get("split", "train") != "train" or not (everything or row.get("kept", True)):
            continue
        if document not in domain.corpus:
            dropped[f"{name}: document not in this profile"] += 1
        elif domain.groups.get(document) in domain.tested_groups:
            dropped[f"{name}: document of a group held out for testing"] += 1
        elif normalise(row["query"]) in asked:
            dropped[f"{name}: query asked in a dev or test split"] += 1
        else:
            yield f"{name}-{place}", row["query"], document


def _file(domain: Domain, name: str) -> Path:
    return session.paths().data_file(domain.name, f"{name.removesuffix(EVERYTHING)}.jsonl")


def source_hash(domain: Domain, sources: Sequence[str]) -> str:
    """Hash of the generated sets among the sources; empty for the domain's own pairs."""
    digest = hashlib.sha256()
    for name in sorted(sources):
        if name != "human" and (path := _file(domain, name)).is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest() if tuple(sources) != ("human",) else ""


def in_batch_false_negatives(
    pairs: TrainingPairs, batches: Iterable[Sequence[int]]
) -> dict[str, int]:
    """Counts in-batch negatives that are not negatives, over batches of row numbers.

    Of all ``negatives``: ``same document`` (the row's own positive), ``known positive`` (right for
    the same query text), ``relatives`` (above or below the right document), ``same family``.
    """
    right = [pairs.right[normalise(anchor)] for _, anchor, _ in pairs.rows]
    near, families = relatives(pairs.domain.parents), pairs.families
    kinds = ("negatives", "same document", "known positive", "relatives", "same family")
    found = dict.fromkeys(kinds, 0)
    for i, j in itertools.chain(*(itertools.permutations(batch, 2) for batch in batches)):
        own, other = pairs.rows[i][2], pairs.rows[j][2]
        found["negatives"] += 1
        found["same document"] += other == own
        found["known positive"] += other != own and other in right[i]
        found["relatives"] += other in near[own]
        found["same family"] += families[i] == families[j]
    return found


def batches(
    pairs: TrainingPairs, batch_size: int, seed: int, unique: str | None
) -> list[list[int]]:
    """The first epoch's row numbers; ``unique``: ``texts``, ``families``, or None to shuffle."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    if unique is None:
        order = torch.randperm(len(pairs), generator=generator).tolist()
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    keys = _keys(replace(pairs, unique=unique))
    options = {"batch_size": batch_size, "drop_last": False, "seed": seed}
    return list(_sampler(keys, pairs.dataset(), generator=generator, **options))


def batch_sampler(
    pairs: TrainingPairs, batch_size: int = 0, processes: int = 1
) -> str | Callable[..., Any]:
    """What the trainer asks for batches: sentence-transformers' sampler without duplicates, which
    compares the texts of a row's columns, and is shown what else keeps rows apart. Several
    processes get the batches of one, ``batch_size`` in all, each split into their parts."""
    keys = _keys(pairs)
    if keys is None and processes == 1:
        return "no_duplicates"
    return partial(_sampler, keys, together=batch_size, processes=processes)


def _keys(pairs: TrainingPairs) -> Dataset | None:
    """The rows with their families and known positives; None where their texts say it all."""
    keys = pairs.record()
    apart = Apart(keys) if pairs.apart else None
    if apart and apart.values:
        return keys.with_transform(apart)
    return keys if pairs.unique != "texts" or pairs.cut else None


def _sampler(
    keys: Dataset | None, dataset: Dataset, *, together: int = 0, processes: int = 1, **options: Any
) -> Any:
    from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

    from ..distributed import Sliced

    if processes > 1:  # batches of all processes, to the last row
        options |= {"batch_size": together, "drop_last": False}
    found = NoDuplicatesBatchSampler(dataset if keys is None else keys, **options)
    return Sliced(found, processes) if processes > 1 else found


@dataclass(frozen=True, repr=False)
class Taught:
    """What a teacher says about training pairs, as the loss reads it."""

    labels: list[Any]  # one a row of the data set
    texts: tuple[str, ...] = ()  # unlabeled texts, rows of their own after the pairs'
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)  # the run's teacher.npz

    def columns(self, pairs: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The data set's columns: those of the pairs, with unlabeled rows and the labels."""
        texts = {name: rows + list(self.texts) for name, rows in pairs.items() if name != "label"}
        return texts | {"label": self.labels}
