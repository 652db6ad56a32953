"""Teachers and what they teach: scores of candidate lists, or of all documents for any text."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder

from ..assets.catalogue import folder_fingerprint, names, resolve
from ..data import Domain
from ..errors import EmbkitError
from ..files import read_json
from ..models.cross_encoder import load_cross_encoder, score_pairs
from ..models.encoding import Vectors, encode_as, weights_fingerprint
from ..models.loading import load_model
from ..pairs.pairs import NONE, Taught, TrainingPairs, collect, sets, source_hash
from ..recipes.recipe import PRESETS, Recipe, preset
from ..recipes.views import Teaching
from ..runs import RECORD, Run, store
from .refusals import refused

Fit = Callable[[Recipe, Domain], Run]  # such as ``ek.train``

DOCUMENTS = "documents"  # texts without labels that need no set of queries


@dataclass(frozen=True, repr=False)
class Teacher:
    """One bi-encoder or several, as one: its cosine is the mean of theirs."""

    name: str
    models: tuple[Any, ...]

    def vectors(self, texts: Sequence[str], kind: str = "document") -> Vectors:
        """Unit vectors, (texts, sum of the members' dims), as queries or as documents."""
        parts = [encode_as(model, texts, kind) for model in self.models]
        return np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(parts)))

    def scores(self, queries: Sequence[str], lists: Sequence[Sequence[str]]) -> np.ndarray:
        """Cosines of each query with each of its documents, (queries, documents a list)."""
        asked = self.vectors(queries, "query")
        flat = self.vectors([document for row in lists for document in row])
        shown = flat.reshape(len(queries), -1, flat.shape[1])
        return np.einsum("qd,qnd->qn", asked, shown)

    def fingerprint(self) -> str:
        """Hash of the members' weights and prompts."""
        known = [[weights_fingerprint(m), getattr(m, "prompts", None)] for m in self.models]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def __call__(self, texts: Sequence[str]) -> Vectors:
        return self.vectors(texts)

    def __repr__(self) -> str:
        return f"Teacher({self.name!r})"


def load_teacher(
    names: Any, domain: Domain | None = None, *, fit: Fit | None = None
) -> Teacher | CrossEncoder:
    """The teacher that a recipe names.

    Args:
        names: as ``Recipe.teacher``: a model's name or folder, a run, a run's name on ``domain``,
            a preset; or several of them.
        domain: in whose store the runs are.
        fit: what trains a preset that is named, such as ``ek.train``; None: no preset is taken.

    Raises:
        EmbkitError: a part that is no model and no run, or a cross-encoder among several parts.
    """
    several = Recipe(teacher=names).teacher
    folders = _folders(several, domain, fit)
    pairwise = [part for part, folder in folders.items() if _reads_pairs(folder)]
    if pairwise and len(folders) > 1:
        raise refused("several teachers", several=several, pairwise=pairwise[0])
    if pairwise:
        return load_cross_encoder(folders[pairwise[0]])
    return Teacher(" + ".join(several), tuple(map(load_model, folders.values())))


def teaching_hash(teaching: Teaching, domain: Domain, *, fit: Fit | None = None) -> str:
    """Hash of a teacher's weights, and of the sets of texts that it sees beside the pairs."""
    weights = map(folder_fingerprint, _folders(teaching.teacher, domain, fit).values())
    generated = [name for name in teaching.unlabeled_texts if name != DOCUMENTS]
    return "".join([*weights, *(source_hash(domain, [name]) for name in generated)])


def _folders(several: Sequence[str], domain: Domain | None, fit: Fit | None) -> dict[str, Path]:
    """A teacher's member -> the folder of its weights; a preset is trained if need be."""
    found = {}
    for part in several:
        kept = [store(domain) / part] if domain and part else []
        runs = [run for run in (*kept, Path(part)) if part and (run / RECORD).is_file()]
        if domain and fit and part in PRESETS:
            runs = [fit(preset(part), domain).path]
        try:
            found[part] = runs[0] / "model" if runs else resolve(part)
        except EmbkitError as error:
            hint = f"ek.training.load_teacher({part!r}, domain, fit=ek.train) trains it first"
            hint = hint if part in PRESETS else "teacher=[run, another_run]"
            known = ", ".join(names())
            raise refused("teacher", part=part, why=error.given, known=known, hint=hint) from error
    return found


