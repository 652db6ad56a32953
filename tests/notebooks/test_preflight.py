"""preflight: each fault of a machine gives its own red line, and the code says the same."""

import sys
import types
import webbrowser

import psutil
import pytest

from embkit.errors import EmbkitError
from notebooks.tools import preflight
from notebooks.tools.preflight import TOLD, coded, decoded, main, tried

GIB = 2**30


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def well(monkeypatch):
    """Every check says that all is well; the step is twice as slow as the reference's."""
    for name in TOLD["hints"]:
        monkeypatch.setattr(preflight, f"_{name}", lambda name=name: (True, f"{name} is well"))
    told = "0.80 s, 2.0 times the reference's; cpu, fp32, 2 threads"
    monkeypatch.setattr(preflight, "_step", lambda: (True, told))


def memory(monkeypatch, total, free):
    found = types.SimpleNamespace(total=total * GIB, available=free * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found)


def test_four_gigabytes_of_memory_are_too_few(monkeypatch):
    memory(monkeypatch, 3.8, 2.1)
    assert tried("memory") == (False, "3.8 GB, 2.1 GB free")
    memory(monkeypatch, 16, 2.1)
    assert not tried("memory")[0], "what is free counts"
    memory(monkeypatch, 16, 9)
    assert tried("memory") == (True, "16.0 GB, 9.0 GB free")


def test_a_disk_needs_room_for_what_is_not_written_yet(monkeypatch, store):
    free = types.SimpleNamespace(free=5e9)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: free)
    assert tried("disk") == (False, "5 GB free, 12 GB to be written")
    monkeypatch.setattr("embkit.cli.machine.size_of", lambda place: 5e9)  # of each of two
    assert tried("disk") == (True, "5 GB free, 2 GB to be written")


def test_a_path_with_spaces_and_umlauts_is_tried_and_said(monkeypatch, tmp_path):
    assert tried("folders") == (True, "runs and cache can be written")
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "Müllers Läufe" / "run s"))
    well, text = tried("folders")
    assert well and text.endswith(", spaces or letters beyond ASCII in the path")
    assert list((tmp_path / "Müllers Läufe" / "run s").iterdir()) == [], "nothing is left"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EMBKIT_CACHE", str(tmp_path / "file" / "cache"))
    assert not tried("folders")[0], "a folder that cannot be made"


def test_a_proxy_must_not_stand_between_the_machine_and_itself(monkeypatch):
    assert tried("proxy") == (True, "none")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:3128")
    well, text = tried("proxy")
    assert not well and text == "https, between this machine and itself"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    assert tried("proxy") == (True, "https, not between this machine and itself")


def test_a_browser_that_shows_widgets(monkeypatch):
    def none():
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
    monkeypatch.setattr(webbrowser, "get", none)
    assert tried("browser") == (False, "none that shows widgets")
    monkeypatch.setattr(webbrowser, "get", lambda: types.SimpleNamespace(name="/usr/bin/w3m"))
    assert not tried("browser")[0], "letters alone"
    monkeypatch.setattr(webbrowser, "get", lambda: types.SimpleNamespace(name="firefox"))
    assert tried("browser") == (True, "firefox")
    monkeypatch.setattr(webbrowser, "get", none)
    monkeypatch.setattr(preflight.shutil, "which", lambda name: name == "chromium" or None)
    assert tried("browser") == (True, "chromium"), "without a desktop, one that is installed"


@pytest.mark.parametrize("version, well", [((3, 10, 9), 0), ((3, 11, 4), 0), ((3, 14, 0), 1)])
def test_python(monkeypatch, version, well):
    monkeypatch.setattr(sys, "version_info", version)
    assert tried("python")[0] == bool(well)
    monkeypatch.setattr(sys, "version_info", (3, 15, 0))
    assert not tried("python")[0]


