"""Pictures of your own with their captions, read once, checked, made a Domain.

They are a data set with an ``Image`` column, or a folder of pictures with tables of file names and
captions (a picture may have several rows, a caption several pictures), with COCO's JSON, with one
text file beside each picture, as img2dataset and WebDataset have them, or with a folder a class.
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import unknown
from ..domain import Domain, normalise
from ..images import SUFFIXES, PictureFault, decode, keep_picture, read_picture
from ..refusals import refused
from ..sources.captioned import Captioned, domain_of
from .asking import to_type
from .draft import Material, reported
from .kinds import PICTURE, TEXT, Table
from .parts import SPLITS, data_files, split_name
from .rows import Quarantine, Row, lines, suffix, text_fault
from .shapes import PICTURES, fitting
from .tables import PLAIN, dataset_table, one_object, table

SHARES = {"test": 0.20, "dev": 0.10}
Caption = tuple[Row, str, Any]  # the row, its picture's file from the folder on, its text
Picture = str | PictureFault  # the text that stands for it, or what is wrong with it
# the row, its picture and caption; whether it is the first file that shows the picture
Cell = tuple[Row, Picture, Any, bool]
_NAMED = re.compile(  # a line of a caption file: a picture, maybe its number, and the caption
    rf"\s*(\S.*?(?:{'|'.join(map(re.escape, SUFFIXES))}))(?:#\d+)?\s*[,\t]\s*(.*)", re.IGNORECASE
)


def load(
    folder: Path | None,
    data: Mapping[str, Any] | None,
    name: str,
    profile: str,
    source: str,
    material: Material,
) -> Domain | None:
    """Reads a folder of pictures, or a data set whose splits are divided anew; None for texts.

    ``folder`` is also where a data set was saved to: no picture outside it is read.
    """
    if data:
        shown = any(map(_image_columns, data.values()))
        cells = _data_cells(data, folder, material) if shown else None
    else:
        cells = _folder_cells(folder, material) if folder and folder.is_dir() else None
    if not cells:
        return None
    rows: dict[tuple[str, str], Captioned] = {}
    repeated, told = 0, Counter[str]()  # captions by the place where they stand
    for row, picture, caption, first in cells:
        place = f"{Path(row.file).stem}:{row.line}"
        key = f"{place}.{told[place]}" if told[place] else place
        told[place] += 1
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


def _folder_cells(folder: Path, material: Material) -> Iterator[Cell] | None:
    """A folder's pictures with their captions, whatever these lie in; None for texts."""
    pictures = [f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file()]
    files = data_files(folder) if pictures else []
    captions = _captions(folder, files, pictures, material)
    first = list(itertools.islice(captions, 1))
    if not pictures or (files and not first):
        return None
    told = itertools.chain(first, captions) if files else _classes(folder, pictures, material)
    return _opened(folder, told, sorted(pictures), material)


def _opened(
    folder: Path, captions: Iterable[Caption], pictures: Sequence[Path], material: Material
) -> Iterator[Cell]:
    named: dict[str, list[Path]] = {}  # a file's name -> the pictures that bear it
    for source in pictures:
        named.setdefault(source.name, []).append(source.resolve())
    opened: dict[Path, Picture] = {}
    first: dict[str, Path] = {}  # picture -> the file that had it first
    read = dict[str, None]()
    for row, given, caption in captions:
        read[row.file] = None
        source = (folder / given).resolve()
        if not source.exists() and len(found := named.get(Path(given).name, [])) == 1:
            (source,) = found  # a table may name files as they lay elsewhere
        picture = opened[source] = opened.get(source) or _kept(source, folder)
        own = isinstance(picture, str) and first.setdefault(picture, source) == source
        yield row, picture, caption, own
    tables = [file for file in read if suffix(Path(file)) not in (".txt", *SUFFIXES)]
    if len(tables) > 1:
        material.notes.append(f"{', '.join(tables[:8])} were read together")
    for source in pictures:
        if source.resolve() not in opened:
            material.bad.rows["pictures without a row"] += 1
            row = Row(str(source.relative_to(folder)), 0, {}, source.name)
            material.bad.add("picture without a caption", row)
    if twins := sum(isinstance(picture, str) for picture in opened.values()) - len(first):
        material.notes.append(f"{twins:,} files show the same picture as another: taken as one")


def _classes(folder: Path, pictures: Sequence[Path], material: Material) -> Iterator[Caption]:
    """A folder a class, as torchvision has them: its name is the caption of what is in it."""
    below = [picture for picture in sorted(pictures) if picture.parent != folder]
    names = {picture.parent.name for picture in below}
    if len(names) < 2 or any(split_name(name) in SPLITS.values() for name in names):
        return
    material.columns = {"picture": "each file", "caption": "the name of its folder"}
    for picture in below:
        material.bad.rows["pictures"] += 1
        file = picture.relative_to(folder).as_posix()
        yield Row(file, 1, {}, file), file, re.sub(r"[_\s]+", " ", picture.parent.name)