def _reads_pairs(folder: Path) -> bool:
    """Whether a model's folder holds a cross-encoder."""
    networks = read_json(folder / "config.json").get("architectures") or ["?"]
    return networks[0].endswith("ForSequenceClassification")


def teach(teaching: Teaching, pairs: TrainingPairs, *, fit: Fit | None = None) -> Taught:
    """What a teacher has to say about training pairs, and about texts beside them.

    Raises:
        EmbkitError: no such teacher; one whose scores are NaN or tell nothing apart; a
            cross-encoder where vectors are wanted; an unknown source of texts.
    """
    teacher = load_teacher(teaching.teacher, pairs.domain, fit=fit)
    if teaching.lists:
        return Taught(_scored_lists(teaching, pairs, teacher).tolist())
    if not isinstance(teacher, Teacher):
        raise refused("no vectors", teaching=teaching)
    # two tables of vectors: a softmax over all documents is made of them
    known = list(dict.fromkeys(anchor for _, anchor, _ in pairs.rows))
    new = unlabeled_texts(teaching, pairs)
    asked = teacher.vectors([*known, *new], "query")
    shown = teacher.vectors(list(pairs.domain.corpus.values()))
    _telling(asked[:64] @ shown.T, teacher.name)
    number = {text: i for i, text in enumerate(known)}
    places = zip(pairs.rows, pairs.labels(), strict=True)
    labels = [[number[row[1]], *right] for row, right in places]
    labels += [[len(known) + i, NONE] for i in range(len(new))]
    tables = {"queries": asked.astype(np.float16), "documents": shown.astype(np.float16)}
    return Taught(labels, tuple(new), arrays=tables)


def unlabeled_texts(teaching: Teaching, pairs: TrainingPairs) -> list[str]:
    """Texts without labels, each once, none of them a pair's anchor.

    ``documents``: those of the corpus, without the groups that are held out for testing. Any other
    name is a set of generated queries, without what it says they are about.
    """
    domain, tested = pairs.domain, pairs.domain.tested_groups
    anchors = dict.fromkeys(anchor for _, anchor, _ in pairs.rows)
    documents = [text for d, text in domain.corpus.items() if domain.groups.get(d) not in tested]
    found: list[str] = []
    for name in teaching.unlabeled_texts:
        if name == DOCUMENTS:
            found += documents
        elif name in sets(domain):
            found += [text for _, text, _ in collect(domain, [name])[0]]
        else:
            known = ", ".join([DOCUMENTS, *sets(domain)])
            raise refused("unlabeled", given=teaching.unlabeled_texts, name=name, known=known)
    return [text for text in dict.fromkeys(found) if text not in anchors]


def _scored_lists(teaching: Teaching, pairs: TrainingPairs, teacher: Any) -> np.ndarray:
    """The teacher's scores of each pair's positive and mined negatives, (pairs, 1 + negatives)."""
    assert pairs.mined is not None  # the recipe was checked
    corpus, rows = pairs.domain.corpus, zip(pairs.rows, pairs.mined.negatives, strict=True)
    lists = [[corpus[document] for document in (row[2], *wrong)] for row, wrong in rows]
    asked = [anchor for _, anchor, _ in pairs.rows]
    if isinstance(teacher, Teacher):
        return _telling(teacher.scores(asked, lists), teacher.name)
    flat = [(query, document) for query, row in zip(asked, lists, strict=True) for document in row]
    logits = score_pairs(teacher, flat).reshape(len(lists), -1)
    student = Teacher(teaching.model, (load_model(teaching.model, prompts=teaching.prompts),))
    return rescaled(logits, student.scores(asked, lists))


def rescaled(scores: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    """A teacher's scores, brought to the mean and the spread of a student's cosines of the same
    pairs: a cross-encoder's logits reach from about -10 to 10, the margin of two cosines never
    exceeds 2.

    Raises:
        EmbkitError: scores that are NaN or all the same.
    """
    _telling(scores, "these scores")
    return (scores - scores.mean()) / scores.std() * cosines.std() + cosines.mean()


def _telling(scores: np.ndarray, who: str) -> np.ndarray:
    """The scores, unless they are NaN or all the same."""
    bad = not np.isfinite(scores).all()
    if bad or np.ptp(scores) < 1e-6:
        what = "scores that are NaN or infinite" if bad else "the same score to everything"
        raise refused("telling", who=who, what=what)
    return scores
