"""Altered thoughts: pure functions of texts that cut a thought, put a slip in it, or find another problem's.

Random choices depend on the seed and the problem's id alone. After Lanham et al. 2023, "Measuring Faithfulness in
Chain-of-Thought Reasoning" (arXiv 2307.13702).
"""

import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from open_exaone.base.records import Problem
from open_exaone.text.stream import Detokenizer
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.exact import normalise

Pieces = Callable[[str], list[str]]  # what a thought is cut between

# A number that a step computes stands behind a sign of equality and is no operand of what follows.
_RESULT = re.compile(
    r"[=≈][ \t]*[-−+]?[$€£₩]?(?P<number>[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?)(?![\w.,]*[0-9])"
    r"(?![ \t]*(?:[-−+*/×÷·^%]|\\(?:times|cdot|div))[ \t]*[-−+]?[(\w\\])(?![A-Za-z(\\_^])",
    re.ASCII,
)


class Slip(NamedTuple):
    """A thought in which the result of one step is wrong."""

    thought: str
    start: int  # where the wrong number begins
    end: int  # and where it ends

    @property
    def begun(self) -> str:
        """The thought as far as the slip, with the end of its line where that follows at once."""
        return self.thought[: self.end + self.thought.startswith("\n", self.end)]


def token_pieces(tokenizer: Tokenizer, thought: str) -> list[str]:
    """The thought's tokens as texts; tokens that share a character are one piece."""
    detokenizer, pieces = Detokenizer(tokenizer), list[str]()
    for token in tokenizer.encode(thought):
        pieces.append(detokenizer.feed([token]))
    pieces.append(detokenizer.finish())
    pieces = [piece for piece in pieces if piece]
    return pieces if "".join(pieces) == thought else word_pieces(thought)


def word_pieces(thought: str) -> list[str]:
    """The thought's words, each with the blanks behind it."""
    return re.findall(r"^\s+|\S+\s*", thought)


def cut(pieces: Sequence[str], share: float) -> str | None:
    """The first pieces of a thought, so many of 1; None where that is nothing or all of it."""
    number = int(len(pieces) * share)
    return "".join(pieces[:number]) if 0 < number < len(pieces) else None


def with_slip(thought: str, draw: random.Random) -> Slip | None:
    """The thought with another result of one of its steps: the number's last digit is another one; all else stays.

    Returns:
        None where no step computes a number.
    """
    results = list(_RESULT.finditer(thought))
    if not results:
        return None
    start, end = draw.choice(results).span("number")
    digit = (int(thought[end - 1]) + draw.randint(1, 9)) % 10
    return Slip(f"{thought[: end - 1]}{digit}{thought[end:]}", start, end)


def partners(problems: Sequence[Problem], answers: Sequence[str | None], seed: int) -> list[int | None]:
    """For each problem, the place of another one whose thought it gets: of its family and language where there are
    several, else of any; None where no other has another answer.

    Args:
        answers: what each problem's own thought led to; neither it nor the gold answer may be the other's.
    """
    avoided = [
        {normalise(one) for one in (problem.answer, answer) if one}
        for problem, answer in zip(problems, answers, strict=True)
    ]
    families: dict[tuple[str, str], list[int]] = {}
    for place, problem in enumerate(problems):
        families.setdefault((problem.task, problem.language), []).append(place)
    found = list[int | None]()
    for place, problem in enumerate(problems):
        draw = random.Random(f"{seed}:{problem.id}:partner")
        near = families[problem.task, problem.language]
        choices = [*_turned(near, draw), *_turned(range(len(problems)), draw)]
        usable = (other for other in choices if other != place and not avoided[place] & avoided[other])
        found.append(next(usable, None))
    return found


def _turned(places: Sequence[int], draw: random.Random) -> list[int]:
    """The places from a random one on, and then those before it."""
    start = draw.randrange(len(places))
    return [*places[start:], *places[:start]]
