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
# title, a docstring. A head is a matrix behind a frozen model, trained in seconds on vectors
# that were encoded once. Here you measure what each is worth, and what each breaks.
#
# **You will do**
# - train with a prefix on the queries, on the documents, on both; serve it rightly and wrongly
# - teach two tasks to one model, told apart by their prefixes, with the library's own trainer
# - fit three kinds of heads on frozen vectors, the loss by hand first
# - look apart at the queries whose right document was never trained on
#
# **You will learn**
# - that a prefix is part of the model and saved with it, and whether it costs anything to
#   leave it out
# - what a head can and cannot do, and what it costs to put into service
# - that a head's learning rate is chosen on dev, as an encoder's is
#
# **You need** notebook 04.
#
# About 6.9 minutes on two CPU cores the first time, seconds after that.

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
# As it ran here (`workshop`, one seed): the adapter gains on `known` as a whole, and loses on
# `lay`. On `novel`, and on the part of `known` whose right documents were never a training
# positive, the interval includes 0.

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
# As it ran here, the prefix moves a text little, and brings different texts a little nearer
# to one another.
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
# ## Trained with a prefix
#
# The learning rate is chosen on the dev sample (dev's queries, searched in at most 2,000
# documents), without a prefix. The four models share it.

# %%
recipe = ek.Recipe(epochs=1, max_pairs=2000)
rates = ek.tune(recipe, domain, learning_rate=[2e-4, 4e-4, 8e-4])
rates

# %% [markdown]
# `query_prompt` and `document_prompt` are handed to the trainer as `prompts=` by column, and
# saved in the model.

# %%
asked, shown = {"query_prompt": "query: "}, {"document_prompt": "document: "}
arms = {"none": {}, "queries": asked, "documents": shown, "both": asked | shown}
tuned = {
    name: ek.train(rates.best.replace(**prompts), domain)
    for name, prompts in arms.items()
}
tuned["both"].model().prompts

# %%
print("\n".join(
    line for line in tuned["both"].recipe.to_script().splitlines() if "prompts" in line
))

# %%
trained = {name: ek.evaluate(run, domain) for name, run in tuned.items()}
ek.compare([base, *trained.values()], baseline=trained["none"].label)

# %% [markdown]
# As it ran here (`workshop`, one seed): no prefix is shown to be worth anything. With
# corrected p, no difference to the model without one stands on any split.

# %% [markdown]
# ## Trained with it, served without it
#
# One mistake: somebody loads the model elsewhere and calls `encode`, which knows no query from
# a document. The opposite one: a prefix from a model card, put before a model that was never
# trained with it.

# %%
def served(model, **prompts):
    model.prompts = {"query": "", "document": ""} | prompts
    return model


put = {"query": "query: ", "document": "document: "}
swapped = {"query": "document: ", "document": "query: "}
ask = {"query": "query: "}
mistakes = {
    "trained on queries, left out": served(tuned["queries"].model()),
    "trained on both, left out": served(tuned["both"].model()),
    "trained on both, swapped": served(tuned["both"].model(), **swapped),
    "never trained, put on queries": served(ek.load_model("minilm"), **ask),
    "never trained, put on both": served(ek.load_model("minilm"), **put),
}

# %%
mistaken = {
    name: ek.evaluate(model, domain, name=name) for name, model in mistakes.items()
}
right = {
    "trained on queries, left out": trained["queries"],
    "trained on both, left out": trained["both"],
    "trained on both, swapped": trained["both"],
}

# %% [markdown]
# Each mistake against the same weights served rightly, query by query:

# %%
def difference(one, other, test, subset=None):
    mine, theirs = (s.values(test, "ndcg@10", subset) for s in (one, other))
    found = ek.paired_test(mine, theirs)
    interval = f"[{found.ci_low:+.3f}, {found.ci_high:+.3f}]"
    return f"{found.delta:+.3f} {interval}, p = {found.p:.2g}"


pd.DataFrame({
    test: {
        name: difference(scores, right.get(name, base), test)
        for name, scores in mistaken.items()
    }
    for test in domain.test_splits
})

# %% [markdown]
# As it ran here, most mistakes cost nothing that can be shown. Two of the fifteen intervals
# exclude 0, and both are losses: the prefix on queries left out, on `novel`; and both
# prefixes put on a model that was never trained with them, on `lay`. These p are not
# corrected for fifteen tests.

# %%
everything = ek.compare([base, *trained.values(), *mistaken.values()], baseline="base")
ek.plots.metric_bars(
    [row for row in everything.rows if row["split"] == split and not row["subset"]]
)

