"""A recipe's parts as the keyword arguments of the libraries: loss, LoRA, NF4, learning rates."""

from typing import Any

from ..session import device, precision, torch_dtype
from .views import AUTO, Clip, Lora, Loss, Trainer

TEXT_TOWER, IMAGE_TOWER = r"0\.text\.|text_model\.", r"0\.image\.|vision_model\."
TOWER_RATES = {IMAGE_TOWER: 0.2, TEXT_TOWER: 0.05}  # of the projections' learning rate
FP32 = {"dtype": "float32"}  # how weights are read for training, whatever they were saved in
WIDE = 512  # tokens of a text in a batch, at most, where a model reads more and no recipe says so
PASSES = 3  # forward passes that a training step costs
OUTSIDE = r"(?!.*\.\d+\.).*"  # names of layers in no numbered block, such as a pooler's
HALVINGS = "[s for s in (model.get_embedding_dimension() >> i for i in range(5)) if s]"


def matryoshka_sizes(sizes: tuple[Any, ...], dim: int) -> tuple[int, ...]:
    """Sizes as they are given; ``auto``: the whole one and four halvings."""
    return tuple(s for s in (dim >> i for i in range(5)) if s) if sizes == AUTO else sizes


def lora_settings(lora: Lora) -> dict[str, Any]:
    """What peft's ``LoraConfig`` is given: W + B A alpha / r, with B zero at the start
    (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

    - ``rslora`` scales by alpha / sqrt(r) (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732);
    - ``dora`` learns each row's length apart (Liu et al. 2024, https://arxiv.org/abs/2402.09353).
    """
    settings: dict[str, Any] = {
        "r": lora.rank,
        "lora_alpha": 2 * lora.rank if lora.alpha is None else lora.alpha,
        "lora_dropout": lora.dropout or 0.0,
        "target_modules": list(lora.targets),
    }
    if lora.targets == AUTO:
        settings |= {"target_modules": "all-linear", "exclude_modules": OUTSIDE}
    if lora.variant != "plain":
        settings[f"use_{lora.variant}"] = True
    return settings


def lora_plus_settings(lora: Lora) -> dict[str, Any]:
    """What peft's ``create_loraplus_optimizer`` is given beside the model: B learns so many times
    as fast as A (Hayou et al. 2024, https://arxiv.org/abs/2402.12354)."""
    return {
        "lr": lora.learning_rate,
        "loraplus_lr_ratio": lora.plus,
        "loraplus_lr_embedding": lora.learning_rate,
        "loraplus_weight_decay": lora.weight_decay,
    }


class Code(str):
    """What a loss is given by its name; a script writes it as it stands."""

    __repr__ = str.__str__


def loss_settings(part: Loss) -> tuple[str, dict[str, Any]]:
    """The name of a recipe's loss class and what it is given beside the model.

    - ``contrastive``: MultipleNegativesRankingLoss, that is InfoNCE over the batch
      (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748):
      -log( exp(cos(q, d+) / t) / sum_i exp(cos(q, d_i) / t) ), the mean over the batch's queries;
      sentence-transformers calls 1 / t ``scale``.
    - ``gist``: a guide model takes negatives out that look right to it
      (Solatorio 2024, https://arxiv.org/abs/2402.16829).
    - ``triplet``: max(0, margin - cos(q, d+) + cos(q, d-)), on mined negatives.
    - ``symmetric``: the same, and which query a document belongs to.
    - ``kl``: DistillKLDivLoss: a teacher's softmax over a list of candidates
      (Lin et al. 2020, https://arxiv.org/abs/2010.11386).
    - ``margin_mse``: MarginMSELoss, (cos(q, d+) - cos(q, d-) - teacher's margin)^2
      (Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666).

    Those of ``corpus``, ``distill`` and ``clip`` are embkit's own: ``losses/``. In mini-batches,
    a loss of in-batch negatives is the Cached class of its name, with the same gradients
    (Gao et al. 2021, https://arxiv.org/abs/2101.06983).
    """
    ranking, scale = "MultipleNegativesRankingLoss", {"scale": 1 / part.temperature}
    weighed = {"hardness_mode": "all_negatives", "hardness_strength": part.hardness}
    weighed = weighed if part.hardness else {}
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    temperature = {"temperature": part.temperature}
    taught = {"teacher_temperature": part.teacher_temperature}
    batch = {"in_batch_weight": part.in_batch_weight}
    distance = {"distance_metric": Code("losses.TripletDistanceMetric.COSINE")}
    cosine = {"similarity_fct": Code("pairwise_cos_sim")}
    tables = {name: Code(f"taught[{name!r}]") for name in ("queries", "documents")}
    losses: dict[str, tuple[str, dict[str, Any]]] = {
        "contrastive": (ranking, scale | weighed),
        "symmetric": (ranking, scale | both | weighed),
        "gist": ("GISTEmbedLoss", {"guide": part.guide} | temperature),
        "triplet": ("TripletLoss", distance | {"triplet_margin": part.margin}),
        "corpus": ("CorpusSoftmaxLoss", temperature | batch),
        "distill": (
            "CorpusDistillLoss",
            tables | temperature | taught | {"teacher_share": part.teacher_share} | batch,
        ),
        "clip": ("SharedSpaceLoss", temperature),
        "kl": ("DistillKLDivLoss", cosine | {"student_temperature": part.temperature} | taught),
        "margin_mse": ("MarginMSELoss", cosine),
    }
    name, given = losses[part.approach]
    size = part.mini_batch_size or part.batch_size
    cut = {"mini_batch_size": size} if size < part.batch_size else {}
    return "Cached" * bool(cut) + name, given | cut


def nf4_settings() -> dict[str, Any]:
    """What transformers' ``BitsAndBytesConfig`` is given; products are computed in the precision
    in force."""
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": torch_dtype(precision(device())),
    }


def trainer_arguments(
    trainer: Trainer, clip: Clip | None = None, pairs: int | None = None
) -> dict[str, Any]:
    """The trainer's arguments that decide the model; embkit's run and the script share them.

    Where ``pairs``, the rows of the data set, make a single step there is no warm-up, whose first
    step has a learning rate of 0.
    """
    single = pairs is not None and trainer.epochs == 1 and pairs <= trainer.batch_size
    towers = {}  # they learn more slowly than the projections
    if clip:
        mapping = {tower: clip.learning_rate * rate for tower, rate in TOWER_RATES.items()}
        towers = {"learning_rate_mapping": mapping}
    return {
        "num_train_epochs": trainer.epochs,
        "per_device_train_batch_size": trainer.batch_size,
        "learning_rate": trainer.learning_rate,
        "lr_scheduler_type": trainer.lr_scheduler_type,
        "warmup_steps": 0.0 if single else trainer.warmup_ratio,
        "weight_decay": trainer.weight_decay,
        "batch_sampler": "no_duplicates",
        "seed": trainer.seed,
        **({"gradient_checkpointing": True} if trainer.gradient_checkpointing else {}),
        **towers,
    }
