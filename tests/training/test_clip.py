"""Two towers: the loss, the ridge start, what is trained, save and reload; a tiny real CLIP."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from embkit import evaluate, load_model, train
from embkit.assets import TOWERS
from embkit.assets.efficientnet import WEIGHTS, ImageTower, nudge
from embkit.data.images import keep_picture
from embkit.data.sources.captioned import TO_IMAGE, Captioned, domain_of
from embkit.errors import EmbkitError
from embkit.losses.clip import SharedSpaceLoss, right_as_well, symmetric_loss
from embkit.models.clip import PictureReader
from embkit.models.encoding import encode
from embkit.recipes.recipe import PICTURES, Recipe, preset
from embkit.recipes.script import stock_script
from embkit.space.geometry import modality_gap
from embkit.training.clip import copy_captions, is_trained, ridge_start
from embkit.widgets import Gallery
from tests.benchmarks.picture_table import chance, markdown, measure

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 40), "blue": (30, 60, 220), "grey": (120,) * 3}
SHAPES = ("ear", "eye", "heart", "bone", "lung", "skin")  # words that the tiny text model knows


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Towers this small gain nothing by more, and lose much where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shapes(own_folders):
    """24 pictures: six shapes in four colours, each with a caption of its own."""
    rows = []
    for s, shape in enumerate(SHAPES):
        for name, colour in COLOURS.items():
            image = Image.new("RGB", (32, 32), "white")
            ImageDraw.Draw(image).regular_polygon((16, 16, 6 + 2 * (s % 3)), 3 + s, fill=colour)
            key = f"{name} {shape}"
            rows.append(Captioned(key, key, keep_picture(image), key))
    return domain_of("shapes", "smoke", rows, shares={"test": 0.25, "dev": 0.2})


@pytest.fixture(scope="session")
def tower_folder(tmp_path_factory, tiny_model):
    """Towers of a random image tower and the tiny text model."""
    folder = tmp_path_factory.mktemp("towers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = ImageTower().state_dict()
    save_file({f"image.{k}": v.contiguous() for k, v in weights.items()}, folder / WEIGHTS)
    (folder / TOWERS).write_text(json.dumps({"size": 32, "text": str(tiny_model)}))
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A raw CLIP folder with tiny random weights, its tokenizer and its picture processor."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    from transformers.models.clip import CLIPImageProcessorPil, CLIPProcessor

    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4}
    ends = {"bos_token_id": len(pieces) - 2, "eos_token_id": len(pieces) - 1}
    config = CLIPConfig(
        text_config={**sizes, **ends, "vocab_size": len(pieces), "max_position_embeddings": 77},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    small = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessorPil(**small), tokenizer).save_pretrained(folder)
    return folder


def recipe(folder, **changes):
    settings = {"model": str(folder), "approach": "clip", "batch_size": 8, "epochs": 2}
    return Recipe(**settings | changes)


def test_the_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-2))]
    columns = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(-3))]
    assert symmetric_loss(logits).item() == pytest.approx(sum(rows + columns) / 4, abs=1e-6)


def test_what_is_right_as_well_counts_neither_way():
    labels = torch.tensor([[5, 7, -1], [7, 5, -1], [9, -1, -1]])  # two texts share two pictures
    also = right_as_well(labels)
    assert also.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    logits = torch.tensor([[2.0, 9, 0], [9, 3.0, 1], [0.5, -1, 1.0]])
    softmax = [(2, 0), (3, 1), (1, 0.5, -1), (2, 0.5), (3, -1), (1, 0, 1)]  # rows, then columns
    by_hand = [
        math.log(sum(math.exp(x - right) for x in (right, *rest))) for right, *rest in softmax
    ]
    assert symmetric_loss(logits, also).item() == pytest.approx(sum(by_hand) / 6, abs=1e-5)


def test_several_right_pictures_are_told_to_the_loss(shapes, tower_folder):
    from dataclasses import replace

    from embkit.training.trainer import training_pairs

    assert "label" not in training_pairs(recipe(tower_folder), shapes).dataset().column_names
    train_split = {q: dict(j) for q, j in shapes.qrels["train"].items()}
    (first, judged), (_, other) = list(train_split.items())[:2]
    judged |= other
    several = replace(shapes, qrels=dict(shapes.qrels) | {"train": train_split})
    rows = training_pairs(recipe(tower_folder), several)
    labels = torch.tensor(rows.places())
    assert right_as_well(labels).sum() == 3  # first's two rows, and its picture in other's row
    assert train(recipe(tower_folder, trained_parts="projections", epochs=1), several, quiet=True)


def test_a_batch_norm_keeps_its_statistics_and_frozen_blocks_their_weights():
    tower = ImageTower()
    tower.frozen = 3
    tower.train()
    before = tower.stem.norm.running_mean.clone()
    pictures = torch.randint(0, 255, (2, 32, 32, 3), dtype=torch.uint8)
    tower(pictures).sum().backward()
    assert torch.equal(before, tower.stem.norm.running_mean)
    assert tower.stem.weight.grad is None and tower.blocks[2].project.weight.grad is None
    assert tower.blocks[3].project.weight.grad is not None


def test_padding_is_tensorflows():
    """One weight at the kernel's corner shows where the padding lies: at the end, if it is odd."""
    tower = ImageTower().eval()
    with torch.no_grad():
        tower.stem.weight.zero_()
        tower.stem.weight[:, 0, 2, 2] = 1
    x = torch.arange(16.0).view(1, 1, 4, 4).repeat(1, 3, 1, 1)
    found = tower.stem(x)[0, 0] * math.sqrt(1 + 1e-3)
    assert torch.allclose(found, torch.tensor([[10.0, 0], [0, 0]]), atol=1e-4)


