# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · Compare and decide
#
# Everything that was tried on this domain stands in one table, with what it cost. Here you
# learn what such a table can say and what it can't, decide whether to fine-tune at all before
# anything large is trained, search settings without touching the test, and take a model out as
# a folder that serves without this kit.
#
# **You will do**
# - read a leaderboard with intervals, corrected tests and costs; sort it, choose from it
# - put one training beside its method: the same recipe with three seeds
# - compute Holm's correction by hand, see what happens without it, and name what it is for
# - look at the queries behind a difference, the lost ones too
# - predict what all the labels will give, from small runs, and check the prediction
# - ask for advice on this domain, on one that needs no training, and on one without labels
# - search learning rate and temperature with optuna, resumable, on the dev sample alone
# - export a model as ONNX in eight bits, measure the loss, and serve it in ten lines
#
# **You will learn**
# - why the best of many approaches looks better than it is
# - when the answer is *keep the general model*, or *label more first*
# - that a gain has a price, and how to see which approaches are worth theirs
#
# **You need** notebooks 02 and 04.
#
# About 2.1 minutes on two CPU cores the first time, seconds after that.

# %%
import dataclasses

import numpy as np
import optuna
import pandas as pd
from IPython.display import Markdown

import embkit as ek

ek.setup()
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")
split = domain.test_splits[0]

# %% [markdown]
# ## First the result
#
# What is asked is written down before any test is read: what do these approaches gain over the
# general model? What needs no training stands beside them and is not asked about: words alone,
# words and meaning fused, a better general model. `make approaches` trained each with three seeds,
# at the rate that dev chose, and kept the scores of every query with the domain. Trained here is
# one model alone, that of notebook 00; it comes back below. ★ marks what dev chose.

# %%
run = ek.train(ek.Recipe(), domain)  # at once, where notebook 00 was run
live = [ek.evaluate(what, domain) for what in ("bm25", "minilm", run)]
base = live[1]
kept = ek.evaluation.results(domain) or {one.label: one for one in live}
planned = [name for name in ("contrastive", "hard negatives", "corpus", "LoRA")
           if name in kept]
free = [name for name in kept if kept[name].meta.get("trainable_params") == 0]
shown = [kept[name] for name in dict.fromkeys([*planned, *free])]
report = ek.compare(shown, baseline="base", asked=planned)
report

# %% [markdown]
# Read a row from its interval: where it leaves out 0, the gain is one of the method, over clusters
# of queries and over seeds. Look at `lay`, too, before you call something the best.
#
# And everything that was kept. Click a heading to sort, a row to choose; or type
# `table.by("seconds")`, `table.choose("base")`. `ek.leaderboard(domain)` gives the same of your own
# run store.

# %%
everything = ek.compare(list(kept.values()), baseline="base", asked=planned)
table = ek.widgets.RunTable(everything)
table

# %%
table.choose("base").choose(planned[0]).report

# %% [markdown]
# ## Many tests at once
#
# A test at 5% is wrong once in twenty when nothing is there. The table above holds many tests.
# A failure on purpose: forty approaches that are *the general model itself*, each query's score
# moved by chance alone.

# %%
rng = np.random.default_rng(0)
general = base.values(split)
nothing = [
    ek.paired_test(general + 0.1 * rng.standard_normal(len(general)), general)
    for _ in range(40)
]
by_chance = sum(test.p < 0.05 for test in nothing)
best_by_chance = max(test.delta for test in nothing)
Markdown(
    f"{by_chance} of 40 have p < 0.05, and the best of them "
    f"'gains' {best_by_chance:+.4f}."
)

# %% [markdown]
# Holm's correction (1979): sort the p values; multiply the smallest by their number $m$, the next
# by $m - 1$, and so on; never let the result fall. In three lines, equal to the library's:

# %%
p = np.array([test.p for test in nothing])
order, m = np.argsort(p), len(p)
by_hand = np.empty(m)
times = np.minimum(1, p[order] * (m - np.arange(m)))
by_hand[order] = np.maximum.accumulate(times)
survive = int((by_hand < 0.05).sum())
assert np.allclose(by_hand, ek.evaluation.holm(list(p)))
print(f"{survive} of {m} have a corrected p < 0.05")

# %% [markdown]
# Corrected for how many? For the tests that were asked for, the *family*, named beforehand. It must
# not be whatever there is: then each approach that somebody adds would change the corrected p of
# all the others. What each way of counting leaves of the planned tests:

