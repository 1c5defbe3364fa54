"""What an evaluation adds to the engine's own generation: prompts, keys, splitting, judging, and keeping each sample.

    python benchmarks/evaluator.py runs/nano-exaone-deep [--rounds 7] [--samples 32] [--temperature 0.6]

The same samples of a run's test problems, by `Engine.generate` alone and by `run_tasks`, in turns in one process. A
high temperature makes long replies, of which there are fewer in the same time.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from open_exaone.base.machine import prepare_process

prepare_process()

from open_exaone.checkpoint.folder import load_config, load_model, load_tokenizer, resolve_device
from open_exaone.data.document import prompt_ids
from open_exaone.engine.engine import Engine
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.store import Store
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import own_tasks
from open_exaone.pipeline.source import resolve_model
from open_exaone.rollout.providers.local import LocalProvider


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run whose recipe has [evaluation] with data")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=32, help="of each problem")
    parser.add_argument("--temperature", type=float, default=0.6)
    args = parser.parse_args()
    run, folder, num_samples = RunFolder(args.run), resolve_model(args.run), args.samples
    config = run.recipe().evaluation
    if config is None or config.data is None:
        parser.error(f"{args.run}: its recipe has no [evaluation] with data")
    config = config.model_copy(update={"num_samples": num_samples, "temperature": args.temperature})
    tokenizer, context = load_tokenizer(folder), load_config(folder).max_positions
    engine = Engine(load_model(folder, dtype="auto", device=resolve_device("auto")), tokenizer, num_slots=128)
    problems = run.problems(config.data)[: config.limit]
    task = own_tasks(problems, config, config.data, context=context, thinking=True)[0]
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
    for number in range(args.rounds):
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
