"""One verdict on one answer, by the kind of verifier that its problem names.

Every verifier is extract, normalise, compare; a new kind is a new row of `_JUDGES`. A reply that was cut, or whose
thought never closed, is no matter of this room: `rollout` decides on TRUNCATED before it asks.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.records import Problem, Reply, Verdict, VerdictStatus
from open_exaone.sandbox.workers import CallResult, call
from open_exaone.verify.called import status_of
from open_exaone.verify.choice import judge_choice
from open_exaone.verify.code.judge import judge_code
from open_exaone.verify.constraints.judge import judge_constraints
from open_exaone.verify.exact import same_answer
from open_exaone.verify.extract import last_boxed
from open_exaone.verify.language import judge_language
from open_exaone.verify.length import judge_length
from open_exaone.verify.math.judge import judge_math
from open_exaone.verify.own import is_own, judge_own
from open_exaone.verify.rule_then_judge import judge_rule_then_model, rule_kind
from open_exaone.verify.settings import JudgeSettings

Judge = Callable[[str, str, Mapping[str, object], JudgeSettings], Verdict]


def judge_answer(
    kind: str, answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings | None = None
) -> Verdict:
    """Judges the answer part of a reply. No text of a reply makes it raise: a verifier that does is an ERROR.

    Args:
        kind: one of `KINDS`, or a function of the user's own, "FILE.py:function".
        answer: the reply without its thought.
        gold: the right answer.
        metadata: what the kind needs besides; each judge's docstring says.
        settings: the limits of time and memory.

    Raises:
        DataError: there is no such kind, or the gold answer or the metadata is not what the kind needs.
        ConfigError: the settings cannot work.
    """
    judge = find_judge(kind)
    try:
        return judge(answer, gold, metadata, settings or JudgeSettings())
    except OpenExaoneError:
        raise
    except Exception as error:  # the border of all verifiers: a bug of theirs must not end a run
        why = f"The verifier failed with {type(error).__name__}: {_short(' '.join(str(error).split()), 200)}"
        return Verdict(VerdictStatus.ERROR, None, why)


def judged_with(problem: Problem, reply: Reply) -> dict[str, object]:
    """The metadata that a problem's verifier gets: its own, and what some kinds look at besides the answer."""
    return {"question": problem.question, "thought": reply.thought, **problem.metadata}


def find_judge(kind: str) -> Judge:
    """The verifier of that kind.

    Raises:
        DataError: there is none.
    """
    if is_own(kind):
        return partial(judge_own, kind)
    if kind not in _JUDGES:
        raise DataError(
            f"verifier {kind!r}: unknown{did_you_mean(kind, KINDS)} The kinds are {', '.join(KINDS)}; "
            'a function of yours is written as "FILE.py:name"'
        )
    return _JUDGES[kind]


def _judge_exact(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """The boxed answer, compared as a number or as normalised text: quick, and enough for the nano problems."""
    found = last_boxed(answer)
    if found is None:
        return _NO_BOX
    if same_answer(found, gold):
        return Verdict(VerdictStatus.CORRECT, found, f"The answer {_short(found)} is correct.")
    return Verdict(
        VerdictStatus.WRONG, found, f"The answer {_short(found)} is wrong: the gold answer is {_short(gold)}."
    )


def _judge_reasoning_gym(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """Asks the data set's own scorer, "source_dataset", about its "entry"; part of a score is no success."""
    found = last_boxed(answer)
    if found is None:
        return _NO_BOX
    name, entry = metadata.get("source_dataset"), metadata.get("entry")
    if not isinstance(name, str) or not isinstance(entry, Mapping):
        why = 'The metadata must hold "source_dataset", the name of a data set, and "entry", its item.'
        return Verdict(VerdictStatus.ERROR, found, why)
    item = json.dumps(entry, default=str)
    ask = _gym_score if len(found) + len(item) <= _MAX_CACHED_CHARS else _gym_score.__wrapped__
    try:
        score, raised = ask(name, found, item, settings.time_limit_s, settings.memory_bytes)
    except _NoScoreError as error:
        why = f"The answer {_short(found)} could not be scored by reasoning-gym's {name}: {error.result.why}"
        return Verdict(status_of(error.result), found, why)
    if score == 1.0:
        return Verdict(
            VerdictStatus.CORRECT, found, f"The answer {_short(found)} is correct for reasoning-gym's {name}."
        )
    did = f"raises {raised} on it" if raised else f"scores it {score:g} of 1"
    return Verdict(VerdictStatus.WRONG, found, f"The answer {_short(found)} is wrong: reasoning-gym's {name} {did}.")


def _judge_rule_then_judge(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """The rules of metadata["rule"] first; a model behind `settings.endpoint` where they say wrong."""
    return judge_rule_then_model(answer, gold, metadata, settings, rule=_JUDGES[rule_kind(metadata)])


_MAX_CACHED_CHARS = 10_000  # of an answer and its item


class _NoScoreError(Exception):
    """A scorer gave no number."""

    def __init__(self, result: CallResult) -> None:
        self.result = result


@lru_cache(maxsize=4096)
def _gym_score(name: str, found: str, entry: str, time_limit_s: float, memory_bytes: int) -> tuple[float, str]:
    """What a scorer gives an answer; the samples of one problem mostly share a few answers.

    Raises:
        _NoScoreError: it gives no number.
    """
    result = call(
        "open_exaone.verify.gym_score:score",
        name,
        found,
        json.loads(entry),
        time_limit_s=time_limit_s,
        memory_bytes=memory_bytes,
        unsafe=True,  # answers are evaluated as arithmetic alone: they may be scored where programs may not run
    )
    if result.status != "ok":
        raise _NoScoreError(result)
    score, raised = result.value
    return float(score), str(raised)


def _short(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


_NO_BOX = Verdict(VerdictStatus.UNPARSED, None, r"The answer has no \boxed{...} that is closed.")

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
