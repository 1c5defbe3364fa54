"""Benchmarks of a few lines of TOML."""

import json
from pathlib import Path

import pytest

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.tasks.benchmarks.prompts import short_answer
from open_exaone.tasks.benchmarks.registry import BENCHMARKS, get_benchmark, load_benchmark, load_problems
from open_exaone.verify.judge import judge_answer
from tasks.benchmarks.replies import gold_reply, wrong_reply
from tasks.benchmarks.rows import write_rows

HEAD = 'name = "mine"\nwhat = "A set of my own."\nfile = "mine.jsonl"\n'
CHOICE = HEAD + 'judge = "choice"\n'


def write(folder: Path, toml: str, *rows: dict[str, object]) -> str:
    write_rows(folder / "mine.jsonl", list(rows))
    (folder / "mine.toml").write_text(toml, encoding="utf-8")
    return str(folder / "mine.toml")


def test_a_file_beside_the_description_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    (problem,) = load_problems(write(tmp_path, HEAD, {"question": "1+1?", "answer": 2}))
    assert (problem.id, problem.question, problem.answer) == ("mine/1", short_answer("1+1?"), "2")
    assert problem.verifier == "math" and problem.language == "en"


def test_the_example_of_the_documents_works(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    toml = text.partition("```toml\n")[2].partition("```")[0]
    rows = [json.loads(line) for line in text.partition("```json\n")[2].partition("```")[0].splitlines()]
    (tmp_path / "capitals.toml").write_text(toml, encoding="utf-8")
    write_rows(tmp_path / "capitals.jsonl", rows)
    loaded = load_benchmark(str(tmp_path / "capitals.toml"))
    assert len(loaded.problems) == len(rows) >= 2
    for problem in loaded.problems:
        assert judge_answer(problem.verifier, gold_reply(problem), problem.answer, problem.metadata).correct
        assert not judge_answer(problem.verifier, wrong_reply(problem), problem.answer, problem.metadata).correct


def test_the_answer_of_a_worked_solution_stands_behind_its_mark(tmp_path: Path) -> None:
    rows = [{"question": "?", "answer": answer} for answer in ("1,000 + 1\n#### 1,001", "1,001", "It is\n#### 7 ")]
    assert [problem.answer for problem in load_problems(write(tmp_path, HEAD, *rows))] == ["1001", "1,001", "7"]
    (exact,) = load_problems(write(tmp_path, HEAD + 'judge = "exact"\n', rows[0]))
    assert exact.answer == rows[0]["answer"]
    with pytest.raises(DataError, match=r"field 'answer': has nothing behind ####"):
        load_problems(write(tmp_path, HEAD, {"question": "?", "answer": "5 ####"}))


@pytest.mark.parametrize(
    ("answer_is", "answer"), [("letter", "C"), ("number from 0", 2), ("number from 1", "3"), ("text", "Seoul ")]
)
def test_an_answer_names_its_option_in_four_ways(answer_is: str, answer: object, tmp_path: Path) -> None:
    toml = CHOICE + f'answer_is = "{answer_is}"\n[fields]\noptions = "options"\n'
    options = ["Rome", "Paris", "Seoul"]
    (problem,) = load_problems(write(tmp_path, toml, {"question": "?", "options": options, "answer": answer}))
    assert problem.answer == "C" and problem.metadata["options"] == tuple(options)


def test_fields_of_other_names_and_a_prompt_of_one_s_own(tmp_path: Path) -> None:
    toml = (
        CHOICE + 'language = "ko"\nprompt = "{question}\\n{options}\\n({letters})"\n'
        '[fields]\nquestion = "q"\nanswer = "a"\noptions = ["x", "y"]\nid = "key"\nmetadata = ["topic"]\n'
    )
    row = {"q": "수도는?", "x": "서울", "y": "부산", "a": "A", "key": "k7", "topic": "geo"}
    (problem,) = load_problems(write(tmp_path, toml, row))
    assert problem.question == "수도는?\nA) 서울\nB) 부산\n(A or B)" and problem.id == "mine/k7"
    assert problem.language == "ko" and problem.metadata["topic"] == "geo"


@pytest.mark.usefixtures("sandbox")
def test_programs_with_tests_in_the_row(tmp_path: Path) -> None:
    row = {"question": "Echo.", "inputs": ["a\n"], "outputs": ["a\n"]}
    (problem,) = load_problems(write(tmp_path, HEAD + 'judge = "code"\n', row))
    assert problem.question == "Echo."
    assert judge_answer("code", "```python\nprint(input())\n```", "", problem.metadata).correct


def test_a_judge_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "judge.py").write_text("def same(row):\n    return row['answer'] == row['gold']\n")
    (problem,) = load_problems(
        write(tmp_path, HEAD + f'judge = "{tmp_path}/judge.py:same"\n', {"question": "?", "answer": "x"})
    )
    assert problem.question == "?" and judge_answer(problem.verifier, "x", problem.answer, {}).correct


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        ('what = "x"', "name: is missing"),
        (HEAD + 'colour = "red"', "colour: unknown key. Known keys: "),
        (HEAD + '[fields]\nanswr = "a"', "fields.answr: unknown key"),
        (HEAD + 'judge = "maths"', "judge = 'maths': must be one of math, exact, choice, code, or a function of yours"),
        (HEAD + 'judge = "constraints"', "judge = 'constraints': must be one of"),
        (HEAD + 'judge = "choice"', "fields.options go together"),
        (HEAD + '[fields]\noptions = "o"', "fields.options go together"),
        (HEAD + 'answer_is = "letter"', 'is for judge = "choice" alone'),
        (CHOICE + 'answer_is = "roman"\n[fields]\noptions = "o"', "answer_is = 'roman'"),
        (HEAD + 'prompt = "Solve!"', "prompt: must have {question} once"),
        (CHOICE + 'prompt = "{question}"\n[fields]\noptions = "o"', "prompt: must have {options} once"),
        (HEAD + 'hub = "owner/name"', "files: must name those of the hub"),
        (HEAD + 'hub = "owner"', "hub = 'owner'"),
        (HEAD + 'hub = "a/b"\nfiles = ["../x"]', "must be a pattern within the data set's folder"),
        (HEAD + 'name = "x"', "not valid TOML"),
        (HEAD.replace("mine", "My Set"), "name = 'My Set'"),
    ],
)
def test_a_wrong_description_is_named(toml: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"mine.toml: [\s\S]*{fault}"):
        get_benchmark(write(tmp_path, toml))


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"question": "?", "options": ["a", "b"], "answer": "c"}, "field 'answer': must be the text of just one"),
        ({"question": "?", "options": ["a", "a"], "answer": "a"}, "field 'answer': must be the text of just one"),
        ({"question": "?", "options": ["a"], "answer": "a"}, "field 'options': must hold 2 to 26 texts, not 1"),
        ({"question": "?", "answer": "a"}, "field 'options': must be a list of texts, not None"),
        ({"options": ["a", "b"], "answer": "a"}, "field 'question': is missing"),
    ],
)
def test_a_wrong_row_is_named(row: dict[str, object], fault: str, tmp_path: Path) -> None:
    source = write(tmp_path, CHOICE + 'answer_is = "text"\n[fields]\noptions = "options"\n', row)
    with pytest.raises(DataError, match=f"mine.jsonl: line 1: {fault}"):
        load_problems(source)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        get_benchmark(str(tmp_path / "absent.toml"))


def test_those_of_the_reports_are_there() -> None:
    assert {"kmmlu_pro", "kmmlu_redux", "ksm", "math_500_es", "mmmlu_es"} < BENCHMARKS.keys()
