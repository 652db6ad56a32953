# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Distillation
#
# A better model may be too large or too slow to serve. It can still teach: it says of any text,
# labelled or not, what is near it, and a small model learns to say the same. Here you look for a
# teacher that is better than its student, let it teach in three ways, and measure how much of its
# lead the student takes, and what a student of half the layers keeps.
#
# **You will do**
# - let a cross-encoder re-rank, untrained and tuned, and see whether it is fit to teach
# - put two tuned encoders together, and check that their cosine is the mean of two cosines
# - compute a loss by hand, equal to the library's class
# - give a margin loss scores of another scale, and let a bad teacher teach
# - teach a student of six layers, and one of three
#
# **You will learn**
# - that a teacher must be shown to be better before it teaches
# - what margins and lists pass on, and why unlabelled texts can be used
# - what a smaller encoder costs in quality and gains in speed
#
# **You need** notebook 04; of 05, what a mined negative is.
#
# About 11.1 minutes on two CPU cores the first time, seconds after that.

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

import embkit as ek

ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
split = domain.test_splits[0]

# %% [markdown]
# ## First the result
#
# Three models. The student alone is the run of notebook 04 with a softmax over the whole corpus.
# The teacher is that run and `bge-small` together, an encoder with twice as many layers, tuned in
# the same way. The last is a student as small as the first. Half of what it learns are labels, half
# is what the teacher says, and the documents' own texts are queries that only the teacher answers.

# %%
alone_recipe = ek.Recipe(approach="corpus")
alone_run = ek.train(alone_recipe, domain)
larger_run = ek.train(
    ek.Recipe(model="bge-small", approach="corpus", learning_rate=2e-4), domain
)
teachers = [alone_run, larger_run]
teacher = ek.training.load_teacher(teachers, domain)

# %%
taught_recipe = ek.Recipe(
    approach="distill", teacher=teachers, unlabeled_texts="documents"
)
taught_run = ek.train(taught_recipe, domain)

# %%
alone = ek.evaluate(alone_run, domain).labelled("student alone")
leader = ek.evaluate(teacher, domain, name="teacher").labelled("teacher")
taught = ek.evaluate(taught_run, domain).labelled("student, taught")
report = ek.compare([alone, leader, taught], baseline="student alone")
report

# %% [markdown]
# As it ran here (`workshop`, one seed), with corrected p: the teacher is ahead of the student
# alone on every split. The taught student gains on `known`. On `novel` and `lay`, what it
# gains does not stand: the intervals include 0.

# %% [markdown]
# ## Who is fit to teach? A cross-encoder
#
# A cross-encoder reads query and document together, which should make it a better ranker than
# two vectors can be. Let it re-rank what the student finds. Choosing a teacher is a choice,
# so the dev sample decides, not a test: dev's queries, searched in at most 2,000 documents.
# The figures that are called dev below are all of this sample; the column `dev` of the tables
# searches the whole corpus.

# %%
tuned = alone_run.model()
found = ek.rank(tuned, domain, "dev", documents=domain.dev_corpus(), k=20)


def reranked(reader):
    pairs = [
        (domain.queries[q], domain.corpus[d]) for q, row in found.items() for d in row
    ]
    scores = iter(ek.models.score_pairs(reader, pairs).tolist())
    return {q: {d: next(scores) for d in row} for q, row in found.items()}


def dev_score(ranking):
    return ek.evaluation.score(ranking, domain, "dev")["ndcg@10"].mean()


# %% [markdown]
# Untuned, it has learnt from the web's questions. Tuned in the domain, it learns from lists: a
# training query, its right document, and wrong ones that the student ranks high. The loss is the
# library's `ListNetLoss`, a softmax over each list. The part of the pairs used here fits a lesson;
# more pairs, negatives and epochs are an argument each.

# %%
lists = ek.training_pairs(alone_recipe.replace(max_pairs=400), domain)
mined = ek.mine(domain, lists.rows, 3, model=tuned, range_max=30, sampling="random")
reader = ek.training.tune_cross_encoder(domain, mined)

# %%
rankings = {"student alone": found}
rankings["cross-encoder"] = reranked(ek.models.load_cross_encoder())
rankings["cross-encoder, tuned"] = reranked(reader)
for name, ranker in {"larger": larger_run.model(), "two encoders": teacher}.items():
    rankings[name] = ek.rank(ranker, domain, "dev", documents=domain.dev_corpus(), k=20)
