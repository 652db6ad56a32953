"""What texts show by themselves: near-duplicates, scripts, damage, words and their pieces."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .domain import normalise
from .images import in_parts

SHINGLE = 5  # characters
MOST = 50  # near texts of one text that are compared exactly
READ = 2_000  # characters of a text that shingles and scripts are taken from
# scripts written without spaces: Thai, Lao, Burmese, Khmer, Japanese, Chinese
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
BY_CHARACTER = {"Han and kana", "Thai", "Lao", "Myanmar", "Khmer"}  # these, as scripts() names them
_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
_LETTERS = re.compile(r"[^\W\d_]+")

EVERYDAY = Path(__file__).with_name("everyday.txt").read_text(encoding="utf-8")

_JAPANESE = {"Cjk", "Hiragana", "Katakana"}  # Japanese mixes them in every sentence
_COMMON = Path(__file__).with_name("common.txt").read_text(encoding="utf-8")
# language -> words that hold sentences together, few of them shared between the languages
_SAID = {line.partition(":")[0]: {*line.split()[1:]} for line in _COMMON.splitlines()}


def words(text: str) -> list[str]:
    """The words of a text in one case; in scripts without spaces each character is one."""
    return _WORD.findall(text.casefold())


def containment(query: str, document: str) -> float:
    """The share of a query's distinct words that its document has too; 0 without words."""
    asked = set(words(query))
    return len(asked & set(words(document))) / len(asked) if asked else 0.0


def shingles(text: str) -> set[str]:
    """The 5-character pieces of a text's normalised beginning (2,000 characters)."""
    text = normalise(text[:READ])
    return {text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}


def jaccard(a: set[str], b: set[str]) -> float:
    """What two sets share, of all that either has."""
    return len(a & b) / len(a | b) if a or b else 0.0


def near_pairs(
    left: Sequence[str], right: Sequence[str], threshold: float = 0.8
) -> list[tuple[int, int, float]]:
    """Pairs of texts that are nearly the same letter for letter.

    MinHash (datasketch) proposes pairs: 100 hashes in 20 bands of 5, so a pair at the usual
    threshold of 0.8 is missed once in 2,500. The exact Jaccard similarity of the 5-character
    pieces decides on the likeliest 50 for each right text: texts made from one template would else
    all be compared with all. What is in ``left`` is kept in memory: put the fewer there. Gives
    (index in left, index in right, exact similarity), in the order of right.

    Example:
        >>> near_pairs(["iron deficiency anemia"], ["gout", "Iron deficiency  anemias"])
        [(0, 1, 0.9473684210526315)]

    Paper: Broder, On the resemblance and containment of documents, 1997.
    """
    from datasketch import MinHash, MinHashLSH

    def sketches(texts: Sequence[str]) -> Iterator[Any]:
        rows = ([piece.encode("utf-8", "replace") for piece in shingles(text)] for text in texts)
        return MinHash.generator(rows, num_perm=100)

    index = MinHashLSH(num_perm=100, params=(20, 5))
    hashes = np.empty((len(left), 100), np.uint32)
    for i, sketch in enumerate(sketches(left)):
        hashes[i] = sketch.hashvalues
        index.insert(i, sketch)
    of_left = lru_cache(10_000)(lambda i: shingles(left[i]))
    found = []
    for j, sketch in enumerate(sketches(right)):
        near = np.array(sorted(index.query(sketch)), dtype=np.int64)
        if not near.size:
            continue
        alike = (hashes[near] == sketch.hashvalues.astype(np.uint32)).sum(axis=1)
        mine = shingles(right[j])
        for i in near[np.sort(np.argsort(-alike, kind="stable")[:MOST])].tolist():
            similarity = jaccard(of_left(i), mine)
            if similarity >= threshold:
                found.append((i, j, similarity))
    return found


SHORT = 40  # characters beyond which a text is no number and no empty cell
EMPTY = frozenset("nan NaN None null NULL N/A #N/A <NA> undefined".split())
_NUMBER = re.compile(r"[+-]?\d+(?:[.,:/-]\d+)*(?:[eE][+-]?\d+)?")
_LISTED = re.compile(  # as Python, JSON and NumPy print texts, or nothing
    r"""(?:array\((?=\[)|[\[{]\s*)+(?:[bu]?(['"])(?s:.*?)\1\s*[,:\]}'"]|[\]}]+\Z|(?:None|nan)\s*[,\]])"""
)
_NUMBERS = re.compile(r"(?:array\(|\[\s*)+[-+.]?\d[\s\d.,eE+\[\]-]*(?:dtype=\w+)?\)?")
_ID = re.compile(r"(?=[!-~]{0,79}\d)[!-~]{1,80}")


