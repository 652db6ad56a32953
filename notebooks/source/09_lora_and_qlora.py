# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · LoRA and QLoRA
#
# Full fine-tuning writes a new copy of every weight. LoRA leaves the model as it is and
# learns a small correction beside it, of less than a hundredth of the size; QLoRA does the
# same beside a model that is kept in four bits. Here you compute such a correction by hand,
# find out what it needs to come near the whole, measure what it saves and what it does not,
# and put several of them on one model.
#
# **You will do**
# - train one percent of the weights, and compare that with training them all
# - write the training with peft and sentence-transformers alone: add an adapter, save it,
#   load it, merge it; the kit's recipe gives the same
# - compute a LoRA layer by hand, equal to peft's
# - give LoRA the learning rate of full fine-tuning, and see what that costs
# - put the frozen weights into four bits, by hand for one layer, and train beside those
# - switch two adapters on one model at run time
#
# **You will learn**
# - what rank, alpha, target layers and the learning rate do
# - where memory goes in training, and which part of it LoRA takes away
# - what four bits lose, and what the adapter can mend
#
# **You need** notebooks 02 and 04; what a matrix product is.
#
# About 3.0 minutes on two CPU cores the first time, seconds after that.

# %%
import warnings

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

import embkit as ek

ek.setup()
warnings.filterwarnings("ignore", "Already found")  # peft, of several adapters on one
domain = ek.load_domain()  # or: ek.load_domain("path/to/your/folder")

# %% [markdown]
# ## First the result
#
# Full fine-tuning (*contrastive*), LoRA and QLoRA, each at the learning rate that dev chose for
# it, with three seeds, as `make approaches` measured them. The untrained model and a better
# general one stand beside them. Nothing of this table was trained here.

# %%
kept = ek.evaluation.results(domain)
names = ("contrastive", "LoRA", "QLoRA", "bge-small, untrained", "base")
there = [kept[name] for name in names if name in kept]
methods = ek.compare(there, baseline="contrastive") if "contrastive" in kept else None
methods or "nothing is kept for this domain: python -m embkit approaches"

# %%
def against(report, label):
    rows = [r for r in report.rows if r["label"] == label and not r["subset"]]
    return ", ".join(
        f"{r['delta_vs_base']:+.3f} [{r['delta_vs_base_ci'][0]:+.3f}, "
        f"{r['delta_vs_base_ci'][1]:+.3f}] on `{r['split']}`" for r in rows
    )


lora_told = against(methods, "LoRA") if methods else "not kept for this domain"
Markdown(f"LoRA against full fine-tuning: {lora_told}.")

# %% [markdown]
# Where an interval leaves out 0, the difference is one of the methods; elsewhere, these queries
# show none. LoRA trains this share of the weights. An epoch of it is trained here, on 2,000 pairs
# at most, as every LoRA of this lesson; the model of notebook 00 has three epochs of all pairs:

# %%
full = ek.train(ek.Recipe(), domain)
recipe = ek.preset("LoRA", epochs=1, max_pairs=2000)
lora = ek.train(recipe, domain)
whole = full.record["trainable_params"]
print(f"trained: {lora.record['trainable_params'] / whole:.2%} of the weights")
pd.DataFrame.from_dict(recipe.diff(ek.Recipe()), "index", columns=["full", "LoRA"])

# %%
base = ek.evaluate("minilm", domain)
tuned = ek.evaluate(lora, domain)
ek.compare([base, tuned], baseline="base")

# %% [markdown]
# One seed, one epoch of those pairs: what LoRA gains on the untrained model, and what it loses.
#
# ## With peft and sentence-transformers alone
#
# Everything that such a recipe does, in the libraries' own calls, on 64 pairs: a data set, an
# adapter on two kinds of layers, the loss, the arguments, the trainer.

# %%
from peft import LoraConfig, PeftModel
from sentence_transformers import SentenceTransformer
from sentence_transformers import SentenceTransformerTrainer as Trainer
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
from sentence_transformers.sentence_transformer import losses

