"""The data sets of reasoning-gym that are small enough for a small model and cannot be guessed; nobody here wrote them.

`tests/gym_rule.py` says in words and in code which data sets are taken: all that fulfil it, none besides. `SETTINGS`
makes them easier by their own means, each still good for 2,500 different questions in 8,000 draws, and gives them
longer problems, of which none is like those before. Questions, answers and scores are reasoning-gym's; the thoughts are
ours (`gym_work`).
"""

from functools import cache
from typing import Any

from open_exaone.base.records import Problem
from open_exaone.tasks.family import Drawn, Family, problem_id, say
from open_exaone.tasks.gym_work import WORK
from open_exaone.tasks.thoughts import written

# name -> what both have, what the usual problems have, what the harder ones have
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "chain_sum": ({"max_digits": 1}, {"min_terms": 3, "max_terms": 5}, {"min_terms": 6, "max_terms": 8}),
    "simple_equations": (
        {"operators_weights": [0.5, 0.5, 0.0]},  # for +, -, *
        {"max_value": 25, "max_terms": 3},
        {"min_value": 26, "max_value": 60, "min_terms": 3, "max_terms": 4},  # terms are merged: more are no more steps
    ),
    "spell_backward": ({}, {"max_word_len": 5}, {"min_word_len": 6, "max_word_len": 8}),
}


def gym_family(name: str) -> Family:
    """A data set as a family, in English."""

    def draw(seed: int, language: str, harder: bool = False) -> Drawn:
        entry = _data_set(name, harder)[seed]
        id, steps = problem_id(name, language, seed, harder), WORK[name](entry["metadata"])
        problem = Problem(
            id=id,
            task=name,
            language=language,
            question=entry["question"],
            answer=entry["answer"],
            verifier="reasoning_gym",
            thought=written(steps),
            reply=say("The answer", entry["answer"], language),
            metadata={"source_dataset": name, "entry": entry},
        )
        return Drawn(problem, steps)

    return Family(name, ("en",), "worked", draw)


@cache
def _data_set(name: str, harder: bool) -> Any:
    """The data set of seed 0, in which item i is drawn from seed 0 + i: so an index is a seed."""
    from reasoning_gym import create_dataset  # a second's import, paid on first use

    both, usual, longer = SETTINGS[name]
    return create_dataset(name, seed=0, **both, **(longer if harder else usual))
