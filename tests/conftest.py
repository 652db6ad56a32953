"""What every test shares: no hub, its own store and cache, a tiny model and a tiny domain."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from tests.startup import freeze

# Libraries read these when they are imported, so they are set before any of them is.
HUB = tempfile.mkdtemp(prefix="embkit-tests-hub-")
atexit.register(shutil.rmtree, HUB, ignore_errors=True)
CACHE = os.environ.pop("EMBKIT_CACHE", None)  # where the real weights lie, if not in the default
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": HUB, "MPLBACKEND": "Agg"}
os.environ |= {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}
os.environ.setdefault("EMBKIT_DEVICE", "cpu")
os.environ.setdefault("EMBKIT_PRECISION", "fp32")  # the same figures on every machine

# IPython's own folder, whatever the user has set
os.environ["IPYTHONDIR"] = f"{HUB}/ipython"
(begun := Path(HUB, "ipython", "profile_default", "startup")).mkdir(parents=True)
shutil.copy(Path(__file__).with_name("startup.py"), begun)

ORGANS = {  # the word of a title -> the word of a query; chosen so that letter counts never tie
    "eye": "ocular",
    "ear": "aural",
    "skin": "cutaneous",
    "heart": "cardiac",
    "lung": "pulmonary",
    "bone": "osseous",
    "liver": "hepatic",
    "brain": "cerebral",
}
CONDITIONS = {
    "infection": "sepsis",
    "injury": "trauma",
    "tumor": "growth",
    "swelling": "edema",
    "pain": "ache",
}
HELD_OUT = "brain"


def pytest_collection_modifyitems(items):
    """The browser comes last: it shows lessons whose runs are in the store by then."""
    items.sort(key=lambda item: "browser" in item.keywords)


@pytest.fixture(autouse=True)
def collected_fast():
    freeze()


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """Every test has a store and a cache of its own, and the smallest profile."""
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EMBKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EMBKIT_PROFILE", "smoke")
    monkeypatch.delenv("EMBKIT_SOLUTIONS", raising=False)


@pytest.fixture
def store(own_folders, tmp_path):
    """The folder that EMBKIT_RUNS names."""
    return tmp_path / "runs"


@pytest.fixture
def cache(own_folders, tmp_path):
    """The folder that EMBKIT_CACHE names."""
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def minilm():
    """The folder of the real model, in the cache that everyone uses; embeddings stay apart."""
    from embkit.assets.catalogue import resolve

    with pytest.MonkeyPatch.context() as patch:
        if CACHE is None:
            patch.delenv("EMBKIT_CACHE", raising=False)
        else:
            patch.setenv("EMBKIT_CACHE", CACHE)
        return resolve("minilm")


@pytest.fixture
def minilm_by_name(cache, minilm):
    """The name "minilm" works in the test's own cache: its assets are those everyone uses."""
    cache.mkdir(exist_ok=True)
    (cache / "assets").symlink_to(minilm.parent, target_is_directory=True)
    return minilm


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """``once(name, make)``: a folder that ``make(folder)`` fills once, for every process of this
    test run."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def made(name: str, make) -> Path:
        folder = base / name
        with FileLock(f"{folder}.lock"):
            if not (folder / "made").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                (folder / "made").touch()
        return folder

    return made


@pytest.fixture(scope="session")
def shared(minilm, once):
    """One store and one cache for the whole course, in the browser and out of it: a later
    notebook reuses an earlier's runs."""

    def make(folder):
        (folder / "cache").mkdir()
        if assets := next((p for p in minilm.parents if p.name == "assets"), None):
            (folder / "cache" / "assets").symlink_to(assets, target_is_directory=True)

    return once("course", make)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A small hub that this process asks, with an empty cache."""
    from tests.hub import Hub, ask_it

    made = Hub()
    ask_it(made, monkeypatch, tmp_path)
    yield made
    made.close()


@pytest.fixture
def offline(monkeypatch):
    """``offline()`` takes the network away from the libraries."""
    from tests.hub import take_the_network

    return lambda: take_the_network(monkeypatch)


def _title(organ, condition):
    return f"{condition.capitalize()} of the {organ}"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a random BERT of 2 layers and 32 dimensions; knows the tiny domain's words."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,-()"
    words = ["of", "the", "in", "one", *ORGANS, *ORGANS.values()]
    words += [*CONDITIONS, *CONDITIONS.values()]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [*letters, *(f"##{letter}" for letter in letters), *words]
    folder = tmp_path_factory.mktemp("tiny")
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder / "bert")
    tokenizer = BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})
    tokenizer.save_pretrained(folder / "bert")
    network = Transformer(str(folder / "bert"), max_seq_length=48)
    model = SentenceTransformer(modules=[network, Pooling(32, "mean"), Normalize()], device="cpu")
    model.save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="session")
def tiny_teacher(tiny_model, tmp_path_factory):
    """A folder with the tiny model's like, of other weights: it says other things."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_model), device="cpu")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn(weight.shape, generator=generator)
    folder = tmp_path_factory.mktemp("teacher") / "model"
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture
def tiny_domain():
    """40 titles in 8 groups, 30 training pairs; all of one group is held out for ``novel``.

    Of each group that is trained on, the title about pain is no training positive: ``known``
    asks for it, which makes the subset ``never_positive``. Some queries have two right titles.
    """
    from embkit.data import Domain

    corpus, groups, queries = {}, {}, {}
    qrels = {"train": {}, "dev": {}, "known": {}, "novel": {}}

    def ask(split, text, **right):
        query = f"q{len(queries):02d}"
        queries[query] = text
        qrels[split][query] = right
        return query

    for organ, adjective in ORGANS.items():
        for number, (condition, other) in enumerate(CONDITIONS.items()):
            document = f"{organ}{number}"
            corpus[document], groups[document] = _title(organ, condition), organ
            if organ == HELD_OUT:
                ask("novel", f"{adjective} {other}", **{document: 1})
            elif number < 4:
                ask("train", f"{adjective} {other}", **{document: 1})
        if organ == HELD_OUT:
            ask("novel", f"{adjective} edema or ache", brain3=1, brain4=2)
            continue
        ask("dev", f"sepsis in one {organ}", **{f"{organ}0": 1})
        ask("known", f"{adjective} injury", **{f"{organ}1": 2, f"{organ}0": 0})
        ask("known", f"{adjective} ache", **{f"{organ}4": 1})
    both = ask("train", "growth in one lung or bone", lung2=1, bone2=1)
    return Domain(
        name="tiny",
        profile="smoke",
        corpus=corpus,
        queries=queries,
        qrels=qrels,
        test_splits=("known", "novel"),
        groups=groups,
        held_out="novel",
        negatives={both: ("lung3", "bone3")},
        about={"title": "Titles of made-up codes", "limits": "Made by hand for tests."},
    )


@pytest.fixture(scope="session")
def long_domain():
    """8 documents of 5 paragraphs of 14 words and marks each, more than the tiny model's window;
    28 training queries ask for a paragraph, four of each document but the one held out."""
    from embkit.data import Domain

    corpus, queries = {}, {}
    qrels = {"train": {}, "dev": {}, "known": {}, "novel": {}}
    for organ, adjective in ORGANS.items():
        parts = [
            f"{c} of the {organ}, {o} in one {adjective} {organ}, {c}."
            for c, o in CONDITIONS.items()
        ]
        corpus[organ] = "\n\n".join(parts)
        for number, (condition, other) in enumerate(CONDITIONS.items()):
            split = "novel" if organ == HELD_OUT else "train" if number < 4 else "known"
            asked = {split: f"{other} in one {adjective}"}
            if split == "known":
                asked["dev"] = f"{condition} {organ}"
            for part, text in asked.items():
                queries[f"q{len(queries):02d}"] = text
                qrels[part][f"q{len(queries) - 1:02d}"] = {organ: 1}
    groups = {organ: organ for organ in corpus}
    tests = ("known", "novel")
    return Domain("long", "smoke", corpus, queries, qrels, tests, groups=groups, held_out="novel")
