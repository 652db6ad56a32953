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
# lead the student takes, split by split.
#
# **You will do**
# - put two encoders together, check that their cosine is the mean of two cosines, and let them teach
# - let a cross-encoder re-rank, and see whether it is fit to teach
# - make a data set of a cross-encoder's scores and train on it with the library's own losses
# - compute a loss by hand, equal to the library's class
# - give a margin loss scores of another scale
# - halve the layers, and see what that costs and gains
#
# **You will learn**
# - that a teacher must be shown to be better before it teaches
# - what margins and lists pass on, and why unlabelled texts can be used
# - that a lead is not passed on whole: how much of it, split by split, and over seeds
#
# **You need** notebook 04; of 05, what a mined negative is.
#
# About 3.2 minutes on two CPU cores the first time, seconds after that.

# %%
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

import embkit as ek

session = ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
split = domain.test_splits[0]
general = ek.load_model("minilm")

# %% [markdown]
# ## First the result
#
# Three models. The teacher is two encoders as one: a run with a softmax over the whole corpus, which
# is trained first, once over all pairs, and `bge-small` as it is, with twice as many layers. Both
# students start from the same general model and see a part of the pairs, once. One learns from labels
# alone. Of the other's loss, half comes from labels and half from the teacher, which also answers
# queries without labels: the documents' own texts.

# %%
teachers = [ek.train(ek.Recipe(approach="corpus", epochs=1), domain), "bge-small"]
teacher = ek.training.load_teacher(teachers, domain)
few = ek.Recipe(approach="corpus", epochs=1, max_pairs=1000)
taught_by = {"teacher": teachers, "unlabeled_texts": "documents"}
alone_run = ek.train(few, domain, quiet=True)
taught_run = ek.train(few.replace(approach="distill", **taught_by), domain, quiet=True)

# %%
untrained = ek.evaluate("minilm", domain).labelled("untrained")
alone = ek.evaluate(alone_run, domain).labelled("student alone")
leader = ek.evaluate(teacher, domain, name="teacher").labelled("teacher")
taught = ek.evaluate(taught_run, domain).labelled("student, taught")
report = ek.compare([untrained, alone, leader, taught], baseline="student alone")
report

# %%
ek.plots.metric_bars(report)

# %% [markdown]
# Two differences to look for: the teacher's to the student alone, which is its lead, and the taught
# student's, which is what was passed on. One seed: the intervals are over queries, for these weights.
#
# ## How much of the lead?
#
# The share of the teacher's lead that the student took, split by split. Its interval comes from
# clusters of queries drawn anew (lesson 02). A lead near zero makes a share of it mean little, so
# the lead comes first.

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

# %%
Markdown("The student took " + ", ".join(
    f"{row['share']:.0%} of the lead on `{name}`" for name, row in shares.iterrows()
) + ". Where the interval from ... to includes 0, it is not shown that it took any.")

# %% [markdown]
# ## With all pairs, three seeds
#
# Not trained here, but kept with the data: three epochs over all pairs, three seeds. *corpus* is
# the student alone; *distilled* has a stronger teacher than the one above, for which `bge-small`
# was tuned, too. `make approaches` made them and makes them again.

# %%
names = ("base", "bge-small, untrained", "corpus", "distilled", "distilled, 3 layers")
kept = ek.evaluation.kept.results(domain)
there = [kept[name] for name in names if name in kept]
whole = ek.compare(there, baseline="corpus") if "corpus" in kept else None
whole or "nothing is kept of this domain and profile: make approaches"

# %% [markdown]
# Over three seeds, on ICD-10-CM with the profile `workshop`, the gain of distillation over labels
# alone stands on no split: each interval includes 0, with +0.019 on `known` the nearest to a gain.
# With one seed, the same recipe looked like a clear gain on `known`. Three of six layers, taught for
# twice the epochs, are told apart from the whole student on `lay` alone, where they lose. There,
# every training loses to both untrained models. Seed by seed:

