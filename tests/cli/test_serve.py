"""`exaone serve`: the command, from its first line to SIGTERM."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import pytest

import open_exaone
from doubles import TINY, make_model, make_tokenizer
from open_exaone.checkpoint.folder import save_model
from open_exaone.checkpoint.shipped import SHIPPED, shipped_problems


@pytest.fixture
def folder(tmp_path):
    model = make_model(TINY.model_copy(update={"max_positions": 2048}))
    save_model(tmp_path / "tiny", model.config, model.state_dict(), make_tokenizer(), {"temperature": 1.0})
    return tmp_path / "tiny"


@contextlib.contextmanager
def started(source, *options):
    """A server's process, its address and the lines that it logs, which are whole once it has ended."""
    environment = {**os.environ, "PYTHONPATH": str(Path(open_exaone.__file__).parents[1]), "OPEN_EXAONE_API_KEY": "k"}
    command = [*(sys.executable, *options), "-m", "open_exaone", "serve", *([] if source is None else [str(source)])]
    with subprocess.Popen(
        [*command, "--port", "0", "--dtype", "float32"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:
        log: list[str] = []
        assert server.stdout and server.stderr
        reader = threading.Thread(target=lambda: log.extend(server.stderr), daemon=True)
        reader.start()
        yield server, server.stdout.readline().split(" at ")[1].split("/v1")[0], log
        reader.join(60)


def test_accepted_requests_are_answered_after_sigterm_and_files_may_go(folder) -> None:
    with started(folder) as (server, url, log):
        for file in folder.iterdir():
            file.write_bytes(b"")  # as a copy that has just begun leaves them
        body = {"messages": [{"role": "user", "content": "hush"}], "stream": True, "max_tokens": 1500}
        key = {"authorization": "Bearer k"}
        with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body, headers=key, timeout=300) as answer:
            server.send_signal(signal.SIGTERM)
            lines = [line for line in answer.iter_lines() if line]
        assert server.wait(300) == 0
    assert lines[-1] == "data: [DONE]" and json.loads(lines[-2][6:])["choices"][0]["finish_reason"] in (
        "length",
        "stop",
    )
    text = "".join(log)
    assert "POST /v1/chat/completions 200" in text and "hush" not in text and "Traceback" not in text


NOT_NEEDED = (
    *("transformers", "huggingface_hub", "datasets", "pyarrow", "pandas", "scipy", "sympy", "matplotlib", "torchao"),
    *("reasoning_gym", "math_verify", "httpx2", "requests", "torch._dynamo", "torch._inductor", "triton", "llguidance"),
    *("open_exaone.pipeline.config", "open_exaone.tasks", "open_exaone.verify", "open_exaone.rewards"),
    *("open_exaone.data", "open_exaone.train", "open_exaone.evaluation", "open_exaone.present", "open_exaone.audit"),
)


def test_what_a_first_request_does_not_need_is_not_loaded_and_nothing_is_loaded_by_it(folder, tmp_path) -> None:
    run = tmp_path / "run"
    (run / "01-base").mkdir(parents=True)
    (run / "recipe.toml").write_text('[[stages]]\nname = "base"\n')
    folder.rename(run / "01-base" / "model")
    key = {"authorization": "Bearer k"}
    with started(run, "-X", "importtime") as (server, url, log):
        httpx2.get(f"{url}/health", timeout=60)
        body = {"messages": [{"role": "user", "content": "1 + 2?"}], "stream": True, "max_tokens": 20}
        assert httpx2.post(f"{url}/v1/chat/completions", json=body, headers=key, timeout=60).status_code == 200
        server.terminate()
    text = "".join(log)
    loaded = re.findall(r"(?m)^import time:.*\| +(\S+)$", text)
    assert "open_exaone.serve.app" in loaded and "torch" in loaded
    assert [name for name in loaded if name.startswith(NOT_NEEDED)] == []
    first_chat = text[text.index("GET /health 200") : text.index("POST /v1/chat/completions 200")]
    assert "import time" not in first_chat


def test_a_port_in_use_is_said_before_the_model_is_loaded(cli, tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = cli("serve", tmp_path, "--port", taken.getsockname()[1])
    assert code == 1 and "another program listens there: stop it, or choose another with --port" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--host", "no.such.host.invalid"), "choose another with --host"),
        (("--limit", "deadline=5"), 'deadline: unknown key; did you mean "deadline_s"?'),
        (("--limit", "deadline_s=-5"), "deadline_s = -5"),
        (("--port", "70000"), "--port 70000: must lie in 0 to 65535"),
    ],
)
def test_wrong_flags_say_what_is_wrong(cli, tmp_path, flags, said) -> None:
    code, text = cli("serve", tmp_path, *flags)
    assert code in (1, 2) and said in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"])
def test_a_server_that_cannot_print_goes_on(redirect) -> None:
    program = "from open_exaone.cli.serve import _announce; _announce('Serving x'); print('more')"
    environment = {**os.environ, "PYTHONPATH": str(Path(open_exaone.__file__).parents[1])}
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, program]
    ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr
    assert ("Serving x (standard output: No space" in ended.stderr) is (redirect == ">/dev/full")


def test_without_a_model_the_shipped_one_is_served_and_suggests_its_problems() -> None:
    key, problem = {"authorization": "Bearer k"}, shipped_problems()[0]
    with started(None) as (server, url, log):
        [entry] = httpx2.get(f"{url}/v1/models", headers=key).json()["data"]
        body = {"messages": [{"role": "user", "content": problem.question}], "temperature": 0}
        answer = httpx2.post(f"{url}/v1/chat/completions", json=body, headers=key, timeout=300).json()
        server.send_signal(signal.SIGTERM)
        assert server.wait(300) == 0
    assert entry["id"] == SHIPPED and entry["examples"][0] == {"language": problem.language, "text": problem.question}
    assert f"\\boxed{{{problem.answer}}}" in answer["choices"][0]["message"]["content"]
    assert "no general assistant" in "".join(log) and "`exaone serve runs/nano-exaone-deep`" in "".join(log)
