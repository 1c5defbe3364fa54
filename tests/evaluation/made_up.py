"""A provider for tests: every answer is a function of the ask alone."""

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence

from open_exaone.base.records import Ask, Generation, Problem, Reply, Sampling, StopReason
from open_exaone.evaluation.task import Task

Answer = Callable[[Ask], str]


class MadeUp:
    """Answers `answer(ask)` in a shuffled order; keeps what it was asked."""

    def __init__(self, answer: Answer, model: str = "made up", fail: Callable[[Ask], bool] = lambda ask: False) -> None:
        self.answer, self.model, self.fail = answer, model, fail
        self.asked: list[Ask] = []
        self.failure: str | None = None
        self.notes: tuple[str, ...] = ()
        self.pause_s = 0.0

    @property
    def identity(self) -> Mapping[str, str]:
        return {"engine": "test", "model": self.model}

    def prompts(self, asks: Sequence[Ask]) -> list[str]:
        return [f"{ask.thinking}:{ask.question}" for ask in asks]

    def stream(self, asks: Sequence[Ask]) -> Generator[tuple[int, Generation], None, None]:
        places = list(range(len(asks)))
        random.Random(0).shuffle(places)
        for place in places:
            ask = asks[place]
            if self.fail(ask):
                self.failure = "it broke: mend it"
                continue
            self.asked.append(ask)
            time.sleep(self.pause_s)
            yield place, Generation(Reply("Hm.", self.answer(ask)), StopReason.END, 5, 7, 3)

    def flops(self, generation: Generation) -> float | None:
        return None


def sum_problem(number: int) -> Problem:
    return Problem(f"sum/{number}", "sum", "en", f"What is {number} + 1?", str(number + 1), "math")


def right(ask: Ask) -> str:
    number = int(ask.question.split()[2])
    return rf"\boxed{{{number + 1}}}"


def half_right(ask: Ask) -> str:
    """Right for even numbers, and for the first sample of odd ones."""
    number = int(ask.question.split()[2])
    return rf"\boxed{{{number + 1 if number % 2 == 0 or ask.index == 0 else 0}}}"


def sums(num_problems: int = 6, k: int = 3, name: str = "sums", **sampling: object) -> Task:
    settings = Sampling(max_new_tokens=64, num_samples=k, **sampling)  # type: ignore[arg-type]
    return Task(name, name, tuple(map(sum_problem, range(num_problems))), settings, True, "here", "0" * 64)
