# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Measuring retrieval
#
# Every claim of this course is a difference between two figures over the same queries. Here
# you compute each metric by hand, see how far a figure may be off, test a difference, and
# find out how many queries it takes before a comparison means anything.
#
# **You will do**
# - read qrels and a ranking, and compute hit@1, MRR, recall, MAP and nDCG in numpy
# - draw bootstrap intervals, and a paired test by hand
# - compare two systems on 25, 50, 100 queries, many times over
# - plant a leak, and see it caught
#
# **You will learn**
# - what each metric rewards
# - why an interval and a paired test belong to every figure
# - why 50 queries are not enough, and what each test split asks
#
# **You need** notebook 00.
#
# About 2 minutes on a 2-core CPU the first time; under 1 on a GPU.

# %%
import numpy as np
import pandas as pd

import embkit as ek

ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
split = domain.test_splits[0]
base, words = ek.evaluate("minilm", domain), ek.evaluate("bm25", domain)
ek.compare([words, base], baseline="base")

# %% [markdown]
# ## Qrels and a ranking
#
# Qrels say which documents are right for a query, and how right: a grade, 0 for wrong, on
# ICD-10-CM always 1. A ranking gives each query its documents with scores. The query below
# has several right documents, if the split has such a query.

# %%
qrels = domain.qrels[split]
ranking = ek.rank(ek.load_model("minilm"), domain, split)
query = max(qrels, key=lambda q: len(qrels[q]))
domain.queries[query], {d: domain.corpus[d][:200] for d in list(qrels[query])[:5]}


# %%
def relevance(query):
    """The ranked documents' grades, best rank first; 0 for what nobody judged."""
    return np.array([max(qrels[query].get(d, 0), 0) for d in ranking[query]])


def best(query):
    """The grades of the best ranking that there could be."""
    return np.array(sorted((g for g in qrels[query].values() if g > 0), reverse=True))


relevance(query)[:20]

# %% [markdown]
# ## Each metric by hand


# %%
def hit(rel, k=1):  # is a right one among the first k?
    return float(rel[:k].any())


def recall(rel, right, k):  # which share of the right ones is among the first k?
    return (rel[:k] > 0).sum() / right


def reciprocal_rank(rel, k=10):  # 1 / rank of the first right one
    found = np.flatnonzero(rel[:k])
    return 1 / (found[0] + 1) if len(found) else 0.0


# %%
def average_precision(rel, right):  # mean precision at the rank of each right one
    ranks = np.flatnonzero(rel) + 1
    return sum(np.arange(1, len(ranks) + 1) / ranks) / right


def dcg(rel, k):  # a grade counts less the lower it stands
    rel = rel[:k]
    return (rel / np.log2(np.arange(2, len(rel) + 2))).sum()


def ndcg(rel, ideal, k=10):  # as a share of the best order there could be
    return dcg(rel, k) / dcg(ideal, k)


# %% [markdown]
# All of them on all queries, beside the kit's, which come from ir-measures:

# %%
by_hand = {}
for q in qrels:
    rel, ideal, right = relevance(q), best(q), len(best(q))
    by_hand[q] = {
        "ndcg@10": ndcg(rel, ideal), "mrr@10": reciprocal_rank(rel),
        "map": average_precision(rel, right), "recall@10": recall(rel, right, 10),
        "recall@100": recall(rel, right, 100), "hit@1": hit(rel),
    }
by_hand = pd.DataFrame(by_hand).T
library = base.per_query[split].loc[by_hand.index, by_hand.columns]
pd.DataFrame({"by hand": by_hand.mean(), "ir-measures": library.mean()})

# %% tags=["hide"]
assert np.abs(by_hand - library).to_numpy().max() < 1e-9

# %% [markdown]
# hit@1 and MRR look at the first right answer only; recall asks whether it was found at all;
# nDCG and MAP reward every right answer, high ones more. This course decides by nDCG@10.
#
# ## How far off may a figure be?
#
# Draw the queries again with replacement, many times: the spread of the means is how much
# the figure owes to which queries happened to be asked.

# %%
values = library["ndcg@10"].to_numpy()
rng = np.random.default_rng(0)
draws = rng.choice(values, size=(2000, len(values))).mean(axis=1)
np.quantile(draws, [0.025, 0.975]), ek.bootstrap_ci(values)

# %%
ek.plots.histogram({"mean of a resample": draws}, "nDCG@10")

# %% [markdown]
# ## Is a difference real?
#
# Two intervals that overlap prove nothing either way: both systems answered the same
# queries, and what counts is the difference query by query. If the systems were equal, each
# difference could as well have had the other sign. Flip signs at random, and see how often
# chance alone does as much as was seen.

# %%
other = words.per_query[split].loc[by_hand.index, "ndcg@10"].to_numpy()
difference = values - other
flips = rng.choice([-1, 1], size=(10_000, len(difference)))
chance = np.abs((flips * difference).mean(axis=1))
p = (1 + (chance >= abs(difference.mean()) - 1e-12).sum()) / (1 + len(chance))
p, ek.paired_test(values, other)

# %% [markdown]
# A mean hides on which queries it rests. Here they are: those that BM25 lost to the embedding model,
# those that it won, and why. Choose an outcome, type a word, pick a query.

# %%
names = ("BM25", "embedding model")
ek.widgets.FailureBrowser("bm25", "minilm", domain, split=split, names=names)

# %% [markdown]
# ## Why 50 queries are not enough
#
# Suppose that only a part of the test queries had been there. How often would the worse
# system have come out ahead?


# %%
def wrong_winner(n, rounds=2000):
    drawn = rng.choice(difference, size=(rounds, n)).mean(axis=1)
    return (np.sign(drawn) != np.sign(difference.mean())).mean()


