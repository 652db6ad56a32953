"""Data of your own: a folder, a file, an archive, a data set; read once, checked, made a Domain.

What cannot be used is put aside and counted: see ``LoadReport``. What can be read in two ways is
asked: see ``asking``.
"""

import contextlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ... import session
from ...assets.hub import is_id
from ...errors import EmbkitError
from ...files import readable
from ...session import shown
from ..domain import Domain, normalise, right_documents
from ..refusals import refused
from ..splits import divide, smoke
from ..text_checks import no_text
from . import image_folder, joined, parts
from .asking import Columns, Reading, Unclear, encodings
from .draft import WHOLE, Material, quarantine_file, reported
from .joined import add_pairs
from .kinds import Table
from .parts import CORPUS, JUDGEMENTS, MARKED, PAIRS, QUERIES, TRIPLES, UNNAMED, Part
from .rows import NotDecoded, Quarantine, causes_of, suffix
from .tables import KINDS, PARQUET, PLAIN, table

LONG = 100_000  # characters; a longer text is kept and noted
UNDECODED = 0.1  # share of a file's rows in another encoding, above which it is asked for
_TEXTUAL = (*KINDS, *PLAIN)


def load(
    source: Any,
    profile: str,
    *,
    columns: Columns | None = None,
    encoding: str | None = None,
    subset: str | None = None,
) -> Domain:
    """Reads data of your own; arguments and errors are those of ``load_domain``."""
    try:
        "".encode(encoding or "utf-8")
    except LookupError as error:
        raise refused("encoding", encoding=encoding) from error
    try:
        return _load(source, profile, columns, encoding, subset)
    except NotDecoded as found:
        path, share = found.args
    # asked: which of the encodings that read all of it is the right one
    readings: list[Reading] = []
    for name, rows in encodings(path):
        options = {"encoding": name} | ({"columns": columns} if columns else {})
        try:
            domain = _load(source, profile, columns, name, subset)
        except Unclear as error:
            readings += error.readings
        except (EmbkitError, NotDecoded):
            continue
        else:
            right = sum(1 for split in domain.qrels for _ in domain.right(split))
            readings.append(Reading(f"read as {name}", options, right, 0, rows))
    given = f"{share:.0%} of the lines of {path.name!r} are not {encoding or 'UTF-8'}"
    expected = "the encoding in which the letters are right"
    if readings:
        raise Unclear(given, expected=expected, readings=readings)
    raise EmbkitError(given, expected=expected, hint="save the file as UTF-8")


def _load(
    source: Any, profile: str, columns: Columns | None, encoding: str | None, subset: str | None
) -> Domain:
    name, data, path = _name(source), None, None
    # a data set: an object, the folder it was saved to, an id on the hub
    if not isinstance(source, str | os.PathLike):
        data, where = parts.mapping(source), "a datasets object"
    elif path := local(source):
        where = shown(path)
        if any((path / file).is_file() for file in ("dataset_dict.json", "state.json")):
            data = parts.saved(path)
    elif is_hub_id(source):
        data = parts.from_hub(str(source), subset)
        part = next(iter(data.values())).info.config_name or "default"
        where = f"the hub: {source}" + f", {part}" * (part != "default")
    else:
        raise not_there(source, "a path from here or from the project's folder")
    with parts.unpacked(path) as inside:
        with _quarantine(source, name, encoding) as bad:
            material = Material(bad, columns)
            # pictures with captions, or texts
            shown_by = image_folder.load(inside, data, name, profile, where, material)
            if shown_by is not None:
                return shown_by
            layout = _read(inside, data, material)
            for file, lost in bad.undecoded.items():
                if inside and lost > UNDECODED * bad.rows[file]:
                    path = inside / file if inside.is_dir() else inside
                    raise NotDecoded(path, lost / bad.rows[file])
            return _domain(material, name, profile, layout, where)


def _read(path: Path | None, data: dict[str, Any] | None, material: Material) -> str:
    """Adds what a folder, a file or a data set holds; as what it was read."""
    if path is None or data is not None:
        kind, found = "a data set", parts.dataset_parts(data or {})
    elif path.is_dir():
        kind, found = "a folder", parts.parts_of(path, material.bad.encoding)
    elif found := parts.objects(path):
        kind = "one JSON object"
    else:
        kind, found = "", [Part(PAIRS, WHOLE, _table(path, material), path.name)]
    roles = {part.role for part in found}
    if roles & {CORPUS, QUERIES} and (QUERIES in roles or PAIRS not in roles):
        _join(path, found, material)
        return f"{kind} in BEIR's layout" if path else f"{kind} with judgements"
    _pairs(path, found, material)
    return f"{kind} of pairs" if kind or not path else f"pairs from {suffix(path)[1:].upper()}"