from embkit.assets.catalogue import resolve
from embkit.session import precision_flags

# %%
start = str(resolve("minilm"))  # a folder; a name on the hub will do as well
few = ek.Recipe(lora_rank=5, lora_targets=("query", "value"), learning_rate=6e-3,
                batch_size=64, max_pairs=64, epochs=2)
data = ek.training_pairs(few, domain).dataset().select_columns(["anchor", "positive"])
data

# %%
no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
torch.manual_seed(few.seed)  # A starts at random
model = SentenceTransformer(start, config_kwargs=no_dropout)
model.requires_grad_(False)
model.add_adapter(LoraConfig(r=5, lora_alpha=10, target_modules=["query", "value"]))
folder = ek.paths().runs / "lora_by_hand"
arguments = Arguments(
    str(folder), num_train_epochs=2, per_device_train_batch_size=64, learning_rate=6e-3,
    warmup_steps=0.1, seed=few.seed, report_to="none", save_strategy="no",
    disable_tqdm=True, batch_sampler="no_duplicates",
    use_cpu=model.device.type == "cpu", **precision_flags(),
)
loss = losses.MultipleNegativesRankingLoss(model, scale=1 / few.temperature)
trainer = Trainer(model=model, args=arguments, train_dataset=data, loss=loss)
steps = trainer.train().global_step

# %% [markdown]
# Saving such a model writes the adapter alone. It is loaded beside the base again, or merged:
# $W + \frac{\alpha}{r} B A$ is written into the weights, and what comes out is a plain model.

# %%
import warnings

warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
model.save_pretrained(str(folder / "adapter"))
beside = SentenceTransformer(start)
beside.load_adapter(str(folder / "adapter"))
merged = SentenceTransformer(start)
both = PeftModel.from_pretrained(merged[0].auto_model, str(folder / "adapter"))
merged[0].auto_model = both.merge_and_unload()
texts = list(domain.corpus.values())[:64]
vectors = [m.encode(texts, normalize_embeddings=True) for m in (beside, merged)]
difference = np.abs(vectors[0] - vectors[1]).max()
f"beside and merged differ by {difference:.1e} at most"

# %% tags=["hide"]
assert difference < 1e-4, difference

# %% [markdown]
# The kit's short form is one line, and gives the same model, up to the rounding of 16-bit products:
# it computes texts without their padding, and AdamW passes on the last digits that this changes.
# Cosines of its vectors to those of the libraries' model, and of the untrained model's:

# %%
kit = ek.train(few, domain, quiet=True).model()
untrained = SentenceTransformer(start)
cosines = pd.DataFrame({
    name: (other.encode(texts, normalize_embeddings=True) * vectors[1]).sum(axis=1)
    for name, other in {"the kit's": kit, "untrained": untrained}.items()
})
del model, trainer, loss, beside, merged, both, kit  # each holds all weights
cosines.agg(["mean", "min"]).T.round(4)

# %% [markdown]
# ## A low-rank update, by hand
#
# A linear layer computes $y = W x + b$. LoRA freezes $W$ and adds a product of two thin matrices,
#
# $$y = \left(W + \frac{\alpha}{r}\, B A\right) x + b,\qquad
# A: r \times \mathrm{in},\quad B: \mathrm{out} \times r$$
#
# of which $A$ starts at random and $B$ at zero: at the start the model is the one it was. Here are
# the two matrices of one layer, from the file that the run keeps:

# %%
from safetensors.torch import load_file

saved = load_file(lora.path / "adapter" / "adapter_model.safetensors")
config = LoraConfig.from_pretrained(lora.path / "adapter")
place = next(name for name in saved if "lora_A" in name)
A, B = saved[place], saved[place.replace("lora_A", "lora_B")]
place, tuple(A.shape), tuple(B.shape)

# %% [markdown]
# The base model, with the adapter loaded beside it by sentence-transformers' own method. On
# screen is what peft made of the layer.

