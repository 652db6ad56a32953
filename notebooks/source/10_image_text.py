# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Pictures and words in one space
#
# A text model puts texts into a space, an image model pictures into another. If a picture and
# its caption lie at the same place, pictures can be searched with words, and words with
# pictures. That is CLIP's idea; here you train it on a laptop, with two towers that have
# never seen each other, and measure it against two baselines whose towers are not trained at
# all.
#
# **You will do**
# - search icons with words, before and after, and pick one to read the nearest words
# - compute the symmetric loss of a batch by hand, equal to the library's
# - measure the gap between the cloud of texts and the cloud of pictures
# - run the control with shuffled captions
# - see what fifty test items would have told you
# - make a small CLIP with transformers' classes, and take it down the same path
#
# **You will learn**
# - what it means to share a space, and what the learned temperature is for
# - that a baseline whose towers are not trained can be strong
# - what a CLIP folder holds, and what joins two towers in sentence-transformers
#
# **You need** notebooks 02 and 04.
#
# About 2.4 minutes on two CPU cores the first time, seconds after that.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Markdown

import embkit as ek

ek.setup()
domain = ek.load_domain("icons")  # or: a folder with pictures and a CSV of captions
to_image, to_text, *_ = domain.test_splits
domain

# %% [markdown]
# A caption is an icon's name, given by its designers. Variants of one icon look almost the
# same, so the split is by family: the name without `outline`, `variant` and numbers. The tests
# search the held-out icons alone, in both directions. `ek.load_domain("icons", by="word")` cuts
# by the first word instead, which is harder; `seed=1` holds out other families.
#
# ## First the result
#
# Three ways to bring EfficientNet-Lite0 (trained on ImageNet's photos) and MiniLM (trained on
# texts) together. *Ridge*: a linear map from frozen pictures to frozen captions. *Copied
# captions*: a picture gets the captions of the five training pictures that look most like it.
# *Both towers*: from the ridge on, both are trained; the image tower's first blocks stay. It is
# trained for two epochs here. The preset has four; its figures follow.

# %%
ridge_run = ek.train(ek.preset("frozen towers"), domain, quiet=True)
recipe = ek.preset("both towers", epochs=2)
run = ek.train(recipe, domain)
ridge = ek.evaluate(ridge_run, domain).labelled("ridge")
copied = ek.evaluate(ek.training.copy_captions(domain), domain, name="copied captions")
tuned = ek.evaluate(run, domain).labelled("both towers, 2 epochs")

# %% tags=["hide"]
size = len(domain.documents(to_image))
chance = {"mrr@10": sum(1 / n for n in range(1, 11)) / size, "recall@10": 10 / size}


def table(*scores):
    found = {("chance", split): chance for split in (to_image, to_text)}
    for one in scores:
        for split in (to_image, to_text):
            found[one.label, split] = {m: one.mean(split, m) for m in chance}
    return pd.DataFrame(found).T.unstack().swaplevel(axis=1).sort_index(axis=1)


table(ridge, copied, tuned).sort_values((to_image, "mrr@10")).round(3)

# %% [markdown]
# All three are far above chance, which is a random order. The better of the two that train no
# tower is what training has to beat, query by query, in MRR@10 and recall@10:

# %% tags=["hide"]
frozen = max([ridge, copied], key=lambda s: s.mean(to_image, "mrr@10"))


def gains(new, old):
    found = {}
    for split, metric in [(s, m) for s in (to_image, to_text) for m in chance]:
        test = ek.paired_test(new.values(split, metric), old.values(split, metric))
        told = [round(x, 3) for x in (test.delta, test.ci_low, test.ci_high)]
        found[split, metric] = [*told, "<0.001" if test.p < 0.001 else f"{test.p:.3f}"]
    return pd.DataFrame(found, ["gain", "from", "to", "p"]).T


gained = gains(tuned, frozen)
gained

# %% [markdown]
# The intervals are over families of icons. Where one leaves out 0, training has gained by that
# metric in that direction.
#
# The same with four epochs, three seeds, and nDCG@10, as `make pictures` measured it. Nothing of
# this table was trained here.

# %%
kept = ek.evaluation.results(domain)
whole = ek.compare(list(kept.values()), baseline=frozen.label) if kept else None
whole or "nothing is kept for this profile: make pictures, with the profile workshop"

