"""Queries by a language model: prompts, what counts as an answer, the cache, retries, budgets."""

import itertools
import json
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import pytest

from embkit.errors import EmbkitError
from embkit.synthetic import generation
from embkit.synthetic.backends import Failure
from embkit.synthetic.generation import PATIENCE, Answers, Generated, generate, read_set
from embkit.synthetic.prompts import PROMPTS, Prompt, clean, plain

PROMPT = Prompt(
    "test",
    "After each title stands {what}.",
    {"keyword": ("Key words", "key words"), "layman": ("Patient", "what a patient says")},
    {
        "keyword": (("Heat stroke", "hot sun faint"),),
        "layman": (("Heat stroke", "fainted in the hot sun"),),
    },
    label="Title",
)
LAYMAN = PROMPT.replace(kinds={"layman": PROMPT.kinds["layman"]})


def titles(n):
    return {f"d{i:03d}": f"Pain of rib number {i}" for i in range(n)}


def asked_for(prompt):
    """The document of a rendered prompt."""
    return re.findall(r"Title: (.*)\n", prompt)[-1]


class Echo:
    """Answers each document with words of its own; counts and remembers."""

    def __init__(self, name="echo", batch_size=1, workers=1, answer=None):
        self.name, self.batch_size, self.workers = name, batch_size, workers
        self.calls, self.prompts = [], []
        self._count = itertools.count(1)  # one thread at a time
        self._answer = answer or (lambda document, n: f"it hurts there, {document.lower()}")

    def generate(self, prompts, *, max_tokens, temperature, seed):
        self.calls.append({"n": len(prompts), "temperature": temperature, "seed": seed})
        answers = []
        for prompt in prompts:
            self.prompts.append(prompt)
            answers.append(self._answer(asked_for(prompt), next(self._count)))
        return answers


def run(documents, backend, prompt=LAYMAN, *, retries=3, **options):
    with mock.patch.object(generation, "RETRIES", retries):
        return generate(documents, backend, prompt, **options)


# Prompts


def test_a_prompt_reads_as_it_is_sent():
    assert PROMPT.render("  Gout,\n acute ", "layman") == (
        "After each title stands what a patient says.\n\n"
        "Title: Heat stroke\nPatient: fainted in the hot sun\n\n"
        "Title: Gout, acute\nPatient:"
    )
    assert "fainted in the hot sun" in repr(PROMPT) and "hot sun faint" in str(PROMPT)
    assert PROMPT.render("x" * 5000, "keyword").count("x") == 2000


def test_a_prompt_can_be_changed():
    other = PROMPT.replace(label="Code", longest=3)
    assert other.render("Gouty", "layman").endswith("Code: Gou\nPatient:")
    assert other.hash != PROMPT.hash and PROMPT.replace().hash == PROMPT.hash
    with pytest.raises(EmbkitError, match="unknown prompt field 'lable'"):
        PROMPT.replace(lable="Code")
    with pytest.raises(EmbkitError, match="unknown kind of query 'laymen'"):
        PROMPT.render("Gout", "laymen")


@pytest.mark.parametrize(
    "change",
    [{"kinds": {}}, {"kinds": {"keyword": "Key words"}}, {"examples": {"keyword": ()}}]
    + [{"examples": {"keyword": ["one"], "layman": []}}],
)
def test_a_prompt_of_another_shape(change):
    with pytest.raises(EmbkitError, match="kinds|examples"):
        PROMPT.replace(**change)


def test_no_example_of_the_medical_prompt_is_a_title_or_a_query_of_the_domain():
    from embkit.data import load_domain
    from embkit.data.domain import normalise

    domain, prompt = load_domain("icd10cm", profile="full"), PROMPTS["icd10cm"]
    known = {normalise(text) for text in (*domain.corpus.values(), *domain.queries.values())}
    queries = {normalise(query) for pairs in prompt.examples.values() for _, query in pairs}
    assert len(prompt.documents) == 11 and not known & (prompt.documents | queries)
    assert set(prompt.kinds) == set(PROMPTS["general"].kinds) == {"keyword", "question", "layman"}


