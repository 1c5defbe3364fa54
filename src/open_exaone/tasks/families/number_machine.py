"""What comes out of a machine that adds and takes away: the words of `secret_number`, forwards like `chain_sum`.

No worked thought.
"""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.korean import attach
from open_exaone.tasks.thoughts import running_total


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """A number of 10 to 40 and two or three terms of 2 to 9, harder four to six."""
    terms = [rng.choice([-1, 1]) * rng.randint(2, 9) for _ in range(rng.randint(*((4, 6) if harder else (2, 3))))]
    start = rng.randint(10, 40) - min(0, sum(terms))
    question = (_korean if language == "ko" else _english)(rng, start, terms)
    subject = "그 수는" if language == "ko" else "The number"
    return Draft(question, str(start + sum(terms)), subject, tuple(running_total([start, *terms])))


def _english(rng: random.Random, start: int, terms: list[int]) -> str:
    story = ", ".join(f"{'add' if term > 0 else 'subtract'} {abs(term)}" for term in terms)
    return rng.choice(
        [
            f"Start with {start}, {story}. What number do you get?",
            f"Take the number {start}, {story}. What is the result?",
        ]
    )


def _korean(rng: random.Random, start: int, terms: list[int]) -> str:
    first = "에" if terms[0] > 0 else "에서"
    story = "고 ".join(f"{attach(abs(term), '을/를')} {'더하' if term > 0 else '빼'}" for term in terms)
    return rng.choice([f"{start}{first} {story}면 얼마입니까?", f"수 {start}{first} {story}면 어떤 수가 됩니까?"])


FAMILY = our_family("number_machine", compose, "unworked")