def test_changes_are_mild_and_what_comes_in_is_white():
    torch.manual_seed(0)
    pictures = torch.ones(16, 3, 32, 32)
    assert torch.allclose(nudge(pictures), pictures, atol=1e-6)
    pictures[:, :, 12:20, 12:20] = -1
    moved = nudge(pictures)
    ink = (1 - moved).sum(dim=(1, 2, 3)) / (1 - pictures).sum(dim=(1, 2, 3))
    assert ((ink > 0.9**2) & (ink < 1.2**2)).all() and not torch.allclose(moved, pictures)


def test_towers_train_save_and_reload(tower_folder, shapes):
    run = train(recipe(tower_folder, learning_rate=1e-3), shapes, quiet=True)
    assert "both towers" in run.recipe.label and run.record["steps"] == 4
    model, again = run.model(), load_model(run.path / "model")
    pictures = [shapes.corpus[d] for d in shapes.documents(TO_IMAGE)]
    for inputs in (["red ear", "a blue heart"], pictures):
        vectors = encode(model, inputs, cache=False)
        assert vectors.shape == (len(inputs), 32)
        assert np.array_equal(vectors, encode(again, inputs, cache=False))
        assert np.allclose(vectors, model.encode(inputs, normalize_embeddings=True), atol=1e-5)
    started = load_model(tower_folder)
    for part in ("image.head.weight", "text.0.model.encoder.layer.0.output.dense.weight"):
        assert not torch.equal(model[0].state_dict()[part], started[0].state_dict()[part])
    assert model[0].logit_scale.item() != pytest.approx(math.log(20), abs=1e-9)
    row = evaluate(run, shapes).rows()[0]
    assert row["direction"] == "text_to_image" and row["corpus"] == 6
    assert not (run.path / "script.py").exists()


def test_ridge_alone_is_a_run_without_steps(tower_folder, shapes):
    run = train(recipe(tower_folder, trained_parts="none"), shapes, quiet=True)
    assert run.record["steps"] == 0 and run.record["trainable_params"] == 0
    model = load_model(tower_folder)
    pairs = [
        (shapes.queries[q], shapes.corpus[d]) for q, j in shapes.qrels["train"].items() for d in j
    ]
    ridge_start(model, pairs)
    inputs = [shapes.corpus[d] for d in shapes.documents(TO_IMAGE)]
    ours, kept = (encode(m, inputs, cache=False) for m in (model, run.model()))
    assert np.allclose(ours, kept, atol=1e-5)


TEXT, IMAGE = "0.text.0.model.encoder.layer.0.output.dense.weight", "0.image.blocks.4.norm.weight"
CLIP_TEXT = "0.model.text_model.encoder.layers.0.mlp.fc1.weight"
CLIP_IMAGE = "0.model.vision_model.encoder.layers.1.mlp.fc1.weight"
PROJECTIONS = ("0.text_projection.weight", "0.model.visual_projection.weight", "0.logit_scale")


