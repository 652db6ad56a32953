"""Whether what is served gives the vectors that were trained; if not, what went wrong on the way.

Probe texts go through the trained model and through what is served. Where they differ, the model is
put through each known fault of serving: the one whose vectors lie nearest names the cause.
"""

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..assets import catalogue
from ..data import Domain
from ..display import Shown, Table
from ..errors import EmbkitError
from ..evaluation.intervals import PairedTest, paired_test
from ..evaluation.ranking import ndcg
from ..files import read_json
from ..models.encoding import prompt_of, unit
from ..models.loading import as_model, clear_errors, load_model
from ..models.openai import openai_client, openai_embeddings
from ..runs import Run
from .onnx import FLOAT, INT8, OnnxModel

PROBES = {
    "short": "fever",
    "a sentence": "which form do i hand in after an accident at work",
    "capitals": "Who Pays For The MRI Of A Knee, AOK Or TK?",
    "accents": "Ménière’s disease, déjà vu, Übermüdung, señor, façade",
    "Chinese": "发热和咳嗽已经三天了，应该怎么办",
    "emoji": "my parcel came broken 😡📦, money back please 🙏",
    "long": " ".join(f"step {i} of the manual turns valve {i * 7 % 101}," for i in range(400)),
}
KINDS = ("query", "document")
PLAIN = ("short", "a sentence")  # every tokenizer of English reads the same letters in them
WINDOWS = (32, 64, 128, 256, 384, 512, 1024, 2048, 4096, 8192)  # tokens that servers cut after
SAME = 1e-5  # 1 - cosine of two runs in fp32; of sixteen bits and eight it is more
ROUNDED = 0.03  # the most that eight bits do to a vector
NEARER = 4.0  # times nearer than the model itself: before that, no fault is named
LOSS = 0.01  # of nDCG@10, that rounding may cost
BASES = ("minilm", catalogue.ALTERNATIVE)
Vectors = dict[str, np.ndarray]  # kind -> (probes, dim)
Encode = Callable[[list[str], str], Any]  # texts, kind -> (texts, dim), of any length


@dataclass(frozen=True, repr=False)
class Certificate(Shown):
    """What was compared, and what differs."""

    causes: tuple[str, ...]  # none: what is served is what was trained
    notes: tuple[str, ...]  # what is worth knowing, and no fault
    apart: dict[str, float]  # probe -> 1 - cosine, of query or document, whichever is more
    loss: PairedTest | None = None  # nDCG@10 on dev: what was trained, less what is served

    @property
    def passed(self) -> bool:
        return not self.causes

    @property
    def answer(self) -> str:
        """All of it in one line."""
        return "passed" if self.passed else f"failed: {'; '.join(self.causes)}"

    def table(self) -> Table:
        rows = [[name, f"{apart:.1e}"] for name, apart in self.apart.items()]
        if self.loss is not None:
            delta, low, high = self.loss[:3]
            rows.append(["nDCG@10 on dev, lost", f"{delta:+.4f} [{low:+.4f}, {high:+.4f}]"])
        return Table(["probe", "1 - cosine"], rows, str(self))

    def __str__(self) -> str:
        return ". ".join([self.answer, *self.notes])

    def __repr__(self) -> str:
        return f"Certificate({self.answer})"