# %%
family = [row for row in report.rows if row["p_holm"] is not None]
p, corrected = ([row[name] for row in family] for name in ("p_vs_base", "p_holm"))
others = [row for row in everything.rows if row["label"] not in planned]
rest = [row["p_vs_base"] for row in others if row["p_vs_base"] is not None]
with_all = ek.evaluation.holm(p + rest)[: len(p)]
counted = [sum(np.array(found) < 0.05) for found in (p, corrected, with_all)]
pd.DataFrame({"tests": [1, len(p), len(p) + len(rest)], "p < 0.05": counted},
             ["each alone", "the planned family", "all that is there"])

# %% [markdown]
# The larger the family, the fewer may be left, though nothing about the planned ones has changed.
# So `ek.leaderboard(domain)` corrects nothing, and says so; `ek.leaderboard(domain, asked=[...])`
# takes the labels of what was planned.
#
# A correction does not mend everything: who tries forty things and then *reports the best on the
# same test* reports luck, too. That is why dev chooses here, and the test only tells. The verdict
# does it in this order: dev picks one approach, the test splits test that one alone, and p is
# corrected for their number.

# %%
from embkit.evaluation.verdict import verdict

verdict(report)

# %% [markdown]
# ## The run and the method
#
# One run speaks of these weights: another seed gives others. Here is the run that was trained here
# beside its method, the same recipe with three seeds: gains over the general model, with intervals
# over clusters of queries, and for the method over seeds as well.

# %%
method = kept.get("contrastive")
one = [("this run", live[2])] + [("three seeds", method)] * (method is not None)
beside = {}
for split_, (what, scores) in [(s, o) for s in domain.test_splits for o in one]:
    test = ek.paired_test(scores.values(split_), base.values(split_))
    beside[split_, what] = test.delta, test.ci_low, test.ci_high
pd.DataFrame(beside, ["gain", "from", "to"]).T.round(3)

# %% [markdown]
# Two seeds of one recipe can differ by more than two recipes do. A run can still be shown to serve
# better than the general model: it is this run that is served. That its recipe is better than
# another needs the seeds.
#
# ## Who wins on which queries
#
# A mean hides that the better model loses queries, too.

# %%
counts = {}
for scores in [one for one in shown if one.label != "base"]:
    change = base.change(scores, split)  # of each query
    won, lost = change[change > 0], change[change < 0]
    counts[scores.label] = {
        "win": len(won), "tie": len(change) - len(won) - len(lost), "loss": len(lost),
        "mean win": won.mean(), "mean loss": lost.mean(),
    }
pd.DataFrame.from_dict(counts, "index").rename_axis("against base").round(3)

# %% [markdown]
# Where dev gives the words no weight, *hybrid* is the general model, and every query a tie.

# %%
dev = {name: np.mean(list(kept[name].dev.values())) for name in planned}
best_name = max(dev, key=dev.get)  # dev chooses
best_scores = kept[best_name]
change = base.change(best_scores, split).sort_values(ascending=False)
most = list(dict.fromkeys([*change.index[:5], *change.index[-5:]]))
judged = domain.qrels[split]
right = {q: [d for d, grade in judged[q].items() if grade > 0] for q in most}
changes = pd.DataFrame({
    "query": [domain.queries[q] for q in most],
    "right": ["; ".join(domain.corpus[d] for d in right[q]) for q in most],
    "base": base.values(split)[most].array, "change": change[most].array,
}).style.hide().format(precision=2)
changes.set_properties(["query", "right"], **{"text-align": "left"}).set_uuid("changes")

# %%
ek.plots.before_after(base, best_scores, split)

# %% [markdown]
# ## Cost beside gain
#
# Each mark is an approach that was kept, by its nDCG@10 on dev: the front is a choice, so the test
# has no part in it. Round marks are on the Pareto front: nothing is as cheap in training and better
# on dev. What is not on it may still be worth its price elsewhere: in bytes, in speed, in what it
# does not forget. A student's seconds are without its teacher's. The kept seconds were taken at
# several times, mostly beside other work, and are up to three times too many: *hardness* makes the
# very steps of *contrastive*. The lines are 95% intervals of each alone: where they overlap much,
# dev hardly tells the two apart.

# %%
queries = list(domain.split("dev"))
together = ek.evaluation.clusters(domain, "dev").codes(queries)


