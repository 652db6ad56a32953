"""Small heads on frozen vectors: a matrix or two, trained in seconds beside a model left as it is.

A head sees vectors that were encoded once and are kept, so a step costs a matrix product and no
encoder. The loss is the softmax over the whole corpus (``CorpusSoftmaxLoss``). Every head starts
as the identity, and is pulled back there after each step. A fitted head is sentence-transformers'
``Router`` with ``Dense`` modules behind a model.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router
from sentence_transformers.sentence_transformer.modules import Normalize

from .. import session
from ..assets.catalogue import folder_fingerprint, resolve
from ..data import Domain
from ..display import Table, facts
from ..errors import unknown
from ..evaluation.ranking import ndcg
from ..files import made_once, replace_folder, write_atomic
from ..losses.batches import padded
from ..losses.corpus import CorpusSoftmaxLoss
from ..models.encoding import encode_as
from ..models.loading import load_model
from ..pairs.pairs import TrainingPairs, make_pairs
from ..recipes.checks import check_value, knob
from ..recipes.recipe import Recipe
from ..runs import HEAD_RECORD as RECORD
from ..runs import Trained, store
from .refusals import refused
from .trainer import DEV

KINDS = {  # kind -> what the leaderboard calls it
    "linear": "linear query adapter",  # one matrix on the queries; the documents stay
    "two-sided": "two-sided head",  # one matrix for the queries, another for the documents
}
# After a step of size s, weights go the share s * PULL of the way back to the identity.
PULL = {"linear": 1.0, "two-sided": 10.0}
TEMPERATURE = 0.05  # divides the similarities
MODULE = "head"  # the folder of the trained modules


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained.

    Raises:
        EmbkitError: an unknown kind (names the nearest), or a value out of its range.
    """

    kind: str = "linear"
    learning_rate: float = knob(3e-3, "Adam's first step size, falling linearly to 0", 1e-9, 1.0)
    epochs: int = knob(15, "passes over the pairs at most; dev chooses one to stop after", 1, 1000)
    batch_size: int = knob(512, "pairs a step", 2, 65536)
    seed: int = knob(42, "of the order of the pairs", 0, 2**32 - 1)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("head", self.kind, KINDS)
        for setting in fields(self)[1:]:
            check_value(setting, getattr(self, setting.name), "fit_head")
        object.__setattr__(self, "learning_rate", float(self.learning_rate))  # 1 is 1.0

    @property
    def hash(self) -> str:
        """12 characters that two settings share only if they are equal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """How the leaderboard calls it: the kind, and what differs from the defaults."""
        own = [(f.name, getattr(self, f.name)) for f in fields(self)[1:-1]]
        told = [f"{k.replace('_', ' ')} {v:g}" for k, v in own if v != getattr(type(self), k)]
        return ", ".join([KINDS[self.kind], *told])


@dataclass(frozen=True, repr=False)
class Head(Trained):
    """A fitted head: a folder with its modules (``head/``) and what is known about it.

    Its ``seconds`` leave out the encoding of the texts; epoch 0 of its ``history`` is the start.
    """

    @cached_property
    def settings(self) -> HeadSettings:
        return HeadSettings(**self.record["settings"])

    @property
    def label(self) -> str:
        return self.settings.label

    def describe(self) -> dict[str, Any]:
        return self.noted(self.record["model"], self.settings)

    def model(self) -> SentenceTransformer:
        """The model with its head, of stock modules; an error where its weights have changed."""
        name = self.record["model"]
        if folder_fingerprint(resolve(name)) != self.record["fingerprint"]:
            raise refused("head", head=self, name=name)
        model = load_model(name, fp32=True)
        model.append(Router.load(str(self.path), subfolder=MODULE))
        return model.to(model.device)  # the modules that are new, too

    def __repr__(self) -> str:
        score = f"{self.dev_name} nDCG@10 {self.dev_score:.3f}"
        return f"Head({self.label!r} on {self.record['model']!r}, {score})"

    def table(self) -> Table:
        """What it is, and what it took."""
        record = self.record
        rows = {
            "head": self.label,
            "on": record["model"],
            "trained parameters": f"{record['trainable_params']:,}",
            "training pairs": f"{record['pairs']:,}",
            "epochs": f"{self.settings.epochs}, of which {record['epoch']} kept",
            "seconds": f"{self.seconds:.1f}",
            f"nDCG@10 on {self.dev_name}": f"{self.dev_score:.3f}",
        }
        return facts(rows)


def fit_head(
    kind: str, domain: Domain, model: str | os.PathLike = "minilm", **settings: Any
) -> Head:
    """Fits a head on a model's frozen vectors, or returns the one of the same settings and data.

    Args:
        kind: ``linear`` (a matrix on the queries) or ``two-sided`` (another on the documents).
        domain: on what; only its ``train`` and ``dev`` splits are read.
        model: whose vectors: a name, a folder or a hub id. Its saved prompts are used.
        settings: of ``HeadSettings``.

    Raises:
        EmbkitError: an unknown kind or a value out of its range; fewer than two training pairs, or
            no dev query.
        TypeError: an unknown setting.
    """
    chosen = HeadSettings(kind, **settings)
    pairs = make_pairs(Recipe(), domain)  # fewer than two: its error
    if not domain.split("dev"):
        raise refused("no dev", name=domain.name)
    base = folder_fingerprint(resolve(model))
    made_of = hashlib.sha256(f"{base} {session.precision()}".encode()).hexdigest()[:6]
    path = store(domain) / f"head-{chosen.hash}-{made_of}"
    with made_once(path, RECORD) as todo:
        if todo:
            router, record = _fit(chosen, load_model(model, fp32=True), pairs)
            replace_folder(path / MODULE, router.save)
            record |= {"model": str(model), "fingerprint": base, "pairs": len(pairs)}
            record |= {"settings": asdict(chosen)}
            write_atomic(path / RECORD, json.dumps(record, indent=1))
    return Head(path, json.loads((path / RECORD).read_text(encoding="utf-8")))


def routes(kind: str, dim: int) -> Router:
    """The modules of a head, each matrix the identity: ``Router`` with ``Dense`` on its ways."""

    def layer() -> Any:
        given = {"activation_function": torch.nn.Identity(), "bias": False}
        return Dense(dim, dim, init_weight=torch.eye(dim), **given)

    shown = [layer()] if kind == "two-sided" else []
    return Router.for_query_document([layer(), Normalize()], [*shown, Normalize()])


def apply(router: Router, kind: str, vectors: torch.Tensor) -> torch.Tensor:
    """Vectors, (texts, dim), sent the way of ``query`` or ``document``."""
    return router({"sentence_embedding": vectors}, task=kind)["sentence_embedding"]


def _fit(settings: HeadSettings, model: Any, pairs: TrainingPairs) -> tuple[Router, dict]:
    """Trains the modules; they come back as they were after the epoch with the best dev score."""

    def vectors(texts: list[str], kind: str) -> torch.Tensor:
        return torch.from_numpy(encode_as(model, texts, kind))  # (texts, dim), frozen

    domain, places, ids = pairs.domain, pairs.labels(), pairs.domain.dev_corpus()
    documents = vectors(list(domain.corpus.values()), "document")
    number = {document: i for i, document in enumerate(domain.corpus)}
    queries = vectors([anchor for _, anchor, _ in pairs.rows], "query")
    dev = {"query": vectors([domain.queries[query] for query in domain.split("dev")], "query")}
    dev["document"] = documents[[number[document] for document in ids]]

    # the modules, the loss, and a learning rate that falls to 0
    session.seed_everything(settings.seed)
    router = routes(settings.kind, queries.shape[1])
    loss = CorpusSoftmaxLoss(router.sub_modules["query"], TEMPERATURE, in_batch_weight=0.0)
    weights = list(router.parameters())
    start = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.Adam(weights, lr=settings.learning_rate)
    steps = settings.epochs * -(-len(queries) // settings.batch_size)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)

    @torch.no_grad()
    def state(epoch: int, loss: float | None) -> dict[str, Any]:
        """A row of the history; dev is scored as for a Run: nDCG@10 in the dev corpus."""
        head = SimpleNamespace(vectors=lambda _, kind: apply(router, kind, dev[kind]).numpy())
        return {"epoch": epoch, "loss": loss, DEV: float(ndcg(head, domain, "dev", ids).mean())}

    # the epochs: a step, then the pull to the identity; dev after each
    began, history = time.perf_counter(), [state(0, None)]
    best, kept = history[0], deepcopy(router.state_dict())
    for epoch in range(1, settings.epochs + 1):
        losses = []
        for rows in torch.randperm(len(queries)).split(settings.batch_size):
            loss.documents = apply(router, "document", documents)  # (corpus, dim)
            labels = padded({"label": [places[row] for row in rows.tolist()]})["label"]
            found = loss([{"sentence_embedding": queries[rows]}], torch.tensor(labels))
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            back = min(1.0, PULL[settings.kind] * falling.get_last_lr()[0])
            with torch.no_grad():
                for weight, first in zip(weights, start, strict=True):
                    weight.lerp_(first, back)
            falling.step()
            losses.append(found.item())
        history.append(state(epoch, float(np.mean(losses))))
        if history[-1][DEV] > best[DEV]:
            best, kept = history[-1], deepcopy(router.state_dict())

    # the best epoch's weights
    router.load_state_dict(kept)
    return router, {
        "history": history,
        "epoch": best["epoch"],
        "dev_score": best[DEV],
        "dev_name": domain.dev_name,
        "seconds": time.perf_counter() - began,
        "trainable_params": sum(weight.numel() for weight in weights),
    }
