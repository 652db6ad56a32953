"""The labs: what their sliders compute, told by other means; what goes wrong is shown."""

from __future__ import annotations

import base64
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from traitlets import TraitError

import embkit as ek
from embkit.errors import EmbkitError
from embkit.losses.in_batch import batch_loss
from embkit.space.space import fit_space
from embkit.widgets import LinkedMaps, TemperatureLab, TruncationLab

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def similarities():
    rng = np.random.default_rng(0)
    queries, documents = rng.standard_normal((2, 8, 5))
    documents += queries
    queries, documents = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, documents)
    )
    return queries @ documents.T


@pytest.fixture
def lab(similarities):
    return TemperatureLab(
        similarities, [f"query {n}" for n in range(8)], [f"d {n}" for n in range(8)]
    )


def shown(panel):
    """The panel has a live view and, beside it, a picture with a text in its place."""
    data, metadata = panel._repr_mimebundle_()
    assert VIEW in data and panel.error is None
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert len(metadata["image/png"]["alt"]) > 20
    return data


# ---- the loss of a batch


def test_loss_and_gradient_are_those_of_torch(similarities):
    import torch

    for temperature in (0.02, 0.3):
        given = torch.tensor(similarities, requires_grad=True)
        loss = torch.nn.functional.cross_entropy(given / temperature, torch.arange(8))
        loss.backward()
        found = batch_loss(similarities, temperature)
        assert found.loss == pytest.approx(loss.item())
        assert found.gradient == pytest.approx(given.grad.numpy())


def test_a_batch_worked_by_hand():
    found = batch_loss([[np.log(3), 0], [0, 0]], 1.0)
    assert found.softmax == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5]]))
    assert found.losses == pytest.approx([np.log(4 / 3), np.log(2)])
    assert found.right == pytest.approx(0.625) and found.hardest == 1  # one negative each
    assert batch_loss(np.eye(128), 1e9).loss == pytest.approx(np.log(128))
    assert batch_loss([[1000.0, -1000.0], [-1000.0, 1000.0]], 0.005).loss == 0
    assert "2 pairs" in repr(found)


@pytest.mark.parametrize(
    ("matrix", "temperature"),
    [([[1, 2]], 0.1), ([1, 2], 0.1), (np.eye(2), 0), (np.eye(2), -1), ([[np.nan]], 1), ([[]], 1)],
)
def test_what_is_no_batch_is_refused(matrix, temperature):
    with pytest.raises(EmbkitError, match="square matrix"):
        batch_loss(matrix, temperature)


# ---- temperature lab


def test_sliders_and_values_are_one(lab, similarities):
    temperature, batch, query = lab.children[:3]
    temperature.value = 0.1
    assert lab.temperature == 0.1 and "loss" in lab.page.value
    lab.batch = 4
    assert batch.value == 4 and lab.result.softmax.shape == (4, 4)
    assert lab.result.loss == pytest.approx(batch_loss(similarities[:4, :4], 0.1).loss)
    assert f"loss {lab.result.loss:.3f}" in lab.page.value
    query.value = 3
    assert "query 3" in lab.page.value
    lab.query = 7  # beyond the batch: its last row is shown
    assert "query 3" in lab.page.value and lab.error is None


def test_the_hardest_negatives_are_the_most_similar_wrong_ones(lab, similarities):
    lab.query = 2
    row = similarities[2].copy()
    row[2] = -2
    names = [text for text, _, _ in lab.hardest(7)]
    assert names == [f"d {i}" for i in np.argsort(-row)[:7]]
    assert sum(share for _, _, share in lab.hardest(7)) == pytest.approx(1)


def test_the_loss_curve_is_the_loss_at_each_temperature(lab, similarities):
    lab.batch = 5
    for temperature, loss in lab.curve.items():
        assert loss == pytest.approx(batch_loss(similarities[:5, :5], temperature).loss)


def test_the_still_page_follows_the_sliders(lab):
    data, _ = lab._repr_mimebundle_()
    assert VIEW in data and data["text/html"].count("src='data:image/png") == 3
    lab.temperature = 0.5
    after, _ = lab._repr_mimebundle_()
    assert after["text/html"] != data["text/html"] and lab.error is None
    assert repr(lab) == f"TemperatureLab({lab.result!r})"


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0), ("temperature", 5.0), ("batch", 1), ("query", -1)],
)
def test_values_out_of_range_leave_the_lab_as_it_was(lab, name, value):
    before = getattr(lab, name)
    with pytest.raises(TraitError, match=f"value of the '{name}' trait"):
        setattr(lab, name, value)
    assert getattr(lab, name) == before and lab.error is None


def test_more_pairs_than_there_are_is_all_of_them(lab):
    lab.batch = 9
    assert lab.result.softmax.shape == (8, 8) and lab.error is None


def test_a_batch_without_texts_for_all_is_refused(similarities):
    names = ["a"] * 8
    for bad in ((similarities, names, names[:7]), (similarities[:1, :1], ["a"], ["a"])):
        with pytest.raises(EmbkitError, match="2 to 256 pairs"):
            TemperatureLab(*bad)


