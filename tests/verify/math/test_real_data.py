"""Real golds, graders' own cases and real replies; they stand in a folder that is not part of the project."""

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from open_exaone.base.records import VerdictStatus
from open_exaone.verify.math.judge import judge_math
from open_exaone.verify.settings import JudgeSettings

DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[4] / "shared" / "data"))
SETTINGS = JudgeSettings()


def rows(name: str) -> Iterator[dict[str, Any]]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path}: not here; OPEN_EXAONE_DATA names the folder")
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def is_correct(answer: str, gold: str, **metadata: object) -> bool:
    return judge_math(answer, gold, metadata, SETTINGS).status is VerdictStatus.CORRECT


def test_graders_own_cases_come_out_as_expected() -> None:
    cases = list(rows("grader/grader_cases_half.jsonl"))
    misses = [
        case
        for case in cases
        if is_correct(case["pred"], case["gold"], **({"precision": case["precision"]} if case["precision"] else {}))
        != case["expected"]
    ]
    assert len(misses) <= 0.01 * len(cases), misses


@pytest.mark.parametrize(
    "name",
    ["math/math500.jsonl", "aime/aime24.jsonl", "aime/hmmt_feb_2025.jsonl", "csat/csat_math_2025_transcribed.jsonl"],
)
def test_every_gold_answer_is_itself(name: str) -> None:
    golds = [str(row["answer"]) for row in rows(name)]
    assert [gold for gold in golds if not is_correct(rf"\boxed{{{gold}}}", gold)] == []


def test_no_gold_answer_is_the_next_one() -> None:
    golds = [row["answer"] for row in rows("math/math500.jsonl")]
    pairs = [(found, gold) for found, gold in pairwise(golds) if found not in gold and gold not in found]
    assert [(found, gold) for found, gold in pairs if is_correct(rf"\boxed{{{found}}}", gold)] == []


def test_official_solutions_are_correct_and_their_beginnings_are_not() -> None:
    wrong, accidents = 0, 0
    for row in rows("math/math500.jsonl"):
        solution = row["solution"]
        wrong += not is_correct(solution, row["answer"])
        begun = solution[: solution.index(r"\boxed")]
        accidents += is_correct(begun, row["answer"])
    assert wrong <= 2  # several boxes, of which the gold answer is the last alone
    assert accidents == 0


def test_replies_that_were_cut_are_never_correct() -> None:
    for row in rows("outputs/skythought_aime24_sky-t1-correct-32B-ckpt70.jsonl"):
        for reply in row["code"]:
            if r"\boxed" not in reply:
                assert not is_correct(reply, row["answer"])


def test_verdicts_agree_with_the_graders_of_real_replies() -> None:
    replies = [
        (reply, row["answer"], bool(score))
        for row in rows("outputs/qwen_math_cot_100x8.jsonl")
        for reply, score in zip(row["code"], row["score"], strict=True)
    ]
    differences = [(reply[-200:], gold) for reply, gold, score in replies if is_correct(reply, gold) != score]
    assert len(differences) <= 1, differences  # their "10{,}000" is not our 10000
