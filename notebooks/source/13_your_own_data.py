# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13 · Your own data
#
# The course ran on data that was ready. Yours is a folder or a spreadsheet, with lines that
# break and words that only your people use. Here you take a folder all the way: from its
# files to a verdict whether fine-tuning is worth it, and to what is worth labelling next.
#
# **You will do**
# - search a folder of three files, and see how good a general model is on it
# - plant faults in a copy of it and in a CSV, and read what was put aside and why
# - audit it, and find the words that people ask with and no document has
# - train with hard negatives, compare, and ask whether the evidence suffices
# - read the failures, list what to label next, and label with one key a grade
# - take model, vectors and data out again
#
# **You will learn**
# - that three files describe any retrieval task
# - that a bad row neither stops a load nor vanishes, and why splits are made by document
# - how many test queries a verdict needs
#
# **You need** notebooks 00 and 05.
#
# About 0.8 minutes on two CPU cores the first time, seconds after that.

# %%
import json
import os

import numpy as np
import pandas as pd

import embkit as ek

ek.setup()
general = ek.load_model("minilm")
here = ek.paths().runs / "your_own_data"  # what this notebook writes

# %% [markdown]
# ## First the result: a folder, and how good a general model is on it
#
# `data/example` is the help desk of a town library: its answers, and what people ask. It was
# written for this lesson. Put your own folder in its place, or start the notebook with
# `make run NB=13 DOMAIN=path/to/your/folder`: every cell below then speaks of your data.

# %%
domain = ek.load_domain(os.environ.get("EMBKIT_DOMAIN") or "data/example")
split = domain.test_splits[0]
domain

# %%
before = [ek.evaluate(what, domain) for what in ("bm25", "minilm")]
ek.compare(before, baseline="base")

# %% [markdown]
# That is what you have today, without any training. One of the questions it gets wrong, with
# what both ways of searching find:

# %%
wrong = before[1].per_query[split].sort_values("ndcg@10").index
question = domain.queries[wrong[0]]
right = max(domain.qrels[split][wrong[0]].items(), key=lambda item: item[1])[0]
question, domain.corpus[right][:200]

# %%
ek.search_side_by_side(question, {"general": general, "words": "bm25"}, domain, k=3)

# %% [markdown]
# ## Three files
#
# `corpus.jsonl` and `queries.jsonl` hold an id and a text a line, and a title if there is one.
# `qrels/*.tsv` say which document is right for which query. That is BEIR's layout:

# %%
example = ek.paths().data / "example"
files = ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv")
content = {
    name: (example / name).read_text(encoding="utf-8").splitlines() for name in files
}
for name, lines in content.items():
    print(name, *(f"  {line[:82]}" for line in lines[:3]), sep="\n")

# %% [markdown]
# ## Faults
#
# A copy of the example with five faults: a line that was cut off, an id that another document
# has, an empty question, one without an id, and a judgement about a document that is not there.

# %%
copy = here / "faulty"
(copy / "qrels").mkdir(parents=True, exist_ok=True)
faults = {
    "corpus.jsonl": [
        '{"_id": "bell", "text": "Ring the be',
        json.dumps({"_id": "fine-late", "text": "Another text under a taken id."}),
    ],
    "queries.jsonl": [
        json.dumps({"_id": "q900", "text": "   "}),
        json.dumps({"text": "a question that has no id"}),
    ],
    "qrels/train.tsv": ["q001\tpump\t1"],
}

# %%
for name, lines in content.items():
    text = "\n".join(lines + faults[name]) + "\n"
    (copy / name).write_text(text, encoding="utf-8")
tidy, faulty = ek.load_domain(example), ek.load_domain(copy)
faulty.report

# %% [markdown]
# Nothing else was lost: the texts and labels that are left are those of the tidy folder, and so
# is the content hash. Every row that was put aside lies in a file, with its line. Most of them
# are not faults at all: nobody has said yet what is right for these questions. They come
# back below, where it is asked what to label next.

# %%
def put_aside(of):
    """The rows that a domain's report put aside, as dicts."""
    kept = of.report and of.report.quarantine
    lines = kept.read_text(encoding="utf-8").splitlines() if kept else []
    return [json.loads(line) for line in lines]


bad = put_aside(faulty)
faulty.hash == tidy.hash, pd.Series([row["cause"] for row in bad]).value_counts()

