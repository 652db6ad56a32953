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
# most of today's embedding models were trained with. Here you compute it by hand, train with
# it in sentence-transformers' own words and in the kit's, change its settings, and run the
# control that every fine-tune should have: the same training with shuffled answers.
#
# **You will do**
# - compute the loss of a batch in numpy, equal to `MultipleNegativesRankingLoss`
# - train with the library's own trainer, and get the same from one line of the kit
# - look at what temperature does to a softmax, and train with three of them
# - choose a learning rate on the dev sample, one for each batch size
# - run the shuffled-label control, and see a model collapse
# - change a recipe's settings in a panel, and watch it train
# - measure what was forgotten, and win some of it back by merging
#
# **You will learn**
# - that a batch is a small search task, and that its size is the number of negatives
# - that most of "this method is worse" is a wrong learning rate
# - which differences the dev split can show, and which are noise
#
# **You need** notebook 00 (its run is used again), and to know the softmax and
# cross-entropy by name.
#
# About 2.7 minutes on two CPU cores the first time, seconds after that.

# %%
import embkit as ek

session = ek.setup()
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
against_base = ek.compare([words, base, contrastive], baseline="base")
against_base

# %% [markdown]
# One seed, so the test is of these weights. The same recipe with three seeds stands further
# down, beside the other losses.
#
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
by_hand = float(-np.log(np.diag(softmax)).mean())
round(by_hand, 4)

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
round(by_library, 4)

# %% tags=["hide"]
assert abs(by_hand - by_library) < 1e-4, (by_hand, by_library)

# %% [markdown]
# ## Training in sentence-transformers' own words
#
# Five parts: a data set, a loss, arguments, an evaluator, a trainer. Here they are, whole and
# running, on 128 pairs, which is four steps. First the data set: a column each for anchor and
# positive.

# %%
from datasets import Dataset

quick = recipe.replace(
    max_pairs=128, epochs=1, batch_size=32, learning_rate=2e-4, warmup_ratio=0.0
)
rows = ek.training_pairs(quick, domain).rows
data = Dataset.from_dict({
    "anchor": [anchor for _, anchor, _ in rows],
    "positive": [domain.corpus[document] for _, _, document in rows],
})
data

# %% [markdown]
# The evaluator searches. What it is given here is the course's *dev sample*: dev's queries,
# and at most 2,000 documents, the right ones among them. Products in 16 bits, where the processor
# has them, halve the time.

# %%
from sentence_transformers.sentence_transformer.evaluation import (
    InformationRetrievalEvaluator,
)

judged = domain.qrels["dev"]
dev_sample = InformationRetrievalEvaluator(
    queries={q: domain.queries[q] for q in judged},
    corpus={d: domain.corpus[d] for d in domain.dev_corpus()},
    relevant_docs={q: {d for d in judged[q] if judged[q][d] > 0} for q in judged},
    ndcg_at_k=[10],
)

# %%
def on_sample(model):
    with ek.session.autocast(model.device.type):
        return dev_sample(model)["cosine_ndcg@10"]


untrained = on_sample(general)
round(untrained, 4)

# %% [markdown]
# The model starts without dropout, as the kit's recipes do. Two pairs with the same text never
# meet in a batch: one's document would be a wrong answer to the other.

# %%
from sentence_transformers import SentenceTransformerTrainingArguments

arguments = SentenceTransformerTrainingArguments(
    output_dir=str(ek.paths().runs / "own-words"), save_strategy="no",
    num_train_epochs=1, per_device_train_batch_size=32,
    learning_rate=2e-4, batch_sampler="no_duplicates", seed=42,
    bf16=session.precision == "bf16", fp16=session.precision == "fp16",
    use_cpu=session.device == "cpu", report_to="none", disable_tqdm=True,
)

# %%
from sentence_transformers import SentenceTransformerTrainer

off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
own = ek.load_model("minilm", config_kwargs=off)  # a SentenceTransformer
trainer = SentenceTransformerTrainer(
    model=own, args=arguments, train_dataset=data,
    loss=MultipleNegativesRankingLoss(own, scale=1 / 0.05),
)
round(trainer.train().metrics["train_loss"], 4)

