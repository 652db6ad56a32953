"""The space: measures against libraries and cases worked by hand, maps, and what is drawn."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

import embkit as ek
from embkit import plots
from embkit.errors import EmbkitError
from embkit.runs import Run
from embkit.space import geometry, maps
from embkit.space.space import MEASURES, coarse, fit_space


def unit(rows):
    rows = np.asarray(rows, float)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def clusters():
    """90 unit vectors in three clusters, and the same with a little noise, rotated at random."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 12))
    before = unit(np.repeat(centres, 30, axis=0) + 0.4 * rng.standard_normal((90, 12)))
    turn, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    after = unit(before + 0.1 * rng.standard_normal((90, 12))) @ turn.astype(np.float32)
    return before, after


# ---- measures


def test_alignment_of_cases_worked_by_hand():
    x = np.eye(3, dtype=np.float32)
    assert geometry.alignment(x, x) == 0
    assert geometry.alignment(x, x[[1, 2, 0]]) == 2  # orthogonal
    assert geometry.alignment(x, -x) == 4
    assert geometry.alignment(x[:2], x[[0, 2]]) == 1  # the mean of 0 and 2


def test_uniformity_is_that_of_its_paper(clusters):
    import torch

    before, _ = clusters
    theirs = torch.pdist(torch.from_numpy(before)).pow(2).mul(-2).exp().mean().log().item()
    assert geometry.uniformity(before) == pytest.approx(theirs, abs=1e-4)
    assert geometry.uniformity(unit([[1, 0], [1, 0], [1, 0]])) == pytest.approx(0, abs=1e-6)
    assert geometry.uniformity(unit([[1, 0], [-1, 0]])) == pytest.approx(-8, abs=1e-4)  # -2 · 2²


def test_a_large_corpus_is_sampled_the_same_way_twice(monkeypatch, clusters):
    before, _ = clusters
    whole = geometry.uniformity(before)
    monkeypatch.setattr(geometry, "SAMPLE", 60)
    assert geometry.uniformity(before) == geometry.uniformity(before) != whole
    assert geometry.uniformity(before) == pytest.approx(whole, abs=0.2)


def test_anisotropy_is_the_mean_over_all_pairs(clusters):
    before, _ = clusters
    cosines = before @ before.T
    by_hand = cosines[~np.eye(90, dtype=bool)].mean()
    assert geometry.anisotropy(before) == pytest.approx(by_hand, abs=1e-5)
    assert geometry.anisotropy(unit([[1, 0], [1, 0]])) == pytest.approx(1)
    assert geometry.anisotropy(np.eye(4, dtype=np.float32)) == pytest.approx(0)


def test_effective_rank_counts_equal_directions():
    assert geometry.effective_rank(np.eye(5, dtype=np.float32)) == pytest.approx(5, abs=1e-4)
    assert geometry.effective_rank(unit([[1, 2], [2, 4], [3, 6]])) == pytest.approx(1, abs=1e-3)
    rows = np.diag([3.0, 1.0])  # shares 3/4 and 1/4
    by_hand = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert geometry.effective_rank(rows) == pytest.approx(by_hand, abs=1e-6)


def test_neighbours_are_those_of_sklearn(clusters):
    from sklearn.neighbors import NearestNeighbors

    before, _ = clusters
    found = geometry.neighbours(before, 7)
    theirs = NearestNeighbors(n_neighbors=7, metric="cosine").fit(before)
    assert (found == theirs.kneighbors(return_distance=False)).all()
    assert not (found == np.arange(90)[:, None]).any()


def test_a_text_with_more_twins_than_neighbours_is_not_its_own_neighbour():
    found = geometry.neighbours(np.ones((6, 2), np.float32) / np.sqrt(2), 2)
    assert found.shape == (6, 2) and not (found == np.arange(6)[:, None]).any()


@pytest.mark.parametrize("k", [0, -1, 90, 200])
def test_more_neighbours_than_texts_are_refused(clusters, k):
    with pytest.raises(EmbkitError, match=f"k={k} neighbours of 90 texts\n.*from 1 to 89\n"):
        geometry.neighbours(clusters[0], k)


def test_neighbour_overlap_by_hand():
    before = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]])
    after = np.array([[4, 3, 2, 1], [3, 4, 5, 6], [5, 6, 7, 8]])
    assert geometry.neighbour_overlap(before, after) == pytest.approx([1, 2 / 6, 0])


