"""Rows that we made up, two or three for each benchmark, in the fields of the hub's copy."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_exaone.tasks.benchmarks.benchmark import Benchmark
from open_exaone.tasks.benchmarks.registry import get_benchmark

Rows = list[dict[str, Any]]

CSAT_SECTIONS = (
    ("common", range(1, 23)),
    ("확률과 통계", range(23, 31)),
    ("미적분", range(23, 31)),
    ("기하", range(23, 31)),
)
SHORT = {*range(16, 23), 29, 30}  # the numbers with a short answer
POINTS = {**dict.fromkeys((1, 2, 23), 2), **dict.fromkeys((*range(9, 16), 20, 21, 22, 28, 29, 30), 4)}


def csat_row(section: str, number: int) -> dict[str, Any]:
    row = {"section": section, "number": number, "points": POINTS.get(number, 3), "problem": f"{section} {number}번?"}
    if number in SHORT:
        return {**row, "type": "short", "choices": None, "answer": "12"}
    return {**row, "type": "mcq", "choices": ["8", "10", "12", "14", "16"], "answer": "3"}


def gpqa_row(number: int) -> dict[str, Any]:
    wrong = {f"Incorrect Answer {place}": f"wrong {number}.{place}" for place in (1, 2, 3)}
    return {
        "Record ID": f"rec{number}",
        "Question": f"Which is right in case {number}?\n",
        "Correct Answer": f"right {number}\n",
        **wrong,
        "High-level domain": "Physics",
        "Canary String": "made up",
    }


def redux_row(error_type: str, answer: Any, correct: Any = None) -> dict[str, Any]:
    return {
        "question": f"Which letter comes after a? ({error_type}, {answer})",
        "choices": ["b", "c", "d", "e"],
        "answer": answer,
        "error_type": error_type,
        "source": "",
        "correct_answer": correct,
        "potential_reason": None,
    }


def lcb_row(key: str, day: str, **more: Any) -> dict[str, Any]:
    tests = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]
    return {
        "question_title": "Sum",
        "question_content": "Print the sum of two numbers.",
        "platform": "atcoder",
        "question_id": key,
        "contest_date": f"{day}T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(tests),
        "private_test_cases": json.dumps([{"input": "4 -4\n", "output": "0\n", "testtype": "stdin"}]),
        "metadata": "{}",
        **more,
    }


LCB_METHOD = {
    "starter_code": "class Solution:\n    def double(self, n: int) -> int:\n        ",
    "public_test_cases": json.dumps([{"input": "4", "output": "8", "testtype": "functional"}]),
    "private_test_cases": json.dumps([{"input": "-3", "output": "-6", "testtype": "functional"}]),
    "metadata": '{"func_name": "double"}',
}


def lcb_rows() -> Rows:
    days = ("2023-08-21", "2024-07-31", "2024-08-01", "2024-10-01", "2025-02-01", "2025-02-02", "2025-06-01")
    return [lcb_row(day, day, **(LCB_METHOD if day == "2024-10-01" else {})) for day in days]


MADE_UP: dict[str, Rows] = {
    "math_500": [
        {"problem": "What is $1+1$?", "solution": "\\boxed{2}", "answer": "2", "subject": "Algebra", "level": 1,
         "unique_id": "test/a/1.json"},
        {"problem": "Half of one?", "solution": "", "answer": "\\frac{1}{2}", "subject": "Algebra", "level": 2,
         "unique_id": "test/a/2.json"},
    ],
    "aime_2024": [
        {"id": 60, "problem": "Five squared?", "solution": "", "answer": "025", "url": "u", "year": "2024"},
        {"id": 61, "problem": "None?", "solution": "", "answer": 0, "url": "u", "year": "2024"},
    ],
    "aime_2025": [{"question": "Ten plus sixty?", "answer": "70"}, {"question": "Two?", "answer": "2"}],
    "hmmt_feb_2025": [
        {"problem_idx": 1, "problem": "A root of 2?", "answer": "\\sqrt{2}", "problem_type": ["Algebra"]},
        {"problem_idx": 2, "problem": "A pair?", "answer": "(1, 2)", "problem_type": ["Algebra"]},
    ],
    "csat_2025_math": [csat_row(section, number) for section, numbers in CSAT_SECTIONS for number in numbers],
    "gpqa_diamond": [gpqa_row(number) for number in range(12)],
    "mmlu": [
        {"question": "Where is Rome?", "subject": "geography", "choices": ["Spain", "Italy", "Peru", ""], "answer": 1},
        {"question": "Twice 2?", "subject": "algebra", "choices": ["4", "5", "6", "7"], "answer": 0},
    ],
    "mmlu_redux": [
        redux_row("ok", 0),
        redux_row("OK ", "0"),
        redux_row("Wrong Groundtruth", 1, "0"),
        redux_row("no_correct_answer", 1, "f"),
    ],
    "mmlu_redux_corrected": [
        redux_row("ok", 0),
        redux_row("wrong_groundtruth", 1, 0),
        redux_row("wrong groundtruth", 2, "A"),
        redux_row("Wrong Groundtruth", 3, " b "),
        redux_row("wrong_groundtruth", 3, "A or B"),
        redux_row("wrong_groundtruth", 3),
        redux_row("multiple_correct_answers", 1, "0"),
    ],
    "mmlu_pro": [
        {"question_id": 7, "question": "The tenth?", "options": list("abcdefghij"), "answer": "J", "answer_index": 9,
         "category": "math", "src": "made up", "cot_content": ""},
        {"question_id": 9, "question": "The second?", "options": ["x", "y", "z"], "answer": "B", "answer_index": 1,
         "category": "math", "src": "made up", "cot_content": ""},
    ],
    "livecodebench": lcb_rows(),
    "livecodebench_v5": lcb_rows(),
    "livecodebench_v6": lcb_rows(),
    "humaneval": [
        {"task_id": "HumanEval/900", "prompt": 'def twice(n: int) -> int:\n    """Twice n."""\n',
         "canonical_solution": "    return 2 * n\n", "entry_point": "twice",
         "test": "def check(candidate):\n    assert candidate(4) == 8\n"},
    ],
    "mbpp": [
        {"task_id": 10, "text": "Not of the test split.", "code": "x = 1", "test_list": ["assert x == 1"],
         "test_setup_code": "", "challenge_test_list": []},
        {"task_id": 11, "text": "Write a function to halve a number.", "code": "def half(n):\n    return n / 2",
         "test_list": ["assert half(4) == 2", "assert half(3) == 1.5"], "test_setup_code": "",
         "challenge_test_list": []},
    ],
    "gsm8k": [
        {"question": "Two apples and three?", "answer": "2+3=<<2+3=5>>5\n#### 5"},
        {"question": "A thousand and one?", "answer": "It is\n#### 1,001"},
    ],
    "ifeval": [
        {"key": 1, "prompt": "Say hello without a comma.", "instruction_id_list": ["punctuation:no_comma"],
         "kwargs": [{"num_words": None}]},
        {"key": 2, "prompt": "Say hello.", "instruction_id_list": ["keywords:existence"],
         "kwargs": [{"keywords": ["hello"]}]},
    ],
    "hle": [
        {"id": "a", "question": "How many?", "image": "", "answer": "12", "answer_type": "exactMatch"},
        {"id": "b", "question": "Which?", "image": "", "answer": "C", "answer_type": "multipleChoice"},
        {"id": "c", "question": "See the picture.", "image": "data:image/png;", "answer": "1",
         "answer_type": "exactMatch"},
    ],
    "kmmlu_pro": [
        {"question": "다음 중 수도는?", "options": ["부산", "서울", "대구", "광주", "인천"], "solution": 2},
        {"question": "1+1은?", "options": ["1", "3", "4", "2"], "solution": "4"},
    ],
    "kmmlu_redux": [{"question": "다음 중 수도는?", "options": ["부산", "서울", "대구", "광주"], "solution": 2}],
    "ksm": [{"question": "1부터 3까지의 합은?", "answer": "6", "category": "KMO"}],
    "math_500_es": [{"problem": "¿Cuánto es $1+1$?", "answer": "2", "level": 1}],
    "mmmlu_es": [
        {"Question": "¿Dónde está Roma?", "A": "España", "B": "Italia", "C": "Perú", "D": "Chile", "Answer": "B",
         "Subject": "geography"},
    ],
}  # fmt: skip


def write_rows(path: Path, rows: Rows) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def unpinned(name: str) -> Benchmark:
    """The benchmark as it is where nobody knows its content: made-up rows are never the real ones."""
    return replace(get_benchmark(name), pins=())
