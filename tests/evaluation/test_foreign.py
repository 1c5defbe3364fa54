"""Other harnesses' stored replies: formats, verdicts beside theirs, and real files where they are there."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from open_exaone.api.judging import judge_rows
from open_exaone.base.errors import DataError
from open_exaone.base.files import read_numbered_jsonl
from open_exaone.base.records import VerdictStatus
from open_exaone.evaluation.foreign import Foreign, agreement, difference_rows, read_outputs, score_foreign
from open_exaone.evaluation.report import Entry
from open_exaone.evaluation.rescore import rescore

QWEN = {
    "idx": 0,
    "question": "What is 2 + 3?",
    "gt": "5",
    "answer": "5",
    "code": [r"So \boxed{5}.", r"<think>hm</think>So \boxed{5.0}.", "It is 6 and so on", r"\boxed{6}"],
    "score": [True, False, True, False],
    "pred": ["5", "5.0", "6", "6"],
}
GSM8K = {
    "question": "How many?",
    "ground_truth": "3 + 4 = 7\nA: 7",
    "small": {"solution": "3 + 4 = 7\nA: 7", "is_correct": True},
    "large": {"solution": "A: 8", "is_correct": False},
}
PLAIN = {"reply": "The answer is B.", "gold": "B", "kind": "choice", "metadata": {"options": ["x", "y"]}}


def written(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def scored(path: Path) -> list[tuple[Foreign, Any, Entry]]:
    found = read_outputs(path)
    judged = rescore([foreign.task for foreign in found], [foreign.samples for foreign in found])
    return [(foreign, rows, score_foreign(foreign, rows)) for foreign, rows in zip(found, judged, strict=True)]


def test_qwens_format_gives_every_reply_with_its_verdict(tmp_path: Path) -> None:
    ((foreign, rows, entry),) = scored(written(tmp_path / "out.jsonl", QWEN))
    assert (foreign.task.name, foreign.task.sampling.num_samples) == ("out", 4)
    assert [sample.verdict.correct for sample in rows[0]] == [True, True, False, False]
    assert rows[0][1].generation.reply.thought == "hm"
    assert foreign.theirs == ((True, False, True, False),)
    assert entry.pass_at_1 == 0.5
    assert entry.grader is not None
    assert entry.grader.model_dump() == {"score": 0.5, "agreement": 0.5, "only_ours": 1, "only_theirs": 1}


def test_what_the_file_does_not_tell_is_null(tmp_path: Path) -> None:
    ((_, _, entry),) = scored(written(tmp_path / "out.jsonl", QWEN))
    unknown = (entry.seed, entry.temperature, entry.top_p, entry.presence_penalty, entry.max_new_tokens)
    assert unknown == (None,) * 5
    assert (entry.tokens, entry.cost, entry.stops, entry.mode) == (None, None, {}, "not stated")
    told = {**PLAIN, "thinking": True}
    ((_, _, entry),) = scored(written(tmp_path / "told.jsonl", told))
    assert (entry.mode, entry.rates.truncated.value) == ("reasoning", 1.0)  # a thought that was never closed


def test_differences_are_told_with_both_verdicts_and_why(tmp_path: Path) -> None:
    ((foreign, rows, _),) = scored(written(tmp_path / "out.jsonl", QWEN))
    ours, theirs = difference_rows(foreign.task, rows, foreign.theirs)
    assert (ours["index"], ours["ours"], ours["theirs"], ours["gold"]) == (1, "correct", "wrong", "5")
    assert (theirs["index"], theirs["ours"], theirs["theirs"]) == (2, "unparsed", "correct")
    assert theirs["end"] == "It is 6 and so on" and theirs["why"].endswith(".")


@pytest.mark.parametrize(
    ("answer", "gt", "gold"),
    [("10,\\!080", "10080", "10,\\!080"), ("It is\n#### 5", "5", "5"), ("", "5", "5"), ("5", "", "5"), (None, 5, "5")],
)
def test_the_gold_answer_is_the_rows_own_unless_that_is_a_solution(
    tmp_path: Path, answer: object, gt: object, gold: str
) -> None:
    (foreign,) = read_outputs(written(tmp_path / "out.jsonl", {**QWEN, "answer": answer, "gt": gt}))
    assert foreign.task.problems[0].answer == gold


def test_gsm8ks_format_gives_a_task_for_each_model(tmp_path: Path) -> None:
    found = scored(written(tmp_path / "gsm8k.jsonl", GSM8K, GSM8K))
    assert [(entry.name, entry.num_problems, entry.pass_at_1) for _, _, entry in found] == [
        ("gsm8k/small", 2, 1.0),
        ("gsm8k/large", 2, 0.0),
    ]
    assert all(entry.grader is not None and entry.grader.agreement == 1.0 for _, _, entry in found)


def test_the_plain_format_takes_any_kind_and_needs_no_verdicts(tmp_path: Path) -> None:
    korean = {"replies": [r"\boxed{3}", r"\boxed{4}"], "answer": 3, "question": "셋은 몇입니까? 숫자로 답하세요."}
    ((foreign, rows, entry),) = scored(written(tmp_path / "a.jsonl", {**korean, "verdicts": ["correct", None]}))
    assert foreign.task.problems[0].language == "ko"
    assert entry.grader is not None and (entry.grader.agreement, entry.grader.score) == (1.0, 1.0)
    ((foreign, rows, entry),) = scored(written(tmp_path / "b.jsonl", PLAIN))
    assert rows[0][0].verdict.status is VerdictStatus.CORRECT
    assert entry.grader is None and agreement(rows, foreign.theirs) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no replies; known formats"),
        ([{"prompt": "x"}], "line 1: fields prompt; known formats, one object a line:\n  Qwen2.5"),
        ([[1]], "line 1: no object; known formats"),
        ([{**PLAIN, "temperature": 1}], "unknown field 'temperature'; known formats"),
        ([{**PLAIN, "answer": "B"}], "known formats"),
        ([PLAIN, QWEN], "line 2: is of another format than the first line"),
        ([{**PLAIN, "kind": "poem"}], "line 1: verifier 'poem': unknown"),
        ([{**PLAIN, "gold": None}], "line 1: field 'gold': must be a text or a number"),
        ([{**PLAIN, "thinking": 1}], "line 1: field 'thinking'"),
        ([{**PLAIN, "metadata": []}], "line 1: field 'metadata'"),
        ([{**PLAIN, "verdict": "fine"}], "line 1: field 'verdicts': a verdict is true, false"),
        ([{**PLAIN, "verdict": [True]}], "line 1: field 'verdicts': a verdict is true, false"),
        ([{**PLAIN, "reply": 7}], "line 1: field 'reply': must be a reply"),
        ([PLAIN, {**PLAIN, "thinking": True}], "field 'thinking': must be the same"),
        ([{**PLAIN, "id": "a"}, {**PLAIN, "id": "a"}], "field 'id': two rows"),
        ([QWEN, {**QWEN, "code": ["5"], "score": [True]}], "between 1 and 4 replies"),
        ([{**QWEN, "score": [True]}], "line 1: field 'score': must hold a verdict for each of the 4 replies"),
        ([{**QWEN, "code": []}], "line 1: field 'code'"),
        ([{**GSM8K, "ground_truth": 7}], "line 1: field 'ground_truth'"),
    ],
)
def test_a_wrong_file_is_refused_by_line_and_field(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        read_outputs(written(tmp_path / "out.jsonl", *rows))


DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "outputs"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the real replies are not there: {DATA}")
@pytest.mark.parametrize(
    ("name", "ours", "theirs", "only_ours", "only_theirs"),
    [
        ("qwen_math_cot_100x8", [729 / 800], [728 / 800], 1, 0),
        ("skythought_math500_gemma-2-27b", [295 / 500], [286 / 500], 12, 3),
        ("skythought_aime24_sky-t1-correct-32B-ckpt70", [9 / 30], [9 / 30], 0, 0),
        ("gsm8k_example_model_solutions", [286 / 1319, 515 / 1319, 458 / 1319, 742 / 1319], None, 0, 0),
    ],
)
def test_real_replies_get_their_graders_scores_but_for_known_differences(
    name: str, ours: list[float], theirs: list[float] | None, only_ours: int, only_theirs: int
) -> None:
    entries = [entry for _, _, entry in scored(DATA / f"{name}.jsonl")]
    graders = [entry.grader for entry in entries if entry.grader is not None]
    assert [entry.pass_at_1 for entry in entries] == pytest.approx(ours)
    assert [grader.score for grader in graders] == pytest.approx(theirs or ours)
    assert sum(grader.only_ours for grader in graders) == only_ours
    assert sum(grader.only_theirs for grader in graders) == only_theirs


def test_a_null_is_a_missing_reply_and_a_byte_order_mark_is_none_of_the_data(tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    lines = [json.dumps({"reply": reply, "gold": "5"}) for reply in ("5", None, "6")]
    file.write_text("\n".join(lines), encoding="utf-8-sig")
    (foreign,) = read_outputs(file)
    entry = score_foreign(foreign, rescore([foreign.task], [foreign.samples])[0])
    assert (entry.pass_at_1, entry.missing) == (pytest.approx(1 / 3), ("replies/2 #0",))
    assert entry.notes == ("1 of 3 samples (replies/2 #0) have no reply and count as not correct",)
    assert [verdict.status.value for verdict in judge_rows(read_numbered_jsonl(file))] == ["correct", "error", "wrong"]
    file.write_text(lines[1])
    with pytest.raises(DataError, match="holds no reply"):
        read_outputs(file)