def test_hubness_is_the_skewness_of_how_often_a_text_is_a_neighbour(clusters):
    from scipy.stats import skew

    found = geometry.neighbours(clusters[0], 5)
    counts = geometry.occurrences(found)
    assert counts.sum() == 90 * 5 and counts[3] == (found == 3).sum()
    assert geometry.hubness(found) == pytest.approx(skew(counts))
    star = np.array([[1], [0], [0], [0], [0]])  # all but one have text 0
    assert (
        geometry.hubness(star) == pytest.approx(skew([4, 1, 0, 0, 0])) and skew([4, 1, 0, 0, 0]) > 1
    )
    assert geometry.hubness(np.array([[1], [2], [0]])) == 0  # a ring: nobody stands out


@pytest.mark.parametrize("k", [1, 5, 15])
def test_trustworthiness_is_that_of_sklearn(clusters, k):
    from sklearn.manifold import trustworthiness

    before, _ = clusters
    places = np.random.default_rng(1).standard_normal((90, 2))
    for drawn in (before[:, :2], places):
        theirs = trustworthiness(before, drawn, n_neighbors=k)
        assert geometry.trustworthiness(before, drawn, k) == pytest.approx(theirs, abs=1e-4)


def test_trustworthiness_of_a_perfect_map_is_one_and_a_sample_is_near_the_whole(
    monkeypatch, clusters
):
    angles = np.random.default_rng(0).uniform(0, 1, 200)
    circle = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    assert geometry.trustworthiness(circle, circle, 5) == pytest.approx(1)
    before, _ = clusters
    whole = geometry.trustworthiness(before, before[:, :2], 5)
    monkeypatch.setattr(geometry, "SAMPLE", 45)
    assert geometry.trustworthiness(before, before[:, :2], 5) == pytest.approx(whole, abs=0.05)


# ---- maps


class FakeUMAP:
    """Stands where umap would: keeps what it was given and draws its start."""

    calls: list = []

    def __init__(self, **options):
        self.calls.append(options)
        self.options = options

    def fit_transform(self, rows):
        return rows + self.options["random_state"]


@pytest.fixture
def fake_umap(monkeypatch):
    monkeypatch.setattr(FakeUMAP, "calls", [])
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeUMAP))
    return FakeUMAP.calls


def test_umap_is_given_exact_neighbours_half_of_them_of_the_other_model(fake_umap, clusters):
    before, after = clusters
    after = unit(after @ orthogonal_procrustes(after.astype(float), before)[0])
    maps.project(before, after, k=6)
    (options,) = fake_umap
    found, distances, _ = options["precomputed_knn"]
    assert found.shape == distances.shape == (180, 7) and options["n_neighbors"] == 7
    assert (found[:, 0] == np.arange(180)).all() and (distances[:, 0] == 0).all()
    assert (np.diff(distances, axis=1) >= 0).all() and options["random_state"] == 0
    own = (found[:, 1:] < 90) == (np.arange(180) < 90)[:, None]
    assert (own.sum(axis=1) == 3).all()
    assert not (found == (np.arange(180)[:, None] + 90) % 180).any(), "its own twin holds no text"
    both = np.concatenate([before, after])
    by_hand = np.linalg.norm(both[:, None] - both[found], axis=2)
    assert distances == pytest.approx(by_hand, abs=2e-3)
    assert options["init"].shape == (180, 2)


def test_the_second_time_needs_no_umap(fake_umap, clusters, monkeypatch, cache):
    first = maps.project(*clusters, seed=3)
    monkeypatch.setitem(sys.modules, "umap", None)  # an import would fail
    again = maps.project(*clusters, seed=3)
    assert (again.before == first.before).all() and again.trust == first.trust
    assert len(list((cache / "spaces").glob("maps-*.npy"))) == 1
    with pytest.raises(ImportError):
        maps.project(*clusters, seed=4)  # other inputs are another map
    (kept,) = (cache / "spaces").glob("maps-*.npy")
    kept.write_bytes(kept.read_bytes()[:100])  # cut off: made again
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeUMAP))
    assert (maps.project(*clusters, seed=3).before == first.before).all()


