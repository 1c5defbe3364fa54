"""`exaone chat`: a pipe gets the answer alone, of a run's model or an endpoint's."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mock_endpoint import mock_endpoint
from open_exaone.checkpoint import shipped


@pytest.fixture
def piped(monkeypatch):
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


@pytest.mark.parametrize("options", [(), ("--engine-option", "num_slots=1")])
def test_a_finished_run_answers_a_pipe(cli, finished_run, piped, options):
    folder, _ = finished_run
    piped("Who is the tallest?\n")
    code, text = cli("chat", folder, "--device", "cpu", "--no-thinking", *options)
    assert code in (0, 1) and "[1]" not in text and "/help" not in text  # a model trained for seconds may say nothing


def test_an_endpoint_answers_a_pipe(capfd, piped):
    with mock_endpoint(lambda question, request: f"<think>hm</think>{question.upper()} 값") as server:
        done = subprocess.run(
            [sys.executable, "-m", "open_exaone", "chat", server.url, "--max-new-tokens", "50", "--system", "S"],
            input="first line\nsecond 값\n".encode(),
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, "FIRST LINE\nSECOND 값 값\n", b"")
    [request] = server.requests
    assert request["max_tokens"] == 50
    assert [turn["content"] for turn in request["messages"]] == ["S", "first line\nsecond 값"]


def test_a_model_is_named_beside_its_endpoint_and_thoughts_go_to_standard_error(capsys, piped, cli):
    with mock_endpoint(lambda question, request: "<think>hm</think>ok", models=["a", "b"]) as server:
        piped("Q")
        assert cli("chat", "b", "--engine", server.url, "--thoughts", "show") == (0, "ok hm ")
        piped("Q")
        code, text = cli("chat", server.url)
    assert server.requests[0]["model"] == "b"
    assert code == 2 and "has 2 models" in text


def test_an_endpoint_that_breaks_off_gives_what_came_and_fails(cli, piped):
    with mock_endpoint(lambda question, request: "It is seven.", cut_after=3) as server:
        piped("Q")
        code, text = cli("chat", server.url)
    assert code == 1 and text.startswith("It is exaone:") and "in the middle of the reply" in text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--engine-option", "colour=red"), "--engine-option: colour"),
        (("--engine", "vllm"), "--engine vllm: must be local or an address"),
        (("--budget", "0"), "--budget 0"),
        (("--stop", "x"), "--stop"),
        (("--temperature", "-1"), "temperature"),
    ],
)
def test_what_it_does_not_have_is_refused_by_name(cli, tmp_path, piped, arguments, why):
    piped("Q")
    code, text = cli("chat", tmp_path, *arguments)
    assert code == 2 and why in text


def test_an_empty_input_is_refused(cli, piped):
    piped(" \n")
    with mock_endpoint(lambda question, request: "ok") as server:
        code, text = cli("chat", server.url)
    assert code == 2 and "the input is empty" in text and not server.requests


def test_without_a_model_the_shipped_one_answers_and_is_introduced(capsys, piped, tmp_path, monkeypatch):
    from open_exaone.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "nano-exaone-deep").mkdir(parents=True)  # a run of the user's own is not taken by itself
    (tmp_path / shipped.SHIPPED).mkdir()  # nor is what happens to have its name
    problem = shipped.shipped_problems()[0]
    piped(problem.question)
    with pytest.raises(SystemExit) as ended:
        main(["chat", "--temperature", "0"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0 and f"\\boxed{{{problem.answer}}}" in out and len(out.splitlines()) == 1
    assert shipped.SHIPPED in err and "`exaone run nano/exaone-deep`" in err and "no general assistant" in err
    assert len(err.splitlines()) == 2  # what can be asked is listed in a terminal alone


def test_the_shipped_model_offers_its_problems():
    from open_exaone.cli.chat import solved_problems

    assert solved_problems(Path(shipped.SHIPPED), shipped.shipped_model()) == shipped.shipped_problems()


def test_the_endpoint_alone_may_be_named(cli, piped):
    with mock_endpoint(lambda question, request: "ok") as server:
        piped("Q")
        assert cli("chat", "--engine", server.url) == (0, "ok ")


def test_a_damaged_shipped_model_is_one_sentence(cli, piped, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(shipped.shipped_model(), tmp_path / shipped.SHIPPED))
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    (folder / "model.safetensors").write_bytes(b"")
    for arguments in (("chat",), ("serve", "--port", "0"), ("eval", shipped.SHIPPED, "--suite", "needle"), ("models",)):
        piped("Q")
        code, text = cli(*arguments)
        assert code == 1 and text.count("exaone: ") == 1 and "Traceback" not in text
        assert "model.safetensors" in text and "pip install --force-reinstall open-exaone" in text
