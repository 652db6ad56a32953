"""Training: reused, resumed bitwise, shared by processes, and the same as the plain script."""

import json
import os
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from embkit import runs
from embkit.errors import EmbkitError
from embkit.evaluation.ranking import evaluate
from embkit.models import encoding
from embkit.recipes.recipe import Recipe
from embkit.training import callbacks, experiments, trainer
from embkit.training.trainer import training_pairs
from tests.families import make_family
from tests.training.compared import same, weights


@pytest.fixture
def recipe(tiny_model):
    return Recipe(model=str(tiny_model), epochs=4, batch_size=4, learning_rate=1e-3)


def test_a_run_holds_all_that_is_needed_to_know_and_repeat_it(store, tiny_domain, recipe):
    run = trainer.train(recipe, tiny_domain, quiet=True)
    record = run.record
    assert run.recipe == recipe
    assert record["domain_hash"] == tiny_domain.hash
    assert record["pairs"] == len(tiny_domain.pairs())
    assert {"torch", "sentence-transformers", "python"} <= set(record["environment"]["versions"])
    assert [row for row in run.history if "loss" in row]
    assert len([row for row in run.history if "dev_ndcg@10" in row]) == recipe.epochs
    assert run.dev_name == "dev" and ", dev nDCG@10" in repr(run) and "nDCG@10 on dev" in str(run)
    assert 0 <= run.dev_score <= 1 and run.seconds > 0 and record["peak_memory_mb"] > 0
    assert record["engine"] == "packed"
    assert (run.path / "model" / "README.md").is_file()
    assert not list(run.path.rglob("*checkpoint*"))
    lines = (run.path / "pairs.jsonl").read_text().splitlines()
    assert [json.loads(line)["anchor"] for line in lines] == tiny_domain.pairs()["anchor"][:]
    assert "<script>" not in run._repr_html_()


def test_a_finished_run_is_reused_and_another_recipe_is_not(
    store, tiny_domain, recipe, monkeypatch
):
    first = trainer.train(recipe, tiny_domain, quiet=True)
    monkeypatch.setattr(trainer, "_train", lambda *_: pytest.fail("trained again"))
    assert trainer.train(recipe, tiny_domain, quiet=True).path == first.path
    with pytest.raises(pytest.fail.Exception):
        trainer.train(recipe.replace(seed=7), tiny_domain, quiet=True)


def test_what_dev_has_encoded_last_is_not_encoded_again_by_an_evaluation(
    store, tiny_domain, recipe, monkeypatch
):
    encoded, fresh = [], encoding.fresh_vectors

    def watched(model, texts, **options):
        encoded.extend(texts)
        return fresh(model, texts, **options)

    monkeypatch.setattr(encoding, "fresh_vectors", watched)
    run = trainer.train(recipe, tiny_domain, quiet=True)
    documents = {*tiny_domain.corpus.values()}
    assert documents <= {*encoded}
    encoded.clear()
    scores = evaluate(run, tiny_domain)
    assert encoded and not documents & {*encoded}
    monkeypatch.setenv("EMBKIT_CACHE", str(store / "another"))
    anew = evaluate(run, tiny_domain, name="anew", save=False)
    assert anew.mean("known") == scores.mean("known") and documents <= {*encoded}