def test_every_setting_and_every_vector_is_part_of_the_key(fake_umap, clusters):
    before, after = clusters
    other = before.copy()
    other[0, 0] += 0.01
    calls = ({}, {"k": 5}, {"min_dist": 0.5}, {"seed": 1}, {"method": "pca"})
    for options in calls:
        maps.project(before, after, **options)
    maps.project(other, after)
    maps.project(after, before)
    assert len(fake_umap) == 6


def test_pca_is_that_of_sklearn_but_for_signs(clusters):
    from sklearn.decomposition import PCA

    theirs = PCA(2, svd_solver="full").fit_transform(np.concatenate(clusters))
    drawn = maps.project(*clusters, "pca")
    mine = np.concatenate([drawn.before, drawn.after])
    assert np.abs(mine) == pytest.approx(np.abs(theirs), abs=1e-4)


def test_an_unknown_method_names_the_nearest(clusters):
    with pytest.raises(EmbkitError, match="did you mean 'umap'"):
        maps.project(*clusters, "umpa")


@pytest.mark.slow
def test_umap_itself_keeps_clusters_apart_and_gives_the_same_map_twice(clusters, cache):
    before, after = clusters
    after = unit(after @ orthogonal_procrustes(after.astype(float), before)[0])
    first = maps.project(before, after, k=10)
    for path in (cache / "spaces").iterdir():
        path.unlink()
    assert (maps.project(before, after, k=10).before == first.before).all()
    assert min(first.trust) > 0.8
    middles = [first.before[i : i + 30].mean(axis=0) for i in (0, 30, 60)]
    own = np.linalg.norm(first.after[:30] - middles[0], axis=1)
    other = np.linalg.norm(first.after[:30] - middles[1], axis=1)
    assert (own < other).mean() > 0.9


# ---- two models of a domain


@pytest.fixture
def space(tiny_model, tiny_teacher, tiny_domain, fake_umap):
    return fit_space(str(tiny_model), str(tiny_teacher), tiny_domain, k=5)


def test_a_space_holds_both_models_and_one_map(space, tiny_domain):
    assert space.map.method == "umap" and space.before.shape == (40, 32)
    assert space.rotation @ space.rotation.T == pytest.approx(np.eye(32), abs=1e-5)
    assert np.linalg.norm(space.after, axis=1) == pytest.approx(np.ones(40), abs=1e-4)
    assert space.drift.shape == space.overlap.shape == (40,)
    assert "trustworthiness" in repr(space) and "40 documents" in repr(space)
    assert ek.space.fit_space is fit_space


def test_a_rotation_changes_no_ranking(space, tiny_teacher, tiny_domain):
    model = ek.load_model(tiny_teacher)
    ranking = ek.rank(model, tiny_domain, "known", k=3)
    asked = space.queries("known")[1]
    found, _ = ek.exact_search(asked, space.after, 3)
    mine = [[space.ids[i] for i in row] for row in found]
    assert mine == [list(row) for row in ranking.values()]


def test_measures_are_those_of_geometry(space, tiny_domain):
    from scipy.stats import mannwhitneyu

    found = space.measures("known")
    assert list(found.columns) == [*space.names, "better"] and set(found.index) == set(MEASURES)
    assert found.index.name == "queries of known"
    texts = list(tiny_domain.corpus.values())
    similar = space.similarities("known")
    for side, name in enumerate(space.names):
        vectors = ek.encode(space.models[side], texts)
        near = geometry.neighbours(vectors, 5)
        assert found.loc["hubness", name] == pytest.approx(geometry.hubness(near))
        rank = geometry.effective_rank(vectors)
        assert found.loc["effective rank", name] == pytest.approx(rank, abs=1e-2)
        right, wrong = similar["right"][side], similar["wrong"][side]
        area = mannwhitneyu(right, wrong).statistic / len(right) / len(wrong)
        assert found.loc["separation", name] == pytest.approx(area)
    asked = [q for q, row in tiny_domain.qrels["known"].items() for g in row.values() if g]
    right = [d for row in tiny_domain.qrels["known"].values() for d, g in row.items() if g]
    q = ek.encode(space.models[0], [tiny_domain.queries[i] for i in asked])
    d = ek.encode(space.models[0], [tiny_domain.corpus[i] for i in right])
    mean = ((q - d) ** 2).sum(1).mean()
    assert found.loc["alignment", space.names[0]] == pytest.approx(mean, abs=1e-4)
    assert space.measures().equals(found), "of the first test split"


