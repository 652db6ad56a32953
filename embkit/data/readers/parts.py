"""What a folder, an archive or a data set is made of: texts, judgements, pairs, by split."""

import contextlib
import re
import shlex
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...assets.hub import refusal
from ...errors import EmbkitError
from ...files import readable
from ...session import shown
from ..refusals import refused
from . import kinds, shapes
from .draft import WHOLE
from .kinds import Table
from .rows import suffix
from .tables import KINDS, PLAIN, dataset_table, listed, one_object, table

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
CORPUS, QUERIES, JUDGEMENTS, TRIPLES, PAIRS = "corpus", "queries", "judgements", "triples", "pairs"
SIDES = CORPUS, QUERIES
MARKED = "negatives"  # what ``to_beir`` writes of documents that people marked as wrong
UNNAMED = "texts"  # documents or queries: nothing says which
ALL = (CORPUS, QUERIES, JUDGEMENTS, TRIPLES, PAIRS, MARKED)
SPLITS = {name: name for name in ("train", "dev", "test")}
SPLITS |= {"validation": "dev", "valid": "dev", "val": "dev", "all": WHOLE, "qrels": WHOLE}
_ROLES = {role: set(told.split()) for role, told in kinds.TOLD["files"].items()}
_NOTES = re.compile(r"readme|licen[cs]e|domain\.json|dataset_infos?\.json", re.IGNORECASE)
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_UNPACKED = "embkit-unpacked-"  # how the folder is called into which an archive is unpacked
MOST_BYTES, MOST_FILES = 50 << 30, 1_000_000  # that an archive may unpack to


class Part(NamedTuple):
    """One file, or one part of a data set, and what it is."""

    role: str
    split: str
    table: Table
    name: str


def split_name(name: str) -> str:
    """The split that a file or a part of a data set is.

    Example:
        >>> split_name("qrels.test.tsv"), split_name("validation-00000-of-00001.parquet")
        ('test', 'dev')
    """
    stem = _SHARD.sub("", name.removesuffix(".gz"))
    for end in (*KINDS, *PLAIN):
        stem = stem.removesuffix(end)
    pieces = re.split(r"[._]", stem)
    if known := [piece for piece in pieces if SPLITS.get(piece.lower())]:
        stem = known[-1]
    elif len(pieces) > 1 and pieces[0].lower() in ("qrels", "qrel"):
        stem = ".".join(pieces[1:])
    return SPLITS.get(stem.lower(), stem)


def _role(path: Path) -> str | None:
    """What the names of a file and its folders say that it is."""
    if path.stem == MARKED:
        return MARKED
    if suffix(path) in (".trec", ".qrels", ".qrel"):
        return JUDGEMENTS
    for part in (path.name.removesuffix(suffix(path)), *reversed(path.parts[:-1])):
        words = set(re.split(r"[._\-]", _SHARD.sub("", part.lower())))
        for role, named in _ROLES.items():
            if words & named:
                return role
    return None


def data_files(folder: Path) -> list[Path]:
    """The files of a folder that may hold data, in their order."""
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        plain = len(inside) <= 4 and not any(part[0] in "._" for part in inside)
        if plain and not _NOTES.match(path.name) and suffix(path) in (*KINDS, *PLAIN):
            found += [path] * path.is_file()
    return found


def parts_of(folder: Path, encoding: str | None) -> list[Part]:
    """The parts of a folder: by the names of its files, else by what they hold."""
    found = []
    for path in data_files(folder):
        inside = path.relative_to(folder)
        if several := objects(path):
            found += several
            continue
        role, name = _role(inside), inside.as_posix()
        read = table(path, encoding, file=name)
        if role is None and suffix(path) in PLAIN and len(read.header) < 2:
            continue  # prose
        found.append(Part(role or role_of(read), split_name(path.name), read, name))
    return _sides(found)


def role_of(read: Table) -> str:
    """What a table is, by the names and the content of its columns."""
    header, held = read.header, read.held
    texts = [c for c in header if held[c] == kinds.TEXT]
    ids = [[n for n in shapes.JUDGED[role] if "id" in n] for role in ("query-id", "corpus-id")]
    if all(shapes.fitting(header, names) for names in ids):
        if len(texts) < 2 or len(texts) == 2 == len(header):
            return JUDGEMENTS
    # texts with an id each
    keys = [c for c in header if held[c] in (kinds.ID, kinds.NUMBER, kinds.LABEL)]
    titles = shapes.fitting(header, ["title"])
    texts = [c for c in texts if c not in titles]
    if keys and len(texts) <= 1 and (texts or titles):
        return UNNAMED
    # queries and documents by their ids alone
    if len(header) > 1 and not {*held.values()} & {*kinds.TEXTUAL, kinds.PICTURE}:
        named = [c for c in keys if held[c] != kinds.LABEL]
        return TRIPLES if len(named) == len(header) == 3 else JUDGEMENTS
    return PAIRS


def _sides(found: list[Part]) -> list[Part]:
    """Parts whose names say what they are not, or nothing of their side: by what they hold."""
    roles = {part.role for part in found}
    if not {*SIDES} <= roles:  # such as customer_queries.csv, with the answers in it
        odd = [p for p in found if p.role in SIDES and role_of(p.table) == PAIRS]
        found = [part._replace(role=PAIRS) if part in odd else part for part in found]
        roles = {part.role for part in found}
    open_ = [part for part in found if part.role == UNNAMED]
    left = [role for role in SIDES if role not in roles]
    if open_ and len(left) == 1:
        return [part._replace(role=left[0]) if part in open_ else part for part in found]
    if open_ and len(open_) < len(found):
        end = suffix(Path(open_[0].name))
        names = [part.name for part in open_]
        raise refused("side", names=" and ".join(names), first=names[0], end=end)
    return found


