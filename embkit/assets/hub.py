"""The hub and its cache on this machine: what is whole in the cache is not asked for again."""

import contextlib
import json
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from ..errors import EmbkitError, refusals, unknown
from .wheels import Unreachable

refused = refusals(__file__)
WANTED = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja"]  # no pickle, no code


def is_id(name: str) -> bool:
    """Whether a name has the form ``owner/name`` or ``owner/name@revision``."""
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@\S+)?", name))


def snapshot(name: str, known: Iterable[str]) -> tuple[Path, list[str]]:
    """A model's folder in the cache, completed where need be, and all files that its hub lists.
    Fails where the hub refuses it (a name of ``known`` may be suggested); Unreachable where there
    is no network and the cache lacks what the model needs."""
    from huggingface_hub import HfApi, constants, errors, get_cached_repo_tree, snapshot_download

    repo, _, revision = name.partition("@")
    ask = partial(snapshot_download, repo, allow_patterns=WANTED)
    wanted, here = revision or None, None
    try:
        try:
            here = Path(ask(revision=wanted, local_files_only=True))
            return here, [file.path for file in get_cached_repo_tree(repo, revision=here.name)]
        except errors.IncompleteSnapshotError as error:
            here = Path(error.snapshot_path)
        except (errors.LocalEntryNotFoundError, errors.CachedRepoTreeNotFoundError):
            pass  # not in the cache, or put there by what keeps no listing
        wanted = here.name if here else wanted  # a part is completed at the commit that it has
        # a call that ends: the library's own waits for ever for a hub that says nothing
        HfApi().model_info(repo, revision=wanted, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        here = Path(ask(revision=wanted, etag_timeout=5))
        return here, [file.path for file in get_cached_repo_tree(repo, revision=here.name)]
    except Exception as error:  # the hub's library has many
        lacks = _lacks(here) if here else []
        if here and not lacks:
            return here, [path.name for path in here.rglob("*")]
        if said := refusal("model", name, error, known):
            raise said from error
        part = f"the cache has a part of it, without {', '.join(lacks)}; " if lacks else ""
        raise Unreachable(part + (str(error) or repr(error)).splitlines()[0]) from error


def _lacks(folder: Path) -> list[str]:
    """The files that a model's own settings name and its folder in the cache has not."""
    needed = [] if (folder / "modules.json").is_file() else ["config.json"]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # said when it is loaded
        for index in folder.rglob("*.safetensors.index.json"):
            shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            needed += [index.with_name(s).relative_to(folder).as_posix() for s in sorted(shards)]
        for part in json.loads((folder / "modules.json").read_text("utf-8")):
            if part["type"].endswith((".Transformer", ".Pooling", ".Dense")):
                needed.append(f"{part['path']}/config.json".lstrip("/"))
    if not any(re.search(r"\.safetensors|pytorch_model", path.name) for path in folder.rglob("*")):
        needed.append("model.safetensors")
    return [file for file in needed if not (folder / file).is_file()]


def refusal(
    kind: str, name: str, error: BaseException | None, known: Iterable[str], closed: bool = False
) -> EmbkitError | None:
    """The error for a ``model`` or ``dataset`` that is gated (``closed``), or is not there."""
    from huggingface_hub import constants, errors

    while error and not isinstance(error, errors.HfHubHTTPError):
        error = error.__cause__ or error.__context__
    repo = name.partition("@")[0]
    if closed or isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{'' if kind == 'model' else 'datasets/'}{repo}"
        return refused("gated", kind=kind, repo=repo, page=page)
    if isinstance(error, errors.RevisionNotFoundError):
        return unknown("revision", name, [repo])
    if not isinstance(error, errors.RepositoryNotFoundError):
        return None
    cached = Path(constants.HF_HUB_CACHE).glob(f"{kind}s--*--*")
    names = {*known, *(path.name.partition("--")[2].replace("--", "/") for path in cached)}
    return unknown(f"{kind}, or a private one (`hf auth login`):", repo, names - {repo})
