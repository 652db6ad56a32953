"""Checks of the texts themselves: lengths, copying, languages, damage, tokens."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ..data import text_checks
from ..data.images import is_picture
from ..display import percent, some_of
from ..models.window import DEFAULT, unread, without_weights
from .base import Finding, Sample, of, quote

COPY = 0.8  # share of a query's words in its document that makes it a copy
ASYMMETRY = 10  # times as long
TELLING = 20  # texts whose language can be told, before their shares say anything
UNSPACED = 0.05  # share of the letters from which a script without spaces is named
_BROKEN = ("mojibake", "replacement character", "NUL", "control character")


def lengths(m: Sample) -> Finding:
    """How long texts are, and how many a model would cut off."""
    draft = Finding("lengths")
    # in words
    texts = {kind: found for kind, found in m.texts.items() if found}
    counts = {k: np.array([len(text_checks.words(t)) for t in found]) for k, found in texts.items()}
    middle = {kind: float(np.median(n)) for kind, n in counts.items()}
    ratio = middle["documents"] / max(middle.get("queries", 1.0), 1.0)
    for kind, n in counts.items():
        most = f"1 in 100 has {np.percentile(n, 99):.0f} or more"
        draft.say(f"{kind} have {middle[kind]:g} words (median), {most}")
    draft.numbers |= {f"{kind}, words": n for kind, n in middle.items()} | {"ratio": ratio}
    # in tokens, of the model or of the default one
    over, tokenizer, window = {}, m.tokenizer, getattr(m.model, "max_seq_length", None)
    if m.model is None:
        tokenizer, window = without_weights()
    if found := unread(m.domain, tokenizer, window, m.qrels):
        over = {"documents": found.cut, "right documents": found.right}
        if m.tokenizer is not None and "queries" in texts:
            asked = text_checks.token_lengths(m.tokenizer, texts["queries"])
            over["queries"] = share = float((asked > found.window).mean())
            draft.say(f"in tokens {found.median:g} (documents) and {np.median(asked):g} (queries)")
            draft.say(f"{percent(share)} of the queries are longer than the window" * bool(share))
        draft.say(found.told(f"{DEFAULT}, the default," if m.model is None else "the model"))
        draft.say(examples=[f"{n:,} tokens: {quote(text)}" for n, text in found.longest])
        draft.numbers |= {f"{kind}, over the window": share for kind, share in over.items()}
        draft.numbers["tokens never read"] = found.tokens
    if (cut := max(over.values(), default=0.0)) > 0.01:
        todo = "cut long texts into passages: ek.search.Passages(model, size=128) searches them, "
        todo += "Recipe(passage_size=128) trains on them; or take a model with a longer window"
        draft.say(todo=todo)
    if ratio >= ASYMMETRY:
        todo = "short questions for long documents: try prompts, and passages for documents"
        draft.say(f"documents are {ratio:.0f} times as long as queries", todo)
    return draft.judged(bad=cut > 0.2)


def no_texts(m: Sample) -> Finding:
    """Numbers, ids, printed lists and the names of empty cells where a text should be."""
    draft, bad, worst = Finding("texts that are no texts"), {}, 0.0
    for what, texts in (("documents", m.corpus), ("queries", {q: m.queries[q] for q in m.asked})):
        real = {i: text for i, text in texts.items() if not is_picture(text)}
        found = {i: kind for i, text in real.items() if (kind := text_checks.no_text(text))}
        if text_checks.ids(list(real.values())):
            single = (i for i, text in real.items() if len(text.split()) == 1)
            found = dict.fromkeys(single, "an id instead of a text") | found
        for kind, n in Counter(found.values()).most_common():
            draft.say(f"{what}: {of(n, len(texts))} {kind}")
            draft.numbers[f"{what}, {kind}"] = n
            some = [i for i, named in found.items() if named == kind][:2]
            draft.say(examples=[f"{kind}, {what} {i}: {quote(texts[i])}" for i in some])
        bad[what], worst = found, max(worst, len(found) / max(len(texts), 1))
    pairs = [(q, d) for right in m.right.values() for q, found in right.items() for d in found]
    part = sum(q in bad["queries"] or d in bad["documents"] for q, d in pairs)
    todo = "look which column was read as the text: join texts to their ids, take them out of "
    todo += "printed lists, drop empty cells; leave numbers that people do search for"
    if worst:
        draft.say(f"they are part of {of(part, len(pairs))} right pairs", todo)
    else:
        draft.say("no text is a number, an id, a printed list or the name of an empty cell")
    draft.numbers["right pairs"] = part
    return draft.judged(bad=max(worst, part / max(len(pairs), 1)) > 0.01)


def copies(m: Sample) -> Finding | None:
    """Queries whose words stand in their right document already."""
    shares: dict[str, np.ndarray] = {}
    examples: list[str] = []
    for split in m.qrels:
        found = []
        for q in m.of(split):
            right = sorted(m.right[split][q])[:20]
            share, d = max((text_checks.containment(m.queries[q], m.corpus[d]), d) for d in right)
            found.append(share)
            if share >= COPY and sum(e.startswith(split) for e in examples) < 2:
                examples.append(f"{split}: {quote(m.queries[q])} → {quote(m.corpus[d])}")
        if found:
            shares[split] = np.array(found)
    if not shares:
        return None
    high = {split: int((values >= COPY).sum()) for split, values in shares.items()}
    worst = max(high[split] / len(shares[split]) for split in shares)
    told = ", ".join(f"{split} {of(n, len(shares[split]))}" for split, n in high.items())
    middle = float(np.median(np.concatenate(list(shares.values()))))
    draft = Finding("queries that copy their document", numbers={"median": middle})
    draft.numbers |= {f"{split}, copies": n for split, n in high.items()}
    draft.say(f"queries with at least {COPY:.0%} of their words in their right document: {told}")
    draft.say(f"the median is {middle:.0%}")
    if worst >= 0.2:
        todo = "compare with BM25 before you train: word search answers these; then ask for "
        draft.say(todo=f"{todo}queries in people's own words", examples=examples)
    return draft.judged(bad=worst >= 0.6)


def languages(m: Sample) -> Finding:
    """Which scripts and languages, and whether queries and documents agree."""
    scripts = {kind: text_checks.scripts(found) for kind, found in m.texts.items() if found}
    votes = {kind: text_checks.languages(m.texts[kind]) for kind in scripts}
    votes = {kind: told for kind, told in votes.items() if told.total() >= TELLING}
    draft, mixed = Finding("languages"), False
    for kind, shares in scripts.items():
        text = ", ".join(f"{name} {percent(s)}" for name, s in list(shares.items())[:3])
        draft.numbers |= {f"{kind}, {name}": share for name, share in shares.items()}
        if told := votes.get(kind):
            first = [f"{percent(n / told.total())} {name}" for name, n in told.most_common(2)]
            text += f", and {' and '.join(first)} of the {told.total():,} that can be told"
            mixed |= told[told.most_common(1)[0][0]] < 0.95 * told.total()
        draft.say(f"{kind}: {text or 'no letters'}")
        if shares and max(shares.values()) < 0.95:
            mixed = True
            for found in m.texts[kind][:5_000]:
                own = next(iter(text_checks.scripts([found])), None)
                if own not in (None, next(iter(shares))) and len(draft.examples) < 4:
                    draft.say(examples=[f"{kind}, {own}: {quote(found)}"])
    large = {s for shares in scripts.values() for s in shares if shares[s] > UNSPACED}
    if unspaced := " and ".join(sorted(large & text_checks.BY_CHARACTER)):
        text = f"word search takes each character of {unspaced} as a word"
        draft.say(f"{text}: BM25's figures are those of characters")
    main = {next(iter(shares)) for shares in scripts.values() if shares}
    spoken = {told.most_common(1)[0][0] for told in votes.values()}
    several = "several languages: take a model that knows them, and report each apart" * mixed
    apart = "queries and documents are in different languages: take a multilingual model"
    draft.say(todo=apart if len(main) > 1 or len(spoken) > 1 else several)
    return draft.judged()


def encoding(m: Sample) -> Finding:
    """Texts that were damaged on their way here."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    read = broken = 0
    for kind, found in m.texts.items():
        for text in found:
            read += 1
            odd = text_checks.oddities(text)
            counts.update(odd)
            broken += any(name in _BROKEN for name in odd)
            for name in odd:
                examples.setdefault(name, f"{name}, {kind}: {quote(text)}")
    told = ", ".join(f"{name} in {n:,}" for name, n in counts.most_common())
    todo = "read the source as what it is (most often UTF-8), take out tags and invisible "
    todo += "characters, bring all to NFC; keep what is meant, such as tags in texts about HTML"
    draft = Finding("encoding", numbers=dict(counts))
    said = f"{some_of(read, 'text', 'texts')} read: {told or 'no damage seen'}"
    draft.say(said, todo if counts else "", examples.values())
    return draft.judged(bad=broken > 0.01 * read)


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
    worst = [row for row in words if row[3]] if unknown > 0.05 else [r for r in words if r[2] >= 3]
    worst = sorted(worst, key=lambda row: (-row[1], row[0]))[:8]
    draft = Finding("tokenizer fragmentation")
    draft.numbers |= {"pieces a word": here, "everyday English": there}
    draft.numbers |= {"split in three": split, "unknown": unknown}
    draft.say(f"{here:.2f} pieces a word, against {there:.2f} in everyday English")
    share = f"{percent(split)} of the words are split in three or more"
    draft.say(f"{share}, against {percent(usual)}")
    for word, n, _, _ in worst:
        pieces = " ".join(m.tokenizer.tokenize(word)[:12])
        draft.say(examples=[f"{quote(word, 30)} {n:,} times: {pieces}"])
    strange = "the tokenizer cannot read these: take a model of this language or script"
    many = "nothing to mend: expect to need more pairs, or try a model of this field"
    draft.say(todo=strange if unknown > 0.05 else many * (here >= 1.3 * there))
    draft.say(f"{percent(unknown)} of the words are unknown to the tokenizer" * bool(unknown))
    return draft.judged(bad=unknown > 0.05)


def _pieces(words: list[tuple[str, int, int, bool]]) -> tuple[float, float]:
    """Pieces of a word, on average, and the share of the words that have three or more."""
    counts = np.array([count for _, count, _, _ in words]) / sum(row[1] for row in words)
    made = np.array([max(n, 1) for _, _, n, _ in words])
    return float(counts @ made), float(counts[made >= 3].sum())
