"""What a family of problems is, and how one of ours makes a problem from a draft."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from open_exaone.base.records import Problem
from open_exaone.tasks.thoughts import Step, write_thought


@dataclass(frozen=True, slots=True)
class Family:
    """Endlessly many problems of one kind; the same seed and language always give the same problem."""

    name: str
    languages: tuple[str, ...]
    has_thought: bool  # whether its problems come with a worked thought
    source: str  # who wrote it: "open-exaone" or "reasoning-gym"
    draw: Callable[[int, str], Problem]  # (seed, language) -> a problem


@dataclass(frozen=True, slots=True)
class Draft:
    """What a family of ours makes up; the rest of a problem follows from it."""

    question: str
    answer: str
    subject: str  # what the reply is about, such as "The total", or "합계는" with its particle
    steps: tuple[Step, ...] = ()  # how the answer is worked out; empty: no thought


def our_family(name: str, compose: Callable[[random.Random, str], Draft], *, has_thought: bool = True) -> Family:
    """A family in English and Korean, from a function (rng, language) -> draft."""

    def draw(seed: int, language: str) -> Problem:
        draft = compose(random.Random(f"{name}/{language}/{seed}"), language)
        return Problem(
            id=f"{name}/{language}/{seed}",
            task=name,
            language=language,
            question=draft.question,
            answer=draft.answer,
            verifier="exact",
            thought=think(draft.steps, name, language, seed) if has_thought else None,
            reply=say(draft.subject, draft.answer, language),
        )

    return Family(name, ("en", "ko"), has_thought, "open-exaone", draw)


def think(steps: tuple[Step, ...], name: str, language: str, seed: int) -> str:
    """The thought of one problem; its slips have a random stream of their own."""
    return write_thought(steps, random.Random(f"slips/{name}/{language}/{seed}"), language)


def say(subject: str, answer: str, language: str) -> str:
    """The short reply: `The total is \\boxed{46}.` or `합계는 \\boxed{46}입니다.`"""
    return f"{subject} \\boxed{{{answer}}}입니다." if language == "ko" else f"{subject} is \\boxed{{{answer}}}."
