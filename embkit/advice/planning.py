"""How much is measured, so that it takes no longer than was asked."""

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.domain import Domain, shuffled
from ..data.text_checks import token_lengths, words
from ..evaluation.ranking import encode_speed
from ..files import filled, write_atomic
from ..models.window import tokenizer_of
from ..recipes.recipe import Recipe
from ..recipes.settings import PASSES
from ..runs import store

SIZES = (500, 1000, 2000)  # pairs of the small runs
OTHERS = ("bge-small",)  # general models that a package carries
FEW_PAIRS = 200  # below so many, no small run is tried: nothing could be told from it
SEARCHED = 20_000  # documents that dev's queries are searched in, at most
FEWER = (5_000, 2_000)  # where encoding so many would take too long
SHORTEST, LONGEST = 64, 128  # tokens at which texts are cut, where whole ones would take too long
TIMED = 64  # documents whose encoding is timed
SETUP = 3.0  # seconds to begin and to keep a run
OTHER = 2  # forward passes that another model costs
TRIALS: dict[str, dict[str, Any]] = {  # approaches that are tried beside contrastive training
    "hard negatives": {"hard_negatives": 1, "relative_margin": 0.05},
    "corpus": {"approach": "corpus"},
}


@dataclass(frozen=True)
class Plan:
    """What is measured, and about how long that takes."""

    searched: int  # documents, at most
    length: int | None  # tokens at which texts are cut; None: the model's own window
    sizes: tuple[int, ...]  # pairs of the runs on the learning curve
    trials: int  # of ``TRIALS``, the first so many
    seconds: float = 0.0

    def __str__(self) -> str:
        template, minutes = Path(__file__).with_name("plan.jinja"), math.ceil(self.seconds / 60)
        return filled(template, plan=self, minutes=minutes)


def plan(domain: Domain, loaded: Any, recipe: Recipe, pairs: int, minutes: float) -> Plan:
    """The most that takes no longer than so many minutes, by the speed of a small encoding.

    It is kept in the store, for a machine is not equally fast every time: what the first call
    trained is what the second asks for.
    """
    sizes = tuple(small_sizes(pairs)) if pairs >= FEW_PAIRS else ()
    asked = json.dumps([recipe.hash, minutes, sizes, len(TRIALS), OTHERS])
    kept = store(domain) / f"advice-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.json"
    with suppress(OSError, ValueError, TypeError):  # not there, or cut off: made anew
        found = json.loads(kept.read_text(encoding="utf-8"))
        return Plan(**found | {"sizes": tuple(found["sizes"])})
    texts = [domain.corpus[d] for d in shuffled(domain.corpus)[: 10 * TIMED]]
    lengths, window = lengths_of(loaded, texts), float(loaded.max_seq_length or math.inf)
    tokens = max(1.0, float(np.minimum(lengths, window)[:TIMED].mean()))
    speed = tokens * encode_speed(loaded, texts[:TIMED])  # tokens a second
    query = float(lengths_of(loaded, [domain.queries[q] for q in domain.split("dev")]).mean())
    short = int(np.clip(math.ceil(np.percentile(lengths, 90)), SHORTEST, LONGEST))
    cuts = [None, short] if short < min(window, lengths.max()) and window < math.inf else [None]

    whole, epochs, least = len(domain.documents("dev")), recipe.epochs, len(domain.dev_corpus(0))
    sample = len(domain.dev_corpus())

    def seconds(wish: Plan) -> float:
        document = float(np.minimum(lengths, wish.length or window).mean())
        shown, most = min(whole, max(wish.searched, least)), max(wish.sizes, default=0)
        # tokens through the model: (pairs, documents a pair, times that the corpus is encoded)
        runs = [(n, 1, 0) for n in wish.sizes]
        runs += [(most, 2, 1), (most, 1, epochs)][: wish.trials]
        work = shown * document * (1 + OTHER * len(OTHERS))
        for n, beside, reads in runs:
            work += PASSES * epochs * n * (query + beside * document)
            work += (shown + epochs * sample + reads * len(domain.corpus)) * document
        return work / speed + SETUP * len(runs)

    trained = [(sizes, n) for n in range(len(TRIALS) if sizes else 0, -1, -1)]
    trained += [(fewer, 0) for fewer in (sizes[:2], sizes[1:2], sizes[:1])]
    ways = [(SEARCHED, length) for length in cuts] + [(n, cuts[-1]) for n in FEWER]
    wishes = (Plan(*way, *runs) for runs in trained for way in ways)
    for wish in (replace(one, seconds=seconds(one)) for one in wishes):
        if wish.seconds <= 60 * minutes:
            break
    write_atomic(kept, json.dumps(asdict(wish)))
    return wish


def small_sizes(pairs: int) -> list[int]:
    """Sizes of the small runs: those below all pairs, else parts of them."""
    below = [n for n in SIZES if n < pairs]
    if len(below) == len(SIZES):
        return below
    return sorted({max(2, pairs // 4), max(3, pairs // 2), pairs})


def cut(model: Any, length: int | None) -> Any:
    """The model, set to read no more than so many tokens of a text."""
    if length is not None and length < (model.max_seq_length or math.inf):
        model.max_seq_length = length
    return model


def lengths_of(model: Any, texts: Sequence[str]) -> np.ndarray:
    """Tokens of each text, shape (texts,); words where the model has no tokenizer."""
    if tokenizer := tokenizer_of(model):
        return token_lengths(tokenizer, texts)
    return np.array([len(words(text)) for text in texts])
