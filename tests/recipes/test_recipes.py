"""Recipe: frozen, checked when made, hashed by value, written as JSON and as a plain script."""

import ast
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from embkit import session
from embkit.errors import EmbkitError
from embkit.recipes.checks import APPROACHES, CHOICES, HABITS
from embkit.recipes.recipe import RETIRED, VERSION, Recipe, preset
from embkit.recipes.script import stock_script
from embkit.recipes.settings import matryoshka_sizes
from embkit.recipes.views import TAUGHT

OUTSIDE = [
    ("epochs", 0),
    ("epochs", -1),
    ("epochs", 1001),
    ("batch_size", 1),
    ("batch_size", 65537),
    ("learning_rate", 0.0),
    ("learning_rate", -1e-4),
    ("learning_rate", 1.5),
    ("temperature", 0.0),
    ("temperature", 11.0),
    ("warmup_ratio", -0.1),
    ("warmup_ratio", 1.1),
    ("weight_decay", -0.1),
    ("weight_decay", 2.0),
    ("dropout", -0.1),
    ("dropout", 1.0),
    ("max_length", 3),
    ("max_length", 10**6),
    ("max_pairs", 1),
    ("seed", -1),
    ("seed", 2**32),
]
WRONG_TYPE = [
    ("epochs", 1.5),
    ("epochs", "3"),
    ("epochs", None),
    ("batch_size", 64.0),
    ("learning_rate", "1e-4"),
    ("learning_rate", None),
    ("learning_rate", float("nan")),
    ("temperature", float("inf")),
    ("max_length", 64.5),
    ("max_pairs", 100.5),
    ("max_pairs", float("inf")),
    ("shuffle_labels", 1),
    ("shuffle_labels", "yes"),
    ("seed", 1.0),
    ("seed", None),
]
BOOL = ["epochs", "batch_size", "learning_rate", "temperature", "warmup_ratio", "dropout", "seed"]


def test_a_recipe_cannot_be_changed():
    recipe = Recipe()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 5
    assert len({recipe, Recipe(), Recipe(epochs=5)}) == 2


@pytest.mark.parametrize("name, value", OUTSIDE + WRONG_TYPE + [(name, True) for name in BOOL])
def test_a_value_that_does_not_fit_is_refused_by_name(name, value):
    with pytest.raises(EmbkitError, match=f"Recipe\\({name}=") as caught:
        Recipe(**{name: value})
    assert name in caught.value.hint
    with pytest.raises(EmbkitError, match=name):
        Recipe().replace(**{name: value})


@pytest.mark.parametrize("name, value", OUTSIDE)
def test_the_error_says_the_limit_that_was_passed(name, value):
    limits = next(f.metadata for f in dataclasses.fields(Recipe) if f.name == name)
    passed = limits["low"] if value < limits["low"] else limits["high"]
    with pytest.raises(EmbkitError) as caught:
        Recipe(**{name: value})
    assert str(passed) in caught.value.expected


def test_the_limits_themselves_are_allowed():
    for knob in dataclasses.fields(Recipe):
        need = {"passage_size": 32768} if knob.name == "passage_overlap" else {}
        for limit in (knob.metadata["low"], knob.metadata["high"]):
            if limit is not None:
                assert getattr(Recipe(**need, **{knob.name: limit}), knob.name) == limit


def test_what_is_optional_may_be_none():
    recipe = Recipe(dropout=None, max_length=None, max_pairs=None)
    assert (recipe.dropout, recipe.max_length, recipe.max_pairs) == (None, None, None)


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(EmbkitError, match="did you mean 'learning_rate'"):
        Recipe().replace(learning_rat=1e-4)
    with pytest.raises(EmbkitError, match="did you mean 'epochs'"):
        Recipe.from_json('{"epoch": 1}')


