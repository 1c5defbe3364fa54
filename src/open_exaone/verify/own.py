"""A user's own functions, named by file: run in a process of their own under the judge's limits.

`my_task.py:judge` is the function `judge` of the file `my_task.py`, found from the current folder.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.sandbox.workers import CallResult, call, warm
from open_exaone.verify.settings import JudgeSettings

_OWN = re.compile(r"(.+\.py):([^\W\d]\w*)")


def is_own(name: str) -> bool:
    """Whether a name is a function's in a file, such as "my_rewards.py:score"."""
    return _OWN.fullmatch(name) is not None


def file_of(name: str) -> str:
    """The file of a function, such as "my_rewards.py" of "my_rewards.py:score"."""
    return name.rpartition(":")[0]


def check_kind_of_row(kind: str, instead: str) -> None:
    """Makes sure that a row of data names no code: what a file holds may come from anywhere.

    Args:
        kind: the verifier that the row names.
        instead: where such a function may be named.

    Raises:
        DataError: it is a function in a file.
    """
    if is_own(kind):
        raise DataError(f"{kind!r} is a function in a file, which a row of data may not choose: name it {instead}")


def call_own(name: str, *arguments: Any, settings: JudgeSettings, time_limit_s: float | None = None) -> CallResult:
    """Calls a function of the user's own with JSON values.

    Raises:
        ConfigError: there is no such file.
    """
    _check_file(name)
    return call(
        name,
        *arguments,
        time_limit_s=time_limit_s or settings.time_limit_s,
        memory_bytes=settings.memory_bytes,
        confined=False,
    )


def check_own(name: str, settings: JudgeSettings) -> None:
    """Finds out whether a function of the user's own can be called at all.

    Raises:
        ConfigError: there is no such file or function, or the file fails to load.
    """
    _check_file(name)
    if why := warm(name, memory_bytes=settings.memory_bytes, confined=False):
        raise ConfigError(f"{name}: cannot be loaded: {why}")


def _check_file(name: str) -> None:
    match = _OWN.fullmatch(name)
    if match is None or not Path(match[1]).is_file():
        raise ConfigError(f'{name}: no such file: write it as "FILE.py:function", seen from the current folder')


def judge_own(name: str, answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """A verifier of the user's own: gets {"answer", "gold", "metadata"}; correct is True or 1.

    Where it runs out of time, nothing is known about the reply, as with a reward of the user's own.
    """
    result = call_own(name, {"answer": answer, "gold": gold, "metadata": dict(metadata)}, settings=settings)
    if result.status != "ok" or not is_number(result.value):
        why = result.why if result.status != "ok" else f"it returned {short_value(result.value)}, and no number"
        return Verdict(VerdictStatus.ERROR, None, f"{name} failed: {why}")
    if result.value == 1:
        return Verdict(VerdictStatus.CORRECT, None, f"The answer is correct: {name} returned {result.value}.")
    why = f"The answer is wrong: {name} returned {result.value}, and not True or 1."
    return Verdict(VerdictStatus.WRONG, None, why)


def is_number(value: object) -> bool:
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


def short_value(value: object) -> str:
    return repr(value)[:60]
