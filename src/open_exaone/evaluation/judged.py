"""A stored sample's verdict, and what fixes it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem, Sample, StopReason
from open_exaone.base.version import judging_version
from open_exaone.evaluation.missing import NO_REPLY
from open_exaone.rollout.run import judge_reply
from open_exaone.verify.own import file_of, is_own
from open_exaone.verify.settings import JudgeSettings

_FAILED = frozenset({StopReason.ERROR, StopReason.CANCELLED})


def judged(problem: Problem, sample: Sample, settings: JudgeSettings, judged_by: str) -> Sample:
    """The sample with the verdict that it gets now.

    Raises:
        DataError: the problem itself is wrong.
    """
    generation = sample.generation
    if generation.stop in _FAILED:
        return replace(sample, verdict=NO_REPLY, judged_by=judged_by)
    try:
        verdict = judge_reply(problem, generation.reply, generation.stop, settings=settings)
    except DataError as error:
        raise DataError(f"task {sample.task!r}, problem {problem.id!r}: {error}") from error
    return replace(sample, verdict=verdict, judged_by=judged_by)


def judging_key(problem: Problem, settings: JudgeSettings) -> str:
    """A hash of all that fixes the verdict on a reply to this problem, the reply aside."""
    file = Path(file_of(problem.verifier))
    own = file.read_bytes() if is_own(problem.verifier) and file.is_file() else b""
    what = (problem.verifier, problem.answer, problem.language, problem.metadata, settings.model_dump(mode="json"))
    text = json.dumps([judging_version(), *what], sort_keys=True, default=str)
    return hashlib.sha256(text.encode() + own).hexdigest()[:16]