def test_the_wrong_document_is_bm25s_best_that_is_not_right(space, tiny_domain):
    similar = space.similarities("known")
    texts, ids = list(tiny_domain.corpus.values()), list(tiny_domain.corpus)
    judged = tiny_domain.qrels["known"]
    query = next(q for q in judged if "injury" in tiny_domain.queries[q])
    number, right = list(judged).index(query), {d for d, grade in judged[query].items() if grade}
    ranked, _ = ek.search.BM25(texts).search([tiny_domain.queries[query]], 5)
    wrong = next(i for i in ranked[0] if ids[i] not in right)
    asked = ek.encode(space.models[0], [tiny_domain.queries[query]])[0]
    documents = ek.encode(space.models[0], texts)
    assert similar["wrong"][0][number] == pytest.approx(documents[wrong] @ asked, abs=1e-4)
    best = max(documents[ids.index(d)] @ asked for d in right)
    assert similar["right"][0][number] == pytest.approx(best, abs=1e-4)
    assert {len(v) for pair in similar.values() for v in pair} == {len(tiny_domain.qrels["known"])}


def test_where_words_find_no_wrong_document_one_is_drawn(space, tiny_domain):
    queries = {q: f"zz{n}" for n, q in enumerate(tiny_domain.queries)}
    foreign = replace(space, domain=replace(tiny_domain, queries=queries))
    similar = foreign.similarities("novel")
    asked = ek.encode(space.models[0], [queries[q] for q in tiny_domain.qrels["novel"]])
    scores = asked @ space.before.T  # (queries, documents)
    drawn = np.abs(scores - similar["wrong"][0][:, None]).argmin(axis=1).tolist()
    for d, judged in zip(drawn, tiny_domain.qrels["novel"].values(), strict=True):
        assert judged.get(space.ids[d], 0) == 0
    assert len(set(drawn)) > 1


def test_a_query_falls_among_what_it_finds(space, tiny_domain):
    title = tiny_domain.corpus["eye1"]
    places, found = space.place(title, k=3)
    number = space.ids.index("eye1")
    for side, points in enumerate((space.map.before, space.map.after)):
        assert found[side][0] == number and len(found[side]) == 3
        low, high = points[found[side]].min(axis=0), points[found[side]].max(axis=0)
        assert (places[side] >= low - 1e-5).all() and (places[side] <= high + 1e-5).all()


def test_a_query_of_markup_and_of_ten_thousand_characters_has_one(space):
    for query in ("<script>alert(1)</script>", "ocular ache " * 900, "👁 🦴"):
        assert np.isfinite(space.place(query)[0]).all()


def test_colours(space, tiny_domain):
    assert set(space.colours("group")) == set(tiny_domain.groups.values())
    found = dict(zip(space.ids, space.colours("found"), strict=True))
    assert found["eye2"] == "not asked" and found["eye1"] != "not asked"
    ranks = [ek.rank(m, tiny_domain, "known", k=10) for m in space.models]
    query = next(q for q, row in tiny_domain.qrels["known"].items() if "lung4" in row)
    hits = tuple("lung4" in ranking[query] for ranking in ranks)
    words = {(0, 0): "neither", (1, 0): "before only", (0, 1): "after only", (1, 1): "both"}
    assert found["lung4"] == words[hits]
    assert space.colours("drift").dtype.kind == "f"
    bare = replace(space, domain=replace(tiny_domain, groups={}, held_out=None))
    assert (bare.colours("group") == space.colours("found")).all()
    with pytest.raises(EmbkitError, match="unknown colour"):
        space.colours("chapter")


def test_coarse_groups_are_ten_at_most():
    assert coarse(["A1", "A2", "B1"]) == ["A1", "A2", "B1"]
    many = [f"{letter}{n}" for letter in "ABC" for n in range(9)]
    assert set(coarse(many)) == {"A", "B", "C"}
    wide = [chr(97 + n) for n in range(20)] + ["z", "z"]
    few = coarse(wide, most=3)
    assert len(set(few)) == 3 and few[-1] == "z" and few.count("other") == 19
    assert coarse(["", "x"]) == ["none", "x"]