def test_runs_from_the_same_weights_encode_the_corpus_once_for_their_first_steps(
    store, tiny_domain, recipe, monkeypatch
):
    whole, documents = [], list(tiny_domain.corpus.values())
    fresh = encoding.fresh_vectors

    def watched(model, texts, **options):
        whole.extend([texts] * (texts == documents))
        return fresh(model, texts, **options)

    monkeypatch.setattr(encoding, "fresh_vectors", watched)
    recipe, counted = recipe.replace(approach="corpus", epochs=2), []
    for seed in (1, 2):
        run = trainer.train(recipe.replace(seed=seed), tiny_domain, quiet=True)
        counted.append(len(whole))
    first, second = counted[0], counted[1] - counted[0]
    assert second == first - 1 >= 1, "the second epoch's vectors are each run's own"
    for name in ("CACHE", "RUNS"):
        monkeypatch.setenv(f"EMBKIT_{name}", str(store / "another"))
    alone = trainer.train(recipe.replace(seed=2), tiny_domain, quiet=True)
    assert same(weights(run), weights(alone)) and len(whole) == counted[1] + first


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_stopped_run_resumes_and_ends_bitwise_as_an_uninterrupted_one(
    tmp_path, monkeypatch, tiny_domain, recipe, step
):
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "whole"))
    whole = trainer.train(recipe, tiny_domain, quiet=True)
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "halved"))
    stop = threading.Event()
    from embkit.training.callbacks import Watch

    on_step_end = Watch.on_step_end

    def stopping(self, args, state, control, **kwargs):
        if state.global_step == step:
            stop.set()
        on_step_end(self, args, state, control, **kwargs)

    monkeypatch.setattr(Watch, "on_step_end", stopping)
    with pytest.raises(KeyboardInterrupt, match="goes on from here"):
        trainer.train(recipe, tiny_domain, stop=stop, quiet=True)
    with pytest.raises(EmbkitError, match="ek.train"):
        runs.Run.load(runs.store(tiny_domain) / whole.path.name)
    monkeypatch.setattr(Watch, "on_step_end", on_step_end)
    resumed = trainer.train(recipe, tiny_domain, quiet=True)
    assert same(weights(whole), weights(resumed))
    assert [r.get("dev_ndcg@10") for r in resumed.history] == [
        r.get("dev_ndcg@10") for r in whole.history
    ]


VARIANTS = {
    "every weight": {},
    "hard negatives": {"hard_negatives": 2},
    "a single step": {"epochs": 1, "batch_size": 512, "learning_rate": 2e-2},
    "families apart": {"unique_in_batch": "families", "batch_size": 4},
    "LoRA": {"lora_rank": 2, "lora_targets": ("query", "value"), "learning_rate": 5e-2},
    "DoRA, LoRA+": {
        "lora_rank": 2,
        "lora_variant": "dora",
        "lora_plus": 4.0,
        "learning_rate": 2e-2,
        "lora_targets": ("query", "dense", "word_embeddings"),
    },
    "LoRA on all blocks, halves": {
        "lora_rank": 2,
        "lora_targets": "auto",
        "learning_rate": 1e-2,
        "matryoshka": "auto",
    },
    "QLoRA, rsLoRA": {
        "lora_rank": 2,
        "quantize": "nf4",
        "lora_variant": "rslora",
        "learning_rate": 2e-2,
    },
    "QLoRA, whole corpus": {
        "approach": "corpus",
        "lora_rank": 2,
        "quantize": "nf4",
        "learning_rate": 2e-2,
    },
    "symmetric, hardness": {"approach": "symmetric", "hardness": 2.0},
    "mini-batches, checkpointed": {"mini_batch_size": 2, "gradient_checkpointing": True},
    "triplet": {"approach": "triplet", "hard_negatives": 1, "margin": 0.5},
    "whole corpus": {"approach": "corpus", "hard_negatives": 1},
    "Matryoshka, prompts": {
        "matryoshka": (32, 8),
        "query_prompt": "ask: ",
        "document_prompt": "code: ",
    },
    "distilled over the corpus": {
        "approach": "distill",
        "teacher": "another",
        "unlabeled_texts": "documents",
        "layers": 1,
    },
    "distilled at two sizes": {"approach": "distill", "teacher": "another", "matryoshka": (32, 8)},
    "distilled over lists": {"approach": "kl", "teacher": "another", "hard_negatives": 3},
    "distilled margins": {"approach": "margin_mse", "teacher": "another", "hard_negatives": 2},
    "whole corpus at two sizes": {
        "approach": "corpus",
        "matryoshka": (32, 8),
        "in_batch_weight": 0.0,
    },
}


