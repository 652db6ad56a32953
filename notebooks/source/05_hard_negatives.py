# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · Hard negatives
#
# In a batch, a query's negatives are other queries' documents: most are so far off that there
# is nothing to learn from them. A hard negative looks right and is wrong. Here you find some
# in four ways, put them to rules, see whether a right answer among them harms a model, and
# measure what each way is worth at equal cost.
#
# **You will do**
# - look at random, BM25, dense and human negatives of the same query
# - mine with rules that are counted, and compare with sentence-transformers' own miner
# - estimate how many mined negatives are right answers that nobody labelled
# - hide labels on purpose, and see whether that costs anything and what a margin brings
# - train on each kind with equal pairs and steps, the learning rate chosen on the dev sample
#
# **You will learn**
# - how hard a negative is, in figures
# - what margins, a window and a cross-encoder as a filter remove
# - when filtering helps, and when it brings nothing
#
# **You need** notebooks 03 and 04.
#
# About 8.2 minutes on two CPU cores the first time, seconds after that.

# %%
import numpy as np

import embkit as ek

ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
recipe = ek.Recipe(epochs=1, batch_size=64, max_pairs=2000, learning_rate=2e-4)
pairs = ek.training_pairs(recipe, domain)

# %% [markdown]
# ## First the result: four ways to find a wrong answer
#
# `mine` takes (query id, text, document id) rows and gives each row its negatives.

# %%
ways = {
    way: ek.mine(domain, pairs.rows, 3, miner=way)
    for way in ("random", "bm25", "dense", "human")
    if way != "human" or domain.negatives  # people's own, where there are any
}
ways["dense"]

# %% [markdown]
# One training query, with what each way found. On ICD-10-CM it is one that people marked a
# wrong answer for, in an Excludes note ("not this code: that one"). Where people marked fewer
# than are wanted, random documents fill the places.

# %%
import pandas as pd