# %%
apart = ek.load_model("minilm")
apart.load_adapter(str(lora.path / "adapter"))
path = place.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
layer = apart[0].auto_model.get_submodule(path)
layer

# %%
scale = config.lora_alpha / config.r
x = torch.randn(2, layer.in_features)  # (texts, in)
A, B, x = (t.to(apart.device) for t in (A, B, x))
with torch.no_grad():
    W, b = layer.base_layer.weight, layer.base_layer.bias  # (out, in), (out,)
    by_hand = x @ (W + scale * B @ A).T + b  # (texts, out)
    by_peft = layer(x)
print(f"largest difference: {(by_hand - by_peft).abs().max():.1e}")

# %% tags=["hide"]
assert (by_hand - by_peft).abs().max() < 1e-4

# %% [markdown]
# ## Is an update of low rank?
#
# What full fine-tuning adds to a layer is a matrix, too: the tuned weight less the general one. How
# much of its squared length lies in its largest singular directions? If a few directions held it
# all, a low rank would lose nothing.

# %%
def update_of(run, name):
    before = ek.load_model("minilm")[0].auto_model.get_parameter(name)
    after = run.model()[0].auto_model.get_parameter(name)
    return (after - before).detach().float().cpu()  # (out, in)


ranks = [1, 2, 5, 10, 20, 50, 100, 200]
middle = "encoder.layer.3."
names = {"query": "attention.self.query", "value": "attention.self.value",
         "first dense": "intermediate.dense"}
held = {}
for short, name in names.items():
    lengths = torch.linalg.svdvals(update_of(full, f"{middle}{name}.weight")) ** 2
    held[short] = [(lengths[:r].sum() / lengths.sum()).item() for r in ranks]
ek.plots.lines(ranks, held, "rank", "share of full fine-tuning's update", logx=True)

# %% tags=["hide"]
five = {name: shares[ranks.index(5)] for name, shares in held.items()}
Markdown(
    "Five directions hold "
    + ", ".join(f"{x:.0%} of the update of *{name}*" for name, x in five.items())
    + ". LoRA does not have to copy that update. It looks for another one that serves "
    "as well; the first table says how near it comes."
)

# %% [markdown]
# ## Rank and target layers: what is trained
#
# A layer of `in` × `out` weights costs `r × (in + out)` parameters. Alpha is only a scale; by
# default it is twice the rank here. Which layers there are to choose from, an error says:

# %%
try:
    ek.train(recipe.replace(lora_targets=("query", "vaule")), domain)
except ek.EmbkitError as error:
    print(error)

# %%
layers = {name: m for name, m in ek.load_model("minilm").named_modules()
          if isinstance(m, torch.nn.Linear) and "encoder" in name}


def trained(rank, *ends):
    return rank * sum(
        m.in_features + m.out_features for n, m in layers.items() if n.endswith(ends)
    )


# %%
attention = ("query", "key", "value", "attention.output.dense")
choices = {"query, value": ("query", "value"), "attention": attention, "all": ("",)}
pd.DataFrame({
    name: {f"rank {r}": f"{trained(r, *ends) / whole:.2%}" for r in (2, 5, 6, 8, 16)}
    for name, ends in choices.items()
})

# %% [markdown]
# Why rank 5? No search found it. All linear layers were to be adapted, with less than one percent
# of the weights, and 5 is the largest rank that allows it: 6 has more.

# %% tags=["hide"]
assert trained(5, "") < 0.01 * whole < trained(6, "")

# %% [markdown]
# ## The learning rate: the failure that looks like LoRA's fault
#
# $B$ starts at zero and the product is scaled: LoRA needs a much larger learning rate than full
# fine-tuning. **LoRA+** goes further: the gradient of $A$ is multiplied by $B$, which is small, and
# that of $B$ by $A$, which is not; so $B$ may learn several times as fast. It is an optimizer with
# two groups of parameters, peft's `create_loraplus_optimizer`, and one field of a recipe.
#
# Here is LoRA on those pairs at full fine-tuning's own rate, at fifteen times that, and with
# LoRA+, whose rates dev chose. All are scored on the dev sample: dev's queries, searched in at
# most 2,000 documents. The intervals are over clusters of queries.

