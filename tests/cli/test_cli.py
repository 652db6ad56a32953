"""The command line: what it prints, what it leaves on disk, its exit codes."""

import io
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch

import embkit as ek
from embkit.cli import planning
from embkit.cli.main import main, parser
from embkit.cli.planning import plan
from embkit.cli.subjects import scored, subject
from embkit.cli.terminal import say
from embkit.data import load_domain
from embkit.errors import EmbkitError
from embkit.evaluation.ranking import place_of
from embkit.evaluation.scores import Scores
from embkit.export.export import to_beir
from embkit.recipes.recipe import Recipe
from embkit.runs import finished, store

COMMANDS = ("advise", "assets", "card", "certify", "check", "compare", "evaluate", "export")
COMMANDS += ("board", "clean", "generate", "leaderboard", "preflight", "run", "search", "start")
COMMANDS += ("train",)
ESCAPE = "\x1b[31m"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A store and a cache for all tests of this file: what one trained, the next finds."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(autouse=True)
def here(shared, monkeypatch):
    monkeypatch.setenv("EMBKIT_RUNS", str(shared / "runs"))
    monkeypatch.setenv("EMBKIT_CACHE", str(shared / "cache"))


@pytest.fixture
def folder(tiny_domain, shared):
    """The tiny domain as a folder of one's own; a title has a control character."""
    path = shared / "own"
    if not path.exists():
        corpus = {**tiny_domain.corpus, "odd": f"Pain of the {ESCAPE}heart\nand <b>lung</b>"}
        parts = {**vars(tiny_domain), "corpus": corpus, "groups": {}, "held_out": None}
        fields = tiny_domain.__dataclass_fields__
        to_beir(type(tiny_domain)(**{name: parts[name] for name in fields}), path)
    return path


@pytest.fixture
def trained(folder, tiny_model, capsys):
    """``run`` has run; its output."""
    capsys.readouterr()
    assert main(["run", str(folder), "--model", str(tiny_model), "--epochs", "2"]) == 0
    return capsys.readouterr()


