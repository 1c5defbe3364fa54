"""Where a problem's row hides its answer: behind GSM8K's `####`, in a solution's last box, as an option's index."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from open_exaone.base.config import short
from open_exaone.data.rows import BadRow
from open_exaone.verify.extract import last_boxed

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_GSM8K = "####"
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")  # GSM8K's <<48/2=24>>, behind which the result stands again


class Options(NamedTuple):
    """What a multiple-choice question offers."""

    texts: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(_LETTERS[: len(self.texts)])

    def ask(self, question: str) -> str:
        """The question with its options behind it, a line each."""
        lines = (f"{label}. {text}" for label, text in zip(self.labels, self.texts, strict=True))
        return question + "\n\n" + "\n".join(lines)


class Answer(NamedTuple):
    """A problem's gold answer, and the worked reply if it has one."""

    answer: str
    worked: str | None


def find_options(value: Any, name: str) -> Options | None:
    """The options of a multiple-choice question; None where the row has none.

    Raises:
        BadRow: they are no list of 2 to 26 texts.
    """
    if value is None or (isinstance(value, Sequence) and not value):
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise BadRow(name, "wrong type", f"must be a list of texts, not {short(value)}")
    if not 2 <= len(value) <= len(_LETTERS):
        raise BadRow(name, "wrong type", f"must hold 2 to {len(_LETTERS)} options, not {len(value)}")
    return Options(tuple(value))


def find_answer(
    value: Any, solution: Any, options: Options | None, name: str, first_option: int | None = None
) -> Answer:
    """The gold answer of a row; a worked solution that ends in `#### 5` or in a box gives it too.

    Raises:
        BadRow: there is none, or which option is meant cannot be known.
    """
    if solution is not None and not isinstance(solution, str):
        raise BadRow("solution", "wrong type", f"must be a text, not {short(solution)}")
    worked = solution or None
    if options is not None and value is not None:
        return Answer(_option(value, options, name, first_option), worked)
    if isinstance(value, bool) or (value is not None and not isinstance(value, str | int | float | Decimal)):
        raise BadRow(name, "wrong type", f"must be a text or a number, not {short(value)}")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise BadRow(name, "not finite", f"is {value}, which is no number", "write the answer, or leave the row out")
    text = "" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)
    before, mark, final = text.rpartition(_GSM8K)
    if mark:
        if not final.strip():
            raise BadRow(name, "empty", f"has nothing behind {_GSM8K}")
        return Answer(final.strip().replace(",", ""), worked or (text if before.strip() else None))
    if text.strip():
        return Answer(text.strip(), worked)
    if value is not None:
        raise BadRow(name, "empty", "is empty")
    return _of_solution(worked or "")


def thought_of(found: Answer, name: str) -> str:
    """What a worked solution says without GSM8K's calculator marks and without its last line, the answer behind `####`.

    Raises:
        BadRow: there is no worked solution, or nothing but the answer.
    """
    fix = 'take the row out, or leave solution_as = "thought" out'
    if found.worked is None:
        raise BadRow(name, "no solution", "has no worked solution, which its source learns as the thought", fix)
    before, mark, _ = found.worked.rpartition(_GSM8K)
    thought = _CALCULATOR.sub("", before if mark else found.worked).strip()
    if not thought:
        raise BadRow(name, "no solution", "holds an answer and no worked solution before it", fix)
    return thought


def _of_solution(solution: str) -> Answer:
    _, mark, final = solution.rpartition(_GSM8K)
    answer = final.strip().replace(",", "") if mark else last_boxed(solution)
    if not answer:
        why = f"is missing, and solution ends neither in {_GSM8K} nor in a box"
        raise BadRow("answer", "missing field", why, 'name its column in fields: {answer = …}, such as "solution"')
    return Answer(answer, solution)


def _option(value: Any, options: Options, name: str, first: int | None) -> str:
    """The right option's label: a number counts from `first`; a text is a label, or one option's own text.

    Without `first`, a number written as a text is refused: some data sets count from 0, some from 1, and some mean the
    option's text.
    """
    num_options = len(options.texts)
    text = value.strip() if isinstance(value, str) else ""
    is_digits = text.isascii() and text.isdecimal() and len(text) < 3
    if first is None and is_digits and int(text) <= num_options:
        why = f"is the text {value!r}, which may count from 0 or from 1, or be an option's text"
        raise BadRow(name, "ambiguous answer", why, "set the source's first_option, or write a letter")
    if isinstance(value, int) and not isinstance(value, bool):
        number: int | None = value - (first or 0)
    else:
        number = int(text) - first if first is not None and is_digits else None
    if number is not None:
        if 0 <= number < num_options:
            return options.labels[number]
        fix = f"the first is {first or 0}, the last {num_options - 1 + (first or 0)}"
        raise BadRow(name, "wrong answer", f"is {value}, which counts to none of the {num_options} options", fix)
    if text in options.labels:
        return text
    if isinstance(value, str) and options.texts.count(value) == 1:
        return options.labels[options.texts.index(value)]
    hint = "write a whole number (from 0), a letter, or the option's text"
    raise BadRow(name, "wrong answer", f"is {short(value)}, which names none of the {num_options} options", hint)
