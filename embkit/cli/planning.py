"""What ``run`` trains: recipes that suit a domain's size, chosen without looking at any test.

How fast the machine is plays no part: the same command finds its finished runs again.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..advice.planning import lengths_of
from ..data import Domain
from ..files import filled
from ..models import loading
from ..models.window import tokenizer_of, unread
from ..pairs.pairs import collect
from ..recipes.recipe import Recipe
from ..recipes.settings import PASSES, WIDE
from ..recipes.views import AUTO

Rates = tuple[float, ...]
RATES: Rates = (1e-4, 2e-5, 4e-4)  # of full fine-tuning; dev chooses
KNOWN_RATES: dict[str, Rates] = {"minilm": (1e-4, 4e-4)}  # what a model has been seen to want
KNOWN_RATE: dict[tuple[str, str], Rates] = {("minilm", "icd10cm"): (4e-4,)}  # dev has chosen
LARGE = 3  # times MiniLM's blocks, from which a model wants a lower rate, if dev cannot choose
LORA_RANK, LORA_FACTOR = 16, 10  # LoRA wants a learning rate about ten times as high
LONGEST = 256  # tokens of a text, at most
SAMPLE = 2_000  # texts whose tokens are counted; pairs of the runs that try a learning rate
BATCHES = ((200, 16), (1_000, 32), (3_000, 64))  # below so many pairs; few steps teach nothing
QUICK = 1_000  # training pairs of a quick look
LONG = 0.1  # of the documents longer than what is read, from which on they are cut
FEW = 30  # dev queries below which dev can choose nothing
SPEED = 12_000  # tokens a second through MiniLM on two ordinary cores, in fp32
BLOCKS = 10_600_000  # parameters of MiniLM's blocks
AIM = 5_000_000  # tokens to go through the model: about seven minutes at that speed
MOST = 10_000_000  # tokens above which pairs are left out: about fifteen minutes
LEAST_PAIRS = 5_000  # as many are trained on all the same, if there are so many


@dataclass(frozen=True)
class Plan:
    """Recipes for one domain."""

    contrastive: Recipe  # full fine-tuning with mined hard negatives
    rates: tuple[float, ...]  # its learning rates to try on dev; one: there is nothing to try
    pairs: int  # how many there are for training
    work: int  # tokens through the model in all; through larger blocks than MiniLM's, times more
    why: str = ""  # not all the pairs are trained on
    unread: str = ""  # what the model's window leaves unread of the documents, if anything

    @property
    def trial(self) -> Recipe:
        """The recipe with which the learning rates are tried: one epoch, some of the pairs."""
        cap = min(self.contrastive.max_pairs or self.pairs, SAMPLE)
        most = cap if cap < self.pairs else self.contrastive.max_pairs
        return self.contrastive.replace(epochs=1, max_pairs=most)

    def lora(self, rate: float) -> Recipe:
        """LoRA on the same pairs and negatives; ``rate`` is that of full fine-tuning."""
        rate = float(f"{LORA_FACTOR * rate:.6g}")
        return self.contrastive.replace(lora_rank=LORA_RANK, lora_targets=AUTO, learning_rate=rate)

    def __str__(self) -> str:
        rates = [f"{rate:g}" for rate in self.rates]
        told = {"plan": self, "recipe": self.contrastive, "rates": rates}
        return filled(Path(__file__).with_name("plan.jinja"), **told)

    @property
    def minutes(self) -> int:
        """What it takes on two ordinary cores, in fp32."""
        return math.ceil((self.work / SPEED + 60) / 60)


def plan(
    domain: Domain,
    model: str = "minilm",
    *,
    epochs: int | None = None,
    max_length: int | None = None,
    max_pairs: int | None = None,
    quick: bool = False,
    passages: int | None = None,
    if_long: bool = False,
) -> Plan:
    """Recipes that suit a domain's sizes (corpus, train and dev) and the lengths of its texts.

    By default there are 1 to 3 ``epochs``, so that the work is near ``AIM``; and as many pairs as
    keep it below ``MOST``, ``LEAST_PAIRS`` at least. ``quick``: at most 1,000 pairs, one epoch if
    there are so many, and no choice of the learning rate. ``passages``: documents are cut into
    passages of so many word pieces; with ``if_long`` only where the model would leave a tenth of
    them unread in part.
    """
    pairs = len(collect(domain, "human")[0])
    loaded = loading.load_model(model)
    documents, queries, window, weight = _lengths(domain, loaded)
    length = max_length or _max_length(documents, window)
    own = getattr(loaded, "max_seq_length", None) or math.inf
    behind = unread(domain, tokenizer_of(loaded), min(own, length or own))
    long = behind is not None and max(behind.cut, behind.right) >= LONG
    part = passages if long or not if_long else None
    reader = model if (length or own) >= own else f"{model}, as it is trained here,"
    rates: Rates = KNOWN_RATE.get((model, domain.name)) or KNOWN_RATES.get(model) or RATES
    if quick or len(domain.split("dev")) < FEW:
        rates = rates[1:2] if rates == RATES and weight > LARGE else rates[:1]
    # tokens that go through the model
    read = part or length or window
    means = (np.minimum(n, read).mean() for n in (documents, queries))
    document, query = (weight * float(mean) for mean in means)
    pair = PASSES * (query + 2 * document)  # with its negative
    whole = weight * float(documents.mean()) if part else document  # in all its passages
    dev = len(domain.dev_corpus()) * whole
    corpus = 3 * len(domain.corpus) * whole

    def trials(used: int) -> float:
        return len(rates) * (min(used, SAMPLE) * pair + dev) if len(rates) > 1 else 0.0

    # how many of the pairs
    room = int((MOST - corpus - trials(pairs) - 2 * dev) / (2 * pair) // 100 * 100)
    used, why = min(pairs, max(room, LEAST_PAIRS)), ""
    if max_pairs or quick:
        used, why = min(pairs, max_pairs or QUICK), "" if max_pairs else "a first look"
    elif used < pairs:
        why = f"all the pairs would take longer: --pairs {pairs} takes them"
    # how often, and in which batches
    many = int(np.clip((AIM - corpus - trials(used)) // (2 * (used * pair + dev)), 1, 3))
    many = epochs or (1 if quick and used >= QUICK else many)
    recipe = Recipe(
        model=model,
        epochs=many,
        batch_size=next((size for most, size in BATCHES if used < most), 128),
        learning_rate=rates[0],
        max_length=None if part else length,
        passage_size=part and int(min(part, own)),
        max_pairs=used if used < pairs else None,
        hard_negatives=1,
        relative_margin=0.05,
    )
    work = corpus + trials(used) + 2 * many * (used * pair + dev)
    why, told = why if used < pairs else "", behind.told(reader) if behind and not part else ""
    return Plan(recipe, rates, pairs, int(work), why, told)


def _lengths(domain: Domain, loaded: Any) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Tokens of a sample of documents and queries, how many the model reads of a text, and the
    weight of a token: how many times MiniLM's the model's blocks are, 1 at least."""
    from torch import nn

    lengths = []
    for texts in (domain.corpus.values(), domain.queries.values()):
        some = sorted(texts)
        some = some if len(some) <= SAMPLE else random.Random(0).sample(some, SAMPLE)
        lengths.append(lengths_of(loaded, some))
    window = float(getattr(loaded, "max_seq_length", None) or LONGEST)
    # the blocks: all but the tables of word pieces and places
    tables = [m for m in loaded.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)]
    skipped = {id(table.weight) for table in tables}
    blocks = sum(p.numel() for p in loaded.parameters() if id(p) not in skipped)
    return lengths[0], lengths[1], window, max(1.0, blocks / BLOCKS)


def _max_length(documents: np.ndarray, window: float) -> int | None:
    """The 95th percentile of the lengths, from 128 to 256; None where the model's window fits."""
    chosen = min(math.ceil(np.percentile(documents, 95) / 8) * 8, LONGEST)
    if 128 < chosen < window < math.inf:  # static vectors have no window to set
        return chosen
    return LONGEST if WIDE < window < math.inf else None
