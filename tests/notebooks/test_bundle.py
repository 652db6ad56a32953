"""The bundle: all that is needed, whole or not at all; an installer that names what is cut off."""

import json
import shutil
import subprocess
import sys
import types
import zipfile

import pytest

from embkit.errors import EmbkitError
from notebooks.tools import bundle
from notebooks.tools.stick import install

NEEDS = {  # a small world of packages: name -> what its wheel says that it needs
    "torch": ['nvidia-big; platform_system == "never"', "helper[fast]>=1"],
    "helper": [
        'pywin; sys_platform == "win32"',
        'quick; extra == "fast"',
        'slow; extra == "other"',
    ],
    "pywin": [],
    "quick": ["torch"],
    "extra-one": ['old; python_version < "3.12"'],
    "old": [],
    "setuptools": [],
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two files that needs torch; and what stands in for pip."""
    root = tmp_path / "project"
    (root / "notebooks").mkdir(parents=True)
    (root / "constraints.txt").write_text("torch==2.13.0\nhelper==1.5\n")
    text = '[project]\ndependencies = ["torch>=2"]\n[project.optional-dependencies]\n'
    text += 'one = ["extra-one"]\ndev = ["never-asked"]\n'
    (root / "pyproject.toml").write_text(text)
    (root / "notebooks" / "00.ipynb").write_text("{}")
    (root / "secret.txt").write_text("not in git")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    named = ["constraints.txt", "pyproject.toml", "notebooks/00.ipynb"]
    subprocess.run(["git", "add", *named], cwd=root, check=True)
    monkeypatch.setattr(bundle, "paths", lambda: types.SimpleNamespace(root=root))
    monkeypatch.setattr(bundle, "NEEDED", 0.001)
    return root


def fetch_into(asked):
    def fetch(wanted, folder):
        asked.extend(wanted)
        for text in wanted:
            name, _, version = text.partition("==")
            version = version or "1.0"
            wheel = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as file:
                told = "".join(f"Requires-Dist: {need}\n" for need in NEEDS[name])
                text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{told}"
                file.writestr(f"{name.replace('-', '_')}-{version}.dist-info/METADATA", text)

    return fetch


def make(target, platform="linux", python="3.11", asked=None, **options):
    fetch = fetch_into(asked if asked is not None else [])
    return bundle.bundle(target, platform, python, fetch=fetch, assets=[], **options)


@pytest.mark.parametrize(
    "platform, python, needed",
    [
        (
            "linux",
            "3.11",
            {"torch==2.13.0+cpu", "extra-one", "setuptools", "helper==1.5", "quick", "old"},
        ),
        (
            "windows",
            "3.13",
            {"torch==2.13.0", "extra-one", "setuptools", "helper==1.5", "quick", "pywin"},
        ),
        ("macos", "3.12", {"torch==2.13.0", "extra-one", "setuptools", "helper==1.5", "quick"}),
    ],
)
def test_wheels_are_those_of_the_platform_and_not_of_this_machine(
    project, tmp_path, platform, python, needed
):
    make(tmp_path / "out", platform, python, asked := [])
    assert set(asked) == needed and len(asked) == len(needed)


def test_the_folder_holds_the_project_and_a_sum_for_each_file(project, tmp_path):
    sizes = make(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    files = {
        p.relative_to(tmp_path / "out").as_posix()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert files - {"manifest.json"} == set(told["files"])
    assert "project/notebooks/00.ipynb" in files and not [
        name for name in files if "secret" in name
    ]
    assert {"install.py", "install.sh", "install.bat", "README.txt"} <= files
    assert (told["platform"], told["python"], told["extras"]) == ("linux", "3.11", ["one"])
    assert install.damaged(tmp_path / "out") == [] and sum(sizes.values()) > 0


def test_a_file_that_was_cut_off_or_is_gone_is_named_and_nothing_is_installed(
    project, tmp_path, monkeypatch, capsys
):
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    make(out := tmp_path / "out", python=python)
    (wheel,) = (out / "wheels").glob("helper*")
    wheel.write_bytes(wheel.read_bytes()[:-1])
    (out / "project" / "constraints.txt").unlink()
    assert sorted(install.damaged(out)) == ["project/constraints.txt", f"wheels/{wheel.name}"]
    monkeypatch.setattr(install, "HERE", out)
    assert install.main(tmp_path / "here") == 1
    assert f"cut off or changed: wheels/{wheel.name}" in capsys.readouterr().out
    assert not (tmp_path / "here").exists()


def test_another_python_is_told(project, tmp_path, monkeypatch, capsys):
    make(out := tmp_path / "out", python="3.1")
    monkeypatch.setattr(install, "HERE", out)
    assert install.main(tmp_path / "here") == 1
    assert "the folder is for Python 3.1 on linux" in capsys.readouterr().out


def test_a_full_disk_in_the_middle_leaves_nothing(project, tmp_path, monkeypatch):
    def full(source, target, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle.shutil, "copy2", full)
    with pytest.raises(EmbkitError, match="No space left on device"):
        make(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_too_little_room_is_said_before_anything_is_fetched(project, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1e6 - 1))
    with pytest.raises(EmbkitError, match="0.00 GB are free"):
        make(tmp_path / "out", asked=(asked := []))
    assert asked == [] and not (tmp_path / "out").exists()


def test_what_a_kill_left_is_no_bundle_and_goes_with_the_next(project, tmp_path):
    half = tmp_path / ".out.part" / "wheels"
    half.mkdir(parents=True)
    (half / "half.whl").write_bytes(b"PK")
    make(tmp_path / "out")
    assert not half.exists() and not list((tmp_path / "out" / "wheels").glob("half*"))
    with pytest.raises(EmbkitError, match="is there"):
        make(tmp_path / "out")


def test_a_wheel_that_cannot_be_had_leaves_nothing(project, tmp_path, monkeypatch):
    failed = types.SimpleNamespace(returncode=1, stderr=b"...\nERROR: No matching distribution\n")
    run, commands = subprocess.run, []

    def pip(command, **options):
        if "pip" not in command:
            return run(command, **options)
        commands.append(command)
        return failed

    monkeypatch.setattr(bundle.subprocess, "run", pip)
    with pytest.raises(EmbkitError, match="No matching distribution"):
        bundle.bundle(tmp_path / "out", "linux", "3.11", assets=[])
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
    (command,) = commands
    assert bundle.CPU in command and command[-1] == "torch==2.13.0+cpu", "an index for torch alone"
    assert shutil.which("git")
