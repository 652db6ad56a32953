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
# find out how many queries it takes before a comparison means anything. Queries are not
# alone, though: those of one category win and lose together, and that changes the answers.
#
# **You will do**
# - read qrels and a ranking, and compute hit@1, MRR, recall, MAP and nDCG in numpy
# - draw an interval and a paired test by hand: over queries, then over clusters of them
# - look at what nobody judged
# - compare two systems on 25, 50, 100 queries, many times over
# - plant a leak, and see it caught
#
# **You will learn**
# - what each metric rewards
# - why an interval and a paired test belong to every figure, and over what they have to be
# - how many queries are enough, what one seed says, and what each test split asks
#
# **You need** notebook 00.
#
# About 0.2 minutes on two CPU cores the first time.

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
pd.DataFrame({"by hand": by_hand.mean(), "ir-measures": library.mean()}).round(4)

# %% tags=["hide"]
assert np.abs(by_hand - library).to_numpy().max() < 1e-9

# %% [markdown]
# hit@1 and MRR look at the first right answer only; recall asks whether it was found at all;
# nDCG and MAP reward every right answer, high ones more. This course decides by nDCG@10.
#
# ## What nobody judged
#
# A document that is not in the qrels counts as wrong. Often nobody has looked at it. How much
# of what is ranked first was ever judged for its query, and what is the rest like?

# %%
firsts = {q: next(iter(ranking[q])) for q in qrels}
open_ones = [q for q, d in firsts.items() if d not in qrels[q]]
near = [  # of the same group as a right document, where the domain has groups
    q for q in open_ones
    if domain.groups.get(firsts[q]) in {domain.groups.get(d) for d in qrels[q]} - {None}
]
print(f"{len(open_ones) / len(qrels):.0%} of the first documents were never judged; "
      f"{len(near) / len(qrels):.0%} are of a right document's own category")
rows = [
    (domain.queries[q], domain.corpus[firsts[q]], domain.corpus[next(iter(qrels[q]))])
    for q in (near or open_ones)[:8]
]
unjudged = pd.DataFrame(rows, columns=["query", "ranked first, not judged", "right"])
unjudged.style.hide().set_properties(**{"text-align": "left"}).set_uuid("unjudged")

# %% [markdown]
# Some of these you might accept. So a score is a lower bound of how often a user is
# helped, and two systems may be compared by it only as long as neither finds more of what
# nobody judged. Lesson 03 shows how people judge such documents.
#
# ## How far off may a figure be?
#
# Draw the queries again with replacement, many times: the spread of the means is how much
# the figure owes to which queries happened to be asked. That is the bootstrap.

# %%
values = base.values(split)
rng = np.random.default_rng(0)
draws = rng.choice(values, size=(2000, len(values))).mean(axis=1)
np.quantile(draws, [0.025, 0.975]).round(3)

# %% [markdown]
# This takes each query for a draw of its own. But another sample would bring other
# categories, and queries about one category are alike: the model knows its words, or it
# doesn't. So draw whole clusters: queries that share a group of right documents (on
# ICD-10-CM a category); where a domain has no groups, queries that share a document.


# %%
def resampled(values, codes, rounds=2000):
    """Means of as many clusters as there are, drawn with replacement."""
    cluster = pd.Series(values.to_numpy()).groupby(np.asarray(codes))
    sums, sizes = cluster.sum().to_numpy(), cluster.size().to_numpy()
    drawn = rng.integers(len(sums), size=(rounds, len(sums)))
    return sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)


# %%
intervals, means = {}, {}
for name in domain.test_splits:
    each, together = base.values(name), ek.evaluation.clusters(domain, name)
    codes = together.codes(each.index)
    means[name] = resampled(each, each.index), resampled(each, codes)
    (a, b), (c, d) = (np.quantile(m, [0.025, 0.975]) for m in means[name])
    intervals[name] = {
        "queries": len(each), "clusters": len(set(codes)), "over": together.over,
        "over queries": f"{a:.3f} to {b:.3f}", "over clusters": f"{c:.3f} to {d:.3f}",
        "times as wide": (d - c) / (b - a),
        "ek.mean_interval": "{:.3f} to {:.3f}".format(*ek.mean_interval(each)),
    }
pd.DataFrame.from_dict(intervals, "index").round(2)

# %%
widest = max(intervals, key=lambda name: intervals[name]["times as wide"])
shown = dict(zip(("queries drawn", "clusters drawn"), means[widest], strict=True))
ek.plots.histogram(shown, f"mean nDCG@10 on {widest}")