# %% [markdown]
# ## Two tasks, one model
#
# From a phrase to a title, and from a docstring to code: may one model do both? Each task has a
# prefix on its queries; the documents have none. First one model a task, as a yardstick.

# %%
second = "icd10cm" if domain.name == "python_code" else "python_code"
tasks = {domain.name: domain, second: ek.load_domain(second)}
words = {"icd10cm": "phrase: ", "python_code": "docstring: "}
prefixes = {name: words.get(name, "question: ") for name in tasks}
one = rates.best.replace(max_pairs=1500, max_length=64)
alone = {
    name: ek.train(one.replace(query_prompt=prefixes[name]), task)
    for name, task in tasks.items()
}

# %% [markdown]
# The library's trainer takes several data sets at once, by name, and prompts for the columns of
# each. A batch comes from one data set, so that the negatives are of the same task;
# `proportional` draws each data set as often as its size says.

# %%
from datasets import DatasetDict
from sentence_transformers import SentenceTransformerTrainingArguments

folder = ek.paths().runs / "two_tasks" / "-".join(
    [one.hash, *(task.hash[:6] for task in tasks.values())]
)
data = DatasetDict({
    name: ek.training_pairs(one, task).dataset() for name, task in tasks.items()
})
data

# %%
arguments = SentenceTransformerTrainingArguments(
    output_dir=str(folder / "checkpoints"),
    prompts={name: {"anchor": prefix} for name, prefix in prefixes.items()},
    multi_dataset_batch_sampler="proportional", batch_sampler="no_duplicates",
    num_train_epochs=one.epochs, per_device_train_batch_size=one.batch_size,
    learning_rate=one.learning_rate, warmup_steps=one.warmup_ratio, seed=one.seed,
    bf16=session.precision == "bf16", fp16=session.precision == "fp16",
    use_cpu=session.device == "cpu",
    save_strategy="no", report_to="none", disable_tqdm=True,
)

# %% [markdown]
# `ek.models.efficient` computes the same without padding. The model is trained once and kept, like
# every run of this course.

# %%
import torch
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer import losses

together = ek.load_model("minilm")
together.max_seq_length = one.max_length
together.prompts |= prefixes
for module in together.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = one.dropout
loss = losses.MultipleNegativesRankingLoss(together, scale=1 / one.temperature)

# %%
if not (folder / "modules.json").is_file():
    trainer = SentenceTransformerTrainer(together, arguments, data, loss=loss)
    with ek.models.efficient(together):
        trainer.train()
    together.save_pretrained(str(folder))
together = ek.load_model(folder)
together.prompts

# %% [markdown]
# `together.encode(texts, prompt_name="python_code")` is how a service would ask. Below, each
# task's prompt is made the one for queries; and, as a mistake on purpose, the other task's.

# %%
def asked_as(prefix):
    together.prompts["query"] = prefix
    return together


def four(name):
    (other,) = set(tasks) - {name}
    task, short = tasks[name], ek.load_model("minilm")
    short.max_seq_length = one.max_length
    return [
        ek.evaluate(short, task, name=f"base, {one.max_length} tokens"),
        ek.evaluate(alone[name], task, name="one model a task"),
        ek.evaluate(asked_as(prefixes[name]), task, name="two tasks, one model"),
        ek.evaluate(asked_as(prefixes[other]), task, name="the other task's prefix"),
    ]


# %%
both = {name: four(name) for name in tasks}
ek.compare(both[domain.name], baseline="one model a task")

# %%
ek.compare(both[second], baseline="one model a task")

# %% [markdown]
# As it ran here (`workshop`, one seed), with corrected p: one model does both tasks, and no
# difference to one model a task stands. Nor does the other task's prefix cost anything that
# stands.

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
by_hand

# %% [markdown]
# embkit's class, which notebook 04's `approach="corpus"` trains encoders with, gives the same.
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
by_class

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
float(np.abs(asked - adapted_model.encode_query(texts[:4])).max())

# %% [markdown]
# ## Away from the identity, but not far
#
# $W$ starts as the identity, and training takes it away from there; after every step it is pulled
# back by a small share of the way. How large the steps are, dev says; and dev says after which epoch
# to stop.

# %%
steps = [1e-3, 3e-3, 1e-2]
fits = {rate: ek.fit_head("linear", domain, learning_rate=rate) for rate in steps}
pd.DataFrame({
    rate: {"dev nDCG@10": fit.dev_score, "epoch": fit.record["epoch"],
           "seconds": fit.seconds}
    for rate, fit in fits.items()
}).T.rename_axis("learning rate").round(3)

# %%
ek.plots.lines(
    range(len(fits[steps[0]].history)),
    {f"learning rate {rate:g}": [row["dev_ndcg@10"] for row in fit.history]
     for rate, fit in fits.items()},
    "epoch", "dev nDCG@10",
)

