"""Data of your own: a folder, a file of pairs, a data set; read once, checked, made a Domain.

What cannot be used is put aside and counted: see ``LoadReport``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from ... import session
from ...errors import EmbkitError
from ..domain import Domain, normalise, right_documents
from ..splits import divide, smoke
from . import beir, hub, image_folder, parsing
from .columns import Columns, add_pairs
from .draft import Material
from .report import quarantine_file, reported, shown

PARQUET = (".parquet", ".pq")
KINDS = (*parsing.TEXT_SUFFIXES, *PARQUET)
LONG = 100_000  # characters; a longer text is kept and noted


def load(
    source: Any,
    profile: str,
    *,
    columns: Columns | None = None,
    encoding: str | None = None,
    subset: str | None = None,
) -> Domain:
    """Reads data of your own; the arguments are those of ``load_domain``.

    Raises:
        EmbkitError: nothing usable was found, or it is not clear which column is which.
    """
    name = _name(source)
    path = local(source) if isinstance(source, str | os.PathLike) else None
    where = shown(path) if path else "a datasets object"
    with _quarantine(source, name) as bad:
        material = Material(bad, columns, encoding)
        # a data set: an object, the folder it was saved to, an id on the hub
        data = None
        if not isinstance(source, str | os.PathLike):
            data = hub.mapping(source)
        elif path is None and is_hub_id(source):
            data = hub.from_hub(str(source), subset)
            part = next(iter(data.values())).info.config_name or "default"
            where = f"the hub: {source}" + f", {part}" * (part != "default")
        elif path is None:
            raise EmbkitError(
                f"no file or folder {str(source)!r}",
                expected="a path from here or from the project's folder",
                hint=f"check the path; the working folder is {Path.cwd().name!r}",
            )
        elif any((path / file).is_file() for file in ("dataset_dict.json", "state.json")):
            data = hub.saved(path)
        # pictures with captions, or texts
        if image_folder.holds_pictures(path, data):
            name = path.name if path else name
            return image_folder.load(path, data, name, profile, where, material)
        if path is None or data is not None:
            layout = hub.read_data(data or {}, material)
        else:
            layout = _read_path(path, material)
        return _domain(material, name, profile, layout, where)


@contextlib.contextmanager
def _quarantine(source: Any, name: str) -> Iterator[parsing.Quarantine]:
    """What bad rows are put into; if the source is refused, its error says where they lie."""
    bad, refused = parsing.Quarantine(), quarantine_file(f"{name}-refused")
    try:
        yield bad
        refused.unlink(missing_ok=True)  # of an earlier try
    except EmbkitError as error:
        if not bad.causes:
            raise
        bad.save(refused)
        raise EmbkitError(
            f"{error.given} (put aside: {parsing.causes_of(bad.causes)})",
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
    bare = not any(mark in source for mark in "/\\~") and parsing.suffix(Path(source)) not in KINDS
    return bare and (not source.strip() or local(source) is None)


def is_hub_id(source: str | os.PathLike[str]) -> bool:
    """Whether a source looks like ``owner/name`` and not like a path."""
    plain = isinstance(source, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source)
    if not plain or parsing.suffix(Path(source)) in KINDS:
        return False
    return local(str(source).split("/")[0]) is None  # in a folder that is there: a path, mistyped


def _name(source: Any) -> str:
    """A name that can be a folder's: letters, digits, dot, dash and underscore."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        path = path.resolve() if path.name in ("", ".", "..") else path
        name = path.name
        if path.is_file() or parsing.suffix(path) in KINDS:
            name = name.removesuffix(".gz").removesuffix(parsing.suffix(path))
    else:
        one = next(iter(source.values()), None) if isinstance(source, Mapping) else source
        name = getattr(getattr(one, "info", None), "dataset_name", None) or "dataset"
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "folder"


def _read_path(path: Path, material: Material) -> str:
    """Adds what a folder in BEIR's layout or a file of pairs holds; as what it was read."""
    if path.is_file():
        return _read_file(path, material)
    if any(beir.find(path)):
        if material.given is not None:
            raise EmbkitError(
                "columns= with a folder in BEIR's layout, whose columns are known",
                expected="columns= for pairs and triplets only",
                hint=f"load_domain({path.name!r})",
            )
        beir.read(path, material)
        return "a folder in BEIR's layout"
    inside = sorted(p.name for p in path.iterdir())
    usable = [name for name in inside if parsing.suffix(Path(name)) in KINDS]
    raise EmbkitError(
        f"the folder {path.name!r} is no domain: it holds {', '.join(inside[:8]) or 'nothing'}",
        expected="corpus.jsonl, queries.jsonl and qrels/*.tsv (BEIR's layout), or what "
        "datasets' save_to_disk wrote",
        hint=f"for pairs give the file itself: load_domain({path.name + '/' + usable[0]!r})"
        if usable
        else "write your pairs as a CSV with the columns anchor and positive, and give that file",
    )


