"""One call of ``generate`` under way: the cache on disk, the attempts, the budget, the stop."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..data import text_checks
from ..errors import EmbkitError
from ..session import paths
from .answers import clean
from .backends import Backend, Failure
from .prompts import Prompt

LONGEST_WAIT = 120.0  # seconds before an item is asked again
PATIENCE = 10  # items that fail in a row before nothing more is asked
WARMER = 0.3  # added to the temperature each time an answer was none
BLOCK = 4  # batches of a kind that are sorted together

Item = tuple[str, str, int]  # (document id, kind, n)


class Cache:
    """Answers in an append-only file of JSON lines; the first answer to a key is the one.

    A line that was cut off is passed over. A lock file keeps two writers apart.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._read_to = path, 0
        self._found: dict[str, str] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        """The answer, if there is one."""
        return self._found.get(key)

    def refresh(self) -> None:
        """Reads what was added since, by whoever it was.

        Raises:
            EmbkitError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                fresh = file.read()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._trouble(error) from error
        whole = fresh.rfind(b"\n") + 1  # the rest is still being written, or cut off
        self._read_to += whole
        for line in fresh[:whole].splitlines():
            try:
                row = json.loads(line)
                key, query = row["key"], row["query"]
            except (ValueError, TypeError, KeyError):
                continue
            if isinstance(key, str) and isinstance(query, str):
                self._found.setdefault(key, query)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keeps answers, each with a ``key`` and a ``query``; on disk when it returns.

        Raises:
            EmbkitError: the file cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock, FileLock(f"{self.path}.lock"):
                self.refresh()
                fresh = [row for row in rows if row["key"] not in self._found]
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in fresh)
                with self.path.open("ab+") as file:
                    if file.tell():
                        file.seek(-1, os.SEEK_END)
                        text = text if file.read(1) == b"\n" else "\n" + text
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
                self.refresh()
        except OSError as error:
            raise self._trouble(error) from error

    def _trouble(self, error: OSError) -> EmbkitError:
        return EmbkitError(
            f"answers cannot be kept in {self.path.name}: {error.strerror or error}",
            expected="a cache folder that can be written to, with room on its disk",
            hint="EMBKIT_CACHE=/another/folder",
        )


def content_hash(*parts: Any) -> str:
    """Hash of anything that JSON can hold: 32 characters."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Job:
    """Asks a backend for items; ``done`` and ``failed`` fill up while ``run`` runs.

    Args:
        backend: who is asked.
        prompt: with what.
        texts: document id -> text.
        settings: max_tokens, temperature, seed, and what the backend adds.
        budget: prompts that are sent at most.
        retries: how often an item is asked again.
        sleep: waits so many seconds; default: a wait that ends when the job is stopped.
    """

    def __init__(
        self,
        backend: Backend,
        prompt: Prompt,
        texts: Mapping[str, str],
        settings: Mapping[str, Any],
        *,
        budget: int | None,
        retries: int,
        sleep: Callable[[float], object] | None,
    ) -> None:
        self.backend, self.prompt, self.texts = backend, prompt, texts
        self.settings, self.budget, self.retries = settings, budget, retries
        self.done: dict[Item, str] = {}
        self.failed: dict[Item, str] = {}
        self.stopped: str | None = None
        self.cached = self.sent = 0
        self._refused: EmbkitError | None = None
        self._silent = 0  # items in a row without any answer
        self._lock, self._halt = threading.Lock(), threading.Event()
        self._sleep = sleep or self._halt.wait
        told = text_checks.languages(
            text for pairs in prompt.examples.values() for _, text in pairs
        )
        told += text_checks.languages(texts.values())
        self._languages = [name for name, n in told.items() if n >= 0.1 * told.total()]
        name = content_hash(backend.name, prompt.hash, settings)
        self.cache = Cache(paths().cache / "generated" / f"{name}.jsonl")

    def run(self, items: Sequence[Item], progress: bool) -> None:
        """Asks for what the cache does not have; what is then in neither dict was not asked.

        Raises:
            EmbkitError: the backend refuses every request, or answers cannot be kept.
        """
        from tqdm import tqdm

        self.cache.refresh()
        todo = []
        for item in items:
            if not any(letter.isalnum() for letter in self.texts[item[0]]):
                self.failed[item] = "nothing to ask about: the document holds no letter or digit"
            elif (query := self.cache.get(self._key(item))) is not None:
                self.done[item] = query
            else:
                todo.append(item)
        self.cached = len(self.done)
        with tqdm(
            total=len(items),
            initial=len(items) - len(todo),
            desc="queries",
            unit="query",
            file=sys.stderr,
            mininterval=1,
            disable=not progress,
        ) as self._bar:
            self._run(list(self._chunks(todo)))
        if self._refused:
            raise self._refused

    def _run(self, chunks: list[list[Item]]) -> None:
        workers = int(getattr(self.backend, "workers", 1))
        if workers == 1:
            for chunk in chunks:
                self._settle(chunk)
            return
        with ThreadPoolExecutor(workers) as pool:
            try:
                for _ in pool.map(self._settle, chunks):
                    pass
            except BaseException:
                self._halt.set()  # what is under way ends and is kept; nothing new begins
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _key(self, item: Item) -> str:
        document, kind, n = item
        return content_hash(self.prompt.render(self.texts[document], kind), kind, n)

    def _chunks(self, todo: Sequence[Item]) -> Iterator[list[Item]]:
        """Items of one kind and similar length together; a run that stops early has all kinds."""
        size = max(1, int(getattr(self.backend, "batch_size", 1)))
        block = BLOCK * size * len({item[1:] for item in todo})
        for start in range(0, len(todo), block or 1):
            groups: dict[tuple[int, str], list[Item]] = {}
            for item in todo[start : start + block]:
                groups.setdefault((item[2], item[1]), []).append(item)
            for group in groups.values():
                group.sort(key=lambda item: len(self.texts[item[0]]))
                yield from (group[i : i + size] for i in range(0, len(group), size))

    def _settle(self, chunk: list[Item], attempt: int = 0, warmer: int = 0) -> None:
        """Asks until each item has its answer or has failed for good."""
        if not chunk or self._halt.is_set():
            return
        silent, refused, wait = [], [], 0.0
        for item, failure in self._ask(chunk, attempt, warmer):
            if failure.then in ("stop", "raise"):
                self._stop(failure)
            elif failure.then == "report" or attempt == self.retries:
                self._fail(item, failure)
            elif failure.silent:
                silent.append(item)
                wait = max(wait, failure.wait or 2.0**attempt)
            else:
                refused.append(item)
        self._settle(refused, attempt + 1, warmer + 1)
        if silent and not self._halt.is_set():
            self._sleep(min(wait, LONGEST_WAIT))
            self._settle(silent, attempt + 1, warmer)

    def _ask(self, chunk: list[Item], attempt: int, warmer: int) -> list[tuple[Item, Failure]]:
        """Asks once, keeps the good answers, and gives back the items that have none."""
        chunk = self._paid(chunk)
        missing: list[tuple[Item, Failure]] = []
        rows: list[dict[str, Any]] = []
        good: list[Item] = []
        for item, raw in zip(chunk, self._call(chunk, attempt, warmer), strict=True):
            document, kind, n = item
            found = raw
            if not isinstance(raw, Failure):
                found = clean(raw, self.texts[document], self.prompt, kind, self._languages)
            if isinstance(found, Failure):
                missing.append((item, found))
                continue
            about = {"document": document, "kind": kind, "n": n}
            rows.append({"key": self._key(item), "query": found} | about)
            good.append(item)
        if rows:
            self.cache.add(rows)
        with self._lock:
            for item, row in zip(good, rows, strict=True):
                self.done[item] = self.cache.get(row["key"]) or row["query"]
                self._silent = 0
                self._bar.update()
        return missing

    def _call(self, chunk: list[Item], attempt: int, warmer: int) -> list[str | Failure]:
        """The backend's answers; where it fails for several, they are asked one by one."""
        if not chunk:
            return []
        try:
            answers = self.backend.generate(
                [self.prompt.render(self.texts[document], kind) for document, kind, _ in chunk],
                max_tokens=self.settings["max_tokens"],
                temperature=self.settings["temperature"] + WARMER * warmer,
                seed=self.settings["seed"] + 1000 * chunk[0][2] + attempt,
            )
            if not isinstance(answers, str) and len(answers) == len(chunk):
                wrong = Failure("no text came back")
                return [a if isinstance(a, str | Failure) else wrong for a in answers]
            reason = f"{len(answers)} answers came back for {len(chunk)} prompts"
        except EmbkitError as error:  # bad input: the same for every item
            self._refused = error
            return [Failure("bad input", "stop")] * len(chunk)
        except Exception as error:  # whatever a backend has
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if len(chunk) == 1:
            return [Failure(reason)]
        spent = [Failure("the budget is spent", "stop")]
        return [
            answer
            for item in chunk
            for answer in (self._call(self._paid([item]), attempt, warmer) or spent)
        ]

    def _paid(self, chunk: list[Item]) -> list[Item]:
        """As much of a chunk as the budget allows."""
        with self._lock:
            room = len(chunk) if self.budget is None else max(0, self.budget - self.sent)
            self.sent += min(room, len(chunk))
        if room < len(chunk):
            self._stop(Failure(f"the budget of {self.budget:,} prompts is spent", "stop"))
        return chunk[:room]

    def _fail(self, item: Item, failure: Failure) -> None:
        with self._lock:
            self.failed[item] = failure.reason
            self._silent = self._silent + 1 if failure.silent else 0
            self._bar.update()
            many = self._silent >= PATIENCE
        if many:
            self._stop(
                Failure(f"{PATIENCE} items in a row had no answer ({failure.reason})", "stop")
            )

    def _stop(self, failure: Failure) -> None:
        with self._lock:
            self.stopped = self.stopped or failure.reason
            if failure.then == "raise" and self._refused is None:
                self._refused = EmbkitError(
                    f"the endpoint refuses every request: {failure.reason}",
                    expected="a key and a model that it knows",
                    hint="check OPENAI_API_KEY, base_url and the model's name; what was answered "
                    "is kept",
                )
        self._halt.set()
