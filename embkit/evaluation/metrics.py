"""Metrics of every query, by trec_eval."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ir_measures
import numpy as np
from ir_measures.providers import PytrecEvalProvider

from ..display import Frame
from ..errors import refusals, unknown

refused = refusals(__file__)
METRICS = ("ndcg@10", "mrr@10", "map", "recall@10", "recall@100", "hit@1")

Ranking = Mapping[str, Mapping[str, float]]
Qrels = Mapping[str, Mapping[str, int]]

_MEASURES = {  # name here: (name in ir-measures, whether it needs a cut-off)
    "ndcg": (ir_measures.nDCG, False),
    "mrr": (ir_measures.RR, False),
    "map": (ir_measures.AP, False),
    "recall": (ir_measures.R, True),
    "precision": (ir_measures.P, True),
    "hit": (ir_measures.Success, True),
}
_KNOWN = (*METRICS, "ndcg", "mrr", "precision@10")
_HIGHEST_GRADE = 1_000_000  # trec_eval keeps a table as long as the highest grade
_DEEPEST = 10**9
_UNFIT = re.compile(r"[\x00\ud800-\udfff]")


def score_ranking(ranking: Ranking, qrels: Qrels, metrics: Sequence[str] = METRICS) -> Frame:
    """The metrics of each query of a ranking, by trec_eval through ir-measures.

    One row a query, in the order of the qrels (index `query_id`), one column a metric.

    With gᵢ the grade of the document at rank i, n relevant documents (grade above 0) and r the
    rank of the first of them: nDCG@k = Σᵢ≤ₖ gᵢ/log₂(i+1), divided by the same sum of the ideal
    order; MRR@k = 1/r if r ≤ k, else 0; MAP = 1/n · Σ precision at the rank of each relevant
    document; recall@k = relevant documents in the first k, divided by n; precision@k = the same,
    divided by k; hit@k = 1 if r ≤ k, else 0. MAP reads the whole ranking: of ``evaluate``, which
    ranks 100 documents a query, "map" is MAP@100.

    Equal scores are ordered as trec_eval orders them: by document id, from last to first. Scores
    are compared in float64, though trec_eval itself would round them to float32.

    Args:
        ranking: query id → document id → score, higher is better. A query without one scores 0.
        qrels: query id → document id → grade, above 0 where relevant. A query without a relevant
            document is left out, and counted in `.attrs["unanswerable"]`.
        metrics: names such as "ndcg@5" or "recall@1000"; a cut-off may exceed the corpus.

    Fails for an unknown metric or cut-off, NaN scores, ids that are not text, broken grades, or a
    ranking that shares no query with the qrels.
    Paper: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002.
    """
    import pandas as pd

    names = list(dict.fromkeys([metrics] if isinstance(metrics, str) else metrics))
    if not names:
        raise refused("no metrics")
    columns: dict[Any, list[tuple[int, int | None]]] = {}  # measure: (column, cut-off of MRR)
    for column, name in enumerate(names):
        measure, cut = _measure(name)
        columns.setdefault(measure, []).append((column, cut))

    judged = {query: _grades(query, grades) for query, grades in qrels.items()}
    answerable = {query: grades for query, grades in judged.items() if any(grades.values())}
    places = {query: place for place, query in enumerate(answerable)}
    ranked = {query: _ranks(query, ranking[query]) for query in places if query in ranking}
    if ranking and places and not ranking.keys() & qrels.keys():
        raise refused("other queries", one=next(iter(ranking)), other=next(iter(qrels)))
    values = np.zeros((len(places), len(names)))  # (queries, metrics)
    if places:
        evaluator = PytrecEvalProvider().evaluator(list(columns), answerable)
        for query, measure, value in evaluator.iter_calc(ranked):
            for column, cut in columns[measure]:
                found = cut is None or value > 1 / (cut + 0.5)  # 1/rank, and rank ≤ cut
                values[places[query], column] = value if found else 0.0
    frame = pd.DataFrame(
        values, index=pd.Index(places, name="query_id", dtype=object), columns=names
    )
    frame.attrs["unanswerable"] = len(judged) - len(answerable)
    return frame


def ranking_from_arrays(
    query_ids: Sequence[str], doc_ids: Sequence[str], indices: np.ndarray, scores: np.ndarray
) -> dict[str, dict[str, float]]:
    """Turn what search returns into a ranking: best first, equal scores by id from last to first.

    Args:
        query_ids: n ids, one a row of the arrays.
        doc_ids: ids of the corpus, in the order that was searched.
        indices: (n, k) places in `doc_ids`; -1 where fewer than k documents were found.
        scores: (n, k).

    Fails for shapes or indices that do not fit, ids or documents twice, or NaN scores.
    """
    indices, scores = np.asarray(indices), np.asarray(scores)
    if indices.ndim != 2 or indices.shape != scores.shape or len(indices) != len(query_ids):
        shapes = f"indices {indices.shape} and scores {scores.shape} for {len(query_ids)} queries"
        raise refused("arrays", given=shapes, expected=f"both of shape ({len(query_ids)}, k)")
    for kind, ids in (("query", query_ids), ("document", doc_ids)):
        for twice in (name for name, times in Counter(ids).items() if times > 1):
            given = f"the {kind} id {twice!r} is given twice"
            raise refused("arrays", given=given, expected=f"one id a {kind}")
    whole = np.issubdtype(indices.dtype, np.integer)
    if indices.size and not (whole and indices.min() >= -1 and indices.max() < len(doc_ids)):
        given = f"indices from {indices.min()} to {indices.max()} for {len(doc_ids)} documents"
        expected = f"whole numbers from 0 to {len(doc_ids) - 1}, or -1 for no document"
        raise refused("arrays", given=given, expected=expected)
    ordered = np.sort(indices, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        given = "a document is listed twice for one query"
        raise refused("arrays", given=given, expected="each one at most once a query")
    ranking = {}
    for query, places, values in zip(query_ids, indices.tolist(), scores.tolist(), strict=True):
        found = {doc_ids[p]: v for p, v in zip(places, values, strict=True) if p >= 0}
        if any(v != v for v in found.values()):
            raise refused("NaN", query=query)
        # the order of trec_eval
        ranking[query] = dict(sorted(found.items(), key=lambda i: (i[1], i[0]), reverse=True))
    return ranking


def _measure(name: str) -> tuple[Any, int | None]:
    """The measure of ir-measures for a name, and the cut-off still to be applied to MRR."""
    stem, at, tail = str(name).partition("@")
    if stem not in _MEASURES:
        raise unknown("metric", str(name).lower(), _KNOWN)
    measure, needs_cut = _MEASURES[stem]
    if not at and not needs_cut:
        return measure, None
    if not re.fullmatch(r"0*[1-9][0-9]*", tail, flags=re.ASCII):
        raise refused("cut-off", name=name, stem=stem)
    cut = min(int(tail), _DEEPEST)
    # trec_eval's reciprocal rank has no cut-off, and ir-measures' other one orders ties otherwise
    return (measure, cut) if stem == "mrr" else (measure @ cut, None)


def _grades(query: str, grades: Mapping[str, int]) -> dict[str, int]:
    _check_ids([query, *grades])
    for doc, grade in grades.items():
        if not float(grade).is_integer() or grade > _HIGHEST_GRADE:
            raise refused("grade", query=query, document=doc, grade=grade, most=_HIGHEST_GRADE)
    # below 0 means not relevant, as trec_eval has it
    return {doc: max(int(grade), 0) for doc, grade in grades.items()}


def _ranks(query: str, docs: Mapping[str, float]) -> dict[str, float]:
    """Scores as dense ranks: the same order and ties, exact in trec_eval's float32."""
    _check_ids(docs)
    values = np.fromiter(docs.values(), dtype=np.float64, count=len(docs))
    if np.isnan(values).any():
        raise refused("NaN", query=query)
    dense = np.unique(values, return_inverse=True)[1].astype(np.float64)
    return dict(zip(docs, dense.tolist(), strict=True))


def _check_ids(ids: Iterable[object]) -> None:
    """trec_eval reads ids as C strings: other ids would be mixed up, or end the process."""
    for name in ids:
        if not isinstance(name, str) or _UNFIT.search(name):
            raise refused("id", name=name)
