"""What a few things cost together, and the change."""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.korean import attach
from open_exaone.tasks.thoughts import Step, running_total, work_out

NAMES = {"en": ("Tom", "Mia", "Ben"), "ko": ("민수", "유나", "하늘")}
THINGS = {"en": ("pen", "cup", "apple", "book", "egg"), "ko": ("연필", "컵", "사과", "책", "달걀")}
COUNTERS = {
    "연필": "자루",
    "컵": "개",
    "사과": "개",
    "책": "권",
    "달걀": "개",
}  # Korean counts each thing in its own unit
CHANGE_SHARE = 0.3  # how often the question asks for the change instead of the total
BANKNOTES = (20, 50, 100, 200, 500, 1000)

Purchase = tuple[str, int, int]  # thing, number, price of one


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Two things, harder three or four, 2 to 9 of each, at 2 to 20 dollars or won."""
    bought = purchases(rng, language, rng.choice([3, 4]) if harder else 2)
    costs = [number * price for _, number, price in bought]
    total = sum(costs)
    paid = banknote(total) if rng.random() < CHANGE_SHARE else None
    korean = language == "ko"
    question = (_korean if korean else _english)(rng, bought, paid)
    steps = [*work_out_costs(bought, korean), *running_total(costs)]
    if paid is None:
        return Draft(question, str(total), "합계는" if korean else "The total", tuple(steps))
    steps.append(work_out(paid, "-", total))
    return Draft(question, str(paid - total), "거스름돈은" if korean else "The change", tuple(steps))


def purchases(rng: random.Random, language: str, num_things: int) -> list[Purchase]:
    """Different things, some of each."""
    return [(thing, rng.randint(2, 9), rng.randint(2, 20)) for thing in rng.sample(THINGS[language], num_things)]


def banknote(total: int) -> int:
    """The smallest one that is worth more."""
    return next(note for note in BANKNOTES if note > total)


def work_out_costs(bought: list[Purchase], korean: bool) -> list[Step]:
    """What each thing costs: `pens:3*4=12`."""
    return [
        work_out(number, "*", price, label=f"{thing}:" if korean else f"{thing}s:") for thing, number, price in bought
    ]


def _english(rng: random.Random, bought: list[Purchase], paid: int | None) -> str:
    name = rng.choice(NAMES["en"])
    goods = " and ".join(f"{number} {thing}s" for thing, number, _ in bought)
    priced = " and ".join(f"{number} {thing}s at ${price} each" for thing, number, price in bought)
    prices = ", ".join(f"{thing}s ${price}" for thing, _, price in bought)
    if paid is not None:
        return f"{name} buys {priced} and pays with ${paid}. How much change is there?"
    return rng.choice(
        [
            f"{name} buys {priced}. How many dollars is that?",
            f"Prices for one: {prices}. What do {goods} cost together?",
        ]
    )


def _korean(rng: random.Random, bought: list[Purchase], paid: int | None) -> str:
    name = attach(rng.choice(NAMES["ko"]), "은/는")
    goods = [f"{thing} {number}{COUNTERS[thing]}" for thing, number, _ in bought]
    priced = [f"{price}원짜리 {good}" for good, (_, _, price) in zip(goods, bought, strict=True)]
    prices = ", ".join(f"{thing} 한 {COUNTERS[thing]} {price}원" for thing, _, price in bought)
    if paid is not None:
        return f"{name} {_object(priced)} 사고 {paid}원을 냈습니다. 거스름돈은 몇 원입니까?"
    return rng.choice(
        [
            f"{name} {_object(priced)} 샀습니다. 모두 몇 원입니까?",
            f"값은 {prices}입니다. {attach(_and(goods), '은/는')} 모두 몇 원입니까?",
        ]
    )


def _object(goods: list[str]) -> str:
    return attach(_and(goods), "을/를")


def _and(goods: list[str]) -> str:
    *earlier, last = goods
    return "".join(f"{attach(good, '과/와')} " for good in earlier) + last


FAMILY = our_family("shopping", compose)
