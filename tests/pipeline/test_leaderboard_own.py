"""A user's own models on the leaderboard: their sizes are known where files have them, and each stands there once."""

import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import tiny_evaluation
from made_up_run import RECIPE, STAGES, make_run
from open_exaone.base.config import read_toml, validate
from open_exaone.base.files import read_json, write_json
from open_exaone.base.printable import printable
from open_exaone.checkpoint.shipped import SHIPPED, shipped_facts, shipped_model
from open_exaone.cli.main import main
from open_exaone.pipeline.card import gather
from open_exaone.pipeline.card_training import shipped_weights, size_record, training_of
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.leaderboard import build_leaderboard, leaderboard_models
from open_exaone.present import card_markdown, localized
from open_exaone.present.leaderboard_rows import Model, Score, named_apart, ranks

SPENT = {"tokens": 54_321 + 23_459, "flops": 1.23e11 + 4.56e10}  # of both stages of a made-up run


def evaluation(folder: Path, model: str, tasks: tuple[str, ...] = ("mine",), **about: Any) -> Path:
    """An evaluation's folder; `about` is of the model, or of all tasks where these have such a field."""
    report = tiny_evaluation.report(tasks)
    report["model"] = {"engine": "local", "model": model, "notes": []}
    for name, value in about.items():
        for place in report["tasks"] if name in report["tasks"][0] else [report["model"]]:
            place[name] = value
    write_json(folder / "report.json", report)
    write_json(folder / "evaluation.json", {})
    return folder


def own_models(*folders: Path) -> tuple[list[Model], list[str]]:
    """The user's models, and the notes."""
    notes: list[str] = []
    return [model for model in leaderboard_models(folders, notes.append) if model.is_own], notes


