"""Cross-encoders: scores against the library's own, each pair once, the cache, bad input."""

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import BertForSequenceClassification

from embkit.errors import EmbkitError
from embkit.models import cross_encoder
from embkit.models.cross_encoder import load_cross_encoder, score_pairs

TEXTS = ["aural sepsis", "Infection of the ear", "Pain of the heart", "tumor", "in one lung, bone"]
PAIRS = [(a, b) for a in TEXTS for b in TEXTS]


@pytest.fixture(scope="session")
def tiny_cross_encoder(tiny_model, tmp_path_factory):
    """A folder with the tiny network and a random head of one logit; it puts a sigmoid on it."""
    folder = tmp_path_factory.mktemp("cross")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = BertForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
        torch.nn.init.normal_(network.classifier.weight, std=2)
        torch.nn.init.normal_(network.bert.pooler.dense.weight, std=0.3)
    network.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, folder / name)
    CrossEncoder(str(folder), device="cpu", max_length=48).save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture
def model(tiny_cross_encoder):
    return load_cross_encoder(tiny_cross_encoder)


def logits(model, pairs):
    return model.predict(pairs, activation_fn=torch.nn.Identity())


@pytest.fixture
def calls(model, monkeypatch):
    """The pairs of each batch that goes through the model."""
    seen = []
    preprocess = model.preprocess

    def spy(pairs, *args, **kwargs):
        seen.append(list(pairs))
        return preprocess(pairs, *args, **kwargs)

    monkeypatch.setattr(model, "preprocess", spy)
    return seen


# -- score_pairs --


@pytest.mark.parametrize("batch", [cross_encoder.BATCH, 1, 3])
def test_scores_are_the_librarys_logits(model, monkeypatch, batch):
    monkeypatch.setattr(cross_encoder, "BATCH", batch)
    scores = score_pairs(model, PAIRS)
    assert scores.dtype == np.float32 and scores.shape == (len(PAIRS),)
    np.testing.assert_allclose(scores, logits(model, PAIRS), atol=1e-5)
    assert scores.max() > 1  # no sigmoid, though the model has one
    assert np.ptp(scores) > 0.5


def test_a_pair_has_an_order(model):
    forth, back = score_pairs(model, [(TEXTS[0], TEXTS[1]), (TEXTS[1], TEXTS[0])])
    assert abs(forth - back) > 1e-3


def test_each_distinct_pair_is_scored_once(model, calls, monkeypatch):
    monkeypatch.setattr(cross_encoder, "BATCH", 4)
    repeated = [*PAIRS[::-1], *PAIRS, PAIRS[3]]
    scores = score_pairs(model, repeated)
    scored = [pair for batch in calls for pair in batch]
    assert sorted(scored) == sorted(set(PAIRS)) and len(calls) > 2
    np.testing.assert_array_equal(scores[: len(PAIRS)], scores[len(PAIRS) : -1][::-1])
    assert scores[-1] == scores[len(PAIRS) + 3]


def test_a_text_longer_than_the_window_is_cut(model):
    long = [(TEXTS[0], "ear " * 500), (TEXTS[0], "ear " * 5000), (TEXTS[0], TEXTS[1])]
    scores = score_pairs(model, long)
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    np.testing.assert_allclose(scores, logits(model, long), atol=1e-5)


def test_the_model_is_left_as_it_was(model, monkeypatch):
    monkeypatch.setenv("EMBKIT_PRECISION", "bf16")
    model.train()
    kinds = [type(module) for module in model.modules()]
    score_pairs(model, PAIRS)
    assert model.training and model.keep_in_fp32_modules == []
    assert [type(module) for module in model.modules()] == kinds


def test_bf16_keeps_near_scores_apart(model, monkeypatch):
    wanted = score_pairs(model, PAIRS)
    monkeypatch.setenv("EMBKIT_PRECISION", "bf16")
    scores = score_pairs(model, PAIRS)
    assert not np.array_equal(scores, wanted)  # another precision, another cache
    assert np.abs(scores - wanted).max() < 0.1 * np.ptp(wanted)
    as_bf16 = torch.tensor(scores).to(torch.bfloat16).float().numpy()
    assert (as_bf16 != scores).sum() > len(PAIRS) / 2


# -- the cache --


def cached(cache):
    return sorted((cache / "scores").glob("*")) if (cache / "scores").is_dir() else []


def test_the_second_time_no_model_is_run(model, calls, cache):
    first = score_pairs(model, PAIRS)
    assert len(calls) == 1 and len(cached(cache)) == 1
    np.testing.assert_array_equal(score_pairs(model, PAIRS), first)
    assert len(calls) == 1


def test_the_cache_is_of_the_model_the_pairs_and_their_order(model, calls, cache):
    scores = score_pairs(model, PAIRS)
    np.testing.assert_allclose(score_pairs(model, PAIRS[::-1]), scores[::-1], atol=1e-5)
    score_pairs(model, PAIRS[:-1])
    model.max_seq_length = 7
    shorter = score_pairs(model, PAIRS)
    with torch.no_grad():
        model[0].auto_model.classifier.bias += 1
    np.testing.assert_allclose(score_pairs(model, PAIRS), shorter + 1, atol=1e-5)
    assert len(cached(cache)) == len(calls) == 5


@pytest.mark.parametrize("damage", ["cut off", "another shape", "no numbers"])
def test_a_damaged_cache_is_scored_again(model, cache, damage):
    wanted = score_pairs(model, PAIRS)
    (path,) = cached(cache)
    if damage == "cut off":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "another shape":
        np.save(path, wanted[:3])
    else:
        path.write_bytes(b"")
    np.testing.assert_array_equal(score_pairs(model, PAIRS), wanted)