# %%
plain = recipe.replace(lora_plus=1.0)
rates = ek.tune(plain, domain, learning_rate=[full.recipe.learning_rate, 6e-3])
arms = {f"LoRA, {r.recipe.learning_rate:g}": r for r in rates.runs}
plus = f"LoRA+, A {recipe.learning_rate:g}, B {recipe.lora_plus:g} times that"
arms[plus] = lora

# %%
from embkit.evaluation.ranking import ndcg

sample = domain.dev_corpus(2000)
on_dev = {"untrained": ndcg(untrained, domain, "dev", sample)}
on_dev |= {n: ndcg(run.model(), domain, "dev", sample) for n, run in arms.items()}
first, best = list(on_dev)[1:3]  # full fine-tuning's rate, and LoRA's


# %%
def over(name, scored):
    rows, head = {}, ["dev nDCG@10", "from", "to", f"over {name}", "Δ from", "Δ to"]
    for label, values in scored.items():
        rows[label] = [values.mean(), *ek.mean_interval(values), *[np.nan] * 3]
        if label != name:
            t = ek.paired_test(values, scored[name])
            rows[label][3:] = t.delta, t.ci_low, t.ci_high
    return pd.DataFrame(rows, head).T.round(3).astype(object).fillna("–")


over(first, on_dev)

# %% [markdown]
# The last three columns are paired differences from LoRA at full fine-tuning's rate. Where the
# interval is above 0, it is that rate that failed, not LoRA.
#
# All the settings, LoRA's among them: change one, and see what differs from the preset, the
# script that does the same without this kit, and, on a click on *Forecast*, its memory and minutes.

# %%
ek.widgets.RecipeEditor(domain, preset="LoRA")

# %% [markdown]
# Other ways to improve on plain LoRA are fields as well: `lora_variant="rslora"` scales by
# $\alpha/\sqrt{r}$, which matters at high ranks; `"dora"` learns each row's length apart.
#
# ## Four bits
#
# QLoRA's frozen weights are kept as NF4 by bitsandbytes: blocks of 64 weights, each divided by its
# largest, and of every weight the nearest of 16 values. transformers takes the wish as a
# configuration. It runs on a GPU, and on processors that bitsandbytes has kernels for; where it
# does not, the cells below say so and the lesson goes on.

# %%
from transformers import BitsAndBytesConfig

nf4 = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
)
try:
    four_bits, why = ek.models.load_quantized("minilm"), None  # the kit's short form
except ek.EmbkitError as error:  # bitsandbytes is not here, or not for this device
    four_bits, why = None, error
print(why or "bitsandbytes works here")

# %%
if four_bits:
    from bitsandbytes.functional import dequantize_4bit, get_4bit_type

    options = {"quantization_config": nf4, "dtype": torch.float32}
    by_library = SentenceTransformer(start, model_kwargs=options)
    packed, other = (
        m[0].auto_model.get_submodule(path).weight for m in (four_bits, by_library)
    )
    read = dequantize_4bit(packed.data, packed.quant_state)
    print(packed.shape, packed.dtype, "the same codes:", packed.data.equal(other.data))
    del by_library

# %% [markdown]
# Two codes lie in each byte. The same by hand: the first weights of the layer, divided by the
# largest of their block, the nearest of the 16 values, and what is read back.

# %%
if four_bits:
    W = W.detach().float()
    values = get_4bit_type("nf4", device=W.device).data  # (16,), from -1 to 1
    blocks = W.reshape(-1, 64)  # (blocks, 64)
    largest = blocks.abs().max(dim=1, keepdim=True).values
    nearest = ((blocks / largest)[..., None] - values).abs().argmin(-1)  # the codes
    by_hand = (values[nearest] * largest).reshape(W.shape)
    lost = ((by_hand - W).norm() / W.norm()).item()
    columns = (blocks, blocks / largest, nearest, values[nearest], read.reshape(-1, 64))
    heads = ("weight", "by the largest", "code", "its value", "read back")
    pairs = zip(heads, columns, strict=True)
    shown = {head: c[0, :6].cpu().numpy() for head, c in pairs}
    display(pd.DataFrame(shown).round(4))
    print(f"the norm of what four bits change is {lost:.1%} of the layer's")

