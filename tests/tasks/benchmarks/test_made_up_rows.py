"""Every benchmark reads rows in its schema, and its problems go with their judges."""

from collections import Counter
from pathlib import Path

import pytest

from open_exaone.base.records import Problem, Verdict
from open_exaone.tasks.benchmarks.registry import BENCHMARKS, load_benchmark, load_problems
from open_exaone.verify.judge import judge_answer
from tasks.benchmarks.replies import gold_reply, wrong_reply
from tasks.benchmarks.rows import MADE_UP, gpqa_row, lcb_row, redux_row, unpinned, write_rows


def read(name: str, tmp_path: Path, rows: list[dict[str, object]] | None = None) -> list[Problem]:
    return load_problems(
        unpinned(name), write_rows(tmp_path / f"{name}.jsonl", MADE_UP[name] if rows is None else rows)
    )


def judged(problem: Problem, reply: str) -> Verdict:
    return judge_answer(problem.verifier, reply, problem.answer, problem.metadata)


def test_every_benchmark_has_made_up_rows() -> None:
    assert MADE_UP.keys() == {name for name, item in BENCHMARKS.items() if item.make is None}


@pytest.mark.parametrize("name", [name for name in MADE_UP if BENCHMARKS[name].verifiers[0] != "code"])
def test_gold_is_correct_and_another_answer_is_not(name: str, tmp_path: Path) -> None:
    problems = read(name, tmp_path)
    assert {problem.task for problem in problems} == {name}
    assert {problem.verifier for problem in problems} == set(BENCHMARKS[name].verifiers)
    assert {problem.language for problem in problems} == {BENCHMARKS[name].language}
    for problem in problems:
        assert judged(problem, gold_reply(problem)).correct, problem
        assert not judged(problem, wrong_reply(problem)).correct, problem


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_programs_run_against_the_tests_of_their_row(name: str, tmp_path: Path) -> None:
    (problem,) = read(name, tmp_path)
    assert judged(problem, gold_reply(problem)).correct
    assert judged(problem, wrong_reply(problem)).status == "wrong"


@pytest.mark.usefixtures("sandbox")
def test_livecodebench_runs_programs_and_methods(tmp_path: Path) -> None:
    stdin, method, *_ = read("livecodebench", tmp_path)
    assert judged(stdin, "```python\nprint(sum(map(int, input().split())))\n```").correct
    assert judged(stdin, "```python\nprint(3)\n```").status == "wrong"  # the private test fails
    assert judged(method, "```python\nclass Solution:\n    def double(self, n):\n        return 2 * n\n```").correct
    assert "stdin" in stdin.question and "class Solution:" in method.question and "stdin" not in method.question


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("livecodebench", ["2024-08-01", "2024-10-01", "2025-02-01"]),
        ("livecodebench_v5", ["2024-10-01", "2025-02-01"]),
        ("livecodebench_v6", ["2025-02-01", "2025-02-02"]),
    ],
)
def test_livecodebench_keeps_its_window(name: str, days: list[str], tmp_path: Path) -> None:
    assert [problem.id for problem in read(name, tmp_path)] == [f"{name}/{day}" for day in days]


def test_a_window_without_rows_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no row belongs to livecodebench_v6: .* from 2025-02-01 to 2025-05-31"):
        read("livecodebench_v6", tmp_path, [lcb_row("a", "2023-08-21")])


def test_an_unreadable_row_of_tests_is_an_error_of_its_own_verdict(tmp_path: Path) -> None:
    (problem,) = read("livecodebench", tmp_path, [lcb_row("a", "2024-09-01", private_test_cases="nonsense!")])
    with pytest.raises(ValueError, match=r"tests\.private_test_cases"):
        judged(problem, "```python\nprint(3)\n```")


