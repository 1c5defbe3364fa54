"""The data sets of reasoning-gym that are small enough for a small model; nobody here wrote them.

`tests/gym_rule.py` says in words and in code which data sets are taken: all that fulfil it, none besides. `SETTINGS`
makes them easier by their own means, each still good for 2,500 different questions in 8,000 draws. Questions, answers
and scores are reasoning-gym's; the thoughts are ours (`gym_work`).
"""

from functools import cache
from typing import Any

from open_exaone.base.records import Problem
from open_exaone.tasks.family import Family, say, think
from open_exaone.tasks.gym_work import WORK

SETTINGS: dict[str, dict[str, Any]] = {
    "basic_arithmetic": {
        "max_digits": 1,
        "operators": ("+", "-"),  # with "*" and no parentheses, reasoning-gym's gold answers forget precedence
        "allow_parentheses": False,
    },
    "chain_sum": {"max_digits": 1},
    "count_bits": {"max_n": 4095},
    "count_primes": {"max_n": 100},
    "gcd": {"max_value": 60},
    "letter_counting": {"min_words": 3, "max_words": 6},
    "simple_equations": {"max_terms": 3, "max_value": 9, "operators_weights": [0.5, 0.5, 0.0]},  # for +, -, *
    "spell_backward": {"max_word_len": 5},
}


def gym_family(name: str) -> Family:
    """A data set as a family, in English. Half of them have no worked thought: `gym_work` says which have one.

    `basic_arithmetic` and `letter_counting` ask for skills of others' thoughts: sums, as in `chain_sum`, and
    spelling, as in `spell_backward`. `count_bits` and `count_primes` are on their own.
    """
    work = WORK.get(name)

    def draw(seed: int, language: str) -> Problem:
        entry = _data_set(name)[seed]
        return Problem(
            id=f"{name}/{language}/{seed}",
            task=name,
            language=language,
            question=entry["question"],
            answer=entry["answer"],
            verifier="reasoning_gym",
            thought=think(work(entry["metadata"]), name, language, seed) if work else None,
            reply=say("The answer", entry["answer"], language),
            metadata={"source_dataset": name, "entry": entry},
        )

    return Family(name, ("en",), work is not None, "reasoning-gym", draw)


@cache
def _data_set(name: str) -> Any:
    """The data set of seed 0, in which item i is drawn from seed 0 + i: so an index is a seed."""
    from reasoning_gym import create_dataset  # a second's import, paid on first use

    return create_dataset(name, seed=0, **SETTINGS[name])
