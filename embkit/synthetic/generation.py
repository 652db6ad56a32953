"""Queries written by a language model: asked once, kept at once, none lost."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..data.domain import SHOWN, normalise
from ..display import Table, facts
from ..errors import EmbkitError
from .backends import Backend
from .jobs import GenerationJob, Item
from .prompts import PROMPTS, Prompt


class Row(NamedTuple):
    """A query that was written for a document; ``n`` tells several of one kind apart."""

    document: str
    query: str
    kind: str
    n: int = 0


@dataclass(frozen=True, repr=False)
class Generated:
    """What a language model wrote, and what it did not."""

    rows: tuple[Row, ...]
    failed: Mapping[Item, str]  # (document, kind, n) without a query -> the last attempt's reason
    stopped: str | None  # why the others were not asked
    texts: Mapping[str, str]  # document id -> text, of all that was to be asked about
    backend: str  # the model's name
    prompt: Prompt
    settings: Mapping[str, Any]  # what else decides the answers
    counts: Mapping[str, int]  # documents, items, answers from the cache and so on

    def __len__(self) -> int:
        return len(self.rows)

    def reasons(self) -> Counter[str]:
        """How many failed for which reason, without the answers' own words."""
        return Counter(reason.split(": ")[0] for reason in self.failed.values())

    def counted(self) -> dict[str, str]:
        """How much was asked, written and not written, for which reason."""
        found = {what: f"{n:,}" for what, n in self.counts.items()}
        return found | {f"failed: {why}": f"{n:,}" for why, n in self.reasons().most_common()}

    def _facts(self) -> Table:
        found = {"model": self.backend, "prompt": f"{self.prompt.name} ({self.prompt.hash})"}
        found |= self.counted()
        if self.stopped:
            found["stopped"] = (
                f"{self.stopped}: {len(self.rows):,} done, {self.counts['left']:,} left; "
                "the same call goes on from here"
            )
        return facts(found)

    def __repr__(self) -> str:
        return f"Generated({len(self.rows):,} queries)\n{self._facts().to_text()}"

    def _repr_html_(self) -> str:
        return self._facts().to_html() + examples(self.rows, self.texts, 8).to_html()


def examples(rows: Sequence[Row], texts: Mapping[str, str], n: int, caption: str = "") -> Table:
    """A few queries and their documents, drawn at random, each text to 300 characters."""
    some = random.Random(0).sample(rows, min(n, len(rows)))
    cells = [[r.kind, r.query[:SHOWN], texts[r.document][:SHOWN]] for r in some]
    return Table(["kind", "query", "document"], cells, caption)


def generate(
    documents: Mapping[str, str],
    backend: Backend,
    prompt: Prompt = PROMPTS["general"],
    *,
    per_document: int = 1,
    limit: int | None = None,
    budget: int | None = None,
    max_tokens: int = 32,
    seed: int = 42,
) -> Generated:
    """Asks a language model for queries of each of the prompt's kinds that each document answers.

    Each answer is kept on disk at once: a call that was interrupted goes on where it stopped, and
    one that is done costs nothing. Two processes may work at once. Where an answer is no query, it
    is asked for again, warmer and with another seed. What is then missing is in ``failed`` with its
    reason, and the next call asks for it. Ten items in a row without any answer end the call.

    Args:
        documents: document id -> text. The prompt's own examples are left out.
        per_document: queries of a kind; one is the likeliest, several are drawn.
        limit: how many documents, a sample drawn by the seed; a larger limit holds the smaller.
        budget: prompts that are sent at most, repeated ones included.

    Fails for bad input, a key that is refused, a model that the endpoint does not have.
    Papers: Nogueira and others, doc2query, 2019; Dai and others, Promptagator, 2022.
    """
    _check(documents, backend, prompt)
    numbers = {"per_document": (per_document, 1), "limit": (limit, 1), "budget": (budget, 0)}
    numbers |= {"max_tokens": (max_tokens, 1), "seed": (seed, 0)}
    for name, (value, least) in numbers.items():
        if value is not None and (not isinstance(value, int) or value < least):
            expected, hint = f"a whole number ≥ {least}", f"{name}={least}"
            raise EmbkitError(f"{name}={value!r}", expected=expected, hint=hint)
    # which documents, in an order of the seed's
    order = sorted(documents)
    random.Random(seed).shuffle(order)
    asked = [d for d in order if normalise(documents[d]) not in prompt.documents]
    texts = {document: documents[document] for document in asked[:limit]}
    # ask
    temperature = 0.0 if per_document == 1 else 0.7
    settings = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    settings |= getattr(backend, "settings", {})
    job = GenerationJob(backend, prompt, texts, settings, budget)
    items = [(d, kind, n) for d in texts for kind in prompt.kinds for n in range(per_document)]
    job.run(items)
    counts = {
        "documents": len(texts),
        "documents left out: examples of the prompt": len(order) - len(asked),
        "queries asked for": len(items),
        "queries": len(job.done),
        "from the cache": job.cached,
        "prompts sent": job.sent,
        "failed": len(job.failed),
        "left": len(items) - len(job.done) - len(job.failed),
    }
    return Generated(
        rows=tuple(Row(i[0], job.done[i], *i[1:]) for i in items if i in job.done),
        failed={i: job.failed[i] for i in items if i in job.failed},
        stopped=job.stopped,
        texts=texts,
        backend=backend.name,
        prompt=prompt,
        settings=settings,
        counts=counts,
    )


def _check(documents: Any, backend: Any, prompt: Any) -> None:
    texts = documents if isinstance(documents, Mapping) else {}
    if not texts or not all(isinstance(text, str) for item in texts.items() for text in item):
        raise EmbkitError(
            f"documents is {type(documents).__name__}, empty, or an id or text in it is no str",
            expected="a mapping of document id -> text with at least one document",
            hint="generate(domain.corpus, backend)",
        )
    speaks = isinstance(getattr(backend, "name", None), str) and hasattr(backend, "generate")
    for what, given, right, hint in (
        ("backend", backend, speaks, "TransformersBackend('smollm2')"),
        ("prompt", prompt, isinstance(prompt, Prompt), "PROMPTS['general']"),
    ):
        if not right:
            told = f"generate() was given {type(given).__name__} as its {what}"
            raise EmbkitError(told, expected=f"a {what.capitalize()}", hint=f"ek.synthetic.{hint}")


def read_set(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a published set of queries: JSON lines with ``query``, ``document``, and if it
    likes ``kind``, ``kept``, ``removed_by``, ``split``; fails for a line that is none."""
    rows = []
    for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            texts = (row["query"], row["document"], row.get("kind", "-"))
            if not all(text.strip() for text in texts) or type(row.get("kept", True)) is not bool:
                raise ValueError("an empty text, or kept is no bool")
            rows.append(row)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EmbkitError(
                f"line {number} of {Path(path).name} is no query of a set: {line[:60]!r}",
                expected='{"query": "...", "document": "...", "kind": "...", "kept": true}',
                hint="mend the line, or make the set again with the command in its card",
            ) from error
    return rows
