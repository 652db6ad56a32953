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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CONFIG_MAPPING, AttentionInterface, AutoModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .. import session
from ..data import Domain
from ..data.domain import shuffled
from ..data.text_checks import token_lengths
from ..display import Shown, Table, facts, table
from ..evaluation.ranking import encode_speed
from ..losses.corpus import CorpusSoftmaxLoss
from ..models.loading import keep_layers, load_model
from ..models.packing import CACHED, attending, set_dropout
from ..models.window import tokenizer_of
from ..pairs.pairs import collect
from ..recipes.recipe import Recipe
from ..recipes.settings import OUTSIDE, PASSES, WIDE, lora_settings
from ..recipes.views import AUTO, CORPUS, IN_BATCH, Lora
from .lora import check_targets
from .refusals import refused

LARGE = Path(__file__).with_name("large_models.toml")
ADAPTER: dict[str, Any] = {"lora_rank": 16, "lora_targets": AUTO}
ROWS = (16, 48)  # texts of the two steps that are counted; memory is linear in the tokens between
SAMPLE = 1_000  # texts whose tokens are counted
DRAWN = 50  # batches, of which the fullest is taken
TIMED = 10_000  # tokens whose encoding is timed
NF4 = 0.5 + 4 / 64  # bytes of a weight in four bits, its block's scale among them
# As measured (data/results.md): the C library holds so many times what the forward pass keeps, with
# LoRA's many short-lived products more, and a training brings so many bytes beside it.
FREED, FREED_LORA, BESIDE = 1.1, 1.55, 150e6
SHARE = 1 / 8  # of the free memory, for a step on a processor, where mini-batches cost little time
SHORT = 128  # tokens
SHALLOW = (1, 2)  # layers of what is counted in place of a deep network
GIB = 2**30
COUNTED = "embkit_counted"
_COUNTED: dict[str, tuple[Step, int]] = {}  # a step in fp32, and its weights that four bits take


@dataclass(frozen=True)
class Step:
    """Bytes of one training step of a network, those of its activations for each of its tokens."""

    weights: float
    trained: float  # of the weights; their gradients take as much, AdamW's moments twice as much
    copies: float  # of the weights in 16 bits, which the forward pass makes and keeps
    token: float

    def at(self, tokens: float, beside: bool = False) -> float:
        """Bytes at the fullest moment: the end of the forward pass, or the update. ``beside``: it
        holds gradients, those of passes before or of blocks that were computed again."""
        moments, passing = 2 * self.trained, self.copies + self.token * tokens
        return self.weights + moments + max(passing + beside * self.trained, moments)

    def tokens(self, room: float, beside: bool = False) -> float:
        """How many fit in so many bytes; below 0 where not even the weights do."""
        if self.at(0, beside) > room:
            return -1
        return (room - self.weights - (2 + beside) * self.trained - self.copies) / self.token


@dataclass(frozen=True, repr=False)
class Forecast(Shown):
    """Memory of a training by part, in MB (10^6 bytes), and its minutes; shows itself as a table.

    ``process`` is what the interpreter and its libraries hold beside the step, ``free`` what the
    machine has for all of it, ``at_once`` the texts that pass at once, ``largest`` the largest
    batch that fits (0: none does), ``advice`` what to change.
    """

    recipe: str
    batch: int
    at_once: int
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
        return self.process + self.parts["step"]

    def table(self) -> Table:
        rows = {name: f"{mb:,.0f} MB" for name, mb in self.parts.items()}
        rows |= {
            "beside it": f"{self.process:,.0f} MB: the interpreter, the libraries, the texts",
            "peak": f"{self.peak:,.0f} MB, of {self.free:,.0f} MB free",
            "a batch": f"{self.batch} pairs, {self.tokens:,} tokens; {self.largest:,} would fit",
            "at once": f"{self.at_once} texts; the loss sees the whole batch",
            "time": f"about {max(1, round(self.minutes))} min, by the speed of a small encoding",
        }
        return facts(rows | dict.fromkeys(self.advice, ""), self.recipe)