def test_models_of_two_sizes_share_a_space(tiny_model, tiny_domain):
    def small(texts):  # 3 dimensions: lengths and letters
        return np.array([[len(t), t.count("e") + 1, t.count("a") + 1] for t in texts], float)

    found = fit_space(small, str(tiny_model), tiny_domain, k=5, method="pca")
    assert found.before.shape == found.after.shape == (40, 32) and found.names[0] == "function"
    assert np.isfinite(found.drift).all()


def test_the_same_model_twice_has_not_moved(tiny_model, tiny_domain):
    found = fit_space(str(tiny_model), str(tiny_model), tiny_domain, k=5, method="pca")
    assert found.drift == pytest.approx(np.zeros(40), abs=1e-4)
    assert len(set(found.names)) == 2, "two columns of one name would be one"
    assert found.overlap.mean() > 0.95


@pytest.mark.parametrize("k", [0, 20, 100])
def test_a_corpus_smaller_than_its_neighbourhoods_is_refused(tiny_model, tiny_domain, k):
    with pytest.raises(EmbkitError, match=f"k={k} neighbours of 40 texts\n.*from 1 to 19\n"):
        fit_space(str(tiny_model), str(tiny_model), tiny_domain, k=k)


def test_a_method_that_there_is_not(tiny_model, tiny_domain):
    with pytest.raises(EmbkitError, match="unknown method"):
        fit_space(str(tiny_model), str(tiny_model), tiny_domain, k=5, method="tsne")


def test_a_run_on_another_domain_is_refused_before_anything_is_loaded(
    tmp_path, tiny_model, tiny_domain
):
    record = {"domain": "icons", "domain_hash": "0" * 16, "recipe": {}}
    run = Run(tmp_path / "gone", record)
    with pytest.raises(EmbkitError, match="a run on 'icons'.*\n.*\n.*run.model"):
        fit_space(str(tiny_model), run, tiny_domain, k=5)


# ---- pictures


def drawn(figure):
    text = plots.alt_text(figure)
    assert plots.png(figure).startswith(b"\x89PNG") and len(text) > 20 and text.endswith(".")
    return figure


def texts(figure):
    found = [t.get_text() for axes in figure.axes for t in axes.texts]
    return (
        found
        + [axes.get_xlabel() for axes in figure.axes]
        + [axes.get_title(loc="left") for axes in figure.axes]
    )


def test_both_maps_share_one_scale_and_print_their_trust(space):
    figure = drawn(plots.space_maps(space, query="ocular ache", selected=[0, 7]))
    first, second = figure.axes[:2]
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    before, after = space.map.trust
    assert f"trustworthiness {before:.3f}" in texts(figure)
    assert f"trustworthiness {after:.3f}" in texts(figure)
    assert {"eye", "brain"} <= set(texts(figure)), "classes are named, not only coloured"
    assert "'ocular ache' finds" in plots.alt_text(figure)
    drawn(plots.space_maps(space, by="drift"))
    with pytest.raises(EmbkitError):
        plots.space_maps(space, by="colour")


def test_markup_in_documents_is_drawn_as_text(tiny_model, tiny_domain, fake_umap):
    corpus = {d: f"{t} <b>$x_1$</b>" for d, t in tiny_domain.corpus.items()}
    groups = {d: f"_{g}$" for d, g in tiny_domain.groups.items()}
    domain = replace(tiny_domain, corpus=corpus, groups=groups)
    found = fit_space(str(tiny_model), str(tiny_model), domain, k=5)
    figure = drawn(plots.space_maps(found, query="<i>$\\frac$</i>"))
    assert any(r"_eye\$" in text for text in texts(figure))


def test_settings_are_drawn_beside_each_other(clusters, fake_umap):
    made = {name: maps.project(*clusters, k=k) for name, k in (("few", 3), ("many", 20))}
    figure = drawn(plots.map_settings(made, ["a"] * 45 + ["b"] * 45))
    assert {"few", "many"} <= set(texts(figure))
    with pytest.raises(EmbkitError):
        plots.map_settings({}, [])


def test_figures_of_the_space_are_found_through_plots():
    with pytest.raises(AttributeError, match="space_map"):
        plots.space_map  # noqa: B018
