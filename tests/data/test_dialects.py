"""Random texts in every dialect come back equal; of damaged files no good row gets lost."""

import csv
import io
import json
import random
import tarfile
import zipfile

import pytest

from embkit.data import load_domain
from embkit.data.domain import normalise, right_documents
from embkit.errors import EmbkitError
from tests.data.shapes import SHAPES, write
from tests.data.written import ARRAYS, csv_text, jsonl_text, parquet, save, tsv_text


@pytest.fixture(autouse=True)
def whole(monkeypatch):
    """Nothing is cut away."""
    monkeypatch.setenv("EMBKIT_PROFILE", "full")


def read(domain):
    """All right pairs, as ``normalise`` writes their texts."""
    return {
        (normalise(domain.queries[query]), normalise(domain.corpus[document]))
        for qrels in domain.qrels.values()
        for query, judged in qrels.items()
        for document in right_documents(judged)
    }


def plain(pairs):
    return {(normalise(query), normalise(document)) for query, document in pairs}


# -- every dialect carries every text --

WORDS = "oven knife salt bread whisk rest boil stir fold glaze crumb yeast rind brine zest".split()
STRANGE = [
    "crème",
    "jalapeño",
    "Straße",
    "Ω-3",
    "麵包",
    "パン",
    "хлеб",
    "خبز",
    "ขนมปัง",
    "👩‍🍳",
    "½",
]
MARKS = ['"so"', '"', 'say "no', '5"', "it's", "a,b", ",", ";", "a;b", "|", "#", "=", "'", "–"]
MARKS += ["C:\\x", "½", "<b>", "&amp;", "[1]", "{a}"]
SPACES = [" ", " ", " ", "  ", "\t", "\n", "\n\n", "\t\t"]


def text(random, spaces, words=12):
    """A few words, some of them odd, with odd spaces between them."""
    kinds = random.choices([WORDS, STRANGE, MARKS], [6, 2, 3], k=random.randint(2, words))
    parts = [random.choice(kind) + random.choice(spaces) for kind in kinds]
    end = random.choice(["", "", ",", '"', '5"'])
    return "".join(parts).strip() + f" {random.choice(WORDS)} {random.randrange(10**6)}{end}"


def rows_of(seed, spaces):
    """40 pairs; the first has every mark that a dialect must keep apart from its own."""
    numbers = random.Random(seed)
    first = ('a "quoted" word, and 5" of it', '"quoted at its start; and | not at its end')
    pairs = [first] + [(text(numbers, spaces), text(numbers, spaces, 30)) for _ in range(39)]
    assert len(plain(pairs)) == 40
    return [{"query": query, "document": document} for query, document in pairs]


ESCAPES = {"quoting": csv.QUOTE_ALL, "doublequote": False, "escapechar": "\\"}
DIALECTS = {
    "csv_minimal.csv": csv_text,
    "csv_all.csv": lambda rows: csv_text(rows, quoting=csv.QUOTE_ALL),
    "csv_crlf.csv": lambda rows: csv_text(rows).replace("\n", "\r\n"),
    "csv_semicolons.csv": lambda rows: csv_text(rows, delimiter=";"),
    "csv_bars.csv": lambda rows: csv_text(rows, delimiter="|"),
    "csv_backslashes.csv": lambda rows: csv_text(rows, **ESCAPES),
    "tsv_quoted.tsv": lambda rows: csv_text(rows, delimiter="\t"),
    "tsv_all.tsv": lambda rows: csv_text(rows, delimiter="\t", quoting=csv.QUOTE_ALL),
    "tsv_plain.tsv": tsv_text,
    "ascii.jsonl": lambda rows: jsonl_text(rows, ensure_ascii=True),
    "utf_8.jsonl": jsonl_text,
    **{f"{how}.json": form for how, form in ARRAYS.items()},
    "rows.parquet": None,
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", DIALECTS)
def test_random_texts_come_back_equal(name, seed, tmp_path):
    rows = rows_of(seed, SPACES[:4] if name == "tsv_plain.tsv" else SPACES)
    form = DIALECTS[name]
    path = save(tmp_path / name, form(rows)) if form else parquet(tmp_path / name, rows)
    domain = load_domain(path)
    assert read(domain) == plain(row.values() for row in rows)
    assert domain.report.put_aside == "nothing: every row was used"
    assert sum(domain.report.rows.values()) == 40


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["csv_minimal.csv", "tsv_plain.tsv", "utf_8.jsonl"])
def test_random_texts_come_back_equal_in_every_unicode_encoding(name, encoding, seed, tmp_path):
    rows = rows_of(seed, SPACES[:4])
    domain = load_domain(save(tmp_path / name, DIALECTS[name](rows), encoding))
    assert read(domain) == plain(row.values() for row in rows)


# -- damage --

FILES, ROWS, DAMAGED = 40, 250, 0.08
GOOD = [*WORDS, "crème", "Gruyère", "a, b", "it's", "so; so", "82 °C"]


def damage(numbers, row):
    """A row's bytes after an accident."""
    place = numbers.randrange(len(row) + 1)
    kind = numbers.choice(["put in", "put in", "cut off", "other encoding", "swapped"])
    if kind == "put in":
        odd = numbers.choice([b'"', b"'", b"\t", b"\n", b"\0", b"\xff", b"\xe9", b"\\", b",", b"{"])
        return row[:place] + odd + row[place:]
    if kind == "cut off":
        return row[: max(1, place)]
    if kind == "swapped":
        return row[place:] + row[:place]
    return row.decode("utf-8", "replace").encode(
        numbers.choice(["cp1252", "utf-16-le", "utf-8-sig"]), "replace"
    )


