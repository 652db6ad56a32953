"""Losses: the library's classes with a recipe's settings; the corpus' softmax by hand."""

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer import losses

from embkit.errors import EmbkitError
from embkit.losses import corpus as corpus_softmax
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe
from embkit.training.losses import make_loss
from embkit.training.trainer import training_pairs

DIM, T = 6, 0.1
CACHED = losses.CachedMultipleNegativesRankingLoss


class Table(torch.nn.Module):
    """A model whose embeddings are its inputs."""

    def forward(self, features):
        return {"sentence_embedding": features["x"]}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def some():
    rng = np.random.default_rng(3)
    queries, positives = rng.normal(size=(4, DIM)), rng.normal(size=(4, DIM))
    corpus = rng.normal(size=(9, DIM))
    labels = np.array([[0, 5, -1], [3, -1, -1], [8, 1, 2], [5, 0, -1]])
    return queries, positives, corpus, labels


def corpus_loss(some, **options):
    queries, positives, corpus, labels = (torch.tensor(part) for part in some)
    loss = corpus_softmax.CorpusSoftmaxLoss(Table(), T, **options)
    loss.documents = corpus.float()
    return loss([{"x": queries}, {"x": positives}], labels).item()


def test_the_loss_over_the_corpus_is_the_formula(some):
    queries, _, corpus, labels = some
    similarity = unit(queries) @ unit(corpus).T
    by_hand = []
    for row, (positive, *others) in zip(similarity, labels, strict=True):
        right = [d for d in others if d >= 0]  # right too: no negatives
        among = np.delete(row, right)
        by_hand.append(-np.log(np.exp(row[positive] / T) / np.exp(among / T).sum()))
    assert corpus_loss(some, in_batch_weight=0.0) == pytest.approx(np.mean(by_hand), abs=1e-5)


def test_its_share_of_the_batch_is_the_library_s_loss(some):
    queries, positives, _, _ = (torch.tensor(part).float() for part in some)
    library = losses.MultipleNegativesRankingLoss(Table(), scale=1 / T)
    wanted = library.compute_loss_from_embeddings([queries, positives], None).item()
    assert corpus_loss(some, in_batch_weight=1.0) == pytest.approx(wanted, abs=1e-5)
    half = (wanted + corpus_loss(some, in_batch_weight=0.0)) / 2
    assert corpus_loss(some, in_batch_weight=0.5) == pytest.approx(half, abs=1e-5)


@pytest.mark.parametrize("block", [1, 4, 9])
def test_a_corpus_in_blocks_gives_the_loss_and_the_gradient_of_the_whole(some, block):
    """Of the labels' softmax and the teacher's; a block of one document may be all forbidden."""
    queries, positives, corpus, labels = (torch.tensor(part) for part in some)
    told = torch.nn.functional.normalize(torch.tensor(some[1]).float(), dim=-1)
    shown = torch.nn.functional.normalize(corpus.flip(1).float(), dim=-1)
    loss = corpus_softmax.CorpusDistillLoss(Table(), told, shown, T, 0.2)
    loss.documents, loss.BLOCK = corpus.float(), block
    asked = torch.nn.functional.normalize(queries.float(), dim=-1).requires_grad_()
    places = torch.tensor([2, 0, 1, 3])
    found = [loss._over_corpus(asked, labels), loss._from_teacher(asked, places)]
    # by torch's own losses, over the whole corpus
    logits = asked @ torch.nn.functional.normalize(corpus.float(), dim=-1).T / T
    wanted = torch.softmax(told[places] @ shown.T / 0.2, dim=-1)
    taught = torch.nn.functional.kl_div(logits.log_softmax(-1), wanted, reduction="batchmean")
    forbidden = torch.zeros_like(logits, dtype=torch.bool)
    for row, others in enumerate(labels[:, 1:].tolist()):
        forbidden[row, [place for place in others if place >= 0]] = True
    masked = logits.masked_fill(forbidden, -torch.inf)
    right = [torch.nn.functional.cross_entropy(masked, labels[:, 0]), taught]
    for mine, theirs in zip(found, right, strict=True):
        assert mine.item() == pytest.approx(theirs.item(), abs=1e-5)
        slopes = [torch.autograd.grad(v, asked, retain_graph=True)[0] for v in (mine, theirs)]
        torch.testing.assert_close(*slopes, atol=1e-5, rtol=1e-4)


def test_truncated_queries_meet_truncated_documents(some):
    queries, positives, corpus, labels = some
    cut = (queries[:, :3], positives[:, :3], corpus[:, :3], labels)
    short = (queries[:, :3], positives[:, :3], corpus, labels)
    assert corpus_loss(short) == pytest.approx(corpus_loss(cut))


def test_places_name_the_positive_first_then_what_else_is_right(tiny_domain):
    pairs = training_pairs(Recipe(approach="corpus"), tiny_domain)
    ids = list(tiny_domain.corpus)
    for (_, anchor, document), row in zip(pairs.rows, pairs.dataset()["label"][:], strict=True):
        right = {d for _, a, d in pairs.rows if a == anchor}
        assert ids[row[0]] == document
        assert {ids[place] for place in row if place >= 0} == right


@pytest.mark.parametrize(
    "recipe, kind",
    [
        (Recipe(), losses.MultipleNegativesRankingLoss),
        (Recipe(mini_batch_size=32), CACHED),
        (Recipe(mini_batch_size=128), losses.MultipleNegativesRankingLoss),
        (
            Recipe(approach="symmetric", mini_batch_size=4),
            losses.CachedMultipleNegativesRankingLoss,
        ),
        (Recipe(approach="triplet", hard_negatives=1), losses.TripletLoss),
        (Recipe(approach="corpus"), corpus_softmax.CorpusSoftmaxLoss),
        (Recipe(approach="corpus", matryoshka=(32, 16)), losses.MatryoshkaLoss),
    ],
    ids=lambda value: getattr(value, "approach", ""),
)
def test_each_approach_is_its_class(recipe, kind, tiny_model):
    assert isinstance(make_loss(recipe.loss, load_model(tiny_model)), kind)


def test_gist_is_given_its_guide(tiny_model):
    model = load_model(tiny_model)
    loss = make_loss(Recipe(approach="gist", guide=str(tiny_model)).loss, model)
    assert isinstance(loss, losses.GISTEmbedLoss) and loss.guide is not model


def test_a_size_beyond_the_model_is_one_clear_error(tiny_model):
    with pytest.raises(EmbkitError, match="4096"):
        make_loss(Recipe(matryoshka=(4096, 8)).loss, load_model(tiny_model))
