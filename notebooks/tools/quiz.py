"""Five questions a half day. Their answers are computed: from the results that `data/` keeps, or by
a formula.

The words are in ``notebooks/quiz.toml``. A question there names a function of this module, which
says what is right; it must be one of the choices. ``quiz()`` shows a half day as a widget.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from embkit.errors import EmbkitError, unknown
from embkit.session import paths

Question = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A half day's questions, each with ``choices`` and the number of the ``right`` one."""

    number: int
    title: str
    questions: tuple[Question, ...]


@cache
def _kept() -> dict[str, Any]:
    """Label -> scores over three seeds, as `make approaches` left them."""
    from embkit.data import load_domain
    from embkit.evaluation.kept import results

    return results(load_domain("icd10cm", profile="workshop"))


def _mean(label: str, split: str) -> float:
    return float(_kept()[label].values(split).mean())


def _test(label: str, split: str, against: str = "base") -> Any:
    return _kept()[label].test(_kept()[against], split)


def _side(label: str, split: str, against: str = "base") -> str:
    """What a paired 95% interval says of a difference."""
    interval = _test(label, split, against).estimate.within(-1.0, 1.0)
    return "yes, above 0" if interval[0] > 0 else "yes, below 0" if interval[1] < 0 else "no"


def _among(labels: tuple[str, ...], score: Callable[[str], float]) -> str:
    return max(labels, key=score)


TRAINED = ("contrastive", "corpus", "hard negatives", "Matryoshka", "LoRA", "distilled")

# What is right, by the name that quiz.toml gives.
ANSWERS: dict[str, Callable[[], str]] = {
    # the first half day
    "gain_known": lambda: _side("contrastive", "known"),
    "gain_lay": lambda: _side("contrastive", "lay"),
    "bm25_lay": lambda: _among(
        ("BM25", "the general model"), lambda n: _mean({"BM25": "bm25"}.get(n, "base"), "lay")
    ),
    "ndcg_second": lambda: f"{1 / math.log2(3):.2f}",
    "more_queries": lambda: f"{(0.04 / 0.02) ** 2:g} times as many",
    # the second
    "loss_of_equals": lambda: f"{math.log(128):.2f}",
    "batch_negatives": lambda: str(128 - 1),
    "hard_on_dev": lambda: _among(
        ("contrastive", "hard negatives"), lambda n: float(np.mean(list(_kept()[n].dev.values())))
    ),
    "best_on_known": lambda: _among(TRAINED, lambda n: _mean(n, "known")),
    "distilled_lay": lambda: _side("distilled", "lay"),
    # the third
    "bytes_saved": lambda: f"1/{384 // 96}",
    "lora_share": lambda: f"{_kept()['LoRA'].meta['trainable_params'] / 22_713_216:.1%}",
    "lora_known": lambda: _side("LoRA", "known", "contrastive"),
    "matryoshka_known": lambda: _side("Matryoshka", "known", "corpus"),
    "rank_parameters": lambda: f"{8 * (384 + 384):,}",
    # the fourth
    "holm_smallest": lambda: f"{0.01 * 3:.2f}",
    "how_many_gain_lay": lambda: str(sum(_side(n, "lay") == "yes, above 0" for n in TRAINED)),
    "untrained_on_lay": lambda: _among(
        ("bge-small, untrained", *TRAINED), lambda n: _mean(n, "lay")
    ),
    "false_alarm": lambda: f"{1 - 0.95**20:.0%}",
    "passages": lambda: str(math.ceil(1000 / 250)),
}


def parts() -> list[Part]:
    """Every half day with its questions.

    Raises:
        EmbkitError: what is computed is not among a question's choices.
    """
    file = paths().notebooks / "quiz.toml"
    told = tomllib.loads(file.read_text(encoding="utf-8"))["half_day"]
    return [
        Part(number, part["title"], tuple(_answered(question) for question in part["question"]))
        for number, part in enumerate(told, start=1)
    ]


def _answered(question: Question) -> Question:
    right = ANSWERS[question["computed"]]()
    if right not in question["choices"]:
        raise EmbkitError(
            f"{question['ask']!r}: the answer is {right!r}, which is none of the choices",
            expected=", ".join(question["choices"]),
            hint=f"add {right!r} to the question's choices in notebooks/quiz.toml",
        )
    return question | {"right": question["choices"].index(right)}


def quiz(half_day: int) -> Any:
    """A half day's questions as a widget: choose, and it says at once whether that is right.

    Args:
        half_day: 1 to 4.

    Raises:
        EmbkitError: no such half day.
    """
    import html

    import ipywidgets as w

    found = {part.number: part for part in parts()}
    if half_day not in found:
        raise unknown("half day", str(half_day), [str(number) for number in found])
    rows: list[Any] = [w.HTML(f"<h3>{html.escape(found[half_day].title)}</h3>")]
    for number, question in enumerate(found[half_day].questions, start=1):
        said = w.HTML()
        choice = w.RadioButtons(
            options=question["choices"], value=None, layout=w.Layout(width="auto")
        )

        def answered(change: Any, question: Question = question, said: Any = said) -> None:
            right = change["new"] == question["choices"][question["right"]]
            head = "✓ Right." if right else "✗ Not so."
            said.value = f"<b>{head}</b> {html.escape(question['why']) if right else 'Again?'}"

        choice.observe(answered, "value")
        ask = html.escape(f"{number}. {question['ask']}")
        rows += [w.HTML(f"<b>{ask}</b> (lesson {question['lesson']})"), choice, said]
    return w.VBox(rows)
