"""Checks of the texts themselves: lengths, copying, languages, damage, tokens."""

from collections import Counter

import numpy as np

from ..data import text_checks
from ..data.images import is_picture
from ..display import percent
from ..models.window import DEFAULT, unread, without_weights
from .base import Finding, Sample, finding, of

COPY = 0.8  # share of a query's words in its document that makes it a copy
ASYMMETRY = 10  # times as long
TELLING = 20  # texts whose language can be told, before their shares say anything
UNSPACED = 0.05  # share of the letters from which a script without spaces is named
_BROKEN = ("mojibake", "replacement character", "NUL", "control character")


def lengths(m: Sample) -> Finding:
    """How long texts are, and how many a model would cut off."""
    # in words
    texts = {kind: found for kind, found in m.texts.items() if found}
    counts = {k: np.array([len(text_checks.words(t)) for t in found]) for k, found in texts.items()}
    middle = {kind: float(np.median(n)) for kind, n in counts.items()}
    ratio = middle["documents"] / max(middle.get("queries", 1.0), 1.0)
    numbers = {f"{kind}, words": n for kind, n in middle.items()} | {"ratio": ratio}
    # in tokens, of the model or of the default one
    over, asked, tokenizer = {}, None, m.tokenizer
    window = getattr(m.model, "max_seq_length", None)
    if m.model is None:
        tokenizer, window = without_weights()
    if found := unread(m.domain, tokenizer, window, m.qrels):
        over = {"documents": found.cut, "right documents": found.right}
        if m.tokenizer is not None and "queries" in texts:
            tokens = text_checks.token_lengths(m.tokenizer, texts["queries"])
            asked, over["queries"] = np.median(tokens), float((tokens > found.window).mean())
        numbers |= {f"{kind}, over the window": share for kind, share in over.items()}
        numbers["tokens never read"] = found.tokens
    cut = max(over.values(), default=0.0)
    said = {"unread": found, "asked": asked, "cut": cut, "longer": ratio >= ASYMMETRY}
    said["words"] = {kind: (middle[kind], np.percentile(n, 99)) for kind, n in counts.items()}
    said["over"] = {"queries": 0} | over
    said["reader"] = f"{DEFAULT}, the default," if m.model is None else "the model"
    return finding(m, "lengths", numbers, cut > 0.2, **said)


def no_texts(m: Sample) -> Finding:
    """Numbers, ids, printed lists and the names of empty cells where a text should be."""
    told, bad, worst, numbers = [], {}, 0.0, {}
    for what, texts in (("documents", m.corpus), ("queries", {q: m.queries[q] for q in m.asked})):
        real = {i: text for i, text in texts.items() if not is_picture(text)}
        found = {i: kind for i, text in real.items() if (kind := text_checks.no_text(text))}
        if text_checks.ids(list(real.values())):
            single = (i for i, text in real.items() if len(text.split()) == 1)
            found = dict.fromkeys(single, "an id instead of a text") | found
        for kind, n in Counter(found.values()).most_common():
            numbers[f"{what}, {kind}"] = n
            some = [i for i, named in found.items() if named == kind][:2]
            told.append((what, kind, of(n, len(texts)), {i: texts[i] for i in some}))
        bad[what], worst = found, max(worst, len(found) / max(len(texts), 1))
    pairs = [(q, d) for right in m.right.values() for q, found in right.items() for d in found]
    part = sum(q in bad["queries"] or d in bad["documents"] for q, d in pairs)
    numbers["right pairs"] = part
    serious = max(worst, part / max(len(pairs), 1)) > 0.01
    return finding(m, "texts that are no texts", numbers, serious, found=told, pairs=len(pairs))


def copies(m: Sample) -> Finding | None:
    """Queries whose words stand in their right document already."""
    shares: dict[str, np.ndarray] = {}
    cases: list[tuple[str, str, str]] = []  # two of a split
    for split in m.qrels:
        found = []
        for q in m.of(split):
            right = sorted(m.right[split][q])[:20]
            share, d = max((text_checks.containment(m.queries[q], m.corpus[d]), d) for d in right)
            found.append(share)
            if share >= COPY and sum(case[0] == split for case in cases) < 2:
                cases.append((split, q, d))
        if found:
            shares[split] = np.array(found)
    if not shares:
        return None
    high = {split: int((values >= COPY).sum()) for split, values in shares.items()}
    worst = max(high[split] / len(shares[split]) for split in shares)
    middle = float(np.median(np.concatenate(list(shares.values()))))
    numbers = {"median": middle} | {f"{split}, copies": n for split, n in high.items()}
    told = {split: of(n, len(shares[split])) for split, n in high.items()}
    said = {"copy": COPY, "high": told, "many": worst >= 0.2, "cases": cases}
    return finding(m, "queries that copy their document", numbers, worst >= 0.6, **said)