# %% [markdown]
# Its intervals are over families and over seeds. What they leave out is a gain of the method, not
# of one training.

# %% [markdown]
# ## Search for yourself
#
# Type words and press Enter; pick a picture (Tab, arrows, Enter) to read the captions that lie
# nearest to it. Without a kernel you see one search, and one picked picture. It was picked to show
# a gain: the first caption whose icon both towers rank first and the ridge does not. The losses
# follow under *Failures*.

# %%
models = {"ridge": ridge_run.model(), "both towers": run.model()}
first = [s.values(to_image, "hit@1") for s in (ridge, tuned)]
gain = first[1] - first[0]
query = gain.idxmax()
gallery = ek.widgets.Gallery(models, domain, domain.queries[query])
gallery.pick("both towers", 0)
gallery

# %% tags=["hide"]
won, lost = int((gain > 0).sum()), int((gain < 0).sum())
Markdown(
    f"Of {len(gain)} captions, both towers put the right icon first for {won} where "
    f"the ridge does not; for {lost} it is the other way round."
)

# %% [markdown]
# ## The loss by hand
#
# Four pairs: four captions, four pictures, sixteen cosines. Each caption has to find its
# picture in its row, each picture its caption in its column. With scale $s$, the inverse of a
# temperature:
#
# $$L = \tfrac12\big[\mathrm{CE}(s\,T P^\top) + \mathrm{CE}(s\,P T^\top)\big]$$

# %%
four = list(domain.qrels[to_image].items())[:4]
captions = [domain.queries[query] for query, _ in four]
pictures = [domain.corpus[next(iter(judged))] for _, judged in four]
model = run.model()
T, P = (model.encode(x, normalize_embeddings=True) for x in (captions, pictures))
cosines = T @ P.T  # (4, 4)
show = ek.data.data_url
row = "".join(f"<td><img src='{show(p)}' width='64'></td>" for p in pictures)
HTML(f"<table><tr>{row}</tr></table>")

# %%
named = pd.DataFrame(cosines, captions, [f"picture {i + 1}" for i in range(4)])
named.style.background_gradient("viridis", axis=None).format("{:.2f}").set_uuid("four")

# %%
scale = model[0].logit_scale.exp().item()
logits = scale * cosines.astype(np.float64)


def cross_entropy(rows):
    return -(np.diag(rows) - np.log(np.exp(rows).sum(axis=1))).mean()


by_hand = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
round(float(by_hand), 4)

# %% [markdown]
# The library's class, as a recipe with `approach="clip"` trains with it:

# %%
loss = ek.training.make_loss(recipe.loss, model.eval())
with torch.no_grad():
    batch = [model.preprocess(captions), model.preprocess(pictures)]
    by_library = loss(batch).item()
round(by_library, 4)

# %% tags=["hide"]
assert abs(by_hand - by_library) < 1e-3, (by_hand, by_library)

# %% [markdown]
# ## The temperature is learned
#
# CLIP trains $s$ with the weights: it grows as the right pairs draw apart from the wrong ones.

# %%
print(f"s at the start {1 / recipe.temperature:.1f}, after training {scale:.1f}")
ek.plots.loss_curve(run.history)

# %% [markdown]
# ## The modality gap
#
# Texts may fill one corner of the space and pictures another, and search still works: only the
# order of distances counts. The gap is the distance between the centres of both clouds. Below,
# the held-out icons: towers that know nothing of each other, the ridge, both towers.

# %%
untrained = {"untrained": ek.load_model("towers")}
names = [domain.queries[query] for query in domain.qrels[to_image]]
shown = [domain.corpus[document] for document in domain.documents(to_image)]
clouds = {
    name: (ek.encode(one, names), ek.encode(one, shown))
    for name, one in (untrained | models).items()
}
gaps = {name: ek.space.modality_gap(*both) for name, both in clouds.items()}
pd.Series(gaps, name="gap").round(3).to_frame()

# %%
with ek.plots.style():
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
for place, (name, (texts, seen)) in zip(axes, clouds.items(), strict=True):
    both = np.concatenate([texts, seen])
    axis = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)[2][:2]
    for cloud, mark, label in ((texts, "o", "texts"), (seen, "^", "pictures")):
        flat = (cloud - both.mean(axis=0)) @ axis.T
        place.scatter(*flat.T, s=8, marker=mark, alpha=0.5, label=label)
    place.set(title=f"{name}: gap {gaps[name]:.2f}", xticks=[], yticks=[])
