"""The table of every approach with three seeds, from the scores that ``make approaches`` kept.

``python -m tests.benchmarks.kept_table --write`` puts it into data/results.md; nothing is trained.
"""

import argparse
import json
import sys

from embkit.data import load_domain
from embkit.evaluation.kept import results, results_folder
from embkit.evaluation.report import compare
from embkit.session import paths

COLUMNS = (("known", None), ("known", "never_positive"), ("novel", None), ("lay", None))


def into_results(name, table):
    """Puts a table into data/results.md, between the two comments that bear its name."""
    path, start, end = paths().root / "data" / "results.md", f"<!-- {name} -->", f"<!-- /{name} -->"
    before, rest = path.read_text(encoding="utf-8").split(start)
    path.write_text(f"{before}{start}\n{table}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def cell(row, bold):
    """Mean, and against the baseline: the difference, its interval, Holm's p."""
    if row is None or row["ndcg@10"] is None:
        return ""
    told = f"{row['ndcg@10']:.3f}"
    if row["p_holm"] is None:
        return told
    low, high = row["delta_vs_base_ci"]
    p = "p < 0.001" if row["p_holm"] < 0.001 else f"p = {row['p_holm']:.3f}"
    change = f"{row['delta_vs_base']:+.3f} [{low:+.3f}, {high:+.3f}], {p}"
    return f"{told}, **{change}**" if bold and row["p_holm"] < 0.05 else f"{told}, {change}"


def lines(baseline="contrastive"):
    """The table in Markdown: one row an approach, the best on dev first."""
    domain = load_domain("icd10cm", profile="workshop")
    kept = results(domain)
    rows = compare(list(kept.values()), baseline=baseline).rows
    found = {(row["label"], row["split"], row["subset"]): row for row in rows}
    dev = {name: dev_of(one) for name, one in kept.items()}
    rates = {}
    for path in sorted(results_folder(domain).glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        rates[data["label"]] = (data["recipe"] or {}).get("learning_rate"), data["seeds"]
    yield "| | seeds | rate | dev | known | known, never positive | novel | lay |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name in sorted(kept, key=lambda name: -dev[name]):
        rate, seeds = rates[name]
        cells = [cell(found.get((name, *column)), bold=True) for column in COLUMNS]
        rate = f"{rate:g}" if rate else ""
        count = len([seed for seed in seeds if seed is not None]) or ""
        yield f"| {name} | {count} | {rate} | {dev[name]:.3f} | {' | '.join(cells)} |"


def dev_of(one):
    """nDCG@10 on dev, in the whole corpus, mean over the seeds."""
    runs = one.runs or (one,)
    return sum(sum(run.dev.values()) / len(run.dev) for run in runs) / len(runs)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baseline", default="contrastive")
    parser.add_argument("--write", action="store_true", help="into data/results.md")
    chosen = parser.parse_args(arguments)
    table = "\n".join(lines(chosen.baseline))
    if not chosen.write:
        sys.stdout.write(table + "\n")
        return
    into_results("three seeds", table)


if __name__ == "__main__":
    main()