def _table(path: Path, material: Material) -> Table:
    """A file of pairs as a table."""
    kind, given = suffix(path), material.given
    if kind not in _TEXTUAL or (kind in PARQUET and path.suffix == ".gz"):
        raise refused("suffix", path=path, kind=kind or path.suffix, kinds=", ".join(KINDS))
    said = given.values() if isinstance(given, Mapping) else ()
    each = (one for x in said for one in (x if isinstance(x, list | tuple) else [x]))
    return table(path, material.bad.encoding, any(isinstance(one, int) for one in each) or None)


def _join(path: Path | None, found: Sequence[Part], material: Material) -> None:
    """Adds texts and judgements, which their ids join."""
    name = path.name if path else "the data set"
    if material.given is not None:
        raise refused("columns known")
    of = {role: [part for part in found if part.role == role] for role in parts.ALL}
    missing = [f"{kind}.jsonl" for kind in (CORPUS, QUERIES) if not of[kind]]
    if missing := missing + ([] if of[JUDGEMENTS] or of[TRIPLES] else ["qrels/*.tsv"]):
        raise refused("missing", name=name, missing=" and no ".join(missing))
    if len(folders := sorted({Path(part.name).parent.as_posix() for part in of[CORPUS]})) > 1:
        assert path is not None
        some, step = ", ".join(folders[:5]), parts.to_load(path / folders[0])
        raise refused("corpora", name=name, n=len(folders), some=some, **step)
    for part in (*of[CORPUS], *of[QUERIES]):
        joined.add_texts(material, part.role, part.table)
    texts = material.queries, material.corpus
    for part in (*of[JUDGEMENTS], *of[TRIPLES], *of[MARKED]):
        triples = part.role == TRIPLES
        rows = joined.judged_rows(part.table, texts, material.bad, triples)
        if part.role == MARKED:
            joined.add_wrong(material, rows)
            continue
        joined.add_judgements(material, part.split, rows, triples or not of[MARKED])
    if unused := [part.name for part in found if part.role in (PAIRS, UNNAMED)]:
        material.notes.append(f"not read: {', '.join(unused[:8])}")
    if path and path.is_dir():
        joined.read_card(next(iter(path.rglob("domain.json")), path / "domain.json"), material)


def _pairs(path: Path | None, found: Sequence[Part], material: Material) -> None:
    """Adds files or parts of pairs, each in its split, and a corpus, if there is one."""
    pairs = [part for part in found if part.role in (PAIRS, JUDGEMENTS, TRIPLES)]
    splits = {part.split for part in pairs}
    if not pairs or not (splits <= {"train", "dev", "test"} or path is None or len(pairs) == 1):
        assert path is not None
        inside = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        usable = [part.name for part in found if part.role == PAIRS]
        write = "write your pairs as a CSV with the columns anchor and positive"
        step = {"hint": write, "shell": write}
        if usable:
            step = parts.to_load(path / usable[0], "for one file of pairs: ")
        raise refused("no domain", name=path.name, inside=inside, **step)
    for part in found:
        if part.role == CORPUS:
            joined.add_texts(material, CORPUS, part.table)
    known = {normalise(text): d for d, text in material.corpus.items()}
    for part in pairs:
        split = WHOLE if splits == {"train"} or len(pairs) == 1 and path else part.split
        add_pairs(material, part.table, split, known)


