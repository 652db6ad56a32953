"""What can be measured of a domain before anything is decided: all of it on train and dev."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from timeit import timeit
from typing import Any

from jinja2 import Template

from .. import training
from ..data import Domain
from ..data.text_checks import fertility, letter_words, words
from ..display import Series, Shown, Table
from ..errors import EmbkitError
from ..evaluation.hybrid import by_weight
from ..evaluation.intervals import CLUSTERS, Estimate, clusters, estimate, paired_test
from ..evaluation.ranking import ndcg
from ..files import read_json, told_by, write_atomic
from ..models.loading import load_model
from ..models.window import tokenizer_of, unread
from ..pairs.pairs import collect
from ..recipes.recipe import Recipe
from ..search.hybrid import Hybrid
from .curves import Curve, refused
from .planning import FEW_PAIRS, OTHERS, SEARCHED, TRIALS, Plan, cut, plan

Measured = tuple[Series, float]  # nDCG@10 of each dev query, and the seconds of training

BATCHES = ((500, 16), (1_000, 32), (2_000, 64))  # of all pairs; few steps teach nothing
SAMPLE = 5_000  # texts whose words are counted
TYPED = 20  # queries that are searched for one by one, to see how long one takes
HYBRID = "hybrid: BM25 and the model"
WEIGHTS = (0.5, 0.75, 0.25, 1.0, 0.0)  # of the model beside BM25; of equal ones, the first
INTERVAL = "{:.3f} [{:.3f}, {:.3f}]"
FACTS = told_by(__file__, "evidence.toml")


@dataclass(frozen=True)
class Trial:
    """What was tried on dev against the general model: a small run, or what needs no training."""

    ndcg: float  # on dev, at 10
    test: Estimate  # of the gain over the general model: a paired test over clusters of queries
    over: Mapping[str, Estimate] = field(default_factory=dict)  # the same, over what else was tried
    pairs: int = 0
    seconds: float = 0.0  # of training
    query_ms: float = 0.0  # of what needs no training: milliseconds a query, and
    index_mb: float = 0.0  # megabytes of the index of all documents

    @classmethod
    def of(cls, values: Any, base: Any, others: Any = {}, **facts: Any) -> Trial:  # noqa: B006
        """From nDCG@10 of each dev query: here, of the general model, and of what else there is."""
        beside = {name: other for name, other in others.items() if other is not values}
        over = {name: paired_test(values, other).estimate for name, other in beside.items()}
        return cls(float(values.mean()), paired_test(values, base).estimate, over, **facts)

    @property
    def told(self) -> str:
        cost = f"; {self.query_ms:.1f} ms a query, an index of {self.index_mb:,.1f} MB"
        told = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*self.test[:3])
        return told + cost * (not self.pairs)

    def to_dict(self) -> dict[str, Any]:
        over = {name: test._asdict() for name, test in self.over.items()}
        return vars(self) | {"test": self.test._asdict(), "over": over}


@dataclass(frozen=True, repr=False)
class Evidence(Shown):
    """Facts of a domain and a general model. No test split was read."""

    domain: str
    model: str
    pairs: int  # labelled, for training
    dev_queries: int  # which decide; those of the tests are only counted
    test_queries: int
    documents: int
    searched: int  # of the documents, with dev's queries
    base: float  # nDCG@10 of the general model on dev, with its 95% interval
    base_ci: tuple[float, float]
    bm25: float  # nDCG@10 on dev
    visible: float = 0.0  # the smallest difference between two recipes that dev would show
    effect: float = 1.0  # design effect of dev's clusters
    fertility: float = 1.0  # tokens that the model's tokenizer makes of a word, on average
    whole: float = 1.0  # share of the words, as often as they occur, that it keeps whole
    query_ms: float = 0.0  # milliseconds to encode one query, the median of 20
    index_mb: float = 0.0  # megabytes of all documents' vectors in float32
    parameters: int = 0
    unread: str = ""  # what the model's own window leaves unread, if anything
    length: int | None = None  # tokens at which all texts were cut; None: the model's own window
    planned_seconds: float = 0.0  # what the first call was expected to take, here
    alternatives: Mapping[str, Trial] = field(default_factory=dict)  # what needs no training
    missing: Mapping[str, str] = field(default_factory=dict)  # what could not be had, and why
    trials: Mapping[str, Trial] = field(default_factory=dict)  # approach -> its small run
    curve: Curve | None = None  # None where nothing was trained

    @property
    def expected(self) -> tuple[float, float, float] | None:
        """nDCG@10 on dev of contrastive training on all pairs, and its interval; None unknown."""
        return (self.curve.at(self.pairs), *self.curve.interval(self.pairs)) if self.curve else None

    @property
    def expected_told(self) -> str:
        return INTERVAL.format(*self.expected) if self.expected else "unknown"

    @property
    def base_told(self) -> str:
        return INTERVAL.format(self.base, *self.base_ci)

    @property
    def visible_in_tests(self) -> float:
        """What the tests would show, were their queries in clusters as dev's are."""
        return self.visible * (self.dev_queries / max(self.test_queries, 1)) ** 0.5

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {
            "alternatives": {name: trial.to_dict() for name, trial in self.alternatives.items()},
            "trials": {name: trial.to_dict() for name, trial in self.trials.items()},
            "curve": self.curve.rows(self.pairs, 2 * self.pairs) if self.curve else None,
        }

    def table(self) -> Table:
        over = "over the general model, dev"
        facts = {
            part: [tuple(Template(cell).render(e=self) for cell in row) for row in rows]
            for part, rows in FACTS.items()
        }
        rows = [
            *facts["first"],
            *((name, trial.told, over) for name, trial in self.alternatives.items()),
            *((name, "not measured", why) for name, why in self.missing.items()),
            *facts["costs"],
            *((f"{name}, {t.pairs:,} pairs", t.told, over) for name, t in self.trials.items()),
        ]
        if self.curve:
            what = f"expected of all {self.pairs:,} pairs"
            rows.append((what, self.expected_told, "by the learning curve"))
        return Table(["what", "here", "which is"], rows)