# %% [markdown]
# And the kit's short form of these five parts. It adds a store of runs, checkpoints, and
# batches packed without padding; it keeps pairs apart that share a right document, too.

# %%
short = ek.train(quick, domain, quiet=True)
asked = [domain.queries[q] for q in judged]
models = {"own words": own, "ek.train": short.model(), "untrained": general}
vectors = {name: ek.encode(m, asked, cache=False) for name, m in models.items()}
same = pd.DataFrame({
    "dev sample, nDCG@10":
        [on_sample(own), short.dev_score, untrained],
    "cosine to own words":
        [(made * vectors["own words"]).sum(1).mean() for made in vectors.values()],
}, index=list(models))
same.round(4)

# %% [markdown]
# Both give the same model, up to rounding; the untrained one is another. (Its score is as good
# within noise: four steps teach little.) The score of `ek.train` is the kit's own count, which
# agrees with the library's evaluator.
# `quick.to_script()` writes the longer form as a file, for any recipe.

# %% tags=["hide"]
assert same.loc["ek.train", "cosine to own words"] > 0.99, same
assert np.ptp(same["dev sample, nDCG@10"].iloc[:2]) < 0.02, same

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
ek.plots.lines(range(len(ranked)), shares, "document (0: the right one)",
               "share of the softmax")

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
shares.rename_axis("temperature").to_frame().round(3)

# %% [markdown]
# The lower the temperature, the more of the push one negative has. A whole batch, with
# sliders: the similarities, the softmax of each row, the gradient (orange pulls together, purple pushes
# apart), and the loss. Lower the temperature, and watch the push gather on a few pairs; make
# the batch larger, and watch the loss rise.

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
# ## A recipe of your own
#
# Every field with its range and what it means; what differs from the preset; the same as a plain
# script; on a click on *Forecast*, the memory and minutes that it will take here. Train trains
# it, Stop keeps the best so far.

# %%
small = recipe.replace(epochs=1, max_pairs=1024)
editor = ek.widgets.RecipeEditor(domain, small)
editor

# %% [markdown]
# The same from code is `await ek.train_live(...)`. It trains in a second thread, so that the
# kernel hears a click on Stop meanwhile; the cells below wait until it is done. A stopped run
# goes on where it was when its recipe is trained again.

# %%
watched = await ek.train_live(small, domain)
watched

# %% [markdown]
# The loss of each step, and the score on the dev sample at the end. A part of the pairs and one
# epoch: this small recipe is the middle of the comparisons that follow.

# %% [markdown]
# ## Which differences can dev show?
#
# The dev sample will choose a few things now; the test splits take no part in any choice. Two
# recipes that are neighbours differ by about 0.20 a query (lesson 02), so with dev's queries
# a difference has to be this large before a test would see it four times out of five:

# %%
change = pd.Series(contrastive.dev) - pd.Series(base.dev)
codes = ek.evaluation.clusters(domain, "dev").codes(change.index)
seen = ek.evaluation.estimate(change, codes).planned(0.20)


def dev_table(runs):
    tuned = {name: run.dev_score for name, run in runs.items()}
    scores = pd.Series({"untrained": untrained} | tuned)
    less = scores.max() - scores
    return pd.DataFrame({
        "dev sample, nDCG@10": scores.round(3),
        "less than the best": less.round(3),
        "more than noise": np.where(less > seen, "yes", "no"),
    })


# %%
print(f"a difference on dev is seen from {seen:.3f} on, with {len(change):,} queries")

# %% [markdown]
# ## Temperature, trained
#
# The small recipe with three temperatures, at one learning rate.

# %%
warm = ek.tune(small, domain, quiet=True, temperature=[0.02, 0.05, 0.3])
dev_table({f"temperature {r.recipe.temperature:g}": r for r in warm.runs})

# %% [markdown]
# The recipe's own temperature is 0.05. Where its neighbours are no more than noise away, there
# is nothing to tune between them; a temperature of 0.3 treats all negatives alike.

# %% [markdown]
# ## The learning rate, chosen on the dev sample

