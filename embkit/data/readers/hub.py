"""A ``datasets`` object, the folder it was saved to, or its id on the hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ...assets.hub import refusal
from ...errors import EmbkitError
from ..domain import normalise
from . import beir, parsing
from .columns import add_pairs
from .draft import WHOLE, Material


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
        if any(_judges(part) for part in data.values()) and not {"corpus", "queries"} <= set(data):
            for kind in ("corpus", "queries"):  # as MTEB lays its data sets out
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


def _judges(data: Any) -> bool:
    return {"query-id", "corpus-id"} <= set(data.column_names)


def read_data(data: dict[str, Any], material: Material) -> str:
    """Adds a data set's corpus, if it has one, and its judgements or its pairs; which it was."""
    rows = partial(parsing.dataset_rows, bad=material.bad)
    corpus, queries = data.pop("corpus", None), None
    if corpus is not None:
        names = ["_id", "id", "title", "text", "metadata"]
        beir.add_texts(material, "corpus", rows(corpus, names, "corpus"), "corpus")
    judged = any(_judges(part) for part in data.values())
    if judged and ((queries := data.pop("queries", None)) is None or corpus is None):
        raise EmbkitError(
            "a data set with judgements (query-id, corpus-id) and no corpus or no queries",
            expected="the parts corpus and queries beside the judgements",
            hint="DatasetDict({'corpus': ..., 'queries': ..., 'test': judgements})",
        )
    if queries is not None:
        beir.add_texts(
            material, "queries", rows(queries, ["_id", "id", "text"], "queries"), "queries"
        )
    known = {} if judged else {normalise(text): d for d, text in material.corpus.items()}
    for part, table in data.items():
        if judged:
            named = rows(table, ["query-id", "corpus-id", "score"], part)
            beir.add_judgements(material, beir.split_name(part), named, part)
        else:
            label = part or "rows"
            split = WHOLE if set(data) == {"train"} else beir.split_name(part)
            read = partial(rows, table, file=label)
            add_pairs(material, label, table.column_names, read, split, known)
    return "a data set with judgements" if judged else "a data set of pairs"