def printed(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == code
    return capsys.readouterr().out


def refused(capsys, *arguments):
    """The one error on stderr of a command that ends with 2 and prints nothing else."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in err and "expected:" in err and "try next:" in err
    return err


# -- help --


def test_help_names_every_command_the_first_steps_and_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert all(f"\n    {name}" in shown for name in COMMANDS)
    assert "first steps" in shown and "130" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_that_it_accepts(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0 and "exit codes:" in shown
    (example,) = [x for x in shown.splitlines() if x.startswith("  python -m embkit ")]
    chosen = parser().parse_args(shlex.split(example)[3:])
    assert chosen.command == name and callable(chosen.do)


@pytest.mark.parametrize("arguments", [[], ["chek"], ["search", "a", "--k", "many"]])
def test_what_the_parser_does_not_know_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and "usage:" in capsys.readouterr().err


# -- check --


def test_check_prints_how_a_folder_was_read_and_the_audit(folder, capsys):
    shown = printed(capsys, "check", folder, code=1)  # seven training queries a group: too few
    assert "put aside  nothing" in shown and "✓ ok" in shown
    assert ESCAPE not in shown and "\x1b" not in shown


def test_check_as_json_is_the_audit(folder, tiny_model, capsys):
    found = json.loads(printed(capsys, "check", folder, "--json", "--model", tiny_model, code=1))
    same = ek.audit(load_domain(folder), model=tiny_model)
    assert found["findings"] == json.loads(same.to_json())["findings"]
    assert found["verdict"] == "problem" and found["note"] == ""
    assert "BEIR" in found["read"]["read from"]


def test_check_ends_with_0_where_nothing_is_a_problem(monkeypatch, folder, capsys):
    class Fine:
        verdict = "look"

        def to_text(self):
            return "fine"

        def to_json(self):
            return "{}"

    monkeypatch.setattr("embkit.auditing.audit", lambda domain, model: Fine())
    assert "fine" in printed(capsys, "check", folder)


def test_columns_of_pairs_can_be_named_or_numbered(tmp_path, capsys):
    file = tmp_path / "pairs.csv"
    rows = "".join(f"answer number {i},is it {i} or not\n" for i in range(30))
    file.write_text("reply,ask\n" + rows)
    found = printed(
        capsys, "check", file, "--json", "--columns", "anchor=ask", "positive=reply", code=1
    )
    assert json.loads(found)["read"]["columns"] == "anchor: ask, positive: reply"
    (tmp_path / "bare.csv").write_text(rows)
    numbers = ["--columns", "anchor=1", "positive=0"]
    found = printed(capsys, "check", tmp_path / "bare.csv", "--json", *numbers, code=1)
    assert json.loads(found)["read"]["rows"] == "bare.csv 30"
    assert "--columns 'ask'" in refused(capsys, "check", file, "--columns", "ask")


def test_bad_input_is_one_error(tmp_path, capsys):
    assert "did you mean 'icd10cm'" in refused(capsys, "check", "icd10")
    assert "no file or folder" in refused(capsys, "run", tmp_path / "nothing")
    assert "did you mean 'smoke'" in refused(capsys, "check", "icd10cm", "--profile", "smokey")
    (tmp_path / "empty").mkdir()
    assert "no domain" in refused(capsys, "check", tmp_path / "empty")


# -- run, and what it leaves --


def test_run_prints_audit_plan_leaderboard_and_verdict(trained, folder, shared):
    out = trained.out
    for text in (
        "audit: own:",
        "plan: 30 pairs",
        "bm25",
        "base",
        "LoRA r16",
        "verdict: ",
        "bge-small is left out",
    ):
        assert text in out
    assert "\x1b" not in out
    rows = json.loads((shared / "runs" / "own" / "leaderboard.json").read_text())
    domain = load_domain(folder)
    approaches = ["base", "bm25", "contrastive", "contrastive, LoRA r16", "hybrid"]
    names = {row["approach"].split(", +")[0] for row in rows}
    assert sorted(names) == approaches
    assert len(rows) == 5 * sum(1 + len(parts) for parts in domain.subsets().values())
    for row in rows:
        if row["approach"] == "base" and row["subset"] is None:
            found = ek.evaluate(row["base_model"], domain)
            assert row["ndcg@10"] == pytest.approx(found.mean(row["split"]))
    assert (shared / "runs" / "own" / "report.html").read_text().startswith("<!doctype html>")


def test_the_same_run_again_trains_and_scores_nothing(trained, folder, tiny_model, monkeypatch):
    def never(*_, **__):
        raise AssertionError("was called")

    monkeypatch.setattr("embkit.training.trainer._train", never)
    monkeypatch.setattr("embkit.evaluation.ranking.rank", never)
    monkeypatch.setattr("embkit.models.packing.embed", never)
    monkeypatch.setattr("embkit.auditing.audit", never)
    assert main(["run", str(folder), "--model", str(tiny_model), "--epochs", "2"]) == 0


def test_an_audit_that_was_cut_off_is_made_again(trained, folder, tiny_model, shared, capsys):
    kept = shared / "runs" / "own" / "audit.json"
    whole = kept.read_text()
    assert json.loads(whole)["domain_hash"] == load_domain(folder).hash
    kept.write_text(whole[:50])
    again = printed(capsys, "run", folder, "--model", tiny_model, "--epochs", 2)
    assert "audit: own:" in again and kept.read_text() == whole


def test_run_as_json_is_json_alone(trained, folder, tiny_model, capsys):
    options = ["--model", tiny_model, "--epochs", 2, "--json"]
    found = json.loads(printed(capsys, "run", folder, *options))
    assert found["verdict"]["decision"] and len(found["leaderboard"]) >= 8
    assert found["audit"].startswith("own:") and found["minutes"] < 2


@pytest.mark.parametrize("length, cut", [(4, "100.0%"), (9, None), (200, "")])
def test_run_says_what_share_of_the_documents_the_window_cuts(
    length, cut, folder, tiny_model, capsys, monkeypatch
):
    from embkit.cli import training
    from embkit.data.text_checks import token_lengths

    class Enough(Exception):
        pass

    def stop(*_, **__):
        raise Enough

    monkeypatch.setattr(training.training.trainer, "train", stop)
    monkeypatch.setattr(training.training.experiments, "tune", stop)
    with pytest.raises(Enough):
        main(["run", str(folder), "--model", str(tiny_model), "--max-length", str(length)])
    told = [row for row in capsys.readouterr().out.splitlines() if row.startswith("window: ")]
    if cut is None:  # some of them
        tokenizer = ek.models.load_model(str(tiny_model)).tokenizer
        counts = token_lengths(tokenizer, [*load_domain(folder).corpus.values()])
        cut = f"{(counts > length).mean():.1%}"
        assert cut not in ("0.0%", "100.0%")
    assert len(told) == bool(cut)
    if cut:
        assert f"as it is trained here, reads {length} tokens of a text: {cut} of the" in told[0]
        assert "an answer behind the cut is never found" in told[0]


def test_a_better_general_model_is_scored_where_it_is_at_hand(monkeypatch, tiny_domain):
    from embkit.cli import training

    told, names = [], []
    monkeypatch.setattr(
        training, "scored", lambda what, domain, name=None: names.append(name or what)
    )
    monkeypatch.setattr("embkit.assets.catalogue.is_here", lambda name: False)
    training._untrained(tiny_domain, "minilm", told.append)
    assert names == ["bm25", "minilm", "hybrid"] and "assets bge-small" in told[0]
    monkeypatch.setattr("embkit.assets.catalogue.is_here", lambda name: True)
    training._untrained(tiny_domain, "bge-small", told.append)
    training._untrained(tiny_domain, "minilm", told.append)
    assert names[3:] == ["bm25", "bge-small", "hybrid", *names[:3], "bge-small, untrained"]
    assert len(told) == 1


def test_lora_that_the_model_cannot_have_is_left_out_and_said(monkeypatch, capsys, tiny_domain):
    from embkit.cli import training

    def refuse(recipe, domain):
        raise EmbkitError("no linear layer", expected="some", hint="another model")

    monkeypatch.setattr("embkit.training.trainer.train", refuse)
    planned = planning.Plan(Recipe(), (1e-4,), 10, 10)
    assert training._lora(planned, 1e-4, tiny_domain) is None
    assert "LoRA is left out: no linear layer" in capsys.readouterr().err


# -- plans --


class Plain(torch.nn.Module):
    """A model whose tokens are words, 256 at most, with so many of MiniLM's blocks."""

    max_seq_length = 256
    tokenizer = None

    def __init__(self, times=1.0):
        super().__init__()
        self.words = torch.nn.Embedding(100_000, 1_000, device="meta")  # costs a token nothing
        self.blocks = torch.nn.Linear(1_000, int(times * 10_600), bias=False, device="meta")


def sized(tiny_domain, documents, pairs, words, dev=100, name="own"):
    corpus = {f"d{i}": " ".join(["word"] * words) + f" {i}" for i in range(documents)}
    queries = {f"q{i}": f"five words are in {i}" for i in range(pairs + dev + 1)}
    ids = list(queries)
    qrels = {
        "train": {q: {f"d{i}": 1} for i, q in enumerate(ids[:pairs])},
        "dev": {q: {"d0": 1} for q in ids[pairs:-1]},
        "test": {ids[-1]: {"d0": 1}},
    }
    return type(tiny_domain)(name, "full", corpus, queries, qrels, ("test",))


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setattr("embkit.models.loading.load_model", lambda model: Plain())


def test_a_plan_suits_the_size(plain, tiny_domain):
    assert plan(sized(tiny_domain, 200, 100, 10)).contrastive.batch_size == 16
    small = plan(sized(tiny_domain, 900, 700, 10))
    assert (small.contrastive.epochs, small.contrastive.batch_size) == (3, 32)
    middle = plan(sized(tiny_domain, 5000, 1000, 95))  # what a folder of 5k documents is like
    assert middle.contrastive.epochs == 1 and middle.rates == (1e-4, 4e-4)
    assert middle.trial == middle.contrastive  # the trial is the run
    assert middle.minutes < 9 and middle.why == ""


def test_few_pairs_are_passed_over_more_often(plain, tiny_domain):
    few = sized(tiny_domain, 200, 100, 10)
    assert plan(few).contrastive.epochs == plan(few, quick=True).contrastive.epochs == 3
    assert plan(few, epochs=2).contrastive.epochs == 2


def test_a_large_folder_is_cut_to_about_fifteen_minutes_and_says_so(plain, tiny_domain):
    large = sized(tiny_domain, 19_000, 14_000, 40)  # and five words a query
    cut = plan(large)
    assert 10_000 < cut.contrastive.max_pairs < 14_000 and cut.contrastive.epochs == 1
    assert cut.contrastive.batch_size == 128 and cut.trial.max_pairs == 2000
    assert cut.minutes <= 17
    assert f"{cut.contrastive.max_pairs:,} of 14,000 pairs" in str(cut)
    assert "--pairs 14000 takes them" in str(cut)
    whole = plan(large, max_pairs=14_000)
    assert whole.contrastive.max_pairs is None and "takes them" not in str(whole)
    assert whole.minutes > cut.minutes
    longer = plan(sized(tiny_domain, 19_000, 14_000, 95)).contrastive
    assert longer.max_pairs == planning.LEAST_PAIRS, "never fewer than are worth the encoding"
    assert plan(large, max_pairs=300).contrastive.max_pairs == 300


def test_a_quick_look_a_small_dev_and_a_known_domain_choose_no_rate(plain, tiny_domain):
    quick = plan(sized(tiny_domain, 3000, 2500, 10), quick=True)
    assert len(quick.rates) == 1 and quick.contrastive.epochs == 1
    assert quick.contrastive.max_pairs == quick.trial.max_pairs == 1000
    assert "1,000 of 2,500 pairs" in str(quick) and "a first look" in str(quick)
    assert plan(sized(tiny_domain, 500, 300, 10, dev=29)).rates == (1e-4,)
    assert len(plan(sized(tiny_domain, 500, 300, 10, dev=30)).rates) == 2
    assert plan(sized(tiny_domain, 500, 300, 10, name="icd10cm")).rates == (4e-4,)


def test_what_one_model_wants_is_no_rule_for_another(monkeypatch, tiny_domain):
    known, own = sized(tiny_domain, 500, 300, 10, name="icd10cm"), sized(tiny_domain, 500, 300, 10)
    few = sized(tiny_domain, 500, 300, 10, dev=29)
    work = []
    for times, only in ((1, 1e-4), (2, 1e-4), (10, 2e-5)):
        monkeypatch.setattr("embkit.models.loading.load_model", lambda model, n=times: Plain(n))
        assert (
            set(plan(known, "other").rates) == set(plan(own, "other").rates) == {2e-5, 1e-4, 4e-4}
        )
        assert plan(few, "other").rates == (only,)
        work.append(plan(own, "other", epochs=1).work)
    # a token through so many times the weights takes as many times as long; a table takes nothing
    assert work == pytest.approx([work[0], 2 * work[0], 10 * work[0]], rel=1e-3)


@pytest.mark.parametrize("words, length", [(20, None), (150, 152), (250, None), (400, None)])
def test_max_length_is_that_of_most_documents(plain, tiny_domain, words, length):
    domain = sized(tiny_domain, 300, 100, words)  # and one word more: its number
    assert plan(domain).contrastive.max_length == length
    assert plan(domain, max_length=64, epochs=2).contrastive.max_length == 64
    capped = {20: None, 150: 152, 250: 256, 400: 256}[words]  # of a model that reads 512 tokens
    assert planning._max_length(np.full(50, words), 512) == capped


@pytest.mark.parametrize("window", [32_768, int(1e30)])  # Qwen3, T5
def test_a_model_that_reads_very_long_texts_is_given_a_window(monkeypatch, tiny_domain, window):
    wide = type("Wide", (Plain,), {"max_seq_length": window})
    monkeypatch.setattr("embkit.models.loading.load_model", lambda model: wide())
    for words, length in ((20, 256), (150, 152), (400, 256)):
        planned = plan(sized(tiny_domain, 300, 100, words)).contrastive
        assert planned.max_length == length
    wide.max_seq_length = float("inf")  # static vectors: nothing can be set
    assert plan(sized(tiny_domain, 300, 100, 150)).contrastive.max_length is None


def test_lora_takes_ten_times_the_learning_rate_and_the_same_pairs(plain, tiny_domain):
    planned = plan(sized(tiny_domain, 500, 300, 10))
    changes = planned.lora(4e-4).diff(planned.contrastive)
    targets = {"lora_targets": (("query", "key", "value", "dense"), ("auto",))}
    assert changes == {"lora_rank": (0, 16), "learning_rate": (1e-4, 4e-3)} | targets


# -- evaluate, compare, leaderboard, train --


def test_a_run_is_named_by_the_beginning_of_its_name_or_recipe(trained, folder):
    domain = load_domain(folder)
    run = finished(domain)[0]
    assert subject(domain, run.path.name).path == run.path
    assert subject(domain, run.recipe.hash[:6]).path == run.path
    assert subject(domain, str(run.path)).path == run.path
    assert subject(domain, "bm25") == "bm25" and subject(domain, "minilm") == "minilm"
    assert subject(domain, "owner/model") == "owner/model"
    with pytest.raises(EmbkitError, match="begins the names of 2 runs"):
        subject(domain, "contrastive-")
    with pytest.raises(EmbkitError, match="unknown run or model"):
        subject(domain, "contrastive-zzzz")


def test_evaluate_prints_what_evaluate_returns(trained, folder, tiny_model, capsys):
    domain = load_domain(folder)
    run = finished(domain)[0]
    rows = json.loads(printed(capsys, "evaluate", run.path.name, "--domain", folder, "--json"))
    assert rows == json.loads(json.dumps(ek.evaluate(run, domain).rows()))
    assert "nDCG@10" in printed(capsys, "evaluate", tiny_model, "--domain", folder)


def test_certify_ends_with_0_for_what_was_trained_and_with_1_for_another(
    trained, folder, tiny_model, capsys
):
    run = next(run for run in finished(load_domain(folder)) if not run.recipe.lora_rank)
    given = ["certify", run.path.name, run.path / "model", "--domain", folder]
    assert "passed" in printed(capsys, *given) and "nDCG@10 on dev, lost" in printed(capsys, *given)
    other = ["certify", run.path.name, tiny_model, "--probes", "--domain", folder, "--json"]
    found = json.loads(printed(capsys, *other, code=1))
    assert not found["passed"] and found["dev"] is None
    assert "nothing trained is loaded" in found["causes"][0]


def test_compare_takes_names_or_everything_and_gives_a_verdict(trained, folder, capsys):
    run = finished(load_domain(folder))[0]
    named = ["compare", "bm25", run.path.name, "--domain", folder]
    rows = json.loads(printed(capsys, *named, "--json"))
    assert {row["approach"] for row in rows} == {"bm25", run.recipe.label}
    shown = printed(capsys, *named)
    assert "Δ bm25" in shown and "verdict: " in shown
    everything = json.loads(printed(capsys, "compare", "--domain", folder, "--json"))
    assert everything == json.loads(printed(capsys, "leaderboard", folder, "--json"))
    assert "unknown baseline" in refused(capsys, *named, "--baseline", "nobody")


def test_the_leaderboard_of_what_nobody_scored_is_one_error(tmp_path, capsys):
    file = tmp_path / "pairs.csv"
    rows = "".join(f"is it {i} or not,answer number {i}\n" for i in range(30))
    file.write_text("anchor,positive\n" + rows)
    assert "nothing has been evaluated" in refused(capsys, "leaderboard", file)


def test_train_takes_a_recipe_and_shows_the_leaderboard(folder, tiny_model, tmp_path, capsys):
    recipe = Recipe(model=str(tiny_model), epochs=1, batch_size=8, seed=7)
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    shown = printed(capsys, "train", tmp_path / "recipe.json", "--domain", folder)
    assert "base" in shown and "contrastive" in shown
    assert recipe in [run.recipe for run in finished(load_domain(folder))]
    assert "cannot be read" in refused(capsys, "train", tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    assert "JSON" in refused(capsys, "train", tmp_path / "bad.json")


# -- search --


def test_search_shows_before_and_after_as_look_does(trained, folder, capsys):
    domain = load_domain(folder)
    run = max(finished(domain), key=lambda run: run.dev_score)
    arguments = ["search", "cardiac ache", "--domain", folder, "--k", 3]
    found = json.loads(printed(capsys, *arguments, "--json"))["found"]
    (before, rows), (after, tuned) = found.items()
    assert before.startswith("before: ") and run.path.name in after
    table = ek.search_side_by_side("cardiac ache", {"after": run.model()}, domain, k=3)
    assert [f"{row['id']}  {row['text']}" for row in tuned] == [
        found for _, found, _ in table.cells
    ]
    places = {row["id"]: row["rank"] for row in rows}
    assert all(row["before"] == places[row["id"]] for row in tuned if row["id"] in places)
    shown = printed(capsys, *arguments)
    assert "before: " in shown and "(was " in shown


def test_search_puts_no_control_character_on_the_terminal(trained, folder, capsys):
    shown = printed(capsys, "search", f"{ESCAPE}heart pain", "--domain", folder, "--k", 41)
    assert "\x1b" not in shown and "\\x1b[31mheart and <b>lung</b>" in shown


def test_queries_come_through_a_pipe_too(trained, folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("aural sepsis\n\nocular trauma\n"))
    shown = printed(capsys, "search", "--domain", folder, "--k", 1)
    assert "query: aural sepsis" in shown and "query: ocular trauma" in shown


def test_search_that_cannot_be(trained, folder, capsys):
    assert "--k 0" in refused(capsys, "search", "ache", "--domain", folder, "--k", 0)
    assert "not a run" in refused(capsys, "search", "a", "--domain", folder, "--run", "minilm")


# -- export, card, generate --


def test_export_writes_a_domain_and_a_model(trained, folder, tmp_path, capsys):
    domain = load_domain(folder)
    own = ["--domain", folder]
    printed(capsys, "export", "beir", tmp_path / "beir", *own)
    assert load_domain(tmp_path / "beir").hash == domain.hash
    assert "holds something" in refused(capsys, "export", "beir", tmp_path / "beir", *own)
    printed(capsys, "export", "model", tmp_path / "model", *own)
    assert (tmp_path / "model" / "modules.json").is_file()


def test_the_card_of_ones_own_data_goes_to_the_terminal_or_a_file(
    folder, tiny_model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("embkit.export.cards.MODEL", str(tiny_model))
    shown = printed(capsys, "card", folder)
    assert "# Titles of made-up codes" in shown and "\x1b" not in shown
    assert printed(capsys, "card", folder, "--to", tmp_path / "card.md") == ""
    assert (tmp_path / "card.md").read_text().startswith("# Titles")


def test_generate_hands_its_options_on(folder, monkeypatch, capsys, tmp_path):
    asked = {}

    def make_set(domain, backend, **options):
        asked.update(options, domain=domain.name, backend=backend)
        return tmp_path / "set.jsonl", "Filtered(9 of 10 queries kept)"

    monkeypatch.setattr("embkit.synthetic.sets.make_set", make_set)
    monkeypatch.setattr("embkit.synthetic.backends.TransformersBackend", lambda model: f"<{model}>")
    shown = printed(capsys, "generate", folder, "--limit", 5, "--seed", 3, "--name", "mine")
    assert "9 of 10" in shown and "set.jsonl" in shown and "set.md" in shown
    assert (asked["limit"], asked["seed"], asked["name"]) == (5, 3, "mine")
    assert (asked["domain"], asked["backend"]) == ("own", "<smollm2>")


# -- how it ends --


def test_ctrl_c_says_that_it_goes_on_and_ends_with_130(monkeypatch, folder, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("embkit.cli.training.the_domain", stop)
    assert main(["run", str(folder)]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_a_terminal_that_knows_few_letters_gets_question_marks():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    say("✓ ok \x07", to=stream)
    assert raw.getvalue() == b"? ok \\x07\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colour_is_for_a_terminal_alone(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    told = f"✓ well {ESCAPE}\n✗ ill\n  a ✓ in the middle"
    say(told, to=(shown := Terminal()))
    lines = shown.getvalue().splitlines()
    assert lines[0] == "\x1b[32m✓ well \\x1b[31m\x1b[0m", "what is said brings no colour of its own"
    assert lines[1:] == ["\x1b[31m✗ ill\x1b[0m", "  a ✓ in the middle"]
    plain = io.StringIO()
    say(told, to=plain)
    monkeypatch.setenv("NO_COLOR", "1")
    say(told, to=(bare := Terminal()))
    assert plain.getvalue() == bare.getvalue() and "\x1b" not in plain.getvalue()


def test_help_loads_no_library_that_may_be_broken():
    code = "import sys; from embkit.cli.main import parser; parser()\n"
    code += "assert not {'torch', 'transformers', 'pandas', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_as_a_program_it_ends_with_its_code_and_without_a_traceback(folder, tmp_path):
    program = [sys.executable, "-m", "embkit"]
    done = subprocess.run(
        [*program, "check", str(tmp_path)], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.count("try next:") == 1
    command = " ".join(program) + f" check '{folder}' | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and "Error" not in done.stderr


def test_scores_half_written_by_a_kill_are_no_reason_to_stop(trained, folder):
    domain = load_domain(folder)
    (store(domain) / "base-000000000000").mkdir(exist_ok=True)
    (store(domain) / "base-000000000000" / "scores.json").write_text("{")
    kept = [p for p in store(domain).glob("base-*/scores.json") if p.stat().st_size > 1]
    before, text = Scores.load(kept[0]), kept[0].read_text()
    assert place_of(before.base_model, domain) == kept[0]
    kept[0].write_text(text[:50])
    assert scored(before.base_model, domain).rows()[0]["map"] == before.rows()[0]["map"]
