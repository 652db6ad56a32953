"""Models of a hub: by id and revision, in part, in shards, gated, missing, slow, cut off."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from embkit import Recipe, train
from embkit.assets.catalogue import resolve
from embkit.cli import subjects
from embkit.errors import EmbkitError
from embkit.models.loading import load_model
from tests.hub import CHUNK, files_of, wait_less

ID = "some-one/some-model"


@pytest.fixture
def model(hub, tiny_model):
    """The hub's model, with what embkit never takes beside it."""
    made = hub.add(ID)
    made.commit(files_of(tiny_model) | {"modeling_own.py": b"raise SystemExit", "x.bin": b"\x80"})
    return made


def cached(tmp_path, name=ID):
    """The cache's folder of a model."""
    return tmp_path / "hub" / f"models--{name.replace('/', '--')}"


def without_a_listing(tmp_path):
    """The cache as older libraries, and those that fetch file by file, leave it."""
    from huggingface_hub import _tree_cache

    shutil.rmtree(cached(tmp_path) / "trees")
    _tree_cache._IN_MEMORY_TREE_CACHE.clear()


def lose(folder, name):
    """Removes a file of the cache: its name in the folder, and what it points to."""
    (folder / name).resolve().unlink()
    (folder / name).unlink()
    return folder / name


def refused(name=ID):
    with pytest.raises(EmbkitError) as caught:
        resolve(name)
    return caught.value


# -- by id and by id@revision --


def test_a_model_is_fetched_once_and_is_then_had_without_a_network(hub, model, offline):
    folder = resolve(ID)
    assert folder.name == model.refs["main"]
    assert load_model(ID).get_embedding_dimension() == 32
    there = {path.name for path in folder.rglob("*")}
    assert "model.safetensors" in there and not there & {"modeling_own.py", "x.bin"}
    asked = hub.requests.total()
    assert resolve(ID) == folder and load_model(ID) and hub.requests.total() == asked
    hub.close()
    assert resolve(ID) == folder and load_model(ID)
    offline()
    assert resolve(ID) == folder and load_model(ID)


@pytest.mark.parametrize("revision", ["v1", "refs/pr/1", "commit"])
def test_a_revision_is_a_tag_a_branch_or_a_commit(
    hub, tiny_model, tiny_teacher, tiny_domain, offline, revision
):
    made = hub.add(ID)
    first = made.commit(tiny_model, "v1", "refs/pr/1")
    second = made.commit(tiny_teacher)
    name = f"{ID}@{first if revision == 'commit' else revision}"
    assert resolve(name).name == first and resolve(ID).name == second
    assert subjects.subject(tiny_domain, name) == name  # as --model and compare have it
    hub.close()
    offline()
    assert resolve(name).name == first and resolve(ID).name == second


def test_a_run_keeps_the_commit(hub, model, tiny_teacher, tiny_domain, offline):
    first = model.refs["main"]
    model.commit(tiny_teacher, "later")
    recipe = Recipe(model=f"{ID}@{first}", approach="gist", guide=f"{ID}@later", epochs=1)
    run = train(recipe, tiny_domain, quiet=True)
    assert run.record["recipe"]["model"] == f"{ID}@{first}"
    assert run.record["commits"] == {f"{ID}@{first}": first, f"{ID}@later": model.refs["main"]}
    offline()
    assert train(recipe, tiny_domain, quiet=True).path == run.path
    script = recipe.to_script()
    assert f"SentenceTransformer(start, revision={first!r}" in script
    assert f"SentenceTransformer({ID!r}, revision='later'" in script


def test_a_child_process_asks_the_hub_that_hf_endpoint_names(hub, model, tmp_path):
    code = f"from embkit.assets.catalogue import resolve; print(resolve({ID!r}))"
    given = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}

    def child(**more):
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=given | more, capture_output=True, text=True, timeout=60)

    first = child(HF_HUB_OFFLINE="0")
    assert first.stdout.strip().endswith(model.refs["main"]), first.stderr
    hub.close()
    assert child(HF_HUB_OFFLINE="0").stdout == first.stdout
    assert child(HF_HUB_OFFLINE="1").stdout == first.stdout


# -- a part of it in the cache --


LOST = ["model.safetensors", "tokenizer.json", "1_Pooling/config.json", "modules.json"]


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("lost", LOST)
def test_a_part_is_completed_at_its_commit(hub, model, tiny_teacher, tmp_path, lost, listed):
    folder = resolve(ID)
    lose(folder, lost)
    if not listed:
        without_a_listing(tmp_path)
    model.commit(tiny_teacher)  # the hub goes on
    before = hub.fetched()
    assert resolve(ID) == folder and (folder / lost).is_file()
    assert hub.fetched() == before + 1
    assert load_model(ID).get_embedding_dimension() == 32


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("lost", ["model.safetensors", "1_Pooling/config.json", "config.json"])
def test_a_part_without_a_network_is_one_error_that_names_the_files(
    hub, model, tmp_path, offline, lost, listed
):
    lose(resolve(ID), lost)
    if not listed:
        without_a_listing(tmp_path)
    offline()
    said = refused()
    assert f"a part of it, without {lost}" in said.given and "offline" in said.given
    assert f"hf download {ID}`" in said.hint


def test_what_a_model_does_not_need_may_be_missing_without_a_network(hub, model, offline):
    folder = resolve(ID)
    lose(folder, "config_sentence_transformers.json")
    offline()
    assert resolve(ID) == folder


def test_a_cache_that_keeps_no_listing_is_enough_where_the_hub_is_gone(hub, model, tmp_path):
    folder = resolve(ID)
    without_a_listing(tmp_path)
    hub.close()
    assert resolve(ID) == folder == resolve(ID)


