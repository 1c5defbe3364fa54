"""Which rank this process is, as torchrun and `exaone run --ranks` say it in the environment. Loads no torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from open_exaone.base.errors import ConfigError

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Place:
    """A process among `size` ranks."""

    rank: int
    size: int
    local_rank: int  # on its machine
    address: str  # where the ranks meet
    port: int
    has_agent: bool = False  # torchrun answers there; otherwise rank 0 does
    attempt: int = 0  # how often torchrun has started the ranks again


def own_place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """None where this process is alone.

    Raises:
        ConfigError: a variable is missing or no number.
    """
    if int(_number(environment, "WORLD_SIZE", "1")) < 2:
        return None
    if missing := [name for name in NAMES if not environment.get(name)]:
        raise ConfigError(
            f"WORLD_SIZE = {environment['WORLD_SIZE']} in the environment, but {', '.join(missing)} is missing: start "
            f"the ranks with `exaone run --ranks N` or torchrun, or unset WORLD_SIZE"
        )
    rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if rank >= size:
        raise ConfigError(f"RANK = {rank} in the environment: must lie below WORLD_SIZE = {size}")
    return Place(
        rank,
        size,
        _number(environment, "LOCAL_RANK", str(rank)),
        environment["MASTER_ADDR"],
        _number(environment, "MASTER_PORT"),
        environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        _number(environment, "TORCHELASTIC_RESTART_COUNT", "0"),
    )


def num_local_ranks(environment: Mapping[str, str] = os.environ) -> int:
    """How many ranks this machine has."""
    return max(1, _number(environment, "LOCAL_WORLD_SIZE", "1"))


def _number(environment: Mapping[str, str], name: str, default: str = "") -> int:
    text = environment.get(name) or default
    if not text.isdecimal():
        raise ConfigError(f"{name} = {text!r} in the environment: must be a whole number")
    return int(text)
