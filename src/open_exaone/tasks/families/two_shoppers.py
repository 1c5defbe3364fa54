"""What two people pay together, each for one kind of thing: `shopping` of other people. No worked thought."""

import random

from open_exaone.tasks.families.shopping import COUNTERS, NAMES, Purchase, purchases, work_out_costs
from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.korean import attach
from open_exaone.tasks.thoughts import running_total

ASKED = {
    "en": ("How much do they pay together?", "How many dollars is that in all?"),
    "ko": ("모두 얼마를 냈습니까?", "낸 돈은 모두 몇 원입니까?"),
}


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Two people, harder three, each with 2 to 9 of one thing at 2 to 20 dollars or won."""
    bought = purchases(rng, language, 3 if harder else 2)
    names = rng.sample(NAMES[language], len(bought))
    question = f"{story(language, names, bought)} {rng.choice(ASKED[language])}"
    costs = [number * price for _, number, price in bought]
    steps = (*work_out_costs(bought, language == "ko"), *running_total(costs))
    return Draft(question, str(sum(costs)), "합계는" if language == "ko" else "The total", steps)


def story(language: str, names: list[str], bought: list[Purchase]) -> str:
    """Who buys what: `Mia buys 8 eggs at $5 each. Ben buys 8 books at $12 each.`"""
    return _korean(names, bought) if language == "ko" else _english(names, bought)


def _english(names: list[str], bought: list[Purchase]) -> str:
    return " ".join(
        f"{name} buys {number} {thing}s at ${price} each."
        for name, (thing, number, price) in zip(names, bought, strict=True)
    )


def _korean(names: list[str], bought: list[Purchase]) -> str:
    parts = [
        f"{attach(name, '은/는')} {price}원짜리 {attach(f'{thing} {number}{COUNTERS[thing]}', '을/를')}"
        for name, (thing, number, price) in zip(names, bought, strict=True)
    ]
    return " 샀고 ".join(parts) + " 샀습니다."


FAMILY = our_family("two_shoppers", compose, "unworked")
