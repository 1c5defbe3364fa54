"""How long it takes to judge 100,000 stored samples anew, to score them and to write the report, and in what memory.

    python benchmarks/report_speed.py [--problems 1563] [--k 64]

The samples are made up in a temporary folder: whole numbers as answers, thoughts of about 600 characters. Each step
runs in the same process, as `exaone eval --rescore` has it.
"""

import argparse
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

from open_exaone.base.files import write_json, write_jsonl
from open_exaone.base.records import Generation, Problem, Reply, Sample, Sampling, StopReason
from open_exaone.evaluation.report import build_report, write_report
from open_exaone.evaluation.rescore import changes, rescore
from open_exaone.evaluation.rows import UNJUDGED, problem_rows, sample_row, task_row
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task

Result = TypeVar("Result")

THOUGHT = (
    "First I add the numbers in the bag, which gives {a}. Then somebody takes {b} of them away, so {c} are left. Wait, "
    "let me check that again: the question says that there were {a} at the start, and {b} were given to a friend. "
)
CHARS = 600
STEPS: list[tuple[str, float, float, int]] = []  # name, seconds by the clock, of all processors, peak bytes


def make(folder: Path, num_problems: int, k: int) -> None:
    """Writes an evaluation's folder of samples that are not judged yet."""
    draw = random.Random(0)
    problems = tuple(
        Problem(f"bag/{n}", "bag", "en", f"How many are in bag {n}?", str(draw.randrange(1000)), "math")
        for n in range(num_problems)
    )
    task = Task("bags", "bags", problems, Sampling(max_new_tokens=1024, num_samples=k), thinking=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation.json", {"suite": "bags", "tasks": [task_row(task)]})
    write_jsonl(folder / "problems.jsonl", problem_rows([task]))
    write_jsonl(folder / "samples.jsonl", (sample_row(sample) for sample in samples_of(task, draw)))


def samples_of(task: Task, draw: random.Random):
    """Some questions easy, some hard; wrong answers lie near the right one, some replies are cut or say nothing."""
    for problem in task.problems:
        chance = draw.betavariate(0.8, 0.8)
        for index in range(task.sampling.num_samples):
            gold, dice = int(problem.answer), draw.random()
            answer = gold if draw.random() < chance else gold + round(draw.gauss(0, 20))
            numbers = {name: draw.randrange(1000) for name in "abc"}
            thought = (THOUGHT.format(**numbers) * 4)[: CHARS + draw.randrange(-50, 50)]
            text = f"So the answer is \\boxed{{{answer}}}." if dice < 0.97 else "That is too hard for me."
            stop = StopReason.END if dice > 0.02 else StopReason.LENGTH
            tokens = len(thought) // 4
            generation = Generation(Reply(thought, text), stop, 40, tokens + 12, tokens)
            key = f"{problem.id}/{index}"
            yield Sample(key, task.name, problem.id, index, generation, UNJUDGED)


def timed(name: str, step: Callable[[], Result]) -> Result:
    started, worked = time.perf_counter(), processor_seconds()
    result = step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    STEPS.append((name, time.perf_counter() - started, processor_seconds() - worked, peak))
    return result


def processor_seconds() -> float:
    """Of this process and the ones that it started and that ended."""
    return sum(os.times()[:4])


def rebuild(folder: Path) -> None:
    """What `--rescore` does with a folder."""
    stored = timed("read samples.jsonl", lambda: Store(folder).read())
    judged = timed("judge anew", lambda: rescore(stored.tasks, stored.samples))
    timed("count changed verdicts", lambda: changes(stored.samples, judged))
    entries = timed("score", lambda: [score_task(*pair) for pair in zip(stored.tasks, judged, strict=True)])
    report = build_report(
        entries, suite="bags", model={"engine": "made up"}, code_version="0", versions={}, started="2026-01-01"
    )
    timed("write report.json", lambda: write_report(folder / "report.json", report))
    if find_spec("open_exaone.present.evaluation") is not None:
        from open_exaone.present import evaluation

        timed("write report.html", lambda: evaluation.write_evaluation_page(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=1563)
    parser.add_argument("--k", type=int, default=64)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "evaluation"
        if os.fork() == 0:  # what makes the samples must not count as memory of the steps
            make(folder, arguments.problems, arguments.k)
            os._exit(0)
        os.wait()
        size = (folder / "samples.jsonl").stat().st_size
        rebuild(folder)
    print(f"{arguments.problems * arguments.k:,} samples, {size / 1e6:,.0f} MB, {os.cpu_count()} cores")
    for step, seconds, worked, peak in STEPS:
        print(f"  {step:<24}{seconds:8.1f} s   processors {worked:6.1f} s   peak so far {peak / 1e9:5.2f} GB")
    seconds, worked = (sum(step[place] for step in STEPS) for place in (1, 2))
    print(f"  {'all':<24}{seconds:8.1f} s   processors {worked:6.1f} s")


if __name__ == "__main__":
    main()
