# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · Start here
#
# A general embedding model has read the web, not your shelf. In a few minutes you will
# search a real catalogue with your own words, fine-tune a small model on questions whose
# answers are known, run the same search again, and see whether the gain is real.
#
# **You will do**
# - check the machine
# - search ICD-10-CM, a catalogue of diseases in daily use, with a general model
# - fine-tune that model with one call
# - search again, and measure the difference on queries that training never saw
#
# **You will learn**
# - what a domain, a recipe, a run and a score are: the four nouns of this course
# - that a fine-tune of minutes moves right answers up, and by how much
# - that it moves some answers down, and where
# - that a gain depends on what is asked, and why there is more than one test of it
#
# **You need** Python, and an idea of what a vector is. No GPU, no account, no network
# once the assets are here.
#
# About 1.7 minutes on two CPU cores the first time, seconds after that.

# %%
import pandas as pd

import embkit as ek

ek.setup()

# %% [markdown]
# ## A domain: what is searched, what is asked, what is right
#
# The course's own domain is ICD-10-CM. Its documents are the titles of codes; its queries
# are phrases that human coders wrote beside them. The profile (`smoke`, `workshop`, `full`)
# decides how much of it you get. A folder of yours works as well, here and in the other
# notebooks: notebook 13 shows how to make one.

# %%
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
domain

# %% [markdown]
# ## Search with the general model
#
# `all-MiniLM-L6-v2` is one of the most used embedding models there are. `load_model` gives
# sentence-transformers' own class; nothing is wrapped.

# %%
general = ek.load_model("minilm")
general

# %% [markdown]
# First a coder's phrase. Change the words below and run the cell again.

# %%
my_words = "benign neoplasm of bone of ear"
if domain.name != "icd10cm":  # elsewhere: one of its own queries
    my_words = domain.examples(domain.test_splits[0])[0][0]

both = {"general model": general, "words (BM25)": "bm25"}
ek.search_side_by_side(my_words, both, domain)

# %% [markdown]
# Some answers are good, some share a word and miss the meaning. One query proves nothing,
# so let us ask every test query, and count. nDCG@10 is 1 when the right documents always come
# first, and 0 when none is ever among the first ten. `known`, `novel` and `lay` are three
# sets of test queries: a coder's new phrases for categories that training knows, phrases for
# categories that it never meets, and the words of a patient. `base` is the general model.

# %%
before = ek.evaluate("minilm", domain)
words = ek.evaluate("bm25", domain)


def means(*scores):
    tests = {one.label: {t: one.mean(t) for t in domain.test_splits} for one in scores}
    return pd.DataFrame(tests).T.rename_axis("nDCG@10").map("{:.3f}".format)


means(words, before)

# %% [markdown]
# On average, the general model finds more than words alone do, and there is room above it.

# %% [markdown]
# ## Fine-tune it
#
# A recipe is everything that decides a training run. The loss is sentence-transformers'
# `MultipleNegativesRankingLoss`: pull a query towards its own document, push it away from
# the other documents of the batch. Notebook 04 takes it apart. A recipe has many fields, and
# each has a default; these are the ones that matter most.

# %%
recipe = ek.Recipe(model="minilm", approach="contrastive")
fields = "model approach epochs batch_size learning_rate temperature seed".split()
pd.Series({name: getattr(recipe, name) for name in fields}, name="recipe").to_frame()

# %%
run = ek.train(recipe, domain)
run

# %% [markdown]
# A finished run is kept in a folder and never trained twice; an interrupted one goes on where
# it stopped. Here is how the loss fell, and the score on the *dev sample* after each epoch:
# dev's queries, searched in at most 2,000 documents. The column `dev` of the tables searches
# the whole corpus, so its figure is lower where there are more.

# %%
ek.plots.loss_curve(run.history)

# %% [markdown]
# ## The same search again

# %%
tuned = run.model()
ek.search_side_by_side(my_words, {"before": general, "after": tuned}, domain)

# %% [markdown]
# And a patient's words, of which training had none. Compare the two columns: what a coder
# would put first need not move up.

# %%
lay_words = "low iron in the blood"
if domain.name != "icd10cm":
    lay_words = domain.examples(domain.test_splits[-1])[1][0]
ek.search_side_by_side(lay_words, {"before": general, "after": tuned}, domain)

# %% [markdown]
# Type here, and both lists change with every key. ▲ and ▼ say where a document came from or
# went to. *A test query* draws one that people have answered: its right answers have a ★.

# %%
box = ek.widgets.SearchBox(general, tuned, domain, query=my_words)
box

# %% [markdown]
# And for a query of the first test split, with the right document followed from left to
# right. It is the shortest of those that gained most, picked to be seen.

# %%
split = domain.test_splits[0]
after = ek.evaluate(run, domain)
gain = after.per_query[split]["ndcg@10"] - before.per_query[split]["ndcg@10"]
most = gain[gain == gain.max()].index
query = min(most, key=lambda one: len(domain.queries[one]))
phrase = domain.queries[query]
right = [d for d, grade in domain.qrels[split][query].items() if grade > 0]
print(f"{len(most)} queries gained as much as: {phrase}")