# %%
rates = ek.tune(small, domain, quiet=True, learning_rate=[2e-5, 1e-4, 4e-4, 1.6e-3])
dev_table({f"rate {r.recipe.learning_rate:g}": r for r in rates.runs})

# %%
tried = [run.recipe.learning_rate for run in rates.runs]
scores = np.array([run.dev_score for run in rates.runs])
curve = {"tuned": (scores, scores - seen, scores + seen),
         "untrained": [untrained] * len(tried)}
ek.plots.lines(tried, curve, "learning rate", "dev sample, nDCG@10", logx=True)

# %% [markdown]
# What lies within the band of a point is not told apart from it. The flat part of the curve is
# wide, and its edge is steep: as it ran here (`workshop`), one rate too high ended below the
# untrained model. A table of methods at one rate is mostly a table of who likes that rate.
#
# ## Batch size: the number of negatives, each size at its own rate
#
# A batch of $n$ gives each query $n - 1$ negatives, and fewer steps, which want a larger
# learning rate. Half of the small recipe's pairs; the rates were chosen on the dev sample
# beforehand (5e-5 to 4e-4 for 32, 1e-4 to 4e-4 for 128). Last, batches of 32 at the rate of the
# whole recipe: what a comparison at one rate would have said.

# %%
half = small.replace(max_pairs=512)
sizes = {
    f"batch {n}, rate {rate:g}": ek.train(
        half.replace(batch_size=n, learning_rate=rate), domain, quiet=True
    )
    for n, rate in [(128, 1e-4), (32, 5e-5), (32, 4e-4)]
}
dev_table(sizes)

# %% [markdown]
# At its own rate, the smaller batch is as good as the larger one: what is between them is within
# the noise. At a rate that is too high for it, it falls behind. That is the rate, not the batch.

# %% [markdown]
# ## Epochs
#
# The full run, with its score on the dev sample after each epoch. The rate falls to zero, and
# the last step is the one that is kept.

# %%
ek.plots.loss_curve(run.history)

# %% [markdown]
# The loss falls to the end. The score need not: an epoch whose score differs by less than the
# noise above is no reason to stop earlier or later.

# %% [markdown]
# ## The control: shuffled labels
#
# The same texts, the same loss, the same steps; but every query is given another query's
# document. If this gained, the gain above would not come from what the pairs say. Twice: at
# the recipe's rate, and at a twentieth of it, each beside the same training with the right
# answers.

# %%
shuffled = small.replace(shuffle_labels=True)
control = {"untrained": general}
for rate in (4e-4, 2e-5):
    for name, made in {"right": small, "shuffled": shuffled}.items():
        tuned = ek.train(made.replace(learning_rate=rate), domain, quiet=True)
        control[f"{name} answers, rate {rate:g}"] = tuned
dev_table({name: tuned for name, tuned in control.items() if tuned is not general})

# %% [markdown]
# Shuffled answers gain nothing at either rate. How much they destroy depends on the rate: at
# the high one the model collapses. All documents go to nearly one point, because that is the
# best answer to questions that have none. Two figures show it (lesson 11 has more): the mean
# cosine of two different documents, and the effective rank, the number of directions in use.

# %%
some = list(domain.corpus.values())[:500]
collapse = {}
for name, tuned in control.items():
    model = tuned if tuned is general else tuned.model()
    found = ek.encode(model, some, cache=False)  # (documents, dim)
    collapse[name] = {"mean cosine": ek.space.geometry.anisotropy(found),
                      "effective rank": ek.space.geometry.effective_rank(found)}
collapse = pd.DataFrame(collapse).T
collapse.round({"mean cosine": 3, "effective rank": 0}).astype({"effective rank": int})

# %% [markdown]
# A mean cosine near 1 means that all documents look alike to the model.
#
# ## Relatives, three seeds each
#
# The same idea in other losses: *symmetric* also asks which query a document belongs to;
# *hardness* weighs near negatives more, by a factor that grows with their similarity; *gist*
# lets the general model take out negatives that look right to it; *triplet* compares with one
# mined negative; *corpus* takes every document of the corpus as a negative. Its documents'
# vectors are computed once an epoch and kept; half of the loss is a softmax over all of them,
# the other half is the loss over the batch.
#
# These trainings take too long for a lesson. The table was made by `make approaches`:
# whole trainings, three seeds, each at the learning rate that dev chose. It is read from
# `data/`; where a domain or a profile has none, the runs of this notebook stand in its place.

