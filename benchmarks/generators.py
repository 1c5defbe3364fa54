"""Those who generate the same work with the same weights: this engine, transformers, and peers as processes.

Each counts useful tokens: up to the end of each reply. What a static batch computes behind that end counts as nothing.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from open_exaone.base.machine import num_cores
from open_exaone.base.records import Request, Sampling
from open_exaone.engine.engine import BackendName, Engine
from open_exaone.model.config import ModelConfig
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer

SHORTEST, LONGEST = 16, 512  # new tokens of a ragged request
WORKER = Path(__file__).with_name("generator_worker.py")


class PeerError(Exception):
    """A peer cannot do what it is asked for; says why."""


class Timing(NamedTuple):
    """Once through the work."""

    num_tokens: int  # useful ones
    seconds: float
    cpu_seconds: float  # of the process and its threads

    def less(self, other: "Timing") -> "Timing":
        return Timing(*(mine - its for mine, its in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Work:
    """Prompts to complete."""

    prompts: Sequence[Sequence[int]]
    num_new: Sequence[int]  # the most tokens of each reply; one that nothing ends has as many
    temperature: float = 1.0
    top_p: float = 1.0
    end_ids: Sequence[int] = ()  # that end a reply before; none: nothing does
    seed: int = 0

    @property
    def context(self) -> int:
        """The longest prompt and reply."""
        return max(len(prompt) + num for prompt, num in zip(self.prompts, self.num_new, strict=True))

    def part(self, number: int, most_new: int | None = None) -> "Work":
        """The first requests, each with at most so many new tokens."""
        num_new = [num if most_new is None else min(num, most_new) for num in self.num_new[:number]]
        return replace(self, prompts=self.prompts[:number], num_new=num_new)


def ragged_work(num_requests: int, prompt_tokens: int, vocab_size: int, *, longest: int = LONGEST) -> Work:
    """Replies of log-uniform lengths, one from each of `num_requests` equal parts of the range, in random order."""
    rng = np.random.default_rng(0)
    places = (np.arange(num_requests) + rng.random(num_requests)) / num_requests
    lengths = np.floor(SHORTEST * ((longest + 1) / SHORTEST) ** places).astype(int)
    return Work(random_prompts(num_requests, prompt_tokens, vocab_size), rng.permutation(lengths).tolist())


def random_prompts(number: int, length: int, vocab_size: int, seed: int = 0) -> list[list[int]]:
    return np.random.default_rng(seed).integers(vocab_size, size=(number, length)).tolist()


def random_model(config: ModelConfig, dtype: torch.dtype) -> LanguageModel:
    """Random weights, made in their dtype: a float32 copy of a large model would not fit beside its peers."""
    with torch.device("meta"):
        model = LanguageModel(config)
    model.to(dtype).to_empty(device="cpu")
    model.tie_weights()
    model.reset_parameters(0)
    return model.requires_grad_(False).eval()


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Generator(Protocol):
    """Who generates. `open` is called before the first `run`, and again for other settings."""

    title: str
    dtypes: Sequence[str]  # to choose from when it is tuned
    batches: Sequence[int]  # likewise: sequences that decode together

    def open(self, dtype: str, batch: int, context: int) -> None:
        """Raises PeerError: it cannot."""

    def run(self, work: Work) -> Timing:
        """Raises PeerError: it cannot."""

    def close(self) -> None: ...


def timed(generate: Callable[[], int]) -> Timing:
    """Times what gives a number of tokens, all threads of this process together."""
    started, started_cpu = time.perf_counter(), time.process_time()
    num_tokens = generate()
    return Timing(num_tokens, time.perf_counter() - started, time.process_time() - started_cpu)


class Ours:
    """This package's engine."""

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer | None = None,
        *,
        int8: bool = False,
        backend: BackendName | None = None,
        num_slots: int = 256,
    ) -> None:
        self.title = "open-exaone in eager PyTorch" if backend == "plain" else "open-exaone"
        self.dtypes = [name_of(model.dtype) if not int8 else "int8"]
        self.batches = [num_slots]
        self.model = model
        tokenizer = tokenizer or Tokenizer.train(["0 1 2 3"], 320)
        self._make = lambda batch: Engine(model, tokenizer, num_slots=batch, int8=int8, backend=backend)
        self.engine: Engine | None = None

    def open(self, dtype: str, batch: int, context: int) -> None:
        assert dtype in self.dtypes
        try:
            self.engine = self._make(batch)
        except ValueError as error:
            raise PeerError(str(error)) from error
        self.engine.end_ids = frozenset()  # the work says what ends a reply

    def run(self, work: Work) -> Timing:
        assert self.engine is not None
        requests: list[Request] = []
        for prompt, num_new in zip(map(tuple, work.prompts), work.num_new, strict=True):
            sampling = Sampling(
                num_new, temperature=work.temperature, top_p=work.top_p, stop_ids=work.end_ids, seed=work.seed
            )
            is_further = bool(requests) and requests[-1].prompt_ids == prompt
            requests.append(Request((), prompt, False, sampling, index=requests[-1].index + 1 if is_further else 0))
        return timed(lambda: sum(len(completion.ids) for _, completion in self.engine.stream(requests)))

    def close(self) -> None:
        self.engine = None


