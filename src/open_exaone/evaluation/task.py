"""What is measured: a set of problems under one way of asking."""

from collections.abc import Iterable
from dataclasses import dataclass

from open_exaone.base.records import MODES, Begun, Problem, Sampling


@dataclass(frozen=True, slots=True)
class Task:
    """Problems, and how each is asked: `sampling.num_samples` is k."""

    name: str  # its own in the evaluation, such as "aime_2025", "aime_2025@16384" under a thinking budget
    benchmark: str  # the benchmark's name, "aime_2025"; of a run, the name of its data
    problems: tuple[Problem, ...]
    sampling: Sampling
    thinking: bool
    source: str = ""  # where the rows were read
    sha256: str = ""  # of the rows that counted
    is_pinned: bool = False  # whether these are the rows that we know
    is_whole: bool = True  # whether these are all problems; a limit or an early stop leaves some out
    begun: tuple[Begun, ...] = ()  # [P] the thoughts that replies begin with, where they are given

    @property
    def mode(self) -> str:
        return MODES[self.thinking]


def tasks_by_mode(
    name: str, problems: Iterable[Problem], thinks_P: Iterable[bool], sampling: Sampling
) -> tuple[Task, ...]:
    """A task for each mode that some problems are asked in, in the order in which the modes come.

    Args:
        name: of the problems.
        thinks_P: whether each is asked in reasoning mode.
    """
    by_mode: dict[bool, list[Problem]] = {}
    for problem, thinking in zip(problems, thinks_P, strict=True):
        by_mode.setdefault(thinking, []).append(problem)
    return tuple(
        Task(name + "-non-reasoning" * (not thinking), name, tuple(one), sampling, thinking)
        for thinking, one in by_mode.items()
    )
