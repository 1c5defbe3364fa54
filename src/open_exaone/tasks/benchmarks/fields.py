"""Reading the fields of a row. Every error is a ValueError that names the field and says what is wanted."""

from collections.abc import Sequence

from open_exaone.base.config import short
from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.benchmark import Row
from open_exaone.tasks.benchmarks.prompts import LETTERS, choice


def text(row: Row, *names: str) -> str:
    """A text that is not empty, from the first of the fields that the row has; a whole number is its digits.

    Raises:
        ValueError: the row has none of them, or it is no such text.
    """
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        raise ValueError(f"field {' or '.join(map(repr, names))}: is missing; every row needs it")
    value = row[name]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"field {name!r}: must be a text that is not empty, not {short(value)}")
    return value


def final_answer(answer: str) -> str:
    """What stands behind GSM8K's `####`, without the commas of thousands; an answer without the mark as it is.

    Raises:
        ValueError: nothing stands behind the mark.
    """
    _, mark, final = answer.rpartition("####")
    if mark and not final.strip():
        raise ValueError("has nothing behind ####; write the answer there")
    return final.strip().replace(",", "") if mark else answer


def whole(row: Row, name: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`, or a text of its digits.

    Raises:
        ValueError: it is none.
    """
    value = text(row, name).strip()
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and low <= int(value) <= high):
        raise ValueError(f"field {name!r}: must be a whole number from {low} to {high}, not {short(value)}")
    return int(value)


def share(row: Row, name: str) -> float:
    """A number from 0 to 1.

    Raises:
        ValueError: it is none.
    """
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:  # not a number fails too
        raise ValueError(f"field {name!r}: must be a number from 0 to 1, not {short(value)}")
    return value


def texts(row: Row, name: str, low: int, high: int) -> tuple[str, ...]:
    """A list of `low` to `high` texts, some of which may be empty.

    Raises:
        ValueError: it is none, or too few or too many.
    """
    value = row.get(name)
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"field {name!r}: must be a list of texts, not {short(value)}")
    if not all(isinstance(item, str) for item in value):
        wrong = next(item for item in value if not isinstance(item, str))
        raise ValueError(f"field {name!r}: must hold texts only, not {short(wrong)}")
    if not low <= len(value) <= high:
        wanted = f"{low}" if low == high else f"{low} to {high}"
        raise ValueError(f"field {name!r}: must hold {wanted} texts, not {len(value)}")
    return tuple(value)


def letter(row: Row, name: str, num_options: int) -> int:
    """Which option a letter names, from 0.

    Raises:
        ValueError: it is none of the options' letters.
    """
    value = text(row, name).strip()
    known = LETTERS[:num_options]
    if len(value) != 1 or value not in known:
        raise ValueError(f"field {name!r}: must be one of {', '.join(known)}, not {short(value)}")
    return known.index(value)


def make_choice(
    task: str, key: object, question: str, options: Sequence[str], right: int, known: Row, language: str = "en"
) -> Problem:
    """A problem of multiple choice, asked in LG's words.

    Args:
        key: its identifier within its task.
        right: which option is right, from 0.
        known: what the metadata holds besides the options.
    """
    return Problem(
        id=f"{task}/{key}",
        task=task,
        language=language,
        question=choice(question, options),
        answer=LETTERS[right],
        verifier="choice",
        metadata={"options": tuple(options), **known},
    )


def about(row: Row, *names: str) -> dict[str, object]:
    """Those of the fields that the row has, for a problem's metadata."""
    return {name: row[name] for name in names if row.get(name) is not None}