def test_a_cache_that_cannot_be_written_is_no_error(model, cache):
    cache.write_text("a file in the way")
    assert score_pairs(model, PAIRS).shape == (len(PAIRS),)


# -- bad input --


def test_no_pairs_have_no_scores(model):
    assert score_pairs(model, []).shape == (0,)


@pytest.mark.parametrize(
    "pairs",
    [
        "text",
        ["ab", "cd"],
        [("a", "b"), ("a",)],
        [("a", "b", "c")],
        [("a", None)],
        [("a", " ")],
        [("", "b")],
        [1],
    ],
)
def test_pairs_that_are_none_are_one_clear_error(model, pairs):
    with pytest.raises(EmbkitError) as caught:
        score_pairs(model, pairs)
    assert "(query, document)" in caught.value.expected


@pytest.mark.parametrize("wrong", [None, "reranker", len])
def test_another_thing_than_a_cross_encoder_is_one_clear_error(wrong):
    with pytest.raises(EmbkitError, match="as its model") as caught:
        score_pairs(wrong, PAIRS)
    assert "load_cross_encoder" in caught.value.hint


def test_several_outputs_a_pair_are_one_clear_error(tiny_cross_encoder, tmp_path):
    network = BertForSequenceClassification.from_pretrained(
        tiny_cross_encoder, num_labels=3, ignore_mismatched_sizes=True
    )
    folder = shutil.copytree(tiny_cross_encoder, tmp_path / "three")
    network.save_pretrained(folder)
    with pytest.raises(EmbkitError, match="3 outputs"):
        score_pairs(load_cross_encoder(folder), PAIRS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_one_clear_error(model, cache, value):
    with torch.no_grad():
        model[0].auto_model.classifier.weight[0, 0] = value
    with pytest.raises(EmbkitError, match=f"{len(PAIRS)} of {len(PAIRS)} scores are NaN"):
        score_pairs(model, PAIRS)
    assert cached(cache) == []


def test_one_score_for_all_is_one_clear_error(model, cache):
    with torch.no_grad():
        model[0].auto_model.classifier.weight.zero_()
    with pytest.raises(EmbkitError, match="25 different pairs have the score"):
        score_pairs(model, PAIRS)
    assert cached(cache) == []
    assert score_pairs(model, PAIRS[:1]).shape == (1,)  # one pair cannot differ from others
    same = [("ear", "Pain"), ("EAR", "pain"), ("Ear", "PAIN")]
    assert score_pairs(model, same).shape == (3,)  # the model sees no capitals


# -- load_cross_encoder --


def test_a_folder_is_loaded_as_the_libraries_class(tiny_cross_encoder):
    model = load_cross_encoder(tiny_cross_encoder)
    assert type(model) is CrossEncoder and model.num_labels == 1
    assert load_cross_encoder(tiny_cross_encoder, max_length=9).max_seq_length == 9


def test_an_encoder_is_not_given_a_random_head(tiny_model):
    with pytest.raises(EmbkitError, match="no cross-encoder: its network is BertModel"):
        load_cross_encoder(tiny_model)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_is_cut_off_is_one_clear_error(tiny_cross_encoder, tmp_path, name):
    folder = shutil.copytree(tiny_cross_encoder, tmp_path / "copy")
    (folder / name).write_bytes((folder / name).read_bytes()[:50])
    with pytest.raises(EmbkitError, match="cannot be loaded"):
        load_cross_encoder(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"architectures": null}'])
def test_a_config_without_a_network_is_one_clear_error(tiny_cross_encoder, tmp_path, content):
    folder = shutil.copytree(tiny_cross_encoder, tmp_path / "copy")
    (folder / "config.json").write_text(content)
    with pytest.raises(EmbkitError):
        load_cross_encoder(folder)


def test_code_that_comes_with_a_model_is_not_run(tiny_cross_encoder, tmp_path):
    folder = shutil.copytree(tiny_cross_encoder, tmp_path / "copy")
    modules = json.loads((folder / "modules.json").read_text())
    modules[-1]["type"] = "trap.Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n")
    with pytest.raises(EmbkitError, match="cannot be loaded"):
        load_cross_encoder(folder)
    assert not (tmp_path / "sprung").exists()


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(EmbkitError, match="did you mean 'reranker'"):
        load_cross_encoder("re-ranker")


# -- the real one --

BERLIN = "How many people live in Berlin?"
ANSWERS = [
    "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square "
    "kilometers.",
    "Berlin is well known for its museums.",
    "New York City is famous for the Metropolitan Museum of Art.",
]


@pytest.fixture(scope="session")
def real(minilm):
    """The real cross-encoder, in the cache that everyone uses; scores stay apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBKIT_CACHE", str(minilm.parent.parent))
        return load_cross_encoder("reranker")


def test_the_real_reranker_gives_the_scores_of_its_card(real):
    scores = score_pairs(real, [(BERLIN, answer) for answer in ANSWERS])
    assert scores[:2] == pytest.approx([9.2, -4.1], abs=0.2)  # the card's; 8 bits are not all
    assert scores[:2] == pytest.approx([9.0851, -3.9343], abs=1e-3)  # onnxruntime on float weights
    assert type(real.activation_fn) is torch.nn.Identity
    pairs = [(a, b) for a in [BERLIN, *ANSWERS] for b in ANSWERS]
    np.testing.assert_allclose(score_pairs(real, pairs), real.predict(pairs), atol=1e-4)


def test_the_real_reranker_puts_the_answer_first(real):
    scores = score_pairs(real, [(BERLIN, answer) for answer in ANSWERS[::-1]])
    assert np.argsort(-scores).tolist() == [2, 1, 0] and scores[2] > 9
