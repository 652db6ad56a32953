"""Two processes (gloo, one thread each) against one: loss, gradient, training."""

import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from embkit.distributed import Sliced, Team, check_recipe, on_one_device, team
from embkit.errors import EmbkitError
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe
from embkit.runs import Run, store
from embkit.training.losses import make_loss
from embkit.training.trainer import train, training_pairs

HERE = Path(__file__).resolve().parent
PATIENCE = 300  # seconds after which two processes count as stuck: a net, no measurement


def launch(folder, domain, **job):
    """Two processes on one job; their exit codes and what they wrote."""
    (folder / "job.json").write_text(json.dumps(job))
    (folder / "domain.pickle").write_bytes(pickle.dumps(domain))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in (0, 1):
        env = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
            "PYTHONPATH": str(HERE.parent),
        }
        command = [sys.executable, str(HERE / "two_processes.py"), str(folder)]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, env=env, **pipe))
    try:
        said = [process.communicate(timeout=PATIENCE)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], said


@pytest.fixture
def recipe(tiny_model):
    return Recipe(model=str(tiny_model), epochs=2, batch_size=8, learning_rate=1e-3)


def as_dict(recipe):
    return json.loads(recipe.to_json())


def apart(one, both):
    """How far two runs' scores and weights lie from each other."""
    mine, theirs = (dict(run.model().named_parameters()) for run in (one, both))
    change = max((mine[name] - theirs[name]).abs().max().item() for name in mine)
    return abs(one.dev_score - both.dev_score), change


def test_two_processes_give_what_one_gives(
    tiny_domain, recipe, tmp_path, monkeypatch, tiny_teacher
):
    shared = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "model": recipe.model}
    taught = {"teacher": str(tiny_teacher), "unlabeled_texts": "documents"}
    others = [
        shared | {"approach": "corpus"},
        shared | {"approach": "distill"} | taught,
    ]
    rows = [(tiny_domain.queries[q], d) for q, d in list(tiny_domain.qrels["train"].items())[:8]]
    batch = [(anchor, tiny_domain.corpus[next(iter(right))]) for anchor, right in rows]
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(30, 32)).tolist()
    tables = {
        n: (rng.normal(size=(k, 16)) / 4).tolist() for n, k in (("queries", 8), ("documents", 30))
    }
    places = [[i, (i + 3) % 8, -1] for i in range(8)]
    # of the texts that the second process holds, two have labels
    taught_places = [[i, *(row if i not in (1, 5) else [-1] * 3)] for i, row in enumerate(places)]
    job = {"do": "share", "recipe": as_dict(recipe), "batch": batch, "others": others}
    job |= {"labels": [places, taught_places], "documents": documents, "tables": tables}
    codes, said = launch(tmp_path, tiny_domain, **job)
    assert codes == [0, 0], said
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    arrays = [np.load(tmp_path / f"arrays-{rank}.npz") for rank in (0, 1)]

    model = load_model(recipe.model).eval()
    loss = make_loss(recipe.loss, model)
    value = loss([model.preprocess(list(side)) for side in zip(*batch, strict=True)], None)
    value.backward()
    for found in arrays:
        for name, weight in model.named_parameters():
            if weight.grad is not None:
                np.testing.assert_allclose(found[name], weight.grad.numpy(), atol=1e-5)
    assert told[0]["loss"] == told[1]["loss"] == pytest.approx(value.item(), abs=1e-5)

    # the losses over the corpus, of the labels and of a teacher
    for number, (given, labels) in enumerate(zip(others, job["labels"], strict=True)):
        model = load_model(recipe.model).eval()
        vectors = {name: np.float32(rows) for name, rows in tables.items()}
        taught = vectors if given["approach"] == "distill" else None
        loss = make_loss(Recipe(**given).loss, model, taught)
        loss.documents = torch.tensor(documents)
        columns = [model.preprocess(list(side)) for side in zip(*batch, strict=True)]
        value = loss(columns, torch.tensor(labels))
        value.backward()
        assert told[0]["losses"][number] == pytest.approx(value.item(), abs=1e-5)
        for name, weight in model.named_parameters():
            for found in arrays if weight.grad is not None else ():
                mine = found[f"{number} {name}"]
                np.testing.assert_allclose(mine, weight.grad.numpy(), atol=1e-5)

    for rank in (0, 1):
        disagree, batch_size, approach, recipes = told[rank]["errors"]
        assert "recipe 0" in disagree and "recipe 1" in disagree and "torchrun" in disagree
        assert "a batch of 7 for 2 processes" in batch_size and "batch_size=6" in batch_size
        assert "approach='clip' in 2 processes" in approach and "one process" in approach
        assert "disagree on what to train" in recipes
        assert told[rank]["run"] == told[rank]["again"] == told[0]["run"]

    both = Run.load(told[0]["run"])
    assert both.record["processes"] == 2 and both.recipe == recipe
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "another"))
    one = train(recipe, tiny_domain, quiet=True)
    assert one.path.name == both.path.name and one.record["steps"] == both.record["steps"]
    together = [both, *map(Run.load, told[0]["others"])]
    alone = [one, *(train(Recipe(**given), tiny_domain, quiet=True) for given in others)]
    for one, both in zip(alone, together, strict=True):
        assert one.recipe == both.recipe and both.record["processes"] == 2
        score, change = apart(one, both)
        assert score <= 0.01, one.recipe.approach
        if len(training_pairs(one.recipe, tiny_domain)) % 2 == 0:  # else a row of an epoch is lost
            assert change < 1e-3, "the weights themselves, after every step of both epochs"


