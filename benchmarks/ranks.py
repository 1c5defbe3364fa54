"""What a second rank gains: tokens a second of two ranks of one thread each beside one process of two threads.

    python benchmarks/ranks.py [--recipe nano/exaone-deep] [--stage base] [--epochs 0.05] [--ranks 2] [--rounds 3]
        [--set KEY=VALUE ...]
    python benchmarks/ranks.py --evaluate pebble-0.9m [--problems 400] [--samples 4] [--max-new-tokens 160]

The two take turns, round after round, each in a new folder on the same data; the figure is the median over rounds of
tokens a second, as the stage's metrics have them, without the first steps. On an idle machine of two cores, two ranks
of the nano recipe are to train at least 1.3 times as fast; twice what one thread does is the most that they could.
With --evaluate it is tokens of replies a second of `exaone eval` on generated problems, judging included, from the
first prompt to the last verdict; all ways must leave the same samples.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

FIRST_STEPS = 3  # in which memory is faulted in and kernels are compiled


def main() -> None:
    arguments = parsed()
    ways = {
        f"1 process, {arguments.ranks} threads": ({"OMP_NUM_THREADS": str(arguments.ranks)}, []),
        f"{arguments.ranks} ranks, 1 thread each": ({"OMP_NUM_THREADS": "1"}, ["--ranks", str(arguments.ranks)]),
        "1 process, as it chooses": ({}, []),
        "1 process, 1 thread": ({"OMP_NUM_THREADS": "1"}, []),
    }
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for place, (way, (environment, flags)) in enumerate(ways.items()):
                out = Path(folder) / f"{number}-{place}"
                measure = evaluation_speed if arguments.evaluate else speed
                speeds[way].append(measure(arguments, out, environment, flags))
                print(f"round {number + 1}, {way}: {speeds[way][-1]:,.0f} tokens a second", flush=True)
    medians = {way: statistics.median(found) for way, found in speeds.items()}
    first = next(iter(medians.values()))
    for way, median in medians.items():
        print(f"{way}: {median:,.0f} tokens a second, {median / first:.2f} times the first")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="nano/exaone-deep")
    parser.add_argument("--stage", default="base", help="the recipe's first stage")
    parser.add_argument("--epochs", type=float, default=0.05)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--evaluate", help="a model that is evaluated, instead of a stage that is trained")
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    return parser.parse_args()


def speed(arguments: argparse.Namespace, out: Path, environment: dict[str, str], flags: list[str]) -> float:
    """Trains the stage once: tokens a second behind its first steps."""
    changes = [f"{arguments.stage}.num_epochs={arguments.epochs}", "evaluation.limit=1", "evaluation.num_samples=1"]
    command = ["run", arguments.recipe, "--until", arguments.stage, "--out", str(out), *flags]
    for change in (*changes, *arguments.changes):
        command += ["--set", change]
    exaone(command, environment)
    [file] = out.glob(f"*-{arguments.stage}/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    if len(rows) <= FIRST_STEPS + 1:
        sys.exit(f"{arguments.stage} has {len(rows)} steps: raise --epochs")
    first, last = rows[FIRST_STEPS - 1], rows[-1]
    return float((last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"]))


def evaluation_speed(arguments: argparse.Namespace, out: Path, environment: dict[str, str], flags: list[str]) -> float:
    """Evaluates the model once: tokens of replies a second."""
    problems = out.parent / "problems.jsonl"
    if not problems.exists():
        write_problems(problems, arguments.problems)
    asked = ["--samples", str(arguments.samples), "--max-new-tokens", str(arguments.max_new_tokens), *flags]
    exaone(["eval", arguments.evaluate, "--suite", str(problems), *asked, "--out", str(out)], environment)
    text = (out / "samples.jsonl").read_text()
    digest, first = hashlib.sha256(text.encode()).hexdigest(), out.parent / "digest"
    if not first.exists():
        first.write_text(digest)
    if first.read_text() != digest:
        sys.exit(f"{out}: other samples than those of the first evaluation")
    tokens = sum(json.loads(line)["num_tokens"] for line in text.splitlines())
    return float(tokens / json.loads((out / "evaluation.json").read_text())["seconds"])


def write_problems(path: Path, number: int) -> None:
    from open_exaone.tasks.generated import GeneratedSource, draw_problems
    from open_exaone.verify.settings import JudgeSettings

    source = GeneratedSource(families=("worked", "unworked"), num_problems=number)
    rows = [asdict(problem) for problem in draw_problems(source, 0, set(), "benchmark", JudgeSettings())]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def exaone(arguments: list[str], environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "open_exaone", *arguments]
    own = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    ran = subprocess.run(command, env=own | environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}\n{ran.stderr}")


if __name__ == "__main__":
    main()