# %% [markdown]
# `ek.mean_interval` needs no draws: it computes the spread over clusters, and takes
# Student's $t$, which is wider where clusters are few. Scores carry their clusters with
# them, so `base.values(split)` is enough. The variance over clusters, as a multiple of that
# over queries, is the **design effect** $D$: these queries say as much as a $D$-th of their
# number would, if each came from a cluster of its own.

# %%
pd.DataFrame.from_dict({
    name: {"queries": found.queries, "D": found.effect,
           "worth": found.queries / found.effect}
    for name in domain.test_splits
    for found in [ek.evaluation.estimate(base.values(name))]
}, "index").round(1)

# %% [markdown]
# ## Is a difference real?
#
# Two intervals that overlap prove nothing either way: both systems answered the same
# queries, and what counts is the difference query by query. If the systems were equal, each
# difference could as well have had the other sign. Flip signs at random, and see how often
# chance alone does as much as was seen. What hangs together flips together.


# %%
def flipped(difference, codes, rounds=10_000):
    """The p value of the mean, by flipping the sign of whole clusters."""
    sums = pd.Series(difference.to_numpy()).groupby(np.asarray(codes)).sum().to_numpy()
    chance = np.abs(rng.choice([-1, 1], size=(rounds, len(sums))) @ sums)
    return (1 + (chance >= abs(sums.sum()) - 1e-9).sum()) / (1 + rounds)


# %%
tests = {}
for name in domain.test_splits:
    change = words.change(base, name)  # base less BM25, query by query
    codes = ek.evaluation.clusters(domain, name).codes(change.index)
    test = ek.paired_test(base.values(name), words.values(name))
    tests[name] = {
        "base less BM25": test.delta, "from": test.ci_low, "to": test.ci_high,
        "p, queries flipped": flipped(change, change.index),
        "p, clusters flipped": flipped(change, codes), "p, ek.paired_test": test.p,
    }
pd.DataFrame(tests).T.map("{:.2g}".format)

# %% [markdown]
# The kit's $p$ and interval are two sides of one estimate: $p < 0.05$ where, and only where,
# the 95% interval excludes 0. Flips cannot say less than 1 in 10,001, Student's $t$ can.
#
# ## What one seed says
#
# A training draws, too: the order of the pairs, the weights of a new layer. Contrastive
# training with seeds 42, 43 and 44 has 0.590, 0.551 and 0.560 nDCG@10 on `novel`, and a test
# over queries calls two of these runs different: −0.039, p = 0.0001. They are different, as
# *weights*. As a recipe they are the same. With one seed, interval and test are of the
# weights at hand; a claim about a method needs several seeds. Give `ek.paired_test` an array
# (seeds, queries), or let `ek.leaderboard` make one row of them: the spread over seeds is
# then added to that over clusters. `data/results.md` has the methods with three seeds each.
#
# ## Who wins where
#
# A mean hides on which queries it rests. Here they are: those that BM25 lost to the embedding model,
# those that it won, and why. Choose an outcome, type a word, pick a query.

# %%
names = ("BM25", "embedding model")
ek.widgets.FailureBrowser("bm25", "minilm", domain, split=split, names=names)

# %% [markdown]
# ## How many queries are enough?
#
# Suppose that only a part of the test queries had been there. How often would the worse
# system have come out ahead? That depends on how close the two are, so here are two
# comparisons: BM25 with the general model, which are far apart, and two recipes that are
# neighbours, hard negatives (lesson 05) with the whole corpus (lesson 04), the first seed of
# each, read from `data/` where there are such results. (Each query is drawn by itself here; of
# whole clusters it takes more.)


# %%
differences = {"base or BM25": words.change(base, split)}
kept = ek.evaluation.results(domain)
if {"hard negatives", "corpus"} <= set(kept):
    one, other = kept["hard negatives"].runs[0], kept["corpus"].runs[0]
    differences["two recipes"] = one.change(other, split)


def wrong_winner(difference, n, rounds=2000):
    drawn = rng.choice(difference.to_numpy(), size=(rounds, n)).mean(axis=1)
    return (np.sign(drawn) != np.sign(difference.mean())).mean()


# %%
sizes = [10, 25, 50, 100, 200, 400]
wrong = {name: [wrong_winner(d, n) for n in sizes] for name, d in differences.items()}
ek.plots.lines(sizes, wrong, "queries", "share of wrong winners", logx=True)

