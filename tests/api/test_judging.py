"""The public way to a verdict: `ox.judge`, `ox.run_program`, and `exaone judge` over recorded replies."""

import asyncio
import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

import open_exaone as ox
from open_exaone.cli.main import main
from open_exaone.sandbox.isolation import isolation

pytestmark = pytest.mark.skipif(not isolation().is_enough, reason="programs can't be isolated here; see exaone doctor")
ADD = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"
ADD_TESTS = [{"input": "1 2\n", "output": "3\n"}, {"input": "5 -7\n", "output": "-2\n"}]
SUBTRACT = ADD.replace("+", "-")
CASES = [  # kind, reply, gold, further arguments, the status it must have
    ("exact", r"\boxed{46}", "46", {}, "correct"),
    ("math", r"So it is \boxed{\frac{2}{4}}.", "0.5", {}, "correct"),
    ("math", r"\boxed{x^2+2x+1}", "(x+1)^2", {}, "correct"),
    ("math", r"\boxed{x^2+2x+2}", "(x+1)^2", {}, "wrong"),
    ("math", "정답은 ③번이다.", "3", {"language": "ko"}, "correct"),
    ("math", "Let us see what the 3 means here, and then go on to the other", "4", {}, "unparsed"),
    ("math", r"<think>\boxed{3}", "3", {}, "truncated"),
    ("math", r"\boxed{3}", "3", {"thinking": True}, "truncated"),
    ("math", r"maybe \boxed{4}</think>\boxed{3}", "3", {"thinking": True}, "correct"),
    ("choice", r"\boxed{\text{B}}", "B", {"options": ["Rome", "Paris"]}, "correct"),
    ("choice", r"\boxed{Paris}", "B", {"options": ["Rome", "Paris"]}, "correct"),
    ("code", ADD, ADD_TESTS, {}, "correct"),
    ("code", SUBTRACT, json.dumps(ADD_TESTS), {}, "wrong"),
    ("constraints", "yes no", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}, {}, "correct"),
    ("constraints", "yes, no", {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}, {}, "wrong"),
    ("language", "이 문제의 답은 다섯이다.", "ko", {}, "correct"),
    ("language", "The answer to this problem is five.", None, {"language": "ko"}, "wrong"),
    ("length", "three short words", "", {"metadata": {"max_words": 3}}, "correct"),
]


def statuses(cases=CASES) -> list[str]:
    return [ox.judge(kind, reply, gold, **more).status.value for kind, reply, gold, more, _ in cases]


def expected(cases=CASES) -> list[str]:
    return [case[-1] for case in cases]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[-1]}")
def test_every_kind_is_reachable(case) -> None:
    assert statuses([case]) == expected([case])


@pytest.mark.parametrize("gold", [5, 5.0, Fraction(10, 2), np.int64(5)])
def test_a_number_of_any_type_is_a_gold_answer(gold: object) -> None:
    assert ox.judge("exact", r"\boxed{5}", gold).correct
    assert ox.judge("math", r"\boxed{5}", gold).correct


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"gold": None}, "gold: must be the right answer"),
        ({"gold": "1", "thinking": "no"}, "thinking: must be true or false"),
        ({"gold": "1", "options": "Rome"}, "options: must be a list"),
        ({"gold": "1", "metadata": [1]}, "metadata: must be an object"),
        ({"gold": "1", "settings": {"time_limit_s": 1}}, "settings: must be a JudgeSettings"),
    ],
)
def test_wrong_arguments_are_named(arguments, said) -> None:
    with pytest.raises(ValueError, match=said):
        ox.judge("math", r"\boxed{1}", **arguments)


def test_a_program_runs_alone() -> None:
    result = ox.run_program("print(input()[::-1])", "abc\n")
    assert (result.status.value, result.stdout, result.exit_code) == ("ok", "cba\n", 0)
    assert ox.run_program("while True: pass", time_limit_s=1).status.value == "timeout"


def test_verdicts_are_the_same_from_a_thread() -> None:
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: statuses(), range(4))) == [expected()] * 4