def of_dev(row):
    values = [kept[row["label"]].dev[query] for query in queries]
    interval = ek.mean_interval(values, together)
    return row | {"ndcg@10": row["dev"], "ndcg@10_ci": interval, "split": "dev"}


rows = [r for r in everything.rows if r["split"] == split and not r["subset"]]
by_dev = ek.evaluation.Report([of_dev(row) for row in rows if row["dev"] is not None])
by_dev.pareto()

# %%
front = ek.evaluation.pareto_front(by_dev)
of_test = {row["label"]: row["ndcg@10"] for row in everything.rows
           if row["split"] == split and not row["subset"]}
columns = ["label", "ndcg@10", "train_seconds", "trainable_params"]
chosen = pd.DataFrame(front)[columns].rename(columns={"ndcg@10": "dev"})
chosen[f"test, {split}"] = chosen["label"].map(of_test)
chosen.columns = [name.replace("_", " ") for name in chosen]
chosen.round(3).round({"train seconds": 0})

# %% [markdown]
# The last column was not asked: it tells what the choice was worth.
#
# Speed is a cost that every query pays. Fine-tuning does not change it; another general model does.
# The models are measured in turn, on the same texts.

# %%
texts = list(domain.corpus.values())[:300]
models = {name: ek.load_model(name) for name in ("minilm", "bge-small")}
ek.models.encode_speeds(models | {"fine-tuned": run.model()}, texts).round(
    {"texts/s": 0, "speed": 2, "MB": 1}
)

# %% [markdown]
# ## Should you fine-tune?
#
# Asked before anything large is trained. `ek.advise` measures the general model, another one,
# and words and meaning together; then, where there are labels enough, small runs, within the
# minutes that it is given: one here, five if you say nothing. It reads train and dev; the test splits
# stay unread, so that they can tell later whether the advice was right. Its rules stand in one
# table: the first that holds decides.

# %%
rules = ek.advice.advice_rules().style  # whole sentences
rules.set_properties(**{"text-align": "left"}).set_uuid("rules")

# %%
advice = ek.advise(domain, minutes=1, quiet=True)
advice

# %% [markdown]
# ## The learning curve, and whether it can be believed
#
# What a few labels give hints at what many will. The line is drawn through the small runs
# alone; its interval holds the sampling of dev, too, and decides nothing. Dev is searched
# here in a part of the corpus, as large as the minutes allow; the evidence says how many
# documents that is. The last point is the run on all pairs, which it never saw.

# %%
curve, pairs = advice.evidence.curve, advice.evidence.pairs
if curve is not None:
    places = sorted({*curve.points, pairs, 2 * pairs})
    expected = [curve.at(n) for n in places]
    low, high = zip(*(curve.interval(n) for n in places), strict=True)
    figure = ek.plots.lines(
        places, {"expected": (expected, low, high)}, "training pairs", "dev nDCG@10",
        logx=True,
    )
    axes = figure.axes[0]
    measured = list(curve.points.items())
    axes.plot(*zip(*measured, strict=True), "ks", label="small runs")

# %%
from embkit.advice.evidence import default_recipe, on_dev

if curve is not None:
    full, searched = ek.train(default_recipe(pairs), domain), advice.evidence.searched
    reached = float(on_dev(full, domain, domain.dev_corpus(searched)).mean())
    axes.plot([pairs], [reached], "k*", ms=14, label="all pairs")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
figure if curve is not None else "too few labels for a curve"

# %%
if curve is None:
    foresight = "no curve"
else:
    (low, high), middle = curve.interval(pairs), curve.at(pairs)
    inside = "inside" if low <= reached <= high else "outside"
    foresight = f"expected {middle:.3f} [{low:.3f}, {high:.3f}] of {pairs:,} pairs; "
    foresight += f"it became {reached:.3f}, {inside} the interval"
Markdown(foresight)

# %% [markdown]
# ## When the answer is no, or not yet
#
# Two more domains, made of this one. In the first, people type a document's own words, in
# another order: something that a general model should be able to find.

# %%
typed = {
    query: " ".join(reversed(domain.corpus[max(right, key=right.get)].split()[:30]))
    for judged in domain.qrels.values()
    for query, right in judged.items()
}
asked = {text.casefold(): query for query, text in typed.items()}  # no text twice
long = {
    query: typed[query] for query in asked.values() if len(typed[query].split()) >= 3
}

