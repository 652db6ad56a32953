"""Distillation: the losses by hand, teachers alone and together, bad ones, small students."""

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

import embkit as ek
from embkit.errors import EmbkitError
from embkit.losses.corpus import CorpusDistillLoss
from embkit.models import loading
from embkit.models.loading import load_model
from embkit.recipes.pruning import spaced
from embkit.recipes.recipe import Recipe
from embkit.training import trainer
from embkit.training.distillation import Teacher, load_teacher, rescaled
from embkit.training.losses import make_loss
from embkit.training.trainer import training_pairs
from tests.families import MANY_WORDS, NETWORKS, make_family

DIM, T, TAUGHT_T = 6, 0.1, 0.2


class Table(torch.nn.Module):
    """A model whose embeddings are its inputs."""

    def forward(self, features):
        return {"sentence_embedding": features["x"]}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def softmax(rows):
    e = np.exp(rows - rows.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.fixture
def some():
    rng = np.random.default_rng(5)
    return {
        "queries": rng.normal(size=(4, DIM)),
        "positives": rng.normal(size=(4, DIM)),
        "corpus": rng.normal(size=(9, DIM)),
        "taught queries": unit(rng.normal(size=(7, DIM + 2))),
        "taught documents": unit(rng.normal(size=(9, DIM + 2))),
        "labels": np.array([[2, 0, 5], [0, 3, -1], [6, -1, -1], [1, 5, -1]]),
    }


def taught_loss(some, **options):
    part = {name: torch.tensor(rows) for name, rows in some.items()}
    loss = CorpusDistillLoss(
        Table(), part["taught queries"], part["taught documents"], T, TAUGHT_T, **options
    )
    loss.documents = part["corpus"].float()
    return loss([{"x": part["queries"]}, {"x": part["positives"]}], part["labels"]).item()


def by_hand(some):
    """The teacher's part, the labels' over the corpus, the labels' over the batch."""
    student = softmax(unit(some["queries"]) @ unit(some["corpus"]).T / T)
    asked = some["taught queries"][some["labels"][:, 0]]
    teacher = softmax(asked @ some["taught documents"].T / TAUGHT_T)
    taught = (teacher * np.log(teacher / student)).sum(axis=1).mean()
    known = [row for row, label in enumerate(some["labels"]) if label[1] >= 0]
    labelled = 0.0
    for row in known:
        _, positive, *others = some["labels"][row]
        right = [d for d in others if d >= 0]
        labelled -= np.log(student[row, positive] / np.delete(student[row], right).sum())
    batch = softmax(unit(some["queries"][known]) @ unit(some["positives"][known]).T / T)
    return taught, labelled / 4, -np.log(np.diag(batch)).sum() / 4


def test_the_loss_is_the_formula_and_a_text_without_labels_learns_from_the_teacher_alone(some):
    taught, labelled, batch = by_hand(some)
    assert taught_loss(some, teacher_share=1.0, in_batch_weight=0.0) == pytest.approx(
        taught, abs=1e-5
    )
    assert taught_loss(some, teacher_share=0.0, in_batch_weight=0.0) == pytest.approx(
        labelled, abs=1e-5
    )
    assert taught_loss(some, teacher_share=0.0, in_batch_weight=1.0) == pytest.approx(
        batch, abs=1e-5
    )
    mixed = 0.75 * (0.5 * taught + 0.5 * labelled) + 0.25 * batch
    assert taught_loss(some, in_batch_weight=0.25) == pytest.approx(mixed, abs=1e-5)


def test_a_student_that_agrees_with_its_teacher_has_nothing_to_learn(some):
    some["queries"] = unit(some["taught queries"])[some["labels"][:, 0]]
    some["corpus"], some["labels"][:, 1:] = some["taught documents"], -1
    same = {"teacher_share": 1.0, "in_batch_weight": 0.5}
    part = {name: torch.tensor(rows) for name, rows in some.items()}
    loss = CorpusDistillLoss(
        Table(), part["taught queries"], part["taught documents"], T, T, **same
    )
    loss.documents = part["corpus"].float()
    assert loss([{"x": part["queries"]}], part["labels"]).item() == pytest.approx(0, abs=1e-6)


def test_margins_and_lists_are_compared_by_cosine(tiny_model, some):
    recipe = Recipe(teacher="another", hard_negatives=1, approach="margin_mse")
    vectors = [torch.tensor(some[name]).float() for name in ("queries", "positives", "queries")]
    wanted = (unit(some["queries"]) * unit(some["positives"])).sum(axis=1) - 1
    loss = make_loss(recipe.loss, load_model(tiny_model))
    zero = loss.compute_loss_from_embeddings(vectors, torch.tensor(wanted).float())
    assert zero.item() == pytest.approx(0, abs=1e-10)
    loss = make_loss(recipe.replace(approach="kl").loss, load_model(tiny_model))
    scores = torch.tensor(np.stack([wanted + 1, np.ones(4)], axis=1)).float()
    assert loss.compute_loss_from_embeddings(vectors, scores).item() == pytest.approx(0, abs=1e-8)


def test_the_cosine_of_several_is_the_mean_of_their_cosines(cache, tiny_model, tiny_teacher):
    texts = ["sepsis of the eye", "growth of the bone", "ache"]
    parts = [load_teacher(str(m)).vectors(texts) for m in (tiny_model, tiny_teacher)]
    both = load_teacher([tiny_model, tiny_teacher])
    mean = np.mean([part @ part.T for part in parts], axis=0)
    np.testing.assert_allclose(both.vectors(texts) @ both.vectors(texts).T, mean, atol=1e-6)
    np.testing.assert_allclose(both.scores(texts, [texts[:2]] * 3), mean[:, :2], atol=1e-6)
    assert both.fingerprint() not in {load_teacher(str(tiny_model)).fingerprint()}


def test_a_teacher_is_evaluated_like_a_model(store, tiny_domain, tiny_model, tiny_teacher):
    one = ek.evaluate(load_teacher(str(tiny_model)), tiny_domain)
    plain = ek.evaluate(str(tiny_model), tiny_domain)
    assert one.mean("known") == plain.mean("known") and one.label.startswith("teacher")
    both = load_teacher([tiny_model, tiny_teacher])
    assert ek.evaluate(both, tiny_domain, name="both").label == "both"
    assert ek.evaluate(both, tiny_domain, name="both").to_json()  # kept, by its weights


def test_scores_of_another_kind_are_brought_to_a_student_s_cosines():
    logits, cosines = np.array([[9.0, -4.0], [2.0, -9.0]]), np.array([[0.9, 0.3], [0.5, 0.1]])
    found = rescaled(logits, cosines)
    assert found.mean() == pytest.approx(cosines.mean())
    assert found.std() == pytest.approx(cosines.std())
    assert (np.argsort(found.ravel()) == np.argsort(logits.ravel())).all()
    for wrong in (np.full((2, 2), 3.0), np.array([[1.0, np.nan]])):
        with pytest.raises(EmbkitError, match="NaN|same score"):
            rescaled(wrong, cosines)


def test_unlabelled_texts_leave_out_what_is_held_out_or_known(tiny_domain, tiny_teacher):
    recipe = Recipe(approach="distill", teacher=str(tiny_teacher), unlabeled_texts="documents")
    pairs = training_pairs(recipe, tiny_domain)
    texts = pairs.taught.texts
    assert len(set(texts)) == len(texts)
    assert not {anchor for _, anchor, _ in pairs.rows} & set(texts)
    held = {tiny_domain.corpus[d] for d, g in tiny_domain.groups.items() if g == "brain"}
    assert held and not held & set(texts)
    assert set(tiny_domain.corpus.values()) - held <= set(texts)
    data = pairs.dataset()
    assert len(data) == len(pairs) == len(pairs.rows) + len(texts)
    assert data["anchor"][-1] == data["positive"][-1] == texts[-1]
    assert all(place == -1 for place in data["label"][-1][1:])
    assert data["label"][0][1:] == pairs.labels()[0]
    assert len(pairs.families) == len(pairs)


def test_the_student_comes_nearer_to_its_teacher(store, tiny_domain, tiny_model, tiny_teacher):
    texts = list(tiny_domain.corpus.values())
    teacher = load_teacher(str(tiny_teacher)).vectors(texts)
    base = Recipe(model=str(tiny_model), epochs=12, batch_size=8, learning_rate=2e-3)
    taught = {"teacher": str(tiny_teacher), "unlabeled_texts": "documents"}

    def distance(model):
        vectors = Teacher("student", (model,)).vectors(texts)
        return np.abs(vectors @ vectors.T - teacher @ teacher.T).mean()

    start = distance(load_model(tiny_model))
    recipe = base.replace(approach="distill", teacher_share=1.0, **taught)
    assert distance(trainer.train(recipe, tiny_domain, quiet=True).model()) < 0.8 * start


def test_another_teacher_s_weights_are_another_run(
    store, tmp_path, tiny_domain, tiny_model, tiny_teacher
):
    import shutil

    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, teacher)
    recipe = Recipe(model=str(tiny_model), approach="distill", teacher=str(teacher), epochs=1)
    first = trainer.train(recipe, tiny_domain, quiet=True)
    assert trainer.train(recipe, tiny_domain, quiet=True).path == first.path
    shutil.rmtree(teacher)
    shutil.copytree(tiny_model, teacher)
    assert trainer.train(recipe, tiny_domain, quiet=True).path != first.path