# Answers


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        ("my ear rings", "my ear rings"),
        (' "My ear rings."\nTitle: Gout\nPatient: toe', "My ear rings."),
        ("\n\n- **Patient:** my ear rings", "my ear rings"),
        ("1. Key words: ear ringing,", "ear ringing"),
        ("2 ears ring", "2 ears ring"),
        ("<think>hm, Latin\nwords</think>\nmy ear rings", "my ear rings"),
        ("```\nmy ear rings\n```", "my ear rings"),
        ("β-thalassemia in the family", "β-thalassemia in the family"),
        ("why does it ring, ring, and never stop ringing", None),
    ],
)
def test_an_answer_is_cleaned(raw, query):
    expected = raw if query is None else query
    assert clean(raw, "Tinnitus", PROMPT, "layman") == expected


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "an empty answer"),
        (" \n - \n", "an empty answer"),
        ('{"query": "my ea', "JSON"),
        ('```json\n{"query": "my ear rings"}\n```', "JSON"),
        ("[]", "JSON"),
        ("в ухе звенит", "another language: the document is in Latin letters"),
        ("耳が鳴る", "another language"),
        ("das klingelt in dem Ohr und hört nicht auf", "another language: German"),
        (" ".join("abcdefghijklmnopqrstuvwxy"), "too many words: 25, at most 24"),
        ("#### $$$ 12 a", "garbage"),
        ("my ear \ufffd rings", "garbage"),
        ("ear ear ear", "it repeats itself"),
        ("cancer of the skin and cancer of the ear, cancer of the toe", "it repeats itself"),
        ("As an AI, I have no ears", "a refusal"),
        ("Fainted in the hot sun!", "an example of the prompt"),
    ],
)
def test_what_is_no_answer(raw, reason):
    found = clean(raw, "Tinnitus", PROMPT, "layman", ["English"])
    assert isinstance(found, Failure) and found.reason.startswith(reason) and found.again


def test_a_document_in_another_script_may_be_answered_in_it():
    assert clean("звенит в ухе", "Шум в ушах", PROMPT, "layman") == "звенит в ухе"


def test_a_corpus_in_another_language_may_be_answered_in_it():
    documents = {str(i): f"Schmerzen in der Rippe Nummer {i} und in dem Arm" for i in range(5)}
    echo = Echo(answer=lambda document, _: f"es tut weh und der Arm brennt, {document[:26]}")
    found = run(documents, echo)
    assert not found.failed and len(found.rows) == 5


def test_end_marks_and_case_make_no_other_query():
    assert plain("Why  me?") == plain("why me")


# Asking


def test_every_document_and_kind_is_asked_once(cache):
    echo = Echo()
    found = run(titles(3), echo, PROMPT)
    assert {(row.document, row.kind) for row in found.rows} == {
        (document, kind) for document in titles(3) for kind in ("keyword", "layman")
    }
    assert len(echo.prompts) == len(set(echo.prompts)) == 6
    assert found.counts["queries asked for"] == found.counts["prompts sent"] == 6
    again = run(titles(3), echo, PROMPT)
    assert again.rows == found.rows and len(echo.prompts) == 6
    assert again.counts["from the cache"] == 6 and again.counts["prompts sent"] == 0


def test_another_model_prompt_or_setting_is_asked_anew():
    echo = Echo()
    for options in ({}, {"seed": 1}, {"max_tokens": 8}, {"per_document": 2}):
        before = len(echo.prompts)
        run(titles(1), echo, **options)
        assert len(echo.prompts) > before, options
    before = len(echo.prompts)
    run(titles(1), echo, LAYMAN.replace(name="b"))
    run({"d000": "Title changed"}, echo)
    assert len(echo.prompts) == before + 2
    other = Echo("other")
    run(titles(1), other)
    assert len(other.prompts) == 1