def test_the_size_that_an_evaluation_records_is_on_its_card_and_on_the_leaderboard(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    size = size_record(run / "02-rl" / "model", 77_952)
    assert size == {"num_parameters": 77_952, **{f"train_{name}": value for name, value in SPENT.items()}}
    folder = evaluation(tmp_path / "e", "mine/02-rl", weights="ab" * 32, **size)
    (model,), _ = own_models(folder)
    assert (model.parameters, model.tokens, model.flops, model.type) == (77_952, *SPENT.values(), "dense")
    text = card_markdown.markdown(gather(folder))
    assert "| parameters | 78.0k (77,952) |" in text and "77.8k tokens in all, 1 for each parameter" in text
    assert gather(folder).tokens.sources == ("report.json: model.train_tokens",)  # type: ignore[union-attr]


def test_a_stage_in_the_middle_has_the_tokens_up_to_it(tmp_path: Path) -> None:
    run, (tokens, _, flops, *_) = make_run(tmp_path / "mine"), STAGES["01-sft"]
    training = training_of(run / "01-sft" / "model")
    assert training.tokens and training.flops and (training.tokens.value, training.flops.value) == (tokens, flops)


def test_a_run_from_a_published_model_counts_its_pretraining_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    rates = {"learning_rate": 1e-4, "matrix_learning_rate": 1e-4}
    stages = [{**stage, "optimizer": rates} for stage in RECIPE["stages"]]
    changed = validate(Recipe, {**RECIPE, "model": "LGAI-EXAONE/EXAONE-4.0-1.2B", "stages": stages}, "made up")
    (run / "recipe.toml").write_text(changed.to_toml(), encoding="utf-8")
    size = size_record(run / "02-rl" / "model", 5)
    assert (size["base"], size["train_tokens"]) == ("LGAI-EXAONE/EXAONE-4.0-1.2B", 12e12 + SPENT["tokens"])
    (model,), _ = own_models(folder := evaluation(tmp_path / "e", "mine/02-rl", **size))
    assert model.tokens == size["train_tokens"] and model.flops is not None and model.flops > 9e22
    assert gather(folder).licence.name.startswith("EXAONE")


def test_a_recipe_that_cannot_be_read_stops_no_measurement(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    (run / "recipe.toml").write_text("name = 5\n")
    assert size_record(run / "02-rl" / "model", 5) == {"num_parameters": 5}


@pytest.mark.parametrize("odd", [None, "5", -1, 0, [], {}, True, 1e308])
def test_odd_sizes_in_a_report_are_not_known_and_never_raise(tmp_path: Path, odd: Any) -> None:
    sizes = dict.fromkeys(("num_parameters", "train_tokens", "train_flops", "base"), odd)
    (model,), _ = own_models(evaluation(tmp_path / "e", "x", **sizes))
    assert odd == 1e308 or (model.parameters, model.tokens, model.flops) == (None, None, None)


def test_the_shipped_model_is_known_by_its_weights(tmp_path: Path) -> None:
    facts = shipped_facts()
    wanted = (
        *(facts["num_parameters"], sum(stage["train_tokens"] for stage in facts["stages"])),
        pytest.approx(sum(stage["train_flops"] for stage in facts["stages"])),
    )
    copy = tmp_path / "copy"
    shutil.copytree(shipped_model(), copy)
    (model,), _ = own_models(evaluation(tmp_path / "e", SHIPPED, weights=shipped_weights()))
    (other,), _ = own_models(evaluation(tmp_path / "f", SHIPPED, weights="ab" * 32))
    (copied,), _ = own_models(copy)
    for found in (model, copied):
        assert (found.parameters, found.tokens, found.flops) == wanted
    assert model.facts and (model.lab, model.facts.licence.id) == ("Open-EXAONE", "apache-2.0")
    assert (other.parameters, other.lab) == (None, "not stated")


def test_an_evaluation_of_a_run_s_weights_is_part_of_that_run_s_model(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    weights = gather(run).revision
    mine = evaluation(tmp_path / "own-set", "mine/02-rl", ("mine",), weights=weights, sha256="ab" * 32)
    again = evaluation(tmp_path / "again", "mine/02-rl", ("test",), weights=weights, sha256="")
    repeated = read_json(again / "report.json")
    repeated["tasks"][0] |= {"pass_at_1": 0.6257, "ci95": [0.5683, 0.6797], "num_problems": 137, "k": 3}
    write_json(again / "report.json", repeated)
    other = evaluation(tmp_path / "other", "mine/01-sft", ("mine",), weights="cd" * 32, sha256="ab" * 32)
    (first, second), notes = own_models(mine, run, again, other)
    assert [(one.benchmark, one.source.partition(":")[0]) for one in first.scores] == [
        ("mine: test", "02-rl/eval/report.json"),  # measured twice with one result: once here
        ("mine", "own-set/report.json"),
    ]
    assert (first.name, first.tokens, second.name) == ("mine", SPENT["tokens"], "mine/01-sft")
    assert {one.benchmark for one in second.scores} == {"mine"} and notes == []  # the same rows: side by side
    assert "| mine | reasoning | 52.0% |" in card_markdown.markdown(first.facts)  # type: ignore[arg-type]


def test_two_runs_of_the_same_weights_are_one_model_and_the_user_is_told(tmp_path: Path) -> None:
    own, notes = own_models(make_run(tmp_path / "mine"), make_run(tmp_path / "twin"))
    assert len(own) == 1 and notes == ["twin has the same weights as mine: one model, with the results of both"]


def test_evaluations_of_an_endpoint_are_joined_by_its_address_and_the_model_s_name(tmp_path: Path) -> None:
    folders = [
        evaluation(tmp_path / "a", "m", ("aime_2025",), engine="http://one/v1"),
        evaluation(tmp_path / "b", "m", ("math_500",), engine="http://one/v1"),
        evaluation(tmp_path / "c", "m", ("math_500",), engine="http://two/v1"),
    ]
    own, _ = own_models(*folders)
    assert [(model.name, len(model.scores)) for model in own] == [("m (a)", 2), ("m (c)", 1)]
    assert all(model.lab == "not stated" for model in own)  # nothing says whose it is


def test_two_sets_of_one_name_are_two_benchmarks(tmp_path: Path) -> None:
    folders = [
        evaluation(tmp_path / name, name, ("mine",), weights=letter * 64, sha256=rows * 32)
        for name, letter, rows in (("a", "a", "1a"), ("b", "b", "2b"), ("c", "c", "1a"))
    ]
    own, _ = own_models(*folders)
    assert [model.scores[0].benchmark for model in own] == ["mine (1a1a1a1a)", "mine (2b2b2b2b)", "mine (1a1a1a1a)"]
    (alone, _), _ = own_models(folders[0], folders[2])
    assert alone.scores[0].benchmark == "mine"
    pinned = [
        evaluation(tmp_path / name, name, ("aime_2025",), weights=letter * 64, sha256=letter * 64)
        for name, letter in (("d", "d"), ("e", "e"))
    ]
    own, _ = own_models(*pinned)
    assert {model.scores[0].benchmark for model in own} == {"AIME 2025"}  # a published benchmark has one name


def test_what_has_not_begun_is_left_out_and_what_has_not_finished_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half, none, cut = make_run(tmp_path / "half", stages=1), make_run(tmp_path / "none", stages=0), tmp_path / "cut"
    write_json(cut / "evaluation.json", {})
    with pytest.raises(SystemExit, match="0"):
        main(["leaderboard", *map(str, (half, none, cut)), "--out", str(tmp_path / "site")])
    said = capsys.readouterr().out
    assert f"left out: {none}: no stage has finished in it yet" in said
    assert f"left out: {cut}: no evaluation has finished in it yet" in said
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert index.count("not finished") == 1 and "학습 중" in (tmp_path / "site/ko/index.html").read_text("utf-8")
    for page, note in (
        ("models/mine.html", "This run is not finished: sft"),
        ("ko/models/mine.html", "끝나지 않았습니다"),
    ):
        assert note in (tmp_path / "site" / page).read_text(encoding="utf-8")


def model(name: str, folder: str = "", revision: str = "") -> Model:
    facts: Any = object() if folder or revision else None
    return Model(
        name, "", "", "", None, None, None, False, "", (), revision=revision, folder=folder, facts=facts, slug=name
    )


@pytest.mark.parametrize(
    ("models", "names"),
    [
        ([("m", "run-1", "aa"), ("m", "run-2", "bb")], ["m (run-1)", "m (run-2)"]),
        ([("m", "m", "aa"), ("m", "run-2", "bb")], ["m", "m (run-2)"]),
        ([("m", "run", "a" * 9), ("m", "run", "b" * 9)], ["m (aaaaaaaa)", "m (bbbbbbbb)"]),
        ([("m", "run", ""), ("m", "run", "")], ["m (1)", "m (2)"]),
        ([("m", "run", "aa"), ("m",)], ["m (run)", "m"]),  # a published model keeps its name
        ([("m", "run", "aa"), ("n", "run", "bb")], ["m", "n"]),
    ],
)
def test_models_of_one_name_show_what_sets_them_apart(models: list[tuple[str, ...]], names: list[str]) -> None:
    found = named_apart([model(*one) for one in models])
    assert [one.name for one in found] == names
    assert len({one.slug for one in found}) == len(found)


def test_a_rank_counts_models_not_numbers() -> None:
    def score(percent: float) -> Score:
        return Score("b", "reasoning", "pass@1", "", percent, None, None, 30, 1, "s", "P")

    best, worse = model("best"), model("worse")
    assert ranks([(best, score(90)), (best, score(90)), (worse, score(10))]) == {0: 1, 1: 1, 2: 2}


HOSTILE = tiny_evaluation.HOSTILE + tiny_evaluation.STEERING


def test_hostile_text_in_any_field_of_an_evaluation_stays_text(tmp_path: Path) -> None:
    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return HOSTILE if isinstance(value, str) else value

    folder = evaluation(tmp_path / "e", "x", ("aime_2025",), revision="r", base="b", num_parameters=5, train_tokens=7)
    (folder / "report.json").write_text(json.dumps(spoil(read_json(folder / "report.json"))))
    _, pages = build_leaderboard([folder], tmp_path / "site")
    escaped = "&lt;img src=x onerror="
    assert any(escaped in page.read_text(encoding="utf-8") for page in pages)
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text == printable(text) and not re.search("<img|<script>document", text), page


def test_no_english_sentence_of_this_package_is_left_on_a_korean_page(tmp_path: Path) -> None:
    folders = [
        make_run(tmp_path / "half", stages=1),
        evaluation(tmp_path / "e", "x", ("aime_2025@1024",), is_whole=False),
    ]
    build_leaderboard(folders, tmp_path / "site")
    texts = read_toml(localized.FOLDER / "leaderboard.toml")
    every = [*texts.pop("said").values(), *texts.values()]
    parts = {part for both in every if both["en"] != both["ko"] for part in re.split(r"{\w+}", both["en"])}
    sentences = {part.strip() for part in parts if " " in part.strip() and len(part) > 12}
    found: dict[str, set[str]] = {"en": set(), "ko": set()}
    for path in (tmp_path / "site").rglob("*.html"):
        text = unescape(path.read_text(encoding="utf-8"))
        text = re.sub(r'<(\w+)[^>]* lang="en"[^>]*>.*?</\1>', "", text)  # what is quoted from a public list
        text = re.sub(r' (data-[a-z]+|value)="[^"]*"', "", text)  # what scripts compare
        language = "ko" if "ko" in path.relative_to(tmp_path / "site").parts else "en"
        found[language] |= {part for part in sentences if part in text}
    assert len(found["en"]) > 50 and found["ko"] == set()
