"""Where a point ends that is moved about a grid."""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.korean import attach
from open_exaone.tasks.thoughts import Step, work_out

MOVES = {  # name -> (axis, sign)
    "en": {"right": (0, 1), "left": (0, -1), "up": (1, 1), "down": (1, -1)},
    "ko": {"오른쪽": (0, 1), "왼쪽": (0, -1), "위": (1, 1), "아래": (1, -1)},
}


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Two to four moves of 2 to 9 from a point between (10,10) and (30,30); five to seven harder ones."""
    start = [rng.randint(10, 30), rng.randint(10, 30)]
    walk = [
        (rng.choice(list(MOVES[language])), rng.randint(2, 9))
        for _ in range(rng.randint(*((5, 7) if harder else (2, 4))))
    ]
    place, steps = list(start), list[Step]()
    for name, distance in walk:
        axis, sign = MOVES[language][name]
        steps.append(work_out(place[axis], "+" if sign > 0 else "-", distance, label=f"{name}:{'xy'[axis]}="))
        place[axis] += sign * distance
    korean = language == "ko"
    question = (_korean if korean else _english)(rng, _point(start), walk)
    steps.append(Step("", _point(place), "점:" if korean else "point:"))
    return Draft(question, _point(place), "위치는" if korean else "The position", tuple(steps))


def _point(place: list[int]) -> str:
    return f"({place[0]},{place[1]})"


def _english(rng: random.Random, start: str, walk: list[tuple[str, int]]) -> str:
    moves = ", ".join(f"{name} {distance}" for name, distance in walk)
    return rng.choice(
        [
            f"A point at {start} moves {moves}. Where is it now?",
            f"Start at {start} and go {moves}. Where do you end?",
        ]
    )


def _korean(rng: random.Random, start: str, walk: list[tuple[str, int]]) -> str:
    moves = ", ".join(f"{attach(name, '으로/로')} {distance}" for name, distance in walk)
    return rng.choice(
        [
            f"점이 {start}에서 {moves}만큼 움직입니다. 지금 위치는 어디입니까?",
            f"{start}에서 시작하여 {moves}만큼 가면 어디입니까?",
        ]
    )


FAMILY = our_family("grid_walk", compose)