def _read_file(path: Path, material: Material) -> str:
    kind, bad, encoding = parsing.suffix(path), material.bad, material.encoding
    if kind not in KINDS or (kind in PARQUET and path.suffix == ".gz"):
        raise EmbkitError(
            f"{path.name!r} has the unknown suffix {kind or path.suffix!r}",
            expected=f"one of {', '.join(KINDS)} (text also with .gz)",
            hint="save it as CSV or JSON Lines with the columns anchor and positive",
        )
    rows: Iterable[parsing.Row] | None = None
    if kind in PARQUET:
        header = parsing.parquet_columns(path)
    elif kind in (".csv", ".tsv", ".tab"):
        table = parsing.table_rows(path, bad, encoding, None if kind == ".csv" else "\t")
        header, table = _header(table, path.name, material)
        rows = parsing.named_rows(table, header, path.name, bad)
    else:
        stream = parsing.json_rows(path, bad, encoding)
        first = list(itertools.islice(stream, 20))
        header = list(dict.fromkeys(name for _, values, _ in first for name in values))
        rows = itertools.chain(first, stream)
        if not first:
            header, material.given = ["anchor", "positive"], None
    add_pairs(
        material,
        path.name,
        header,
        lambda names: parsing.parquet_rows(path, bad, names) if rows is None else rows,
    )
    return f"pairs from {kind[1:].upper()}"


def _header(
    table: Iterator[parsing.Record], file: str, material: Material
) -> tuple[list[str], Iterator[parsing.Record]]:
    """The names of the columns: the first row, or numbers where columns= gives numbers."""
    if (first := next(table, None)) is None:
        raise EmbkitError(
            f"{file!r} is empty: it holds no row",
            expected="a header and rows",
            hint="check that it was written whole",
        )
    named = material.given.values() if isinstance(material.given, Mapping) else ()
    numbers = itertools.chain(*(x if isinstance(x, list | tuple) else [x] for x in named))
    if named and all(isinstance(number, int) for number in numbers):
        return [str(n) for n in range(len(first[1]))], itertools.chain([first], table)
    material.bad.rows[file] -= 1
    names: list[str] = []
    for name in map(str.strip, first[1]):
        names.append(name if name not in names else f"{name}_{names.count(name) + 1}")
    return names, table


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
    qrels, said = divide(material.qrels, material.corpus, material.queries)
    wrong, corpus = material.wrong(), material.corpus
    material.notes += _oddities(material)
    if profile == "smoke":
        qrels, corpus = smoke(qrels, corpus, wrong)
        there, asked = len(material.corpus), sum(map(len, material.qrels.values()))
        kept = sum(map(len, qrels.values()))
        if len(corpus) < there or kept < asked:
            material.notes.append(
                f"profile smoke: cut to {len(corpus):,} of {there:,} documents and "
                f"{kept:,} of {asked:,} queries"
            )
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
        groups={d: group for d, group in material.groups.items() if d in corpus},
        parents={d: p for d, p in material.parents.items() if d != p and {d, p} <= corpus.keys()},
        negatives={q: documents for q, documents in negatives.items() if documents},
        about=about | material.about,
    )
    file = f"{name}-{domain.hash}"
    return reported(domain, material, file, source=where, layout=layout, splits=tuple(said))


def _oddities(material: Material) -> list[str]:
    """What is kept and worth a look."""
    corpus, queries = material.corpus, material.queries
    asked = median(len(queries[q]) for qrels in material.qrels.values() for q in qrels)
    judged = itertools.chain(*(qrels.values() for qrels in material.qrels.values()))
    told = median(len(corpus[d]) for documents in judged for d in right_documents(documents))
    long = sum(len(text) > LONG for text in corpus.values())
    same = sum(q in corpus and normalise(corpus[q]) == normalise(queries[q]) for q in queries)
    found = {
        f"{material.merged:,} rows repeat an earlier one: counted once": material.merged,
        f"{material.alike:,} texts differ from another in case or spaces alone: taken as one": (
            material.alike
        ),
        f"right documents are shorter than queries ({told:.0f} against {asked:.0f} characters): "
        "are the columns swapped?": told < 0.6 * asked,
        f"{long:,} documents are longer than {LONG:,} characters: a model reads only the first "
        "few hundred words": long,
        f"{same:,} queries are documents too, under the same id: BEIR's own script leaves a "
        "query's own document out of its results, embkit does not": same,
    }
    return [note for note, there in found.items() if there]