def certify(
    what: Any,
    served: Any,
    domain: Domain | None = None,
    *,
    name: str | None = None,
    bare: bool = False,
) -> Certificate:
    """Compares a model with what is served of it: on probe texts, and by nDCG@10 on dev.

    The probes are short, long, empty, with capitals, accents, Chinese and emoji; as queries and as
    documents, each with its prompt; alone and in a batch.

    Args:
        what: a Run, a model, or a model's name or folder.
        served: the address of an OpenAI-compatible endpoint; a folder of ``export_onnx``, of
            sentence-transformers, or of a PEFT adapter; an ``.onnx`` file; a model; or a function
            ``list[str] -> (texts, dim)``.
        domain: whose dev split is searched; default: none is.
        name: the model's at the endpoint; default: the first that it lists.
        bare: an endpoint or a function is sent texts without prompts: it puts them itself.

    Fails where one of the two cannot be had, or no vectors come back.
    """
    model, texts = as_model(what), [*PROBES.values()]
    asked = _asked(model, served, name, bare)
    wanted, found = ({kind: f(texts, kind) for kind in KINDS} for f in (_own(model), asked))
    causes, notes = _lengths(wanted, found), _empty(asked)
    # as far as both go
    full, given = wanted["query"].shape[1], found["query"].shape[1]
    if given != full:
        causes.append(f"{given} dimensions where the model has {full}")
    dims = min(full, given)
    distance = partial(_distance, found, dims)
    apart = distance(wanted)
    alone = {kind: np.concatenate([asked([text], kind) for text in texts]) for kind in KINDS}
    near, far = sorted(map(np.median, (apart, _distance(alone, dims, wanted))))
    if max(near, SAME) * NEARER < far:  # rounding is as far off in both
        causes.append("a text has another vector alone than in a batch: padding is read")
    elif apart.max() > SAME:
        faults = [(cause, distance(fault)) for cause, fault in _faults(model, what, texts)]
        cause, least = min(faults, key=lambda pair: pair[1].max())
        if least.max() * NEARER < apart.max():
            causes.append(cause)
        elif apart.max() > ROUNDED:
            causes.append(_unknown(apart))
        else:
            notes.append("the vectors are rounded: other digits, or weights of fewer bits")
    # on dev
    loss = None
    if domain is not None and (not causes or given == full):
        loss = _loss(model, asked, domain)
        if not causes and loss.delta > LOSS and loss.ci_low > 0:
            causes.append(f"nDCG@10 on dev falls by {loss.delta:.3f}: rounded too coarsely")
    worst = dict(zip(PROBES, map(float, apart.max(axis=0)), strict=True))
    return Certificate(tuple(causes), tuple(notes), worst, loss)


def _own(model: Any) -> Encode:
    """A model's vectors with the prompts that it was saved with, as long as it makes them."""
    return lambda texts, kind: np.asarray(getattr(model, f"encode_{kind}")(texts), np.float32)


def _sent(function: Any, prompts: Any) -> Encode:
    """A function's or an endpoint's vectors: the caller puts the prompts before the texts."""

    def encode(texts: list[str], kind: str) -> np.ndarray:
        given = [f"{prompts(kind) or ''}{text}" for text in texts]
        found = np.asarray(function(given), np.float32)
        if found.ndim != 2 or len(found) != len(texts) or not np.isfinite(found).all():
            raise EmbkitError(
                f"{found.shape} came back for {len(texts)} texts, or numbers that are none",
                expected=f"finite numbers of shape ({len(texts)}, dim)",
                hint="ask the server for one text by hand, and read its log",
            )
        return found

    return encode


def _asked(model: Any, served: Any, name: str | None, bare: bool) -> Encode:
    """What is served, whatever it is, as texts and their kind to vectors."""
    prompts = (lambda kind: None) if bare else partial(prompt_of, model)
    if isinstance(served, str) and served.startswith(("http://", "https://")):
        name = name or openai_client(base_url=served).models.list().data[0].id
        return _sent(openai_embeddings(name, base_url=served), prompts)
    if not isinstance(served, str | os.PathLike):
        served = served if callable(served) and not hasattr(served, "encode") else as_model(served)
        return _own(served) if hasattr(served, "encode") else _sent(served, prompts)
    folder = Path(served)
    file, folder = (folder.name, folder.parent) if folder.suffix == ".onnx" else ("", folder)
    if file or (folder / FLOAT).is_file():
        onnx = OnnxModel(folder, int8=file == INT8 or not file and (folder / INT8).is_file())
        return _sent(onnx, prompts if bare else onnx.prompts.get)
    adapter = read_json(folder / "adapter_config.json")
    if (folder / "modules.json").is_file() or not adapter:
        return _own(load_model(folder))
    base = load_model(str(adapter["base_model_name_or_path"]))
    with clear_errors(folder, "PEFT adapter", "load_adapter"):
        base.load_adapter(str(folder))
    return _own(base)


def _distance(found: Vectors, dims: int, wanted: Vectors) -> np.ndarray:
    """1 - cosine of each probe in the first dimensions, (kinds, probes)."""
    pairs = ((unit(found[kind][:, :dims]), unit(wanted[kind][:, :dims])) for kind in KINDS)
    return np.stack([np.maximum(1 - (a * b).sum(axis=1), 0) for a, b in pairs])


