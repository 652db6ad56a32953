"""Late pooling, against one forward pass a window and means by hand."""

import numpy as np
import pytest
import torch

from embkit.errors import EmbkitError
from embkit.models.loading import load_model
from embkit.models.window import late_vectors
from embkit.search.passages import PassageIndex, Passages
from tests.families import make_family


def by_hand(model, window, spans, prompt=""):
    """Of one window, the mean of each passage's tokens, at length 1."""
    read = model.tokenizer(prompt + window, return_tensors="pt", return_offsets_mapping=True)
    ends = read.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        tokens = model[0].auto_model(**read).last_hidden_state[0].numpy()
    rows = []
    for a, b in spans:
        a, b = a + len(prompt), b + len(prompt)
        own = tokens[[i for i, (x, y) in enumerate(ends) if a <= x < y <= b]].mean(axis=0)
        rows.append(own / np.linalg.norm(own))
    return np.array(rows)


TEXT = "pain of the eye. injury of ear, in one lung. tumor"
SPANS = [(0, 16), (17, 44), (45, 50)]


@pytest.mark.parametrize("prompt", ["", "one in "])
def test_a_passage_is_the_mean_of_its_tokens_in_the_whole_text(tiny_model, prompt):
    model = load_model(tiny_model, prompts={"document": prompt} if prompt else {})
    short = "swelling in one bone"
    found = late_vectors(model, [TEXT, short], [SPANS, [(0, 20)]])
    np.testing.assert_allclose(found[:3], by_hand(model, TEXT, SPANS, prompt), atol=1e-5)
    np.testing.assert_allclose(found[3:], by_hand(model, short, [(0, 20)], prompt), atol=1e-5)
    apart = model.encode([TEXT[17:44]])
    assert np.abs(apart - found[1]).max() > 0.01, "the words beside a passage do count"
    again = late_vectors(model, [TEXT, short], [SPANS, [(0, 20)]])
    assert (again == found).all()


def test_a_text_longer_than_the_window_is_read_in_windows_one_after_the_other(tiny_model):
    model = load_model(tiny_model)  # 48 tokens, two of them its own
    words = ["pain", "of", "the", "eye"] * 5  # a passage of 20: two in a window
    text = " ".join(words * 5)
    size = len(" ".join(words))
    spans = [(i * (size + 1), i * (size + 1) + size) for i in range(5)]
    found = late_vectors(model, [text], [spans])
    two = f"{text[:size]} {text[:size]}"
    both = by_hand(model, two, spans[:2])
    last = by_hand(model, text[:size], spans[:1])
    np.testing.assert_allclose(found, np.concatenate([both, both, last]), atol=1e-5)


def test_padding_on_the_left_is_left_out(tmp_path):
    model = make_family("gemma3", tmp_path, padding_side="left")
    texts = ["w1 w2 w3 w4 w5 w6 w7 w8", "w9 w10"]
    found = late_vectors(model, texts, [[(0, 11), (12, 23)], [(0, 6)]])
    np.testing.assert_allclose(found[:2], by_hand(model, texts[0], [(0, 11), (12, 23)]), atol=1e-4)
    np.testing.assert_allclose(found[2:], by_hand(model, texts[1], [(0, 6)]), atol=1e-4)


def test_an_index_of_late_passages_finds_documents(tiny_model):
    model, texts = load_model(tiny_model), [TEXT, "swelling in one bone"]
    index = PassageIndex(Passages(model, size=16, late=True), texts)
    spans = [[(p.start, p.end) for p in own] for own in index.cut]
    vectors, asked = late_vectors(model, texts, spans), model.encode(["ear"])
    expected = [(vectors[:-1] @ asked[0]).max(), vectors[-1] @ asked[0]]
    np.testing.assert_allclose(index.pair_scores(["ear", "ear"], [0, 1]), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["bert-cls", "qwen3", "static"])
def test_a_model_that_does_not_pool_by_the_mean_is_refused(name, tmp_path):
    with pytest.raises(EmbkitError, match="late pooling"):
        late_vectors(make_family(name, tmp_path), ["w1"], [[(0, 2)]])


@pytest.mark.parametrize("model", ["bm25", lambda texts: np.ones((len(texts), 2))])
def test_what_has_no_tokens_is_refused(model):
    with pytest.raises(EmbkitError, match="late=True"):
        PassageIndex(Passages(model, size=16, late=True), ["one two"])


def test_a_passage_longer_than_the_window_is_refused(tiny_model):
    text = "pain of the eye " * 15
    with pytest.raises(EmbkitError, match="reads 48"):
        late_vectors(load_model(tiny_model), [text], [[(0, len(text))]])
