"""Pictures and captions made a Domain: two directions of search, and a cut that nothing straddles.

What hangs together (a family of icons, one caption for two pictures, two captions of a picture)
lies whole in train, in dev or in the test. A test searches what is held out, and nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..domain import Domain, normalise
from ..readers.draft import Split
from ..refusals import refused
from ..splits import connected, in_order

SHARES = {"test": 0.10, "dev": 0.05}  # of the rows
TO_IMAGE, TO_TEXT = "text_to_image", "image_to_text"
SMOKE = 600  # rows that the profile ``smoke`` keeps, about: whole parts of them


class Captioned(NamedTuple):
    """One caption of one picture."""

    id: str
    caption: str
    picture: str  # as ``images.keep_picture`` names it
    group: str  # what must not be divided


Part = list[Captioned]


def domain_of(
    name: str,
    profile: str,
    rows: Sequence[Captioned],
    *,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    about: Mapping[str, str] | None = None,
) -> Domain:
    """A domain that asks for pictures by their captions, and for captions by pictures.

    All captions of a picture, and all pictures of a caption, are right. ``shares`` of the rows are
    for ``test`` and ``dev``; ``seed`` is that of the order in which parts go to them.
    """
    # whole parts go to test, dev and train
    found = sorted(parts(rows), key=lambda part: in_order(min(row.group for row in part), seed))
    if profile == "smoke":
        found, _ = _fill(found, SMOKE)
    if len(found) < 3:
        raise refused("few parts", n=len(rows), parts=len(found))
    total = sum(map(len, found))
    test, rest = _take(found, shares["test"] * total)
    dev, train = _take(rest, shares["dev"] * total)
    corpus: dict[str, str] = {}
    groups: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, Split] = {}
    # captions ask for pictures; in the last test pictures ask for captions
    for split, chosen in (("train", train), ("dev", dev), (TO_IMAGE, test), (TO_TEXT, test)):
        judged = qrels[split] = {}
        for part in chosen:
            first = {key: row.id for row in reversed(part) for key in (row.picture, _key(row))}
            for row in part:
                caption = f"t {first[_key(row)]}", row.caption
                picture = f"p {first[row.picture]}", row.picture
                asked, answer = (picture, caption) if split == TO_TEXT else (caption, picture)
                queries.setdefault(f"ask {asked[0]}", asked[1])
                corpus.setdefault(*answer)
                groups[answer[0]] = part[0].group
                judged.setdefault(f"ask {asked[0]}", {})[answer[0]] = 1
    searched = {
        split: tuple(dict.fromkeys(d for right in qrels[split].values() for d in right))
        for split in ("dev", TO_IMAGE, TO_TEXT)
    }
    facts: Any = {"groups": groups, "held_out": TO_IMAGE, "searched": searched}
    tests = (TO_IMAGE, TO_TEXT)
    return Domain(name, profile, corpus, queries, qrels, tests, **facts, about=about or {})


def parts(rows: Iterable[Captioned]) -> list[Part]:
    """The rows that hang together by group, caption or picture, directly or through others."""
    rows = list(rows)
    keys = ((("group", r.group), ("caption", _key(r)), ("picture", r.picture)) for r in rows)
    return [[rows[place] for place in part] for part in connected(enumerate(keys))]


def _key(row: Captioned) -> str:
    return normalise(row.caption)


def _take(found: Sequence[Part], goal: float) -> tuple[list[Part], list[Part]]:
    """The first parts that fill so many rows, at least one, and the others."""
    taken, left = _fill(found, max(goal, 1))
    left = left or [taken.pop()]
    if not taken:
        taken = [left.pop(left.index(min(left, key=len)))]
    return taken, left


def _fill(parts: Iterable[Part], goal: float) -> tuple[list[Part], list[Part]]:
    """The parts that fit, in their order, into so many rows; and the others."""
    taken: list[Part] = []
    left: list[Part] = []
    count = 0
    for part in parts:
        fits = count + len(part) <= goal
        (taken if fits else left).append(part)
        count += len(part) if fits else 0
    return taken, left
