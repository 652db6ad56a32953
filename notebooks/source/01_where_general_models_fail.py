# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Where general models fail
#
# A model that learnt from the web meets words it has rarely read, and questions of a kind it
# was not asked. Here you find its failures, look for their causes one by one, and let the
# figures say which cause matters in this domain and which does not.
#
# **You will do**
# - read queries whose right answer the general model ranks far down
# - see how the tokenizer cuts domain words, and what their neighbours are
# - compare short with long queries, and a phrase with the question that asks the same
# - ask for long documents by their first sentences, and with real questions
# - put the alternatives beside it: word search (BM25), a hybrid, a reranker, another model
#
# **You will learn**
# - to look at failures before explaining them
# - that a cause is a claim, and that a paired figure can test it
# - where word search wins, and where it does not
# - what there is to try before any fine-tuning, and what each costs
#
# **You need** notebook 00.
#
# About 0.5 minutes on two CPU cores the first time.

# %%
import numpy as np
import pandas as pd

import embkit as ek

ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
split = domain.test_splits[0]
model = ek.load_model("minilm")

# %% [markdown]
# ## First the failures
#
# Queries of the first test split (on ICD-10-CM `known`, a coder's phrases) none of whose
# right documents is among the first ten, with what came first instead: twelve, by lot.

# %%
base = ek.evaluate("minilm", domain)
ranking = ek.rank(model, domain, split)
lost = base.per_query[split].query("`recall@10` == 0").index


# %%
def right_text(query):
    judged = domain.qrels[split][query]
    return domain.corpus[max(judged, key=judged.get)]


def failure(query):
    first = next(iter(ranking[query]))
    return domain.queries[query], domain.corpus[first], right_text(query)


columns = ["query", "ranked first", "right document"]
drawn = np.random.default_rng(0).permutation(lost)[:12]
failures = pd.DataFrame([failure(q) for q in drawn], columns=columns)
failures.style.hide().set_properties(**{"text-align": "left"}).set_uuid("lost")

# %%
from IPython.display import Markdown

share = len(lost) / len(base.per_query[split])
Markdown(f"**{share:.0%}** of the queries have no right document in the top ten.")

# %% [markdown]
# Ask for yourself, and see where words (BM25) do better and where the model does. *A test
# query* draws one that people have answered: its right answers have a ★.

# %%
names = ("words (BM25)", "general model")
box = ek.widgets.SearchBox("bm25", model, domain, names=names)
box

# %% [markdown]
# Before any explanation: which of these could you have answered, and from what knowledge?
# On ICD-10-CM, eponyms, old names and abbreviations share no letters with the title. No
# embedding of letters can know them; somebody has to tell it.
#
# ## Words in pieces
#
# The model reads word pieces from a fixed vocabulary of general English. A word that is not
# in it is split. Here is, for each number of pieces, the word (of five letters or more) that
# the queries of this domain use most.

# %%
import re
from collections import Counter
from functools import cache

pieces_of = cache(model.tokenizer.tokenize)
asked_words = re.findall(r"[^\W\d_]{5,}", " ".join(domain.queries.values()).lower())
counts = Counter(asked_words)  # words of five letters or more
terms = {len(pieces_of(word)): word for word, _ in reversed(counts.most_common())}
rows = {terms[n]: " ".join(pieces_of(terms[n])) for n in sorted(terms)}
pieces = pd.DataFrame({"pieces": rows}).style
pieces.set_properties(**{"text-align": "left"}).set_uuid("pieces")


# %%
def pieces_a_word(texts):
    return [len(pieces_of(word)) for text in texts for word in text.split()]


general_english = [
    "The train to the coast leaves at nine and takes about two hours.",
    "She put the letters on the kitchen table and made a pot of tea.",
    "Most shops in this street are closed on Sunday afternoon.",
    "Our team lost the match because nobody wanted to defend.",
    "The new phone is lighter than the old one but costs twice as much.",
]

# %%
texts = list(domain.corpus.values())
pieces = {"general English": pieces_a_word(general_english)}
pieces["documents"] = pieces_a_word(texts)
most = max(map(max, pieces.values()))
ek.plots.histogram(pieces, "pieces a word", np.arange(0.5, most + 1))

