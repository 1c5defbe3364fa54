"""What a benchmark that code makes is asked for: "1024,4096:depths=3,seed=1"."""

from collections.abc import Mapping
from dataclasses import dataclass

from open_exaone.base.config import short
from open_exaone.base.errors import ConfigError

PROMPTS = ("short answer", "plain")  # whether the user turn says where to put the answer


@dataclass(frozen=True, slots=True)
class Spec:
    """A list, and options by name; every error names the benchmark, the option and what is allowed."""

    benchmark: str
    items: tuple[str, ...]
    options: Mapping[str, str]

    def whole(self, name: str, low: int, high: int) -> int:
        """An option that is a whole number from `low` to `high`.

        Raises:
            ConfigError: it is none.
        """
        return whole(self.benchmark, name, self.options[name], low, high)

    def one_of(self, name: str, known: tuple[str, ...]) -> str:
        """An option that is one of these words.

        Raises:
            ConfigError: it is none.
        """
        if self.options[name] not in known:
            written = short(self.options[name])
            raise ConfigError(f"{self.benchmark}: {name} = {written}: must be one of {', '.join(known)}")
        return self.options[name]

    def number(self, name: str, low: float, high: float) -> float:
        """An option that is a number from `low` to `high`.

        Raises:
            ConfigError: it is none.
        """
        written = self.options[name]
        try:
            value = float(written)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:  # not a number fails too
            raise ConfigError(f"{self.benchmark}: {name} = {short(written)}: must be a number from {low:g} to {high:g}")
        return value


def read_spec(benchmark: str, text: str, items: str, options: Mapping[str, str]) -> Spec:
    """Reads "A,B:name=value,name=value"; either half may be left out.

    Args:
        items: the list where none is given, written in the same way.
        options: every option that there is, with its value where it is left out.

    Raises:
        ConfigError: an option is unknown or has no value.
    """
    first, _, second = text.partition(":")
    chosen = dict(options)
    for pair in _parts(second):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if name not in options or not equals or not value:
            known = ", ".join(f"{key}={value}" for key, value in options.items())
            raise ConfigError(f'{benchmark}: {short(pair)}: must be one of the options, such as "{items}:{known}"')
        chosen[name] = value
    return Spec(benchmark, tuple(_parts(first) or _parts(items)), chosen)


def whole(benchmark: str, name: str, written: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`.

    Raises:
        ConfigError: it is none.
    """
    if not (written.isascii() and written.isdigit() and len(written) < 12 and low <= int(written) <= high):
        raise ConfigError(f"{benchmark}: {name} = {short(written)}: must be a whole number from {low} to {high}")
    return int(written)


def _parts(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
