"""From a folder of documents alone to a domain: every step, killed and gone on with, mended."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from embkit.advice import start, starting
from embkit.advice.confirming import read_asked
from embkit.cli import training
from embkit.cli.main import main
from embkit.data import load_domain
from embkit.errors import EmbkitError

SOUNDS = ["ba", "ke", "di", "fo", "gu", "la", "me", "ni", "po", "ru", "sa", "te"]


def word(n):
    """A word of its own for each number."""
    return SOUNDS[n % 12] + SOUNDS[n // 12 % 12] + SOUNDS[n // 144 % 12]


def text(n):
    """A document of three short sections, each with words of its own."""
    parts = [
        f"## Part {word(n)} {i}\n\nthe " + " ".join(word(37 * n + 9 * i + k) for k in range(9))
        for i in range(3)
    ]
    return f"# Title {word(n)}\n\n" + "\n\n".join(parts) + "\n"


class Writer:
    """Writes a few words of what it is shown; may stop like an endpoint that is gone."""

    batch_size, workers = 8, 1

    def __init__(self, stops=None, heading=False):
        self.name, self.calls, self.stops, self.heading = "fake", 0, stops, heading

    def generate(self, prompts, *, max_tokens, temperature, seed):
        self.calls += len(prompts)
        if self.stops is not None and self.calls > self.stops:
            raise ConnectionError("gone")
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt):
        shown, label = re.findall(r"Document: (.*)\n(.*):$", prompt)[-1]
        words = re.findall(r"[a-z]{6}", shown)[-5:]
        if self.heading:
            found = re.search(r"Part \w+|Title \w+", shown)
            return found[0] if found else "Title"
        start = {"Key words": "", "Question": "how is ", "Request": "we want "}[label]
        return start + " ".join(words[: 3 if label == "Key words" else 4])


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "guide"
    made.mkdir()
    for n in range(24):
        (made / f"{n:02d}.md").write_text(text(n))
    return made


@pytest.fixture
def begin(folder, tiny_model):
    def begin(writer=None, **options):
        options = {"model": str(tiny_model), "size": 32, "queries": 210} | options
        return start(folder, writer=writer or Writer(), **options)

    return begin


def fill(made, answers):
    """Writes answers into the file, as a person does."""
    file = made.folder / "to_confirm.csv"
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row, answer in zip(rows, answers, strict=False):
        row["right"] = answer
    with file.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def files(made):
    return {
        path.relative_to(made.folder): path.read_bytes()
        for path in made.folder.rglob("*")
        if path.is_file() and path.name != "steps.json"
    }


def test_it_waits_for_a_person_and_goes_on_with_what_was_judged(begin):
    made = begin()
    assert not made.ready and made.judged == 0 and 30 <= len(made.asked) <= 100
    assert "to_confirm.csv" in repr(made) and "--yes" in repr(made)
    rows = fill(made, ["y"] * 10)
    again = begin()
    assert not again.ready and "10 of" in repr(again)
    fill(made, ["y"] * 26 + ["n"] * 4)
    done = begin()
    domain = done.domain
    assert (
        done.ready
        and "26 of 30 judged" in done.proof
        and domain.test_splits == ("confirmed", "written")
    )
    assert len(domain.split("confirmed")) == 26
    asked = {domain.queries[q] for judged in domain.qrels.values() for q in judged}
    assert not asked & {row["query"] for row in rows[26:30]}, "what is not right is used nowhere"
    tested = {d for split in domain.test_splits for _, d in domain.right(split)}
    assert not tested & {d for s in ("train", "dev") for _, d in domain.right(s)}
    assert load_domain(done.folder / "guide").hash == domain.hash
    assert load_domain(done.folder / "guide").test_splits == ("confirmed", "written")


def test_without_a_person_it_says_that_nothing_is_proven(begin):
    done = begin(alone=True)
    assert done.ready and done.domain.test_splits == ("written",)
    assert "nothing is proven by people" in repr(done)


@pytest.mark.parametrize("step", ["_read", "_cut", "_write", "write_asked", "to_beir"])
def test_killed_after_a_step_it_goes_on_to_the_same_files(begin, monkeypatch, step):
    whole = begin(alone=True)
    expected = files(whole)
    shutil.rmtree(whole.folder)
    real = getattr(starting, step)

    def killed(*given, **options):
        real(*given, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(starting, step, killed)
    with pytest.raises(KeyboardInterrupt):
        begin(alone=True)
    monkeypatch.setattr(starting, step, real)
    assert files(begin(alone=True)) == expected


def test_an_endpoint_that_stops_in_the_middle_goes_on(begin):
    with pytest.raises(EmbkitError, match="queries done and kept.*left"):
        begin(Writer(stops=60), alone=True)
    second = Writer()
    begin(second, alone=True)
    assert 0 < second.calls <= 160, "what was answered is not asked again"


def test_what_was_mended_is_used_and_what_rests_on_it_is_made_again(begin, folder):
    made = begin(alone=True)
    file = made.folder / "queries.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["query"], rows[0]["kept"] = "a query of my own", True
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = begin(alone=True)
    assert "a query of my own" in again.domain.queries.values()
    assert json.loads(file.read_text().splitlines()[0])["query"] == "a query of my own"
    (folder / "new.md").write_text(text(99))
    told = []
    more = begin(alone=True, told=told.append)
    assert len(more.domain.corpus) == 25 and any("mended by hand" in line for line in told)
    file.write_text("broken\n")
    with pytest.raises(EmbkitError, match="line 1 of .*queries.jsonl is damaged"):
        begin(alone=True)


def test_a_writer_that_writes_about_the_heading_alone(begin):
    with pytest.raises(EmbkitError, match="'heading' removed") as error:
        begin(Writer(heading=True), alone=True)
    assert "queries.jsonl" in str(error.value) and "--endpoint" in str(error.value)


def test_the_annotator_and_the_file_are_merged(begin):
    from embkit.widgets import Annotator

    made = begin()
    panel = Annotator(made.tasks, made.labels)
    for key in ("2", "0"):
        panel.press(key)
    fill(made, ["n", "", "y"])
    again = begin()
    assert [row.right for row in again.asked[:4]] == [False, False, True, None]


@pytest.mark.parametrize("encoding, delimiter", [("utf-8", ";"), ("utf-16", "\t"), ("cp1252", ",")])
def test_the_file_may_come_back_from_a_spreadsheet(tmp_path, encoding, delimiter):
    lines = [["query", "document", "passage", "Right"], ["größe", "a.md", "- two", "J"]]
    with (tmp_path / "a.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([*lines, ["b", "c", "d", ""]])
    found = read_asked(tmp_path / "a.csv")
    assert [row.right for row in found] == [True, None] and found[0].query == "größe"


def test_an_unclear_answer_and_a_missing_column_are_said(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("query,document,passage,right\na,b,c,perhaps\n")
    with pytest.raises(EmbkitError, match="line 2 of .*perhaps"):
        read_asked(file)
    file.write_text("query,document\na,b\n")
    with pytest.raises(EmbkitError, match="no column right"):
        read_asked(file)


def test_the_same_document_500_times_is_one(tmp_path, tiny_model):
    for n in range(500):
        (tmp_path / "same").mkdir(exist_ok=True)
        (tmp_path / "same" / f"{n}.txt").write_text(text(1))
    told = []
    with pytest.raises(EmbkitError, match="1 different documents"):
        start(tmp_path / "same", model=str(tiny_model), writer=Writer(), told=told.append)
    assert any("499 with the text of another, merged" in line for line in told)


def test_the_command_waits_then_goes_on_to_a_verdict_on_each_test(
    folder, tiny_model, monkeypatch, capsys
):
    monkeypatch.setattr(training, "the_writer", lambda name, endpoint: Writer())
    line = ["start", str(folder), "--model", str(tiny_model), "--queries", "210"]
    line += ["--passages", "32"]
    assert main(line) == 0
    assert "to_confirm.csv" in capsys.readouterr().out
    made = start(folder, model=str(tiny_model), writer=Writer(), size=32, queries=210)
    fill(made, ["y"] * 40)
    assert main(line) == 0
    out = capsys.readouterr().out
    assert "verdict on confirmed (by people)" in out and "verdict on written (by the model" in out
    (model,) = re.findall(r"(?m)^trained: (.*)", out)
    assert (Path(model) / "modules.json").is_file()
    assert "confirmed by people" in out and "passages of 32" in out
    assert main([*line, "--json"]) == 0, "the second time"
    found = json.loads(capsys.readouterr().out)
    assert found["verdicts"].keys() == {"confirmed", "written"} and found["ready"]
    assert all(found["verdicts"][split]["text"] in out for split in found["verdicts"])
