# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Contrastive learning
#
# Pull a query towards its document, push it away from the others: one line of algebra that
# most of today's embedding models were trained with. Here you compute it by hand, check it
# against the library's class, change its settings, and run the control that every fine-tune
# should have: the same training with shuffled answers, which must gain nothing.
#
# **You will do**
# - compute the loss of a batch in numpy, equal to `MultipleNegativesRankingLoss`
# - look at what temperature does to a softmax, and to the gradient
# - train with more and fewer negatives, and choose a learning rate on the dev sample
# - run the shuffled-label control
# - change a recipe's settings in a panel, and watch it train
# - try the loss's relatives, one of them against the whole corpus
# - measure what was forgotten, and win some of it back
#
# **You will learn**
# - that a batch is a small search task, and that its size is the number of negatives
# - that the learning rate matters, and that the dev split may choose it and the test may not
# - what a model learns from wrong answers
#
# **You need** notebook 00; softmax and cross-entropy by name.
#
# About 7.2 minutes on two CPU cores the first time, seconds after that.

# %%
import embkit as ek

ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
split = domain.test_splits[0]
general = ek.load_model("minilm")

# %% [markdown]
# ## First the result
#
# The run of notebook 00; if it is not there yet, it is trained now.

# %%
recipe = ek.Recipe(model="minilm", approach="contrastive")
run = ek.train(recipe, domain)
base, words = ek.evaluate("minilm", domain), ek.evaluate("bm25", domain)
contrastive = ek.evaluate(run, domain)
ek.compare([words, base, contrastive], baseline="base")

# %% [markdown]
# ## The loss by hand
#
# For query $q$, its document $d^+$ and the batch's documents $d_i$:
#
# $$-\log \frac{\exp(\cos(q, d^+)/t)}{\sum_i \exp(\cos(q, d_i)/t)}$$
#
# Four pairs make a batch: four queries, four documents, sixteen similarities. The right
# ones lie on the diagonal; the rest of each row are its negatives. These four are relatives (on
# ICD-10-CM, anemias), so that the task is not too easy.

# %%
import numpy as np
import pandas as pd

table = domain.pairs().to_pandas().drop_duplicates("positive")
relatives = table[table["positive"].str.contains("anemia")]
if len(relatives) < 16:  # another domain: the documents nearest to the first
    table = table.head(500)
    vectors = ek.encode(general, table["positive"].tolist())
    relatives = table.iloc[np.argsort(-(vectors @ vectors[0]))]
anchors = relatives["anchor"].tolist()[:16]
positives = relatives["positive"].tolist()[:16]

# %%
queries = general.encode(anchors[:4], normalize_embeddings=True)  # (4, dim)
documents = general.encode(positives[:4], normalize_embeddings=True)  # (4, dim)
similarities = queries @ documents.T  # (4, 4)
sides = ([f"{i}. {text}" for i, text in enumerate(side[:4], 1)]
         for side in (anchors, positives))
shown = pd.DataFrame(similarities, *sides)
shown.style.background_gradient("viridis", axis=None).format("{:.2f}").set_uuid("four")

# %%
temperature = 0.05
scaled = similarities / temperature  # (4, 4)
softmax = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
by_hand = -np.log(np.diag(softmax)).mean()
by_hand

# %% [markdown]
# sentence-transformers' class gives the same number. It takes `scale`, which is
# 1 / temperature.

# %%
from sentence_transformers.sentence_transformer.losses import (
    MultipleNegativesRankingLoss,
)

loss = MultipleNegativesRankingLoss(general, scale=1 / temperature)
general.eval()
columns = [general.preprocess(texts) for texts in (anchors[:4], positives[:4])]
by_library = loss(columns, None).item()
by_library

# %% tags=["hide"]
assert abs(by_hand - by_library) < 1e-4, (by_hand, by_library)

# %% [markdown]
# ## Temperature
#
# A low temperature lets only the hardest negatives count; a high one treats all alike. Here
# is one query with its document and the documents that share its batch, all of them relatives.