def forecast(
    recipe: Recipe, domain: Domain, *, memory_gb: float | None = None, model: Any = None
) -> Forecast:
    """Forecasts the peak memory and the minutes of ``ek.train(recipe, domain)``.

    Tokens are those of the domain's own texts; elsewhere than on a processor, a batch is padded to
    its longest. Minutes come from encoding ``TIMED`` tokens here, and leave out what a teacher
    or the mining of negatives takes. Where a processor's step would take more than ``SHARE`` of the
    free memory, or a GPU's more than there is, what has in-batch negatives passes in mini-batches.

    Args:
        memory_gb: what there is, in GiB; default: what is free now, on a GPU the GPU's.
        model: the one that training starts from, where it is loaded; no minutes are told then.

    Fails for what is no transformer of texts, such as a CLIP or a table of word vectors.
    """
    # the model: its configuration, its window, its speed
    timed = model is None
    model = keep_layers(load_model(recipe.model), recipe.layers) if timed else model
    network = getattr(model[0], "auto_model", None)
    if network is None or recipe.approach == "clip":
        raise refused("no transformer", model=recipe.model)
    own = model.max_seq_length or math.inf
    window = recipe.passage_size or recipe.max_length or (WIDE if WIDE < own else own)
    pairs, texts = collect(domain, recipe.pairs)[0], _some(domain.corpus.values())
    given = {"query": _some(anchor for _, anchor, _ in pairs), "document": texts}
    tokenizer, speed = tokenizer_of(model), math.inf
    lengths = {n: np.minimum(token_lengths(tokenizer, t), window) for n, t in given.items()}
    document = float(lengths["document"].mean())
    if timed:
        some = texts[: int(np.searchsorted(lengths["document"].cumsum(), TIMED)) + 1]
        speed = encode_speed(model, some) * float(lengths["document"][: len(some)].mean())
    held = 0 if timed else sum(p.numel() * p.element_size() for p in model.parameters())
    dim, config, kind = model.get_embedding_dimension() or 0, network.config, type(network)
    del model, network

    # memory: the step's, the corpus', the process'
    used = min(len(pairs), recipe.max_pairs or len(pairs))
    batch = min(recipe.batch_size, used)
    again, long = recipe.gradient_checkpointing, int(lengths["document"].max())
    step = count(config, recipe.lora, long, dropout=recipe.dropout, checkpointed=again, kind=kind)
    whole, documents = recipe.approach in CORPUS, len(domain.corpus)
    compared = min(documents, CorpusSoftmaxLoss.BLOCK)  # with a batch's queries, at a time
    corpus = 4 * whole * (documents * (2 + len(recipe.teacher)) * dim + 3 * batch * compared)
    session.give_back()
    process, free = memory()
    free = process + free if memory_gb is None else int(memory_gb * GIB)
    process += BESIDE - held

    # a batch: its rows, the tokens of a row, and how many texts pass at once
    columns = ["query", "document", *["document"] * recipe.hard_negatives]
    passed = used * recipe.epochs
    row = _fullest([lengths[column] for column in columns], batch, passed)
    freed = FREED_LORA if recipe.lora_rank else FREED
    loose = replace(step, copies=freed * step.copies, token=freed * step.token)
    most = loose.tokens(room := free - process - corpus, again)
    freely = min(most, max(most * SHARE, CACHED)) if _on_cpu() else most
    at_once, tokens, asked = batch, batch * row, recipe.mini_batch_size
    if recipe.approach in IN_BATCH and (asked < batch if asked else tokens > freely):
        freely = min(freely, loose.tokens(room, beside=True))
        widest = lambda texts: texts * max(_fullest([n], texts, passed) for n in lengths.values())  # noqa: E731
        at_once = asked or 1 << (batch - 1).bit_length() - 1
        while not asked and at_once > 1 and widest(at_once) > freely:
            at_once //= 2
        tokens = widest(at_once)
    fits, cut = max(0, int(most / row)), at_once < batch
    parts = {
        "weights": step.weights,
        "gradients": step.trained,
        "AdamW's moments": 2 * step.trained,
        "weights in 16 bits": step.copies,
        "activations": step.token * tokens,
        "the whole corpus": corpus,
        "step": (needed := loose.at(tokens, cut or again)) + corpus,
    }

    # minutes: tokens through the model
    work = (PASSES + cut + again) * used * row
    work += (len(domain.dev_corpus()) + whole * documents) * document
    return Forecast(
        recipe=recipe.label,
        batch=batch,
        at_once=at_once,
        tokens=round(batch * row),
        parts={name: size / 1e6 for name, size in parts.items() if size},
        process=process / 1e6,
        free=free / 1e6,
        largest=used if cut and needed <= room else min(used, fits),
        minutes=recipe.epochs * work / speed / 60,
        advice=() if needed <= room else ("it does not fit", *advice(recipe, fits, kind)),
    )