# %%
places = ek.evaluation.rank_changes(phrase, general, tuned, domain, right, k=6)
ek.plots.rank_change(places, phrase, k=6)

# %% [markdown]
# That was the best case. All of them, sorted from the query that lost most to the one that
# gained most:

# %%
ek.plots.before_after(before, after, split)

# %% [markdown]
# ## Is the gain real?
#
# The three test splits again, all unseen in training, now with what another sample of queries
# could have said: a 95% interval, and p, the chance of such a difference if there were none.
# Queries of one category win and lose together, so both are over categories (where there are
# none, over documents). `never_positive` is the part of a split whose right documents were
# never a training positive. A folder of your own has one split, `test`. One seed was trained:
# the test is of these weights, not of the recipe. Lesson 02 takes all this apart.

# %%
report = ek.compare([words, before, after], baseline="base")
pd.DataFrame([
    {"split": row["split"], "part": row["subset"] or "all", "model": row["label"],
     "nDCG@10": f"{row['ndcg@10']:.3f}", "to base": f"{row['delta_vs_base']:+.3f}",
     "95% interval": "{:+.3f} to {:+.3f}".format(*row["delta_vs_base_ci"]),
     "p": f"{row['p_vs_base']:.2g}"}
    for row in report.rows if row["label"] != "base"
]).style.hide().set_uuid("real")

# %% [markdown]
# Where the interval excludes 0, the difference is more than the luck of these queries. The
# same with every metric and count is `report`.

# %%
ek.plots.metric_bars(report)

# %% [markdown]
# The bars are the same figures, and the lines on them their intervals. As it ran here
# (`workshop`, one seed), these weights gain on `known` and `novel` and lose on `lay`: what was
# learnt is how coders write.

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
from IPython.display import Markdown

rows = {(r["approach"], r["split"], r["subset"]): r for r in report.rows}
tuned_rows = [rows["contrastive", name, None] for name in domain.test_splits]
Markdown(
    f"- a domain of {len(domain.corpus):,} documents, a recipe, a run of "
    f"{run.seconds / 60:.1f} minutes, and scores for "
    f"{sum(row['queries'] for row in tuned_rows):,} test queries\n"
    + "\n".join(
        f"- on `{row['split']}`, nDCG@10 changed by {row['delta_vs_base']:+.3f} to "
        f"{row['ndcg@10']:.3f} (p = {row['p_vs_base']:.2g})"
        for row in tuned_rows
    )
    + f"\n- {(gain < 0).sum():,} of {len(gain):,} queries of `{split}` got worse"
)

# %% [markdown]
# ## Exercises
#
# **1.** How many queries of the first test split got worse? (`before.per_query[split]` is a
# table with a column `ndcg@10`.)

# %% tags=["solution"]
change = after.per_query[split]["ndcg@10"] - before.per_query[split]["ndcg@10"]
answer_1 = int((change < 0).sum())
answer_1

# %%
ek.exercises.check(
    "1", answer_1, lambda a: a == int((gain < 0).sum()),
    hint="subtract before from after, count what is below 0",
    right="a mean gain hides losses: always look at them",
)

# %% [markdown]
# **2.** Make the recipe of a run with half the learning rate and one epoch, without typing
# the other fields again.

# %% tags=["solution"]
answer_2 = recipe.replace(learning_rate=recipe.learning_rate / 2, epochs=1)
answer_2.diff(recipe)

# %%
ek.exercises.check(
    "2", answer_2,
    lambda a: set(a.diff(recipe)) == {"learning_rate", "epochs"}
    and (a.learning_rate, a.epochs) == (recipe.learning_rate / 2, 1),
    hint="recipe.replace(field=value, ...)",
    right="two recipes can always be compared field by field, and by hash",
)

# %% [markdown]
# **3.** How many queries of the first test split have a right document first after training,
# and had not before? (The column `hit@1` is 1 where the first document is right.)

# %% tags=["solution"]
first_before = before.per_query[split]["hit@1"] == 1
first_after = after.per_query[split]["hit@1"] == 1
answer_3 = int((first_after & ~first_before).sum())
answer_3

# %%
ek.exercises.check(
    "3", answer_3,
    lambda a: a == sum(
        after.per_query[split]["hit@1"] > before.per_query[split]["hit@1"]
    ),
    hint="two conditions at once, and the one about before is a not",
    right="some went the other way: the difference of two means is less than this",
)

# %% [markdown]
# ## Further reading
#
# - Reimers and Gurevych 2019, *Sentence-BERT*, <https://arxiv.org/abs/1908.10084>
# - Thakur et al. 2021, *BEIR*, on how retrieval models fare outside their training domain,
#   <https://arxiv.org/abs/2104.08663>
# - next: `01_where_general_models_fail`
