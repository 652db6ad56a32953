# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · Matryoshka vectors and search in two tiers
#
# A vector of 384 numbers is 1.5 kB; a million of them do not fit where sixty-four numbers each
# would. Truncate a model's vectors and it loses much, unless it was trained for that. Here you
# train one that was, measure what each size keeps, and then use it for what it is good for: a
# shortlist from small vectors in memory, ranked by the whole vectors that stay on disk.
#
# **You will do**
# - truncate the vectors of three models to five sizes, with intervals
# - compute `MatryoshkaLoss` by hand, equal to the library's; train with it and with the kit's
#   recipe, and get the same
# - load a model with `truncate_dim`
# - ask a model for a size it was not trained for, and read what that costs
# - search in two tiers: memory, shortlist, recall; a bit a number beside it
#
# **You will learn**
# - where a model keeps what it knows, and how a loss can move it to the front
# - what the small sizes cost the whole one
# - that a shortlist need not be good, only long enough
#
# **You need** notebooks 02 and 04.
#
# About 2.9 minutes on two CPU cores the first time, seconds after that.

# %%
import warnings

import numpy as np
import pandas as pd

import embkit as ek

ek.setup()
warnings.simplefilter("ignore", ek.evaluation.UntrainedDimension)  # shown below
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
split = domain.test_splits[0]

# %% [markdown]
# ## First the result
#
# The contrastive model of notebook 00, and the same recipe with one field more: *every size*. Each
# model encodes once; its vectors are truncated to their first numbers and brought to length 1 again.

# %%
plain = ek.train(ek.Recipe(), domain)  # at once, where notebook 00 was run
nested = ek.train(ek.Recipe(matryoshka=(384, 256, 128, 64, 32)), domain)

# %%
sizes = nested.recipe.matryoshka
tables = {
    "every size": ek.evaluate_sizes(nested, domain),
    "the whole": ek.evaluate_sizes(plain, domain, sizes),
    "general": ek.evaluate_sizes("minilm", domain, sizes),
}
tables["every size"]

# %%
bands = {name: table.band(split) for name, table in tables.items()}
ek.plots.lines(sizes, bands, "dimensions", f"nDCG@10 on {split}", logx=True)

# %% [markdown]
# The bands are 95% intervals of each model alone; models are compared further down, query by query.
# *The whole* was trained without other sizes, *general* not at all.
#
# Move the slider, or type a query: three models are truncated there, and searched again.

# %%
ek.widgets.TruncationLab(
    {"every size": nested, "the whole": plain, "general": "minilm"}, domain
)

# %% [markdown]
# ## The loss by hand
#
# A Matryoshka loss is any loss, taken once for each size $m$ on vectors truncated to $m$ numbers,
# and summed with weights $w_m$, here all 1:
#
# $$\mathcal{L} = \sum_{m} w_m \; \mathcal{L}_{\mathrm{contrastive}}(q_{1:m},\, d_{1:m})$$
#
# So the first 32 numbers take part in every term, and the last 128 in one alone. Four pairs whose
# documents are hard to tell apart, here kinds of anemia; elsewhere, those of one group:

# %%
general = ek.load_model("minilm")
rows = list(ek.training_pairs(plain.recipe, domain).dataset())
about = {row["positive"]: row for row in rows if "anemia" in row["positive"].lower()}
if len(about) < 4:  # another domain: the group with the most documents
    right = domain.right("train")
    group = {domain.corpus[d]: domain.groups.get(d, d) for _, d in right}
    most = pd.Series(group).mode()[0]
    about = {r["positive"]: r for r in rows if group.get(r["positive"]) == most}
    about = about if len(about) > 3 else {r["positive"]: r for r in rows}

# %%
four = list(about.values())[:4]
asked, shown = ([row[name] for row in four] for name in ("anchor", "positive"))
texts = pd.DataFrame({"query": asked, "document": shown}).style.hide()
texts.set_properties(**{"text-align": "left"}).set_uuid("four")

# %%
queries, documents = general.encode(asked), general.encode(shown)  # (4, dim) each


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def contrastive(q, d, t=0.05):
    scaled = unit(q) @ unit(d).T / t  # (4, 4)
    softmax = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    return -np.log(np.diag(softmax)).mean()


# %%
terms = {m: contrastive(queries[:, :m], documents[:, :m]) for m in sizes}
first = {m: np.diag(unit(queries[:, :m]) @ unit(documents[:, :m]).T) for m in sizes}
best_wrong = {}
for m in sizes:
    cosines = unit(queries[:, :m]) @ unit(documents[:, :m]).T
    np.fill_diagonal(cosines, -1)
    best_wrong[m] = cosines.max(axis=1).mean()