def _captions(
    folder: Path, files: Sequence[Path], pictures: Sequence[Path], material: Material
) -> Iterator[Caption]:
    """Each caption: the row, its picture's file from the folder on, its text."""
    bad, beside = material.bad, {f.with_suffix(""): f for f in pictures}
    for path in files:
        base, kind = path.parent.relative_to(folder), suffix(path)
        if picture := beside.get(path.with_suffix("")):  # one text beside each picture
            if kind == ".txt":
                bad.rows["captions beside pictures"] += 1
                text = path.read_bytes().decode("utf-8-sig", "surrogateescape").strip()
                row = Row(path.relative_to(folder).as_posix(), 1, {}, text)
                yield row, str(base / picture.name), text
        elif kind == ".json" and {"images", "annotations"} <= (coco := one_object(path)).keys():
            files_of = {one.get("id"): str(one.get("file_name", "")) for one in coco["images"]}
            told = (one for one in coco["annotations"] if "caption" in one)  # others are of objects
            for line, one in enumerate(told, 1):
                bad.rows[path.name] += 1
                name, caption = files_of.get(one.get("image_id"), ""), one["caption"]
                yield Row(path.name, line, {}, f"{name}: {caption}"), str(base / name), caption
        elif kind in PLAIN:
            yield from _caption_lines(path, base, bad)
        else:
            yield from _caption_table(path, base, material)


def _caption_lines(path: Path, base: Path, bad: Quarantine) -> Iterator[Caption]:
    """The lines of a caption file, whose captions may hold commas, as Flickr8k's do."""
    found = False
    for line, text, fault in lines(path, bad, path.name):
        match = _NAMED.match(text)
        if not text.strip() or not (match or found):
            continue  # a header, or no caption file at all
        found = True
        bad.rows[path.name] += 1
        row = Row(path.name, line, {}, text)
        if fault or not match:
            bad.add(fault or "line that names no picture", row)
        else:
            yield row, str(base / match[1]), match[2].strip().strip('"')


def _caption_table(path: Path, base: Path, material: Material) -> Iterator[Caption]:
    """The rows of a table with a column of pictures' files."""
    said = material.given or {}
    read = table(path, material.bad.encoding)
    pictures = [name for name in read.header if read.held[name] == PICTURE]
    pictures = pictures or fitting(read.header, PICTURES["picture"])[:1]
    remote = any("://" in str(row.values.get(name)) for row in read.some for name in pictures)
    said_so = pictures or said.keys() & PICTURES.keys()
    if remote or not said_so:  # addresses of what img2dataset has fetched; a table of texts
        return
    texts = [name for name in read.header if read.held[name] == TEXT]
    for row, cell, captions in _told(read, pictures, texts, repr(path.name), material):
        given = re.sub(r"#\d+$", "", str(cell or "").strip().replace("\\", "/"))
        for caption in captions:
            yield row, str(base / given), caption


def _data_cells(data: Mapping[str, Any], folder: Path | None, material: Material) -> Iterator[Cell]:
    """The rows of a data set, one for each caption."""
    if len(data) > 1:
        material.notes.append(f"the splits {', '.join(data)} were read together")
    for part, rows in data.items():
        read = dataset_table(rows, part or "rows")
        for row, cell, captions in _told(read, _image_columns(rows), [], "a data set", material):
            picture = _stored(cell, folder)
            for caption in captions:
                raw = {"row": row.line, "caption": caption}
                yield row._replace(raw=raw), picture, caption, False


def _image_columns(rows: Any) -> list[str]:
    from datasets import Image

    return [name for name, kind in (rows.features or {}).items() if isinstance(kind, Image)]


def _told(
    read: Table, pictures: list[str], texts: list[str], where: str, material: Material
) -> Iterator[tuple[Row, Any, list[Any]]]:
    """Each row of a table, what it says of its picture, and its captions. Their columns are those
    that were said, else the only one of pictures and the first of captions."""
    names, said = read.header, material.given or {}
    if strange := [role for role in said if role not in PICTURES]:
        raise unknown("role of a column", strange[0], PICTURES)
    captions = [name for name in fitting(names, PICTURES["caption"]) if name not in pictures]
    captions = captions or (texts if names[0] == "0" and len(texts) == 1 else [])  # no header
    found = {
        "picture": said.get("picture") or (pictures[0] if len(pictures) == 1 else None),
        "caption": said.get("caption") or next(iter(captions), None),
    }
    usable = {"picture": pictures or names, "caption": names}
    for role, name in found.items():
        if name not in usable[role]:
            free = [*captions, *texts, *(n for n in names if n not in pictures), "its name"]
            step = {"picture": usable["picture"][0], "caption": free[0]}
            of = {"role": role, "where": where, "columns": ", ".join(names) or "-"}
            of |= {f"{kind}s": ", ".join(known) for kind, known in PICTURES.items()}
            of["named"] = f": {name!r} is none" if name else ""
            raise refused("pictures", **of, **to_type({"columns": step}))
    material.columns = {role: str(name) for role, name in found.items()}
    for row in read.rows(material.bad):
        picture, told = map(row.values.get, material.columns.values())
        yield row, picture, told if isinstance(told, list) and told else [told]


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