def test_one_is_killed_the_other_ends_and_the_run_goes_on(
    tiny_domain, recipe, tmp_path, monkeypatch
):
    recipe = recipe.replace(epochs=4)
    codes, said = launch(tmp_path, tiny_domain, do="die", recipe=as_dict(recipe), die_at=12)
    assert codes[1] == -9 and codes[0] not in (0, -9), said
    assert not list(store(tiny_domain).glob("*/run.json"))
    kept = list(store(tiny_domain).glob("contrastive-*/checkpoints/checkpoint-*"))
    steps = [json.loads((k / "trainer_state.json").read_text())["global_step"] for k in kept]
    assert len(steps) == 1 and 0 < steps[0] <= 12, "saved before the second was killed"
    begun = []
    from embkit.training.callbacks import Watch

    monkeypatch.setattr(
        Watch, "on_step_end", lambda self, args, state, *_, **__: begun.append(state.global_step)
    )
    run = train(recipe, tiny_domain, quiet=True)
    assert begun == list(range(steps[0] + 1, 17)), "one process goes on from where two were"
    assert run.record["steps"] == 16 and "processes" not in run.record


def test_global_batches_are_cut_into_slices_of_one_length():
    batches = [[3, 1, 4, 1], [5, 9, 2], [6]]
    assert list(Sliced(batches, 2)) == [[3, 1], [4, 1], [5], [9]]
    assert len(Sliced(batches, 2)) == 6


def test_one_gpu_for_several_processes_is_refused(monkeypatch):
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("EMBKIT_DEVICE", "cuda:1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(EmbkitError, match="CUDA_VISIBLE_DEVICES"):
        team()


def test_one_process_needs_no_launcher(monkeypatch, recipe):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = team()
    assert alone == Team() and alone.first and alone.tell("x") == "x" and alone.gather(3) == [3]
    alone.agree("anything", 1)
    check_recipe(recipe.approach, 7, alone)
    assert not torch.distributed.is_initialized()
    with pytest.raises(EmbkitError, match="a batch of 7 for 3 processes"):
        check_recipe(recipe.approach, 7, Team(0, 3))


@pytest.mark.parametrize("gpu", ["cuda:0", "cuda:1"])
def test_one_process_trains_on_the_gpu_of_its_model_alone(tmp_path, monkeypatch, gpu):
    """As two GPUs are seen; transformers alone would take the first, and both for a batch."""
    from accelerate.state import AcceleratorState
    from sentence_transformers import SentenceTransformerTrainingArguments

    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    made = SentenceTransformerTrainingArguments(str(tmp_path), per_device_train_batch_size=8)
    made = on_one_device(made, torch.device(gpu))
    assert (made.n_gpu, made.device, made.train_batch_size) == (1, torch.device(gpu), 8)
    assert chosen[-1] == torch.device(gpu)
    AcceleratorState._reset_state(reset_partial_state=True)  # it would remember a GPU
