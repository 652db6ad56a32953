"""Small heads on frozen vectors: a matrix or two, trained in seconds beside a model left as it is.

A head sees vectors that were encoded once and are kept, so a step costs a matrix product and no
encoder. The loss is the softmax over the whole corpus (``CorpusSoftmaxLoss``). Every head starts
as the identity, so that its first vectors are the model's own, and ``decay`` pulls it back there.

A fitted head is two ways behind a model: sentence-transformers' ``Router`` with ``Dense`` modules.
``head.model()`` is a plain sentence-transformers model, whose ``encode_query`` and
``encode_document`` go the way they should.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import session
from ..data import Domain
from ..display import facts
from ..errors import EmbkitError, unknown
from ..evaluation.metrics import ranking_from_arrays, score_ranking
from ..files import replace_folder, write_atomic
from ..models.encoding import encode_as
from ..models.loading import load_model
from ..runs import HEAD_RECORD as RECORD
from ..runs import store
from ..search.index import exact_search

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router

KINDS = {  # kind -> what the leaderboard calls it
    "linear": "linear query adapter",  # one matrix on the queries; the documents stay
    "two-sided": "two-sided head",  # one matrix for the queries, another for the documents
    "mlp": "small MLP on queries",  # two layers on the queries, ReLU between them
}
RANGES = {
    "learning_rate": (1e-9, 1.0),
    "decay": (0.0, 1e9),
    "epochs": (1, 1000),
    "batch_size": (2, 65536),
    "temperature": (1e-4, 10),
    "sample": (1, 10**9),
    "seed": (0, 2**32 - 1),
}
MODULE = "head"  # the folder of the trained modules


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained.

    Args:
        kind: ``linear``, ``two-sided`` or ``mlp``.
        learning_rate: Adam's first step size; it falls to zero in a straight line.
        decay: how strongly each step pulls the weights back to the identity: after a step of size
            ``s`` they go the share ``s * decay`` of the way. 0: not at all.
        epochs: passes over the pairs at most; dev chooses after which one to stop.
        batch_size: pairs a step.
        temperature: divides the similarities.
        sample: documents a step to compare with; a corpus that has no more is used whole.
        seed: of the order and of the sample.

    Raises:
        EmbkitError: an unknown kind (names the nearest), or a value out of its range.
    """

    kind: str = "linear"
    learning_rate: float = 3e-3
    decay: float = 1.0
    epochs: int = 15
    batch_size: int = 512
    temperature: float = 0.05
    sample: int = 8192
    seed: int = 42

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("head", self.kind, KINDS)
        for name, (low, high) in RANGES.items():
            value, default = getattr(self, name), getattr(type(self), name)
            whole = isinstance(default, int)
            wanted = int if whole else (int, float)
            fits = isinstance(value, wanted) and not isinstance(value, bool)
            if not fits or not low <= value <= high:
                raise EmbkitError(
                    f"HeadSettings({name}={value!r})",
                    expected=f"a {'whole ' if whole else ''}number from {low:g} to {high:g}",
                    hint=f"{name}={default!r}",
                )
            object.__setattr__(self, name, value if whole else float(value))  # 0 is 0.0

    @property
    def hash(self) -> str:
        """12 characters that two settings share only if they are equal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """How the leaderboard calls it: the kind, and what differs from the defaults."""
        mine = ("learning_rate", "decay", "epochs", "batch_size", "temperature", "sample")
        told = [
            f"{name.replace('_', ' ')} {getattr(self, name):g}"
            for name in mine
            if getattr(self, name) != getattr(type(self), name)
        ]
        return ", ".join([KINDS[self.kind], *told])


@dataclass(frozen=True, repr=False)
class Head:
    """A fitted head: a folder with its modules (``head/``) and what is known about it."""

    path: Path
    record: dict[str, Any]

    @cached_property
    def settings(self) -> HeadSettings:
        return HeadSettings(**self.record["settings"])

    @property
    def label(self) -> str:
        return self.settings.label

    def describe(self) -> dict[str, Any]:
        """What a leaderboard notes about it beside its scores."""
        return {
            "base_model": self.record["model"],
            "trainable_params": self.record["trainable_params"],
            "recipe_hash": self.settings.hash,
            "train_seconds": self.seconds,
            "learning_rate": self.settings.learning_rate,
            "seed": self.settings.seed,
        }

    @property
    def dev_score(self) -> float:
        """nDCG@10 on dev, searched in the dev corpus, after the epoch that was kept."""
        return self.record["dev_score"]

    @property
    def seconds(self) -> float:
        """Seconds of fitting, scores on dev included, the encoding of the texts not."""
        return self.record["seconds"]

    @property
    def history(self) -> list[dict[str, Any]]:
        """One dict an epoch: epoch, loss (the epoch's mean), dev_ndcg@10; epoch 0 is the start."""
        return self.record["history"]

    def model(self) -> SentenceTransformer:
        """The model with its head, a plain sentence-transformers model of stock modules."""
        from sentence_transformers.base.modules import Router

        model = load_model(self.record["model"])
        model.append(Router.load(str(self.path), subfolder=MODULE))
        return model

    def __repr__(self) -> str:
        return f"Head({self.label!r} on {self.record['model']!r}, dev nDCG@10 {self.dev_score:.3f})"

    def _repr_html_(self) -> str:
        rows = {
            "head": self.label,
            "on": self.record["model"],
            "trained parameters": f"{self.record['trainable_params']:,}",
            "training pairs": f"{self.record['pairs']:,}",
            "epochs": f"{self.settings.epochs}, of which {self.record['epoch']} kept",
            "seconds": f"{self.seconds:.1f}",
            "nDCG@10 on dev": f"{self.dev_score:.3f}",
        }
        return facts(rows)


def fit_head(
    kind: str, domain: Domain, model: str | os.PathLike = "minilm", **settings: Any
) -> Head:
    """Fits a head on a model's frozen vectors, or returns the one of the same settings and data.

    Args:
        kind: ``linear`` (a matrix on the queries), ``two-sided`` (another on the documents) or
            ``mlp`` (two layers on the queries).
        domain: on what; only its ``train`` and ``dev`` splits are read.
        model: whose vectors: a name, a folder or a hub id. Its saved prompts are used.
        settings: of ``HeadSettings``.

    Raises:
        EmbkitError: an unknown kind or a value out of its range; fewer than two training pairs, or
            no dev query.

    Example:
        >>> ek.evaluate(ek.fit_head("linear", domain), domain)  # doctest: +SKIP
    """
    from filelock import FileLock

    from ..assets.catalogue import folder_fingerprint, resolve
    from ..pairs.pairs import make_pairs
    from ..recipes.recipe import Recipe

    names = [field.name for field in fields(HeadSettings)]
    for name in settings:
        if name not in names:
            raise unknown("head setting", name, names)
    chosen = HeadSettings(kind, **settings)
    pairs = make_pairs(Recipe(), domain)  # fewer than two: its error
    if not domain.split("dev"):
        raise EmbkitError(
            f"the dev split of {domain.name!r} is empty",
            expected="at least one dev query: dev says after which epoch to stop",
            hint="move some training queries to the split 'dev'",
        )
    path = store(domain) / f"head-{chosen.hash}-{folder_fingerprint(resolve(model))[:6]}"
    path.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # two that ask for the same head fit it once
        if not (path / RECORD).is_file():
            base = load_model(model)
            anchors = [anchor for _, anchor, _ in pairs.rows]
            vectors = _Vectors.of(base, domain, anchors, pairs.places())
            router, record = _fit(chosen, vectors, domain)
            replace_folder(path / MODULE, router.save)
            record |= {"model": str(model), "pairs": len(pairs), "settings": asdict(chosen)}
            write_atomic(path / RECORD, json.dumps(record, indent=1))
    return Head(path, json.loads((path / RECORD).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class _Vectors:
    """What a head is fitted on, all frozen: float32 tensors (texts, dim), and the right places."""

    queries: torch.Tensor
    places: torch.Tensor  # (pairs, most right documents of a query): the positive first, then -1
    documents: torch.Tensor
    dev_queries: torch.Tensor
    dev_documents: torch.Tensor

    @classmethod
    def of(cls, model: Any, domain: Domain, anchors: list[str], places: list[list[int]]) -> Any:
        import torch

        texts = list(domain.corpus.values())
        documents = torch.from_numpy(encode_as(model, texts, "document"))
        number = {document: i for i, document in enumerate(domain.corpus)}
        asked = [domain.queries[query] for query in domain.split("dev")]
        return cls(
            torch.from_numpy(encode_as(model, anchors, "query")),
            torch.tensor(places),
            documents,
            torch.from_numpy(encode_as(model, asked, "query")),
            documents[[number[document] for document in domain.dev_corpus()]],
        )


def routes(kind: str, dim: int) -> Router:
    """The modules of a head, all of them the identity: ``Router`` with ``Dense`` on its ways.

    A matrix starts as I. Two layers do with ReLU: x = relu(x) - relu(-x), so the first is
    [I; -I], of shape (2 dim, dim), and the second [I, -I].

    Args:
        kind: a head's kind.
        dim: of the model's vectors.
    """
    import torch
    from sentence_transformers.base.modules import Dense, Router
    from sentence_transformers.sentence_transformer.modules import Normalize

    one = torch.eye(dim)
    straight = {"bias": False, "activation_function": torch.nn.Identity()}

    def matrix() -> list[Any]:
        return [Dense(dim, dim, **straight, init_weight=one.clone())]

    def layers() -> list[Any]:
        both = torch.cat([one, -one])
        first = Dense(
            dim,
            2 * dim,
            activation_function=torch.nn.ReLU(),
            init_weight=both,
            init_bias=torch.zeros(2 * dim),
        )
        return [first, Dense(2 * dim, dim, **straight, init_weight=both.T.clone().contiguous())]

    return Router.for_query_document(
        [*(layers() if kind == "mlp" else matrix()), Normalize()],
        [*(matrix() if kind == "two-sided" else []), Normalize()],
    )


def apply(router: Router, kind: str, vectors: torch.Tensor) -> torch.Tensor:
    """Vectors, (texts, dim), sent the way of ``query`` or ``document``."""
    return router({"sentence_embedding": vectors}, task=kind)["sentence_embedding"]


def _fit(settings: HeadSettings, vectors: _Vectors, domain: Domain) -> tuple[Router, dict]:
    """Trains the modules; they come back as they were after the epoch with the best dev score."""
    import torch

    from ..losses.corpus import CorpusSoftmaxLoss

    session.seed_everything(settings.seed)
    router = routes(settings.kind, vectors.queries.shape[1])
    loss = CorpusSoftmaxLoss(
        router.sub_modules["query"],
        settings.temperature,
        in_batch_weight=0.0,
        sample=settings.sample,
    )
    weights = list(router.parameters())
    start = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.Adam(weights, lr=settings.learning_rate)
    steps = settings.epochs * -(-len(vectors.queries) // settings.batch_size)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    began, history = time.perf_counter(), [_state(0, None, router, vectors, domain)]
    kept = [weight.clone() for weight in start]
    for epoch in range(1, settings.epochs + 1):
        losses = []
        for rows in torch.randperm(len(vectors.queries)).split(settings.batch_size):
            loss.documents = apply(router, "document", vectors.documents)  # (corpus, dim)
            found = loss([{"sentence_embedding": vectors.queries[rows]}], vectors.places[rows])
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            back = min(1.0, settings.decay * falling.get_last_lr()[0])
            with torch.no_grad():
                for weight, first in zip(weights, start, strict=True):
                    weight.lerp_(first, back)
            falling.step()
            losses.append(found.item())
        history.append(_state(epoch, float(np.mean(losses)), router, vectors, domain))
        if history[-1]["dev_ndcg@10"] > max(row["dev_ndcg@10"] for row in history[:-1]):
            kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, best in zip(weights, kept, strict=True):
            weight.copy_(best)
    return router, {
        "history": history,
        "epoch": max(history, key=lambda row: row["dev_ndcg@10"])["epoch"],
        "dev_score": max(row["dev_ndcg@10"] for row in history),
        "seconds": time.perf_counter() - began,
        "trainable_params": sum(weight.numel() for weight in weights),
    }


def _state(
    epoch: int, loss: float | None, router: Router, vectors: _Vectors, domain: Domain
) -> dict[str, Any]:
    """A row of the history; dev is scored as for a Run: nDCG@10 in the dev corpus."""
    import torch

    with torch.no_grad():
        asked = apply(router, "query", vectors.dev_queries).numpy()
        shown = apply(router, "document", vectors.dev_documents).numpy()
    ids, queries = domain.dev_corpus(), list(domain.split("dev"))
    ranking = ranking_from_arrays(queries, ids, *exact_search(asked, shown, 10))
    table = score_ranking(ranking, domain.split("dev"), ("ndcg@10",))
    return {"epoch": epoch, "loss": loss, "dev_ndcg@10": float(table["ndcg@10"].mean())}