# %% [markdown]
# ## A spreadsheet
#
# One CSV of pairs will do, too: a question and its answer a row. Common names of columns
# (`question`, `answer`, `passage`, …) are guessed. These are not among them, and what is not
# plain is not guessed:

# %%
table = here / "sheet.csv"
every = {q: grades for of in tidy.qrels.values() for q, grades in of.items()}
pairs = [(tidy.queries[q], tidy.corpus[d], 7) for q, of in every.items() for d in of]
rows = pd.DataFrame(pairs, columns=["ask", "reply", "shelf"])
rows.to_csv(table, sep=";", index=False)
with table.open("a", encoding="utf-8") as file:
    file.write('"where is the pump?";;7\n"one field"\n"it never ends;and so on;7\n')
try:
    ek.load_domain(table)
except ek.EmbkitError as error:
    print(error)

# %% [markdown]
# Each way to read the file is shown: the line to type, how many right pairs it gives, and three
# of them. Here the first is meant. On the command line, `python -m embkit check sheet.csv` says
# the same, with `--columns` to type.

# %%
sheet = ek.load_domain(table, columns={"anchor": "ask", "positive": "reply"})
sheet.report

# %% [markdown]
# ## Split by document
#
# Nobody gave the example a test split, so one was made: all questions about a document went the
# same way. Split by row instead, a test question often asks for a document whose other questions
# were trained on, and the test measures memory. How often, in the example:

# %%
def documents(queries, of):
    return np.array([next(iter(of[q])) for q in queries])


order = np.random.default_rng(0).permutation(list(every))
size = len(tidy.qrels["test"])
test, train = documents(order[:size], every), documents(order[size:], every)
by_row = np.isin(test, train).mean()
tested = documents(tidy.qrels["test"], every)
by_document = np.isin(tested, documents(tidy.qrels["train"], every)).mean()
pd.Series({"split by row": by_row, "split by document": by_document}, name="trained on")

# %% [markdown]
# ## The audit
#
# Before anything is trained: sizes, leaks, copies, damage, labels. A verdict a line, and what to
# do next.

# %%
audit = ek.audit(domain, model=general, scores=before[1])
audit

# %% [markdown]
# ## Words that no document has
#
# A general model has read a lot, but not your names for things. Words that occur in three
# training queries or more and in no document, common English words left out:

# %%
import re
from collections import Counter

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS as COMMON


def words(text):
    return set(re.findall(r"\w+", text.casefold())) - COMMON


# %%
written = set().union(*map(words, domain.corpus.values()))
asked = Counter(w for q in domain.qrels["train"] for w in words(domain.queries[q]))
own = {word: n for word, n in asked.most_common() if word not in written and n > 2}
pd.Series(own, name="training queries", dtype=int).head(20).to_frame()

# %% [markdown]
# If the list is long, there is something to learn that no general model can know; if it is empty,
# gains have to come from elsewhere. After training, the two kinds of questions are counted apart.
#
# In the example the list is long by design. Whoever wrote it gave the library's things names
# (Bertha is a printer, Otto a laser cutter) that stand in many questions and in no document, so that
# there is something to learn. What training gains below, it gains from these names first. Your
# list may be short: expect less then.
#
# ## Train
#
# A first try is small: at most a thousand pairs say whether more is worth it. Few pairs want small
# batches and more than one pass, or there are too few steps to learn anything. `max_length` cuts
# what the model reads of long documents. Dev chooses the learning rate:

# %%
many = domain.counts()["training pairs"]
few = many < 500
recipe = ek.Recipe(
    epochs=3 if few else 1, batch_size=16 if few else 64,
    max_pairs=1000 if many > 1000 else None, max_length=128,
    relative_margin=0.05,  # of hard negatives, where there are any
)
rates = ek.tune(recipe, domain, learning_rate=[1e-4, 4e-4])
rates

# %% [markdown]
# Hard negatives, documents that look right and are not, come from a search with the general model.
# Whether they help here, the dev split says, too. How far to trust it depends on its size: with few
# dev queries it tells large differences apart, and no small ones.

# %%
tried = ek.tune(rates.best, domain, hard_negatives=[0, 1])
run = ek.train(tried.best, domain)  # trained above, so it is here at once
tried

# %% [markdown]
# The test split is asked once, at the end:

# %%
scores = [*before, ek.evaluate(run, domain)]
report = ek.compare(scores, baseline="base")
report

