"""The wheel, installed in an environment of its own and used away from the tree."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from embkit.export import to_beir

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
BUILT_FROM = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "embkit", "data")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without network from a copy: no earlier build can leak into it."""
    tree, target = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    hidden = shutil.ignore_patterns("__pycache__")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=hidden)
        else:
            shutil.copy(ROOT / name, tree / name)
    for name in ("tests", "notebooks"):  # what stands beside embkit stays out
        (tree / name).mkdir()
        (tree / name / "__init__.py").touch()
    for made in (".half.part", "built/table.json"):
        (tree / "data" / "icd10cm" / made).parent.mkdir(exist_ok=True)
        (tree / "data" / "icd10cm" / made).touch()
    pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", target, tree)
    (built,) = target.glob("embkit-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of a fresh environment: the wheel first, then what this one has.

    A .pth file in it adds this environment's packages, and reads none of their .pth files: the
    clone, which is installed here as editable, is out of its reach.
    """
    home = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(home, with_pip=False)
    found = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip("--python", found, "install", "--no-deps", "--no-index", wheel)
    own = {name: str(home) for name in ("base", "platbase", "installed_base")}
    site = Path(sysconfig.get_path("purelib", "venv", vars=own))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return found


@pytest.fixture
def away(python, tmp_path):
    """Runs Python with the wheel in an empty folder; returns what it printed."""
    here = tmp_path / "elsewhere"
    here.mkdir()

    def call(*arguments):
        unset = ("PYTHONPATH", "EMBKIT_RUNS")  # runs go where they go by default
        environment = {k: v for k, v in os.environ.items() if k not in unset}
        done = subprocess.run(
            [python, *map(str, arguments)],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call.folder = here
    return call


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_holds_every_module_and_the_data_and_nothing_else(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    kinds = (".py", ".js", ".css", ".html", ".mplstyle", ".jinja", ".txt", ".toml")
    modules = {f"embkit/{x}" for x in files(ROOT / "embkit") if x.endswith(kinds)}
    listed = subprocess.run(["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True)
    data = {f"embkit/_{name}" for name in listed.stdout.split()}
    assert "embkit/_data/icd10cm/lay.jsonl" in data
    assert {x for x in inside if not re.match(r"embkit-[\w.]+\.dist-info/", x)} >= modules | data
    assert {x.split("/")[0] for x in inside if ".dist-info/" not in x} == {"embkit"}
    assert not [x for x in inside if "built" in x or x.endswith((".part", ".pyc"))]


def test_a_domain_and_a_run_away_from_the_tree(away, python, tiny_model):
    code = """
import json, sys, embkit as ek
domain = ek.load_domain()
run = ek.train(ek.Recipe(model=sys.argv[1], epochs=1, batch_size=64), domain)
where = ek.paths()
print(json.dumps({
    "from": [ek.__file__, str(where.data)],
    "domain": [domain.name, domain.profile, *domain.test_splits],
    "here": [str(where.root), str(where.runs)],
    "run": str(run.path),
    "scored": list(ek.evaluate(run, domain).per_query),
}))
"""
    found = json.loads(away("-c", code, tiny_model).splitlines()[-1])
    assert all(Path(path).is_relative_to(python.parent.parent) for path in found["from"])
    assert found["domain"] == ["icd10cm", "smoke", *found["scored"]] and "lay" in found["scored"]
    assert found["here"] == [str(away.folder), str(away.folder / "runs")]
    assert Path(found["run"]).is_relative_to(away.folder / "runs") and Path(found["run"]).is_dir()


def test_sets_of_queries_are_read_from_the_package_and_written_beside_the_user(away, python):
    code = """
import json, embkit as ek
from embkit.synthetic.generation import Generated, Row
from embkit.pairs.pairs import collect, sets, source_hash
from embkit.synthetic import PROMPTS, eligible_documents, write_set
domain = ek.load_domain()
document = next(iter(eligible_documents(domain)))
made = Generated(
    rows=(Row(document, "one", "layman"),), failed={}, stopped=None,
    texts=dict(domain.corpus), backend="by hand", prompt=PROMPTS["general"],
    settings={}, counts={},
)
before = [sets(domain), len(collect(domain, "lay")[0]), source_hash(domain, ["smollm2"])]
written = [str(write_set(made, domain, name)) for name in ("mine", "smollm2")]
after = [sets(domain), [row[1] for row in collect(domain, ["mine", "smollm2"])[0]]]
try:
    write_set(made, domain, "lay")
except ek.EmbkitError as error:
    refused = error.given
print(json.dumps([before, written, after, refused, source_hash(domain, ["smollm2"])]))
"""
    kept = files(python.parent.parent)
    before, written, after, refused, own = json.loads(away("-c", code).splitlines()[-1])
    assert before[0] == ["lay", "smollm2"] and before[1] > 0 and own != before[2]
    sets = away.folder / "runs" / "sets" / "icd10cm"
    assert written == [str(sets / "mine.jsonl"), str(sets / "smollm2.jsonl")]
    assert after == [["lay", "mine", "smollm2"], ["one", "one"]]
    assert "made in another way" in refused and not (sets / "lay.jsonl").exists()
    assert not {x for x in files(python.parent.parent) - kept if not x.endswith(".pyc")}


def test_the_command_line_away_from_the_tree(away, tiny_domain, tiny_model, minilm_by_name, cache):
    to_beir(tiny_domain, away.folder / "own")
    printed = away("-m", "embkit", "run", "own", "--model", tiny_model, "--epochs", "1")
    assert "Domain('own'" in printed and "runs/own/leaderboard.json" in printed
    board = (away.folder / "runs" / "own" / "leaderboard.json").read_text(encoding="utf-8")
    assert "bm25" in board and "contrastive" in board
    assert "python -m embkit run my_folder" in away("-m", "embkit", "--help")
    assert f"checked, in {cache / 'assets'}" in away("-m", "embkit", "assets", "minilm")


def test_each_extra_that_is_missing_names_its_install_line(away, tiny_model):
    needs = {  # what asks for it -> the extra, and its packages as they are imported
        "ek.synthetic.OpenAIBackend('m', 'http://127.0.0.1:9/v1')": ("openai", ["openai"]),
        "ek.load_domain('icons')": ("pictures", ["resvg_py"]),
        "ek.models.load_quantized(sys.argv[1])": ("qlora", ["bitsandbytes"]),
        "ek.export.export_onnx(sys.argv[1], 'out')": ("onnx", ["onnxruntime"]),
    }
    code = f"""
import json, sys
needs = {needs!r}
sys.modules |= {{name: None for _, names in needs.values() for name in names}}  # none is there
import embkit as ek
said = {{}}
for call in needs:
    try:
        said[call] = repr(eval(call))
    except ek.EmbkitError as error:
        said[call] = error.hint
print(json.dumps(said))
"""
    said = json.loads(away("-c", code, tiny_model).splitlines()[-1])
    for call, (extra, _) in needs.items():
        assert said[call].startswith(f'pip install "embkit[{extra}]"'), call
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    for extra, names in needs.values():
        carried = {re.split("[><=]", line)[0].replace("-", "_") for line in extras[extra]}
        assert set(names) <= carried