def test_an_unknown_field_names_the_nearest_when_a_recipe_is_made():
    with pytest.raises(EmbkitError, match="did you mean 'learning_rate'"):
        Recipe(learning_rat=1e-4)


@pytest.mark.parametrize(
    "name, value, nearest",
    [("approach", "contrastiv", "contrastive"), ("lr_scheduler_type", "linaer", "linear")],
)
def test_an_unknown_choice_names_the_nearest(name, value, nearest):
    with pytest.raises(EmbkitError, match=f"did you mean {nearest!r}"):
        Recipe(**{name: value})


def test_replace_leaves_the_first_as_it_was():
    first = Recipe()
    second = first.replace(temperature=0.02, epochs=1)
    assert first == Recipe() and second == Recipe(temperature=0.02, epochs=1)


def test_diff_tells_the_others_value_and_this_ones():
    first, second = Recipe(epochs=1, seed=1), Recipe(epochs=2, seed=1)
    assert second.diff(first) == {"epochs": (1, 2)}
    assert first.diff(second) == {"epochs": (2, 1)}
    assert first.diff(Recipe(epochs=1, seed=1)) == {}


def test_each_field_changes_the_hash():
    other = {
        "model": "another",
        "epochs": 7,
        "batch_size": 64,
        "mini_batch_size": 16,
        "gradient_checkpointing": True,
        "learning_rate": 1e-5,
        "temperature": 0.07,
        "warmup_ratio": 0.2,
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.01,
        "dropout": 0.3,
        "max_length": 64,
        "max_pairs": 100,
        "passage_size": 128,
        "shuffle_labels": True,
        "seed": 43,
        "pairs": ("lay",),
        "unique_in_batch": "families",
        "hard_negatives": 2,
        "miner": "bm25",
        "range_min": 5,
        "range_max": 60,
        "relative_margin": 0.05,
        "keep_relatives": True,
        "reranker_filter": "reranker",
        "sampling": "random",
        "hidden_positives": 0.1,
        "lora_rank": 4,
        "lora_alpha": 16.0,
        "lora_targets": ("query",),
        "hardness": 1.0,
        "margin": 0.3,
        "guide": "another",
        "in_batch_weight": 0.25,
        "matryoshka": (64, 32),
        "query_prompt": "ask: ",
        "document_prompt": "code: ",
        "teacher": "another",
        "teacher_temperature": 0.1,
        "teacher_share": 0.25,
        "layers": 3,
        "trained_parts": "projections",
        "frozen_stages": 2,
    }
    names = {f.name for f in dataclasses.fields(Recipe)}
    assert other.keys() <= names
    lora = {"lora_variant": "rslora", "lora_plus": 16.0, "quantize": "nf4"}
    cut = {"passage_overlap": 32, "passage_headings": True, "passage_choice": "first"}
    assert names - other.keys() == {"approach", "unlabeled_texts", *lora, *cut}
    hashes = {Recipe().hash} | {Recipe(**{name: value}).hash for name, value in other.items()}
    need = {"triplet": {"hard_negatives": 1}} | dict.fromkeys(
        TAUGHT, {"teacher": "another", "unlabeled_texts": "documents"}
    )
    lists = {"teacher": "another", "hard_negatives": 1}
    need |= {"kl": lists, "margin_mse": lists}
    hashes |= {Recipe(approach=name, **need.get(name, {})).hash for name in APPROACHES}
    hashes.add(Recipe(approach="distill", teacher="another").hash)
    hashes |= {Recipe(lora_rank=4, **{name: value}).hash for name, value in lora.items()}
    hashes |= {Recipe(passage_size=128, **{name: value}).hash for name, value in cut.items()}
    assert len(hashes) == len(other) + len(lora) + len(cut) + len(APPROACHES) + 1
    assert all(len(h) == 12 and int(h, 16) >= 0 for h in hashes)