# %% tags=["hide"]
if four_bits:
    assert (by_hand - read).abs().mean() < 1e-5

# %%
size = ek.models.weight_bytes(four_bits) if four_bits else {}
sizes = pd.Series(size, name="four-bit layers", dtype=float)
sizes.map("{:.3g}".format).to_frame()

# %% [markdown]
# The table of word pieces, half of this model, is no linear layer and stays in fp32; the larger a
# model, the less that weighs. Now train the same adapter beside the four-bit weights. Its gradients
# pass through them; they themselves never change. On a processor each step is slow, so here it is
# 256 pairs alone, in batches of 32: enough to see it train, and too few to gain much.

# %%
if four_bits:
    short = {"epochs": 1, "max_pairs": 256, "batch_size": 32}
    qlora = ek.train(ek.preset("QLoRA", **short), domain)
    scored = {"untrained": on_dev["untrained"]}
    scored["into four bits"] = ndcg(qlora.model(), domain, "dev", sample)
    display(over("untrained", scored))
qlora_told = "not kept for this domain"
if methods and "QLoRA" in kept:
    pair = ek.compare([kept["LoRA"], kept["QLoRA"]], baseline="LoRA")
    qlora_told = against(pair, "QLoRA")
print("QLoRA against LoRA, whole runs, three seeds:", qlora_told)

# %% [markdown]
# An interval that includes 0 is no proof that the two are equal.
#
# **Where to merge it.** The adapter was trained beside the weights that four bits hold, errors
# included. `run.model()` is merged into those, written out in fp32 again: the model that was
# trained. The same adapter can be merged into the weights as they were before. Nobody trained that
# model, but its weights have lost nothing:

# %%
merge_told = "four bits do not work here"
if four_bits:
    other = ek.training.merge_adapter("minilm", qlora.path / "adapter", quantized=False)
    scored["into fp32"] = ndcg(other, domain, "dev", sample)
    display(merges := over("into four bits", scored))
    delta, low, high = merges.loc["into fp32"].iloc[-3:]
    merge_told = f"{delta:+.3f} [{low:+.3f}, {high:+.3f}] on the dev sample"
print("merged into fp32, against into four bits:", merge_told)

# %% [markdown]
# Where it scores more, that is no contradiction: what the adapter learned is the task, and it has
# little to do with the errors of four bits. Serve the merge that scores more on dev; where the
# interval of their difference holds 0, either will do.

# %% [markdown]
# ## What it saves, and what it does not
#
# One training step of each with 32 pairs, tensor by tensor: the weights, their gradients,
# AdamW's two moments of each trained weight, and what the forward pass keeps for the backward
# pass, in MB.

# %%
runs = {"full": full, "LoRA": lora} | ({"QLoRA": qlora} if four_bits else {})
recipes = {name: run.recipe.replace(batch_size=32) for name, run in runs.items()}
memory = {n: ek.training.footprint(recipe, domain) for n, recipe in recipes.items()}
pd.DataFrame(memory).round(1)

# %%
def megabytes(folder):
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


cost = {}
for name, run in runs.items():
    own = run.path / ("model" if name == "full" else "adapter")
    cost[name] = {
        "trained": f"{run.record['trainable_params'] / whole:.2%}",
        "MB to keep": round(megabytes(own), 1),
        "seconds": round(run.seconds),
        "pairs a second": round(run.record["pairs_per_second"]),
    }
pd.DataFrame(cost)

