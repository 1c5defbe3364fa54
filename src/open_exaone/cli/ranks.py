"""`--ranks`: the same command in several processes."""

import sys

from open_exaone.base.errors import ConfigError


def starts_ranks(number: int | None) -> bool:
    """Whether this process is to start ranks: not where it is one.

    Raises:
        ConfigError: it is one of another number of ranks.
    """
    from open_exaone.train.parallel.place import own_place

    place = own_place()
    if number is not None and place is not None and place.size != number:
        raise ConfigError(f"--ranks {number}: {place.size} ranks were started, by torchrun perhaps: leave --ranks out")
    return place is None and number is not None and number != 1


def start_ranks(number: int) -> int:
    """Runs the command line that started this process in so many others: the exit status."""
    from open_exaone.pipeline.launch import launch

    return launch(sys.argv[1:], number)
