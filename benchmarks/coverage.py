"""How often intervals hold the truth, by simulation: the tables of docs/statistics.md.

Questions' pass rates are drawn from Beta(a c, (1 - a) c), of mean a (the accuracy) and concentration c, then k samples
of each; the truth is a. A small c makes questions that are nearly always or nearly never solved; "all or nothing" is
its limit, where k samples tell no more than one.

python benchmarks/coverage.py [--runs 4000] [--processes 2] [--seed 0]
"""

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import lgamma
from multiprocessing import Pool

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from open_exaone.evaluation.paired import paired_difference, published_estimate, unpaired_difference
from open_exaone.evaluation.statistics import (
    bootstrap_interval,
    estimate,
    is_narrow_enough,
    normal_interval,
    question_correlation,
    question_interval,
    t_interval,
)

QUESTIONS, SAMPLES = (30, 40, 60, 100, 198, 500), (1, 4, 16, 64)
ACCURACIES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
CONCENTRATIONS = (0.5, 1.0, 3.0, 20.0, None)  # None: all or nothing
METHODS: dict[str, Callable[[Sequence[float]], tuple[float, float]]] = {
    "question_interval": question_interval,
    "t_interval": t_interval,
    "normal_interval": normal_interval,
    "bootstrap_interval": partial(bootstrap_interval, num_resamples=500),
}


def draw_means(random: np.random.Generator, shape: tuple[int, int], k: int, accuracy: float, c: float | None):
    """[runs, P]: the share of correct samples of each question."""
    rates = random.random(shape) < accuracy if c is None else random.beta(accuracy * c, (1 - accuracy) * c, shape)
    return random.binomial(k, rates) / k


def cell(setting: tuple[int, int, float, float | None], runs: int, seed: int, methods: Sequence[str]) -> list[float]:
    """The coverage of each method, then the mean width of the first."""
    num, k, accuracy, c = setting
    random = np.random.default_rng([seed, num, k, round(accuracy * 10), round(10 * (c or 0))])
    rows = draw_means(random, (runs, num), k, accuracy, c).tolist()
    found = {name: [METHODS[name](row) for row in rows] for name in methods}
    covers = [float(np.mean([low <= accuracy <= high for low, high in found[name]])) for name in methods]
    return [*covers, float(np.mean([high - low for low, high in found[methods[0]]]))]


def sweep(pool, methods: Sequence[str], runs: int, seed: int, questions: Sequence[int], samples: Sequence[int]) -> None:
    settings = list(product(questions, samples, ACCURACIES, CONCENTRATIONS))
    results = dict(zip(settings, pool.map(partial(cell, runs=runs, seed=seed, methods=methods), settings), strict=True))
    noise = (0.95 * 0.05 / runs) ** 0.5
    print(f"\nCoverage of 95 % intervals, {runs} runs a cell (noise {noise:.4f}): mean over cells, worst, cells < 0.93")
    for place, name in enumerate(methods):
        covers = {setting: result[place] for setting, result in results.items()}
        worst = min(covers, key=covers.__getitem__)
        below = sum(value < 0.93 for value in covers.values())
        mean = np.mean(list(covers.values()))
        print(f"| `{name}` | {mean:.3f} | {covers[worst]:.3f} {worst} | {below} of {len(covers)} |", flush=True)
    print(f"\n`{methods[0]}`: worst coverage over accuracies and concentrations, and mean half-width in points")
    print("| questions | " + " | ".join(f"k = {k}" for k in samples) + " |")
    for num in questions:
        texts = []
        for k in samples:
            chosen = [result for setting, result in results.items() if setting[:2] == (num, k)]
            texts.append(f"{min(r[0] for r in chosen):.3f} ({50 * np.mean([r[-1] for r in chosen]):.1f})")
        print(f"| {num} | " + " | ".join(texts) + " |", flush=True)


def exact() -> None:
    """The coverage at k = 1, and of all or nothing at any k, summed over the binomial law."""
    worst = (1.0, 0, 0.0)
    for num in (30, 33, 37, 40, 45, 50, 55, 60, 70, 80, 100, 120, 150, 164, 198, 250, 300, 400, 500):
        counts = np.arange(num + 1)
        bounds = np.array([question_interval([1.0] * count + [0.0] * (num - count)) for count in counts])
        ways = np.array([lgamma(num + 1) - lgamma(count + 1) - lgamma(num - count + 1) for count in counts])
        for accuracy in np.linspace(0.1, 0.9, 161):
            law = np.exp(ways + counts * np.log(accuracy) + (num - counts) * np.log1p(-accuracy))
            held = float(law[(bounds[:, 0] <= accuracy) & (accuracy <= bounds[:, 1])].sum())
            worst = min(worst, (held, num, round(float(accuracy), 3)))
    print(f"\n`question_interval` at k = 1, exact: worst {worst[0]:.4f} at {worst[1]} questions, accuracy {worst[2]}")


