"""People getting on and off a bus: a chain of sums in a story, which no recipe of ours trains on."""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.thoughts import running_total

GET_ON = ("타고", "타면", "탔습니다")  # as "… and", "if …" and in the past
GET_OFF = ("내리고", "내리면", "내렸습니다")


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """A bus with 9 to 30 people and 2 to 4 stops, harder 5 to 7."""
    aboard = start = rng.randint(9, 30)
    stops = list[int]()
    for _ in range(rng.randint(*((5, 7) if harder else (2, 4)))):
        stops.append(rng.choice([-1, 1] if aboard > 10 else [1]) * rng.randint(2, 9))
        aboard += stops[-1]
    question = (_korean if language == "ko" else _english)(rng, start, stops)
    subject = "사람 수는" if language == "ko" else "The number of people"
    return Draft(question, str(aboard), subject, tuple(running_total([start, *stops])))


def _english(rng: random.Random, start: int, stops: list[int]) -> str:
    vehicle = rng.choice(["bus", "tram", "boat"])
    moves = ", ".join(f"{abs(stop)} get {'on' if stop > 0 else 'off'}" for stop in stops)
    return rng.choice(
        [
            f"A {vehicle} has {start} people. Then {moves}. How many people are on it now?",
            f"There are {start} people on a {vehicle}. At the stops {moves}. How many ride on?",
        ]
    )


def _korean(rng: random.Random, start: int, stops: list[int]) -> str:
    vehicle = rng.choice(["버스", "전차", "배"])
    *earlier, last = [[f"{abs(stop)}명이 {form}" for form in (GET_ON if stop > 0 else GET_OFF)] for stop in stops]
    moves = "".join(f"{and_move} " for and_move, _, _ in earlier)
    _, if_last, past_last = last
    return rng.choice(
        [
            f"{vehicle}에 {start}명이 있습니다. {moves}{if_last} 몇 명이 됩니까?",
            f"{start}명이 {vehicle}에 타고 있습니다. {moves}{past_last}. 지금 몇 명입니까?",
        ]
    )


FAMILY = our_family("bus_ride", compose, "unseen")
