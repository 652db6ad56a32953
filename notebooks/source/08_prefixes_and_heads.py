# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · Prefixes and heads
#
# Two small levers. A prefix is a few words before a text that say what it is: a question, a
# title, an instruction. A head is a matrix behind a frozen model, trained in seconds on vectors
# that were encoded once. Here you measure what each is worth, and what each breaks.
#
# **You will do**
# - ask a model with its own instruction, with another prefix, and with none
# - train with prefixes, in the library's own trainer and in the kit's short form
# - serve a model that was trained with prefixes rightly, without them, and with them exchanged
# - fit two kinds of heads on frozen vectors, the loss by hand first
# - look apart at the queries whose right document was never trained on
#
# **You will learn**
# - that a prefix is part of the model and saved with it, and that most of what it is said to
#   bring does not show here
# - what a head can and cannot do, and what it costs to put into service
#
# **You need** notebook 04.
#
# About 1.6 minutes on two CPU cores the first time, seconds after that.

# %%
import numpy as np
import pandas as pd

import embkit as ek

session = ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
split = domain.test_splits[0]
general = ek.load_model("minilm")

# %% [markdown]
# ## First the result
#
# A linear query adapter: one square matrix on the query's vector, behind a model that is left
# as it is. The documents' vectors do not change.

# %%
head = ek.fit_head("linear", domain)
head

# %%
base, adapted = ek.evaluate("minilm", domain), ek.evaluate(head, domain)
ek.compare([base, adapted], baseline="base")

# %% [markdown]
# The interval of a difference says what stands. With ICD-10-CM, the adapter gains on `known` as a
# whole; what it does on words that no coder wrote is below.

# %% [markdown]
# ## A prefix is text
#
# sentence-transformers keeps prompts with a model, by name. `encode_query` puts the one named
# `query` before every text, `encode_document` the one named `document`.

# %%
general.prompts = {"query": "query: ", "document": "document: "}
texts = [domain.queries[query] for query in list(domain.split(split))[:500]]
by_name = general.encode_query(texts)
by_hand = general.encode(["query: " + text for text in texts])
general.tokenizer.tokenize("query: " + texts[0]), float(np.abs(by_name - by_hand).max())

# %% tags=["hide"]
assert np.abs(by_name - by_hand).max() < 1e-4

# %% [markdown]
# A model that was not trained with it reads the same few tokens in every text. How far do they
# move a vector, and do they bring different texts nearer to one another?

# %%
plain, prefixed = ek.encode(general, texts), ek.encode(general, texts, prompt="query: ")
other = np.roll(np.arange(len(texts)), 1)  # for each text, another one
pd.Series({
    "a text, with and without the prefix": (plain * prefixed).sum(axis=1).mean(),
    "two different texts, without": (plain * plain[other]).sum(axis=1).mean(),
    "two different texts, with": (prefixed * prefixed[other]).sum(axis=1).mean(),
}, name="mean cosine").to_frame().round(3)

# %% [markdown]
# The first row is how much of a vector stays; the other two, whether the prefix pulls different
# texts together.
#
# A prefix also takes tokens. One that fills the model's window pushes every text out of it.
# The library truncates and says nothing: two texts, one vector. embkit refuses.

# %%
long = "Represent this sentence for retrieval: " * 60
same = general.encode(texts[:2], prompt=long, normalize_embeddings=True)
f"cosine of two texts behind a long prefix: {same[0] @ same[1]:.4f}"

# %%
try:
    ek.encode(general, texts[:2], prompt=long)
except ek.EmbkitError as error:
    print(error)

# %% [markdown]
# ## A model's own instruction
#
# `bge-small` was trained with an instruction before its queries, and nothing before its documents.
# Its card gives the words. Here it is asked on the dev sample (dev's queries, searched in at most
# 2,000 documents): as it is, with that instruction, and with a prefix that it has never seen.

# %%
from embkit.evaluation.ranking import ndcg

INSTRUCTION = "Represent this sentence for searching relevant passages: "


def on_dev(model, query="", document=""):
    model.prompts = {"query": query, "document": document}
    return ndcg(model, domain, "dev", domain.dev_corpus())


# %%
bge = ek.load_model("bge-small")
instructed = {
    "bge-small, no prefix": on_dev(bge),
    "bge-small, its own instruction": on_dev(bge, INSTRUCTION),
    "bge-small, 'query: '": on_dev(bge, "query: "),
    "minilm, no prefix": on_dev(general),
    "minilm, 'query: '": on_dev(general, "query: "),
    "minilm, both prefixes": on_dev(general, "query: ", "document: "),
}

