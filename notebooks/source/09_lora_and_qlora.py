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
# - train one percent of the weights, and test the result against training them all
# - compute a LoRA layer by hand, equal to peft's
# - give LoRA the learning rate of full fine-tuning, and see it fail
# - save the adapter alone, load it, merge it; switch two adapters on one model at run time
# - put the frozen weights into four bits, by hand for one block, and train beside those
#
# **You will learn**
# - what rank, alpha, target layers and the learning rate do
# - where memory goes in training, and which part of it LoRA takes away
# - what four bits lose, and what the adapter can mend
#
# **You need** notebooks 02 and 04; what a matrix product is.
#
# About 6.1 minutes on two CPU cores the first time, seconds after that.

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
# The contrastive recipe of notebook 00, with every weight trained, and with an adapter of
# rank 5 on each linear layer. Its batches are twice as large, which is part of the preset.
# The test is paired, and against full fine-tuning.

# %%
full = ek.train(ek.Recipe(), domain)
recipe = ek.preset("LoRA")
lora = ek.train(recipe, domain)
pd.Series(recipe.diff(ek.Recipe()), name="full, LoRA").to_frame()

# %%
base, words = ek.evaluate("minilm", domain), ek.evaluate("bm25", domain)
tuned = {"full": ek.evaluate(full, domain), "LoRA": ek.evaluate(lora, domain)}
report = ek.compare([words, base, *tuned.values()], baseline=tuned["full"].label)
report

# %%
ek.plots.metric_bars(report)

# %% [markdown]
# As it ran here (`workshop`, one seed): LoRA scores less than full fine-tuning on `known`. On
# the other splits, and where the right document was never a training positive, the interval
# includes 0. Both are ahead of the general model on `known` and `novel`, and below it on
# `lay`.

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
from peft import LoraConfig
from safetensors.torch import load_file

kept = load_file(lora.path / "adapter" / "adapter_model.safetensors")
config = LoraConfig.from_pretrained(lora.path / "adapter")
place = next(name for name in kept if "lora_A" in name)
A, B = kept[place], kept[place.replace("lora_A", "lora_B")]
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
(by_hand - by_peft).abs().max().item()

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

# %% [markdown]
# As it ran here, five directions hold less than half of it. LoRA does not have to copy that
# update. It looks for another one that serves as well, and the test above says where it found
# one: on `known`, it did not.
#
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
whole = full.record["trainable_params"]
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
    name: {f"rank {r}": f"{trained(r, *ends) / whole:.2%}" for r in (2, 5, 8, 16)}
    for name, ends in choices.items()
})

# %% [markdown]
# ## The learning rate: the failure that looks like LoRA's fault
#
# $B$ starts at zero and the product is scaled: LoRA needs a much larger learning rate than
# full fine-tuning. Give it full fine-tuning's own, and it barely moves. One epoch each,
# scored on the dev sample: dev's queries, searched in at most 2,000 documents.

# %%
plain = recipe.replace(epochs=1, lora_plus=1.0)
rates = ek.tune(plain, domain, learning_rate=[full.recipe.learning_rate, 3e-3, 6e-3])
rates

# %% [markdown]
# **LoRA+** goes further: the gradient of $A$ is multiplied by $B$, which is small, and that of $B$ by
# $A$, which is not; so $B$ may learn several times as fast. It is an optimizer with two groups of
# parameters, peft's `create_loraplus_optimizer`, and one field of a recipe.

# %%
plus = ek.train(recipe.replace(epochs=1), domain)
one_epoch = {f"plain, {r['learning_rate']:g}": r["dev nDCG@10"] for r in rates.rows}
at = f"LoRA+, A {recipe.learning_rate:g}, B {recipe.lora_plus:g} times that"
one_epoch[at] = plus.dev_score
pd.Series(one_epoch, name="dev nDCG@10").to_frame().round(3)

# %% [markdown]
# As it ran here (one seed), LoRA+ scores a little more than the best plain rate. That rate is
# the highest that was tried, so a higher one may do better still.
#
# All the settings, LoRA's among them: change one, and see what differs from the preset, the
# script that does the same without this kit, and the minutes that it would take here.

# %%
ek.widgets.RecipeEditor(domain, preset="LoRA")

