"""Domain: corpus, queries and qrels by split, checked when it is made."""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display import Table, facts, some_of
from ..errors import unknown
from ..session import paths, shown
from .images import data_url, is_picture
from .refusals import refused

if TYPE_CHECKING:
    from datasets import Dataset

SHOWN = 300  # characters of a text in a table
DEV_SAMPLE = "dev sample"  # dev's queries, searched in a part of the corpus
SAMPLED, WORDS = 2_000, 250_000  # documents of that part at most, and their words, about
Hidden = list[int] | None  # for each query the place that it must not see, or -1
Qrels = Mapping[str, Mapping[str, int]]  # query id -> document id -> grade, > 0 is relevant


@dataclass(frozen=True)
class Domain:
    """A retrieval task: which documents there are, what is asked, and what is right.

    Args:
        corpus, queries: id -> text.
        qrels: split -> query id -> document id -> grade; splits ``train``, ``dev`` and tests.
        test_splits: the splits that are reported and never choose anything.
        groups: document id -> group (a category, a file); no group of ``held_out``, a test
            split, is trained on.
        parents: document id -> its parent's id, where documents form a tree.
        negatives: query id -> documents that people marked as looking right and being wrong.
        searched: split -> the documents that its queries search; default: the whole corpus.
        about: facts for the card: source, terms, limits.
        report: of data of your own, how it was read: a ``LoadReport``.

    Fails for empty texts, ids that do not exist, a query in two splits, a leak.
    """

    name: str
    profile: str
    corpus: Mapping[str, str]
    queries: Mapping[str, str]
    qrels: Mapping[str, Qrels]
    test_splits: tuple[str, ...]
    groups: Mapping[str, str] = field(default_factory=dict)
    held_out: str | None = None
    parents: Mapping[str, str] = field(default_factory=dict)
    negatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    searched: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    report: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_texts(self)
        _check_ids(self)
        check_leakage(self)

    @cached_property
    def hash(self) -> str:
        """Content hash: the same texts, qrels, splits, groups and tree, the same 16 characters."""
        digest = hashlib.sha256()
        written = json.JSONEncoder(sort_keys=True, ensure_ascii=False).iterencode  # in pieces
        for name in ("corpus", "queries", "qrels", "test_splits", "negatives"):
            for text in itertools.chain(written(getattr(self, name)), ["\0"]):
                digest.update(text.encode())
        for name in ("parents", "groups", "held_out"):
            if part := getattr(self, name):
                for text in itertools.chain([name], written(part)):
                    digest.update(text.encode())
        if self.searched:
            digest.update(json.dumps({k: sorted(v) for k, v in self.searched.items()}).encode())
        if self.own:  # scores from before they were left out are others
            digest.update(b"own documents left out")
        return digest.hexdigest()[:16]

    def split(self, name: str) -> Qrels:
        """The qrels of one split; an error for a split that the domain does not have."""
        if name not in self.qrels:
            raise unknown("split", name, self.qrels)
        return self.qrels[name]

    def documents(self, split: str) -> list[str]:
        """The ids of the documents that a split's queries search."""
        self.split(split)
        return list(self.searched.get(split, self.corpus))

    @cached_property
    def own(self) -> frozenset[str]:
        """The ids that a query and its own document share, as in BEIR's ArguAna.

        It is the query's own where the text is the same too, a title before it aside: one that only
        bears the same number is another document. An own document that is judged right for its
        query counts as any other.
        """
        both = self.queries.keys() & self.corpus.keys()
        same = {q for q in both if _repeats(self.corpus[q], self.queries[q])}
        return frozenset(
            same.difference(q for split in self.qrels for q, d in self.right(split) if q == d)
        )

    def hidden(self, queries: Iterable[str], documents: Iterable[str]) -> Hidden:
        """For each query the place among the documents of its own one, which no search of it may
        find, -1 where it has none; None where none has one. All are ids."""
        places = {d: i for i, d in enumerate(documents) if d in self.own} if self.own else {}
        found = [places.get(query, -1) for query in queries] if places else []
        return found if max(found, default=-1) >= 0 else None

    @property
    def missing_judged(self) -> dict[str, int]:
        """Split -> right documents that the corpus was found to lack when it was read: without
        them in the ideal ranking, no figure of the split compares with a published one."""
        return dict(getattr(self.report, "missing", {}))

    def right(self, split: str) -> Iterator[tuple[str, str]]:
        """The ids of each query of a split with each of its right documents."""
        for query, judged in self.split(split).items():
            for document in right_documents(judged):
                yield query, document

    def direction(self, split: str) -> str | None:
        """``text_to_image`` or the like for a split with pictures, None for one of texts alone."""
        query, judged = next(iter(self.split(split).items()))
        sides = [is_picture(self.queries[query]), is_picture(self.corpus[next(iter(judged))])]
        return "_to_".join("image" if s else "text" for s in sides) if any(sides) else None

    def pairs(self) -> Dataset:
        """Training pairs as a ``datasets.Dataset`` with columns ``anchor`` and ``positive``."""
        from datasets import Dataset

        pairs = list(self.right("train"))
        anchors, positives = [self.queries[q] for q, _ in pairs], [self.corpus[d] for _, d in pairs]
        return Dataset.from_dict({"anchor": anchors, "positive": positives})

    @cached_property
    def trained_documents(self) -> frozenset[str]:
        """The documents that are a positive of some training query."""
        return frozenset(document for _, document in self.right("train"))

    @cached_property
    def tested_groups(self) -> frozenset[str]:
        """The groups that are held out for testing: no document of theirs may be trained on."""
        held_out = self.right(self.held_out) if self.held_out is not None else ()
        return frozenset(self.groups[d] for _, d in held_out if d in self.groups)

    def subset(self, split: str) -> tuple[str, ...]:
        """The subset ``never_positive``: no right document was ever a training positive.

        Adapters and frozen document towers can win on the other queries and lose on these.
        """
        met = {query for query, d in self.right(split) if d in self.trained_documents}
        return tuple(query for query in self.qrels[split] if query not in met)

    def subsets(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """The parts that are reported beside each test split, where they are a true part."""
        parts = {split: self.subset(split) for split in self.test_splits}
        return {
            split: {"never_positive": part} if 0 < len(part) < len(self.qrels[split]) else {}
            for split, part in parts.items()
        }

    def dev_corpus(self, limit: int | None = None) -> tuple[str, ...]:
        """Document ids to search while training: every right one of ``dev``, then a fixed sample.

        To choose an epoch, a smaller corpus is enough: its figure is the dev sample's, and higher
        than that of ``dev``, which searches the whole corpus, as test splits always do.
        """
        if "dev" in self.searched:
            return tuple(self.searched["dev"])
        right = {document for _, document in self.right("dev")}
        size = SAMPLED if limit is None else limit
        kept = sorted(right) + shuffled(set(self.corpus) - right)[: max(0, size - len(right))]
        if limit is not None:
            return tuple(kept)
        words = itertools.accumulate(len(self.corpus[d].split()) for d in kept)
        found = tuple(d for d, n in zip(kept, words, strict=True) if n <= WORDS or d in right)
        return found if len(found) < len(self.corpus) else tuple(self.corpus)

    @property
    def dev_name(self) -> str:
        """What training's figure is called: ``dev``, or ``dev sample`` where it is of a part."""
        few = len(self.corpus) <= SAMPLED and len(self.dev_corpus()) == len(self.corpus)
        return "dev" if few or "dev" in self.searched else DEV_SAMPLE

    def counts(self) -> dict[str, int]:
        """How many documents, queries a split, and training pairs."""
        asked = {f"{name} queries": len(judged) for name, judged in self.qrels.items()}
        pairs = sum(1 for _ in self.right("train"))
        return {"documents": len(self.corpus)} | asked | {"training pairs": pairs}

    def examples(self, split: str = "train", n: int = 5) -> list[tuple[str, str]]:
        """A few (query, right document) pairs of a split, as text."""
        judged = self.split(split)
        chosen = random.Random(0).sample(sorted(judged), min(n, len(judged)))
        return [(self.queries[q], self.corpus[next(right_documents(judged[q]))]) for q in chosen]

    def _repr_html_(self) -> str:
        caption = f"{self.name} ({self.profile}, content {self.hash})"
        counts = facts({what: f"{n:,}" for what, n in self.counts().items()}, caption)
        pairs = [(query[:SHOWN], document[:SHOWN]) for query, document in self.examples()]
        made = counts.to_html() + Table(["query", "right document"], pairs).to_html()
        for picture in filter(is_picture, itertools.chain(*pairs)):
            shown = f"<img src='{data_url(picture)}' height='40' alt='a picture'>"
            made = made.replace(f">{picture}<", f">{shown}<")
        return made + (self.report._repr_html_() if self.report else "")

    def __repr__(self) -> str:
        counts = ", ".join(f"{n:,} {what}" for what, n in self.counts().items())
        return f"Domain({self.name!r}, {self.profile}, {counts}, hash={self.hash})"


def store(domain: Domain) -> Path:
    """The folder with everything made on a domain; another content hash is another folder."""
    return paths().runs / "store" / f"{domain.name}-{domain.profile}-{domain.hash[:8]}"


def earlier_results(domain: Domain) -> str:
    """A sentence on the results that the store keeps of this name and other content, if any."""
    own = store(domain)
    alike = own.name.removesuffix(domain.hash[:8])
    found = own.parent.glob(f"{glob.escape(alike)}{'?' * 8}/*/scores.json")
    folders = Counter(path.parents[1].name for path in found if path.parents[1] != own)
    if not (results := folders.total()):
        return ""
    where = shown(own.with_name(min(folders) if len(folders) == 1 else f"{alike}*"))
    said = some_of(results, "result", "results")
    return f"{said} of an earlier cut or other texts: kept under {where}, and not compared"


def shuffled(ids: Iterable[str]) -> list[str]:
    """Ids in an order that depends on them alone."""
    ordered = sorted(ids)
    random.Random(0).shuffle(ordered)
    return ordered


def about(text: str) -> dict[str, str]:
    """The facts of a card, from lines that begin with ``name: `` and lines that go on."""
    _, *parts = re.split(r"(?m)^(\w+): ", text)
    names, values = parts[::2], parts[1::2]
    return {name: " ".join(value.split()) for name, value in zip(names, values, strict=True)}


def normalise(text: str) -> str:
    """The form in which two texts count as the same: one case, single spaces."""
    return " ".join(text.casefold().split())


def _repeats(document: str, query: str) -> bool:
    """Whether a document is a query's text, maybe below a title that is shorter than it."""
    document, query = normalise(document), normalise(query)
    return document == query or (document.endswith(f" {query}") and len(document) < 2 * len(query))


def right_documents(judged: Mapping[str, int]) -> Iterator[str]:
    """The documents with a grade above 0."""
    return (document for document, grade in judged.items() if grade > 0)


def _check_texts(domain: Domain) -> None:
    for kind, texts in (("document", domain.corpus), ("query", domain.queries)):
        if not texts:
            raise refused("no texts of a kind", domain=domain, kind=kind)
        if empty := [k for k, t in texts.items() if not isinstance(t, str) or not t.strip()]:
            raise refused("empty texts", n=len(empty), kind=kind, domain=domain, some=empty[:5])


def _check_ids(domain: Domain) -> None:
    for needed in ("train", "dev", *domain.test_splits):
        domain.split(needed)
    searched = {split: frozenset(ids) for split, ids in domain.searched.items()}
    if strange := sorted({d for ids in searched.values() for d in ids}.difference(domain.corpus)):
        raise refused("strange searched", n=len(strange), some=strange[:3])
    for split, qrels in domain.qrels.items():
        for query, judged in qrels.items():
            missing = [d for d in judged if d not in domain.corpus]
            if query not in domain.queries or missing:
                raise refused("strange judged", split=split, query=query, missing=missing[:3])
            if split in searched and (hidden := set(judged) - searched[split]):
                raise refused("not searched", split=split, document=min(hidden), query=query)
            if next(right_documents(judged), None) is None:
                raise refused("nothing right", query=query, split=split)


def _apart(domain: Domain, *splits: str) -> bool:
    """Whether two splits have no document in common: what each searches, or was trained on."""
    whole = {"train": domain.trained_documents} if domain.searched else {}
    first, second = ({**whole, **domain.searched}.get(s, domain.corpus) for s in splits)
    return set(first).isdisjoint(second)


def check_leakage(domain: Domain) -> None:
    """Fails when a test could be answered from memory.

    That is: the same query, case and spaces aside, in two splits with documents in common; a group
    that is held out for testing among the training positives.
    """
    seen: dict[str, tuple[str, str]] = {}
    for split, qrels in domain.qrels.items():
        for query in qrels:
            text = normalise(domain.queries[query])
            first, other = seen.setdefault(text, (split, query))
            apart = first != split and _apart(domain, first, split)
            if not apart and (first != split or other != query):
                of = {"text": domain.queries[query], "query": query, "split": split}
                raise refused("leak of a query", first=first, other=other, **of)
    tested = domain.tested_groups
    trained = domain.trained_documents if tested else ()
    if shared := sorted(tested & {domain.groups[d] for d in trained if d in domain.groups}):
        raise refused("leak of a group", n=len(shared), split=domain.held_out, some=shared[:5])