# %%
kept = ek.evaluation.results(domain)
names = ["base", "bge-small, untrained", "hybrid", "contrastive", "symmetric",
         "hardness", "gist", "triplet", "corpus"]
seeds = [kept[name] for name in names if name in kept] or [base, contrastive]
against = ek.compare(seeds, baseline="contrastive")
against

# %%
ek.plots.metric_bars(against)

# %% [markdown]
# The differences are to *contrastive*; p is corrected for the number of tests. *corpus* looks at
# every negative there is, and is ahead where its interval excludes 0. For `icd10cm` in the
# profile `workshop`, that is `known`. *symmetric* and *hardness* are contrastive training over
# again: no interval of theirs excludes 0. Nor does one of *gist*, but on `lay`, where it forgets
# less; corrected for the number of tests, that is not significant. *triplet*, with one negative a
# pair, loses on `known` and on `lay`. The untrained bge-small stands beside them: on `lay`, a
# better general model beats every fine-tune of minilm.

# %% [markdown]
# ## What was forgotten
#
# A model that learns one corpus may lose others. The probe is a task from elsewhere that nothing
# was trained on: find a function of Python's library by what it does (here, a part of the probe that
# `make approaches` asks). *Merged* is the mean of the
# tuned and the general model's weights (Wortsman et al. 2022, model soups).

# %%
merged, start = run.model(), ek.load_model("minilm").state_dict()
_ = merged.load_state_dict({
    name: (weight + start[name]) / 2 for name, weight in merged.state_dict().items()
})

# %%
import dataclasses

whole = ek.data.general_probe()
some = dict(list(whole.qrels["general"].items())[:200])  # a part is enough here
right = {document for found in some.values() for document in found}
probe = dataclasses.replace(
    whole, corpus={document: whole.corpus[document] for document in sorted(right)},
    queries={query: whole.queries[query] for query in some},
    qrels={"train": {}, "dev": {}, "general": some},
)

# %%
subjects = {"base": "minilm", "contrastive": run, "merged": merged}
forgotten = ek.compare(
    [ek.evaluate(model, probe, name=name) for name, model in subjects.items()],
    baseline="base",
)
forgotten

# %% [markdown]
# The first table says what training cost elsewhere, and what merging won back. On the domain
# itself, the merged model beside the two that it is made of:

# %%
merged_scores = ek.evaluate(merged, domain, name="merged")
merging = ek.compare([base, contrastive, merged_scores], baseline="contrastive")
merging

# %% [markdown]
# Merging trains nothing. It trades a part of the gain on the domain for what was forgotten;
# the columns of differences say how much of each.

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

# %% tags=["hide"]
from IPython.display import Markdown


def changes(report, name):
    rows = [r for r in report.rows if r["label"] == name and not r["subset"]]
    return ", ".join(
        f"{r['delta_vs_base']:+.3f} on `{r['split']}` (p = {r['p_vs_base']:.2g})"
        for r in rows
    )


general_now = ", ".join(f"{r['label']} {r['ndcg@10']:.3f}" for r in forgotten.rows)
worst = collapse.loc["shuffled answers, rate 0.0004"]

# %% tags=["hide"]
Markdown(
    f"- the loss is a softmax over the batch: {by_hand:.4f} by hand, {by_library:.4f} "
    "by the library; its trainer and `ek.train` give the same model\n"
    f"- dev shows differences from {seen:.3f} on: few neighbours are told apart\n"
    f"- dev's rate among those tried for one epoch: {rates.best.learning_rate:g}\n"
    f"- contrastive against base: {changes(against_base, 'contrastive')}\n"
    "- shuffled answers gain nothing; at the recipe's rate the mean cosine of two "
    f"documents is {worst['mean cosine']:.2f}\n"
    f"- on the general probe: {general_now}\n"
    f"- merged against contrastive: {changes(merging, 'merged')}"
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
