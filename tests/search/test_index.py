"""Encoding, exact search and BM25, each against a truth worked out another way."""

import contextlib
import json
import math
import shutil
import tracemalloc

import numpy as np
import pytest
import torch

from embkit.errors import EmbkitError
from embkit.models import packing
from embkit.models.encoding import encode
from embkit.models.loading import load_model
from embkit.search import index
from embkit.search.index import BM25, exact_search
from tests.emulated_gpu import Emulated

TEXTS = ["Infection of the eye", "Pain of the heart", "Tumor of the lung", "Injury of the skin"]


@pytest.fixture
def gpu(monkeypatch):
    """An emulated GPU, which a search takes for the session's device."""
    monkeypatch.setattr(index, "device", lambda: "cuda")
    monkeypatch.setattr(index, "products", lambda how: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda on: (2**40, 2**40))
    return Emulated()


def brute_force(queries, documents, k):
    """Every score, sorted one query at a time; ties by lower index."""
    indices, scores = [], []
    for query in queries.astype(np.float64):
        found = [float(query @ document) for document in documents.astype(np.float64)]
        order = sorted(range(len(found)), key=lambda i: (-found[i], i))[:k]
        indices.append(order)
        scores.append([found[i] for i in order])
    return indices, scores


def whole_numbers(rows, dim=3, seed=0):
    """Vectors whose products are exact and often equal."""
    drawn = np.random.default_rng(seed).integers(-2, 3, size=(rows, dim))
    return drawn.astype(np.float32)


# -- exact search --


@pytest.mark.parametrize("block_mb", [1e-6, 0.001, 0.01, 256])
@pytest.mark.parametrize("k", [1, 7, 49, 50, 51, 1000])
def test_search_equals_brute_force_with_ties_in_blocks_of_any_size(block_mb, k):
    queries, documents = whole_numbers(23), whole_numbers(50, seed=1)
    indices, scores = exact_search(queries, documents, k, block_mb=block_mb)
    expected = brute_force(queries, documents, k)
    assert indices.shape == scores.shape == (23, min(k, 50))
    assert indices.tolist() == expected[0]
    assert scores.tolist() == expected[1]


def test_search_equals_brute_force_on_unit_vectors():
    draw = np.random.default_rng(2)
    queries, documents = (draw.normal(size=(n, 16)).astype(np.float32) for n in (11, 300))
    indices, scores = exact_search(queries, documents, 10)
    expected = brute_force(queries, documents, 10)
    assert indices.tolist() == expected[0]
    np.testing.assert_allclose(scores, expected[1], atol=1e-5)