by_hand = sum(terms.values())
pd.DataFrame({
    "right, cosine": {m: c.mean() for m, c in first.items()},
    "best wrong, cosine": best_wrong, "loss": terms,
}).rename_axis("dimensions").round(3)

# %% [markdown]
# Right and wrong kinds of anemia lie close together at every size. Each size has a loss of its own;
# their sum is what training lowers.

# %% [markdown]
# sentence-transformers wraps a loss of its own in another:

# %%
from sentence_transformers.sentence_transformer.losses import (
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)

inner = MultipleNegativesRankingLoss(general, scale=1 / 0.05)
loss = MatryoshkaLoss(general, inner, matryoshka_dims=list(sizes))
general.eval()
columns = [general.preprocess(texts) for texts in (asked, shown)]
by_library = loss(columns, None).item()
round(float(by_hand), 4), round(by_library, 4)

# %% tags=["hide"]
assert abs(by_hand - by_library) < 1e-3, (by_hand, by_library)

# %% [markdown]
# Training with it, in sentence-transformers' own calls: two steps on 64 pairs.

# %%
from sentence_transformers import SentenceTransformer
from sentence_transformers import SentenceTransformerTrainer as Trainer
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments

from embkit.assets.catalogue import resolve
from embkit.session import precision_flags

start = str(resolve("minilm"))  # a folder; a name on the hub will do as well
few = ek.Recipe(matryoshka=sizes, batch_size=64, max_pairs=64, epochs=2)
data = ek.training_pairs(few, domain).dataset().select_columns(["anchor", "positive"])
no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
model = SentenceTransformer(start, config_kwargs=no_dropout)

# %%
out = ek.paths().runs / "matryoshka_by_hand"
arguments = Arguments(
    str(out), num_train_epochs=2, per_device_train_batch_size=64, seed=few.seed,
    learning_rate=few.learning_rate, warmup_steps=0.1, report_to="none",
    save_strategy="no", disable_tqdm=True, batch_sampler="no_duplicates",
    use_cpu=model.device.type == "cpu", **precision_flags(),
)
ranking = MultipleNegativesRankingLoss(model, scale=1 / few.temperature)
every_size = MatryoshkaLoss(model, ranking, matryoshka_dims=list(sizes))
trainer = Trainer(model=model, args=arguments, train_dataset=data, loss=every_size)
steps = trainer.train().global_step
model.save_pretrained(str(out))

# %% [markdown]
# Saved, it is a plain model. `truncate_dim` loads it at a smaller size. Beside it stands the kit's
# short form, `Recipe(matryoshka=...)`, which works with every approach: cosines of the two models'
# vectors, and of the untrained model's, at 64 dimensions. The two are the same up to the rounding
# of 16-bit products: the kit computes texts without their padding, and AdamW passes on the last
# digits that this changes.

# %%
texts = list(domain.corpus.values())[:64]
small = SentenceTransformer(str(out), truncate_dim=64)
theirs = small.encode(texts, normalize_embeddings=True)  # (64, 64)
others = {"the kit's": ek.train(few, domain, quiet=True).model(), "untrained": general}
cosines = pd.DataFrame({
    name: (unit(other.encode(texts)[:, :64]) * theirs).sum(axis=1)
    for name, other in others.items()
})
cosines.agg(["mean", "min"]).T.round(4)

# %% [markdown]
# ## Where a model keeps what it knows
#
# The share of the vectors' squared length that lies in their first numbers. Where all numbers
# weigh alike, the line is straight; what training for every size does is to bend it.

# %%
corpus = list(domain.corpus.values())
models = {
    "every size": nested.model(), "the whole": plain.model(), "general": general
}
vectors = {name: ek.encode(model, corpus) for name, model in models.items()}
front = {
    name: [(v[:, :m] ** 2).sum(axis=1).mean() for m in sizes]
    for name, v in vectors.items()
}
pd.DataFrame(front, index=pd.Index(sizes, name="dimensions")).round(3)

# %% [markdown]
# What the same vectors find at each size, in nDCG@10:

# %%
pd.DataFrame({
    name: {size: table.scores[size].mean(split) for size in sizes}
    for name, table in tables.items()
}).rename_axis("dimensions").round(3)

# %% [markdown]
# ## What it costs the whole vectors
#
# The small sizes pull on the same weights as the whole one. At each size, the paired difference
# between training for every size and training for the whole, with its interval over clusters of
# queries; above 0, every size is better.

