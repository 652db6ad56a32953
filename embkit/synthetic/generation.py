"""Queries written by a language model: asked once, kept at once, none lost."""

import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple

from ..data import text_checks
from ..data.domain import SHOWN, normalise
from ..display import Table, facts
from ..errors import EmbkitError
from ..files import AppendOnlyStore
from ..session import paths
from .backends import Backend, Failure, refused
from .prompts import PROMPTS, Prompt, clean, content_hash

RETRIES = 3  # times that an item is asked again whose answer was none
PATIENCE = 10  # items that fail in a row before nothing more is asked
WARMER = 0.3  # added to the temperature each time an answer was none
BLOCK = 4  # batches of a kind that are sorted together

Item = tuple[str, str, int]  # (document id, kind, n)


class Answers(AppendOnlyStore):
    """A language model's answers by key, the first to each; and how often one was none."""

    what, hint = "answer", "EMBKIT_CACHE=/another/folder"
    lock_seconds = -1.0

    def _clear(self) -> None:
        self.found: dict[str, str] = {}
        self.tried: dict[str, tuple[int, str]] = {}  # key -> answers that were none, the last's why

    def _take(self, row: Any) -> bool:
        if "tried" in row:
            self.tried[row["key"]] = (int(row["tried"]), str(row["why"]))
            return True
        if whole := isinstance(row["key"], str) and isinstance(row["query"], str):
            self.found.setdefault(row["key"], row["query"])
        return whole

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keeps rows: a ``key``, and its ``query`` or ``tried`` and ``why``; then on disk."""
        with self.locked():
            self.append(row for row in rows if row["key"] not in self.found)


@dataclass
class GenerationJob:
    """Asks a backend for items; ``done`` and ``failed`` fill up while ``run`` runs."""

    backend: Backend
    prompt: Prompt
    texts: Mapping[str, str]
    settings: Mapping[str, Any]  # what decides the answers
    budget: int | None
    done: dict[Item, str] = field(default_factory=dict)
    failed: dict[Item, str] = field(default_factory=dict)
    stopped: str | None = None
    cached: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self._silent = 0  # items in a row without any answer
        self._lock, self._halt = Lock(), Event()
        examples = (text for pairs in self.prompt.examples.values() for _, text in pairs)
        told = text_checks.languages(examples) + text_checks.languages(self.texts.values())
        self._languages = [name for name, n in told.items() if n >= 0.1 * told.total()]
        name = content_hash([self.backend.name, self.prompt.hash, self.settings])
        self.answers = Answers(paths().cache / "generated" / f"{name}.jsonl")

    def run(self, items: Sequence[Item]) -> None:
        """Asks for what is not answered yet; what is then in neither dict was not asked."""
        from tqdm import tqdm

        self.answers.refresh()
        asked = [i for i in items if any(letter.isalnum() for letter in self.texts[i[0]])]
        nothing = "nothing to ask about: the document holds no letter or digit"
        self.failed = dict.fromkeys({*items} - {*asked}, nothing)
        for item in asked:
            key = self._key(item)
            if (query := self.answers.found.get(key)) is not None:
                self.done[item] = query
            elif self.answers.tried.get(key, (0,))[0] > RETRIES:
                self.failed[item] = self.answers.tried[key][1]
        self.cached = len(self.done)
        workers = int(getattr(self.backend, "workers", 1))
        shown: dict[str, Any] = {"desc": "queries", "unit": "query", "mininterval": 1}
        shown |= {"total": len(items), "initial": len(self.done) + len(self.failed)}
        with tqdm(**shown) as self._bar, ThreadPoolExecutor(workers) as pool:
            try:
                list((pool.map if workers > 1 else map)(self._settle, list(self._chunks(asked))))
            except BaseException:
                self._halt.set()  # what is under way ends and is kept; nothing new begins
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _key(self, item: Item) -> str:
        document, kind, n = item
        return content_hash([self.prompt.render(self.texts[document], kind), kind, n])

    def _chunks(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        """Items of one kind and similar length together; a run that stops early has all kinds.

        An answer may depend on what is asked beside it, so the answered ones are in the chunks,
        too: a call that goes on after a stop asks what the stopped one would have asked.
        """
        size = max(1, int(getattr(self.backend, "batch_size", 1)))
        block = BLOCK * size * len({item[1:] for item in items})
        for start in range(0, len(items), block or 1):
            groups: dict[tuple[int, str], list[Item]] = defaultdict(list)
            for item in items[start : start + block]:
                groups[item[2], item[1]].append(item)
            for group in groups.values():
                group.sort(key=lambda item: len(self.texts[item[0]]))
                yield from (group[i : i + size] for i in range(0, len(group), size))

    def _settle(self, chunk: list[Item]) -> None:
        """Asks until each item has its answer or has failed; a bad one is asked for warmer."""
        chunk = [item for item in chunk if item not in self.done and item not in self.failed]
        next_one = {i: min(self.answers.tried.get(self._key(i), (0,))[0], RETRIES) for i in chunk}
        for attempt in range(RETRIES + 1):
            asked = [item for item in chunk if next_one[item] == attempt]
            if not asked or self._halt.is_set():
                continue
            answers = self._ask(asked, attempt)
            with self._lock:
                for item, answer in answers.items():
                    if isinstance(answer, Failure) and answer.again and attempt < RETRIES:
                        next_one[item] = attempt + 1
                    else:
                        self._end(item, answer)

    def _ask(self, chunk: list[Item], attempt: int) -> dict[Item, str | Failure]:
        """Asks once, and keeps the good answers; once the budget is spent, the last items are not
        asked and have none."""
        found = dict(zip(chunk, self._call(chunk, attempt), strict=False))
        rows = []
        for item, answer in found.items():
            about = dict(zip(("document", "kind", "n"), item, strict=True))
            if isinstance(answer, str):
                text, kind = self.texts[item[0]], item[1]
                answer = found[item] = clean(answer, text, self.prompt, kind, self._languages)
            if isinstance(answer, str):
                rows.append({"key": self._key(item), "query": answer} | about)
            elif answer.again:
                tried = {"tried": attempt + 1, "why": answer.reason}
                rows.append({"key": self._key(item)} | tried | about)
        if rows:
            self.answers.add(rows)
        return found

    def _call(self, chunk: list[Item], attempt: int) -> list[str | Failure]:
        """Answers to as many as the budget pays; where a batch fails, each is asked alone."""
        with self._lock:
            if self.budget is not None and self.sent + len(chunk) > self.budget:
                self._stop(f"the budget of {self.budget:,} prompts is spent")
                chunk = chunk[: self.budget - self.sent]
            self.sent += len(chunk)
        if not chunk:
            return []
        try:
            answers = self.backend.generate(
                [self.prompt.render(self.texts[document], kind) for document, kind, _ in chunk],
                max_tokens=self.settings["max_tokens"],
                temperature=self.settings["temperature"] + WARMER * attempt,
                seed=self.settings["seed"] + 1000 * chunk[0][2] + attempt,
            )
            if not isinstance(answers, str) and len(answers) == len(chunk):
                wrong = Failure("no text came back")
                return [a if isinstance(a, str | Failure) else wrong for a in answers]
            reason = f"{len(answers)} answers came back for {len(chunk)} prompts"
        except EmbkitError:  # bad input, or a refused key: the same for every item
            self._halt.set()
            raise
        except Exception as error:  # whatever a backend has
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if len(chunk) == 1:
            return [Failure(reason)]
        return [answer for item in chunk for answer in self._call([item], attempt)]

    def _end(self, item: Item, answer: str | Failure) -> None:
        """Notes how an item ended."""
        self._bar.update()
        if isinstance(answer, str):
            self.done[item], self._silent = self.answers.found[self._key(item)], 0
            return
        self.failed[item] = answer.reason
        self._silent = 0 if answer.again else self._silent + 1
        if self._silent >= PATIENCE:
            self._stop(f"{PATIENCE} items in a row had no answer ({answer.reason})")

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        self._halt.set()


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
    is asked for again, warmer and with another seed, three times. What is then missing is in
    ``failed`` with its reason; what had no answer at all, the next call asks for. Ten such items in
    a row end the call.

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
            raise refused("number", name=name, value=value, least=least)
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
        raise refused("documents", kind=type(documents).__name__)
    speaks = isinstance(getattr(backend, "name", None), str) and hasattr(backend, "generate")
    for what, given, right, hint in (
        ("backend", backend, speaks, "TransformersBackend('smollm2')"),
        ("prompt", prompt, isinstance(prompt, Prompt), "PROMPTS['general']"),
    ):
        if not right:
            of = {"kind": type(given).__name__, "right": what.capitalize()}
            raise refused("another kind", what=what, hint=hint, **of)


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
            file = Path(path).name
            raise refused("line", number=number, file=file, line=line[:60]) from error
    return rows