@pytest.mark.parametrize("free", [2**11, 2**40])
@pytest.mark.parametrize("k", [1, 7, 49, 50])
def test_a_gpu_finds_what_the_processor_finds_in_blocks_and_whole(monkeypatch, gpu, k, free):
    """With few bytes free, of a row or two at once; ties and hidden places among them."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda on: (free, 2**40))
    queries, documents = whole_numbers(40), whole_numbers(50, seed=1)
    hidden = [-1, 3, 49] * 13 + [0]
    with gpu:
        indices, scores = index.exact_search(queries, documents, k, hidden)
    assert gpu.marked, "nothing was on the GPU"
    monkeypatch.setattr(index, "device", lambda: "cpu")
    expected = index.exact_search(queries, documents, k, hidden)
    assert indices.tolist() == expected[0].tolist() and scores.tolist() == expected[1].tolist()
    own = np.where(np.array(hidden) < 0, 99, hidden)[:, None]
    assert not (indices == own).any()


def test_few_queries_stay_on_the_processor(gpu):
    with gpu:
        exact_search(whole_numbers(32), whole_numbers(50, seed=1), 5)
    assert not gpu.marked


def test_tensors_in_two_places_fail(gpu):
    """The emulation sees what it is there for."""
    with gpu, pytest.raises(RuntimeError, match="on {"):
        torch.ones(2, 3, device="cuda") @ torch.ones(3, 2)
    with gpu, pytest.raises(TypeError, match="numpy"):
        (torch.ones(2, device="cuda") * 2).numpy()


@pytest.mark.parametrize("k", [5, 66_000])
def test_more_documents_than_a_block_is_wide(k):
    """Three documents of 140,000 stand out, one in each block; all else is tied."""
    documents = np.zeros((140_000, 2), np.float32)
    documents[:, 0] = 1
    documents[[139_999, 70_000, 3], 0] = 9, 8, 9
    indices, scores = exact_search(np.array([[1, 0], [0, 1]], np.float32), documents, k)
    assert indices[0, :5].tolist() == [3, 139_999, 70_000, 0, 1]
    assert scores[0, :5].tolist() == [9, 9, 8, 1, 1]
    rest = [i for i in range(k) if i != 3][: k - 3]
    assert indices[0, 3:].tolist() == rest
    assert indices[1].tolist() == list(range(k)) and not scores[1].any()


def test_search_takes_a_memory_mapped_array(tmp_path):
    documents = whole_numbers(40, seed=3)
    np.save(tmp_path / "d.npy", documents)
    mapped = np.load(tmp_path / "d.npy", mmap_mode="r")
    queries = whole_numbers(4)
    assert exact_search(queries, mapped, 5)[0].tolist() == brute_force(queries, documents, 5)[0]


def test_search_does_not_change_what_it_is_given():
    queries, documents = whole_numbers(4), whole_numbers(40, seed=3)
    before = queries.copy(), documents.copy()
    exact_search(queries, documents, 5)
    assert (queries == before[0]).all() and (documents == before[1]).all()


def test_memory_does_not_grow_with_the_queries():
    documents = np.random.default_rng(0).normal(size=(4000, 4)).astype(np.float32)

    def peak(n):
        queries = np.ones((n, 4), np.float32)
        tracemalloc.start()
        exact_search(queries, documents, 5, block_mb=1)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / 2**20

    few, many = peak(200), peak(2000)
    assert many < few + 1  # 2,000 queries at once would be 30 MB of scores
    assert many < 10


def test_no_queries_give_no_rows():
    indices, scores = exact_search(np.empty((0, 3), np.float32), whole_numbers(5), 2)
    assert indices.shape == scores.shape == (0, 2)


def test_no_documents_give_no_columns():
    indices, scores = exact_search(whole_numbers(2), np.empty((0, 3), np.float32), 5)
    assert indices.shape == scores.shape == (2, 0)


@pytest.mark.parametrize("k", [0, -1, -100])
def test_a_k_below_one_is_refused(k):
    with pytest.raises(EmbkitError, match=f"k={k}"):
        exact_search(whole_numbers(2), whole_numbers(5), k)
    with pytest.raises(EmbkitError, match=f"k={k}"):
        BM25(TEXTS).search(["eye"], k)


@pytest.mark.parametrize("queries, documents", [((2, 3), (5, 4)), ((3,), (5, 3)), ((2, 3), (3,))])
def test_arrays_that_cannot_be_compared_are_refused_with_their_shapes(queries, documents):
    with pytest.raises(EmbkitError) as caught:
        exact_search(np.ones(queries, np.float32), np.ones(documents, np.float32), 1)
    assert str(queries) in caught.value.given and str(documents) in caught.value.given


@pytest.mark.parametrize("where", ["queries", "documents"])
@pytest.mark.parametrize("k", [2, 5])
def test_nan_is_refused_and_never_ranked(where, k):
    arrays = {"queries": whole_numbers(2), "documents": whole_numbers(5)}
    arrays[where][1, 0] = np.nan
    with pytest.raises(EmbkitError, match="NaN"):
        exact_search(**arrays, k=k)


# -- encode: a function as a model --


def lengths(texts):
    return [[len(text), 1] for text in texts]


def test_a_functions_rows_come_back_with_length_one():
    vectors = encode(lengths, ["abc", "a"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[3 / 10**0.5, 1 / 10**0.5], [0.5**0.5, 0.5**0.5]])


def test_a_function_gets_a_list_of_the_texts_in_their_order_and_is_not_cached(cache):
    seen = []

    def model(texts):
        seen.append(texts)
        return np.ones((len(texts), 2))

    for _ in range(2):
        encode(model, ("b", "a", "b"))
    assert seen == [["b", "a", "b"]] * 2 and not cache.exists()


def test_a_row_of_zeros_stays_zero():
    assert encode(lambda texts: np.zeros((len(texts), 3)), ["a"]).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_their_place(bad):
    def model(texts):
        vectors = np.ones((len(texts), 3))
        vectors[1, 2] = bad
        return vectors

    with pytest.raises(EmbkitError, match="1 of 3 embeddings hold NaN.* 1"):
        encode(model, ["a", "b", "c"])


@pytest.mark.parametrize(
    "answer",
    [
        np.ones((1, 4)),
        np.ones((3, 4)),
        np.ones(2),
        np.ones((2, 3, 4)),
        np.ones((2, 0)),
        1.0,
        None,
        [],
        [[1.0, 2.0], [1.0]],
        "two rows",
        [["a"], ["b"]],
    ],
)
def test_what_is_no_array_of_one_row_a_text_is_refused(answer):
    with pytest.raises(EmbkitError):
        encode(lambda texts: answer, ["a", "b"])


@pytest.mark.parametrize("text", ["", "  ", "\n", None, 7])
def test_an_empty_text_is_refused_with_its_place(text):
    with pytest.raises(EmbkitError, match=r"1 of 3 texts.*\[1\]"):
        encode(lengths, ["a", text, "b"])


@pytest.mark.parametrize("model", [7, None, "minilm"])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(EmbkitError):
        encode(model, ["a"])


def test_one_text_in_place_of_a_list_is_not_taken_for_its_letters():
    with pytest.raises(EmbkitError, match="list"):
        encode(lengths, "iron")
    with pytest.raises(EmbkitError, match="list"):
        BM25("iron")
    with pytest.raises(EmbkitError, match="list"):
        BM25(TEXTS).search("eye")


# -- encode: a sentence-transformers model and its cache --


@pytest.fixture
def model(tiny_model):
    return load_model(tiny_model)


@pytest.fixture
def calls(monkeypatch):
    """How many texts went through the model, a call each."""
    made, embed = [], packing.embed

    def counting(model, texts, **kwargs):
        made.append(len(texts))
        return embed(model, texts, **kwargs)

    monkeypatch.setattr(packing, "embed", counting)
    return made


def test_a_models_vectors_are_those_of_the_library(cache, model):
    texts = [*TEXTS, TEXTS[0], "x"]
    vectors = encode(model, texts)
    assert vectors.dtype == np.float32 and vectors.shape == (6, 32)
    np.testing.assert_allclose(vectors, model.encode(texts, normalize_embeddings=True), atol=1e-5)
    prompted = encode(model, texts, prompt="eye: ")
    expected = model.encode(texts, normalize_embeddings=True, prompt="eye: ")
    np.testing.assert_allclose(prompted, expected, atol=1e-5)
    assert np.abs(prompted - vectors).max() > 0.01


def test_no_texts_give_no_rows(cache, model):
    assert encode(model, []).shape == (0, 32)


def test_the_second_time_costs_no_model_at_all(cache, model, calls):
    first = encode(model, TEXTS)
    again = encode(model, list(TEXTS))
    assert calls == [4] and (first == again).all()
    assert len(list(cache.rglob("*.npy"))) == 1 and not list(cache.rglob("*.tmp"))


def test_another_process_finds_the_same_file(cache, model, tiny_model, calls):
    encode(model, TEXTS)
    encode(load_model(tiny_model), TEXTS)
    assert calls == [4]


def test_without_the_cache_nothing_is_written_or_read(cache, model, calls):
    for _ in range(2):
        encode(model, TEXTS, cache=False)
    assert calls == [4, 4] and not cache.exists()


def test_other_texts_another_order_or_prompt_are_encoded_again(cache, model, calls):
    encode(model, TEXTS)
    for texts, prompt in (
        (TEXTS[:3], None),
        (TEXTS[::-1], None),
        ([*TEXTS[:3], "Injury of the Skin"], None),
        (TEXTS, "eye: "),
        (TEXTS, "None"),
    ):
        found = encode(model, texts, prompt=prompt)
        assert (found == encode(model, texts, prompt=prompt, cache=False)).all()
    assert len(list(cache.rglob("*.npy"))) == 6


def test_where_one_text_ends_decides_too(cache, model):
    encode(model, ["eye\0ear", "skin"])
    found = encode(model, ["eye", "ear\0skin"])
    np.testing.assert_allclose(found, encode(model, ["eye", "ear\0skin"], cache=False), atol=1e-6)


def test_other_weights_are_encoded_again(cache, model, calls):
    import torch

    encode(model, TEXTS)
    with torch.no_grad():
        next(model.parameters())[5:] += 0.1
    encode(model, TEXTS)
    assert calls == [4, 4]


@pytest.mark.parametrize("setting", ["max_seq_length", "truncate_dim"])
def test_other_settings_are_encoded_again(cache, model, setting):
    whole = encode(model, TEXTS)
    setattr(model, setting, 4)
    found = encode(model, TEXTS)
    np.testing.assert_allclose(found, model.encode(TEXTS, normalize_embeddings=True), atol=1e-5)
    assert found.shape != whole.shape or np.abs(found - whole).max() > 1e-3


def test_another_tokenizer_is_encoded_again(cache, model, tiny_model, tmp_path):
    """The same weights, but the pieces "eye" and "heart" have changed places."""
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    settings = json.loads((folder / "tokenizer.json").read_text())
    vocab = settings["model"]["vocab"]
    vocab["eye"], vocab["heart"] = vocab["heart"], vocab["eye"]
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    other, pair = load_model(folder), ["Pain of the eye", "Pain of the heart"]
    straight = encode(model, pair, cache=False)
    np.testing.assert_allclose(encode(other, pair, cache=False), straight[::-1], atol=1e-5)
    first = encode(model, pair)
    np.testing.assert_allclose(encode(other, pair), first[::-1], atol=1e-5)


@pytest.mark.parametrize("keep", [0, 1, 60, 127, 128, 200, -1])
def test_a_cache_file_that_is_cut_off_is_made_again(cache, model, calls, keep):
    first = encode(model, TEXTS)
    (file,) = cache.rglob("*.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:keep])
    assert (encode(model, TEXTS) == first).all()
    assert calls == [4, 4] and file.read_bytes() == whole


def test_a_cache_file_with_other_rows_is_made_again(cache, model, calls):
    first = encode(model, TEXTS)
    (file,) = cache.rglob("*.npy")
    np.save(file, first[:3])
    assert (encode(model, TEXTS) == first).all() and calls == [4, 4]


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch, tmp_path, model, calls):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EMBKIT_CACHE", str(tmp_path / "file"))
    assert encode(model, TEXTS).shape == (4, 32)
    assert encode(model, TEXTS).shape == (4, 32) and calls == [4, 4]


def test_a_full_disk_leaves_nothing_half_written(cache, monkeypatch, model, calls):
    def full(stream, _):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        assert encode(model, TEXTS).shape == (4, 32)
    assert [p for p in cache.rglob("*") if p.is_file()] == []
    assert encode(model, TEXTS).shape == (4, 32) and calls == [4, 4]


def test_nan_from_a_model_is_refused_and_not_cached(cache, model):
    import torch

    with torch.no_grad():
        next(model.parameters())[:] = float("nan")
    with pytest.raises(EmbkitError, match="NaN"):
        encode(model, TEXTS)
    assert not list(cache.rglob("*.npy"))


def test_the_real_model_knows_what_words_mean(cache, minilm):
    vectors = encode(load_model(minilm), ["low iron in the blood", "iron deficiency", "broken arm"])
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]
    assert exact_search(vectors[:1], vectors[1:], 2)[0].tolist() == [[0, 1]]


# -- BM25 --


def test_bm25_by_hand():
    """Lucene's formula: idf * tf / (tf + k1 * (1 - b + b * length / mean length))."""
    texts = ["iron deficiency anemia", "whooping cough", "iron lung disease iron workers", "cough"]
    lengths_, mean = [3, 2, 5, 1], 11 / 4
    tf = {"iron": [1, 0, 2, 0], "cough": [0, 1, 0, 1]}
    expected = []
    for document in range(4):
        score = 0.0
        for word in ("iron", "cough"):
            df = sum(count > 0 for count in tf[word])
            idf = math.log(1 + (4 - df + 0.5) / (df + 0.5))
            count, length = tf[word][document], lengths_[document]
            score += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * length / mean))
        expected.append(score)
    indices, scores = BM25(texts).search(["Iron cough"], k=4)
    assert indices.tolist() == [sorted(range(4), key=lambda i: -expected[i])]
    np.testing.assert_allclose(scores[0], sorted(expected, reverse=True), rtol=1e-6)


