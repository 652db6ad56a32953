"""Pictures of your own with their captions, read once, checked, made a Domain.

They are a data set with an ``Image`` column, or a folder with one CSV or TSV file of file names and
captions; a picture may have several rows, a caption several pictures. Captions without a picture,
pictures without a caption, and what ``images.read_picture`` refuses are put aside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import EmbkitError, unknown
from ..domain import Domain, normalise
from ..images import PictureFault, decode, found_in, keep_picture, read_picture
from ..sources.captioned import Captioned, domain_of
from . import parsing
from .draft import Material
from .report import reported

if TYPE_CHECKING:
    from PIL.Image import Image

TABLES = (".csv", ".tsv")
PICTURE_COLUMNS = ("picture", "image", "file", "file_name", "filename", "path")
CAPTION_COLUMNS = ("caption", "text", "name", "title", "label")
SHARES = {"test": 0.20, "dev": 0.10}
OUTSIDE = "picture outside the folder"
NO_PICTURE = "caption without a picture"
TWICE = "same picture and caption as an earlier row"
# file, line, id, the picture or what is wrong with it, its caption, the row as it stood, and
# whether the picture's file is the first that shows it
Cell = tuple[str, int, str, str | PictureFault, Any, Any, bool]


def holds_pictures(path: Path | None, data: Mapping[str, Any] | None) -> bool:
    """Whether a data set has an ``Image`` column, or a folder one table and pictures."""
    if data is not None:
        return any(_image_columns(part) for part in data.values())
    if path is None or not path.is_dir() or len(_tables(path)) != 1:
        return False
    return any(True for _ in found_in(path))


def _tables(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in TABLES and f.is_file())


def load(
    folder: Path | None,
    data: Mapping[str, Any] | None,
    name: str,
    profile: str,
    source: str,
    material: Material,
) -> Domain:
    """Reads a folder of pictures with a table, or a data set whose splits are divided anew.

    ``folder`` is also where a data set was saved to: no picture outside it is read.
    """
    bad, notes = material.bad, material.notes
    table = folder if not data else None
    cells = _folder_cells(table, material) if table else _data_cells(data or {}, folder, material)
    rows: dict[tuple[str, str], Captioned] = {}
    repeated = 0
    for file, line, key, picture, caption, raw, first in cells:
        if isinstance(picture, PictureFault):
            bad.add(str(picture), file, line, raw)
            continue
        row = Captioned(key, " ".join(caption.split()), picture, picture)
        if rows.setdefault((picture, normalise(caption)), row) is not row:
            repeated += first
            if not first:
                bad.add(TWICE, file, line, raw)
    if repeated:
        notes.insert(0, f"{repeated:,} rows repeat an earlier one: counted once")
    about = {"title": name, "source": source}
    domain = domain_of(name, profile, list(rows.values()), shares=SHARES, about=about)
    layout = "a data set with pictures" if data else "pictures and captions"
    splits = ("cut by what hangs together: 20% test, 10% dev, the rest train",)
    kept = f"{name}-pictures"
    return reported(domain, material, kept, source=source, layout=layout, splits=splits)


def _folder_cells(folder: Path, material: Material) -> Iterator[Cell]:
    """The rows of a folder's table."""
    bad = material.bad
    (table,) = _tables(folder)
    delimiter = "\t" if table.suffix.lower() == ".tsv" else None
    lines = parsing.table_rows(table, bad, material.encoding, delimiter)
    header = [name.strip().casefold() for name in next(lines, (0, [], ""))[1]]
    bad.rows[table.name] = 0  # the header is no row
    files = [name for name in PICTURE_COLUMNS if name in header]
    hint = f"{PICTURE_COLUMNS[0]},{CAPTION_COLUMNS[0]} as the first line"
    chosen = material.columns = _columns(header, files[:1], {}, repr(table.name), hint)
    named: set[Path] = set()
    opened: dict[Path, str | PictureFault] = {}
    first: dict[str, Path] = {}  # picture -> the file that had it first
    for line, row, raw in parsing.named_rows(lines, header, table.name, bad):
        file, caption = (folder / row[chosen["picture"]].strip()).resolve(), row[chosen["caption"]]
        named.add(file)
        picture: str | PictureFault
        if fault := parsing.text_fault(caption):
            picture = PictureFault(fault)
        elif not file.is_relative_to(folder.resolve()):
            picture = PictureFault(OUTSIDE)
        else:
            if file not in opened:
                there = file.is_file()
                opened[file] = _kept(read_picture, file) if there else PictureFault(NO_PICTURE)
            picture = opened[file]
        own = isinstance(picture, str) and first.setdefault(picture, file) == file
        yield table.name, line, f"{table.stem}:{line}", picture, caption, raw, own
    for file in found_in(folder):
        if file.resolve() not in named:
            bad.rows["pictures without a row"] += 1
            bad.add("picture without a caption", str(file.relative_to(folder)), 0, file.name)
    if twins := sum(isinstance(picture, str) for picture in opened.values()) - len(first):
        material.notes.append(f"{twins:,} files show the same picture as another: taken as one")


