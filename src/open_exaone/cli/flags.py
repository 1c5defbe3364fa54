"""What several commands take: small records of flags, flattened into each command's own record."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError

if TYPE_CHECKING:
    from open_exaone.pipeline.measure import Machine
    from open_exaone.verify.settings import JudgeSettings

Model = Annotated[
    Path,
    Parameter(
        help="A run's folder, which stands for its last finished model; a model's folder; or owner/name[@revision] on "
        "the Hugging Face hub."
    ),
]
Switch = Annotated[bool, Parameter(negative="")]
Repeated = Annotated[list[str] | None, Parameter(negative="")]
Overrides = Annotated[list[str] | None, Parameter(name="--set", negative="")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how tensors are computed."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """The device to compute on; auto takes a GPU if there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """The number format to compute in; auto takes bfloat16 where the device is fast at it."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Isolation:
    """How generated programs are run."""

    unsafe_code_execution: Switch = False
    """Run generated programs even where this machine cannot isolate them."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MachineFlags(Isolation, Compute):
    """Where tensors are computed and programs run."""

    def machine(self) -> "Machine":
        from open_exaone.pipeline.measure import Machine

        return Machine(self.device, self.dtype, self.unsafe_code_execution)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BenchmarkRows:
    """Where the rows of benchmarks are."""

    rows: Repeated = None
    """Where a benchmark's rows are, such as --rows math_500=FILE; may be repeated."""

    def by_benchmark(self) -> dict[str, str]:
        """["math_500=FILE"] as {"math_500": "FILE"}.

        Raises:
            ConfigError: one is malformed, or a benchmark is given twice.
        """
        places: dict[str, str] = {}
        for text in self.rows or []:
            name, _, place = text.partition("=")
            if not (name and place):
                raise ConfigError(f"--rows {text}: write it as BENCHMARK=PLACE, such as --rows math_500=math500.jsonl")
            if name in places:
                raise ConfigError(f"--rows {text}: {name} is given twice")
            places[name] = place
        return places


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class JudgeLimits:
    """What judging may cost."""

    settings: Path | None = None
    """A TOML file, such as a recipe, whose table [judge] limits the time and memory of judging."""

    def read(self) -> "JudgeSettings | None":
        """The file's table [judge].

        Raises:
            ConfigError: the file cannot be read, or a value is wrong.
        """
        from open_exaone.base.config import read_toml, validate
        from open_exaone.verify.settings import JudgeSettings

        if self.settings is None:
            return None
        table = read_toml(self.settings).get("judge", {})
        if not isinstance(table, dict) or "unsafe_code_execution" in table:
            raise ConfigError(
                f"{self.settings}: [judge] must be a table of limits; isolation is lifted by --unsafe-code-execution"
            )
        return validate(JudgeSettings, table, f"{self.settings}: [judge]")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """How rows of training data are read."""

    format_: Annotated[
        Literal["messages", "prompt_completion", "pairs", "problems", "text"] | None, Parameter(name="--format")
    ] = None
    """The format of the rows; recognised by their columns if left out."""
    field: Repeated = None
    """The column that holds a field, as FIELD=COLUMN, such as --field question=Question; may be repeated."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class HubSet:
    """Which part of a data set on the hub is read."""

    config: str | None = None
    """The configuration of a data set on the hub."""
    split: str | None = None
    """The split of a data set on the hub; train if left out."""