def test_bm25s_words_are_bm25ss_own_where_words_have_spaces():
    import bm25s

    texts = [*TEXTS, "naïve_bayes(x, y2) isn't Größe, ΑΘΗΝΑ или 1st/2nd", "a bc d_e 5 55 ½ ǆ"]
    expected = bm25s.tokenize(texts, stopwords="en", show_progress=False, return_ids=False)
    assert BM25(texts)._tokens(texts) == expected


FAQ = [  # (query, answer): Chinese, Japanese, Thai, Khmer; the answer shares characters, no clause
    ("链条打滑怎么办", "用测量尺检查链条磨损，拉长的链条要和飞轮一起更换。"),
    ("自転車のブレーキが鳴る", "ブレーキの角度を直し、リムの油を落とす。"),
    ("โซ่หลุด", "ตรวจสอบโซ่และเปลี่ยนโซ่"),
    ("ខ្សែសង្វាក់ធ្លាក់", "ពិនិត្យខ្សែសង្វាក់កង់"),
    ("iPhone手机充电", "给iphone换电池再充电"),
]


def test_words_without_spaces_are_found_by_their_characters():
    queries, answers = zip(*FAQ, strict=True)
    indices, scores = BM25(answers).search(queries, k=1)
    assert indices[:, 0].tolist() == list(range(len(FAQ))) and (scores > 0).all()
    assert BM25(answers)._tokens([queries[0], queries[4]]) == [
        list(queries[0]),
        ["iphone", *"手机充电"],
    ]