# %%
def paired(name, other, size, of):
    a, b = (tables[table].scores[size].values(of) for table in (name, other))
    test = ek.paired_test(a, b)
    p = "<0.001" if test.p < 0.001 else f"{test.p:.3f}"
    return {"dimensions": size, "split": of, "difference": test.delta,
            "from": test.ci_low, "to": test.ci_high, "p": p}


everywhere = [(size, of) for size in sizes for of in domain.test_splits]
differences = pd.DataFrame(
    [paired("every size", "the whole", *place) for place in everywhere]
).set_index(["dimensions", "split"])
differences.round(3)

# %% [markdown]
# An interval that holds 0 is no difference that these queries can show. One that doesn't is one of
# these two models: each was trained with one seed. What three seeds say of the whole size, for the
# softmax over the whole corpus with and without small sizes, `make approaches` has kept. Nothing of
# it was trained here:

# %%
kept = ek.evaluation.results(domain)
there = [kept[name] for name in ("corpus", "Matryoshka", "base") if name in kept]
whole_size = ek.compare(there, baseline="corpus") if "corpus" in kept else None
whole_size or "nothing is kept for this domain: python -m embkit approaches"

# %% [markdown]
# ## A size that nobody trained for
#
# Any model's vectors can be truncated. `evaluate_sizes` does it, and warns with what it measured:

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    ek.evaluate_sizes(plain, domain, [32])
said = [w for w in caught if w.category is ek.evaluation.UntrainedDimension]
print("UntrainedDimension:", said[0].message)

# %% [markdown]
# ## What it is for: search in two tiers
#
# A search reads every document's vector. With small ones it has less to read and to hold; what it
# finds is a shortlist, which is then ranked by the whole vectors. Those are read from disk, a few
# hundred a query. The **hot tier** is what must be in memory, the **cold tier** what may lie on
# disk.

# %%
import tempfile

folder = tempfile.TemporaryDirectory()  # goes when the kernel ends
file = f"{folder.name}/whole.npy"
np.save(file, vectors["every size"].astype(np.float16))
documents = np.load(file, mmap_mode="r")  # (documents, dim), read from disk as needed
dev_queries = [domain.queries[q] for q in domain.split("dev")]
asked = ek.encode(models["every size"], dev_queries)  # (queries, dim)
tiers = ek.search.TieredIndex(documents, size=64, shortlist=100)
tiers

# %% [markdown]
# How good must a shortlist be? It must hold what the whole vectors would rank first, anywhere in
# it. Here is the share of exact search's first ten that two tiers find, by the shortlist's length,
# for queries of the dev split.

# %%
lengths = [10, 20, 50, 100, 200, 500]
indexes = {size: ek.search.TieredIndex(documents, size=size) for size in (128, 64, 32)}
curves = {
    f"{size} dimensions": [index.replace(shortlist=n).recall(asked) for n in lengths]
    for size, index in indexes.items()
}
ek.plots.lines(
    lengths, curves, "documents ranked by their whole vectors", "recall@10", logx=True
)

# %% [markdown]
# `shortlist_for_recall` finds the shortest shortlist that reaches a recall: on the dev split,
# since it is a choice. The other models' vectors, truncated to the same sizes, need a longer one
# for the same result.

# %%
needed = {}
for name, model in models.items():
    dev = ek.encode(model, dev_queries)
    for size in (128, 64, 32):
        index = ek.search.TieredIndex(vectors[name], size=size)
        needed[name, size] = index.shortlist_for_recall(
            dev, recall=0.99, deepest=len(corpus)
        )
pd.Series(needed).unstack().rename_axis("trained for", axis=0)[[128, 64, 32]]

# %% [markdown]
# ## Smaller still: a bit a number
#
# A hot tier that is `binary` keeps the sign of each number, one bit; vectors are compared by how
# many bits differ. Each form gets the shortlist that it needs on dev, and is measured on test:
# recall of the exact result, and nDCG@10.

# %%
forms = {
    "64 numbers": {"size": 64},
    "64 bits": {"size": 64, "index": "binary"},
    "384 bits": {"size": 384, "index": "binary"},
}


# %%
ids = list(domain.split(split)), list(domain.corpus)
test = ek.encode(models["every size"], [domain.queries[q] for q in ids[0]])
whole_bytes = vectors["every size"].nbytes


