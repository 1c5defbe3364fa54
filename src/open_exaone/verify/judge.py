"""One verdict on one answer, by the kind of verifier that its problem names.

Every verifier is extract, normalise, compare; a new kind is a new row of `_JUDGES`. A reply that was cut, or whose
thought never closed, is no matter of this room: `rollout` decides on TRUNCATED before it asks.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
from threading import Lock
from typing import Any

from open_exaone.base.records import Problem, Reply, Verdict, VerdictStatus
from open_exaone.verify.choice import judge_choice
from open_exaone.verify.code.judge import judge_code
from open_exaone.verify.constraints.judge import judge_constraints
from open_exaone.verify.exact import same_answer
from open_exaone.verify.extract import last_boxed
from open_exaone.verify.language import judge_language
from open_exaone.verify.math.judge import judge_math
from open_exaone.verify.own import is_own, judge_own
from open_exaone.verify.rule_then_judge import judge_rule_then_model, rule_kind
from open_exaone.verify.settings import JudgeSettings
from open_exaone.verify.terms import judge_length

_GYM = Lock()  # nobody promises that those scorers may run side by side

Judge = Callable[[str, str, Mapping[str, object], JudgeSettings], Verdict]


def judge_answer(
    kind: str, answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings | None = None
) -> Verdict:
    """Judges the answer part of a reply; no text of a reply makes it raise.

    Args:
        kind: one of `KINDS`, or a function of the user's own, "FILE.py:function".
        answer: the reply without its thought.
        gold: the right answer.
        metadata: what the kind needs besides; each judge's docstring says.
        settings: what judging may cost.

    Raises:
        ValueError: there is no such kind, or the gold answer or the metadata is not what the kind needs.
    """
    return find_judge(kind)(answer, gold, metadata, settings or JudgeSettings())


def judged_with(problem: Problem, reply: Reply) -> dict[str, object]:
    """The metadata that a problem's verifier gets: its own, and what some kinds look at besides the answer."""
    return {"question": problem.question, "thought": reply.thought, **problem.metadata}


def find_judge(kind: str) -> Judge:
    """The verifier of that kind.

    Raises:
        ValueError: there is none.
    """
    if is_own(kind):
        return partial(judge_own, kind)
    if kind not in _JUDGES:
        known = ", ".join(KINDS)
        raise ValueError(f'verifier {kind!r}: unknown; the kinds are {known}, or a function of yours, "FILE.py:name"')
    return _JUDGES[kind]


def _judge_exact(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """The boxed answer, compared as a number or as normalised text: quick, and enough for the nano problems."""
    found = last_boxed(answer)
    if found is None:
        return _NO_BOX
    if same_answer(found, gold):
        return Verdict(VerdictStatus.CORRECT, found, f"{_short(found)} is the gold answer.")
    return Verdict(VerdictStatus.WRONG, found, f"{_short(found)} is not the gold answer {_short(gold)}.")


def _judge_reasoning_gym(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """Asks the data set's own scorer, "source_dataset", about its "entry"; part of a score is no success."""
    found = last_boxed(answer)
    if found is None:
        return _NO_BOX
    try:
        name = str(metadata["source_dataset"])
        with _GYM:
            score = float(_scorer(name)(found, metadata["entry"]))
    except Exception as error:  # other people's scorers raise whatever they like; the verdict records it
        why = f"The scorer raised {type(error).__name__}: {_short(str(error))}."
        return Verdict(VerdictStatus.ERROR, found, why)
    status = VerdictStatus.CORRECT if score == 1.0 else VerdictStatus.WRONG
    return Verdict(status, found, f"{name} scores {_short(found)} {score:g}.")


def _judge_rule_then_judge(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """The rules of metadata["rule"] first; a model behind `settings.endpoint` where they say wrong."""
    return judge_rule_then_model(answer, gold, metadata, settings, rule=_JUDGES[rule_kind(metadata)])


@cache
def _scorer(name: str) -> Callable[[str, object], Any]:
    from reasoning_gym import get_score_answer_fn  # a second's import, paid on first use

    scorer: Callable[[str, object], Any] = get_score_answer_fn(name)
    return scorer


def _short(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


_NO_BOX = Verdict(VerdictStatus.UNPARSED, None, r"There is no closed \boxed{...} in the answer.")

_JUDGES: Mapping[str, Judge] = {
    "exact": _judge_exact,
    "math": judge_math,
    "choice": judge_choice,
    "code": judge_code,
    "constraints": judge_constraints,
    "language": judge_language,
    "length": judge_length,
    "reasoning_gym": _judge_reasoning_gym,
    "rule_then_judge": _judge_rule_then_judge,
}
KINDS = tuple(_JUDGES)
