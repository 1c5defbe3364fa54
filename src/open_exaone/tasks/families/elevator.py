"""Which floor an elevator stops at: a chain of sums in a story, which no recipe of ours trains on."""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.thoughts import running_total


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """From a floor of 10 to 40, two to four rides of 2 to 9 floors, harder five to seven."""
    floor = start = rng.randint(10, 40)
    rides = list[int]()
    for _ in range(rng.randint(*((5, 7) if harder else (2, 4)))):
        rides.append(rng.choice([-1, 1] if floor > 10 else [1]) * rng.randint(2, 9))
        floor += rides[-1]
    question = (_korean if language == "ko" else _english)(rng, start, rides)
    subject = "그 층은" if language == "ko" else "The floor"
    return Draft(question, str(floor), subject, tuple(running_total([start, *rides])))


def _english(rng: random.Random, start: int, rides: list[int]) -> str:
    story = ", then ".join(f"{'up' if ride > 0 else 'down'} {abs(ride)}" for ride in rides)
    return rng.choice(
        [
            f"An elevator on floor {start} goes {story} floors. On which floor is it?",
            f"From floor {start} an elevator goes {story}. Where does it stop?",
        ]
    )


def _korean(rng: random.Random, start: int, rides: list[int]) -> str:
    story = " ".join(f"{abs(ride)}층 {'올라가고' if ride > 0 else '내려가고'}" for ride in rides)
    return rng.choice(
        [
            f"{start}층의 승강기가 {story} 멈춥니다. 몇 층입니까?",
            f"승강기가 {start}층에서 {story} 멈추면 몇 층에 있습니까?",
        ]
    )


FAMILY = our_family("elevator", compose, "unseen")