# %% tags=["hide"]
def against(rows, right):
    """nDCG@10 on dev, and the difference to what each row is tested against."""
    told = {}
    for name, values in rows.items():
        found = ek.paired_test(values, right[name])
        interval = f"{found.delta:+.3f} [{found.ci_low:+.3f}, {found.ci_high:+.3f}]"
        told[name] = {"dev nDCG@10": f"{values.mean():.3f}",
                      "difference [95%]": "" if values is right[name] else interval}
    return pd.DataFrame(told).T


no_prefix = {
    name: instructed[name.partition(",")[0] + ", no prefix"] for name in instructed
}
against(instructed, no_prefix)

# %% [markdown]
# Differences are to the same model without a prefix. An interval that includes 0 shows nothing, and
# one that lies below 0 shows a loss: an instruction fits the texts that it was trained with, whole
# questions and passages of the web, and coders' phrases are neither.
#
# ## Trained with a prefix
#
# The library's trainer takes `prompts=` by column of the data set. With several data sets it takes
# them by the data set's name and then by column, which is how one model is taught several tasks.
# A few steps on 128 pairs:

# %%
from sentence_transformers import (
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)

short = ek.preset("both prompts", epochs=1, max_pairs=128, batch_size=32)
data = ek.training_pairs(short, domain).dataset()
put = {"query": "query: ", "document": "document: "}
data

# %%
arguments = SentenceTransformerTrainingArguments(
    output_dir=str(ek.paths().runs / "prompts"),
    prompts={"anchor": put["query"], "positive": put["document"]},
    num_train_epochs=1, per_device_train_batch_size=short.batch_size,
    learning_rate=short.learning_rate, warmup_steps=short.warmup_ratio, seed=short.seed,
    batch_sampler="no_duplicates", save_strategy="no", disable_tqdm=True,
    use_cpu=session.device == "cpu",
    bf16=session.precision == "bf16", fp16=session.precision == "fp16",
)

# %%
import torch
from sentence_transformers.sentence_transformer import losses

model = ek.load_model("minilm")
model.prompts = put  # saved with the model: encode_query and encode_document read them
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = short.dropout
loss = losses.MultipleNegativesRankingLoss(model, scale=1 / short.temperature)
trainer = SentenceTransformerTrainer(model, arguments, data, loss=loss)
trainer.train().training_loss

# %% [markdown]
# The kit's short form is a preset, `Recipe(query_prompt=..., document_prompt=...)`. How near are the
# two models, query by query?

# %%
ours = ek.train(short, domain).model()
one, other = model.encode_query(texts), ours.encode_query(texts)
cosines = torch.cosine_similarity(torch.tensor(one), torch.tensor(other))
f"cosines from {cosines.min():.4f}, prompts alike: {ours.prompts == model.prompts}"

# %% [markdown]
# A cosine of 1 is the same vector. What is left below 1 is rounding in 16 bits, and rows that the
# kit keeps out of one batch because a known right answer would be a negative there.
#
# ## What training with it is worth
#
# Not trained here: all pairs, three epochs, three seeds. `make approaches` makes them, and keeps them
# with the data: *contrastive* without prefixes, *query prompt* with one on the queries, *both
# prompts*.

# %%
kept = ek.evaluation.kept.results(domain)
names = ("base", "contrastive", "query prompt", "both prompts")
there = [kept[name] for name in names if name in kept]
prompted = ek.compare(there, baseline="contrastive") if "contrastive" in kept else None
prompted or "nothing is kept of this domain and profile: make approaches"

# %% [markdown]
# On `icd10cm`, in the profile `workshop`, no interval of the prompts' rows excludes 0: training with
# a prefix, on the queries or on both sides, is worth nothing that can be seen here. Others find
# little, too: the library's own documentation reports +0.66% and +0.90%, relative, for two models
# trained on 100,000 pairs with prompts and without, and gives no interval. On a test like this one,
# that is far inside the noise.
#
# ## Trained with it, served without it
#
# One mistake: somebody loads the model elsewhere and calls `encode`, which knows no query from
# a document. Another one exchanges the two. Here on a model of 2,000 pairs and one epoch.

# %%
run = ek.train(ek.preset("both prompts", epochs=1, max_pairs=2000), domain, quiet=True)
tuned = run.model()
served = {
    "as trained": on_dev(tuned, **put),
    "both left out": on_dev(tuned),
    "left out of the documents": on_dev(tuned, query="query: "),
    "exchanged": on_dev(tuned, query="document: ", document="query: "),
}
against(served, dict.fromkeys(served, served["as trained"]))

# %% [markdown]
# Each row but the first is a mistake. Where its interval includes 0, the mistake costs nothing that
# can be seen here. It can cost much in a model that was trained with prefixes on millions of pairs:
# serve what was trained, and let the model's own folder say what that is.

