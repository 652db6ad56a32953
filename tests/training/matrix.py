"""Every family of models through every approach; ``python -m tests.training.matrix`` writes it.

A cell says "equal" where sentence-transformers alone, reading what was trained, gives embkit's
vectors, and where the stand-alone script trains the same model; else it says with which words the
approach was refused. Nothing is downloaded: models and texts are made here.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from embkit.data import Domain
from embkit.errors import EmbkitError
from tests.families import MANY_WORDS, TINY_FAMILIES, make_family

LORA = {"lora_rank": 2, "lora_targets": "auto", "learning_rate": 3e-2}
APPROACHES: dict[str, dict[str, Any]] = {
    "contrastive": {},
    "whole corpus": {"approach": "corpus"},
    "mini-batches": {"mini_batch_size": 2},
    "hard negatives": {"hard_negatives": 2},
    "LoRA": LORA,
    "QLoRA": LORA | {"quantize": "nf4"},
    "Matryoshka": {"matryoshka": "auto"},
    "prompts": {"query_prompt": "w3 w4 : ", "document_prompt": "w6 "},
    "max_length": {"max_length": 24},
    "layers": {"layers": 2},
    "distilled": {"approach": "distill"},
}
RATES = {"static": 5e-2, "router": 4e-2}  # tables of words learn slowly
COLUMNS = ["evaluate", *APPROACHES, "ONNX"]
README = Path(__file__).parents[1] / "README.md"
START, END = "<!-- matrix -->\n", "<!-- end of matrix -->"
EQUAL, TRAINED, MOVED = 1e-4, 3e-3, 0.01  # unit vectors, each number
KINDS = ("query", "document")


def make_domain() -> Domain:
    """36 texts of 1 to 130 words, a window being 96 tokens; a query has words of its text."""
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(1, 9, size=12), *rng.integers(9, 60, size=16), *[90, 100, 130] * 2]
    texts = [" ".join(rng.choice(MANY_WORDS, size=n)) for n in rng.permutation(lengths)]
    corpus = {f"d{i}": text for i, text in enumerate(texts)}
    queries, qrels = {}, {"train": {}, "dev": {}, "test": {}}
    for i, text in enumerate(texts):
        split = ("train", "train", "dev", "test")[i % 4]
        queries[f"q{i}"] = " ".join(rng.permutation(text.split())[:6])
        qrels[split][f"q{i}"] = {f"d{i}": 1}
    return Domain("matrix", "smoke", corpus, queries, qrels, ("test",))


def row(name: str, folder: Path) -> dict[str, str]:
    """Approach -> "equal", or "refused" with the error's first line.

    Args:
        name: a family, of ``TINY_FAMILIES``.
        folder: where models, runs and scripts are written.
    """
    from embkit.recipes.recipe import Recipe

    domain = make_domain()
    make_family(name, folder)
    base = Recipe(model=str(folder / "model"), epochs=2, batch_size=6, dropout=0.0, seed=1)
    base = base.replace(learning_rate=RATES.get(name, 5e-3))
    found = {"evaluate": _cell(_evaluated, base.model, domain)}
    for label, changes in APPROACHES.items():
        if changes.get("approach") == "distill":
            make_family("minilm", folder / "teacher")
            changes = changes | {"teacher": str(folder / "teacher" / "model")}
        found[label] = _cell(_trained, base, changes, domain, folder / label)
    found["ONNX"] = _cell(_exported, base.model, folder / "onnx")
    return found


def _cell(check: Any, *given: Any) -> str:
    try:
        check(*given)
    except EmbkitError as error:
        return f"refused: {str(error).splitlines()[0]}"
    return "equal"


def _vectors(model: Any, texts: list[str]) -> list[np.ndarray]:
    """What sentence-transformers itself gives, for queries and for documents."""
    calls = [getattr(model, f"encode_{kind}") for kind in KINDS]
    return [call(texts, normalize_embeddings=True, show_progress_bar=False) for call in calls]


def _same(what: Any, wanted: list[np.ndarray], texts: list[str], within: float = EQUAL) -> None:
    from embkit.models.encoding import encode_as

    for kind, vectors in zip(KINDS, wanted, strict=True):
        found = encode_as(what, texts, kind, cache=False)
        np.testing.assert_allclose(found, vectors, atol=within)


def _evaluated(model: str, domain: Domain) -> None:
    """embkit's nDCG@10 is that of the library's vectors and evaluator."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    from embkit import evaluate, load_model

    plain = SentenceTransformer(model, device="cpu")
    texts = list(domain.corpus.values())
    _same(load_model(model), _vectors(plain, texts), texts)
    judged = domain.qrels["test"]
    evaluator = InformationRetrievalEvaluator(
        {query: domain.queries[query] for query in judged},
        domain.corpus,
        {query: set(documents) for query, documents in judged.items()},
        ndcg_at_k=[10],
        write_csv=False,
    )
    wanted = evaluator(plain)[f"{evaluator.primary_metric.split('_')[0]}_ndcg@10"]
    assert abs(evaluate(model, domain, save=False).mean("test") - wanted) < 1e-6