def test_versions_against_the_pins_and_the_requirements(monkeypatch):
    assert tried("versions")[0], "this environment is one that may be used"
    here = [types.SimpleNamespace(name="Torch", version="2.13.0+cpu")]
    here.append(types.SimpleNamespace(name="num_py", version="9"))
    wanted = ["torch<3,>=2.13", "num-py<3", "absent>1", "windows; sys_platform == 'none'"]
    monkeypatch.setattr(preflight.metadata, "distributions", lambda: here)
    monkeypatch.setattr(preflight.metadata, "requires", lambda name: wanted)
    well, text = tried("versions")
    assert not well and text == "num-py is 9, not <3; absent is missing, not >1; 1 of 3 as pinned"


def test_assets_that_are_missing_or_damaged_are_named(monkeypatch):
    from embkit.assets import catalogue

    broken = lambda asset, folder: ["model"] if asset.name in ("minilm", "smollm2") else []  # noqa: E731
    monkeypatch.setattr(catalogue, "broken_files", broken)
    every = len(catalogue.CATALOGUE) + len(catalogue.PICTURES)
    told = f"{every - 2} of {every}, missing or damaged: minilm, smollm2"
    assert tried("assets") == (False, told)


def test_a_library_that_is_broken_is_a_red_line_and_no_traceback(monkeypatch):
    def broken():
        raise OSError("c10.dll cannot be loaded | by Windows\nmore")

    monkeypatch.setattr(preflight, "_step", broken)
    assert tried("step") == (False, "OSError: c10.dll cannot be loaded / by Windows")


def test_all_is_well_and_the_lessons_minutes_follow_the_step(well, capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert shown.count("✓") == len(TOLD["hints"]) and "✗" not in shown
    assert "\x1b" not in shown and max(map(len, shown.splitlines()[:-1])) <= 100
    minutes = (preflight.session.paths().notebooks / "README.md").read_text()
    (row,) = [line for line in minutes.splitlines() if line.startswith("| `06_")]
    assert f"06 {2 * float(row.split('|')[-2]):.1f} ·" in " ".join(shown.split())


def test_a_red_line_says_what_to_do_and_ends_with_1(monkeypatch, capsys):
    for name in TOLD["hints"]:
        monkeypatch.setattr(preflight, f"_{name}", lambda: (False, "x " * 90))
    assert main([]) == 1
    shown = capsys.readouterr().out
    assert shown.count("✗") == len(TOLD["hints"])
    assert max(map(len, shown.splitlines()[:-1])) <= 100
    joined = "".join(shown.split())
    assert all("".join(hint.split()) in joined for hint in TOLD["hints"].values())


def test_the_code_says_what_was_found(well, monkeypatch, capsys):
    monkeypatch.setattr(preflight, "_memory", lambda: (False, "3.8 GB, ä | ✓"))
    assert main([]) == 1
    shown = capsys.readouterr().out
    code = shown.splitlines()[-1].split(": ")[1]
    assert main(["--read", f" {code[:30]}\n{code[30:]} "]) == 1
    assert capsys.readouterr().out == shown


def test_an_ordinary_machine_has_a_short_code():
    texts = ["3.12.4, Windows AMD64", "7.8 GB, 3.1 GB free", "45 GB free, 12 GB to be written"]
    texts += ["runs and cache can be written", "none", "the system's", "39 of 39 as pinned"]
    texts += ["6 of 6, sha256 as recorded"]
    texts += ["0.93 s, 2.3 times the reference's; cpu, fp32, 4 threads"]
    found = {
        name: (name != "memory", text) for name, text in zip(TOLD["hints"], texts, strict=True)
    }
    assert decoded(coded(found)) == found and len(coded(found)) <= 120


@pytest.mark.parametrize("change", ["cut", "letter", "words", "empty"])
def test_a_code_that_is_not_whole_is_refused(change, capsys):
    code = coded({name: (True, f"{name} is well") for name in TOLD["hints"]})
    other = "B" if code[12] == "A" else "A"
    given = {
        "cut": code[:-6],
        "letter": code[:12] + other + code[13:],
        "words": "hello",
        "empty": " ",
    }
    with pytest.raises(EmbkitError, match="no code"):
        decoded(given[change])
    assert main(["--read", given[change]]) == 2 if change != "empty" else True
    assert "try next" in capsys.readouterr().err or change == "empty"
