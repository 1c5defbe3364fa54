"""The parts of a reward as pure functions: format, language, brevity; and "length" as a kind of verifier.

Each function takes what is known of one reply (or one group) and returns a number; the rubric weighs and sums them.
"""

import re
from collections.abc import Mapping, Sequence

from open_exaone.base.errors import DataError
from open_exaone.base.records import Reply, Verdict, VerdictStatus
from open_exaone.verify.extract import boxes
from open_exaone.verify.language import consistency
from open_exaone.verify.settings import JudgeSettings

# Tags of EXAONE's chat formats: none is left in a reply that was split, unless it stood where it doesn't belong.
_MARKERS = re.compile(r"</?(?:think|thought|tool_call|tool_result)>|\[\|(?:system|user|assistant|tool|endofturn)\|\]")


def format_term(reply: Reply, thinking: bool) -> float:
    """1.0 for a well-formed reply with a visible final answer, else 0.0.

    The reply format of EXAONE Deep (arXiv 2503.12524, 2.2: a thought in its tags, then a self-contained answer), as the
    rule-based format reward of DeepSeek-R1 (arXiv 2501.12948, 2.2.2) checks it: one closed thought that says something,
    and none where none was asked for; an answer with exactly one `\\boxed{...}` that is not empty; no tag of the chat
    format in either; no tool call, since a reply that calls a tool is not final.

    Args:
        thinking: the prompt asked for a thought.
    """
    has_thought = bool(reply.thought.strip())
    found = boxes(reply.answer)
    is_whole = reply.finished and not reply.tool_calls and has_thought == thinking
    is_clean = not any(_MARKERS.search(text) for text in (reply.thought, reply.answer))
    return float(is_whole and is_clean and len(found) == 1 and bool(found[0]))


def language_term(reply: Reply, language: str) -> float:
    """1.0 where thought and answer are in the problem's language, else 0.0 (EXAONE 4.0, arXiv 2507.11407, 2.4.3).

    Raises:
        ValueError: the language is none of `language.LANGUAGES`.
    """
    return consistency(reply.thought, reply.answer, language)


def concise_term(num_tokens: int, max_tokens: int, is_correct: bool) -> float:
    """1 - num_tokens / max_tokens for a correct reply, in [0, 1]; 0 for any other.

    EXAONE 4.0 (arXiv 2507.11407, 2.4.3) prefers the shortest correct of several replies and publishes no formula. This
    one ranks correct replies the same way and needs no other reply; a wrong one earns nothing by being short.

    Args:
        num_tokens: of the whole reply, its thought included.
        max_tokens: that it may have.

    Raises:
        ValueError: a number is out of range.
    """
    _check_tokens(num_tokens, max_tokens)
    return max(0.0, 1.0 - num_tokens / max_tokens) if is_correct else 0.0


def group_concise(lengths: Sequence[int], correct: Sequence[bool]) -> list[float]:
    """The length reward of Kimi k1.5 (arXiv 2501.12599, 2.3.3) for one group, in [-0.5, 0.5].

    λ = 0.5 - (length - shortest) / (longest - shortest); a correct reply earns λ, a wrong one min(0, λ). All earn 0
    where all are equally long.

    Args:
        lengths: tokens of each reply, [G].
        correct: whether each is, [G].

    Raises:
        ValueError: there is not one `correct` for each length.
    """
    if len(lengths) != len(correct):
        raise ValueError(f"correct: must say of each of {len(lengths)} replies whether it is, not of {len(correct)}")
    shortest, longest = min(lengths, default=0), max(lengths, default=0)
    if shortest == longest:
        return [0.0] * len(lengths)
    lambdas = [0.5 - (length - shortest) / (longest - shortest) for length in lengths]
    return [value if right else min(0.0, value) for value, right in zip(lambdas, correct, strict=True)]


def overlong_term(num_tokens: int, max_tokens: int, buffer_tokens: int) -> float:
    """DAPO's soft overlong punishment (arXiv 2503.14476, eq. 13), in [-1, 0].

    0 up to max_tokens - buffer_tokens; from there it falls linearly, to -1 at max_tokens and beyond.

    Args:
        num_tokens: of the whole reply.
        max_tokens: L_max: from here on the punishment is whole.
        buffer_tokens: L_cache: how long before that it begins.

    Raises:
        ValueError: a number is out of range.
    """
    _check_tokens(num_tokens, max_tokens)
    if not 1 <= buffer_tokens <= max_tokens:
        raise ValueError(f"buffer_tokens = {buffer_tokens}: must lie in 1 to max_tokens = {max_tokens}")
    return -min(1.0, max(0, num_tokens - (max_tokens - buffer_tokens)) / buffer_tokens)


def _check_tokens(num_tokens: int, max_tokens: int) -> None:
    if max_tokens < 1:
        raise ValueError(f"max_tokens = {max_tokens}: must be at least 1")
    if num_tokens < 0:
        raise ValueError(f"num_tokens = {num_tokens}: must be at least 0")


_UNITS = ("words", "characters")


def judge_length(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """Whether an answer is as long as was asked for.

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
        count = counts[unit]
        if limit is not None and (count < limit if end == "min" else count > limit):
            wanted = "at least" if end == "min" else "at most"
            return Verdict(VerdictStatus.WRONG, None, f"The answer has {count} {unit}, not {wanted} {limit}.")
    why = f"The answer has {counts['words']} words and {counts['characters']} characters, as was asked for."
    return Verdict(VerdictStatus.CORRECT, None, why)


def _limit(metadata: Mapping[str, object], field: str) -> int | None:
    limit = metadata.get(field)
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise DataError(f"metadata {field!r}: must be a whole number of at least 0, not {limit!r:.80}")
    return limit