# %%
both = [kept[name].runs for name in ("corpus", "distilled")] if whole else [(), ()]
pd.DataFrame({
    f"seed {one.meta['seed']}": {
        name: one.mean(name) - other.mean(name) for name in domain.test_splits
    }
    for other, one in zip(*both, strict=True)
}).rename_axis("distilled - corpus").round(3)

# %% [markdown]
# One seed is one draw: what a single column says of the method is worth little.

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
print(f"largest difference: {np.abs(cosines - mean_of_cosines).max():.1e}")

# %% tags=["hide"]
assert np.allclose(cosines, mean_of_cosines, atol=1e-5)

# %% [markdown]
# ## Who is fit to teach? A cross-encoder
#
# A cross-encoder reads query and document together, which should make it a better ranker than
# two vectors can be. The library's class gives a score for each pair of texts:

# %%
from sentence_transformers import CrossEncoder

from embkit.assets.catalogue import resolve

reader = CrossEncoder(str(resolve("reranker")))
pairs = ek.training_pairs(ek.Recipe(hard_negatives=2, max_pairs=64), domain)
mined = pairs.mined
listed = [domain.corpus[d] for d in (mined.positives[0], *mined.negatives[0])]
reader.predict([(mined.anchors[0], document) for document in listed]).round(2)

# %% [markdown]
# The first document is the right one. Let the reader re-rank what the general model finds for a
# third of dev's queries. Choosing a teacher is a choice, so the dev sample decides (dev's queries,
# searched in at most 2,000 documents), not a test.

# %%
def ranked(model):
    return ek.rank(model, domain, "dev", documents=domain.dev_corpus(), k=10)


found = ranked(general)
some = list(found)[::3]
candidates = [(domain.queries[q], domain.corpus[d]) for q in some for d in found[q]]


def reranked(reader):
    scores = iter(ek.models.score_pairs(reader, candidates).tolist())
    return found | {q: {d: next(scores) for d in found[q]} for q in some}


# %%
def on_dev(ranking):
    return ek.evaluation.score(ranking, domain, "dev")["ndcg@10"].loc[some]


rankings = {
    "minilm, untrained": found,
    "re-ranked by the cross-encoder": reranked(reader),
    "bge-small, untrained": ranked(ek.load_model("bge-small")),
    "two encoders": ranked(teacher),
}
fitness = {name: on_dev(ranking) for name, ranking in rankings.items()}

# %% tags=["hide"]
def against_first(rows):
    """nDCG@10 on dev of each row, and its difference to the first row's."""
    first, told = next(iter(rows.values())), {}
    for name, values in rows.items():
        test = ek.paired_test(values, first)
        interval = f"{test.delta:+.3f} [{test.ci_low:+.3f}, {test.ci_high:+.3f}]"
        told[name] = {"dev nDCG@10": f"{values.mean():.3f}",
                      "difference [95%]": "" if values is first else interval}
    return pd.DataFrame(told).T


against_first(fitness)

# %% [markdown]
# A model whose interval lies above 0 is shown to be better than the student, and fit to teach. This
# cross-encoder learnt from the web's questions and passages. Where it ranks no better than the
# student that it re-ranks, what it teaches is no better either: see what happens to its pupils below.
#
# ## Lists to copy
#
# A label says: this document, none other. A teacher says how good
# each of a list is. With $p$ the teacher's softmax over the list and $s$ the student's, the loss is
# the Kullback–Leibler divergence (the library multiplies it by the student's temperature squared):
#
# $$\mathrm{KL}(p \,\|\, s) = \sum_d p_d \log \frac{p_d}{s_d}$$

# %%
asked, shown = ek.encode(general, [mined.anchors[0]]), ek.encode(general, listed)
student_scores = asked @ shown.T  # (1, list)
teacher_scores = teacher.scores([mined.anchors[0]], [listed])
t = 0.05


def softmax(scores):
    exp = np.exp((scores - scores.max()) / t)
    return exp / exp.sum()


p, s = softmax(teacher_scores), softmax(student_scores)
lists = pd.DataFrame({"document": listed, "teacher": p[0], "student": s[0]}).style
lists.format(precision=3).set_uuid("lists")
lists.set_properties(["document"], **{"text-align": "left"})

