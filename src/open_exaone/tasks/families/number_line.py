"""Where a point ends that moves along a line: `grid_walk` with one direction less. No worked thought."""

import random

from open_exaone.tasks.families.grid_walk import MOVES, ask, moves
from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.thoughts import running_total


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """Two to four moves of 2 to 9 from 10 to 30, harder five to seven."""
    start = rng.randint(10, 30)
    along = [name for name, (axis, _) in MOVES[language].items() if axis == 0]
    walk = moves(rng, along, harder)
    steps = running_total([start, *(MOVES[language][name][1] * distance for name, distance in walk)])
    subject = "위치는" if language == "ko" else "The position"
    return Draft(ask(rng, language, str(start), walk), steps[-1].result, subject, tuple(steps))


FAMILY = our_family("number_line", compose, "unworked")
