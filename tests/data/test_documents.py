"""Documents of any kind as texts: what is read, and each reason why something is left out."""

import json
import sys
import zipfile

import pytest

from embkit.data.readers import documents
from embkit.data.readers.documents import read_documents
from embkit.errors import EmbkitError

WORDS = "Some words that are long enough to be a text."
PAGE = f"""<!doctype html><html><head><title>Page C</title><style>x {{}}</style></head><body>
<nav><a href="x">Home</a> <a href="y">About us</a></nav><header><h1>The site</h1></header>
<p>Press S to search.</p>
<main><header><h1>Real head<a href="#">¶</a></h1></header><!-- note --><p>{WORDS} 1 &lt; 2 &amp;
<b>more</b> <i>of it</i><br>a line</p><pre>code
  more</pre><ul><li>one<li>two</ul><table><tr><td>a</td><td>b</td></tr></table></main>
<div role="navigation">Next page</div><footer>imprint</footer>
<script>var x</script></body></html>"""
NAVIGATION = "<ul>" + "<li><a href='x'>another page of the site</a>" * 20 + "</ul>"
SPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
DOCX = f"""<w:document {SPACE}><w:body><w:p><w:pPr><w:pStyle w:val="Heading2"/></w:pPr><w:r><w:t>A
head</w:t></w:r></w:p><w:p><w:r><w:t xml:space="preserve">Some </w:t></w:r><w:r><w:t>words and more
of them</w:t></w:r></w:p></w:body></w:document>"""


def pdf(text):
    """A PDF of one page."""
    stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 5 0 R"
        b"/Resources<</Font<</F1 4 0 R>>>>>>",
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
    ]
    made, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(made))
        made += b"%d 0 obj%s endobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(made)
    return made + b"xref\n0 6\n0000000000 65535 f \n" + table + end


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "papers"
    (made / "sub").mkdir(parents=True)
    return made


def only(folder):
    """The one document of a folder."""
    (document,) = read_documents(folder).documents
    return document


def left(folder):
    return dict(read_documents(folder).skipped)


@pytest.mark.parametrize(
    "name, text, title",
    [
        ("a.md", f"# A title #\n\n{WORDS}", "A title"),
        ("b.rst", f"=======\nA title\n=======\n\n{WORDS}", "A title"),
        ("c.md", f'---\ntitle: "In front"\ntags: x\n---\n{WORDS}', "In front"),
        ("README", WORDS, ""),
    ],
)
def test_plain_text_and_its_title(folder, name, text, title):
    (folder / "sub" / name).write_text(text)
    found = only(folder)
    assert found.id == f"sub/{name}" and found.title == title and WORDS in found.text
    assert "tags" not in found.text and found.body.count(title or WORDS) == 1


def test_html_keeps_headings_and_drops_what_stands_around(folder):
    (folder / "a.html").write_text(PAGE)
    found = only(folder)
    assert found.title == "Page C" and found.body.startswith("Page C\n\n# Real head")
    assert f"{WORDS} 1 < 2 & more of it\na line" in found.text
    assert "code\n  more" in found.text and "- one\n" in found.text
    for gone in ("site", "Home", "Next page", "Press", "imprint", "var x", "¶", "note", "html"):
        assert gone not in found.text


def test_html_that_is_all_navigation_is_left_out(folder):
    (folder / "a.html").write_text(f"<nav>{NAVIGATION}</nav>")
    (folder / "b.html").write_text(NAVIGATION)
    (folder / "c.md").write_text(WORDS)
    assert left(folder) == dict.fromkeys(
        ["a.html", "b.html"], "HTML that is all navigation, or without text"
    )


def test_docx_and_its_headings(folder):
    with zipfile.ZipFile(folder / "a.docx", "w") as archive:
        archive.writestr("word/document.xml", DOCX.replace("\n", " "))
    assert only(folder).text == "## A head\n\nSome words and more of them"


def test_pdf_with_text_without_and_damaged(folder):
    pytest.importorskip("pypdf", reason="the optional extra 'documents' is not installed")
    (folder / "a.pdf").write_bytes(pdf(WORDS))
    (folder / "b.pdf").write_bytes(pdf(""))
    (folder / "c.pdf").write_bytes(b"%PDF-1.4 cut off")
    assert only(folder).text == WORDS
    why = left(folder)
    assert "without text" in why["b.pdf"] and "damaged" in why["c.pdf"]


def test_pdf_without_its_package_names_the_line_that_installs_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    (folder / "a.pdf").write_bytes(pdf(WORDS))
    with pytest.raises(EmbkitError) as error:
        read_documents(folder)
    assert error.value.hint == 'pip install "embkit[documents]"'


def test_rows_are_documents_and_bad_ones_are_counted(folder):
    rows = [{"id": f"r{i % 4}", "title": f"T{i}", "text": f"{WORDS} {i}"} for i in range(5)]
    lines = [json.dumps(row) for row in [*rows, {"id": "x", "text": ""}]]
    (folder / "a.jsonl").write_text("\n".join([*lines, "broken"]))
    (folder / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    found = read_documents(folder)
    ids = [document.id for document in found.documents]
    assert ids == ["a.jsonl#r0", "a.jsonl#r1", "a.jsonl#r2", "a.jsonl#r3", "a.jsonl#r0-5"]
    assert found.documents[0].body == f"T0\n\n{WORDS} 0"
    why = dict(found.skipped)
    assert "1 × malformed JSON" in why["a.jsonl"] and "numbers.csv" in why


def test_encodings_are_found_and_told_and_what_is_no_text_is_left_out(folder):
    text = "Die Größe der Blätter ist für die Übung nützlich."
    for n, encoding in enumerate(("utf-8", "cp1252", "utf-16")):
        (folder / f"{encoding}.txt").write_bytes(f"{text} {n}".encode(encoding))
    (folder / "noise.txt").write_bytes(bytes(range(256)) * 20)
    (folder / "empty.txt").write_text("")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    found = read_documents(folder)
    assert {document.text for document in found.documents} == {f"{text} {n}" for n in range(3)}
    assert found.encodings == {"cp1252": 1, "utf-16": 1} and "1 read as cp1252" in repr(found)
    assert sorted(dict(found.skipped)) == ["empty.txt", "noise.txt", "picture.png"]


def test_archives_are_read_and_equal_documents_are_one(folder):
    for n in range(500):
        (folder / f"{n}.txt").write_text(f"{WORDS}{' ' * (n % 3)}")
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for file in folder.glob("*.txt"):
            archive.write(file, file.name)
    for source in (folder, folder.with_suffix(".zip")):
        found = read_documents(source)
        assert len(found.documents) == 1 and found.merged == 499


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_a_large_file_in_one_line_is_refused_with_words(folder, name, monkeypatch):
    monkeypatch.setattr(documents, "LARGE", 2_000_000)
    (folder / name).write_text("word " * 1_000_000)
    with pytest.raises(EmbkitError, match="2 MB"):
        read_documents(folder)


def test_an_empty_folder_one_of_pictures_and_none_have_one_clear_message_each(folder):
    with pytest.raises(EmbkitError, match="'papers' is empty"):
        read_documents(folder)
    (folder / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(EmbkitError, match="no text that can be read: 1 × a picture"):
        read_documents(folder)
    with pytest.raises(EmbkitError, match="no file or folder"):
        read_documents(folder / "gone")
