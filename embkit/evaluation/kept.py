"""Scores of several seeds, kept beside a domain's data: small files that a repository can hold."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Domain
from ..files import readable, write_atomic
from ..session import environment, paths
from .intervals import CLUSTERS, clusters
from .scores import Scores, by_query, over_seeds

METRIC = "ndcg@10"
_NAMES = ("approach", "base_model", "recipe_hash")


def results_folder(domain: Domain) -> Path:
    """``data/NAME/results/``, by profile: what was measured there is the same for everyone."""
    return paths().data / domain.name / "results" / domain.profile


def keep(scores: Scores, domain: Domain, recipe: Mapping[str, Any] | None = None) -> Path:
    """Writes nDCG@10 of each query and seed (four decimals), with recipe and versions.

    ``results`` reads them again. Fails for scores of another domain.
    """
    scores.check_domain(domain.name, domain.hash)
    runs = scores.runs or (scores,)

    def written(values: Sequence[Sequence[float]]) -> list[list[float]]:
        return np.round(np.array(values, dtype=float), 4).tolist()

    data = {"format": 1, "label": scores.label, "domain": domain.name, "domain_hash": domain.hash}
    data |= {name: getattr(scores, name) for name in _NAMES} | {"recipe": recipe}
    data |= {"seeds": [run.meta.get("seed") for run in runs]}
    data |= {"versions": environment()["versions"]}
    told = ("trainable_params", "total_params", "train_seconds", "learning_rate", "dim")
    data["meta"] = {name: scores.meta[name] for name in told if name in scores.meta}
    data[METRIC] = {
        split: written([run.values(split).loc[sorted(domain.split(split))] for run in runs])
        for split in scores.per_query
    }
    asked = sorted(scores.dev)
    data["dev"] = written([[run.dev[query] for query in asked] for run in runs])
    name = "".join(c if c.isalnum() else "-" for c in scores.label).strip("-")
    return write_atomic(results_folder(domain) / f"{name}.json", json.dumps(data) + "\n")


def results(domain: Domain) -> dict[str, Scores]:
    """What ``keep`` wrote for a domain, label → scores over its seeds; empty where nothing is.
    Fails for a file that is cut off, or of another content of that domain."""
    found = (_read(file, domain) for file in sorted(results_folder(domain).glob("*.json")))
    return {scores.label: scores for scores in found}


def _read(file: Path, domain: Domain) -> Scores:
    broken = (OSError, ValueError, KeyError, TypeError, IndexError)
    with readable(file, *broken, hint="make approaches, or delete the file"):
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["domain_hash"] != domain.hash:
            raise ValueError(f"made on content {data['domain_hash']}, this is {domain.hash}")
        asked, runs = sorted(domain.split("dev")), []
        for number, seed in enumerate(data["seeds"]):
            per_query = {}
            for split, values in data[METRIC].items():
                per_query[split] = by_query({METRIC: values[number]}, sorted(domain.split(split)))
                per_query[split].attrs[CLUSTERS] = clusters(domain, split)
            dev = dict(zip(asked, data["dev"][number], strict=True)) if data["dev"][0] else {}
            meta = data["meta"] | {"label": data["label"], "seed": seed}
            named = {name: data[name] for name in _NAMES}
            subsets = {s: parts for s, parts in domain.subsets().items() if s in per_query}
            named |= {"domain": domain.name, "domain_hash": domain.hash, "subsets": subsets}
            runs.append(Scores(per_query=per_query, meta=meta, dev=dev, **named))
        return over_seeds(runs)
