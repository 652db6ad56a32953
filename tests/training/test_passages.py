"""Training on passages: which are shown, when they are chosen, and a run that was stopped."""

import itertools
import json
import runpy
import threading

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import embkit as ek
from embkit.cli import subjects
from embkit.cli.main import main
from embkit.errors import EmbkitError
from embkit.export.export import to_beir
from embkit.models.window import cut_for
from embkit.pairs.mining import mine
from embkit.recipes.recipe import Recipe
from embkit.search.passages import Passages
from embkit.training import trainer
from embkit.training.passages import TrainedPassages
from tests.training.compared import same, weights

STEPS = 7  # 28 pairs in batches of 4


@pytest.fixture
def recipe(tiny_model):
    return Recipe(
        model=str(tiny_model), epochs=3, batch_size=4, learning_rate=2e-2, passage_size=18
    )


@pytest.fixture(scope="module")
def run(tiny_model, long_domain, tmp_path_factory):
    """A run of one epoch, in a store of its own."""
    recipe = Recipe(str(tiny_model), epochs=1, batch_size=4, learning_rate=2e-2, passage_size=18)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBKIT_RUNS", str(tmp_path_factory.mktemp("passages")))
        return trainer.train(recipe, long_domain, quiet=True)


@pytest.fixture
def seen(monkeypatch):
    """The batches of documents that training asked for, and the passages that it was shown."""
    batches, active = [], []  # others read the data set too, such as a model card
    call, begin = TrainedPassages.__call__, TrainedPassages.on_epoch_begin

    def watched(self, rows):
        found = call(self, rows)
        if active:
            batches.append((rows, found))
        return found

    def begun(self, *given, **named):
        active.append(True)
        begin(self, *given, **named)

    monkeypatch.setattr(TrainedPassages, "__call__", watched)
    monkeypatch.setattr(TrainedPassages, "on_epoch_begin", begun)
    monkeypatch.setattr(TrainedPassages, "on_epoch_end", lambda *a, **_: active.clear())
    return batches


def paragraphs(text):
    return text.split("\n\n")


def test_a_paragraph_is_a_passage(tiny_model, long_domain):
    model = SentenceTransformer(str(tiny_model), device="cpu")
    for text, own in zip(
        long_domain.corpus.values(),
        cut_for(model, list(long_domain.corpus.values()), 18),
        strict=True,
    ):
        assert [passage.of(text) for passage in own] == paragraphs(text)


@pytest.mark.parametrize("choice", ["best", "first"])
def test_the_passage_that_is_shown_is_the_first_or_the_nearest(
    store, tiny_model, long_domain, recipe, choice
):
    recipe = recipe.replace(passage_choice=choice, epochs=1, hard_negatives=1, query_prompt="in ")
    run = trainer.train(recipe, long_domain, quiet=True)
    rows = [json.loads(line) for line in (run.path / "pairs.jsonl").read_text().splitlines()]
    model = SentenceTransformer(str(tiny_model), device="cpu")
    home = {part: text for text in long_domain.corpus.values() for part in paragraphs(text)}
    assert len(rows) == 28 and {"positive", "negative_1"} <= rows[0].keys()
    for row in rows:
        asked = model.encode([row["anchor"]], prompt="in ")[0]
        right = next(
            d for q, d in long_domain.right("train") if long_domain.queries[q] == row["anchor"]
        )
        assert home[row["positive"]] == long_domain.corpus[right] != home[row["negative_1"]]
        for name in ("positive", "negative_1"):
            own = paragraphs(home[row[name]])
            best = own[int(np.argmax(model.encode(own) @ asked))]
            assert row[name] == (best if choice == "best" else own[0])


def test_passages_are_chosen_anew_when_an_epoch_begins(
    store, long_domain, recipe, seen, monkeypatch
):
    calls = iter(range(9))
    anew = lambda self, **_: [next(calls)] * len(self.pairs)  # noqa: E731
    monkeypatch.setattr(TrainedPassages, "choose", anew)
    trainer.train(recipe, long_domain, quiet=True)
    shown = [
        {paragraphs(d).index(p) for d, p in zip(rows["positive"], found["positive"], strict=True)}
        for rows, found in seen
    ]
    assert len(shown) == 3 * STEPS
    assert [some for some, _ in itertools.groupby(shown)] == [{0}, {1}, {2}]


def test_two_passages_of_one_document_are_never_in_a_batch(store, long_domain, recipe, seen):
    trainer.train(recipe.replace(hard_negatives=1, epochs=2), long_domain, quiet=True)
    assert len(seen) > STEPS
    for rows, found in seen:
        documents = rows["positive"] + rows["negative_1"]
        assert len(set(documents)) == len(documents)
        assert all(p in d for d, p in zip(rows["positive"], found["positive"], strict=True))
    several = {
        (d, p) for rows, f in seen for d, p in zip(rows["positive"], f["positive"], strict=True)
    }
    assert len(several) > 7, "a document's passages do differ"


