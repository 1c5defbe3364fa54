"""What two people pay together, each for one kind of thing: `shopping` of other people. No worked thought."""

import random

from open_exaone.tasks.families.shopping import COUNTERS, NAMES, Purchase, purchases, work_out_costs
from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.korean import attach
from open_exaone.tasks.thoughts import running_total


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Two people, harder three, each with 2 to 9 of one thing at 2 to 12 dollars or won."""
    bought = purchases(rng, language, 3 if harder else 2)
    names = rng.sample(NAMES[language], len(bought))
    total = sum(number * price for _, number, price in bought)
    korean = language == "ko"
    question = (_korean if korean else _english)(rng, names, bought)
    steps = (*work_out_costs(bought, korean), *running_total([number * price for _, number, price in bought]))
    return Draft(question, str(total), "합계는" if korean else "The total", steps)


def _english(rng: random.Random, names: list[str], bought: list[Purchase]) -> str:
    story = ". ".join(
        f"{name} buys {number} {thing}s at ${price} each"
        for name, (thing, number, price) in zip(names, bought, strict=True)
    )
    return f"{story}. {rng.choice(['How much do they pay together?', 'How many dollars is that in all?'])}"


def _korean(rng: random.Random, names: list[str], bought: list[Purchase]) -> str:
    parts = [
        f"{attach(name, '은/는')} {price}원짜리 {attach(f'{thing} {number}{COUNTERS[thing]}', '을/를')}"
        for name, (thing, number, price) in zip(names, bought, strict=True)
    ]
    story = " 샀고 ".join(parts) + " 샀습니다."
    asked = rng.choice(["모두 얼마를 냈습니까?", "낸 돈은 모두 몇 원입니까?"])
    return f"{story} {asked}"


FAMILY = our_family("two_shoppers", compose, "unworked")
