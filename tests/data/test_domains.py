"""Domains: what they hold, how they are split, and that nothing leaks from test to training."""

import dataclasses
import gc
import json
import pickle
import re

import pytest
import simple_icd_10_cm as icd

from embkit.data import SOURCES, Domain, check_leakage, load_domain, splits
from embkit.data import domain as base
from embkit.data.domain import normalise
from embkit.data.sources.icd10cm import _citation, _related, load
from embkit.errors import EmbkitError


@pytest.fixture(scope="module")
def smoke():
    return load_domain("icd10cm", profile="smoke")


def test_no_cycles_are_searched_while_a_domain_is_loaded(monkeypatch):
    """Each search goes through all that the libraries hold: half of the time of loading."""
    seen = []

    def load_nothing(profile):
        seen.append(gc.isenabled())
        raise EmbkitError("nothing", expected="a domain", hint="none")

    monkeypatch.setitem(SOURCES, "icd10cm", load_nothing)
    for before in (True, False):
        (gc.enable if before else gc.disable)()
        try:
            with pytest.raises(EmbkitError):
                load_domain("icd10cm", profile="full")
            assert gc.isenabled() == before
        finally:
            gc.enable()
    assert seen == [False, False]


def split_of(domain):
    return {query: split for split, qrels in domain.qrels.items() for query in qrels}


def positives(domain, split):
    return {
        d for judged in domain.qrels[split].values() for d, grade in judged.items() if grade > 0
    }


def changed(domain, **parts):
    return dataclasses.replace(domain, **parts)


def with_query(domain, split, text, document, query="new"):
    """The domain with one more query in a split."""
    qrels = {s: dict(judged) for s, judged in domain.qrels.items()}
    qrels[split][query] = {document: 1}
    return changed(domain, queries=domain.queries | {query: text}, qrels=qrels)


# -- the door --


def test_an_unknown_domain_profile_or_split_names_the_nearest(smoke):
    with pytest.raises(EmbkitError, match="did you mean 'icd10cm'"):
        load_domain("icd10")
    with pytest.raises(EmbkitError, match="did you mean 'smoke'"):
        load_domain("icd10cm", profile="smokey")
    with pytest.raises(EmbkitError, match="did you mean 'known'"):
        smoke.split("knwon")
    with pytest.raises(EmbkitError, match="did you mean 'novel'"):
        smoke.subset("novell")


def test_the_profile_in_force_is_the_default(smoke, monkeypatch):
    assert load_domain() is smoke
    monkeypatch.setenv("EMBKIT_PROFILE", "large")
    with pytest.raises(EmbkitError, match="profile"):
        load_domain()


# -- ICD-10-CM against its source --


def test_counts_are_those_of_the_contents(smoke):
    counts = smoke.counts()
    assert counts["documents"] == len(smoke.corpus) > 300
    assert counts["training pairs"] == len(smoke.pairs()) >= counts["train queries"] > 200
    for split in ("train", "dev", "known", "novel"):
        assert counts[f"{split} queries"] == len(smoke.qrels[split]) > 10
    assert sum(len(q) for q in smoke.qrels.values()) == len(smoke.queries)


def test_documents_are_the_titles_of_their_codes(smoke):
    assert smoke.corpus["D50"] == icd.get_description("D50") == "Iron deficiency anemia"
    assert all(code.startswith(("D5", "D6", "D7", "D8")) for code in smoke.corpus)
    codes = [c for c in icd.get_all_codes(True) if c[:2] == "D5" and "-" not in c]
    titles = {normalise(icd.get_description(code)) for code in codes}  # a range is no code
    assert {normalise(t) for code, t in smoke.corpus.items() if code[:2] == "D5"} == titles


def test_twins_are_one_document(smoke):
    texts = [normalise(text) for text in smoke.corpus.values()]
    assert len(set(texts)) == len(texts)