def test_a_stopped_run_goes_on_with_the_passages_of_its_epoch(
    tmp_path, monkeypatch, long_domain, recipe
):
    from embkit.training.callbacks import Watch

    chosen, choose = [], TrainedPassages.choose

    def watched(self, **given):
        chosen.append(choose(self, **given))
        return chosen[-1]

    recipe = recipe.replace(epochs=2)
    with monkeypatch.context() as patch:
        patch.setenv("EMBKIT_RUNS", str(tmp_path / "whole"))
        patch.setattr(TrainedPassages, "choose", watched)
        whole = trainer.train(recipe, long_domain, quiet=True)
    assert len(chosen) == 2 and chosen[0] != chosen[1], "what a resumed run must not choose anew"
    on_step_end = Watch.on_step_end
    for step in (3, STEPS, STEPS + 2):  # in the first epoch, at its end, in the second
        monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / str(step)))
        stop = threading.Event()

        def stopping(self, args, state, control, step=step, stop=stop, **kwargs):
            if state.global_step == step:
                stop.set()
            on_step_end(self, args, state, control, **kwargs)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Watch, "on_step_end", stopping)
            trainer.train(recipe, long_domain, stop=stop, quiet=True)
        resumed = trainer.train(recipe, long_domain, quiet=True)
        assert same(weights(whole), weights(resumed)), step
        assert resumed.dev_score == whole.dev_score


def test_the_script_trains_the_same_model_on_the_first_passages(
    store, tmp_path, monkeypatch, long_domain, recipe
):
    recipe = recipe.replace(passage_choice="first", dropout=0.0, epochs=2)
    run = trainer.train(recipe, long_domain, quiet=True)
    given = [str(run.path / "script.py"), str(run.path / "pairs.jsonl"), recipe.model]
    monkeypatch.setattr("sys.argv", [*given, str(tmp_path / "out")])
    runpy.run_path(given[0], run_name="__main__")
    theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    texts = [part for text in long_domain.corpus.values() for part in paragraphs(text)]
    np.testing.assert_allclose(run.model().encode(texts), theirs.encode(texts), atol=5e-3)


def test_mining_scores_documents_by_their_passages(tiny_model, long_domain):
    model = SentenceTransformer(str(tiny_model), device="cpu")
    pairs = [(q, long_domain.queries[q], d) for q, d in long_domain.right("train")]
    mined = mine(long_domain, pairs, 2, model=Passages(model, 18))
    for (_, anchor, right), negatives, scores, own in zip(
        pairs, mined.negatives, mined.scores, mined.positive_scores, strict=True
    ):
        asked = model.encode([anchor])[0]
        best = {
            document: float((model.encode(paragraphs(text)) @ asked).max())
            for document, text in long_domain.corpus.items()
        }
        assert own == pytest.approx(best.pop(right), abs=1e-5)
        expected = sorted(best, key=best.get, reverse=True)[:2]
        assert list(negatives) == expected
        np.testing.assert_allclose(scores, [best[d] for d in expected], atol=1e-5)


def test_more_than_the_model_reads_is_refused_before_training(store, long_domain, recipe):
    with pytest.raises(EmbkitError, match="a model that reads 48"):
        trainer.train(recipe.replace(passage_size=64), long_domain, quiet=True)


def test_a_run_is_evaluated_as_it_was_trained(monkeypatch, tiny_model, long_domain, run):
    store, recipe = run.path.parents[2], run.recipe
    monkeypatch.setenv("EMBKIT_RUNS", str(store))
    model, how = run.model(), Passages(run, 18)
    scores = ek.evaluate(run, long_domain)
    assert scores.approach == recipe.label and (run.path / "scores.json").is_file()
    assert scores.meta["passages"] == 40 and scores.meta["dim"] == 32
    by_hand = ek.evaluate(Passages(model, 18), long_domain, save=False)
    whole = ek.evaluate(model, long_domain, save=False)
    for split in ("known", "novel"):
        same_values = scores.per_query[split].equals(by_hand.per_query[split])
        assert same_values and not scores.per_query[split].equals(whole.per_query[split])
    assert scores.mean("known") == pytest.approx(by_hand.mean("known"))
    assert run.dev_score == pytest.approx(np.mean(list(scores.dev.values())))
    again = ek.evaluate(how, long_domain)
    assert again.approach == recipe.label and len(list(store.rglob("scores.json"))) == 1
    other = ek.evaluate(Passages(run, 24, overlap=4), long_domain)
    assert other.approach == f"{recipe.label}, passages of 24, 4 shared"
    base = ek.evaluate(Passages(str(tiny_model), 18), long_domain)
    words = ek.evaluate(Passages("bm25", 18), long_domain)
    assert base.approach == "base, passages of 18" and words.approach == "bm25, passages of 18"
    kept = {path.parent.name for path in store.rglob("scores.json")}
    assert len(kept) == 4 and sum(name.startswith("passages-of-") for name in kept) == 3
    rows = ek.leaderboard(long_domain, "base, passages of 18").rows
    assert {row["approach"] for row in rows} == {s.approach for s in (scores, other, base, words)}
    with pytest.raises(EmbkitError, match="no vectors to truncate"):
        ek.evaluate_sizes(run, long_domain)


