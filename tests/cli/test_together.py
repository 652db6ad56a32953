"""board: whatever lies in the folder, the page is made; what is left out is said."""

import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from embkit.cli.main import main
from embkit.cli.together import gathered
from embkit.evaluation.metrics import METRICS
from embkit.evaluation.scores import Scores


def scores(approach, value, dev=None, **changes):
    """Scores of four queries on one split; what was trained has a recipe's hash."""
    queries = pd.Index([f"q{n}" for n in range(4)], name="query_id", dtype=object)
    values = [value, value + 0.1, value - 0.1, value]
    frame = pd.DataFrame({name: values for name in METRICS}, index=queries, dtype=float)
    given = {"approach": approach, "domain": "tiny", "domain_hash": "0123456789abcdef"}
    given |= {"base_model": "minilm", "recipe_hash": None if approach == "base" else f"{value}"}
    given |= {"per_query": {"known": frame}, "dev": {"d": dev} if dev else {}}
    return Scores(**(given | changes))


@pytest.fixture
def folder(tmp_path):
    scores("base", 0.3, dev=0.3).save(tmp_path / "base.json")
    scores("contrastive", 0.5, dev=0.4).save(tmp_path / "Anna.json")
    scores("LoRA", 0.4, dev=0.6).save(tmp_path / "Ben & <b>Bo.json")
    return tmp_path


def page(folder):
    return (folder / "board.html").read_text(encoding="utf-8")


def test_the_best_on_dev_comes_first_and_the_tests_stand_beside(folder, capsys):
    assert main(["board", str(folder)]) == 0
    rows = re.findall(r'<tr><td>(\d)</td><th scope="row">(.*?)</th><td>(.*?)</td>', page(folder))
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert [row[2] for row in rows] == ["0.600", "0.400", "0.300"]
    assert rows[0][1] == "Ben &amp; &lt;b&gt;Bo: LoRA", "a name is data"
    cells = re.findall(r"<td>(.*?)</td>", page(folder).split("Anna: contrastive")[1])
    assert cells[1].startswith("0.500 [") and cells[2].startswith("+0.200 [")
    assert "location.reload()" in page(folder) and "<script" not in page(folder)


def test_what_cannot_be_shown_is_said_and_breaks_nothing(folder, capsys):
    whole = (folder / "Anna.json").read_text()
    (folder / "cut.json").write_text(whole[: len(whole) // 2])
    (folder / "list.json").write_text("[1, 2]")
    (folder / "odd.json").write_text(whole.replace('"dim"', '"x"').replace("0.5", '"high"'))
    scores("contrastive", 0.9, domain="other").save(folder / "Cy.json")
    frame = scores("x", 0.9).per_query["known"]
    scores("contrastive", 0.9, per_query={"known": frame.iloc[:3]}).save(folder / "Di.json")
    scores("contrastive", 0.9, per_query={"known": frame[["hit@1"]]}).save(folder / "Ed.json")
    assert main(["board", str(folder)]) == 1
    shown = capsys.readouterr().out
    for name in ("cut", "list", "odd", "Cy", "Di", "Ed"):
        assert f"✗ {name}.json is left out: " in shown and f"{name}.json is left out" in page(
            folder
        )
    assert "scored on other (01234567), most on tiny" in shown
    assert page(folder).count('scope="row"') == 3


@pytest.mark.parametrize("other", ["anna", "Anna (1)", "Anna copy", "ANNA - Copy (2)"])
def test_two_people_with_one_name_are_both_shown_and_said(folder, other, capsys):
    scores("contrastive", 0.6, dev=0.5).save(folder / f"{other}.json")
    assert main(["board", str(folder)]) == 1
    assert "one name?" in capsys.readouterr().out
    assert page(folder).count('scope="row"') == 4


def test_numbered_groups_are_no_copies(folder):
    for n in (1, 2, 3):
        scores("contrastive", 0.5 + n / 100, dev=0.5).save(folder / f"Group {n}.json")
    assert gathered(folder)[1] == []


def test_the_same_file_twice_is_shown_twice(folder):
    (folder / "Cy.json").write_text((folder / "Anna.json").read_text())
    report, said = gathered(folder)
    assert {row["label"] for row in report.rows} >= {"Anna: contrastive", "Cy: contrastive"}
    assert said == []


def test_without_a_base_there_is_no_difference_and_an_empty_folder_is_a_page(tmp_path, capsys):
    assert main(["board", str(tmp_path)]) == 0 and "No run is here yet" in page(tmp_path)
    scores("contrastive", 0.5).save(tmp_path / "Anna.json")
    assert main(["board", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out.split("\n", 1)[1])["rows"]
    assert row["ndcg@10"] == pytest.approx(0.5) and "Δ" not in page(tmp_path)
    assert main(["board", str(tmp_path / "none")]) == 2


def test_seeds_of_one_recipe_are_two_rows(folder):
    one = scores("contrastive", 0.5, dev=0.4)
    for seed in (1, 2):
        replace(one, meta={"seed": seed}).save(folder / f"Fay, seed {seed}.json")
    report, _ = gathered(folder)
    assert len(report.rows) == 5
