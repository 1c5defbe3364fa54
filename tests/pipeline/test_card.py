"""A model's card: every number in it stands in a file of the run, and what its texts hold acts nowhere."""

import base64
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from markdown_it import MarkdownIt

import tiny_evaluation
from made_up_run import RECIPE, make_model, make_run
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_json, read_jsonl, write_json, write_jsonl
from open_exaone.cli.main import main
from open_exaone.pipeline.card import CardOptions, gather, write_cards
from open_exaone.pipeline.evaluate import shown_name
from open_exaone.present import card, card_markdown, every_eval_ever
from open_exaone.present.card_facts import Facts
from open_exaone.present.card_hub import eval_results, yaml_text
from open_exaone.present.card_page import page
from open_exaone.present.formatting import duration, number, percent
from open_exaone.present.localized import Texts

HOSTILE = (
    tiny_evaluation.HOSTILE
    + tiny_evaluation.STEERING
    + "`|[x](javascript:alert(1)) ![i](http://evil.example/p)\n---\n# x"
)

TAGS = {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "pre", "code"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "mine")
    metrics = [{"step": step, "useful_groups": 3, "mean_reply_tokens": 31.4 + step} for step in (1, 2, 3)]
    write_jsonl(folder / "02-rl" / "metrics.jsonl", metrics)
    machine = {"hardware": "Processor 77", "device": "cpu", "dtype": "float32", "threads": 13, "ranks": 1}
    versions = {"python": "3.99.1", "torch": "2.98.6"}
    write_json(folder / "report.json", {"config_hash": "9a" * 8, "machine": machine, "versions": versions})
    return folder


def figures(value: Any) -> list[dict[str, Any]]:
    """Every number of card.json, with its sources."""
    if isinstance(value, dict):
        found = [value] if "sources" in value else []
        return found + [one for part in value.values() for one in figures(part)]
    return [one for part in value for one in figures(part)] if isinstance(value, list) else []


def change(path: Path, field: str) -> None:
    """Makes the number at a dotted field of a JSON or TOML file another one."""
    if path.suffix == ".toml":
        key = field.rpartition(".")[2]
        texts = path.read_text().splitlines()
        section = f"[[{field.rpartition('.sources')[0]}.sources]]" if "sources" in field else ""
        start = texts.index(section) if section else 0
        place = next(n for n in range(start, len(texts)) if texts[n].startswith(f"{key} = "))
        texts[place] = f"{key} = {int(texts[place].split('=')[1]) + 8}"
        path.write_text("\n".join(texts) + "\n")
        return
    if path.suffix == ".jsonl":
        write_jsonl(path, [{**row, field: 1.25 * row[field]} for row in read_jsonl(path)])
        return
    values = read_json(path)
    *keys, last = [int(key) if key.isdecimal() else key for key in field.split(".")]
    at = values
    for key in keys:
        at = at[key]
    if isinstance(at[last], str):
        at[last] = re.sub(r"\d(?=\D*$)", lambda digit: str(9 - int(digit[0])), at[last])
    else:
        at[last] = at[last] * 1.25 if isinstance(at[last], float) else at[last] * 2
    write_json(path, values)


def test_every_number_has_a_file_and_the_card_follows_it(run: Path, tmp_path: Path) -> None:
    facts = gather(run)
    text = card_markdown.markdown(facts)
    sources = {source for one in figures(facts.model_dump(mode="json")) for source in one["sources"]}
    places = sorted(
        source for source in sources if not source.startswith("assumption") and not source.endswith("its size")
    )
    texts = [f"machine.{key}" for key in ("hardware", "threads", "ranks")] + ["versions.torch", "config_hash"]
    places += [*(f"report.json: {field}" for field in texts), "rendering.json: rendered_at"]
    assert len(places) > 55 and "02-rl/metrics.jsonl: mean_reply_tokens" in places
    for source in places:
        name, _, field = source.partition(": ")
        copy = tmp_path / "copy"
        shutil.copytree(run, copy)
        if name.endswith("config.json"):  # a change that the shape bears
            values = read_json(copy / name)
            factor = {"num_key_value_heads": 3, "sliding_window_pattern": 1}.get(field, 2)
            layers = {"layer_types": values["layer_types"] * 2} if field == "num_hidden_layers" else {}
            write_json(copy / name, {**values, field: values[field] * factor, **layers})
        else:
            change(copy / name, field)
        assert card_markdown.markdown(gather(copy)) != text, source
        shutil.rmtree(copy)


