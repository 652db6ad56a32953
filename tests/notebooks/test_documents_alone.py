"""The notebook that begins with documents alone runs on a folder, with the packaged writer."""

from pathlib import Path

import pytest

from notebooks.tools import authoring, course

BOOK = Path(__file__).resolve().parents[2] / "notebooks" / "documents_alone.ipynb"


@pytest.mark.slow
def test_documents_alone_end_in_a_verdict(tmp_path, shared, monkeypatch):
    from pydoc_data.topics import topics

    some = sorted(topics, key=lambda name: len(topics[name]))[-40:-10]
    (tmp_path / "documents").mkdir()
    for name in some:
        (tmp_path / "documents" / f"{name}.rst").write_text(topics[name], encoding="utf-8")
    monkeypatch.setenv("EMBKIT_DOCUMENTS", str(tmp_path / "documents"))
    monkeypatch.setenv("EMBKIT_QUERIES", "150")
    monkeypatch.setenv("EMBKIT_CACHE", str(shared / "cache"))
    for fixed_for_unit_tests in ("EMBKIT_PRECISION", "EMBKIT_DEVICE"):
        monkeypatch.delenv(fixed_for_unit_tests, raising=False)
    book = authoring.read(BOOK)
    failure, _ = course._execute(book, BOOK.stem, tmp_path, tmp_path / "runs", "", False)
    assert not failure, failure
    said = [
        text
        for cell in book.cells
        for output in cell.get("outputs", ())
        for _, _, text in authoring.texts(output)
    ]
    (verdict,) = (text for text in said if str(text).startswith("written: "))
    assert "nothing is proven by people" in verdict