def test_runs_and_presets_teach(store, tiny_domain, tiny_model, monkeypatch):
    from embkit.recipes.recipe import PRESETS

    plain = Recipe(model=str(tiny_model), epochs=1)
    run = trainer.train(plain, tiny_domain, quiet=True)
    other = trainer.train(plain.replace(seed=1), tiny_domain, quiet=True)
    both = load_teacher([run, other], tiny_domain)
    assert len(both.models) == 2
    assert load_teacher(str(run.path)).fingerprint() == Teacher("", (run.model(),)).fingerprint()
    monkeypatch.setitem(PRESETS, "tiny", {"model": str(tiny_model), "epochs": 1})
    named = load_teacher("tiny", tiny_domain, fit=trainer.train)
    assert named.fingerprint() == load_teacher(run.path.name, tiny_domain).fingerprint()


@pytest.fixture
def tiny_reader(tiny_model, tmp_path):
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    config = BertConfig.from_pretrained(tiny_model, num_labels=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "bert")
    folder = tmp_path / "reader"
    CrossEncoder(str(tmp_path / "bert"), device="cpu", max_length=48).save_pretrained(str(folder))
    return folder


def test_a_cross_encoder_scores_lists_and_has_no_vectors(
    cache, tiny_domain, tiny_model, tiny_reader
):
    names = {"model": str(tiny_model), "teacher": str(tiny_reader)}
    recipe = Recipe(approach="kl", hard_negatives=3, **names)
    pairs = training_pairs(recipe, tiny_domain)
    assert np.shape(pairs.taught.labels) == (len(pairs.rows), 4)
    assert np.abs(pairs.taught.labels).max() < 1.5  # brought to cosines
    with pytest.raises(EmbkitError, match="approach='kl'"):
        training_pairs(recipe.replace(approach="distill", hard_negatives=0), tiny_domain)
    with pytest.raises(EmbkitError, match="among others"):
        load_teacher([tiny_model, tiny_reader])


