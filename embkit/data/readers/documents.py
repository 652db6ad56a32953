"""Documents of any kind as texts: a folder, an archive or a file; what is left out, and why."""

import contextlib
import hashlib
import itertools
import logging
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from ...errors import not_installed
from ...files import told_by
from ..domain import normalise
from ..refusals import refused
from . import asking, joined, parts, rows, shapes, tables
from .folder import local, not_there

LARGE = 20_000_000  # bytes of one text: a long book has two million
LETTERS = 20  # letters and digits of a document, at least
LINKS = 0.75  # of a page's text in links, from which on it is navigation
TOLD = told_by(__file__, "documents.toml")  # suffixes, and what HTML's tags mean
PAGES = TOLD["suffixes"]["pages"]
READ = ".txt, .md, .rst, .html, .pdf, .docx, and .jsonl or .csv with a column of texts"
INSTALL = "pip install"

_TITLE = re.compile(
    r"\A(?:#{1,6}[ \t]+(.+?)[ \t#]*$|([=\-~]{3,}\n)?[ \t]*(\S.*)\n[=\-~]{3,}[ \t]*$)", re.M
)
_FRONT = re.compile(r"\A---\n(.{0,5000}?)\n---\n", re.S)
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset=[\"']?([\w-]+)", re.I)
_HEADED = re.compile(r"(?:heading|berschrift|titre|t[ií]tulo|titolo) ?(\d)|(title)", re.I)


class Document(NamedTuple):
    """A text and where it came from."""

    id: str  # its path in the folder; of a file with several, "#" and its own id behind that
    title: str  # its first heading, or what the file says; may be empty
    text: str

    @property
    def body(self) -> str:
        """What is searched: the text, below its title where it does not begin with it."""
        named = not self.title or normalise(self.title) in normalise(self.text[:500])
        return self.text if named else f"{self.title}\n\n{self.text}"


@dataclass(frozen=True)
class Documents:
    """What was read of a folder, and what was not."""

    documents: tuple[Document, ...]
    skipped: tuple[tuple[str, str], ...]  # file and reason
    merged: int  # documents whose text another has
    encodings: Counter[str]  # of files that are not UTF-8

    def __repr__(self) -> str:
        said = [f"{len(self.documents):,} documents"]
        said += [f"{self.merged:,} with the text of another, merged"] if self.merged else []
        said += [f"{n:,} read as {name}" for name, n in self.encodings.items()]
        shown = (why if INSTALL in why else why.split(": ")[0] for _, why in self.skipped)
        causes = Counter(shown)
        said += [f"left out: {rows.causes_of(causes)}"] if causes else []
        return "; ".join(said)


class _Left(Exception):
    """Why a file is left out."""


def files_of(source: str | os.PathLike[str]) -> list[tuple[str, Path]]:
    """The files of a folder by name, hidden ones left out; a file is alone.

    Fails where nothing is there, or the folder is empty.
    """
    path = local(source)
    if path is None:
        raise not_there(source, "a folder of documents, a zip or tar of one, or one file")
    found = [(path.name, path)] if path.is_file() else []
    for top, folders, names in os.walk(path) if path.is_dir() else ():
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        inside = Path(top).relative_to(path)
        found += [((inside / name).as_posix(), Path(top, name)) for name in names if name[0] != "."]
    if not found:
        raise refused("empty folder", name=path.name, read=READ)
    return sorted(found)


def read_documents(source: str | os.PathLike[str]) -> Documents:
    """All documents of a folder, an archive or a file; equal texts are one.

    What cannot be read is left out with its reason. Fails where nothing is left.
    """
    from tqdm import tqdm

    skipped: list[tuple[str, str]] = []
    found: dict[bytes, Document] = {}  # by a hash of the text
    merged, encodings = 0, Counter[str]()
    with parts.unpacked(local(source)) as folder:
        files = files_of(folder or source)
        for name, file in tqdm(files, "reading", unit="file", mininterval=1, delay=2):
            name = name.encode("utf-8", "backslashreplace").decode()
            try:
                for document in _documents(name, file, skipped, encodings):
                    if sum(map(str.isalnum, document.text[:1000])) < LETTERS:
                        skipped.append((document.id, "empty, or hardly a word"))
                        continue
                    key = hashlib.sha1(normalise(document.text).encode()).digest()
                    merged += found.setdefault(key, document) is not document
            except Exception as error:  # whatever one file holds, the others are read
                why = getattr(error, "given", None) or getattr(error, "strerror", None)
                why = why or (str(error) if isinstance(error, _Left) else type(error).__name__)
                hint = getattr(error, "hint", "")
                skipped.append((name, f"{why}: {hint}" if INSTALL in hint else why))
    if not found:
        causes = Counter(why for _, why in skipped)
        installed = next((why for why in causes if INSTALL in why), "").partition(": ")[2]
        told = f"{Path(source).name!r} holds no text that can be read: {rows.causes_of(causes)}"
        hint = installed or "run OCR on scanned pages and pictures, or give another folder"
        raise refused("no words", given=told[:600], read=READ, hint=hint)
    return Documents(tuple(found.values()), tuple(skipped), merged, encodings)