def test_markup_is_shown_as_text(similarities):
    bad = "<script>alert(1)</script>"
    lab = TemperatureLab(similarities, [bad] * 8, [bad] * 8)
    assert "<script" not in lab.still() and "&lt;script" in lab.page.value


def test_a_callbacks_error_is_shown(lab, monkeypatch):
    monkeypatch.setattr(lab, "hardest", lambda: 1 / 0)
    lab.temperature = 0.3
    assert isinstance(lab.error, ZeroDivisionError) and "Not done" in lab.message
    monkeypatch.undo()
    lab.temperature = 0.4
    assert lab.error is None and not lab.message


# ---- truncation lab


@pytest.fixture
def truncation(tiny_model, tiny_domain):
    return TruncationLab({"tiny": str(tiny_model)}, tiny_domain)


def test_each_size_scores_what_evaluate_sizes_says(truncation, tiny_model, tiny_domain):
    assert truncation.sizes == (4, 8, 16, 32) and truncation.size == 32
    with pytest.warns(ek.evaluation.UntrainedDimension):
        sizes = ek.evaluate_sizes(str(tiny_model), tiny_domain, [32, 16, 8], save=False)
    for size in (32, 16, 8):
        truncation.size = size
        mean, low, high = truncation.scores["tiny"]
        assert mean == pytest.approx(sizes.scores[size].mean("known"), abs=1e-6)
        assert low <= mean <= high and f"{mean:.3f}" in truncation.page.value


def test_results_and_memory_change_with_the_slider(truncation, tiny_model, tiny_domain):
    slider, box = truncation.children[:2]
    box.value = "ocular sepsis"
    slider.value = 8
    assert truncation.megabytes == 8 * 4 * 40 / 1e6 and truncation.query == "ocular sepsis"
    texts = list(tiny_domain.corpus.values())
    model = ek.load_model(tiny_model)
    cut = [ek.search.truncate(ek.encode(model, t), 8) for t in (["ocular sepsis"], texts)]
    found, scores = ek.exact_search(*cut, 10)
    assert [d for d, _ in truncation.results["tiny"]] == [
        list(tiny_domain.corpus)[i] for i in found[0]
    ]
    assert [s for _, s in truncation.results["tiny"]] == pytest.approx(scores[0].tolist(), abs=1e-5)
    assert "8 dimensions" in truncation.page.value


def test_models_of_two_widths_are_each_cut_to_what_they_have(tiny_model, tiny_domain):
    def small(texts):
        return np.array([[len(t), t.count("e") + 1] for t in texts], float)

    lab = TruncationLab({"tiny": str(tiny_model), "two": small}, tiny_domain, split="novel")
    lab.size = 16
    assert set(lab.results) == {"tiny", "two"} and lab.split == "novel"
    data, _ = lab._repr_mimebundle_()
    assert VIEW in data and lab.page.value in data["text/html"] and "two" in repr(lab)
    assert "two: nDCG@10" in data["text/html"] and "on &#x27;novel&#x27;" in data["text/html"]


def test_the_right_documents_are_marked_for_a_query_of_the_split(truncation, tiny_domain):
    query, judged = next(iter(tiny_domain.qrels["known"].items()))
    assert truncation.query == tiny_domain.queries[query]
    found = {d for d, _ in truncation.results["tiny"]} & {d for d, g in judged.items() if g}
    assert truncation.page.value.count("★") == 1 + len(found)
    truncation.query = "something else"
    assert truncation.page.value.count("★") == 1


def test_an_empty_query_says_so_and_leaves_the_results(truncation):
    before = truncation.results
    truncation.query = " "
    assert "an empty query" in truncation.message and truncation.results == before
    truncation.query = "<img src=x onerror=alert(1)> 👁 " * 300
    assert truncation.error is None and "<img" not in truncation.page.value


@pytest.mark.parametrize("size", [0, 5, 33, 64])
def test_a_size_that_is_no_step_names_the_nearest(truncation, size):
    with pytest.raises(EmbkitError, match="lab.size = "):
        truncation.size = size
    assert truncation.size == 32


@pytest.mark.parametrize("models", [{}, None, ["minilm"], {str(n): "minilm" for n in range(5)}])
def test_a_lab_wants_one_to_four_models(models, tiny_domain):
    with pytest.raises(EmbkitError, match="one to 4 models"):
        TruncationLab(models, tiny_domain)


def test_words_have_no_dimensions(tiny_domain):
    with pytest.raises(EmbkitError):
        TruncationLab({"words": "bm25"}, tiny_domain)


# ---- linked maps


@pytest.fixture
def space(tiny_model, tiny_teacher, tiny_domain, monkeypatch):
    fake = SimpleNamespace(UMAP=lambda **o: SimpleNamespace(fit_transform=lambda rows: rows))
    monkeypatch.setitem(sys.modules, "umap", fake)
    return fit_space(str(tiny_model), str(tiny_teacher), tiny_domain, k=5)


