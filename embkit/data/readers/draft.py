"""What rows add up to before they are a Domain, how it is put in order, and what is said of it."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...display import Table, some_of
from ...session import paths, shown
from ..domain import Domain, earlier_results, normalise
from .rows import Quarantine, Row, causes_of

Judged = dict[str, int]  # document id -> grade
Split = dict[str, Judged]  # query id -> what is judged

WHOLE = ""  # the split of rows for which none was given
NO_ANSWER = "query without a right document"


@dataclass
class Material:
    """Texts and judgements as they were read; ``settle`` makes a Domain's checks hold."""

    bad: Quarantine
    given: Mapping[str, Any] | None = None  # role -> column, if it was said
    corpus: dict[str, str] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    qrels: dict[str, Split] = field(default_factory=dict)
    negatives: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    groups: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    where: dict[str, tuple[str, int]] = field(default_factory=dict)  # of each query: file, line
    notes: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)  # role -> the column that plays it
    about: dict[str, str] = field(default_factory=dict)
    tests: list[str] = field(default_factory=list)  # the order of the test splits, if it is known
    held_out: str | None = None  # the test split whose groups training must not know
    ranked: bool = False  # whether the order of negatives was given, and stays
    merged: int = 0  # rows that say again what an earlier one said
    alike: int = 0  # texts that differ from an earlier one in case or spaces alone
    # (split, query) -> its right documents that the corpus lacks
    missing: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def judge(
        self, split: str, query: str, document: str, grade: int, row: Row, zeros: bool = True
    ) -> None:
        """Adds a judgement, a row's; of several grades the first stays. With ``zeros`` a grade of 0
        makes the document one of the query's negatives."""
        judged = self.qrels.setdefault(split, {}).setdefault(query, {})
        if judged.setdefault(document, grade) != grade:
            self.bad.add("pair with two different scores", row, f"{grade} after another")
        elif zeros and not grade:
            self.negatives[query][document] = None

    def settle(self) -> None:
        """Puts in order what a Domain does not allow; everything dropped is put aside.

        The same question twice in a split becomes one query. A query without a right document
        goes. A question of several splits stays where it is needed most: test, then dev.
        """
        merged = {query for qrels in self.qrels.values() for query in self._merge(qrels)}
        named = set(merged)  # merged, or put aside already

        def drop(cause: str, query: str, split: str, detail: str) -> None:
            del self.qrels[split][query]
            named.add(query)
            self._aside(cause, query, detail)

        for split, qrels in self.qrels.items():
            for query in [q for q, judged in qrels.items() if max(judged.values(), default=0) < 1]:
                drop(NO_ANSWER, query, split, split)
        owner: dict[str, str] = {}
        for split in sorted(self.qrels, key=lambda split: {"train": 2, "dev": 1}.get(split, 0)):
            for query in list(self.qrels[split]):
                first = owner.setdefault(normalise(self.queries[query]), split)
                if first != split:
                    detail = f"kept in {first}, dropped from {split}"
                    drop("query text that another split asks too", query, split, detail)
        self.qrels = {split: qrels for split, qrels in self.qrels.items() if qrels}
        asked = {query for qrels in self.qrels.values() for query in qrels}
        for query in [q for q in self.queries if q not in asked and q not in named]:
            self._aside(NO_ANSWER, query, "no judgement names it")
        self.queries = {query: text for query, text in self.queries.items() if query in asked}
        if merged:
            told = "queries that ask the same as another of their split were merged with it"
            self.notes.append(f"{len(merged):,} {told}")

    def _merge(self, qrels: Split) -> list[str]:
        """Moves the judgements of a repeated question to its first query."""
        first: dict[str, str] = {}
        again = []
        for query in list(qrels):
            kept = first.setdefault(normalise(self.queries[query]), query)
            if kept != query:
                again.append(query)
                for document, grade in qrels.pop(query).items():
                    qrels[kept][document] = max(grade, qrels[kept].get(document, grade))
                self.negatives[kept] |= self.negatives.pop(query, {})
        return again

    def _aside(self, cause: str, query: str, detail: str) -> None:
        file, line = self.where.get(query, ("queries", 0))
        raw = {"_id": query, "text": self.queries[query]}
        self.bad.add(cause, Row(file, line, {}, raw), detail)

    def wrong(self) -> dict[str, tuple[str, ...]]:
        """Query -> the documents marked as wrong, without those that are right after all."""
        found, right = {}, 0
        every = itertools.chain(*(qrels.items() for qrels in self.qrels.values()))
        for query, judged in every:
            marked = self.negatives.get(query, {})
            documents = [d for d in marked if judged.get(d, 0) < 1]
            right += len(marked) - len(documents)
            if documents:
                found[query] = tuple(documents if self.ranked else sorted(documents))
        if right:
            self.notes.append(f"{right:,} negatives are right documents of the query: left out")
        return found