def test_what_sentence_transformers_itself_has_fetched_is_enough(hub, model, offline):
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(ID, device="cpu")
    offline()
    assert load_model(ID).get_embedding_dimension() == 32


# -- shards --


@pytest.fixture
def sharded(hub, tiny_model, tmp_path):
    from transformers import AutoModel

    folder = shutil.copytree(tiny_model, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    network = AutoModel.from_pretrained(tiny_model)
    network.save_pretrained(folder, max_shard_size="20KB")
    made = hub.add(ID)
    made.commit(folder)
    return sorted(path.name for path in folder.glob("model-*.safetensors"))


def test_weights_in_shards(hub, sharded, tiny_model, offline, tmp_path):
    import numpy as np

    assert len(sharded) > 2
    found = load_model(ID).encode(["pain of the ear"])
    assert np.allclose(found, load_model(tiny_model).encode(["pain of the ear"]), atol=1e-6)
    shard, fetched = lose(resolve(ID), sharded[1]), hub.fetched()
    without_a_listing(tmp_path)
    assert resolve(ID) == shard.parent and shard.is_file() and hub.fetched() == fetched + 1
    lose(resolve(ID), sharded[1])
    offline()
    assert f"without {sharded[1]}" in refused().given


# -- what a hub refuses --


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_where_its_terms_are(hub, model, status, offline):
    model.gated = status
    said = refused()
    assert "gated" in said.given and f"{hub.url}/{ID}" in said.hint and "hf auth login" in said.hint
    model.gated = 0
    folder = resolve(ID)  # let in
    model.gated = status
    assert resolve(ID) == folder


@pytest.mark.parametrize(
    "given, near",
    [
        ("some-one/some-modle", ID),
        ("sentence-transformers/all-MiniLM-L6", "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_a_missing_model_is_answered_with_the_nearest_known(hub, model, given, near):
    resolve(ID)
    said = refused(given)
    assert said.given.startswith("unknown model") and repr(given) in said.given
    assert "hf auth login" in said.given and said.hint == f"did you mean {near!r}?"


def test_a_missing_revision_is_named(hub, model):
    said = refused(f"{ID}@v9")
    assert said.given == f"unknown revision '{ID}@v9'" and said.hint == f"did you mean {ID!r}?"
    resolve(ID)  # as the hint says


def test_an_id_that_is_none_is_one_error(hub):
    assert "'some--one/x..y' cannot be had" in refused("some--one/x..y").given


def test_pickled_weights_alone_are_refused_and_never_fetched(hub, tiny_model, monkeypatch, offline):
    import torch

    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    files = files_of(tiny_model)
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    hub.add(ID).commit(files)
    for _ in range(2):
        said = refused()
        assert f"{ID!r} holds pickled weights" in said.given and "save_pretrained" in said.hint
        with pytest.raises(EmbkitError, match="pickle"):
            load_model(ID)
        offline()
    assert hub.fetched("pytorch_model.bin") == 0


def test_code_of_a_model_on_the_hub_is_not_run(hub, tiny_model, tmp_path):
    files = files_of(tiny_model)
    modules = json.loads(files["modules.json"])
    modules[-1]["type"] = "trap.Normalize"
    config = json.loads(files["config.json"]) | {"auto_map": {"AutoModel": "trap.Model"}}
    files |= {
        "modules.json": json.dumps(modules).encode(),
        "config.json": json.dumps(config).encode(),
    }
    files["trap.py"] = f"open({str(tmp_path / 'sprung')!r}, 'w').close()".encode()
    hub.add(ID).commit(files)
    with pytest.raises(EmbkitError, match="cannot be loaded"):
        load_model(ID)
    assert not (tmp_path / "sprung").exists() and hub.fetched("trap.py") == 0


# -- slow, cut off, gone --


def test_a_hub_that_says_nothing_is_one_error_in_the_end(hub, model):
    hub.asleep = ["api/models"]
    with wait_less():
        said = refused()
        assert "hf download some-one/some-model --revision v1`" in refused(f"{ID}@v1").hint
    assert f"{ID!r} cannot be had" in said.given and f"hf download {ID}`" in said.hint
    hub.asleep = []
    assert resolve(ID).is_dir()


def test_a_slow_hub_is_waited_for(hub, model):
    hub.asleep = ["model.safetensors"]
    assert (resolve(ID) / "model.safetensors").is_file()


def test_what_is_cut_off_goes_on_where_it_stopped(hub, model, tiny_model):
    wanted = (tiny_model / "model.safetensors").read_bytes()
    hub.cuts["model.safetensors"] = 1
    folder = resolve(ID)
    assert hub.ranges == [("model.safetensors", len(wanted) // 2 // CHUNK * CHUNK)]
    assert (folder / "model.safetensors").read_bytes() == wanted


def test_what_is_cut_off_again_and_again_is_one_error_and_the_next_call_ends_it(hub, model):
    hub.cuts["model.safetensors"] = 100
    assert f"{ID!r} cannot be had" in refused().given
    hub.cuts.clear()
    assert load_model(ID).get_embedding_dimension() == 32


def test_a_hub_that_is_gone_is_one_error_that_names_the_three_ways(hub, model):
    hub.close()
    said = refused()
    assert all(way in said.expected for way in ("folder", "hub", "package"))


def test_nothing_of_a_hub_is_asked_for_while_a_model_loads(hub, model):
    resolve(ID)
    asked = hub.requests.copy()
    load_model(ID)
    assert hub.requests == asked and Path(os.environ["HF_HOME"]).is_dir()
