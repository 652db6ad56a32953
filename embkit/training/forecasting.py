"""What a training will hold in memory, and how long it will take, told before it begins.

No step is taken and no weight is read: the network is built from its configuration, of tensors that
have a shape and no numbers (torch's FakeTensorMode), and what its forward pass keeps for the
backward pass is counted. So it can be asked of models that are not here, too.
"""

from __future__ import annotations

import copy
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CONFIG_MAPPING, AutoModel

from .. import session
from ..data import Domain
from ..data.domain import shuffled
from ..data.text_checks import token_lengths
from ..display import Shown, Table, facts, table
from ..errors import EmbkitError
from ..evaluation.ranking import encode_speed
from ..models.loading import keep_layers, load_model
from ..models.packing import set_dropout
from ..models.window import tokenizer_of
from ..pairs.pairs import collect
from ..recipes.recipe import Recipe
from ..recipes.settings import MINI_BATCH, OUTSIDE, PASSES, WIDE, lora_settings
from ..recipes.views import AUTO, Lora
from .lora import check_targets
from .memory import kept_for_backward

LARGE = Path(__file__).with_name("large_models.toml")
ADAPTER: dict[str, Any] = {"lora_rank": 16, "lora_targets": AUTO}
ROWS = (16, 48)  # texts of the two steps that are counted; memory is linear in the tokens between
SAMPLE = 1_000  # texts whose tokens are counted
TIMED = 10_000  # tokens whose encoding is timed
NF4 = 0.5 + 4 / 64  # bytes of a weight in four bits, its block's scale among them
# As measured (data/results.md): the C library holds so many times what a step does, and a training
# brings so many bytes beside it.
FREED, BESIDE = 1.2, 340e6
SHORT = 128  # tokens
SHALLOW = (2, 4)  # layers of what is counted in place of a deep network
GIB = 2**30


@dataclass(frozen=True)
class Step:
    """Bytes of one training step of a network: ``fixed`` + ``token`` for each of its tokens."""

    weights: float
    trained: float  # of the weights; their gradients take as much, AdamW's moments twice as much
    token: float

    def at(self, tokens: float) -> float:
        """Bytes at the fullest moment: the end of the forward pass, or the update."""
        moments = 2 * self.trained
        return self.weights + moments + max(self.token * tokens, 2 * self.trained)

    def tokens(self, room: float) -> float:
        """How many fit in so many bytes; below 0 where not even the weights do."""
        if self.at(0) > room:
            return -1
        return (room - self.weights - 2 * self.trained) / self.token


@dataclass(frozen=True)
class Forecast(Shown):
    """Memory of a training by part, in MB (10^6 bytes), and its minutes; shows itself as a table.

    ``process`` is what the interpreter and its libraries hold beside the step, ``free`` what the
    machine has for all of it, ``largest`` the largest batch that fits (0: none does), ``advice``
    what to change.
    """

    recipe: str
    batch: int
    tokens: int
    parts: Mapping[str, float]
    process: float
    free: float
    largest: int
    minutes: float
    advice: tuple[str, ...] = ()

    @property
    def peak(self) -> float:
        """MB at the fullest moment, all parts and the process."""
        return self.process + FREED * self.parts["step"]

    def table(self) -> Table:
        rows = {name: f"{mb:,.0f} MB" for name, mb in self.parts.items()}
        rows |= {
            "beside it": f"{self.process:,.0f} MB: the interpreter, the libraries, the texts",
            "peak": f"{self.peak:,.0f} MB, of {self.free:,.0f} MB free",
            "a batch": f"{self.batch} pairs, {self.tokens:,} tokens; {self.largest:,} would fit",
            "time": f"about {max(1, round(self.minutes))} min, by the speed of a small encoding",
        }
        return facts(rows | dict.fromkeys(self.advice, ""), self.recipe)


