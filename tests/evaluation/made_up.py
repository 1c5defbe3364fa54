"""A provider for tests: every answer is a function of the request alone."""

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence

from open_exaone.base.records import Generation, Problem, Reply, Request, Sampling, StopReason
from open_exaone.evaluation.task import Task

Answer = Callable[[Request], str]


class MadeUp:
    """Answers `answer(request)` in a shuffled order; keeps what it was asked."""

    gives_ids = True
    tokenizer = None

    def __init__(
        self, answer: Answer, model: str = "made up", fail: Callable[[Request], bool] = lambda request: False
    ) -> None:
        self.answer, self.model, self.fail = answer, model, fail
        self.asked: list[Request] = []
        self.failure: str | None = None
        self.notes: tuple[str, ...] = ()
        self.pause_s = 0.0

    @property
    def identity(self) -> Mapping[str, str]:
        return {"engine": "test", "model": self.model}

    def stream(self, requests: Sequence[Request]) -> Generator[tuple[int, Generation], None, None]:
        places = list(range(len(requests)))
        random.Random(0).shuffle(places)
        for place in places:
            request = requests[place]
            if self.fail(request):
                self.failure = "it broke: mend it"
                continue
            self.asked.append(request)
            time.sleep(self.pause_s)
            reply = Reply("Hm.", self.answer(request))
            yield place, Generation(reply, StopReason.END, 5, 7, 3, ids=(request.index,) * 7, logprobs=(-0.5,) * 7)

    def update_weights(self, weights: object, version: int) -> None:
        """It has none."""

    def flops(self, generation: Generation) -> float | None:
        return None


def sum_problem(number: int) -> Problem:
    return Problem(f"sum/{number}", "sum", "en", f"What is {number} + 1?", str(number + 1), "math")


def right(request: Request) -> str:
    number = int(request.messages[0]["content"].split()[2])
    return rf"\boxed{{{number + 1}}}"


def half_right(request: Request) -> str:
    """Right for even numbers, and for the first sample of odd ones."""
    number = int(request.messages[0]["content"].split()[2])
    return rf"\boxed{{{number + 1 if number % 2 == 0 or request.index == 0 else 0}}}"


def sums(num_problems: int = 6, k: int = 3, name: str = "sums", **sampling: object) -> Task:
    settings = Sampling(max_new_tokens=64, num_samples=k, **sampling)  # type: ignore[arg-type]
    return Task(name, name, tuple(map(sum_problem, range(num_problems))), settings, True, "here", "0" * 64)