class Transformers:
    """transformers' `generate`: static batches in the order of the requests, each until its longest reply ends."""

    title = "transformers generate"
    dtypes = ("float32", "bfloat16")

    def __init__(self, folder: Path, batches: Sequence[int]) -> None:
        self._folder, self.batches = folder, batches
        self._model: Any = None
        self._dtype, self.batch = "", 1

    def open(self, dtype: str, batch: int, context: int) -> None:
        self.batch = batch
        if dtype == self._dtype:
            return
        self._model = None  # before the next takes memory
        from transformers import AutoModelForCausalLM, logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self._model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=getattr(torch, dtype)).eval()
        self._model.generation_config.eos_token_id = None
        self._dtype = dtype

    def run(self, work: Work) -> Timing:
        starts = range(0, len(work.prompts), self.batch)
        return timed(lambda: sum(self._batch(work, slice(start, start + self.batch)) for start in starts))

    def _batch(self, work: Work, rows: slice) -> int:
        """Useful tokens of one batch."""
        num_new, draws = work.num_new[rows], work.temperature > 0
        drawn = {"temperature": work.temperature, "top_p": work.top_p, "top_k": 0} if draws else {}
        ends = list(work.end_ids) or None
        replies = self._generate(work.prompts[rows], max(num_new), do_sample=draws, eos_token_id=ends, **drawn)
        total = 0
        for reply, most in zip(replies, num_new, strict=True):
            end = next((place for place, token in enumerate(reply[:most]) if token in work.end_ids), most - 1)
            total += end + 1
        return total

    def greedy(self, prompt: Sequence[int], num_new: int) -> list[int]:
        """The best tokens behind a prompt."""
        [reply] = self._generate([prompt], num_new, do_sample=False)
        return reply

    def _generate(self, prompts: Sequence[Sequence[int]], num_new: int, **settings: Any) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = self._model.generate(ids, attention_mask=mask, max_new_tokens=num_new, pad_token_id=0, **settings)
        return out[:, longest:].tolist()

    def close(self) -> None:
        self._model, self._dtype = None, ""


class Worker:
    """A peer in a process of its own: it may need another interpreter, and may die. See generator_worker.py."""

    def __init__(
        self,
        kind: str,
        folder: Path,
        python: str,
        dtypes: Sequence[str],
        batches: Sequence[int],
        environment: Mapping[str, str] | None = None,
        script: Path = WORKER,
    ) -> None:
        """Args:
        kind: one of the script's.
        folder: that holds what the peer opens.
        python: the interpreter that has the peer.
        """
        self.title, self.folder, self.dtypes, self.batches = kind, folder, dtypes, batches
        self._command = [python, str(script), kind]
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(num_cores()), **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._opened: tuple[str, int, int] | None = None

    def open(self, dtype: str, batch: int, context: int) -> None:
        if self._opened == (dtype, batch, context):
            return
        self.start({"folder": str(self.folder), "dtype": dtype, "batch": batch, "context": context})
        self._opened = (dtype, batch, context)

    def start(self, settings: Mapping[str, Any]) -> None:
        """A new process, with these settings."""
        self.close()
        with (self.folder / f"{self.title}.log").open("a", encoding="utf-8") as log:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self._process = subprocess.Popen(self._command, text=True, env=self._environment, **pipes)
        self.ask({**settings, "threads": num_cores()})

    def run(self, work: Work) -> Timing:
        return Timing(**self.ask(asdict(work)))

    def logprob(self, pieces: Sequence[Sequence[int]]) -> float:
        """The log-probabilities of each piece's tokens behind its first, summed. llama.cpp alone has it."""
        return float(self.ask({"pieces": pieces})["logprob"])

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # its end says more
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            raise PeerError(f"its process died of {signal.Signals(-code).name if code < 0 else f'exit code {code}'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process, self._opened = None, None
