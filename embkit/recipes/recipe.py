"""Recipe: everything that decides a training run, in one frozen, hashable, printable value."""

from __future__ import annotations

import hashlib
import html
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..errors import EmbkitError, unknown

TAUGHT = ("distill", "kl", "margin_mse", "embedding_mse")  # these have a teacher
APPROACHES = ("contrastive", "symmetric", "cached", "gist", "triplet", "corpus", "clip", *TAUGHT)
CHOICES = {
    "approach": APPROACHES,
    "schedule": ("linear", "cosine", "constant_with_warmup"),
    "unique_in_batch": ("texts", "families"),
    "miner": ("dense", "bm25", "random", "human"),
    "sampling": ("top", "random"),
    "lora_variant": ("plain", "rslora", "dora"),
    "lora_init": ("default", "gaussian", "orthogonal", "pissa", "olora"),
    "quantize": ("none", "nf4"),
    "trained_parts": ("all", "image", "projections", "none"),
}


def _knob(
    default: Any,
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    *,
    later: bool = False,
) -> Any:
    """``later``: the field came after the first recipes; at its default it changes no hash."""
    about = {"meaning": meaning, "low": low, "high": high, "later": later}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Recipe:
    """What to try. Two recipes with the same values have the same hash and train the same model.

    Raises:
        EmbkitError: for a value outside its range, or a field that does not exist.

    Example:
        >>> Recipe(epochs=1).replace(temperature=0.02).diff(Recipe(epochs=1))
        {'temperature': (0.05, 0.02)}
    """

    model: str = _knob("minilm", "the model to start from: a name, a folder or a hub id")
    approach: str = _knob("contrastive", "the loss: contrastive over the batch, or a relative")
    epochs: int = _knob(3, "passes over the training pairs", 1, 1000)
    batch_size: int = _knob(
        128, "pairs a step: the others' positives are a pair's negatives", 2, 65536
    )
    learning_rate: float = _knob(4e-4, "largest step size of AdamW", 1e-9, 1.0)
    temperature: float = _knob(
        0.05, "divides the similarities: lower looks at harder negatives", 1e-4, 10
    )
    hardness: float = _knob(
        0.0, "weighs a batch's negatives by how near they lie; 0: all alike", 0.0, 100, later=True
    )
    margin: float = _knob(
        0.2, "triplet: how much nearer the positive must be, as cosine", 0.0, 2.0, later=True
    )
    guide: str = _knob("minilm", "gist: the model that says which negatives look right", later=True)
    in_batch: float = _knob(
        0.5, "corpus: share of the loss over the batch, the rest over all", 0.0, 1.0, later=True
    )
    refresh: int = _knob(
        1, "corpus: times an epoch that all documents are encoded anew", 1, 1000, later=True
    )
    corpus_sample: int | None = _knob(
        None, "corpus: compare with so many documents a step; None: all", 1, None, later=True
    )
    teacher: str | None = _knob(
        None, "distilling: who teaches: models or runs, several with +", later=True
    )
    teacher_temperature: float = _knob(
        0.05, "distill, kl: divides the teacher's similarities", 1e-4, 10, later=True
    )
    teacher_share: float = _knob(
        0.5, "distill: share of the teacher in the loss, the rest are the labels", 0, 1, later=True
    )
    unlabelled: str | None = _knob(
        None,
        "distill, embedding_mse: texts for the teacher alone: documents, words or sets, with +",
        later=True,
    )
    layers: int | None = _knob(
        None, "keep so many of the encoder's layers, evenly spaced; None: all", 1, 1000, later=True
    )
    matryoshka: str | None = _knob(
        None, "sizes that the vectors can be cut to, with commas: 384,256,128,64,32", later=True
    )
    query_prompt: str | None = _knob(None, "put before every query", later=True)
    document_prompt: str | None = _knob(None, "put before every document", later=True)
    trained_parts: str = _knob(
        "all", "clip: all, image (the text tower is locked), projections, or none", later=True
    )
    frozen_stages: int = _knob(
        0, "clip: so many of the image tower's first blocks stay as they are", 0, 100, later=True
    )
    image_rate: float = _knob(
        0.2, "clip: the image tower's learning rate over the projections'", 0, 10, later=True
    )
    text_rate: float = _knob(
        0.05, "clip: the text tower's learning rate over the projections'", 0, 10, later=True
    )
    augment: float = _knob(
        1.0, "clip: strength of small turns and shifts of pictures; 0: none", 0, 5, later=True
    )
    warmup: float = _knob(0.1, "share of the steps in which the learning rate rises", 0.0, 1.0)
    schedule: str = _knob("linear", "how the learning rate falls after that")
    weight_decay: float = _knob(0.0, "AdamW's weight decay", 0.0, 1.0)
    dropout: float | None = _knob(0.0, "dropout probability; None keeps the model's own", 0.0, 0.9)
    lora_rank: int = _knob(
        0, "rank of LoRA's update of each target layer; 0 trains every weight", 0, 1024
    )
    lora_alpha: float | None = _knob(
        None, "LoRA's update is scaled by alpha / rank; None: alpha is twice the rank", 0.01, 8192
    )
    lora_targets: str = _knob(
        "query,key,value,dense", "LoRA's target layers: the ends of their names, with commas"
    )
    lora_variant: str = _knob(
        "plain", "plain, rslora (scaled by alpha / sqrt(rank)), dora (lengths apart)", later=True
    )
    lora_init: str = _knob("default", "how LoRA's matrices start; default: B is zero", later=True)
    lora_plus: float = _knob(
        1.0, "LoRA+: how many times A's learning rate is B's", 1.0, None, later=True
    )
    quantize: str = _knob(
        "none", "the frozen weights under LoRA: none, or nf4 (four bits: QLoRA)", later=True
    )
    max_length: int | None = _knob(
        None, "tokens a text at most; None keeps the model's own", 4, 32768
    )
    pairs: str = _knob(
        "human", "where the pairs come from: human, a set of generated ones, or several with +"
    )
    max_pairs: int | None = _knob(
        None, "train on the first so many pairs, shuffled by the seed", 2, None
    )
    unique_in_batch: str = _knob(
        "texts", "what may stand only once in a batch: texts, or families of documents"
    )
    hard_negatives: int = _knob(0, "mined negatives a pair, beside the batch's own", 0, 64)
    miner: str = _knob("dense", "what finds them: dense (the start model), bm25, human, or random")
    range_min: int = _knob(0, "skip so many of the best candidates", 0, 10_000)
    range_max: int = _knob(50, "look no deeper than so many candidates", 1, 10_000)
    relative_margin: float | None = _knob(
        None, "remove candidates above the positive's score less this share of it", 0.0, 1.0
    )
    veto: str | None = _knob(
        None, "a cross-encoder that removes candidates it scores as high as the positive"
    )
    keep_kin: bool = _knob(False, "allow ancestors and descendants of the positive as negatives")
    sampling: str = _knob("top", "which candidates of the window: top or random")
    hidden_positives: float = _knob(
        0.0, "control: share of the queries whose right document the miner does not know", 0.0, 1.0
    )
    shuffle_labels: bool = _knob(False, "control: every query gets another query's document")
    seed: int = _knob(42, "of the order, the dropout and the shuffling", 0, 2**32 - 1)

    def __new__(cls, *_: Any, **values: Any) -> Recipe:
        for name in values:
            if name not in FIELDS:
                raise unknown("recipe field", name, FIELDS)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        object.__setattr__(self, "model", str(self.model))
        for knob in fields(self):
            self._check(knob)
        _ = self.sizes
        self._check_teaching()
        self._check_lora()
        if self.approach == "triplet" and self.hard_negatives != 1:
            raise EmbkitError(
                f"Recipe(approach='triplet') with {self.hard_negatives} mined negatives a pair",
                expected="one: anchor, positive and negative are the triplet",
                hint="recipe.replace(approach='triplet', hard_negatives=1)",
            )

    def _check_lora(self) -> None:
        """Settings of LoRA without LoRA, and what four-bit weights cannot have."""
        knobs = [k for k in fields(self) if k.name in ("lora_variant", "lora_init", "lora_plus")]
        set_alone = [k.name for k in knobs if getattr(self, k.name) != k.default]
        set_alone += ["quantize"] if self.quantize != "none" else []
        if set_alone and not self.lora_rank:
            name = set_alone[-1]
            raise EmbkitError(
                f"Recipe(lora_rank=0, {name}={getattr(self, name)!r}): without LoRA",
                expected="a rank of 1 or more, for a setting of LoRA to have something to set",
                hint=f"recipe.replace(lora_rank=4, {name}={getattr(self, name)!r})",
            )
        if self.quantize != "none" and self.lora_init in ("pissa", "olora"):
            raise EmbkitError(
                f"Recipe(quantize={self.quantize!r}, lora_init={self.lora_init!r})",
                expected="an initialisation that leaves the frozen weights as they are",
                hint="recipe.replace(lora_init='default')",
            )

    def _check_teaching(self) -> None:
        """What a teacher needs, and what cannot be had together."""
        lists, vectors = self.approach in ("kl", "margin_mse"), self.approach == "embedding_mse"
        prompts = self.query_prompt or self.document_prompt
        for wrong, given, expected, changes in (
            (
                self.approach in TAUGHT and not self.teacher,
                "without a teacher",
                "who teaches: names, folders or runs, several with +",
                "teacher='bge-small'",
            ),
            (
                lists and not self.hard_negatives,
                "without mined negatives",
                "hard_negatives of 1 or more: with the positive, they are the list that is scored",
                "hard_negatives=4",
            ),
            (
                self.unlabelled and (lists or self.approach not in TAUGHT),
                f"with unlabelled={self.unlabelled!r}",
                "an approach that learns from a teacher alone: distill or embedding_mse",
                "approach='distill', teacher='bge-small'",
            ),
            (
                vectors and (self.matryoshka or prompts or self.hard_negatives),
                "with Matryoshka sizes, prompts or mined negatives",
                "none of them: every text has one vector to copy",
                "matryoshka=None, query_prompt=None, document_prompt=None, hard_negatives=0",
            ),
            (
                self.approach == "distill" and self.corpus_sample,
                f"with corpus_sample={self.corpus_sample}",
                "None: the teacher's softmax is over all documents",
                "corpus_sample=None",
            ),
            (
                self.layers and self.lora_rank,
                f"with layers={self.layers} and lora_rank={self.lora_rank}",
                "one of them: an adapter is merged into the whole model",
                "lora_rank=0",
            ),
        ):
            if wrong:
                raise EmbkitError(
                    f"Recipe(approach={self.approach!r}) {given}",
                    expected=expected,
                    hint=f"recipe.replace({changes})",
                )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that Matryoshka training holds the vectors to; none without it."""
        if self.matryoshka is None:
            return ()
        try:
            found = tuple(int(part) for part in self.matryoshka.split(","))
        except ValueError:
            found = ()
        if not found or min(found) < 1 or list(found) != sorted(set(found), reverse=True):
            raise EmbkitError(
                f"Recipe(matryoshka={self.matryoshka!r})",
                expected="sizes of 1 or more, largest first, with commas",
                hint="recipe.replace(matryoshka='384,256,128,64,32')",
            )
        return found

    def _check(self, knob: Any) -> None:
        value, low, high = getattr(self, knob.name), knob.metadata["low"], knob.metadata["high"]
        if value is None and "None" in str(knob.type):
            return
        wanted: Any = {"float": (int, float), "int": int, "str": str, "bool": bool}[
            str(knob.type).split(" | ")[0]
        ]
        fits = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
        fits = fits and (low is None or value >= low) and (high is None or value <= high)
        if not fits:
            limits = "" if low is None else f", at least {low}"
            limits += "" if high is None else f", at most {high}"
            raise EmbkitError(
                f"Recipe({knob.name}={value!r})",
                expected=f"{knob.metadata['meaning']}{limits}, such as {knob.default!r}",
                hint=f"recipe.replace({knob.name}={knob.default!r})",
            )

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some values changed; an unknown field names the nearest one."""
        return type(self)(**(asdict(self) | changes))

    def diff(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Field -> (the other's value, this one's), where they differ."""
        mine, theirs = asdict(self), asdict(other)
        return {name: (theirs[name], mine[name]) for name in mine if mine[name] != theirs[name]}

    @property
    def hash(self) -> str:
        """12 characters that two recipes share only if they are equal."""
        values = json.loads(self.to_json())
        for knob in fields(self):
            if knob.metadata["later"] and values[knob.name] == knob.default:
                del values[knob.name]
        written = json.dumps(values, sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """How the leaderboard calls it."""
        parts = [self.approach]
        if self.approach in TAUGHT:
            parts += [f"taught by {len(str(self.teacher).split('+'))}"]
            parts += [f"unlabelled {self.unlabelled}"] if self.unlabelled else []
        if self.approach == "clip":
            parts += self._towers_label()
        if self.layers:
            parts.append(f"{self.layers} layers")
        if self.matryoshka:
            parts.append(f"Matryoshka {self.sizes[0]}–{self.sizes[-1]}")
        if self.query_prompt or self.document_prompt:
            asked, shown = bool(self.query_prompt), bool(self.document_prompt)
            parts.append(
                f"prompt on {'both' if asked and shown else 'queries' if asked else 'documents'}"
            )
        if self.lora_rank:
            parts += self._lora_label()
        if self.max_pairs or self.pairs != "human":
            many = f"{self.max_pairs:,} " if self.max_pairs else ""
            parts.append(f"{many}{self.pairs} pairs")
        if self.unique_in_batch != "texts":
            parts.append(f"{self.unique_in_batch} apart")
        if self.hard_negatives:
            parts.append(f"+ {self.hard_negatives} {self.miner}")
            parts += ["kin kept"] if self.keep_kin else []
            parts += [f"{self.relative_margin:.0%} margin"] if self.relative_margin else []
            parts += ["veto"] if self.veto else []
            hidden = self.hidden_positives
            parts += [f"{hidden:.0%} of positives hidden"] if hidden else []
        if self.shuffle_labels:
            parts.append("shuffled labels")
        return ", ".join(parts)

    def _towers_label(self) -> list[str]:
        parts = {"all": "both towers", "image": "text tower locked", "none": "ridge, frozen towers"}
        found = [parts.get(self.trained_parts, "projections only")]
        found += [f"first {self.frozen_stages} blocks frozen"] if self.frozen_stages else []
        return found + ([f"augmented ×{self.augment:g}"] if self.augment != 1 else [])

    def _lora_label(self) -> list[str]:
        kinds = {"plain": "LoRA", "rslora": "rsLoRA", "dora": "DoRA"}
        kind = "Q" * (self.quantize != "none") + kinds[self.lora_variant]
        parts = [f"{kind} r{self.lora_rank}"]
        parts += [f"{self.lora_init} start"] if self.lora_init != "default" else []
        parts += [f"B ×{self.lora_plus:g}"] if self.lora_plus != 1 else []
        return parts

    def to_json(self) -> str:
        """The recipe as JSON; numbers come back exactly."""
        values = asdict(self)
        for name, kind in FIELDS.items():  # 1 and 1.0 are one value and one hash
            if kind.startswith("float") and values[name] is not None:
                values[name] = float(values[name])
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe that ``to_json`` wrote.

        Raises:
            EmbkitError: for text that is no JSON object, or an unknown field.
        """
        try:
            values = json.loads(text)
            assert isinstance(values, dict)
        except (ValueError, AssertionError) as error:
            raise EmbkitError(
                f"no recipe: {text[:60]!r}", expected="a JSON object", hint="recipe.to_json()"
            ) from error
        return cls().replace(**values)

    def to_script(self) -> str:
        """A stand-alone sentence-transformers script that trains the same model."""
        from .script import stock_script

        return stock_script(self)

    def _repr_html_(self) -> str:
        changed = self.diff(Recipe())
        rows = "".join(
            f"<tr><td style='text-align:left'>{'<b>' if knob.name in changed else ''}"
            f"{knob.name}</td><td>{html.escape(str(getattr(self, knob.name)))}</td>"
            f"<td style='text-align:left'>{knob.metadata['meaning']}</td></tr>"
            for knob in fields(self)
        )
        return f"<table><tr><th>Recipe {self.hash}</th><th></th><th></th></tr>{rows}</table>"


FIELDS: dict[str, str] = {knob.name: str(knob.type) for knob in fields(Recipe)}