def test_every_inclusion_term_is_a_query_for_its_code_or_is_a_title(smoke):
    """Read off the source again, without the splits."""
    titles = {normalise(text): code for code, text in smoke.corpus.items()}
    right = {}
    for split in smoke.qrels.values():
        for query, judged in split.items():
            right[normalise(smoke.queries[query])] = set(judged)
    terms = 0
    for code in smoke.corpus:
        for term in (*icd.get_inclusion_term(code), *icd.get_includes(code)):
            key = normalise(term)
            if key in titles:
                assert key not in right
            elif key:
                terms += 1
                assert code in right[key], (code, term)
    assert terms > 200


def test_some_phrases_that_anyone_can_look_up(smoke):
    for phrase, code in (
        ("asiderotic anemia", "D50"),
        ("Posthemorrhagic anemia (chronic)", "D50.0"),
        ("Tidal platelet dysgenesis", "D69.3"),
        ("anemia due to chronic blood loss", "D50.0"),  # D62 excludes it and cites D50.0
    ):
        (query,) = [q for q, text in smoke.queries.items() if normalise(text) == normalise(phrase)]
        assert code in smoke.qrels[split_of(smoke)[query]][query]
        if "chronic blood loss" in phrase:
            assert smoke.negatives[query] == ("D62",)


def test_negatives_of_people_are_neither_right_nor_related(smoke):
    where = split_of(smoke)
    assert len(smoke.negatives) > 10
    for query, wrong in smoke.negatives.items():
        right = smoke.qrels[where[query]][query]
        assert wrong and set(wrong) <= smoke.corpus.keys()
        for a in wrong:
            assert not any(a.startswith(b) or b.startswith(a) for b in right)


def test_parents_are_codes_above(smoke):
    assert smoke.parents["D50.0"] == "D50" and "D50" not in smoke.parents
    assert all(parent in smoke.corpus and parent != code for code, parent in smoke.parents.items())
    assert sum(code.startswith(parent) for code, parent in smoke.parents.items()) > 250


def test_queries_are_no_titles_and_all_differ(smoke):
    texts = [normalise(text) for text in smoke.queries.values()]
    assert len(set(texts)) == len(texts)
    assert not set(texts) & {normalise(text) for text in smoke.corpus.values()}


# -- splits --


def test_no_query_is_in_two_splits(smoke):
    assert sum(len(qrels) for qrels in smoke.qrels.values()) == len(split_of(smoke))


def test_no_novel_category_is_among_the_training_positives(smoke):
    novel = {d[:3] for d in positives(smoke, "novel")}
    trained = {d[:3] for d in positives(smoke, "train")}
    assert novel and trained and not novel & trained
    assert positives(smoke, "train") == smoke.trained_documents


def test_dev_holds_both_kinds_of_test():
    workshop = load_domain("icd10cm", profile="workshop")
    trained = {d[:3] for d in positives(workshop, "train")}
    kinds = {d[:3] in trained for d in positives(workshop, "dev")}
    assert kinds == {True, False}


def test_splits_nest_from_profile_to_profile():
    small, middle, large = (
        load_domain("icd10cm", profile=p) for p in ("smoke", "workshop", "full")
    )
    for part, whole in ((small, middle), (middle, large)):
        assert part.queries.keys() <= whole.queries.keys()
        assert part.corpus.keys() <= whole.corpus.keys()
        inside, outside = split_of(part), split_of(whole)
        moved = [q for q in inside if inside[q] != outside[q]]
        # a phrase that has more right codes in the larger profile may belong elsewhere there
        grown = [
            q for q in moved if part.qrels[inside[q]][q].keys() != whole.qrels[outside[q]][q].keys()
        ]
        assert moved == grown and len(moved) <= 0.01 * len(inside)
        assert not [q for q in moved if outside[q] == "train"]  # what was a test stays one


