"""Every family of problems by its name; reasoning-gym itself is imported when a problem is first drawn."""

from collections.abc import Mapping
from types import MappingProxyType

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import ConfigError
from open_exaone.tasks.families import bus_ride, grid_walk, height_order, secret_number, shopping
from open_exaone.tasks.family import Family
from open_exaone.tasks.gym import SETTINGS, gym_family

_OURS = (bus_ride, grid_walk, height_order, secret_number, shopping)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {name: gym_family(name) for name in SETTINGS} | {module.FAMILY.name: module.FAMILY for module in _OURS}
)


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        ConfigError: there is none; names the known ones.
    """
    if name not in FAMILIES:
        raise ConfigError(
            f"family {name!r}: unknown{did_you_mean(name, FAMILIES)} The families are {', '.join(FAMILIES)}"
        )
    return FAMILIES[name]
