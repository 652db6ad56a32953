"""Pictures of your own with their captions, read once, checked, made a Domain.

They are a folder of pictures with a table, or a ``datasets`` data set with an ``Image`` column. The
table is one CSV or TSV file with a column of file names and a column of captions; a picture may
have several rows, a caption several pictures. What cannot be used is put aside with its reason: a
caption without a picture, a picture without a caption, and what ``images.read_picture`` refuses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ... import session
from ...errors import EmbkitError, unknown
from ..domain import Domain, normalise
from ..images import PictureFault, decode, found_in, keep_picture, read_picture
from ..sources.captioned import Captioned, domain_of
from . import hub, parsing
from .folder import SAVED
from .report import LoadReport, shown

TABLES = (".csv", ".tsv")
PICTURE_COLUMNS = ("picture", "image", "file", "file_name", "filename", "path")
CAPTION_COLUMNS = ("caption", "text", "name", "title", "label")
SHARES = {"test": 0.20, "dev": 0.10}
OUTSIDE = "picture outside the folder"
TWICE = "same picture and caption as an earlier row"
Read = tuple[list[Captioned], dict[str, str], tuple[str, ...]]  # rows, role -> column, notes


def holds_pictures(folder: Path) -> bool:
    """Whether a folder is one table of captions and pictures."""
    return folder.is_dir() and len(_tables(folder)) == 1 and any(True for _ in found_in(folder))


def _tables(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in TABLES and f.is_file())


def load(folder: Path, profile: str, encoding: str | None = None) -> Domain:
    """Reads a folder of pictures and captions.

    Raises:
        EmbkitError: no column of file names or captions, or fewer than three usable pictures; it
            says how many rows were put aside, and why.
    """
    return _made(
        folder.name,
        profile,
        lambda bad: _rows(folder, encoding, bad),
        source=shown(folder),
        layout="pictures and captions",
    )


def data_with_pictures(source: Any, path: Path | None) -> dict[str, Any] | None:
    """Split -> Dataset of a data set with an ``Image`` column, or of the folder it was saved to;
    None for anything else."""
    if path is not None and path.is_dir() and any((path / n).is_file() for n in SAVED):
        data = hub.saved(path)
    elif hasattr(source, "column_names"):
        data = hub.mapping(source)
    else:
        return None
    return data if any(_image_columns(part) for part in data.values()) else None


def load_data(
    data: Mapping[str, Any],
    profile: str,
    *,
    folder: Path | None = None,
    columns: Mapping[str, Any] | None = None,
) -> Domain:
    """Reads a data set with a column of pictures and one of captions, or of lists of captions.

    Args:
        data: split -> Dataset. The splits are read together and cut anew, by what hangs together.
        profile: as in ``load_domain``.
        folder: where it was saved to: a picture that is only a path must lie in there.
        columns: ``{"picture": name, "caption": name}``; default: the one ``Image`` column, and the
            first of ``CAPTION_COLUMNS`` that is there.

    Raises:
        EmbkitError: columns that cannot be told apart, or fewer than three usable pictures.
    """
    return _made(
        folder.name if folder else "dataset",
        profile,
        lambda bad: _data_rows(data, folder, dict(columns or {}), bad),
        source=shown(folder) if folder else "a datasets object",
        layout="a data set with pictures",
    )


def _made(
    name: str,
    profile: str,
    read: Callable[[parsing.Quarantine], Read],
    *,
    source: str,
    layout: str,
) -> Domain:
    bad = parsing.Quarantine()
    where = session.paths().runs / "quarantine" / f"{name}-pictures.jsonl"
    try:
        rows, columns, notes = read(bad)
        kept = bad.save(where)
        report = LoadReport(
            name=name,
            source=source,
            layout=layout,
            rows=dict(bad.rows),
            splits=("cut by what hangs together: 20% test, 10% dev, the rest train",),
            columns=columns,
            quarantined=dict(bad.causes.most_common()),
            examples=tuple(bad.examples),
            quarantine=kept,
            notes=notes,
        )
        about = {
            "title": name,
            "source": source,
            "quarantine": report.put_aside,
            "notes": "; ".join(notes),
        }
        try:
            return domain_of(name, profile, rows, shares=SHARES, about=about, report=report)
        except EmbkitError as error:
            told = f" (put aside: {bad.summary()})" if bad.causes else ""
            raise EmbkitError(
                error.given + told, expected=error.expected, hint=error.hint
            ) from error
    finally:
        bad.close()


def _rows(folder: Path, encoding: str | None, bad: parsing.Quarantine) -> Read:
    table = _tables(folder)[0]
    delimiter = "\t" if table.suffix.lower() == ".tsv" else None
    lines = parsing.table_rows(table, bad, encoding, delimiter)
    header = [name.strip().casefold() for name in next(lines, (0, [], ""))[1]]
    bad.rows[table.name] = 0  # the header is no row
    file_column = _column(header, PICTURE_COLUMNS, "file names", table)
    text_column = _column(header, CAPTION_COLUMNS, "captions", table)
    found: list[Captioned] = []
    named: set[Path] = set()
    opened: dict[Path, str | PictureFault] = {}
    first: dict[str, Path] = {}  # picture -> the file that had it first
    seen: set[tuple[str, str]] = set()
    repeated = 0
    for line, row, raw in parsing.named_rows(lines, header, table.name, bad):
        file = (folder / row[file_column].strip()).resolve()
        named.add(file)
        if fault := parsing.text_fault(row[text_column]):
            bad.add(fault, table.name, line, raw)
            continue
        if not file.is_relative_to(folder.resolve()):
            bad.add(OUTSIDE, table.name, line, raw)
            continue
        if file not in opened:
            opened[file] = _opened(file)
        picture = opened[file]
        if isinstance(picture, PictureFault):
            cause = "caption without a picture" if not file.is_file() else str(picture)
            bad.add(cause, table.name, line, raw)
            continue
        caption = " ".join(row[text_column].split())
        key = (picture, normalise(caption))
        if first.setdefault(picture, file) != file and key in seen:
            bad.add(TWICE, table.name, line, raw)
            continue
        repeated += key in seen
        if key not in seen:
            seen.add(key)
            found.append(Captioned(f"{table.stem}:{line}", caption, picture, picture))
    for file in found_in(folder):
        if file.resolve() not in named:
            bad.rows["pictures without a row"] += 1
            bad.add("picture without a caption", str(file.relative_to(folder)), 0, file.name)
    notes = [f"{repeated:,} rows repeat an earlier one: counted once"] if repeated else []
    twins = len({f for f, p in opened.items() if isinstance(p, str)}) - len(first)
    notes += [f"{twins:,} files show the same picture as another: taken as one"] if twins else []
    return found, {"picture": file_column, "caption": text_column}, tuple(notes)


def _opened(file: Path) -> str | PictureFault:
    try:
        return keep_picture(read_picture(file))
    except PictureFault as fault:
        return fault


def _data_rows(
    data: Mapping[str, Any], folder: Path | None, columns: dict[str, Any], bad: parsing.Quarantine
) -> Read:
    found: list[Captioned] = []
    seen: set[tuple[str, str]] = set()
    chosen: dict[str, str] = {}
    for part, rows in data.items():
        chosen = _data_columns(rows, columns)
        label = part or "rows"
        names = list(chosen.values())
        undecoded = rows.cast_column(chosen["picture"], _as_stored(rows, chosen["picture"]))
        for number, values, _ in parsing.dataset_rows(undecoded, bad, names, label):
            said = values[chosen["caption"]]
            captions = said if isinstance(said, list) and said else [said]
            picture = _stored(values[chosen["picture"]], folder)
            for place, caption in enumerate(captions):
                key = f"{label}:{number}.{place}" if place else f"{label}:{number}"
                raw = {"row": number, "caption": caption}
                if isinstance(picture, PictureFault):
                    bad.add(str(picture), label, number, raw)
                elif fault := parsing.text_fault(caption):
                    bad.add(fault, label, number, raw)
                elif (picture, normalise(caption)) in seen:
                    bad.add(TWICE, label, number, raw)
                else:
                    seen.add((picture, normalise(caption)))
                    text = " ".join(caption.split())
                    found.append(Captioned(key, text, picture, picture))
    notes = (f"the splits {', '.join(data)} were read together",) if len(data) > 1 else ()
    return found, chosen, notes


def _image_columns(rows: Any) -> list[str]:
    from datasets import Image

    return [name for name, kind in (rows.features or {}).items() if isinstance(kind, Image)]


def _as_stored(rows: Any, name: str) -> Any:
    """The column's type, so that its pictures come as they are stored, one by one, not decoded."""
    from datasets import Image

    return Image(decode=False) if name in _image_columns(rows) else rows.features[name]