@pytest.fixture
def linked(space):
    return LinkedMaps(space)


def chosen(linked):
    return [sorted(scatter.widget.selection.tolist()) for scatter in linked.scatters]


def test_what_is_chosen_on_one_map_is_chosen_on_both(linked):
    for side in (0, 1):
        linked.scatters[side].widget.selection = np.array([4, 2 + side], np.uint32)
        assert linked.selection == [2 + side, 4] and chosen(linked) == [[2 + side, 4]] * 2
    linked.select([0, 9, 3])
    assert chosen(linked) == [[0, 3, 9]] * 2
    linked.select([linked.space.ids.index("eye1")])
    assert linked.selection == [1] and "eye1" in linked.page.value
    assert linked.space.domain.corpus["eye1"] in linked.page.value


def test_choosing_none_clears_both(linked):
    linked.select([1, 2])
    linked.children[0].children[2].click()
    assert linked.selection == [] and chosen(linked) == [[], []]
    assert "Nothing is chosen" in linked.page.value and linked.error is None


@pytest.mark.parametrize("numbers", [[40], [-1], [3, 1000]])
def test_a_document_that_there_is_not_cannot_be_chosen(linked, numbers):
    linked.select([1])
    with pytest.raises(EmbkitError, match="of 40"):
        linked.select(numbers)
    assert linked.selection == [1]


def test_a_query_is_a_star_joined_with_what_it_finds(linked, space):
    assert list(linked.near) == [(), ()]
    linked.query = "ocular ache"
    _, near = space.place("ocular ache")
    assert [list(found) for found in linked.near] == [list(found) for found in near]
    for scatter in linked.scatters:
        assert len(scatter.widget.annotations) == 6  # five neighbours and the star
    assert "ocular ache" in linked.page.value
    linked.query = ""
    assert all(not scatter.widget.annotations for scatter in linked.scatters)
    assert list(linked.near) == [(), ()]


def test_both_maps_have_one_scale_and_the_points_of_the_space(linked):
    first, second = (scatter.widget for scatter in linked.scatters)
    for name in ("x_scale_domain", "y_scale_domain"):
        assert list(getattr(first, name)) == list(getattr(second, name))
    assert linked.scatters[0].widget.points.shape[0] == 40


@pytest.mark.parametrize("by", ["group", "found", "drift"])
def test_every_colour_is_drawn_and_has_a_picture(linked, by):
    linked.children[0].children[0].value = by
    assert linked.by == by and linked.error is None
    assert len(linked.scatters[0].widget.color) >= 2
    shown(linked)


def test_a_colour_that_there_is_not_names_those_that_there_are(linked):
    with pytest.raises(TraitError, match=r"any of \['group', 'found', 'drift'\]"):
        linked.by = "drfit"
    assert linked.by == "group"
    with pytest.raises(EmbkitError, match="a Space"):
        LinkedMaps("minilm")
    with pytest.raises(TraitError):
        LinkedMaps(linked.space, by="chapter")


def test_markup_in_documents_and_queries_is_shown_as_text(linked):
    linked._texts[3] = "<img src=x onerror=alert(1)>"
    linked.query = "<script>alert(1)</script>" + " ache" * 2000
    linked.select([3])
    assert linked.error is None
    assert "<script" not in linked.page.value and "<img" not in linked.page.value


def test_a_model_that_fails_is_shown_and_the_maps_stay(linked, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the model is gone")

    monkeypatch.setattr(type(linked.space), "place", broken)
    linked.query = "ocular"
    assert "the model is gone" in linked.message
    monkeypatch.undo()
    linked.query = "ocular ache"
    assert linked.error is None and len(linked.near[0]) == 5


# ---- what make bench prints of them


def test_the_bench_times_maps_and_every_slider(
    tiny_model, tiny_teacher, tiny_domain, space, monkeypatch, cache
):
    from tests.benchmarks import bench_space

    run = SimpleNamespace(model=lambda: ek.load_model(tiny_teacher))
    monkeypatch.setattr(bench_space, "train", lambda *_, **__: run)
    monkeypatch.setattr(bench_space, "load_domain", lambda *_, **__: tiny_domain)
    monkeypatch.setattr(bench_space, "load_model", lambda _: ek.load_model(tiny_model))
    monkeypatch.setattr(bench_space, "PAIRS", 12)
    monkeypatch.setattr(bench_space, "CHOSEN", 5)
    said: list[str] = []
    found = bench_space.bench_space(said.append, documents=36)
    assert found["documents"] == 36 and len(found["umap_trust"]) == 2
    times = found["milliseconds_p50_p95"]
    assert len(times) == 6 and all(0 <= middle <= high for middle, high in times.values())
    assert any("umap: cold" in line for line in said)
    assert os.environ["EMBKIT_CACHE"] == str(cache), "what was set before is set again"
