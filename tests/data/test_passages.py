"""Texts cut into passages: two cases by hand, and what must hold for any text."""

import itertools
import random
import re
from pathlib import Path

import numpy as np
import pytest

from embkit.data.passages import LEAST, Passage, cut, words
from embkit.errors import EmbkitError


def characters(texts):
    """Each character is a piece, as of a word that no tokenizer knows."""
    return [[found.span() for found in re.finditer(r"\S", text)] for text in texts]


def with_spaces(texts):
    """Pieces that begin with the space before them, as those of byte-level tokenizers."""
    return [[found.span() for found in re.finditer(r"\s?\w+|\s?[^\w\s]|\s+", t)] for t in texts]


KINDS = {"words": words, "characters": characters, "with spaces": with_spaces}


def inside(ends, passage):
    """The places of the pieces that hold something of a passage."""
    begins, stops = ends.T
    return set(np.flatnonzero((stops > passage.start) & (begins < passage.end)).tolist())


def parts(text, *given, **named):
    return [text[p.start : p.end] for p in cut([text], *given, **named)[0]]


SIMPLE = "# A\n\none two three. four five six seven eight nine ten"


def test_a_passage_ends_at_the_best_place_of_its_second_half_by_hand():
    # 13 pieces, # A one two three . four ..., of which 5 to 8 may be taken: a sentence ends after 6
    assert parts(SIMPLE, 8) == ["# A\n\none two three.", "four five six seven eight nine ten"]
    # 3 pieces back there is no sentence: a word begins
    assert parts(SIMPLE, 8, 3) == [
        "# A\n\none two three.",
        "two three. four five six seven eight",
        "six seven eight nine ten",
    ]


def test_a_heading_goes_before_a_paragraph_and_that_before_a_sentence():
    text = "a b c d e. f g\n\nh i\n# B\nk l m n o p q r"  # pieces 0-6, 7-8, then # B
    assert parts(text, 12)[0] == "a b c d e. f g\n\nh i"
    assert parts(text.replace("# B\n", "x y "), 12)[0] == "a b c d e. f g"
    assert parts(text.replace("\n\n", " ").replace("# B\n", "x y "), 12)[0] == "a b c d e. f g h i"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size, overlap", [(LEAST, 0), (16, 7), (40, 19), (64, 0)])
@pytest.mark.parametrize("headings", [False, True])
def test_properties_that_hold_for_any_text(kind, size, overlap, headings):
    rng = random.Random(size + overlap)
    pool = [
        "ab",
        "c",
        "Ménière",
        "e.",
        "!",
        "日本語。",
        "ไทย",
        "\n",
        "\n\n",
        "x" * 90,
        "🙂",
        "snake_case",
    ]
    pool += ["\n# One\n", "\n## Two three\n", "\nArgs:\n", "\nNotes\n-----\n", " \t ", "\n\n\n  \n"]
    texts = [
        "".join(rng.choice(pool) + rng.choice([" ", ""]) for _ in range(n)) for n in range(0, 80, 2)
    ]
    texts += [Path(__file__).read_text()[:6000], np.linalg.svd.__doc__]
    offsets = KINDS[kind]
    found = cut(texts, size, overlap, headings=headings, offsets=offsets)
    assert len(found) == len(texts) and sum(map(len, found)) > 100
    for text, ends, own in zip(texts, offsets(texts), found, strict=True):
        if not text.strip():
            assert own == [Passage(0, len(text), "")]
            continue
        table = np.array(ends)  # (pieces, 2)
        taken = [inside(table, passage) for passage in own]
        solid = {i for i, (a, b) in enumerate(ends) if text[a:b].strip()}
        assert solid <= set().union(*taken), "every word is in some passage"
        for passage, some in zip(own, taken, strict=True):
            shown = passage.of(text, headings)
            part = text[passage.start : passage.end]
            assert 0 < len(some) <= size and part == part.strip() != ""
            assert shown.endswith(part) and len(offsets([shown])[0]) <= size + (kind != "words")
        for i, (before, after) in enumerate(itertools.pairwise(own)):
            assert before.start < after.start and before.end < after.end
            assert len(taken[i] & taken[i + 1]) <= overlap
            assert not text[before.end : max(after.start, before.end)].strip()