# %% [markdown]
# ## A head, by hand
#
# For a query's vector $q$ and the documents' vectors $d_i$, all frozen, a linear adapter $W$
# is trained with a softmax over the whole corpus:
#
# $$-\log \frac{\exp(\cos(Wq, d^+)/t)}{\sum_i \exp(\cos(Wq, d_i)/t)}$$
#
# What else is right for the same query is left out of the sum. No text is encoded on the way,
# so a step is two matrix products, and the corpus may be the batch.

# %%
general = ek.load_model("minilm")
pairs = ek.training_pairs(ek.Recipe(max_pairs=64), domain)
q = ek.encode(general, [anchor for _, anchor, _ in pairs.rows])  # (pairs, dim)
d = ek.encode(general, list(domain.corpus.values()))  # (corpus, dim)
places = np.array(pairs.places())  # (pairs, right ones): the positive first, then -1
W = np.eye(q.shape[1]) + 0.02 * np.random.default_rng(0).normal(size=(q.shape[1],) * 2)

# %%
moved = q @ W.T
moved /= np.linalg.norm(moved, axis=1, keepdims=True)
scores = moved @ d.T / 0.05  # (pairs, corpus)
positive = scores[np.arange(len(q)), places[:, 0]].copy()
for row, others in zip(scores, places[:, 1:], strict=True):
    row[others[others >= 0]] = -np.inf
by_hand = (np.log(np.exp(scores).sum(axis=1)) - positive).mean()
round(float(by_hand), 4)

# %% [markdown]
# embkit's class, which `approach="corpus"` trains encoders with, gives the same.
# Its model here is the library's `Dense` module alone.

# %%
from sentence_transformers.base.modules import Dense

from embkit.losses.corpus import CorpusSoftmaxLoss

matrix = Dense(
    *W.shape, bias=False, activation_function=None, init_weight=torch.tensor(W).float()
)
loss = CorpusSoftmaxLoss(matrix, temperature=0.05, in_batch_weight=0.0)
loss.documents = torch.tensor(d)
by_class = loss([{"sentence_embedding": torch.tensor(q)}], torch.tensor(places)).item()
round(by_class, 4)

# %% tags=["hide"]
assert abs(by_hand - by_class) < 1e-3, (by_hand, by_class)

# %% [markdown]
# A fitted head becomes part of the model through the library's `Router`: queries go one way,
# documents another. It is saved and loaded like any model, and needs no code of ours.

# %%
adapted_model = head.model()
adapted_model[-1]

# %%
W = adapted_model[-1].sub_modules["query"][0].linear.weight.detach().numpy()
asked = general.encode(texts[:4], normalize_embeddings=True) @ W.T
asked /= np.linalg.norm(asked, axis=1, keepdims=True)
difference = np.abs(asked - adapted_model.encode_query(texts[:4])).max()
print(f"largest difference: {difference:.1e}")

# %% [markdown]
# ## Two kinds
#
# A matrix on the queries alone, or a second one for the documents. Both start as the identity, and
# after every step they are pulled back by a small share of the way. Dev says after which epoch to
# stop; the learning rate is the kit's default for heads.

# %%
two_sided = ek.fit_head("two-sided", domain, learning_rate=0.01)
kinds = {"linear": head, "two-sided": two_sided}
judged = {kind: ek.evaluate(fitted, domain) for kind, fitted in kinds.items()}
full_run = ek.train(ek.Recipe(), domain)  # that of notebook 00
full = ek.evaluate(full_run, domain)
named = {"base": base, **judged, "contrastive": full}
report = ek.compare([s.labelled(name) for name, s in named.items()], baseline="base")
report

# %%
ek.plots.intervals(report)

# %% [markdown]
# On ICD-10-CM with the profile `workshop`: both heads gain on `known`, where they know the right
# codes from training. Full fine-tuning gains on `novel`, too. On `lay`, all three lose to the model
# that was left as it is.
#
# What each costs to train, and to put into service:

# %% tags=["hide"]
service = {
    "linear": "documents stay",
    "two-sided": "a matrix product over the documents' vectors",
}
costs = pd.DataFrame({
    kind: {"trained parameters": f"{fitted.record['trainable_params']:,}",
           "seconds": round(fitted.seconds, 1), "to serve": service[kind]}
    for kind, fitted in kinds.items()
} | {"contrastive": {
    "trained parameters": f"{full.meta['trainable_params']:,}",
    "seconds": round(full.meta["train_seconds"], 1),
    "to serve": "every document is encoded again"}}).T.style.format(precision=1)
costs.set_properties(subset=["to serve"], **{"text-align": "left"}).set_uuid("costs")

# %% [markdown]
# ## Where it gains, where it loses
#
# Queries whose right document was the answer of some training query, beside those whose right
# document never was: the difference to the general model, paired.

# %%
ways = ["seen", "never_positive"] if domain.subsets()[split] else [None]
parts = [(split, way) for way in ways]
parts += [(test, None) for test in domain.test_splits[1:]]


