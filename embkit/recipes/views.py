"""A recipe's parts: what each step of a training reads of it, and nothing else."""

from typing import Any

AUTO: tuple[Any, ...] = ("auto",)  # LoRA's targets, Matryoshka's sizes: by the model's structure
TAUGHT = ("distill", "kl", "margin_mse")  # these have a teacher
LISTS = ("kl", "margin_mse")  # the teacher scores each pair's positive and mined negatives
CORPUS = ("corpus", "distill")  # the softmax goes over all documents
# another row's documents are negatives, and nothing masks those that are right
IN_BATCH = ("contrastive", "symmetric", "gist")  # and can be computed in mini-batches
APART = (*IN_BATCH, *CORPUS)


class View:
    """A part of a recipe, to read: its fields under the recipe's names, or under a name of its own
    before ``=``. What a field means, and what it may be, stands in ``Recipe`` alone."""

    reads: str

    def __init__(self, recipe: Any) -> None:
        for name in self.reads.split():
            own, _, theirs = name.partition("=")
            vars(self)[own] = getattr(recipe, theirs or own)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} reads no {name!r} of a recipe")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"recipe.replace(...) changes {name}: its parts are to read")


class Mining(View):
    """How hard negatives are found; ``number`` 0: none are. ``prompts`` are for ``model``."""

    reads = """number=hard_negatives miner model range_min range_max relative_margin keep_relatives
        reranker_filter sampling hidden_positives seed prompts"""


class Teaching(View):
    """Who teaches, and on which texts beside the pairs'. ``prompts`` are for ``model``."""

    reads = "approach teacher unlabeled_texts model prompts"

    @property
    def on(self) -> bool:
        """Whether there is a teacher at all."""
        return self.approach in TAUGHT

    @property
    def lists(self) -> bool:
        """Whether the teacher scores lists of documents; else it gives vectors."""
        return self.approach in LISTS


class Passages(View):
    """How documents are cut, and which part of a right one is trained on; ``size`` None: whole."""

    reads = """size=passage_size overlap=passage_overlap headings=passage_headings
        choice=passage_choice"""


class Loss(View):
    """What is minimised."""

    reads = """approach temperature hardness margin guide in_batch_weight teacher_temperature
        teacher_share matryoshka batch_size mini_batch_size"""


class Lora(View):
    """Small matrices beside frozen weights; ``rank`` 0: every weight is trained."""

    reads = """rank=lora_rank alpha=lora_alpha targets=lora_targets variant=lora_variant
        plus=lora_plus quantize dropout learning_rate weight_decay"""

    @property
    def four_bits(self) -> bool:
        """Whether the frozen weights are kept in four bits (QLoRA)."""
        return self.quantize != "none"


class Trainer(View):
    """How long, how fast and in which steps, and what is set on the model before; ``prompts`` are
    put before a query, and before a document."""

    reads = """epochs batch_size learning_rate warmup_ratio lr_scheduler_type weight_decay seed
        dropout max_length layers negatives=hard_negatives prompts gradient_checkpointing"""

    def by_column(self, query: str | None, document: str | None) -> dict[str, str]:
        """What goes with queries and with documents, by column of the training pairs."""
        negatives = [f"negative_{n}" for n in range(1, self.negatives + 1)]
        columns = {"anchor": query, **dict.fromkeys(["positive", *negatives], document)}
        return {column: given for column, given in columns.items() if given}


class Clip(View):
    """Two towers: which parts are trained, and how fast beside the projections."""

    reads = "trained_parts frozen_stages temperature learning_rate"