def test_what_is_found_shares_a_word():
    rng = np.random.default_rng(0)
    names = [f"w{i}" for i in range(12)]
    texts = [" ".join(rng.choice(names, rng.integers(0, 5))) for _ in range(30)]
    queries = [" ".join(rng.choice([*names, "new"], 3)) for _ in range(50)]
    indices, scores = BM25(texts).search(queries, k=12)
    assert indices.shape == scores.shape == (50, 12)
    fewer = 0
    for query, row, values in zip(queries, indices, scores, strict=True):
        sharing = {i for i, text in enumerate(texts) if set(text.split()) & set(query.split())}
        found = row[row >= 0].tolist()
        assert len(found) == len(set(found)) == min(12, len(sharing)) and set(found) <= sharing
        assert (row[len(found) :] == -1).all() and (values[len(found) :] == -np.inf).all()
        assert (values[: len(found)] > 0).all()
        fewer += len(found) < 12
    assert 10 < fewer < 50


def test_bm25_puts_the_document_with_the_rare_word_first(tiny_domain):
    ids, texts = list(tiny_domain.corpus), list(tiny_domain.corpus.values())
    texts[17] += " zymurgy"
    indices, scores = BM25(texts).search(["zymurgy", f"{texts[30]} zymurgy", texts[5]], k=3)
    assert indices[0, 0] == 17 and scores[0, 0] > 0 and indices[0, 1:].tolist() == [-1, -1]
    assert indices[2, 0] == 5 and ids[5] == "ear0"
    assert set(indices[1, :2].tolist()) == {17, 30}
    assert (np.diff(scores[1:], axis=1) <= 0).all()