@pytest.mark.parametrize(
    "name, whole", [("learning_rate", 1), ("warmup_ratio", 0), ("weight_decay", 1), ("dropout", 0)]
)
def test_a_whole_number_and_the_same_float_are_one_recipe(name, whole):
    a, b = Recipe(**{name: whole}), Recipe(**{name: float(whole)})
    assert a == b and hash(a) == hash(b) and a.hash == b.hash and not a.diff(b)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(learning_rate=0.1 + 0.2, temperature=1 / 3, seed=2**32 - 1),
        Recipe(model="a folder/with 'quotes' and ünïcode", dropout=None, max_pairs=2),
        Recipe(
            lr_scheduler_type=CHOICES["lr_scheduler_type"][-1],
            shuffle_labels=True,
            max_length=32,
            dropout=0.1,
        ),
    ],
)
def test_json_gives_the_recipe_back(recipe):
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe and again.hash == recipe.hash
    assert json.loads(recipe.to_json())["epochs"] == recipe.epochs


def test_json_of_an_older_recipe_takes_the_defaults():
    assert Recipe.from_json('{"epochs": 2}') == Recipe(epochs=2)


def test_json_of_an_older_recipe_may_hold_fields_that_are_retired():
    old = json.loads(Recipe(epochs=2).to_json()) | RETIRED
    assert Recipe.from_json(json.dumps(old)).hash == Recipe(epochs=2).hash
    assert not set(RETIRED) & {f.name for f in dataclasses.fields(Recipe)}
    trained = {"augment": 0.5, "lora_init": "pissa", "corpus_sample": 100}  # it was, with that
    for name, value in trained.items():
        with pytest.raises(EmbkitError, match=f"unknown recipe field '{name}'"):
            Recipe.from_json(json.dumps(old | {name: value}))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "3", "null", '"epochs"'])
def test_text_that_is_no_recipe_is_one_clear_error(text):
    with pytest.raises(EmbkitError, match="no recipe"):
        Recipe.from_json(text)


def test_json_with_a_wrong_value_is_one_clear_error():
    with pytest.raises(EmbkitError, match="epochs"):
        Recipe.from_json('{"epochs": "three"}')


def test_a_folder_may_be_given_as_a_path():
    assert Recipe(model=Path("some") / "model") == Recipe(model=str(Path("some") / "model"))


def test_the_label_tells_the_control_apart():
    assert Recipe().label != Recipe(shuffle_labels=True).label


def arguments(script):
    """The keyword arguments of the script's training arguments, and all calls' names."""
    calls = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Call)]
    (call,) = [
        c for c in calls if getattr(c.func, "id", "") == "SentenceTransformerTrainingArguments"
    ]
    return {
        k.arg: k.value.value if isinstance(k.value, ast.Constant) else k.value
        for k in call.keywords
    }


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(learning_rate=1e-5, epochs=2, seed=9, lr_scheduler_type="cosine", weight_decay=0.01),
        Recipe(dropout=None, max_length=64, temperature=1 / 3),
        Recipe(dropout=None, max_length=None, shuffle_labels=True, max_pairs=10),
    ],
)
def test_the_script_compiles_needs_no_embkit_and_holds_the_values(recipe):
    script = recipe.to_script()
    compile(script, "script.py", "exec")
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse(script))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == {"sys", "torch", "datasets", "sentence_transformers"}
    found = arguments(script)
    assert found["num_train_epochs"] == recipe.epochs
    assert found["per_device_train_batch_size"] == recipe.batch_size
    assert found["learning_rate"] == recipe.learning_rate
    assert found["lr_scheduler_type"] == recipe.lr_scheduler_type
    assert found["weight_decay"] == recipe.weight_decay
    assert found["seed"] == recipe.seed
    assert f"scale={1 / recipe.temperature!r}" in script
    assert ("model.max_seq_length = " in script) == (recipe.max_length is not None)
    assert ("module.p" in script) == (recipe.dropout is not None)