# %%
qrels = {
    name: {q: right for q, right in judged.items() if q in long}
    for name, judged in domain.qrels.items()
}
easy = dataclasses.replace(
    domain, name="typed", queries=long, qrels=qrels, negatives={}
)

# %%
no = ek.advise(easy, target=0.8, quiet=True)
no

# %% [markdown]
# In the second, sixty pairs are all that was labelled.

# %%
few = dict(list(domain.qrels["train"].items())[:60])
small = dataclasses.replace(
    domain, name="sixty", qrels=domain.qrels | {"train": few}, negatives={}
)
not_yet = ek.advise(small, quiet=True)
not_yet

# %% [markdown]
# ## Search the settings
#
# Notebook 04 tried one setting after the other. optuna searches two at once. The dev sample alone
# is read: dev's queries, searched in at most 2,000 documents.
#
# optuna draws a trial's settings, the first three at random and the next where good ones were
# found (TPE). Trials are kept in a file: after a kill, the same cell goes on from there.

# %%
start = ek.Recipe(epochs=1, max_pairs=400)


def objective(trial):
    rate = trial.suggest_float("learning_rate", 5e-5, 2e-3, log=True)
    temperature = trial.suggest_float("temperature", 0.02, 0.1)
    recipe = start.replace(learning_rate=rate, temperature=temperature)
    return ek.train(recipe, domain, quiet=True).dev_score


# %%
optuna.logging.set_verbosity(optuna.logging.WARNING)
name, file = f"{domain.hash} {start.hash}", ek.paths().runs / "optuna.db"
study = optuna.create_study(storage=f"sqlite:///{file}", study_name=name,
                            load_if_exists=True, direction="maximize")
done = sum(trial.value is not None for trial in study.trials)
study.sampler = optuna.samplers.TPESampler(n_startup_trials=3, seed=done)
study.optimize(objective, n_trials=5 - done)

# %%
columns = ["number", "value", "params_learning_rate", "params_temperature", "state"]
tried = study.trials_dataframe()[columns].sort_values("value", ascending=False)
tried.columns = [name.removeprefix("params_") for name in columns]
tried.set_index("number").round(4)

# %% [markdown]
# `value` is nDCG@10 on the dev sample, the best first. The best of five is flattered by
# chance, as the best of forty was above: the dev sample chooses it, and only the test can
# tell what it is worth. In long trainings, optuna can also prune: stop a trial whose first
# part is worse than that of the others.

# %% [markdown]
# ## Out: a folder, ONNX, eight bits
#
# A plain sentence-transformers folder, with the evaluation in its model card; and the same
# model as ONNX, which needs no torch to serve. Its weights in eight bits are a quarter of the
# size. What is taken out is the run that was trained here.

# %%
out = ek.paths().runs / "served"
own = ek.compare(live, baseline="base")
plain_folder = ek.export_model(run, out / "model", report=own, replace=True)
card = (plain_folder / "README.md").read_text(encoding="utf-8")
print(*card[card.index("## Evaluation") :].splitlines()[:9], sep="\n")

# %% [markdown]
# What eight bits lose is measured on the dev sample, query by query: `ndcg` takes a model or any
# function of texts.

# %%
from embkit.evaluation.ranking import ndcg

onnx_folder = ek.export.export_onnx(run, out / "onnx", replace=True)
forms = {"the run": run.model(), "ONNX, int8": ek.export.OnnxModel(onnx_folder)}
sample = domain.dev_corpus(2000)
found = {name: ndcg(form, domain, "dev", sample) for name, form in forms.items()}
eight = ek.paired_test(*reversed(found.values()))
told = f"{eight.delta:+.4f} [{eight.ci_low:+.4f}, {eight.ci_high:+.4f}]"
print(*(f"{name}: {values.mean():.3f}" for name, values in found.items()), sep="\n")
print("difference:", told)

# %% [markdown]
# And what it does to the speed, on the same texts, nothing from the cache.

# %%
import time

engine, seconds = forms["the run"], []
for form in (lambda rows: ek.encode(engine, rows, cache=False), forms["ONNX, int8"]):
    form(texts[:64])  # the first call makes ready what the next finds there
    started = time.perf_counter()
    form(texts)
    seconds.append(time.perf_counter() - started)
speed = seconds[0] / seconds[1]
print(f"int8 encodes {speed:.2f} times as many texts a second as the engine")