def gather(
    domain: Domain,
    model: str = "minilm",
    *,
    minutes: float = 5.0,
    enough: Callable[[Evidence], bool] = lambda _: False,
    quiet: bool = False,
    told: Callable[[Plan], object] | None = None,
) -> Evidence:
    """Measures a domain: texts, baselines, what needs no training, and, where there are labels
    enough, a learning curve.

    Only the train and dev splits are read. Small runs are kept in the store like all runs, and so
    is the plan: the second call trains nothing.

    Args:
        minutes: that it may take; less is trained, and dev searches fewer documents, to keep to it.
        enough: of the texts and the general model alone: whether nothing more need be measured.
        told: called with the plan before anything is encoded or trained.
    """
    pairs = len(collect(domain, "human")[0])
    if not domain.split("dev"):
        raise refused("no dev", domain=domain.name)
    loaded, recipe = load_model(model), default_recipe(pairs, model)
    planned = plan(domain, loaded, recipe, pairs, minutes)
    if told:
        told(planned)
    recipe = recipe.replace(max_length=planned.length)
    behind = unread(domain, tokenizer_of(loaded), loaded.max_seq_length)
    documents = domain.dev_corpus(planned.searched)
    index = Hybrid(cut(loaded, planned.length), [domain.corpus[d] for d in documents])
    base = ndcg(index.dense, domain, "dev", documents)
    seen = estimate(base)
    found = Evidence(
        domain=domain.name,
        model=str(model),
        pairs=pairs,
        dev_queries=len(base),
        test_queries=sum(len(domain.split(split)) for split in domain.test_splits),
        documents=len(domain.corpus),
        searched=len(documents),
        base=seen.mean,
        base_ci=seen.within(0.0, 1.0),
        bm25=float(ndcg(index.words, domain, "dev", documents).mean()),
        visible=seen.planned(),
        effect=seen.effect,
        unread=behind.told(str(model)) if behind else "",
        parameters=sum(p.numel() for p in loaded.parameters()),
        length=planned.length,
        planned_seconds=planned.seconds,
        **_cost(loaded, domain),
        **_pieces(loaded, domain),
    )
    if enough(found):
        return found
    # what needs no training
    others, costs, missing = {}, {}, {}
    for name in (name for name in OTHERS if name != str(model)):
        called = f"{name}, untrained"
        try:
            other = cut(load_model(name), planned.length)
            others[called] = ndcg(other, domain, "dev", documents)
            costs[called] = _cost(other, domain)
        except EmbkitError as error:
            missing[called] = str(error).splitlines()[0]
    others[HYBRID] = cross_fitted(by_weight(domain, index, documents, WEIGHTS))
    counted = sum(len(set(words(text))) for text in domain.corpus.values())  # 8 bytes each, about
    by_words = _timed(index.words.search, domain) | {"index_mb": counted * 8e-6}
    costs[HYBRID] = {name: vars(found)[name] + more for name, more in by_words.items()}
    tried = {name: Trial.of(values, base, **costs[name]) for name, values in others.items()}
    found = replace(found, alternatives=tried, missing=missing)
    if pairs < FEW_PAIRS:
        return found
    # the small runs
    runs = small_runs(recipe, domain, planned.sizes, documents, quiet)
    most = max(runs)
    named = {"contrastive": runs[most]}
    for name, changes in list(TRIALS.items())[: planned.trials]:
        named[name] = small_runs(recipe.replace(**changes), domain, [most], documents, quiet)[most]
    others["contrastive"] = runs[most][0]
    trials = {
        name: Trial.of(values, base, others, pairs=most, seconds=seconds)
        for name, (values, seconds) in named.items()
    }
    points = {n: float(values.mean()) for n, (values, _) in runs.items()}
    curve = Curve(found.base, points, trials["contrastive"].test.error)
    return replace(found, trials=trials, curve=curve)


