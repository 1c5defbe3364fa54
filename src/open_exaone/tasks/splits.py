"""Sets of problems that share no question: training, validation, test, and the prompts of each stage."""

import random
from collections.abc import Iterator, Mapping
from itertools import cycle, islice

from pydantic import Field, field_validator, model_validator

from open_exaone.base.config import Config
from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem
from open_exaone.tasks.family import Family
from open_exaone.tasks.own import own_problems
from open_exaone.tasks.registry import FAMILIES, get_family
from open_exaone.verify.settings import JudgeSettings

MAX_PROBLEMS = 100_000  # of one split
MAX_SPLITS = 100
DRAWS_PER_PROBLEM = 50  # how often a share may draw, on average, before its family counts as used up
SPARE_DRAWS = 1_000
BLOCK = 10_000_000  # seeds of one split; reasoning-gym draws item i from seed + i, so blocks must never touch
assert BLOCK > MAX_PROBLEMS * DRAWS_PER_PROBLEM + SPARE_DRAWS


class SplitConfig(Config):
    """One set of problems."""

    num_problems: int = Field(ge=1, le=MAX_PROBLEMS)
    """How many problems; every family and language has an equal share."""
    families: tuple[str, ...] | None = None
    """The families to draw from; all of them when left out."""
    source: str | None = None
    """Problems of your own instead: a .jsonl file, or a function that gives them ("my_task.py:problems")."""
    with_thoughts_only: bool = False
    """Leave out the families, or the problems of your own, that have no worked thought."""

    @field_validator("families")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            get_family(name)
        return names

    @model_validator(mode="after")
    def _some_family(self) -> "SplitConfig":
        if self.source is not None and self.families is not None:
            raise ValueError("source and families: give one of them")
        if not self.chosen():
            raise ValueError("no family is left: name one, with a worked thought where with_thoughts_only is set")
        return self

    def chosen(self) -> tuple[Family, ...]:
        """The families drawn from, in their order."""
        names = FAMILIES if self.families is None else dict.fromkeys(self.families)
        return tuple(FAMILIES[name] for name in names if FAMILIES[name].has_thought or not self.with_thoughts_only)


class ProblemsConfig(Config):
    """All the problems of a run."""

    splits: dict[str, SplitConfig] = Field(min_length=1, max_length=MAX_SPLITS)
    """The sets by name; where two would share a question the one listed first keeps it, so list the test set first."""
    seed: int = Field(default=0, ge=0)
    """Another seed draws other problems."""


def build_splits(config: ProblemsConfig, settings: JudgeSettings | None = None) -> dict[str, tuple[Problem, ...]]:
    """Draws every split; the same config gives the same problems anywhere.

    Raises:
        DataError: a user's own problem is wrong, or a family cannot give as many different questions as a split wants.
    """
    used: set[str] = set()
    splits = {}
    for index, (name, split) in enumerate(config.splits.items()):
        first_seed = (config.seed * MAX_SPLITS + index) * BLOCK
        if split.source is None:
            splits[name] = tuple(_draw_split(name, split, first_seed, used))
        else:
            splits[name] = tuple(_take_split(name, split, own_problems(split.source, settings), first_seed, used))
    assert_disjoint(splits)
    return splits


def assert_disjoint(splits: Mapping[str, tuple[Problem, ...]]) -> None:
    """Asserts that no question occurs twice, within a split or across splits."""
    owners: dict[str, Problem] = {}
    for name, problems in splits.items():
        for problem in problems:
            owner = owners.setdefault(normalise_question(problem.question), problem)
            assert owner is problem, f"split {name!r}: {problem.id} asks the same as {owner.id}"


def normalise_question(question: str) -> str:
    """The question as it is compared: case and white space do not count."""
    return " ".join(question.casefold().split())


def _draw_split(name: str, split: SplitConfig, first_seed: int, used: set[str]) -> Iterator[Problem]:
    """Draws from each family and language in turn."""
    pairs = [(family, language) for family in split.chosen() for language in family.languages]
    quota = -(-split.num_problems // len(pairs))
    shares = [_draw_share(name, family, language, first_seed, quota, used) for family, language in pairs]
    return (next(share) for share in islice(cycle(shares), split.num_problems))


def _take_split(name: str, split: SplitConfig, problems: list[Problem], seed: int, used: set[str]) -> Iterator[Problem]:
    """Takes a user's own problems whose question is new, shuffled by the seed."""
    found = [p for p in problems if not split.with_thoughts_only or (p.thought and p.reply)]
    fresh = {question: p for p in reversed(found) if (question := normalise_question(p.question)) not in used}
    if len(fresh) < split.num_problems:
        raise DataError(
            f"split {name!r}: {split.source} has {len(fresh)} different questions that no split listed before it "
            f"has{', with thought and reply' * split.with_thoughts_only}: num_problems = {split.num_problems} is more"
        )
    questions = sorted(fresh)
    random.Random(seed).shuffle(questions)
    used.update(questions[: split.num_problems])
    return (fresh[question] for question in questions[: split.num_problems])


def _draw_share(
    split: str, family: Family, language: str, first_seed: int, quota: int, used: set[str]
) -> Iterator[Problem]:
    """Draws problems whose question is new, and remembers it."""
    for seed in range(first_seed, first_seed + quota * DRAWS_PER_PROBLEM + SPARE_DRAWS):
        problem = family.draw(seed, language)
        question = normalise_question(problem.question)
        if question not in used:
            used.add(question)
            yield problem
    raise DataError(
        f"split {split!r}: the family {family.name} ({language}) has no {quota} new questions to give; "
        "ask for fewer problems or for more families"
    )
