"""What one generated program may take."""

from dataclasses import dataclass, fields

from open_exaone.base.machine import CLOCK_FACTOR


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one program. A busy machine does not change a verdict: what is limited is processor time.

    Raises:
        ValueError: a limit is not a positive number.
    """

    time_s: float = 5.0  # seconds of processor time, of all its threads together
    memory_bytes: int = 1 << 30  # bytes that it may allocate
    output_bytes: int = 8 << 20  # bytes, of stdout and of stderr each
    file_bytes: int = 64 << 20  # bytes, of the files in its folder together
    num_threads: int = 16  # threads at one time, beside its first

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < 1 << 62:
                raise ValueError(f"{field.name}: {value!r} is not a limit; give a positive number")

    @property
    def clock_s(self) -> float:
        """Seconds by the clock, after which a program is ended whatever it did with them."""
        return CLOCK_FACTOR * self.time_s


def too_long(seconds: float) -> str:
    """Why something was ended that used up its processor time."""
    return f"It took longer than {seconds:g} seconds of processor time."


def too_long_by_the_clock(seconds: float) -> str:
    """Why something was ended that did not use up its processor time of `seconds`, but never came to an end."""
    return (
        f"It did not end within {CLOCK_FACTOR * seconds:g} seconds by the clock, {CLOCK_FACTOR} times its "
        f"{seconds:g} seconds of processor time."
    )