def no_text(text: str) -> str | None:
    """Which kind of thing stands where a text should be; None for a real text.

    Example:
        >>> no_text("NaN"), no_text("['a', 'b']"), no_text("12.0"), no_text("E11.9")
        ('nan / None as text', 'a list printed as text', 'digits alone', None)
    """
    text = text.strip()
    if text.startswith(("[", "{", "array(")) and text.endswith(("]", "}", ")")):
        return "a list printed as text" if _LISTED.match(text) or _NUMBERS.fullmatch(text) else None
    if len(text) > SHORT:
        return None
    if text in EMPTY:
        return "nan / None as text"
    return "digits alone" if _NUMBER.fullmatch(text) else None


def ids(texts: Sequence[str], least: int = 20) -> bool:
    """Whether a column holds ids (d17, UUIDs, hashes): 9 in 10 texts are one token with a digit,
    and more than half of these differ. Few texts, as E11.9 or B12, tell nothing of what stands
    where texts should be; ``least`` is how many there must be."""
    found = [text for text in map(str.strip, texts) if _ID.fullmatch(text)]
    enough = len(texts) >= least and len(found) >= 0.9 * len(texts)
    return enough and 2 * len(set(found)) > len(found)


LONG_LINE = 10_000  # characters
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]")
_TAG = re.compile(r"</?[A-Za-z][\w-]{0,30}(?:\s[^<>]{0,500})?/?>|<!--")


def oddities(text: str) -> list[str]:
    """The kinds of damage a text shows, by name; none for a sound text."""
    from ftfy.badness import is_bad
    from ftfy.fixes import unescape_html

    plain = text.isascii()
    mojibake = not plain and is_bad(text)
    found = {
        "mojibake": mojibake,
        "replacement character": not plain and "\ufffd" in text,
        "NUL": "\0" in text,
        "control character": not mojibake and _CONTROL.search(text),  # as its second bytes look
        "invisible character": not plain and _INVISIBLE.search(text),
        "not NFC": not plain and not unicodedata.is_normalized("NFC", text),
        "HTML entity": unescape_html(text) != text,
        "HTML tag": _TAG.search(text),
        "very long line": len(text) > LONG_LINE and max(map(len, text.splitlines())) > LONG_LINE,
    }
    return [name for name, there in found.items() if there]


def scripts(texts: Iterable[str]) -> dict[str, float]:
    """Shares of the letters by script (Latin, Cyrillic, Arabic …), the largest first."""
    letters: Counter[str] = Counter()
    for text in texts:
        letters.update(text[:READ])
    found: Counter[str] = Counter()
    for letter, count in letters.items():
        if letter.isalpha():
            name = unicodedata.name(letter, "unknown").split()[0].split("-")[0].title()
            found["Han and kana" if name in _JAPANESE else name] += count
    total = found.total()
    return {name: count / total for name, count in found.most_common()}


def languages(texts: Iterable[str]) -> Counter[str]:
    """How many texts are in which language, of those that can be told.

    A vote by the words that hold sentences together, in seven languages of Latin script: one alone
    must have the most votes, two at least.
    """
    told: Counter[str] = Counter()
    for text in texts:
        said = set(words(text[:READ]))
        votes = Counter({language: len(said & common) for language, common in _SAID.items()})
        (first, most), (_, second) = votes.most_common(2)
        if most >= 2 and most > second:
            told[first] += 1
    return told


def token_lengths(tokenizer: Any, texts: Sequence[str]) -> np.ndarray:
    """Tokens of each text, its special tokens counted and nothing cut off, shape (texts,)."""
    return np.array([len(ids) for ids in _tokens(tokenizer, texts, special=True)], dtype=np.int64)


def fertility(tokenizer: Any, counts: Counter[str]) -> list[tuple[str, int, int, bool]]:
    """Each word with its count, the number of its tokens, and whether one of them is unknown."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    ids = _tokens(tokenizer, [f" {word}" for word in counts], special=False)
    told = zip(counts.items(), ids, strict=True)
    return [(word, count, len(row), unknown in row) for (word, count), row in told]


def letter_words(texts: Iterable[str]) -> Counter[str]:
    """Runs of letters in one case, counted; digits and signs are always pieces of their own."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(_LETTERS.findall(unicodedata.normalize("NFC", text.casefold())))
    return found


def _tokens(tokenizer: Any, texts: Sequence[str], special: bool) -> Iterator[list[int]]:
    options = {"add_special_tokens": special, "return_attention_mask": False}
    options |= {"verbose": False}  # a text longer than the window is what is being counted
    for part in in_parts(texts, 1_000):
        yield from tokenizer(list(part), **options)["input_ids"]