def _documents(
    name: str, file: Path, skipped: list[tuple[str, str]], encodings: Counter[str]
) -> Iterator[Document]:
    kind = rows.suffix(file)
    if not file.is_file():
        raise _Left("no file: a pipe, or a link to nothing")
    if kind in tables.KINDS:
        yield from _rows(name, file, skipped)
        return
    if kind in TOLD["suffixes"]["pictures"]:
        raise _Left("a picture")
    if file.name.lower().endswith(parts.ARCHIVES):
        raise _Left("an archive among other files")
    readers: dict[str, Callable[[Path], str]] = {".pdf": _pdf, ".docx": _docx}
    if kind not in (*TOLD["suffixes"]["texts"], *PAGES, *readers):
        raise _Left(f"of a kind that is not read ({kind})")
    if file.stat().st_size > LARGE * (10 if kind in readers else 1):
        raise _Left(f"larger than {LARGE // 10**6} MB (a document a file, or a line of .jsonl)")
    title = ""
    if kind in readers:
        text = readers[kind](file)
    else:
        text, encoding = _decoded(file, kind)
        encodings.update([encoding] if encoding else [])
        if kind in PAGES:
            title, text = _page(text)
    text = text.encode("utf-8", "replace").decode()  # no half letters
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t\xa0]+\n", "\n", text.replace("\0", ""))).strip()
    if front := _FRONT.match(text):  # of Markdown: settings, with a title
        title = next(iter(re.findall(r"(?m)^title: *[\"']?(.+?)[\"']? *$", front[1])), "")
        text = text[front.end() :].strip()
    if headed := _TITLE.match(text):
        title = title or headed[1] or headed[3]
    yield Document(name, title.strip()[:300], text)


def _decoded(file: Path, kind: str) -> tuple[str, str]:
    """A file's text, and its encoding where that is not UTF-8."""
    data = file.read_bytes()
    named = _CHARSET.search(data[:4096]) if kind in PAGES else None
    likely = [rows.encoding_of(data[:4096])] + ([named[1].decode()] if named else [])
    found, encoding = None, ""
    for encoding in itertools.chain(likely, (name for name, _ in asking.encodings(file))):
        with contextlib.suppress(UnicodeDecodeError, LookupError):
            found = data.decode(encoding)
            break
    some = (found or "\0")[:100_000]
    if sum(c.isprintable() or c in "\n\r\t\f" for c in some) < 0.97 * len(some) or "\0" in some:
        raise _Left("no text, or in an unknown encoding")
    text = str(found).replace("\r\n", "\n").replace("\r", "\n")
    return text, "" if encoding == "utf-8-sig" or text.isascii() else encoding