# %%
ek.plots.before_after(scores[1], scores[2], split)

# %%
tuned = run.model()
ek.search_side_by_side(question, {"before": general, "after": tuned}, domain, k=3)

# %% [markdown]
# ## Where it gains
#
# The test queries with a word of the list above, and those without; the gains with their intervals:

# %%
base, after = (s.values(split) for s in scores[1:])
kinds = pd.Series(
    {q: "has such a word" if words(domain.queries[q]) & own.keys() else "has none"
     for q in base.index}
)
where = pd.DataFrame({"before": base, "after": after}).groupby(kinds).mean()
where["queries"] = kinds.value_counts()
for kind, queries in kinds.groupby(kinds):
    of = [s.loc[queries.index] for s in (after, base)]
    test = ek.paired_test(*of) if len(queries) > 1 else None
    where.loc[kind, ["gain", "from", "to"]] = test[:3] if test else np.nan
where.round(3)

# %% [markdown]
# On the example, the gain is with the names, as it was made to be. What the questions without one
# gain is what a general model leaves to learn there; read its interval before you believe it.

# %% [markdown]
# ## Worth it?
#
# How many queries does a verdict need? A paired test looks at the differences between after and
# before, query by query. To see a true difference of δ in 80 of 100 cases, at the usual level of
# 5%, it needs
#
# $$n = D \left((z_{0.975} + z_{0.8})\,\frac{s}{\delta}\right)^2$$
#
# queries, where $s$ is the standard deviation of the differences, and $D$ the design effect: by so
# much the queries that share a group or a document widen the variance (lesson 02). By hand, and the
# library's:

# %%
import math

from scipy.stats import norm

measured = ek.paired_test(after, base).estimate
spread, D = (after - base).std(ddof=1), measured.effect
z = norm.ppf(0.975) + norm.ppf(0.8)
by_hand = math.ceil(D * (z * spread / 0.02) ** 2)
by_hand, ek.evaluation.queries_needed(spread, 0.02, D)

# %% [markdown]
# The other way round: with the test queries there are, the smallest difference that would be seen.
# The library's takes Student's t: where clusters are few, their spread is not known so well.

# %%
seen = z * spread * math.sqrt(D / len(base))
(
    f"{len(base)} queries in {measured.clusters} clusters: differences of {seen:.3f} "
    f"and more (the library's: {measured.visible:.3f}); {by_hand:,} for 0.02"
)

# %% [markdown]
# The verdict lets dev choose one approach, and the test then tests that one alone: of many, the best
# on the test would be partly luck.

# %%
from embkit.evaluation.verdict import verdict

verdict(scores)

# %% [markdown]
# ## What it still gets wrong
#
# The test queries with the lowest nDCG@10. Read them: is the model wrong, or the label, or is the
# document badly written?

# %%
from embkit.display import short

found = ek.rank(tuned, domain, split, k=1)
low = after.sort_values().index[:8]


def failure(query):
    grades = domain.qrels[split][query]
    first, best = next(iter(found[query])), max(grades, key=grades.get)
    texts = (short(domain.corpus[d], 110) for d in (first, best))
    return (short(domain.queries[query], 150), *texts, after[query])

# %%
columns = ["query", "ranked first", "labelled as right", "nDCG@10"]
worst = pd.DataFrame(map(failure, low), columns=columns).style.format(precision=2)
worst.hide().set_properties(columns[:3], **{"text-align": "left"}).set_uuid("worst")

# %% [markdown]
# All of them, with the ranked lists of both models: won, lost, tied; type a word to sift.

# %%
names = ("general", "tuned")
ek.widgets.FailureBrowser(general, tuned, domain, split=split, names=names)

# %% [markdown]
# ## What to label next
#
# Labels cost time: spend it where it tells most. Two signs need no labels. The general and the
# tuned model find different documents; and the tuned one is undecided, its first two answers
# lying close together.

# %%
names = list(domain.corpus)


def signs(texts):
    ten = {}
    for name, model in {"before": general, "after": tuned}.items():
        vectors = ek.encode(model, list(domain.corpus.values()))  # (documents, dim)
        ten[name] = ek.exact_search(ek.encode(model, texts), vectors, 10)
    (old, _), (new, points) = ten["before"], ten["after"]  # (texts, 10)
    return pd.DataFrame({
        "shared of ten": [len({*a} & {*b}) for a, b in zip(old, new, strict=True)],
        "margin": points[:, 0] - points[:, 1],
        "before": [short(domain.corpus[names[i]], 60) for i in old[:, 0]],
        "after": [short(domain.corpus[names[i]], 60) for i in new[:, 0]],
    })