def _trained(base: Any, changes: dict[str, Any], domain: Domain, folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from embkit.training.trainer import train

    recipe = base.replace(**changes)
    run = train(recipe, domain, quiet=True)
    texts = list(domain.corpus.values())
    plain = SentenceTransformer(str(run.path / "model"), device="cpu")
    mine = _vectors(plain, texts)
    _same(run.model(), mine, texts)
    # the script, in sentence-transformers' own words
    source = recipe.to_script()
    assert "embkit" not in source
    folder.mkdir()
    (folder / "script.py").write_text(source)
    files = [run.path / name for name in ("documents.jsonl", "teacher.npz")]
    given = [run.path / "pairs.jsonl", recipe.model, folder / "out", *filter(Path.is_file, files)]
    with mock.patch.object(sys, "argv", ["script.py", *map(str, given)]), _quiet():
        runpy.run_path(str(folder / "script.py"), run_name="__main__")
    theirs = SentenceTransformer(str(folder / "out"), device="cpu")
    assert theirs.prompts == plain.prompts and theirs.max_seq_length == plain.max_seq_length
    start = _vectors(SentenceTransformer(recipe.model, device="cpu"), texts)
    for trained, other, before in zip(mine, _vectors(theirs, texts), start, strict=True):
        np.testing.assert_allclose(trained, other, atol=TRAINED)
        assert np.abs(trained - before).max() > MOVED  # equality means something


def _exported(model: str, folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from embkit.export.onnx import OnnxModel, export_onnx

    export_onnx(model, folder)
    texts = list(make_domain().corpus.values())
    wanted = _vectors(SentenceTransformer(model, device="cpu"), texts)
    _same(OnnxModel(folder, int8=False), wanted, texts)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def table(rows: dict[str, dict[str, str]]) -> str:
    """The matrix in Markdown: = is equal, a number a note below with the words of a refusal."""
    notes: dict[str, int] = {}
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, cells in rows.items():
        marks = []
        for column in COLUMNS:
            said = re.sub(r"/\S*/", "…/", cells[column]).removeprefix("refused: ")
            marks.append("=" if said == "equal" else f"({notes.setdefault(said, len(notes) + 1)})")
        lines.append(f"| {name} | {' | '.join(marks)} |")
    return "\n".join([*lines, "", *(f"({n}) {said}  " for said, n in notes.items()), ""])


def main() -> int:
    """Runs every family and writes the table into tests/README.md."""
    rows = {}
    for name in TINY_FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"EMBKIT_RUNS": f"{folder}/runs", "EMBKIT_CACHE": f"{folder}/cache"}
            rows[name] = row(name, Path(folder))
        print(name, rows[name], file=sys.stderr)
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    README.write_text(before + START + table(rows) + END + rest.split(END)[1], encoding="utf-8")
    return 0


if __name__ == "__main__":
    os.environ |= {"EMBKIT_PROFILE": "smoke", "EMBKIT_PRECISION": "fp32", "EMBKIT_DEVICE": "cpu"}
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    sys.exit(main())
