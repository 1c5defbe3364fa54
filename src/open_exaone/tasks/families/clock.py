"""Minutes pass on a clock face of twelve hours."""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.thoughts import Step, near_misses, work_out


def compose(rng: random.Random, language: str) -> Draft:
    """One to three spells of 5 to 59 minutes."""
    hour, minute = rng.randint(1, 12), rng.randint(0, 59)
    spells = [rng.randint(5, 59) for _ in range(rng.randint(1, 3))]
    korean = language == "ko"
    question = (_korean if korean else _english)(rng, _time(hour, minute), spells)
    steps = list[Step]()
    for spell in spells:
        steps.append(work_out(minute, "+", spell, label="분:" if korean else "min:"))
        minute += spell
        if minute >= 60:
            steps.append(work_out(minute, "-", 60))
            steps.append(_next_hour(hour, "시:" if korean else "hour:"))
            hour, minute = hour % 12 + 1, minute - 60
    wrong = (_time(hour % 12 + 1, minute), _time(hour, (minute + 10) % 60))
    steps.append(Step("시각:" if korean else "time:", _time(hour, minute), wrong))
    return Draft(question, _time(hour, minute), "시각은" if korean else "The time", tuple(steps))


def _next_hour(hour: int, label: str) -> Step:
    """`hour:9+1=10`, and `hour:12->1` at the turn."""
    return work_out(hour, "+", 1, label) if hour < 12 else Step(f"{label}12->", "1", near_misses(1))


def _time(hour: int, minute: int) -> str:
    return f"{hour}:{minute:02}"


def _english(rng: random.Random, start: str, spells: list[int]) -> str:
    first, *others = spells
    after = "".join(f" and {spell} more" for spell in others)
    then = "".join(f", then {spell} minutes" for spell in others)
    return rng.choice(
        [
            f"A 12-hour clock shows {start}. After {first} minutes{after}, what does it show?",
            f"It is {start}. {first} minutes pass{then}. What time is it (12-hour clock)?",
        ]
    )


def _korean(rng: random.Random, start: str, spells: list[int]) -> str:
    first, *others = spells
    more = "".join(f" 지나고 {spell}분이 더" for spell in others)
    again = "".join(f" 흐르고 다시 {spell}분이" for spell in others)
    return rng.choice(
        [
            f"지금은 {start}입니다. {first}분이{more} 지나면 몇 시 몇 분입니까? (12시간제)",
            f"시각은 {start}입니다. {first}분이{again} 흐릅니다. 이제 몇 시 몇 분입니까? (12시간제)",
        ]
    )


FAMILY = our_family("clock", compose)