def test_no_number_stands_in_the_card_that_is_not_in_the_files(run: Path) -> None:
    facts = gather(run)
    known: set[str] = set()
    for one in figures(facts.model_dump(mode="json")):
        value = one["value"]
        written = (f"{value:,}", f"{value:g}", number(value), duration(value), percent(value), f"{value:.2e}")
        for text in (*written, f"{100 * value:.1f}", f"{round(100 * value, 2)}", card.exact(value)):
            known |= set(re.findall(r"[\d.,]*\d", text))
    size, tokens = facts.parameters, facts.tokens
    assert size is not None and tokens is not None
    ratio, score = card.readings.token_ratio(size.value, tokens.value), card.readings.alscore(size.value, tokens.value)
    known |= set(re.findall(r"[\d.,]*\d", f"{ratio} {card.alscore_text(score)}"))  # by the rules that the card states
    fixed = " ".join([*map(card.ENGLISH, ("from_scratch", "how")), "300 rule 20 pass@1 cons@ 2.0 1.0"])
    known |= set(re.findall(r"[\d.,]*\d", fixed))
    known |= set(re.findall(r"[\d.,]*\d", " ".join([*facts.machine.values(), *facts.versions.values()])))
    texts = [facts.revision, facts.config_hash, facts.date, *(file.sha256 for file in facts.files)]
    plain = card_markdown.markdown(facts).partition("\n## How to run it")[0]
    plain += card_markdown.markdown(facts).partition("\n## Revision and checksums")[2]
    for text in texts:
        plain = plain.replace(text, "")
    found = set(re.findall(r"(?<![\w.])[\d.,]*\d", plain))
    assert found - known == set()
    assert len(found) > 40


def test_the_metadata_and_the_results_are_what_the_hub_reads(run: Path) -> None:
    _, paths = write_cards(run, CardOptions(id="me/mine"))
    text = (run / "card.md").read_text(encoding="utf-8")
    read = ModelCard(text)
    assert read.data.license == "apache-2.0" and read.data.language == ["en", "ko"]
    assert read.data.pipeline_tag == "text-generation" and read.data.base_model is None
    results: list[EvalResult] = read.data.eval_results
    assert [(one.dataset_name, one.metric_value) for one in results] == [("test (reasoning)", 62.57)]
    assert not (run / ".eval_results").exists()  # generated problems are no data set of the hub
    assert {path.name for path in paths[:5]} == {"card.md", "card.html", "card.ko.md", "card.ko.html", "card.json"}


def test_a_benchmark_of_the_hub_gets_a_file_for_each_measurement(tmp_path: Path) -> None:
    facts = gather(evaluation(tmp_path / "e", ["gpqa_diamond", "gpqa_diamond@1024", "mine"]))
    files = eval_results(facts, "https://example.org/logs")
    assert list(files) == ["gpqa_diamond.yaml", "gpqa_diamond_budget_1_024.yaml"]
    (entry,) = yaml.safe_load(yaml_text(files["gpqa_diamond.yaml"]))
    assert entry["dataset"] == {"id": "Idavidrein/gpqa", "task_id": "gpqa_diamond"}
    assert (entry["value"], entry["date"]) == (52.0, "2026-03-04")
    assert entry["source"] == {"url": "https://example.org/logs", "name": "Open-EXAONE"}
    assert "30 problems x 8 samples" in entry["notes"] and "95% interval 45.9–58.3" in entry["notes"]
    assert "budget 1,024" in files["gpqa_diamond_budget_1_024.yaml"][0]["notes"]
    try:
        from huggingface_hub import parse_eval_result_entries
    except ImportError:
        return  # an older hub client
    assert [one.task_id for one in parse_eval_result_entries([entry])] == ["gpqa_diamond"]


def evaluation(folder: Path, names: list[str], **changes: Any) -> Path:
    """The folder of an evaluation, as far as a card reads it."""
    report = tiny_evaluation.report(names)
    for task in report["tasks"]:
        task["is_whole"] = True
        task.update(changes)
    write_json(folder / "report.json", report)
    write_json(folder / "evaluation.json", {})
    return folder


def test_results_stand_beside_published_ones(tmp_path: Path) -> None:
    (result,) = gather(evaluation(tmp_path / "e", ["aime_2025"])).results
    top = result.published[0]
    assert (top.model, top.percent) == ("DeepSeek R1-0528", 87.5)
    assert top.low is not None and top.high is not None and top.low < 87.5 < top.high
    part = gather(evaluation(tmp_path / "part", ["aime_2025"], is_whole=False))
    assert part.results[0].published == () and "part of the benchmark" in card_markdown.markdown(part)


