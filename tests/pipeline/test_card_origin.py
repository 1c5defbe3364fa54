"""Where a card's model came from: a stage, a converted copy, the shipped model, a base; and what may be called what."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import tiny_evaluation
from made_up_run import RECIPE, make_model, make_run
from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_json, write_json, write_jsonl
from open_exaone.cli.main import main
from open_exaone.data.store import Prepared
from open_exaone.pipeline.card import CardOptions, _stage_of_run, gather, record_conversion
from open_exaone.pipeline.card_conversion import CONVERSION
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.stage import _flops_per_token
from open_exaone.pipeline.start import Run
from open_exaone.present import card_markdown
from open_exaone.present.card_facts import Facts
from open_exaone.present.card_markdown import inert, markdown
from open_exaone.rollout.providers.local import weights_hash
from open_exaone.train.config import RlStage

ROWS = {**RECIPE["data"], "sft": {"sources": [{"path": "rows.jsonl"}]}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "mine")


def derived(folder: Path, base: str, **report: Any) -> Path:
    """A run that began from a checkpoint."""
    optimizers = [{**stage["optimizer"], "matrix_learning_rate": 2e-4} for stage in RECIPE["stages"]]
    stages = [{**stage, "optimizer": one} for stage, one in zip(RECIPE["stages"], optimizers, strict=True)]
    run = make_run(folder, model=base, recipe_stages=stages)
    write_json(run / "report.json", {"model": report} if report else {})
    return run


def head(facts: Facts) -> str:
    return markdown(facts).partition("\n---\n")[0]


def test_a_stage_s_folder_and_a_link_to_its_model_have_the_card_of_the_run(run: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(run / "01-sft" / "model")
    for source in (run / "01-sft", run / "01-sft" / "model", link):
        facts = gather(source)
        assert ([stage.name for stage in facts.stages], facts.licence.id) == (["sft"], "apache-2.0"), source
    assert [_stage_of_run(Path(place)) for place in ("/model", "/", "model")] == [None] * 3
    begun = make_run(tmp_path / "begun", stages=1)
    with pytest.raises(ConfigError, match="stage rl has not finished yet; the last that has is sft"):
        gather(begun / "02-rl")


def test_results_of_weights_that_were_changed_since_are_left_out(run: Path) -> None:
    model, about = run / "02-rl" / "model", run / "02-rl" / "eval" / "evaluation.json"
    write_json(about, {**read_json(about), "model": {"weights": weights_hash(model)}})
    whole = gather(run)
    assert whole.notes == () and [result.stage for result in whole.results] == ["sft", "rl"]
    (model / "chat_template.jinja").write_text("<think> another")
    facts = gather(run)
    assert [result.stage for result in facts.results] == ["sft"] and "model-index" not in head(facts)
    assert f"have changed since the run measured them (revision {whole.revision[:12]})" in facts.notes[0]


def test_a_converted_model_s_card_says_how_it_was_made(run: Path, tmp_path: Path) -> None:
    copy = make_model(tmp_path / "copy")
    record_conversion(run / "02-rl" / "model", copy)
    facts, source = gather(copy), gather(run)
    assert (facts.stages[0].name, facts.licence, facts.energy and facts.energy.watts.sources[0]) == (
        *("sft", source.licence),
        "assumption of this package for a machine with cpu",
    )
    assert facts.results == () and facts.notes[0].startswith("Converted by exaone convert from mine (revision")
    text = markdown(facts)
    for place in ("stages.0.tokens", "stages.1.flops", "data.0.num_rows", "seconds", "tokens", "energy.kwh"):
        assert f'"{CONVERSION}: made.{place}.value"' in facts.model_dump_json()
        values = read_json(copy / CONVERSION)
        at = values["made"]
        for key in place.split("."):
            at = at[int(key) if key.isdecimal() else key]
        at["value"] *= 2
        write_json(copy / CONVERSION, values)
        assert markdown(gather(copy)) != text, place
        text = markdown(gather(copy))
    again = make_model(tmp_path / "again")
    record_conversion(copy, again)
    assert [stage.name for stage in gather(again).stages] == ["sft", "rl"]


def test_a_record_of_other_files_or_a_broken_one_is_not_believed(run: Path, tmp_path: Path) -> None:
    copy = make_model(tmp_path / "copy")
    record_conversion(run / "02-rl" / "model", copy)
    (copy / "tokenizer.json").write_text("{ }")
    facts = gather(copy)
    assert (facts.stages, facts.licence.id) == ((), "unknown") and "of other files than these" in facts.notes[0]
    values = read_json(copy / CONVERSION)
    write_json(copy / CONVERSION, {**values, "made": 5})
    with pytest.raises(DataError, match=r"conversion\.json: made: "):
        gather(copy)
    elsewhere = make_model(tmp_path / "elsewhere")
    record_conversion(make_model(tmp_path / "some"), elsewhere)  # of a folder whose making nobody recorded
    assert not (elsewhere / CONVERSION).exists()


def test_the_shipped_model_and_its_conversion_have_their_making(tmp_path: Path) -> None:
    facts = gather(Path("pebble-0.9m"))
    assert (facts.origin, facts.recipe, facts.licence.id) == (
        "trained from random weights",
        "nano/exaone-deep",
        "apache-2.0",
    )
    assert [stage.name for stage in facts.stages] == ["base", "sft", "prefer", "rl"]
    (first, *_) = facts.results
    assert (first.benchmark, first.value.sources) == ("test", ("model.json: scores.test.pass_at_1",))
    with pytest.raises(SystemExit, match="0"):
        main(["convert", "pebble-0.9m", str(tmp_path / "copy")])
    copy = gather(tmp_path / "copy")
    assert (copy.stages[2].steps and copy.stages[2].steps.value, copy.licence.id) == (46, "apache-2.0")
    with pytest.raises(ConfigError, match="is no run with data of its own"):
        gather(tmp_path / "copy", CardOptions(data_licences={"sft": "mit"}))


def test_a_path_of_two_parts_is_no_model_of_the_hub(tmp_path: Path) -> None:
    on_hub = gather(derived(tmp_path / "a", "someone/base@v1.0", is_on_hub=True))
    assert on_hub.base == "someone/base@v1.0" and "base_model: someone/base\n" in head(on_hub)
    local = gather(derived(tmp_path / "b", "models/base", is_on_hub=False))
    assert local.base == "base" and "base_model" not in head(local)
    stage = gather(derived(tmp_path / "c", "runs/x/01-sft/model", is_on_hub=False))
    assert stage.base == "x/01-sft/model" and "base_model" not in head(stage)
    known = gather(derived(tmp_path / "d", "LGAI-EXAONE/EXAONE-4.0-1.2B@main", is_on_hub=True))
    assert known.tokens is not None and known.tokens.value == 12_000_000_000_000 + sum((54_321, 23_459))


def test_a_copy_is_not_taken_for_the_model_that_its_config_names(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tuned")
    write_json(folder / "config.json", {**read_json(folder / "config.json"), "_name_or_path": "someone/base"})
    facts = gather(folder)
    assert (facts.name, facts.id, facts.base) == ("tuned", "local/tuned", "someone/base")
    assert "base_model: someone/base\n" in head(facts) and "names someone/base as the model" in markdown(facts)
    mirror = make_model(tmp_path / "hub" / "models--someone--EXAONE-4.0-1.2B" / "snapshots" / "12ab")
    other = gather(mirror)
    assert (other.id, other.tokens) == ("someone/EXAONE-4.0-1.2B", None)
    assert gather(make_model(tmp_path / "EXAONE-4.0-1.2B")).id == "LGAI-EXAONE/EXAONE-4.0-1.2B"


def test_the_licence_of_a_base_counts_where_the_model_s_folder_has_none(tmp_path: Path) -> None:
    base = make_model(tmp_path / "base")
    run = derived(tmp_path / "a", str(base))
    assert gather(run).licence.id == "unknown"
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: llama3.2\n---\n")
    licence = gather(run).licence
    assert (licence.id, licence.name) == ("other", "llama3.2") and "trained from" in licence.why
    assert "license_name: llama3.2\n" in head(gather(run)) and "license_link" not in head(gather(run))
    (run / "02-rl" / "model" / "LICENSE").write_text("terms")
    assert "license_link: LICENSE" in head(gather(run))
    scratch = make_run(tmp_path / "scratch")
    with pytest.raises(SystemExit, match="0"):
        main(["card", str(scratch)])
    assert gather(derived(tmp_path / "b", str(scratch))).licence.id == "apache-2.0"


def test_problems_that_are_only_measured_do_not_decide_the_licence(tmp_path: Path) -> None:
    data = {**RECIPE["data"], "test": {"sources": [{"path": "test.jsonl"}]}}
    facts = gather(make_run(tmp_path / "mine", data=data))
    assert facts.licence.id == "apache-2.0" and [one.is_learned for one in facts.data] == [False, True, True]


def test_the_licence_of_rows_may_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "rows", data=ROWS)
    with pytest.raises(SystemExit, match="0"):
        main(["card", str(run), "--data-licence", "sft=cc-by-4.0"])
    assert "| sft | rows of rows.jsonl | – | sft | cc-by-4.0 |" in (run / "card.md").read_text()
    manifest = run / "01-sft" / "data" / "manifest.json"
    write_json(manifest, {"sources": [{"path": "rows.jsonl", "rows": 6_017}]})
    assert "| sft | rows of rows.jsonl | 6,017 | sft | unknown: the rows name none |" in markdown(gather(run))
    write_json(manifest, {"sources": [{"path": "other.jsonl", "rows": 6_017}]})
    assert "6,017" not in markdown(gather(run))
    for given, why in (
        ("sf=mit", "no such data"),
        ("test=mit", "are generated"),
        ("mit", "NAME=LICENCE"),
        ("sft=A b", "as the hub does"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["card", str(run), "--data-licence", given])
        assert why in " ".join(capsys.readouterr().err.split())


def test_a_gguf_file_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name the run or folder it was converted from"):
        gather(tmp_path / "model.gguf")


def test_names_and_whose_they_are(tmp_path: Path) -> None:
    own = make_run(tmp_path / "own", name="nano/exaone-deep")
    assert "nano-exaone-deep is the recipe's name. The name EXAONE is LG's" in gather(own).notes[0]
    assert gather(own, CardOptions(id="me/pebble")).notes == ()
    with pytest.raises(ConfigError, match="the name EXAONE is LG's, and these weights are not"):
        gather(own, CardOptions(id="me/My-Exaone"))
    lg = derived(tmp_path / "lg", "LGAI-EXAONE/EXAONE-4.0-1.2B", is_on_hub=True)
    config = lg / "02-rl" / "model" / "config.json"
    write_json(config, {**read_json(config), "_name_or_path": "LGAI-EXAONE/EXAONE-4.0-1.2B"})
    assert "asks that a derived model's name begin with EXAONE" in gather(lg).notes[0]
    assert gather(lg, CardOptions(id="me/EXAONE-mine")).notes == ()


def test_every_gpu_counts_for_the_energy(run: Path) -> None:
    write_json(run / "report.json", {"machine": {"device": "cuda:0", "ranks": 8}})
    energy = gather(run).energy
    assert energy is not None and energy.watts.value == 8_000
    assert energy.watts.sources == ("assumption of this package for a machine with 8 x cuda",)
    write_json(run / "report.json", {"machine": {"device": "cpu", "ranks": 8}})
    assert (energy := gather(run).energy) is not None and energy.watts.value == 100


def test_sampled_tokens_of_online_rl_are_counted(run: Path) -> None:
    rows = [{"step": 1, "useful_groups": 2, "mean_reply_tokens": 10.5}, {"step": 2, "useful_groups": 0}, {"step": 2}]
    write_jsonl(run / "02-rl" / "metrics.jsonl", rows)
    outcome = read_json(run / "02-rl" / "outcome.json")
    assert "nothing to learn" not in markdown(gather(run))
    write_json(run / "02-rl" / "outcome.json", {**outcome, "empty_steps": 2})
    stage = gather(run).stages[1]
    assert stage.sampled_tokens is not None and stage.sampled_tokens.value == 4 * 4 * 10.5  # prompts, group, tokens
    assert stage.empty_steps is not None and stage.empty_steps.value == 2
    assert "| steps | steps with nothing to learn | tokens |" in markdown(gather(run))


def test_the_flops_of_online_rl_see_prompt_and_reply() -> None:
    shape = validate(Recipe, RECIPE, "made up").shape
    assert shape is not None
    run = SimpleNamespace(shape_of=lambda stage: shape)
    prompts = SimpleNamespace(tokens_N=np.array([30, 40]), learned_N=np.array([0, 0]), unit_sizes_N=np.array([1, 1]))
    stage = SimpleNamespace(kind="rl", lora=None)
    found = _flops_per_token(cast(Run, run), cast(RlStage, stage), cast(Prepared, prompts), 50.0)
    matrices, width = shape.num_parameters, shape.num_heads * shape.head_width  # the embeddings are the head too
    assert found == 3 * (2 * matrices + 4 * shape.num_layers * width * (35 + 25))


def test_commands_run_as_they_are_printed(run: Path) -> None:
    facts = gather(run)
    code = re.findall(r"```\w+\n(.*?)```", markdown(facts), re.DOTALL)
    assert len(code) == 4 and "exaone chat 02-rl/model\n" in code[0] and "exaone eval .\n" in code[0]
    assert 'from_pretrained("02-rl/model")' in code[1] and "FOLDER" not in "".join(code)
    named = markdown(gather(run, CardOptions(id="me/mine")))
    assert "vllm serve me/mine --reasoning-parser" in named and "exaone eval me/mine --suite exaone-deep" in named
    for hostile in ("```\n# x", "$(touch x)", '"); evil("', "-x", "a b"):
        text = markdown(facts.model_copy(update={"model_folder": hostile}))
        assert "exaone chat .\n" in text and not re.search(r"^# x", text, re.MULTILINE)
    lg = markdown(facts.model_copy(update={"family": "exaone"}))
    assert "exaone convert 02-rl/model ../EXAONE-llama --to llama" in lg
    assert "vllm serve ../EXAONE-llama" in lg and 'from_pretrained("../EXAONE-llama")' in lg


@pytest.mark.parametrize("name", ["a/" + "b" * 400, "한글/모델", "a/b\u202e", "../../x", "a/" + "b" * 95 + "@v1"])
def test_any_name_of_an_endpoint_s_model_has_a_card(tmp_path: Path, name: str) -> None:
    report = tiny_evaluation.report(["aime_2025"])
    report["model"]["model"] = name
    write_json(tmp_path / "report.json", report)
    write_json(tmp_path / "evaluation.json", {})
    facts = gather(tmp_path)
    assert facts.id.isascii() and len(facts.id) < 200
    assert "Measured with engine local, dtype bfloat16." in markdown(facts)


def test_a_text_opens_no_list_and_no_mail() -> None:
    assert [inert(text) for text in ("- x", "+ x", "1. x", "12) x", "===", "---")] == [
        *("\\- x", "\\+ x", "1\\. x", "12\\) x", "\\===", "\\---"),
    ]
    assert inert("me@evil.example") == "me&#64;evil.example"
    assert [inert(text) for text in ("1.9%", "pass@1", "gpqa@1024")] == ["1.9%", "pass@1", "gpqa@1024"]
    assert card_markdown.inert("-1") == "\\-1"
