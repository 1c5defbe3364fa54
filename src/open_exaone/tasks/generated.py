"""Problems that are drawn when a run begins: from families that make them up, or from problems of the user's own.

No problem is drawn twice in a run, so that its sets of problems are disjoint: neither a question nor, of families, the
same steps in other words. Answers are balanced: at most one in twenty problems of a family and language have the same
one, and one more where a family has too few answers for that.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from itertools import count, cycle, islice
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from open_exaone.base.config import Config, word_or_list
from open_exaone.base.errors import DataError
from open_exaone.base.interrupt import check
from open_exaone.base.normalise import normalise_prompt
from open_exaone.base.records import Problem
from open_exaone.tasks.family import Drawn, Family
from open_exaone.tasks.own import own_problems
from open_exaone.tasks.registry import families_of, get_family
from open_exaone.tasks.sentences import in_sentences
from open_exaone.verify.settings import JudgeSettings

MAX_PROBLEMS = 100_000  # of one source
MAX_SOURCES = 100  # of one run
DRAWS_PER_PROBLEM = 50  # how often a share may draw, on average, before its family counts as used up,
SPARE_DRAWS = 1_000
MAX_MISSES = 3_000  # and how often in a row without a new problem
MIN_STEPS = 2  # of a problem: single ones stand in drills
NUM_FRESH = 200  # problems of a language that show how much of a family's space was drawn,
UNUSED_SEED = 10**30  # from seeds that no source reaches, whatever its own
BLOCK = 10_000_000  # seeds of one source; reasoning-gym draws item i from seed + i, so blocks must never touch
assert BLOCK > MAX_PROBLEMS * DRAWS_PER_PROBLEM + SPARE_DRAWS

OTHER_LANGUAGE = {"en": "ko", "ko": "en"}
MAX_SHARE_OF_ANSWER = 0.05  # of the problems of one family and language

Families = Annotated[
    Annotated[str, Tag("<word>")] | Annotated[tuple[str, ...], Tag("<list>")], Discriminator(word_or_list)
]


class GeneratedSource(Config):
    """Problems that are drawn when the run begins, each question once in the whole run."""

    families: Families | None = None
    """The families of problems to draw from, by name or by group: "worked" have worked thoughts, "unworked" have none
    but can be put together from those, "unseen" are for measuring alone, "drill" are single steps for pretraining,
    "long" are texts in which facts are hidden.
    Every family and language has an equal share."""
    harder: bool = False
    """Draw problems that are longer than any that are drawn without this; of equations and drills, larger numbers."""
    problems: str | None = None
    """Instead of families, problems of your own: a .jsonl file, or a function that returns them
    ("my_task.py:problems")."""
    num_problems: int = Field(ge=1, le=MAX_PROBLEMS)
    """How many problems are drawn."""
    with_thoughts_only: bool = False
    """Draw only problems that have a worked thought."""
    thoughts: Literal["steps", "sentences"] = "steps"
    """How worked thoughts are written: "steps", one a line; "sentences": the same steps between an opening, a second
    look at one of them and a closing, of which each thought has some."""
    other_language_share: float = Field(default=0.0, ge=0, le=1)
    """With thoughts in sentences, the share of them that is in the other language than the question, English or
    Korean."""
    seed: int = Field(default=0, ge=0)
    """Another seed draws other problems."""
    mode: Literal["auto", "reasoning", "non_reasoning"] = "auto"
    """As for a source of rows: "non_reasoning" leaves the worked thoughts out, and asks in that mode."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Its share of the tokens of an epoch, as for a source of rows."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.families is None) == (self.problems is None):
            raise ValueError(
                'give either families, such as families = "worked", or problems, such as "my_task.py:problems"'
            )
        if self.problems is not None and self.harder:
            raise ValueError("harder: is for families: leave it out beside problems of your own")
        if self.other_language_share and self.thoughts != "sentences":
            raise ValueError('other_language_share: has no effect on thoughts = "steps": use "sentences"')
        if self.families is None and self.thoughts != "steps":
            raise ValueError("thoughts: is for families: leave it out beside problems of your own")
        if self.thoughts != "steps" and self.mode == "non_reasoning":
            raise ValueError('thoughts: has no effect with mode = "non_reasoning", which leaves them out: leave it out')
        if self.families is not None and not self.chosen():
            raise ValueError("no family is left: name one, with a worked thought where with_thoughts_only is set")
        if self.thoughts != "steps" and not any(family.has_thought for family in self.chosen()):
            raise ValueError("thoughts: none of these families has a worked thought: leave it out")
        return self

    def chosen(self) -> tuple[Family, ...]:
        """The families drawn from, in their order."""
        names = (self.families,) if isinstance(self.families, str) else self.families or ()
        return tuple(family for family in families_of(names) if family.has_thought or not self.with_thoughts_only)