# %%
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss
from sentence_transformers.util import pairwise_cos_sim

kl_loss = DistillKLDivLoss(general, similarity_fct=pairwise_cos_sim, temperature=t)
columns = [torch.tensor(asked), *torch.tensor(shown).unsqueeze(1)]
kl_library = kl_loss.compute_loss_from_embeddings(
    columns, torch.tensor(teacher_scores)
).item()
kl_by_hand = float((p * np.log(p / s)).sum() * t**2)
round(kl_by_hand, 6), round(kl_library, 6)

# %% tags=["hide"]
assert abs(kl_by_hand - kl_library) < 1e-4, (kl_by_hand, kl_library)

# %% [markdown]
# The student at the top learnt from the longest list there is: with vectors, the teacher scores every
# document at once. The corpus' vectors under the student are kept, and computed anew each epoch.
#
# ## Scores of another scale
#
# A failure on purpose. A margin is how much better the right document is than a wrong one, and
# `MarginMSELoss` asks the student for the teacher's. A cross-encoder's scores are logits; two cosines
# never differ by more than 2. The library's default, the dot product, has no such bound, but models
# that are searched by cosine do.

# %%
lists = zip(mined.anchors, mined.positives, mined.negatives, strict=True)
flat = [
    (anchor, domain.corpus[document])
    for anchor, right, wrong in lists
    for document in (right, *wrong)
]
logits = ek.models.score_pairs(reader, flat).reshape(len(mined), -1)  # (pairs, list)
sides = [ek.encode(general, list(side)) for side in zip(*flat, strict=True)]
cosines = (sides[0] * sides[1]).sum(axis=1).reshape(logits.shape)
margins = logits[:, [0]] - logits[:, 1:]
out_of_reach = float(np.mean(np.abs(margins) > 2))
widest = np.abs(margins).max()
f"{out_of_reach:.0%} of the margins lie beyond 2, the widest is {widest:.1f}"

# %% [markdown]
# So they are moved and stretched to the mean and spread of the student's cosines; the order stays.
# The loss of the untrained student, with both:

# %%
from sentence_transformers.sentence_transformer.losses import MarginMSELoss

margin_loss = MarginMSELoss(general, similarity_fct=pairwise_cos_sim)
scores = ek.training.rescaled(logits, cosines)
shown = torch.tensor(sides[1]).reshape(*logits.shape, -1).unbind(1)  # one part a column
columns = [torch.tensor(sides[0][:: logits.shape[1]]), *shown]
for name, given in {"as they are": logits, "rescaled": scores}.items():
    lost = margin_loss.compute_loss_from_embeddings(columns, torch.tensor(given))
    print(f"{name}: {lost.item():.3f}")

# %% [markdown]
# ## Trained on a cross-encoder's scores
#
# The library wants a data set with the texts in columns, in the order of the scores, and the scores
# in a column `label`. Both losses read it: margins take differences of the scores, lists their
# softmax. The learning rate is a small one; the last row of the table below has a larger one.

# %%
data = pairs.dataset().add_column("label", scores.tolist())
data

# %%
from sentence_transformers import (
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)

arguments = SentenceTransformerTrainingArguments(
    output_dir=str(ek.paths().runs / "taught"), num_train_epochs=1,
    per_device_train_batch_size=32, learning_rate=2e-5, warmup_steps=0.1, seed=42,
    batch_sampler="no_duplicates", save_strategy="no", disable_tqdm=True,
    use_cpu=session.device == "cpu",
    bf16=session.precision == "bf16", fp16=session.precision == "fp16",
)


# %%
def taught_with(loss, **options):
    student = ek.load_model("minilm")
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    loss = loss(student, similarity_fct=pairwise_cos_sim, **options)
    SentenceTransformerTrainer(student, arguments, data, loss=loss).train()
    return student


pupils = {
    "minilm, untrained": general,
    "taught margins": taught_with(MarginMSELoss),
    "taught lists": taught_with(DistillKLDivLoss, temperature=t),
}