@contextlib.contextmanager
def _quarantine(source: Any, name: str, encoding: str | None) -> Iterator[Quarantine]:
    """What bad rows are put into; if the source is refused, its error says where they lie."""
    bad, target = Quarantine(encoding), quarantine_file(f"{name}-refused")
    try:
        with readable(Path(str(source)), OSError):  # a folder that may not be listed
            yield bad
        target.unlink(missing_ok=True)  # of an earlier try
    except EmbkitError as error:
        if not bad.causes:
            raise
        bad.save(target)
        if isinstance(error, Unclear):
            raise
        lie = f"; {shown(target)} holds each bad row and its reason"
        raise EmbkitError(
            f"{error.given} (put aside: {causes_of(bad.causes)})",
            expected=error.expected,
            hint=error.hint + lie,
            shell=error.shell + lie,
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


def not_there(source: str | os.PathLike[str], expected: str) -> EmbkitError:
    """The error for a source that is no path."""
    here = Path.cwd().name
    return refused("no source", source=os.fspath(source), expected=expected, here=here)


def is_bare_name(source: str) -> bool:
    """Whether a text is neither a path nor a hub id: a domain's name, and a wrong one."""
    bare = not any(mark in source for mark in "/\\~") and suffix(Path(source)) not in _TEXTUAL
    return bare and (not source.strip() or local(source) is None)


def is_hub_id(source: str | os.PathLike[str]) -> bool:
    """Whether a source looks like ``owner/name`` and not like a path."""
    plain = isinstance(source, str) and is_id(source) and "@" not in source
    if not plain or suffix(Path(source)) in _TEXTUAL:
        return False
    return local(str(source).split("/")[0]) is None  # in a folder that is there: a path, mistyped


def _name(source: Any) -> str:
    """A name that can be a folder's: letters, digits, dot, dash and underscore."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        path = path.resolve() if path.name in ("", ".", "..") else path
        name = path.name
        if path.is_file() or suffix(path) in _TEXTUAL:
            name = name.removesuffix(".gz").removesuffix(suffix(path))
    else:
        one = next(iter(source.values()), None) if isinstance(source, Mapping) else source
        name = getattr(getattr(one, "info", None), "dataset_name", None) or "dataset"
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "folder"


def _domain(material: Material, name: str, profile: str, layout: str, where: str) -> Domain:
    """Settled, divided, cut to the profile, checked; the bad rows written down."""
    material.settle()
    if not material.qrels:
        rows, documents = material.bad.rows.total(), len(material.corpus)
        raise refused("nothing usable", where=where, rows=rows, documents=documents)
    # divided into splits, and cut to the smallest profile
    qrels, said = divide(material.qrels, material.corpus, material.queries, material.groups)
    wrong, corpus = material.wrong(), material.corpus
    material.notes += _oddities(material)
    if profile == "smoke":
        there, asked = len(corpus), sum(map(len, qrels.values()))
        qrels, corpus = smoke(qrels, corpus, wrong)
        if (kept := sum(map(len, qrels.values()))) < asked or len(corpus) < there:
            cut = f"{len(corpus):,} of {there:,} documents and {kept:,} of {asked:,} queries"
            material.notes.append(f"profile smoke: cut to {cut}")
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
        held_out=material.held_out if material.held_out in tests else None,
        groups={d: group for d, group in material.groups.items() if d in corpus},
        parents={d: p for d, p in material.parents.items() if d != p and {d, p} <= corpus.keys()},
        negatives={q: documents for q, documents in negatives.items() if documents},
        about=about | material.about,
    )
    file = f"{name}-{domain.hash}"
    return reported(domain, material, file, source=where, layout=layout, splits=tuple(said))


def _oddities(material: Material) -> list[str]:
    """What is kept and worth a look."""
    corpus, queries, alike = material.corpus, material.queries, material.alike
    asked = median(len(queries[q]) for qrels in material.qrels.values() for q in qrels)
    judged = itertools.chain(*(qrels.values() for qrels in material.qrels.values()))
    told = median(len(corpus[d]) for documents in judged for d in right_documents(documents))
    long = sum(len(text) > LONG for text in corpus.values())
    found = {
        f"{material.merged:,} rows repeat an earlier one: counted once": material.merged,
        f"{alike:,} texts differ from another in case or spaces alone: taken as one": alike,
        f"right documents are shorter than queries ({told:.0f} against {asked:.0f} characters): "
        "are the columns swapped?": told < 0.6 * asked,
        f"{long:,} documents are longer than {LONG:,} characters: a model reads only the first "
        "few hundred words": long,
    }
    notes = [note for note, there in found.items() if there]
    for kind, texts in (("documents", corpus), ("queries", queries)):
        odd = Counter(what for text in texts.values() if (what := no_text(text)))
        notes += [f"{n:,} {kind} are no texts: {what}" for what, n in odd.most_common()]
    return notes
