"""Who is where in a row of people by height, from shuffled comparisons of neighbours."""

import random
from itertools import pairwise

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.korean import attach
from open_exaone.tasks.thoughts import Step

NAMES = {
    "en": (
        *("Ann", "Bob", "Cat", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jan", "Kim", "Lea"),
        *("Max", "Ned", "Oli", "Pam", "Ray", "Sam", "Tom", "Una", "Val", "Wes", "Zoe", "Ben"),
    ),
    "ko": (
        *("민수", "유나", "하늘", "서준", "지우", "도윤", "예준", "시우", "하준", "지호", "준서", "수아"),
        *("지아", "서연", "민지", "은우", "다은", "채원", "소율", "태오", "연우", "나은", "현우", "보라"),
    ),
}
ORDINALS = {"en": ("", "second ", "third "), "ko": ("가장", "두 번째로", "세 번째로")}


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Three or four people, harder five or six, asked for the tallest, second or third."""
    people = rng.sample(NAMES[language], rng.randint(*((5, 6) if harder else (3, 4))))
    rank = rng.randrange(3)
    pairs = list(pairwise(people))
    rng.shuffle(pairs)
    steps = [Step("", ">".join(row)) for row in (*pairs, people)]
    steps.append(Step(f"{rank + 1}:", people[rank]))
    if language == "ko":
        return Draft(_korean(rng, pairs, rank), people[rank], "그 사람은", tuple(steps))
    return Draft(_english(rng, pairs, rank), people[rank], "The person", tuple(steps))


def _english(rng: random.Random, pairs: list[tuple[str, str]], rank: int) -> str:
    facts = " ".join(_english_fact(rng, taller, shorter) for taller, shorter in pairs)
    return f"{facts} Who is the {ORDINALS['en'][rank]}tallest?"


def _english_fact(rng: random.Random, taller: str, shorter: str) -> str:
    return rng.choice([f"{taller} is taller than {shorter}.", f"{shorter} is shorter than {taller}."])


def _korean(rng: random.Random, pairs: list[tuple[str, str]], rank: int) -> str:
    facts = " ".join(_korean_fact(rng, taller, shorter) for taller, shorter in pairs)
    return f"{facts} {ORDINALS['ko'][rank]} 키가 큰 사람은 누구입니까?"


def _korean_fact(rng: random.Random, taller: str, shorter: str) -> str:
    return rng.choice(
        [
            f"{attach(taller, '은/는')} {shorter}보다 키가 큽니다.",
            f"{attach(shorter, '은/는')} {taller}보다 키가 작습니다.",
        ]
    )


FAMILY = our_family("height_order", compose)
