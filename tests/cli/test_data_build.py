"""`exaone data build`: SFT data from a teacher's responses; resumed by the same command, trained on as written."""

import re
import tomllib
from dataclasses import replace

import pytest

from doubles import TINY, make_model, make_tokenizer, write_sums
from mock_endpoint import mock_endpoint
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.base.interrupt import Interrupted
from open_exaone.base.records import StopReason
from open_exaone.checkpoint.folder import save_model
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.prepare import prepare
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.text.tokenizer import Tokenizer

WORDS = ["apple", "bridge", "candle", "dragon", "engine", "forest", "garden", "hammer"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    config = TINY.model_copy(update={"max_positions": 256})
    save_model(folder, config, dict(make_model(config).named_parameters()), make_tokenizer(), {})
    return folder


@pytest.fixture
def rows(tmp_path):
    return write_sums(tmp_path / "rows.jsonl", 4)


class Teacher:
    """Answers in the mode that is asked for, each time in other words; some answers are wrong."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, bool], int] = {}

    def __call__(self, question: str, body: dict) -> str:
        number = int(re.findall(r"\d+", question)[0])
        thinks = body.get("chat_template_kwargs", {}).get("enable_thinking", True)
        place = self.counts[question, thinks] = self.counts.get((question, thinks), -1) + 1
        answer = number + 1 if place != number else -7
        words = " ".join(f"the {word} is {place + index}" for index, word in enumerate(WORDS[place:] + WORDS[:place]))
        thought = f"<think>I see that {words}, and so it is {answer}.</think>" if thinks else ""
        return f"{thought}The answer is \\boxed{{{answer}}}."


def test_an_endpoint_s_verified_responses_become_rows(cli, rows, tmp_path):
    out = tmp_path / "out"
    with mock_endpoint(Teacher(), models=["lgai/EXAONE-4.0-32B"]) as server:
        asked = ("data", "build", server.url, rows, "--out", out, "--field", "domain=subject", "--concurrency", 1)
        code, text = cli(*asked, "--samples", 4, "--mode", "both", "--min-distance", 0.2)
        assert code == 0 and f"exaone train {out}/sft.toml --set model=MODEL" in text, text
        assert "12 of 32 responses kept, for 4 of 4 problems" in text
        assert "EXAONE AI Model License Agreement 1.2 - NC" in text and "compete with LG's" in text
        num_asked = len(server.requests)
        code, text = cli(*asked, "--samples", 4, "--mode", "both", "--keep", 1)
        assert code == 0 and "8 of 32 responses kept" in text and len(server.requests) == num_asked
        code, text = cli(*asked, "--samples", 4, "--mode", "both", "--max-tokens", 1)
        assert code == 1 and "none of 32 responses is kept" in text
        assert {path.name for path in out.iterdir()} == {"samples", "dropped.jsonl"}  # nothing of another choice
        code, text = cli("data", "filter", *asked[2:])
        assert code == 1 and "is not empty and holds no filter" in text, text  # though no build.json is there now
        code, text = cli(*asked, "--reasoning-ratio", 2)
        assert code == 2 and "--reasoning-ratio: has no effect with one mode" in text, text
        assert cli(*asked, "--samples", 4, "--mode", "both", "--min-distance", 0.2)[0] == 0
        files = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
        code, text = cli(*asked, "--samples", 4, "--mode", "both", "--temperature", 1)
        assert code == 1 and "differs in tasks.0.sampling.temperature" in text
        assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == files
    found, kept = read_json(out / "build.json"), read_jsonl(out / "sft.jsonl")
    assert found["dropped"] == {"wrong": 8, "too_alike": 8, "not_needed": 4} and found["num_kept"] == len(kept) == 12
    assert found["licence"]["prefix"] == "EXAONE" and found["teacher"]["model"] == "lgai/EXAONE-4.0-32B"
    assert found["per_domain"]["odd"]["num_responses"] == 16 and found["per_mode"]["reasoning"]["num_kept"] == 8
    dropped = read_jsonl(out / "dropped.jsonl")
    assert len(dropped) + len(kept) == 32 and all(row["why"] and row["reason"] for row in dropped)
    assert {row["verdict"] for row in kept} == {"correct"} and kept[0]["id"] == "build/1/reasoning/1"
    assert kept[0]["messages"][0] == {"role": "user", "content": "How much is 0 + 1?"}
    assert [("reasoning_content" in row["messages"][1]) == (row["mode"] == "reasoning") for row in kept] == [True] * 12
    recipe = tomllib.loads((out / "sft.toml").read_text())
    assert (
        recipe["data"]["sft"]["reasoning_ratio"] == 1.5 and "forbids using its output" in (out / "sft.toml").read_text()
    )
    page = (out / "report.html").read_text()
    assert "not needed" in page and "LG&#39;s" in page and "1.5 : 1" in page
    code, text = cli("data", "check", out / "sft.jsonl")
    assert code == 0 and "12 rows of the format messages: 12 good" in text


def test_what_a_teacher_lacks_is_reported(cli, rows, tmp_path):
    def reply(question: str, body: dict) -> str:
        number = int(re.findall(r"\d+", question)[0])
        return "" if number == 0 else f"<think>I add one to it.</think>The answer is \\boxed{{{number + 1}}}."

    out = tmp_path / "out"
    asked = ("data", "build", "--samples", 1, "--out", out, "--concurrency", 1)
    with mock_endpoint(reply, fail_prompts=["How much is 3 + 1?"], error_share=0.2) as server:
        port = server.server_address[1]
        flags = ("--mode", "both", "--engine-option", "max_attempts=3")
        code, text = cli(*asked, server.url, rows, *flags)
        found = read_json(out / "build.json")
        assert code == 1 and found["dropped"]["no_reply"] == 2 and found["dropped"]["unwanted_thought"] == 2
        assert "no response in mode 'non_reasoning' is kept: sft.toml has no reasoning_ratio" in text, text
        assert "reasoning_ratio" not in (out / "sft.toml").read_text() and found["licence"] is None
    with mock_endpoint(reply, port=port) as server:
        code, text = cli(*asked, server.url, rows, *flags)
        assert code == 0 and read_json(out / "build.json")["num_missing"] == 0
        assert server.num_by_prompt.total() == 2  # what was missing alone
    assert "domain" in read_jsonl(out / "sft.jsonl")[0]


def test_one_mode_far_too_small_is_reported(cli, rows, tmp_path):
    def reply(question: str, body: dict) -> str:
        number = int(re.findall(r"\d+", question)[0])
        thought = " ".join(f"{n} and {n} are {2 * n} here, so that I go on." for n in range(20))
        thinks = body.get("chat_template_kwargs", {}).get("enable_thinking", True)
        return (f"<think>{thought}</think>" if thinks else "") + f"The answer is \\boxed{{{number + 1}}}."

    with mock_endpoint(reply) as server:
        code, text = cli("data", "build", server.url, rows, "--out", tmp_path / "out", "--mode", "both", "--samples", 1)
    assert code == 0 and re.search(
        r"at 1\.5 : 1 an epoch repeats the non_reasoning responses 4 times and holds", text
    ), text


def test_a_build_that_was_cut_ends_as_one_that_was_not(cli, model, rows, tmp_path, monkeypatch):
    stream, sampled = LocalProvider.stream, []

    def corrected(provider, requests):
        """The tiny model's own samples, with an answer behind some of them."""
        for place, found in stream(provider, requests):
            sampled.append(place)
            number = int(re.findall(r"\d+", requests[place].messages[0]["content"])[0])
            answer = number + 1 if requests[place].index % 2 else -7
            reply = replace(found.reply, answer=f"The answer is \\boxed{{{answer}}}.", thought="I add.", finished=True)
            yield place, replace(found, reply=reply, stop=StopReason.END)

    monkeypatch.setattr(LocalProvider, "stream", corrected)
    asked = ("data", "build", model, rows, "--max-new-tokens", 6)
    code, text = cli(*asked, "--out", tmp_path / "whole")
    assert code == 0 and "4 of 16 responses kept" in text, text

    def cut(provider, requests):
        for number, found in enumerate(corrected(provider, requests)):
            if number == 10:
                raise Interrupted
            yield found

    monkeypatch.setattr(LocalProvider, "stream", cut)
    assert cli(*asked, "--out", tmp_path / "cut")[0] == 130 and not (tmp_path / "cut" / "sft.jsonl").exists()
    sampled.clear()
    monkeypatch.setattr(LocalProvider, "stream", corrected)
    code, text = cli(*asked, "--out", tmp_path / "cut")
    assert code == 0 and "build: continuing at sample" in text and len(sampled) == 6
    for name in ("sft.jsonl", "dropped.jsonl", "report.html", "samples/samples.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


SECOND_PASS = """
disjoint = true

[data.again]
reuses = "sft"
bad_rows = "drop"
sources = [{ path = "SFT", domains = ["odd"], mode = "reasoning" }]

[[stages]]
kind = "sft"
name = "again"
data = "again"
num_epochs = 1
optimizer = { learning_rate = 1e-3, kind = "adamw" }
"""


def test_the_recipe_beside_the_rows_trains_on_them_and_a_second_stage_on_a_domain_s_thoughts(
    cli, model, rows, tmp_path
):
    out = tmp_path / "out"
    asked = ("data", "build", rows, "--out", out, "--mode", "both", "--concurrency", 1, "--field", "domain=subject")
    with mock_endpoint(Teacher()) as server:
        assert cli(*asked[:2], server.url, *asked[2:])[0] == 0
    sets = ("--set", f"model={model}", "--set", "sft.max_tokens=250")
    code, text = cli("train", out / "sft.toml", *sets, "--out", tmp_path / "once")
    assert code == 0, text
    counted = read_json(tmp_path / "once" / "01-sft" / "data" / "manifest.json")["sources"][0]
    assert counted["dropped"] == {} and not counted["unread"]  # the columns besides are named in `ignore`
    first, second = SECOND_PASS.replace("SFT", str(out / "sft.jsonl")).split("\n\n", 1)
    recipe = tmp_path / "twice.toml"
    recipe.write_text(first + "\n" + (out / "sft.toml").read_text() + second)
    code, text = cli("run", recipe, *sets, "--out", tmp_path / "twice")
    assert code == 0, text
    again = read_json(tmp_path / "twice" / "02-again" / "data" / "manifest.json")
    wanted = [row for row in read_jsonl(out / "sft.jsonl") if (row["domain"], row["mode"]) == ("odd", "reasoning")]
    assert again["sources"][0]["examples"] == len(wanted) > 0
    assert again["sources"][0]["dropped"] == {"no thought": 4}  # the rows in non-reasoning mode
    recipe.write_text(recipe.read_text().replace('reuses = "sft"', ""))
    code, text = cli("run", recipe, *sets, "--out", tmp_path / "shared")
    assert code == 1 and "disjoint = true" in text


@pytest.mark.parametrize(("name", "tag"), [("exaone-deep", "thought"), ("exaone-4.0", "think")])
def test_thoughts_are_learned_in_the_chat_format_s_own_tags(cli, tokenizer_folder, rows, tmp_path, name, tag):
    out = tmp_path / "out"
    with mock_endpoint(Teacher()) as server:
        assert cli("data", "build", server.url, rows, "--out", out, "--concurrency", 1)[0] == 0
    tokenizer = Tokenizer.load(tokenizer_folder, chat_format=name)
    data = DataConfig(sources=(SourceConfig(path=str(out / "sft.jsonl")),))
    prepared = prepare(data, tokenizer, tmp_path / "data", kind="sft", max_tokens=2000)
    kept = read_jsonl(out / "sft.jsonl")
    assert len(kept) == len(prepared.documents) == 8
    for row, document in zip(kept, prepared.documents, strict=True):
        text = tokenizer.decode(document.ids)
        learned = tokenizer.decode(document.ids[document.loss_mask])
        reply = row["messages"][1]
        assert f"<{tag}>\n{reply['reasoning_content']}\n</{tag}>" in text
        assert f"{reply['reasoning_content']}\n</{tag}>\n\n{reply['content']}[|endofturn|]" in learned
        assert row["messages"][0]["content"] not in learned