def memory() -> tuple[float, float]:
    """Bytes that this process holds, and those that are free beside it; on a GPU the GPU's."""
    if session.device().startswith("cuda"):
        return 0, torch.cuda.mem_get_info()[0]
    return psutil.Process().memory_info().rss, session.free_memory()


def advice(recipe: Recipe, fits: int, kind: Any = None) -> Iterator[str]:
    """What to change where a step does not fit, so many pairs being what does; ``kind`` is the
    class of a network of texts."""
    if getattr(kind, "supports_gradient_checkpointing", 0) and not recipe.gradient_checkpointing:
        yield "recipe.replace(gradient_checkpointing=True): fewer activations, a third slower"
    if fits > 1:
        yield f"recipe.replace(batch_size={2 ** int(math.log2(fits))}): fewer negatives"
    if kind and not recipe.lora_rank and not recipe.layers:
        yield "recipe.replace(lora_rank=16, lora_targets='auto'): no gradients of the weights"
    if kind and not recipe.passage_size and (recipe.max_length or WIDE) > SHORT:
        yield f"recipe.replace(max_length={SHORT}): shorter texts"


def _some(texts: Iterable[str]) -> list[str]:
    return shuffled(set(texts))[:SAMPLE]


def _fullest(columns: Iterable[np.ndarray], rows: int, passed: int) -> float:
    """Tokens of a row in the fullest batch, of those that ``passed`` rows fill, or ``DRAWN``."""
    size, draw = (min(DRAWN, max(1, passed // rows)), rows), np.random.default_rng(0).choice
    drawn = (draw(lengths, size=size) for lengths in columns)  # a processor's is not padded
    return float(max(sum(n.mean(axis=1) if _on_cpu() else n.max(axis=1) for n in drawn)))


def _on_cpu() -> bool:
    return session.device().startswith("cpu")


@contextmanager
def kept_for_backward(model: torch.nn.Module) -> Iterator[dict[int, Any]]:
    """Around a forward pass: the storages that it keeps for the backward pass, weights aside."""
    own = [t.untyped_storage() for t in (*model.parameters(), *model.buffers())]
    weights, kept = {storage._cdata for storage in own}, {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:  # a weight is counted once, as a weight
            kept[storage._cdata] = storage  # held, so that no address is given twice
        return tensor.detach()  # itself, it would hold for good what no backward pass reaches

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def recompute(network: Any, **given: Any) -> None:
    """Has each block keep its input alone, and be computed again in the backward pass."""
    if not getattr(network, "supports_gradient_checkpointing", False):
        raise refused("no blocks")
    old = network.gradient_checkpointing_enable  # until transformers 6
    getattr(network, "activation_checkpointing_enable", old)({"use_reentrant": False} | given)


def _in_fp32(module: Any, q: Tensor, k: Tensor, v: Tensor, *given: Any, **named: Any) -> Any:
    """Attention in training on a processor: see ``packing``."""
    with torch.autocast("cpu", enabled=False):
        found, _ = sdpa_attention_forward(module, *(t.float() for t in (q, k, v)), *given, **named)
    return found.to(q.dtype), None


AttentionInterface.register(COUNTED, _in_fp32)
AttentionMaskInterface.register(COUNTED, sdpa_mask)


def count(
    config: Any,
    lora: Lora,
    length: int,
    *,
    dropout: float | None = 0.0,
    bf16: bool = False,
    checkpointed: bool = False,
    kind: Any = AutoModel,
) -> Step:
    """Counts what a training step of a network holds, from its configuration alone.

    Args:
        config: a transformers configuration.
        length: tokens a text.
        bf16: products in bf16, whatever this processor does; else as ``ek.setup`` says.
        checkpointed: a block keeps its input alone, and one at a time is computed again.
        kind: the network's class, where it is not the one that transformers takes by itself.
    """
    config = copy.deepcopy(config)
    config.quantization_config, config._name_or_path = None, ""
    given = (lora.rank and lora_settings(lora), length, dropout, bf16, checkpointed, kind)
    key = f"{given} {session.device()} {session.precision('cpu')} {config!r}"
    if key not in _COUNTED:
        _COUNTED[key] = _count(config, lora, length, dropout, bf16, checkpointed, kind)
    step, size = _COUNTED[key]
    size *= lora.four_bits  # which are read out anew in each pass: no copies are kept
    copies = max(0, step.copies - 2 * size)
    return replace(step, weights=step.weights - size * (4 - NF4), copies=copies)


def _count(
    config: Any, lora: Lora, length: int, dropout: Any, bf16: bool, checkpointed: bool, kind: Any
) -> tuple[Step, int]:
    """The step of a network in fp32, and the numbers in its linear layers."""
    with torch.device("meta"):
        made = getattr(kind, "_from_config", AutoModel.from_config)  # as from_config calls it
        net = made(config, dtype=torch.float32).train()
        kinds = {name: m for name, m in net.named_modules() if isinstance(m, torch.nn.Linear)}
        linear = [m for name, m in kinds.items() if not re.fullmatch(OUTSIDE, name)]
        if lora.rank:
            check_targets(net, lora.targets)
            net.requires_grad_(False)
            inject_adapter_in_model(LoraConfig(**lora_settings(lora)), net)
    set_dropout(net, dropout)

    def held() -> tuple[float, float]:
        size = []
        for rows in ROWS:
            ids = torch.zeros(rows, length, dtype=torch.long)
            half = torch.autocast("cpu", torch.bfloat16) if bf16 else session.autocast("cpu")
            with half, kept_for_backward(net) as kept:
                net(input_ids=ids, attention_mask=torch.ones_like(ids))[0].float().mean()
            size.append(sum(storage.nbytes() for storage in kept.values()))
        row = (size[1] - size[0]) / (ROWS[1] - ROWS[0])
        return size[0] - ROWS[0] * row, row / length

    own = net.config._attn_implementation
    way = COUNTED if own == "sdpa" and _on_cpu() and not bf16 else own
    with FakeTensorMode(allow_non_fake_inputs=True), attending(net.config, way):
        net.to_empty(device="cpu")
        copies, token = held()
        if checkpointed:
            recompute(net)
            token = held()[1] + token / config.num_hidden_layers
    sizes = [(4 * p.numel(), p.requires_grad) for p in net.parameters()]
    step = Step(
        weights=sum(size for size, _ in sizes),
        trained=sum(size for size, trained in sizes if trained),
        copies=copies,
        token=token,
    )
    return step, sum(m.in_features * m.out_features for m in linear)


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
