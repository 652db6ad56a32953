# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · The embedding space, before and after
#
# Training moves every document. Here you see where they went, on one map that was made for both
# models, and you learn how far such a map can be trusted. Then you measure the space itself:
# six figures, each with a formula of a line or two, that say what a picture only suggests.
#
# **You will do**
# - look at both models on one map, choose documents on one side and find them on the other
# - fit two maps to the same vectors, and see how far they differ
# - draw the same vectors with three settings, and draw noise
# - measure both spaces: alignment, uniformity, effective rank, hubs, separation, drift
#
# **You will learn**
# - why two maps that were fitted apart must not be compared
# - what UMAP hides, and what trustworthiness says of it
# - which of the measures tell a good model from a broken one
#
# **You need** notebook 04; 09 has trained the LoRA of the last table.
#
# About 1.0 minutes on two CPU cores the first time, seconds after that.

# %%
import numpy as np
import pandas as pd

import embkit as ek

ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
split = domain.test_splits[0]

# %% [markdown]
# ## First the result
#
# The general model and the contrastive one of notebook 04, every document a point. Both sides
# are one map: what lies at a place on the left is that close to what lies there on the right.

# %%
recipe = ek.Recipe(model="minilm", approach="contrastive")
run = ek.train(recipe, domain)
space = ek.space.fit_space("minilm", run, domain)
ek.plots.space_maps(space)

# %% [markdown]
# Hover over a point to read it. Hold shift and draw around some: they are chosen on both sides,
# and their texts appear below. Type a query: a star falls where it belongs, joined with what it
# finds. Another colour shows which documents a query's first ten hold, or how far each drifted.

# %%
maps = ek.widgets.LinkedMaps(space, by="found")
maps.query = domain.queries[next(iter(domain.split(split)))]
maps

# %% [markdown]
# What the mouse does can be typed, too: here are the documents that drifted most, ringed on both
# sides.

# %%
maps.by = "drift"
maps.select(np.argsort(-space.drift)[:20])
maps.picture()

# %% [markdown]
# ## Two spaces, one map
#
# Why one map for both? Two maps that were fitted apart differ even where nothing changed. Here the
# same vectors are mapped with two seeds, and the second map is moved, rotated and scaled onto the
# first as well as can be (SciPy's `procrustes`). How far a point still lies from itself, as a share
# of the map's spread; and beside it what moved from before to after on one map:

# %%
from scipy.spatial import procrustes