# %%
one = ek.encode(general, anchors[:1]) @ ek.encode(general, positives).T  # (1, 16)
ranked = [0, *(1 + np.argsort(-one[0, 1:]))]  # right, then the nearest negatives
shares = {}
for t in (0.02, 0.05, 0.2):
    weights = np.exp(one[0, ranked] / t)
    shares[f"temperature {t:g}"] = weights / weights.sum()
ek.plots.lines(range(len(ranked)), shares, "document (0: the right one)", "softmax")

# %% [markdown]
# The gradient of the loss by a similarity is (softmax − 1 where right, else softmax) / t:
# what has no share of the softmax teaches nothing. Below, the share that the hardest
# negative has of all that the negatives push.

# %%
def hardest_share(t):
    pushes = np.exp(one[0].astype(float) / t)[1:]
    return pushes.max() / pushes.sum()


temperatures = [0.01, 0.02, 0.05, 0.1, 0.2, 1.0]
shares = pd.Series({t: hardest_share(t) for t in temperatures}, name="hardest's share")
shares.rename_axis("temperature").to_frame()

# %% [markdown]
# A whole batch, with sliders: the similarities, the softmax of each row, the gradient (orange
# pulls together, purple pushes apart), and the loss. Lower the temperature, and watch the push
# gather on a few pairs; make the batch larger, and watch the loss rise.

# %%
batch = table.head(64)
queries_64 = ek.encode(general, batch["anchor"].tolist())  # (pairs, dim)
documents_64 = ek.encode(general, batch["positive"].tolist())  # (pairs, dim)
lab = ek.widgets.TemperatureLab(
    queries_64 @ documents_64.T, batch["anchor"].tolist(), batch["positive"].tolist()
)
lab

# %% [markdown]
# What the sliders do can be typed, too, and what they show can be read:

# %%
lab.temperature, lab.batch = 0.02, min(32, len(batch))
lab.result

# %% [markdown]
# ## Batch size: the number of negatives
#
# The same part of the pairs, one epoch, three batch sizes. A batch of $n$ gives each query
# $n - 1$ negatives, and fewer steps. The score is nDCG@10 on the dev sample (dev's queries,
# searched in at most 2,000 documents): the test splits take no part in any choice.

# %%
small = recipe.replace(epochs=1, max_pairs=1024)
sizes = ek.tune(small, domain, batch_size=[8, 32, 128])
sizes

# %% [markdown]
# Fewer, larger steps want another learning rate: a comparison of batch sizes at one
# learning rate says less than it seems to. That holds for every comparison of methods.

# %% [markdown]
# ## The learning rate, chosen on the dev sample
#
# All pairs, one epoch, three rates.

# %%
rates = ek.tune(recipe.replace(epochs=1), domain, learning_rate=[1e-4, 4e-4, 1.6e-3])
rates

# %%
ek.plots.lines(
    [row["learning_rate"] for row in rates.rows],
    {"dev nDCG@10": [row["dev nDCG@10"] for row in rates.rows]},
    "learning rate", "dev nDCG@10", logx=True,
)

# %% [markdown]
# As it ran here (`workshop`, one seed): the two lower rates score alike, so which of them is
# ahead is no finding; the highest falls far behind. The axis, and the column under
# *Relatives*, say dev and mean the dev sample.

# %% [markdown]
# ## Epochs
#
# The full run, with its score on the dev sample after each epoch. The last step of a schedule
# that falls to zero is usually its best, and it is the one that is kept.

# %%
ek.plots.loss_curve(run.history)

# %% [markdown]
# ## A recipe of your own
#
# Every field with its range and what it means; what differs from the preset; about how long
# it takes here; the same as a plain script. Train trains it, Stop keeps the best so far.

# %%
editor = ek.widgets.RecipeEditor(domain, recipe.replace(epochs=1))
editor

# %% [markdown]
# The same from code is `await ek.train_live(...)`. It trains in a second thread, so that the
# kernel hears a click on Stop meanwhile; the cells below wait until it is done. A stopped run
# goes on where it was when its recipe is trained again.

# %%
watched = await ek.train_live(small.replace(epochs=2), domain)
watched

# %% [markdown]
# As it ran here, with few pairs, the second epoch scores a little less than the first. The last
# step is kept all the same.