# %% [markdown]
# Is fragmentation what makes queries fail? Split the test queries into those with few and
# with many pieces a word, and compare. `low` and `high` are the 95% interval of the mean;
# where it is so wide that it leaves 0 to 1, the queries are too few to say anything.

# %%
table = base.per_query[split][["ndcg@10"]].copy()
asked = {q: domain.queries[q] for q in table.index}
table["pieces a word"] = [np.mean(pieces_a_word([text])) for text in asked.values()]
table["words"] = [len(text.split()) for text in asked.values()]


# %%
def by(column, bins):
    rows = []
    groups = table.groupby(pd.cut(table[column], bins), observed=True)
    for name, part in groups["ndcg@10"]:
        low, high = ek.mean_interval(part)
        rows.append((str(name), len(part), part.mean(), low, high))
    return pd.DataFrame(rows, columns=[column, "queries", "nDCG@10", "low", "high"])


by("pieces a word", [0, 1.25, 2, 3, 999]).round(3)

# %%
rho = table["pieces a word"].corr(table["ndcg@10"], method="spearman")
print(f"rank correlation of pieces a word with nDCG@10: {rho:+.3f}")

# %% [markdown]
# Near 0, and with intervals that overlap from row to row, the words in pieces are cleared: on
# ICD-10-CM, fragmentation is the cause that everybody names first, and not one of these
# failures needs it. A model reads `neo ##pl ##as ##m` as well as a word of one piece, where
# it has read it often enough.

# %% [markdown]
# ## The neighbours of a word
#
# What does the model hold to be near a term? Here are the five most used words of more than
# one piece, each with the other words of queries that lie nearest to it.

# %%
single = [word for word, _ in counts.most_common(2000)]
vectors = ek.encode(model, single)
picked = [word for word in single if len(pieces_of(word)) > 1][:5]
of_picked = [single.index(word) for word in picked]
places, scores = ek.exact_search(vectors[of_picked], vectors, k=6)
near = [[single[i] for i in row] for row in places]
rows = {t: [n for n in row if n != t][:5] for t, row in zip(picked, near, strict=True)}
pd.DataFrame(rows, range(1, 6)).T.rename_axis("nearest first", axis=1)

# %% [markdown]
# Some neighbours share a meaning, some only an ending or a sound.
#
# ## Short queries
#
# A query of one or two words gives a model little to go by.

# %%
short = by("words", [0, 2, 4, 7, 999])
short.round(3)

# %%
bins = range(1, len(short) + 1)
figure = ek.plots.lines(
    bins, {"nDCG@10": (short["nDCG@10"], short["low"], short["high"])},
    "words of a query (with the second number, without the first)", "nDCG@10",
)
figure.axes[0].set_xticks(bins, short["words"])
figure

# %% [markdown]
# Short queries score less, as far as the bands are apart: here, a cause that the figures
# confirm.
#
# ## A question is not a paraphrase
#
# General models learn that texts which say the same are near. A question and its answer do
# not say the same. The same queries, each in the frame of a question:

# %%
frame = "What is the diagnosis code for a patient with {}?"
if domain.name != "icd10cm":
    frame = "Where can I read more about this: {}"
questions = [frame.format(domain.queries[q]) for q in domain.qrels[split]]
frame

# %%
from embkit.evaluation.metrics import ranking_from_arrays

places, scores = ek.exact_search(
    ek.encode(model, questions), ek.encode(model, texts), k=100
)
ids = list(domain.qrels[split]), list(domain.corpus)
asked_ranking = ranking_from_arrays(*ids, places, scores)
question = ek.evaluation.score(asked_ranking, domain, split)["ndcg@10"]
cost = ek.paired_test(question, base.per_query[split]["ndcg@10"])
pd.Series({
    "difference": f"{cost.delta:+.3f}",
    "95% interval": f"{cost.ci_low:+.3f} to {cost.ci_high:+.3f}",
    "p": "<0.001" if cost.p < 0.001 else f"{cost.p:.3f}",
    "wins / ties / losses": f"{cost.wins} / {cost.ties} / {cost.losses}",
}, name="question less query").to_frame()