def good_rows(numbers, file, spaces):
    """Every text begins with a mark that no other text has."""
    for number in range(ROWS):
        mark = f"m{file:02d}x{number:03d}"
        query, document = (" ".join(numbers.choices(GOOD, k=k)) for k in (4, 9))
        gap = numbers.choice(spaces)
        yield {"query": f"{mark}q {query}", "document": f"{mark}d{gap}{document}"}


FORMS = {
    "jsonl": lambda row: jsonl_text([row]),
    "csv": lambda row: csv_text([row], header=False),
    "all.csv": lambda row: csv_text([row], header=False, quoting=csv.QUOTE_ALL),
    "tsv": lambda row: tsv_text([row], header=False),
}
HEADS = {"jsonl": b"", "tsv": b"query\tdocument\n"}
KINDS = ["jsonl", "csv", "tsv", "jsonl", "all.csv", "tsv"]


def damaged(path, numbers, file, kind, encoding):
    """Writes a file; the line, from 1, of each row that nothing happened to, with its texts."""
    head = (
        b"" if kind == "jsonl" else b"query\tdocument\n" if kind == "tsv" else b"query,document\n"
    )
    whole, kept = head, {}
    spaces = " \n" if kind == "all.csv" else " "
    for row in good_rows(numbers, file, spaces):
        written = FORMS[kind](row).rstrip("\n").encode()
        if numbers.random() < DAMAGED:
            written = damage(numbers, written)
        else:
            kept[whole.count(b"\n") + 1] = tuple(row.values())
        whole += written + b"\n"
    if encoding:
        whole = whole.decode("utf-8", "replace").encode(encoding, "replace")
    path.write_bytes(whole)
    return kept


def records(domain):
    path = domain.report.quarantine
    return [json.loads(x) for x in path.read_text(encoding="utf-8").splitlines()] if path else []


@pytest.mark.parametrize("file", range(FILES))
def test_every_good_row_of_a_damaged_file_is_used_or_put_aside(file, tmp_path):
    numbers = random.Random(file)
    kind = KINDS[file % len(KINDS)]
    encoding = {7: "utf-16", 8: "cp1252", 9: "utf-16-be", 22: "cp1252"}.get(file)
    path = tmp_path / f"damaged.{kind}"
    kept = damaged(path, numbers, file, kind, encoding)
    try:
        domain = load_domain(path)
    except EmbkitError as error:
        assert encoding == "cp1252", error
        return
    pairs, bad = read(domain), records(domain)
    # what was read is what was used, and what was put aside
    assert len(bad) == sum(domain.report.quarantined.values())
    assert sum(domain.report.rows.values()) == len(pairs) + len(bad)
    # each good row is one of them, and not both
    lines = {record["line"] for record in bad}
    used = {line for line, pair in kept.items() if plain([pair]) <= pairs}
    lost = kept.keys() - used - lines
    assert not lost, [kept[line] for line in sorted(lost)[:3]]
    assert not used & lines
    if not encoding:
        assert len(used) > 0.9 * len(kept)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("odd", ['"', '"a","', '\\"', '""a"', '[{"a":', "\t", ",", "sep=", "\\"])
def test_lines_that_never_end_what_they_begin_are_no_reason_to_wait(kind, odd, tmp_path):
    path = save(tmp_path / f"odd.{kind}", "query,document\n" + f"{odd}x\n" * 3000)
    try:
        load_domain(path)
    except EmbkitError as error:
        assert error.given and error.hint


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.zip"])
def test_a_file_of_random_bytes_is_one_error(name, seed, tmp_path):
    numbers = random.Random(seed)
    odd = b'{}[]",;\t\n\0ab\xff\xe9PK\x03\x04PAR1' if seed % 2 else bytes(range(256))
    (tmp_path / name).write_bytes(bytes(numbers.choices(odd, k=2000)))
    with pytest.raises(EmbkitError):
        load_domain(tmp_path / name)


@pytest.mark.parametrize("name", SHAPES)
def test_an_accident_in_one_file_of_a_shape_is_no_error_but_ours(name, tmp_path):
    numbers = random.Random(name)
    shape = write(name, tmp_path / "own")
    files = sorted(p for p in (tmp_path / "own").rglob("*") if p.is_file())
    for _ in range(3):
        path = numbers.choice(files)
        whole = path.read_bytes()
        path.write_bytes(damage(numbers, whole))
        try:
            load_domain(shape.path)
        except EmbkitError as error:
            assert error.given and error.hint
        path.write_bytes(whole)


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def tarred(path, members):
    """One of the members is a link to a file outside."""
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("secret.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "../../secret.csv"
        archive.addfile(link)


@pytest.mark.parametrize("pack, suffix", [(zipped, "zip"), (tarred, "tar")])
def test_an_archive_reaches_nothing_outside_itself(pack, suffix, tmp_path):
    def rows(word):
        return csv_text([{"query": f"{word} {n}?", "document": f"{word} {n}!"} for n in range(9)])

    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    secret = save(tmp_path / "secret.csv", rows("secret"))
    absolute = tmp_path / "absolute.csv"
    names = ["pairs.csv", "../up.csv", "../../secret.csv", str(absolute)]
    pack(inside / f"own.{suffix}", {name: rows("mine").encode() for name in names})
    before = {path for path in tmp_path.rglob("*.csv")}
    try:
        domain = load_domain(inside / f"own.{suffix}")
    except EmbkitError:
        pass
    else:
        assert not any("secret" in text for text in domain.corpus.values())
    outside = [tmp_path / "a" / "up.csv", absolute]
    assert not any(path.exists() for path in outside)
    assert before <= set(tmp_path.rglob("*.csv")) and "secret 0?" in secret.read_text()
