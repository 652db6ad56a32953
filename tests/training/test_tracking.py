"""Trackers: off by default, named by a setting, and no part of what a run is."""

import importlib.util

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from embkit.errors import EmbkitError
from embkit.recipes.recipe import Recipe
from embkit.training import callbacks, trainer


@pytest.fixture
def recipe(tiny_model):
    return Recipe(model=str(tiny_model), epochs=1, batch_size=16, learning_rate=1e-3)


@pytest.fixture
def heard(monkeypatch):
    """What a tracker that is installed was told: names of runs, and losses."""
    told = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **_):
            told.append((args.project, args.run_name, logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Tracker)
    return told


@pytest.fixture(autouse=True)
def no_mode(monkeypatch):
    """What a test sets WANDB_MODE to is gone behind it: transformers prints a line where it is."""
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.delenv("WANDB_MODE")


def test_nobody_is_told_by_default(recipe, tiny_domain, heard, monkeypatch):
    monkeypatch.delenv("EMBKIT_REPORT_TO", raising=False)
    trainer.train(recipe, tiny_domain, quiet=True)
    assert heard == []


def test_the_tracker_that_is_named_hears_of_the_run_which_stays_the_same(
    recipe, tiny_domain, heard, monkeypatch
):
    monkeypatch.setenv("EMBKIT_REPORT_TO", "trackio")
    run = trainer.train(recipe, tiny_domain, quiet=True)
    assert {(project, name) for project, name, _ in heard} == {("embkit", run.path.name)}
    losses = [logs["loss"] for _, _, logs in heard if "loss" in logs]
    assert losses == pytest.approx([row["loss"] for row in run.history if "loss" in row])
    heard.clear()
    monkeypatch.setenv("EMBKIT_REPORT_TO", "")
    assert trainer.train(recipe, tiny_domain, quiet=True).path == run.path, "not trained again"
    assert heard == []


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_names_its_install_line(name, monkeypatch, tmp_path):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed here")
    monkeypatch.setenv("EMBKIT_REPORT_TO", name)
    with pytest.raises(EmbkitError, match="is not installed") as caught:
        callbacks.tracking(tmp_path)
    assert caught.value.hint == f"pip install {name}"


def test_a_tracker_that_is_not_known_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("EMBKIT_REPORT_TO", "tensorbord")
    with pytest.raises(EmbkitError) as caught:
        callbacks.tracking(tmp_path)
    assert caught.value.hint == "did you mean 'tensorboard'?"


def test_files_of_tensorboard_lie_with_the_run_and_wandb_sends_nothing(monkeypatch, tmp_path):
    import os

    class Board(TrainerCallback):
        logging_dir = None

    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, Board)
    monkeypatch.setenv("EMBKIT_REPORT_TO", "tensorboard,wandb")
    first, second = callbacks.tracking(tmp_path)
    assert first.logging_dir == str(tmp_path / "tensorboard") and second.logging_dir is None
    assert os.environ["WANDB_MODE"] == "offline"