# %% [markdown]
# Are they any good? On the test split the right answers are known: nDCG@10 of the tuned model on
# the half of the queries that a sign doubts more, and on the other half. (Only to evaluate the signs;
# nothing is chosen by it.)

# %%
judged = signs([domain.queries[q] for q in base.index]).set_index(base.index)
halves = {}
for sign in ("shared of ten", "margin"):
    low = judged[sign].rank(method="first") <= len(judged) / 2
    halves[sign] = {"doubted": after[low].mean(), "the rest": after[~low].mean()}
pd.DataFrame(halves).T.rename_axis("sign").round(3)

# %% [markdown]
# Now the questions without a label: those that the folder has and no judgement names, or, where
# there are none, the dev split's.

# %%
left = [row["raw"] for row in put_aside(domain) if "no judgement" in row["reason"]]
whole = [json.loads(raw) for raw in left if len(raw) < 2000]  # longer ones are cut off
pool = {row["_id"]: row["text"] for row in whole[:500]}
pool = pool or {q: domain.queries[q] for q in domain.qrels["dev"]}
doubts = signs(list(pool.values()))
doubts.insert(0, "query", [short(text, 80) for text in pool.values()])
doubts.index = list(pool)
doubts = doubts.sort_values(["shared of ten", "margin"])
shown = doubts.head(8).style.format(precision=3).set_uuid("doubts")
shown.set_properties(["query", "before", "after"], **{"text-align": "left"})

# %% [markdown]
# For the most doubtful, the first answers of both models, in an order that does not tell whose they
# are.

# %%
import dataclasses

wider = dataclasses.replace(domain, queries={**domain.queries, **pool})
models = {"before": general, "after": tuned}
tasks = ek.pairs.candidates(wider, list(doubts.index[:3]), models, k=3)
shown = [(short(t.query_text, 80), short(t.document_text, 90)) for t in tasks]
shown = pd.DataFrame(shown, columns=["query", "is this an answer?"]).style.hide()
shown.set_properties(**{"text-align": "left"}).set_uuid("asked")

# %% [markdown]
# The annotator shows them one by one and takes a grade with one key each: 2 right, 1 in part, 0
# wrong. What is pressed is kept in a file at once. In a lesson that runs by itself nobody presses;
# you do, or leave it to exercise 3, which labels one from code.

# %%
judgements = ek.pairs.LabelStore(wider, here / "judgements.jsonl")
ek.widgets.Annotator(tasks, judgements)

# %% [markdown]
# ## Out again
#
# The model as a plain sentence-transformers folder, which needs no embkit; the largest difference
# between its vectors and those of the run:

# %%
from sentence_transformers import SentenceTransformer

folder = ek.export_model(run, here / "model", replace=True)
plain = SentenceTransformer(str(folder), device="cpu")
some = list(domain.queries.values())[:20]
vectors = plain.encode(some, normalize_embeddings=True)
np.abs(vectors - tuned.encode(some, normalize_embeddings=True)).max()

# %% [markdown]
# The documents' vectors as Parquet, with their texts and two coordinates, for pandas and for other
# map tools; and the data as a folder of three files again.

# %%
texts = list(domain.corpus.values())
vectors = ek.encode(tuned, texts)  # (documents, dim)
centred = vectors - vectors.mean(axis=0)
axes = np.linalg.eigh(centred.T @ centred)[1][:, -2:]  # the two widest directions
target = here / "embeddings.parquet"
frame = pd.DataFrame({"id": names, "text": texts, "vector": list(vectors)})
frame[["x", "y"]] = centred @ axes
frame.to_parquet(target)
pd.read_parquet(target).head(3)

# %%
folder = ek.export.to_beir(domain, here / "copy", replace=True)
again = ek.load_domain(folder, profile="full")  # full: nothing is cut
again.hash, again.hash == domain.hash

# %% [markdown]
# ## The same from the command line
#
# `check` prints how the data was read and the audit; `run` trains, and prints leaderboard and
# verdict:
#
# ```sh
# python -m embkit check path/to/your/folder
# python -m embkit run path/to/your/folder
# make run DOMAIN=path/to/your/folder     # the whole course
# ```