def draw_problems(
    source: GeneratedSource,
    index: int,
    used: set[str],
    name: str,
    settings: JudgeSettings | None = None,
    *,
    held_out: Set[str] = frozenset(),
) -> list[Problem]:
    """Draws a source's problems; the same source, index and used questions give the same problems anywhere.

    Args:
        index: which of the run's generated sources this is.
        used: the questions that were drawn before, as `normalise_prompt` writes them, and the work of families'
            problems; gets those drawn now.
        name: of the data, for errors.
        held_out: the work of problems that nothing learns from: no problem is drawn that has it among its steps.

    Raises:
        DataError: a problem of the user's own is wrong, or there are not as many new questions as are wanted.
    """
    first_seed = (source.seed * MAX_SOURCES + index) * BLOCK
    if source.problems is None:
        return list(_draw_families(source, first_seed, used, held_out, name))
    return _choose_own(source, own_problems(source.problems, settings), first_seed, used, name)


def seen_share(name: str, used: Set[str]) -> float:
    """How much of a family's space was drawn: the share of fresh draws whose work is among `used`."""
    family = get_family(name)
    draws = [
        family.draw(seed, language, False)
        for language in family.languages
        for seed in range(UNUSED_SEED, UNUSED_SEED + NUM_FRESH)
    ]
    fresh = [drawn.work for drawn in draws if len(drawn.steps) >= MIN_STEPS]
    return sum(work in used for work in fresh) / len(fresh)


def _marks(drawn: Drawn) -> set[str]:
    """What no other problem of a run may share with it."""
    return {normalise_prompt(drawn.problem.question), drawn.work}


def _draw_families(
    source: GeneratedSource, first_seed: int, used: set[str], held_out: Set[str], name: str
) -> Iterator[Problem]:
    """Draws from each family and language in turn."""
    pairs = [(family, language) for family in source.chosen() for language in family.languages]
    quota = -(-source.num_problems // len(pairs))
    shares = [
        _draw_share(name, family, language, count(first_seed), quota, used, held_out, source.harder)
        for family, language in pairs
    ]
    return (_written(source, next(share)) for share in islice(cycle(shares), source.num_problems))


def _written(source: GeneratedSource, drawn: Drawn) -> Problem:
    """The problem, its thought as the source wants it."""
    problem = drawn.problem
    if source.thoughts == "steps" or problem.thought is None:
        return problem
    rng = random.Random(f"{problem.id}/sentences")
    is_other = rng.random() < source.other_language_share
    language = OTHER_LANGUAGE[problem.language] if is_other else problem.language
    return replace(problem, thought=in_sentences(rng, drawn.steps, language, always_opened=is_other))


def _choose_own(
    source: GeneratedSource, problems: list[Problem], seed: int, used: set[str], name: str
) -> list[Problem]:
    """Chooses problems of the user's own whose question is new, shuffled by the seed."""
    fresh = _fresh(source, problems, used)
    if len(fresh) < source.num_problems:
        raise DataError(
            f"data.{name}: of the {len(problems)} problems of {source.problems}, {len(fresh)} have a question that "
            f"neither another one nor data listed before has{', and thought and reply' * source.with_thoughts_only}: "
            f"num_problems = {source.num_problems} is more"
        )
    questions = sorted(fresh)
    random.Random(seed).shuffle(questions)
    used.update(questions[: source.num_problems])
    return [fresh[question] for question in questions[: source.num_problems]]


def _fresh(source: GeneratedSource, problems: list[Problem], used: Set[str]) -> dict[str, Problem]:
    """By question, the problems that were not drawn before; of equal questions the first."""
    found = [problem for problem in problems if not source.with_thoughts_only or (problem.thought and problem.reply)]
    by_question = {normalise_prompt(problem.question): problem for problem in reversed(found)}
    return {question: problem for question, problem in by_question.items() if question not in used}


def _draw_share(
    name: str,
    family: Family,
    language: str,
    seeds: Iterable[int],
    quota: int,
    used: set[str],
    held_out: Set[str],
    harder: bool,
) -> Iterator[Drawn]:
    """Draws problems whose question and work are new and whose answer is not too common, and remembers them."""
    answers, spare = Counter[str](), dict[str, Drawn]()
    most_alike = max(1, int(MAX_SHARE_OF_ANSWER * quota))
    num_draws = num_short = num_doubles = num_common = misses = 0
    for seed in islice(seeds, quota * DRAWS_PER_PROBLEM + SPARE_DRAWS):
        check()
        drawn = family.draw(seed, language, harder)
        answer = drawn.problem.answer
        num_draws += 1
        misses += 1
        if misses > MAX_MISSES:
            break
        if len(drawn.steps) < MIN_STEPS:
            num_short += 1
        elif (marks := _marks(drawn)) & used or any(part in held_out for part in drawn.parts()):
            num_doubles += 1
        elif answers[answer] >= most_alike:
            num_common += 1
            spare.setdefault(answer, drawn)
        else:
            used |= marks
            answers[answer] += 1
            misses = 0
            yield drawn
    for drawn in spare.values():  # of 25 answers, 55 problems have some three times
        if not _marks(drawn) & used:
            used |= _marks(drawn)
            answers[drawn.problem.answer] += 1
            yield drawn
    raise DataError(
        f"data.{name}: the family {family.name} ({language}) gave {answers.total():,} of {quota:,} problems in "
        f"{num_draws:,} draws: {num_doubles:,} have the question or the steps of a problem drawn before, "
        f"{num_common:,} have an answer that {most_alike} problems have already, of {len(answers):,} answers in all, "
        f"and {num_short:,} have a single step; ask for fewer problems or for more families"
    )
