"""Turned models: against scikit-learn's SVD, and what a turn must leave alone."""

import numpy as np
import pytest

import embkit as ek
from embkit.errors import EmbkitError
from embkit.models.encoding import encode
from embkit.models.loading import load_model
from embkit.models.rotation import principal_axes, rotate_to_pca


@pytest.fixture
def texts(tiny_domain):
    return list(tiny_domain.corpus.values())


def test_the_directions_are_those_of_scikit_learns_svd():
    from sklearn.decomposition import TruncatedSVD

    vectors = np.random.default_rng(0).standard_normal((50, 6)) * [1, 5, 2, 4, 3, 0.5] + 1
    ours = principal_axes(vectors)
    theirs = TruncatedSVD(5, algorithm="arpack").fit(vectors).components_
    assert np.abs(np.abs((ours[:5] * theirs).sum(axis=1)) - 1).max() < 1e-5
    assert np.allclose(ours @ ours.T, np.eye(6), atol=1e-6)
    assert all(row[np.abs(row).argmax()] > 0 for row in ours)


def test_every_cosine_stays_and_a_cut_keeps_more(store, cache, tiny_domain, tiny_model, texts):
    before = encode(load_model(tiny_model), texts)
    after = encode(load_model(rotate_to_pca(tiny_model, tiny_domain)), texts)
    assert np.allclose(before @ before.T, after @ after.T, atol=1e-5)
    share = [(v[:, :8] ** 2).sum() / (v**2).sum() for v in (before, after)]
    assert share[1] > share[0]
    energy = (after**2).mean(axis=0)
    assert (np.diff(energy) < 1e-6).all(), "the largest first"


def test_it_is_made_once_and_trains_as_any_model(store, cache, tiny_domain, tiny_model):
    folder = rotate_to_pca(tiny_model, tiny_domain)
    written = (folder / "modules.json").stat().st_mtime_ns
    assert rotate_to_pca(tiny_model, tiny_domain) == folder
    assert (folder / "modules.json").stat().st_mtime_ns == written
    recipe = ek.Recipe(
        model=str(folder), epochs=1, batch_size=4, learning_rate=1e-3, matryoshka=(32, 8)
    )
    run = ek.train(recipe, tiny_domain, quiet=True)
    assert [type(part).__name__ for part in run.model()].count("Dense") == 1
    assert list(ek.evaluate_sizes(run, tiny_domain).scores) == [32, 8]


def test_a_model_that_is_turned_already_is_refused(store, cache, tiny_domain, tiny_model):
    folder = rotate_to_pca(tiny_model, tiny_domain)
    with pytest.raises(EmbkitError, match="Dense") as error:
        rotate_to_pca(folder, tiny_domain)
    assert "ek.models.rotate_to_pca('minilm', domain)" in error.value.hint
