"""Whole measurements on real rows: endpoints that answer gold, wrong, cut, in another language, or that fail.

    python benchmarks/evaluation.py [BENCHMARK ...] [--limit N] [--rescore]

Without names, all benchmarks and then the stored replies of other harnesses; with --rescore alone, those only. The data
are read from the folder that OPEN_EXAONE_DATA names, or ../shared/data. Prints Markdown tables.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import open_exaone as ox
from mock_endpoint import mock_endpoint
from open_exaone.base.records import Problem
from open_exaone.pipeline.rescore import rescore_file
from open_exaone.tasks.benchmarks.registry import load_benchmark
from open_exaone.verify.settings import JudgeSettings
from tasks.benchmarks.constraint_replies import CONTRADICTORY
from tasks.benchmarks.replies import gold_reply, wrong_reply

DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[2] / "shared" / "data"))
FILES = {
    "csat_2025_math": "csat/csat_math_2025_transcribed.jsonl",
    "math_500": "math/math500.jsonl",
    "aime_2024": "aime/aime24.jsonl",
    "aime_2025": "aime/aime25.jsonl",
    "hmmt_feb_2025": "aime/hmmt_feb_2025.jsonl",
    "mmlu_redux": "mcq/mmlu_redux.jsonl",
    "mmlu_pro": "mcq/mmlu_pro_test_questions.jsonl",
    "humaneval": "code/HumanEval.jsonl.gz",
    "mbpp": "code/mbpp.jsonl",
    "ifeval": "ifeval/input_data.jsonl",
}
PROSE = {
    "en": "Let me think about this step by step. First we look at what the question asks for, and then we work it out.",
    "ko": "차근차근 생각해 보겠습니다. 먼저 문제에서 무엇을 묻는지 살펴보고, 그다음에 하나씩 풀어 나가면 됩니다.",
}
COLUMNS = (
    "benchmark",
    "samples",
    "gold",
    "wrong",
    "cut: score, truncated",
    "other language: score, mismatch",
    "half right; again, one request in five failing",
    "seconds",
)
SETTINGS = JudgeSettings(
    program_time_limit_s=60.0
)  # by the clock: mbpp/123 alone takes 4 s where nothing runs beside it
Reply = Callable[[Problem, dict[str, Any]], str]


def gold(problem: Problem, request: dict[str, Any]) -> str:
    if problem.id in {f"ifeval/{key}" for key in CONTRADICTORY}:
        return wrong(problem, request)
    return f"<think>\n{PROSE[problem.language]}\n</think>\n\n{gold_reply(problem)}"


def wrong(problem: Problem, request: dict[str, Any]) -> str:
    return f"<think>\n{PROSE[problem.language]}\n</think>\n\n{wrong_reply(problem)}"


def mixed(problem: Problem, request: dict[str, Any]) -> str:
    """Gold or wrong, as the sample's own seed has it."""
    digest = hashlib.blake2b(f"{request['seed']}:{problem.id}".encode()).digest()
    return (gold if digest[0] % 2 else wrong)(problem, request)


def foreign(problem: Problem, request: dict[str, Any]) -> str:
    """Gold, but thought and answer in the other language; IFEval's instructions are then broken, as words are added."""
    prose = PROSE["en" if problem.language == "ko" else "ko"]
    stated = gold_reply(problem) if problem.verifier != "constraints" else ""
    return f"<think>\n{prose}\n</think>\n\n{prose}\n{stated.replace('So the answer is', '').replace('Here it is.', '')}"


def measure(name: str, problems: tuple[Problem, ...], reply: Reply, k: int, **faults: Any) -> dict[str, Any]:
    """The report, with its seconds, the number of faults, and the samples beside it."""
    by_question = {problem.question: problem for problem in problems}
    with (
        tempfile.TemporaryDirectory() as out,
        mock_endpoint(lambda question, request: reply(by_question[question], request), **faults) as server,
    ):
        started = time.monotonic()
        rows, limit = {name: str(DATA / FILES[name])}, len(problems)
        report: dict[str, Any] = ox.evaluate(
            server.url, name, rows=rows, limit=limit, num_samples=k, out=out, settings=SETTINGS
        )
        report["clock"], report["faults"] = time.monotonic() - started, server.num_errors
        assert sum(server.num_by_prompt.values()) == limit * k, "each sample is generated once"
        samples = [json.loads(line) for line in Path(out, "samples.jsonl").read_text("utf-8").splitlines()]
        report["samples"] = [{key: value for key, value in row.items() if key != "key"} for row in samples]
    return report


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    """Without times, the endpoint's port, and how often it failed."""
    kept = {
        key: value for key, value in report.items() if key not in ("started", "seconds", "clock", "faults", "folder")
    }
    return {**kept, "model": {key: value for key, value in kept["model"].items() if key != "engine"}}


def benchmark(name: str, limit: int | None) -> None:
    loaded = load_benchmark(name, str(DATA / FILES[name]))
    problems = loaded.problems[:limit]
    k = 4 if len(problems) <= 600 and problems[0].verifier != "code" else 1
    right, bad = measure(name, problems, gold, k), measure(name, problems, wrong, k)
    cut, other = measure(name, problems, gold, k, truncate=True), measure(name, problems, foreign, k)
    calm, failing = measure(name, problems, mixed, k), measure(name, problems, mixed, k, error_share=0.2)
    differ = [key for key in timeless(calm) if timeless(calm)[key] != timeless(failing)[key]]
    same = "differs in " + ", ".join(differ) if differ else "the same"
    print(
        f"| `{name}` | {len(problems):,} × {k} | {right['pass_at_1']:.1%} | {bad['pass_at_1']:.1%} "
        f"| {cut['pass_at_1']:.1%}, {cut['rates']['truncated']['value']:.1%} "
        f"| {other['pass_at_1']:.1%}, {other['rates']['language_mismatch']['value']:.1%} "
        f"| {calm['pass_at_1']:.1%}, {same} after {failing['faults']:,} faults "
        f"| {right['clock']:.0f} to {failing['clock']:.0f} |",
        flush=True,
    )


def stored() -> None:
    """Other harnesses' replies, judged by us."""
    print("\n| replies | samples | ours | theirs | agree | only ours | only theirs |\n|---|---|---|---|---|---|---|")
    for file in sorted((DATA / "outputs").glob("*.jsonl")):
        with tempfile.TemporaryDirectory() as out:
            for entry in rescore_file(file, Path(out) / "out").tasks:
                told, size = entry.grader, entry.num_problems * entry.k
                assert told is not None
                agree = size - told.only_ours - told.only_theirs
                scores = f"{entry.pass_at_1:.1%} | {told.score:.1%}"
                print(f"| {entry.name} | {size:,} | {scores} | {agree:,} | {told.only_ours} | {told.only_theirs} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rescore", action="store_true")
    given = parser.parse_args()
    if not given.rescore:
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for wanted in given.names or FILES:
            benchmark(wanted, given.limit)
    if not given.names:
        stored()
