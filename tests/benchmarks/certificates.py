"""What ``certify`` says of a packaged model that is served well, and with each fault planted.

``python -m tests.benchmarks.certificates`` prints the table; ``--write`` puts it into
data/results.md.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from embkit.data import load_domain
from embkit.export.certificates import certify
from embkit.export.onnx import export_onnx
from embkit.models.loading import load_model
from tests.benchmarks.kept_table import into_results
from tests.export.test_certificates import ASK, FAULTS, WELL

MODELS = ("minilm", "bge-small")


def served(model, folder):
    """Name -> what is served well, and with a fault."""
    yield from ((name, well(model)) for name, well in WELL.items())
    model.save_pretrained(str(folder / "plain"))
    export_onnx(model, folder / "onnx")
    yield "its sentence-transformers folder", folder / "plain"
    yield "ONNX, fp32", folder / "onnx" / "model.onnx"
    yield "ONNX, int8", folder / "onnx"
    yield from ((f"planted: {cause}", fault(model)) for cause, fault in FAULTS.items())


def lines(domain):
    yield "| served | " + " | ".join(MODELS) + " |"
    yield "|---|" + "---|" * len(MODELS)
    said = {}
    for name in MODELS:
        model = load_model(name)
        model.prompts = {"query": ASK, "document": ""}
        with tempfile.TemporaryDirectory() as folder:
            for what, function in served(model, Path(folder)):
                dev = domain if not what.startswith("planted") else None
                found = certify(model, function, dev)
                apart = max(found.apart.values())
                said.setdefault(what, []).append(f"{found.answer} ({apart:.0e})")
                sys.stderr.write(f"{name}, {what}: {found.answer}, {found.notes}\n")
    for what, cells in said.items():
        yield f"| {what} | {' | '.join(cells)} |"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="the table into data/results.md")
    chosen = parser.parse_args(arguments)
    table = "\n".join(lines(load_domain("docstrings", profile="smoke")))
    sys.stdout.write(table + "\n")
    if chosen.write:
        into_results("certificates", table)


if __name__ == "__main__":
    main()
