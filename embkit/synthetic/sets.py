"""Sets of written queries: which documents may be asked about, what each filter throws out, the
files, and their cards."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.domain import SHOWN, Domain
from ..data.text_checks import jaccard, words
from ..display import Table, facts, table
from ..files import filled, told_by, write_atomic, write_lines
from ..search.passages import Passages, index_of
from ..session import paths
from .backends import Backend, refused
from .generation import Generated, Row, examples, generate
from .prompts import PROMPTS, plain

_TOLD = told_by(__file__, "sets.toml")
RULES, HEADING, ASKING = _TOLD["rules"], _TOLD["heading"], set(_TOLD["asking"].split())
COPY = 0.8  # Jaccard similarity of a query's words and its document's: a copy from here on
MADE = "<!-- a generated set: made by embkit, may be made again -->"
PASSING = ("from the cache", "prompts sent", "left")  # counts that depend on what the cache held


@dataclass(frozen=True, repr=False)
class Filtered:
    """Written queries after the filters: what is kept, and what each rule removed and why."""

    generated: Generated  # what was filtered
    rows: tuple[Row, ...]  # what is kept
    removed: Mapping[str, tuple[tuple[Row, str], ...]]  # rule -> rows and why, in the rules' order
    settings: Mapping[str, Any]  # the rules' bounds

    def __len__(self) -> int:
        return len(self.rows)

    def table(self) -> Table:
        """What each rule removes, how many, their share of what reached it, how many are left."""
        cells, left = [], len(self.generated.rows)
        for rule, removed in self.removed.items():
            share = len(removed) / max(1, left)
            left -= len(removed)
            cells.append(
                [rule, RULES.get(rule, HEADING), f"{len(removed):,}", f"{share:.1%}", f"{left:,}"]
            )
        return Table(["filter", "removes a query that is", "removed", "share", "left"], cells)

    def removed_examples(self, n: int) -> Table:
        """A few rows that each rule removed, and why."""
        cells = [
            [rule, row.query[:SHOWN], self.generated.texts[row.document][:SHOWN], why]
            for rule, found in self.removed.items()
            for row, why in random.Random(0).sample(found, min(n, len(found)))
        ]
        return Table(["filter", "query", "document", "why"], cells)

    def _kept(self) -> str:
        return f"{len(self.rows):,} of {len(self.generated.rows):,} queries kept"

    def __repr__(self) -> str:
        return f"Filtered({self._kept()})\n{self.table().to_text()}"

    def _repr_html_(self) -> str:
        return (
            replace(self.table(), caption=self._kept()).to_html()
            + examples(self.rows, self.generated.texts, 5, "kept").to_html()
            + replace(self.removed_examples(3), caption="removed").to_html()
        )


def filter_generated(
    generated: Generated,
    domain: Domain | Mapping[str, str],
    *,
    retriever: Any = "minilm",
    top_k: int = 10,
    headings: Callable[[Row], str] | None = None,
) -> Filtered:
    """Throws out what is no use, by ``RULES`` in their order, and keeps what each rule threw out.

    Args:
        domain: or its documents alone, where nothing is asked of them yet.
        retriever: of the round trip: a SentenceTransformer, its name, ``"bm25"``, ``Passages``, a
            function ``list[str] -> (texts, dim)``, or None to leave the rule out.
        top_k: among so many documents it must find a query's own.
        headings: what stands above the part of a document that a query was written for; a query
            without another word than these is thrown out.

    Fails for a document that the domain does not have, and for a ``top_k`` below 1.
    Paper: Dai and others, Promptagator, 2022 (round-trip filter).
    """
    corpus = domain if isinstance(domain, Mapping) else domain.corpus
    if top_k < 1:
        raise refused("top_k", top_k=top_k)
    if foreign := [r.document for r in generated.rows if r.document not in corpus]:
        raise refused("foreign", n=len(foreign), some=foreign[:3])
    asked, first = dict[str, str](), dict[str, str]()
    if not isinstance(domain, Mapping):
        asked = _known(domain, (split for split in domain.qrels if split != "train"))
        first = _known(domain, ["train"])
    # the rules: each gives a reason, or None, for every row that reaches it
    settings: dict[str, Any] = {"copy_overlap": COPY}
    steps: dict[str, Callable[[list[Row]], list[str | None]]] = {
        "test query": lambda rows: [asked.get(plain(row.query)) for row in rows],
        "duplicate": lambda rows: _seen(rows, first),
        "copy": lambda rows: [_copied(r.query, corpus[r.document]) for r in rows],
    }
    if headings is not None:
        steps["heading"] = lambda rows: [_headed(r.query, headings(r)) for r in rows]
    if retriever is not None:
        name = retriever if isinstance(retriever, str) else type(retriever).__name__
        name = retriever.told if isinstance(retriever, Passages) else name
        settings |= {"retriever": name, "top_k": top_k, "documents searched": len(corpus)}
        steps["round trip"] = lambda rows: _lost(rows, corpus, retriever, top_k)
    rows, removed = list(generated.rows), {}
    for rule, check in steps.items():
        told = list(zip(rows, check(rows) if rows else (), strict=True))
        removed[rule] = tuple((row, why) for row, why in told if why)
        rows = [row for row, why in told if not why]
    return Filtered(generated, tuple(rows), removed, settings)


def _known(domain: Domain, splits: Iterable[str]) -> dict[str, str]:
    """The queries that these splits judge, in plain form, and where each stands."""
    judged = ((domain.queries[query], split) for split in splits for query in domain.qrels[split])
    return {plain(text): f"a query of {split!r}" for text, split in judged}


def _seen(rows: list[Row], first: dict[str, str]) -> list[str | None]:
    reasons: list[str | None] = []
    for row in rows:
        text = plain(row.query)
        reasons.append(first.get(text))
        first.setdefault(text, f"already written for {row.document} ({row.kind})")
    return reasons


def _copied(query: str, document: str) -> str | None:
    share = jaccard(set(words(query)), set(words(document)))
    return f"{share:.0%} of their words are the same" if share >= COPY else None


def _headed(query: str, heading: str) -> str | None:
    asks = set(words(query)) - ASKING - set(words(heading))
    return None if asks or not heading else f"no word that is not in {heading[:60]!r}"


def _lost(
    rows: list[Row], corpus: Mapping[str, str], retriever: Any, top_k: int
) -> list[str | None]:
    ids, texts = list(corpus), list(corpus.values())
    found, _ = index_of(retriever, texts).search([row.query for row in rows], top_k)
    reasons: list[str | None] = []
    for row, places in zip(rows, np.asarray(found), strict=True):
        own, places = plain(corpus[row.document]), places[places >= 0]
        hit = any(ids[i] == row.document or plain(texts[i]) == own for i in places)
        why = "no document shares a word with it"
        if len(places):
            why = f"not among the first {len(places)}; its first is {texts[places[0]][:60]!r}"
        reasons.append(None if hit else why)
    return reasons


def eligible_documents(domain: Domain) -> dict[str, str]:
    """The documents that queries may be written for, id -> text: not those of a group held out for
    testing, nor of one that only ``dev`` asks about: it stands for what training does not know."""
    asked_in_dev = {domain.groups.get(document) for _, document in domain.right("dev")}
    trained = {domain.groups.get(document) for document in domain.trained_documents}
    kept_out = domain.tested_groups | (asked_in_dev - trained - {None})
    return {d: text for d, text in domain.corpus.items() if domain.groups.get(d) not in kept_out}


def write_set(
    result: Generated | Filtered, domain: Domain, name: str, *, command: str | None = None
) -> Path:
    """Writes ``data/<domain>/<name>.jsonl`` and its card ``<name>.md``; returns the first.

    Without a clone they lie in ``runs/sets/<domain>/``. The name is what ``Recipe(pairs=...)``
    calls the set; ``command``, what makes it again.

    The lines are those that ``read_set`` reads: what was removed is there too, with the rule.
    Fails where nothing is kept, for a document held out for testing, and for a set of that name
    that was made in another way.
    """
    found = result if isinstance(result, Filtered) else Filtered(result, result.rows, {}, {})
    generated = found.generated
    if not re.fullmatch(r"[\w-]{1,60}", name) or name == "human":
        raise refused("name", name=name)
    if held := {r.document for r in generated.rows} - eligible_documents(domain).keys():
        raise refused("held out", n=len(held), some=sorted(held)[:3])
    if not found.rows:
        told = [f"{rule!r} removed {len(rows):,}" for rule, rows in found.removed.items() if rows]
        why = ", ".join(told or generated.reasons()) or "nothing was written"
        raise refused("empty", why=why)
    where, folder = paths(), paths().written / domain.name
    target, beside = folder / f"{name}.jsonl", folder / f"{name}.md"
    there, card = (where.data_file(domain.name, path.name) for path in (target, beside))
    if there.exists() and not (card.exists() and MADE in card.read_text(encoding="utf-8")):
        raise refused("made otherwise", domain=domain.name, name=name)
    by = {row: rule for rule, rows in found.removed.items() for row, _ in rows}
    lines = []
    for row in generated.rows:
        line: dict[str, Any] = {"query": row.query, "document": row.document, "kind": row.kind}
        line |= {"kept": row not in by, "removed_by": by.get(row)}
        lines.append(line)
    written = _card(found, domain, name, command)
    write_lines(target, lines)
    write_atomic(beside, written)
    return target


def make_set(
    domain: Domain,
    backend: Backend,
    *,
    limit: int,
    seed: int = 42,
    name: str | None = None,
    per_document: int = 1,
    **options: Any,
) -> tuple[Path, Filtered]:
    """Generates, filters and writes a domain's set of queries, which ``Recipe(pairs=name)`` reads.

    The prompt is the domain's own in ``PROMPTS``, else the general one; the default name is the
    model's; the options are those of ``generate``, such as ``budget``. Fails as the three do, and
    where something was left unasked: the same call goes on.
    """
    options |= {"limit": limit, "seed": seed, "per_document": per_document}
    prompt = PROMPTS.get(domain.name, PROMPTS["general"])
    generated = generate(eligible_documents(domain), backend, prompt, **options)
    if left := generated.counts["left"]:
        raise refused("left", stopped=generated.stopped, done=len(generated.rows), left=left)
    filtered = filter_generated(generated, domain)
    label = re.sub(r"[^\w-]+", "-", name or backend.name.split(" ")[0]).strip("-")
    command = f"python -m embkit generate {domain.name} --limit {limit}"
    command += f" --profile {domain.profile}" * (domain.profile != "workshop")
    command += f" --seed {seed}" * (seed != 42) + f" --name {label}" * (name is not None)
    command += f" --per-document {per_document}" * (per_document != 1)
    return write_set(filtered, domain, label, command=command), filtered


def _card(filtered: Filtered, domain: Domain, name: str, command: str | None) -> str:
    """A set's card in Markdown."""
    generated = filtered.generated
    settings = {
        "model": generated.backend,
        "prompt": f"{generated.prompt.name}, content {generated.prompt.hash}",
        **{what: json.dumps(value) for what, value in generated.settings.items()},
        "domain": f"{domain.name}, profile {domain.profile}, content {domain.hash}",
        **{f"filter: {k}": v for k, v in filtered.settings.items()},
    }
    counts = {what: n for what, n in generated.counted().items() if what not in PASSING}
    documents = len({row.document for row in filtered.rows})
    counts["kept"] = f"{len(filtered.rows):,} queries for {documents:,} documents"
    kept = Counter(row.kind for row in filtered.rows)
    kinds = [
        {"kind": k, "written": f"{n:,}", "kept": f"{kept[k]:,}", "share": f"{kept[k] / n:.0%}"}
        for k, n in Counter(row.kind for row in generated.rows).items()
    ]
    prompts = {row["kind"]: generated.prompt.render("{document}", row["kind"]) for row in kinds}
    ticks = {kind: re.findall("`+", text) for kind, text in prompts.items()}
    return filled(
        Path(__file__).with_name("card.jinja"),
        title=f"{domain.name}/{name}",
        name=name,
        mark=MADE,
        command=command or "ek.synthetic.write_set",
        settings=facts(settings),
        counts=facts(counts),
        kinds=table(kinds),
        filtered=filtered,
        kept=examples(filtered.rows, generated.texts, 12),
        prompts=prompts,
        fences={kind: "`" * max([3, *(len(x) + 1 for x in ticks[kind])]) for kind in prompts},
    )
