"""Files and data sets as tables: named columns, and rows that can be read again."""

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...files import readable
from ..refusals import refused
from .dialects import find, is_header, records, trimmed
from .kinds import FEW, Table
from .rows import OTHER_ENCODING, Line, NotDecoded, Quarantine, Row, binary, lines, suffix

DELIMITED = (".csv", ".tsv", ".tab")
PARQUET = (".parquet", ".pq")
JSON = (".jsonl", ".ndjson", ".json")
KINDS = (*DELIMITED, *JSON, *PARQUET)
PLAIN = (".txt", ".trec", ".qrels", ".qrel", ".run")  # delimited text by other names
SOME = 1000  # rows of a table from which its columns are known
LONG = 400  # characters that the first rows keep of a text
AT_ONCE = 1000  # rows of a Parquet file or a data set
_VALUE = re.compile(r"[^,\s]")  # where an object begins, behind another
_NEXT = re.compile(r"\n\s*(?=\{)")  # a line that begins an object


def table(path: Path, encoding: str | None, numbered: bool | None = None, file: str = "") -> Table:
    """A delimited, JSON or Parquet file; ``file`` is what reports call it.

    ``numbered``: the first row of delimited text is no header, its columns are "0", "1", …; None:
    it is one where it reads like names.
    """
    kind, file = suffix(path), file or path.name
    if columns := _by_column(one_object(path)):
        return listed(file, columns)
    if kind in PARQUET:
        return _parquet(path, file)
    if kind in JSON:
        return _made(file, lambda bad: _json(path, bad, file), encoding)
    return _delimited(path, encoding, numbered, file)


