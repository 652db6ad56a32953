"""What can be measured of a domain before anything is decided: all of it on train and dev."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from timeit import timeit
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import training
from ..data import Domain
from ..data.text_checks import fertility, letter_words, words
from ..display import Shown, Table
from ..errors import EmbkitError
from ..evaluation.intervals import mean_interval, paired_test
from ..evaluation.ranking import rank, score
from ..files import write_atomic
from ..models.loading import load_model
from ..pairs.pairs import collect
from ..recipes.recipe import Recipe
from .curves import Curve

if TYPE_CHECKING:
    import pandas as pd

    Measured = tuple[pd.Series, float]  # nDCG@10 of each dev query, and the seconds of training

SIZES = (500, 1000, 2000)  # pairs of the small runs
FEW_PAIRS = 200  # below so many, no small run is tried: nothing could be told from it
SEARCHED = 20_000  # documents that dev's queries are searched in, at most
SAMPLE = 5_000  # texts whose words are counted
TYPED = 20  # queries that are encoded one by one, to see how long one takes
BATCHES = ((500, 16), (1_000, 32), (2_000, 64))  # of all pairs; few steps teach nothing
TRIALS: dict[str, dict[str, Any]] = {  # approaches that are tried beside contrastive training
    "hard negatives": {"hard_negatives": 1, "relative_margin": 0.05},
    "corpus": {"approach": "corpus"},
}
INTERVAL = "{:.3f} [{:.3f}, {:.3f}]"


@dataclass(frozen=True)
class Trial:
    """A small run of one approach, against the general model and against contrastive training."""

    pairs: int
    ndcg: float  # on dev, at 10
    gain: float  # over the general model, with its 95% interval and p of a paired test
    low: float
    high: float
    p: float
    sd: float  # of the gains over queries
    over_contrastive: float = 0.0  # on the same pairs
    p_contrastive: float = 1.0
    seconds: float = 0.0  # of training

    @property
    def told(self) -> str:
        return f"{self.gain:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


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
    fertility: float = 1.0  # tokens that the model's tokenizer makes of a word, on average
    whole: float = 1.0  # share of the words, as often as they occur, that it keeps whole
    query_words: float = 0.0  # the median
    document_words: float = 0.0
    short_gap: float = 0.0  # nDCG@10 of the shorter half of dev's queries less the longer half's
    query_ms: float = 0.0  # milliseconds to encode one query, the median of 20
    index_mb: float = 0.0  # megabytes of all documents' vectors in float32
    parameters: int = 0
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

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {
            "trials": {name: vars(trial) for name, trial in self.trials.items()},
            "curve": self.curve.rows(self.pairs, 2 * self.pairs) if self.curve else None,
        }

    def table(self) -> Table:
        words = f"{self.query_words:g}, {self.document_words:g}"
        rows = [
            ("training pairs", f"{self.pairs:,}", "what can be learnt from"),
            ("dev queries", f"{self.dev_queries:,}", "what every figure here rests on"),
            ("test queries", f"{self.test_queries:,}", "kept for the proof: not looked at"),
            ("documents", f"{self.documents:,}", f"{self.searched:,} of them searched here"),
            (f"{self.model}, untrained", self.base_told, "nDCG@10 on dev"),
            ("BM25", f"{self.bm25:.3f}", "what words alone find"),
            ("words kept whole", f"{self.whole:.0%}", f"{self.fertility:.2f} tokens a word"),
            ("words of a query, of a document", words, "medians"),
            ("shorter half of the queries", f"{self.short_gap:+.3f}", "nDCG@10 less the others'"),
            ("one query", f"{self.query_ms:.1f} ms", "to encode, on this machine"),
            ("all vectors", f"{self.index_mb:,.1f} MB", "in float32"),
        ]
        for name, trial in self.trials.items():
            what = f"{name}, {trial.pairs:,} pairs"
            rows.append((what, trial.told, "over the general model, dev"))
        if self.curve:
            what = f"expected of all {self.pairs:,} pairs"
            rows.append((what, self.expected_told, "by the learning curve"))
        return Table(["what", "here", "which is"], rows)

    def __repr__(self) -> str:
        return str(self)


def gather(
    domain: Domain, model: str = "minilm", *, train: bool = True, quiet: bool = False
) -> Evidence:
    """Measures a domain: texts, baselines and, where there are labels enough, a learning curve.

    Only the train and dev splits are read. Small runs, where ``train`` allows them, are kept in the
    store like all runs: the second call trains nothing.
    """
    pairs = len(collect(domain, "human")[0])
    if not domain.split("dev"):
        raise EmbkitError(
            f"{domain.name!r} without dev queries",
            expected="a dev split: the test splits may advise nothing",
            hint="ek.load_domain(folder) splits one off; or add one to qrels['dev']",
        )
    loaded = load_model(model)
    base = untrained_on_dev(loaded, domain)
    curve, tried = None, {}
    if train and pairs >= FEW_PAIRS:
        recipe = default_recipe(pairs, model)
        runs = small_runs(recipe, domain, small_sizes(pairs), quiet)
        curve, most = curve_through(base, runs), max(runs)
        tried["contrastive"] = _trial(most, runs[most], base, runs[most])
        for name, changes in TRIALS.items():
            one = small_runs(recipe.replace(**changes), domain, [most], quiet)
            tried[name] = _trial(most, one[most], base, runs[most])
    return Evidence(
        domain=domain.name,
        model=str(model),
        pairs=pairs,
        dev_queries=len(base),
        test_queries=sum(len(domain.split(split)) for split in domain.test_splits),
        documents=len(domain.corpus),
        searched=len(domain.dev_corpus(SEARCHED)),
        base=float(base.mean()),
        base_ci=mean_interval(base),
        bm25=float(untrained_on_dev("bm25", domain).mean()),
        parameters=sum(p.numel() for p in loaded.parameters()),
        index_mb=len(domain.corpus) * (loaded.get_embedding_dimension() or 0) * 4 / 1e6,
        curve=curve,
        trials=tried,
        **_texts(loaded, domain, base),
    )


def default_recipe(pairs: int, model: str = "minilm") -> Recipe:
    """Contrastive training, in batches that leave enough steps for so many pairs."""
    size = next((size for most, size in BATCHES if pairs < most), Recipe().batch_size)
    return Recipe(model=model, batch_size=size)


def small_sizes(pairs: int, sizes: Sequence[int] | None = None) -> list[int]:
    """Sizes of the small runs: those asked for that are below all pairs, else parts of them."""
    below = [n for n in sizes or SIZES if n < pairs]
    if len(below) >= (3 if sizes is None else 2):
        return below
    return sorted({max(2, pairs // 4), max(3, pairs // 2), pairs})


def small_runs(
    recipe: Recipe, domain: Domain, sizes: Sequence[int], quiet: bool = False
) -> dict[int, Measured]:
    """Pairs -> what a run on so many gives; the recipe's seed says which are drawn."""
    found, whole = {}, len(collect(domain, recipe.pairs)[0])
    for n in sizes:
        drawn = recipe.replace(max_pairs=n if n < whole else None)
        run = training.trainer.train(drawn, domain, quiet=quiet)
        found[n] = on_dev(run, domain), run.seconds
    return found


