"""What several commands take: small records of flags, flattened into each command's own record."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import Parameter

from open_exaone.base.config import Config, parse_value, validate
from open_exaone.base.errors import ConfigError

if TYPE_CHECKING:
    from open_exaone.pipeline.measure import Machine
    from open_exaone.verify.settings import JudgeSettings

Model = Annotated[
    Path,
    Parameter(
        help="A run's folder, which stands for its last finished model; a model's folder; owner/name[@revision] on the "
        "Hugging Face hub; or the name of the model that comes with Open-EXAONE (`exaone models`)."
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
class SamplingFlags:
    """How replies are sampled; a flag that is left out keeps the default of the suite or the run."""

    max_new_tokens: int | None = None
    """The longest reply in tokens, its thought included; the limit of the suite or the run if left out."""
    temperature: float | None = None
    """Sampling temperature; 0 is greedy decoding; that of the suite or the run if left out."""
    top_p: float | None = None
    """Nucleus sampling: keep the most likely tokens up to this total probability; that of the suite or the run if left
    out."""
    top_k: int | None = None
    """Sample from this many most likely tokens."""
    min_p: float | None = None
    """Sample from tokens that are at least this many times as likely as the most likely one."""
    presence_penalty: float | None = None
    """Subtracted from the logits of every token that the reply already has."""
    frequency_penalty: float | None = None
    """Subtracted from a token's logit once for each time that the reply already has it."""
    repetition_penalty: float | None = None
    """Above 1, makes every token that prompt or reply already has less likely."""
    logit_bias: Repeated = None
    """Added to a token's logit, as ID=BIAS, such as --logit-bias 42=-100; may be repeated."""
    stop_ids: Annotated[list[int] | None, Parameter(negative="", consume_multiple=True)] = None
    """Further token ids that end a reply."""
    stop: Repeated = None
    """A string that ends a reply and is not part of its text; may be repeated."""
    seed: int | None = None
    """The seed of the samples; that of the suite or the run if left out."""

    def given(self) -> dict[str, Any]:
        """Those that are not left out, as `Sampling` takes them.

        Raises:
            ConfigError: --logit-bias is malformed.
        """
        values = {own.name: value for own in fields(self) if (value := getattr(self, own.name)) is not None}
        if self.logit_bias is not None:
            values["logit_bias"] = dict(map(_bias, self.logit_bias))
        return values


def _bias(text: str) -> tuple[int, float]:
    token, _, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise ConfigError(f"--logit-bias {text}: write it as ID=BIAS, such as --logit-bias 42=-100") from None


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
    """A TOML file, such as a recipe, whose table [judge] limits the time and memory of judging and names, in
    [judge.endpoint], the model that judges."""

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
        Literal["messages", "prompt_completion", "pairs", "unpaired", "problems", "text"] | None,
        Parameter(name="--format"),
    ] = None
    """The format of the rows; recognised by their columns if left out."""
    field: Repeated = None
    """The column that holds a field, as FIELD=COLUMN, such as --field question=Question; may be repeated."""
    ignore: Repeated = None
    """A column that is not read though its name is known; may be repeated."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class HubSet:
    """Which part of a data set on the hub is read."""

    config: str | None = None
    """The configuration of a data set on the hub."""
    split: str | None = None
    """The split of a data set on the hub; train if left out."""


def read_options(given: Sequence[str] | None, flag: str = "--engine-option") -> dict[str, Any]:
    """["max_model_len=65536"] as {"max_model_len": 65536}; a value is read as TOML, or as text where it is none.

    Raises:
        ConfigError: one is malformed.
    """
    options = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"{flag} {text}: write it as NAME=VALUE, such as {_EXAMPLES[flag]}")
        options[name] = parse_value(value)
    return options


_EXAMPLES = {"--engine-option": "tensor_parallel_size=4", "--limit": "deadline_s=60"}

Record = TypeVar("Record", bound=Config)


def read_record(schema: type[Record], values: dict[str, Any], command: str) -> Record:
    """A record of settings from flags.

    Args:
        values: by the record's own names; `num_samples` is the flag --samples.
        command: what errors begin with.

    Raises:
        ConfigError: a value is wrong; names the flags, not the settings that they stand for.
    """
    try:
        return validate(schema, values, command)
    except ConfigError as error:
        raise ConfigError(_by_flags(str(error), command, schema.model_fields)) from error


def flag_of(name: str) -> str:
    """max_correct as --max-correct."""
    return "--" + {"num_samples": "samples"}.get(name, name).replace("_", "-")


def _by_flags(text: str, command: str, names: Iterable[str]) -> str:
    """`max_correct = 5` as `--max-correct 5`: names before an equals sign, at a line's head, and with an underscore."""
    known = "|".join(sorted(names, key=len, reverse=True))
    text = re.sub(rf"\b({known}) = ", lambda found: f"{flag_of(found[1])} ", text)
    text = re.sub(rf"(?m)^({re.escape(command)}: )({known})\b", lambda found: found[1] + flag_of(found[2]), text)
    return re.sub(rf"(?<![\w-])(?=\w*_)({known})\b", lambda found: flag_of(found[1]), text)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as --seeds takes them, such as "0,1,2".

    Raises:
        ConfigError: one is no number that a seed may be, or is there twice.
    """
    from open_exaone.pipeline.ablation_config import each_once

    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdecimal() and len(part) < 20 and int(part) <= 2**31):
            raise ConfigError(
                f"--seeds {text}: {part!r} is no seed: write whole numbers from 0 to {2**31:,}, such as 0,1,2,3,4"
            )
    try:
        return each_once(tuple(map(int, parts)))
    except ValueError as error:
        raise ConfigError(f"--seeds {text}: {error}") from error