# %% [markdown]
# Gradients and moments all but vanish. Activations do not: they depend on the batch and the
# depth. Nor is a step cheap, since the whole model is still run forwards and backwards; four
# bits must be read out again each time. Compare the pairs a second, and the activations of QLoRA:
# a model as small as this gains nothing from four bits. For whom they are made, the next table
# says.
#
# ## Will it fit?
#
# `ek.forecast` tells it before a run, without a step: it builds the network from its configuration,
# of tensors that have shapes and no numbers, and counts. Minutes come from a small encoding here.

# %%
ek.forecast(recipes["LoRA"], domain)

# %% [markdown]
# So it can be asked of models that are not here. The largest batch of pairs that a GPU's memory
# takes, with 16 tokens a query and 256 a document, products in bf16, and no checkpointing of
# activations:

# %%
ek.training.large_models()

# %% [markdown]
# A dash: not even the weights, their copies in 16 bits, the gradients and AdamW's moments fit. Full
# fine-tuning needs 18 bytes a weight for these, LoRA six, QLoRA about one. So a model of 8 billion
# weights, which no 80 GiB can train in full, trains by LoRA there, and by QLoRA in 16. Where the
# model is small, or the memory large, the activations decide, and neither saves any of those.

# %% [markdown]
# ## Several adapters, one model
#
# A second adapter, for somebody else who asks. On ICD-10-CM the first was trained on the words of
# coders; this one on queries in a patient's words. Both lie on one base, and one call switches.
# The phrase of one test query is searched for in the dev sample and its right document.

