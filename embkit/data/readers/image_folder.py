"""Pictures of your own with their captions, read once, checked, made a Domain.

They are a data set with an ``Image`` column, or a folder with one CSV or TSV file of file names and
captions; a picture may have several rows, a caption several pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import EmbkitError, unknown
from ..domain import Domain, normalise
from ..images import SUFFIXES, PictureFault, decode, keep_picture, read_picture
from ..sources.captioned import Captioned, domain_of
from .columns import fitting
from .draft import Material, reported
from .parsing import Row, dataset_table, table, text_fault

COLUMNS = {  # what the columns may be called
    "picture": ("picture", "image", "file", "file_name", "filename", "path"),
    "caption": ("caption", "text", "name", "title", "label"),
}
SHARES = {"test": 0.20, "dev": 0.10}
Picture = str | PictureFault  # the text that stands for it, or what is wrong with it
# the row, its id, its picture and caption; whether it is the first file that shows the picture
Cell = tuple[Row, str, Picture, Any, bool]


def holds_pictures(path: Path | None, data: Mapping[str, Any] | None) -> bool:
    """Whether a data set has an ``Image`` column, or a folder one table and pictures."""
    if data is not None:
        return any(map(_image_columns, data.values()))
    return path is not None and path.is_dir() and len(_tables(path)) == 1 and any(_pictures(path))


def _tables(folder: Path) -> list[Path]:
    return [f for f in folder.iterdir() if f.suffix.lower() in (".csv", ".tsv") and f.is_file()]


def _pictures(folder: Path) -> Iterator[Path]:
    return (f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())


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
    cells = _data_cells(data, folder, material) if data else _folder_cells(folder, material)
    rows: dict[tuple[str, str], Captioned] = {}
    repeated = 0
    for row, key, picture, caption, first in cells:
        fault = str(picture) if isinstance(picture, PictureFault) else text_fault(caption)
        if not fault:
            new = Captioned(key, " ".join(caption.split()), str(picture), str(picture))
            if rows.setdefault((new.picture, normalise(caption)), new) is not new:
                repeated += first
                fault = None if first else "same picture and caption as an earlier row"
        if fault:
            material.bad.add(fault, row)
    if repeated:
        material.notes.insert(0, f"{repeated:,} rows repeat an earlier one: counted once")
    about = {"title": name, "source": source}
    return reported(
        domain_of(name, profile, list(rows.values()), shares=SHARES, about=about),
        material,
        f"{name}-pictures",
        source=source,
        layout="a data set with pictures" if data else "pictures and captions",
        splits=("cut by what hangs together: 20% test, 10% dev, the rest train",),
    )


def _folder_cells(folder: Path | None, material: Material) -> Iterator[Cell]:
    """The rows of a folder's table."""
    assert folder is not None
    bad = material.bad
    (path,) = _tables(folder)
    file, header, read = table(path, bad)
    pictures = fitting(header, COLUMNS["picture"])[:1]
    hint = "picture,caption as the first line"
    chosen = material.columns = _columns(header, pictures, {}, repr(file), hint)
    opened: dict[Path, Picture] = {}
    first: dict[str, Path] = {}  # picture -> the file that had it first
    for row in read(header):
        source = (folder / row.values[chosen["picture"]].strip()).resolve()
        if source not in opened:
            opened[source] = _kept(source, folder)
        picture = opened[source]
        own = isinstance(picture, str) and first.setdefault(picture, source) == source
        yield row, f"{path.stem}:{row.line}", picture, row.values[chosen["caption"]], own
    for source in sorted(_pictures(folder), key=Path.as_posix):
        if source.resolve() not in opened:
            bad.rows["pictures without a row"] += 1
            row = Row(str(source.relative_to(folder)), 0, {}, source.name)
            bad.add("picture without a caption", row)
    if twins := sum(isinstance(picture, str) for picture in opened.values()) - len(first):
        material.notes.append(f"{twins:,} files show the same picture as another: taken as one")


def _data_cells(data: Mapping[str, Any], folder: Path | None, material: Material) -> Iterator[Cell]:
    """The rows of a data set, one for each caption."""
    if len(data) > 1:
        material.notes.append(f"the splits {', '.join(data)} were read together")
    hint = "load_domain(data, columns={'picture': 'image', 'caption': 'text'})"
    for part, rows in data.items():
        file, header, read = dataset_table(rows, part or "rows", material.bad)
        said, pictures = material.given or {}, _image_columns(rows)
        chosen = material.columns = _columns(header, pictures, said, "a data set", hint)
        for row in read(list(chosen.values())):
            captions = row.values[chosen["caption"]]
            picture = _stored(row.values[chosen["picture"]], folder)
            listed = captions if isinstance(captions, list) and captions else [captions]
            for place, caption in enumerate(listed):
                key = f"{file}:{row.line}.{place}" if place else f"{file}:{row.line}"
                shown = row._replace(raw={"row": row.line, "caption": caption})
                yield shown, key, picture, caption, False


def _image_columns(rows: Any) -> list[str]:
    from datasets import Image

    return [name for name, kind in (rows.features or {}).items() if isinstance(kind, Image)]


def _columns(
    names: list[str], pictures: list[str], said: Mapping[str, Any], where: str, hint: str
) -> dict[str, str]:
    """Role -> column: what was said, else the only one of pictures and the first of captions."""
    if strange := [role for role in said if role not in COLUMNS]:
        raise unknown("role of a column", strange[0], COLUMNS)
    captions = [name for name in fitting(names, COLUMNS["caption"]) if name not in pictures]
    found = {
        "picture": said.get("picture") or (pictures[0] if len(pictures) == 1 else None),
        "caption": said.get("caption") or next(iter(captions), None),
    }
    for role, name in found.items():
        if name not in (pictures if role == "picture" else names):
            raise EmbkitError(
                f"no column for the {role} in {where} with the columns {', '.join(names) or '-'}"
                + (f": {name!r} is none" if name else ""),
                expected=f"a column of pictures or their files ({', '.join(COLUMNS['picture'])}), "
                f"and one of captions ({', '.join(COLUMNS['caption'])})",
                hint=hint,
            )
    return {role: str(name) for role, name in found.items()}


def _stored(cell: Any, folder: Path | None) -> Picture:
    """The picture of a row of a data set: its bytes, or a file that it names."""
    source = cell and (cell["bytes"] or cell["path"])
    if isinstance(source, str):
        source = Path(os.path.join(folder or "", source)).resolve()
    return _kept(source, folder)


def _kept(source: Path | bytes | None, folder: Path | None) -> Picture:
    """A picture that is put into the cache; none outside the folder, if there is one."""
    try:
        if isinstance(source, bytes):
            return keep_picture(decode(source))
        if source and folder is not None and not source.is_relative_to(folder.resolve()):
            return PictureFault("picture outside the folder")
        if not source or not source.is_file():
            return PictureFault("caption without a picture")
        return keep_picture(read_picture(source))
    except PictureFault as fault:
        return fault
