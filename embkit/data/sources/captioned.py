"""Pictures and captions made a Domain: two directions of search, and a cut that nothing straddles.

What hangs together (a family of icons, one caption for two pictures, two captions of a picture)
is one part, and a part lies whole in train, in dev or in the test. The tests search the held-out
pictures, or the held-out captions, and nothing else. Where pictures have keywords, two more tests
ask for all held-out pictures of a keyword: one that training pictures have as well, or a new one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ...errors import EmbkitError
from ..domain import Domain, normalise
from ..readers.draft import Split
from ..splits import connected, fill, in_order

SHARES = {"test": 0.10, "dev": 0.05}  # of the rows
TO_IMAGE, TO_TEXT = "text_to_image", "image_to_text"
SEEN, NEW = "seen_keywords", "new_keywords"
A_KEYWORD = 10  # training pictures at most: with more, a batch's others are too often right as well
SMOKE = 600  # rows


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
    keywords: Mapping[str, Sequence[str]] | None = None,
    smoke: int = SMOKE,
    about: Mapping[str, str] | None = None,
) -> Domain:
    """A domain that asks for pictures by their captions, and for captions by pictures.

    Args:
        rows: all captions of a picture, and all pictures of a caption, are right.
        shares: of the rows, for ``test`` and ``dev``; the rest is trained on.
        seed: of the order in which parts go to test, dev and train.
        keywords: picture -> its keywords. They are trained on beside the captions, and tested in
            splits of their own, but for those that are a held-out picture's name.
        smoke: about how many rows the profile ``smoke`` keeps, whole parts of them.

    Raises:
        EmbkitError: fewer than three parts: nothing could be held out.
    """
    # whole parts go to test, dev and train
    found = sorted(parts(rows), key=lambda part: in_order(min(row.group for row in part), seed))
    if profile == "smoke":
        found, _ = fill(found, smoke)
    if len(found) < 3:
        raise EmbkitError(
            f"{len(rows)} captioned pictures in {len(found)} part(s) that hang together",
            expected="three parts or more: one to train on, one to choose by, one to test",
            hint="add pictures, and captions that are not the same for all of them",
        )
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
            first = _first_ids(part)
            for row in part:
                caption = f"t {first[_key(row)]}", row.caption
                picture = f"p {first[row.picture]}", row.picture
                asked, answer = (picture, caption) if split == TO_TEXT else (caption, picture)
                queries.setdefault(f"ask {asked[0]}", asked[1])
                corpus.setdefault(*answer)
                groups[answer[0]] = part[0].group
                judged.setdefault(f"ask {asked[0]}", {})[answer[0]] = 1
    # keywords, but for the names of held-out pictures
    if keywords:
        trained = {normalise(queries[query]): query for query in qrels["train"]}
        names = {normalise(queries[query]) for query in (*qrels["dev"], *qrels[TO_IMAGE])}
        for text, right in _pictures_of(train, keywords, names, seed):
            query = trained.setdefault(text, f"ask k {text}")
            queries.setdefault(query, text)
            qrels["train"].setdefault(query, {}).update(dict.fromkeys(right[:A_KEYWORD], 1))
        for text, right in _pictures_of(test, keywords, names, seed):
            split = SEEN if text in trained else NEW
            queries[f"{split} {text}"] = text
            qrels.setdefault(split, {})[f"{split} {text}"] = dict.fromkeys(right, 1)
    tests = [split for split in (TO_IMAGE, TO_TEXT, SEEN, NEW) if split in qrels]
    searched = {
        split: tuple(dict.fromkeys(d for right in qrels[split].values() for d in right))
        for split in ("dev", TO_IMAGE, TO_TEXT)
    }
    return Domain(
        name=name,
        profile=profile,
        corpus=corpus,
        queries=queries,
        qrels=qrels,
        test_splits=tuple(tests),
        groups=groups,
        held_out=TO_IMAGE,
        searched=searched | {split: searched[TO_IMAGE] for split in tests[2:]},
        about=about or {},
    )


def _pictures_of(
    chosen: Iterable[Part], keywords: Mapping[str, Sequence[str]], names: set[str], seed: int
) -> Iterator[tuple[str, list[str]]]:
    """Keywords, in their common form, that are no names, and the documents that have each."""
    found: dict[str, set[str]] = defaultdict(set)
    for part in chosen:
        first = _first_ids(part)
        for row in part:
            for keyword in keywords.get(row.picture, ()):
                found[normalise(keyword)].add(f"p {first[row.picture]}")
    for text in (text for text in found if text not in names):
        yield text, sorted(found[text], key=lambda d: in_order(d, seed))


def parts(rows: Iterable[Captioned]) -> list[Part]:
    """The rows that hang together by group, caption or picture, directly or through others."""
    rows = list(rows)
    keys = ((("group", r.group), ("caption", _key(r)), ("picture", r.picture)) for r in rows)
    return [[rows[place] for place in part] for part in connected(enumerate(keys))]


def _key(row: Captioned) -> str:
    return normalise(row.caption)


def _first_ids(part: Part) -> dict[str, str]:
    """Picture, and caption in its common form -> the id of the first row that has it."""
    return {key: row.id for row in reversed(part) for key in (row.picture, _key(row))}


def _take(found: Sequence[Part], goal: float) -> tuple[list[Part], list[Part]]:
    """The first parts that fill so many rows, at least one, and the others."""
    taken, left = fill(found, max(goal, 1))
    left = left or [taken.pop()]
    if not taken:
        taken = [left.pop(left.index(min(left, key=len)))]
    return taken, left
