"""Files and data sets as tables: named columns, and rows that can be read again."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import EmbkitError
from .dialects import Dialect, find, records, trimmed
from .rows import (
    OTHER_ENCODING,
    SOME,
    NotDecoded,
    Quarantine,
    Row,
    Table,
    is_numbered,
    lines,
    readable,
    suffix,
)

DELIMITED = (".csv", ".tsv", ".tab")
PARQUET = (".parquet", ".pq")
JSON = (".jsonl", ".ndjson", ".json")
KINDS = (*DELIMITED, *JSON, *PARQUET)
PLAIN = (".txt", ".trec", ".qrels", ".qrel", ".run")  # delimited text by other names
LONG = 400  # characters that the first rows keep of a text
AT_ONCE = 1000  # rows of a Parquet file or a data set
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?$")
_ID = re.compile(r"([^\s\d]+)\d\S*$")
_NAME = (60, 6)  # characters and words that a column's name has at most


def table(path: Path, encoding: str | None, numbered: bool | None = None, file: str = "") -> Table:
    """A delimited, JSON or Parquet file; ``file`` is what reports call it.

    ``numbered``: the first row of delimited text is no header, its columns are "0", "1", …; None:
    it is one where it reads like names.
    """
    kind, file = suffix(path), file or path.name
    if columns := _by_column(one_object(path)):
        return listed(file, columns)
    if kind in PARQUET:
        return _parquet(path, encoding, file)
    if kind in JSON:
        return _with_some(file, lambda bad: _json(path, bad, file), encoding)
    return _delimited(path, encoding, numbered, file)


def listed(file: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Rows that are in memory already, as a table."""

    def read(bad: Quarantine) -> Iterator[Row]:
        bad.rows[file] += len(rows)
        yield from (Row(file, line, values, values) for line, values in enumerate(rows, 1))

    return _with_some(file, read)


def _with_some(
    file: str, read: Callable[[Quarantine], Iterator[Row]], encoding: str | None = None
) -> Table:
    """A table whose columns are those of its first rows."""
    with contextlib.closing(Quarantine(encoding)) as unused:
        some = [_cut(row) for row in itertools.islice(read(unused), SOME)]
    header = list(dict.fromkeys(name for row in some for name in row.values))
    return Table(file, header, read, some)


def _cut(row: Row) -> Row:
    """A row without the ends of its long texts, which would be kept beside the corpus."""
    values = {k: v[:LONG] if isinstance(v, str) else v for k, v in row.values.items()}
    return row._replace(values=values, raw=None)


# Delimited text


def _delimited(path: Path, encoding: str | None, numbered: bool | None, file: str) -> Table:
    dialect = find(path, encoding)
    with contextlib.closing(Quarantine(encoding)) as unused:
        first = list(itertools.islice(records(lines(path, unused, file), dialect), SOME))
    named = next((record for record in first if record.fields and not record.fault), None)
    if named is None and not first:
        raise EmbkitError(
            f"{file!r} is empty: it holds no row",
            expected="a header and rows",
            hint="check that it was written whole",
        )
    if first[0].fault and first[0].fault.endswith(OTHER_ENCODING):
        raise NotDecoded(path, 1.0)  # the names of the columns
    fields = named.fields if named else None
    if numbered is None:
        numbered = not is_header(fields or [], [r.fields or [] for r in first[1:]])
    header = [str(n) for n in range(len(fields or []))] if numbered else _header(fields or [])
    start = named.line if named and not numbered else 0

    read = _with_some(file, lambda bad: _named(path, dialect, header, start, bad, file), encoding)
    odd = dialect.quotes != "doubled" or dialect.skipped
    return read._replace(header=header, how=dialect.said if odd else "")


