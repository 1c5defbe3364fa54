"""`--ranks`: the same command in several processes."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from open_exaone.base.errors import ConfigError

if TYPE_CHECKING:
    from open_exaone.rollout.team import Serve
    from open_exaone.train.parallel.world import World


MAX_RESTARTS = 1000


def starts_ranks(number: int | None, restarts: int | None = None) -> bool:
    """Whether this process is to start ranks: not where it is one.

    Raises:
        ConfigError: the number is below 1, this is one of another number of ranks, or restarts are asked for and
            nothing is started.
    """
    from open_exaone.train.parallel.place import own_place

    if number is not None and number < 1:
        raise ConfigError(f"--ranks {number}: must be at least 1")
    if restarts is not None and not (0 <= restarts <= MAX_RESTARTS and (number or 1) > 1):
        raise ConfigError(
            f"--restarts {restarts}: must be 0 to {MAX_RESTARTS}, beside --ranks of 2 or more; torchrun restarts ranks "
            "with --max-restarts"
        )

    place = own_place()
    if number is not None and place is not None and place.size != number:
        raise ConfigError(f"--ranks {number}: {place.size} ranks were started, by torchrun perhaps: leave --ranks out")
    return place is None and number is not None and number != 1


def sample_in_ranks(
    number: int | None, device: str, act: "Callable[[World], int]", serve: "Callable[[], Serve]"
) -> int:
    """Runs a command that samples: in so many ranks where --ranks or torchrun has it so, otherwise in this process.

    Args:
        number: what --ranks says.
        device: what --device says.
        act: the command, on the first rank; gives its exit status.
        serve: what the other ranks do meanwhile.
    """
    from open_exaone.pipeline.together import joined_to_sample
    from open_exaone.train.parallel.place import own_place
    from open_exaone.train.parallel.world import ALONE

    if starts_ranks(number):
        return start_ranks(number or 1)
    if own_place() is None:
        return act(ALONE)
    with joined_to_sample(device) as world:
        status = world.lead(lambda: act(world), None if world.is_first else serve())
    return status if world.is_first else 0


def start_ranks(number: int, restarts: int | None = None) -> int:
    """Runs the command line that started this process in so many others: the exit status."""
    from open_exaone.pipeline.launch import launch

    return launch(sys.argv[1:], number, restarts or 0)