texts = list(domain.corpus.values())
some = np.arange(0, len(texts), max(1, len(texts) // 1000))
a, b = space.before[some], space.after[some]
seeds = [ek.space.project(a, b, seed=seed) for seed in (0, 1)]


# %%
def way(first, second):
    spread = np.linalg.norm(first - first.mean(axis=0), axis=1).mean()
    return np.linalg.norm(second - first, axis=1).mean() / spread


apart = way(*procrustes(seeds[0].before, seeds[1].before)[:2])
moved = way(seeds[0].before, seeds[0].after)
pd.Series({"two fits, nothing changed": apart, "one fit, two models": moved}).round(2)

# %% [markdown]
# The first number is what a second fit alone does to the same vectors. What a point moved
# between two maps means nothing until it is far above that.
#
# Training may also rotate a space as a whole, which changes no similarity within it and so no
# ranking. `fit_space` rotates the second model's vectors back onto the first's before it draws:
# what did not change lies at the same place on both sides, and drift, below, counts no rotation.

# %% [markdown]
# ## What UMAP hides
#
# UMAP keeps neighbours together and gives up distances, sizes and densities to do so; how much of
# each is a setting. The same vectors, three settings. Below each stands its trustworthiness
# (Venna and Kaski): 1 if everything that looks near on the map is near in the space, about 0.5 if
# the map were drawn by chance.

# %%
settings = {"5 neighbours, tight": (5, 0.0), "15 neighbours": (15, 0.1),
            "100 neighbours, loose": (100, 0.5)}
few = {
    name: ek.space.project(a, b, k=min(k, len(some) // 3), min_dist=tight)
    for name, (k, tight) in settings.items()
}
few["PCA"] = ek.space.project(a, b, "pca")
colours = space.colours("group")[some]
ek.plots.map_settings(few, colours)

# %% [markdown]
# A failure on purpose: noise. These vectors were drawn at random, and nothing in them belongs
# together. They make a map like any other, with pairs and clumps for whoever looks for some. Only
# the number below gives it away.

# %%
rng = np.random.default_rng(0)
noise = rng.standard_normal((2, *a.shape)).astype(np.float32)
noise /= np.linalg.norm(noise, axis=2, keepdims=True)
drawn = {
    "noise, 5 neighbours": ek.space.project(*noise, k=5, min_dist=0.0),
    "noise, 15 neighbours": ek.space.project(*noise),
}
ek.plots.map_settings(drawn, ["noise"] * len(some), by="none")

# %% [markdown]
# ## Measures
#
# A measure looks at all dimensions. **Alignment** is the mean squared distance of a query and its
# right document. **Uniformity** says how evenly the documents spread over the sphere. A model
# wants both low. One alone is easy to reach: put everything on one point, or anywhere.

# %%
asked = space.queries(split)[1]  # (queries, dim), after
place = {document: i for i, document in enumerate(domain.corpus)}
pairs = [
    (row, place[document])
    for row, judged in enumerate(domain.split(split).values())
    for document, grade in judged.items()
    if grade > 0
]
rows, right = np.array(pairs).T
alignment = ((asked[rows] - space.after[right]) ** 2).sum(axis=1).mean()
part = space.after[some].astype(float)
distances = 2 - 2 * part @ part.T  # squared: |x - y|² of unit vectors
others = ~np.eye(len(part), dtype=bool)
uniformity = np.log(np.exp(-2 * distances[others]).mean())
pd.Series({"alignment": alignment, "uniformity": uniformity}).round(3)

# %% tags=["hide"]
assert abs(alignment - space.measures(split).iloc[0, 1]) < 1e-4
assert abs(uniformity - ek.space.geometry.uniformity(space.after[some])) < 1e-4

# %% [markdown]
# **Anisotropy** is the mean cosine of two documents; **effective rank** is how many directions are
# used; **hubness** is how skewed the number of documents is that have a given one among their
# neighbours; **separation** how often a right document is more similar than a hard wrong one.
# (The wrong ones are the best that BM25 finds, or drawn where it finds none: neither model chose
# them.)

# %%
measures = space.measures(split)
measures.map(lambda value: value if isinstance(value, str) else f"{value:.3g}")

# %% [markdown]
# The last column says which side is the better one; how far a measure can be trusted, the table of
# five models below says.

# %% [markdown]
# ## Right and wrong, pulled apart
#
# Separation in full: how similar queries are to their right document and to a hard wrong one.

# %%
similar = space.similarities(split)
histograms = {
    f"{kind}, {when}": values[side]
    for kind, values in similar.items()
    for side, when in enumerate(("before", "after"))
}
ek.plots.histogram(histograms, "similarity of a query to the document")

# %% [markdown]
# The same by query: the right document's lead, after less before, tested over clusters of queries.

# %%
leads = [similar["right"][side] - similar["wrong"][side] for side in (0, 1)]
together = ek.evaluation.clusters(domain, split).codes(list(domain.split(split)))
lead = ek.paired_test(leads[1], leads[0], together)
p = "<0.001" if lead.p < 0.001 else f"{lead.p:.3f}"
said = {"after less before": lead.delta, "from": lead.ci_low, "to": lead.ci_high}
pd.DataFrame({"lead": said}).T.round(3).assign(p=p)

# %% [markdown]
# Above 0, training has put right documents further ahead of wrong ones, in cosines.

# %% [markdown]
# ## Hubs
#
# In many dimensions some documents become everybody's neighbour. Whoever searches meets them
# again and again. The largest of both spaces:

# %%
columns = {}
for name, near in zip(space.names, space.near, strict=True):
    counts = ek.space.geometry.occurrences(near)
    top = np.argsort(-counts, kind="stable")[:5]
    columns[name] = [f"{counts[i]}: {texts[i][:60]}" for i in top]
hubs = pd.DataFrame(columns).style.hide().set_uuid("hubs")
hubs.set_properties(**{"text-align": "left"})

# %% [markdown]
# ## Drift
#
# How far did each document go? How many went how far, and which went furthest:

# %%
ek.plots.histogram({"documents": space.drift}, "drift: 1 - cosine of before and after")

# %%
furthest = np.argsort(-space.drift)[:5]
rows = [(texts[i][:80], space.drift[i]) for i in furthest]
drifted = pd.DataFrame(rows, columns=["document", "drift"]).style.format(precision=2)
drifted.hide().set_uuid("drifted")
drifted.set_properties(["document"], **{"text-align": "left"})

# %% [markdown]
# How much of that does the map show? The order of the drifts beside that of the moves on the map:
# 1 would be the same order, 0 none of it. A map can show a document's new neighbours, not
# every direction in which it went.

# %%
from scipy.stats import spearmanr

moves = np.linalg.norm(space.map.after - space.map.before, axis=1)
told_by_map = float(spearmanr(space.drift, moves).statistic)
round(told_by_map, 2)

# %% [markdown]
# Training saw some documents as right answers and others never. Did it move those that it saw
# further? And how many of its fifteen neighbours does a document keep? `space.overlap` is Jaccard's:
# what both lists hold, of what either holds. It looks small where much is kept: if $k$ of 15 are
# kept, it is $J = k / (30 - k)$, so the share that is kept is $k/15 = 2J / (1 + J)$. (The intervals
# are over groups of documents, which move together.)

# %%
seen = np.array([document in domain.trained_documents for document in domain.corpus])
group = np.array([domain.groups.get(document, document) for document in domain.corpus])


# %%
kept_share = 2 * space.overlap / (1 + space.overlap)  # of a document's neighbours


def described(mask):
    low, high = ek.mean_interval(space.drift[mask], group[mask])
    return {
        "documents": mask.sum(), "drift": space.drift[mask].mean(),
        "from": low, "to": high, "Jaccard": space.overlap[mask].mean(),
        "neighbours kept": kept_share[mask].mean(),
    }


drifts = {"a training positive": described(seen), "never one": described(~seen)}
pd.DataFrame.from_dict(drifts, "index").round(3)

# %% [markdown]
# Drift is of one document, the neighbourhood of it and others: a whole group can go far together
# and stay neighbours.

# %% [markdown]
# ## Which measure tells a good model from a broken one?
#
# Five models: the general one; the contrastive one; the same recipe on shuffled answers, a
# thousand pairs, at its learning rate and at a twentieth of it; and notebook 09's LoRA. Which
# column has the order of nDCG@10?

# %%
control = recipe.replace(shuffle_labels=True, max_pairs=1024, epochs=1)
others = {
    "contrastive": run,
    "LoRA": ek.train(ek.preset("LoRA", epochs=1, max_pairs=2000), domain),
    "shuffled": ek.train(control, domain),
    "shuffled, low rate": ek.train(control.replace(learning_rate=2e-5), domain),
}
spaces = {
    name: ek.space.fit_space("minilm", other, domain, method="pca")
    for name, other in others.items()
}

# %%
base = ek.evaluate("minilm", domain)
found = {"base": {"nDCG@10": base.mean(split)}}
for name, one in spaces.items():
    both = one.measures(split)
    found["base"] |= both.iloc[:, 0]
    found[name] = {"nDCG@10": ek.evaluate(others[name], domain).mean(split)}
    found[name] |= both.iloc[:, 1]
    found[name]["drift"] = one.drift.mean()
table = pd.DataFrame(found).T
table.fillna(0).round(3).round({"effective rank": 0}).astype({"effective rank": int})

# %% [markdown]
# A wrong answer at a high rate can break a space altogether. Look at the row *shuffled*: an
# anisotropy near 1 and few directions in use mean that all documents lie at one place. It is called
# collapse. At the low rate the same wrong answers leave the space much as it was, and its search is
# what is left of the general model's.
#
# The agreement of each column's order with that of nDCG@10: 1 the same order, -1 the reverse
# (Kendall's τ; for a measure that is better low, the reverse is the good one). Five models prove
# nothing; they do show which measures can look good in a broken model.

# %%
tau = table.drop(columns="drift").corr("kendall")["nDCG@10"].drop("nDCG@10")
tau.rename("agreement with nDCG@10").to_frame().round(2)

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
from IPython.display import Markdown

one, other = space.map.trust
of_noise = drawn["noise, 15 neighbours"]
told = [
    f"- one map for two models; trustworthiness {one:.3f} and {other:.3f}",
    f"- two fits of the same vectors differ by {apart:.2f} of the map's spread",
    f"- noise is drawn with a trustworthiness of {of_noise.trust[1]:.2f}",
    *(
        "- {} {:.3f} before and {:.3f} after".format(name, *measures.loc[name][:2])
        for name in ("separation", "uniformity", "hubness")
    ),
    f"- drift and the way on the map agree in order by {told_by_map:.2f}",
    f"- best aligned: {table['alignment'].idxmin()}; best: {table['nDCG@10'].idxmax()}",
]

# %% tags=["hide"]
shares = [f"{row['neighbours kept']:.0%}" for row in drifts.values()]
told.append(
    f"- a training positive keeps {shares[0]} of its neighbours, another document "
    f"{shares[1]}"
)
for name in ("shuffled", "shuffled, low rate"):
    row = table.loc[name]
    told.append(
        f"- {name}: anisotropy {row['anisotropy']:.2f}, effective rank "
        f"{row['effective rank']:.0f}, nDCG@10 {row['nDCG@10']:.3f}"
    )
Markdown("\n".join(told))

# %% [markdown]
# ## Exercises
#
# **1.** What is the alignment of a model that makes each query orthogonal to its right document?

# %% tags=["solution"]
answer_1 = 1 + 1 - 2 * 0
answer_1

# %%
ek.exercises.check(
    "1", answer_1, lambda a: abs(a - 2) < 1e-6, hint="|q - d|² = |q|² + |d|² - 2 q·d",
    right="what lies orthogonal has nothing in common",
)

# %% [markdown]
# **2.** A document had the neighbours {1, 2, 3, 4} and has {3, 4, 5, 6}. What is its overlap?

# %% tags=["solution"]
answer_2 = len({3, 4}) / len({1, 2, 3, 4, 5, 6})
answer_2


# %%
def overlaps(a):
    lists = np.array([[1, 2, 3, 4]]), np.array([[3, 4, 5, 6]])
    return abs(a - ek.space.geometry.neighbour_overlap(*lists)[0]) < 1e-3


ek.exercises.check("2", answer_2, overlaps, hint="what both have, of what either has")

# %% [markdown]
# **3.** Which share of the documents is nobody's neighbour, after training? Call it `answer_3`.

# %% tags=["solution"]
answer_3 = (ek.space.geometry.occurrences(space.near[1]) == 0).mean()
answer_3

# %%
occurrences = ek.space.geometry.occurrences
ek.exercises.check(
    "3", answer_3,
    lambda a: abs(a - (occurrences(space.near[1]) == 0).mean()) < 1e-3,
    hint="ek.space.geometry.occurrences counts them", right="the other side of hubs",
)

# %% [markdown]
# ## Further reading
#
# - McInnes, Healy and Melville 2018, *UMAP*, <https://arxiv.org/abs/1802.03426>
# - Venna and Kaski 2001, on trustworthiness, <https://doi.org/10.1007/3-540-44668-0_68>
# - Wang and Isola 2020, *Understanding Contrastive Representation Learning through Alignment and
#   Uniformity on the Hypersphere*, <https://arxiv.org/abs/2005.10242>
# - Radovanović, Nanopoulos and Ivanović 2010, *Hubs in Space*,
#   <https://jmlr.org/papers/v11/radovanovic10a.html>
# - Hamilton, Leskovec and Jurafsky 2016, on rotating one space onto another,
#   <https://arxiv.org/abs/1605.09096>
# - next: `12_compare_and_decide`
