"""The course on data that it has never seen: every notebook of NOTEBOOKS runs on a folder."""

import re
import shutil
from pathlib import Path

import pytest

from embkit import load_domain
from embkit.errors import EmbkitError
from embkit.pairs.pairs import sets
from notebooks.tools import authoring, course
from tests.make_folder import make_beir_folder

SOURCES = Path(__file__).resolve().parents[2] / "notebooks" / "source"
NOTEBOOKS = ("00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "11", "12", "13")
PROBE = "general"  # the split of the general probe, which is no domain of anybody's
# more splits that a lesson shows: the folder's own dev
SECOND = {"12": {"dev"}}


@pytest.fixture(scope="module")
def place(once):
    """The notebooks built anew, a folder of another field, and one store for all."""

    def make(place):
        shutil.copytree(SOURCES, place / "notebooks" / "source")
        authoring.build(place / "notebooks")
        make_beir_folder(place / "folder", documents=120, pairs=100, longest=150)

    return once("any-domain", make)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_and_its_solutions_run_on_a_folder(name, place, shared, monkeypatch, capsys):
    monkeypatch.setenv("EMBKIT_DOMAIN", str(place / "folder"))
    monkeypatch.setenv("EMBKIT_CACHE", str(shared / "cache"))
    for fixed_for_unit_tests in ("EMBKIT_PRECISION", "EMBKIT_DEVICE"):
        monkeypatch.delenv(fixed_for_unit_tests, raising=False)
    books, runs = place / "notebooks", place / "runs"
    status = course.run([name], notebooks=books, runs=runs, solutions=True)
    assert status == 0, capsys.readouterr().out
    (executed,) = (runs / "course" / "solutions").glob(f"{name}_*.ipynb")
    cells = [cell for cell in authoring.read(executed).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    text = " ".join(str(text) for output in outputs for _, _, text in authoring.texts(output))
    tested = set(re.findall(r"(\w+), \d+ queries\n", text))
    own = {"test", PROBE} | SECOND.get(name, set())
    assert tested <= own, "the folder's own split, not those of ICD-10-CM"
    assert re.search(r"\btest\b", text)


def test_no_argument_means_the_environment_s_domain(tmp_path, monkeypatch):
    monkeypatch.delenv("EMBKIT_DOMAIN", raising=False)
    assert load_domain().name == "icd10cm"
    monkeypatch.setenv("EMBKIT_DOMAIN", "")
    assert load_domain().name == "icd10cm"
    monkeypatch.setenv("EMBKIT_DOMAIN", str(make_beir_folder(tmp_path / "mine", 60, 30)))
    domain = load_domain()
    assert (domain.name, domain.test_splits) == ("mine", ("test",))
    assert load_domain("icd10cm").name == "icd10cm", "an argument wins"
    monkeypatch.setenv("EMBKIT_DOMAIN", "icd10")
    with pytest.raises(EmbkitError, match="icd10cm"):
        load_domain()


def test_the_example_folder_is_what_its_readme_says(monkeypatch, tmp_path):
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path))
    domain = load_domain("data/example", profile="workshop")
    assert domain.report.quarantined == {"query without a right document": 34}
    assert (len(domain.corpus), len(domain.queries), domain.test_splits) == (144, 252, ("test",))
    readme = (SOURCES.parents[1] / "data" / "example" / "README.md").read_text(encoding="utf-8")
    for said in ("144 answers", "286 questions", "252 of the questions", "other 34", "MIT"):
        assert said in " ".join(readme.split())
    assert sets(domain) == [], "the folder's own files are no sets of generated queries"
    answers = " ".join(domain.corpus.values())
    questions = " ".join(domain.queries.values())
    names = "Bertha Otto Wanda Sisters Jonah Fridge Aquarium Nelly Heron Luna Shell Grandpa Shed"
    for name in (*names.split(), "Atlas", "Pip"):
        assert f"{name} " in questions and not re.search(rf"\b{name}\b", answers)
    smoke = load_domain("data/example", profile="smoke")
    assert smoke.hash == domain.hash, "small enough to be whole in smoke"
