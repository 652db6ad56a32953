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
# break, ids that stand twice and columns called something else. Here you make such data,
# faults included, see what becomes of every row, and take a folder all the way: audit,
# training, comparison, what to label next, and out again.
#
# **You will do**
# - write a folder in BEIR's layout, and search it
# - plant faults in it and in a CSV, and read what was put aside and why
# - audit it, and see how it was split
# - train on a bigger folder, compare, and list what is worth labelling next
# - take the model and the vectors out again
#
# **You will learn**
# - that three files describe any retrieval task
# - that a bad row neither stops a load nor vanishes
# - why splits are cut by document
#
# **You need** notebooks 00 and 05.
#
# Minutes on a 2-core CPU: to be measured when this draft is run at workshop size.

# %%
import json
import os

import numpy as np
import pandas as pd

import embkit as ek

ek.setup()
general = ek.load_model("minilm")
here = ek.paths().runs / "your_own_data"

# %% [markdown]
# ## First the result: three files are a domain
#
# The help pages of a bicycle workshop, and what people ask there.

# %%
pages = """
tyre    Mend a flat tyre: find the hole, roughen the rubber, glue a patch on it.
brake   Bleed hydraulic brakes until no more bubbles come out of the hose.
pads    Replace the brake pads when less than one millimetre is left of them.
chain   Clean the chain with a rag, then oil every link on its inner side.
gears   Turn the barrel adjuster of the derailleur until every shift is crisp.
saddle  Set the saddle so that the knee stays slightly bent at the lowest point.
spokes  Straighten a bent rim: tighten the spokes on the opposite side, bit by bit.
lamp    Check the dynamo's cable first when the lamp stays dark.
lock    Put a drop of graphite, never oil, into a lock that turns hard.
child   Fit a child seat to the frame itself, never to the carrier alone.
winter  Lower the tyre pressure a little on snow, and wash the salt off at home.
battery Charge the battery of an e-bike to sixty percent before you store it.
"""
corpus = dict(line.split(maxsplit=1) for line in pages.strip().splitlines())

# %%
asked = """
tyre: there was a nail in the road; my wheel has lost its air; how to fix a puncture
brake: the lever goes down to the handlebar; my stops feel spongy
pads: it screeches when I slow down; how thin is too thin
chain: something squeaks with every turn of the pedals; how do I get rid of black grease
gears: it jumps to the next cog by itself; I cannot get into the smallest one
saddle: my knees hurt after a ride; how high should I sit
spokes: the wheel wobbles; I hit a kerb and it rubs on one side
lamp: I see nothing at night; no light although I pedal
lock: the key hardly moves; how do I free a frozen padlock
child: can my toddler ride along; a place for a two-year-old
winter: do I need other wheels when it is icy; rust after the cold months
battery: I will not ride before spring; how full should it be in the cellar
"""

# %%
queries, right = {}, {}
for page, texts in (line.split(": ") for line in asked.strip().splitlines()):
    for text in texts.split("; "):
        right[f"q{len(queries)}"] = page
        queries[f"q{len(queries)}"] = text

# %% [markdown]
# `corpus.jsonl` and `queries.jsonl` hold an id and a text a line. `qrels/*.tsv` say which
# document is right for which query. That is BEIR's layout; the title of a document may stand
# in a field of its own, `title`.

# %%
shop = here / "bicycles"
(shop / "qrels").mkdir(parents=True, exist_ok=True)


