"""A cross-encoder fine-tuned in a domain: lists of one right document and some mined wrong ones."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import session
from ..assets.catalogue import folder_fingerprint, resolve
from ..data import Domain
from ..distributed import on_one_device
from ..errors import EmbkitError
from ..files import made_once, write_atomic
from ..models.cross_encoder import load_cross_encoder
from ..models.packing import in_chunks
from ..pairs.mining import Mined
from ..recipes.settings import FP32
from ..runs import store

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

RECORD = "cross_encoder.json"  # written last: a folder without it is trained anew
RIGHT = 10.0  # the loss takes a softmax of the labels: 1 against 0 would leave the wrong ones a lot


def tune_cross_encoder(
    domain: Domain,
    mined: Mined,
    *,
    model: str = "reranker",
    epochs: int = 1,
    lists: int = 16,
    learning_rate: float = 1e-4,
) -> CrossEncoder:
    """A cross-encoder, fine-tuned to put a pair's right document before its mined negatives.

    The loss is sentence-transformers' ListNetLoss, the cross-entropy of the softmax over each list
    (Cao et al. 2007). A finished one of the same lists and settings is not trained again.

    Args:
        domain: in whose store it is kept.
        mined: the lists: anchors, positives, negatives.
        model: the cross-encoder to start from.
        lists: a step.
        learning_rate: the largest, of AdamW.

    Raises:
        EmbkitError: the model cannot be had, no lists, training that diverged.
    """
    if not len(mined):
        raise EmbkitError("no lists to train on", expected="at least one", hint="ek.mine(...)")
    settings = {"epochs": epochs, "batch": lists, "learning_rate": learning_rate, "seed": 42}
    texts = [mined.anchors, mined.positives, mined.negatives]
    key = json.dumps([folder_fingerprint(resolve(model)), texts, settings, session.precision()])
    path = store(domain) / f"cross-encoder-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    with made_once(path, RECORD) as todo:
        if todo:
            started = time.perf_counter()
            _train(mined, model, settings, path)
            record = {"lists": len(mined), "seconds": time.perf_counter() - started, **settings}
            write_atomic(path / RECORD, json.dumps(record, indent=1))
    return load_cross_encoder(path / "model")


def _train(mined: Mined, model: str, settings: dict[str, Any], path: Path) -> None:
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer as Trainer
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments as Arguments
    from sentence_transformers.cross_encoder.losses import ListNetLoss
    from transformers.trainer_callback import PrinterCallback

    session.seed_everything(settings["seed"])
    # On a processor, the backward pass of torch's bf16 attention is slow on texts this short.
    encoder = load_cross_encoder(model, model_kwargs=FP32 | {"attn_implementation": "eager"})
    lists = zip(mined.positives, mined.negatives, strict=True)
    data = {
        "query": list(mined.anchors),
        "documents": [[mined.corpus[d] for d in (right, *wrong)] for right, wrong in lists],
        "labels": [[RIGHT, *[0.0] * len(mined.negatives[0])]] * len(mined),
    }
    arguments = Arguments(
        output_dir=str(path / "checkpoints"),
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch"],
        learning_rate=settings["learning_rate"],
        warmup_steps=0.1,
        seed=settings["seed"],
        save_strategy="no",
        logging_steps=1000,
        use_cpu=encoder.device.type == "cpu",
        report_to="none",
        disable_tqdm=True,
        **session.precision_flags(),
    )
    trainer = Trainer(
        model=encoder,
        args=on_one_device(arguments, encoder.device),
        train_dataset=Dataset.from_dict(data),
        loss=ListNetLoss(encoder, mini_batch_size=0),  # all pairs of a step at once
    )
    trainer.remove_callback(PrinterCallback)
    stock = encoder.forward

    def forward(features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return features | {"scores": in_chunks(stock, features, "scores", **kwargs)}

    encoder.forward = forward  # pairs of like length together: less padding
    trainer.train()
    encoder.save_pretrained(str(path / "model"))
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
