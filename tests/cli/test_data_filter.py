"""`exaone data filter`: any model, any files; resumed by the same command."""

import re

import pytest

from doubles import TINY, make_model, make_tokenizer, write_sums
from mock_endpoint import mock_endpoint
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.base.interrupt import Interrupted
from open_exaone.checkpoint.folder import save_model
from open_exaone.pipeline.evaluate import Choices
from open_exaone.pipeline.sampled import Asking
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.verify.settings import JudgeSettings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    return folder


@pytest.fixture
def rows(tmp_path):
    return write_sums(tmp_path / "rows.jsonl", 6)


def test_an_endpoint_s_problems_are_kept_by_their_pass_rates(cli, rows, tmp_path):
    counted: dict[str, int] = {}

    def reply(question: str, body: dict) -> str:
        number = int(re.findall(r"\d+", question)[0])
        counted[question] = counted.get(question, 0) + 1
        return f"<think>so</think>The answer is \\boxed{{{number + 1 if counted[question] <= number else -7}}}."

    out = tmp_path / "out"
    with mock_endpoint(reply) as server:
        asked = ("data", "filter", server.url, rows, "--out", out, "--samples", 4, "--field", "domain=subject")
        code, text = cli(*asked, "--concurrency", 1)
        assert code == 0 and "4 of 6 problems kept (dropped: 2 too easy)" in text, text
        code, text = cli(*asked, "--min-correct", 1)
        assert code == 0 and "3 of 6 problems kept (dropped: 2 too easy, 1 too hard)" in text
        code, text = cli(*asked, "--min-correct", 4, "--max-correct", 4)
        assert code == 0 and "2 of 6 problems kept" in text
        assert len(server.requests) == 24  # the samples that are there are used
    found = read_json(out / "filter.json")
    assert found["histogram"] == [1, 1, 1, 1, 2] and found["per_task"]["even"]["histogram"] == [1, 0, 1, 0, 1]
    kept = read_jsonl(out / "kept.jsonl")
    assert [row["question"] for row in kept] == ["How much is 4 + 1?", "How much is 5 + 1?"]
    assert [row["metadata"]["pass_rate"] for row in kept] == [1.0, 1.0]
    rates = [row["pass_rate"] for row in read_jsonl(out / "pass_rates.jsonl")]
    assert rates == [0, 0.25, 0.5, 0.75, 1, 1]
    page = (out / "report.html").read_text()
    assert "even: problems by correct samples of 4: 0 correct: 1; 1 correct: 0; 2 correct: 1" in page
    code, text = cli("data", "check", out / "kept.jsonl")
    assert code == 0 and "2 rows of the format problems: 2 good" in text


