"""clean: what is listed, what goes, and what stays whatever is asked; how preflight is reached."""

import os
import time

import pytest
from filelock import FileLock

from embkit.cli import machine
from embkit.cli.main import main

DAY = 86_400


def write(path, size, days=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    when = time.time() - days * DAY
    os.utime(path, (when, when))
    if path.name == "run.json":
        os.utime(path.parent, (when, when))
    return path


@pytest.fixture
def stores(store, cache, tmp_path):
    """Two runs, three kept arrays, an asset, people's work; and links to what is not embkit's."""
    write(store / "store" / "tiny-smoke-1" / "contrastive-1" / "run.json", 1000, days=40)
    write(store / "store" / "tiny-smoke-1" / "contrastive-2" / "run.json", 2000)
    write(cache / "embeddings" / "old.npy", 3000, days=40)
    write(cache / "embeddings" / "new.npy", 4000)
    write(cache / "scores" / "pairs.npy", 500, days=2)
    write(cache / "assets" / "minilm" / "model.safetensors", 6000)
    write(store / "labels" / "tiny.jsonl", 700, days=400)
    write(store / "report.html", 800, days=400)
    outside = write(tmp_path / "outside" / "thesis.txt", 9000, days=400).parent
    (cache / "embeddings" / "link.npy").symlink_to(outside / "thesis.txt")
    (cache / "linked").symlink_to(outside, target_is_directory=True)
    (store / "store" / "linked").symlink_to(outside, target_is_directory=True)
    run = store / "store" / "tiny-smoke-1" / "contrastive-1"
    (run / "model").symlink_to(outside, target_is_directory=True)
    return store, cache, outside


def left(*folders):
    """Names of the plain files that are left, links not followed."""
    walked = (names for folder in folders for _, _, names in os.walk(folder))
    return {name for names in walked for name in names} - {"link.npy"}


def test_the_list_says_how_much_and_how_old_and_deletes_nothing(stores, capsys):
    before = left(*stores)
    assert main(["clean"]) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if "--" in line}
    assert set(rows) == {"runs", "embeddings", "scores", "assets"}, "links are no part of it"
    assert rows["runs"][1] == rows["embeddings"][1] == "2" and rows["assets"][-1] == "--all"
    assert " ".join(rows["runs"][4:7]) == " ".join(rows["embeddings"][4:7]) == "0 to 40"
    assert max(map(len, shown.splitlines()[:5])) <= 100
    sizes = {item.path.name: item.size for item in machine.kept()}
    assert sizes["contrastive-1"] == 1000 and sizes["minilm"] == 6000
    assert left(*stores) == before


@pytest.mark.parametrize(
    "asked, gone",
    [
        (["--embeddings"], {"old.npy", "new.npy", "pairs.npy"}),
        (["--embeddings", "--older", "30"], {"old.npy"}),
        (["--runs"], {"run.json"}),
        (["--all", "--older", "1"], {"old.npy", "pairs.npy"}),
        (["--all"], {"old.npy", "new.npy", "pairs.npy", "run.json", "model.safetensors"}),
    ],
)
def test_what_is_asked_goes_and_nothing_else(stores, asked, gone, capsys):
    before = left(*stores)
    assert main(["clean", *asked, "--yes"]) == 0
    assert before - left(*stores) == gone
    assert {"tiny.jsonl", "report.html", "thesis.txt"} <= left(*stores)
    assert (stores[1] / "embeddings" / "link.npy").is_symlink()


def test_of_runs_only_the_old_one_goes(stores):
    main(["clean", "--runs", "--older", "30", "--yes"])
    assert [run.name for run in (stores[0] / "store" / "tiny-smoke-1").iterdir()] == [
        "contrastive-2"
    ]


def test_it_asks_first(stores, monkeypatch, capsys):
    before = left(*stores)
    assert main(["clean", "--all"]) == 2, "nobody is there who could say yes"
    assert "--yes" in capsys.readouterr().err
    for answer, goes in (("n", False), ("", False), ("yes", True)):
        stdin = type("In", (), {"isatty": lambda s: True, "readline": lambda s, a=answer: f"{a}\n"})
        monkeypatch.setattr("sys.stdin", stdin())
        assert main(["clean", "--embeddings"]) == 0
        assert (left(*stores) != before) == goes
    assert main(["clean", "--older", "3"]) == 2, "of what?"


def test_what_is_in_use_stays_and_is_named(stores, capsys):
    run = stores[0] / "store" / "tiny-smoke-1" / "contrastive-2"
    with FileLock(run.with_suffix(".lock")):
        assert main(["clean", "--runs", "--yes"]) == 0
    shown = capsys.readouterr().out
    assert (run / "run.json").is_file() and not run.with_name("contrastive-1").exists()
    assert f"left alone, in use: {run}" in shown and "deleted: 1" in shown


def test_without_the_course_preflight_says_where_it_is(tmp_path, monkeypatch, capsys):
    paths = machine.paths()
    elsewhere = type(paths)(**{**vars(paths), "notebooks": tmp_path})
    monkeypatch.setattr(machine, "paths", lambda: elsewhere)
    assert main(["preflight"]) == 2 and "no course" in capsys.readouterr().err


def test_preflight_reads_a_code_through_the_command(capfd):
    from notebooks.tools import preflight

    found = dict.fromkeys(preflight.TOLD["hints"], (True, "fine")) | {"browser": (False, "none")}
    assert main(["preflight", "--read", preflight.coded(found)]) == 1
    shown = capfd.readouterr().out
    assert "✗ browser   none. To do: install" in shown and shown.count("✓") == len(found) - 1
