"""What a GPU does otherwise, without one: losses on fake CUDA tensors, batches made ahead.

torch's FakeTensorMode gives tensors that say where they lie and hold no numbers: one on another
device, or of a dtype that does not meet, fails as on a GPU.
"""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device
from torch._subclasses.fake_tensor import FakeTensorMode

from embkit import session
from embkit.models import loading
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe
from embkit.training import losses
from embkit.training.losses import make_loss
from embkit.training.trainer import make_trainer, train, training_pairs

GPUS = [("cuda", torch.bfloat16), ("cuda", torch.float16), ("mps", None)]
DOCUMENTS, ROWS = 30, 4
TEXTS = ["infection of the eye", "pain", "tumor of the lung", "injury of the skin"]
COLUMNS = {"triplet": 3, "kl": 3, "margin_mse": 3}
RECIPES = {
    "contrastive": {},
    "symmetric": {"approach": "symmetric"},
    "hardness": {"hardness": 5.0},
    "matryoshka": {"matryoshka": (32, 16)},
    "gist": {"approach": "gist"},
    "triplet": {"approach": "triplet", "hard_negatives": 1},
    "kl": {"approach": "kl", "teacher": "minilm", "hard_negatives": 1},
    "margin_mse": {"approach": "margin_mse", "teacher": "minilm", "hard_negatives": 1},
    "corpus": {"approach": "corpus"},
    "corpus matryoshka": {"approach": "corpus", "matryoshka": (32, 16)},
}


def to_gpu(model: SentenceTransformer, device: str) -> SentenceTransformer:
    """A model whose weights are fake and on a GPU; to be called within the mode."""
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            fake = torch.nn.Parameter(torch.empty(weight.shape, dtype=weight.dtype, device=device))
            setattr(module, name, fake)
        for name, buffer in list(module.named_buffers(recurse=False)):
            fake = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)
            module.register_buffer(name, fake, persistent=False)
    return model


def labels_of(name: str, device: str) -> torch.Tensor | None:
    if name.startswith("corpus"):
        return torch.zeros(ROWS, 3, dtype=torch.long, device=device)
    if name in ("kl", "margin_mse"):
        return torch.zeros(ROWS, 2 if name == "kl" else 1, device=device)
    return None


def step(name, folder, device, half, monkeypatch, documents=None):
    """One forward and backward pass of an approach's loss; the gradients' devices."""
    recipe = Recipe(model=str(folder), **RECIPES[name])
    model = load_model(folder)
    guide = load_model(folder)
    with FakeTensorMode() as mode:
        mode.allow_non_fake_inputs = False
        to_gpu(model, device)
        monkeypatch.setattr(loading, "load_model", lambda *_, **__: to_gpu(guide, device))
        monkeypatch.setattr(losses.loading, "load_model", loading.load_model)
        loss = make_loss(recipe.loss, model)
        inner = getattr(loss, "loss", loss)
        if name.startswith("corpus"):
            inner.documents = torch.zeros(DOCUMENTS, 32, device=documents or device)
        features = [
            batch_to_device(model.preprocess(TEXTS), device) for _ in range(COLUMNS.get(name, 2))
        ]
        with torch.autocast(device, dtype=half or torch.bfloat16, enabled=half is not None):
            value = loss(features, labels_of(name, device))
        assert value.device.type == device and value.dtype == torch.float32
        value.backward()
        return {p.grad.device.type for p in model.parameters() if p.grad is not None}


@pytest.mark.parametrize(("device", "half"), GPUS)
@pytest.mark.parametrize("name", RECIPES)
def test_a_step_keeps_to_the_gpu(name, device, half, tiny_model, monkeypatch):
    assert step(name, tiny_model, device, half, monkeypatch) == {device}


def test_documents_left_on_the_processor_are_found(tiny_model, monkeypatch):
    with pytest.raises(RuntimeError, match="device"):
        step("corpus", tiny_model, "cuda", torch.bfloat16, monkeypatch, documents="cpu")


@pytest.mark.parametrize("block", [7, DOCUMENTS])
def test_a_teacher_s_tables_keep_to_the_gpu(block, tiny_model):
    from embkit.losses.corpus import CorpusDistillLoss

    model = load_model(tiny_model)
    with FakeTensorMode():
        to_gpu(model, "cuda")
        tables = (torch.zeros(n, 48, dtype=torch.float16, device="cuda") for n in (9, DOCUMENTS))
        loss = CorpusDistillLoss(model, *tables)
        loss.BLOCK, loss.documents = block, torch.zeros(DOCUMENTS, 32, device="cuda")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            queries = loss._embed(batch_to_device(model.preprocess(TEXTS), "cuda"))
            found = loss._from_teacher(queries, torch.zeros(ROWS, dtype=torch.long, device="cuda"))
        found.backward()
        assert found.device.type == "cuda" and found.dtype == torch.float32


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