def test_a_result_without_n_has_no_interval_and_says_so(tmp_path: Path) -> None:
    facts = gather(evaluation(tmp_path / "e", ["aime_2025"], num_problems=None, ci95=None))
    text = card_markdown.markdown(facts)
    assert "not stated" in text and "no interval can be given" in text
    found = every_eval_ever.record(facts)
    assert found is not None and "uncertainty" not in found[1]["evaluation_results"][0]["score_details"]


def test_two_identical_runs_differ_in_times_and_energy_alone(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    write_json(second / "rendering.json", {"rendered_at": "2026-09-09T09:09:09"})
    write_json(second / "prepared.json", {"seconds": 41.0})
    for stage in ("01-sft", "02-rl"):
        outcome = read_json(second / stage / "outcome.json")
        write_json(second / stage / "outcome.json", {**outcome, "train_seconds": 99.1, "peak_rss_bytes": 1})
        write_json(second / stage / "eval" / "outcome.json", {"seconds": 8.8})
    cards = [card_markdown.markdown(gather(folder)).splitlines() for folder in (first, second)]
    lines = [(one, other) for one, other in zip(*cards, strict=True) if one != other]
    assert {one.split("|")[1].strip() if one.startswith("|") else one.split(":")[0] for one, _ in lines} == {
        *("date", "sft", "rl", "time, measuring included", "Energy"),
    }
    for one, other in lines:
        if one.startswith(("| sft", "| rl")):  # a stage's row differs in its time alone
            cells = zip(one.split("|"), other.split("|"), strict=True)
            assert [a.strip() for a, b in cells if a != b] in (["1 min 11 s"], ["34 s"])
    records = [every_eval_ever.record(gather(folder)) for folder in (first, second)]
    assert records[0] is not None and records[1] is not None and records[0][0] == records[1][0]


def test_an_unfinished_run_says_which_stage_is_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "mine", stages=1)
    with pytest.raises(SystemExit, match="0"):
        main(["card", str(run)])
    assert "sft of its 2 stages are done, rl not yet" in " ".join(capsys.readouterr().out.split())
    assert "exaone run FOLDER/recipe.toml" in (run / "card.md").read_text()
    assert [stage.name for stage in gather(run).stages] == ["sft"]
    with pytest.raises(ConfigError, match=r"no stage of this run has finished yet: run `exaone run .*recipe\.toml"):
        gather(make_run(tmp_path / "none", stages=0))


def test_a_stage_s_model_folder_has_the_card_of_the_run_so_far(run: Path) -> None:
    facts = gather(run / "01-sft" / "model")
    assert (facts.name, [stage.name for stage in facts.stages]) == ("mine", ["sft"])
    assert [result.stage for result in facts.results] == ["sft"]


def test_a_stage_s_model_is_not_called_model(run: Path, tmp_path: Path) -> None:
    assert shown_name(run / "01-sft" / "model") == "mine/01-sft"
    assert shown_name(make_model(tmp_path / "elsewhere" / "model")) == "model"


def test_licences(tmp_path: Path, run: Path) -> None:
    folder = make_model(tmp_path / "some")
    assert gather(folder).licence.id == "unknown"
    assert "license: unknown" in card_markdown.markdown(gather(folder))
    assert gather(folder, CardOptions(licence="mit")).licence.id == "mit"
    for text, known in (
        ("MIT License\n\nCopyright", "mit"),
        ("  Apache License\n  Version 2.0, January", "apache-2.0"),
    ):
        (folder / "LICENSE").write_text(text)
        assert gather(folder).licence.id == known
    (folder / "LICENSE").write_text("terms like those of the MIT License")
    assert gather(folder).licence.id == "other"
    (folder / "README.md").write_text("---\ntags: []\nlicense: 'MIT'\n---\nlicense: gpl\n")
    assert gather(folder).licence.id == "mit"
    lg = make_model(tmp_path / "EXAONE-4.0-1.2B")
    facts = gather(lg)
    assert facts.licence.name == "EXAONE AI Model License Agreement 1.2 - NC"
    assert "license_name: exaone" in card_markdown.markdown(facts)
    with pytest.raises(ConfigError, match="leave it out"):
        gather(lg, CardOptions(licence="mit"))
    with pytest.raises(ConfigError, match="begin with EXAONE"):
        gather(lg, CardOptions(id="me/better"))
    rows = {"sft": {"sources": [{"path": "rows.jsonl"}]}}
    recipe_data = {**RECIPE["data"], **rows}
    other = make_run(tmp_path / "rows", data=recipe_data)
    assert gather(other).licence.id == "unknown"
    assert "unknown: the rows name none" in card_markdown.markdown(gather(other))


