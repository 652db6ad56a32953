"""Each topic's own library call runs in a lesson, where notebooks/README.md says it does."""

from tests.notebooks import library

# Calls that no lesson shows yet. One that is shown must not stand here.
MISSING: set[str] = set()


def test_the_calls_that_no_lesson_shows_are_known():
    assert library.missing() == MISSING


def test_the_table_is_the_one_in_the_readme():
    text = library.README.read_text(encoding="utf-8")
    kept = text.split(library.START)[1].split(library.END)[0]
    assert kept == library.table(), "python -m tests.notebooks.library"


def test_a_call_is_found_by_its_names_and_arguments(tmp_path, monkeypatch):
    source = tmp_path / "source" / "01_calls.py"
    source.parent.mkdir()
    source.write_text(
        "# %% [markdown]\n# text\n\n# %%\n1\n\n# %%\nm = CLIPModel.from_pretrained(p)\n"
        "x = a.b.f(kind=await g())\n\n# %% tags=['solution']\nanswer = hidden(1)\n"
        "\n# %% tags=['hide']\nfolded(1)\n\n# %%\nf(1)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(library, "NOTEBOOKS", tmp_path)
    found = library.shown("01")
    assert {found[name] for name in ("from_pretrained", "f", "b.f", "kind=", "g")} == {2}
    assert not {"hidden", "folded"} & set(found)
    assert library.place(found, "CLIPModel") == 2 and library.place(found, "Router") is None
