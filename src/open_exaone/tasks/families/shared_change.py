"""The change that two people get who pay together: `shopping` of `two_shoppers`. No worked thought."""

import random

from open_exaone.tasks.families.shopping import NAMES, banknote, purchases, work_out_costs
from open_exaone.tasks.families.two_shoppers import story
from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.thoughts import running_total, work_out


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Two people, harder three, each with 2 to 9 of one thing at 2 to 20 dollars or won, and a banknote."""
    bought = purchases(rng, language, 3 if harder else 2)
    names = rng.sample(NAMES[language], len(bought))
    costs = [number * price for _, number, price in bought]
    paid = banknote(sum(costs))
    korean = language == "ko"
    if korean:
        asked = f"함께 {paid}원을 냈습니다. 거스름돈은 몇 원입니까?"
    else:
        asked = f"They pay together with ${paid}. How much change is there?"
    steps = (*work_out_costs(bought, korean), *running_total(costs), work_out(paid, "-", sum(costs)))
    subject = "거스름돈은" if korean else "The change"
    return Draft(f"{story(language, names, bought)} {asked}", steps[-1].result, subject, steps)


FAMILY = our_family("shared_change", compose, "unworked")
