"""Asking reasoning-gym's scorers. This runs in a worker process: nothing here is imported where replies are judged."""

import importlib
import re
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

from open_exaone.base.records import JUNK
from open_exaone.verify.expression import RefusedError, evaluate

GAMES = ("countdown", "puzzle24")  # of arithmetic on given numbers: functions and constants would get round them
_ARITHMETIC = re.compile(r"[\d\s.()+*/^-]*", re.ASCII)


class JunkError(Exception):
    """A scorer takes anything for right."""


def preload() -> None:
    """Imports every scorer once for all workers, and takes `eval` and `exec` from them.

    Raises:
        RuntimeError: a scorer does not say what it should: better no verdict than a wrong one.
    """
    importlib.import_module("reasoning_gym")
    parser = importlib.import_module("sympy.parsing.sympy_parser")
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "reasoning_gym":
            vars(module).update(eval=evaluate, exec=_refuse)
    vars(parser).update(eval=evaluate)
    for game in GAMES:
        vars(sys.modules[f"reasoning_gym.games.{game}"]).update(parse_expr=_arithmetic(parser.parse_expr))
    if score("countdown", "1+2", {"answer": "", "metadata": {"numbers": [1, 2], "target": 3}}) != (1.0, ""):
        raise RuntimeError("reasoning-gym does not find that 1 + 2 is 3: part of it cannot be loaded")


def score(name: str, answer: str, entry: dict[str, Any]) -> tuple[float, str]:
    """What the scorer of a data set gives an answer.

    Args:
        entry: the item, as the data set made it.

    Returns:
        0 to 1; and what it raised, "" for nothing: it scores the item's own answer, so that answer is at fault: 0.

    Raises:
        JunkError: the scorer takes junk for right, too.
        Exception: whatever the scorer raises on the item's own answer.
    """
    scorer = _scorer(name)
    try:
        value = float(scorer(answer, entry))
    except Exception as error:
        float(scorer(entry["answer"], entry))
        return 0.0, type(error).__name__
    if value == 1.0 and answer != entry.get("answer"):
        _check(scorer, entry)
    return value, ""


def _check(scorer: Callable[[str, object], Any], entry: dict[str, Any]) -> None:
    for junk in JUNK:
        try:
            is_right = scorer(junk, entry) == 1.0
        except Exception:  # to raise is to refuse
            continue
        if is_right:
            raise JunkError(f"the scorer takes {junk!r} for right: its scores mean nothing")


def _arithmetic(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """A parser that takes numbers, operators and parentheses alone."""

    def parse_arithmetic(text: str) -> Any:
        if not _ARITHMETIC.fullmatch(text):
            raise RefusedError("more than arithmetic")
        return parse(text)

    return parse_arithmetic


@cache
def _scorer(name: str) -> Callable[[str, object], Any]:
    from reasoning_gym import get_score_answer_fn

    scorer: Callable[[str, object], Any] = get_score_answer_fn(name)
    return scorer


def _refuse(*_: object) -> NoReturn:
    raise RefusedError("code is not executed")
