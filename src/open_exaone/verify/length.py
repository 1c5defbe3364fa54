"""Kind "length": whether an answer keeps to limits of length."""

from collections.abc import Mapping

from open_exaone.base.errors import DataError
from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.base.text import count
from open_exaone.verify.settings import JudgeSettings

_UNITS = ("words", "characters")


def judge_length(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """Whether an answer keeps to limits of length.

    Args:
        answer: the reply without its thought; white space around it doesn't count.
        gold: plays no part.
        metadata: at least one of "min_words", "max_words", "min_characters", "max_characters", whole numbers. A word is
            what white space sets apart: in Korean an eojeol.
        settings: plays no part.

    Raises:
        ValueError: no limit is given, or one is no whole number or below 0.
    """
    limits = {f"{end}_{unit}": _limit(metadata, f"{end}_{unit}") for unit in _UNITS for end in ("min", "max")}
    if all(limit is None for limit in limits.values()):
        raise DataError(f"metadata: must hold at least one of {', '.join(limits)}")
    text = answer.strip()
    counts = {"words": len(text.split()), "characters": len(text)}
    for name, limit in limits.items():
        end, _, unit = name.partition("_")
        if limit is not None and (counts[unit] < limit if end == "min" else counts[unit] > limit):
            wanted = "at least" if end == "min" else "at most"
            why = f"The answer has {count(counts[unit], unit[:-1])} instead of {wanted} {limit}."
            return Verdict(VerdictStatus.WRONG, None, why)
    words, characters = count(counts["words"], "word"), count(counts["characters"], "character")
    why = f"The answer has {words} and {characters}: within the limits."
    return Verdict(VerdictStatus.CORRECT, None, why)


def _limit(metadata: Mapping[str, object], field: str) -> int | None:
    limit = metadata.get(field)
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise DataError(f"metadata {field!r}: must be a whole number of at least 0, not {limit!r:.80}")
    return limit
