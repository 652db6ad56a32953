"""A recipe as a plain sentence-transformers script."""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import session
from ..errors import EmbkitError
from ..files import filled
from . import pruning, settings
from .settings import Code
from .views import APART, AUTO, LISTS, Loss

OWN = {  # approach -> the classes that are not sentence-transformers'
    "corpus": ("CorpusSoftmaxLoss", "KeptDocuments"),
    "distill": ("CorpusSoftmaxLoss", "CorpusDistillLoss", "KeptDocuments"),
}


def stock_script(recipe: Any) -> str:
    """A script that trains a ``Recipe``'s model with the stock trainer and no embkit, on the
    session's device and in its precision."""
    if recipe.approach == "clip":
        raise EmbkitError(
            "a script for approach='clip': pictures need embkit's towers and its cache",
            expected="a recipe that trains on texts alone",
            hint="ek.train(recipe, domain) trains it; run.model() is a SentenceTransformer",
        )
    from ..losses import batches
    from ..losses import corpus as corpus_losses

    # what the approach asks for
    trainer, lora, own = recipe.trainer, recipe.lora, OWN.get(recipe.approach, ())
    on = session.device()
    precision = session.precision(on)
    corpus, taught = "KeptDocuments" in own, recipe.approach == "distill"
    apart = recipe.approach in APART  # a file of pairs says which rows may not meet
    own_batches = apart or recipe.unique_in_batch == "families"
    helpers = ("padded",) * corpus + ("Apart",) * apart

    # the arguments, as they are written
    arguments = settings.trainer_arguments(trainer)
    arguments |= {precision: True} if precision != "fp32" else {}
    arguments["prompts"] = trainer.by_column(Code("asked"), Code("shown"))
    arguments["router_mapping"] = trainer.by_column("query", "document")
    if own_batches:
        arguments["batch_sampler"] = Code("sampler")
    if trainer.epochs == 1 and trainer.warmup_ratio:
        several = f"len(data) > {trainer.batch_size}"
        arguments["warmup_steps"] = Code(f"{trainer.warmup_ratio!r} if {several} else 0.0")
    whole = ', device="cpu"' * (on == "cpu") + f", model_kwargs={settings.FP32!r}"
    four_bits = f"{whole[:-1]}, 'quantization_config': four_bits}}"
    revision = "".join(_named(recipe.model).partition(", revision=")[1:])

    return filled(
        Path(__file__).with_name("script.jinja"),
        recipe=recipe,
        trainer=trainer,
        lora=lora,
        settings=settings,
        on=on,
        lists=recipe.approach in LISTS,
        corpus=corpus,
        taught=taught,
        files=["documents.jsonl"] * corpus + ["teacher.npz"] * taught,
        own_batches=own_batches,
        keys="data.with_transform(Apart(data))" if apart else "data",
        classes=_classes(corpus_losses, own) + _classes(batches, helpers),
        pruning=inspect.getsource(pruning).partition("\n\n")[2].rstrip(),
        loaded=revision + (four_bits if lora.four_bits else whole),
        loss=_loss(recipe.loss, whole),
        inner="loss.loss" if recipe.matryoshka else "loss",
        steps=f"-(-len(data) // {trainer.batch_size})",
        arguments=arguments,
        repr=repr,
        written=_written,
    )


def _written(given: dict[str, Any], indent: int) -> str:
    return "\n".join(f"{' ' * indent}{name}={value!r}," for name, value in given.items())


def _loss(part: Loss, loaded: str) -> str:
    """The loss, as the script makes it."""
    name, given = settings.loss_settings(part)
    if "guide" in given:
        given["guide"] = Code(f"SentenceTransformer({_named(given['guide'])}{loaded})")
    arguments = ", ".join(["model", *(f"{key}={value!r}" for key, value in given.items())])
    loss = f"{'' if part.approach in OWN else 'losses.'}{name}({arguments})"
    sizes = settings.HALVINGS if part.matryoshka == AUTO else list(part.matryoshka)
    return f"losses.MatryoshkaLoss(model, {loss}, {sizes})" if sizes else loss


def _named(model: str) -> str:
    """A model's name as an argument, and the revision behind a hub id's ``@`` as another."""
    return re.sub(r"^'(\w[\w.-]*/\w[\w.-]*)@(\S+)'$", r"'\1', revision='\2'", repr(model))


def _classes(module: Any, names: Sequence[str]) -> str:
    """The source of the package's own classes and of what they import, word for word."""
    if not names:
        return ""
    before = re.split("\n\n\n?(?:class|def) ", inspect.getsource(module), maxsplit=1)[0]
    start = re.search("^(?:from|import) ", before, re.M)
    head = [before[start.start() :]] if start else []
    return "\n" + "\n\n".join([*head, *(inspect.getsource(getattr(module, n)) for n in names)])