@pytest.mark.parametrize(
    ("parts", "text", "image", "projections"),
    [
        ("all", True, True, True),
        ("projections", False, False, True),
        ("none", False, False, False),
    ],
)
def test_what_is_trained(parts, text, image, projections):
    chosen = Recipe(approach="clip", trained_parts=parts).clip
    assert [is_trained(n, chosen) for n in (TEXT, CLIP_TEXT)] == [text] * 2
    assert [is_trained(n, chosen) for n in (IMAGE, CLIP_IMAGE)] == [image] * 2
    assert [is_trained(n, chosen) for n in PROJECTIONS] == [projections] * 3
    frozen = Recipe(approach="clip", trained_parts=parts, frozen_stages=5).clip
    assert not is_trained(IMAGE, frozen) and not is_trained("0.image.stem.weight", frozen)
    assert is_trained("0.image.blocks.5.norm.weight", frozen) == image


def test_presets_of_pictures_have_labels_of_their_own():
    assert len({preset(name).label for name in PICTURES}) == len(PICTURES)
    with pytest.raises(EmbkitError, match="need embkit's towers"):
        stock_script(preset("both towers"))


def test_copied_captions_are_the_neighbours(shapes, tower_folder, tiny_model, monkeypatch):
    folders = {"towers": tower_folder, "minilm": tiny_model}
    monkeypatch.setattr(
        "embkit.models.loading.load_model",
        lambda name, **options: load_model(folders.get(str(name), name), **options),
    )
    copied = copy_captions(shapes, k=1)
    query, document = next((q, d) for q, j in shapes.qrels["train"].items() for d in j)
    picture, caption = copied([shapes.corpus[document]]), copied([shapes.queries[query]])
    cosine = (picture[0] @ caption[0]) / np.linalg.norm(picture) / np.linalg.norm(caption)
    assert cosine == pytest.approx(1, abs=1e-4)  # a training picture's nearest is itself


def test_chance_is_what_an_order_by_lot_scores(shapes):
    rng = np.random.default_rng(0)
    by_lot = []
    for _ in range(4000):
        places = rng.permutation(6) + 1
        by_lot.append(1 / places[:2].min())  # two of six are right
    split = {"q": dict.fromkeys(shapes.documents(TO_IMAGE)[:2], 1)}
    query = next(iter(shapes.qrels[TO_IMAGE]))
    found = chance(with_split(shapes, {query: split["q"]}), TO_IMAGE)
    assert found["mrr@10"] == pytest.approx(np.mean(by_lot), abs=0.02)
    assert found["recall@10"] == 1  # all six are among ten


def with_split(domain, judged):
    from dataclasses import replace

    return replace(domain, qrels=dict(domain.qrels) | {TO_IMAGE: judged})


def test_the_table_of_pictures(shapes, tower_folder, tiny_model, monkeypatch):
    folders = {"towers": tower_folder, "minilm": tiny_model}
    monkeypatch.setattr(
        "embkit.models.loading.load_model",
        lambda name, **options: load_model(folders.get(str(name), name), **options),
    )
    frozen = recipe(tower_folder, trained_parts="none")
    rows = measure(shapes, {"again": frozen.replace(seed=1)}, ridge=frozen, quiet=True)
    named = [(row["split"], row["approach"]) for row in rows]
    approaches = ["chance", "ridge", "copied captions", "again"]
    assert named == [(split, a) for split in shapes.test_splits for a in approaches]
    row = rows[3]
    best = max(rows[1:3], key=lambda r: r["mrr@10"])
    assert row["mrr@10 gain"]["over"] == best["approach"]
    assert row["mrr@10 gain"]["delta"] == pytest.approx(row["mrr@10"] - best["mrr@10"])
    lines = markdown(rows).splitlines()
    assert len(lines) == 2 + len(rows) and lines[5].count("p ") == 2
    assert len({line.count("|") for line in lines}) == 1


def test_captions_of_one_picture_count_once(shapes, tower_folder, tiny_model, monkeypatch):
    """Its neighbour is the nearest picture, and what is copied the mean of its captions."""
    from dataclasses import replace

    folders = {"towers": tower_folder, "minilm": tiny_model}
    monkeypatch.setattr(
        "embkit.models.loading.load_model",
        lambda name, **options: load_model(folders.get(str(name), name), **options),
    )
    query, judged = next(iter(shapes.qrels["train"].items()))
    queries = dict(shapes.queries) | {"second": "red skin lung"}
    more = dict(shapes.qrels["train"]) | {"second": dict(judged)}
    several = replace(shapes, queries=queries, qrels=dict(shapes.qrels) | {"train": more})
    copied = copy_captions(several, k=1)
    picture = copied([several.corpus[next(iter(judged))]])[0]
    mean = copied([queries[query], queries["second"]]).mean(axis=0)
    assert picture @ mean / np.linalg.norm(picture) / np.linalg.norm(mean) == pytest.approx(1)