def curve_through(base: pd.Series, runs: Mapping[int, Measured]) -> Curve:
    """The learning curve from the general model's nDCG@10 of each dev query through small runs."""
    return Curve(float(base.mean()), {n: float(values.mean()) for n, (values, _) in runs.items()})


def untrained_on_dev(what: Any, domain: Domain) -> pd.Series:
    """nDCG@10 of each dev query for a model or ``"bm25"``."""
    return _ndcg(what, domain, domain.dev_corpus(SEARCHED))


def on_dev(run: Any, domain: Domain, documents: Sequence[str] | None = None) -> pd.Series:
    """nDCG@10 of each dev query for a run, in ``SEARCHED`` documents at most; kept with the run."""
    import pandas as pd

    documents = documents or domain.dev_corpus(SEARCHED)
    asked = json.dumps([domain.hash, *documents])
    kept = run.path / f"dev-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.json"
    try:
        found = pd.Series(json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # not there, or cut off: measured anew
        found = _ndcg(run.model(), domain, documents, cache=False)
        write_atomic(kept, json.dumps(found.to_dict()))
    return found


def _ndcg(what: Any, domain: Domain, documents: Sequence[str], cache: bool = True) -> pd.Series:
    ranking = rank(what, domain, "dev", documents=documents, k=10, cache=cache)
    return score(ranking, domain, "dev", ["ndcg@10"])["ndcg@10"]


def _trial(pairs: int, run: Measured, base: pd.Series, contrastive: Measured) -> Trial:
    values, seconds = run
    test, other = paired_test(values, base), paired_test(values, contrastive[0])
    sd = float((values - base).std()) if len(values) > 1 else 0.0
    ndcg, against = float(values.mean()), (other.delta, other.p)
    return Trial(pairs, ndcg, *test[:4], sd, *against, seconds)


def _texts(model: Any, domain: Domain, base: pd.Series) -> dict[str, float]:
    """What the texts are like, and how long one query takes."""
    from ..models.packing import embed

    asked = [domain.queries[q] for q in base.index]
    documents = list(domain.corpus.values())[:SAMPLE]
    sides = {"query_words": asked, "document_words": documents}
    found = {k: float(np.median([len(words(text)) for text in of])) for k, of in sides.items()}
    tokenizer = getattr(model, "tokenizer", None)
    if callable(tokenizer) and hasattr(tokenizer, "tokenize"):
        counted = fertility(tokenizer, letter_words([*asked, *documents]))
        total = sum(count for _, count, _, _ in counted) or 1
        found["fertility"] = sum(count * parts for _, count, parts, _ in counted) / total
        kept = (count for _, count, parts, odd in counted if parts == 1 and not odd)
        found["whole"] = sum(kept) / total
    lengths = np.array([len(text) for text in asked])
    short = lengths <= np.median(lengths)
    if short.any() and not short.all():
        found["short_gap"] = float(base[short].mean() - base[~short].mean())
    took = [timeit(partial(embed, model, [text]), number=1) for text in asked[:TYPED]]
    found["query_ms"] = 1000 * statistics.median(took)
    return found
