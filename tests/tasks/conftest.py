"""A few hundred problems of every family, language and length, drawn once."""

import pytest

from open_exaone.tasks.family import Drawn
from open_exaone.tasks.registry import FAMILIES

NUM_DRAWN = 300

Draws = dict[tuple[str, str, bool], tuple[Drawn, ...]]


@pytest.fixture(scope="session")
def draws() -> Draws:
    """(family, language, harder) -> what is drawn with the seeds 0 to 299."""
    return {
        (family.name, language, harder): tuple(family.draw(seed, language, harder) for seed in range(NUM_DRAWN))
        for family in FAMILIES.values()
        for language in family.languages
        for harder in (False, True)
    }