def test_several_queries_of_a_kind_are_drawn_apart():
    echo = Echo(answer=lambda document, n: f"rib pain of {n} days, {document}")
    found = run(titles(2), echo, per_document=3)
    assert len({row.query for row in found.rows}) == 6
    assert sorted(row.n for row in found.rows) == [0, 0, 1, 1, 2, 2]
    assert len({call["seed"] for call in echo.calls}) == 3
    assert {call["temperature"] for call in echo.calls} == {0.7}


def test_batches_hold_one_kind_and_similar_lengths():
    documents = {str(i): f"Pain{' and more pain' * (i % 7)} of rib {i}" for i in range(40)}
    echo = Echo(batch_size=10, answer=lambda *_: "it hurts")
    run(documents, echo, PROMPT)
    assert [call["n"] for call in echo.calls] == [10] * 8
    spreads, labels = [], []
    for start in range(0, 80, 10):
        batch = echo.prompts[start : start + 10]
        lengths = [len(prompt) for prompt in batch]
        spreads.append(max(lengths) - min(lengths))
        labels.append({prompt.rsplit("\n", 1)[1] for prompt in batch})
    assert all(len(kinds) == 1 for kinds in labels)
    assert sum(spreads) / len(spreads) < 50  # unsorted: about 80


def test_a_larger_limit_holds_the_smaller():
    small = run(titles(50), Echo(), limit=5)
    large = run(titles(50), Echo(), limit=12)
    assert len(large.rows) == 12 and set(small.rows) < set(large.rows)
    other = run(titles(50), Echo(), limit=5, seed=7)
    assert {row.document for row in other.rows} != {row.document for row in small.rows}


def test_the_examples_own_documents_are_left_out_and_counted():
    echo = Echo()
    found = run(titles(2) | {"x": "heat  STROKE"}, echo)
    assert "x" not in {row.document for row in found.rows} and len(echo.prompts) == 2
    assert found.counts["documents left out: examples of the prompt"] == 1


@pytest.mark.parametrize("text", ["", "  \n", "—?! ...", "()"])
def test_a_document_with_nothing_to_ask_about_is_reported_and_not_asked(text):
    echo = Echo()
    found = run({"x": text} | titles(1), echo)
    assert list(found.failed) == [("x", "layman", 0)]
    assert list(found.reasons()) == ["nothing to ask about"]
    assert len(found.rows) == len(echo.prompts) == 1


def test_killed_in_the_middle_the_next_call_asks_only_the_rest():
    def dies(document, n):
        if n == 5:
            raise KeyboardInterrupt
        return f"it hurts, {document}"

    with pytest.raises(KeyboardInterrupt):
        run(titles(9), Echo(answer=dies))
    rest = Echo()
    found = run(titles(9), rest)
    assert len(rest.prompts) == 5 and len(found.rows) == 9
    assert found.counts["from the cache"] == 4


WORDS = "pain in the back while sitting or after a fall with fever and no cough for days".split()


class BatchBound(Echo):
    """Answers that depend on what else is in the batch, most of them none, as a model's do in 16
    bits; stops at a call."""

    def __init__(self, stops_at=0):
        super().__init__(batch_size=4)
        self.stops_at = stops_at

    def generate(self, prompts, *, temperature, seed, **_):
        self.calls.append(len(prompts))
        if len(self.calls) == self.stops_at:
            raise KeyboardInterrupt
        drawn = random.Random(f"{prompts} {temperature:.3f} {seed}")
        words = [" ".join(drawn.sample(WORDS, 5)) for _ in prompts]
        return [text if drawn.random() < 0.4 else "" for text in words]


