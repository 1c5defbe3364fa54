"""Every family of problems by its name; reasoning-gym itself is imported when a problem is first drawn."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import ConfigError
from open_exaone.tasks.families import (
    bus_ride,
    drill,
    egg_boxes,
    grid_walk,
    height_order,
    hidden_codes,
    secret_number,
    shared_change,
    shopping,
    two_shoppers,
)
from open_exaone.tasks.family import GROUPS, Family
from open_exaone.tasks.gym import SETTINGS, gym_family

_OURS = (
    *(grid_walk, height_order, secret_number, shopping, two_shoppers, shared_change, bus_ride, egg_boxes, drill),
    hidden_codes,
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {name: gym_family(name) for name in SETTINGS} | {module.FAMILY.name: module.FAMILY for module in _OURS}
)


def families_of(names: Iterable[str]) -> tuple[Family, ...]:
    """The families of these names, of which some may be groups: "worked", "unworked", "unseen", "drill", "long".

    Raises:
        ConfigError: a name is neither; names the known ones.
    """
    chosen: dict[str, Family] = {}
    for name in names:
        found = [family for family in FAMILIES.values() if family.group == name] or [get_family(name)]
        chosen |= {family.name: family for family in found}
    return tuple(chosen.values())


def get_family(name: str) -> Family:
    """The family of that name.

    Raises:
        ConfigError: there is none; names the known ones.
    """
    if name not in FAMILIES:
        close = did_you_mean(name, [*FAMILIES, *GROUPS])
        raise ConfigError(
            f"family {name!r}: unknown{close} The families are {', '.join(FAMILIES)}; the groups {', '.join(GROUPS)}"
        )
    return FAMILIES[name]