def listed(file: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Rows that are in memory already, as a table."""

    def read(bad: Quarantine) -> Iterator[Row]:
        bad.rows[file] += len(rows)
        yield from (Row(file, line, values, values) for line, values in enumerate(rows, 1))

    return _made(file, read)


def _made(
    file: str,
    read: Callable[[Quarantine], Iterator[Row]],
    encoding: str | None = None,
    header: list[str] | None = None,
    how: str | None = None,
) -> Table:
    """A table whose columns, if they were not given, are those of its first rows.

    Of their long texts the ends are cut off, which would be kept beside the corpus.
    """
    some = []
    for row in itertools.islice(read(Quarantine(encoding, kept=False)), SOME):
        values = {k: v[:LONG] if isinstance(v, str) else v for k, v in row.values.items()}
        some.append(row._replace(values=values, raw=None))
    if header is None:
        header = list(dict.fromkeys(name for row in some for name in row.values))
    return Table(file, header, read, some, how)


def looked_through(table: Table, encoding: str | None) -> Table:
    """A table in whose first rows those stand too that show what these did not: another column,
    another value in a column of a few."""

    def value(row: Row, name: str) -> Any:
        found = row.values.get(name)
        return found if isinstance(found, str | int | float) else "[…]" if found else ""

    some, names = list(table.some), dict.fromkeys(table.header)
    seen = {name: {"", *(value(row, name) for row in some)} for name in names}
    for row in table.rows(Quarantine(encoding, kept=False)):
        few = ((name, values) for name, values in seen.items() if len(values) <= FEW + 1)
        new = [name for name, values in few if value(row, name) not in values]
        for name in new:
            seen[name].add(value(row, name))
        if new or not row.values.keys() <= names.keys():
            some.append(row)
            names |= dict.fromkeys(row.values)
    return replace(table, header=[*names], some=some)


# Delimited text


def _delimited(path: Path, encoding: str | None, numbered: bool | None, file: str) -> Table:
    dialect = find(path, encoding)
    read_lines = lines(path, Quarantine(encoding, kept=False), file)
    first = list(itertools.islice(records(read_lines, dialect), SOME))
    if not first:
        raise refused("empty file", file=file)
    if (first[0].fault or "").endswith(OTHER_ENCODING):
        raise NotDecoded(path, 1.0)  # the names of the columns
    good = ((record.line, record.fields) for record in first if not record.fault)
    start, fields = next(((line, fields) for line, fields in good if fields), (0, []))
    if numbered is None:
        numbered = not is_header(fields, [record.fields or [] for record in first[1:]])
    header = list[str]()
    for place, name in enumerate(map(str.strip, fields)):  # a name that stands twice is counted
        twice = f"{name}_{header.count(name) + 1}" if name in header else name
        header.append(str(place) if numbered else twice)
    start, width = 0 if numbered else start, len(header)
    wanted = f"where the {'header' if start else 'first row'} has {width}"

    def read(bad: Quarantine) -> Iterator[Row]:
        joined = 0
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
                bad.add(kind, Row(file, line, {}, text), f"{len(fields)} {wanted}")
            else:
                yield Row(file, line, dict(zip(header, fields, strict=True)), text)
        if joined:
            bad.said[f"{file}: {joined:,} rows go over several lines, in quotes"] = None

    odd = dialect.quotes != "doubled" or dialect.skipped
    return _made(file, read, encoding, header, dialect.said if odd else "")


# JSON


def one_object(path: Path) -> dict[str, Any]:
    """What a file holds that is one JSON object, and not one a line; nothing for another."""
    if suffix(path) != ".json":
        return {}
    with contextlib.suppress(OSError, EOFError, ValueError, RecursionError):
        with binary(path) as stream:
            first, second = stream.readline(), stream.readline()
            if first.lstrip().startswith(b"{") and not second.lstrip().startswith(b"{"):
                return json.loads(first + second + stream.read())
    return {}


def _by_column(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a JSON object that holds columns, as lists or (as pandas writes them) by row."""
    sizes = {len(c) if isinstance(c, list | dict) else 0 for c in values.values()}
    if len(values) < 2 or len(sizes) > 1 or max(sizes) < 3:
        return []
    columns = [list(c.values()) if isinstance(c, dict) else c for c in values.values()]
    return [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]


def _json(path: Path, bad: Quarantine, file: str) -> Iterator[Row]:
    """The objects of a file: one a line, in an array, or one behind the other over lines.

    Where the first of them is a list, all are, and their columns are "0", "1", …
    """
    stream = (text.strip() for _, text, _ in lines(path, Quarantine(bad.encoding, False), file))
    first, second = itertools.islice(itertools.chain(filter(None, stream), ("", "")), 2)
    array = first[:1] == "[" and not (first.endswith("]") and second[:1] == "[")
    spread = first[:1] == "{" and not first.endswith("}") and not second.startswith("{")
    bare = (first + second)[array:].lstrip().startswith("[")
    decode, lines_of = json.JSONDecoder().raw_decode, _whole if array or spread else lines
    for line, text, fault in lines_of(path, bad, file):
        end = seen = 0
        if array:
            end = text.index("[") + 1
        while (found := _VALUE.search(text, end)) and not (array and found[0] == "]"):
            place = found.start()
            line, seen = line + text.count("\n", seen, place), place
            bad.rows[file] += 1
            try:
                if fault:
                    raise UnicodeError
                values, end = decode(text, place)
            except (ValueError, RecursionError) as error:
                row = Row(file, line, {}, text[place : place + 4000])
                bad.add(fault or "malformed JSON", row, "" if fault else str(error))
                # on at the next line that begins an object
                found = _NEXT.search(text, place)
                end = found.end() if found else len(text)
                continue
            if bare and isinstance(values, list):
                values = {str(n): value for n, value in enumerate(values)}
            values, shown = _object(values), text[place:end]
            if isinstance(values, dict):
                yield Row(file, line, values, shown)
            else:
                kind = type(values).__name__
                bad.add("JSON that is no object", Row(file, line, {}, shown), kind)


def _whole(path: Path, bad: Quarantine, file: str) -> Iterator[Line]:
    """All lines of a file as one, without those that are damaged."""
    parts = []
    for line, text, fault in lines(path, bad, file):
        if fault:
            bad.rows[file] += 1
            bad.add(fault, Row(file, line, {}, text))
        parts.append("" if fault else text.rstrip("\r\n"))
    yield 1, "\n".join(parts), None


def _object(values: Any) -> Any:
    """An object with its one part unfolded: ``{"set": {…}}``, Argilla's ``fields``, Label Studio's
    ``data``, whose annotations are the choices that people made."""
    for name in ("set", "data", "fields") if isinstance(values, dict) else ():
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


def _parquet(path: Path, file: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def batches(names: list[str]) -> Iterator[Any]:
        with readable(path, OSError, pa.ArrowException), pq.ParquetFile(path) as stored:
            yield from stored.iter_batches(batch_size=AT_ONCE, columns=names)

    with readable(path, OSError, pa.ArrowException):
        schema = pq.read_schema(path)
    return _arrow(file, schema, batches)


def dataset_table(data: Any, file: str) -> Table:
    """A ``datasets.Dataset`` as it is stored: a picture is its bytes or the name of its file."""
    from datasets import ClassLabel

    kinds = (data.features or {}).items()
    named = {name: kind.int2str for name, kind in kinds if isinstance(kind, ClassLabel)}
    rows = data.with_format("arrow")
    batches = lambda names: rows.select_columns(names).iter(batch_size=AT_ONCE)  # noqa: E731
    return _arrow(file, data.features.arrow_schema, batches, named)


def _arrow(
    file: str,
    schema: Any,
    batches: Callable[[list[str]], Iterable[Any]],
    named: Mapping[str, Callable[[int], str]] | None = None,
) -> Table:
    """The rows of Arrow's batches, without the columns of vectors; ``named`` labels as words."""
    import pyarrow as pa

    def vector(kind: Any) -> bool:
        listed = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
        return listed and pa.types.is_floating(kind.value_type)

    kept = [field.name for field in schema if not vector(field.type)]

    def read(bad: Quarantine) -> Iterator[Row]:
        for batch in batches(kept):
            for values in batch.to_pylist():
                bad.rows[file] += 1
                for name, word in (named or {}).items():
                    if isinstance(value := values[name], int) and value >= 0:
                        values[name] = word(value)
                yield Row(file, bad.rows[file], values, values)

    return _made(file, read, header=list(schema.names))
