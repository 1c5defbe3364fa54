"""One verdict on one answer, by the kind of verifier that its problem names.

Every verifier is extract, normalise, compare; a new kind is a new row of `_JUDGES`. An answer that the token limit
cut is no matter of this room: `rollout` decides on TRUNCATED before it asks.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.verify.exact import same_answer
from open_exaone.verify.extract import last_boxed


def judge_answer(kind: str, answer_text: str, gold: str, metadata: Mapping[str, object]) -> Verdict:
    """Judges the answer part of a reply; no text of a reply makes it raise.

    Args:
        kind: one of `KINDS`, as a `Problem.verifier` names it.
        answer_text: the reply without its thought.
        gold: the right answer.
        metadata: what the kind needs besides; "reasoning_gym" reads "source_dataset" and "entry".

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in _JUDGES:
        raise ValueError(f"verifier {kind!r}: unknown; the kinds are {', '.join(KINDS)}")
    found = last_boxed(answer_text)
    if found is None:
        return Verdict(VerdictStatus.UNPARSED, None, r"There is no closed \boxed{...} in the answer.")
    return _JUDGES[kind](found, gold, metadata)


def _judge_exact(found: str, gold: str, metadata: Mapping[str, object]) -> Verdict:
    if same_answer(found, gold):
        return Verdict(VerdictStatus.CORRECT, found, f"{_short(found)} is the gold answer.")
    return Verdict(VerdictStatus.WRONG, found, f"{_short(found)} is not the gold answer {_short(gold)}.")


def _judge_reasoning_gym(found: str, gold: str, metadata: Mapping[str, object]) -> Verdict:
    """Asks the data set's own scorer; part of a score is no success."""
    try:
        name = str(metadata["source_dataset"])
        score = float(_scorer(name)(found, metadata["entry"]))
    except Exception as error:  # other people's scorers raise whatever they like; the verdict records it
        why = f"The scorer raised {type(error).__name__}: {_short(str(error))}."
        return Verdict(VerdictStatus.ERROR, found, why)
    status = VerdictStatus.CORRECT if score == 1.0 else VerdictStatus.WRONG
    return Verdict(status, found, f"{name} scores {_short(found)} {score:g}.")


@cache
def _scorer(name: str) -> Callable[[str, object], Any]:
    from reasoning_gym import get_score_answer_fn  # a second's import, paid on first use

    scorer: Callable[[str, object], Any] = get_score_answer_fn(name)
    return scorer


def _short(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


_JUDGES: Mapping[str, Callable[[str, str, Mapping[str, object]], Verdict]] = {
    "exact": _judge_exact,
    "reasoning_gym": _judge_reasoning_gym,
}
KINDS = tuple(_JUDGES)
