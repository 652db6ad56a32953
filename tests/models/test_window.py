"""What a window never reads: shares by hand, a sample that is said, no weights."""

from dataclasses import replace

import pytest

from embkit.advice.advise import decide
from embkit.advice.evidence import gather
from embkit.auditing import audit
from embkit.cli.main import main
from embkit.data import Domain
from embkit.models import window
from embkit.models.window import tokenizer_of, unread, without_weights


def by_words(texts, **_):
    """A tokenizer that makes a token of a word, and two of the ends."""
    return {"input_ids": [["begin", *text.split(), "end"] for text in texts]}


@pytest.fixture
def domain():
    """Four documents of 8, 18, 28 and 38 words; the last two are right for some query."""
    corpus = {f"d{i}": " ".join([f"w{i}"] * (10 * i - 2)) for i in range(1, 5)}
    queries = {"a": "one", "b": "two", "c": "three"}
    qrels = {"train": {"a": {"d3": 1}}, "dev": {"b": {"d2": 1}}, "test": {"c": {"d4": 1}}}
    return Domain("long", "smoke", corpus, queries, qrels, ("test",))


def long_folder(tmp_path):
    """Every document has 900 words, and the answer at word 600."""
    folder = tmp_path / "long"
    folder.mkdir()
    words = [
        f"{i} {' '.join(['filler'] * 599)} answer {i} {' '.join(['more'] * 298)}" for i in range(90)
    ]
    rows = "".join(f"{text}\twhere is answer {i}\n" for i, text in enumerate(words))
    (folder / "pairs.tsv").write_text("positive\tanchor\n" + rows)
    return folder / "pairs.tsv"


def test_shares_by_hand(domain):
    found = unread(domain, by_words, 25)
    assert found.cut == 0.5 and found.tokens == pytest.approx((5 + 15) / 100)
    assert found.right == 0.5 and found.median == 25, "the test split is not looked at"
    assert unread(domain, by_words, 25, domain.qrels).right == pytest.approx(2 / 3)
    assert found.longest == [(40, domain.corpus["d4"]), (30, domain.corpus["d3"])]
    said = found.told("m")
    assert said.startswith("m reads 25 tokens of a text: 50.0% of the documents are longer")
    assert "20.0% of all tokens are never read; 50.0% of the right documents are cut" in said
    assert "never found" in said and "of 4" not in said


@pytest.mark.parametrize("size", [40, None, float("inf")])
def test_nothing_is_said_where_nothing_is_cut(domain, size):
    assert unread(domain, by_words, size).told("m") == ""
    assert unread(domain, None, 5) is None


def test_a_sample_is_said_and_the_right_documents_are_counted_apart(domain, monkeypatch):
    short = {f"s{i}": "short" for i in range(100)}
    monkeypatch.setattr(window, "DOCUMENTS", 20)
    found = unread(replace(domain, corpus=short | domain.corpus), by_words, 25)
    assert found.cut < 0.2 and found.right == 0.5, "they are not lost in the sample"
    assert "(of 20 documents of 104)" in found.told("m")
    monkeypatch.setattr(window, "CHARACTERS", 50)
    assert "(of 10 documents of 100)" in replaced_all(domain, short)


def replaced_all(domain, corpus):
    qrels = {split: {q: {"s0": 1} for q in of} for split, of in domain.qrels.items()}
    return unread(replace(domain, corpus=corpus, qrels=qrels), by_words, 2).told("m")


def test_pictures_have_no_window(domain, monkeypatch):
    monkeypatch.setattr(window, "is_picture", lambda text: text.startswith("w1"))
    assert unread(domain, by_words, 5) is None


def test_the_tokenizer_without_weights_counts_as_the_model_does(minilm_by_name, domain):
    from embkit.data.text_checks import token_lengths
    from embkit.models.loading import load_model

    texts = [*domain.corpus.values(), "Ménière’s disease, 日本語 " * 80, "unbelievable"]
    tokenizer, size = without_weights()
    model = load_model("minilm")
    assert size == model.max_seq_length == 256
    expected = token_lengths(tokenizer_of(model), texts)
    assert token_lengths(tokenizer, texts).tolist() == expected.tolist()


def test_check_says_what_the_default_models_window_cuts(
    minilm_by_name, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("embkit.models.loading.load_model", None)  # no weights are read
    assert main(["check", str(long_folder(tmp_path))]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "✗ problem lengths" in shown
    assert "minilm, the default, reads 256 tokens of a text: 100.0% of the documents are" in shown
    assert "100.0% of the right documents are cut: an answer behind the cut is never found" in shown
    assert "cut long texts into passages: ek.search.Passages(model, size=128)" in shown
    assert "Recipe(passage_size=128) trains on them" in shown


def test_an_audit_without_a_model_says_where_the_window_was_not_counted(tiny_domain, minilm, cache):
    found = audit(tiny_domain)
    assert "python -m embkit assets minilm" in found.note
    assert "documents, over the window" not in found["lengths"].numbers
    cache.mkdir(exist_ok=True)
    (cache / "assets").symlink_to(minilm.parent, target_is_directory=True)
    found = audit(tiny_domain)
    assert "assets minilm" not in found.note and "reads 256" not in found["lengths"].sentence
    assert found["lengths"].numbers["documents, over the window"] == 0


def test_the_plan_of_run_says_it_of_the_model_it_trains(tiny_domain, tiny_model):
    from embkit.cli.planning import plan

    long = dict(tiny_domain.corpus) | {"eye0": "infection " * 60}
    assert plan(tiny_domain, str(tiny_model)).unread == ""
    said = plan(replace(tiny_domain, corpus=long), str(tiny_model)).unread
    assert said.startswith(f"{tiny_model} reads 48 tokens of a text: 2.5% of the documents")
    said = plan(tiny_domain, str(tiny_model), max_length=5).unread
    assert f"{tiny_model}, as it is trained here, reads 5 tokens" in said


def test_a_plan_with_passages_leaves_nothing_unread(long_domain, tiny_model):
    from embkit.cli.planning import plan
    from embkit.recipes.recipe import Recipe

    whole = plan(long_domain, str(tiny_model))
    assert "behind the cut is never found" in whole.unread
    cut = plan(long_domain, str(tiny_model), passages=18)
    assert cut.unread == "" and "passages of 18" in str(cut) and "passages" not in str(whole)
    assert isinstance(cut.contrastive, Recipe) and cut.contrastive.passage_size == 18
    assert cut.contrastive.max_length is None and cut.lora(1e-3).passage_size == 18
    assert cut.trial.passage_size == 18


def test_advice_says_it(tiny_domain, tiny_model, monkeypatch):
    monkeypatch.setattr("embkit.advice.evidence.OTHERS", ())
    enough = {"enough": lambda _: True}
    assert gather(tiny_domain, str(tiny_model), **enough).unread == ""
    long = replace(tiny_domain, corpus={d: f"{t} eye" * 20 for d, t in tiny_domain.corpus.items()})
    found = gather(long, str(tiny_model), **enough)
    assert "100.0% of the right documents are cut" in found.unread
    assert found.unread in dict(decide(found).reasons)["documents cut"]
