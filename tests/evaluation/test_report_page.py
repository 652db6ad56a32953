"""The page of a report: the answer first, real queries, lessons, and a table to sort and filter."""

import dataclasses
import re

import pandas as pd
import pytest

from embkit.data.domain import right_documents
from embkit.errors import EmbkitError
from embkit.evaluation.report import FEW, Report, compare
from embkit.evaluation.scores import Scores
from tests.browser import lab_driver


def scores(domain, approach, values, recipe_hash=None, dev=0.5, **meta):
    """Scores over the queries of ``known``: the values, and 0.5 for the others."""
    queries = list(domain.split("known"))
    frame = pd.DataFrame(
        {"ndcg@10": [*values, *[0.5] * (len(queries) - len(values))]},
        index=pd.Index(queries, name="query_id"),
    )
    return Scores(
        approach=approach,
        domain=domain.name,
        domain_hash=domain.hash,
        base_model="minilm",
        recipe_hash=recipe_hash,
        per_query={"known": frame},
        meta=meta,
        dev={"v": dev},
    )


@pytest.fixture
def board(tiny_domain):
    base = scores(tiny_domain, "base", [0.0, 1.0], trainable_params=0)
    tuned = scores(tiny_domain, "contrastive", [0.75, 0.25], "aa", 0.9, train_seconds=9.0)
    return compare([base, tuned])


def page_of(report, tmp_path, domain=None):
    return (report.save(tmp_path, domain) / "report.html").read_text()


def test_the_answer_comes_before_every_table(board, tiny_domain, tmp_path):
    page = page_of(board, tmp_path)
    places = [page.index(text) for text in ("<strong>", "How sure", "Approaches</h2>", "Every row")]
    assert places == sorted(places)
    assert "contrastive, chosen on dev" in page and "one: it" not in page
    assert "Other seeds: 1 of 1 trained" in page and "What changes for whom" not in page
    assert not re.search(r"https?:|<script|<link|@import|url\(", page), "nothing from elsewhere"


def test_each_split_has_a_bar_as_long_as_its_change(board, tmp_path):
    page = page_of(board, tmp_path)
    (row,) = (row for row in board.rows if row["p_vs_base"] is not None)
    delta, (low, high) = row["delta_vs_base"], row["delta_vs_base_ci"]
    pattern = r'<rect x="(.*?)" y="5" width="(.*?)".*?<path d="M(\S+) 12H(\S+?)M'
    (drawn,) = re.findall(pattern, page, re.S)
    scale = 98 / max(abs(low), abs(high))
    wanted = [min(delta * scale, 0), abs(delta * scale), low * scale, high * scale]
    assert [float(x) for x in drawn] == pytest.approx(wanted, abs=0.06)


def test_the_queries_that_moved_most_are_shown_with_their_answers(board, tiny_domain, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    won, lost = list(tiny_domain.split("known"))[:2]
    queries = dict(tiny_domain.queries) | {won: evil}
    page = page_of(board, tmp_path, dataclasses.replace(tiny_domain, queries=queries))
    shown = page[page.index("What changes for whom") : page.index("What was not tested")]
    assert "&lt;img src=x" in shown and "<img src=x" not in page
    assert "+0.75" in shown and "-0.75" in shown and shown.count("<tr><td") == 2
    (answer, *_) = right_documents(tiny_domain.split("known")[lost])
    assert tiny_domain.corpus[answer][:40] in shown and tiny_domain.queries[lost] in shown


def test_of_many_approaches_the_experiments_are_folded_by_lesson(tiny_domain, tmp_path):
    many = [scores(tiny_domain, "base", [0.1]), scores(tiny_domain, "bm25", [0.1])]
    many += [scores(tiny_domain, f"LoRA r{n}", [0.2], f"a{n}", n / 100) for n in range(FEW)]
    many += [scores(tiny_domain, "odd one", [0.2], "b")]
    page = page_of(compare(many), tmp_path)
    first = page[page.index("Approaches</h2>") : page.index("Experiments, by lesson")]
    for name in ("base", "bm25", f"LoRA r{FEW - 1}", "odd one"):
        assert f">{name}</td>" in first
    assert ">LoRA r0</td>" not in first
    assert f"09 Adapters and four bits ({FEW - 1})" in page


def test_a_report_without_a_baseline_has_a_page(board, tmp_path):
    page = page_of(Report(board.rows), tmp_path)
    assert "<strong>" not in page and "Every row" in page


@pytest.mark.browser
def test_the_long_table_is_sorted_and_filtered_by_keys_alone(board, tmp_path):
    try:
        where = lab_driver.find_chromium()
    except EmbkitError as error:
        pytest.skip(f"{error.given}: {error.hint}")
    board.save(tmp_path)
    with lab_driver.chrome(where) as browser:
        page = browser.new_page()
        page.goto((tmp_path / "report.html").as_uri())
        section = page.locator("section.long").first
        rows = section.locator("tbody tr:visible")
        button = section.get_by_role("button", name="dev")
        for side, first in (("ascending", "base"), ("descending", "contrastive")):
            button.focus()
            page.keyboard.press("Enter")
            assert section.locator(f"th[aria-sort={side}]").count() == 1
            assert rows.first.inner_text().startswith(first)
        section.get_by_role("searchbox").fill("BASE known")
        assert rows.count() == 1 and section.locator("output").inner_text() == "1 row"