on_dev = pd.Series({name: dev_score(r) for name, r in rankings.items()})
on_dev.rename("dev nDCG@10").to_frame().round(3)

# %%
best_reader = on_dev.filter(like="cross").max()
fit = on_dev.filter(like="cross").idxmax()
chosen = "two encoders" if on_dev["two encoders"] >= best_reader else fit
Markdown(
    f"On dev, the better cross-encoder reaches {best_reader:.3f}, two encoders "
    f"together {on_dev['two encoders']:.3f}, "
    f"the student alone {on_dev['student alone']:.3f}. "
    f"Of the two kinds, the better teacher here: *{chosen}*. What follows is taught "
    "by two encoders, which score every document at once: they have vectors."
)

# %% [markdown]
# As it ran here: neither cross-encoder is fit to teach. Both rank worse than the student that
# they re-rank, and the tuned one no better than the untuned one.

# %% [markdown]
# ## Two encoders as one
#
# Unit vectors put end to end and divided by $\sqrt{2}$ are a unit vector again, and the cosine of
# two such vectors is the mean of the two cosines. So several encoders are one encoder with longer
# vectors: it can search, be evaluated, and teach.

# %%
texts = list(domain.corpus.values())[:5]
single = [ek.encode(model, texts) for model in teacher.models]  # each (5, dim)
mean_of_cosines = np.mean([vectors @ vectors.T for vectors in single], axis=0)
cosines = teacher.vectors(texts) @ teacher.vectors(texts).T  # (5, 5)
float(np.abs(cosines - mean_of_cosines).max())

# %% tags=["hide"]
assert np.allclose(cosines, mean_of_cosines, atol=1e-5)

# %% [markdown]
# ## Lists to copy
#
# A label says: this document, none other. A teacher says how good
# each of a list is. With $p$ the teacher's softmax over the list and $s$ the student's, the loss is
# the Kullback–Leibler divergence (the library multiplies it by the student's temperature squared):
#
# $$\mathrm{KL}(p \,\|\, s) = \sum_d p_d \log \frac{p_d}{s_d}$$

# %%
general = ek.load_model("minilm")
listed = [domain.corpus[d] for d in (mined.positives[0], *mined.negatives[0])]
asked, shown = ek.encode(general, [mined.anchors[0]]), ek.encode(general, listed)
student_scores = asked @ shown.T  # (1, list)
teacher_scores = teacher.scores([mined.anchors[0]], [listed])
t = 0.05


def softmax(scores):
    exp = np.exp((scores - scores.max()) / t)
    return exp / exp.sum()


p, s = softmax(teacher_scores), softmax(student_scores)
pd.DataFrame({"document": listed, "teacher": p[0], "student": s[0]}).round(3)

# %%
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss
from sentence_transformers.util import pairwise_cos_sim

kl_loss = DistillKLDivLoss(general, similarity_fct=pairwise_cos_sim, temperature=t)
columns = [torch.tensor(asked), *torch.tensor(shown).unsqueeze(1)]
kl_library = kl_loss.compute_loss_from_embeddings(
    columns, torch.tensor(teacher_scores)
).item()
kl_by_hand = float((p * np.log(p / s)).sum() * t**2)
kl_by_hand, kl_library

# %% tags=["hide"]
assert abs(kl_by_hand - kl_library) < 1e-4, (kl_by_hand, kl_library)

# %% [markdown]
# The student at the top learnt from the longest list there is: with vectors, the teacher scores every
# document at once. The corpus' vectors under the student are kept and refreshed, as in notebook 04.
#
# ## Scores of another scale
#
# A failure on purpose. A margin is how much better the right document is than a wrong one, and
# `MarginMSELoss` asks the student for the teacher's. A cross-encoder's scores are logits; two cosines
# never differ by more than 2. The library's default, the dot product, has no such bound, but models
# that are searched by cosine do.

# %%
both = [(mined.anchors[i], domain.corpus[d]) for i in range(len(mined))
        for d in (mined.positives[i], mined.negatives[i][0])]
logits = ek.models.score_pairs(reader, both).reshape(-1, 2)
sides = [ek.encode(general, list(side)) for side in zip(*both, strict=True)]
cosines = (sides[0] * sides[1]).sum(axis=1).reshape(-1, 2)
margins = logits[:, 0] - logits[:, 1]
out_of_reach = float(np.mean(np.abs(margins) > 2))
widest = np.abs(margins).max()
f"{out_of_reach:.0%} of the margins lie beyond 2, the widest is {widest:.1f}"