def test_an_evaluation_of_other_weights_is_refused(run: Path, tmp_path: Path) -> None:
    other = evaluation(tmp_path / "e", ["aime_2025"])
    report = read_json(other / "report.json")
    report["model"]["weights"] = "ab" * 32
    write_json(other / "report.json", report)
    with pytest.raises(DataError, match=r"with other weights \(abababababab\)"):
        gather(run, CardOptions(evaluations=(other,)))
    report["model"]["weights"] = gather(run).revision
    write_json(other / "report.json", report)
    assert [result.benchmark for result in gather(run, CardOptions(evaluations=(other,))).results][-1] == "aime_2025"
    with pytest.raises(DataError, match="is no folder of an evaluation"):
        gather(run, CardOptions(evaluations=(tmp_path,)))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (CardOptions(id="no-owner"), "--name no-owner: write it as owner/name"),
        (CardOptions(licence="Apache 2"), "--licence Apache 2"),
        (CardOptions(watts=-1.0), "--watts -1"),
        (CardOptions(source_url="javascript:alert(1)"), "--source-url"),
    ],
)
def test_wrong_options(run: Path, options: CardOptions, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        gather(run, options)


def test_watts_are_an_assumption_that_may_be_given(run: Path) -> None:
    seconds = 2.9 + 71.3 + 33.7 + 2 * 5.17
    for watts, given in ((100.0, None), (500.0, 500.0)):
        energy = gather(run, CardOptions(watts=given)).energy
        assert energy is not None and energy.kwh.value == pytest.approx(seconds * watts / 3.6e6)


def hostile_facts(run: Path) -> Facts:
    """Facts in which every free text is hostile."""

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {(name if key != "versions" else HOSTILE): spoil(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [spoil(part, key) for part in value]
        kept = {"origin", "date", "sources", "id", "mode", "schema_version", "kind"}
        return HOSTILE if isinstance(value, str) and key not in kept else value

    return Facts.model_validate(spoil(gather(run).model_dump(mode="json")))


@pytest.mark.parametrize("language", ["en", "ko"])
def test_hostile_texts_are_inert_in_markdown(run: Path, language: str) -> None:
    text = card_markdown.markdown(hostile_facts(run), Texts("card", language))
    assert not re.search("[\x00-\x08\x1b\u202e\ud800]", text)
    block = REGEX_YAML_BLOCK.search(text)  # as the hub finds it
    assert block
    body = text[block.end() :]
    html = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").render(body)
    assert set(re.findall(r"<([a-z0-9]+)", html)) <= TAGS
    head = yaml.safe_load(block[2])
    assert head["license"] == "apache-2.0" or "script" in head["license"]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_hostile_texts_are_inert_in_the_page_and_in_yaml(run: Path, language: str) -> None:
    facts = hostile_facts(run)
    text = page(facts, Texts("card", language))
    assert set(re.findall(r"<(script|img|iframe|link)\b", text)) == set()
    assert re.findall(r"<a [^>]*href=\"([^\"]*)\"", text) == ["#main", "card.ko.html"]
    assert not re.search("[\x00-\x08\x1b\u202e]", text)
    policy = re.search(r"style-src 'sha256-([^']+)'", text)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert policy and style
    assert policy[1] == base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    result = facts.results[-1].model_copy(update={"hub": "a/b", "stage": None})
    files = eval_results(facts.model_copy(update={"results": (result,)}))
    (entries,) = files.values()
    assert yaml.safe_load(yaml_text(entries)) == entries
    assert all(re.fullmatch(r"[a-z0-9_]+\.yaml", name) for name in files)


def test_a_long_text_is_cut_everywhere(tmp_path: Path) -> None:
    long = "# x\u202e\x00`|<i>" * 12_000  # more than 100 KB
    report = tiny_evaluation.report(["aime_2025"])
    report["model"] |= {"model": long, "notes": [long]}
    report["tasks"][0] |= {
        "benchmark": long,
        "mode": long,
        "per_task": {long: report["tasks"][0]["per_task"]["algebra"]},
    }
    write_json(tmp_path / "report.json", report)
    write_json(tmp_path / "evaluation.json", {})
    facts, paths = write_cards(tmp_path)
    assert len(facts.name) <= 20_000
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert len(text) < 2_000_000 and not re.search("[\x00\u202e]", text), path
        shown = {".md": text.partition("\n---\n")[2], ".html": text}.get(path.suffix, "")  # the rest is data
        assert not re.search("<i>|^# x", shown, re.MULTILINE), path
    assert len(eval_results(facts)) == 0 and all(len(path.name) < 100 for path in paths)
    assert len(ModelCard((tmp_path / "card.md").read_text(encoding="utf-8")).data.model_name) <= 300


JUNK = (None, True, "x", [], {}, -1, 0, 1e308, 10**400, [1e308, 2], {"a.b": {"pass_at_1": 0.5}})


def test_an_older_card_s_results_go_and_others_stay(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "e", ["gpqa_diamond", "mmlu_pro"])
    write_cards(folder)
    (folder / ".eval_results" / "theirs.yaml").write_text("kept")
    evaluation(folder, ["mmlu_pro"])
    write_cards(folder)
    assert {path.name for path in (folder / ".eval_results").iterdir()} == {"mmlu_pro.yaml", "theirs.yaml"}
    assert len(list((folder / "every_eval_ever").rglob("*.json"))) == 1


@pytest.mark.parametrize("identity", ["../../x/y", "a/../../b", "/etc/x", "a", "a/b/c"])
def test_a_card_json_leads_nowhere_else(run: Path, tmp_path: Path, identity: str) -> None:
    write_cards(run, out=tmp_path / "card")
    values = read_json(tmp_path / "card" / "card.json")
    write_json(tmp_path / "card" / "card.json", {**values, "id": identity})
    with pytest.raises(DataError, match=r"card\.json: id: "):
        write_cards(tmp_path / "card")


@pytest.mark.parametrize("junk", JUNK, ids=lambda value: str(value)[:12])
def test_odd_values_in_a_file_never_raise(tmp_path: Path, junk: Any) -> None:
    report = tiny_evaluation.report(["aime_2025"])
    (task,) = report["tasks"]
    for key in {*task, "per_task"} - {"pass_at_1"}:
        task[key] = junk
    places = [report["model"], report]
    for place in places:
        for key in set(place) - {"schema_version", "tasks", "model"}:
            place[key] = junk
    write_json(tmp_path / "report.json", report)
    write_json(tmp_path / "evaluation.json", junk)
    facts = gather(tmp_path)
    assert "52.0%" in card_markdown.markdown(facts) and "52.0%" in page(facts)
    assert every_eval_ever.record(facts) is not None
    if isinstance(junk, dict) and junk:
        assert [part.name for part in facts.results[0].per_task] == ["a.b"]


def test_a_card_json_is_read_again_and_a_broken_one_refused(run: Path, tmp_path: Path) -> None:
    facts, _ = write_cards(run, out=tmp_path / "card")
    assert gather(tmp_path / "card") == facts
    values = read_json(tmp_path / "card" / "card.json")
    write_json(tmp_path / "card" / "card.json", {**values, "name": 5})
    with pytest.raises(DataError, match=r"card\.json: name: "):
        gather(tmp_path / "card")


def test_the_record_has_what_every_eval_ever_asks_for(run: Path) -> None:
    found = every_eval_ever.record(gather(run, CardOptions(id="me/mine")))
    assert found is not None
    path, value = found
    assert re.fullmatch(r"data/open-exaone/me/mine/[0-9a-f-]{14}4[0-9a-f]{3}-[89ab][0-9a-f-]{16}\.json", path)
    assert value["schema_version"] == "0.3.0" and value["model_info"]["id"] == "me/mine"
    (result,) = value["evaluation_results"]
    assert result["score_details"]["score"] == 0.6257
    assert result["score_details"]["uncertainty"]["confidence_interval"]["lower"] == 0.5683
    assert value["evaluation_timestamp"] == "1772600767"
    assert all(isinstance(text, str) for text in value["model_info"]["additional_details"].values())


def test_every_eval_ever_s_own_schema_takes_the_record(run: Path, tmp_path: Path) -> None:
    types = pytest.importorskip("every_eval_ever.eval_types", reason="every-eval-ever is not installed")
    whole = evaluation(tmp_path / "e", ["gpqa_diamond", "gpqa_diamond@1024", "mine"])
    bare = evaluation(tmp_path / "bare", ["aime_2025"], num_problems=None, ci95=None)
    for source in (run, whole, bare):
        found = every_eval_ever.record(gather(source))
        assert found is not None
        types.EvaluationLog.model_validate(found[1])