def write(name, *lines):
    (shop / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def jsonl(texts):
    return [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]


# %%
write("corpus.jsonl", *jsonl(corpus))
write("queries.jsonl", *jsonl(queries))
judged = ["query-id\tcorpus-id\tscore", *(f"{q}\t{d}\t1" for q, d in right.items())]
write("qrels/train.tsv", *judged)

# %%
tidy = ek.load_domain(shop)
tidy

# %%
both = {"general": general, "words": "bm25"}
ek.look("my wheel is not round any more", both, tidy, k=3)

# %% [markdown]
# ## Faults
#
# The same folder with five faults: a line that was cut off, an id that another page has, an
# empty question, one without an id, and a judgement about a page that is not there.

# %%
write(
    "corpus.jsonl", *jsonl(corpus),
    '{"_id": "bell", "text": "Tighten the screw of the be',
    json.dumps({"_id": "tyre", "text": "Another page under an id that is taken."}),
)
write(
    "queries.jsonl", *jsonl(queries),
    json.dumps({"_id": "q90", "text": "   "}),
    json.dumps({"text": "a question that has no id"}),
)
write("qrels/train.tsv", *judged, "q0\tpump\t1")
faulty = ek.load_domain(shop)
faulty.report

# %% [markdown]
# Nothing else was lost: the texts and labels that are left are those of the tidy folder, and
# so is the content hash. Every row that was put aside lies in a file, with its line.

# %%
kept = faulty.report.quarantine.read_text(encoding="utf-8")
bad = [json.loads(line) for line in kept.splitlines()]
faulty.hash == tidy.hash, bad[0]

# %% [markdown]
# ## A spreadsheet
#
# One CSV of pairs will do: a question and its answer a row. Common names of columns
# (`question`, `query`, `answer`, `passage`, …) are guessed. These are not among them, and
# nothing is guessed that is not plain:

# %%
table = here / "bicycles.csv"
rows = [f'"{text}";"{corpus[right[q]]}";7' for q, text in queries.items()]
broken = ['"where is the pump?";;7', '"it never ends;and so on;7']
broken += ['"one field"', rows[0]]
lines = ["ask;reply;shelf", *rows, *broken]
table.write_text("\n".join(lines) + "\n", encoding="utf-8")
try:
    ek.load_domain(table)
except ek.EmbkitError as error:
    print(error)

# %%
sheet = ek.load_domain(table, columns={"anchor": "ask", "positive": "reply"})
sheet.report

# %% [markdown]
# ## Split by document
#
# Nobody gave a test split, so one was cut: all questions about a page went the same way. Cut
# by row instead, most test questions ask for a page whose other questions were trained on,
# and the test measures memory.

# %%
pages_of = {
    split: {d for grades in qrels.values() for d in grades}
    for split, qrels in tidy.qrels.items()
}
order = np.random.default_rng(0).permutation(list(right.values()))
test, train = order[:5], order[5:]
by_row = np.isin(test, train).mean()
len(pages_of["test"] & pages_of["train"]) / len(pages_of["test"]), by_row

# %% [markdown]
# ## The audit
#
# Before anything is trained: sizes, leaks, copies, damage, labels. A verdict a line, and what
# to do next.

# %%
ek.audit(tidy, model=general)

# %% [markdown]
# Its first line is the one that stops most projects: with this few test questions, no gain
# could be told from chance.
#
# ## The whole, on a bigger folder
#
# Yours, if `EMBKIT_DOMAIN` names one (`make run NB=13 DOMAIN=path/to/your/folder`). Else
# Python's own standard library, from the sentence that sums a function up to its code,
# written out as a folder first.

# %%
source = os.environ.get("EMBKIT_DOMAIN")
if not source:
    code = ek.load_domain("python_code")
    source = ek.to_beir(code, here / "python_code", replace=True)
domain = ek.load_domain(source)
split = domain.test_splits[0]
domain

# %% [markdown]
# A first try is small: a thousand pairs say whether more is worth it. Long documents are
# slow; `max_length` cuts what the tuned model reads of them, when it is trained and when it
# searches. Whether hard negatives help, the dev split says.

# %%
recipe = ek.Recipe(
    epochs=1, batch_size=64, learning_rate=1e-4, max_pairs=1000, max_length=128
)
tried = ek.choose(recipe, domain, hard_negatives=[0, 1])
tried

# %%
run = ek.train(tried.best, domain)  # trained above, so it is here at once
scores = [ek.evaluate(what, domain) for what in ("bm25", "minilm", run)]
report = ek.compare(scores, baseline="base")
report

# %%
ek.plots.before_after(scores[1], scores[2], split)

# %% [markdown]
# Worth it? The verdict needs a paired test that says so, and says how many queries would be
# needed where these are too few.

# %%
from embkit.verdict import verdict

verdict(scores)

# %% [markdown]
# ## What it still gets wrong

# %%
tuned = run.model()
found = ek.rank(tuned, domain, split, k=1)
lost = scores[2].per_query[split].query("`recall@10` == 0").index


def failure(query):
    grades = domain.qrels[split][query]
    texts = (next(iter(found[query])), max(grades, key=grades.get))
    return domain.queries[query], *(domain.corpus[d][:200] for d in texts)


columns = ["query", "ranked first", "right document"]
pd.DataFrame([failure(q) for q in lost[:8]], columns=columns)

# %% [markdown]
# ## What to label next
#
# Labels cost time: spend it where it tells most. Two signs need no labels: the two models
# agree on little, and the tuned one is undecided, its first two answers lying close together.
# The dev split is asked here; the test split takes no part in any choice.

# %%
before, after = (ek.rank(model, domain, "dev", k=10) for model in (general, tuned))


def margin(ranked):
    first, second = sorted(ranked.values(), reverse=True)[:2]
    return first - second


doubts = pd.DataFrame({
    "query": {q: domain.queries[q] for q in after},
    "shared of ten": {q: len(before[q].keys() & after[q].keys()) for q in after},
    "margin": {q: margin(after[q]) for q in after},
})
doubts = doubts.sort_values(["shared of ten", "margin"])
doubts.head(8)

# %% [markdown]
# For the most doubtful, the first answers of both models, in an order that does not tell
# whose they are. `ek.widgets.Annotator(domain, tasks)` asks for grades with one key each;
# notebook 03 shows it.

# %%
models = {"before": general, "after": tuned}
tasks = ek.candidates(domain, list(doubts.index[:3]), models, k=3)
shown = [(t.query_text, " ".join(t.document_text.split())[:90]) for t in tasks]
pd.DataFrame(shown, columns=["query", "is this an answer?"])

# %% [markdown]
# ## Out again
#
# The model as a plain sentence-transformers folder, which needs no embkit:

# %%
from sentence_transformers import SentenceTransformer

folder = ek.export_model(run, here / "model", replace=True)
plain = SentenceTransformer(str(folder), device="cpu")
some = list(domain.queries.values())[:20]
vectors = plain.encode(some, normalize_embeddings=True)
np.abs(vectors - tuned.encode(some, normalize_embeddings=True)).max()

# %% [markdown]
# The documents' vectors as Parquet, with their texts and two coordinates, for pandas and for
# other map tools; and the domain as a folder of three files again:

# %%
vectors = ek.encode(tuned, list(domain.corpus.values()))  # (documents, dim)
centred = vectors - vectors.mean(axis=0)
axes = np.linalg.eigh(centred.T @ centred)[1][:, -2:]  # the two widest directions
file = ek.to_parquet(
    vectors, list(domain.corpus.values()), list(domain.corpus),
    here / "embeddings.parquet", centred @ axes, replace=True,
)
pd.read_parquet(file).head(3)

# %%
folder = ek.to_beir(domain, here / "copy", replace=True)
again = ek.load_domain(folder, profile="full")  # full: nothing is cut
again.hash, again.hash == domain.hash

# %% [markdown]
# ## The same from the command line
#
# `check` prints the report and the audit; `run` trains, and prints leaderboard and verdict:
#
# ```sh
# python -m embkit check path/to/your/folder
# python -m embkit run path/to/your/folder
# make run DOMAIN=path/to/your/folder     # the whole course
# ```

# %%
import subprocess
import sys

command = [sys.executable, "-m", "embkit", "check", str(shop)]
said = subprocess.run(command, capture_output=True, encoding="utf-8")
print("\n".join((said.stderr + said.stdout).splitlines()[:12]), "\n…")

# %% [markdown]
# ## What we saw

# %%
from IPython.display import Markdown

row = next(r for r in report.rows if r["recipe_hash"] and r["split"] == split)
Markdown(
    f"- three files made a domain of {len(tidy.corpus)} documents and "
    f"{len(tidy.queries)} queries\n"
    f"- of the folder {len(bad)} rows were put aside, of the CSV "
    f"{sum(sheet.report.quarantined.values())}; the rest was used\n"
    f"- cut by row, {by_row:.0%} of the test questions ask for a page that was trained "
    "on; cut by document, none\n"
    f"- on `{domain.name}`, `{split}`, nDCG@10 changed by {row['delta_vs_base']:+.3f} "
    f"to {row['ndcg@10']:.3f} ({row['queries']} queries, p = {row['p_vs_base']:.2g})\n"
    f"- {(doubts['shared of ten'] < 5).sum()} of {len(doubts)} dev queries have fewer "
    "than five of ten answers in common before and after: label these first"
)

# %% [markdown]
# ## Exercises
#
# **1.** Mend the line that was cut off (write `corpus.jsonl` again with the page `bell` whole)
# and load the folder.

# %% tags=["solution"]
write("corpus.jsonl", *jsonl(corpus | {"bell": "Tighten the screw of the bell."}))
answer_1 = ek.load_domain(shop)
answer_1.report

# %%
ek.exercises.check(
    "1", answer_1,
    lambda a: "bell" in a.corpus and sum(a.report.quarantined.values()) < len(bad),
    hint="jsonl(corpus | {...}) gives the lines, write(name, *lines) writes them",
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
# **3.** Judge one of the tasks as relevant (grade 2), one whose document is not right so far,
# and take the label into the dev split. `ek.LabelStore(domain, path)` keeps labels,
# `ek.with_labels(domain, store.qrels(), "dev")` gives a new domain.

# %% tags=["solution"]
store = ek.LabelStore(domain, here / "labels.jsonl")
new = next(t for t in tasks if t.document not in domain.qrels["dev"][t.query])
store.label(new.query, new.document, 2)
answer_3 = ek.with_labels(domain, store.qrels(), "dev")


# %%
def labels(of):
    return sum(len(grades) for grades in of.qrels["dev"].values())


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
