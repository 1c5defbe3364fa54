"""What a family of problems is, and how one of ours makes a problem from a draft."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from open_exaone.base.records import Problem
from open_exaone.tasks.thoughts import Step, canonical, written

# worked: with worked thoughts; unworked: without, its method put together from those of worked families;
# unseen: for measuring alone, no recipe of ours trains on it; drill: single steps, for pretraining; long: long texts.
Group = Literal["worked", "unworked", "unseen", "drill", "long"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A problem, and how it is worked out, whether its thought is shown or not."""

    problem: Problem
    steps: tuple[Step, ...]

    @property
    def work(self) -> str:
        """Its steps without words and order: the same whether people ride a bus or the sum stands there."""
        return " ".join(sorted(map(canonical, self.steps)))

    def parts(self) -> Iterator[str]:
        """The work of each run of at least two of its steps, which may be all the work of a shorter problem."""
        lines = [canonical(step) for step in self.steps]
        for first, last in combinations(range(len(lines) + 1), 2):
            if last - first > 1:
                yield " ".join(sorted(lines[first:last]))


@dataclass(frozen=True, slots=True)
class Family:
    """Endlessly many problems of one kind; the same seed, language and length always give the same problem."""

    name: str
    languages: tuple[str, ...]
    group: Group
    draw: Callable[[int, str, bool], Drawn]  # (seed, language, harder: longer than any that is not) -> a problem

    @property
    def has_thought(self) -> bool:
        """Whether its problems come with a worked thought."""
        return self.group == "worked"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a family of ours makes up; the rest of a problem follows from it."""

    question: str
    answer: str
    subject: str  # what the reply is about, such as "The total", or "합계는" with its particle
    steps: tuple[Step, ...]  # how the answer is worked out
    reply: str = ""  # before the sentence with the answer


def our_family(name: str, compose: Callable[[random.Random, str, bool], Draft], group: Group = "worked") -> Family:
    """A family in English and Korean, from a function (rng, language, harder) -> draft."""

    def draw(seed: int, language: str, harder: bool = False) -> Drawn:
        id = problem_id(name, language, seed, harder)
        draft = compose(random.Random(id), language, harder)
        problem = Problem(
            id=id,
            task=name,
            language=language,
            question=draft.question,
            answer=draft.answer,
            verifier="exact",
            thought=written(draft.steps) if group == "worked" else None,
            reply=draft.reply + say(draft.subject, draft.answer, language),
        )
        return Drawn(problem, draft.steps)

    return Family(name, ("en", "ko"), group, draw)


def problem_id(name: str, language: str, seed: int, harder: bool) -> str:
    return f"{name}/{language}/{'harder/' * harder}{seed}"


def say(subject: str, answer: str, language: str) -> str:
    """The short reply: `The total is \\boxed{46}.` or `합계는 \\boxed{46}입니다.`"""
    return f"{subject} \\boxed{{{answer}}}입니다." if language == "ko" else f"{subject} is \\boxed{{{answer}}}."