def test_scores_of_words_over_passages_are_counted_anew_with_another_bm25(
    store, long_domain, monkeypatch
):
    from embkit.search.index import BM25

    how = Passages("bm25", 18)
    ek.evaluate(how, long_domain)
    monkeypatch.setattr(BM25, "VERSION", BM25.VERSION + 1)
    assert ek.evaluate(how, long_domain).meta["bm25"] == BM25.VERSION


def test_wherever_a_run_is_searched_its_documents_are_cut(long_domain, run):
    query = long_domain.queries[next(iter(long_domain.qrels["known"]))]
    cut = Passages(run.model(), 18)
    models = {"run": run, "cut": cut, "both": ek.search.Fusion(run, 1.0)}
    table = ek.evaluation.search_side_by_side(query, models, long_domain)
    found = dict(zip(table.head, zip(*table.cells, strict=True), strict=True))
    assert found["run"] == found["cut"] == found["both"]
    id_, _, shown = found["run"][0].partition("  ")
    assert shown in paragraphs(long_domain.corpus[id_])
    changes = ek.evaluation.rank_changes(query, cut, run, long_domain)
    assert all(row["before"] == row["after"] for row in changes) and len(changes) == 8
    assert ek.evaluation.rank(run, long_domain, "known") == ek.evaluation.rank(
        cut, long_domain, "known"
    )
    fused = ek.evaluate(ek.search.Fusion(run, 1.0), long_domain, save=False)
    assert fused.meta["passages"] == 40
    assert fused.mean("known") == ek.evaluate(run, long_domain).mean("known")


def test_a_search_box_shows_the_passage_that_matched(long_domain, run):
    box = ek.widgets.SearchBox(Passages("bm25", 18), run, long_domain, query="growth in one ocular")
    assert box.before[0].document == "eye"
    assert box.before[0].text == paragraphs(long_domain.corpus["eye"])[2]
    assert all(hit.text in paragraphs(long_domain.corpus[hit.document]) for hit in box.after)
    assert "tumor of the eye" in box.results.value


def test_the_shell_shows_passages_and_encodes_no_whole_document(
    long_domain, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("EMBKIT_RUNS", str(run.path.parents[2]))
    folder = str(to_beir(long_domain, tmp_path / "long"))
    encoded, asked = subjects.encoded, []
    monkeypatch.setattr(subjects, "encoded", lambda *a: asked.append(a[0]) or encoded(*a))
    look = ["search", "growth in one ocular", "--domain", folder, "--run", run.path.name]
    assert main([*look, "--json", "--k", "2"]) == 0
    before, after = json.loads(capsys.readouterr().out)["found"].values()
    assert [row["text"] for row in before] == [long_domain.corpus[row["id"]] for row in before]
    assert all(row["text"] in paragraphs(long_domain.corpus[row["id"]]) for row in after)
    assert main(["evaluate", run.path.name, "--domain", folder]) == 0
    assert len(asked) == 1, "the model before it alone"


def test_an_exported_model_says_how_documents_are_cut(tmp_path, long_domain, run):
    folder = ek.export.export_model(run, tmp_path / "out")
    card = (folder / "README.md").read_text()
    code = card.partition("```python\nimport embkit as ek")[2].partition("```")[0]
    documents = list(long_domain.corpus.values())
    names = {"ek": ek, "model": run.model(), "documents": documents}
    exec(code, names)
    index = ek.search.PassageIndex(Passages(run, 18), documents)
    assert len(names["passages"]) == len(index) and "## Documents are cut" in card
    pytest.importorskip("onnxruntime")
    ek.export.export_onnx(run, tmp_path / "onnx", int8=False)
    serve = (tmp_path / "onnx" / "serve.py").read_text()
    compile(serve, "serve.py", "exec")
    assert "cut_for(model, documents, 18, 0, False)" in serve