def test_stopped_anywhere_and_resumed_the_queries_are_those_of_one_go(monkeypatch, tmp_path):
    def one_go(name, stops):
        monkeypatch.setenv("EMBKIT_CACHE", str(tmp_path / name))
        for at in stops:
            with pytest.raises(KeyboardInterrupt):
                run(titles(25), BatchBound(at), PROMPT)
        backend = BatchBound()
        return run(titles(25), backend, PROMPT), len(backend.calls)

    whole, calls = one_go("whole", [])
    assert calls > 30 and whole.failed and len({row.query for row in whole.rows}) > 40
    for at in range(1, calls + 1, 5):
        found, left = one_go(f"stopped {at}", [at])
        assert (found.rows, found.failed) == (whole.rows, whole.failed)
        assert left == calls - at + 1, "nothing is asked twice"
    assert one_go("often", [3, 5, 7])[0].rows == whole.rows
    assert one_go("whole", [])[1] == 0, "what answered badly to the end is not asked again"


def test_what_another_process_notes_meanwhile_leaves_no_item_behind(monkeypatch):
    add = Answers.add

    def noted(self, rows):  # then another process gives up, and another thread takes that in
        add(self, rows)
        add(Answers(self.path), [row | {"tried": 9} for row in rows if "tried" in row])
        self.refresh()

    monkeypatch.setattr(Answers, "add", noted)
    found = run(titles(2), Echo(batch_size=2, answer=lambda _, n: "" if n < 5 else "it hurts"))
    assert found.counts["left"] == 0 and len(found.rows) == 2


def test_killed_among_several_workers():
    def dies(document, n):
        if n == 5:
            raise KeyboardInterrupt
        return f"it hurts, {document}"

    broken = Echo(answer=dies, workers=3)
    with pytest.raises(KeyboardInterrupt):
        run(titles(30), broken)
    rest = Echo()
    found = run(titles(30), rest)
    assert len(found.rows) == 30 and len(rest.prompts) == 30 - (len(broken.prompts) - 1)


def test_a_process_that_is_killed_loses_nothing(cache):
    code = (
        "import time\n"
        "from tests.synthetic.test_generation import Echo, run, titles\n"
        "run(titles(50), Echo(answer=lambda d, _: time.sleep(0.02) or f'it hurts, {d}'))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2]
    )
    deadline, lines = time.monotonic() + 300, 0
    while lines < 5 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
        lines = sum(path.read_bytes().count(b"\n") for path in cache.rglob("*.jsonl"))
    process.kill()
    process.wait()
    kept = sum(path.read_bytes().count(b"\n") for path in cache.rglob("*.jsonl"))
    echo = Echo()
    found = run(titles(50), echo)
    assert 5 <= kept < 50 and len(echo.prompts) == 50 - kept and len(found.rows) == 50


