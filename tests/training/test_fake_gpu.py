"""What a GPU does otherwise, without one: losses on an emulated GPU, batches made ahead."""

import pytest
import torch
from sentence_transformers.util import batch_to_device

from embkit import session
from embkit.models import loading
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe
from embkit.training.losses import make_loss
from embkit.training.trainer import make_trainer, train, training_pairs
from tests.emulated_gpu import CPU, GPU, Emulated, autocast

DOCUMENTS, ROWS = 30, 4
TEXTS = ["infection of the eye", "pain", "tumor of the lung", "injury of the skin"]
TAUGHT = {"teacher": "minilm", "hard_negatives": 1}
RECIPES = {
    "contrastive": {},
    "symmetric": {"approach": "symmetric"},
    "hardness": {"hardness": 5.0},
    "matryoshka": {"matryoshka": (32, 16)},
    "gist": {"approach": "gist"},
    "triplet": {"approach": "triplet", "hard_negatives": 1},
    "kl": {"approach": "kl"} | TAUGHT,
    "margin_mse": {"approach": "margin_mse"} | TAUGHT,
    "corpus": {"approach": "corpus"},
    "corpus in blocks": {"approach": "corpus", "matryoshka": (32, 16)},
    "distill": {"approach": "distill", "teacher": "minilm"},
}
LABELS = {
    "corpus": [[0, 5, -1], [3, -1, -1], [8, 1, 2], [5, 0, -1]],
    "corpus in blocks": [[0, 5, -1], [3, -1, -1], [8, 1, 2], [5, 0, -1]],
    "distill": [[0, 5, -1], [2, 3, -1], [1, -1, -1], [3, 0, 4]],
    "kl": [[0.9, 0.1], [0.5, 0.4], [0.2, 0.1], [0.7, 0.3]],
    "margin_mse": [[0.1], [0.2], [0.3], [0.4]],
}


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def step(name, folder, gpu=None, documents=GPU):
    """The loss of one batch and its gradient; on the emulated GPU, if there is one."""
    recipe = Recipe(model=str(folder), **RECIPES[name])
    model = load_model(folder).eval()
    put = gpu.put if gpu else lambda tensor, where: tensor
    tables = {"queries": drawn(6, 48).numpy(), "documents": drawn(DOCUMENTS, 48).numpy()}
    loss = make_loss(recipe.loss, model, tables if name == "distill" else None)
    columns = 3 if recipe.hard_negatives else 2
    features = [model.preprocess(TEXTS) for _ in range(columns)]
    if gpu:
        gpu.move(loss)
        features = [batch_to_device(column, GPU) for column in features]
    inner = getattr(loss, "loss", loss)
    inner.documents = put(drawn(DOCUMENTS, 32), documents)
    inner.BLOCK = 7 if name == "corpus in blocks" else DOCUMENTS
    labels = put(torch.tensor(LABELS[name]), GPU) if name in LABELS else None
    with torch.autocast("cuda" if gpu else "cpu", dtype=torch.bfloat16):
        value = loss(features, labels)
    value.backward()
    return value.item(), [p.grad for p in model.parameters() if p.grad is not None]


@pytest.fixture
def gpu(monkeypatch, tiny_model):
    stock = torch.autocast
    monkeypatch.setattr(torch, "autocast", autocast(stock))
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: load_model(tiny_model).eval())
    return Emulated()


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_keeps_to_the_gpu_and_gives_what_the_processor_gives(name, tiny_model, gpu):
    wanted, slopes = step(name, tiny_model)
    with gpu:
        found, others = step(name, tiny_model, gpu)
    assert gpu.marked > 100, "weights, activations and the rest"
    assert found == pytest.approx(wanted, abs=1e-6) and len(others) == len(slopes) > 0
    for one, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["corpus", "distill"])
def test_documents_left_on_the_processor_are_found(name, tiny_model, gpu):
    with gpu, pytest.raises(RuntimeError, match="tensors on"):
        step(name, tiny_model, gpu, documents=CPU)


def test_batches_made_ahead_in_another_process_give_the_same_weights(
    tiny_domain, tiny_model, tmp_path, monkeypatch
):
    recipe = Recipe(model=str(tiny_model), epochs=2, batch_size=8, learning_rate=1e-3)
    weights = []
    for ahead in ({}, {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 4}):
        monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / f"{len(weights)}"))
        monkeypatch.setattr(session, "precision_flags", lambda ahead=ahead: ahead)
        weights.append(train(recipe, tiny_domain, quiet=True).model().state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], atol=0, rtol=0)


def test_passages_that_change_with_each_epoch_are_not_made_ahead(long_domain, tiny_model, tmp_path):
    recipe = Recipe(model=str(tiny_model), passage_size=16)
    pairs = training_pairs(recipe, long_domain)
    ahead = {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 4}
    trainer = make_trainer(recipe, tiny_model, pairs, tmp_path, **ahead)
    assert trainer.args.dataloader_num_workers == 0
