"""HumanEval and MBPP: do all reference solutions pass, and how many one-change mutants are caught?

    python benchmarks/mutants.py [--mutants 2] [--seed 0]

Every verdict on a mutant is checked against plain `python` on the same tests. The data are read from the folder that
OPEN_EXAONE_DATA names, or ../shared/data.
"""

import argparse
import ast
import copy
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import open_exaone as ox
from open_exaone.base.records import Verdict

DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[2] / "shared" / "data")) / "code"
TIME_LIMIT_S = 4.0
OPERATORS: dict[type, type] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult},
    **{ast.Div: ast.Mult, ast.Mod: ast.FloorDiv, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt},
    **{ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And},
}
Row = dict[str, Any]
Change = Callable[[Any], None]  # spoils the node that it is given


def changes(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """The ways to spoil one node, each with its kind."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in OPERATORS:
        operator = OPERATORS[type(node.op)]
        yield "operator", lambda n: setattr(n, "op", operator())
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        comparison = OPERATORS[type(node.ops[0])]
        yield "operator", lambda n: n.ops.__setitem__(0, comparison())
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield "constant + 1", lambda n: setattr(n, "value", n.value + 1)
    if isinstance(node, ast.Return) and node.value is not None:
        yield "return not", lambda n: setattr(n, "value", ast.UnaryOp(ast.Not(), n.value))
    if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice | ast.Tuple):
        yield "index + 1", lambda n: setattr(n, "slice", ast.BinOp(n.slice, ast.Add(), ast.Constant(1)))


def mutants(source: str, num_given_lines: int) -> list[tuple[str, str]]:
    """Every mutant of a program as (kind, source); the lines that the prompt has given stay as they are."""
    tree, found = ast.parse(source), []
    for place, node in enumerate(ast.walk(tree)):
        if getattr(node, "lineno", 0) <= num_given_lines:
            continue
        for which, (kind, _) in enumerate(changes(node)):
            spoilt = copy.deepcopy(tree)
            target = list(ast.walk(spoilt))[place]
            list(changes(target))[which][1](target)
            found.append((kind, ast.unparse(ast.fix_missing_locations(spoilt))))
    return found


def plain_python(source: str) -> str:
    """What plain python says: passed, failed or timeout."""
    command = [sys.executable, "-I", "-c", source]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIME_LIMIT_S,
            cwd=tempfile.gettempdir(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "timeout"
    return "failed" if ended.returncode else "passed"


def with_tests(program: str, row: Row) -> str:
    if "entry_point" in row:
        return f"{program}\n{row['test']}\ncheck({row['entry_point']})\n"
    return "\n".join([program, row["test_setup_code"], *row["test_list"]])


def judge(program: str, row: Row, time_limit_s: float = TIME_LIMIT_S) -> Verdict:
    settings = ox.JudgeSettings(program_time_limit_s=time_limit_s)
    return ox.judge("code", f"```python\n{program}\n```", row, settings=settings)


def programs() -> list[tuple[str, Row]]:
    with gzip.open(DATA / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        humaneval = [json.loads(line) for line in lines]
    mbpp = [json.loads(line) for line in (DATA / "mbpp.jsonl").open(encoding="utf-8")]
    return [(row["prompt"] + row["canonical_solution"], row) for row in humaneval] + [(r["code"], r) for r in mbpp]


def main(mutants_per_program: int, seed: int) -> None:
    draw, jobs = random.Random(seed), []
    with ThreadPoolExecutor(2) as threads:
        started = time.perf_counter()
        verdicts = list(threads.map(lambda job: judge(*job, time_limit_s=30.0), programs()))
        seconds = time.perf_counter() - started
        print(f"references: {sum(v.correct for v in verdicts)} of {len(verdicts)} pass, in {seconds:.0f} s")
        for program, row in programs():
            made = mutants(program, row.get("prompt", "").count("\n"))
            jobs += [(row, *one) for one in draw.sample(made, min(mutants_per_program, len(made)))]
        started = time.perf_counter()
        verdicts = list(threads.map(lambda job: judge(job[2], job[0]), jobs))
        print(f"mutants: {len(jobs)} judged in {time.perf_counter() - started:.0f} s")
        truths = list(threads.map(lambda job: plain_python(with_tests(job[2], job[0])), jobs))
    judged = list(zip(jobs, verdicts, truths, strict=True))
    for kind in ("", *sorted({job[1] for job in jobs})):
        caught = [not verdict.correct for job, verdict, _ in judged if kind in job[1]]
        print(f"  {kind or 'all':<14} {sum(caught):>6,} of {len(caught):>6,} caught, {sum(caught) / len(caught):.1%}")
    odd = [(job, verdict, truth) for job, verdict, truth in judged if verdict.correct != (truth == "passed")]
    print(f"verdicts that plain python does not share: {len(odd)}")
    for (row, kind, _), verdict, truth in odd:
        print(f"  {row['task_id']}, {kind}: plain python {truth}, ours {verdict.status}: {verdict.why}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=2, help="of each program")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    main(args.mutants, args.seed)