axes[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=2)
plt.close(figure)
figure

# %% [markdown]
# As it ran here, the ridge has the smallest gap, and both towers, which search better, a
# larger one: a small gap is not a good search.

# %% [markdown]
# ## The control: shuffled captions
#
# The same recipe on pictures that are given another one's caption: a thousand pairs, one epoch.
# The ridge that it starts from is fitted to the shuffled pairs, too.

# %%
shuffled = recipe.replace(shuffle_labels=True, max_pairs=1024, epochs=1)
control = ek.evaluate(ek.train(shuffled, domain), domain).labelled("shuffled captions")
table(control, tuned).round(3)

# %% [markdown]
# With shuffled captions, search stays near chance: what the towers gain above, they gain from the
# pairs.

# %% [markdown]
# ## How little fifty test items say
#
# Lessons on the web test on a dozen pictures, or on fifty. Draw fifty of the test queries, a
# thousand times, and look at the gain that each draw would have reported.

# %%
delta = tuned.values(to_image, "mrr@10") - frozen.values(to_image, "mrr@10")
draw = np.random.default_rng(0)
size = min(50, len(delta))
fifty = [delta.sample(size, random_state=draw).mean() for _ in range(1000)]
low, high = np.quantile(fifty, [0.025, 0.975])
ek.plots.histogram({"draws of 50": fifty}, "gain in MRR that the draw reports")

# %% tags=["hide"]
Markdown(
    f"On all {len(delta)} queries, the gain is {delta.mean():+.3f}. Of the draws of "
    f"fifty, {np.mean(np.array(fifty) > 0):.0%} report a gain, and 95% of them one "
    f"between {low:+.3f} and {high:+.3f}: a range of {high - low:.3f}."
)

# %% [markdown]
# ## Failures
#
# The six test queries that lost most against the better baseline.

# %%
lost = delta.sort_values().head(6).index
ranking = ek.rank(model, domain, to_image, k=5)
rows = []
for query in lost:
    found = "".join(
        f"<img src='{ek.data.data_url(domain.corpus[document])}' width='48'>"
        for document in ranking[query]
    )
    right = next(iter(domain.qrels[to_image][query]))
    image = f"<img src='{ek.data.data_url(domain.corpus[right])}' width='48'>"
    name = domain.queries[query]
    rows.append(f"<tr><td>{name}</td><td>{image}</td><td>{found}</td></tr>")
head = "<tr><th>asked</th><th>right</th><th>found</th></tr>"
HTML(f"<table>{head}{''.join(rows)}</table>")

# %% [markdown]
# Read the right icon beside the five that were found: many of these look like the caption, too.
#
# ## CLIP, by its classes
#
# No package carries CLIP's weights, so there is no zero-shot row here, and no result on photos.
# Its *path* needs no trained weights. Here is a small CLIP whose weights are random: two
# transformers and two projections, made from a configuration, with a tokenizer that knows letters
# alone.

# %%
import json
import string

from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip import CLIPImageProcessorPil, CLIPProcessor

# %%
folder = ek.paths().runs / "small_clip"
folder.mkdir(parents=True, exist_ok=True)
letters = string.ascii_lowercase + string.digits
pieces = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
number = {piece: place for place, piece in enumerate(pieces)}
(folder / "vocab.json").write_text(json.dumps(number))
(folder / "merges.txt").write_text("#version: 0.2\n")
files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
tokenizer = CLIPTokenizer(*files, model_max_length=77)
print(tokenizer.tokenize("tea cup"))

# %%
tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4}
ends = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1}
config = CLIPConfig(
    text_config={**tower, **ends, "vocab_size": len(pieces)},
    vision_config={**tower, "image_size": 32, "patch_size": 8},
    projection_dim=32,
)
torch.manual_seed(0)
CLIPModel(config).save_pretrained(folder)
look = CLIPImageProcessorPil(
    size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
)
CLIPProcessor(look, tokenizer).save_pretrained(folder)
sorted(file.name for file in folder.iterdir())