@pytest.mark.parametrize(
    "precision, flags", [("fp32", set()), ("bf16", {"bf16"}), ("fp16", {"fp16"})]
)
def test_the_script_sets_the_precision_that_is_asked_for(monkeypatch, precision, flags):
    monkeypatch.setenv("EMBKIT_PRECISION", precision)
    found = arguments(stock_script(Recipe()))
    assert {"bf16", "fp16"} & found.keys() == flags


@pytest.mark.parametrize(
    "model",
    ["C:\\Users\\new\\model", '/models/it\'s "quoted"', "models/x{}y", 'ends with "', "a\nb"],
)
def test_the_script_compiles_whatever_the_folder_is_called(model):
    compile(Recipe(model=model).to_script(), "script.py", "exec")


def test_the_table_shows_what_differs_from_the_nearest_preset_and_escapes():
    page = Recipe(model="<script>", epochs=7)._repr_html_()
    assert "<script>" not in page and "epochs" in page and "seed" not in page
    assert Recipe(epochs=7).table().cells == [
        ["epochs", "3", "7", "passes over the training pairs"]
    ]


PINNED = """
approach batch_size document_prompt dropout epochs frozen_stages guide
hard_negatives hardness
hidden_positives in_batch_weight keep_relatives layers learning_rate lora_alpha lora_plus
lora_rank lora_targets lora_variant lr_scheduler_type margin matryoshka max_length max_pairs
miner model pairs quantize query_prompt range_max range_min relative_margin reranker_filter
sampling seed shuffle_labels
teacher teacher_share teacher_temperature temperature trained_parts unique_in_batch
unlabeled_texts warmup_ratio weight_decay
"""  # fields whose defaults the test below knows


def test_a_field_that_comes_later_changes_no_hash_and_a_changed_default_is_noticed():
    """The hash leaves out what is at its default, so a default may only change with VERSION."""
    values = json.loads(Recipe().to_json())
    pinned = json.dumps([values[name] for name in PINNED.split()])
    digest = hashlib.sha256(pinned.encode()).hexdigest()[:12]
    assert (VERSION, digest) == (1, "9ffc2dbe5e53"), "a default changed: raise recipe.VERSION"
    assert Recipe().hash == hashlib.sha256(b"[1, {}]").hexdigest()[:12]


def test_a_recipe_of_the_retired_approach_cached_is_what_it_was():
    old = json.dumps({"approach": "cached", "batch_size": 512, "temperature": 0.02})
    now = Recipe.from_json(old)
    assert now == Recipe(mini_batch_size=32, batch_size=512, temperature=0.02)
    given = now.to_script().split("loss = ")[1].split("\n")[0]
    assert given.startswith("losses.CachedMultipleNegativesRankingLoss(model, scale=50.0, mini_b")


@pytest.mark.parametrize(
    "given, right",
    [
        ({"lr": 1e-5}, {"learning_rate": 1e-5}),
        ({"scale": 20}, {"temperature": 0.05}),
        ({"loss": "MultipleNegativesRankingLoss"}, {"approach": "contrastive"}),
        ({"approach": "CachedMultipleNegativesRankingLoss"}, {"approach": "contrastive"}),
        ({"approach": "cached"}, {"approach": "contrastive"}),
        ({"num_train_epochs": 2}, {"epochs": 2}),
        ({"warmup": 0.2}, {"warmup_ratio": 0.2}),
        ({"warmup_steps": 100}, {"warmup_ratio": 0.1}),
        ({"max_seq_length": 64}, {"max_length": 64}),
        ({"target_modules": ["query"]}, {"lora_targets": ("query",)}),
        ({"matryoshka_dims": [64, 32]}, {"matryoshka": (64, 32)}),
        ({"gradient_accumulation_steps": 4}, {"batch_size": 512}),
    ],
)
def test_what_people_type_from_habit_leads_to_the_right_field(given, right):
    with pytest.raises(EmbkitError) as caught:
        Recipe(**given)
    followed = eval(caught.value.hint, {"Recipe": Recipe, "recipe": Recipe()})
    assert followed == Recipe(**right)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_precision_is_no_field_and_the_hint_sets_it(name, monkeypatch):
    monkeypatch.setenv("EMBKIT_PRECISION", "fp32")
    with pytest.raises(EmbkitError) as caught:
        Recipe(**{name: True})
    exec(caught.value.hint, {"os": os})
    assert session.precision() == name