def test_the_gap_of_two_clouds():
    texts, pictures = np.array([[1.0, 0], [1, 0]]), np.array([[0.0, 1], [0, 1]])
    assert modality_gap(texts, pictures) == pytest.approx(math.sqrt(2))
    assert modality_gap(texts, texts) == 0


def test_texts_and_pictures_never_share_a_batch(tower_folder, shapes):
    model = load_model(tower_folder)
    picture = next(iter(shapes.corpus.values()))
    with pytest.raises(EmbkitError, match="one batch"):
        model.preprocess(["red ear", picture])
    both = encode(model, ["red ear", picture], cache=False)  # in two batches
    assert np.allclose(both[1], encode(model, [picture], cache=False)[0], atol=1e-5)


def test_words_need_a_model_that_reads_pictures(tiny_model, shapes):
    with pytest.raises(EmbkitError, match="reads no pictures"):
        train(recipe(tiny_model), shapes, quiet=True)


def test_a_real_clip_end_to_end(clip_folder, shapes, tmp_path):
    zero_shot = evaluate(clip_folder, shapes)
    assert zero_shot.rows()[0]["direction"] == "text_to_image"
    run = train(recipe(clip_folder, learning_rate=1e-2), shapes, quiet=True)
    model, again = run.model(), load_model(run.path / "model")
    assert isinstance(model, PictureReader) and model.modalities[:2] == ["text", "image"]
    inputs = [shapes.corpus[d] for d in shapes.documents(TO_IMAGE)]
    vectors = encode(model, inputs, cache=False)
    assert np.array_equal(vectors, encode(again, inputs, cache=False))
    assert not np.allclose(vectors, encode(load_model(clip_folder), inputs, cache=False))
    first, second = evaluate(run, shapes), evaluate(again, shapes, name="again", save=False)
    assert first.mean(TO_IMAGE) == second.mean(TO_IMAGE)
    real = tmp_path / "red.png"
    Image.new("RGB", (32, 32), "red").save(real)
    said = encode(model, [str(real), "https://x.test/a.png", "data:image/png;base64,AA"])
    as_picture = encode(model, [keep_picture(Image.new("RGB", (32, 32), "red"))])
    assert not np.allclose(said, as_picture, atol=1e-3)  # texts, not pictures


def test_a_clips_projections_alone(clip_folder, shapes):
    chosen = recipe(clip_folder, trained_parts="projections", epochs=1)
    run = train(chosen, shapes, quiet=True)
    before, after = (m.state_dict() for m in (load_model(clip_folder), run.model()))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("projection" in n or "logit_scale" in n for n in changed)
    assert run.record["trainable_params"] == 2 * 32 * 16 + 1


def test_towers_have_no_adapters(tower_folder):
    with pytest.raises(EmbkitError, match="lora_rank=2") as caught:
        recipe(tower_folder, lora_rank=2)
    assert "lora_rank=0" in caught.value.hint


def test_the_loss_trains_a_models_own_temperature(clip_folder, tiny_model):
    clip = load_model(clip_folder)
    own = dict(clip.named_parameters())
    name = next(n for n in own if n.endswith("logit_scale"))
    assert SharedSpaceLoss(clip).logit_scale is own[name]
    fresh = SharedSpaceLoss(load_model(tiny_model), temperature=0.1).logit_scale
    assert fresh.exp().item() == pytest.approx(10)


def test_the_gallery_searches_picks_and_shows_what_goes_wrong(tower_folder, shapes):
    gallery = Gallery({"start": load_model(tower_folder)}, shapes, "red <b>ear</b>", k=3)
    ((name, row),) = gallery.found
    assert name == "start" and len(row) == 3 and row[0]["picture"].startswith("data:image/png")
    gallery._handle_custom_msg({"pick": 1, "row": "start"}, [])
    ((_, words),) = gallery.words
    assert len(words) == 5 and set(words) <= set(shapes.queries.values())
    assert "&lt;b&gt;" in gallery.still() and "<b>ear" not in gallery.still()
    gallery._handle_custom_msg({"search": "  "}, [])
    assert "Not done" in gallery.message and gallery.error is not None
    gallery.search("blue eye")
    assert gallery.error is None and gallery.query == "blue eye"
    assert "text/html" in gallery._repr_mimebundle_()[0]
    with pytest.raises(EmbkitError, match="0 models"):
        Gallery({}, shapes)
