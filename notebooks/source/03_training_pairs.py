# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Training pairs
#
# A fine-tune is as good as its pairs. Here you look at four ways to get them: people who wrote
# them for another reason, people who label them now, a small language model on your own machine,
# and a strong one elsewhere. Then you audit what you have, and measure what each way is worth.
#
# **You will do**
# - look at pairs of each kind, and at who wrote them
# - judge answers of a help desk with the keys 2, 1 and 0, in pairs; compare, merge and use
# - let a small language model write queries, and throw out what is no use
# - audit the data for leaks, copies and duplicates
# - train on each kind of pairs, as many of each, and compare
#
# **You will learn**
# - what two careful readers disagree about, and what a label becomes in training
# - what the cheap ways cost in quality, and that a filter has to prove its worth, too
# - why a test that was written as the training pairs were says little
# - that another general model, without any training, may do as well
#
# **You need** notebooks 00 to 02.
#
# About 1.9 minutes on two CPU cores the first time, seconds after that.

# %%
import pandas as pd

import embkit as ek

ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
recipe = ek.Recipe(epochs=1, batch_size=64, max_pairs=1000, learning_rate=2e-4)
domain

# %% [markdown]
# ## First the pairs: some of each kind
#
# *human* pairs are the domain's own. On ICD-10-CM, coders wrote them as inclusion terms and notes,
# years before anybody thought of embeddings. Sets of generated queries lie in `data/`, each with
# a card that says who wrote it, how, and what was thrown out.

# %%
from embkit.pairs.pairs import collect, sets