# %% [markdown]
# ## The control: shuffled labels
#
# The same texts, the same loss, the same steps; but every query is given another query's
# document. If this gained, the gain above would not come from what the pairs say.

# %%
control = ek.train(recipe.replace(shuffle_labels=True, epochs=1), domain)
shuffled = ek.evaluate(control, domain)
report = ek.compare([words, base, contrastive, shuffled], baseline="base")
report

# %%
ek.plots.metric_bars(report)

# %% [markdown]
# As it ran here, the control gains nothing: it falls far below the general model on every
# split.

# %% [markdown]
# ## Relatives
#
# The same idea in other losses: *symmetric* also asks which query a document belongs to;
# *near negatives weigh more* by a factor that grows with their similarity; *guided* lets the
# general model take out negatives that look right to it (GIST); *triplet* compares with one
# mined negative; *whole corpus* with every document. One epoch, one learning rate, scored on
# the dev sample.

# %%
relatives = {
    "contrastive": {},
    "symmetric": {"approach": "symmetric"},
    "near negatives weigh more": {"hardness": 1.0},
    "guided": {"approach": "gist"},
    "triplet": {"approach": "triplet", "hard_negatives": 1},
    "whole corpus": {"approach": "corpus"},
}
dev = {
    name: ek.train(small.replace(**changes), domain, quiet=True).dev_score
    for name, changes in relatives.items()
}
pd.Series(dev, name="dev nDCG@10").sort_values().to_frame().round(3)

# %% [markdown]
# As it ran here: the triplet loss falls far behind at this learning rate; the others score
# alike, and one seed on few pairs does not rank them.

# %% [markdown]
# ## Against the whole corpus
#
# A batch shows a query a hundred wrong documents; the corpus holds them all. Their vectors are
# computed once an epoch and kept: half of the loss is a softmax over all of them, in which the
# positive is taken from the kept ones, too; the other half is the loss over the batch.

# %%
whole_run = ek.train(recipe.replace(approach="corpus"), domain)
whole_run

# %%
whole = ek.evaluate(whole_run, domain)
against = ek.compare([base, contrastive, whole], baseline="contrastive")
against

# %% [markdown]
# As it ran here (`workshop`, one seed): against the batch alone, the whole corpus gains on
# `known` and loses on `lay`. On `novel`, and where the right document was never a training
# positive in `known`, the interval includes 0.

# %% [markdown]
# ## What was forgotten
#
# A model that learns one corpus may lose others. The probe is a task from elsewhere that nothing
# was trained on: find a function of Python's library by what it does. *Merged* is the mean of the
# tuned and the general model's weights (Wortsman et al. 2022, model soups).

# %%
merged, start = run.model(), ek.load_model("minilm").state_dict()
merged.load_state_dict({
    name: (weight + start[name]) / 2 for name, weight in merged.state_dict().items()
})

# %%
probe = ek.data.general_probe()
merged_scores = ek.evaluate(merged, domain, name="merged")
subjects = {
    "base": "minilm", "contrastive": run, "whole corpus": whole_run, "merged": merged,
}
general_scores = [
    ek.evaluate(model, probe, name=name) for name, model in subjects.items()
]
forgotten = ek.compare(general_scores, baseline="base")
forgotten

# %% [markdown]
# And on the domain itself, the merged model beside the two that it is made of:

# %%
ek.compare([base, contrastive, merged_scores], baseline="contrastive")

# %% [markdown]
# As it ran here: training forgot on the probe, most with the whole corpus. The merged model's
# interval against the general one includes 0 there. On the domain it pays with a part of the
# gain on `known`, differs on `novel` by nothing that the interval shows, and wins back `lay`.

# %% [markdown]
# ## Before and after
#
# Similarity of test queries (the first thousand, if there are more) to their right
# document, and to the best wrong one.