def test_a_line_that_was_cut_off_is_asked_again(cache):
    run(titles(4), Echo())
    (file,) = (cache / "generated").glob("*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    echo = Echo()
    found = run(titles(4), echo)
    assert len(echo.prompts) == 1 and len(found.rows) == 4
    lines = file.read_bytes().splitlines()
    assert len(lines) == 5  # three whole ones, the piece, and the new one on a line of its own
    assert json.loads(lines[4]) == json.loads(whole.splitlines()[3])
    echo = Echo()
    run(titles(4), echo)
    assert not echo.prompts


@pytest.mark.parametrize("junk", [b"[1]\n", b"null\n", b'{"key": 1}\n', b"\xff\n", b"{}\n\n"])
def test_lines_that_are_no_answer_are_passed_over(cache, junk):
    run(titles(2), Echo())
    (file,) = (cache / "generated").glob("*.jsonl")
    file.write_bytes(junk + file.read_bytes())
    echo = Echo()
    run(titles(2), echo)
    assert not echo.prompts


def test_two_processes_share_a_cache(tmp_path):
    code = (
        "import sys; from pathlib import Path; from embkit.synthetic.generation import Answers\n"
        "cache = Answers(Path(sys.argv[1]))\n"
        "for i in range(60):\n"
        "    cache.add([{'key': f'{sys.argv[2]}{i}', 'query': 'x' * (i * 50)}])\n"
        "    cache.add([{'key': f'both{i}', 'query': sys.argv[2]}])\n"
    )
    path = tmp_path / "cache.jsonl"
    both = [subprocess.Popen([sys.executable, "-c", code, path, name]) for name in "ab"]
    assert [process.wait(300) for process in both] == [0, 0]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == len({row["key"] for row in rows}) == 180


def test_the_first_answer_to_a_key_is_everyones(tmp_path):
    one, two = Answers(tmp_path / "c.jsonl"), Answers(tmp_path / "c.jsonl")
    one.add([{"key": "k", "query": "first"}])
    two.add([{"key": "k", "query": "second"}])
    assert one.found["k"] == two.found["k"] == "first"


def test_threads_share_a_cache():
    results = []

    def work():
        results.append(run(titles(12), Echo(workers=2)))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and all(found.rows == results[0].rows for found in results)


def test_a_cache_that_cannot_be_written(cache):
    cache.mkdir()
    (cache / "generated").write_text("a file where a folder should be")
    with pytest.raises(EmbkitError, match="answers in .* cannot be read"):
        run(titles(1), Echo())


# Failing


def test_an_exception_is_reported_and_the_next_call_asks_again():
    def flaky(document, n):
        if n == 1:
            raise TimeoutError("the model went away")
        return "it hurts"

    echo = Echo(answer=flaky)
    found = run(titles(2), echo)
    assert isinstance(found, Generated) and "failed: TimeoutError" in repr(found)
    ((item, why),) = found.failed.items()
    assert why == "TimeoutError: the model went away" and len(found.rows) == 1
    again = run(titles(2), echo)
    assert (
        len(again.rows) == 2 and not again.failed and asked_for(echo.prompts[2])[-1] == item[0][-1]
    )
    assert [call["temperature"] for call in echo.calls] == [0, 0, 0]


def test_no_answer_at_all_is_asked_again_warmer_and_at_once():
    echo = Echo(answer=lambda _, n: "" if n < 3 else "it hurts")
    found = run(titles(1), echo)
    assert len(found.rows) == 1
    assert [round(call["temperature"], 6) for call in echo.calls] == [0, 0.3, 0.6]
    assert len({call["seed"] for call in echo.calls}) == 3


def test_one_poisoned_document_does_not_take_its_batch_along():
    def poison(document, _):
        if document.endswith("number 2"):
            raise RuntimeError("out of memory")
        return f"it hurts, {document}"

    found = run(titles(8), Echo(answer=poison, batch_size=4), retries=1)
    assert list(found.failed) == [("d002", "layman", 0)] and len(found.rows) == 7
    assert "out of memory" in found.failed["d002", "layman", 0]


def test_a_bad_answer_and_none_at_all_in_one_batch_are_told_apart():
    def mixed(document, n):
        if document.endswith("1"):
            raise TimeoutError("the model went away")
        return "" if document.endswith("2") and n < 8 else f"it hurts, {document}"

    found = run(titles(4), Echo(answer=mixed, batch_size=4))
    assert len(found.rows) == 3 and list(found.failed) == [("d001", "layman", 0)]


@pytest.mark.parametrize("answers", ["text", ["only one"], [None] * 3, [b"bytes"] * 3])
def test_a_backend_that_gives_something_else(answers):
    class Odd:
        name = "odd"
        batch_size = 3

        def generate(self, prompts, **_):
            return answers if isinstance(answers, str) else answers[: max(1, len(prompts))]

    found = run(titles(3), Odd(), retries=0)
    if answers == ["only one"]:  # right where one is asked
        assert len(found.rows) == 3
    else:
        assert len(found.failed) == 3


def test_what_never_answers_is_given_up(cache):
    echo = Echo(answer=lambda *_: 1 / 0)
    found = run(titles(40), echo)
    assert (len(found.failed), found.counts["left"]) == (PATIENCE, 40 - PATIENCE)
    assert f"{PATIENCE} items in a row" in found.stopped and len(echo.prompts) == PATIENCE


def test_an_answer_now_and_then_is_reason_to_go_on():
    def rare(document, n):
        return f"it hurts, {document}" if n % PATIENCE == 0 else 1 / 0

    found = run(titles(40), Echo(answer=rare), retries=0)
    assert (len(found.rows), len(found.failed), found.counts["left"]) == (4, 36, 0)


def test_bad_answers_in_a_row_are_no_reason_to_stop():
    found = run(titles(40), Echo(answer=lambda *_: ""), retries=0)
    assert len(found.failed) == 40 and found.stopped is None


@pytest.mark.parametrize("budget", [0, 3])
def test_the_budget_stops_the_call_and_the_next_goes_on(budget):
    echo = Echo()
    found = run(titles(8), echo, budget=budget)
    assert (len(found.rows), found.counts["left"]) == (budget, 8 - budget)
    assert len(echo.prompts) == budget and f"budget of {budget} prompts" in found.stopped
    assert f"{budget} done, {8 - budget} left" in repr(found)
    assert f"{budget} done, {8 - budget} left" in found._repr_html_()
    found = run(titles(8), echo)
    assert len(found.rows) == len(echo.prompts) == 8


def test_retries_are_paid_from_the_budget():
    echo = Echo(answer=lambda *_: "")
    found = run(titles(8), echo, budget=6, retries=3)
    assert len(echo.prompts) == found.counts["prompts sent"] == 6
    assert len(found.failed) + found.counts["left"] == 8 and len(found.failed) == 1


def test_bad_input_of_a_backend_is_raised_as_it_is():
    def refuses(*_):
        raise EmbkitError("no such model", expected="another", hint="look")

    with pytest.raises(EmbkitError, match="no such model"):
        run(titles(3), Echo(answer=refuses))


@pytest.mark.parametrize(
    "options",
    [{"limit": 0}, {"per_document": 0}, {"budget": -1}, {"seed": -1}, {"max_tokens": 0}]
    + [{"limit": 2.5}],
)
def test_bad_numbers(options):
    with pytest.raises(EmbkitError, match=next(iter(options))):
        run(titles(2), Echo(), **options)


def test_bad_input():
    for documents in ({}, ["a text"], {"a": None}, {1: "text"}):
        with pytest.raises(EmbkitError, match="documents is"):
            run(documents, Echo())
    with pytest.raises(EmbkitError, match="str as its backend"):
        run(titles(1), "smollm2")
    with pytest.raises(EmbkitError, match="str as its prompt"):
        generate(titles(1), Echo(), "icd10cm")


# What comes of it


def test_a_result_shows_itself():
    echo = Echo(answer=lambda d, _: "" if d.endswith("3") else f"<b>it hurts</b>, {d}")
    found = run(titles(6), echo, budget=7)
    page = found._repr_html_()
    assert "&lt;b&gt;it hurts" in page and "<b>it" not in page
    assert "failed: an empty answer" in repr(found)


def test_a_set_is_read_and_checked(tmp_path):
    path = tmp_path / "set.jsonl"
    good = [{"query": "a b", "document": "d", "split": "train"}, {"query": "c", "document": "e"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in good))
    assert read_set(path) == good
    for line in ('{"query": "x"}', '{"query": " ", "document": "d"}', "[]", '{"query', '"x"', ""):
        path.write_text(json.dumps(good[0]) + "\n" + line + "\n")
        with pytest.raises(EmbkitError, match="line 2 of set.jsonl"):
            read_set(path)
    path.write_bytes(b'{"query": "\xff", "document": "d"}\n')
    with pytest.raises(EmbkitError, match="line 1"):
        read_set(path)
    path.write_text('{"query": "x", "document": "d", "kept": "yes"}\n')
    with pytest.raises(EmbkitError, match="line 1"):
        read_set(path)
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        read_set(tmp_path / "none.jsonl")
