"""evaluate(model, domain) -> Scores: one way to rank and score, whatever is evaluated."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ..assets.catalogue import folder_fingerprint, resolve
from ..data.domain import Domain, earlier_results
from ..data.sources.python_code import PROBE
from ..display import Frame, Series, Table
from ..errors import EmbkitError
from ..models.encoding import weights_fingerprint
from ..models.loading import as_model, encode_speeds
from ..runs import HEAD_RECORD, RECORD, key_of, store
from ..search.hybrid import PLAIN, Fusion, Hybrid, as_fusion
from ..search.index import BM25, Dense
from ..search.passages import PassageIndex, Passages, by_recipe, index_of, matching
from .hybrid import WEIGHTS, weighed
from .intervals import CLUSTERS, clusters
from .metrics import METRICS, Ranking, ranking_from_arrays, refused, score_ranking
from .report import Report, compare
from .scores import Scores, over_seeds

DEV, CHOOSES = "dev", "ndcg@10"  # the split that chooses, and by what
DEPTH = 100  # documents a query that are ranked and scored
TIMED = 256  # documents whose encoding is timed
_TELLING = {"learning_rate": "learning rate {:g}", "seed": "seed {}"}  # of meta, in brackets
INDEXES = BM25 | Dense | Hybrid | PassageIndex


def indexed(model: Any, texts: Sequence[str], *, cache: bool = True) -> INDEXES:
    """Documents made ready for a model (encoded), for ``"bm25"`` (words counted), for ``"hybrid"``
    and other fusions (both; without a weight 0.5, for there is no dev here), or for ``Passages``
    (cut, then either), once."""
    if fusion := as_fusion(model):
        weight = PLAIN if fusion.weight is None else fusion.weight
        return Hybrid(fusion.of, texts, weight=weight, cache=cache)
    return index_of(model, texts, cache=cache)


def rank(
    model: Any,
    domain: Domain,
    split: str,
    *,
    documents: Sequence[str] | None = None,
    k: int = DEPTH,
    cache: bool = True,
) -> dict[str, dict[str, float]]:
    """The k best documents of every query of a split; fewer where BM25 finds fewer.

    A query that stands in the corpus too, under its own id, does not find itself, unless that is
    judged right: see ``Domain.own``.

    Args:
        model: a SentenceTransformer, a function ``list[str] -> (texts, dim)``, ``"bm25"``,
            ``"hybrid"`` or a ``Fusion`` (weighed on dev), ``Passages``, or what ``indexed`` made of
            one and the documents.
        documents: ids to search; default: the whole corpus.
        cache: whether embeddings are read from and kept on disk.
    """
    ids = list(documents if documents is not None else domain.documents(split))
    if not isinstance(model, INDEXES):
        model = indexed(weighed(model, domain), [domain.corpus[i] for i in ids], cache=cache)
    queries = list(domain.split(split))
    asked = [domain.queries[q] for q in queries]
    indices, scores = model.search(asked, k, domain.hidden(queries, ids))
    return ranking_from_arrays(queries, ids, indices, scores)


def score(ranking: Ranking, domain: Domain, split: str, metrics: Sequence[str] = METRICS) -> Frame:
    """Metrics per query of a split; `.attrs` says what its queries hang together by."""
    frame = score_ranking(ranking, domain.split(split), metrics)
    frame.attrs[CLUSTERS] = clusters(domain, split)
    return frame


def ndcg(
    model: Any,
    domain: Domain,
    split: str,
    documents: Sequence[str] | None = None,
    *,
    cache: bool = True,
) -> Series:
    """nDCG@10 of each query of a split; the arguments are those of ``rank``."""
    ranking = rank(model, domain, split, documents=documents, k=10, cache=cache)
    return score(ranking, domain, split, [CHOOSES])[CHOOSES]


def evaluate(
    what: Any,
    domain: Domain,
    *,
    splits: Sequence[str] | None = None,
    name: str | None = None,
    save: bool = True,
) -> Scores:
    """Ranks the whole corpus for every query of the tests and of dev, and scores each query's first
    100 documents. Dev's scores stand beside (``Scores.dev``): they choose, the tests report.

    Args:
        what: a Run, a Head, ``"bm25"``, a model's name or folder, a SentenceTransformer, or any
            function ``list[str] -> (texts, dim)``, such as an API's client; ``"hybrid"``, or
            ``ek.search.Fusion`` of any of these and BM25, weighed on dev; ``ek.search.Passages`` of
            any. A Run whose recipe cuts documents is evaluated on its passages.
        splits: default: the domain's test splits.
        name: what the leaderboard calls it.
        save: whether the leaderboard keeps it.
    """
    splits = tuple(splits or domain.test_splits)
    for split in splits:
        domain.split(split)
    # what is kept already
    kept, what = store(domain), by_recipe(what)
    subject, fusion = _subject(what, name, kept.name), as_fusion(what)
    missing = {s: n for s, n in domain.missing_judged.items() if s in domain.test_splits}
    told = {"missing_judged": missing} if missing else {}
    path = kept / subject.key / "scores.json"
    whole = set(splits) == set(domain.test_splits)
    if save and whole and subject.by_content and path.is_file():
        found = None
        with suppress(EmbkitError):  # half-written by an older kill, or out of date: scored again
            found = _kept(path, subject.meta.get("fusion"))
        if found and (found.dev or not _has_dev(domain)):
            if name not in (None, found.approach) or found.meta != found.meta | told:
                called = name or found.approach  # the same scores under the name asked for
                found = replace(found, approach=called, meta=found.meta | told)
                found.save(path)
            return found
    # ranking and scoring
    model, meta = as_model(by_recipe(fusion.of) if fusion else what), subject.meta | told
    started = time.perf_counter()
    index = weighed(replace(fusion, of=model), domain) if fusion else model
    meta |= {"weight": index.weight} if fusion else {}
    index = index if domain.searched else indexed(index, list(domain.corpus.values()))
    per_query = {split: score(rank(index, domain, split), domain, split) for split in splits}
    dev: dict[str, float] = {}
    if _has_dev(domain):
        dev = ndcg(index, domain, DEV).to_dict()
    # what is known of the model and the corpus
    meta["corpus"] = max(len(domain.documents(split)) for split in splits)
    meta["evaluate_seconds"] = time.perf_counter() - started
    directions = {split: domain.direction(split) for split in splits if domain.searched}
    meta |= {"directions": directions} if any(directions.values()) else {}
    if isinstance(cut := getattr(index, "dense", index), PassageIndex):
        meta["passages"] = len(cut)
    model = model.of if isinstance(model, Passages) else model
    if hasattr(model, "get_embedding_dimension"):
        meta["dim"] = model.get_embedding_dimension()
        meta["total_params"] = sum(p.numel() for p in model.parameters())
        meta["encode_per_second"] = encode_speed(model, list(domain.corpus.values())[:TIMED])
    scores = Scores(
        approach=subject.approach,
        domain=domain.name,
        domain_hash=domain.hash,
        base_model=meta.pop("base_model", None),
        recipe_hash=meta.pop("recipe_hash", None),
        per_query=per_query,
        subsets={s: parts for s, parts in domain.subsets().items() if s in splits},
        meta=meta,
        dev=dev,
    )
    if save and whole:
        scores.save(path)
    return scores


def encode_speed(model: Any, documents: list[str]) -> float:
    """Documents a second on this machine; nothing comes from the cache."""
    return float(encode_speeds({"": model}, documents, rounds=1)["texts/s"].iloc[0])


def place_of(what: Any, domain: Domain) -> Path:
    """Where the scores of what is evaluated are kept, if they are."""
    kept = store(domain)
    return kept / _subject(by_recipe(what), None, kept.name).key / "scores.json"


class _Subject(NamedTuple):
    key: str  # its folder in the store
    approach: str
    meta: dict[str, Any]
    by_content: bool = True  # the key changes with what is evaluated, so kept scores still hold


def _subject(what: Any, name: str | None, domain: str) -> _Subject:
    """What is evaluated, in the folder ``domain`` of the store."""
    if hasattr(what, "describe"):  # a Run or a Head
        return _Subject(key_of(what.path, domain), name or what.label, what.describe())
    if isinstance(what, str) and what == "bm25":
        return _Subject("bm25", name or "bm25", {"trainable_params": 0, "bm25": BM25.VERSION})
    if fusion := as_fusion(what):
        return _fused(fusion, name, domain)
    if isinstance(what, Passages):
        inner = _subject(what.of, None, domain)
        if what == by_recipe(what.of):  # as it was trained: its own scores
            return inner._replace(approach=name or inner.approach)
        key = f"{what.told.replace(', ', '-').replace(' ', '-')}-{inner.key}"
        return inner._replace(key=key, approach=name or f"{inner.approach}, {what.told}")
    if isinstance(what, str) or hasattr(what, "__fspath__"):
        meta = {"base_model": str(what), "trainable_params": 0}
        return _Subject(f"base-{folder_fingerprint(resolve(what))[:12]}", name or "base", meta)
    if hasattr(what, "preprocess"):
        prompts = {k: p for k, p in (getattr(what, "prompts", None) or {}).items() if p}
        told = f"-{_digest(json.dumps(prompts, sort_keys=True))[:6]}" if prompts else ""
        return _Subject(f"model-{weights_fingerprint(what)[:12]}{told}", name or "model", {})
    if hasattr(what, "vectors"):  # a Teacher
        return _Subject(f"teacher-{what.fingerprint()[:12]}", name or f"teacher: {what.name}", {})
    as_model(what)  # raises what says that it is none
    called = str(name or getattr(what, "__name__", type(what).__name__))
    return _Subject(f"function-{_digest(called)[:12]}", called, {"trainable_params": 0}, False)


def _fused(fusion: Fusion, name: str | None, domain: str) -> _Subject:
    """A fusion, in a folder of its own for each model; what it was made with stands in ``meta``."""
    inner = _subject(fusion.of, None, domain)
    model = str(fusion.of) if inner.approach == "base" else inner.approach
    made = [inner.key, BM25.VERSION, DEPTH, WEIGHTS if fusion.weight is None else fusion.weight]
    made.append(getattr(fusion.of, "record", None))  # a run that is trained again is another
    meta = {"trainable_params": 0, **inner.meta, "bm25": BM25.VERSION, "model": model}
    meta["fusion"] = _digest(json.dumps(made, sort_keys=True, default=str))[:12]
    told = "" if fusion.weight is None else f", weight {fusion.weight:g}"
    called = ("hybrid" if fusion.of == Fusion.of else f"hybrid of {model}") + told
    key = f"hybrid-{inner.key}" + told.replace(", weight ", "-")
    return _Subject(key, name or called, meta, inner.by_content)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def leaderboard(
    domain: Domain, baseline: str = "base", *, asked: Sequence[str] | None = None
) -> Report:
    """Everything evaluated so far on a domain, compared with the baseline; fails for nothing.

    Runs of one recipe with several seeds are one row, over those seeds. Since what else is kept
    changes from day to day, no p is corrected for it: ``asked`` names the comparisons that were
    planned, and p is corrected for these (see ``compare``).
    """
    kept: dict[Any, dict[str, Scores]] = {}  # what differs by the seed alone, by its folders
    together = {split: clusters(domain, split) for split in domain.test_splits}
    for path in sorted(store(domain).glob("*/scores.json")):
        with suppress(EmbkitError):  # half-written or out of date: evaluate() writes it again
            one, name = _with_general(_kept(path), path), path.parent.name
            for split, frame in one.per_query.items():  # older ones do not bring theirs
                frame.attrs[CLUSTERS] = together.get(split)
            method = one.meta.get("method")
            kept.setdefault((one.label, method) if method else name, {})[name] = one
    found: dict[str, Scores] = {}  # by the name of the folder
    for runs in kept.values():
        seeds = {one.meta.get("seed") for one in runs.values()}
        found |= {min(runs): over_seeds([*runs.values()])} if len(seeds) == len(runs) else runs
    if not found:
        earlier = earlier_results(domain)
        raise refused("nothing evaluated", domain=domain, earlier=earlier and f"; {earlier}")
    order = sorted(_told_apart(found), key=lambda s: fmean(map(s.mean, s.per_query)))
    called = [s.approach for s in order]
    return compare(order, baseline if baseline in called else called[0], asked=asked or ())


def _has_dev(domain: Domain) -> bool:
    return bool(domain.qrels.get(DEV)) and DEV not in domain.test_splits


def _kept(path: Path, fusion: str | None = None) -> Scores:
    """Scores from the store; fails for those of a BM25 that found other documents, or of another
    fusion than the one that is named."""
    scores = Scores.load(path)
    words = path.parent.name.endswith("bm25") or "fusion" in scores.meta
    stale = words and scores.meta.get("bm25") != BM25.VERSION
    if stale or fusion not in (None, scores.meta.get("fusion")):
        raise refused("out of date", path=path)
    return scores


def _told_apart(scores: Mapping[str, Scores]) -> Iterable[Scores]:
    """The scores; behind equal names, in brackets, the first fact that differs for all of them."""
    told, labels = dict(scores), Counter(one.label for one in scores.values())
    for label in (label for label, times in labels.items() if times > 1):
        same = {key: one for key, one in scores.items() if one.label == label}
        models = [one.base_model for one in same.values()]
        facts = {name: [one.meta.get(name) for one in same.values()] for name in _TELLING}
        named: tuple[list[Any], ...] = (
            [model and Path(model).name for model in models],  # of a folder, its own name
            models,
            *([v if v is None else _TELLING[n].format(v) for v in facts[n]] for n in facts),
            [key.split("-", 1)[-1][:6] for key in same],
            list(same),
        )
        tell = next(n for n in named if None not in n and len(set(n)) == len(n))
        for (key, one), what in zip(same.items(), tell, strict=True):
            told[key] = one.labelled(f"{label} ({what})")
    return told.values()


def _with_general(scores: Scores, path: Path) -> Scores:
    """The scores, with what the same model scored on ``general_probe``, if it did."""
    made = any((path.parent / record).is_file() for record in (RECORD, HEAD_RECORD))
    for probe in path.parents[2].glob(f"{PROBE}-*"):
        kept = probe / (key_of(path.parent, probe.name) if made else path.parent.name)
        if (kept / "scores.json").is_file():
            general = Scores.load(kept / "scores.json")
            return replace(scores, meta=scores.meta | {"general_ndcg@10": general.mean(PROBE)})
    return scores


def check_query(query: str) -> None:
    """Fails for a query without a word."""
    if not query.strip():
        raise refused("empty query")


def hits(
    index: Any, query: str, domain: Domain, k: int, deep: int = 0
) -> tuple[list[tuple[str, str, float]], dict[str, int]]:
    """The k best documents for a query, each with its text (of ``Passages`` the passage that
    matches) and its score; and the ranks of the first ``deep``, or k, that are found."""
    check_query(query)
    ids, texts = list(domain.corpus), list(domain.corpus.values())
    order, scores = (row[0].tolist() for row in index.search([query], max(k, deep)))
    places = [place for place in order if place >= 0]  # those that are found come first
    found = [ids[place] for place in places]
    shown = matching(index, query, texts, places[:k])
    return list(zip(found, shown, scores, strict=False)), dict(zip(found, count(1), strict=False))


def search_side_by_side(query: str, models: dict[str, Any], domain: Domain, k: int = 5) -> Table:
    """One query, searched by several models side by side, one row a rank.

    For each model (as ``rank`` takes it) the document's id and text, of ``Passages`` the passage
    that matches, and its score; "nothing found" and a dash where it finds fewer than k.
    """
    texts = list(domain.corpus.values())
    columns = {"rank": [str(place) for place in range(1, min(k, len(texts)) + 1)]}
    for name, model in models.items():
        found, _ = hits(indexed(weighed(model, domain), texts), query, domain, k)
        rows = [(f"{i}  {text}", f"{score:.3f}") for i, text, score in found]
        rows += [("nothing found", "–")] * (len(columns["rank"]) - len(rows))
        columns[name], columns[f"{name}: score"] = map(list, zip(*rows, strict=True))
    return Table(list(columns), list(zip(*columns.values(), strict=True)))


def rank_changes(
    query: str, before: Any, after: Any, domain: Domain, right: Sequence[str] = (), k: int = 10
) -> list[dict[str, Any]]:
    """Where each document stood before and stands after: the rows of ``plots.rank_change``.

    One dict a document: ``text``, ``before`` and ``after`` (ranks from 1, None where it is not
    found), ``relevant``. The first k of either list are kept, and every document of ``right``, the
    ids of those that answer the query. Models are given as in ``search_side_by_side``.
    """
    ids, texts = list(domain.corpus), list(domain.corpus.values())
    indexes = (indexed(weighed(model, domain), texts) for model in (before, after))
    places = [hits(index, query, domain, 0, len(texts))[1] for index in indexes]
    last = len(ids) + 1
    kept = [i for i in ids if i in right or min(place.get(i, last) for place in places) <= k]
    kept.sort(key=lambda i: places[1].get(i, last))
    return [
        {"text": domain.corpus[i], "before": places[0].get(i), "after": places[1].get(i)}
        | {"relevant": i in right}
        for i in kept
    ]