def forecast(recipe: Recipe, domain: Domain, *, memory_gb: float | None = None) -> Forecast:
    """Forecasts the peak memory and the minutes of ``ek.train(recipe, domain)``.

    Tokens are those of the domain's own texts; elsewhere than on a processor, a batch is padded to
    its longest. Minutes come from encoding ``TIMED`` tokens here, and leave out what a teacher
    or the mining of negatives takes.

    Args:
        memory_gb: what there is, in GiB; default: what is free now, on a GPU the GPU's.

    Fails for what is no transformer of texts, such as a CLIP or a table of word vectors.
    """
    # the model: its configuration, its window, its speed
    model = keep_layers(load_model(recipe.model), recipe.layers)
    texts = _some(domain.corpus.values())
    network = getattr(model[0], "auto_model", None)
    if network is None or recipe.approach == "clip":
        raise EmbkitError(
            f"a forecast for {recipe.model!r}, which is no transformer of texts",
            expected="a model such as 'minilm'",
            hint="ek.forecast(ek.Recipe(model='minilm'), domain)",
        )
    own = model.max_seq_length or math.inf
    window = recipe.passage_size or recipe.max_length or (WIDE if WIDE < own else own)
    pairs = collect(domain, "human")[0]
    given = {"query": _some(anchor for _, anchor, _ in pairs), "document": texts}
    tokenizer = tokenizer_of(model)
    lengths = {n: np.minimum(token_lengths(tokenizer, t), window) for n, t in given.items()}
    document = float(lengths["document"].mean())
    some = texts[: int(np.searchsorted(lengths["document"].cumsum(), TIMED)) + 1]
    speed = encode_speed(model, some) * float(lengths["document"][: len(some)].mean())
    dim, config = model.get_embedding_dimension() or 0, network.config
    del model, network

    # a batch: its rows, and the tokens of a row
    used = min(len(pairs), recipe.max_pairs or len(pairs))
    batch, cached = min(recipe.batch_size, used), recipe.approach == "cached"
    at_once = min(batch, MINI_BATCH) if cached else batch
    columns = ["query", "document", *["document"] * recipe.hard_negatives]
    row = sum(_fullest(lengths[column], at_once) for column in columns)

    # memory: the step's, the corpus', the process'
    step = count(config, recipe.lora, int(lengths["document"].max()), dropout=recipe.dropout)
    whole = recipe.approach == "corpus"
    corpus = whole * len(domain.corpus) * (dim + 3 * batch) * 4
    session.give_back()
    process = psutil.Process().memory_info().rss
    free = psutil.virtual_memory().available + process
    if session.device().startswith("cuda"):
        process, free = 0, torch.cuda.mem_get_info()[0]
    process += BESIDE
    free = free if memory_gb is None else int(memory_gb * GIB)
    fits = max(0, int(step.tokens((free - process) / FREED - corpus) / row))
    parts = {
        "weights": step.weights,
        "gradients": step.trained,
        "AdamW's moments": 2 * step.trained,
        "activations": step.token * at_once * row,
        "the whole corpus": corpus,
        "step": step.at(at_once * row) + corpus,
    }

    # minutes: tokens through the model
    work = PASSES * used * row * (4 / 3 if cached else 1)
    work += (len(domain.dev_corpus()) + whole * len(domain.corpus)) * document
    return Forecast(
        recipe=recipe.label,
        batch=batch,
        tokens=round(batch * row),
        parts={name: size / 1e6 for name, size in parts.items() if size},
        process=process / 1e6,
        free=free / 1e6,
        largest=used if cached and fits >= MINI_BATCH else min(used, fits),
        minutes=recipe.epochs * work / speed / 60,
        advice=tuple(_advice(recipe, fits)) if fits < at_once else (),
    )


def _advice(recipe: Recipe, fits: int) -> Iterable[str]:
    """What to change where a batch does not fit, so many pairs being what does."""
    yield "it does not fit"
    if recipe.approach == "contrastive" and fits >= MINI_BATCH:
        told = f"the same loss, {MINI_BATCH} pairs at once, slower"
        yield f"recipe.replace(approach='cached'): {told}"
    if fits > 1:
        yield f"recipe.replace(batch_size={2 ** int(math.log2(fits))}): fewer negatives"
    if not recipe.lora_rank:
        yield "recipe.replace(lora_rank=16, lora_targets='auto'): no gradients of the weights"
    if not recipe.passage_size and (recipe.max_length or WIDE) > SHORT:
        yield f"recipe.replace(max_length={SHORT}): shorter texts"


