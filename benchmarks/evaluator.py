"""What an evaluation adds to the engine's own generation: prompts, keys, splitting, judging, and keeping each sample.

    python benchmarks/evaluator.py runs/nano-exaone-deep [rounds] [samples of each problem] [temperature]

The same samples of a run's test problems, by `Engine.generate` alone and by `run_tasks`, in turns in one process. A
high temperature makes long replies, of which there are fewer in the same time.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from open_exaone.base.machine import prepare_process

prepare_process()

from open_exaone.checkpoint.folder import load_model, load_tokenizer, resolve_device
from open_exaone.data.document import prompt_ids
from open_exaone.engine.engine import Engine
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.store import Store
from open_exaone.pipeline.folder import RunFolder, resolve_model
from open_exaone.pipeline.measure import own_tasks
from open_exaone.rollout.providers.local import LocalProvider


def main() -> None:
    run, rounds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7
    folder = resolve_model(run)
    num_samples = int(sys.argv[3]) if len(sys.argv) > 3 else 32
    config = RunFolder(run).recipe().evaluation
    config = config.model_copy(update={"num_samples": num_samples, "temperature": float((sys.argv[4:] or [0.6])[0])})
    tokenizer = load_tokenizer(folder)
    engine = Engine(load_model(folder, dtype="auto", device=resolve_device("auto")), tokenizer, num_slots=128)
    task = own_tasks(RunFolder(run).problems(config.split), config, thinking=True)[0]
    provider = LocalProvider(engine, model="run", weights="")
    prompts = prompt_ids(task.problems, tokenizer, thinking=True)

    def alone() -> int:
        return sum(len(each.ids) for group in engine.generate(prompts, task.sampling) for each in group)

    def evaluated() -> int:
        with tempfile.TemporaryDirectory() as out:
            [(_, samples)] = run_tasks([task], provider, Store(Path(out)), suite="benchmark")
        return sum(sample.generation.num_tokens for row in samples for sample in row)

    num_tokens = alone()
    assert num_tokens == evaluated(), "the two generate different samples"  # and both are warm
    seconds: dict[str, list[float]] = {"alone": [], "evaluated": []}
    for number in range(rounds):
        both = [("alone", alone), ("evaluated", evaluated)]
        for name, measured in both if number % 2 == 0 else both[::-1]:
            started = time.perf_counter()
            measured()
            seconds[name].append(time.perf_counter() - started)
    for name, times in seconds.items():
        print(f"{name:10} median {statistics.median(times):6.3f} s, {min(times):.3f} to {max(times):.3f}")
    ratios = [one / other for one, other in zip(seconds["evaluated"], seconds["alone"], strict=True)]
    total = len(task.problems) * num_samples
    added = 100 * (statistics.median(ratios) - 1)
    print(f"added: median {added:+.1f} %, {total} samples of {num_tokens / total:.0f} tokens")


if __name__ == "__main__":
    main()