# %% [markdown]
# A folder of CLIP holds these files, whatever its size. transformers' class gives the scaled
# cosines of captions and pictures; sentence-transformers reads the same folder and gives the
# vectors.

# %%
from sentence_transformers import SentenceTransformer

from embkit.data.images import open_picture

clip = CLIPModel.from_pretrained(folder)
processor = CLIPProcessor.from_pretrained(folder)
images = [open_picture(picture) for picture in pictures]  # PIL's
ready = processor(text=captions, images=images, return_tensors="pt", padding=True)
with torch.no_grad():
    theirs = clip(**ready).logits_per_text / clip.logit_scale.exp()  # (4, 4)
model = SentenceTransformer(str(folder))
T, P = (model.encode(x, normalize_embeddings=True) for x in (captions, images))
print(model.modalities, np.abs(T @ P.T - theirs.numpy()).max())

# %% tags=["hide"]
assert np.abs(T @ P.T - theirs.numpy()).max() < 1e-4

# %% [markdown]
# The two agree, to rounding. Training it with sentence-transformers alone: captions and pictures
# in a data set, the ranking loss in both directions, eight steps on 64 pairs.

# %%
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer as Trainer
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
from sentence_transformers.sentence_transformer import losses

few = ek.Recipe(model=str(folder), approach="clip", batch_size=64, max_pairs=64,
                epochs=8, learning_rate=1e-3)
rows = ek.training_pairs(few, domain).dataset()
shown = [open_picture(picture) for picture in rows["positive"][:]]
data = Dataset.from_dict({"anchor": rows["anchor"][:], "positive": shown})
both = losses.MultipleNegativesRankingLoss(
    model, scale=clip.logit_scale.exp().item(), partition_mode="per_direction",
    directions=("query_to_doc", "doc_to_query"),
)

# %%
from embkit.session import precision_flags

slower = {r"vision_model\.": 2e-4, r"text_model\.": 5e-5}  # than the projections
arguments = Arguments(
    str(folder / "trained"), num_train_epochs=8, per_device_train_batch_size=64,
    learning_rate=1e-3, learning_rate_mapping=slower, warmup_steps=0.1, seed=few.seed,
    batch_sampler="no_duplicates",
    report_to="none", save_strategy="no", disable_tqdm=True,
    use_cpu=model.device.type == "cpu", **precision_flags(),
)
trainer = Trainer(model=model, args=arguments, train_dataset=data, loss=both)
mean_loss = trainer.train().training_loss
print(f"mean loss {mean_loss:.3f}; of equal cosines, {np.log(64):.3f}")

# %% [markdown]
# The kit's short form is the recipe above. It differs in one thing: it trains the scale with the
# weights, as CLIP does. So the two models are close, and not the same:

# %%
trained = {"by its class": model.eval(), "by a recipe": ek.train(few, domain).model()}
asked = [domain.queries[query] for query in domain.qrels[to_image]][:64]
library, kit, start = (
    one.encode(asked, normalize_embeddings=True)
    for one in (*trained.values(), SentenceTransformer(str(folder)))
)
pd.Series({
    "by its class, by a recipe": (library * kit).sum(axis=1).mean(),
    "by its class, untrained": (library * start).sum(axis=1).mean(),
}, name="mean cosine").to_frame().round(4)

# %% [markdown]
# Does it find anything?

# %%
random_clip = ek.evaluate(str(folder), domain, name="small CLIP, random")
few_steps = ek.evaluate(trained["by a recipe"], domain, name="small CLIP, 8 steps")
table(random_clip, few_steps, ridge).round(3)

# %% [markdown]
# Next to nothing, as random weights should. Where you have the hub or a folder,
# `"openai/clip-vit-base-patch32"` or a SigLIP takes the small one's place: `ek.evaluate` then
# gives its zero-shot row, and the same recipe tunes it.
#
# ## Two towers, by the library's class
#
# CLIP is one network. Two networks that never met are joined by sentence-transformers' `Router`:
# it looks at what comes in, and sends texts one way and pictures another. A `Dense` layer brings
# MiniLM's 384 numbers to the 32 of the small CLIP.

# %%
from sentence_transformers.sentence_transformer.modules import Dense, Router