def _some(texts: Iterable[str]) -> list[str]:
    return shuffled(set(texts))[:SAMPLE]


def _fullest(lengths: np.ndarray, rows: int) -> float:
    """Tokens of a text in a batch of so many, the fullest of 50 that are drawn."""
    drawn = np.random.default_rng(0).choice(lengths, size=(50, rows))
    on_cpu = session.device().startswith("cpu")  # which pads nothing
    return float((drawn.mean(axis=1) if on_cpu else drawn.max(axis=1)).max())


def count(
    config: Any, lora: Lora, length: int, *, dropout: float | None = 0.0, bf16: bool = False
) -> Step:
    """Counts what a training step of a network holds, from its configuration alone.

    Args:
        config: a transformers configuration.
        length: tokens a text.
        bf16: products in bf16, whatever this processor does; else as ``ek.setup`` says.
    """
    config = copy.deepcopy(config)
    config.quantization_config = None
    with torch.device("meta"):
        net = AutoModel.from_config(config, dtype=torch.float32).train()
        kinds = {name: m for name, m in net.named_modules() if isinstance(m, torch.nn.Linear)}
        linear = [m for name, m in kinds.items() if not re.fullmatch(OUTSIDE, name)]
        if lora.rank:
            check_targets(net, lora.targets)
            net.requires_grad_(False)
            inject_adapter_in_model(LoraConfig(**lora_settings(lora)), net)
    set_dropout(net, dropout)
    held = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        net.to_empty(device="cpu")
        for rows in ROWS:
            ids = torch.zeros(rows, length, dtype=torch.long)
            half = torch.autocast("cpu", torch.bfloat16) if bf16 else session.autocast("cpu")
            with half, kept_for_backward(net) as kept:
                net(input_ids=ids, attention_mask=torch.ones_like(ids))[0].float().mean()
            held[rows] = sum(storage.nbytes() for storage in kept.values())
    sizes = [(4 * p.numel(), p.requires_grad) for p in net.parameters()]
    saved = sum(m.in_features * m.out_features for m in linear) * (4 - NF4) * lora.four_bits
    token = (held[ROWS[1]] - held[ROWS[0]]) / (ROWS[1] - ROWS[0]) / length
    return Step(
        weights=sum(size for size, _ in sizes) - saved,
        trained=sum(size for size, trained in sizes if trained),
        token=token,
    )


def large_models(
    memory_gb: Iterable[float] = (8, 16, 24, 80), *, query: int = 16, document: int = 256
) -> Table:
    """The largest batch of pairs with which models that are not here can be trained, by their
    configurations: a row a model and way, a column a GPU's memory in GiB.

    Weights and moments are counted in fp32, products in bf16, one GiB is left to the libraries, and
    nothing is checkpointed. ``query`` and ``document`` are tokens of a text.
    """
    rows = []
    ways = {"full": {}, "LoRA": ADAPTER, "QLoRA": ADAPTER | {"quantize": "nf4"}}
    for name, settings in tomllib.loads(LARGE.read_text(encoding="utf-8")).items():
        kind, deep = CONFIG_MAPPING[settings.pop("kind")], settings.pop("num_hidden_layers")
        shallow = [kind(**settings, num_hidden_layers=n) for n in SHALLOW]
        for way, changes in ways.items():
            lora = Recipe(**changes).lora
            few, more = (count(config, lora, document, bf16=True) for config in shallow)
            step = deeper(few, more, deep)
            row = {"model": name, "trained": way, "weights, GB": f"{step.weights / 1e9:.1f}"}
            for gb in memory_gb:
                pairs = int(step.tokens((gb - 1) * GIB) / (query + document))
                row[f"{gb} GiB"] = str(pairs) if pairs > 0 else "–"
            rows.append(row)
    return table(rows, caption=f"pairs a batch; {query} + {document} tokens a pair")


def deeper(one: Step, two: Step, layers: int) -> Step:
    """The step of so many layers, of which each holds as much as the next, from two of few."""
    beyond = (layers - SHALLOW[0]) / (SHALLOW[1] - SHALLOW[0])
    parts = zip(astuple(one), astuple(two), strict=True)
    return Step(*(a + (b - a) * beyond for a, b in parts))
