"""Scores of one approach, query by query, saved and loaded."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ..display import Frame, Series, some_of
from ..errors import unknown
from ..files import readable, write_atomic
from .intervals import ALONE, CLUSTERS, Clusters, Estimate, PairedTest, estimate, paired_test
from .metrics import METRICS, refused
from .report import Report, Row

_SAVED = ("approach", "domain", "domain_hash", "base_model", "recipe_hash")
_FACTS = """corpus trainable_params total_params train_seconds peak_memory_mb dim learning_rate seed
general_ndcg@10 encode_per_second missing_judged""".split()  # columns of a row that come from meta
_PAIRED = """p_vs_base p_holm delta_vs_base delta_vs_base_ci wins ties losses visible_vs_base
needed_vs_base""".split()


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """What one approach scored on a domain, query by query.

    ``meta`` holds corpus (number of documents), trainable_params, total_params, train_seconds,
    peak_memory_mb, dim, learning_rate, seed, general_ndcg@10 (on ``general_probe``),
    encode_per_second (documents), label (shown in place of the approach).
    """

    approach: str  # what was evaluated, such as "bm25", "base", "contrastive"
    domain: str
    domain_hash: str  # of its content; only scores of one hash can be compared
    base_model: str | None  # that it started from, None for BM25
    recipe_hash: str | None  # None where nothing was trained
    per_query: dict[str, Frame]  # split → what `score_ranking` gives
    # split → name → query ids, reported as rows of their own
    subsets: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    dev: dict[str, float] = field(default_factory=dict)  # dev query → nDCG@10: what chooses
    runs: tuple[Scores, ...] = ()  # where these are the mean of several seeds: each of them

    def __repr__(self) -> str:
        means = ", ".join(f"{split} {self.mean(split):.3f}" for split in self.per_query)
        return f"Scores({self.label!r} on {self.domain!r}, nDCG@10: {means})"

    def __post_init__(self) -> None:
        if not self.per_query:
            raise refused("no split", approach=self.approach)
        for split, frame in self.per_query.items():
            whole = frame.index.is_unique and len(frame.columns)
            if not whole or not np.isfinite(frame.to_numpy(float)).all():
                raise refused("not whole", approach=self.approach, split=split)
        for split, subsets in self.subsets.items():
            frame = self._frame(split)
            for name, queries in subsets.items():
                missing = set(queries).difference(frame.index)
                if len(missing) > frame.attrs.get("unanswerable", 0):
                    told = some_of(len(missing), "query that was", "queries that were")
                    raise refused("subset", name=name, told=told, such=min(missing), split=split)

    @property
    def label(self) -> str:
        """The name shown in tables: the label in `meta`, else the approach."""
        return str(self.meta.get("label") or self.approach)

    def check_domain(self, name: str, content: str) -> None:
        """Fails where these are scores of another domain, or of other content of it."""
        if (self.domain, self.domain_hash) != (name, content):
            raise refused("another domain", own=self, name=name, content=content)

    def labelled(self, label: str) -> Scores:
        """The same scores under another name in tables."""
        return replace(self, meta=self.meta | {"label": label})

    def values(self, split: str, metric: str = "ndcg@10", subset: str | None = None) -> Series:
        """One metric of each query of a split, or of a subset of it; fails for an unknown name."""
        frame = self._frame(split)
        if metric not in frame:
            raise unknown("metric", metric, frame.columns)
        if subset is None:
            return frame[metric]
        if subset not in self.subsets.get(split, {}):
            raise unknown("subset", subset, self.subsets.get(split) or ["none"])
        return frame[metric].iloc[self._places[split, subset]]

    @cached_property
    def _places(self) -> dict[tuple[str, str], np.ndarray]:
        """Where the queries of each subset stand in their split."""
        return {
            (split, name): np.flatnonzero(self._frame(split).index.isin(queries))
            for split, subsets in self.subsets.items()
            for name, queries in subsets.items()
        }

    def change(
        self, after: Scores, split: str, metric: str = "ndcg@10", subset: str | None = None
    ) -> Series:
        """What each query gains from here to ``after``, in this one's order; fails for others."""
        a, b = self.values(split, metric, subset), after.values(split, metric, subset)
        if len(a) != len(b) or set(a.index) != set(b.index):
            own = {"label": self.label, "n": some_of(len(a), "query", "queries")}
            raise refused("other scores", m=len(b), other=after.label, split=split, **own)
        return b.loc[a.index] - a.to_numpy()

    def test(
        self, base: Scores, split: str, metric: str = "ndcg@10", subset: str | None = None
    ) -> PairedTest:
        """This approach against another on the same queries; fails for others."""
        order = base.change(self, split, metric, subset).index
        own, other = (scores.by_seed(split, metric, subset, order) for scores in (self, base))
        return paired_test(own, other, base.clusters(split).codes(order))

    def mean(self, split: str, metric: str = "ndcg@10", subset: str | None = None) -> float:
        """The mean of a metric over queries; NaN where there are none."""
        values = self.values(split, metric, subset)
        return fmean(values) if len(values) else math.nan

    def ci(
        self, split: str, metric: str = "ndcg@10", subset: str | None = None
    ) -> tuple[float, float]:
        """The 95% interval of `mean`, which lies between 0 and 1."""
        return self.estimate(split, metric, subset).within(0.0, 1.0)

    def estimate(self, split: str, metric: str = "ndcg@10", subset: str | None = None) -> Estimate:
        """The mean and its interval, over clusters of queries and over seeds."""
        codes = self.clusters(split).codes(self.values(split, metric, subset).index)
        return estimate(self.by_seed(split, metric, subset), codes)

    def by_seed(
        self, split: str, metric: str = "ndcg@10", subset: str | None = None, order: Any = None
    ) -> np.ndarray:
        """The metric of each seed's run, shape (seeds, queries); one row where there is one run.

        ``order``: the ids of the queries; default: as they stand here.
        """
        order = self.values(split, metric, subset).index if order is None else order
        return np.stack([s.values(split, metric).loc[order] for s in self.runs or (self,)])

    def clusters(self, split: str) -> Clusters:
        """What the queries of a split hang together by."""
        return self._frame(split).attrs.get(CLUSTERS) or Clusters()

    def rows(self) -> list[Row]:
        """One dict a split and a subset; None where a value does not apply."""
        places = {split: (None, *self.subsets.get(split, {})) for split in self.per_query}
        return [self._row(split, subset) for split in places for subset in places[split]]

    def _row(self, split: str, subset: str | None) -> Row:
        frame, meta = self._frame(split), _plain(self.meta)
        frame = frame.iloc[self._places[split, subset]] if subset else frame
        queries, metric = len(frame), "ndcg@10"
        found = self.estimate(split, metric, subset) if queries and metric in frame else None
        row: Row = {"approach": self.approach, "label": self.label, "domain": self.domain}
        row |= {"split": split, "subset": subset}
        row |= {"base_model": self.base_model, "recipe_hash": self.recipe_hash}
        row |= {"clusters": found and found.clusters, "over": found and self.clusters(split).over}
        row["seeds"] = len(self.runs) or 1
        for metric in dict.fromkeys([*METRICS, *frame.columns]):
            row[metric] = fmean(frame[metric].tolist()) if queries and metric in frame else None
            if metric == "ndcg@10":
                row["ndcg@10_ci"] = [*found.within(0.0, 1.0)] if found else None
        row |= {"direction": (meta.get("directions") or {}).get(split), "queries": queries}
        row["dev"] = fmean(self.dev.values()) if self.dev else None
        row |= {name: meta.get(name) for name in _FACTS}
        row["bytes_per_embedding"] = 4 * row["dim"] if row["dim"] else None  # float32
        return row | dict.fromkeys(_PAIRED)

    def _frame(self, split: str) -> Frame:
        if split not in self.per_query:
            raise unknown("split", split, self.per_query)
        return self.per_query[split]

    def _repr_html_(self) -> str:
        return Report(self.rows())._repr_html_()

    def to_json(self) -> str:
        """All of it as JSON text; ``load`` gives every value back bit for bit."""
        per_query = {
            split: {
                "queries": list(frame.index),
                "metrics": frame.to_dict("list"),
                "unanswerable": frame.attrs.get("unanswerable", 0),
                "over": self.clusters(split).over,
                "clusters": self.clusters(split).codes(frame.index),
            }
            for split, frame in self.per_query.items()
        }
        data = {"format": 2} | {name: getattr(self, name) for name in _SAVED}
        data |= {"per_query": per_query, "subsets": _plain(self.subsets), "meta": _plain(self.meta)}
        data |= {"dev": self.dev, "runs": [json.loads(run.to_json()) for run in self.runs]}
        return json.dumps(data, ensure_ascii=False, allow_nan=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the scores to a file, whole or not at all."""
        return write_atomic(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Scores:
        """Read the scores that `save` wrote; fails for a file that is missing or half there."""
        broken = (OSError, ValueError, KeyError, TypeError, AttributeError)
        hint = "evaluate again: ek.evaluate(run, domain)"
        with readable(Path(path), *broken, said="read as scores", hint=hint):
            return cls._of(json.loads(Path(path).read_text(encoding="utf-8")))

    @classmethod
    def _of(cls, data: dict[str, Any]) -> Scores:
        per_query = {}
        for split, kept in data["per_query"].items():
            queries = kept["queries"]
            frame = by_query(kept["metrics"], queries)
            frame.attrs["unanswerable"] = kept["unanswerable"]
            if kept.get("over", ALONE) != ALONE:
                of = dict(zip(queries, kept["clusters"], strict=True))
                frame.attrs[CLUSTERS] = Clusters(kept["over"], of)
            per_query[split] = frame
        named = data["subsets"].items()
        subsets = {split: {n: tuple(ids) for n, ids in parts.items()} for split, parts in named}
        known = {name: data[name] for name in (*_SAVED, "meta")}
        known["dev"] = data.get("dev", {})  # none in what was scored before dev was
        runs = tuple(map(cls._of, data.get("runs", ())))
        return cls(per_query=per_query, subsets=subsets, runs=runs, **known)


def over_seeds(runs: Sequence[Scores]) -> Scores:
    """Runs of one recipe with several seeds as one approach: each query's mean over the seeds.

    Intervals and tests are then over seeds too. Fails where they scored other queries.
    """
    first = runs[0]
    if len(runs) == 1:
        return first
    per_query = {}
    for split, frame in first.per_query.items():
        for other in runs[1:]:
            first.change(other, split)  # fails where the queries differ
        per_query[split] = sum(s.per_query[split].loc[frame.index] for s in runs) / len(runs)
        per_query[split].attrs = frame.attrs
    dev = {q: fmean(s.dev[q] for s in runs) for q in first.dev if all(q in s.dev for s in runs)}
    each: dict[str, list[Any]] = {k: [run.meta.get(k) for run in runs] for k in first.meta}
    costs = {k: fmean(v) for k, v in each.items() if all(isinstance(x, float) for x in v)}
    meta = first.meta | costs | {"seeds": each.get("seed"), "seed": None}
    return replace(first, per_query=per_query, dev=dev, meta=meta, runs=tuple(runs))


def by_query(columns: Mapping[str, Any], queries: Sequence[str]) -> Frame:
    """A table of metrics, one row a query."""
    import pandas as pd

    return pd.DataFrame(columns, pd.Index(queries, name="query_id", dtype=object), dtype=np.float64)


def _plain(value: Any) -> Any:
    """The value as JSON has it: numpy's numbers as Python's, NaN as None."""
    text = json.dumps(value, default=lambda v: v.item() if isinstance(v, np.generic) else str(v))
    return json.loads(text, parse_constant=lambda _: None)
