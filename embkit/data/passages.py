"""Documents cut into passages: at headings, paragraphs and sentences, in a model's word pieces."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .refusals import refused

Offsets = Callable[[list[str]], Sequence[Sequence[tuple[int, int]]]]  # texts -> pieces' ends
WORD = re.compile(r"\w+|[^\w\s]")  # where no tokenizer is: words and single marks
LEAST = 8  # word pieces of a passage

_HEADING, _PARAGRAPH, _SENTENCE, _WORD = 4, 3, 2, 1  # how good a place is to cut at
_PLACES = (
    (_WORD, re.compile(r"(?<=\s)(?=\S)")),
    (_SENTENCE, re.compile(r"(?<=[.!?;:])\s+(?=\S)|(?<=[。！？])|\n(?=[ \t]*\S)")),
    (_PARAGRAPH, re.compile(r"\n[ \t]*\n\s*")),
)
_TITLE = re.compile(  # Markdown's, one that is underlined as in reStructuredText, "Args:"
    r"^(?P<signs>#{1,6})[ \t]+(?P<marked>\S.{0,98}?)[ \t#]*$"
    r"|^(?P<lined>\S[^\n]{0,98}\S)\n(?P<line>([=\-~^\"'`*+#.:])\5{2,})[ \t]*$"
    r"|^(?P<named>[A-Z]\w*(?: \w+){0,2}):{1,2}[ \t]*$",
    re.MULTILINE,
)
_FENCE = re.compile(r"^```.*?(?:^```|\Z)", re.MULTILINE | re.DOTALL)  # code within Markdown
_SOLID = re.compile(r"\S")


class Passage(NamedTuple):
    """A part of a text: ``text[start:end]``, below a heading."""

    start: int
    end: int
    heading: str  # the path of headings above it, " > " between them; empty without one

    def of(self, text: str, headings: bool = False) -> str:
        """The passage's text, on choice below a line with the headings that it does not show."""
        part, (above, _, own) = text[self.start : self.end], self.heading.rpartition(" > ")
        above = above if part.lstrip("# \t").startswith(own) else self.heading
        return f"{above}\n{part}" if headings and above else part


def cut(
    texts: Sequence[str],
    size: int,
    overlap: int = 0,
    *,
    headings: bool = False,
    offsets: Offsets | None = None,
) -> list[list[Passage]]:
    """Each text's passages, in order: together they hold every word of it.

    A passage ends at the best place in the second half of its room: before a heading, else after a
    paragraph, a sentence or line, a word; within a word where it is longer than the room.

    Args:
        size: word pieces of a passage, at most.
        overlap: pieces at a passage's end with which the next one begins, about: it begins with a
            sentence where there is one.
        headings: whether room is left for the headings above a passage (``Passage.of``).
        offsets: texts -> of each piece (begin, end) in characters; default: words and single marks.

    Fails for a size below 8, and for an overlap of half the size or more.
    """
    if size < LEAST or not 0 <= overlap < size // 2:
        better = {"better": max(size, 128), "quarter": max(size, 128) // 4}
        raise refused("small passages", size=size, overlap=overlap, least=LEAST, **better)
    offsets = offsets or words
    found = []
    for first in range(0, len(texts), 1000):
        some = list(texts[first : first + 1000])
        titles = [list(_headings(text)) for text in some]
        paths = sorted({path for told in titles for _, path in told}) if headings else []
        long = {path: len(ends) + 1 for path, ends in zip(paths, offsets(paths), strict=True)}
        for text, ends, told in zip(some, offsets(some), titles, strict=True):
            pieces = np.array(ends, np.int64).reshape(-1, 2)
            found.append(list(_cut(text, pieces, told, long, size, overlap)))
    return found


def words(texts: list[str]) -> list[list[tuple[int, int]]]:
    """Where words and single marks begin and end."""
    return [[word.span() for word in WORD.finditer(text)] for text in texts]


def _headings(text: str) -> Iterator[tuple[int, str]]:
    """Where each heading begins, and the path of headings that holds from there."""
    above: list[tuple[int, str]] = []  # (level, heading)
    lines: list[str] = []  # kinds of underlining, in the order in which they were met
    text = _FENCE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    for found in _TITLE.finditer(text):
        title = found["marked"] or found["lined"] or found["named"]
        if found["lined"]:
            kind = found["line"][0]
            if kind not in "=-" and len(found["line"]) < len(title):
                continue  # "..." below a line of code
            lines += [] if kind in lines else [kind]
            level = lines.index(kind) + 1
        else:
            level = len(found["signs"] or "######") + 100 * bool(found["named"])
        above = [*((n, t) for n, t in above if n < level), (level, title.strip())]
        yield found.start(), " > ".join(t for _, t in above)


def _cut(
    text: str,
    ends: np.ndarray,  # (pieces, 2)
    titles: list[tuple[int, str]],
    long: dict[str, int],
    size: int,
    overlap: int,
) -> Iterator[Passage]:
    ends = ends[: np.searchsorted(ends[:, 0], len(text.rstrip()))]  # no blank ones at the end
    if not len(ends):
        yield Passage(0, len(text), "")
        return
    begins, stops = ends.T
    good = np.zeros(len(ends) + 1, np.int8)  # how good it is to begin a passage with a piece
    for value, pattern in _PLACES:
        places = [found.end() for found in pattern.finditer(text)]
        good[np.searchsorted(stops, places, side="right")] = value  # a piece may begin with a space
    starts = [place for place, _ in titles]
    good[np.searchsorted(stops, starts, side="right")] = _HEADING
    first = last = 0
    while last < len(ends):
        begin = next(_SOLID.finditer(text, int(begins[first]))).start()
        above = int(np.searchsorted(starts, begin, side="right"))
        path = titles[above - 1][1] if above else ""
        taken = long.get(path, 0)
        room = size - taken if taken <= size // 2 - overlap else size
        if first + room >= len(ends):
            final = len(ends)
        else:
            least = max(first + room // 2, last) + 1
            last_first = good[least : first + room + 1][::-1]
            final = first + room - int(np.argmax(last_first))
        shown = path if room == size - taken else ""
        if part := text[begin : stops[final - 1]].rstrip():
            yield Passage(begin, begin + len(part), shown)
        last = final
        again = good[max(final - overlap, first + 1) : final]
        sentence = np.flatnonzero(again >= _SENTENCE)
        word = np.flatnonzero(again >= _WORD)
        back = sentence if len(sentence) else word
        first = final - len(again) + int(back[0]) if len(back) else final
