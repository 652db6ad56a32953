"""Where the lessons show a library's own calls; ``python -m tests.notebooks.library`` writes it.

The table of notebooks/README.md says for each call in which lesson and cell it runs. A cell's
number is the one that Jupyter shows beside it when the notebook is run from top to bottom.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from embkit.files import write_atomic
from notebooks.tools import authoring

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
README = NOTEBOOKS / "README.md"
START, END = "<!-- library -->\n", "<!-- end of library -->"
# lesson → topic → what stands on screen: a call by its last name, "name=" for an argument
WANTED: dict[str, dict[str, list[str]]] = {
    "04": {
        "data set": ["Dataset.from_dict"],
        "loss": ["MultipleNegativesRankingLoss"],
        "arguments and trainer": [
            "SentenceTransformerTrainingArguments",
            "SentenceTransformerTrainer",
        ],
        "evaluator": ["InformationRetrievalEvaluator"],
    },
    "05": {"mining": ["mine_hard_negatives"]},
    "06": {"teacher scores": ["CrossEncoder", "MarginMSELoss", "DistillKLDivLoss"]},
    "07": {"truncated vectors": ["MatryoshkaLoss", "truncate_dim="]},
    "08": {"prompts": ["prompts="]},
    "09": {
        "adapters": ["LoraConfig", "add_adapter", "save_pretrained", "merge_and_unload"],
        "four bits": ["BitsAndBytesConfig"],
    },
    "10": {"two towers": ["Router", "CLIPModel"]},
}


def shown(lesson: str) -> dict[str, int]:
    """What the code cells of a lesson call: name → the first cell's number.

    A call counts under its last name and, as ``X.f``, under its last two; arguments that it names
    count as ``name=``. Solutions and folded cells do not count.
    """
    (source,) = (NOTEBOOKS / "source").glob(f"{lesson}_*.py")
    found: dict[str, int] = {}
    code = (cell for cell in authoring.compose(source)[1].cells if cell.cell_type == "code")
    for number, cell in enumerate(code, start=1):
        if {authoring.SOLUTION, authoring.HIDE} & set(cell.metadata.get("tags", [])):
            continue
        for node in ast.walk(authoring.parsed(cell.source)):
            if isinstance(node, ast.Call):
                parts = ast.unparse(node.func).split(".")
                names = [parts[-1], ".".join(parts[-2:])]
                for name in [*names, *(f"{k.arg}=" for k in node.keywords)]:
                    found.setdefault(name, number)
    return found


def missing() -> set[str]:
    """What is wanted and in no cell yet, as ``lesson name``."""
    return {
        f"{lesson} {name}"
        for lesson, topics in WANTED.items()
        for names in topics.values()
        for name in names
        if place(shown(lesson), name) is None
    }


def place(found: dict[str, int], name: str) -> int | None:
    """The cell of a call: of itself, or of its ``from_pretrained``."""
    return found.get(name, found.get(f"{name}.from_pretrained"))


def table() -> str:
    """The table in Markdown."""
    lines = ["| topic | lesson | the library's own call | cell |", "|---|---|---|---:|"]
    for lesson, topics in WANTED.items():
        found = shown(lesson)
        for topic, names in topics.items():
            for name in names:
                cell = place(found, name) or "–"
                lines.append(f"| {topic} | `{lesson}` | `{name}` | {cell} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the table between its marks in notebooks/README.md."""
    text = README.read_text(encoding="utf-8")
    marked = re.compile(re.escape(START) + ".*?" + re.escape(END), re.S)
    write_atomic(README, marked.sub(lambda _: START + table() + END, text))
    sys.stdout.write(table())


if __name__ == "__main__":
    main()
