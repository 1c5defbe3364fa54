"""The public way to a verdict: `ox.judge`, `ox.run_program`, and `exaone judge` over recorded replies."""

import asyncio
import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

import open_exaone as ox
from open_exaone.cli.main import main

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
        ({"reply": "1", "gold": "1", "thnking": True}, "thnking"),
        ([], "line 2"),
    ],
)
def test_a_wrong_line_is_named_and_judges_nothing(row, said, tmp_path, capsys) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_text('{"reply": "1", "gold": "1"}\n' + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["judge", str(file)])
    error = capsys.readouterr().err
    assert ended.value.code == 1 and "replies.jsonl: line 2" in error and said in error
    assert os.listdir(tmp_path) == ["replies.jsonl"]
