"""Data of your own: a folder, a file of pairs, a data set; read once, checked, made a Domain.

What cannot be used is put aside and counted: see ``LoadReport``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from ... import session
from ...assets.hub import is_id, refusal
from ...errors import EmbkitError
from ...session import shown
from ..domain import Domain, normalise, right_documents
from ..splits import divide, smoke
from . import beir, image_folder
from .columns import Columns, add_pairs
from .draft import WHOLE, Material, quarantine_file, reported
from .parsing import KINDS, PARQUET, Quarantine, causes_of, dataset_table, suffix, table

LONG = 100_000  # characters; a longer text is kept and noted


def load(
    source: Any,
    profile: str,
    *,
    columns: Columns | None = None,
    encoding: str | None = None,
    subset: str | None = None,
) -> Domain:
    """Reads data of your own; arguments and errors are those of ``load_domain``."""
    name, named = _name(source), isinstance(source, str | os.PathLike)
    path = local(source) if named else None
    where = shown(path) if path else "a datasets object"
    with _quarantine(source, name, encoding) as bad:
        material = Material(bad, columns)
        # a data set: an object, the folder it was saved to, an id on the hub
        data = None
        if not named:
            data = _mapping(source)
        elif path is None and is_hub_id(source):
            data = _from_hub(str(source), subset)
            part = next(iter(data.values())).info.config_name or "default"
            where = f"the hub: {source}" + f", {part}" * (part != "default")
        elif path is None:
            raise EmbkitError(
                f"no file or folder {str(source)!r}",
                expected="a path from here or from the project's folder",
                hint=f"check the path; the working folder is {Path.cwd().name!r}",
            )
        elif any((path / file).is_file() for file in ("dataset_dict.json", "state.json")):
            data = _saved(path)
        # pictures with captions, or texts
        if image_folder.holds_pictures(path, data):
            name = path.name if path else name
            return image_folder.load(path, data, name, profile, where, material)
        if path is None or data is not None:
            layout = _read_data(data or {}, material)
        else:
            layout = _read_path(path, material)
        return _domain(material, name, profile, layout, where)


@contextlib.contextmanager
def _quarantine(source: Any, name: str, encoding: str | None) -> Iterator[Quarantine]:
    """What bad rows are put into; if the source is refused, its error says where they lie."""
    bad, refused = Quarantine(encoding), quarantine_file(f"{name}-refused")
    try:
        yield bad
        refused.unlink(missing_ok=True)  # of an earlier try
    except EmbkitError as error:
        if not bad.causes:
            raise
        bad.save(refused)
        raise EmbkitError(
            f"{error.given} (put aside: {causes_of(bad.causes)})",
            expected=error.expected,
            hint=f"{error.hint}; {shown(refused)} holds each bad row and its reason",
        ) from error
    except OSError as error:  # a folder that may not be listed, a disk that has gone
        raise EmbkitError(
            f"{str(source)!r} cannot be read: {error.strerror or error}",
            expected="a file or folder that you may read",
            hint="check its permissions",
        ) from error
    finally:
        bad.close()


def local(source: str | os.PathLike[str]) -> Path | None:
    """The path that a source names, from here or from the project's folder; None if none does."""
    # a name may be too long for a file, a user may not exist
    with contextlib.suppress(OSError, RuntimeError):
        path = Path(source).expanduser()
        for found in (path, session.paths().root / path):
            if found.exists():
                return found.resolve()
    return None


def is_bare_name(source: str) -> bool:
    """Whether a text is neither a path nor a hub id: a domain's name, and a wrong one."""
    bare = not any(mark in source for mark in "/\\~") and suffix(Path(source)) not in KINDS
    return bare and (not source.strip() or local(source) is None)


def is_hub_id(source: str | os.PathLike[str]) -> bool:
    """Whether a source looks like ``owner/name`` and not like a path."""
    plain = isinstance(source, str) and is_id(source) and "@" not in source
    if not plain or suffix(Path(source)) in KINDS:
        return False
    return local(str(source).split("/")[0]) is None  # in a folder that is there: a path, mistyped