# %% [markdown]
# Where the interval excludes 0, the frame alone costs something: the words that were added ask
# nothing, and still they move the vector.
#
# ## A short query, a long document
#
# In this frame, nobody asked. For real questions, and for documents of more than a line, there
# is another domain: what numpy's functions say about themselves. `novel` asks with a docstring's
# first sentence, a paraphrase of the rest. `near` and `far` ask as a user would, and the answer
# of a `far` question stands behind the first 256 words, where this model reads nothing.

# %%
pages = ek.load_domain("docstrings", profile="smoke")
asked_pages = {name: ek.evaluate(name, pages) for name in ("minilm", "bm25")}
pd.DataFrame({
    name: {test: found.mean(test) for test in pages.test_splits}
    for name, found in asked_pages.items()
}).rename_axis("nDCG@10").round(3)

# %% [markdown]
# The same, paired: of the documents that are asked for in both ways, the questions' nDCG@10
# less that of the first sentence.


# %%
def by_document(test):
    found = asked_pages["minilm"].values(test)
    return found.groupby(dict(pages.right(test))).mean()


paired = {}
for test in ("near", "far"):
    both = pd.concat([by_document(test), by_document("novel")], axis=1).dropna()
    found = ek.paired_test(*both.to_numpy().T)
    paired[test] = {"documents": len(both), "difference": found.delta,
                    "low": found.ci_low, "high": found.ci_high,
                    "p": "<0.001" if found.p < 0.001 else f"{found.p:.3f}"}
pd.DataFrame.from_dict(paired, "index").round(3)

# %% [markdown]
# As it ran here, both kinds of questions score less than first sentences, and both intervals
# exclude 0. And here is the place where word search wins: on `far`, where the answer was never
# read, BM25's figure is above the model's. It counts every word of a document. Lesson 14 takes
# the two causes apart, the question and the window.
#
# ## Word search beside it
#
# BM25 knows no meaning at all: it counts shared words, rare ones more.

# %%
words = ek.evaluate("bm25", domain)
ek.compare([words, base], baseline="base")

# %%
ek.plots.before_after(words, base, split)

# %% [markdown]
# Where does which win? Look at the share of a query's words that occur in its right
# document.

# %%
def shared(query):
    found = set(right_text(query).lower().split())
    mine = set(domain.queries[query].lower().split())
    return len(mine & found) / len(mine)


table["shared words"] = [shared(q) for q in table.index]
table["bm25"] = words.per_query[split]["ndcg@10"].loc[table.index]
bins = pd.cut(table["shared words"], [-0.01, 0, 0.34, 0.67, 1])
overlap = table.groupby(bins, observed=True)[["ndcg@10", "bm25"]].agg(["mean", "size"])
overlap = overlap.drop(columns=[("bm25", "size")]).round(3)
overlap.rename(columns={"ndcg@10": "general model"})

# %% [markdown]
# Where no word is shared, BM25 finds next to nothing, and the model finds some. Where most are
# shared, the two are close. As it ran here, on short titles, BM25 is ahead in no row.
#
# ## What else is there, before any training?
#
# Four things can stand in for a fine-tune, and each has its price: **a hybrid** fuses both
# rankings and searches twice; **a reranker** reads query and document together and takes a
# forward pass for each of the first ten; **another general model** costs what it weighs.
# First the hybrid: its weight is chosen on dev, 0 is BM25 alone, 1 the model alone.

# %%
chosen = ek.evaluation.choose_weight(domain, model)
ek.plots.lines(list(chosen.dev), {"hybrid": list(chosen.dev.values())},
               "weight of the model", "dev nDCG@10")

# %% [markdown]
# If the best is at 1, dev gives BM25 no weight, and the hybrid is the model alone. On
# ICD-10-CM it is: plain fusion, with a weight of 0.5, loses. Where documents are long, or names
# and numbers are asked for, it is often otherwise.
#
# Then the reranker, on a hundred queries of dev: it orders the model's first ten anew.

# %%
first = ek.rank(model, domain, "dev", k=10)
again = dict(first)
hundred = list(first)[:100]
reader = ek.models.load_cross_encoder("reranker")
for q in hundred:
    texts_read = [(domain.queries[q], domain.corpus[d]) for d in first[q]]
    found = ek.models.score_pairs(reader, texts_read)
    again[q] = dict(zip(first[q], found.tolist(), strict=True))

