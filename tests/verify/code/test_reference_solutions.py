"""Over HumanEval, MBPP and LiveCodeBench themselves, where they lie beside the repository."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from open_exaone.verify.code.judge import judge_code
from open_exaone.verify.settings import JudgeSettings

pytestmark = pytest.mark.usefixtures("sandbox")
DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")) / "code"
SETTINGS = JudgeSettings(program_time_limit_s=60.0)


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.decode().split("\n") if line]


def misses(programs: list[tuple[str, dict[str, Any]]]) -> list[str]:
    verdicts = [judge_code(f"```python\n{program}\n```", "", {"tests": row}, SETTINGS) for program, row in programs]
    return [f"{row.get('task_id')}: {v.why}" for v, (_, row) in zip(verdicts, programs, strict=True) if not v.correct]


def test_humaneval_solutions_pass_as_functions_and_as_continuations() -> None:
    found = rows("HumanEval.jsonl.gz")
    assert misses([(row["prompt"] + row["canonical_solution"], row) for row in found[::2]]) == []
    assert misses([(row["canonical_solution"], row) for row in found[1::2]]) == []


def test_mbpp_solutions_pass() -> None:
    """Every tenth, and those whose tests are unlike the others: trees, pairs, `sys`, a function named `sum`."""
    special = {126, 367, 596, 601, 927}
    found = [row for row in rows("mbpp.jsonl") if row["task_id"] in special or row["task_id"] % 10 == 0]
    assert misses([(row["code"], row) for row in found]) == []


def test_a_livecodebench_row_is_judged() -> None:
    (row,) = rows("livecodebench_one_row.jsonl")
    right = "for _ in range(int(input())):\n    print('YES' if input() in 'abc acb bac cba'.split() else 'NO')"
    assert misses([(right, row)]) == []
    assert misses([(right.replace("cba", "cab"), row)]) != []
