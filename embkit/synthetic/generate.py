"""Queries written by a language model: asked once, kept at once, none lost.

``generate`` asks for each document and kind of query, keeps every answer on disk as it comes,
asks again what failed, and tells what it could not have. ``embkit.synthetic.sets`` filters and
publishes what comes of it.
"""

from __future__ import annotations

import html
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..data.domain import normalise
from ..errors import EmbkitError, unknown
from ..files import write_atomic
from .backends import Backend
from .jobs import Item, Job
from .prompts import PROMPTS, Prompt

if TYPE_CHECKING:
    from datasets import Dataset


class Row(NamedTuple):
    """A query that was written for a document; ``n`` tells several of one kind apart."""

    document: str
    query: str
    kind: str
    n: int = 0


class Failed(NamedTuple):
    """What could not be had, and why."""

    document: str
    kind: str
    n: int
    reason: str


@dataclass(frozen=True, repr=False)
class Generated:
    """What a language model wrote, and what it did not.

    Args:
        rows: the queries.
        failed: the items that have none after every attempt, with the last reason.
        left: the items that were not asked.
        stopped: why they were not, or None.
        texts: document id -> text, of every document that was to be asked about.
        backend: the model's name.
        prompt: what it was asked with.
        settings: what else decides the answers.
        counts: how many documents, items, answers from the cache and so on.
    """

    rows: tuple[Row, ...]
    failed: tuple[Failed, ...]
    left: tuple[Item, ...]
    stopped: str | None
    texts: Mapping[str, str]
    backend: str
    prompt: Prompt
    settings: Mapping[str, Any]
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def pairs(self) -> Dataset:
        """Columns ``anchor`` and ``positive``.

        Raises:
            EmbkitError: fewer than two queries.
        """
        return pairs(self.rows, self.texts)

    def reasons(self) -> Counter[str]:
        """How many failed for which reason, without the answers' own words."""
        return Counter(row.reason.split(": ")[0] for row in self.failed)

    def sample(self, n: int = 8, seed: int = 0) -> list[Row]:
        """A few rows."""
        return random.Random(seed).sample(self.rows, min(n, len(self.rows)))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes everything as JSON lines; returns the file."""
        head = {
            name: getattr(self, name) for name in ("stopped", "backend", "settings", "counts")
        } | {"prompt": self.prompt.to_dict(), "texts": dict(self.texts)}
        lines: list[Any] = [{"generated": 1} | head]
        lines += [row._asdict() for row in self.rows]
        lines += [row._asdict() for row in self.failed]
        lines += [{"left": item} for item in self.left]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        return write_atomic(path, text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Generated:
        """Opens what ``save`` wrote.

        Raises:
            EmbkitError: the file is missing, damaged, or something else.
        """
        try:
            lines = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]
            head, *rest = lines
            if head.pop("generated") != 1:
                raise ValueError("another version")
            head["prompt"] = Prompt(**head["prompt"])
            return cls(
                rows=tuple(Row(**line) for line in rest if "query" in line),
                failed=tuple(Failed(**line) for line in rest if "reason" in line),
                left=tuple(tuple(line["left"]) for line in rest if "left" in line),
                **head,
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise EmbkitError(
                f"{os.fspath(path)!r} holds no generated queries: {error}",
                expected="a file that Generated.save(path) wrote",
                hint="generated.save('queries.jsonl')",
            ) from error

    def _facts(self) -> dict[str, str]:
        facts = {"model": self.backend, "prompt": f"{self.prompt.name} ({self.prompt.hash})"}
        facts |= {what: f"{n:,}" for what, n in self.counts.items()}
        facts |= {f"failed: {why}": f"{n:,}" for why, n in self.reasons().most_common()}
        if self.stopped:
            facts["stopped"] = (
                f"{self.stopped}: {len(self.rows):,} done, {len(self.left):,} left; "
                "the same call goes on from here"
            )
        return facts

    def __repr__(self) -> str:
        facts = "\n".join(f"  {what}: {value}" for what, value in self._facts().items())
        return f"Generated({len(self.rows):,} queries)\n{facts}"

    def _repr_html_(self) -> str:
        sample = [(row.kind, row.query, self.texts[row.document]) for row in self.sample()]
        return table(self._facts().items()) + table(sample, ("kind", "query", "document"))


def pairs(rows: Sequence[Row], texts: Mapping[str, str]) -> Dataset:
    """Rows as a data set with columns ``anchor`` (query) and ``positive`` (document)."""
    from datasets import Dataset

    if len(rows) < 2:
        raise EmbkitError(
            f"{len(rows)} generated queries",
            expected="at least two: a pair's negatives are the other pairs' positives",
            hint="generate for more documents (limit=...), or filter less",
        )
    return Dataset.from_dict(
        {
            "anchor": [row.query for row in rows],
            "positive": [texts[row.document] for row in rows],
        }
    )


def table(rows: Iterable[Iterable[Any]], headers: Sequence[str] = ()) -> str:
    """A small HTML table, every text escaped and cut to 300 characters."""

    def line(texts: Iterable[Any], tag: str) -> str:
        cells = (html.escape(str(text)[:300]) for text in texts)
        return "".join(f"<{tag} style='text-align:left'>{cell}</{tag}>" for cell in cells)

    lines = [line(headers, "th")] * bool(headers) + [line(row, "td") for row in rows]
    return "<table>" + "".join(f"<tr>{cells}</tr>" for cells in lines) + "</table>"


def generate(
    documents: Mapping[str, str],
    backend: Backend,
    prompt: Prompt = PROMPTS["general"],
    *,
    kinds: Sequence[str] | None = None,
    per_document: int = 1,
    limit: int | None = None,
    budget: int | None = None,
    max_tokens: int = 32,
    temperature: float | None = None,
    seed: int = 42,
    retries: int = 3,
    progress: bool = True,
    sleep: Callable[[float], object] | None = None,
) -> Generated:
    """Asks a language model for queries that each document answers.

    Each answer is kept on disk as it comes, in the cache folder, under the model, the prompt, the
    settings and the document: a call that was interrupted goes on where it stopped, and one that
    is done costs nothing. Two processes may work at once. What fails is asked again: after 1, 2,
    4 ... seconds (or as long as the endpoint says, 120 at most) where the model gave no answer,
    and at once, a little warmer and with another seed, where the answer was none
    (``answers.clean``). What is still missing is in ``failed`` with its reason. After ten items in
    a row without any answer nothing more is asked.

    Args:
        documents: document id -> text. The prompt's own examples are left out.
        backend: an ``OpenAIBackend``, a ``TransformersBackend``, or any ``llms.Backend``.
        prompt: one of ``PROMPTS``, or your own.
        kinds: of query; default: all of the prompt's.
        per_document: queries of each kind for a document.
        limit: how many documents, a sample drawn by the seed; a larger limit holds the smaller.
        budget: prompts that are sent at most, repeated ones included.
        max_tokens: of an answer.
        temperature: 0 takes the likeliest token; default: 0 for one query of a kind, else 0.7.
        seed: of the sample, the order and the sampling.
        retries: how often an item is asked again.
        progress: whether a bar is drawn.
        sleep: waits so many seconds; for tests.

    Raises:
        EmbkitError: bad input; a key that is refused, a model that the endpoint does not have.

    Example:
        >>> generate(domain.corpus, TransformersBackend(), limit=100)  # doctest: +SKIP

    Papers: Nogueira and others, doc2query, 2019; Dai and others, Promptagator, 2022.
    """
    kinds = _checked(documents, backend, prompt, kinds)
    numbers = {"per_document": (per_document, 1), "retries": (retries, 0), "limit": (limit, 1)}
    numbers |= {"budget": (budget, 0), "max_tokens": (max_tokens, 1), "seed": (seed, 0)}
    for name, (value, least) in numbers.items():
        if value is not None and (not isinstance(value, int) or value < least):
            raise EmbkitError(
                f"{name}={value!r}", expected=f"a whole number ≥ {least}", hint=f"{name}={least}"
            )
    if temperature is None:
        temperature = 0.0 if per_document == 1 else 0.7
    order = sorted(documents)
    random.Random(seed).shuffle(order)
    examples = [d for d in order if normalise(documents[d]) in prompt.documents]
    order = [d for d in order if d not in set(examples)][:limit]
    texts = {document: documents[document] for document in order}
    settings = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    settings |= getattr(backend, "settings", {})
    job = Job(backend, prompt, texts, settings, budget=budget, retries=retries, sleep=sleep)
    items = [(d, kind, n) for d in order for kind in kinds for n in range(per_document)]
    job.run(items, progress)
    counts = {
        "documents": len(order),
        "documents left out: examples of the prompt": len(examples),
        "queries asked for": len(items),
        "queries": len(job.done),
        "from the cache": job.cached,
        "prompts sent": job.sent,
        "failed": len(job.failed),
        "left": len(items) - len(job.done) - len(job.failed),
    }
    return Generated(
        rows=tuple(Row(i[0], job.done[i], *i[1:]) for i in items if i in job.done),
        failed=tuple(Failed(*i, job.failed[i]) for i in items if i in job.failed),
        left=tuple(i for i in items if i not in job.done and i not in job.failed),
        stopped=job.stopped,
        texts=texts,
        backend=backend.name,
        prompt=prompt,
        settings=settings,
        counts=counts,
    )


def _checked(
    documents: Any, backend: Any, prompt: Any, kinds: Sequence[str] | None
) -> tuple[str, ...]:
    if not isinstance(documents, Mapping) or not documents:
        raise EmbkitError(
            f"documents is {type(documents).__name__}"
            + (" and empty" if isinstance(documents, Mapping) else ""),
            expected="a mapping of document id -> text with at least one document",
            hint="generate(domain.corpus, backend)",
        )
    wrong = [d for d, text in documents.items() if not isinstance(text, str)]
    if wrong or not all(isinstance(d, str) for d in documents):
        raise EmbkitError(
            f"a document's id or text is no str, first {wrong[:1] or list(documents)[:1]}",
            expected="a mapping of str -> str",
            hint="{str(i): text for i, text in enumerate(texts)}",
        )
    if not isinstance(getattr(backend, "name", None), str) or not hasattr(backend, "generate"):
        raise EmbkitError(
            f"generate() was given {type(backend).__name__} as its backend",
            expected="an object with .name and .generate(prompts, max_tokens=, ...)",
            hint="ek.synthetic.TransformersBackend('smollm2')",
        )
    if not isinstance(prompt, Prompt):
        raise EmbkitError(
            f"generate() was given {type(prompt).__name__} as its prompt",
            expected="a Prompt",
            hint="ek.synthetic.PROMPTS['general']",
        )
    for kind in kinds or ():
        if kind not in prompt.kinds:
            raise unknown("kind of query", kind, prompt.kinds)
    return tuple(dict.fromkeys(kinds or prompt.kinds))


def read_set(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a published set of queries, checked.

    Args:
        path: a file of JSON lines, each with ``query`` and ``document``, and if it likes with
            ``kind``, ``kept``, ``removed_by``, ``split`` and more.

    Raises:
        EmbkitError: the file is missing, or a line is no such row.
    """
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EmbkitError(
            f"{os.fspath(path)!r} cannot be read: {error}",
            expected="a set of queries as JSON lines",
            hint="make one: python -m embkit generate icd10cm --limit 100",
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            texts = [row["query"], row["document"], row.get("kind", "-")]
            good = all(isinstance(text, str) and text.strip() for text in texts)
            good = good and isinstance(row.get("kept", True), bool)
        except (ValueError, TypeError, KeyError, AttributeError):
            good = False
        if not good:
            raise EmbkitError(
                f"line {number} of {Path(path).name} is no query of a set: {line[:60]!r}",
                expected='{"query": "...", "document": "...", "kind": "...", "kept": true}',
                hint="mend the line, or make the set again with the command in its card",
            )
        rows.append(row)
    return rows


__all__ = ["Failed", "Generated", "Row", "generate", "pairs", "read_set", "table"]