def one_object(path: Path) -> dict[str, Any]:
    """What a file holds that is one JSON object, and not one a line; nothing for another."""
    if suffix(path) != ".json":
        return {}
    try:
        with path.open("rb") as stream:
            first = stream.readline()
            if not first.lstrip().startswith(b"{"):
                return {}
            with contextlib.suppress(ValueError):
                values = json.loads(first)
                return values if not stream.readline().strip() and isinstance(values, dict) else {}
            values = json.loads(first + stream.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _by_column(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a JSON object that holds columns, as lists or (as pandas writes them) by row."""
    columns = {
        name: list(column.values()) if isinstance(column, dict) else column
        for name, column in values.items()
    }
    sizes = {len(column) if isinstance(column, list) else 0 for column in columns.values()}
    if len(columns) < 2 or len(sizes) != 1 or max(sizes) < 3:
        return []
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def is_header(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether the first row of a table reads like names of columns, and not like its other rows."""
    cells = [cell.strip() for cell in first]
    if is_numbered(cells):
        return len(cells) > 1  # as pandas names columns without names
    characters, words = _NAME
    for place, cell in enumerate(cells):
        if NUMBER.match(cell) or len(cell) > characters or len(cell.split()) > words:
            return False
        below = [row[place].strip() for row in others[:100] if len(row) > place]
        if cell and len(below) > 3 and below.count(cell) > len(below) / 10:
            return False  # a value that comes back
        if (kind := _ID.match(cell)) and sum(
            x.startswith(kind[1]) and _ID.match(x) is not None for x in below
        ) > len(below) / 2:
            return False  # an id above ids
    return True


def _header(fields: Iterable[str]) -> list[str]:
    """Names of columns, each of its own: a name that stands twice is counted."""
    header: list[str] = []
    for name in map(str.strip, fields):
        header.append(name if name not in header else f"{name}_{header.count(name) + 1}")
    return header


def _named(
    path: Path, dialect: Dialect, header: Sequence[str], start: int, bad: Quarantine, file: str
) -> Iterator[Row]:
    """Rows as column -> value; one of another length than the header is put aside."""
    width, joined = len(header), 0
    for line, found, text, fault, spanned, _ in records(lines(path, bad, file), dialect):
        if line == start:
            continue
        bad.rows[file] += 1
        joined += spanned > 1
        fields = trimmed(found or [], width)
        if fault or found is None:
            bad.add(fault or "quote that is never closed", Row(file, line, {}, text))
        elif len(fields) != width:
            kind = "too few columns" if len(fields) < width else "too many columns"
            detail = f"{len(fields)} where the {'header' if start else 'first row'} has {width}"
            bad.add(kind, Row(file, line, {}, text), detail)
        else:
            yield Row(file, line, dict(zip(header, fields, strict=True)), text)
    if joined:
        bad.said[f"{file}: {joined:,} rows go over several lines, in quotes"] = None


# JSON


def _json(path: Path, bad: Quarantine, file: str) -> Iterator[Row]:
    """The objects of a file: one a line, in an array, or one behind the other over lines."""
    with contextlib.closing(Quarantine(bad.encoding)) as unused:
        stream = (text for _, text, _ in lines(path, unused, file) if text.strip())
        first = next(stream, "").strip()
        second = next(stream, "").strip()
    if first[:1] == "[" and not (first.endswith("]") and second[:1] == "["):
        return _json_whole(path, bad, file)
    if first[:1] == "{" and not first.endswith("}") and not second.startswith("{"):
        return _json_whole(path, bad, file)
    return _json_lines(path, bad, file)


def _json_lines(path: Path, bad: Quarantine, file: str) -> Iterator[Row]:
    for line, text, fault in lines(path, bad, file):
        if not text.strip():
            continue
        bad.rows[file] += 1
        detail, values = "", None
        if not fault:
            try:
                values = _object(json.loads(text))
                fault, detail = "JSON that is no object", type(values).__name__
            except (ValueError, RecursionError) as error:
                fault, detail = "malformed JSON", str(error)
        if isinstance(values, dict):
            yield Row(file, line, values, text)
        else:
            bad.add(str(fault), Row(file, line, {}, text), detail)


def _json_whole(path: Path, bad: Quarantine, file: str) -> Iterator[Row]:
    """The objects of a file that is one array, or that go over several lines each."""
    decode = json.JSONDecoder().raw_decode
    parts, starts = [], [0]  # the lines, and where they begin
    for line, part, fault in lines(path, bad, file):
        if fault:
            bad.rows[file] += 1
            bad.add(fault, Row(file, line, {}, part))
            part = "\n"
        parts.append(part)
        starts.append(starts[-1] + len(part))
    text = "".join(parts)
    place, number = len(text) - len(text.lstrip("[ \t\r\n")), 1
    while place < len(text) and text[place] != "]":
        while number < len(starts) and starts[number] <= place:
            number += 1
        bad.rows[file] += 1
        try:
            values, end = decode(text, place)
        except (ValueError, RecursionError) as error:
            bad.add("malformed JSON", Row(file, number, {}, text[place : place + 4000]), str(error))
            # on at the next line that begins an object
            found = re.compile(r"\n\s*(?=\{)").search(text, place)
            if not found:
                return
            place = found.end()
            continue
        values = _object(values)
        if isinstance(values, dict):
            yield Row(file, number, values, text[place:end])
        else:
            shown = Row(file, number, {}, text[place:end])
            bad.add("JSON that is no object", shown, type(values).__name__)
        while end < len(text) and text[end] in ", \t\r\n":
            end += 1
        place = end


def _object(values: Any) -> Any:
    """An object with its one part unfolded: ``{"set": {…}}``, Argilla's ``fields``, Label Studio's
    ``data``, whose annotations are the choices that people made."""
    if isinstance(values, dict):
        for name in ("set", "data", "fields"):
            if isinstance(inner := values.get(name), dict):
                told = {key: value for key, value in values.items() if key != name}
                if isinstance(said := told.get("annotations"), list):
                    told["annotations"] = [choice for one in said for choice in _choices(one)]
                return {**told, **inner}
    return values


def _choices(annotation: Any) -> list[Any]:
    results = annotation.get("result") if isinstance(annotation, dict) else None
    values = [one.get("value") for one in results or () if isinstance(one, dict)]
    return [c for value in values if isinstance(value, dict) for c in value.get("choices") or ()]


# Parquet and data sets


def _parquet(path: Path, encoding: str | None, file: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def read(bad: Quarantine) -> Iterator[Row]:
        with readable(path, OSError, pa.ArrowException), pq.ParquetFile(path) as stored:
            batches = stored.iter_batches(batch_size=AT_ONCE, columns=_readable_columns(schema))
            yield from _arrow_rows(batches, file, bad)

    with readable(path, OSError, pa.ArrowException):
        schema = pq.read_schema(path)
    return _with_some(file, read, encoding)._replace(header=list(schema.names))


def _readable_columns(schema: Any) -> list[str]:
    """The columns that may be texts, ids or labels: not those of vectors."""
    import pyarrow as pa

    def vector(kind: Any) -> bool:
        listed = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
        return listed and pa.types.is_floating(kind.value_type)

    return [field.name for field in schema if not vector(field.type)]


def dataset_table(data: Any, file: str) -> Table:
    """A ``datasets.Dataset`` as it is stored: a picture is its bytes or the name of its file."""
    from datasets import ClassLabel

    kinds = (data.features or {}).items()
    named = {name: kind for name, kind in kinds if isinstance(kind, ClassLabel)}
    kept = _readable_columns(data.features.arrow_schema)

    def read(bad: Quarantine) -> Iterator[Row]:
        batches = data.with_format("arrow").select_columns(kept).iter(batch_size=AT_ONCE)
        for row in _arrow_rows(batches, file, bad):
            for name, kind in named.items():
                if isinstance(value := row.values[name], int) and value >= 0:
                    row.values[name] = kind.int2str(value)
            yield row

    return _with_some(file, read)._replace(header=list(data.column_names))


def _arrow_rows(batches: Iterable[Any], file: str, bad: Quarantine) -> Iterator[Row]:
    for batch in batches:
        for values in batch.to_pylist():
            bad.rows[file] += 1
            yield Row(file, bad.rows[file], values, values)