def outside(setting: tuple[int, int, float], runs: int, seed: int) -> tuple[tuple[int, int, float], float]:
    num, k, accuracy = setting
    return setting, min(cell((num, k, accuracy, c), runs, seed, ["question_interval"])[0] for c in CONCENTRATIONS)


def paired_cell(setting: tuple[int, int, float], runs: int, seed: int) -> list[float]:
    """Coverage of the paired interval, how often p < 0.05 where nothing differs, and the unpaired interval's."""
    num, k, gap = setting
    random = np.random.default_rng([seed, num, k, round(gap * 100)])
    covered, rejected, apart = [], [], []
    for _ in range(runs):
        rates = random.beta(1.0, 1.0, num) * (1 - gap)
        both = [random.binomial(k, rates + add) for add in (gap, 0.0)]
        one, other = (dict(enumerate((x / k).tolist())) for x in both)
        found = paired_difference({str(i): v for i, v in one.items()}, {str(i): v for i, v in other.items()})
        covered.append(found.low <= gap <= found.high)
        rejected.append(found.p_value is not None and found.p_value < 0.05)
        grid = [[True] * int(c) + [False] * (k - int(c)) for c in both[0]]
        theirs = published_estimate(float(both[1].mean() / k), num, k, question_correlation(grid))
        difference = unpaired_difference(estimate(list(one.values())), theirs)
        apart.append(difference.low <= gap <= difference.high)
    return [float(np.mean(covered)), float(np.mean(rejected)), float(np.mean(apart))]


def skewed_cell(setting: tuple[int, int, float], runs: int, seed: int) -> float:
    """How often p < 0.05 where a share of the questions loses 0.8 and the others gain as much in all."""
    num, k, share = setting
    random = np.random.default_rng([seed, num, k, round(share * 100)])
    rejected = 0
    for _ in range(runs):
        is_lost = random.random(num) < share
        before = np.where(is_lost, 0.9, random.uniform(0.1, 0.7, num))
        after = before + np.where(is_lost, -0.8, 0.8 * share / (1 - share))
        one, other = ({str(i): x / k for i, x in enumerate(random.binomial(k, p).tolist())} for p in (after, before))
        found = paired_difference(one, other).p_value
        rejected += found is not None and found < 0.05
    return rejected / runs


def stopping_cell(setting: tuple[float, float, int], runs: int, seed: int) -> list[float]:
    """Coverage where measuring stops at the first question that makes the interval narrow enough, and the questions."""
    accuracy, half_width, k = setting
    random = np.random.default_rng([seed, round(100 * accuracy), round(1000 * half_width), k])
    covered, used = [], []
    for row in draw_means(random, (runs, 1000), k, accuracy, 1.0).tolist():
        count = next((n for n in range(30, 1001, 5) if is_narrow_enough(row[:n], half_width)), 1000)
        found = estimate(row[:count])
        covered.append(found.low <= accuracy <= found.high)
        used.append(count)
    return [float(np.mean(covered)), float(np.mean(used))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    exact()
    few = max(options.runs // 4, 50)
    with Pool(options.processes) as pool:
        sweep(pool, ["question_interval"], options.runs, options.seed, QUESTIONS, SAMPLES)
        sweep(pool, list(METHODS)[1:4], few, options.seed, QUESTIONS, SAMPLES)
        sweep(pool, ["bootstrap_interval"], few // 2, options.seed, (30, 100, 500), (1, 16))
        print("\n`question_interval` outside 0.1 to 0.9: worst over concentrations")
        edges = list(product((30, 100, 500), (1, 64), (0.01, 0.03, 0.97, 0.99)))
        for setting, value in pool.map(partial(outside, runs=options.runs, seed=options.seed), edges):
            print(f"| {setting[0]} | {setting[1]} | {setting[2]} | {value:.3f} |", flush=True)
        print("\nSkewed pairs without a difference: questions, k, share that loses 0.8 | p < 0.05")
        skewed = list(product((30, 100), (8, 64), (0.03, 0.06, 0.1, 0.2)))
        values = pool.map(partial(skewed_cell, runs=few // 2, seed=options.seed), skewed)
        for setting, value in zip(skewed, values, strict=True):
            print(f"| {', '.join(map(str, setting))} | {value:.3f} |", flush=True)
        print("\nPairs: questions, k, true difference | paired interval | p < 0.05 | unpaired interval")
        pairs = list(product((30, 100, 500), (1, 8), (0.0, 0.1)))
        for setting, row in zip(pairs, pool.map(partial(paired_cell, runs=few, seed=options.seed), pairs), strict=True):
            print(f"| {setting} | " + " | ".join(f"{value:.3f}" for value in row) + " |", flush=True)
        print("\nStopping at a half-width: accuracy, half-width, k | coverage | mean questions")
        stops = list(product((0.1, 0.5, 0.8), (0.05, 0.1), (1, 8)))
        rows = pool.map(partial(stopping_cell, runs=few, seed=options.seed), stops)
        for setting, row in zip(stops, rows, strict=True):
            print(f"| {setting} | {row[0]:.3f} | {row[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