def test_verdicts_are_the_same_from_asyncio() -> None:
    async def both() -> list[list[str]]:
        return [statuses(), *await asyncio.gather(*(asyncio.to_thread(statuses) for _ in range(2)))]

    assert asyncio.run(both()) == [expected()] * 3


def _send_statuses(pipe) -> None:
    pipe.send(statuses())


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("daemon", [False, True])
def test_verdicts_are_the_same_from_another_process(method: str, daemon: bool) -> None:
    statuses()  # the parent's workers run already
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=_send_statuses, args=(theirs,), daemon=daemon)
    process.start()
    assert ours.poll(120), "no verdicts came"
    assert ours.recv() == expected()
    process.join(30)
    assert process.exitcode == 0
    assert statuses() == expected()  # and the parent's still do


def test_recorded_replies_are_judged_from_the_command_line(tmp_path, capsys) -> None:
    file = tmp_path / "replies.jsonl"
    rows = [{"kind": kind, "reply": reply, "gold": gold, **more} for kind, reply, gold, more, _ in CASES]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["judge", str(file)])
    assert not ended.value.code
    verdicts = [json.loads(line) for line in (tmp_path / "replies.verdicts.jsonl").read_text().splitlines()]
    assert [verdict["status"] for verdict in verdicts] == expected()
    assert "correct" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"gold": "1"}, "field 'reply' is missing"),
        ({"reply": "1"}, "field 'gold' is missing"),
        ({"reply": 1, "gold": "1"}, "reply: must be a text"),
        ({"reply": "1", "gold": "1", "kind": "maths"}, "verifier 'maths'"),
        ({"reply": "1", "gold": "1", "kind": "evil.py:f"}, "a row of data may not choose: name it with --kind"),
        ({"reply": "1", "gold": "1", "thnking": True}, "unknown field 'thnking'; known are gold, kind"),
        ([], "must be an object"),
    ],
)
def test_a_wrong_line_is_named_and_judges_nothing(row, said, tmp_path, capsys) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_text('\n{"reply": "1", "gold": "1"}\n\n' + json.dumps(row) + "\n", encoding="utf-8")  # blank lines count
    with pytest.raises(SystemExit) as ended:
        main(["judge", str(file)])
    error = capsys.readouterr().err
    assert ended.value.code == 1 and "replies.jsonl: line 4" in error and said in error
    assert os.listdir(tmp_path) == ["replies.jsonl"]


def test_verdicts_never_replace_what_was_judged(tmp_path, capsys) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_text('{"reply": "1", "gold": "1"}\n', encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["judge", str(file), "--out", str(tmp_path / "." / "replies.jsonl")])
    assert ended.value.code == 2 and "choose another" in capsys.readouterr().err
    assert file.read_text() == '{"reply": "1", "gold": "1"}\n'


def test_half_a_surrogate_pair_costs_nobody_a_verdict(tmp_path) -> None:
    file = tmp_path / "replies"
    file.write_text(r'{"reply": "\\boxed{\ud800}", "gold": "5", "kind": "exact"}', encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["judge", str(file)])
    assert json.loads((tmp_path / "replies.verdicts.jsonl").read_text())["status"] == "wrong"


def test_limits_come_from_a_table_of_a_recipe(tmp_path, capsys) -> None:
    file, table = tmp_path / "replies.jsonl", tmp_path / "limits.toml"
    rows = [{"kind": "code", "reply": "```python\nwhile True: pass\n```", "gold": ADD_TESTS}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    table.write_text("[judge]\nprogram_time_limit_s = 0.5\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["judge", str(file), "--settings", str(table)])
    assert "longer than 0.5 seconds" in (tmp_path / "replies.verdicts.jsonl").read_text()
    table.write_text("[judge]\nunsafe_code_execution = true\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["judge", str(file), "--settings", str(table)])
    assert ended.value.code == 2 and "--unsafe-code-execution" in capsys.readouterr().err