KILLED = """
import os, sys
from embkit.training import callbacks, trainer
import pickle
recipe, domain = pickle.load(open(sys.argv[1], "rb"))
callbacks.SAVE_EVERY = 0.0
on_step_end = callbacks.Watch.on_step_end
def die(self, args, state, control, **kwargs):
    on_step_end(self, args, state, control, **kwargs)
    if state.global_step == 5:
        os.kill(os.getpid(), 9)
callbacks.Watch.on_step_end = die
trainer.train(recipe, domain, quiet=True)
"""


@pytest.mark.parametrize("name", ["every weight", "LoRA", "QLoRA, rsLoRA", "whole corpus"])
def test_a_killed_process_leaves_a_run_that_resumes_bitwise(
    tmp_path, monkeypatch, tiny_domain, recipe, name
):
    import pickle

    recipe = recipe.replace(**VARIANTS[name])
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "whole"))
    whole = trainer.train(recipe, tiny_domain, quiet=True)
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "killed"))
    (tmp_path / "job").write_bytes(pickle.dumps((recipe, tiny_domain)))
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "job")], check=False)
    assert done.returncode == -9
    left = runs.store(tiny_domain) / whole.path.name
    assert list(left.glob("checkpoints/checkpoint-*")) and not (left / "run.json").exists()
    assert same(weights(whole), weights(trainer.train(recipe, tiny_domain, quiet=True)))


@pytest.mark.parametrize(("every", "expected"), [(0.0, "all"), (2.5, "each third"), (60.0, "none")])
def test_checkpoints_come_by_the_clock(store, monkeypatch, tiny_domain, recipe, every, expected):
    """A clock that goes on by a second a step."""
    from transformers import Trainer

    saved = []
    clock = SimpleNamespace(perf_counter=lambda: float(sum(heard)))
    heard: list[int] = []
    monkeypatch.setattr(callbacks, "time", clock)
    monkeypatch.setattr(callbacks, "SAVE_EVERY", every)

    def save(trainer, *_, **__):
        saved.append(trainer.state.global_step)
        os.makedirs(trainer.args.output_dir, exist_ok=True)

    monkeypatch.setattr(Trainer, "_save_checkpoint", save)

    class Second(TrainerCallback):
        def on_step_begin(self, *_, **__):
            heard.append(1)

    run = trainer.train(recipe, tiny_domain, quiet=True, callbacks=[Second()])
    all_ = range(1, run.record["steps"] + 1)
    assert saved == {"all": [*all_], "each third": [*all_][2::3], "none": []}[expected]


def test_a_checkpoint_cut_off_in_the_middle_is_not_used(tmp_path):
    good, cut = tmp_path / "checkpoint-2", tmp_path / "checkpoint-4"
    for folder, text in ((good, '{"global_step": 2}'), (cut, '{"global_st')):
        folder.mkdir()
        (folder / "trainer_state.json").write_text(text)
    assert trainer._last_checkpoint(tmp_path) == str(good)
    assert not cut.exists()
    assert trainer._last_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", ["every weight", "whole corpus"])
def test_a_kill_right_after_a_checkpoint_blocks_no_run(
    tmp_path, monkeypatch, tiny_domain, recipe, name
):
    from transformers import Trainer

    recipe = recipe.replace(**VARIANTS[name])
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "whole"))
    whole = trainer.train(recipe, tiny_domain, quiet=True)
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "killed"))
    written = Trainer._save_checkpoint

    def killed(self, *given, **named):
        written(self, *given, **named)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callbacks, "SAVE_EVERY", 0.0)
        patch.setattr(Trainer, "_save_checkpoint", killed)
        trainer.train(recipe, tiny_domain, quiet=True)
    begun = []
    from embkit.training.callbacks import Watch

    monkeypatch.setattr(Watch, "on_train_begin", lambda *a, **_: begun.append(a[2].global_step))
    assert same(weights(whole), weights(trainer.train(recipe, tiny_domain, quiet=True)))
    assert begun[0] > 0  # it went on from the checkpoint