@pytest.mark.parametrize("broken", ["nan", "constant"])
@pytest.mark.parametrize("approach", ["distill", "kl"])
def test_a_teacher_that_says_nothing_is_refused(
    cache, tmp_path, tiny_domain, tiny_model, broken, approach
):
    model = SentenceTransformer(str(tiny_model), device="cpu")
    with torch.no_grad():
        last = model[0].auto_model.encoder.layer[-1].output.LayerNorm
        last.weight.fill_(float("nan") if broken == "nan" else 0.0)
        last.bias.fill_(1.0)
    model.save_pretrained(str(tmp_path / "broken"))
    lists = {"hard_negatives": 2} if approach == "kl" else {}
    names = {"model": str(tiny_model), "teacher": str(tmp_path / "broken")}
    recipe = Recipe(approach=approach, **names, **lists)
    with pytest.raises(EmbkitError, match="NaN|same score"):
        training_pairs(recipe, tiny_domain)


def test_a_teacher_that_is_no_model_is_refused(store, tmp_path, tiny_domain, tiny_model):
    for name in ("no such model", str(tmp_path), [tiny_model, "other"], "minilmm"):
        recipe = Recipe(model=str(tiny_model), approach="distill", teacher=name)
        with pytest.raises(EmbkitError, match="no model and no finished run"):
            trainer.train(recipe, tiny_domain, quiet=True)


