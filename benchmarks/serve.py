"""The server beside its own engine: tokens a second of many clients, and what a streamed token costs.

    python benchmarks/serve.py [--shape S] [--clients 64] [--tokens 128] [--rounds 5]
    python benchmarks/serve.py --model FOLDER     # such as a finished run: also its start, and its first token
    python benchmarks/serve.py --model FOLDER --peers llama-cpp-python,transformers --peers-python PYTHON --gguf FILE

Prompts of 64 tokens are completed by the engine alone, by the server to clients that wait for whole replies, and to
clients that stream them, in turn, round after round, each time other prompts; figures are medians. No reply ends early.
The clients are one process with one thread, and share the processor with the server; the engine alone has it to itself.
"Loop" is the processor time of the server's event loop for each token: reading requests, text from tokens, writing.

With --peers other servers of the same weights take turns with ours (`serve_peers.py`): all are started, and stopped by
SIGSTOP while another is measured. Clients send texts that share no beginning, and stream as many tokens of each server;
FILE is the same model as `exaone convert FOLDER FILE --to gguf` writes it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from open_exaone.base.machine import num_cores, prepare_process

prepare_process()

import numpy as np
from clients import Reply, ask_all
from serve_peers import PEERS, Options, compare

import processor
from open_exaone.base.records import Sampling
from open_exaone.checkpoint.folder import load_model, load_tokenizer, save_model
from open_exaone.engine.engine import Engine
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.source import resolve_model
from open_exaone.text.tokenizer import Tokenizer
from shapes import SHAPES

PROMPT = 64


class Server:
    """`exaone serve` as a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        began = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "open_exaone",
            "serve",
            str(folder),
            "--port",
            "0",
            "--quiet",
            "--name",
            "model",
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.ready_s = time.perf_counter() - began
        self.port = int(line.split("/v1")[0].rpartition(":")[2])

    def loop_s(self) -> float:
        """Processor time of the event loop's thread, which is the process's first."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat")
        return int(path.read_text().split()[0]) / 1e9

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def clients(server: Server, prompts: list[list[int]], sampling: Sampling, *, streams: bool) -> list[Reply]:
    body = {
        "max_tokens": sampling.max_new_tokens,
        "temperature": 1.0,
        "top_p": 1.0,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias},
        "stream": streams,
        "stream_options": {"include_usage": True},
        "seed": 0,
    }
    replies = ask_all(server.port, "/v1/completions", [{**body, "prompt": prompt} for prompt in prompts])
    total, wanted = sum(reply.num_tokens(0) for reply in replies), len(prompts) * sampling.max_new_tokens
    if total != wanted:
        raise RuntimeError(f"the server gave {total} tokens instead of {wanted}")
    return replies


def throughput(folder: Path, num_clients: int, num_new: int, rounds: int) -> None:
    engine = Engine(load_model(folder), load_tokenizer(folder))
    ends = dict.fromkeys(engine.tokenizer.end_ids, -100.0)
    sampling = Sampling(num_new, 1.0, 1.0, logit_bias=ends)
    rng = np.random.default_rng(0)
    server, total = Server(folder), num_clients * num_new
    rates: dict[str, list[float]] = {}
    loop: dict[str, list[float]] = {}
    ways: dict[str, Callable[[list[list[int]]], object]] = {
        "engine alone": lambda prompts: engine.generate(prompts, sampling),
        "server, whole": lambda prompts: clients(server, prompts, sampling, streams=False),
        "server, streamed": lambda prompts: clients(server, prompts, sampling, streams=True),
    }
    for number in range(rounds + 1):
        for name, work in ways.items():
            prompts = rng.integers(20, engine.tokenizer.vocab_size, (num_clients, PROMPT)).tolist()
            began, busy = time.perf_counter(), server.loop_s()
            work(prompts)
            if number:
                rates.setdefault(name, []).append(total / (time.perf_counter() - began))
                loop.setdefault(name, []).append(1e6 * (server.loop_s() - busy) / total)
    server.close()
    own = statistics.median(rates["engine alone"])
    print(f"{num_clients} clients, {num_new} tokens each, {rounds} rounds in turn")
    for name, values in rates.items():
        median, busy = statistics.median(values), statistics.median(loop[name])
        spread = f"[{min(values):,.0f} … {max(values):,.0f}]"
        print(f"  {name:<18} {median:>9,.0f} tokens/s {spread:<20} {median / own:5.2f}x  loop {busy:5.1f} us a token")


def latency(folder: Path, rounds: int) -> None:
    """A server's start, and the first token of one that is idle."""
    ready, firsts = [], []
    body = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "stream": True, "max_tokens": 16}
    for _ in range(rounds):
        server = Server(folder)
        ready.append(server.ready_s)
        for seed in range(10):
            [reply] = ask_all(server.port, "/v1/chat/completions", [{**body, "seed": seed}])
            firsts.append(reply.first_s)
        server.close()
    shown = f"median {1000 * statistics.median(firsts):.1f} ms, worst {1000 * max(firsts):.1f} ms"
    print(f"ready after {statistics.median(ready):.2f} s; first token: {shown} ({len(firsts)} requests)")


def make_folder(shape: str, folder: Path) -> Path:
    """A model of random weights, with a tokenizer of its size."""
    model = LanguageModel(SHAPES[shape])
    model.reset_parameters(0)
    texts = [f"How much is {a} + {b}? It is {a + b}." for a in range(100) for b in range(100)]
    tokenizer = Tokenizer.train(texts, SHAPES[shape].vocab_size)
    save_model(folder, model.config, model.state_dict(), tokenizer, {})
    return folder


def main() -> None:
    options = _parser().parse_args()
    print(processor.describe())
    others = processor.Others()
    with tempfile.TemporaryDirectory() as place:
        folder = resolve_model(options.model) if options.model else make_folder(options.shape, Path(place))
        if options.peers:
            measured = Options(
                folder,
                options.gguf,
                options.peers_python,
                options.llama_server,
                options.clients,
                options.tokens,
                options.rounds,
            )
            compare(["exaone serve", *options.peers.split(",")], measured, Path(place))
        else:
            if options.model:
                latency(folder, options.rounds)
            throughput(folder, options.clients, options.tokens, options.rounds)
    print(f"of {num_cores()} cores, others used {others.cores(0.0):.1f} or fewer, the server's own included")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="S", choices=["nano", "S", "M"])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", help="names, joined by commas: " + ", ".join(list(PEERS)[1:]))
    parser.add_argument("--peers-python", default=sys.executable, help="of the environment that has the peers")
    parser.add_argument("--gguf", type=Path, help="the model for llama.cpp")
    parser.add_argument("--llama-server", help="llama.cpp's own server, as it is built")
    return parser


if __name__ == "__main__":
    main()