def _name(source: Any) -> str:
    """A name that can be a folder's: letters, digits, dot, dash and underscore."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        path = path.resolve() if path.name in ("", ".", "..") else path
        name = path.name
        if path.is_file() or suffix(path) in KINDS:
            name = name.removesuffix(".gz").removesuffix(suffix(path))
    else:
        one = next(iter(source.values()), None) if isinstance(source, Mapping) else source
        name = getattr(getattr(one, "info", None), "dataset_name", None) or "dataset"
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "folder"


def _read_path(path: Path, material: Material) -> str:
    """Adds what a folder in BEIR's layout or a file of pairs holds; as what it was read."""
    given = material.given
    if path.is_file():
        kind = suffix(path)
        if kind not in KINDS or (kind in PARQUET and path.suffix == ".gz"):
            raise EmbkitError(
                f"{path.name!r} has the unknown suffix {kind or path.suffix!r}",
                expected=f"one of {', '.join(KINDS)} (text also with .gz)",
                hint="save it as CSV or JSON Lines with the columns anchor and positive",
            )
        named = given.values() if isinstance(given, Mapping) else ()
        said = [name for x in named for name in (x if isinstance(x, list | tuple) else [x])]
        numbered = bool(named) and all(isinstance(name, int) for name in said)
        add_pairs(material, table(path, material.bad, numbered))
        return f"pairs from {kind[1:].upper()}"
    if any(beir.find(path)):
        if given is not None:
            raise EmbkitError(
                "columns= with a folder in BEIR's layout, whose columns are known",
                expected="columns= for pairs and triplets only",
                hint=f"load_domain({path.name!r})",
            )
        beir.read(path, material)
        return "a folder in BEIR's layout"
    inside = sorted(p.name for p in path.iterdir())
    usable = [name for name in inside if suffix(Path(name)) in KINDS]
    raise EmbkitError(
        f"the folder {path.name!r} is no domain: it holds {', '.join(inside[:8]) or 'nothing'}",
        expected="corpus.jsonl, queries.jsonl and qrels/*.tsv (BEIR's layout), or what "
        "datasets' save_to_disk wrote",
        hint=f"for pairs give the file itself: load_domain({path.name + '/' + usable[0]!r})"
        if usable
        else "write your pairs as a CSV with the columns anchor and positive, and give that file",
    )


def _mapping(data: Any) -> dict[str, Any]:
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


def _saved(path: Path) -> dict[str, Any]:
    from datasets import load_from_disk

    try:
        return _mapping(load_from_disk(str(path)))
    except Exception as error:  # the library has many for a damaged folder
        raise EmbkitError(
            f"{path.name!r} cannot be loaded as a data set: {str(error).splitlines()[0]}",
            expected="a folder that datasets.load_from_disk can load",
            hint="save it again with data.save_to_disk(folder)",
        ) from error


def _from_hub(name: str, subset: str | None) -> dict[str, Any]:
    import datasets
    from huggingface_hub import HfApi, constants

    closed, refused, offline = False, None, datasets.config.HF_HUB_OFFLINE
    try:
        closed = bool(HfApi().dataset_info(name, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT).gated)
    except Exception as error:  # the cache, at once: datasets itself would ask again for minutes
        refused, datasets.config.HF_HUB_OFFLINE = error, True
    try:
        try:  # datasets does not know which one of its cache is the default
            data = _mapping(datasets.load_dataset(name, subset or (refused and "default")))
        except Exception:
            if subset or not refused:
                raise
            data = _mapping(datasets.load_dataset(name, None))
        if any(map(_judges, data.values())) and not {"corpus", "queries"} <= set(data):
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


