"""Data sets of the datasets library: objects, saved folders, ids on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...assets.hub import refusal
from ...errors import EmbkitError
from . import parts
from .draft import WHOLE
from .parts import CORPUS, JUDGEMENTS, PAIRS, QUERIES, Part
from .tables import dataset_table

TEXTS = (CORPUS, QUERIES)


def mapping(data: Any) -> dict[str, Any]:
    """Split -> Dataset; a Dataset alone has no split."""
    from datasets import Dataset, DatasetDict

    if isinstance(data, DatasetDict):
        return dict(data)
    if isinstance(data, Dataset):
        return {WHOLE: data}
    raise EmbkitError(
        f"load_domain() was given {type(data).__name__}",
        expected="a path, a hub id, a datasets.Dataset or a DatasetDict",
        hint="Dataset.from_list(rows) for a list of dicts, Dataset.from_pandas(table) for pandas",
    )


def saved(path: Path) -> dict[str, Any]:
    from datasets import load_from_disk

    try:
        return mapping(load_from_disk(str(path)))
    except Exception as error:  # the library has many for a damaged folder
        raise EmbkitError(
            f"{path.name!r} cannot be loaded as a data set: {str(error).splitlines()[0]}",
            expected="a folder that datasets.load_from_disk can load",
            hint="save it again with data.save_to_disk(folder)",
        ) from error


def from_hub(name: str, subset: str | None) -> dict[str, Any]:
    import datasets
    from huggingface_hub import HfApi, constants

    closed, refused, offline = False, None, datasets.config.HF_HUB_OFFLINE
    try:
        closed = bool(HfApi().dataset_info(name, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT).gated)
    except Exception as error:  # the cache, at once: datasets itself would ask again for minutes
        refused, datasets.config.HF_HUB_OFFLINE = error, True
    try:
        try:  # datasets does not know which one of its cache is the default
            data = mapping(datasets.load_dataset(name, subset or (refused and "default")))
        except Exception:
            if subset or not refused:
                raise
            data = mapping(datasets.load_dataset(name, None))
        if any(part.role == JUDGEMENTS for part in _parts(data)) and not {*TEXTS} <= set(data):
            for kind in TEXTS:  # as MTEB lays its data sets out
                (data[kind],) = datasets.load_dataset(name, kind).values()
        return data
    except Exception as error:  # offline, no such data set, no such configuration
        if said := refusal("dataset", name, refused, ["icd10cm"], closed):
            raise said from error
        why = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
        if refused:
            why += f" ({(str(refused) or repr(refused)).splitlines()[0]})"
        raise EmbkitError(
            f"no folder {name!r} here, and the hub's data set of that name cannot be had: {why}",
            expected="a folder, or a data set that the hub or its cache on this machine has",
            hint="where there is a network: datasets.load_dataset(...).save_to_disk(folder), then "
            "load_domain(folder); subset='…' picks a configuration",
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


def _parts(data: dict[str, Any]) -> Iterator[Part]:
    for name, rows in data.items():
        read = dataset_table(rows, name or "rows")
        role = name if name in TEXTS else parts.role_of(read)
        role = role if role in (*TEXTS, JUDGEMENTS) else PAIRS
        yield Part(role, parts.split_name(name), read, name)


def parts_of(data: dict[str, Any]) -> list[Part]:
    """The parts of a data set: its corpus, if it has one, and its judgements or its pairs."""
    found = list(_parts(data))
    roles = {part.role for part in found}
    if JUDGEMENTS in roles and not {*TEXTS} <= roles:
        raise EmbkitError(
            "a data set with judgements (query-id, corpus-id) and no corpus or no queries",
            expected="the parts corpus and queries beside the judgements",
            hint="DatasetDict({'corpus': ..., 'queries': ..., 'test': judgements})",
        )
    return found