# %%
lay = ek.training.experiments.available(domain).get("strong LLM, lay words")
people = ("coders", "patients") if lay else ("all pairs", "half of them")
changes = lay or {"max_pairs": len(ek.training_pairs(recipe, domain)) // 2}
second = ek.train(recipe.replace(**changes), domain)
shared = ek.load_model("minilm")
for name, run in zip(people, (lora, second), strict=True):
    shared.load_adapter(str(run.path / "adapter"), adapter_name=name)

# %%
phrase, right = domain.examples(domain.test_splits[-1])[0]
searched = list(dict.fromkeys([right, *(domain.corpus[d] for d in sample)]))


def nearest(model, k=3):
    asked, found = ek.encode(model, [phrase]), ek.encode(model, searched)
    return [searched[i] for i in np.argsort(-(found @ asked[0]))[:k]]


answers = {}
for name in people:
    shared.set_adapter(name)  # peft's own: the other adapter rests
    answers[name] = nearest(shared)
shared.disable_adapters()  # the base model again
answers["neither"] = nearest(shared)

# %%
print(phrase)
ranked = pd.DataFrame(answers, index=[1, 2, 3]).style
ranked.set_properties(**{"text-align": "left"}).set_uuid("ranked")

# %%
import time

started = time.perf_counter()
for _ in range(100):
    shared.set_adapter(people[0])
f"{10 * (time.perf_counter() - started):.2f} ms a switch"

# %% [markdown]
# Who is served best by which?

# %%
judged = (base, tuned, ek.evaluate(second, domain))
served = dict(zip(("neither", *people), judged, strict=True))
who = pd.DataFrame({
    name: {split: scores.mean(split) for split in domain.test_splits}
    for name, scores in served.items()
})
who.rename_axis("asked").round(3)

# %% tags=["hide"]
def differs(split, name):
    test = ek.paired_test(served[name].values(split), base.values(split))
    return f"{name} {test.delta:+.3f} [{test.ci_low:+.3f}, {test.ci_high:+.3f}]"


adapters = "\n".join(
    f"- against no adapter, on `{split}`: "
    + ", ".join(differs(split, name) for name in people)
    for split in domain.test_splits
)
Markdown(adapters)

# %% [markdown]
# An adapter is worth nothing on other weights than those it was trained beside. peft loads it
# wherever the shapes fit; `merge_adapter` looks first.

# %%
try:
    ek.training.merge_adapter(full.path / "model", lora.path / "adapter")
except ek.EmbkitError as error:
    print(error)

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
trained_share = lora.record["trainable_params"] / whole
said = [
    f"- LoRA trains {trained_share:.2%} of the weights. Against full fine-tuning, "
    f"three seeds: {lora_told}",
    f"- an epoch of 2,000 pairs, dev sample: {first} {on_dev[first].mean():.3f}, "
    f"{best} {on_dev[best].mean():.3f}, LoRA+ {on_dev[plus].mean():.3f}, untrained "
    f"{on_dev['untrained'].mean():.3f}",
    f"- a step holds {memory['full']['total']:.0f} MB in full, "
    f"{memory['LoRA']['total']:.0f} MB with LoRA",
    f"- beside the base and merged into it, an adapter gives the same vectors, to "
    f"{difference:.1e}",
]

# %% tags=["hide"]
if four_bits:
    said += [
        f"- four bits take {size['ratio']:.3f} of fp32's bytes and change {lost:.1%} "
        f"of a layer; QLoRA against LoRA, three seeds: {qlora_told}",
        f"- a QLoRA adapter merged into fp32, against into four bits: {merge_told}",
        f"- pairs a second here: {cost['full']['pairs a second']} in full, "
        f"{cost['LoRA']['pairs a second']} with LoRA, "
        f"{cost['QLoRA']['pairs a second']} with QLoRA",
    ]
Markdown("\n".join([*said, adapters]))

# %% [markdown]
# ## Exercises
#
# **1.** How many parameters has an adapter of rank 16 on every encoder layer's `query` and
# `value`? Compute it from the layers' sizes.

# %% tags=["solution"]
answer_1 = 16 * sum(
    m.in_features + m.out_features for n, m in layers.items()
    if n.endswith(("query", "value"))
)
answer_1

# %%
ek.exercises.check(
    "1", answer_1, lambda a: a == trained(16, "query", "value"),
    hint="each layer: rank × (in + out)",
    right="the same number as rank 8 on all four matrices of attention",
)

# %% [markdown]
# **2.** How many adapters like the first one weigh as much, on disk, as one tuned model?

# %% tags=["solution"]
answer_2 = megabytes(full.path / "model") / megabytes(lora.path / "adapter")
answer_2

# %%
ek.exercises.check(
    "2", answer_2,
    lambda a: abs(
        a / (megabytes(full.path / "model") / megabytes(lora.path / "adapter")) - 1
    ) < 0.05,
    hint="megabytes(folder), of a run's model and of a run's adapter",
    right="one base serves that many tasks for the disk of two models",
)

# %% [markdown]
# **3.** What is the rank of the update that LoRA made of the layer above? Take the singular values
# of $B A$, and count those above a thousandth of the largest.

# %% tags=["solution"]
found = torch.linalg.svdvals((B @ A).float())
answer_3 = int((found > found[0] / 1000).sum())
answer_3

# %%
def of_rank(answer):
    lengths = torch.linalg.svdvals((B @ A).float())
    return answer == int((lengths / lengths[0] > 1e-3).sum())


ek.exercises.check(
    "3", answer_3, of_rank,
    hint="torch.linalg.svdvals(B @ A)",
    right="never above r: the product of thin matrices cannot have more",
)

# %% [markdown]
# ## Further reading
#
# - Hu et al. 2021, *LoRA*, <https://arxiv.org/abs/2106.09685>
# - Dettmers et al. 2023, *QLoRA*, NF4 and the adapter beside it,
#   <https://arxiv.org/abs/2305.14314>
# - Hayou et al. 2024, *LoRA+*, <https://arxiv.org/abs/2402.12354>
# - Kalajdzievski 2023, *rsLoRA*, <https://arxiv.org/abs/2312.03732>; Liu et al. 2024, *DoRA*,
#   <https://arxiv.org/abs/2402.09353>; Meng et al. 2024, *PiSSA*,
#   <https://arxiv.org/abs/2404.02948>
# - Biderman et al. 2024, *LoRA Learns Less and Forgets Less*,
#   <https://arxiv.org/abs/2405.09673>
# - next: `10_image_text`
