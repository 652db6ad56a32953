"""Training in a second thread: what is heard, Stop, interrupts, errors, and going on."""

import asyncio
import dataclasses

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.recipes.recipe import Recipe
from embkit.runs import Run
from embkit.training import trainer
from embkit.training.live import BEST, Job, Progress, Stopped
from embkit.widgets import LiveTraining
from embkit.widgets.live_training import train_live

EPOCHS = 6


@pytest.fixture
def recipe(tiny_model):
    return Recipe(model=str(tiny_model), epochs=EPOCHS, batch_size=8, learning_rate=1e-2)


def weights(model):
    return np.concatenate([w.detach().numpy().ravel() for w in model.state_dict().values()])


def embeddings(run, domain):
    """What a model does, which the last bit of a weight does not change."""
    return run.model().encode(list(domain.corpus.values()), show_progress_bar=False)


def run_and_stop(job, at):
    """Runs a job, and stops it when it has done so many steps."""
    heard = []

    def listen(progress):
        heard.append(progress)
        if progress.step >= at:
            job.stop()

    job.listen = listen
    return asyncio.run(job.run()), heard


def test_it_trains_what_train_trains(recipe, tiny_domain):
    heard = []
    run = asyncio.run(Job(recipe, tiny_domain, heard.append).run())
    assert isinstance(run, Run) and run.record["steps"] == 4 * EPOCHS
    assert not (run.path / "checkpoints").exists()
    kept = embeddings(run, tiny_domain)
    run.delete()
    again = trainer.train(recipe, tiny_domain, quiet=True)
    np.testing.assert_allclose(embeddings(again, tiny_domain), kept, atol=1e-3)
    steps = [progress.step for progress in heard]
    assert steps[0] == 0 and steps == sorted(steps)
    assert {progress.steps for progress in heard} == {4 * EPOCHS}
    rows = heard[-1].history
    assert sum("dev_ndcg@10" in row for row in rows) == EPOCHS
    assert [r["step"] for r in rows if "loss" in r] == [
        r["step"] for r in run.history if "loss" in r
    ]


def test_the_loop_goes_on_meanwhile(recipe, tiny_domain):
    async def both():
        ticks, job = 0, Job(recipe, tiny_domain)
        work = asyncio.ensure_future(job.run())
        while not work.done():
            await asyncio.sleep(0.001)
            ticks += 1
        return ticks, await work

    ticks, run = asyncio.run(both())
    assert ticks > 5 and isinstance(run, Run)


def test_stop_keeps_the_best_so_far_and_goes_on_to_the_same_end(recipe, tiny_domain):
    whole = trainer.train(recipe, tiny_domain, quiet=True)
    wanted, history = embeddings(whole, tiny_domain), whole.history
    whole.delete()
    stopped, _ = run_and_stop(Job(recipe, tiny_domain), at=2)
    assert isinstance(stopped, Stopped) and "goes on" in repr(stopped)
    assert 2 <= stopped.progress.step < 4 * EPOCHS
    assert stopped.dev_score is not None and 0 <= stopped.dev_score <= 1
    assert embeddings(stopped, tiny_domain).shape == wanted.shape
    assert (stopped.path / "checkpoints" / BEST).is_dir()
    run = trainer.train(recipe, tiny_domain, quiet=True)
    np.testing.assert_allclose(embeddings(run, tiny_domain), wanted, atol=1e-3)
    assert [r["step"] for r in run.history] == [r["step"] for r in history]
    with pytest.raises(EmbkitError, match="no stopped training"):
        stopped.model()


def test_the_best_model_is_the_one_with_the_highest_dev_score(recipe, tiny_domain, monkeypatch):
    from embkit.training.callbacks import DevScore

    scores = iter([0.2, 0.9, 0.4, 0.3, 0.3, 0.3, 0.3])
    seen = []

    def scored(self, model, *_, **__):
        seen.append(weights(model))
        return {"dev_ndcg@10": next(scores)}

    monkeypatch.setattr(DevScore, "__call__", scored)
    stopped, _ = run_and_stop(Job(recipe, tiny_domain), at=14)
    assert stopped.dev_score == 0.9
    assert np.array_equal(weights(stopped.model()), seen[1])


def test_a_stopped_adapter_can_be_used(recipe, tiny_domain):
    adapter = recipe.replace(lora_rank=2, lora_targets=("query", "value"))
    stopped, _ = run_and_stop(Job(adapter, tiny_domain), at=1)
    assert stopped.model().encode(["ocular sepsis"]).shape == (1, 32)