def test_the_shares_of_the_splits_are_about_what_they_should_be():
    workshop = load_domain("icd10cm", profile="workshop")
    phrases = sum(len(qrels) for split, qrels in workshop.qrels.items() if split != "lay")
    sizes = {split: len(qrels) / phrases for split, qrels in workshop.qrels.items()}
    assert 0.65 < sizes["train"] < 0.85
    assert 0.05 < sizes["dev"] < 0.10
    assert 0.07 < sizes["known"] < 0.14 and 0.07 < sizes["novel"] < 0.15


def test_a_phrase_that_is_right_in_a_held_out_category_is_never_trained_on(smoke):
    novel = next(iter(sorted({d[:3] for d in positives(smoke, "novel")})))
    trained = next(iter(sorted({d[:3] for d in positives(smoke, "train")})))
    for n in range(200):
        assert splits.split_of(f"phrase {n}", {novel}) == "novel"
        assert splits.split_of(f"phrase {n}", {novel, trained}) == "known"
    found = {splits.split_of(f"phrase {n}", {trained}) for n in range(200)}
    assert found == {"train", "dev", "known"}


def test_the_lay_queries_are_tested_on_categories_that_their_training_half_lacks(smoke):

    from embkit.session import paths

    lines = (paths().data / "icd10cm" / "lay.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    halves = {split: [row for row in rows if row["split"] == split] for split in ("train", "test")}
    assert len(rows) == sum(map(len, halves.values())) >= 1500
    assert len({row["document"] for row in rows}) >= 1000
    categories = {s: {row["document"][:3] for row in half} for s, half in halves.items()}
    assert not categories["train"] & categories["test"]
    full = load_domain("icd10cm", profile="full")
    assert full.tested_groups and not full.tested_groups & categories["train"]
    asked = {normalise(row["query"]): row["document"] for row in halves["test"]}
    for query, judged in full.qrels["lay"].items():
        (code,) = judged
        title = full.corpus[asked[normalise(full.queries[query])]]
        assert full.corpus[code] == title


def test_without_the_lay_queries_one_error_says_where_they_come_from(monkeypatch, tmp_path):
    from embkit import session

    elsewhere = dataclasses.replace(session.paths(), data=tmp_path)
    monkeypatch.setattr("embkit.data.sources.icd10cm.paths", lambda: elsewhere)
    with pytest.raises(EmbkitError, match="lay queries") as raised:
        load("smoke")
    assert "clone" in raised.value.hint


# -- notes that cite codes --


@pytest.mark.parametrize(
    "note, phrase, codes",
    [
        ("acute posthemorrhagic anemia (D62)", "acute posthemorrhagic anemia", ["D62"]),
        ("cellulitis of genital organs (N48.2, N49.-)", None, ["N48.2", "N49"]),
        ("sickle-cell trait (D57.3-)", "sickle-cell trait", ["D57.3"]),
        ("abuse (T74.11XA)", "abuse", ["T74.11XA"]),
        ("carcinoma (in situ) (D05)", "carcinoma (in situ)", ["D05"]),
        ("carcinoma  (D05) ", "carcinoma", ["D05"]),
        ("a, b (A00, B01, C02, D03)", "a, b", ["A00", "B01", "C02", "D03"]),
        ("new coronavirus (U07.1)", "new coronavirus", ["U07.1"]),
        ("cancer (C7A.00)", "cancer", ["C7A.00"]),
        ("too many (A00, B01, C02, D03, E04)", "too many", []),
        ("a range (A00-B99)", "a range", []),
        ("a range of subcategories (D50.0-D50.9)", "a range of subcategories", []),
        ("a code and a range (D62, A00-B99)", "a code and a range", []),
        ("a code with an explanation (D62 with .5)", None, []),
        ("no code at all", "no code at all", []),
        ("words only (chronic)", "words only (chronic)", []),
        ("(D62)", "(D62)", []),
    ],
)
def test_citations(note, phrase, codes):
    found = _citation(note)
    assert found[1] == codes
    if phrase is not None:
        assert found[0] == phrase


def test_no_query_still_holds_a_citation(smoke):
    code = re.compile(r"\([A-Z]\d[0-9A-Z](\.[0-9A-Z]+)?-?(, *[A-Z]\d[0-9A-Z].*)?\)$")
    assert [text for text in smoke.queries.values() if code.search(text)] == []


@pytest.mark.parametrize(
    "code, others, related",
    [
        ("D50", {"D50"}, True),
        ("D50.0", {"D50"}, True),
        ("D50", {"D50.0"}, True),
        ("D50.0", {"D50.1"}, False),
        ("D50.0", {"D51", "D50.01"}, True),
        ("D50", set(), False),
    ],
)
def test_related_codes_are_above_below_or_the_same(code, others, related):
    assert _related(code, others) is related


# -- the content hash --


def test_the_hash_is_the_same_whenever_it_is_loaded(smoke):
    again = load("smoke")
    assert again is not smoke and again.hash == smoke.hash and len(smoke.hash) == 16
    assert pickle.loads(pickle.dumps(smoke)).hash == smoke.hash
    assert load_domain(profile="workshop").hash != smoke.hash


def test_the_hash_changes_with_any_text_judgement_or_split(tiny_domain):
    first = tiny_domain
    query = next(iter(first.qrels["train"]))
    moved = {s: dict(judged) for s, judged in first.qrels.items()}
    moved["dev"][query] = moved["train"].pop(query)
    regraded = {s: dict(judged) for s, judged in first.qrels.items()}
    regraded["known"][next(iter(regraded["known"]))] = {"eye1": 1}
    others = [
        changed(first, corpus=first.corpus | {"eye0": "Infection of the eyes"}),
        changed(first, corpus=first.corpus | {"eye9": "Itching of the eye"}),
        changed(first, queries=first.queries | {query: "ocular sepses"}),
        changed(first, qrels=moved),
        changed(first, qrels=regraded),
        changed(first, negatives={}),
        changed(first, parents={"eye1": "eye0"}),
        changed(first, groups={**first.groups, "eye0": "ear"}),
        changed(first, held_out=None),
    ]
    assert len({d.hash for d in others} | {first.hash}) == len(others) + 1


def test_the_hash_does_not_depend_on_the_order(tiny_domain):
    turned = changed(
        tiny_domain,
        corpus=dict(reversed(tiny_domain.corpus.items())),
        queries=dict(reversed(tiny_domain.queries.items())),
    )
    assert turned.hash == tiny_domain.hash


# -- leaks --


def test_a_query_in_two_splits_is_a_leak(tiny_domain):
    query, judged = next(iter(tiny_domain.qrels["train"].items()))
    qrels = dict(tiny_domain.qrels)
    qrels["known"] = qrels["known"] | {query: judged}
    with pytest.raises(EmbkitError, match="leak.*'train'.*'known'"):
        changed(tiny_domain, qrels=qrels)


@pytest.mark.parametrize("alter", [str, str.upper, lambda t: f"  {t.replace(' ', '   ')} "])
@pytest.mark.parametrize("split", ["dev", "known", "novel"])
def test_the_same_text_in_two_splits_is_a_leak(tiny_domain, split, alter):
    text = tiny_domain.queries[next(iter(tiny_domain.qrels["train"]))]
    with pytest.raises(EmbkitError, match="leak"):
        with_query(tiny_domain, split, alter(text), "brain0" if split == "novel" else "eye0")


def test_a_held_out_group_among_the_training_positives_is_a_leak(tiny_domain):
    with pytest.raises(EmbkitError, match="leak.*'novel'.*brain"):
        with_query(tiny_domain, "train", "a phrase asked nowhere else", "brain1")


def test_a_trained_group_among_the_held_out_ones_is_a_leak(tiny_domain):
    with pytest.raises(EmbkitError, match="leak.*'novel'.*eye"):
        with_query(tiny_domain, "novel", "a phrase asked nowhere else", "eye4")


def test_what_is_judged_wrong_is_no_leak(tiny_domain):
    qrels = {s: dict(judged) for s, judged in tiny_domain.qrels.items()}
    query = next(iter(qrels["train"]))
    qrels["train"][query] = qrels["train"][query] | {"brain1": 0}
    check_leakage(changed(tiny_domain, qrels=qrels))


def test_the_real_domains_pass_the_check(smoke):
    check_leakage(smoke)
    with pytest.raises(EmbkitError, match="leak"):
        held = next(iter(positives(smoke, "novel")))
        with_query(smoke, "train", "a phrase asked nowhere else", held)


# -- bad input --


@pytest.mark.parametrize("text", ["", "   ", "\n\t", None, 7])
def test_an_empty_text_is_refused_by_its_id(tiny_domain, text):
    with pytest.raises(EmbkitError, match="document.*empty.*eye0"):
        changed(tiny_domain, corpus=tiny_domain.corpus | {"eye0": text})
    query = next(iter(tiny_domain.queries))
    with pytest.raises(EmbkitError, match=f"query.*empty.*{query}"):
        changed(tiny_domain, queries=tiny_domain.queries | {query: text})


def test_ids_that_do_not_exist_are_refused(tiny_domain):
    with pytest.raises(EmbkitError, match="eye77"):
        with_query(tiny_domain, "dev", "a new phrase", "eye77")
    qrels = dict(tiny_domain.qrels)
    qrels["dev"] = qrels["dev"] | {"q99": {"eye0": 1}}
    with pytest.raises(EmbkitError, match="q99"):
        changed(tiny_domain, qrels=qrels)


def test_a_query_without_a_right_document_is_refused(tiny_domain):
    qrels = dict(tiny_domain.qrels)
    query = next(iter(qrels["dev"]))
    for judged in ({}, {"eye0": 0}):
        with pytest.raises(EmbkitError, match=f"{query}.*no right document"):
            changed(tiny_domain, qrels=qrels | {"dev": qrels["dev"] | {query: judged}})


@pytest.mark.parametrize("missing", ["train", "dev", "known", "novel"])
def test_a_missing_split_is_named(tiny_domain, missing):
    qrels = {split: judged for split, judged in tiny_domain.qrels.items() if split != missing}
    with pytest.raises(EmbkitError, match=f"unknown split '{missing}'"):
        changed(tiny_domain, qrels=qrels)


@pytest.mark.parametrize("part", ["corpus", "queries"])
def test_a_domain_of_nothing_is_refused(tiny_domain, part):
    with pytest.raises(EmbkitError, match="no (document|query) at all"):
        changed(tiny_domain, **{part: {}})


def test_a_domain_cannot_be_changed(tiny_domain):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny_domain.name = "another"


# -- what is read off a domain --


def test_pairs_are_each_query_with_each_right_document(tiny_domain):
    pairs = list(zip(*(tiny_domain.pairs()[c][:] for c in ("anchor", "positive")), strict=True))
    expected = [
        (tiny_domain.queries[query], tiny_domain.corpus[document])
        for query, judged in tiny_domain.qrels["train"].items()
        for document, grade in judged.items()
        if grade > 0
    ]
    assert sorted(pairs) == sorted(expected) and len(pairs) == 30
    assert ("growth in one lung or bone", "Tumor of the bone") in pairs


def brute_force_never_positive(domain, split):
    found = set()
    for query, judged in domain.qrels[split].items():
        for document, grade in judged.items():
            if grade <= 0:
                continue
            trained = [
                q for q, other in domain.qrels["train"].items() if other.get(document, 0) > 0
            ]
            if trained:
                break
        else:
            found.add(query)
    return found


def test_never_positive_by_brute_force(tiny_domain, smoke):
    for domain in (tiny_domain, smoke):
        for split in domain.test_splits:
            expected = brute_force_never_positive(domain, split)
            assert set(domain.subset(split)) == expected
        parts = {split: domain.subset(split) for split in domain.test_splits}
        assert parts.keys() == {"known", "novel"} | ({"lay"} if domain is smoke else set())
        assert 0 < len(parts["known"]) < len(domain.qrels["known"])
        assert domain.subsets() == {
            split: {} if split == "novel" else {"never_positive": part}
            for split, part in parts.items()
        }
        assert set(domain.subset("novel")) == set(domain.qrels["novel"])


def test_the_dev_corpus_holds_all_right_documents_and_is_always_the_same(tiny_domain, smoke):
    for domain, limit in ((tiny_domain, 20), (smoke, 100), (smoke, 1), (smoke, 10**6)):
        right = positives(domain, "dev")
        chosen = domain.dev_corpus(limit)
        assert right <= set(chosen) <= set(domain.corpus)
        assert len(set(chosen)) == len(chosen)
        assert len(chosen) == min(len(domain.corpus), max(limit, len(right)))
        assert domain.dev_corpus(limit) == chosen
    assert smoke.dev_corpus(100) == load("smoke").dev_corpus(100)


def test_examples_are_right_pairs(tiny_domain):
    texts = {text: i for i, text in tiny_domain.corpus.items()}
    asked = {text: i for i, text in tiny_domain.queries.items()}
    for split in tiny_domain.qrels:
        found = tiny_domain.examples(split, n=4)
        assert len(found) == 4 and found == tiny_domain.examples(split, n=4)
        for query, document in found:
            assert tiny_domain.qrels[split][asked[query]][texts[document]] > 0
    assert len(tiny_domain.examples("dev", n=100)) == len(tiny_domain.qrels["dev"])


def test_what_is_shown_is_escaped_and_says_where_it_came_from(tiny_domain):
    odd = changed(tiny_domain, corpus={i: f"<b>{t}" for i, t in tiny_domain.corpus.items()})
    assert "<b>Infection" not in odd._repr_html_() and "&lt;b&gt;" in odd._repr_html_()
    assert tiny_domain.hash in tiny_domain._repr_html_() and tiny_domain.hash in repr(tiny_domain)


def test_the_facts_of_a_card_are_lines_that_begin_with_a_name():
    found = base.about("""
title: from a phrase: to a title
limits: one, two
and three
""")
    assert found == {"title": "from a phrase: to a title", "limits": "one, two and three"}
    assert load_domain("icd10cm", profile="smoke").about.keys() == {
        *("title", "source", "terms", "limits"),
    }


def test_the_smallest_domain_there_can_be():
    domain = Domain(
        name="two",
        profile="smoke",
        corpus={"a": "one text", "b": "another text"},
        queries={"1": "first", "2": "second", "3": "third"},
        qrels={"train": {"1": {"a": 1}}, "dev": {"2": {"a": 1}}, "test": {"3": {"b": 1}}},
        test_splits=("test",),
    )
    assert domain.subset("test") == ("3",) and domain.subsets() == {"test": {}}
    assert domain.dev_corpus(1) == ("a",)


@pytest.mark.parametrize(
    "part", ["searched", "parents", "groups", "held_out", "negatives", "qrels"]
)
def test_each_part_that_decides_a_result_is_in_the_hash(tiny_domain, part):
    some = list(tiny_domain.corpus)
    changed = {
        "searched": {"dev": tuple(some)},
        "parents": dict(tiny_domain.parents) | {some[0]: some[-1]},
        "groups": dict(tiny_domain.groups) | {some[0]: "another"},
        "held_out": None,
        "negatives": dict(tiny_domain.negatives) | {next(iter(tiny_domain.queries)): (some[-1],)},
        "qrels": None,
    }
    if part == "qrels":
        dev = {q: dict(j) for q, j in tiny_domain.qrels["dev"].items()}
        first = dev[next(iter(dev))]
        first |= {next(d for d in some if d not in first): 1}
        changed["qrels"] = dict(tiny_domain.qrels) | {"dev": dev}
    assert dataclasses.replace(tiny_domain, **{part: changed[part]}).hash != tiny_domain.hash