# %% [markdown]
# For two systems that are far apart, 50 queries are enough. For two recipes that are close,
# all of these may not be: what wins here may be the luck of the queries. The number of
# queries needed grows with the square of the noise and with the design effect, and shrinks
# with the square of the difference. For a two-sided test at 5% that finds a true difference
# four times out of five, it is about $D\,(2.8\,\sigma/\delta)^2$, with $\sigma$ the spread
# of the differences a query. (If more queries come in clusters like these; where each comes
# from a new cluster, $D$ is 1.) $\sigma$ has to be that of the pair in question: of the two
# recipes, where they are there.

# %%
close = list(differences.values())[-1]
together = ek.evaluation.clusters(domain, split).codes(close.index)
sigma, effect = close.std(), ek.evaluation.estimate(close, together).effect


def needed(delta, effect=1.0):
    return int(np.ceil(effect * (2.8 * sigma / delta) ** 2))


deltas = [0.2, 0.1, 0.05, 0.02, 0.01]
alone, in_clusters = ([needed(d, e) for d in deltas] for e in (1.0, effect))
pd.DataFrame({"each alone": alone, "in clusters": in_clusters}, deltas)

# %% [markdown]
# So plan before you train. Differences between neighbouring recipes spread by about 0.20
# over queries. What is the smallest one that each test split could be expected to show, and
# how many queries would a difference of 0.02 take?

# %%
plan = {}
for name in domain.test_splits:
    found = ek.paired_test(base.values(name), words.values(name)).estimate
    n = ek.evaluation.queries_needed(0.20, 0.02, found.effect)
    plan[name] = {
        "queries": found.queries, "clusters": found.clusters, "D": found.effect,
        "seen from": found.planned(0.20), "queries for 0.02": n,
    }
pd.DataFrame(plan).T.round(3)

# %% [markdown]
# What is smaller than "seen from" may be there, and this test will seldom show it. The kit's
# counts of queries are for two systems; seeds come on top.
#
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

# %% tags=["hide"]
from IPython.display import Markdown

low, high = ek.mean_interval(values)
wide, worst = intervals[widest]["times as wide"], plan[widest]
p = tests[split]["p, ek.paired_test"]

# %% tags=["hide"]
Markdown(
    f"- six metrics by hand, equal to the library's on {len(by_hand):,} queries\n"
    f"- nDCG@10 of the general model is {values.mean():.3f}, and another sample of as "
    f"many clusters of queries could have given {low:.3f} or {high:.3f}\n"
    f"- on `{widest}`, an interval over clusters is {wide:.1f} times as wide as one "
    f"over queries; a difference is seen from {worst['seen from']:.3f} on\n"
    f"- {len(open_ones) / len(qrels):.0%} of the first documents were never judged\n"
    f"- base less BM25 is {tests[split]['base less BM25']:+.3f}, p = {p:.2g}\n"
    "- with 50 queries, the wrong one wins: "
    + ", ".join(f"{name} {found[2]:.0%}" for name, found in wrong.items())
    + "\n"
    f"- to see a difference of 0.02 takes about {needed(0.02, effect):,} queries of "
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
# **3.** Turn the formula round: with `sigma` and `effect` from above, what is the smallest
# difference that as many queries as the last test split has, `domain.test_splits[-1]`, can be
# expected to show (four times out of five)?

# %% tags=["solution"]
last = domain.test_splits[-1]
answer_3 = 2.8 * sigma * np.sqrt(effect / len(domain.qrels[last]))
answer_3

# %%
asked = len(domain.qrels[domain.test_splits[-1]])
ek.exercises.check(
    "3", answer_3, lambda a: abs(a - 2.8 * sigma * np.sqrt(effect / asked)) < 1e-6,
    hint="solve n = D (2.8 σ/δ)² for δ",
    right="a smaller gain than that may be there, but this test will seldom show it",
)

# %% [markdown]
# ## Further reading
#
# - Järvelin and Kekäläinen 2002, *Cumulated gain-based evaluation of IR techniques*, nDCG,
#   <https://doi.org/10.1145/582415.582418>
# - Smucker, Allan and Carterette 2007, *A comparison of statistical significance tests for
#   information retrieval evaluation*, <https://doi.org/10.1145/1321440.1321528>
# - Urbano, Lima and Hanjalic 2019, *Statistical significance testing in information
#   retrieval*, on which test to take, <https://doi.org/10.1145/3331184.3331259>
# - Cameron and Miller 2015, *A practitioner's guide to cluster-robust inference*,
#   <https://doi.org/10.3368/jhr.50.2.317>
# - MacAvaney, Macdonald and Ounis 2022, *Streamlining Evaluation with ir-measures*,
#   <https://arxiv.org/abs/2111.13466>
# - next: `03_training_pairs`