words = ek.load_model("minilm")  # a Transformer, a Pooling, …
joined = Router(
    {"text": [words[0], words[1], Dense(384, 32, activation_function=None)],
     "image": [model[0]]},
    default_route="text",
)
towers = SentenceTransformer(modules=[joined])
towers.modalities, towers.encode(captions).shape, towers.encode(images).shape

# %% [markdown]
# Texts and pictures are vectors of one length now, in spaces that still have nothing in common:
# the ridge, or training, has to bring them together. The kit's `"towers"` are one module, since
# its image tower is no network of transformers.

# %% [markdown]
# ## What we saw

# %% tags=["hide"]
def told(split):
    mrr, recall = (gained.loc[(split, m)] for m in chance)
    return (
        f"`{split}`: MRR {mrr['gain']:+.3f} [{mrr['from']:+.3f}, {mrr['to']:+.3f}], "
        f"recall@10 {recall['gain']:+.3f} [{recall['from']:+.3f}, {recall['to']:+.3f}]"
    )


searches = {"shuffled": control, "random": random_clip, "few": few_steps}
mrr = {name: f"{one.mean(to_image, 'mrr@10'):.3f}" for name, one in searches.items()}

# %% tags=["hide"]
Markdown(
    f"- chance finds the right icon among ten in {chance['recall@10']:.1%} of "
    f"searches; the better baseline is {frozen.label}\n"
    f"- both towers, two epochs, against it: {told(to_image)}; {told(to_text)}\n"
    f"- the loss of four pairs: {by_hand:.4f} by hand, {by_library:.4f} by its class\n"
    f"- the gap: {', '.join(f'{name} {gap:.2f}' for name, gap in gaps.items())}\n"
    f"- with shuffled captions, MRR is {mrr['shuffled']}, by chance "
    f"{chance['mrr@10']:.3f}\n"
    f"- a small CLIP of random weights has MRR {mrr['random']}, after eight steps "
    f"{mrr['few']}\n"
    f"- fifty test queries would report a gain from {low:+.3f} to {high:+.3f}"
)

# %% [markdown]
# ## Exercises
#
# **1.** What is the symmetric loss of a batch of 64 if all cosines are equal?

# %% tags=["solution"]
answer_1 = np.log(64)
answer_1

# %%
ek.exercises.check(
    "1", answer_1, lambda a: abs(a - np.log(64)) < 1e-3,
    hint="each row's softmax is 1/64 everywhere",
    right="both directions say the same: nothing is known yet",
)

# %% [markdown]
# **2.** Move every picture of `clouds["both towers"]` so that the two centres meet, and bring
# the vectors to length 1 again. What is the gap then?

# %% tags=["solution"]
texts, images = clouds["both towers"]
moved = images - images.mean(axis=0) + texts.mean(axis=0)
moved = moved / np.linalg.norm(moved, axis=1, keepdims=True)
answer_2 = ek.space.modality_gap(texts, moved)
answer_2


# %%
def centred(a):
    texts, images = clouds["both towers"]
    moved = images - images.mean(axis=0) + texts.mean(axis=0)
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return abs(a - ek.space.modality_gap(texts, moved)) < 1e-4


ek.exercises.check("2", answer_2, centred, hint="subtract a mean, add the other")

# %% [markdown]
# **3.** Of the thousand draws of fifty, which share reports less than the gain on all test
# queries?

# %% tags=["solution"]
answer_3 = np.mean(np.array(fifty) < delta.mean())
answer_3

# %%
ek.exercises.check(
    "3", answer_3,
    lambda a: abs(a - np.mean(np.array(fifty) < delta.mean())) < 1e-9,
    hint="np.mean of a comparison is a share",
)

# %% [markdown]
# ## Further reading
#
# - Radford et al. 2021, *Learning Transferable Visual Models From Natural Language
#   Supervision* (CLIP), <https://arxiv.org/abs/2103.00020>
# - Zhai et al. 2022, *LiT: Zero-Shot Transfer with Locked-image text Tuning*,
#   <https://arxiv.org/abs/2111.07991>
# - Liang et al. 2022, *Mind the Gap*, on the modality gap, <https://arxiv.org/abs/2203.02053>
# - Zhai et al. 2023, *Sigmoid Loss for Language Image Pre-Training* (SigLIP),
#   <https://arxiv.org/abs/2303.15343>
# - next: `11_embedding_space`