def test_a_filter_that_was_cut_ends_as_one_that_was_not(cli, model, rows, tmp_path, monkeypatch):
    asked = ("data", "filter", model, rows, "--samples", 4, "--max-new-tokens", 6, "--max-correct", 4)
    assert cli(*asked, "--out", tmp_path / "whole")[0] == 0
    stream, sampled = LocalProvider.stream, []

    def cut(provider, requests):
        for number, found in enumerate(stream(provider, requests)):
            if number == 10:
                raise Interrupted
            yield found

    monkeypatch.setattr(LocalProvider, "stream", cut)
    code, text = cli(*asked, "--out", tmp_path / "cut")
    assert code == 130 and not (tmp_path / "cut" / "kept.jsonl").exists()

    def watched(provider, requests):
        sampled.extend(requests)
        yield from stream(provider, requests)

    monkeypatch.setattr(LocalProvider, "stream", watched)
    code, text = cli(*asked, "--out", tmp_path / "cut")
    assert code == 0 and "filter: continuing at sample" in text and len(sampled) == 14
    for name in ("kept.jsonl", "pass_rates.jsonl", "report.html", "samples/samples.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_refused_command_leaves_what_is_kept(cli, model, rows, tmp_path):
    asked = ("data", "filter", model, rows, "--samples", 2, "--max-new-tokens", 6, "--max-correct", 2)
    assert cli(*asked, "--out", tmp_path / "out")[0] == 0
    kept = (tmp_path / "out" / "kept.jsonl").read_bytes()
    code, text = cli(*asked, "--out", tmp_path / "out", "--temperature", 0.5)
    assert code == 1 and "differs in tasks.0.sampling.temperature" in text
    assert (tmp_path / "out" / "kept.jsonl").read_bytes() == kept and (tmp_path / "out" / "filter.json").is_file()


def test_a_run_s_folder_is_left_alone_and_its_model_is_judged_as_the_run_does(cli, model, rows, tmp_path):
    text = f"""name = "mine"
model = "{model}"
data.rows.sources = [{{ path = "{rows}" }}]
judge.time_limit_s = 2.5
[[stages]]
kind = "filter"
name = "filter"
data = "rows"
max_new_tokens = 6
"""
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text(text)
    code, text = cli("data", "filter", model, rows, "--out", run / "01-filter")
    assert code == 1 and "01-filter: belongs to a run: choose another --out" in text
    limits = [Asking(source=str(one), data=None, out=run, engine=Choices()).judge for one in (run, model)]
    assert limits[0].time_limit_s == 2.5 and limits[1] == JudgeSettings()


def test_a_recipe_is_no_file_of_problems(cli, model, tmp_path):
    for command in ("filter", "build"):
        code, text = cli("data", command, model, "src/open_exaone/recipes/nano/exaone-deep.toml", "--out", tmp_path)
        assert code == 2 and "is a recipe: name the files of those of its problems that are meant" in text


def test_a_file_without_problems_is_named(cli, model, tmp_path):
    path = tmp_path / "sft.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    code, text = cli("data", "filter", model, path, "--out", tmp_path / "out")
    assert code == 1 and f"row 1 of {path} is no problem with an answer" in text and not (tmp_path / "out").exists()


def test_what_cannot_be_filtered_is_named(cli, model, rows, tmp_path):
    asked = ("data", "filter", model, rows, "--out")
    for flags, status, why in (
        (["--samples", 4, "--max-correct", 5], 2, "--max-correct 5: must lie in --min-correct 0 to --samples 4"),
        (["--max-new-tokens", 128], 1, "no prompt fits: the model's context of 128 tokens less 128 for the reply"),
        (
            ["--min-correct", 2, "--samples", 2, "--max-correct", 2, "--max-new-tokens", 2],
            1,
            "--min-correct 2 and --max-correct 2 of 2: 0 are solved more often, 6 less often, 0 could not be judged: "
            "lower --min-correct",
        ),
        (["--top-p", 0, "--temperature", 0], 2, "data filter: --top-p 0.0: should be greater than 0"),
        (["--samples", 0, "--stop", ""], 2, "data filter: --samples 0: should be greater"),
        (["--concurrency", 2], 2, "--concurrency 2: is for servers"),
        (["--ranks", 2, "--engine", "vllm"], 2, "--ranks 2: one vLLM computes on several GPUs by itself"),
        (["--ranks", 2, "--engine", "http://127.0.0.1:9/v1"], 2, "--ranks 2: a server is asked by one process"),
        (["--engine", "fast"], 2, "--engine fast: must be local, vllm"),
    ):
        code, text = cli(*asked, tmp_path / "refused", *flags)
        assert code == status and why in text, text
    code, text = cli(*asked, tmp_path)
    assert code == 1 and "is not empty and holds no filter" in text
    (tmp_path / "texts.jsonl").write_text('{"text": "no problem"}\n')
    code, text = cli("data", "filter", model, tmp_path / "texts.jsonl", "--out", tmp_path / "out")
    assert code == 1 and "is no problem with an answer" in text


def test_replies_are_drawn_as_flags_say(cli, model, rows, tmp_path, monkeypatch):
    seen = []
    stream = LocalProvider.stream

    def watched(provider, requests):
        seen.extend(request.sampling for request in requests)
        yield from stream(provider, requests)

    monkeypatch.setattr(LocalProvider, "stream", watched)
    asked = ("data", "filter", model, rows, "--samples", 2, "--max-new-tokens", 2, "--max-correct", 2)
    flags = ("--temperature", 0.5, "--top-p", 0.9, "--top-k", 5, "--repetition-penalty", 1.1, "--seed", 3)
    for number, given in enumerate((flags, ())):
        assert cli(*asked, *given, "--out", tmp_path / str(number))[0] == 0
    drawn = [(s.temperature, s.top_p, s.top_k, s.repetition_penalty, s.seed) for s in seen]
    assert len(drawn) == 24 and set(drawn[:12]) == {(0.5, 0.9, 5, 1.1, 3)} and set(drawn[12:]) == {(1, 1, None, 1, 0)}
