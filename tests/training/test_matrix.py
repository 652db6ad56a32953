"""The matrix of tests/README.md holds: each family through each approach, equal or refused."""

import pytest

from tests.families import TINY_FAMILIES
from tests.training.matrix import COLUMNS, END, README, START, row, table

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", TINY_FAMILIES)
def test_each_approach_is_equal_or_refused_as_the_table_says(store, cache, tmp_path, name):
    written = README.read_text(encoding="utf-8").split(START)[1].split(END)[0].splitlines()
    notes = [line.strip() for line in written if line.startswith("(")]

    def told(lines, notes):
        """A family's cells, in words."""
        marks = next(line for line in lines if line.startswith(f"| {name} |")).split("|")[2:-1]
        return [next((n for n in notes if n.startswith(m.strip())), "=") for m in marks]

    found = table({name: row(name, tmp_path)}).splitlines()
    words = [told(found, [x.strip() for x in found if x.startswith("(")]), told(written, notes)]
    assert len(words[0]) == len(COLUMNS)
    refused = [[note.partition(") ")[2] for note in row] for row in words]
    assert refused[0] == refused[1]