# %%
import subprocess
import sys

command = [sys.executable, "-m", "embkit", "check", str(copy)]
said = subprocess.run(command, capture_output=True, encoding="utf-8")
print("\n".join((said.stderr + said.stdout).splitlines()[:12]), "\n…")

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
from IPython.display import Markdown

row = next(r for r in report.rows if r["recipe_hash"] and r["split"] == split)
low, high = row["delta_vs_base_ci"]
aside, few_shared = sheet.report.quarantined.values(), doubts["shared of ten"] < 5
gain = f"{row['delta_vs_base']:+.3f} [{low:+.3f}, {high:+.3f}]"
Markdown(f"""
- {len(domain.corpus):,} documents and {len(domain.queries):,} queries of three files
- rows put aside: {len(bad)} of the faulty copy, {sum(aside)} of the CSV
- test questions of the example whose document was trained on: {by_row:.0%} if split by
  row, {by_document:.0%} when split by document
- `{domain.name}`, `{split}`: nDCG@10 {gain}, {row["queries"]:,} queries
- {few_shared.sum()} of {len(doubts)} questions have fewer than five of ten answers in
  common before and after: label these first
""")

# %% [markdown]
# ## Exercises
#
# **1.** Mend the line that was cut off in the faulty copy: write its `corpus.jsonl` again, with the
# document `bell` whole, and load the folder. (`content["corpus.jsonl"]` holds the good lines.)

# %% tags=["solution"]
bell = json.dumps({"_id": "bell", "text": "Ring the bell at the side door."})
text = "\n".join([*content["corpus.jsonl"], bell]) + "\n"
(copy / "corpus.jsonl").write_text(text, encoding="utf-8")
answer_1 = ek.load_domain(copy)
answer_1.report

# %%
ek.exercises.check(
    "1", answer_1,
    lambda a: "bell" in a.corpus and len(put_aside(a)) < len(bad),
    hint="json.dumps({'_id': 'bell', 'text': ...}) gives the line",
    right="the hash has changed: another corpus is another task",
)

# %% [markdown]
# **2.** Load the CSV with its columns swapped. What gives it away?

# %% tags=["solution"]
answer_2 = ek.load_domain(table, columns={"anchor": "reply", "positive": "ask"})
answer_2.report

# %%
ek.exercises.check(
    "2", answer_2, lambda a: any("swapped" in note for note in a.report.notes),
    hint="columns={'anchor': ..., 'positive': ...}, and look at the report's notes",
    right="nothing fails when columns are swapped: read reports to their end",
)

# %% [markdown]
# **3.** Judge one of the tasks as relevant (grade 2), one whose document is not labelled as right so
# far, and take the label into the split it belongs to: the dev split's questions stay in dev, new
# ones go to train. `ek.pairs.LabelStore(wider, path)` keeps labels, `ek.pairs.with_labels(wider,
# store.qrels(), split)` gives a new domain.

# %% tags=["solution"]
dev = wider.qrels["dev"]
store = ek.pairs.LabelStore(wider, here / "labels.jsonl")
new = next(t for t in tasks if t.document not in dev.get(t.query, {}))
store.label(new.query, new.document, 2)
into = "dev" if new.query in dev else "train"
only = {new.query: {new.document: 2}}
answer_3 = ek.pairs.with_labels(wider, only, into)


# %%
def labels(of):
    return sum(len(right) for judged in of.qrels.values() for right in judged.values())


ek.exercises.check(
    "3", answer_3, lambda a: labels(a) > labels(domain) and a.hash != domain.hash,
    hint="a task has .query and .document; store.label(query, document, 2)",
    right="no run or score of the old domain is mistaken for one of the new",
)

# %% [markdown]
# ## Further reading
#
# - Thakur et al. 2021, *BEIR*, the layout and why one data set is not enough,
#   <https://arxiv.org/abs/2104.08663>
# - Kapoor and Narayanan 2023, *Leakage and the reproducibility crisis in
#   machine-learning-based science*, <https://doi.org/10.1016/j.patter.2023.100804>
# - Settles 2009, *Active Learning Literature Survey*, on what to label next,
#   <https://burrsettles.com/pub/settles.activelearning.pdf>
# - sentence-transformers, *Training overview*, for the exported model,
#   <https://sbert.net/docs/sentence_transformer/training_overview.html>
# - next: `14_long_documents`