# %% [markdown]
# Another runtime reads the same folder: `OnnxModel(folder, runtime="openvino")` keeps the
# activations and takes eight bits for the weights alone (`pip install "embkit[openvino]"`).
# `serve.py` in that folder is all it takes to serve. Whatever serves it in the end, check that
# it gives the vectors that were trained: `ek.export.certify(run, onnx_folder, domain)`, or
# `python -m embkit certify RUN http://localhost:8000/v1`. Prompts that are missing or put twice,
# another pooling, texts that are cut: the certificate names the cause.

# %%
print((onnx_folder / "serve.py").read_text())

# %%
import subprocess
import sys

query = domain.queries[next(iter(domain.qrels[split]))]
code = f"import serve; print(serve.encode([{query!r}]).shape)"
served = subprocess.run(
    [sys.executable, "-c", code], cwd=onnx_folder, capture_output=True, text=True
)
print(served.stdout + served.stderr[-300:])

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
rows = [row for row in report.rows if row["label"] == best_scores.label]
whole = [row for row in rows if not row["subset"]]
gains = ", ".join(
    f"{r['delta_vs_base']:+.3f} [{r['delta_vs_base_ci'][0]:+.3f}, "
    f"{r['delta_vs_base_ci'][1]:+.3f}] on `{r['split']}`" for r in whole
)

# %% tags=["hide"]
Markdown(
    f"- of {len(planned)} planned approaches, dev chose {best_name}: {gains}; on "
    f"`{split}` it wins {whole[0]['wins']} queries and loses {whole[0]['losses']}\n"
    f"- of 40 approaches that are nothing, {by_chance} pass an uncorrected test, "
    f"{survive} a corrected one\n"
    f"- advice here: {advice.decision} ({advice.approach or 'nothing to train'}); "
    f"where people type the documents' words: {no.decision}; with 60 pairs: "
    f"{not_yet.decision}\n"
    f"- the learning curve: {foresight}\n"
    f"- eight bits change nDCG@10 on the dev sample by {told}, at {speed:.2f} times "
    "the engine's speed"
)

# %% [markdown]
# ## Exercises
#
# **1.** Three tests gave p = 0.01, 0.04 and 0.03. What are they after Holm's correction? By hand.

# %% tags=["solution"]
answer_1 = [0.03, 0.06, 0.06]

# %%
ek.exercises.check(
    "1", answer_1, lambda a: np.allclose(a, ek.evaluation.holm([0.01, 0.04, 0.03])),
    hint="the smallest times 3, the next times 2; the result never falls",
)

# %% [markdown]
# **2.** Which approaches are on the front of dev when the cost is the parameters that are trained,
# not seconds? Their labels, from `by_dev`, whose rows have the column `trainable_params`.

# %% tags=["solution"]
front = ek.evaluation.pareto_front(by_dev, "trainable_params")
answer_2 = [row["label"] for row in front]

# %%
def on_front(a):
    rows = [row for row in by_dev.rows if row["trainable_params"] is not None]
    rows = [(row["label"], row["trainable_params"], row["ndcg@10"]) for row in rows]
    return {*a} == {
        name for name, price, worth in rows
        if not any(
            (paid <= price and won > worth) or (paid < price and won == worth)
            for _, paid, won in rows
        )
    }


ek.exercises.check(
    "2", answer_2, on_front, hint="ek.evaluation.pareto_front(by_dev, cost=...)"
)

# %% [markdown]
# **3.** Ask for advice with a target that no label can reach here. Keep what `ek.advise` gives:
# what does it say of the target?

# %% tags=["solution"]
answer_3 = ek.advise(domain, target=0.999, minutes=1, quiet=True)
answer_3.reasons

# %%
ek.exercises.check(
    "3", answer_3,
    lambda a: a.target is not None and a.target > 0.95
    and (a.evidence.curve is None or "target out of reach" in dict(a.reasons)),
    hint="ek.advise(domain, target=...)",
)

# %% [markdown]
# ## Further reading
#
# - Holm 1979, *A simple sequentially rejective multiple test procedure*
# - Hestness et al. 2017, *Deep learning scaling is predictable, empirically*,
#   <https://arxiv.org/abs/1712.00409>
# - Akiba et al. 2019, *Optuna*, <https://arxiv.org/abs/1907.10902>
# - Northcutt et al. 2021, *Pervasive label errors in test sets*,
#   <https://arxiv.org/abs/2103.14749>
# - next: `13_your_own_data`