def test_a_checkpoint_without_the_documents_is_not_used(tmp_path):
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        state = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
        state.write_text(json.dumps({"global_step": step}))
    (tmp_path / "documents-2.pt").touch()
    assert trainer._last_checkpoint(tmp_path, documents=True) == str(tmp_path / "checkpoint-2")


BOTH = """
import pickle, sys, torch
torch.set_num_threads(1)
from embkit.training import experiments, trainer
recipe, domain = pickle.load(open(sys.argv[1], "rb"))
run = trainer.train(recipe, domain, quiet=True)
print(run.record["seconds"])
"""


def test_two_processes_train_a_run_once(store, tmp_path, tiny_domain, recipe):
    import pickle

    (tmp_path / "job").write_bytes(pickle.dumps((recipe, tiny_domain)))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", BOTH, str(tmp_path / "job")], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert all(process.returncode == 0 for process in both)
    assert said[0] == said[1]  # the seconds of one training, read by both


# Python with the libraries of every script in memory, and without embkit: a script a line, each in
# a fork of its own. Importing takes longer than training here, and there are many scripts.
WARM = """
import json, os, runpy, sys, traceback
import peft, sentence_transformers
assert not [name for name in sys.modules if name.partition(".")[0] == "embkit"]
for line in sys.stdin:
    folder, *sys.argv = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    try:
        os.dup2(2, 1)
        os.chdir(folder)
        runpy.run_path(sys.argv[0], run_name="__main__")
        assert not [name for name in sys.modules if name.partition(".")[0] == "embkit"]
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
"""


@pytest.fixture(scope="module")
def warm_python():
    env = os.environ | {"PYTHONPATH": ""}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", WARM], env=env, cwd="/", **pipes) as process:
        yield process
        process.stdin.close()


def run_script(request, folder, arguments):
    """Runs a script; one in a Python of its own, as people do, and the others in a warm one."""
    if sys.platform == "linux" and "every weight" not in request.node.name:
        process = request.getfixturevalue("warm_python")
        print(json.dumps([str(folder), *arguments]), file=process.stdin, flush=True)
        assert process.stdout.readline() == "0\n"
    else:
        env = os.environ | {"PYTHONPATH": ""}
        subprocess.run([sys.executable, *arguments], check=True, env=env, cwd=folder)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_script_trains_the_same_model_without_embkit(
    store, tmp_path, tiny_domain, tiny_teacher, recipe, changes, request
):
    taught = {"teacher": str(tiny_teacher)} if "teacher" in changes else {}
    recipe = recipe.replace(dropout=0.0, **(changes | taught))
    run = trainer.train(recipe, tiny_domain, quiet=True)
    script = tmp_path / "script.py"
    script.write_text(recipe.to_script())
    assert "embkit" not in script.read_text()
    output = tmp_path / "out"
    given = [str(run.path / "pairs.jsonl"), recipe.model, str(output)]
    more = [run.path / name for name in ("documents.jsonl", "teacher.npz")]
    more = [str(file) for file in more if file.is_file()]
    run_script(request, tmp_path, [str(script), *given, *more])
    texts = list(tiny_domain.corpus.values())
    mine = run.model().encode(texts)
    theirs = SentenceTransformer(str(output), device="cpu").encode(texts)
    np.testing.assert_allclose(mine, theirs, atol=5e-3)
    assert run.model().prompts == SentenceTransformer(str(output), device="cpu").prompts
    start = SentenceTransformer(recipe.model, device="cpu").encode(texts)
    assert np.abs(start - theirs).max() > 0.05  # and training did change it


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}], ids=["plain", "LoRA"])
def test_the_script_reads_texts_as_the_base_model_and_the_recipe_do(
    store, tmp_path, tiny_domain, recipe, changes, request
):
    start = SentenceTransformer(recipe.model, prompts={"query": "one eye, "}, device="cpu")
    start.save_pretrained(str(tmp_path / "start"))
    recipe = recipe.replace(model=tmp_path / "start", epochs=1, learning_rate=2e-2, **changes)
    recipe = recipe.replace(document_prompt="pain in ", max_length=9)
    run = trainer.train(recipe, tiny_domain, quiet=True)
    (tmp_path / "script.py").write_text(recipe.to_script())
    given = [str(run.path / "pairs.jsonl"), recipe.model, str(tmp_path / "out")]
    run_script(request, tmp_path, [str(tmp_path / "script.py"), *given])
    mine, theirs = run.model(), SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert mine.max_seq_length == theirs.max_seq_length == 9
    assert mine.prompts == theirs.prompts == {"query": "one eye, ", "document": "pain in "}
    texts = list(tiny_domain.corpus.values())
    np.testing.assert_allclose(mine.encode_query(texts), theirs.encode_query(texts), atol=5e-3)
    moved = mine.encode_query(texts) - start.encode_query(texts)
    assert np.abs(moved).max() > 0.05


