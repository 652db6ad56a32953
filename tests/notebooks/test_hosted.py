"""Where people open the lessons: hosted copies, repo2docker, a development container."""

import json
import os
import re
import subprocess
import sys
import sysconfig

import nbformat
import pytest
import yaml

from embkit.errors import EmbkitError
from embkit.session import paths
from notebooks.tools.authoring import METADATA
from notebooks.tools.hosted import HOME, first_cell, hosted

ROOT = paths().root
URL = "https://github.com/someone/embkit"


def test_each_copy_begins_with_its_badges_and_the_cell_that_installs(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# 00")]
    book = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    nbformat.write(book, tmp_path / "00_first.ipynb")
    (copy,) = hosted(f"{URL}.git", tmp_path / "out", notebooks=tmp_path)
    badges, first, title = nbformat.read(copy, 4).cells
    assert title.source == "# 00" and len(nbformat.read(tmp_path / "00_first.ipynb", 4).cells) == 1
    colab, kaggle, binder = re.findall(r"\]\((.*?)\)", badges.source)
    assert colab.endswith("/github/someone/embkit/blob/hosted/00_first.ipynb")
    assert kaggle.endswith("src=https://github.com/someone/embkit/blob/hosted/00_first.ipynb")
    assert binder.endswith("/gh/someone/embkit/main?labpath=notebooks/00_first.ipynb")
    assert first.source == first_cell(f"{URL}.git")


@pytest.mark.parametrize("url", ["embkit", "https://example.org/a/b", f"{URL}/x", URL + '";x()'])
def test_another_address_is_refused(url, tmp_path):
    with pytest.raises(EmbkitError, match="OWNER"):
        hosted(url, tmp_path / "out")


def test_the_first_cell_does_nothing_where_the_kit_is(monkeypatch):
    monkeypatch.setattr(subprocess, "check_call", lambda *_: pytest.fail("installs"))
    exec(first_cell(URL), {})


@pytest.mark.slow
def test_the_first_cell_installs_the_kit_in_a_bare_environment(tmp_path):
    """From a repository on this disk, and without dependencies: no network is asked."""
    repository = tmp_path / "repository"
    (repository / "embkit").mkdir(parents=True)
    (repository / "embkit" / "__init__.py").write_text("where = 'the clone'\n")
    (repository / "constraints.txt").write_text("")
    (repository / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "embkit"\nversion = "1"\n[tool.setuptools]\npackages = ["embkit"]\n'
    )
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(repository)]
    for line in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *line], check=True)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "bare"], check=True)
    python = next((tmp_path / "bare").glob("[bS]*/python*"))
    code = first_cell(repository.as_uri()) + "\nimport embkit; print(embkit.where)"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # setuptools, which a network would bring; its folder's .pth files are not read from here
    env |= {"PYTHONPATH": sysconfig.get_path("purelib"), "PIP_NO_BUILD_ISOLATION": "0"}
    env |= {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
    for _ in range(2):  # run again, it finds what it installed
        done = subprocess.run(
            [python, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.stdout.strip() == "the clone", done.stderr
    assert (tmp_path / HOME / ".git").is_dir()


# ---- files that other programs read


def test_repo2docker_reads_the_environment_at_the_top():
    """By its documented rules: no binder/ folder in its stead, Python by a line of its own, and
    local lines for pip, for which it stages the whole repository first."""
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists()
    found = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert {"name", "channels", "dependencies"} <= found.keys() and "prefix" not in found
    lines = [entry for entry in found["dependencies"] if isinstance(entry, str)]
    (python,) = (line for line in lines if re.match(r"python\s*=+\s*\d", line))
    assert re.fullmatch(r"python=3\.\d+", python) and "pip" in lines
    (pip,) = (entry["pip"] for entry in found["dependencies"] if isinstance(entry, dict))
    assert (ROOT / pip[0].split()[1]).is_file() and pip[1].startswith("-e .")


def test_the_container_has_what_make_needs_and_calls_its_targets():
    folder = ROOT / ".devcontainer"
    told = json.loads((folder / "devcontainer.json").read_text(encoding="utf-8"))
    dockerfile = (folder / told["build"]["dockerfile"]).read_text(encoding="utf-8")
    installed = re.search(r"apt-get install (.*?) \\\n", dockerfile)[1].split()
    assert {"git", "make", "chromium"} <= {*installed}
    (minor,) = re.findall(r"^FROM python:3\.(\d+)-slim-\w+$", dockerfile, re.M)
    assert 11 <= int(minor) <= 14
    assert re.search(rf"useradd .* {told['remoteUser']}$", dockerfile, re.M)
    targets = re.findall(r"make ([a-z-]+)", told["postCreateCommand"])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets == ["setup", "assets"]
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