rows = range(len(pairs))
marked = [i for i in rows if domain.negatives.get(pairs.rows[i][0])] or list(rows)
row = marked[len(marked) // 2]
_, anchor, document = pairs.rows[row]
anchor, domain.corpus[document]

# %%
found = {
    way: [domain.corpus[d] for d in mined.negatives[row]] for way, mined in ways.items()
}
pd.DataFrame(found, index=["1st", "2nd", "3rd"]).T.rename_axis("found by")

# %% [markdown]
# How hard are they? The similarity of the query to its positive and to its first negative, under
# the general model. A negative that lies as near as the positive has something to teach, or is a
# right answer that nobody labelled.

# %%
general = ek.load_model("minilm")
asked = ek.encode(general, list(ways["dense"].anchors))


def similarity(documents):
    vectors = ek.encode(general, [domain.corpus[d] for d in documents])
    return (asked * vectors).sum(axis=1)  # (pairs,)


hardness = {way: similarity([n[0] for n in m.negatives]) for way, m in ways.items()}
hardness["the positive"] = similarity(ways["dense"].positives)
ek.plots.histogram(hardness, "similarity to the query")

# %% [markdown]
# As it ran here: dense negatives lie nearer to the query, in the median, than the positives
# do. People's lie mostly where random ones do: few queries have a marked wrong answer.

# %% [markdown]
# ## The library's miner
#
# sentence-transformers has `mine_hard_negatives`. It knows no tree of documents, so the rule
# about relatives is switched off here; the window and the margin mean the same in both.

# %%
from sentence_transformers import mine_hard_negatives

few = ek.training_pairs(recipe.replace(max_pairs=400), domain)
rules = {"range_max": 30, "relative_margin": 0.05}
theirs = mine_hard_negatives(
    few.dataset(), general, corpus=list(domain.corpus.values()), num_negatives=2,
    output_format="n-tuple", verbose=False, **rules,
)
ours = ek.mine(domain, few.rows, 2, model=general, keep_relatives=True, **rules)

# %%
place = {(a, domain.corpus[p]): n for a, p, n in
         zip(ours.anchors, ours.positives, ours.negatives, strict=True)}
same = [
    {domain.corpus[d] for d in place[r["anchor"], r["positive"]]}
    == {r["negative_1"], r["negative_2"]}
    for r in theirs
]
f"{np.mean(same):.1%} of {len(same)} pairs have the same two negatives"

# %% [markdown]
# Where the two differ, two candidates lie within rounding of each other or of the bound: the
# library encodes in fp32, embkit in the precision that the machine is fastest at. In fp32, a
# test checks that both find the same.
#
# ## Are they really wrong?
#
# A cross-encoder reads query and document together: what it scores as high as the positive may be a
# right answer that nobody labelled. It is not perfect: it also suspects documents that people marked
# as wrong. So the share is no count of false negatives; read the texts.

# %%
reader = ek.models.load_cross_encoder("reranker")
ek.pairs.find_false_negatives(
    ways["dense"],
    domain,
    lambda texts: ek.models.score_pairs(reader, texts),
    sample=200
)

# %% [markdown]
# ## Rules
#
# What each rule would remove, mining from the same ranking. *Relatives* are the documents above and
# below the right one, where they form a tree, as codes do: their titles are nearly its own.

# %%
settings = {
    "no rule but the positives": {"keep_relatives": True},
    "relatives": {},
    "relatives, 5% margin": {"relative_margin": 0.05},
    "relatives, from rank 5": {"range_min": 5},
}
removed = {}
for name, options in settings.items():
    mined = ek.mine(domain, pairs.rows, 1, model=general, **options)
    first = similarity([n[0] for n in mined.negatives])
    removed[name] = mined.removed | {"filled": mined.filled, "similarity": first.mean()}
pd.DataFrame(removed).T.rename_axis("rules").round(3)

# %% [markdown]
# Set them yourself: move the window and the margin, and read the triplets that are mined.

# %%
lab = ek.widgets.NegativesLab(domain, pairs.rows, model=general)
lab

# %% [markdown]
# Does it matter to the model? One negative a pair, half of the pairs, one learning rate,
# scored on the dev sample (dev's queries, searched in at most 2,000 documents; the columns
# and axes below call it dev): enough to look around. The comparison at the end takes all the
# pairs.

# %%
base = recipe.replace(hard_negatives=1, miner="dense", max_pairs=1000)
trained = {
    name: ek.train(base.replace(**options), domain).dev_score
    for name, options in settings.items()
}
pd.Series(trained, name="dev nDCG@10").to_frame().round(3)

# %% [markdown]
# As it ran here (`workshop`, one seed): the margin scores highest. The rule about relatives
# scores less than no rule.

# %% [markdown]
# ## What a false negative does
#
# Now with labels missing on purpose: for a share of the queries, the miner is not told which
# document is right, and may hand it back as the hardest negative. How much does that cost?
# Such a negative stands in the denominator with the same score as the positive itself, so it
# cancels part of its pull and cannot reverse it. Read down a column for the cost, if any, of
# missing labels; read across a row for what a margin brings: it leaves out whatever scores
# about as high as the positive, be it the hidden answer or a neighbour that is as good.

# %%
damage = []
for hidden in (0.0, 0.5, 1.0):
    for margin in (None, 0.05):
        tried = base.replace(hidden_positives=hidden, relative_margin=margin)
        score = ek.train(tried, domain).dev_score
        damage.append({"hidden": hidden, "margin": margin or 0.0, "dev": score})
damage = pd.DataFrame(damage).pivot(index="hidden", columns="margin", values="dev")
damage.round(3)

# %%
ek.plots.lines(
    list(damage.index),
    {("5% margin" if m else "no margin"): list(damage[m]) for m in damage},
    "share of the positives hidden from the miner", "dev nDCG@10",
)

# %% [markdown]
# As it ran here: hiding labels costs nothing that one seed can show, with a margin or
# without, even where all of them are hidden. The margin gains about as much whether labels
# are hidden or not, so what it leaves out is not only the hidden answers.

# %% [markdown]
# ## How many, how deep

# %%
many = ek.tune(base, domain, hard_negatives=[1, 2, 4])
many

# %%
deep = ek.tune(base, domain, range_min=[0, 5, 20])
deep

# %% [markdown]
# As it ran here (one seed): more negatives a pair bring nothing; without the first ranks the
# score is higher.

# %% [markdown]
# ## In the batch
#
# Other rows' documents are negatives, too, and some of them are not: the same document, or a
# relative. sentence-transformers' sampler keeps equal texts out of a batch. embkit also tells
# it what else is known to be right, so that no known positive is a negative. With *families
# apart*, no two documents of one group (on ICD-10-CM, a 3-character category) meet either.

# %%
counted = {
    "plain shuffling": None,
    "texts apart": "texts",
    "families apart": "families",
}
count = ek.pairs.in_batch_false_negatives
pd.DataFrame({
    name: count(pairs, ek.pairs.batches(pairs, 64, 42, unique))
    for name, unique in counted.items()
}).T.rename_axis("batches of 64")

# %%
half = recipe.replace(max_pairs=1000)
apart = ek.tune(half, domain, unique_in_batch=["texts", "families"])
apart

# %% [markdown]
# A sibling's title is no false negative under ICD-10-CM's qrels, and it is the hardest
# negative that a batch can hold: keeping families apart takes it away. As it ran here, the
# scores are alike.
#
# ## The comparison at equal cost
#
# The same model, pairs, steps; for each kind of negatives, the dev sample chooses between two
# learning rates (`data/results.md` has three). Then, once, the test splits.

# %%
arms = {
    name: changes for name, changes in ek.training.experiments.available(domain).items()
    if name.startswith("human")
}
rates = (1e-4, 2e-4)
equal_cost = ek.training.experiments.equal_cost
table = equal_cost(recipe, domain, arms, rates=rates, quiet=True)
table

# %%
ek.plots.metric_bars(table.report)

# %% [markdown]
# As it ran here (`workshop`, one seed), against in-batch negatives alone and with corrected
# p: dense negatives gain on `known` and `novel` where a margin filters them. Unfiltered, they
# gain nothing that stands, and lose on `lay`. Random ones gain on `known`. Of BM25's and of
# those that people marked, no gain stands.
#
# No kind of negatives gains on `lay`, where both untrained models, minilm and bge-small, are
# ahead of in-batch training. On `known` and `novel`, no difference between bge-small and
# in-batch training stands.

# %% [markdown]
# ## What we saw

# %%
from IPython.display import Markdown

frame, tests = table.frame(), domain.test_splits
mined_arms = [arm for arm in frame.index if arm.startswith("human + ")]
best = frame.loc[mined_arms, "dev"].idxmax()
whole, bare, kept = damage.loc[0.0, 0.0], damage.loc[1.0, 0.0], damage.loc[1.0, 0.05]
told = [
    f"- every positive hidden: dev nDCG@10 goes from {whole:.3f} to {bare:.3f} "
    f"without a margin, and to {kept:.3f} with one",
    f"- dev prefers *{best}*; against in-batch alone, {table.pairs:,} pairs each:",
]
for test in tests:
    gain, p = frame.loc[best, [f"{test}: difference", f"{test}: p"]]
    told.append(f"- on `{test}`, {gain:+.3f} nDCG@10 (p = {p:.2g})")
Markdown("\n".join(told))

# %% [markdown]
# ## Exercises
#
# **1.** What share of the first dense negatives lies nearer to the query than the positive does?

# %% tags=["solution"]
answer_1 = (hardness["dense"] > hardness["the positive"]).mean()
answer_1

# %%
ek.exercises.check(
    "1", answer_1,
    lambda a: abs(a - (hardness["dense"] > hardness["the positive"]).mean()) < 0.005,
    hint="hardness['dense'] and hardness['the positive'] are aligned, pair by pair",
    right="these are the pairs that the general model gets wrong today",
)

# %% [markdown]
# **2.** Mine one dense negative a pair with a margin of 10%. How many places had to be filled at
# random because nothing was left?

# %% tags=["solution"]
wide = ek.mine(domain, pairs.rows, 1, model=general, relative_margin=0.10)
answer_2 = wide.filled

# %%
ek.exercises.check(
    "2", answer_2,
    lambda a: a == ek.mine(
        domain, pairs.rows, 1, model=general, relative_margin=0.10
    ).filled,
    hint="relative_margin=0.10, then .filled",
    right="a deeper window (range_max) finds a negative for them",
)

# %% [markdown]
# **3.** Use the cross-encoder as a filter (`reranker_filter=`) on the first 100 pairs. What share
# of the negatives that are kept differs from those without it?

# %% tags=["solution"]
part = pairs.rows[:100]
scores = lambda texts: ek.models.score_pairs(reader, texts)  # noqa: E731
filtered = ek.mine(domain, part, 1, model=general, reranker_filter=scores)
plain = ek.mine(domain, part, 1, model=general)
changed = [a != b for a, b in zip(filtered.negatives, plain.negatives, strict=True)]
answer_3 = np.mean(changed)


# %%
def filtered_share(answer):
    kept = ek.mine(domain, pairs.rows[:100], 1, model=general)
    strict = ek.mine(
        domain, pairs.rows[:100], 1, model=general,
        reranker_filter=lambda texts: ek.models.score_pairs(reader, texts),
    )
    pairs_of = zip(kept.negatives, strict.negatives, strict=True)
    return abs(answer - np.mean([a != b for a, b in pairs_of])) < 0.005


ek.exercises.check(
    "3", answer_3, filtered_share, hint="compare .negatives of two calls of ek.mine",
    right="a reader that is no better than the ranker removes good negatives, too",
)

# %% [markdown]
# ## Further reading
#
# - Karpukhin et al. 2020, *Dense Passage Retrieval*, BM25 negatives beside in-batch ones,
#   <https://arxiv.org/abs/2004.04906>
# - Xiong et al. 2020, *ANCE*, negatives from the model in training,
#   <https://arxiv.org/abs/2007.00808>
# - Qu et al. 2020, *RocketQA*, what unfiltered negatives do, and a cross-encoder that filters them,
#   <https://arxiv.org/abs/2010.08191>
# - Moreira et al. 2024, *NV-Retriever*, positive-aware margins, <https://arxiv.org/abs/2407.15831>
# - next: `06_distillation`
