"""Servers of one model side by side: tokens a second and first tokens of many streaming clients. See `serve.py`."""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from clients import ask_all

from open_exaone.checkpoint.folder import load_tokenizer

START_S = 300.0


@dataclass(frozen=True, slots=True)
class Peer:
    """How a server is started, and what a request to it needs so that no reply ends early."""

    command: Callable[["Options", int], list[str]]  # of what is served, and the port
    body: Callable[["Options"], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured."""

    folder: Path  # a model's
    gguf: Path | None  # the same weights, for llama.cpp
    python: str  # of the environment that has the peers
    llama_server: str | None  # llama.cpp's own server
    num_clients: int
    num_tokens: int  # of each reply
    rounds: int

    @property
    def context(self) -> int:
        return PROMPT_WORDS * 4 + self.num_tokens


PROMPT_WORDS = 48
WORDS = (
    "river",
    "city",
    "under",
    "over",
    "small",
    "large",
    "green",
    "old",
    "found",
    "walked",
    "light",
    "water",
    "stone",
)


def _ours(options: Options, port: int) -> list[str]:
    serve = [sys.executable, "-m", "open_exaone", "serve", str(options.folder)]
    return [*serve, "--name", "model", "--port", str(port), "--quiet"]


def _transformers(options: Options, port: int, *more: str) -> list[str]:
    code = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    return [options.python, "-c", code, "serve", str(options.folder), "--device", "cpu", "--port", str(port), *more]


def _llama_cpp_python(options: Options, port: int) -> list[str]:
    serve = [options.python, "-m", "llama_cpp.server", "--model", str(options.gguf), "--port", str(port)]
    serve += ["--interrupt_requests", "false"]  # by its default a new request ends the one before
    return [*serve, "--n_ctx", str(options.context), "--n_threads", str(os.cpu_count()), "--verbose", "false"]


def _llama_server(options: Options, port: int) -> list[str]:
    places = options.num_clients
    serve = [str(options.llama_server), "-m", str(options.gguf), "--port", str(port), "-np", str(places)]
    return [*serve, "-c", str(places * options.context), "-t", str(os.cpu_count()), "--no-webui"]


def _biased(options: Options) -> dict[str, Any]:
    ends = load_tokenizer(options.folder).end_ids
    return {"logit_bias": {str(token): -100.0 for token in ends}, "stream_options": {"include_usage": True}}


def _generation_config(options: Options) -> dict[str, Any]:
    """transformers takes what OpenAI's fields do not say as a generation config in JSON; -1 is no token."""
    config = {"max_new_tokens": options.num_tokens, "do_sample": True, "eos_token_id": -1, "pad_token_id": 0}
    return {"generation_config": json.dumps(config), "model": str(options.folder)}


PEERS = {
    "exaone serve": Peer(_ours, _biased),
    "llama.cpp": Peer(_llama_server, lambda options: {**_biased(options), "ignore_eos": True, "cache_prompt": False}),
    "llama-cpp-python": Peer(_llama_cpp_python, _biased),
    "transformers": Peer(_transformers, _generation_config),
    "transformers-batching": Peer(
        lambda options, port: _transformers(options, port, "--continuous-batching"), _generation_config
    ),
}


@dataclass(slots=True)
class Running:
    """A server that was started; it is stopped in between, so that one is busy at a time."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    body: Mapping[str, Any]
    rates: list[float] = field(default_factory=list)  # tokens a second
    firsts: list[float] = field(default_factory=list)  # seconds

    def send(self, number: int) -> None:
        """Sends a signal to the server and what it has started."""
        os.killpg(self.process.pid, number)

    def measure(self, options: Options, prompts: Sequence[str], seed: int) -> None:
        """One round: all clients at once."""
        body = {**self.body, "max_tokens": options.num_tokens, "temperature": 1.0, "top_p": 1.0, "seed": seed}
        bodies = [{**body, "stream": True, "prompt": prompt} for prompt in prompts]
        began = time.perf_counter()
        replies = ask_all(self.port, "/v1/completions", bodies)
        seconds = time.perf_counter() - began
        self.rates.append(sum(reply.num_tokens(options.num_tokens) for reply in replies) / seconds)
        self.firsts += [reply.first_s for reply in replies if reply.first_s is not None]


def start(name: str, options: Options, log: Path) -> Running:
    """Starts a server and waits until it answers.

    Raises:
        RuntimeError: it ended, or took too long.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("wb") as file:
        process = subprocess.Popen(
            PEERS[name].command(options, port), stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and process.poll() is None:
        if _answers(port):
            return Running(name, process, port, PEERS[name].body(options))
        time.sleep(0.2)
    process.kill()
    raise RuntimeError(f"{name} does not answer: {log.read_text(errors='replace')[-2000:]}")


def _answers(port: int) -> bool:
    """Whether a server is ready; some have no /health, and say 404."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code != 503
    except OSError:
        return False


def compare(names: Sequence[str], options: Options, logs: Path) -> None:
    """Prints a line for each server: medians of the rounds with their range."""
    servers: list[Running] = []
    try:
        for name in names:
            servers.append(start(name, options, logs / f"{len(servers)}.log"))
            servers[-1].measure(options, _prompts(options, 0), 0)
            servers[-1].send(signal.SIGSTOP)
            servers[-1].rates.clear()
            servers[-1].firsts.clear()
        for number in range(1, options.rounds + 1):
            for server in servers:
                server.send(signal.SIGCONT)
                server.measure(options, _prompts(options, number), number)
                server.send(signal.SIGSTOP)
    finally:
        for server in servers:
            server.send(signal.SIGKILL)
            server.process.wait()
    print(f"{options.num_clients} streaming clients, {options.num_tokens} tokens each, {options.rounds} rounds in turn")
    for server in servers:
        print(_line(server))


def _line(server: Running) -> str:
    spread = f"[{min(server.rates):,.0f} … {max(server.rates):,.0f}]"
    first = ", ".join(f"p{part} {1000 * np.percentile(server.firsts, part):,.0f} ms" for part in (50, 95))
    return f"  {server.name:<34} {statistics.median(server.rates):>8,.0f} tokens/s {spread:<18} first token {first}"


def _prompts(options: Options, seed: int) -> list[str]:
    """Texts that share no beginning: nothing that a server remembers helps it."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, PROMPT_WORDS)) for _ in range(options.num_clients)]