# %%
scored = [ek.evaluation.score(r, domain, "dev")["ndcg@10"] for r in (again, first)]
rerank = ek.paired_test(*(values.loc[hundred] for values in scored))
print(f"reranked less model, {len(hundred)} queries of dev: {rerank.delta:+.3f}, "
      f"95% interval {rerank.ci_low:+.3f} to {rerank.ci_high:+.3f}")

# %% [markdown]
# A reranker that was trained on questions to the web has to earn its forward passes in your
# domain. Unless the interval lies above 0, this one has not. Lesson 06 trains one.
#
# Last, another general model. What was measured beforehand is read from `data/` (made by
# `make approaches`), where there are results for this domain and profile.

# %%
kept = ek.evaluation.results(domain)
beside = [kept[name] for name in ("bge-small, untrained", "hybrid") if name in kept]
ek.compare([words, base, *beside], baseline="base")

# %% [markdown]
# bge-small has as many dimensions as minilm and twice the layers, so its vectors take as much
# memory and about twice the time. It is the first thing to try: what it gains over `base`, no
# training of minilm needs to earn.

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
test = ek.paired_test(table["ndcg@10"], table["bm25"])
few = table[table["shared words"] <= 1 / 3]
Markdown(
    f"- {share:.0%} of `{split}` have no right document in the first ten\n"
    f"- documents are split into {np.mean(pieces['documents']):.2f} pieces a word, "
    f"general English into {np.mean(pieces['general English']):.2f}\n"
    f"- pieces a word and nDCG@10: a rank correlation of {rho:+.2f}\n"
    f"- asked as a question: {cost.delta:+.3f} (p = {cost.p:.2g})\n"
    f"- against BM25 the general model wins {test.wins} queries, ties {test.ties}, "
    f"loses {test.losses}\n"
    f"- hybrid: a weight of {chosen.weight:g}; reranker: {rerank.delta:+.3f} on dev\n"
    f"- of the {len(few)} queries that share at most a third of their words with their "
    f"document, the model answers {(few['ndcg@10'] > 0).sum()} within the first ten, "
    f"BM25 {(few['bm25'] > 0).sum()}"
)

# %% [markdown]
# ## Exercises
#
# **1.** Find a word of your field that the tokenizer cuts into five pieces or more.

# %% tags=["solution"]
answer_1 = "pseudohypoparathyroidism"
model.tokenizer.tokenize(answer_1)

# %%
ek.exercises.check(
    "1", answer_1, lambda a: " " not in a and len(model.tokenizer.tokenize(a)) >= 5,
    hint="long compounds are a good place to look, in medicine the Greek ones",
)

# %% [markdown]
# **2.** For how many of these test queries is BM25 strictly better than the general model?

# %% tags=["solution"]
answer_2 = int((table["bm25"] > table["ndcg@10"]).sum())
answer_2

# %%
ek.exercises.check(
    "2", answer_2, lambda a: a == test.losses, hint="table has both columns",
    right="a hybrid of both could use that; fine-tuning will have to beat it",
)

# %% [markdown]
# **3.** What is the general model's mean nDCG@10 over the shorter half: the queries with no more
# words than the median query? (`table` has a column `words`.)

# %% tags=["solution"]
shorter = table["words"] <= table["words"].median()
answer_3 = table.loc[shorter, "ndcg@10"].mean()
answer_3

# %%
ek.exercises.check(
    "3", answer_3,
    lambda a: abs(a - table.query("words <= words.median()")["ndcg@10"].mean()) < 1e-6,
    hint="table.loc[condition, column].mean()",
)

# %% [markdown]
# ## Further reading
#
# - Thakur et al. 2021, *BEIR*, where BM25 beats many neural models outside their domain,
#   <https://arxiv.org/abs/2104.08663>
# - Gururangan et al. 2020, *Don't Stop Pretraining*, on domain vocabulary,
#   <https://arxiv.org/abs/2004.10964>
# - next: `02_measuring_retrieval`