# %% [markdown]
# So they are moved and stretched to the mean and spread of the student's cosines; the order stays.
# The loss of the untrained student, with both:

# %%
from sentence_transformers.sentence_transformer.losses import MarginMSELoss

margin_loss = MarginMSELoss(general, similarity_fct=pairwise_cos_sim)
queries, right, wrong = sides[0][::2], sides[1][::2], sides[1][1::2]
columns = [torch.tensor(part) for part in (queries, right, wrong)]
scales = {"as they are": logits, "rescaled": ek.training.rescaled(logits, cosines)}
{
    name: margin_loss.compute_loss_from_embeddings(columns, torch.tensor(s)).item()
    for name, s in scales.items()
}

# %% [markdown]
# ## Three ways to teach
#
# The same teacher, a part of the pairs, one epoch, scored on the dev sample. *Margins* and
# *lists* see a pair's document and four mined negatives; *corpus* is the list of all
# documents, half of it the labels' softmax. None of them has unlabelled texts here.

# %%
few = alone_recipe.replace(max_pairs=500, epochs=1)
taught_by = {"teacher": teachers}
ways = {
    "labels, batch": {"approach": "contrastive"},
    "labels, corpus": {},
    "margins": {"approach": "margin_mse", "hard_negatives": 4, **taught_by},
    "lists": {"approach": "kl", "hard_negatives": 4, **taught_by},
    "corpus": {"approach": "distill", **taught_by},
}
on_few = {
    name: ek.train(few.replace(**changes), domain, quiet=True).dev_score
    for name, changes in ways.items()
}

# %%
on_few = pd.Series(on_few, name="dev nDCG@10").sort_values()
on_few.to_frame().round(3)

# %% [markdown]
# As it ran here (one seed, one learning rate for all): margins and lists fall far behind.
# The corpus and labels alone score alike: with so few pairs, no way of teaching is shown to
# beat labels.

# %% [markdown]
# ## A student believes its teacher
#
# The control of notebook 04 learnt from shuffled labels. It can teach, too. Nothing in the loss asks
# whether the teacher is right. Both students here learn from a teacher alone: no label has a share.

# %%
control = ek.train(ek.Recipe(shuffle_labels=True, epochs=1), domain)
no_labels = {"teacher_share": 1.0, "in_batch_weight": 0.0}
misled, led = (
    ek.train(
        few.replace(approach="distill", teacher=who, **no_labels), domain, quiet=True
    )
    for who in (control, teachers)
)
pd.Series(
    {"bad teacher": control.dev_score, "its student": misled.dev_score,
     "the same student, good teacher": led.dev_score},
    name="dev nDCG@10",
).to_frame().round(3)

# %% [markdown]
# ## Half of the layers
#
# A student need not be as deep. This one starts from the first layer, the last and some
# evenly between, and has the same teacher. An epoch costs it about half as much, so it gets
# twice as many, in batches twice as large.