def default_recipe(pairs: int, model: str = "minilm") -> Recipe:
    """Contrastive training, in batches that leave enough steps for so many pairs."""
    size = next((size for most, size in BATCHES if pairs < most), Recipe().batch_size)
    return Recipe(model=model, batch_size=size)


def small_runs(
    recipe: Recipe,
    domain: Domain,
    sizes: Sequence[int],
    documents: Sequence[str],
    quiet: bool = False,
) -> dict[int, Measured]:
    """Pairs -> what a run on so many gives; the recipe's seed says which are drawn."""
    found, whole = {}, len(collect(domain, recipe.pairs)[0])
    for n in sizes:
        drawn = recipe.replace(max_pairs=n if n < whole else None)
        run = training.trainer.train(drawn, domain, quiet=quiet)
        found[n] = on_dev(run, domain, documents), run.seconds
    return found


def on_dev(run: Any, domain: Domain, documents: Sequence[str] | None = None) -> Series:
    """nDCG@10 of each dev query for a run, in ``SEARCHED`` documents at most; kept with the run."""
    import pandas as pd

    documents = documents or domain.dev_corpus(SEARCHED)
    asked = json.dumps([domain.hash, *documents])
    kept = run.path / f"dev-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.json"
    found = pd.Series(read_json(kept), dtype=float)
    if found.empty:  # not there, or cut off: measured anew
        found = ndcg(run.model(), domain, "dev", documents, cache=False)
        write_atomic(kept, json.dumps(found.to_dict()))
    found.attrs[CLUSTERS] = clusters(domain, "dev")  # which the file does not keep
    return found


def _cost(model: Any, domain: Domain) -> dict[str, Any]:
    """Milliseconds to encode one query; megabytes of all documents' vectors."""
    from ..models.packing import embed

    size = len(domain.corpus) * (model.get_embedding_dimension() or 0) * 4 / 1e6
    return _timed(partial(embed, model), domain) | {"index_mb": size}


def _timed(ask: Callable[[list[str]], object], domain: Domain) -> dict[str, float]:
    """Milliseconds that a query takes alone, the median of some of dev's."""
    asked = [domain.queries[q] for q in list(domain.split("dev"))[:TYPED]]
    took = statistics.median(timeit(partial(ask, [text]), number=1) for text in asked)
    return {"query_ms": 1000 * took}


def cross_fitted(tried: Mapping[float, Series]) -> Series:
    """Values of each query by what is best on the other half of the clusters.

    What is chosen and scored on the same queries looks better than it is.
    """
    import pandas as pd
    from sklearn.model_selection import GroupKFold

    table, found = pd.DataFrame(dict(tried)), next(iter(tried.values())).copy()
    codes = found.attrs[CLUSTERS].codes(found.index)
    whole = range(len(table))
    halves = GroupKFold(2).split(table, groups=codes) if len({*codes}) > 1 else [(whole, whole)]
    for other, own in halves:
        found.iloc[own] = table.iloc[own][table.iloc[other].mean().idxmax()]
    return found


def _pieces(model: Any, domain: Domain) -> dict[str, Any]:
    """Tokens a word, and the share of the words that stay whole, of dev's queries and documents."""
    if not (tokenizer := tokenizer_of(model)):
        return {}
    asked = [domain.queries[q] for q in domain.split("dev")]
    counted = fertility(tokenizer, letter_words([*asked, *list(domain.corpus.values())[:SAMPLE]]))
    total = sum(count for _, count, _, _ in counted) or 1
    kept = sum(count for _, count, parts, odd in counted if parts == 1 and not odd)
    pieces = sum(count * parts for _, count, parts, _ in counted)
    return {"fertility": pieces / total, "whole": kept / total}
