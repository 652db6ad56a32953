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
# - that a gain depends on what is asked, and why there is more than one test of it
#
# **You need** Python, and an idea of what a vector is. No GPU, no account, no network
# once the assets are here.
#
# About 1.3 minutes on two CPU cores the first time, seconds after that.

# %%
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
# Change the words below and run the cell again.

# %%
my_words = "low iron in the blood"
if domain.name != "icd10cm":  # elsewhere: one of its own queries
    my_words = domain.examples(domain.test_splits[-1])[0][0]

both = {"general model": general, "words (BM25)": "bm25"}
ek.search_side_by_side(my_words, both, domain)

# %% [markdown]
# Some answers are good, some share a word and miss the meaning. One query proves nothing,
# so let us ask every test query, and count. `base` is the general model; nDCG@10 is 1 when
# the right documents always come first, and 0 when none is ever among the first ten.

# %%
before = ek.evaluate("minilm", domain)
words = ek.evaluate("bm25", domain)
ek.compare([words, before], baseline="base")

# %% [markdown]
# ## Fine-tune it
#
# A recipe is everything that decides a training run. The loss is sentence-transformers'
# `MultipleNegativesRankingLoss`: pull a query towards its own document, push it away from
# the other documents of the batch. Notebook 04 takes it apart.

# %%
recipe = ek.Recipe(model="minilm", approach="contrastive")
recipe

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
# Type here, and both lists change with every key. ▲ and ▼ say where a document came from or
# went to. *A test query* draws one that people have answered: its right answers have a ★.

# %%
box = ek.widgets.SearchBox(general, tuned, domain, query=my_words)
box

# %% [markdown]
# And for a query of the first test split, with the right document followed from left to
# right: the one that gained most.

# %%
split = domain.test_splits[0]
after = ek.evaluate(run, domain)
gain = after.per_query[split]["ndcg@10"] - before.per_query[split]["ndcg@10"]
query = gain.idxmax()
phrase = domain.queries[query]
right = [d for d, grade in domain.qrels[split][query].items() if grade > 0]
phrase, [domain.corpus[d][:300] for d in right[:3]]

# %%
places = ek.evaluation.rank_changes(phrase, general, tuned, domain, right, k=6)
ek.plots.rank_change(places, phrase, k=6)

# %% [markdown]
# That was the best case, picked to be seen. All of them, sorted from the query that lost
# most to the one that gained most:

# %%
ek.plots.before_after(before, after, split)

# %% [markdown]
# ## Is the gain real?
#
# ICD-10-CM has three test splits, all unseen in training. `known`: new phrases of categories
# that training knew. `novel`: whole categories that it never met. `lay`: the words of a
# patient, not of a coder. `never_positive` is the part of a split whose right documents were
# never a training positive. Other domains have other splits; a folder of your own has `test`.
# Queries of one category win and lose together, so intervals and p are over categories (where
# there are none, over documents); p is that of a paired test against `base`. One seed was
# trained: the test is of these weights, not of the recipe. Lesson 02 takes all this apart.

# %%
report = ek.compare([words, before, after], baseline="base")
report

# %%
ek.plots.metric_bars(report)

# %% [markdown]
# As it ran here (`workshop`, one seed): these weights gain on `known` and `novel`, and on the
# part of `known` whose right documents were never a training positive. On `lay` they do worse
# than the general model. BM25 scores less than both on every split.

# %% [markdown]
# ## What we saw

# %%
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
    "2", answer_2, lambda a: set(a.diff(recipe)) == {"learning_rate", "epochs"},
    hint="recipe.replace(field=value, ...)",
    right="two recipes can always be compared field by field, and by hash",
)

# %% [markdown]
# **3.** Find a query of your own for which the general model and the tuned one agree on the
# first answer.

# %% tags=["solution"]
answer_3 = domain.corpus[right[0]]  # a document's own words
ek.search_side_by_side(answer_3, {"before": general, "after": tuned}, domain, k=1)


# %%
def same_first(words):
    models = {"before": general, "after": tuned}
    table = ek.search_side_by_side(words, models, domain, k=1)
    return table["before"].iloc[0] == table["after"].iloc[0]


ek.exercises.check(
    "3", answer_3, same_first, hint="try the exact words of a document",
    right="where a query repeats its document, there was nothing to learn",
)

# %% [markdown]
# ## Further reading
#
# - Reimers and Gurevych 2019, *Sentence-BERT*, <https://arxiv.org/abs/1908.10084>
# - Thakur et al. 2021, *BEIR*, on how retrieval models fare outside their training domain,
#   <https://arxiv.org/abs/2104.08663>
# - next: `01_where_general_models_fail`