def test_a_prompt_is_trained_with_saved_and_searched_with(store, tiny_domain, recipe):
    from embkit.search.index import Dense

    run = trainer.train(recipe.replace(epochs=1, query_prompt="ask: "), tiny_domain, quiet=True)
    model, texts = run.model(), list(tiny_domain.corpus.values())
    assert model.prompts["query"] == "ask: "
    by_library = model.encode_query(texts[:3]) @ model.encode_document(texts).T
    _, scores = Dense(model, texts, cache=False).search(texts[:3], 5)
    np.testing.assert_allclose(scores, -np.sort(-by_library, axis=1)[:, :5], atol=1e-5)
    plain = trainer.train(recipe.replace(epochs=1), tiny_domain, quiet=True)
    assert not same(weights(run), weights(plain))


@pytest.mark.parametrize(
    "window, max_length, cut", [(2000, None, 512), (48, None, None), (2000, 900, None)]
)
def test_batches_of_a_model_that_reads_long_texts_are_cut(
    store, tmp_path, tiny_domain, recipe, window, max_length, cut
):
    model = make_family("t5", tmp_path)
    model.max_seq_length = window
    model.save_pretrained(str(tmp_path / "model"))
    recipe = recipe.replace(model=str(tmp_path / "model"), epochs=1, max_length=max_length)
    made = trainer.make_trainer(
        recipe, recipe.model, training_pairs(recipe, tiny_domain), tmp_path / "made"
    )
    rows = [{"anchor": "ache", "positive": "sepsis " * 1500}]
    assert made.data_collator(rows)["positive_input_ids"].shape == (1, cut or max_length or window)
    run = trainer.train(recipe, tiny_domain, quiet=True)
    assert run.record["batches_cut_at"] == cut
    assert run.model().max_seq_length == (max_length or window)


def test_shuffled_labels_keep_the_texts_and_break_the_pairs(tiny_domain, recipe):
    straight = training_pairs(recipe, tiny_domain).dataset()
    shuffled = training_pairs(recipe.replace(shuffle_labels=True), tiny_domain).dataset()
    assert shuffled["anchor"][:] == straight["anchor"][:]
    assert sorted(shuffled["positive"][:]) == sorted(straight["positive"][:])
    assert shuffled["positive"][:] != straight["positive"][:]


def test_max_pairs_takes_a_seeded_part(tiny_domain, recipe):
    few = training_pairs(recipe.replace(max_pairs=5), tiny_domain).dataset()
    again = training_pairs(recipe.replace(max_pairs=5), tiny_domain).dataset()
    other = training_pairs(recipe.replace(max_pairs=5, seed=1), tiny_domain).dataset()
    assert few["anchor"][:] == again["anchor"][:] != other["anchor"][:]
    assert set(few["anchor"][:]) <= set(tiny_domain.pairs()["anchor"][:]) and len(few) == 5


