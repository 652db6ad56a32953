"""Out again: a domain as a folder, vectors as Parquet, a run's model as a plain folder."""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Domain
from ..errors import EmbkitError
from ..files import write_atomic

if TYPE_CHECKING:
    from ..evaluation.report import Report
    from ..runs import Run

Folder = str | os.PathLike[str]
ROWS = 10_000  # rows of vectors in memory at a time
OWN = ("id", "text", "vector", "x", "y", "z")  # the columns that to_parquet writes itself


def to_beir(domain: Domain, folder: Folder, *, replace: bool = False) -> Path:
    """Writes a domain in BEIR's layout; ``load_domain(folder)`` gives the same content hash.

    Each split is a file of its own. Groups and parents stand in each document's ``metadata``,
    marked negatives in ``negatives.tsv``, the order of the tests and the terms of use in
    ``domain.json``: BEIR's own tools pass over all of them. ``replace`` overwrites an earlier
    export in this folder.

    Raises:
        EmbkitError: the folder holds something, or cannot be written to.
    """
    for split in domain.qrels:
        if not re.fullmatch(r"\w[\w.-]*", split):
            raise EmbkitError(
                f"the split {split!r} cannot be the name of a file",
                expected="letters, digits, dots, dashes and underscores",
                hint="name the split otherwise: dataclasses.replace(domain, qrels=...)",
            )
    with _fresh(folder, replace, mark="corpus.jsonl") as fresh:
        own = {"group": domain.groups, "parent": domain.parents}
        documents = (
            {"_id": i, "title": "", "text": text}
            | {"metadata": {what: of[i] for what, of in own.items() if i in of}}
            for i, text in domain.corpus.items()
        )
        queries = ({"_id": q, "text": t, "metadata": {}} for q, t in domain.queries.items())
        for name, rows in (("corpus", documents), ("queries", queries)):
            with (fresh / f"{name}.jsonl").open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (fresh / "qrels").mkdir()
        for split, qrels in domain.qrels.items():
            judged = ((q, d, grade) for q, of in qrels.items() for d, grade in of.items())
            _tsv(fresh / "qrels" / f"{split}.tsv", judged)
        marked = ((q, d, 0) for q, documents in domain.negatives.items() for d in documents)
        _tsv(fresh / "negatives.tsv", marked)
        (fresh / "README.md").write_text(_readme(domain), encoding="utf-8")
        names = ("name", "profile", "hash", "test_splits", "held_out")
        facts = {name: getattr(domain, name) for name in names} | {"about": dict(domain.about)}
        (fresh / "domain.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return Path(folder)


def to_datasets(domain: Domain, folder: Folder, *, replace: bool = False) -> Path:
    """Writes a domain as a ``datasets.DatasetDict``, which ``load_domain`` opens, too.

    Each split has the columns ``anchor`` and ``positive``, ready for sentence-transformers'
    trainer; ``corpus`` has ``_id`` and ``text``. Grades and negatives are not kept: ``to_beir``
    keeps them. ``replace`` overwrites an earlier export in this folder.

    Raises:
        EmbkitError: the folder holds something, or cannot be written to.
    """
    import datasets

    parts = {}
    for split in domain.qrels:
        pairs = [(domain.queries[q], domain.corpus[d]) for q, d in domain.right(split)]
        columns = {"anchor": [a for a, _ in pairs], "positive": [p for _, p in pairs]}
        parts[split] = datasets.Dataset.from_dict(columns)
    corpus = {"_id": list(domain.corpus), "text": list(domain.corpus.values())}
    parts["corpus"] = datasets.Dataset.from_dict(corpus)
    with _fresh(folder, replace, mark="dataset_dict.json") as fresh, ExitStack() as after:
        if datasets.is_progress_bar_enabled():
            after.callback(datasets.enable_progress_bars)
        datasets.disable_progress_bars()
        datasets.DatasetDict(parts).save_to_disk(str(fresh))
        (fresh / "README.md").write_text(_readme(domain), encoding="utf-8")
    return Path(folder)


def to_parquet(
    vectors: Any,
    texts: Sequence[str],
    ids: Sequence[str],
    target: Folder,
    coordinates: Any = None,
    *,
    replace: bool = False,
    **columns: Sequence[Any],
) -> Path:
    """Writes embeddings with their texts as Parquet, which pandas and other map tools open.

    The columns are ``id``, ``text``, ``vector`` (a list of float32), ``x`` and ``y`` (and ``z``)
    where coordinates are given, and any more that are named.

    Args:
        vectors: shape (texts, dim); a memory-mapped array is read in blocks.
        texts: one a row, with ``ids``, all different.
        target: a file, or a folder in which ``embeddings.parquet`` is made.
        coordinates: shape (texts, 2) or (texts, 3), of a map.
        columns: more columns, such as ``group=[...]``, one value a row.

    Raises:
        EmbkitError: lengths that differ, an id twice, a file that is there.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # columns, checked
    vectors = _array(vectors, "vectors", len(texts))
    table = {"id": list(ids), "text": list(texts)}
    if coordinates is not None:
        places = _array(coordinates, "coordinates", len(texts), 2, 3).astype(np.float32)
        table |= dict(zip("xyz", places.T, strict=False))
    for name, values in columns.items():
        if name in OWN:
            raise EmbkitError(
                f"a column of your own called {name!r}",
                expected=f"a name other than {', '.join(OWN)}",
                hint=f"{name}_1=[...]",
            )
        table[name] = list(values)
    for name, values in table.items():
        if len(values) != len(texts):
            raise EmbkitError(
                f"{len(values)} values of {name!r} for {len(texts)} texts",
                expected="one value a text",
                hint="give all of them in the order of the texts",
            )
    if len(set(table["id"])) < len(texts):
        raise EmbkitError("an id twice", expected="each id once", hint="ids=list(domain.corpus)")
    # the file, written in blocks of rows
    file = Path(target)
    file = file if file.suffix and not file.is_dir() else file / "embeddings.parquet"
    if file.exists() and not replace:
        raise EmbkitError(
            f"{file.name!r} is there already", expected="a new file", hint="replace=True"
        )
    others, vector = pa.table(table), pa.field("vector", pa.list_(pa.float32()))
    schema = others.schema.insert(2, vector)

    def write(stream: Any) -> None:
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            for start in range(0, len(texts), ROWS):
                block = np.asarray(vectors[start : start + ROWS], np.float32)
                ends = np.arange(len(block) + 1, dtype=np.int32) * block.shape[1]
                lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(block.ravel()))
                writer.write_table(others.slice(start, ROWS).add_column(2, vector, lists))

    return write_atomic(file, write)


def export_model(
    run: Run, folder: Folder, *, replace: bool = False, report: Report | None = None
) -> Path:
    """Copies a finished run's model as a plain sentence-transformers folder: it needs no embkit.

    ``replace`` overwrites a model in this folder. With a ``report``, the model card tells of the
    evaluation, under a heading of its own.

    Raises:
        EmbkitError: the run has no model, the folder holds something, or cannot be written to.
    """
    model = run.path / "model"
    if not (model / "modules.json").is_file():
        raise EmbkitError(
            f"the run {run.path.name!r} has no model folder",
            expected="a finished run with model/modules.json",
            hint="run.delete(), then ek.train(recipe, domain) again",
        )
    with _fresh(folder, replace, mark="modules.json") as fresh:
        shutil.copytree(model, fresh, dirs_exist_ok=True)
        if report is not None:
            card = fresh / "README.md"
            told = card.read_text(encoding="utf-8") if card.is_file() else "# A model\n"
            card.write_text(f"{told.rstrip()}\n\n{_evaluated(run, report)}", encoding="utf-8")
    return Path(folder)


def _evaluated(run: Run, report: Report) -> str:
    """The card's section on the evaluation: on what, how, the table, what it was trained with."""
    record, recipe = run.record, run.recipe
    return f"""## Evaluation on {record["domain"]}

Content hash {record["domain_hash"]}. {report.table().caption} The learning rate and everything
else was chosen on dev.

{report.to_markdown()}

This model: {recipe.label}, from {recipe.model}; recipe {recipe.hash}, seed {recipe.seed};
{record["pairs"]:,} pairs, {run.seconds:,.0f} s, {run.dev_name} nDCG@10 {run.dev_score:.3f};
prompts: {record.get("prompts") or "none"}.
"""


@contextmanager
def _fresh(folder: Folder, replace: bool, mark: str) -> Iterator[Path]:
    """A folder that appears whole or not at all, and never in place of something else.

    With ``replace`` only an earlier export goes: a folder in which the file ``mark`` lies.
    """
    target = Path(folder).expanduser().absolute()
    full = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if full and not (replace and (target / mark).is_file()):
        raise EmbkitError(
            f"{target.name!r} holds something already"
            + (f", and it is no earlier export (no {mark} in it)" if replace else ""),
            expected="a new or an empty folder",
            hint="another folder" if replace else "another folder, or replace=True",
        )
    part = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        yield part
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(part, target)
    except OSError as error:
        raise EmbkitError(
            f"cannot write {target.name!r}: {error.strerror or error}",
            expected="a folder that can be written to, with room on its disk",
            hint="free some space, or choose another folder",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _tsv(path: Path, rows: Iterable[tuple]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("query-id", "corpus-id", "score"))
        writer.writerows(rows)


def _array(values: Any, name: str, rows: int, *widths: int) -> np.ndarray:
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    right = array.ndim == 2 and len(array) == rows and (not widths or array.shape[1] in widths)
    if not right or array.dtype.kind not in "fiu":
        raise EmbkitError(
            f"{name} of shape {array.shape} and type {array.dtype}",
            expected=f"numbers of shape ({rows}, {' or '.join(map(str, widths)) or 'dim'})",
            hint="one row a text, in the texts' order",
        )
    return array


def _readme(domain: Domain) -> str:
    about, which = domain.about, f"{domain.name} ({domain.profile}, content {domain.hash})"
    parts = [f"# {about.get('title', domain.name)}", f"Written by embkit from the domain {which}."]
    parts.append("\n".join(f"- {what}: {n:,}" for what, n in domain.counts().items()))
    told = [k for k in ("source", "terms", "limits") if k in about]
    parts += [f"## {k.capitalize()}\n\n{about[k]}" for k in told]
    return "\n\n".join(parts) + "\n"
