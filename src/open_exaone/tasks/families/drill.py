"""Single steps, many to a problem: what the steps of worked thoughts are made of, for pretraining."""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.thoughts import Step, work_out

NUM_SUMS = 8  # of a problem


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Sums and products as the worked families have them; harder with numbers of up to 300."""
    steps = tuple(_step(rng, 300 if harder else 100) for _ in range(NUM_SUMS))
    asked = ", ".join(step.work.rstrip("=") for step in steps)
    question = f"차례로 계산하세요: {asked}" if language == "ko" else f"Work these out: {asked}"
    worked = "".join(f"{step}\n" for step in steps)
    return Draft(question, steps[-1].result, "마지막은" if language == "ko" else "The last", steps, worked)


def _step(rng: random.Random, most: int) -> Step:
    operator = rng.choice("++--*/")
    if operator in "+-":
        return work_out(rng.randint(-most // 4, most), operator, rng.randint(2, 9 if rng.random() < 0.6 else most))
    factor, other = rng.randint(2, 9), rng.randint(2, most // 4)
    return work_out(factor, "*", other) if operator == "*" else work_out(factor * other, "/", factor)


FAMILY = our_family("drill", compose, "drill")
