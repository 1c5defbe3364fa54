"""Which samples of an RL stage are on the page."""

import json
from pathlib import Path
from typing import Any

import pytest

from open_exaone.present.rollouts import MAX_CHARS, sample_rollouts


def row(problem: str, verdict: str | None, **changes: Any) -> dict[str, Any]:
    fields = {"problem": problem, "task": "sum", "language": "en", "question": "2 + 2?", "gold": "4", "why": "So."}
    fields |= {"thought": f"{problem} is {verdict}", "answer": "4", "verdict": verdict, "mode": "reasoning"}
    return {**fields, "reward": 1.0, "terms": {"correct": 1.0}, "ids": [1, 2], "logprobs": [-1.0, -2.0], **changes}


def write(folder: Path, rows_of_steps: dict[int, list[dict[str, Any]]]) -> Path:
    (folder / "rollouts").mkdir(parents=True)
    for step, rows in rows_of_steps.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "rollouts" / f"step-{step:06d}.jsonl").write_text(text, encoding="utf-8")
    return folder


def thoughts(folder: Path) -> list[tuple[int, list[str]]]:
    return [(group.step, [row["thought"] for row in group.rows]) for group in sample_rollouts(folder)]


MIXED = [row("a", "correct"), row("b", "wrong"), row("b", "correct"), row("b", "correct"), row("c", "correct")]
MIXED += [row("c", "truncated"), row("d", "correct"), row("d", "wrong")]


def test_the_first_groups_with_right_and_wrong_replies_of_the_first_middle_and_last_step(tmp_path: Path) -> None:
    steps = {step: MIXED if step == 1 else [row(str(step), "correct")] for step in (1, 2, 9, 10, 1_000_000)}
    assert thoughts(write(tmp_path, steps)) == [
        (1, ["b is correct", "b is wrong"]),
        (1, ["c is correct", "c is truncated"]),
        (9, ["9 is correct"]),
        (1_000_000, ["1000000 is correct"]),
    ]


def test_where_too_few_groups_differ_the_first_others_are_shown(tmp_path: Path) -> None:
    failed = [row("x", "error"), row("x", None), row("x", "correct")]  # nothing is known of the first two
    rows = [*failed, row("y", "wrong"), row("z", "wrong"), row("b", "wrong"), row("b", "correct")]
    assert thoughts(write(tmp_path / "1", {1: rows})) == [(1, ["b is correct", "b is wrong"]), (1, ["x is error"])]
    assert thoughts(write(tmp_path / "2", {1: rows[:5]})) == [(1, ["x is error"]), (1, ["y is wrong"])]


def test_a_stage_without_rollouts_shows_none(tmp_path: Path) -> None:
    assert sample_rollouts(tmp_path) == []


@pytest.mark.parametrize("line", ['{"problem": "p"}', "[]", '{"probl', json.dumps({**row("p", "wrong"), "terms": 3})])
def test_a_broken_file_is_left_out_and_named(line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, {1: [row("a", "correct")], 2: []})
    (tmp_path / "rollouts" / "step-000002.jsonl").write_text(line + "\n", encoding="utf-8")
    assert thoughts(tmp_path) == [(1, ["a is correct"])]
    assert "step-000002.jsonl: line 1" in caplog.text and "not on the page" in caplog.text


def test_long_texts_are_cut_and_a_reward_that_was_not_found_is_no_number(tmp_path: Path) -> None:
    terms = {"correct": 0.25, "format": {"missing": "It failed."}, "language": None, "concise": "text"}
    long = row("a", None, answer="x" * (MAX_CHARS + 5), reward=None, terms=terms)
    [group] = sample_rollouts(write(tmp_path, {1: [long]}))
    [shown] = group.rows
    assert shown["answer"] == "x" * MAX_CHARS + " … (5 characters more in rollouts/)"
    assert (shown["verdict"], "ids" in shown) == ("not judged", False)
    rewards = {"reward": "–", "correct": "0.25", "format": "missing: It failed.", "language": "–", "concise": "–"}
    assert shown["rewards"] == rewards
