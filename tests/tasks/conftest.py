"""A few hundred problems of every family and language, drawn once."""

import pytest

from open_exaone.base.records import Problem
from open_exaone.tasks.registry import FAMILIES

NUM_DRAWN = 300

Drawn = dict[tuple[str, str], tuple[Problem, ...]]


@pytest.fixture(scope="session")
def drawn() -> Drawn:
    """(family, language) -> its problems of the seeds 0 to 299."""
    return {
        (family.name, language): tuple(family.draw(seed, language) for seed in range(NUM_DRAWN))
        for family in FAMILIES.values()
        for language in family.languages
    }