# %% [markdown]
# Other ways to improve on plain LoRA are fields as well: `lora_variant="rslora"` scales by
# $\alpha/\sqrt{r}$, which matters at high ranks; `"dora"` learns each row's length apart.
#
# ## Four bits
#
# QLoRA's frozen weights are kept as NF4 by bitsandbytes: blocks of 64 weights, each divided by its
# largest, and of every weight the nearest of 16 values. By hand for one layer:

# %%
try:
    four_bits, why = ek.models.load_quantized("minilm"), None
except ek.EmbkitError as error:  # bitsandbytes is not here, or not for this device
    four_bits, why = None, error
print(why or "bitsandbytes works here")

# %%
if four_bits:
    from bitsandbytes.functional import dequantize_4bit, get_4bit_type

    W = W.detach().float()
    values = get_4bit_type("nf4", device=W.device).data  # (16,), from -1 to 1
    blocks = W.reshape(-1, 64)  # (blocks, 64)
    largest = blocks.abs().max(dim=1, keepdim=True).values
    nearest = ((blocks / largest)[..., None] - values).abs().argmin(-1)
    by_hand = (values[nearest] * largest).reshape(W.shape)
    packed = four_bits[0].auto_model.get_submodule(path).weight
    by_library = dequantize_4bit(packed.data, packed.quant_state)
    print(packed.shape, packed.dtype, (by_hand - by_library).abs().max().item())

# %% tags=["hide"]
if four_bits:
    assert (by_hand - by_library).abs().mean() < 1e-5

# %% [markdown]
# Each weight moves a little:

# %%
if four_bits:
    spread = W.std().item()
    change = (by_hand - W).flatten().cpu().numpy() / spread
    shown = {
        "weights": W.flatten().cpu().numpy() / spread,
        "what four bits change": change,
    }
    display(ek.plots.histogram(shown, "standard deviations of the weights", 60))

# %%
size = ek.models.weight_bytes(four_bits) if four_bits else {}
pd.Series(size, name="four-bit layers", dtype=float).to_frame().round(3)

# %% [markdown]
# The table of word pieces, half of this model, is no linear layer and stays in fp32; the larger a
# model, the less that weighs. Now train the same adapter beside the four-bit weights. Its gradients
# pass through them; they themselves never change.

# %%
if four_bits:
    qlora = ek.train(ek.preset("QLoRA"), domain)
    tuned["QLoRA"] = ek.evaluate(qlora, domain)
    tuned["base, four bits"] = ek.evaluate(four_bits, domain, name="base, four bits")
both = ek.compare([base, *tuned.values()], baseline=tuned["LoRA"].label)
both

# %% [markdown]
# As it ran here (`workshop`, one seed): between QLoRA and LoRA, the interval includes 0 on
# every split. This is no proof that they are equal.
#
# **Where to merge it.** The adapter was trained beside the weights that four bits hold,
# errors included. `run.model()` is merged into those, written out in fp32 again. Merged into
# the weights as they were before, the same adapter gives another model, which nobody trained:

# %%
if four_bits:
    other = ek.training.merge_adapter("minilm", qlora.path / "adapter", quantized=False)
    into_fp32 = ek.evaluate(other, domain, name="QLoRA, merged into fp32")
    display(ek.compare([tuned["QLoRA"], into_fp32], baseline=tuned["QLoRA"].label))

# %% [markdown]
# As it ran here, that other model is not shown to be worse, nor better: the interval includes
# 0 on every split.

# %% [markdown]
# ## What it saves, and what it does not
#
# One training step of each with 128 pairs, tensor by tensor: the weights, their gradients,
# AdamW's two moments of each trained weight, and what the forward pass keeps for the backward
# pass, in MB.

# %%
runs = {"full": full, "LoRA": lora} | ({"QLoRA": qlora} if four_bits else {})
recipes = {name: run.recipe.replace(batch_size=128) for name, run in runs.items()}
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
# bits must be read out again each time. As it ran here, on a processor, a step of QLoRA holds
# more than one of full fine-tuning, nearly all of it activations, and takes several times as
# long.
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
# A dash: not even the weights, their gradients and AdamW's moments fit. Full fine-tuning needs 16
# bytes a weight for these, LoRA four, QLoRA about one. Where the model is small, or the memory
# large, the activations decide, and neither saves any of those.
#
# ## Apart and merged
#
# `run.model()` is the merged model: $W + \frac{\alpha}{r} B A$ written into the weights, a plain model
# without peft. Its embeddings are those of the model with the adapter beside it, to rounding.