def test_one_training_at_a_time(recipe, tiny_domain):
    async def twice():
        first = asyncio.ensure_future(Job(recipe, tiny_domain).run())
        await asyncio.sleep(0)
        with pytest.raises(EmbkitError, match="training already"):
            await Job(recipe, tiny_domain).run()
        return await first

    assert isinstance(asyncio.run(twice()), Run)
    assert Job._running is None


def test_an_interrupted_cell_stops_the_thread_and_keeps_the_checkpoint(recipe, tiny_domain):
    async def interrupted(panel):
        cell = asyncio.ensure_future(panel.train())
        while panel.step < 2:
            await asyncio.sleep(0.005)
        cell.cancel()  # what the kernel does to an awaiting cell at an interrupt
        with pytest.raises(asyncio.CancelledError):
            await cell

    panel = LiveTraining(recipe.replace(epochs=50), tiny_domain)
    asyncio.run(interrupted(panel))
    assert "Interrupted" in panel.message and not panel.running and Job._running is None
    done = panel.step
    result, heard = run_and_stop(Job(panel.recipe, tiny_domain), at=0)
    assert heard[0].step >= done >= 2, "it went on from the checkpoint"


# ---- the panel


def test_the_panel_shows_the_end(recipe, tiny_domain):
    panel = LiveTraining(recipe, tiny_domain)
    assert "not trained yet" in panel._repr_mimebundle_()[0]["text/html"]
    run = asyncio.run(panel.train())
    assert panel.result is run and panel.step == panel.steps == 4 * EPOCHS
    assert list(panel.progress.history) == run.history and not panel.running
    assert panel.message.startswith("Done") and f"{run.dev_score:.3f}" in panel.message
    assert panel.charts.value.count("<svg") == 3 and panel.bar.value == 1
    assert panel.stop_button.disabled and not panel.train_button.disabled
    data, about = panel._repr_mimebundle_()
    assert data["image/png"] and "loss" in about["image/png"]["alt"]
    again = LiveTraining(recipe, tiny_domain)
    asyncio.run(again.train())
    assert "trained before" in again.message and list(again.progress.history) == run.history


def test_clicks_train_and_stop(recipe, tiny_domain):
    async def clicks(panel):
        panel.train_button.click()
        panel.train_button.click()
        assert "training already" in panel.message
        while panel.step < 1:
            await asyncio.sleep(0.005)
        panel.train_button.click()
        assert "training already" in panel.message
        panel.stop_button.click()
        await panel._task

    panel = LiveTraining(recipe.replace(epochs=50), tiny_domain)
    asyncio.run(clicks(panel))
    assert isinstance(panel.result, Stopped) and panel.message.startswith("Stopped")
    panel.stop_button.click()
    assert panel.message == "Nothing is training here."


def test_an_error_in_the_thread_is_shown_and_raised(recipe, tiny_domain):
    wrong = recipe.replace(model="no-such-model")
    panel = LiveTraining(wrong, tiny_domain)
    with pytest.raises(EmbkitError, match="no-such-model"):
        asyncio.run(panel.train())
    assert "no-such-model" in panel.message and "Not done" in panel.message
    assert "no-such-model" in panel.status.value and not panel.running

    async def clicked():
        panel.tell("")
        panel.start()
        await panel._task

    asyncio.run(clicked())
    assert "no-such-model" in panel.message


def test_a_click_without_an_event_loop_says_so(recipe, tiny_domain):
    panel = LiveTraining(recipe, tiny_domain)
    panel.train_button.click()
    assert "no running event loop" in panel.message


def test_markup_in_a_label_is_text(recipe, tiny_domain):
    marked = dataclasses.replace(recipe, pairs="<script>alert(1)</script>")
    panel = LiveTraining(marked, tiny_domain)
    panel._hear(Progress(1, 2))
    assert "<script" not in panel.facts.value and "&lt;script" in panel.facts.value


def test_train_live_shows_a_panel_and_then_its_end(recipe, tiny_domain, monkeypatch):
    shown = []

    class Handle:
        def update(self, panel):
            shown.append(panel._repr_mimebundle_()[1]["image/png"]["alt"])

    def display(panel, display_id):
        shown.append(panel._repr_mimebundle_()[0]["text/html"])
        return Handle()

    monkeypatch.setattr("embkit.widgets.live_training.display", display)
    run = asyncio.run(train_live(recipe, tiny_domain))
    assert isinstance(run, Run) and "not trained yet" in shown[0] and "loss" in shown[1]
    assert asyncio.run(LiveTraining(recipe, tiny_domain).train()).path == run.path
