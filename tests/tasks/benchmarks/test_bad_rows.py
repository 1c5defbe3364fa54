"""A wrong row is an error that names file, line and field, and says the mend."""

from typing import Any

import pytest

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.tasks.benchmarks.registry import load_problems
from tasks.benchmarks.rows import MADE_UP, unpinned, write_rows

ABSENT = object()


@pytest.mark.parametrize(
    ("name", "changes", "fault"),
    [
        ("math_500", {"answer": ABSENT}, "field 'answer': is missing; every row needs it"),
        ("math_500", {"answer": None}, "field 'answer': is missing"),
        ("math_500", {"answer": "  "}, "field 'answer': must be a text that is not empty"),
        ("math_500", {"answer": True}, "field 'answer': must be a text"),
        ("math_500", {"problem": ABSENT}, "field 'problem' or 'question': is missing"),
        ("aime_2024", {"answer": "x"}, "field 'answer': AIME's answers are whole numbers"),
        ("aime_2024", {"answer": "1000"}, "field 'answer': AIME's answers"),
        ("gsm8k", {"answer": "5"}, "field 'answer': must end in '#### '"),
        ("gsm8k", {"answer": "5 ####"}, "field 'answer': must end in '#### '"),
        ("csat_2025_math", {"answer": "6"}, "field 'answer': must be a whole number from 1 to 5, not '6'"),
        ("csat_2025_math", {"choices": list("abcd")}, "field 'choices': must hold 5 texts, not 4"),
        ("csat_2025_math", {"choices": None}, "field 'choices': must be a list of texts, not None"),
        ("csat_2025_math", {"section": "물리"}, "field 'section': must be one of"),
        ("csat_2025_math", {"points": 5}, "field 'points': must be a whole number from 2 to 4"),
        ("csat_2025_math", {"type": "essay"}, "field 'type': must be 'mcq' or 'short'"),
        ("gpqa_diamond", {"Incorrect Answer 2": ""}, "field 'Incorrect Answer 2': must be a text"),
        ("gpqa_diamond", {"Correct Answer": ABSENT}, "field 'Correct Answer': is missing"),
        ("mmlu", {"answer": 4}, "field 'answer': must be a whole number from 0 to 3, not '4'"),
        ("mmlu", {"answer": "B"}, "field 'answer': must be a whole number from 0 to 3, not 'B'"),
        ("mmlu", {"choices": "abcd"}, "field 'choices': must be a list of texts"),
        ("mmlu", {"choices": ["a", "b", "c", 4]}, "field 'choices': must hold texts only, not 4"),
        ("mmlu_redux", {"error_type": ABSENT}, "field 'error_type': is missing"),
        ("mmlu_pro", {"answer": "K"}, "field 'answer': must be one of A, B, .*, J, not 'K'"),
        ("mmlu_pro", {"options": ["a"]}, "field 'options': must hold 2 to 10 texts, not 1"),
        ("mmlu_pro", {"options": ABSENT}, "field 'options': must be a list of texts, not None"),
        ("livecodebench", {"contest_date": "May"}, "field 'contest_date': must be a date such as 2025-01-31"),
        ("humaneval", {"test": ABSENT}, "field 'test': is missing"),
        ("humaneval", {"test": "assert True"}, "tests.test: must define check"),
        ("mbpp", {"task_id": "x"}, "field 'task_id': must be a whole number"),
        ("ifeval", {"kwargs": []}, "kwargs: must be a list of 1 tables"),
        ("ifeval", {"instruction_id_list": ["punctuation:comma"]}, "'punctuation:comma' is unknown"),
        ("hle", {"answer_type": ABSENT}, "field 'answer_type': is missing"),
        ("kmmlu_pro", {"solution": 0}, "field 'solution': must be a whole number from 1 to 5, not '0'"),
        ("kmmlu_pro", {"solution": 6}, "field 'solution': must be a whole number from 1 to 5"),
        ("mmmlu_es", {"Answer": "E"}, "field 'Answer': must be one of A, B, C, D, not 'E'"),
        ("mmmlu_es", {"C": ABSENT}, "field 'C': is missing"),
    ],
)
def test_a_wrong_field_is_named(name: str, changes: dict[str, Any], fault: str, tmp_path) -> None:
    first, *rest = MADE_UP[name]
    wrong = {key: value for key, value in {**first, **changes}.items() if value is not ABSENT}
    source = write_rows(tmp_path / "rows.jsonl", [first, wrong, *rest])
    with pytest.raises(DataError, match=f"rows.jsonl: line 2: .*{fault}"):
        load_problems(unpinned(name), source)


def test_tests_that_are_missing_are_named(tmp_path) -> None:
    row = dict(MADE_UP["livecodebench"][2])
    del row["public_test_cases"], row["private_test_cases"]
    with pytest.raises(DataError, match="line 1: field 'public_test_cases' or 'private_test_cases': is missing"):
        load_problems(unpinned("livecodebench"), write_rows(tmp_path / "rows.jsonl", [row]))


@pytest.mark.parametrize("name", ["gpqa_diamond", "mmlu_pro", "mbpp", "humaneval", "ifeval", "csat_2025_math", "hle"])
def test_a_row_that_stands_twice_is_named(name: str, tmp_path) -> None:
    rows = MADE_UP[name]
    last = {"mbpp": 1}.get(name, 0)
    source = write_rows(tmp_path / "rows.jsonl", [*rows, rows[last]])
    with pytest.raises(DataError, match=rf"line {len(rows) + 1}: '{name}/.*' is an earlier row's"):
        load_problems(unpinned(name), source)


@pytest.mark.parametrize("name", MADE_UP)
def test_unknown_fields_are_fine(name: str, tmp_path) -> None:
    plain = load_problems(unpinned(name), write_rows(tmp_path / "a.jsonl", MADE_UP[name]))
    more = [{**row, "remark": "?"} for row in MADE_UP[name]]
    found = load_problems(unpinned(name), write_rows(tmp_path / "b.jsonl", more))
    assert [(p.id, p.question, p.answer) for p in found] == [(p.id, p.question, p.answer) for p in plain]


def test_an_unknown_benchmark_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"'maths': unknown; did you mean .math_500.*\? The benchmarks are .*or a .toml"
    ):
        load_problems("maths")