# %% [markdown]
# The kit's short form trains the same: the teacher is named, and what is done by hand above follows.

# %%
recipe = ek.Recipe(
    approach="margin_mse", teacher="reranker", hard_negatives=2, max_pairs=64,
    epochs=1, batch_size=32, learning_rate=2e-5,
)
short = ek.train(recipe, domain, quiet=True).model()
fast = ek.train(recipe.replace(learning_rate=4e-4), domain, quiet=True).model()
texts = [domain.queries[q] for q in some]
one, other = (ek.encode(m, texts) for m in (short, pupils["taught margins"]))
alike = (one * other).sum(axis=1)
f"cosine of the two models' vectors: at least {alike.min():.4f}"

# %%
from embkit.evaluation.ranking import ndcg

pupils["taught margins, at 4e-4"] = fast
sample = domain.dev_corpus()
against_first({
    name: ndcg(model, domain, "dev", sample) for name, model in pupils.items()
})

# %% [markdown]
# Where the intervals include 0, a teacher that ranks no better than its student has taught it
# nothing that shows, in these few steps. The last row is what is easily taken for a fault of the
# loss: labels alone are trained at 4e-4, and that rate is too high here.
#
# ## Half of the layers
#
# A student need not be as deep. This one starts from the first layer, the last and some
# evenly between, and learns what the student alone learns: the same labels, pairs and steps.

# %%
layers = len(general[0].auto_model.encoder.layer)
small_run = ek.train(few.replace(layers=layers // 2), domain, quiet=True)
small = ek.evaluate(small_run, domain).labelled("half the layers, alone")
sizes = {f"{layers} layers": alone_run.model(),
         f"{layers // 2} layers": small_run.model()}
speeds = ek.models.encode_speeds(sizes, list(domain.corpus.values())[:500])
speeds.round({"texts/s": 0, "speed": 2, "MB": 1})

# %%
halves = ek.compare([alone, small], baseline="student alone")
halves

# %% [markdown]
# The speed is what fewer layers gain, the difference what the others were worth. A teacher is one
# way to win some of it back: *distilled, 3 layers* above, with all pairs.
#
# Which queries did the layers cost? Choose *lost*.

# %%
names = (f"{layers} layers", f"{layers // 2} layers")
ek.widgets.FailureBrowser(alone_run, small_run, domain, names=names)

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
def gain(rows, name, split):
    (row,) = (
        r for r in rows if (r["label"], r["split"], r["subset"]) == (name, split, None)
    )
    low, high = row["delta_vs_base_ci"]
    return f"{row['delta_vs_base']:+.3f} [{low:+.3f}, {high:+.3f}]"


speed, left = speeds["speed"].iloc[1], small.mean(split) / alone.mean(split)
told = [
    f"- on `{name}` the teacher leads by {gain(report.rows, 'teacher', name)}; the "
    f"student gained {gain(report.rows, 'student, taught', name)}, one seed"
    for name in domain.test_splits
]

# %% tags=["hide"]
if whole and "distilled" in kept:
    told += [
        f"- all pairs, three seeds, `{name}`: distilled against labels alone "
        f"{gain(whole.rows, 'distilled', name)}"
        for name in domain.test_splits
    ]
told.append(
    f"- half of the layers: {speed:.2f} times the speed, {left:.1%} of the nDCG@10 "
    f"of the student alone on `{split}`"
)
Markdown("\n".join(told))

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
# **3.** How wide is the widest margin after rescaling?

# %% tags=["solution"]
near = ek.training.rescaled(logits, cosines)
answer_3 = float(np.abs(near[:, [0]] - near[:, 1:]).max())
answer_3


# %%
def widest_margin(answer):
    scores = ek.training.rescaled(logits, cosines)
    return abs(answer - np.abs(scores[:, [0]] - scores[:, 1:]).max()) < 1e-6


ek.exercises.check(
    "3", answer_3, widest_margin,
    hint="ek.training.rescaled(logits, cosines), then as above",
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