def test_every_habit_names_a_field_that_there_is():
    fields = {f.name for f in dataclasses.fields(Recipe)}
    assert set(HABITS.values()) <= fields and not set(HABITS) & fields


def test_a_field_of_several_values_takes_one_a_list_and_a_run(tmp_path):
    assert Recipe(pairs="lay").pairs == ("lay",) == Recipe(pairs=["lay"]).pairs
    assert Recipe(matryoshka=64).matryoshka == (64,) and Recipe(matryoshka=None).matryoshka == ()
    run = SimpleNamespace(path=tmp_path / "corpus-1-2")
    assert Recipe(teacher=[run, "bge-small"]).teacher == ("corpus-1-2", "bge-small")
    assert Recipe(teacher=Path("my") / "model").teacher == (str(Path("my") / "model"),)
    for wrong in ([1], [""], {"a": 1}, 3):
        with pytest.raises(EmbkitError, match="teacher="):
            Recipe(teacher=wrong)


def test_a_recipe_shows_how_to_make_it_again():
    for recipe in (Recipe(), preset("distilled, 3 layers"), Recipe(seed=1, dropout=None)):
        assert eval(repr(recipe), {"Recipe": Recipe}) == recipe
    assert repr(Recipe(epochs=1)) == "Recipe(epochs=1)"


def test_each_view_holds_the_values_of_its_fields_and_nothing_is_left_over():
    recipe = Recipe(
        approach="distill", teacher="bge-small", lora_rank=4, lora_plus=2.0, hard_negatives=3,
        temperature=0.02, epochs=5, query_prompt="ask: ", frozen_stages=2, max_pairs=9,
    )  # fmt: skip
    assert (recipe.lora.rank, recipe.lora.plus, recipe.lora.four_bits) == (4, 2.0, False)
    assert (recipe.mining.number, recipe.trainer.negatives) == (3, 3)
    assert recipe.loss.temperature == recipe.clip.temperature == 0.02
    assert recipe.teaching.teacher == ("bge-small",) and recipe.teaching.on
    assert recipe.trainer.prompts == {"query": "ask: "}
    assert recipe.trainer.by_column("ask: ", None) == {"anchor": "ask: "}
    assert recipe.replace(passage_size=64, approach="contrastive").passages.size == 64
    with pytest.raises(AttributeError):
        recipe.lora.rank = 8
    # each field is in a view, under its own name or another, or is read of the recipe itself
    parts = ("mining", "teaching", "passages", "loss", "lora", "trainer", "clip")
    views = [getattr(recipe, part) for part in parts]
    shown = {name.rpartition("=")[2] for view in views for name in view.reads.split()}
    own = {"pairs", "max_pairs", "unique_in_batch", "shuffle_labels"}  # by ``make_pairs``
    own |= {"query_prompt", "document_prompt"}
    names = {f.name for f in dataclasses.fields(Recipe)}
    assert names <= shown | own, "no field is read by nobody"


@pytest.mark.parametrize("sizes", ["", (32, 64), (64, 64), (64, 0), "many", (64.0, 32)])
def test_matryoshka_sizes_fall_from_the_largest(sizes):
    with pytest.raises(EmbkitError, match="384, 256, 128, 64, 32"):
        Recipe(matryoshka=sizes)