def _unknown(apart: np.ndarray) -> str:
    """What can be said where no single fault gives these vectors."""
    far = {name for name, worst in zip(PROBES, apart.max(axis=0), strict=True) if worst > ROUNDED}
    if far and far.isdisjoint(PLAIN) and far != {"long"}:
        return f"another tokenizer: only {', '.join(n for n in PROBES if n in far)} differ"
    if far == {"long"}:
        return "long texts are cut elsewhere"
    return "another model: other weights, another base under the adapter, or several faults at once"


def _faults(model: Any, what: Any, texts: list[str]) -> Iterator[tuple[str, Vectors]]:
    """Each known fault of serving, and the probes' vectors under it."""

    def under(encode: Callable[[list[str], str], Any]) -> Vectors:
        return {kind: np.asarray(encode(texts, kind), np.float32) for kind in KINDS}

    own, prompts = _own(model), {kind: prompt_of(model, kind) or "" for kind in KINDS}
    plain = lambda given, kind: model.encode(given, prompt="", task=kind)  # noqa: E731
    if any(prompts.values()):
        yield "the prompt is missing", under(plain)
        twice = lambda given, kind: own([prompts[kind] + text for text in given], kind)  # noqa: E731
        yield "the prompt is put twice", under(twice)
        other = dict(zip(KINDS, reversed(KINDS), strict=True))
        yield (
            "queries and documents have each other's prompt",
            under(lambda given, kind: own(given, other[kind])),
        )
    for mode, pooled in _poolings(model):
        yield f"pooling by {mode}", under(pooled)
    window, network = model.max_seq_length, getattr(model[0], "auto_model", None)
    most = getattr(getattr(network, "config", None), "max_position_embeddings", None) or 0
    try:
        for size in WINDOWS:
            if window and size != window and size <= max(window, most):
                model.max_seq_length = size
                yield f"texts are cut after {size} tokens, not {window}", under(own)
    finally:
        model.max_seq_length = window
    own_base = [what.recipe.model] if isinstance(what, Run) else []
    for base in dict.fromkeys([*own_base, *BASES]):
        if base not in catalogue.CATALOGUE or catalogue.is_here(base):
            untrained = load_model(base)
            untrained.prompts = model.prompts
            why = "another model"
            if base in own_base:
                why = "nothing trained is loaded, no adapter either"
            yield f"{why}: these are {base}'s vectors", under(_own(untrained))


def _poolings(model: Any) -> Iterator[tuple[str, Encode]]:
    """The other ways to make one vector of token vectors, then what follows in the model."""
    names = [type(module).__name__ for module in model]
    if "Pooling" not in names:
        return
    place = names.index("Pooling")
    own = model[place]
    for mode in ("cls", "mean", "max", "lasttoken"):
        if mode in (own.pooling_mode, *own.pooling_mode):
            continue
        changed = copy.copy(model)
        changed._modules = dict(model._modules)
        changed._modules[[*model._modules][place]] = type(own)(own.embedding_dimension, mode)
        yield f"{mode}, not {own.pooling_mode}", _own(changed)


def _lengths(wanted: Vectors, found: Vectors) -> list[str]:
    """What the vectors' lengths say."""
    ours, theirs = (np.linalg.norm(v["query"], axis=1) for v in (wanted, found))
    if np.allclose(ours, 1, atol=0.01) and not np.allclose(theirs, 1, atol=0.01):
        return [
            f"vectors are not normalised: lengths from {theirs.min():.2f} to {theirs.max():.2f}"
        ]
    return []


def _empty(asked: Encode) -> list[str]:
    """What becomes of an empty text: a note, for servers differ and a client can do without."""
    try:
        asked([""], "document")
    except Exception as error:  # each server has its own way to refuse
        return [f"an empty text is refused ({type(error).__name__})"]
    return []


def _loss(model: Any, asked: Encode, domain: Domain) -> PairedTest:
    """nDCG@10 on dev of the model less that of what is served."""
    values = ndcg(model, domain, "dev")
    return paired_test(values, ndcg(_Served(asked), domain, "dev", cache=False))


@dataclass
class _Served:
    """What is served, as evaluation takes a model with a way of its own for each kind."""

    ask: Encode

    def vectors(self, texts: list[str], kind: str) -> np.ndarray:
        return unit(self.ask(list(texts), kind))
