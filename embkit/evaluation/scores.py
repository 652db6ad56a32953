"""Scores of one approach, saved and loaded; compare(), which makes a Report of several."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.domain import right_documents
from ..errors import EmbkitError, unknown
from ..files import write_atomic
from .metrics import METRICS, bootstrap_ci, holm, paired_test
from .report import Report, Row

if TYPE_CHECKING:
    import pandas as pd

    from ..data import Domain

_SAVED = ("approach", "domain", "domain_hash", "base_model", "recipe_hash")
_FACTS = """corpus trainable_params total_params train_seconds peak_memory_mb dim learning_rate seed
general_ndcg@10 encode_per_second""".split()  # columns of a row that come from meta
_PAIRED = "p_vs_base p_holm delta_vs_base delta_vs_base_ci sd_vs_base wins ties losses".split()
FLIPS, TESTS = 10_000, 50  # sign flips of a test: at least so many, and so many a test


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
    per_query: dict[str, pd.DataFrame]  # split → what `score_ranking` gives
    # split → name → query ids, reported as rows of their own
    subsets: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        means = ", ".join(f"{split} {self.mean(split):.3f}" for split in self.per_query)
        return f"Scores({self.label!r} on {self.domain!r}, nDCG@10: {means})"

    def __post_init__(self) -> None:
        if not self.per_query:
            raise EmbkitError(
                f"scores of {self.approach!r} without a split",
                expected="at least one split in per_query",
                hint="ek.evaluate(run, domain)",
            )
        for split, frame in self.per_query.items():
            whole = frame.index.is_unique and len(frame.columns)
            if not whole or not np.isfinite(frame.to_numpy(float)).all():
                raise EmbkitError(
                    f"the scores of {self.approach!r} on {split!r} repeat a query, hold NaN or "
                    "have no metric",
                    expected="one row a query, and a number for each metric",
                    hint="ek.evaluation.score(ranking, domain, split)",
                )
        for split, subsets in self.subsets.items():
            frame = self._frame(split)
            for name, queries in subsets.items():
                missing = set(queries).difference(frame.index)
                if len(missing) > frame.attrs.get("unanswerable", 0):
                    raise EmbkitError(
                        f"the subset {name!r} of {split!r} has {len(missing)} queries that were "
                        f"not scored, such as {min(missing)!r}",
                        expected=f"query ids of the split {split!r}",
                        hint=f"domain.subset({split!r})",
                    )

    @property
    def label(self) -> str:
        """The name shown in tables: the label in `meta`, else the approach."""
        return str(self.meta.get("label") or self.approach)

    def labelled(self, label: str) -> Scores:
        """The same scores under another name in tables."""
        return replace(self, meta=self.meta | {"label": label})

    def values(self, split: str, metric: str = "ndcg@10", subset: str | None = None) -> pd.Series:
        """One metric of each query of a split, or of a subset of it; fails for an unknown name."""
        frame = self._frame(split)
        if metric not in frame:
            raise unknown("metric", metric, frame.columns)
        if subset is None:
            return frame[metric]
        known = self.subsets.get(split, {})
        if subset not in known:
            raise unknown("subset", subset, known or ["none"])
        return frame.loc[frame.index.isin(known[subset]), metric]

    def change(
        self, after: Scores, split: str, metric: str = "ndcg@10", subset: str | None = None
    ) -> pd.Series:
        """What each query gains from here to ``after``, in this one's order; fails for others."""
        a, b = self.values(split, metric, subset), after.values(split, metric, subset)
        if len(a) != len(b) or set(a.index) != set(b.index):
            raise EmbkitError(
                f"{len(a)} queries of {self.label!r} and {len(b)} of {after.label!r} on {split!r}, "
                "not the same",
                expected="scores of the same queries",
                hint="evaluate both on the same domain and profile",
            )
        return b.loc[a.index] - a

    def mean(self, split: str, metric: str = "ndcg@10", subset: str | None = None) -> float:
        """The mean of a metric over queries; NaN where there are none."""
        values = self.values(split, metric, subset)
        return fmean(values) if len(values) else math.nan

    def ci(
        self, split: str, metric: str = "ndcg@10", subset: str | None = None
    ) -> tuple[float, float]:
        """The bootstrap interval of `mean`."""
        return bootstrap_ci(self.values(split, metric, subset))

    def rows(self) -> list[Row]:
        """One dict a split and a subset; None where a value does not apply."""
        places = {split: (None, *self.subsets.get(split, {})) for split in self.per_query}
        return [self._row(split, subset) for split in places for subset in places[split]]

    def _row(self, split: str, subset: str | None) -> Row:
        frame, meta = self._frame(split), _plain(self.meta)
        queries = len(self.values(split, frame.columns[0], subset))
        row: Row = {"approach": self.approach, "label": self.label, "domain": self.domain}
        row |= {"split": split, "subset": subset}
        row |= {"base_model": self.base_model, "recipe_hash": self.recipe_hash}
        for metric in dict.fromkeys([*METRICS, *frame.columns]):
            scored = queries > 0 and metric in frame
            row[metric] = self.mean(split, metric, subset) if scored else None
            if metric == "ndcg@10":
                row["ndcg@10_ci"] = list(self.ci(split, metric, subset)) if scored else None
        row |= {"direction": (meta.get("directions") or {}).get(split), "queries": queries}
        row |= {name: meta.get(name) for name in _FACTS}
        row["bytes_per_embedding"] = 4 * row["dim"] if row["dim"] else None  # float32
        return row | dict.fromkeys(_PAIRED)

    def _frame(self, split: str) -> pd.DataFrame:
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
            }
            for split, frame in self.per_query.items()
        }
        data = {"format": 1} | {name: getattr(self, name) for name in _SAVED}
        data |= {"per_query": per_query, "subsets": _plain(self.subsets), "meta": _plain(self.meta)}
        return json.dumps(data, ensure_ascii=False, allow_nan=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the scores to a file, whole or not at all."""
        return write_atomic(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Scores:
        """Read the scores that `save` wrote; fails for a file that is missing or half there."""
        import pandas as pd

        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            per_query = {}
            for split, kept in data["per_query"].items():
                index = pd.Index(kept["queries"], name="query_id")
                per_query[split] = pd.DataFrame(kept["metrics"], index=index, dtype=np.float64)
                per_query[split].attrs["unanswerable"] = kept["unanswerable"]
            subsets = {
                split: {name: tuple(queries) for name, queries in named.items()}
                for split, named in data["subsets"].items()
            }
            known = {name: data[name] for name in (*_SAVED, "meta")}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            unread = isinstance(error, OSError | UnicodeDecodeError)
            told = "cannot read scores from" if unread else "this is not a whole file of scores:"
            raise EmbkitError(
                f"{told} {path} ({type(error).__name__}: {error})",
                expected="a file that Scores.save() wrote",
                hint="evaluate again: ek.evaluate(run, domain)",
            ) from error
        return cls(per_query=per_query, subsets=subsets, **known)


def _plain(value: Any) -> Any:
    """The value as JSON has it: numpy's numbers as Python's, NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def compare(scores: Sequence[Scores], baseline: str = "base") -> Report:
    """Put approaches side by side, each tested against the baseline on nDCG@10, query by query.

    One row an approach, split and subset; the highest nDCG@10 of each first. ``p_vs_base`` is each
    test's own p, ``p_holm`` the same corrected for all tests of the report (Holm).

    Args:
        scores: scores of one domain, the baseline's among them.
        baseline: the approach (or label) to compare with. Where several scores bear that name,
            each approach meets the one with its own base model, else the first.

    Raises:
        EmbkitError: for no scores, the same scores twice, scores of different domains, a missing
            baseline, or approaches that were not scored on the same queries.
    """
    scores = list(scores)
    hint = "ek.compare([ek.evaluate('minilm', domain), ek.evaluate(run, domain)])"
    if not scores:
        raise EmbkitError("no scores to compare", expected="at least the baseline's", hint=hint)
    first = scores[0]
    for other in scores:
        if (other.domain, other.domain_hash) != (first.domain, first.domain_hash):
            raise EmbkitError(
                f"{first.label!r} was scored on {first.domain!r} ({first.domain_hash[:8]}), "
                f"{other.label!r} on {other.domain!r} ({other.domain_hash[:8]}): other queries "
                "or documents, so the numbers cannot be compared",
                expected="scores of one domain with one content hash, so of one profile",
                hint="evaluate all of them on the same domain, then compare again",
            )
    names = Counter((s.label, s.base_model, s.recipe_hash, s.meta.get("seed")) for s in scores)
    (name, *_), times = names.most_common(1)[0]
    if times > 1:
        raise EmbkitError(
            f"the scores of {name!r} are given twice",
            expected="each approach once; other labels for those that differ",
            hint='give each its own meta["label"], or drop one',
        )
    bases = [s for s in scores if baseline in (s.approach, s.label)]
    if not bases:
        raise unknown("baseline", baseline, [s.label for s in scores])

    # each approach against its baseline, row by row
    rows = []
    tests = sum(len(s.per_query) + sum(map(len, s.subsets.values())) for s in scores)
    flips = max(FLIPS, TESTS * tests)  # the least p that many flips can show must survive Holm
    for one in scores:
        base = next((b for b in bases if b.base_model == one.base_model), bases[0])
        for row in one.rows():
            if one is not base and row["queries"]:
                place = (row["split"], "ndcg@10", row["subset"])
                change = base.change(one, *place)
                test = paired_test(one.values(*place), base.values(*place), resamples=flips)
                row |= {"p_vs_base": test.p, "delta_vs_base": test.delta}
                row["delta_vs_base_ci"] = [test.ci_low, test.ci_high]
                row["sd_vs_base"] = float(change.std()) if len(change) > 1 else None
                row |= {"wins": test.wins, "ties": test.ties, "losses": test.losses}
            rows.append(row)
    # all tests of the report are one family
    tested = [row for row in rows if row["p_vs_base"] is not None]
    for row, p in zip(tested, holm([row["p_vs_base"] for row in tested]), strict=True):
        row["p_holm"] = p
    # the best of each split and subset first
    splits = list(dict.fromkeys(row["split"] for row in rows))
    subsets = [None, *dict.fromkeys(row["subset"] for row in rows if row["subset"])]
    rows.sort(key=lambda row: -math.inf if row["ndcg@10"] is None else row["ndcg@10"], reverse=True)
    rows.sort(key=lambda row: (splits.index(row["split"]), subsets.index(row["subset"])))
    return Report(rows, baseline=baseline)


def win_tie_loss(
    scores: Sequence[Scores], against: Scores, split: str, metric: str = "ndcg@10"
) -> pd.DataFrame:
    """On how many queries each approach beats another one, equals it, and loses to it.

    One row an approach: ``win``, ``tie``, ``loss`` (queries), ``mean win`` and ``mean loss`` (of
    the metric, over the queries won and lost; NaN where there are none).
    """
    import pandas as pd

    rows = {}
    for one in scores:
        change = against.change(one, split, metric)
        won, lost = change[change > 0], change[change < 0]
        rows[one.label] = {
            "win": len(won),
            "tie": len(change) - len(won) - len(lost),
            "loss": len(lost),
            "mean win": won.mean(),
            "mean loss": lost.mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"against {against.label}")


def top_changed_queries(
    before: Scores, after: Scores, domain: Domain, split: str, n: int = 5, metric: str = "ndcg@10"
) -> pd.DataFrame:
    """The queries that gained and lost most, with their texts and what would have been right.

    One row a query, n of either side at most, the largest gain first: ``query``, ``right`` (its
    right documents), the metric before and after, ``change``. Fails for scores of another domain.
    """
    import pandas as pd

    for one in (before, after):
        if one.domain_hash != domain.hash:
            raise EmbkitError(
                f"{one.label!r} was scored on {one.domain!r} ({one.domain_hash[:8]}), not on "
                f"{domain.name!r} ({domain.hash[:8]})",
                expected="scores of the domain that is given",
                hint="ek.evaluate(run, domain)",
            )
    change = before.change(after, split, metric)
    change = change[change != 0].sort_values(ascending=False, kind="stable")
    few = min(n, -(-len(change) // 2))
    kept = dict.fromkeys([*change.index[:few], *change.index[len(change) - few :]])
    left, right = before.values(split, metric), after.values(split, metric)
    rows = [
        {
            "query": domain.queries[q],
            "right": "; ".join(domain.corpus[d] for d in right_documents(domain.qrels[split][q])),
            before.label: left[q],
            after.label: right[q],
            "change": change[q],
        }
        for q in kept
    ]
    return pd.DataFrame(rows)
