"""The domain python_code: what is read, what is left out, and that names and modules don't leak."""

import ast
import dataclasses
import re
import sys
import textwrap
from collections import namedtuple
from pathlib import Path

import pytest

from embkit.data import load_domain
from embkit.data.domain import normalise
from embkit.data.sources import python_code
from embkit.errors import EmbkitError
from embkit.export.cards import card

Function = namedtuple("Function", "id unit query document")


@pytest.fixture(scope="module")
def smoke():
    return load_domain("python_code", profile="smoke")


def functions(tmp_path, source, name="made.py"):
    (tmp_path / name).write_text(textwrap.dedent(source), encoding="utf-8")
    return list(map(Function._make, python_code._of_folder(tmp_path, tmp_path)))


FUNCTION = '''
    def is_absolute(self, path: str, /, *rest, strict=False, **more) -> bool:
        """True if the path is absolute. On Windows, also the drive counts.

        More of it.
        """
        # a comment stays
        if strict and not self.is_absolute(path):
            return super().is_absolute(path)
        return is_absolute(path) or self.not_is_absolute
'''


def test_a_document_has_parameters_and_body_but_neither_name_nor_docstring(tmp_path):
    (found,) = functions(tmp_path, FUNCTION)
    assert found.query == "True if the path is absolute."
    assert found.document == (
        "def _(self, path, rest, strict, more):\n"
        "    # a comment stays\n"
        "    if strict and not self._(path):\n"
        "        return super()._(path)\n"
        "    return _(path) or self.not_is_absolute"
    )
    assert found.id == "made:is_absolute" and found.unit == "made"


@pytest.mark.parametrize(
    "docstring, query",
    [
        ("Join two or more paths. The rest.", "Join two or more paths."),
        ("Join paths, e.g. Those of files. More.", "Join paths, e.g. Those of files."),
        ("Join them. But only relative paths.", "Join them. But only relative paths."),
        ("join(a, b) -> str\n\nJoin two or more paths.", "Join two or more paths."),
        ("Join two\n  or more   paths.\n\nNot this.", "Join two or more paths."),
        ("Four words are few", ""),
        (">>> join a and b and c", ""),
        ("", ""),
    ],
)
def test_a_query_is_the_first_sentence_of_five_words(docstring, query):
    assert python_code.summary(docstring) == query


def test_methods_count_and_functions_within_functions_do_not(tmp_path):
    found = functions(
        tmp_path,
        '''
        class Box:
            def put(self, thing):
                """Put one thing into the box."""
                self.things.append(thing); self.count += 1; return self.things
            if True:
                async def take(self):
                    """Take the last thing out again."""
                    thing = self.things.pop(-1); self.count -= 1; return thing
            def empty(self):
                """Whether nothing is in the box."""
                return not self.things
            def put(self, thing, twice):
                """Put one thing in twice instead."""
                def inner():
                    """This is of no interest here."""
                    return self.things, thing, twice, thing, twice, thing
                return inner
        ''',
    )
    assert [f.id for f in found] == ["made:Box.put", "made:Box.take", "made:Box.put#2"]
    assert "def inner" in found[2].document  # and "empty" has too little code


