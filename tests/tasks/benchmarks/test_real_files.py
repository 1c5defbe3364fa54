"""Over the real files, where they lie beside the repository: gold answers are right, others are not, on every row."""

import os
from pathlib import Path

import pytest

from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.code_sets import livecodebench
from open_exaone.tasks.benchmarks.csat import csat_score
from open_exaone.tasks.benchmarks.load import Loaded
from open_exaone.tasks.benchmarks.registry import load_benchmark
from open_exaone.verify.judge import judge_answer
from open_exaone.verify.settings import JudgeSettings
from tasks.benchmarks.constraint_replies import CONTRADICTORY
from tasks.benchmarks.replies import gold_reply, wrong_reply

DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
SETTINGS = JudgeSettings(program_time_limit_s=60.0)
FILES = {  # benchmark -> its file, how many problems, and which of them are judged here
    "math_500": ("math/math500.jsonl", 500, 1),
    "aime_2024": ("aime/aime24.jsonl", 30, 1),
    "aime_2025": ("aime/aime25.jsonl", 30, 1),
    "hmmt_feb_2025": ("aime/hmmt_feb_2025.jsonl", 30, 1),
    "csat_2025_math": ("csat/csat_math_2025_transcribed.jsonl", 46, 1),
    "mmlu": ("mcq/mmlu_test_sample200.jsonl", 200, 1),
    "mmlu_redux": ("mcq/mmlu_redux.jsonl", 5330, 1),
    "mmlu_redux_corrected": ("mcq/mmlu_redux.jsonl", 5432, 1),
    "mmlu_pro": ("mcq/mmlu_pro_test_questions.jsonl", 12032, 1),
    "gsm8k": ("gsm8k/test.jsonl", 1319, 1),
    "humaneval": ("code/HumanEval.jsonl.gz", 164, 16),  # every so many: programs take their time
    "mbpp": ("code/mbpp.jsonl", 500, 50),
}
IS_SAMPLE = {"mmlu"}


def read(name: str, file: str) -> Loaded:
    if not (DATA / file).exists():
        pytest.skip(f"{DATA / file}: not here; OPEN_EXAONE_DATA names the folder")
    return load_benchmark(name, str(DATA / file))


def is_correct(problem: Problem, reply: str) -> bool:
    return judge_answer(problem.verifier, reply, problem.answer, problem.metadata, SETTINGS).correct


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", FILES)
def test_gold_is_correct_and_wrong_is_not(name: str) -> None:
    file, number, step = FILES[name]
    loaded = read(name, file)
    assert len(loaded.problems) == number and loaded.is_pinned == (name not in IS_SAMPLE)
    some = loaded.problems[::step]
    assert [problem.id for problem in some if not is_correct(problem, gold_reply(problem))] == []
    assert [problem.id for problem in some if is_correct(problem, wrong_reply(problem))] == []


def test_ifeval_can_be_followed_and_broken() -> None:
    problems = read("ifeval", "ifeval/input_data.jsonl").problems
    assert len(problems) == 541
    impossible = {f"ifeval/{key}" for key in CONTRADICTORY}
    some = [problem for problem in problems if problem.id not in impossible]
    assert len(some) == 536
    assert [problem.id for problem in some if not is_correct(problem, gold_reply(problem))] == []
    assert [problem.id for problem in problems if is_correct(problem, wrong_reply(problem))] == []


def test_csat_adds_up_to_100() -> None:
    problems = read("csat_2025_math", FILES["csat_2025_math"][0]).problems
    assert csat_score({problem.id: True for problem in problems}, problems)["mean_points"] == 100


@pytest.mark.usefixtures("sandbox")
def test_a_livecodebench_row_is_judged() -> None:
    from datetime import date

    file = DATA / "code" / "livecodebench_one_row.jsonl"
    if not file.exists():
        pytest.skip(f"{file}: not here; OPEN_EXAONE_DATA names the folder")
    august = livecodebench("livecodebench_august", date(2023, 8, 1), date(2023, 8, 31), ("test.jsonl",))
    (problem,) = load_benchmark(august, str(file)).problems
    right = "for _ in range(int(input())):\n    print('YES' if input() in 'abc acb bac cba'.split() else 'NO')"
    assert is_correct(problem, f"```python\n{right}\n```")
    assert not is_correct(problem, wrong_reply(problem))
