"""Recipe: everything that decides a training run, in one frozen, hashable, printable value."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from ..display import Table
from ..errors import EmbkitError, unknown
from . import views
from .checks import CHOICES, LOSSES, check_together, check_value, knob, strange
from .script import stock_script

VERSION = 1  # of the defaults: raised when one changes, so that hashes do
RETIRED = {  # fields that recipes once had -> the value that all of them have now
    "image_rate": 0.2,
    "text_rate": 0.05,
    "augment": 1.0,
    "corpus_refresh": 1,
    "corpus_sample": None,
    "lora_init": "default",
}
CACHED = {"approach": "contrastive", "mini_batch_size": 32}  # what approach="cached" was
TOWERS = {"all": "both towers", "none": "ridge, frozen towers"}
KINDS = {"plain": "LoRA", "rslora": "rsLoRA", "dora": "DoRA"}


def _named(kind: str) -> dict[str, dict[str, Any]]:
    """Name -> what it changes in Recipe(), of presets.toml; what has several values is a tuple."""
    told = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))
    plain = lambda value: tuple(value) if isinstance(value, list) else value  # noqa: E731
    return {name: {k: plain(v) for k, v in of.items()} for name, of in told[kind].items()}


PRESETS = _named("texts")
PICTURES = _named("pictures")  # on a domain with pictures
SOURCES = _named("sources")  # what the training data is made of, beside one and the same recipe


@dataclass(frozen=True, repr=False)
class Recipe:
    """What to try. Two recipes with the same values have the same hash and train the same model.

    It is written flat; each step of a training reads its own part: ``recipe.loss``, ``.lora``,
    ``.mining``, ``.teaching``, ``.trainer``, ``.clip``. A field of several values takes one, too.
    Fails for a value outside its range, or a field that does not exist.

    Example:
        >>> Recipe(epochs=1).replace(temperature=0.02).diff(Recipe(epochs=1))
        {'temperature': (0.05, 0.02)}
    """

    model: str = knob("minilm", "the model to start from: a name, a folder or a hub id")
    approach: str = knob("contrastive", "the loss: contrastive over the batch, or a relative")
    epochs: int = knob(3, "passes over the training pairs", 1, 1000)
    batch_size: int = knob(128, "pairs a step: others' positives are a pair's negatives", 2, 65536)
    mini_batch_size: int | None = knob(
        None, "texts that pass at once, the loss sees the batch; None: all, or what fits", 1, 65536
    )
    gradient_checkpointing: bool = knob(False, "keep few activations, compute the rest again")
    learning_rate: float = knob(4e-4, "largest step size of AdamW", 1e-9, 1.0)
    temperature: float = knob(0.05, "divides cosines: lower looks at harder negatives", 1e-4, 10)
    hardness: float = knob(0.0, "weighs a batch's negatives by nearness; 0: all alike", 0.0, 100)
    margin: float = knob(0.2, "triplet: how much nearer the positive must be, as cosine", 0.0, 2.0)
    guide: str = knob("minilm", "gist: the model that says which negatives look right")
    in_batch_weight: float = knob(0.5, "corpus: share of the batch's loss, the rest over all", 0, 1)
    teacher: tuple[str, ...] = knob((), "distilling: who teaches: models, presets or runs")
    teacher_temperature: float = knob(0.05, "distill, kl: divides the teacher's scores", 1e-4, 10)
    teacher_share: float = knob(0.5, "distill: teacher's share of the loss, the rest: labels", 0, 1)
    unlabeled_texts: tuple[str, ...] = knob((), "texts for the teacher alone: documents or sets")
    layers: int | None = knob(None, "layers that are kept, evenly spaced; None: all", 1, 1000)
    matryoshka: tuple[int, ...] = knob((), "sizes to truncate to, largest first; auto: 4 halvings")
    query_prompt: str | None = knob(None, "put before every query; None: as saved")
    document_prompt: str | None = knob(None, "put before every document; None: as saved")
    trained_parts: str = knob("all", "clip: all, projections, or none")
    frozen_stages: int = knob(0, "clip: first blocks of the image tower that stay frozen", 0, 100)
    warmup_ratio: float = knob(0.1, "share of the steps in which the learning rate rises", 0.0, 1.0)
    lr_scheduler_type: str = knob("linear", "how the learning rate falls after that")
    weight_decay: float = knob(0.0, "AdamW's weight decay", 0.0, 1.0)
    dropout: float | None = knob(0.0, "dropout probability; None keeps the model's own", 0.0, 0.9)
    lora_rank: int = knob(0, "rank of LoRA's update of a layer; 0 trains every weight", 0, 1024)
    lora_alpha: float | None = knob(
        None, "LoRA's scale is alpha / rank; None: 2 * rank", 0.01, 8192
    )
    lora_targets: tuple[str, ...] = knob(
        ("query", "key", "value", "dense"),
        "LoRA's target layers: the ends of their names; auto: every linear one of the blocks",
    )
    lora_variant: str = knob("plain", "plain, rslora (alpha / sqrt(rank)), dora (lengths apart)")
    lora_plus: float = knob(1.0, "LoRA+: how many times A's learning rate is B's", 1.0)
    quantize: str = knob("none", "the frozen weights under LoRA: none, or nf4 (four bits: QLoRA)")
    max_length: int | None = knob(None, "tokens a text at most; None: the model's own", 4, 32768)
    passage_size: int | None = knob(None, "cut documents to so many pieces; None: whole", 16, 32768)
    passage_overlap: int = knob(0, "pieces that a passage shares with the one before", 0, 16383)
    passage_headings: bool = knob(False, "put the headings above a passage before it")
    passage_choice: str = knob("best", "trained on, of a right document: best (by epoch), or first")
    pairs: tuple[str, ...] = knob(("human",), "sources: human, or sets of generated pairs")
    max_pairs: int | None = knob(None, "train on the first so many pairs, shuffled by the seed", 2)
    unique_in_batch: str = knob("texts", "what stands only once in a batch: texts, or families")
    hard_negatives: int = knob(0, "mined negatives a pair, beside the batch's own", 0, 64)
    miner: str = knob("dense", "what finds them: dense (the start model), bm25, human, or random")
    range_min: int = knob(0, "skip so many of the best candidates", 0, 10_000)
    range_max: int = knob(50, "look no deeper than so many candidates", 1, 10_000)
    relative_margin: float | None = knob(None, "least gap below the positive, as a share", 0, 1)
    reranker_filter: str | None = knob(None, "a cross-encoder that removes what beats the positive")
    keep_relatives: bool = knob(False, "allow a positive's ancestors and descendants as negatives")
    sampling: str = knob("top", "which candidates of the window: top or random")
    hidden_positives: float = knob(0.0, "control: share of queries with unknown positives", 0, 1)
    shuffle_labels: bool = knob(False, "control: every query gets another query's document")
    seed: int = knob(42, "of the order, the dropout and the shuffling", 0, 2**32 - 1)

    def __new__(cls, *_: Any, **values: Any) -> Recipe:
        for name, value in values.items():
            if name not in FIELDS:
                raise strange(name, value, cls.__dataclass_fields__, cls.batch_size)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", str(self.model))
        for one in fields(self):
            value = getattr(self, one.name)
            if str(one.type).startswith("tuple"):
                self._check_several(one, value)
            else:
                check_value(one, value)
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                if value in LOSSES:
                    raise strange("loss", value, self.__dataclass_fields__, self.batch_size)
                raise unknown(name, value, allowed)
        sizes = self.matryoshka
        if sizes != views.AUTO and [*sizes] != sorted({s for s in sizes if s > 0}, reverse=True):
            given, expected = f"Recipe(matryoshka={sizes!r})", "sizes of 1 or more, largest first"
            hint = "recipe.replace(matryoshka=(384, 256, 128, 64, 32))"
            raise EmbkitError(given, expected=expected, hint=hint)
        check_together(self)

    def _check_several(self, knob: Any, value: Any) -> None:
        """Brings a field of several values into one form: a tuple of names or of numbers."""
        kind: type = int if "int" in str(knob.type) else str
        if isinstance(value, str | os.PathLike | int) or hasattr(value, "path"):
            value = (value,)
        listed: list[Any] = list(value or ()) if isinstance(value, Sequence | None) else [None]
        # a run stands for its folder in the run store
        made = [v.path.name if hasattr(v, "path") else v for v in listed]
        made = [str(v) if isinstance(v, os.PathLike) else v for v in made]
        fits = made == [*views.AUTO] or all(
            isinstance(v, kind) and not isinstance(v, bool) and v != "" for v in made
        )
        if not fits:
            shown = knob.default or ((384, 256, 128, 64, 32) if kind is int else ("bge-small",))
            raise EmbkitError(
                f"Recipe({knob.name}={value!r})",
                expected=f"{knob.metadata['meaning']}: a list, such as {shown!r}",
                hint=f"recipe.replace({knob.name}={shown!r})",
            )
        object.__setattr__(self, knob.name, tuple(made))

    # ---- each step's own part

    mining, teaching = property(views.Mining), property(views.Teaching)
    passages, loss = property(views.Passages), property(views.Loss)
    lora, trainer, clip = property(views.Lora), property(views.Trainer), property(views.Clip)

    @property
    def prompts(self) -> dict[str, str]:
        """What the model's ``encode_query`` and ``encode_document`` will put before a text."""
        given = {"query": self.query_prompt, "document": self.document_prompt}
        return {kind: prompt for kind, prompt in given.items() if prompt is not None}

    @property
    def beside(self) -> tuple[str, ...]:
        """The models that decide the result beside the start and the teachers."""
        guide = self.guide if self.approach == "gist" else None
        veto = self.reranker_filter if self.hard_negatives else None
        return tuple(name for name in (guide, veto) if name)

    # ---- copies, names, files

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some values changed; an unknown field names the nearest one."""
        return type(self)(**(asdict(self) | changes))

    def diff(self, other: Recipe) -> dict[str, tuple[Any, Any]]:
        """Field -> (the other's value, this one's), where they differ."""
        theirs = asdict(other)
        return {k: (theirs[k], mine) for k, mine in asdict(self).items() if mine != theirs[k]}

    @cached_property
    def hash(self) -> str:
        """12 characters that two recipes share only if they are equal.

        What is at its default is left out, so that a field that comes later changes no hash.
        """
        plain = json.loads(_DEFAULTS.to_json())
        changed = {k: v for k, v in json.loads(self.to_json()).items() if v != plain[k]}
        written = json.dumps([VERSION, changed], sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()[:12]

    @cached_property
    def label(self) -> str:
        """How the leaderboard calls it."""
        r, lora, mined, sizes = self, self.lora_rank, self.hard_negatives, self.matryoshka
        clip, asked, shown = r.approach == "clip", r.query_prompt, r.document_prompt
        parts = (
            r.approach,
            r.approach in views.TAUGHT and f"taught by {len(r.teacher)}",
            r.unlabeled_texts and f"unlabeled {' + '.join(r.unlabeled_texts)}",
            clip and TOWERS.get(r.trained_parts, "projections only"),
            clip and r.frozen_stages and f"first {r.frozen_stages} blocks frozen",
            r.layers and f"{r.layers} layers",
            r.mini_batch_size and f"mini-batches of {r.mini_batch_size}",
            r.gradient_checkpointing and "gradient checkpointing",
            sizes
            and f"Matryoshka {'by halves' if sizes == views.AUTO else f'{sizes[0]}–{sizes[-1]}'}",
            (asked or shown)
            and f"prompt on {'both' if asked and shown else 'queries' if asked else 'documents'}",
            lora and f"{'Q' * (r.quantize != 'none')}{KINDS[r.lora_variant]} r{lora}",
            lora and r.lora_plus != 1 and f"B ×{r.lora_plus:g}",
            (r.max_pairs or r.pairs != ("human",))
            and f"{f'{r.max_pairs:,} ' if r.max_pairs else ''}{' + '.join(r.pairs)} pairs",
            r.passage_size and f"{r.passage_choice} passages of {r.passage_size}",
            r.passage_overlap and f"{r.passage_overlap} shared",
            r.passage_headings and "headings",
            r.unique_in_batch != "texts" and f"{r.unique_in_batch} apart",
            mined and f"+ {mined} {r.miner}",
            mined and r.keep_relatives and "relatives kept",
            mined and r.relative_margin and f"{r.relative_margin:.0%} margin",
            mined and r.reranker_filter and "reranker filter",
            mined and r.hidden_positives and f"{r.hidden_positives:.0%} of positives hidden",
            r.shuffle_labels and "shuffled labels",
        )
        return ", ".join(part for part in parts if part)

    def to_json(self) -> str:
        """The recipe as JSON; numbers come back exactly."""
        values = asdict(self)
        for name, kind in FIELDS.items():  # 1 and 1.0 are one value and one hash
            if kind.startswith("float") and values[name] is not None:
                values[name] = float(values[name])
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe that ``to_json`` wrote; fails for other text, or an unknown field."""
        try:
            values = json.loads(text)
            assert isinstance(values, dict)
        except (ValueError, AssertionError) as error:
            given, hint = f"no recipe: {text[:60]!r}", "recipe.to_json()"
            raise EmbkitError(given, expected="a JSON object", hint=hint) from error
        known = {k: v for k, v in values.items() if (k, v) not in RETIRED.items()}
        known |= CACHED if known.get("approach") == "cached" else {}
        return cls().replace(**known)

    def to_script(self) -> str:
        """A stand-alone sentence-transformers script that trains the same model."""
        return stock_script(self)

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={now!r}" for name, (_, now) in self.diff(_DEFAULTS).items())
        return f"Recipe({changed})"

    def table(self) -> Table:
        """What differs from the nearest preset: field, the preset's value, this one's, meaning."""
        beside = {name: self.diff(Recipe(**values)) for name, values in PRESETS.items()}
        name, changed = min(beside.items(), key=lambda each: len(each[1]))
        meanings = {knob.name: knob.metadata["meaning"] for knob in fields(self)}
        rows = [[k, str(old), str(new), meanings[k]] for k, (old, new) in changed.items()]
        caption = f"Recipe {self.hash}: the preset {name!r}" + (", but for" if rows else "")
        return Table(["field", name, "here", "meaning"] if rows else [""], rows, caption)

    def _repr_html_(self) -> str:
        return self.table().to_html()


def preset(name: str, **changes: Any) -> Recipe:
    """The recipe of an approach, with changes of your own.

    For another model than the preset's, LoRA's targets and Matryoshka's sizes are ``auto``. Fails
    for an unknown preset or field, naming the nearest.

    Example:
        >>> preset("corpus", epochs=1).approach
        'corpus'
    """
    known = PRESETS | PICTURES
    if name not in known:
        raise unknown("preset", name, known)
    values, own = known[name], known[name].get("model", _DEFAULTS.model)
    if changes.get("model", own) != own:  # the names and the sizes are those of its own model
        values = values | dict.fromkeys({"lora_targets", "matryoshka"} & set(values), views.AUTO)
    return Recipe(**(values | changes))


FIELDS: dict[str, str] = {knob.name: str(knob.type) for knob in fields(Recipe)}
_DEFAULTS = Recipe()
