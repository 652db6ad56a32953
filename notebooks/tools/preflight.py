"""Is this machine ready for the course? ``python -m embkit preflight`` runs this.

Each check loads what it needs by itself, so that a broken library is one red line.
"""

from __future__ import annotations

import argparse
import base64
import platform
import re
import shutil
import sys
import textwrap
import time
import tomllib
import urllib.request
import webbrowser
import zlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from embkit import session
from embkit.cli.terminal import BAD_INPUT, FOUND, OK, answer, note
from embkit.display import WIDTH, short
from embkit.errors import EmbkitError

Finding = tuple[bool, str]  # whether all is well, and what was found
TOLD = tomllib.loads(Path(__file__).with_name("preflight.toml").read_text(encoding="utf-8"))
GRAPHIC, TEXT, LIMIT = TOLD["graphic browsers"], TOLD["text browsers"], TOLD["limits"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each check, each lesson's minutes and the code; 1 where a line is red."""
    parser = argparse.ArgumentParser(prog="python -m embkit preflight", description=__doc__)
    parser.add_argument("--read", metavar="CODE", help="show what a code says")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    chosen = parser.parse_args(arguments)
    try:
        found = decoded(chosen.read) if chosen.read else {n: tried(n) for n in TOLD["hints"]}
    except EmbkitError as error:
        note(error.in_shell)
        return BAD_INPUT
    lines, code = [], coded(found)
    for name, (well, text) in found.items():
        line = f"{'✓' if well else '✗'} {name:<9} {text}"
        line += "" if well else f". To do: {TOLD['hints'][name]}"
        lines.append(textwrap.fill(line, WIDTH, subsequent_indent=" " * 12))
    lines += ["", *_lessons(found["step"][1]), f"code for the teacher: {code}"]
    told = [{"check": n, "well": well, "found": text} for n, (well, text) in found.items()]
    answer(chosen.json, {"checks": told, "code": code}, "\n".join(lines))
    return OK if all(well for well, _ in found.values()) else FOUND


def tried(name: str) -> Finding:
    """A check's finding; what stops a check is one, too, whatever it is."""
    try:
        well, text = globals()[f"_{name}"]()
    except Exception as error:
        well, text = False, f"{type(error).__name__}: {error}".partition("\n")[0]
    return well, short(text, 200).replace("|", "/")


def coded(found: dict[str, Finding]) -> str:
    """Findings as a short text that can be sent."""
    text = "|".join(f"{'-+'[well]}{text}" for well, text in found.values())
    packer = zlib.compressobj(9, zdict=TOLD["usual"].encode())
    packed = packer.compress(text.encode()) + packer.flush()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decoded(code: str) -> dict[str, Finding]:
    """The findings of a code; fails where it was cut off, mistyped or made by another version."""
    letters = re.sub(r"\s", "", code)
    try:
        opener = zlib.decompressobj(zdict=TOLD["usual"].encode())
        packed = base64.urlsafe_b64decode(letters + "=" * (-len(letters) % 4))
        parts = opener.decompress(packed, 10_000).decode().split("|")
        if not opener.eof:
            raise ValueError("cut off")
        told = zip(TOLD["hints"], parts, strict=True)
        return {name: (part[:1] == "+", part[1:]) for name, part in told}
    except (ValueError, zlib.error) as error:
        expected = "all letters of what preflight of this version says at its end"
        hint = "python -m embkit preflight --read CODE"
        raise EmbkitError(f"no code: {short(code, 40)!r}", expected=expected, hint=hint) from error


def _lessons(step: str) -> list[str]:
    """Each lesson's minutes on a machine, by its step and the course's table; none without both."""
    ratio, course = re.search(r"s, ([\d.]+) times", step), session.paths().notebooks / "README.md"
    if not ratio or not course.is_file():
        return []
    rows = re.findall(r"(?m)^\| `(\d\d)_\w+` \|.* ([\d.]+) \|$", course.read_text(encoding="utf-8"))
    minutes = {book: float(one) * float(ratio[1]) for book, one in rows}
    told = " · ".join(f"{book} {one:.1f}" for book, one in minutes.items())
    told = f"lessons, the first time, in minutes, about: {told} · all {sum(minutes.values()):.0f}"
    return [*textwrap.wrap(told, WIDTH), ""]


def _python() -> Finding:
    told = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    return (3, 11, 5) <= sys.version_info[:3] < (3, 15), told


def _memory() -> Finding:
    import psutil

    total, free = psutil.virtual_memory().total / 2**30, session.free_memory() / 2**30
    return free >= LIMIT["memory"], f"{total:.1f} GB, {free:.1f} GB free"


def _disk() -> Finding:
    from embkit.cli.machine import size_of

    places = session.paths().runs, session.paths().cache
    needed = max(1.0, LIMIT["disk"] - sum(map(size_of, places)) / 1e9)
    there = (next(p for p in (place, *place.parents) if p.exists()) for place in places)
    free = min(shutil.disk_usage(place).free for place in there) / 1e9
    return free >= needed, f"{free:.0f} GB free, {needed:.0f} GB to be written"


def _folders() -> Finding:
    from safetensors.numpy import load_file, save_file

    odd = ""
    for place in (session.paths().runs, session.paths().cache):
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place) as folder:
            save_file({}, file := Path(folder) / "weights.safetensors")  # as models are kept
            load_file(file)
        if " " in str(place) or not str(place).isascii():
            odd = ", spaces or letters beyond ASCII in the path"
    return True, f"runs and cache can be written{odd}"