def test_choose_takes_the_best_dev_score(store, tiny_domain, recipe):
    sweep = experiments.tune(
        recipe.replace(epochs=1), tiny_domain, quiet=True, learning_rate=[1e-6, 1e-3]
    )
    scores = {run.recipe.learning_rate: run.dev_score for run in sweep.runs}
    assert sweep.best.learning_rate == max(scores, key=scores.get)
    alone = all(test is None or test.ci_low > 0 for test in sweep.less)  # told from the others
    assert sweep._repr_html_().count("★") == str(sweep).count("★") == alone
    with pytest.raises(EmbkitError, match="one field"):
        experiments.tune(recipe, tiny_domain, seed=[1], epochs=[1])


def test_a_store_that_cannot_be_made_is_one_clear_error(tmp_path, monkeypatch, tiny_domain, recipe):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "file"))
    with pytest.raises(EmbkitError, match="EMBKIT_RUNS"):
        trainer.train(recipe, tiny_domain, quiet=True)


def test_a_full_disk_leaves_nothing_half_written(store, monkeypatch, tiny_domain, recipe):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer, "_save_model", full)
    with pytest.raises(EmbkitError, match="No space left"):
        trainer.train(recipe, tiny_domain, quiet=True)
    assert not list(store.rglob("run.json"))
    assert not list(store.rglob("model.safetensors*")) or list(store.rglob("checkpoint-*"))
    monkeypatch.undo()


def test_a_disk_that_filled_up_is_said_whatever_the_writer_raised(
    store, monkeypatch, tiny_domain, recipe
):
    whole = shutil.disk_usage("/")

    def full(*_, **__):  # as safetensors does, whose error is no OSError
        monkeypatch.setattr(shutil, "disk_usage", lambda _: whole._replace(free=0))
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(trainer, "_save_model", full)
    with pytest.raises(EmbkitError, match=r"No space left[\s\S]*run\.delete"):
        trainer.train(recipe, tiny_domain, quiet=True)
    assert not list(store.rglob("run.json"))


def test_an_error_that_has_nothing_to_do_with_the_disk_stays_what_it_is(
    store, monkeypatch, tiny_domain, recipe
):
    def broken(*_, **__):
        raise RuntimeError("something else")

    monkeypatch.setattr(trainer, "_save_model", broken)
    with pytest.raises(RuntimeError, match="something else"):
        trainer.train(recipe, tiny_domain, quiet=True)


def test_too_little_room_is_said_before_anything_is_trained(
    store, monkeypatch, tiny_domain, recipe
):
    whole = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: whole._replace(free=1000))
    with pytest.raises(EmbkitError, match=r"0\.0 MB are free[\s\S]*two checkpoints"):
        trainer.train(recipe, tiny_domain, quiet=True)
    assert not list(store.rglob("checkpoint-*"))


def test_one_pair_is_too_few(tiny_domain, recipe):
    import dataclasses

    query = next(iter(tiny_domain.qrels["train"]))
    qrels = dict(tiny_domain.qrels) | {"train": {query: tiny_domain.qrels["train"][query]}}
    with pytest.raises(EmbkitError, match="at least two"):
        training_pairs(recipe, dataclasses.replace(tiny_domain, qrels=qrels))


def test_damaged_and_missing_runs_are_one_clear_error(tmp_path):
    for text in (None, "", "{", '{"recipe": {"epoch": 3}}'):
        folder = tmp_path / str(text)[:3].strip('{"') if text else tmp_path / "none"
        folder.mkdir(exist_ok=True)
        if text is not None:
            (folder / "run.json").write_text(text)
        with pytest.raises(EmbkitError, match="no finished run"):
            runs.Run.load(folder)