def _kept(read: Callable[[Any], Image], source: Any) -> str | PictureFault:
    """The text that stands for a picture, or what is wrong with it."""
    try:
        return keep_picture(read(source))
    except PictureFault as fault:
        return fault


def _data_cells(data: Mapping[str, Any], folder: Path | None, material: Material) -> Iterator[Cell]:
    """The rows of a data set, one for each caption."""
    from datasets import Image

    if len(data) > 1:
        material.notes.append(f"the splits {', '.join(data)} were read together")
    for part, rows in data.items():
        chosen = material.columns = _columns(
            rows.column_names,
            _image_columns(rows),
            material.given or {},
            "a data set",
            "load_domain(data, columns={'picture': 'image', 'caption': 'text'})",
        )
        label = part or "rows"
        stored = rows.cast_column(chosen["picture"], Image(decode=False))  # one by one, not decoded
        names = list(chosen.values())
        for number, values, _ in parsing.dataset_rows(stored, names, label, material.bad):
            said = values[chosen["caption"]]
            picture = _stored(values[chosen["picture"]], folder)
            for place, caption in enumerate(said if isinstance(said, list) and said else [said]):
                key = f"{label}:{number}.{place}" if place else f"{label}:{number}"
                fault = parsing.text_fault(caption)
                usable = PictureFault(fault) if fault and isinstance(picture, str) else picture
                raw = {"row": number, "caption": caption}
                yield label, number, key, usable, caption, raw, False


def _image_columns(rows: Any) -> list[str]:
    from datasets import Image

    return [name for name, kind in (rows.features or {}).items() if isinstance(kind, Image)]


def _columns(
    names: list[str], pictures: list[str], said: Mapping[str, Any], where: str, hint: str
) -> dict[str, str]:
    """Role -> column: what was said, else the only one of pictures and the first of captions."""
    if strange := [role for role in said if role not in ("picture", "caption")]:
        raise unknown("role of a column", strange[0], ("picture", "caption"))
    captions = [name for name in CAPTION_COLUMNS if name in names and name not in pictures]
    found = {
        "picture": said.get("picture") or (pictures[0] if len(pictures) == 1 else None),
        "caption": said.get("caption") or next(iter(captions), None),
    }
    for role, name in found.items():
        if name not in (pictures if role == "picture" else names):
            raise EmbkitError(
                f"no column for the {role} in {where} with the columns {', '.join(names) or '-'}"
                + (f": {name!r} is none" if name else ""),
                expected=f"a column of pictures or their files ({', '.join(PICTURE_COLUMNS)}), and "
                f"one of captions ({', '.join(CAPTION_COLUMNS)})",
                hint=hint,
            )
    return {role: str(name) for role, name in found.items()}


def _stored(cell: Any, folder: Path | None) -> str | PictureFault:
    """The picture of a row of a data set: its bytes, or a file that it names."""
    if not cell or not (cell.get("bytes") or cell.get("path")):
        return PictureFault(NO_PICTURE)
    if cell.get("bytes"):
        return _kept(decode, cell["bytes"])
    file = Path(os.path.join(folder or "", cell["path"])).resolve()
    if folder is not None and not file.is_relative_to(folder.resolve()):
        return PictureFault(OUTSIDE)
    return _kept(read_picture, file)