def test_a_word_longer_than_the_room_is_cut_within():
    assert parts("x" * 20, 8, offsets=characters) == ["x" * 8, "x" * 8, "x" * 4]


def test_sentences_of_chinese_end_without_a_space():
    assert parts("一二三四五。六七八九十", 8, offsets=characters) == ["一二三四五。", "六七八九十"]


@pytest.mark.parametrize("text", ["", " ", "\n\n  \t"])
def test_a_text_of_nothing_is_one_passage(text):
    assert cut([text], 16) == [[Passage(0, len(text), "")]]
    assert cut([], 16) == []


def test_pieces_that_begin_with_a_space_are_cut_at_the_same_places():
    text = "one two three. four five\n\nsix seven eight nine. ten eleven twelve"
    assert parts(text, 8, offsets=with_spaces) == parts(text, 8)


MARKDOWN = """# Guide
begin here
## Setup ##
one two three
```sh
# not a heading
```
still
### Deep
four
## Use
five
"""
RST = """Guide
=====
begin here

Parameters
----------
x : int

Deep
~~~~
four

Notes
-----
>>> if x:
...     y
...
six
"""
GOOGLE = """Does it all.

Args:
    x: a number.

Returns::
    another. Note: this is no heading
"""


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            MARKDOWN,
            {
                "begin": "Guide",
                "one": "Guide > Setup",
                "still": "Guide > Setup",
                "four": "Guide > Setup > Deep",
                "five": "Guide > Use",
            },
        ),
        (
            RST,
            {
                "begin": "Guide",
                "x :": "Guide > Parameters",
                "four": "Guide > Parameters > Deep",
                "six": "Guide > Notes",
            },
        ),
        (GOOGLE, {"Does": "", "a number": "Args", "another": "Returns", "this is": "Returns"}),
    ],
    ids=["Markdown", "reStructuredText", "Google"],
)
def test_the_headings_above_a_place(text, expected):
    from embkit.data.passages import _headings

    found = [(0, ""), *_headings(text)]
    for word, path in expected.items():
        assert [p for start, p in found if start <= text.index(word)][-1] == path, word


def test_a_passage_is_shown_below_the_headings_that_it_does_not_show():
    text = f"# Guide\n\n## Setup\n{'one ' * 12}.\n{'two ' * 12}"
    found = cut([text], 24, headings=True)[0]
    shown = [passage.of(text, headings=True) for passage in found]
    assert shown[0].startswith("# Guide\n\n## Setup")
    assert shown[1].startswith("Guide > Setup\n") and "# " not in shown[1]
    assert found[1].of(text) == text[found[1].start : found[1].end]
    own = Passage(text.index("## Setup"), len(text), "Guide > Setup")
    assert own.of(text, headings=True).startswith("Guide\n## Setup"), "its own is shown once"
    long = f"# {'word ' * 15}\n{'one ' * 60}"
    assert {p.heading for p in cut([long], 24, headings=True)[0]} == {""}, "no room for these"


@pytest.mark.parametrize("size, overlap", [(7, 0), (16, 8), (16, -1), (0, 0)])
def test_what_cannot_be_cut_is_refused_with_what_can(size, overlap):
    with pytest.raises(EmbkitError) as caught:
        cut(["one"], size, overlap)
    assert str(size) in caught.value.given and str(overlap) in caught.value.given
    assert cut(["one"], **eval(f"dict({caught.value.hint})"))


def test_long_lines_of_signs_take_no_time():
    cut([f"# {'# ' * 100_000}", "a" + " " * 200_000 + "b", "\n" * 100_000, "```\n" * 10_001], 64)