def test_gpqa_is_shuffled_by_the_record_alone(tmp_path: Path) -> None:
    problems = read("gpqa_diamond", tmp_path)
    again = read("gpqa_diamond", tmp_path, [gpqa_row(number) for number in reversed(range(12))])
    assert {problem.id: problem for problem in again} == {problem.id: problem for problem in problems}
    assert len({problem.answer for problem in problems}) == 4
    for number, problem in enumerate(problems):
        options = problem.metadata["options"]
        assert options["ABCD".index(problem.answer)] == f"right {number}"  # type: ignore[index]
        assert sorted(options) == sorted([f"right {number}", *(f"wrong {number}.{i}" for i in (1, 2, 3))])  # type: ignore[call-overload]


def test_gpqa_s_order_of_today_is_that_of_every_run(tmp_path: Path) -> None:
    """Another order would be another benchmark: cached samples would be judged by the wrong letter."""
    assert "".join(problem.answer for problem in read("gpqa_diamond", tmp_path)) == "BAACBBDBDDCD"


def test_mmlu_redux_keeps_the_rows_without_an_error(tmp_path: Path) -> None:
    assert [problem.id for problem in read("mmlu_redux", tmp_path)] == ["mmlu_redux/1", "mmlu_redux/2"]


def test_the_corrected_redux_has_the_annotators_answers(tmp_path: Path) -> None:
    problems = read("mmlu_redux_corrected", tmp_path)
    assert [(problem.id[-1], problem.answer) for problem in problems] == [
        ("1", "A"),
        ("2", "A"),
        ("3", "A"),
        ("4", "A"),
    ]


def test_mmlu_pro_takes_the_letter_and_asks_with_its_own_letters(tmp_path: Path) -> None:
    ten, three = read("mmlu_pro", tmp_path)
    assert ten.answer == "J" and "(A, B, C, D, E, F, G, H, I or J)" in ten.question
    assert three.answer == "B" and "(A, B or C)" in three.question


def test_aime_forgets_leading_zeros(tmp_path: Path) -> None:
    assert [problem.answer for problem in read("aime_2024", tmp_path)] == ["25", "0"]


def test_gsm8k_takes_the_final_answer(tmp_path: Path) -> None:
    assert [problem.answer for problem in read("gsm8k", tmp_path)] == ["5", "1001"]


def test_hle_keeps_text_with_an_answer_to_compare(tmp_path: Path) -> None:
    assert [problem.id for problem in read("hle", tmp_path)] == ["hle/a"]


def test_mbpp_keeps_its_test_split_and_shows_the_tests(tmp_path: Path) -> None:
    (problem,) = read("mbpp", tmp_path)
    assert problem.id == "mbpp/11" and "assert half(3) == 1.5" in problem.question


def test_five_korean_options_have_five_letters(tmp_path: Path) -> None:
    five, four = read("kmmlu_pro", tmp_path)
    assert (five.answer, four.answer) == ("B", "D")
    assert "E) 인천\n" in five.question and "(A, B, C, D or E)" in five.question
    assert "(A, B, C or D)" in four.question


def test_options_in_columns(tmp_path: Path) -> None:
    (problem,) = read("mmmlu_es", tmp_path)
    assert problem.metadata["options"] == ("España", "Italia", "Perú", "Chile")
    assert problem.metadata["Subject"] == "geography"


def test_ids_are_unique_and_bear_the_name(tmp_path: Path) -> None:
    for name in MADE_UP:
        counts = Counter(problem.id for problem in read(name, tmp_path))
        assert set(counts.values()) == {1} and all(key.startswith(f"{name}/") for key in counts)


def test_limit_gives_the_first_ones(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", MADE_UP["mmlu_redux_corrected"])
    loaded = load_benchmark(unpinned("mmlu_redux_corrected"), source)
    some = load_benchmark(unpinned("mmlu_redux_corrected"), source, limit=2)
    assert some.problems == loaded.problems[:2] and some.sha256 != loaded.sha256
    with pytest.raises(ValueError, match="limit = 0"):
        load_benchmark(unpinned("mmlu_redux_corrected"), source, limit=0)


def test_a_correction_may_be_the_number_0(tmp_path: Path) -> None:
    """As a number it is false, and must not be taken for missing."""
    (problem,) = read("mmlu_redux_corrected", tmp_path, [redux_row("wrong_groundtruth", 3, 0)])
    assert problem.answer == "A"