# %%
layers = len(general[0].auto_model.encoder.layer)
longer = {"epochs": 2 * taught_recipe.epochs, "batch_size": 256}
small_run = ek.train(taught_recipe.replace(layers=layers // 2, **longer), domain)
small = ek.evaluate(small_run, domain).labelled("half the layers, taught")
sizes = {f"{layers} layers": taught_run.model(),
         f"{layers // 2} layers": small_run.model()}
speeds = ek.models.encode_speeds(sizes, list(domain.corpus.values())[:1000])
speeds.round(2)

# %%
halves = ek.compare([taught, small], baseline="student, taught")
halves

# %% [markdown]
# As it ran here (`workshop`, one seed): half of the layers cost nDCG@10 on `known` and `lay`,
# most on `lay`. On `novel`, the interval includes 0. dev does not show the loss: its ★ lies
# on the smaller model.
#
# Which queries did the layers cost? Choose *lost*.

# %%
names = (f"{layers} layers", f"{layers // 2} layers")
ek.widgets.FailureBrowser(taught_run, small_run, domain, names=names)

# %% [markdown]
# ## How much of the lead?
#
# The share of the teacher's lead that the student took. Its interval comes from clusters of queries
# drawn anew (lesson 02). A lead near zero makes a share of it mean little, so the lead comes first.

# %%
rng = np.random.default_rng(0)


def lead_and_share(name):
    gains = pd.DataFrame({s.label: alone.change(s, name) for s in (leader, taught)})
    codes = np.asarray(alone.clusters(name).codes(gains.index))
    sums = gains.groupby(codes).sum().to_numpy()  # (clusters, 2)
    drawn = rng.integers(len(sums), size=(2000, len(sums)))
    lead, gain = sums[drawn].sum(axis=1).T
    low, high = np.quantile(gain / np.where(lead == 0, np.nan, lead), [0.025, 0.975])
    lead, gain = gains.mean()
    return {"lead": lead, "taken": gain, "share": gain / lead if lead else np.nan,
            "from": low, "to": high}


# %%
shares = pd.DataFrame({name: lead_and_share(name) for name in domain.test_splits}).T
shares.round(3)

# %% [markdown]
# As it ran here: the student took most of the lead on `known`. On `novel` and `lay`, the
# share's interval includes 0: it is not shown that the student took any of it.

# %%
ek.plots.metric_bars(ek.compare([alone, leader, taught, small], "student alone"))

# %% [markdown]
# ## What we saw

# %%
row, speed = shares.loc[split], speeds["speed"].iloc[1]
kept = small.mean(split) / taught.mean(split)
told = {(r["label"], r["split"]): r for r in report.rows if not r["subset"]}
p_lead, p_taken = (
    told[name, split]["p_vs_base"] for name in ("teacher", "student, taught")
)

# %%
Markdown(
    f"- dev: cross-encoder {best_reader:.3f}, two encoders "
    f"{on_dev['two encoders']:.3f}\n"
    f"- on `{split}` the teacher leads by {row['lead']:+.3f} (p = {p_lead:.2g}); the "
    f"student gained {row['taken']:+.3f} (p = {p_taken:.2g}), "
    f"{row['share']:.0%} of it\n"
    f"- on part of the pairs, dev preferred *{on_few.idxmax()}*\n"
    f"- half of the layers: {speed:.2f} times the speed, {kept:.1%} of the nDCG@10 "
    f"of the taught student on `{split}`"
)

# %% [markdown]
# ## Exercises
#
# **1.** A teacher of three encoders gives two texts the cosines 0.9, 0.6 and 0.3. What is the
# teacher's cosine?

# %% tags=["solution"]
answer_1 = (0.9 + 0.6 + 0.3) / 3
answer_1

# %%
ek.exercises.check(
    "1", answer_1, lambda a: abs(a - 0.6) < 1e-6,
    hint="unit vectors end to end, divided by the root of their number",
    right="each member counts alike, however sure it is",
)

# %% [markdown]
# **2.** For how many queries of the first test split is the taught student better than its teacher?

# %% tags=["solution"]
answer_2 = int((taught.values(split) > leader.values(split)).sum())
answer_2

# %%
ek.exercises.check(
    "2", answer_2,
    lambda a: a == int((taught.values(split) > leader.values(split)).sum()),
    hint="scores.values(split) is a series of nDCG@10, query by query",
    right="a mean hides that each model has queries of its own",
)

# %% [markdown]
# **3.** What share of the margins lies beyond 2 after rescaling?

# %% tags=["solution"]
near = ek.training.rescaled(logits, cosines)
answer_3 = float(np.mean(np.abs(near[:, 0] - near[:, 1]) > 2))
answer_3


# %%
def beyond(answer):
    scores = ek.training.rescaled(logits, cosines)
    return abs(answer - np.mean(np.abs(scores[:, 0] - scores[:, 1]) > 2)) < 1e-6


ek.exercises.check(
    "3", answer_3, beyond, hint="ek.training.rescaled(logits, cosines), then as above",
    right="a teacher of another scale must be brought to the student's first",
)

# %% [markdown]
# ## Further reading
#
# - Hinton et al. 2015, *Distilling the Knowledge in a Neural Network*,
#   <https://arxiv.org/abs/1503.02531>
# - Hofstätter et al. 2020, *Cross-Architecture Knowledge Distillation*, margin MSE,
#   <https://arxiv.org/abs/2010.02666>
# - Sanh et al. 2019, *DistilBERT*, a student from some of the layers,
#   <https://arxiv.org/abs/1910.01108>
# - next: `07_matryoshka`