def test_presets_name_layers_and_sizes_of_their_own_model_alone():
    own = {"LoRA": "27a09de405cb", "QLoRA": "22e5d7c3c5bb", "Matryoshka": "9dcd8b0fe1fa"}
    assert (
        {name: preset(name).hash for name in own}
        == own
        == {name: preset(name, model="minilm").hash for name in own}
    )
    assert preset("LoRA", model="another").lora_targets == ("auto",)
    assert preset("Matryoshka", model="another").matryoshka == ("auto",)
    given = preset("Matryoshka", model="another", matryoshka=(64, 8))
    assert given.matryoshka == (64, 8)
    assert "Matryoshka by halves" in preset("Matryoshka", model="another").label
    assert Recipe(matryoshka="auto") == Recipe.from_json(Recipe(matryoshka="auto").to_json())
    sizes = [matryoshka_sizes(("auto",), dim) for dim in (768, 32, 5)]
    assert sizes == [(768, 384, 192, 96, 48), (32, 16, 8, 4, 2), (5, 2, 1)]
    with pytest.raises(EmbkitError, match="a list"):
        Recipe(matryoshka="halves")


def test_a_triplet_has_one_negative():
    with pytest.raises(EmbkitError, match="hard_negatives=1"):
        Recipe(approach="triplet")


@pytest.mark.parametrize("changes", [{"lora_variant": "dora"}, {"lora_plus": 4.0}])
def test_a_setting_of_lora_wants_lora(changes):
    (name,) = changes
    with pytest.raises(EmbkitError, match=f"lora_rank=0, {name}") as caught:
        Recipe(**changes)
    assert "lora_rank=4" in caught.value.hint
    assert Recipe(lora_rank=4, **changes).label != Recipe(lora_rank=4).label


def test_four_bits_cannot_be_trained_without_lora_nor_taken_apart():
    with pytest.raises(EmbkitError, match="lora_rank=0, quantize='nf4'"):
        Recipe(quantize="nf4")
    assert "QLoRA r4" in Recipe(lora_rank=4, quantize="nf4").label


@pytest.mark.parametrize("approach", ["corpus", "clip", *sorted(TAUGHT)])
def test_what_compares_whole_documents_cannot_be_trained_on_passages(approach):
    need = {"teacher": "another", "hard_negatives": 1 if approach in ("kl", "margin_mse") else 0}
    whole = Recipe(approach=approach, **(need if approach in TAUGHT else {}))
    with pytest.raises(EmbkitError, match="passage_size=128") as caught:
        whole.replace(passage_size=128)
    assert caught.value.hint == "recipe.replace(approach='contrastive')"


@pytest.mark.parametrize(
    "name, value",
    [("overlap", 32), ("overlap", 16383), ("headings", True), ("choice", "first")],
)
def test_a_setting_of_passages_without_passages_is_refused(name, value):
    with pytest.raises(EmbkitError, match="passage_size=None") as caught:
        Recipe(**{f"passage_{name}": value})
    followed = eval(caught.value.hint, {"recipe": Recipe()})
    assert followed.passage_size >= 128 and getattr(followed.passages, name) == value


def test_passages_overlap_by_less_than_half_and_the_label_names_them():
    with pytest.raises(EmbkitError, match="128 that share 64"):
        Recipe(passage_size=128, passage_overlap=64)
    cut = Recipe(passage_size=128, passage_overlap=63, passage_headings=True)
    assert cut.label == "contrastive, best passages of 128, 63 shared, headings"
    assert Recipe().passages.size is None and cut.passages.overlap == 63


def test_the_script_says_what_passages_it_trains_on():
    best = Recipe(passage_size=128, epochs=2).to_script()
    assert "passages of 128 word pieces" in best and "the nearest to each anchor" in best
    assert "chose anew at each later epoch" in best and "those of the first epoch" in best
    first = Recipe(passage_size=128, passage_choice="first").to_script()
    assert "the first of each" in first and "anew" not in first
    assert "passage" not in Recipe().to_script().lower()