def part(scores, test, name):
    values = scores.values(test)
    if name is None:
        return values
    never = values.index.isin(domain.subset(test))
    return values[never if name == "never_positive" else ~never]


# %%
columns = [*judged.items(), ("contrastive", full)]
table = {}
for test, name in parts:
    row = table.setdefault(" · ".join(filter(None, (test, name))), {})
    row["queries"] = len(part(base, test, name))
    for label, scores in columns:
        found = ek.paired_test(part(scores, test, name), part(base, test, name))
        row[label] = f"{found.delta:+.3f} [{found.ci_low:+.3f}, {found.ci_high:+.3f}]"
pd.DataFrame(table).T

# %% [markdown]
# The rows part what the table above has together: a head learns where the right documents of
# training lie, so look for its gain under *seen*, and for what is left under *never_positive*. Each
# column is tested against the general model, not against its neighbour.
#
# Search with both: the linear adapter moves the query alone, the documents' vectors are the
# same.

# %%
ek.widgets.SearchBox(general, head, domain, names=("general", "with the adapter"))

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
from IPython.display import Markdown


def change(values, other):
    found = ek.paired_test(values, other)
    return f"{found.delta:+.3f} [{found.ci_low:+.3f}, {found.ci_high:+.3f}]"


own = instructed["bge-small, its own instruction"]
# %% tags=["hide"]
told = [
    "- bge-small's own instruction, on dev: "
    + change(own, instructed["bge-small, no prefix"]),
    "- trained with both prefixes, served without: "
    + change(served["both left out"], served["as trained"]),
    f"- the linear adapter takes `{split}` from {base.mean(split):.3f} to "
    f"{adapted.mean(split):.3f} in {head.seconds:.0f} seconds; full fine-tuning gives "
    f"{full.mean(split):.3f}",
]

# %% tags=["hide"]
rows = [r for r in prompted.rows if not r["subset"]] if prompted else []
told += [
    f"- {row['label']}, three seeds, on `{row['split']}`: {row['delta_vs_base']:+.3f} "
    f"(p = {row['p_vs_base']:.2g})"
    for row in rows if "prompt" in row["label"]
]
told += [
    f"- {place}: linear {row['linear']}; full fine-tuning {row['contrastive']}"
    for place, row in table.items()
]
Markdown("\n".join(told))

# %% [markdown]
# ## Exercises
#
# **1.** How many weights has a two-sided head without biases for vectors of 768 dimensions?

# %% tags=["solution"]
answer_1 = 2 * 768 * 768
answer_1

# %%
ek.exercises.check(
    "1", answer_1, lambda a: a == 2 * 768**2,
    hint="two square matrices",
    right="about a million: a hundredth of a model that has such vectors",
)

# %% [markdown]
# **2.** Serve the model that was trained with both prefixes with the one on the documents alone.
# What is its mean nDCG@10 on the dev sample?

# %% tags=["solution"]
answer_2 = on_dev(tuned, document="document: ").mean()
answer_2

# %%
ek.exercises.check(
    "2", answer_2,
    lambda a: abs(a - on_dev(run.model(), document="document: ").mean()) < 1e-6,
    hint="on_dev(tuned, document=...)",
    right="queries and documents must be served as they were trained, each",
)

# %% [markdown]
# **3.** Fit a linear adapter behind the tuned model of notebook 00 (its folder is
# `full_run.path / "model"`). How much does it add on the dev sample to the score before the
# first step?

# %% tags=["solution"]
behind = ek.fit_head("linear", domain, full_run.path / "model")
answer_3 = behind.dev_score - behind.history[0]["dev_ndcg@10"]
answer_3


# %%
def added(answer):
    found = ek.fit_head("linear", domain, full_run.path / "model")
    return abs(answer - (found.dev_score - found.history[0]["dev_ndcg@10"])) < 1e-6


ek.exercises.check(
    "3", answer_3, added, hint="history[0] is the start, the identity",
    right="compare it with what the head adds behind the general model",
)

# %% [markdown]
# ## Further reading
#
# - Wang et al. 2022, *Text Embeddings by Weakly-Supervised Contrastive Pre-training* (E5),
#   `query:` and `passage:`, <https://arxiv.org/abs/2212.03533>
# - Su et al. 2023, *One Embedder, Any Task* (Instructor), a prefix for every task,
#   <https://arxiv.org/abs/2212.09741>
# - Li et al. 2018, *Explicit Inductive Bias for Transfer Learning*, a pull towards the start,
#   <https://arxiv.org/abs/1802.01483>
# - Lester et al. 2021, *The Power of Scale for Parameter-Efficient Prompt Tuning*, prefixes
#   that are learnt vectors, <https://arxiv.org/abs/2104.08691>
# - next: `09_lora_and_qlora`
