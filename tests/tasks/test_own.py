"""A user's own problems: a file of them, or a function."""

import json
from pathlib import Path

import pytest

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.tasks.generated import GeneratedSource, draw_problems
from open_exaone.tasks.own import own_problems
from open_exaone.verify.judge import judge_answer

ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(20)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    return path


def test_a_line_needs_a_question_and_an_answer_and_gets_the_rest(file) -> None:
    first = own_problems(str(file))[0]
    assert (first.id, first.task, first.language, first.verifier) == ("mine/1", "mine", "en", "exact")


@pytest.mark.parametrize(("answer", "text"), [(5, "5"), (-0.5, "-0.5"), (10**400, "1" + "0" * 400)])
def test_a_number_is_its_text(tmp_path, answer, text) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"question": "2+3?", "answer": answer}), encoding="utf-8")
    assert own_problems(str(path))[0].answer == text


def test_a_run_s_own_file_of_problems_without_thoughts_is_one(tmp_path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({**ROWS[0], "thought": None, "reply": None}), encoding="utf-8")
    assert own_problems(str(path))[0].thought is None
    path.write_text(json.dumps({**ROWS[0], "thought": 3}), encoding="utf-8")
    with pytest.raises(DataError, match="line 1: field 'thought' must be a text"):
        own_problems(str(path))


def test_a_function_gives_the_same_problems_as_a_file(file, tmp_path) -> None:
    code = f"import json\ndef mine():\n    return [json.loads(line) for line in open({str(file)!r})]\n"
    (tmp_path / "task.py").write_text(code, encoding="utf-8")
    assert own_problems(f"{tmp_path / 'task.py'}:mine") == own_problems(str(file))


def test_one_file_can_be_cut_into_sets_that_share_no_question(file) -> None:
    def cut() -> list[list]:
        used: set[str] = set()
        sources = [GeneratedSource(problems=str(file), num_problems=number) for number in (8, 12)]
        return [draw_problems(source, index, used, "rl") for index, source in enumerate(sources)]

    questions = [{problem.question for problem in problems} for problems in cut()]
    assert [len(found) for found in questions] == [8, 12] and not questions[0] & questions[1]
    assert cut() == cut()


def test_too_few_questions_are_counted(file) -> None:
    with pytest.raises(
        DataError, match=r"data\.rl: of the 20 problems of .*mine.jsonl, 20 have a question .* num_problems = 21"
    ):
        draw_problems(GeneratedSource(problems=str(file), num_problems=21), 0, set(), "rl")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (["question"], "must be an object"),
        ({"question": "2+3?"}, "field 'answer'"),
        ({"question": " ", "answer": "5"}, "field 'question'"),
        ({"question": "2+3?", "answer": True}, "field 'answer' must be a text that is not empty, or a number"),
        ({"question": "2+3?", "answer": float("inf")}, "field 'answer'"),
        ({"question": "2+3?", "answer": None}, "field 'answer'"),
        ({"question": "2+3?", "answer": [5]}, "field 'answer'"),
        (
            {"question": "2+3?", "answer": "B", "choices": ["4", "5"]},
            "unknown field 'choices'.*in a .toml file .docs/b",
        ),
        ({"question": "2+3?", "answer": "5", "anwser": "5"}, "unknown field 'anwser'"),
        ({"question": "2+3?", "answer": "5", "verifier": "maths"}, "verifier 'maths'.*math"),
        (
            {"question": "2+3?", "answer": "5", "verifier": "mine.py:f"},
            "a row of data may not choose: name it as `judge`",
        ),
        ({"question": "2+3?", "answer": "K", "verifier": "choice", "metadata": {"options": ["4", "5"]}}, "K"),
        ({"question": "2+3?", "answer": "5", "verifier": "code"}, "tests"),
        ({"question": "2+3?", "answer": "5", "verifier": "rule_then_judge"}, "judge.endpoint"),
        ({"question": "2+3?", "answer": "5", "language": 7}, "field 'language'"),
        ({"question": "2+3?", "answer": "5", "metadata": []}, "field 'metadata'"),
        ({"question": "2+3?", "answer": "5", "id": "mine/1"}, "field 'id'.*another problem's"),
    ],
)
def test_a_wrong_line_is_named(file, row, said) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write("\n" + json.dumps(row))
    with pytest.raises(DataError, match=rf"mine\.jsonl: line 21: .*{said}"):
        own_problems(str(file))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 7", "must return a list"),
        ("raise OSError('gone')", "gone"),
        ("return [{}]", "problem 1: field 'question'"),
    ],
)
def test_a_wrong_function_is_named(tmp_path, body, said) -> None:
    (tmp_path / "task.py").write_text(f"def mine():\n    {body}\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"task\.py:mine.*{said}"):
        own_problems(f"{tmp_path / 'task.py'}:mine")


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be a .jsonl file"):
        own_problems("mine.csv")


def test_the_example_of_the_documents_works(tmp_path, monkeypatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    section = page.partition("## Problems of your own\n")[2].partition("\n## ")[0]
    for fence, name in (("json", "mine.jsonl"), ("python", "mine.py")):
        text = section.partition(f"```{fence}\n")[2].partition("```")[0]
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for source, number in (("mine.jsonl", 2), ("mine.py:doubles", 20)):
        problems = own_problems(source)
        assert len(problems) == number
        for problem in problems:
            assert ("boxed{}" in problem.question) == (problem.verifier != "mine.py:says")
            for answer, correct in ((problem.answer, True), ("London", False)):
                verdict = judge_answer(
                    problem.verifier, rf"It is \boxed{{{answer}}}.", problem.answer, problem.metadata
                )
                assert verdict.correct == correct, verdict