kinds = ["human", *sets(domain)]
samples = []
for kind in kinds:
    rows, _ = collect(domain, kind)
    for _, query, document in rows[:: max(1, len(rows) // 4)][:4]:
        samples.append((kind, query, domain.corpus[document]))
shown = pd.DataFrame(samples, columns=["kind", "query", "document"])
shown.style.hide().set_properties(**{"text-align": "left"}).set_uuid("kinds")

# %% [markdown]
# The kinds ask for the same documents in other words: a coder's terms, a patient's complaints,
# and what a small model makes of a title. How many of each there are:

# %%
counts = {kind: len(collect(domain, kind)[0]) for kind in kinds}
pd.Series(counts, name="pairs").to_frame()

# %% [markdown]
# ## People who label now
#
# A code needs a coder. Anybody can judge the answers of a help desk, so this part has its own
# domain, `data/example`: a town library, its answers, and what people ask there. The laser cutter
# is called Otto, the bookmobile Nelly.
#
# Do it in pairs: two people, two names, the same questions. Click into the panel, then press **2**
# (relevant), **1** (partly) or **0** (not). The order hides which system found a document. Each key
# is on disk before the next document is shown; run the cell again and it goes on where you stopped.

# %%
desk = ek.load_domain(ek.paths().data / "example")
store = ek.pairs.LabelStore(desk, ek.paths().runs / "labels" / "desk-lesson.jsonl")
asked = ["q226", "q227", "q230", "q120", "q113", "q103", "q029", "q195"]
systems = {"words": "bm25", "meaning": "minilm"}
tasks = ek.pairs.candidates(desk, asked, systems, k=2)
ek.widgets.Annotator(tasks, store, annotator="me")

# %% [markdown]
# The same without a mouse is `store.label(query, document, grade, annotator="me")`. The author of
# this course judged the pairs below twice, by two guidelines. *strict*: 2 if the answer settles the
# question, else 0. *wide*: 1 for what helps as well. What you label joins them.

# %%
judged = """
q226 card-get 2 2 | q226 bus-card 2 2 | q227 card-get 2 2 | q227 check-pay 0 0
q227 card-child 0 1 | q230 card-child 2 2 | q230 card-get 0 1 | q120 bus-card 2 2
q120 card-get 0 1 | q113 bus-return 2 2 | q113 tools-dirty 0 1 | q103 group-call 2 2
q103 group-booking 0 1 | q029 laser-booking 2 2 | q029 group-late 0 0
q195 tools-age 2 2 | q195 tools-borrow 0 0 | q195 tools-deposit 0 1
"""
for line in judged.replace("|", "\n").strip().splitlines():
    query, document, strict, wide = line.split()
    store.label(query, document, int(strict), annotator="strict")
    store.label(query, document, int(wide), annotator="wide")
agreement = ek.pairs.annotator_agreement(store)
agreement

# %% [markdown]
# Cohen's kappa is agreement beyond what chance alone would give; its interval says how little so
# few pairs tell. Where the two differ, neither is careless: each follows a guideline. What two
# careful people disagree about is the part of the guidelines that is missing.
#
# Now merge them. *majority* takes the grade that most gave, of equally many the lower. *Relevant*
# makes a training pair; *not relevant* makes a hard negative, marked by people; *partly* leaves a pair
# as it was.

# %%
merged = store.qrels("majority")
labelled = ek.pairs.with_labels(desk, merged)
pd.DataFrame({
    name: {"training pairs": one.counts()["training pairs"],
           "queries with marked negatives": len(one.negatives)}
    for name, one in {"before": desk, "with the labels": labelled}.items()
})

# %% [markdown]
# And use them. Below are rows that a trainer reads, of queries that were judged: a second right
# answer to one question, and the negatives that people marked. Then the training itself.

# %%
by_people = ek.Recipe(epochs=1, batch_size=32, hard_negatives=1, miner="human")
data = ek.training_pairs(by_people, labelled).dataset().to_pandas()
people = data[data["anchor"].isin([desk.queries[query] for query in asked])]
people.style.hide().set_properties(**{"text-align": "left"}).set_uuid("people")

# %%
ek.train(by_people, labelled, quiet=True)

# %% [markdown]
# Where nobody marked a negative, a random document stands in for it. So few labels move no score
# that this test could see; lesson 13 says which questions are worth labelling next.

# %% [markdown]
# ## A small language model writes
#
# This is the whole prompt, for one document and one kind of query. Change it with
# `prompt.replace(...)`: every answer is cached under the prompt that it came from.

# %%
prompt = ek.synthetic.PROMPTS.get(domain.name, ek.synthetic.PROMPTS["general"])
one = next(iter(ek.synthetic.eligible_documents(domain).values()))
print(prompt.render(one, "layman"))

# %% [markdown]
# `smollm2` has 135 million parameters and runs here. An endpoint of your own is
# `ek.synthetic.OpenAIBackend("model", base_url=...)`; the rest of the cell stays.

# %%
documents = ek.synthetic.eligible_documents(domain)
writer = ek.synthetic.TransformersBackend("smollm2")
written = ek.synthetic.generate(documents, writer, prompt, limit=8)
written

# %% [markdown]
# Some of that is wrong, and some only repeats the document. Four filters, counted: asked in a test,
# written before, a copy of the document, and the round trip (the general model must find the
# document again among its first ten).

# %%
filtered = ek.synthetic.filter_generated(written, domain)
filtered

# %% [markdown]
# ## Audit
#
# Before training on anything: sizes, lengths, duplicates, leaks, copies, what cannot be answered,
# what the tokenizer makes of the words. A verdict a line.

# %%
audit = ek.audit(domain, model="minilm")
audit

# %% [markdown]
# ## What is each worth?
#
# The same model and the same number of pairs and steps for each source, and each at its own learning
# rate, chosen on the dev sample beforehand. Beside them what was not trained: BM25 and minilm. Where
# the results of whole trainings are kept (`data/`, made by `make approaches`), two more stand there:
# bge-small, another general model, and hybrid, which fuses minilm and BM25 with a weight chosen on
# dev. Where hybrid equals minilm, dev gave BM25 no weight.

# %%
own_rates = {
    "human, in-batch": 2e-4, "small LLM, unfiltered": 2.5e-5,
    "small LLM, filtered": 5e-5, "strong LLM, lay words": 5e-5,
}
arms = {
    arm: changes for arm, changes in ek.training.experiments.available(domain).items()
    if "hard_negatives" not in changes
}
recipes = {
    arm: recipe.replace(**changes, learning_rate=own_rates[arm])
    for arm, changes in arms.items()
}
pairs = min(1000, *(len(collect(domain, one.pairs)[0]) for one in recipes.values()))

# %%
runs = {
    arm: ek.train(one.replace(max_pairs=pairs), domain, quiet=True)
    for arm, one in recipes.items()
}

# %%
scores = [ek.evaluate(run, domain).labelled(arm) for arm, run in runs.items()]
kept = ek.evaluation.results(domain)
beside = [kept[name] for name in ("bge-small, untrained", "hybrid") if name in kept]
scores += [ek.evaluate("minilm", domain), ek.evaluate("bm25", domain), *beside]
report = ek.compare(scores, baseline="human, in-batch")
report

# %%
ek.plots.metric_bars(report)

# %% [markdown]
# Differences are to the human pairs, one seed each; `p Holm` is corrected for the number of tests.
# What to look for, on ICD-10-CM:
#
# - `known` and `novel` ask in coders' words, as the human pairs do. A thousand pairs are 16 steps:
#   a small gain is what there is to see, and few of these differences outlast the correction.
# - `lay` was written by the same large model as the *strong LLM* pairs. Should those do well there,
#   it shows that training learns a writer's manner. It does not show that patients write so.
# - bge-small was not trained at all. Try another general model before you label.
#
# And the filter: what did it bring? The unfiltered arm against the filtered one, paired.

# %%
named = {one.label: one for one in scores}
filters = [arm for arm in named if "small LLM" in arm]
if len(filters) == 2:
    loose, strict = (named[arm] for arm in filters)
    tests = {
        test: ek.paired_test(strict.values(test), loose.values(test))
        for test in domain.test_splits
    }
else:  # no such pairs here
    tests = {}
pd.DataFrame({
    test: {"filtered less unfiltered": found.delta, "low": found.ci_low,
           "high": found.ci_high, "p": found.p}
    for test, found in tests.items()
}).T.round(3)

# %% [markdown]
# Where the interval includes 0, the filter brought nothing that this test can see, and it cost a
# part of the pairs. It removes what the general model does not find, which is also what that model
# could have learnt from.
#
# ## How many are enough?
#
# Human pairs only, and the same number of steps for each size: with fewer pairs, more epochs.
# (At one epoch, a quarter of the pairs would be a quarter of the steps, and the curve would show
# steps, not pairs.)

# %%
sizes = [n for n in (250, 500, 1000) if n <= counts["human"]] or [counts["human"]]
same_steps = [recipe.replace(max_pairs=n, epochs=max(sizes) // n) for n in sizes]
curve = [ek.train(one, domain, quiet=True).dev_score for one in same_steps]

# %%
general = ek.load_model("minilm")
found = ek.rank(general, domain, "dev", documents=domain.dev_corpus(), k=10)
start = ek.evaluation.score(found, domain, "dev")["ndcg@10"].mean()
lines = {"human pairs": curve, "untrained": [start] * len(sizes)}
ek.plots.lines(sizes, lines, "training pairs", "dev sample, nDCG@10", logx=True)

# %% [markdown]
# More pairs help as long as the line rises by more than noise. Lesson 04 computes how much noise
# there is on dev; it is more than the step from one point here to the next.

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
from IPython.display import Markdown

(pair,) = (p for p in agreement.pairs if {p.first, p.second} == {"strict", "wide"})
told = [
    f"- strict and wide gave the same grade in {pair.raw:.0%} of the cases; kappa is "
    f"{pair.kappa:.2f}, its interval {pair.interval[0]:.2f} to {pair.interval[1]:.2f}",
    f"- of {len(written):,} queries written here, {len(filtered):,} passed the filters",
    f"- the audit says: {audit.summary}",
]

# %% tags=["hide"]
for row in report.rows:
    if row["label"] == "base" and not row["subset"]:
        told.append(
            f"- on `{row['split']}`, base, without training, less human pairs: "
            f"{row['delta_vs_base']:+.3f} (p = {row['p_holm']:.2g}, corrected)"
        )
for test, found in tests.items():
    told.append(
        f"- the filter changed `{test}` by {found.delta:+.3f} (p = {found.p:.2g})"
    )
Markdown("\n".join(told))

# %% [markdown]
# ## Exercises
#
# **1.** Compute the share of the pairs on which strict and wide agree, from `store.labels()`:
# annotator → (query, document) → grade.

# %% tags=["solution"]
given = store.labels()
same = [given["strict"][one] == given["wide"][one] for one in given["strict"]]
answer_1 = sum(same) / len(same)
answer_1

# %%
ek.exercises.check(
    "1", answer_1, lambda a: abs(a - pair.raw) < 1e-6,
    hint="both judged the same pairs; a share lies between 0 and 1",
    right="raw agreement says nothing about chance: that is what kappa is for",
)

# %% [markdown]
# **2.** Filter again, with a stricter round trip: the document must come first. How many are kept?

# %% tags=["solution"]
answer_2 = len(ek.synthetic.filter_generated(written, domain, top_k=1))
answer_2

# %%
ek.exercises.check(
    "2", answer_2,
    lambda a: a == len(ek.synthetic.filter_generated(written, domain, top_k=1)),
    hint="filter_generated(written, domain, top_k=...)",
    right="a strict round trip keeps only what the model already knows",
)

# %% [markdown]
# **3.** In what is merged, how many negatives did people mark in all? (`labelled.negatives` is
# query → documents.)

# %% tags=["solution"]
answer_3 = sum(len(documents) for documents in labelled.negatives.values())
answer_3

# %%
ek.exercises.check(
    "3", answer_3,
    lambda a: a == sum(g == 0 for judged in merged.values() for g in judged.values()),
    hint="a query can have several; count documents, not queries",
    right="where the two disagree, majority takes the lower grade: a negative",
)

# %% [markdown]
# ## Further reading
#
# - Nogueira et al. 2019, *Document Expansion by Query Prediction*, queries from documents,
#   <https://arxiv.org/abs/1904.08375>
# - Dai et al. 2022, *Promptagator*, few-shot prompts and the round trip,
#   <https://arxiv.org/abs/2209.11755>
# - Artstein and Poesio 2008, *Inter-Coder Agreement for Computational Linguistics*,
#   <https://aclanthology.org/J08-4004/>
# - next: `04_contrastive`