sizes = [10, 25, 50, 100, 200, 400]
wrong = [wrong_winner(n) for n in sizes]
ek.plots.lines(sizes, {"base or BM25": wrong}, "queries", "wrong winner", logx=True)

# %% [markdown]
# That was a comparison of two very different systems. Two recipes differ by less. The number
# of queries needed grows with the square of the noise and shrinks with the square of the
# difference: for a two-sided test at 5% that finds a true difference four times out of five,
# about $(2.8\,\sigma/\delta)^2$, with $\sigma$ the spread of the differences a query.

# %%
sigma = difference.std()


def queries_needed(delta):
    return int(np.ceil((2.8 * sigma / delta) ** 2))


deltas = [0.2, 0.1, 0.05, 0.02, 0.01]
pd.DataFrame({"queries needed": [queries_needed(d) for d in deltas]}, deltas)

# %% [markdown]
# ## What a test split asks
#
# On ICD-10-CM, `known` asks new phrases about categories that training met; `novel` asks
# about categories that training never saw; `lay` asks in a patient's words. A model can
# learn a catalogue by heart and do well on the first alone. A folder that comes without
# splits is made by document: what its `test` asks for was, wherever possible, right for no
# training query. Where a split mixes both, the queries whose right documents were never a
# training positive are reported as a part of their own.

# %%
rows = []
for name, judged in domain.qrels.items():
    graded = [pair for grades in judged.values() for pair in grades.items()]
    right = {document for document, grade in graded if grade > 0}
    met = len(right & domain.trained_documents) / len(right)
    rows.append((name, len(judged), len(right), met))
columns = ["split", "queries", "right documents", "of these, trained on"]
pd.DataFrame(rows, columns=columns).round(2)

# %% [markdown]
# ## A leak, planted
#
# A test that was trained on measures memory. Teach the answer of a test query, and the
# domain refuses to be made. It looks for the same text, and for documents of groups that are
# held out (on ICD-10-CM, the categories of `novel`). The second question below is worded
# anew: it is caught where there are such groups, and nowhere else.

# %%
import dataclasses

held = domain.held_out or split
query = next(iter(domain.qrels[held]))


def teach(text):
    train = {**domain.qrels["train"], "leak": domain.qrels[held][query]}
    queries = {**domain.queries, "leak": text}
    dataclasses.replace(domain, queries=queries, qrels={**domain.qrels, "train": train})
    return "not caught: this domain holds out no group of documents"


# %%
for text in (f"  {domain.queries[query]} ", "the same in words of your own"):
    try:
        print(teach(text), end="\n\n")
    except ek.EmbkitError as error:
        print(error, end="\n\n")

# %% [markdown]
# ## What we saw

# %%
from IPython.display import Markdown

low, high = ek.bootstrap_ci(values)
Markdown(
    f"- six metrics by hand, equal to the library's on {len(by_hand):,} queries\n"
    f"- nDCG@10 of the general model is {values.mean():.3f}, and another sample of as "
    f"many queries could have given {low:.3f} or {high:.3f}\n"
    f"- base less BM25 is {difference.mean():+.3f}, p = {p:.2g}; with 25 queries, the "
    f"wrong one wins {wrong[1]:.0%} of the time, with 100 {wrong[3]:.1%}\n"
    f"- to see a difference of 0.02 takes about {queries_needed(0.02):,} queries of "
    "this kind"
)

# %% [markdown]
# ## Exercises
#
# **1.** A query has two right documents, ranked 2nd and 5th. Compute its nDCG@10.

# %% tags=["solution"]
answer_1 = ndcg(np.array([0, 1, 0, 0, 1, 0, 0, 0, 0, 0]), ideal=np.array([1, 1]))
answer_1

# %%
ek.exercises.check(
    "1", answer_1,
    lambda a: abs(a - (1 / np.log2(3) + 1 / np.log2(6)) / (1 + 1 / np.log2(3))) < 1e-9,
    hint="ndcg() above does it; the ideal order has both at the top",
)

# %% [markdown]
# **2.** The same query: what are its MRR@10 and its average precision?

# %% tags=["solution"]
answer_2 = (1 / 2, (1 / 2 + 2 / 5) / 2)
answer_2

# %%
ek.exercises.check(
    "2", answer_2, lambda a: np.allclose(a, (0.5, 0.45)),
    hint="precision at rank 2 is 1/2, at rank 5 it is 2/5",
)

# %% [markdown]
# **3.** With the formula above, what is the smallest difference that the last test split,
# `domain.test_splits[-1]`, can be expected to show (four times out of five)?

# %% tags=["solution"]
last = domain.test_splits[-1]
answer_3 = 2.8 * sigma / np.sqrt(len(domain.qrels[last]))
answer_3

# %%
asked = len(domain.qrels[domain.test_splits[-1]])
ek.exercises.check(
    "3", answer_3, lambda a: abs(a - 2.8 * sigma / np.sqrt(asked)) < 1e-6,
    hint="solve n = (2.8 σ/δ)² for δ",
    right="a smaller gain than that may be there, but this test will seldom show it",
)

# %% [markdown]
# ## Further reading
#
# - Järvelin and Kekäläinen 2002, *Cumulated gain-based evaluation of IR techniques*, nDCG,
#   <https://doi.org/10.1145/582415.582418>
# - Smucker, Allan and Carterette 2007, *A comparison of statistical significance tests for
#   information retrieval evaluation*, <https://doi.org/10.1145/1321440.1321528>
# - MacAvaney, Macdonald and Ounis 2022, *Streamlining Evaluation with ir-measures*,
#   <https://arxiv.org/abs/2111.13466>
# - next: `04_contrastive`
