"""The parts of a reward as pure functions: format, language, brevity, rules for an answer.

Each function takes what is known of one reply, or of a group, and returns numbers; the rubric weighs and sums them.
"""

import re
from collections.abc import Sequence

from open_exaone.base.records import Reply
from open_exaone.verify.extract import boxes
from open_exaone.verify.language import consistency, is_consistent
from open_exaone.verify.repetition import is_degenerate

MAX_ANSWER_CHARS = 8_000  # of "answer_rules"
# Of "concise_group", as shares of the longest reply: a spread of lengths below the first counts for nothing, from the
# second on it counts whole.
EQUAL_SPREAD, FULL_SPREAD = 0.1, 0.5

# Tags of EXAONE's chat formats: none is left in a reply that was split, unless it stood where it doesn't belong.
_MARKERS = re.compile(r"</?(?:think|thought|tool_call|tool_result)>|\[\|(?:system|user|assistant|tool|endofturn)\|\]")


def has_chat_tag(text: str) -> bool:
    """Whether a part of a split reply holds a tag of the chat formats, which the formats themselves would render."""
    return _MARKERS.search(text) is not None


def format_term(reply: Reply, thinking: bool) -> float:
    """1.0 for a well-formed reply with a visible final answer, else 0.0.

    The reply format of EXAONE Deep (arXiv 2503.12524, 2.2: a thought in its tags, then a self-contained answer), as the
    rule-based format reward of DeepSeek-R1 (arXiv 2501.12948, 2.2.2) checks it: one closed thought that is not empty,
    and none where none was asked for; an answer with exactly one `\\boxed{...}` that is not empty; no tag of the chat
    format in either; no tool call, since a reply that calls a tool is not final.

    Args:
        thinking: the prompt asked for a thought.
    """
    has_thought = bool(reply.thought.strip())
    found = boxes(reply.answer)
    is_whole = reply.finished and not reply.tool_calls and has_thought == thinking
    is_clean = not (has_chat_tag(reply.thought) or has_chat_tag(reply.answer))
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


def concise_group_terms(lengths: Sequence[int]) -> list[float]:
    """1 for the shortest of a problem's correct replies, less for longer ones: of each in [0, 1].

    1 - (length - shortest) / max(longest - shortest, longest / 2), and 1 for all where the shortest and the longest lie
    less than a tenth of the longest apart. EXAONE 4.0 (arXiv 2507.11407, 2.4.3) has a conciseness reward and publishes
    no formula; this one and both shares are ours. The half keeps a small spread from weighing as much as a large one
    beside other terms.

    The tenth bounds what `divide_by_std` makes of it where nothing else differs in a group of G, since a division by
    the deviation forgets how large differences are: of seven replies of 100 tokens and one of 101, the longer one would
    get -2.6. Below the tenth all get exactly the same, and no advantage; above it a token more or less changes an
    advantage by at most about 10 sqrt(2 G) / longest.

    Args:
        lengths: of each correct reply in tokens, its thought included; other replies earn 0 and are not compared.
    """
    if not lengths:
        return []
    shortest, longest = min(lengths), max(lengths)
    if longest - shortest < EQUAL_SPREAD * longest:
        return [1.0] * len(lengths)
    scale = max(longest - shortest, FULL_SPREAD * longest)
    return [1.0 - (length - shortest) / scale for length in lengths]


def answer_rules_term(reply: Reply, language: str, is_cut: bool) -> float:
    """The share of five rules that the final answer keeps, in fifths; 0 where there is none.

    There is an answer; it is whole (not cut, no tag of the chat format, every block of code closed); it is in no
    loop (`is_degenerate`); it is in the problem's language; it has at most 8,000 characters. All of it is
    ours: a stand-in for a preference model that costs nothing, and no measure of what people prefer. The thought plays
    no part, as EXAONE 4.0 judges the final answer alone (arXiv 2507.11407, 2.4.3).

    Args:
        is_cut: the reply reached the token limit.

    Raises:
        ValueError: the language is none of `language.LANGUAGES`.
    """
    answer = reply.answer.strip()
    if not answer:
        return 0.0
    is_whole = reply.finished and not is_cut and answer.count("```") % 2 == 0 and not _MARKERS.search(answer)
    kept = (
        True,
        is_whole,
        not is_degenerate(answer),
        is_consistent(answer, language),
        len(answer) <= MAX_ANSWER_CHARS,
    )
    return sum(kept) / len(kept)


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
