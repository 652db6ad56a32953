"""Recipe: frozen, checked when made, hashed by value, written as JSON and as a plain script."""

import ast
import dataclasses
import json
from pathlib import Path

import pytest

from embkit.errors import EmbkitError
from embkit.recipes.recipe import APPROACHES, CHOICES, TAUGHT, Recipe
from embkit.recipes.script import stock_script

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
    ("warmup", -0.1),
    ("warmup", 1.1),
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
BOOL = ["epochs", "batch_size", "learning_rate", "temperature", "warmup", "dropout", "seed"]


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
        for limit in (knob.metadata["low"], knob.metadata["high"]):
            if limit is not None:
                assert getattr(Recipe(**{knob.name: limit}), knob.name) == limit


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
    [("approach", "contrastiv", "contrastive"), ("schedule", "linaer", "linear")],
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
        "learning_rate": 1e-5,
        "temperature": 0.07,
        "warmup": 0.2,
        "schedule": "cosine",
        "weight_decay": 0.01,
        "dropout": 0.3,
        "max_length": 64,
        "max_pairs": 100,
        "shuffle_labels": True,
        "seed": 43,
        "pairs": "lay",
        "unique_in_batch": "families",
        "hard_negatives": 2,
        "miner": "bm25",
        "range_min": 5,
        "range_max": 60,
        "relative_margin": 0.05,
        "keep_kin": True,
        "veto": "reranker",
        "sampling": "random",
        "hidden_positives": 0.1,
        "lora_rank": 4,
        "lora_alpha": 16.0,
        "lora_targets": "query",
        "hardness": 1.0,
        "margin": 0.3,
        "guide": "another",
        "in_batch": 0.25,
        "refresh": 3,
        "corpus_sample": 1000,
        "matryoshka": "64,32",
        "query_prompt": "ask: ",
        "document_prompt": "code: ",
        "teacher": "another",
        "teacher_temperature": 0.1,
        "teacher_share": 0.25,
        "layers": 3,
        "trained_parts": "image",
        "frozen_stages": 2,
        "image_rate": 0.3,
        "text_rate": 0.1,
        "augment": 0.5,
    }
    names = {f.name for f in dataclasses.fields(Recipe)}
    assert other.keys() <= names
    lora = {"lora_variant": "rslora", "lora_init": "pissa", "lora_plus": 16.0, "quantize": "nf4"}
    assert names - other.keys() == {"approach", "unlabelled", *lora}
    hashes = {Recipe().hash} | {Recipe(**{name: value}).hash for name, value in other.items()}
    need = {"triplet": {"hard_negatives": 1}} | dict.fromkeys(
        TAUGHT, {"teacher": "another", "unlabelled": "documents"}
    )
    lists = {"teacher": "another", "hard_negatives": 1}
    need |= {"kl": lists, "margin_mse": lists}
    hashes |= {Recipe(approach=name, **need.get(name, {})).hash for name in APPROACHES}
    hashes.add(Recipe(approach="distill", teacher="another").hash)
    hashes |= {Recipe(lora_rank=4, **{name: value}).hash for name, value in lora.items()}
    assert len(hashes) == len(other) + len(lora) + len(APPROACHES) + 1
    assert all(len(h) == 12 and int(h, 16) >= 0 for h in hashes)


@pytest.mark.parametrize(
    "name, whole", [("learning_rate", 1), ("warmup", 0), ("weight_decay", 1), ("dropout", 0)]
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
        Recipe(schedule=CHOICES["schedule"][-1], shuffle_labels=True, max_length=32, dropout=0.1),
    ],
)
def test_json_gives_the_recipe_back(recipe):
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe and again.hash == recipe.hash
    assert json.loads(recipe.to_json())["epochs"] == recipe.epochs


def test_json_of_an_older_recipe_takes_the_defaults():
    assert Recipe.from_json('{"epochs": 2}') == Recipe(epochs=2)


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
        Recipe(learning_rate=1e-5, epochs=2, seed=9, schedule="cosine", weight_decay=0.01),
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
    assert found["lr_scheduler_type"] == recipe.schedule
    assert found["weight_decay"] == recipe.weight_decay
    assert found["seed"] == recipe.seed
    assert f"scale={1 / recipe.temperature!r}" in script
    assert ("max_seq_length" in script) == (recipe.max_length is not None)
    assert ("module.p" in script) == (recipe.dropout is not None)


@pytest.mark.parametrize(
    "precision, flags", [("fp32", set()), ("bf16", {"bf16"}), ("fp16", {"fp16"})]
)
def test_the_script_sets_the_precision_that_is_asked_for(precision, flags):
    found = arguments(stock_script(Recipe(), on="cpu", precision=precision))
    assert {"bf16", "fp16"} & found.keys() == flags


@pytest.mark.parametrize(
    "model",
    ["C:\\Users\\new\\model", '/models/it\'s "quoted"', "models/x{}y", 'ends with "', "a\nb"],
)
def test_the_script_compiles_whatever_the_folder_is_called(model):
    compile(Recipe(model=model).to_script(), "script.py", "exec")


def test_the_table_marks_what_was_changed_and_escapes():
    page = Recipe(model="<script>", epochs=7)._repr_html_()
    assert "<script>" not in page and "<b>epochs" in page and "<b>seed" not in page


def test_a_field_that_came_later_leaves_older_hashes_as_they_were():
    assert Recipe(epochs=1).hash == "2452d626c8e2"  # before there was any field marked `later`
    assert Recipe(epochs=1, refresh=2).hash != "2452d626c8e2"


@pytest.mark.parametrize("sizes", ["", "32,64", "64,64", "64,0", "many"])
def test_matryoshka_sizes_fall_from_the_largest(sizes):
    with pytest.raises(EmbkitError, match="384,256,128,64,32"):
        Recipe(matryoshka=sizes)


def test_a_triplet_has_one_negative():
    with pytest.raises(EmbkitError, match="hard_negatives=1"):
        Recipe(approach="triplet")


@pytest.mark.parametrize(
    "changes", [{"lora_variant": "dora"}, {"lora_init": "pissa"}, {"lora_plus": 4.0}]
)
def test_a_setting_of_lora_wants_lora(changes):
    (name,) = changes
    with pytest.raises(EmbkitError, match=f"lora_rank=0, {name}") as caught:
        Recipe(**changes)
    assert "lora_rank=4" in caught.value.hint
    assert Recipe(lora_rank=4, **changes).label != Recipe(lora_rank=4).label


def test_four_bits_cannot_be_trained_without_lora_nor_taken_apart():
    with pytest.raises(EmbkitError, match="lora_rank=0, quantize='nf4'"):
        Recipe(quantize="nf4")
    with pytest.raises(EmbkitError, match="lora_init='default'"):
        Recipe(lora_rank=4, quantize="nf4", lora_init="pissa")
    assert "QLoRA r4" in Recipe(lora_rank=4, quantize="nf4").label