def test_bm25_gives_each_document_found_once_where_k_is_larger():
    indices, scores = BM25(TEXTS).search(["eye", "heart lung"], k=50)
    assert indices.shape == scores.shape == (2, 4)
    assert indices.tolist() == [[0, -1, -1, -1], [1, 2, -1, -1]]
    assert indices.dtype == np.int64 and scores.dtype == np.float32


@pytest.mark.parametrize("query", ["zymurgy", "the of", "", "?!"])
def test_a_query_without_a_known_word_finds_nothing(query):
    indices, scores = BM25(TEXTS).search([query, "eye"], k=3)
    assert indices.tolist() == [[-1, -1, -1], [0, -1, -1]]
    assert (scores[0] == -np.inf).all() and scores[1, 0] > 0
    assert BM25(TEXTS).pair_scores([query, "eye"], [2, 0])[0] == 0


def test_bm25_breaks_ties_by_lower_index_as_exact_search_does():
    indices, _ = BM25(["cough"] * 5 + ["iron"]).search(["cough", "iron", "zymurgy"], k=3)
    assert indices.tolist() == [[0, 1, 2], [5, -1, -1], [-1, -1, -1]]


def test_bm25_of_no_queries_has_no_rows():
    indices, scores = BM25(TEXTS).search([], k=2)
    assert indices.shape == scores.shape == (0, 2)


@pytest.mark.parametrize("texts", [[], (), ["the of"], ["", " "]])
def test_bm25_of_no_words_is_refused(texts):
    with pytest.raises(EmbkitError, match="BM25"):
        BM25(texts)