@pytest.mark.parametrize(
    "changes, hint",
    [
        ({"approach": "distil"}, "did you mean 'distill'"),
        ({"approach": "distill"}, "teacher="),
        ({"approach": "kl", "teacher": "another"}, "hard_negatives="),
        ({"approach": "margin_mse", "teacher": "another"}, "hard_negatives="),
        ({"unlabeled_texts": "documents"}, "approach='distill'"),
        ({"approach": "embedding_mse", "teacher": "a"}, "unknown approach 'embedding_mse'"),
        ({"layers": 2, "lora_rank": 4}, "lora_rank=0"),
        ({"layers": 0}, "layers"),
    ],
)
def test_what_cannot_be_had_together_is_refused_by_name(changes, hint):
    with pytest.raises(EmbkitError, match=hint):
        Recipe(**changes)


def test_an_unknown_source_of_texts_names_those_there_are(cache, tiny_domain, tiny_teacher):
    recipe = Recipe(approach="distill", teacher=str(tiny_teacher), unlabeled_texts="titles")
    with pytest.raises(EmbkitError, match="one of documents"):
        training_pairs(recipe, tiny_domain)


def test_layers_are_kept_evenly_saved_and_not_invented(tmp_path, tiny_model):
    assert spaced(3, 6) == [0, 2, 5] and spaced(1, 6) == [0]
    assert spaced(6, 6) == list(range(6))
    model = load_model(tiny_model)
    first = model[0].auto_model.encoder.layer[0]
    loading.keep_layers(model, 1)
    assert list(model[0].auto_model.encoder.layer) == [first]
    model.save_pretrained(str(tmp_path / "small"))
    again = load_model(tmp_path / "small")
    texts = ["sepsis of the eye", "ache"]
    np.testing.assert_allclose(again.encode(texts), model.encode(texts), atol=1e-6)
    with pytest.raises(EmbkitError, match="a model that has 2"):
        loading.keep_layers(load_model(tiny_model), 3)


@pytest.mark.parametrize("family", NETWORKS)
def test_layers_of_any_family_are_found_counted_and_saved(family, tmp_path):
    model = make_family(family, tmp_path)
    texts = ["w9 w8", " ".join(MANY_WORDS[:60])]
    whole = model.encode(texts)
    loading.keep_layers(model, 2)  # of 3: the first and the last
    folder = tmp_path / "pruned"
    model.save_pretrained(str(folder))
    again = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(again.encode(texts), model.encode(texts), atol=1e-5)
    assert np.abs(model.encode(texts) - whole).max() > 1e-3
    assert again[0].auto_model.config.num_hidden_layers == 2
    kept = again[0].auto_model.state_dict()
    assert kept.keys() == model[0].auto_model.state_dict().keys()


def test_layers_of_another_kind_of_network_are_not_guessed():
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    static = SentenceTransformer(modules=[StaticEmbedding(words, embedding_dim=4)], device="cpu")
    with pytest.raises(EmbkitError, match="one stack of like layers"):
        loading.keep_layers(static, 1)


def test_speed_and_size_are_measured_side_by_side(tiny_model):
    models = {"2 layers": load_model(tiny_model)}
    models["1 layer"] = loading.keep_layers(load_model(tiny_model), 1)
    table = loading.encode_speeds(models, ["sepsis of the eye", "ache"] * 20, rounds=2)
    assert table.loc["2 layers", "speed"] == 1.0 and (table["texts/s"] > 0).all()
    assert table.loc["1 layer", "parameters"] < table.loc["2 layers", "parameters"]
    assert table.loc["1 layer", "MB"] == pytest.approx(table.loc["1 layer", "parameters"] * 4 / 1e6)


def test_the_presets_of_the_lesson_name_presets_as_their_teachers():
    from embkit.recipes.recipe import PRESETS, preset

    for name in ("distilled", "distilled, 3 layers"):
        recipe = preset(name)
        assert set(recipe.teacher) <= PRESETS.keys()
    assert preset("distilled").label != preset("distilled, 3 layers").label