def _proxy() -> Finding:
    found = sorted({*urllib.request.getproxies()} & {"http", "https", "all"})
    past = all(map(urllib.request.proxy_bypass, ("127.0.0.1", "localhost")))
    told = f"{', '.join(found)}, {'not ' * past}between this machine and itself"
    return past or not found, told if found else "none"


def _browser() -> Finding:
    try:
        name = Path(getattr(webbrowser.get(), "name", "the system's")).name
    except webbrowser.Error:  # without a desktop it looks for none
        name = ""
    if not name or name in TEXT:
        name = next(filter(shutil.which, GRAPHIC), "")
    return bool(name), name or "none that shows widgets"


def _versions() -> Finding:
    from packaging.requirements import Requirement

    file = session.paths().root / "constraints.txt"
    pins = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", file.read_text())) if file.is_file() else {}
    here = {d.name.lower().replace("_", "-"): d.version for d in metadata.distributions()}
    needed = [r for r in map(Requirement, metadata.requires("embkit") or ()) if not r.marker]
    wrong = [
        f"{r.name} is {here.get(r.name, 'missing')}, not {r.specifier}"
        for r in needed
        if not r.specifier.contains(here.get(r.name, "0"), prereleases=True)
    ]
    other = [r.name for r in needed if here.get(r.name, "").split("+")[0] != pins.get(r.name)]
    told = f"{len(needed) - len(other)} of {len(needed)} as pinned"
    return not wrong, "; ".join([*wrong, told])


def _assets() -> Finding:
    from embkit.assets import catalogue as known

    every = {**known.CATALOGUE, **known.PICTURES}
    broken = [n for n, one in every.items() if known.broken_files(one, known.folder_of(one))]
    told = f"missing or damaged: {', '.join(broken)}" if broken else "sha256 as recorded"
    return not broken, f"{len(every) - len(broken)} of {len(every)}, {told}"


def _step() -> Finding:
    """The median second of steps of a real training: MiniLM, 64 pairs of the smallest domain."""
    import torch
    from transformers import TrainerCallback

    from embkit.data import load_domain
    from embkit.models import packing
    from embkit.recipes.recipe import Recipe
    from embkit.training.trainer import make_trainer, training_pairs

    ends = []
    clock = TrainerCallback()
    clock.on_step_end = lambda *_, **__: ends.append(time.perf_counter())  # type: ignore
    session.quiet()
    recipe = Recipe(model="minilm", batch_size=64)
    pairs = training_pairs(recipe, load_domain("icd10cm", profile="smoke"))
    options = session.precision_flags() | {"max_steps": 8, "save_strategy": "no"}
    with TemporaryDirectory() as folder:
        trainer = make_trainer(recipe, "minilm", pairs, folder, callbacks=[clock], **options)
        with packing.efficient(trainer.model):
            trainer.train()
    seconds = median(b - a for a, b in zip(ends, ends[1:], strict=False))
    told = f"{session.device()}, {session.precision()}, {torch.get_num_threads()} threads"
    ratio = seconds / LIMIT["step"]
    return ratio <= LIMIT["slow"], f"{seconds:.2f} s, {ratio:.1f} times the reference's; {told}"


if __name__ == "__main__":
    sys.exit(main())
