"""Judging whether a reply follows the constraints that its prompt states, as IFEval does.

The types and their verdicts are those of google-research `instruction_following_eval` (Apache-2.0; arXiv 2311.07911),
written afresh; docs/judging-constraints.md lists what differs and why.
"""

import json
from collections.abc import Iterable, Mapping

from open_exaone.base.errors import DataError
from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.verify.constraints.korean import composed
from open_exaone.verify.constraints.row import Check, read_instruction, read_row
from open_exaone.verify.settings import JudgeSettings

MAX_CHARS = 500_000  # a longer reply follows nothing: no model's window holds it, and each check stays short
MODES = ("strict", "loose")
_NAMED = 2  # failed instructions that a verdict names


def judge_constraints(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """CORRECT if the answer follows every instruction, WRONG otherwise (EXAONE 4.0's reward: 1 or 0).

    Args:
        answer: the reply without its thought.
        gold: a row of IFEval as JSON, read only where `metadata` holds none.
        metadata: "instruction_id_list", "kwargs" (a table for each; absent arguments may be null) and, if wanted,
            "mode": "strict" (the default) or "loose".
        settings: not needed: every check is linear, and long answers are refused.

    Raises:
        ValueError: the row is broken; names the field.
    """
    mode = str(metadata.get("mode") or "strict")
    row = metadata if "instruction_id_list" in metadata else _row_of(gold)
    checks = read_row(row)
    held = _follow(answer, [check for _, check in checks], mode)
    failed = [name for (name, _), holds in zip(checks, held, strict=True) if not holds]
    if not failed:
        return Verdict(VerdictStatus.CORRECT, None, f"The answer follows {_all(len(checks))}.")
    return Verdict(VerdictStatus.WRONG, None, _why(answer, failed))


def follow(answer: str, row: Mapping[str, object], mode: str = "strict") -> tuple[bool, ...]:
    """Whether the answer follows each instruction of a row, in the row's order.

    A prompt-level score is the share of rows where all hold, an instruction-level score the share of instructions.

    Args:
        row: "instruction_id_list" and "kwargs".
        mode: "strict"; or "loose", where a constraint holds if it does so for the answer without its first line, its
            last, or both, and without asterisks.

    Raises:
        ValueError: the row is broken, or there is no such mode.
    """
    return _follow(answer, [check for _, check in read_row(row)], mode)


def check(answer: str, instruction_id: str, kwargs: Mapping[str, object]) -> bool:
    """Whether the answer follows one instruction, in the strict mode; an empty one follows none.

    Raises:
        ValueError: the instruction or its arguments are broken.
    """
    return _follow(answer, [read_instruction(instruction_id, kwargs)], "strict")[0]


def _follow(answer: str, checks: Iterable[Check], mode: str) -> tuple[bool, ...]:
    if mode not in MODES:
        raise DataError(f"mode: {mode!r} is unknown; it may be {' or '.join(MODES)}")
    answer = "" if len(answer) > MAX_CHARS else composed(answer)
    texts = [text for text in (_variants(answer) if mode == "loose" else [answer]) if text.strip()]
    return tuple(any(map(check, texts)) for check in checks)


def _variants(answer: str) -> list[str]:
    """The eight texts of the loose mode, without repetitions."""
    lines = answer.split("\n")
    cuts = [answer, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys(cuts + [cut.replace("*", "") for cut in cuts]))


def _all(number: int) -> str:
    return "its instruction" if number == 1 else f"all {number} instructions"


def _why(answer: str, failed: list[str]) -> str:
    if not answer.strip():
        return "The answer is empty."
    if len(answer) > MAX_CHARS:
        return f"The answer is longer than {MAX_CHARS:,} characters."
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    return f"The answer does not follow {', '.join(failed[:_NAMED])}{more}."


def _row_of(gold: str) -> Mapping[str, object]:
    try:
        row = json.loads(gold)
    except (ValueError, RecursionError) as error:
        raise DataError("gold: must be a row of IFEval as JSON, as metadata has no instruction_id_list") from error
    if not isinstance(row, dict):
        raise DataError("gold: must be a JSON object with instruction_id_list and kwargs")
    return row
