"""How fast, how small and how true the forms are in which a model can be served from a processor.

``python -m tests.benchmarks.served`` exports minilm and measures each form, in turns, in one run:
texts a second for short texts and for long ones, the file, and what the form changes in nDCG@10 on
dev. ``--write`` puts the table into data/results.md.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import embkit as ek
from embkit.data import load_domain
from embkit.evaluation.report import compare, with_interval
from embkit.export.onnx import FLOAT, INT8, OnnxModel, export_onnx
from tests.benchmarks.kept_table import into_results

TURNS, SHORT, LONG = 5, 3000, 200  # times each form is asked; texts
KINDS = {  # runtime, eight bits, the file it reads
    "ONNX, fp32": ("onnxruntime", False, FLOAT),
    "ONNX, int8": ("onnxruntime", True, INT8),
    "OpenVINO, fp32": ("openvino", False, FLOAT),
    "OpenVINO, int8 weights": ("openvino", True, FLOAT),
}


def rates(forms, texts):
    """Texts a second of each form, the best of some turns: other work only ever slows one down."""
    best = dict.fromkeys(forms, 0.0)
    for _ in range(TURNS):
        for name, form in forms.items():
            start = time.perf_counter()
            form(texts)
            best[name] = max(best[name], len(texts) / (time.perf_counter() - start))
    return best


def lines():
    domain, long = load_domain("icd10cm"), load_domain("docstrings", profile="smoke")
    engine = ek.load_model("minilm")
    with tempfile.TemporaryDirectory() as name:
        folder = export_onnx(engine, Path(name) / "onnx")
        forms = {"the engine": lambda texts: ek.encode(engine, texts, cache=False)}
        served = {n: OnnxModel(folder, int8=i, runtime=r) for n, (r, i, _) in KINDS.items()}
        sizes = {name: (folder / file).stat().st_size / 1e6 for name, (*_, file) in KINDS.items()}
        short = rates(forms | served, list(domain.corpus.values())[:SHORT])
        whole = rates(forms | served, list(long.corpus.values())[:LONG])
        options = {"splits": ["dev"], "save": False}
        scored = [ek.evaluate(f, domain, name=n, **options) for n, f in served.items()]
        scored.append(ek.evaluate(engine, domain, name="the engine", **options))
    rows = {row["label"]: row for row in compare(scored, baseline="the engine").rows}
    yield "| | titles a second | times | long texts a second | times | MB | nDCG@10, dev |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    for name in short:
        times = [found[name] / found["the engine"] for found in (short, whole)]
        told = [f"{short[name]:.0f}", f"{times[0]:.2f}", f"{whole[name]:.0f}", f"{times[1]:.2f}"]
        row = rows[name]
        change = with_interval(row["delta_vs_base"], row["delta_vs_base_ci"], "+.4f")
        told += [f"{sizes[name]:.0f}" if name in sizes else "", change or f"{row['ndcg@10']:.3f}"]
        yield f"| {name} | {' | '.join(told)} |"
    words = np.mean([len(text.split()) for text in list(long.corpus.values())[:LONG]])
    yield f"\nTitles of `icd10cm`; long texts: {LONG} docstrings of {words:.0f} words on average."


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into data/results.md")
    table = "\n".join(lines())
    if parser.parse_args(arguments).write:
        into_results("served", table)
    sys.stdout.write(table + "\n")


if __name__ == "__main__":
    main()