def _read_data(data: dict[str, Any], material: Material) -> str:
    """Adds a data set's corpus, if it has one, and its judgements or its pairs; which it was."""
    texts = ["corpus"] if "corpus" in data else []
    if judged := any(map(_judges, data.values())):
        texts = ["corpus", "queries"]
        if not set(texts) <= set(data):
            raise EmbkitError(
                "a data set with judgements (query-id, corpus-id) and no corpus or no queries",
                expected="the parts corpus and queries beside the judgements",
                hint="DatasetDict({'corpus': ..., 'queries': ..., 'test': judgements})",
            )
    for kind in texts:
        table = dataset_table(data[kind], kind, material.bad)
        beir.add_texts(material, kind, table.read(["_id", "id", "title", "text", "metadata"]))
    known = {} if judged else {normalise(text): d for d, text in material.corpus.items()}
    parts = {part: rows for part, rows in data.items() if part not in texts}
    for part, rows in parts.items():
        table = dataset_table(rows, part or "rows", material.bad)
        if judged:
            beir.add_judgements(material, beir.split_name(part), table.read([*beir.JUDGED]))
        else:
            split = WHOLE if set(parts) == {"train"} else beir.split_name(part)
            add_pairs(material, table, split, known)
    return "a data set with judgements" if judged else "a data set of pairs"


def _domain(material: Material, name: str, profile: str, layout: str, where: str) -> Domain:
    """Settled, divided, cut to the profile, checked; the bad rows written down."""
    material.settle()
    if not material.qrels:
        raise EmbkitError(
            f"nothing usable in {where}: {sum(material.bad.rows.values()):,} rows, "
            f"{len(material.corpus):,} documents, no query with a right document",
            expected="at least three queries with a right document each",
            hint="look at the first rows",
        )
    # divided into splits, and cut to the smallest profile
    qrels, said = divide(material.qrels, material.corpus, material.queries, material.groups)
    wrong, corpus = material.wrong(), material.corpus
    material.notes += _oddities(material)
    if profile == "smoke":
        there, asked = len(corpus), sum(map(len, qrels.values()))
        qrels, corpus = smoke(qrels, corpus, wrong)
        if (kept := sum(map(len, qrels.values()))) < asked or len(corpus) < there:
            cut = f"{len(corpus):,} of {there:,} documents and {kept:,} of {asked:,} queries"
            material.notes.append(f"profile smoke: cut to {cut}")
    queries = {q: material.queries[q] for judged in qrels.values() for q in judged}
    tests = [split for split in qrels if split not in ("train", "dev")]
    order = material.tests if set(material.tests) == set(tests) else ["test"]
    tests.sort(key=lambda split: (order.index(split) if split in order else len(order), split))
    negatives = {q: tuple(d for d in wrong[q] if d in corpus) for q in queries if q in wrong}
    about = {
        "title": f"{name}: from a query to its right document",
        "source": f"{name}, {layout}",
        "terms": "Your own data: embkit does not know under which terms it may be used.",
        "limits": "Only what was judged right counts as right.",
    }
    # checked, and reported
    domain = Domain(
        name=name,
        profile=profile,
        corpus=corpus,
        queries=queries,
        qrels=qrels,
        test_splits=tuple(tests),
        held_out=material.held_out if material.held_out in tests else None,
        groups={d: group for d, group in material.groups.items() if d in corpus},
        parents={d: p for d, p in material.parents.items() if d != p and {d, p} <= corpus.keys()},
        negatives={q: documents for q, documents in negatives.items() if documents},
        about=about | material.about,
    )
    file = f"{name}-{domain.hash}"
    return reported(domain, material, file, source=where, layout=layout, splits=tuple(said))


def _oddities(material: Material) -> list[str]:
    """What is kept and worth a look."""
    corpus, queries, alike = material.corpus, material.queries, material.alike
    asked = median(len(queries[q]) for qrels in material.qrels.values() for q in qrels)
    judged = itertools.chain(*(qrels.values() for qrels in material.qrels.values()))
    told = median(len(corpus[d]) for documents in judged for d in right_documents(documents))
    long = sum(len(text) > LONG for text in corpus.values())
    found = {
        f"{material.merged:,} rows repeat an earlier one: counted once": material.merged,
        f"{alike:,} texts differ from another in case or spaces alone: taken as one": alike,
        f"right documents are shorter than queries ({told:.0f} against {asked:.0f} characters): "
        "are the columns swapped?": told < 0.6 * asked,
        f"{long:,} documents are longer than {LONG:,} characters: a model reads only the first "
        "few hundred words": long,
    }
    return [note for note, there in found.items() if there]
