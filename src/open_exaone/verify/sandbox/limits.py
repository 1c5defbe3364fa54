"""What one generated program may take."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one program; the same number bounds its processor time and its time by the clock.

    Raises:
        ValueError: a limit is not a positive number.
    """

    time_s: float = 5.0  # seconds, by the clock; by the processor as well, rounded up
    memory_bytes: int = 1 << 30  # bytes that it may allocate
    output_bytes: int = 8 << 20  # bytes, of stdout and of stderr each
    file_bytes: int = 64 << 20  # bytes, of the files in its folder together
    num_threads: int = 16  # threads at one time, beside its first

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < 1 << 62:
                raise ValueError(f"{field.name}: {value!r} is not a limit; give a positive number")