@dataclass(frozen=True, repr=False)
class LoadReport:
    """How data of your own became a domain; shows itself as a table."""

    source: str  # where it was read from
    layout: str  # as what it was read
    rows: Mapping[str, int]  # file -> rows read
    splits: tuple[str, ...]  # how train, dev and test came to be
    columns: Mapping[str, str]  # role -> the column that plays it, for pairs
    quarantined: Mapping[str, int]  # cause -> rows put aside
    examples: tuple[Mapping[str, Any], ...]  # a few of them: file, line, reason, raw
    quarantine: Path | None  # the file with all of them; None where there is none
    notes: tuple[str, ...]  # what is odd and was kept
    earlier: str  # which results lie in the store, of the same name and other content
    missing: Mapping[str, int] = field(default_factory=dict)  # split -> ``Domain.missing_judged``

    @property
    def put_aside(self) -> str:
        """How many rows were put aside, by cause."""
        if not (total := sum(self.quarantined.values())):
            return "nothing: every row was used"
        return f"{total:,} of {sum(self.rows.values()):,} rows: {causes_of(self.quarantined)}"

    def facts(self) -> list[tuple[str, str]]:
        """The table's rows: (what, value)."""
        found = {
            "read from": f"{self.source} ({self.layout})",
            "rows": ", ".join(f"{file} {n:,}" for file, n in self.rows.items()),
            "columns": ", ".join(f"{role}: {name}" for role, name in self.columns.items()),
            "splits": "; ".join(self.splits),
            "put aside": self.put_aside,
            "they lie in": shown(self.quarantine) if self.quarantine else "",
            "earlier results": self.earlier,
        }
        return [(k, v) for k, v in found.items() if v] + [("note", note) for note in self.notes]

    def _repr_html_(self) -> str:
        facts = Table(["", ""], self.facts()).to_html()
        keys = {"file": "file", "line": "line", "reason": "why put aside", "raw": "as it stood"}
        bad = [[str(row[key])[:120] for key in keys] for row in self.examples]
        return facts + (Table([*keys.values()], bad).to_html() if bad else "")

    def __repr__(self) -> str:
        return Table(["", ""], self.facts()).to_text()


def reported(domain: Domain, material: Material, file: str, **said: Any) -> Domain:
    """The domain with its report, which its card repeats; the bad rows are written down."""
    bad = material.bad
    notes = [*bad.said, *material.notes]
    # right documents that the corpus lacks, by the split in which their query is now
    placed = {query: split for split, judged in domain.qrels.items() for query in judged}
    lacking: Counter[str] = Counter()
    for (split, query), documents in material.missing.items():
        lacking[placed.get(query, split)] += len(documents)
    missing = {split: lacking[split] for split in domain.qrels if lacking[split]}
    for split, n in missing.items():
        told = some_of(n, f"judged document of {split} is", f"judged documents of {split} are")
        notes.append(f"{told} not in the corpus: not comparable with published figures")
    if own := len(domain.own):
        notes.append(
            f"{own:,} queries are documents too, under the same id: a query's own document is "
            "left out of its ranking, as BEIR's own script does"
        )
    said |= {"rows": dict(bad.rows), "columns": material.columns, "notes": tuple(notes)}
    said |= {"quarantined": dict(bad.causes.most_common()), "examples": tuple(bad.examples)}
    said |= {"quarantine": bad.save(quarantine_file(file)), "earlier": earlier_results(domain)}
    report = LoadReport(missing=missing, **said)
    facts = {"columns": "", **dict(report.facts())}
    kept = {name: facts[name] for name in ("columns", "splits")}
    kept |= {"quarantine": report.put_aside, "notes": "; ".join(notes)}
    object.__setattr__(domain, "report", report)  # its file may be named by the domain's hash
    object.__setattr__(domain, "about", {**domain.about, **kept})
    return domain


def quarantine_file(name: str) -> Path:
    """Where bad rows are written down."""
    return paths().runs / "quarantine" / f"{name}.jsonl"
