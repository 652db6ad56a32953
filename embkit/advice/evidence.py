"""What can be measured of a domain before anything is decided: all of it on train and dev."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Domain
from ..display import Shown, Table
from ..errors import EmbkitError
from ..evaluation.metrics import bootstrap_ci, paired_test
from ..evaluation.ranking import rank, score
from ..files import write_atomic
from ..models.loading import load_model
from ..pairs.pairs import collect
from ..recipes.recipe import Recipe
from .curves import Curve

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True)
class Trial:
    """A small run of one approach, against the general model and against contrastive training.

    Args:
        pairs: that it was trained on.
        ndcg: nDCG@10 on dev.
        gain: over the general model, with ``low`` and ``high``, its 95% interval, and ``p``.
        over_contrastive: over contrastive training on the same pairs, with ``p_contrastive``.
        seconds: of training.
    """

    pairs: int
    ndcg: float
    gain: float
    low: float
    high: float
    p: float
    sd: float
    over_contrastive: float = 0.0
    p_contrastive: float = 1.0
    seconds: float = 0.0

    @property
    def told(self) -> str:
        """The gain and its interval, in words."""
        return f"{self.gain:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True, repr=False)
class Evidence(Shown):
    """Facts of a domain and a general model. No test split was read.

    Args:
        domain: its name.
        model: the general model.
        pairs: labelled training pairs.
        dev_queries: queries that decide; ``test_queries`` are only counted.
        documents: to search; ``searched`` of them, with dev's queries.
        base: nDCG@10 of the general model on dev, with its 95% interval ``base_ci``.
        bm25: nDCG@10 of BM25 on dev.
        fertility: tokens that the model's tokenizer makes of a word, on average.
        whole: share of the words (as often as they occur) that it keeps whole.
        query_words: of a query, the median; ``document_words`` of a document.
        short_gap: nDCG@10 of the shorter half of dev's queries less that of the longer half.
        query_ms: milliseconds to encode one query, the median of 20.
        index_mb: megabytes of all documents' vectors in float32.
        parameters: of the model.
        curve: nDCG@10 on dev by training pairs; None where nothing was trained.
        trials: approach -> what a small run of it gave.
    """

    domain: str
    model: str
    pairs: int
    dev_queries: int
    test_queries: int
    documents: int
    searched: int
    base: float
    base_ci: tuple[float, float]
    bm25: float
    fertility: float = 1.0
    whole: float = 1.0
    query_words: float = 0.0
    document_words: float = 0.0
    short_gap: float = 0.0
    query_ms: float = 0.0
    index_mb: float = 0.0
    parameters: int = 0
    curve: Curve | None = None
    trials: Mapping[str, Trial] = field(default_factory=dict)

    @property
    def best_trial(self) -> tuple[str, Trial]:
        """The small run that gains most over the general model, with its name."""
        return max(self.trials.items(), key=lambda item: item[1].gain)

    @property
    def expected(self) -> tuple[float, float, float] | None:
        """nDCG@10 on dev of contrastive training on all pairs, and its interval; None unknown."""
        return (self.curve.at(self.pairs), *self.curve.interval(self.pairs)) if self.curve else None

    @property
    def expected_told(self) -> str:
        """The same in words."""
        return "{:.3f} [{:.3f}, {:.3f}]".format(*self.expected) if self.expected else "unknown"

    @property
    def base_told(self) -> str:
        """The general model's score and its interval, in words."""
        return f"{self.base:.3f} [{self.base_ci[0]:.3f}, {self.base_ci[1]:.3f}]"

    def rows(self) -> list[tuple[str, str, str]]:
        """What, its value, and what it says: the table that is shown."""
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
        return rows

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {k: v for k, v in vars(self).items() if k not in ("curve", "trials")}
        found["base_ci"] = list(self.base_ci)
        found["trials"] = {name: asdict(trial) for name, trial in self.trials.items()}
        found["curve"] = self.curve.rows(self.pairs, 2 * self.pairs) if self.curve else None
        return found

    def table(self) -> Table:
        """The rows."""
        return Table(["what", "here", "which is"], self.rows())

    def __repr__(self) -> str:
        return str(self)