def languages(m: Sample) -> Finding:
    """Which scripts and languages, and whether queries and documents agree."""
    scripts = {kind: text_checks.scripts(found) for kind, found in m.texts.items() if found}
    votes = {kind: text_checks.languages(m.texts[kind]) for kind in scripts}
    votes = {kind: spoken for kind, spoken in votes.items() if spoken.total() >= TELLING}
    numbers: dict[str, float] = {}
    told, cases, mixed = dict[str, str](), [], False
    for kind, shares in scripts.items():
        text = ", ".join(f"{name} {percent(s)}" for name, s in list(shares.items())[:3])
        numbers |= {f"{kind}, {name}": share for name, share in shares.items()}
        if spoken := votes.get(kind):
            first = [f"{percent(n / spoken.total())} {name}" for name, n in spoken.most_common(2)]
            text += f", and {' and '.join(first)} of the {spoken.total():,} that can be told"
            mixed |= spoken.most_common(1)[0][1] < 0.95 * spoken.total()
        told[kind] = text
        if shares and max(shares.values()) < 0.95:
            mixed = True
            for found in m.texts[kind][:5_000]:
                own = next(iter(text_checks.scripts([found])), None)
                if own not in (None, next(iter(shares))):
                    cases.append((kind, own, found))
    large = {s for shares in scripts.values() for s in shares if shares[s] > UNSPACED}
    main = {next(iter(shares)) for shares in scripts.values() if shares}
    tongues = {spoken.most_common(1)[0][0] for spoken in votes.values()}
    unspaced, apart = sorted(large & text_checks.BY_CHARACTER), max(len(main), len(tongues)) > 1
    said = {"told": told, "cases": cases[:4], "unspaced": unspaced, "apart": apart, "mixed": mixed}
    return finding(m, "languages", numbers, **said)


def encoding(m: Sample) -> Finding:
    """Texts that were damaged on their way here."""
    counts: Counter[str] = Counter()
    cases: dict[str, tuple[str, str]] = {}
    read = broken = 0
    for kind, found in m.texts.items():
        for text in found:
            read += 1
            odd = text_checks.oddities(text)
            counts.update(odd)
            broken += any(name in _BROKEN for name in odd)
            for name in odd:
                cases.setdefault(name, (kind, text))
    numbers, ordered = dict(counts), dict(counts.most_common())
    bad = broken > 0.01 * read
    return finding(m, "encoding", numbers, bad, read=read, counts=ordered, cases=cases)


def fragmentation(m: Sample) -> Finding | None:
    """How many pieces the model's tokenizer makes of the domain's words."""
    if m.tokenizer is None:
        return None
    read = [text for found in m.texts.values() for text in found], [text_checks.EVERYDAY]
    words, everyday = (
        text_checks.fertility(m.tokenizer, text_checks.letter_words(texts)) for texts in read
    )
    if not words:
        return None
    (here, split), (there, usual) = _pieces(words), _pieces(everyday)
    # the words that are unknown or split most
    unknown = sum(n for _, n, _, lost in words if lost) / sum(n for _, n, _, _ in words)
    strange = unknown > 0.05
    worst = [row for row in words if (row[3] if strange else row[2] >= 3)]
    worst = sorted(worst, key=lambda row: (-row[1], row[0]))[:8]
    numbers = {"pieces a word": here, "everyday English": there}
    numbers |= {"split in three": split, "unknown": unknown}
    shown = [(word, n, m.tokenizer.tokenize(word)[:12]) for word, n, _, _ in worst]
    said = {"usual": usual, "strange": strange, "worst": shown}
    return finding(m, "tokenizer fragmentation", numbers, strange, **said)


def _pieces(words: list[tuple[str, int, int, bool]]) -> tuple[float, float]:
    """Pieces of a word, on average, and the share of the words that have three or more."""
    counts = np.array([count for _, count, _, _ in words]) / sum(row[1] for row in words)
    made = np.array([max(n, 1) for _, _, n, _ in words])
    return float(counts @ made), float(counts[made >= 3].sum())
