"""Verdicts and programs a second: the judge beside Math-Verify, and the sandbox beside a fresh python each.

    python benchmarks/verify.py [--rounds 3]

All of MATH-500's gold answers are judged against themselves, against each other's, one off and with the sign turned.
They are read from the folder that OPEN_EXAONE_DATA names, or ../shared/data; without it that part is left out.
"""

import argparse
import json
import logging
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from math_verify import parse, verify

import open_exaone as ox
from side_by_side import compare

logging.disable(logging.CRITICAL)  # Math-Verify warns that it was told to set no alarm
DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[2] / "shared" / "data"))
PROGRAM = "print(int(input()) + 1)"
NUM_PROGRAMS, NUM_PROCESSES, NUM_THREADS = 300, 40, 2
Pair = tuple[str, str]  # gold, answer


def math_500() -> list[Pair]:
    golds = [json.loads(line)["answer"] for line in (DATA / "math" / "math500.jsonl").open(encoding="utf-8")]
    shuffled = random.Random(0).sample(golds, len(golds))
    pairs = list(zip(golds, golds, strict=True)) + list(zip(golds, shuffled, strict=True))
    pairs += [(gold, gold[1:] if gold.startswith("-") else f"-{gold}") for gold in golds]
    numbers = [(gold, list(re.finditer(r"\d+", gold))) for gold in golds]
    pairs += [(g, f"{g[: n[-1].start()]}{int(n[-1].group()) + 1}{g[n[-1].end() :]}") for g, n in numbers if n]
    return pairs


def integers(rng: random.Random) -> list[Pair]:
    numbers = [rng.randint(-99_999, 99_999) for _ in range(2_000)]
    return [pair for n in numbers for pair in ((str(n), f"{n:,}"), (str(n), str(n + 1)))]


def fractions(rng: random.Random) -> list[Pair]:
    pairs = []
    for _ in range(1_200):
        top, bottom = rng.randint(1, 9_999), rng.randint(2, 99)
        gold = rf"\frac{{{top}}}{{{bottom}}}"
        pairs += [(gold, rf"\dfrac{{{top}}}{{{bottom}}}"), (gold, f"{top}/{bottom}"), (gold, f"{top}/{bottom + 1}")]
    return pairs


def ours(chunks: list[list[Pair]]) -> Callable[[], float]:
    rest = iter(chunks)
    return lambda: len([ox.judge("math", rf"The answer is $\boxed{{{a}}}$.", gold) for gold, a in next(rest)])


def math_verify(chunks: list[list[Pair]]) -> Callable[[], float]:
    rest = iter(chunks)
    return lambda: len([verify(parse(f"${g}$"), parse(rf"The answer is $\boxed{{{a}}}$.")) for g, a in next(rest)])


def sandboxed() -> float:
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        results = list(threads.map(lambda n: ox.run_program(PROGRAM, f"{n}\n").stdout, range(NUM_PROGRAMS)))
    assert results == [f"{n + 1}\n" for n in range(NUM_PROGRAMS)]
    return NUM_PROGRAMS


def fresh_python() -> float:
    def run(n: int) -> str:
        command = [sys.executable, "-c", PROGRAM]
        return subprocess.run(command, input=f"{n}\n", text=True, capture_output=True, check=True).stdout

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        results = list(threads.map(run, range(NUM_PROCESSES)))
    assert results == [f"{n + 1}\n" for n in range(NUM_PROCESSES)]
    return NUM_PROCESSES


def main(rounds: int) -> None:
    for name, first in (
        ("a trivial program", lambda: ox.run_program("pass")),
        ("a formula", lambda: ox.judge("math", r"\boxed{\oint x}", r"\oint y")),
    ):
        started = time.perf_counter()
        first()
        print(f"the first verdict on {name}, its pool's start included: {time.perf_counter() - started:.2f} s")
    sets = {"integers": integers(random.Random(1)), "fractions": fractions(random.Random(2))}
    if (DATA / "math" / "math500.jsonl").is_file():
        sets["MATH-500's golds"] = math_500()
    for name, pairs in sets.items():
        random.Random(0).shuffle(pairs)
        chunks = [
            pairs[start :: rounds + 1] for start in range(rounds + 1)
        ]  # no pair twice: both keep what they parsed
        ways = {"Math-Verify": math_verify(chunks), "ox.judge": ours(chunks)}
        compare(f"{name}: {len(pairs):,} pairs in all, one thread", ways, rounds)
    ways = {"a fresh python each": fresh_python, "ox.run_program": sandboxed}
    compare(f"trivial programs, {NUM_THREADS} threads", ways, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    main(parser.parse_args().rounds)