def objects(path: Path) -> list[Part]:
    """The parts of a file that is one JSON object, as LlamaIndex writes it; none for another."""
    values, found = one_object(path), list[Part]()
    split = split_name(path.name.replace("_", "."))
    for name, (role, *columns) in kinds.TOLD["llamaindex"].items():
        if not isinstance(held := values.get(name), dict):
            return []
        each = ((key, one if isinstance(one, list) else [one]) for key, one in held.items())
        rows = [dict(zip(columns, (key, x), strict=True)) for key, several in each for x in several]
        found.append(Part(role, split, listed(name, rows), name))
    return found


def to_load(path: Path, before: str = "") -> dict[str, str]:
    """An error's hint, in Python and in a shell: a path that is to be given instead."""
    found = shown(path)
    if _UNPACKED in found:
        step = f"{before}unpack it, and give {path.name} of what was in it"
        return {"hint": step, "shell": step}
    shell = f"{before}python -m embkit check {shlex.quote(found)}"
    return {"hint": f"{before}load_domain({found!r})", "shell": shell}


@contextlib.contextmanager
def unpacked(path: Path | None) -> Iterator[Path | None]:
    """The path; of a zip or tar archive, or a folder of nothing else, a folder with what is in it,
    for as long as it is read.

    No entry is written outside it, no link is followed, and an archive that unpacks to more than
    50 GB or a million files is refused.
    """
    there = sorted(path.iterdir()) if path and path.is_dir() else filter(None, [path])
    files = [f for f in there if f.name[0] != "."]
    packed = [f for f in files if f.is_file() and f.name.lower().endswith(ARCHIVES)]
    if not packed or len(packed) < len(files):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix=_UNPACKED) as name:
        for path in packed:
            _unpack(path, Path(name) / path.name.split(".")[0] if packed[1:] else Path(name))
        yield Path(name)


def _unpack(path: Path, folder: Path) -> None:
    hint = "unpack it yourself and give the folder"
    damage = OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, RuntimeError  # or a password
    with readable(path, *damage, said="unpacked", hint=hint):
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                _check_size(path, [entry.file_size for entry in archive.infolist()])
                archive.extractall(folder)
        else:
            with tarfile.open(path) as archive:
                entries = [entry for entry in archive if entry.isfile()]
                _check_size(path, [entry.size for entry in entries])
                archive.extractall(folder, entries, filter="data")


def _check_size(path: Path, sizes: list[int]) -> None:
    if sum(sizes) > MOST_BYTES or len(sizes) > MOST_FILES:
        found = {"name": path.name, "size": sum(sizes) / 1e9, "files": len(sizes)}
        raise refused("large archive", most=MOST_BYTES >> 30, most_files=MOST_FILES, **found)


# Data sets of the datasets library


def mapping(data: Any) -> dict[str, Any]:
    """Split -> Dataset; a Dataset alone has no split."""
    from datasets import Dataset, DatasetDict

    if isinstance(data, DatasetDict):
        return dict(data)
    if isinstance(data, Dataset):
        return {WHOLE: data}
    raise refused("no path", kind=type(data).__name__)


def saved(path: Path) -> dict[str, Any]:
    from datasets import load_from_disk

    hint = "save it again with data.save_to_disk(folder)"
    with readable(path, Exception, said="loaded as a data set", hint=hint):
        return mapping(load_from_disk(str(path)))


def from_hub(name: str, subset: str | None) -> dict[str, Any]:
    import datasets
    from huggingface_hub import HfApi, constants

    closed, failed, offline = False, None, datasets.config.HF_HUB_OFFLINE
    try:
        closed = bool(HfApi().dataset_info(name, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT).gated)
    except Exception as error:  # the cache, at once: datasets itself would ask again for minutes
        failed, datasets.config.HF_HUB_OFFLINE = error, True
    try:
        try:  # datasets does not know which one of its cache is the default
            data = mapping(datasets.load_dataset(name, subset or (failed and "default")))
        except Exception:
            if subset or not failed:
                raise
            data = mapping(datasets.load_dataset(name, None))
        try:
            dataset_parts(data)
        except EmbkitError:  # judgements alone, as MTEB lays its data sets out
            for kind in SIDES:
                (data[kind],) = datasets.load_dataset(name, kind).values()
        return data
    except Exception as error:  # offline, no such data set, no such configuration
        if said := refusal("dataset", name, failed, ["icd10cm"], closed):
            raise said from error
        why = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
        if failed:
            why += f" ({(str(failed) or repr(failed)).splitlines()[0]})"
        raise refused("hub", name=name, why=why) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


def dataset_parts(data: dict[str, Any]) -> list[Part]:
    """The parts of a data set: its corpus, if it has one, and its judgements or its pairs."""
    found = []
    for name, rows in data.items():
        read = dataset_table(rows, name or "rows")
        role = name if name in SIDES else role_of(read)
        role = role if role in (*SIDES, JUDGEMENTS) else PAIRS
        found.append(Part(role, split_name(name), read, name))
    roles = {part.role for part in found}
    if JUDGEMENTS in roles and not {*SIDES} <= roles:
        raise refused("no texts")
    return found