def test_a_file_that_is_no_python_is_passed_over_and_encodings_are_read(tmp_path):
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "null.py").write_bytes(b"x = 1\0")
    (tmp_path / "wrong.py").write_bytes(b'"""\xff\xfe"""')
    (tmp_path / "latin.py").write_bytes(
        '# -*- coding: latin-1 -*-\ndef f(a):\n    """Gr\xfc\xdfe an a b c."""\n\x0c\n    b = [a]\n'
        "    return a + b + a + b + a + b + a + b\n".encode("latin-1")
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text(textwrap.dedent(FUNCTION))
    ((_, _, query, document),) = python_code._of_folder(tmp_path, tmp_path)
    assert query == "Grüße an a b c." and document.endswith("+ b + a + b")


def test_units_are_top_level_modules_and_parts_of_packages():
    assert python_code.unit(("email", "mime", "text")) == "email"
    assert python_code.unit(("numpy", "linalg", "_linalg")) == "numpy.linalg"
    assert python_code.unit(("pandas", "core", "frame")) == "pandas.core.frame"
    assert python_code.unit(("sklearn", "base")) == "sklearn.base"


def made_domain(monkeypatch, pairs):
    """The domain of (unit, query, document) triples."""
    rows = [
        (f"{unit}:f{n}", unit, query, document) for n, (unit, query, document) in enumerate(pairs)
    ]
    monkeypatch.setattr(python_code, "_functions", lambda profile: iter(rows))
    return python_code.load("smoke")


def some_pairs(n=400):
    return [(f"m{i % 40}", f"what number {i} does here", f"def _(): code {i}") for i in range(n)]


def test_twins_are_one_document_and_shared_docstrings_one_query(monkeypatch):
    pairs = some_pairs()
    again = ("m1", "another way to say it here", pairs[0][2].upper())
    same = ("m2", pairs[5][1].upper(), "def _(): other code")
    domain = made_domain(monkeypatch, [*pairs, again, same])
    assert len(domain.corpus) == 401 and len(domain.queries) == 401
    answers = {domain.queries[q]: j for qrels in domain.qrels.values() for q, j in qrels.items()}
    assert answers[again[1]] == {"m0:f0": 1}
    assert answers[pairs[5][1]] == {"m5:f5": 1, "m2:f401": 1}


def test_a_twin_in_a_held_out_module_is_not_trained_on(monkeypatch):
    pairs = some_pairs()
    domain = made_domain(monkeypatch, pairs)
    held = sorted(domain.tested_groups)[0]
    trained = sorted({domain.groups[d] for d in domain.trained_documents})[0]
    mine = [p for p in pairs if p[0] == trained]
    copies = [(held, f"the copy of it, {n} of them", code) for n, (_, _, code) in enumerate(mine)]
    domain = made_domain(monkeypatch, [*pairs, *copies])  # raises on a leak
    assert not [d for d in domain.trained_documents if domain.groups[d] == trained]


def test_the_smoke_profile_is_small_whole_and_the_same_each_time(smoke):
    counts = smoke.counts()
    assert 300 <= counts["documents"] <= 800
    assert counts["novel queries"] >= 30 and counts["known queries"] >= 15
    assert counts["dev queries"] >= 10 and counts["training pairs"] >= 200
    assert smoke.test_splits == ("known", "novel") and smoke.held_out == "novel"
    assert python_code.load("smoke").hash == smoke.hash
    assert f"Python {sys.version.split()[0]}" in smoke.about["source"]


def test_held_out_modules_are_whole(smoke):
    held = smoke.tested_groups
    assert held and held.isdisjoint({smoke.groups[d] for d in smoke.trained_documents})
    for split in ("train", "dev"):
        for judged in smoke.qrels[split].values():
            assert held.isdisjoint({smoke.groups[d] for d in judged})


def test_no_document_holds_its_own_docstring_or_name(smoke):
    for document, text in smoke.corpus.items():
        name = document.partition(":")[2].partition("#")[0].split(".")[-1]
        assert re.match(r"def _\([\w, ]*\):\n", text)
        assert not re.search(rf"(self|cls|super\(\))\.{name}\b", text), document
    for judged in smoke.qrels.values():
        for query, right in judged.items():
            for document in right:
                assert normalise(smoke.queries[query]) not in normalise(smoke.corpus[document])


def test_documents_are_the_functions_that_python_itself_finds(smoke):
    """Against the parser and inspect's view of one module: textwrap."""
    tree = ast.parse(Path(textwrap.__file__).read_text(encoding="utf-8"))
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    there = {d.partition(":")[2].split(".")[-1] for d in smoke.corpus if d.startswith("textwrap:")}
    assert {"wrap", "dedent", "indent"} <= there <= {n.name for n in nodes}
    names = [n.arg for n in next(n for n in nodes if n.name == "indent").args.args]
    assert smoke.corpus["textwrap:indent"].startswith(f"def _({', '.join(names)}):")


def test_a_python_without_sources_is_one_error(monkeypatch, tmp_path):
    monkeypatch.setattr(python_code.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(EmbkitError, match="sources of Python's standard library"):
        python_code.load("smoke")


# -- the card of any domain --


@pytest.fixture(scope="module")
def model(tiny_model):
    from embkit.models.loading import load_model

    return load_model(tiny_model)


def test_the_card_of_a_named_domain_has_all_profiles(monkeypatch, tiny_model, model, smoke):
    monkeypatch.setattr("embkit.export.cards.load_domain", lambda name, profile: smoke)
    monkeypatch.setattr("embkit.export.cards.MODEL", str(tiny_model))
    text = re.sub(" +", " ", card("python_code"))
    assert "| smoke | workshop | full |" in text and smoke.hash in text
    assert f"| documents | {len(smoke.corpus):,} |" in text
    assert "python -m embkit card python_code" in text and "PSF License" in text
    cut = re.search(r"documents that its window of 48 tokens cuts \| ([\d.]+)%", text)
    tokens = [len(model.tokenizer(d)["input_ids"]) for d in smoke.corpus.values()]
    share = 100 * sum(n > 48 for n in tokens) / len(tokens)
    assert float(cut[1]) == pytest.approx(share, abs=0.06)


def test_the_card_of_any_domain_acts_on_nothing_in_its_texts(monkeypatch, tiny_domain, tiny_model):
    monkeypatch.setattr("embkit.export.cards.MODEL", str(tiny_model))
    domain = dataclasses.replace(
        tiny_domain,
        corpus={**tiny_domain.corpus, "brain0": "a | b\n<script>`x`</script> [l](u)"},
        test_splits=("novel", "known"),
        about={"title": "T", "limits": "L"},
    )
    text = card(domain)
    assert "<script>" not in text
    assert r"a \| b \<script\>\`x\`\</script\> [l]\(u)" in text
    assert "Not known." in text and "`novel` asks only about groups" in text