def gather(
    domain: Domain,
    model: str = "minilm",
    *,
    recipe: Recipe | None = None,
    sizes: Sequence[int] | None = None,
    trials: Mapping[str, Mapping[str, Any]] | None = None,
    train: bool = True,
    quiet: bool = False,
) -> Evidence:
    """Measures a domain: texts, baselines and, where there are labels enough, a learning curve.

    Small runs are kept in the store like all runs: the second call trains nothing.

    Args:
        domain: only its train and dev splits are read.
        model: the general model.
        recipe: of the small runs and of the full one; default: ``default_recipe``.
        sizes: pairs of the small runs; default: ``SIZES``, or a quarter, half and all of fewer.
        trials: approach -> changes of the recipe, tried with the largest small run's pairs;
            default: mined hard negatives, and the softmax over the whole corpus.
        train: whether anything may be trained.

    Raises:
        EmbkitError: no dev queries, or the model cannot be had.
    """
    pairs, dev = len(collect(domain, "human")[0]), domain.split("dev")
    if not dev:
        raise EmbkitError(
            f"{domain.name!r} without dev queries",
            expected="a dev split: the test splits may advise nothing",
            hint="ek.load_domain(folder) splits one off; or add one to qrels['dev']",
        )
    searched = domain.dev_corpus(SEARCHED)
    loaded = load_model(model)
    base = _ndcg(rank(loaded, domain, "dev", documents=searched, k=10), domain)
    bm25 = score(rank("bm25", domain, "dev", documents=searched, k=10), domain, "dev", ["ndcg@10"])
    curve, tried = None, {}
    if train and pairs >= FEW_PAIRS:
        recipe = recipe or default_recipe(pairs, model)
        runs = _small(recipe, domain, small_sizes(pairs, sizes), searched, quiet)
        curve = _through(base, runs)
        most = max(runs)
        plain = runs[most][0]
        tried["contrastive"] = _trial(most, runs[most], base, plain)
        for name, changes in (TRIALS if trials is None else trials).items():
            one = _small(recipe.replace(**changes), domain, [most], searched, quiet)
            tried[name] = _trial(most, one[most], base, plain)
    return Evidence(
        domain=domain.name,
        model=str(model),
        pairs=pairs,
        dev_queries=len(base),
        test_queries=sum(len(domain.split(split)) for split in domain.test_splits),
        documents=len(domain.corpus),
        searched=len(searched),
        base=float(base.mean()),
        base_ci=bootstrap_ci(base),
        bm25=float(bm25["ndcg@10"].mean()),
        parameters=sum(p.numel() for p in loaded.parameters()),
        index_mb=len(domain.corpus) * (loaded.get_embedding_dimension() or 0) * 4 / 1e6,
        curve=curve,
        trials=tried,
        **_texts(loaded, domain, base),
    )


def small_curve(
    recipe: Recipe, domain: Domain, sizes: Sequence[int], *, quiet: bool = False
) -> Curve:
    """The learning curve on dev, from runs of a recipe whose seed says which pairs are drawn."""
    searched = domain.dev_corpus(SEARCHED)
    base = _ndcg(rank(load_model(recipe.model), domain, "dev", documents=searched, k=10), domain)
    return _through(base, _small(recipe, domain, sizes, searched, quiet))


def _through(base: pd.Series, runs: Mapping[int, tuple[pd.Series, float]]) -> Curve:
    return Curve(float(base.mean()), {n: float(values.mean()) for n, (values, _) in runs.items()})


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


def on_dev(run: Any, domain: Domain, documents: Sequence[str] | None = None) -> pd.Series:
    """nDCG@10 of each dev query for a run, kept in its folder.

    Args:
        run: a finished run.
        domain: whose dev queries.
        documents: ids to search; default: at most ``SEARCHED`` of the corpus.
    """
    import pandas as pd

    documents = documents or domain.dev_corpus(SEARCHED)
    asked = json.dumps([domain.hash, *documents])
    kept = run.path / f"dev-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.json"
    try:
        return pd.Series(json.loads(kept.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        pass  # not there, or cut off: measured anew
    ranking = rank(run.model(), domain, "dev", documents=documents, k=10, cache=False)
    found = _ndcg(ranking, domain)
    write_atomic(kept, json.dumps(found.to_dict()))
    return found


def _ndcg(ranking: Any, domain: Domain) -> pd.Series:
    return score(ranking, domain, "dev", ["ndcg@10"])["ndcg@10"]


def _small(
    recipe: Recipe, domain: Domain, sizes: Sequence[int], searched: Sequence[str], quiet: bool
) -> dict[int, tuple[pd.Series, float]]:
    """Pairs -> each dev query's nDCG@10 and the seconds of training."""
    from ..training.trainer import train

    found, whole = {}, len(collect(domain, recipe.pairs)[0])
    for n in sizes:
        run = train(recipe.replace(max_pairs=n if n < whole else None), domain, quiet=quiet)
        found[n] = on_dev(run, domain, searched), run.seconds
    return found


def _trial(pairs: int, run: tuple[pd.Series, float], base: pd.Series, plain: pd.Series) -> Trial:
    values, seconds = run
    test = paired_test(values, base)
    other = paired_test(values, plain) if values is not plain else None
    spread = (values - base.loc[values.index]).to_numpy()
    return Trial(
        pairs=pairs,
        ndcg=float(values.mean()),
        gain=test.delta,
        low=test.ci_low,
        high=test.ci_high,
        p=test.p,
        sd=float(np.std(spread, ddof=1)) if len(spread) > 1 else 0.0,
        over_contrastive=other.delta if other else 0.0,
        p_contrastive=other.p if other else 1.0,
        seconds=seconds,
    )


def _texts(model: Any, domain: Domain, base: pd.Series) -> dict[str, float]:
    """What the texts are like, and how long one query takes."""
    from ..data.text_checks import fertility, letter_words, words
    from ..models.packing import embed

    asked = [domain.queries[q] for q in base.index]
    documents = list(domain.corpus.values())[:SAMPLE]
    found: dict[str, float] = {
        "query_words": float(np.median([len(words(text)) for text in asked])),
        "document_words": float(np.median([len(words(text)) for text in documents])),
    }
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
        values = base.to_numpy()
        found["short_gap"] = float(values[short].mean() - values[~short].mean())
    took = []
    for text in asked[:TYPED]:
        started = time.perf_counter()
        embed(model, [text])
        took.append(time.perf_counter() - started)
    found["query_ms"] = 1000 * statistics.median(took)
    return found
