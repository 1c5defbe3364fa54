"""What long prompts cost the engine: samples of one prompt, and a context of 131,072 tokens. See generate.py."""

import ctypes
import gc
import statistics
import time
from collections.abc import Sequence
from operator import mul
from pathlib import Path

import torch

from generators import Ours, Work, name_of, random_model, random_prompts
from open_exaone.base.machine import num_cores
from open_exaone.base.records import Request, Sampling
from open_exaone.engine.backend import Backend
from open_exaone.engine.engine import Engine
from open_exaone.engine.memory import block_bytes
from open_exaone.engine.scheduler import Chunk
from open_exaone.model.config import BLOCK, ModelConfig
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer

NUM_SAMPLES, GROUP_PROMPT = 16, 1024


def group(title: str, model: LanguageModel, rounds: int, *, length: int = GROUP_PROMPT) -> float:
    """Prints what the first token of 16 samples of a prompt takes beside that of one; returns the ratio."""
    ours = Ours(model, num_slots=NUM_SAMPLES)
    ours.open(*ours.dtypes, *ours.batches, length + 1)
    seconds: dict[int, list[float]] = {1: [], NUM_SAMPLES: []}
    for number in range(rounds + 1):
        for num_samples in seconds:
            [prompt] = random_prompts(1, length, model.config.vocab_size, seed=2 * number + (num_samples == 1))
            timing = ours.run(Work([prompt] * num_samples, [1] * num_samples))
            if number:
                seconds[num_samples].append(timing.seconds)
    one, many = (statistics.median(values) for values in seconds.values())
    spread = f"[{min(seconds[NUM_SAMPLES]) / one:.2f} … {max(seconds[NUM_SAMPLES]) / one:.2f}]"
    print(
        f"\n{title}, {name_of(model.dtype)}: the first token of {NUM_SAMPLES} samples on a {length:,}-token prompt "
        f"takes {1e3 * many:,.0f} ms, of one {1e3 * one:,.0f} ms ({length / one:,.0f} prompt tokens/s): "
        f"{many / one:.2f} {spread} times one prefill (at most 1.15), {rounds} rounds in turn",
        flush=True,
    )
    return many / one


def long(title: str, config: ModelConfig, dtype: torch.dtype, context: int, bytes_s: float, num_new: int = 24) -> None:
    """Prints memory and time per token at the end of a context.

    Keys and values of the first chunk are computed and then copied to every block behind it: what they are changes no
    time, and to compute them all would take a CPU an hour.

    Args:
        bytes_s: the memory bandwidth.
    """
    config = config.model_copy(update={"max_positions": max(context, config.max_positions)})
    engine = Engine(random_model(config, dtype), Tokenizer.train(["0 1 2 3"], 320), num_slots=1)
    engine.end_ids = frozenset()
    session = engine.open_session([context])  # packs the weights; memory for keys and values is taken when written to
    prefill_once(session._backend)
    before = rss_bytes()
    [prompt] = random_prompts(1, context - num_new, 256)
    session.submit([Request((), tuple(prompt), False, Sampling(num_new, temperature=1.0, top_p=1.0))])
    seconds, filled, taken = [], 0, 0
    while not session.finished:
        started, started_cpu = time.perf_counter(), time.process_time()
        num_tokens, _ = session.step()
        if num_tokens:
            seconds.append((time.perf_counter() - started, time.process_time() - started_cpu, num_tokens))
            filled = max(filled, rss_bytes() - before)
            pools = [pool.size - pool.num_free for pool in session.scheduler.blocks.pools]
            taken = max(taken, sum(map(mul, pools, block_bytes(config, dtype))))
    session.close()
    formula = config.kv_cache_bytes(context, bytes_per_value=dtype.itemsize)
    weights = config.num_parameters * dtype.itemsize
    total = sum(num for *_, num in seconds)
    per_token = sum(each for each, *_ in seconds) / total
    cpu = sum(each for _, each, _ in seconds) / total
    roofline = (weights + formula) / bytes_s
    print(
        f"\n{title}, {name_of(dtype)}, {context:,} tokens of context, {config.pattern} with window {config.window}:\n"
        f"  keys and values take {taken / 1e9:.3f} GB, by the formula {formula / 1e9:.3f} GB: {taken / formula:.3f} "
        f"times (at most 1.05); with all that steps need, the process grew by {filled / 1e9:.3f} GB\n"
        f"  {1e3 * per_token:,.1f} ms a token ({1e3 * cpu:,.0f} ms of CPU), reading {(weights + formula) / 1e9:.2f} GB "
        f"at {bytes_s / 1e9:.1f} GB/s takes {1e3 * roofline:,.1f} ms: {per_token / roofline:.2f} times (at most 1.3); "
        f"{total} tokens, {num_cores()} threads",
        flush=True,
    )


def prefill_once(backend: Backend) -> None:
    """Makes a backend compute the first chunk of a prompt alone, and copy a block of it to those of later chunks."""
    compute, source = backend.prefill, [0, 0]

    def prefill(chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            table = chunk.prompt.table
            if table.length == 0:
                compute([chunk])
                source[:] = [int(array[0]) for array in table.arrays]
                continue
            numbers = range(table.length // BLOCK, -(-(table.length + len(chunk.ids)) // BLOCK))
            for kind, array in enumerate(table.arrays):
                for number in numbers:
                    target = int(array[number]) if number < len(array) else -1
                    if target >= 0 and target != source[kind]:
                        backend.copy_block(kind, source[kind], target)

    backend.prefill = prefill  # type: ignore[method-assign]


def rss_bytes() -> int:
    """Memory that this process uses now: what was freed and kept for later goes back to the system first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024