# %%
def best_right_and_wrong(model):
    qrels = dict(list(domain.qrels[split].items())[:1000])
    asked = ek.encode(model, [domain.queries[q] for q in qrels])
    scores = asked @ ek.encode(model, list(domain.corpus.values())).T
    place = {document: i for i, document in enumerate(domain.corpus)}
    right = np.zeros(scores.shape, dtype=bool)
    for row, judged in enumerate(qrels.values()):
        right[row, [place[d] for d, grade in judged.items() if grade > 0]] = True
    best = [np.where(mask, scores, -1).max(axis=1) for mask in (right, ~right)]
    return best[0], best[1]


# %%
margins = {}
for name, model in {"before": general, "after": run.model()}.items():
    right, wrong = best_right_and_wrong(model)
    margins[name] = right - wrong
ek.plots.histogram(margins, "right document's similarity less the best wrong one's")

# %% [markdown]
# Query by query: which were won and which lost, and why? Choose one; set `failures.outcome`
# or `failures.query` to do it from code.

# %%
failures = ek.widgets.FailureBrowser(general, run, domain)
failures

# %% [markdown]
# ## What we saw

# %%
from IPython.display import Markdown


def changes(report, name):
    rows = [r for r in report.rows if r["label"] == name and not r["subset"]]
    return ", ".join(
        f"{r['delta_vs_base']:+.3f} on `{r['split']}` (p = {r['p_vs_base']:.2g})"
        for r in rows
    )


general_now = ", ".join(f"{r['label']} {r['ndcg@10']:.3f}" for r in forgotten.rows)

# %%
Markdown(
    f"- the loss is a softmax over the batch: {by_hand:.4f} by hand, "
    f"{by_library:.4f} by the library\n"
    f"- dev chose a batch of {sizes.best.batch_size} and a learning rate of "
    f"{rates.best.learning_rate:g} among those tried for one epoch\n"
    f"- contrastive: {changes(report, 'contrastive')}\n"
    f"- with shuffled labels: {changes(report, 'contrastive, shuffled labels')}\n"
    f"- whole corpus against batch alone: {changes(against, whole.label)}\n"
    f"- on the general probe: {general_now}"
)

# %% [markdown]
# ## Exercises
#
# **1.** What is the loss of a model that gives every pair the same similarity, for a batch
# of 128? Compute it without a model.

# %% tags=["solution"]
answer_1 = np.log(128)
answer_1

# %%
ek.exercises.check(
    "1", answer_1, lambda a: abs(a - np.log(128)) < 1e-3,
    hint="all softmax shares are 1/128",
    right="a loss near log(batch size) means: nothing learnt yet",
)

# %% [markdown]
# **2.** Compute the symmetric loss of the batch of four: the mean of the loss over rows and
# the same over columns (which document does this query belong to, and the other way round).

# %% tags=["solution"]
log_rows = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
log_columns = scaled - np.log(np.exp(scaled).sum(axis=0, keepdims=True))
answer_2 = -(np.diag(log_rows).mean() + np.diag(log_columns).mean()) / 2
answer_2


# %%
def symmetric(a):
    library = MultipleNegativesRankingLoss(
        general, scale=1 / temperature, partition_mode="per_direction",
        directions=("query_to_doc", "doc_to_query"),
    )
    return abs(a - library(columns, None).item()) < 1e-3


ek.exercises.check("2", answer_2, symmetric, hint="softmax over axis 0 as well")

# %% [markdown]
# **3.** In that batch, which temperature of the list gives the hardest negative less
# than half of the push and is the smallest that does?

# %% tags=["solution"]
answer_3 = next((t for t in temperatures if hardest_share(t) < 0.5), None)
answer_3

# %%
ek.exercises.check(
    "3", answer_3,
    lambda a: a == next((t for t in temperatures if hardest_share(t) < 0.5), None),
    hint="read it off the table above",
)

# %% [markdown]
# ## Further reading
#
# - van den Oord et al. 2018, *Representation Learning with Contrastive Predictive Coding*,
#   the loss, <https://arxiv.org/abs/1807.03748>
# - Wang and Liu 2021, *Understanding the Behaviour of Contrastive Loss*, on temperature,
#   <https://arxiv.org/abs/2012.09740>
# - Gao et al. 2021, *Scaling Deep Contrastive Learning Batch Size under Memory Limited
#   Setup*, <https://arxiv.org/abs/2101.06983>
# - next: `05_hard_negatives`
