"""How many eggs in some boxes are whole: a product, then differences, which no recipe of ours trains on."""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.thoughts import running_total, work_out

PLACES = {
    "en": ("in the shop", "on the way", "in the kitchen", "in the cellar"),
    "ko": ("가게에서", "길에서", "부엌에서", "지하실에서"),
}


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """3 to 12 boxes of 4 to 12 eggs, 2 to 9 of which break once or twice; harder 6 to 12 of each and more breakages."""
    boxes, eggs = rng.randint(6 if harder else 3, 12), rng.randint(6 if harder else 4, 12)
    broken = [rng.randint(2, 9) for _ in range(rng.randint(*((3, 4) if harder else (1, 2))))]
    while sum(broken) > boxes * eggs:
        broken.pop()
    places = rng.sample(PLACES[language], len(broken))
    steps = (work_out(boxes, "*", eggs), *running_total([boxes * eggs, *(-number for number in broken)]))
    question = (_korean if language == "ko" else _english)(boxes, eggs, broken, places)
    return Draft(question, steps[-1].result, "달걀 수는" if language == "ko" else "The number of eggs", steps)


def _english(boxes: int, eggs: int, broken: list[int], places: list[str]) -> str:
    story = ", ".join(f"{number} break {place}" for number, place in zip(broken, places, strict=True))
    return f"{boxes} boxes hold {eggs} eggs each. Then {story}. How many eggs are whole?"


def _korean(boxes: int, eggs: int, broken: list[int], places: list[str]) -> str:
    story = ", ".join(f"{place} {number}개" for number, place in zip(broken, places, strict=True))
    return f"달걀이 {eggs}개씩 든 상자가 {boxes}개 있습니다. {story}가 깨졌습니다. 성한 달걀은 몇 개입니까?"


FAMILY = our_family("egg_boxes", compose, "unseen")