# %%
texts = list(domain.corpus.values())[:64]
beside, inside = apart.encode(texts), lora.model().encode(texts)
difference = np.abs(beside - inside).max()
difference

# %% tags=["hide"]
assert difference < 1e-4, difference

# %% [markdown]
# ## Several adapters, one model
#
# A second adapter, for somebody else who asks. On ICD-10-CM the first was trained on the words of
# coders; this one on queries in a patient's words. Both lie on one base, and one call switches.

# %%
lay = ek.training.experiments.available(domain).get("strong LLM, lay words")
people = ("coders", "patients") if lay else ("all pairs", "half of them")
changes = lay or {"max_pairs": len(ek.training_pairs(recipe, domain)) // 2}
second = ek.train(recipe.replace(epochs=1, **changes), domain)
shared = ek.load_model("minilm")
for name, run in zip(people, (lora, second), strict=True):
    shared.load_adapter(str(run.path / "adapter"), adapter_name=name)

# %%
phrase = domain.examples(domain.test_splits[-1])[0][0]
answers = {}
for name in people:
    shared.set_adapter(name)  # peft's own: the other adapter rests
    found = ek.search_side_by_side(phrase, {name: shared}, domain, k=3)
    answers[name] = found[name].tolist()
shared.disable_adapters()  # the base model again
found = ek.search_side_by_side(phrase, {"base": shared}, domain, k=3)
answers["neither"] = found["base"].tolist()
print(phrase)
pd.DataFrame(answers, index=pd.RangeIndex(1, 4, name="rank"))

# %%
import time

started = time.perf_counter()
for _ in range(100):
    shared.set_adapter(people[0])
f"{10 * (time.perf_counter() - started):.2f} ms a switch"

# %% [markdown]
# Who is served best by which?

# %%
judged = (base, tuned["LoRA"], ek.evaluate(second, domain))
served = dict(zip(("neither", *people), judged, strict=True))
who = pd.DataFrame({
    name: {split: scores.mean(split) for split in domain.test_splits}
    for name, scores in served.items()
})
who.rename_axis("asked").round(3)

# %% [markdown]
# As it ran here, each adapter scores highest on the words of the people that it was trained
# for. On `lay`, the coders' adapter scores less than the model without an adapter.
#
# An adapter is worth nothing on other weights than those it was trained beside. peft loads it
# wherever the shapes fit; `merge_adapter` looks first.

# %%
try:
    ek.training.merge_adapter(full.path / "model", lora.path / "adapter")
except ek.EmbkitError as error:
    print(error)

# %% [markdown]
# ## What we saw

# %%
def told(report, label):
    tested = [r for r in report.rows if r["p_vs_base"] is not None]
    rows = [r for r in tested if r["label"] == label]
    return ", ".join(
        f"{r['delta_vs_base']:+.3f} on `{r['split']}`"
        + (f" ({r['subset'].replace('_', ' ')})" if r["subset"] else "")
        + f" (p = {r['p_vs_base']:.2g})"
        for r in rows
    )


keeps = [tuned["LoRA"].mean(s) / tuned["full"].mean(s) for s in domain.test_splits]
share = lora.record["trainable_params"] / whole
first, best = rates.runs[0], rates.best_run

# %%
said = [
    f"- LoRA trains {share:.2%} of the weights and scores {min(keeps):.1%} to "
    f"{max(keeps):.1%} of full fine-tuning: {told(report, tuned['LoRA'].label)}",
    f"- one epoch on dev: with full fine-tuning's learning rate {first.dev_score:.3f}, "
    f"with {best.recipe.learning_rate:g} {best.dev_score:.3f}, "
    f"with LoRA+ {plus.dev_score:.3f}",
    f"- a step holds {memory['full']['total']:.0f} MB in full, "
    f"{memory['LoRA']['total']:.0f} MB with LoRA",
    f"- merged equals unmerged: the largest difference is {difference:.1e}",
]

# %%
if four_bits:
    said.append(
        f"- four bits take {size['ratio']:.3f} of fp32's bytes; QLoRA against LoRA: "
        + told(both, tuned["QLoRA"].label)
    )
Markdown("\n".join(said))

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