def _rows(name: str, file: Path, skipped: list[tuple[str, str]]) -> Iterator[Document]:
    """The documents of a table, a row each."""
    if (kind := rows.suffix(file)) not in (".json", *tables.PARQUET):
        with rows.binary(file) as stream:
            if len(stream.readline(LARGE)) == LARGE:
                raise _Left(f"a line of more than {LARGE // 10**6} MB")
    table = tables.table(file, None, file=name)
    columns = joined.text_columns(table, "corpus")
    named = shapes.fitting([columns.get("text", "")], shapes.TEXTS["text"])
    if not named and ("text" not in columns or kind not in (".jsonl", ".ndjson")):
        raise _Left("a table without a column of texts that is called text")
    titled = columns.get("title") if columns.get("title") != columns["text"] else None
    seen: set[str] = set()
    with contextlib.closing(rows.Quarantine()) as bad:
        for row in table.rows(bad):
            text: Any = row.values.get(columns["text"])
            title: Any = row.values.get(titled or "")
            if (fault := rows.text_fault(text)) or len(text) > LARGE:
                bad.add(fault or "text longer than a book", row)
                continue
            own = rows.as_id(row.values.get(columns.get("id", ""))) or str(row.line)
            own = f"{own}-{row.line}" if own in seen else own
            seen.add(own)
            yield Document(f"{name}#{own}", "" if rows.text_fault(title) else title.strip(), text)
    if bad.causes:
        skipped.append((name, f"rows that cannot be used: {rows.causes_of(bad.causes)}"))


def _pdf(file: Path) -> str:
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise not_installed("PDF needs a package that is not installed", "documents") from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(file)
        if reader.is_encrypted and not reader.decrypt(""):
            raise _Left("a PDF with a password")
        text = "\n\n".join(page.extract_text() for page in reader.pages)
    except _Left:
        raise
    except Exception as error:  # of damaged files, many kinds
        raise _Left(f"a damaged PDF: {type(error).__name__}") from error
    if sum(map(str.isalnum, text)) < LETTERS:
        raise _Left("a PDF without text, such as scanned pages")
    return re.sub(r"(?<=[a-zß-ÿ])-\n(?=[a-zß-ÿ])", "", text)  # a word over two lines


def _docx(file: Path) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            entry = archive.getinfo("word/document.xml")
            if entry.file_size > 10 * LARGE:
                raise _Left(f"larger than {LARGE // 10**6} MB")
            root = ElementTree.fromstring(archive.read(entry))
    except (zipfile.BadZipFile, KeyError, RuntimeError, ElementTree.ParseError) as error:
        raise _Left("a damaged .docx, or one with a password") from error
    lines = []
    for part in root.iter():
        if not part.tag.endswith("}p"):
            continue
        said, level = "", 0
        for run in part.iter():
            kind, value = run.tag.rpartition("}")[2], [*run.attrib.values()]
            said += {"t": run.text or "", "tab": "\t", "br": "\n"}.get(kind, "")
            if kind == "pStyle" and (head := _HEADED.search(str(value[0] if value else ""))):
                level = int(head[1] or 1)
        lines.append(f"{'#' * min(level, 6)} {said}".strip() if said.strip() else "")
    return "\n\n".join(filter(None, lines))


def _page(html: str) -> tuple[str, str]:
    """A page's title and text: headings as "# ...", without what stands around it."""
    import bs4

    page: Any = bs4.BeautifulSoup(html, "html.parser")
    dropped, roles, marks, blocks = (TOLD[k] for k in ("dropped", "roles", "marks", "blocks"))
    title = " ".join(page.title.get_text().split()) if page.title else ""
    for part in page.find_all(lambda tag: tag.name in dropped or tag.get("role") in roles):
        own = part.name == "header" and part.find_parent(["article", "main"])  # has its heading
        if not own and not part.decomposed:
            part.decompose()
    main = page.find("main") or page.find(role="main") or page
    page = main if sum(map(str.isalnum, main.get_text())) >= LETTERS else page
    linked = sum(map(str.isalnum, "".join(link.get_text() for link in page.find_all("a"))))
    letters = sum(map(str.isalnum, page.get_text()))
    if letters < LETTERS or linked > LINKS * letters:
        raise _Left("HTML that is all navigation, or without text")
    for words in list(page.find_all(string=True)):
        if isinstance(words, bs4.element.PreformattedString):  # a comment, a doctype
            words.extract()
        elif not words.find_parent("pre"):
            mark = words.strip() in marks and words.find_parent("a")
            words.replace_with("" if mark else re.sub(r"\s+", " ", words))
    for part in page.find_all(blocks):
        lead = f"\n\n{'#' * int(part.name[1])} " if part.name[1:].isdigit() else "\n\n"
        before, after = TOLD["around"].get(part.name, (lead, "\n\n"))
        part.insert(0, before)
        part.append(after)
    lines = page.get_text().split("\n")
    return title, "\n".join("" if re.fullmatch(r"[#\-\s]*", line) else line for line in lines)
