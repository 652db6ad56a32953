"""Files as people have them: each is read as the table that it was written from, or it is asked
which table is meant, and every answer that is offered loads."""

import shlex

import pytest

from embkit.cli.main import main
from embkit.data import load_domain
from embkit.data.domain import normalise, right_documents
from embkit.data.images import is_picture
from embkit.errors import EmbkitError
from tests.data.shapes import PAIRS, RIGHT, write

READ = [name for name, right in RIGHT.items() if right.pairs is not None and not right.asked]
ASKED = [name for name, right in RIGHT.items() if right.asked]
REFUSED = [name for name, right in RIGHT.items() if right.pairs is None]
TYPED = ["label_relevant", "nli_integers", "sts_tsv", "unknown_negatives", "cp1252"]  # in a shell


@pytest.fixture(autouse=True)
def whole(monkeypatch):
    """Nothing is cut away."""
    monkeypatch.setenv("EMBKIT_PROFILE", "full")


def read(domain):
    """Query -> its right texts, over all splits; of pictures, caption -> pictures."""
    found = {}
    for qrels in domain.qrels.values():
        for query, judged in qrels.items():
            for document in right_documents(judged):
                pair = normalise(domain.queries[query]), normalise(domain.corpus[document])
                first, second = reversed(pair) if is_picture(domain.queries[query]) else pair
                found.setdefault(first, set()).add(second)
    return found


def marked_wrong(domain):
    """Query -> the texts of its negatives."""
    return {
        normalise(domain.queries[query]): {normalise(domain.corpus[d]) for d in documents}
        for query, documents in domain.negatives.items()
    }


def readings(path):
    """What the refusal of a path offers."""
    with pytest.raises(EmbkitError) as refused:
        load_domain(path)
    assert len(refused.value.readings) > 1
    return refused.value.readings


def aside(domain):
    return sum(domain.report.quarantined.values())


def test_each_query_of_the_table_has_a_right_and_a_wrong_document_of_its_own():
    assert len({normalise(text) for row in PAIRS for text in row}) == 3 * len(PAIRS) == 72


@pytest.mark.parametrize("name", READ)
def test_a_shape_is_read_as_the_table_it_was_written_from(name, tmp_path):
    shape = write(name, tmp_path / "own")
    domain = load_domain(shape.path)
    assert read(domain) == shape.pairs
    if shape.negatives is not None:
        assert marked_wrong(domain) == shape.negatives
    if shape.splits:
        asked = {
            split: {normalise(domain.queries[q]) for q in qrels}
            for split, qrels in domain.qrels.items()
        }
        assert asked == shape.splits
    assert domain.report.put_aside == "nothing: every row was used"


@pytest.mark.parametrize("name", ASKED)
def test_every_reading_that_is_offered_loads_and_one_is_the_table(name, tmp_path):
    shape = write(name, tmp_path / "own")
    exact = []
    for reading in readings(shape.path):
        assert reading.what.strip() and isinstance(reading.options, dict)
        assert 0 < len(reading.rows) <= 3
        assert all(isinstance(text, str) for row in reading.rows for text in row)
        domain = load_domain(shape.path, **reading.options)
        found = read(domain)
        assert reading.right == sum(map(len, found.values())), reading.what
        assert reading.wrong >= 0
        same = shape.negatives is None or marked_wrong(domain) == shape.negatives
        exact += [reading] if found == shape.pairs and same else []
    assert exact, "no reading gives the table"
    if name.startswith(("label", "nli", "quora")):
        assert any(reading.wrong == len(PAIRS) for reading in exact)


@pytest.mark.parametrize("name", ASKED)
def test_what_is_to_be_typed_in_python_is_what_the_reading_is(name, tmp_path):
    path = write(name, tmp_path / "own").path
    with pytest.raises(EmbkitError) as refused:
        load_domain(path)
    for reading in refused.value.readings:
        assert reading.python in str(refused.value)
        assert eval(f"dict({reading.python})") == reading.options


@pytest.mark.parametrize("name", TYPED)
def test_what_is_to_be_typed_in_a_shell_is_printed_there_and_works(name, tmp_path, capsys):
    path = write(name, tmp_path / "own").path
    offered = readings(path)
    assert main(["check", str(path)]) == 2
    told = capsys.readouterr().err
    for reading in offered:
        assert reading.shell in told and reading.python not in told
        code = main(["check", str(path), *shlex.split(reading.shell)])
        assert code in (0, 1), capsys.readouterr().err  # 1: a finding, such as too few queries
        capsys.readouterr()


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_where_texts_should_be_are_refused(name, tmp_path):
    with pytest.raises(EmbkitError):
        load_domain(write(name, tmp_path / "own").path)


# -- conditions on a column --


@pytest.mark.parametrize(
    "condition, right",
    [
        ("label == 0", 24),
        ("label == 0,1", 48),
        ("label != 0", 72),
        ("label != 0,-1", 48),
        ("label >= 1", 48),
        ("label > 1", 24),
        ("label <= 0", 48),
        ("label < 0", 24),
    ],
)
def test_rows_are_right_where_the_condition_holds_and_the_others_are_counted(
    condition, right, tmp_path
):
    path = write("nli_integers", tmp_path / "own").path  # four rows a query: 0, 1, 2 and -1
    columns = {"anchor": "premise", "positive": "hypothesis", "right": condition}
    domain = load_domain(path, columns=columns)
    assert sum(map(len, read(domain).values())) == right
    assert aside(domain) == 96 - right and not domain.negatives


@pytest.mark.parametrize(
    "name, right, wrong",
    [
        ("nli_integers_csv", "label == 0", "label == 2"),
        ("nli_words", "label == entailment", "label == contradiction"),
    ],
)
def test_rows_that_are_neither_right_nor_wrong_are_put_aside_and_counted(
    name, right, wrong, tmp_path
):
    shape = write(name, tmp_path / "own")
    columns = {"anchor": "premise", "positive": "hypothesis", "right": right, "wrong": wrong}
    domain = load_domain(shape.path, columns=columns)
    assert read(domain) == shape.pairs and marked_wrong(domain) == shape.negatives
    assert aside(domain) == 48 and sum(domain.report.rows.values()) == 96


def test_a_threshold_divides_scores_with_decimals(tmp_path):
    shape = write("sts_tsv", tmp_path / "own")
    columns = {"anchor": "sentence1", "positive": "sentence2"}
    said = columns | {"right": "score >= 3.6", "wrong": "score <= 2"}
    domain = load_domain(shape.path, columns=said)
    assert read(domain) == shape.pairs
    assert sum(map(len, marked_wrong(domain).values())) == 24 and aside(domain) == 0


@pytest.mark.parametrize("condition", ["label", "label = 0", "label ==", "lable == 0", "== 0"])
def test_a_condition_that_says_nothing_is_refused(condition, tmp_path):
    path = write("nli_integers", tmp_path / "own").path
    columns = {"anchor": "premise", "positive": "hypothesis", "right": condition}
    with pytest.raises(EmbkitError):
        load_domain(path, columns=columns)