def measured(options):
    tiers = ek.search.TieredIndex(documents, **options)
    needs = tiers.shortlist_for_recall(asked, deepest=len(corpus)) or len(corpus)
    tiers = tiers.replace(shortlist=needs)
    found = tiers.search(test, 10, domain.hidden(*ids))
    ranking = ek.evaluation.metrics.ranking_from_arrays(*ids, *found)
    ndcg = ek.evaluation.score(ranking, domain, split)["ndcg@10"]
    share = tiers.hot_bytes / whole_bytes
    return {"hot kB": tiers.hot_bytes / 1000, "share of exact's": share,
            "shortlist": needs, "recall@10": tiers.recall(test), "nDCG@10": ndcg.mean()}


# %%
exact = tables["every size"].scores[sizes[0]].mean(split)
found = {name: measured(options) for name, options in forms.items()}
found["exact, whole vectors"] = {
    "hot kB": whole_bytes / 1000, "share of exact's": 1.0,
    "shortlist": len(corpus), "recall@10": 1.0, "nDCG@10": exact,
}
pd.DataFrame.from_dict(found, "index").round(3).round({"hot kB": 1})

# %% [markdown]
# Signs alone say less than numbers: at one size, they need a longer shortlist, which is read from
# disk. 384 bits take less memory than 64 numbers: compare their shortlists, too.

# %% [markdown]
# ## At a million
#
# A few thousand documents are searched at once whichever way. What grows is measured by
# `python -m tests.benchmarks.bench --only tiered`, in minutes: ten thousand documents, a hundred
# thousand, a million, the larger ones made of real vectors with noise. `data/results.md` has
# the table.

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
from IPython.display import Markdown

every, whole, _ = tables.values()
cost = differences.loc[(sizes[0], split)]
told = [f"- a sum over sizes: {by_hand:.4f} by hand, {by_library:.4f} by the library"]
told += [
    f"- on `{split}`, {size} dimensions keep {every.kept(size, split):.1%}; "
    f"without such training {whole.kept(size, split):.1%}"
    for size in sizes[-2:]
]
told.append(f"- at the whole size, training for every size changes nDCG@10 by "
            f"{cost['difference']:+.3f} [{cost['from']:+.3f}, {cost['to']:+.3f}]")

# %% tags=["hide"]
better, worse = (differences["from"] > 0).sum(), (differences["to"] < 0).sum()
told.append(f"- of {len(differences)} such differences over sizes and splits, {better} "
            f"have their interval above 0, {worse} below 0; the rest show nothing")
for name in forms:
    row = found[name]
    told.append(f"- two tiers, {name} a document, {row['shortlist']:,} ranked again: "
                f"{row['recall@10']:.1%} of exact search's first ten")

# %% tags=["hide"]
Markdown("\n".join(told))

# %% [markdown]
# ## Exercises
#
# **1.** `MatryoshkaLoss` takes weights. What is the loss of the four pairs if the whole size weighs
# 4 and the others 1?

# %% tags=["solution"]
answer_1 = by_hand + 3 * terms[sizes[0]]
answer_1


# %%
def weighted(a):
    weights = [4, *[1] * (len(sizes) - 1)]
    library = MatryoshkaLoss(general, inner, list(sizes), matryoshka_weights=weights)
    return abs(a / library(columns, None).item() - 1) < 1e-2


ek.exercises.check("1", answer_1, weighted, hint="terms[m] is the loss at size m")

# %% [markdown]
# **2.** How many times less memory do a million vectors take with 64 dimensions as bits than with
# 384 as float32?

# %% tags=["solution"]
answer_2 = (384 * 4) / (64 / 8)
answer_2

# %%
ek.exercises.check(
    "2", answer_2, lambda a: abs(a - 192) < 0.5,
    hint="a float32 has four bytes of 8 bits",
    right="the target of a quarter is met long before",
)

# %% [markdown]
# **3.** With 32 dimensions, how long must the shortlist be on dev for a recall of 0.95?

# %% tags=["solution"]
answer_3 = indexes[32].shortlist_for_recall(asked, recall=0.95)
answer_3

# %%
ek.exercises.check(
    "3", answer_3,
    lambda a: indexes[32].replace(shortlist=max(10, a)).recall(asked) >= 0.95
    and (a == 10 or indexes[32].replace(shortlist=a - 1).recall(asked) < 0.95),
    hint="indexes[32].shortlist_for_recall(asked, recall=...)",
)

# %% [markdown]
# ## Further reading
#
# - Kusupati et al. 2022, *Matryoshka Representation Learning*, the loss, and adaptive retrieval,
#   <https://arxiv.org/abs/2205.13147>
# - Douze et al. 2024, *The Faiss library*, <https://arxiv.org/abs/2401.08281>
# - next: `08_prefixes_and_heads`
