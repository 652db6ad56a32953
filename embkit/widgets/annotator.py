"""A panel to judge documents with three keys. Python decides everything; the page sends keys."""

import time
from collections.abc import Sequence
from typing import Any

import traitlets

from ..pairs.labels import GRADES, MEANINGS, LabelStore, annotator_name
from ..pairs.pooling import Task
from .base import Page, page, refused

KEYS = {str(grade): f"{name}: {MEANINGS[grade]}" for grade, name in GRADES.items()}
KEYS |= {"Backspace": "undo: back, and the grade taken back", "ArrowRight": "skip: it comes again"}
DOUBLE_PRESS = 0.25  # seconds within which nobody has read the next document


class Annotator(Page):
    """Shows one document after the other beside its query; keys 2, 1 and 0 grade it.

    It goes on where this annotator stopped. From code, ``press`` does what a key does. If that goes
    wrong, the item stays. ``tasks`` are from ``candidates``; fails for none, no store, or no name.
    """

    _esm, _css = page("annotator")
    query, document, annotator = (traitlets.Unicode().tag(sync=True) for _ in range(3))
    position, done, total = (traitlets.Int().tag(sync=True) for _ in range(3))  # from 0 to total
    buttons = traitlets.List(list(map(list, KEYS.items()))).tag(sync=True)

    def __init__(self, tasks: Sequence[Task], store: LabelStore, annotator: str = "me") -> None:
        if not isinstance(store, LabelStore) or not tasks:
            raise refused("annotator", n=len(tasks or ()), kind=type(store).__name__)
        super().__init__(annotator=annotator_name(annotator), total=len(tasks))
        self.tasks, self.store = tuple(tasks), store
        place = {task.pair: i for i, task in enumerate(self.tasks)}
        self._steps = [(place[pair], True) for pair in self._judged() if pair in place]
        self._show(self._open_after(-1), "")

    def press(self, key: str) -> None:
        """Does what the key does: ``"2"``, ``"1"``, ``"0"``, ``"Backspace"``, ``"ArrowRight"``."""
        self.guarded(self._press)(str(key))

    def _press(self, key: str) -> None:
        at = self.position
        if key not in KEYS:
            self.tell(f"{key!r} does nothing. Keys: {', '.join(KEYS)}")
        elif key == "Backspace" and not self._steps:
            self.tell("There is nothing to take back.")
        elif key == "Backspace":
            before, graded = self._steps[-1]
            if graded:
                self.store.label(*self.tasks[before].pair, None, annotator=self.annotator)
            self._steps.pop()
            self._show(before, "Taken back." if graded else "Back.")
        elif at == self.total:
            self.tell("All are judged. Backspace takes the last one back.")
        else:
            graded, said = key != "ArrowRight", "Skipped: it comes again after the others."
            if graded:
                self.store.label(*self.tasks[at].pair, int(key), annotator=self.annotator)
                said = f"Kept: {GRADES[int(key)]}. Backspace takes it back."
            self._steps.append((at, graded))
            self._show(self._open_after(at), said)
            self._shown = time.monotonic()

    def heard(self, content: Any) -> None:
        """A key from the page, with the item that was on the screen when it was pressed."""
        key = str(content.get("key"))
        soon = time.monotonic() - self._shown < DOUBLE_PRESS and key.isdigit()
        if soon or content.get("item") != self.position:
            self.tell("Two keys at once: the second is not counted.")
        else:
            self.press(key)

    def _judged(self) -> dict[tuple[str, str], int]:
        return self.store.labels().get(self.annotator, {})

    def _open_after(self, position: int) -> int:
        """The next item that this annotator has not judged; from the start again; else the end."""
        judged, order = self._judged(), (*range(position + 1, self.total), *range(position + 1))
        return next((i for i in order if self.tasks[i].pair not in judged), self.total)

    def _show(self, position: int, message: str) -> None:
        judged, item = self._judged(), self.tasks[position] if position < self.total else None
        with self.hold_sync():
            self.tell(message)
            self.position, self.done = position, sum(task.pair in judged for task in self.tasks)
            self.query = item.query_text if item else f"All {self.total} are judged."
            self.document = item.document_text if item else ""
        self._shown = float("-inf")  # the next key may follow at once

    def __repr__(self) -> str:
        return f"Annotator({self.done} of {self.total} judged by {self.annotator})"
