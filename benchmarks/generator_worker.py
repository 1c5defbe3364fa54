"""A peer of benchmarks/generate.py in a process, and where it needs that an interpreter, of its own.

    python benchmarks/generator_worker.py llama.cpp|vllm|earlier

A line of JSON comes in, a line of JSON goes out: first the settings, then as many pieces of work as wanted, each
answered by its useful tokens, seconds and CPU seconds. What fails is answered by {"error": why}. It needs none of this
package: `earlier` imports whatever `open_exaone` its path gives it, an earlier commit's, say.
"""

import json
import os
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = dict[str, Any]  # the fields of generators.Work
Settings = dict[str, Any]  # folder, dtype, batch, context, threads


def llama_cpp(settings: Settings) -> Callable[[Work], int]:
    """llama.cpp by its C interface, as its server runs it: sequences join as soon as others end.

    The folder holds bfloat16.gguf; Q8_0.gguf is made from it by llama.cpp itself when it is first wanted.
    """
    import ctypes

    import llama_cpp as api

    silent = api.llama_log_callback(lambda *_: None)
    api.llama_log_set(silent, ctypes.c_void_p(0))
    path, num_slots = Path(settings["folder"], f"{settings['dtype']}.gguf"), settings["batch"]
    if not path.exists():
        how = api.llama_model_quantize_default_params()
        how.ftype, how.nthread = api.LLAMA_FTYPE_MOSTLY_Q8_0, settings["threads"]
        source = Path(settings["folder"], "bfloat16.gguf")
        if api.llama_model_quantize(str(source).encode(), str(path).encode(), ctypes.byref(how)):
            raise RuntimeError("llama.cpp cannot quantize the model")
    model = api.llama_model_load_from_file(str(path).encode(), api.llama_model_default_params())
    fields = api.llama_context_default_params()
    fields.n_ctx = num_slots * (-(-settings["context"] // 256) * 256)
    fields.n_seq_max, fields.kv_unified, fields.no_perf = num_slots, False, True
    fields.n_batch = most = max(2048, num_slots)
    fields.n_threads = fields.n_threads_batch = settings["threads"]
    context = model and api.llama_init_from_model(model, fields)
    if not context:
        raise RuntimeError("llama.cpp cannot open the model")
    memory, batch = api.llama_get_memory(context), api.llama_batch_init(most, 0, 1)

    def add(token: int, position: int, slot: int, wanted: bool) -> None:
        row = batch.n_tokens
        batch.token[row], batch.pos[row], batch.n_seq_id[row] = token, position, 1
        batch.seq_id[row][0], batch.logits[row] = slot, wanted
        batch.n_tokens = row + 1

    def run(work: Work) -> int:
        draw = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if work["top_p"] < 1:
            api.llama_sampler_chain_add(draw, api.llama_sampler_init_top_p(work["top_p"], 1))
        if work["temperature"] != 1:
            api.llama_sampler_chain_add(draw, api.llama_sampler_init_temp(work["temperature"]))
        api.llama_sampler_chain_add(draw, api.llama_sampler_init_dist(work["seed"]))
        waiting = deque(zip(work["prompts"], work["num_new"], strict=True))
        free, running, total = list(range(num_slots)), {}, 0  # slot -> last token, its position, tokens to go
        while waiting or running:
            batch.n_tokens, rows = 0, []
            for slot, (token, position, _) in running.items():
                rows.append((slot, batch.n_tokens))
                add(token, position, slot, True)
            while waiting and free and batch.n_tokens + len(waiting[0][0]) <= most:
                (prompt, num_new), slot = waiting.popleft(), free.pop()
                for position, token in enumerate(prompt):
                    add(token, position, slot, position == len(prompt) - 1)
                running[slot] = (0, len(prompt) - 1, num_new)
                rows.append((slot, batch.n_tokens - 1))
            if api.llama_decode(context, batch):
                raise RuntimeError("llama.cpp cannot decode the batch")
            total += len(rows)
            for slot, row in rows:
                token = api.llama_sampler_sample(draw, context, row)
                _, position, left = running[slot]
                if left > 1 and token not in work["end_ids"]:
                    running[slot] = (token, position + 1, left - 1)
                    continue
                del running[slot]
                free.append(slot)
                api.llama_memory_seq_rm(memory, slot, -1, -1)
        api.llama_sampler_free(draw)
        return total

    def logprob(pieces: list[list[int]]) -> float:
        import numpy as np

        total, vocab_size = 0.0, api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        for piece in pieces:
            batch.n_tokens = 0
            for position, token in enumerate(piece):
                add(token, position, 0, True)
            if api.llama_decode(context, batch):
                raise RuntimeError("llama.cpp cannot decode the batch")
            for row, token in enumerate(piece[1:]):
                logits_V = np.ctypeslib.as_array(api.llama_get_logits_ith(context, row), (vocab_size,)).astype(float)
                total += logits_V[token] - np.logaddexp.reduce(logits_V)
            api.llama_memory_seq_rm(memory, 0, -1, -1)
        return total

    run.logprob, run.keeps = logprob, silent  # type: ignore[attr-defined] # llama.cpp calls the latter
    return run


def vllm(settings: Settings) -> Callable[[Work], int]:
    """vLLM's CPU build, its scheduler in this process; the folder holds the model as transformers reads it."""
    defaults = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=settings["folder"],
        dtype=settings["dtype"],
        max_model_len=settings["context"],
        max_num_seqs=settings["batch"],
        skip_tokenizer_init=True,
        enable_prefix_caching=False,
        enforce_eager=True,
    )

    def run(work: Work) -> int:
        drawn = {name: work[name] for name in ("temperature", "top_p")}
        ends = {"stop_token_ids": list(work["end_ids"])} if work["end_ids"] else {"ignore_eos": True}
        how = [SamplingParams(max_tokens=num, detokenize=False, **drawn, **ends) for num in work["num_new"]]
        outputs = engine.generate([{"prompt_token_ids": ids} for ids in work["prompts"]], how, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    return run


def earlier(settings: Settings) -> Callable[[Work], int]:
    """Another commit's engine by `Engine.generate`: neighbours with one prompt are samples of it, of one length."""
    from open_exaone.base.machine import prepare_process

    os.environ.pop("OMP_NUM_THREADS", None)  # as its users have it
    prepare_process()
    from open_exaone.base.records import Sampling
    from open_exaone.checkpoint.folder import load_model, load_tokenizer
    from open_exaone.engine.engine import Engine

    folder = Path(settings["folder"])
    model = load_model(folder, dtype=settings["dtype"])
    engine = Engine(model, load_tokenizer(folder), num_slots=settings["batch"])

    def run(work: Work) -> int:
        prompts = [ids for row, ids in enumerate(work["prompts"]) if not row or ids != work["prompts"][row - 1]]
        engine.end_ids = type(engine.end_ids)(work["end_ids"])
        how = Sampling(
            max_new_tokens=max(work["num_new"]),
            num_samples=len(work["prompts"]) // len(prompts),
            temperature=work["temperature"],
            top_p=work["top_p"],
            seed=work["seed"],
        )
        return sum(len(completion.ids) for group in engine.generate(prompts, how) for completion in group)

    return run


PEERS = {"llama.cpp": llama_cpp, "vllm": vllm, "earlier": earlier}


def cpu_seconds() -> float:
    """Of this process, its threads, and the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed goes to the log
    run: Callable[[Work], int] | None = None
    for line in sys.stdin:
        given = json.loads(line)
        try:
            if run is None:
                run, answer = PEERS[sys.argv[1]](given), {}
            elif "pieces" in given:
                answer = {"logprob": run.logprob(given["pieces"])}  # type: ignore[attr-defined]
            else:
                started, started_cpu = time.perf_counter(), cpu_seconds()
                num_tokens = run(given)
                seconds, used = time.perf_counter() - started, cpu_seconds() - started_cpu
                answer = {"num_tokens": num_tokens, "seconds": seconds, "cpu_seconds": used}
        except Exception as error:  # the border of a process: the other side prints it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
