"""Verdicts and programs a second: the judge beside Math-Verify, and the sandbox beside a fresh python each.

    python benchmarks/verify.py [--rounds 3] [--before CHECKOUT]

All of MATH-500's gold answers are judged against themselves, against each other's, one off and with the sign turned.
They are read from the folder that OPEN_EXAONE_DATA names, or ../shared/data; without it that part is left out.
Math-Verify gets 500 pairs a round. --before adds the judge of another checkout of this repository, such as the commit
before, in a process of its own.
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
from typing import Any

from math_verify import parse, verify

import open_exaone as ox
from side_by_side import compare

logging.disable(logging.CRITICAL)  # Math-Verify warns that it was told to set no alarm
DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[2] / "shared" / "data"))
NOUNS = ["the capital", "a multiple", "the third law", "the year", "an oxide", "the root", "a colony", "the river"]
PROGRAM = "print(int(input()) + 1)"
NUM_PROGRAMS, NUM_PROCESSES, NUM_THREADS = 300, 40, 2
Pair = tuple[str, str]  # gold, answer
EARLIER = """
import json, sys
import open_exaone as ox
chunks = json.loads(sys.stdin.readline())
for line in sys.stdin:
    print(len([ox.judge(*case, **more) for *case, more in chunks[int(line)]]), flush=True)
"""
Case = tuple[str, str, str, dict[str, list[str]]]  # kind, reply, gold, and what else `ox.judge` takes


def math_500() -> list[Pair]:
    golds = [json.loads(line)["answer"] for line in (DATA / "math" / "math500.jsonl").open(encoding="utf-8")]
    shuffled = random.Random(0).sample(golds, len(golds))
    pairs = list(zip(golds, golds, strict=True)) + list(zip(golds, shuffled, strict=True))
    pairs += [(gold, gold[1:] if gold.startswith("-") else f"-{gold}") for gold in golds]
    numbers = [(gold, list(re.finditer(r"\d+", gold))) for gold in golds]
    pairs += [(g, f"{g[: n[-1].start()]}{int(n[-1].group()) + 1}{g[n[-1].end() :]}") for g, n in numbers if n]
    return pairs


def integers(rng: random.Random) -> list[Pair]:
    numbers = [rng.randint(-99_999, 99_999) for _ in range(12_000)]
    return [pair for n in numbers for pair in ((str(n), f"{n:,}"), (str(n), str(n + 1)))]


def fractions(rng: random.Random) -> list[Pair]:
    pairs = []
    for _ in range(6_000):
        top, bottom = rng.randint(1, 9_999), rng.randint(2, 99)
        gold = rf"\frac{{{top}}}{{{bottom}}}"
        pairs += [(gold, rf"\dfrac{{{top}}}{{{bottom}}}"), (gold, f"{top}/{bottom}"), (gold, f"{top}/{bottom + 1}")]
    return pairs


def boxed(pairs: list[Pair]) -> list[Case]:
    return [("math", rf"The answer is $\boxed{{{answer}}}$.", gold, {}) for gold, answer in pairs]


def choices(rng: random.Random) -> list[Case]:
    """Questions of four options, answered in a sentence, in a box and behind some lines of working."""
    cases: list[Case] = []
    for _ in range(2_000):
        options = [f"{rng.choice(NOUNS)} of {rng.randint(2, 999)}" for _ in range(4)]
        label, gold = rng.choice("ABCD"), rng.choice("ABCD")
        lines = [f"Option {one} is {text}, which we look at first." for one, text in zip("ABCD", options, strict=True)]
        working = "\n".join([*lines, ""])
        form = rng.choice(["The answer is {}.", "{}", r"So it is \boxed{{{}}}.", "정답은 {}입니다.", "**Answer: {}**"])
        reply = rng.choice(["", working, 6 * working]) + form.format(label)
        cases.append(("choice", reply, gold, {"options": options}))
    return cases


def chunked(items: list[Any], rounds: int) -> list[list[Any]]:
    """A part for each round and one to warm up, shuffled alike; no item twice: the judges keep what they parsed."""
    shuffled = random.Random(0).sample(items, len(items))
    return [shuffled[start :: rounds + 1] for start in range(rounds + 1)]


def math_verify(pairs: list[Pair], rounds: int) -> Callable[[], float]:
    rest = iter([chunk[:500] for chunk in chunked(pairs, rounds)])
    return lambda: len([verify(parse(f"${g}$"), parse(rf"The answer is $\boxed{{{a}}}$.")) for g, a in next(rest)])


def judges(cases: list[Case], rounds: int, before: Path | None) -> dict[str, Callable[[], float]]:
    chunks = chunked(cases, rounds)
    ways = {"ox.judge": ours(chunks)}
    return ways | {"ox.judge of --before": earlier(chunks, before)} if before else ways


def ours(chunks: list[list[Case]]) -> Callable[[], float]:
    rest = iter(chunks)
    return lambda: len([ox.judge(kind, reply, gold, **more) for kind, reply, gold, more in next(rest)])


def earlier(chunks: list[list[Case]], checkout: Path) -> Callable[[], float]:
    """The same cases by another checkout's judge; what goes through the pipes is counted as its time."""
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, "-c", EARLIER]
    process = subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    rest = iter(range(len(chunks)))
    process.stdin.write(json.dumps(chunks) + "\n")  # type: ignore[union-attr]

    def judge() -> float:
        print(next(rest), file=process.stdin, flush=True)
        return int(process.stdout.readline())  # type: ignore[union-attr]

    return judge


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


def main(rounds: int, before: Path | None) -> None:
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
        ways = {"Math-Verify": math_verify(pairs, rounds)} | judges(boxed(pairs), rounds, before)
        compare(f"{name}: {len(pairs):,} pairs in all, one thread", ways, rounds)
    cases = choices(random.Random(3))
    compare(f"multiple choice: {len(cases):,} replies in all, one thread", judges(cases, rounds, before), rounds)
    ways = {"a fresh python each": fresh_python, "ox.run_program": sandboxed}
    compare(f"trivial programs, {NUM_THREADS} threads", ways, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, whose judge runs too")
    args = parser.parse_args()
    main(args.rounds, args.before)