# %% [markdown]
# As it ran here, the two larger rates are about equal on the dev sample, and the smallest lags
# behind. The largest is the highest, and nothing above it was tried: an edge of the grid. The
# labels below say what was chosen for the other kinds.

# %% [markdown]
# ## Three kinds
#
# A second matrix for the documents, or two layers on the queries. For each, dev chooses the
# learning rate; then, once, the test splits.

# %%
def best_of(kind):
    tried = [ek.fit_head(kind, domain, learning_rate=rate) for rate in steps]
    return max(tried, key=lambda head: head.dev_score)


kinds = {kind: best_of(kind) for kind in ("linear", "two-sided", "mlp")}
judged = {kind: ek.evaluate(head, domain) for kind, head in kinds.items()}
full = ek.evaluate(ek.train(ek.Recipe(), domain), domain)  # the run of notebook 00

# %%
report = ek.compare([base, *judged.values(), full], baseline="base")
report

# %% [markdown]
# As it ran here (`workshop`, one seed), against the general model and with corrected p: all
# heads gain on `known`. On `novel`, and where the right document was never a training
# positive, no gain of theirs stands; that of full fine-tuning does. On `lay`, no approach
# gains; the small MLP's loss does not stand, the others' do.
#
# What each costs to train, and to put into service:

# %%
service = {
    "linear": "documents stay", "mlp": "documents stay",
    "two-sided": "a matrix product over the documents' vectors",
}
pd.DataFrame({
    head.label: {"trained parameters": f"{head.record['trainable_params']:,}",
                 "seconds": round(head.seconds, 1), "to serve": service[kind]}
    for kind, head in kinds.items()
} | {"contrastive": {
    "trained parameters": f"{full.meta['trainable_params']:,}",
    "seconds": round(full.meta["train_seconds"], 1),
    "to serve": "every document is encoded again"}}).T

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
# As it ran here: the heads' figures are highest where the right document was seen in training,
# and above full fine-tuning's there. Where it was not, and on `novel`, full fine-tuning's are
# above theirs. The table tests each against the general model, not one against the other.
#
# Search with both: the linear adapter moves the query alone, the documents' vectors are the
# same.

# %%
ek.widgets.SearchBox(general, head, domain, names=("general", "with the adapter"))

# %% [markdown]
# ## What we saw

# %%
from IPython.display import Markdown


def score(scores, test=split):
    return f"{scores.mean(test):.3f}"


# %%
lost = difference(mistaken["trained on both, left out"], trained["both"], split)
worse = {
    name: difference(scores[2], scores[1], tasks[name].test_splits[0])
    for name, scores in both.items()
}
told = [
    f"- on `{split}`: no prefix {score(trained['none'])}, on queries "
    f"{score(trained['queries'])}, on both {score(trained['both'])}",
    f"- trained with both and served without: {lost}",
]

# %%
told += [
    f"- two tasks in one model against one model a task, `{name}`: {found}"
    for name, found in worse.items()
]
adapter, name = judged["linear"], kinds["linear"].label
told.append(
    f"- the {name} takes `{split}` from {score(base)} to {score(adapter)} in "
    f"{kinds['linear'].seconds:.0f} seconds; full fine-tuning gives {score(full)}"
)
for place, row in list(table.items())[:2]:
    told.append(f"- {place}: {row['linear']}; full fine-tuning {row['contrastive']}")
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
# **2.** Serve the model that was trained with both prefixes with the one on the queries alone.
# What is its nDCG@10 on the first test split?

# %% tags=["solution"]
half = served(tuned["both"].model(), query="query: ")
answer_2 = ek.evaluate(half, domain, name="both, half served", save=False).mean(split)
answer_2


# %%
def half_served(answer):
    model = served(tuned["both"].model(), query="query: ")
    return abs(answer - ek.evaluate(model, domain, save=False).mean(split)) < 1e-4


ek.exercises.check(
    "2", answer_2, half_served, hint="served(tuned['both'].model(), query=...)",
    right="queries and documents must be served as they were trained, each",
)

# %% [markdown]
# **3.** Fit a linear adapter behind the tuned model of notebook 00 (its folder is
# `run.path / "model"`). How much does it add on the dev sample to the score before the first
# step?

# %% tags=["solution"]
run = ek.train(ek.Recipe(), domain)
behind = ek.fit_head("linear", domain, run.path / "model")
answer_3 = behind.dev_score - behind.history[0]["dev_ndcg@10"]
answer_3


# %%
def added(answer):
    model = ek.train(ek.Recipe(), domain).path / "model"
    found = ek.fit_head("linear", domain, model)
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