def _data_columns(rows: Any, columns: Mapping[str, Any]) -> dict[str, str]:
    """Role -> column: what was said, else what the data set's types and names say."""
    pictures, names = _image_columns(rows), list(rows.column_names)
    if strange := [role for role in columns if role not in ("picture", "caption")]:
        raise unknown("role of a column", strange[0], ("picture", "caption"))
    captions = [name for name in CAPTION_COLUMNS if name in names and name not in pictures]
    found = {
        "picture": columns.get("picture") or (pictures[0] if len(pictures) == 1 else None),
        "caption": columns.get("caption") or next(iter(captions), None),
    }
    for role, name in found.items():
        if name not in names or (role == "picture" and name not in pictures):
            raise EmbkitError(
                f"no column for the {role} in a data set with the columns {', '.join(names)}"
                + (f": {name!r} is none" if name else ""),
                expected="one Image column, and one of texts or lists of texts",
                hint="load_domain(data, columns={'picture': 'image', 'caption': 'text'})",
            )
    return {role: str(name) for role, name in found.items()}


def _stored(cell: Any, folder: Path | None) -> str | PictureFault:
    """The picture of a row of a data set: its bytes, or a file that it names."""
    if not cell or not (cell.get("bytes") or cell.get("path")):
        return PictureFault("caption without a picture")
    try:
        if cell.get("bytes"):
            return keep_picture(decode(cell["bytes"]))
    except PictureFault as fault:
        return fault
    file = Path(os.path.join(folder or "", cell["path"])).resolve()
    if folder is not None and not file.is_relative_to(folder.resolve()):
        return PictureFault(OUTSIDE)
    return _opened(file)


def _column(header: list[str], wanted: tuple[str, ...], what: str, table: Path) -> str:
    for name in wanted:
        if name in header:
            return name
    if not header:
        raise EmbkitError(
            f"{table.name!r} has no header",
            expected=f"a first line that names a column of {what}, such as {wanted[0]!r}",
            hint=f"{PICTURE_COLUMNS[0]},{CAPTION_COLUMNS[0]} as the first line",
        )
    raise unknown(f"column for {what}", ", ".join(header), wanted)
