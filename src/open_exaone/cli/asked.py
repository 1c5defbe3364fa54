"""What `exaone eval` may be asked, flag by flag."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from open_exaone.base.config import parse_value
from open_exaone.base.errors import ConfigError

Rows = Annotated[
    list[str] | None,
    Parameter(negative="", help="Where a benchmark's rows are, such as --rows math_500=FILE; may be repeated."),
]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The flags that say what is measured and how; a suite's own values hold where one is left out."""

    suite: str | None = None
    """A suite, a benchmark (`exaone suites`), several (a,b), a set of the run's problems, a .toml or .jsonl file, or
    FILE.py:function; of a run, its own set if left out."""
    stage: str | None = None
    """Which stage's model of the run; its last if left out."""
    engine: str = "local"
    """What generates: local, vllm, or the address of an OpenAI-compatible endpoint."""
    engine_option: Annotated[list[str] | None, Parameter(negative="")] = None
    """Of vLLM, such as tensor_parallel_size=4, or of an endpoint, such as timeout_s=600; may be repeated."""
    samples: int | None = None
    """Samples of each problem; the suite's if left out, as with all below."""
    limit: int | None = None
    """Only so many problems of each benchmark."""
    budget: Annotated[list[int] | None, Parameter(negative="", consume_multiple=True)] = None
    """Thinking budgets in tokens, such as --budget 1024 4096; each is measured by itself."""
    mode: Literal["reasoning", "non-reasoning"] | None = None
    """Only the suite's tasks in this mode."""
    max_new_tokens: int | None = None
    """The longest reply, thought included."""
    temperature: float | None = None
    """Of the samples; 0 is greedy."""
    top_p: float | None = None
    """Of the samples."""
    seed: int | None = None
    """Of the samples."""
    rows: Rows = None
    skip_missing: Annotated[bool, Parameter(negative="")] = False
    """Leave out benchmarks that cannot be loaded."""
    changed: Annotated[bool, Parameter(negative="")] = False
    """Take benchmarks whose content differs from what we know."""
    until_width: float | None = None
    """Stop a task once its 95% interval is so wide to each side, such as 0.02."""
    compare: Annotated[bool, Parameter(negative="")] = False
    """Set the published numbers beside."""
    concurrency: int = 32
    """Requests in flight, of an endpoint."""

    def choices(self) -> dict[str, Any]:
        """The fields of `story.evaluate.Choices`.

        Raises:
            ConfigError: --rows is malformed.
        """
        same = ("suite", "stage", "engine", "limit", "max_new_tokens", "temperature", "top_p", "seed", "skip_missing")
        return {
            **{name: getattr(self, name) for name in (*same, "changed", "until_width", "compare", "concurrency")},
            "num_samples": self.samples,
            "budgets": tuple(self.budget) if self.budget else None,
            "modes": (self.mode,) if self.mode else None,
            "rows": read_rows(self.rows),
            "engine_options": read_options(self.engine_option),
        }

    def flags(self) -> list[str]:
        """Those that were given."""
        given = [name for name, value in asdict(self).items() if value != getattr(Asked(), name)]
        return [f"--{name.replace('_', '-')}" for name in given]


def read_options(given: list[str] | None) -> dict[str, Any]:
    """["max_model_len=65536"] as {"max_model_len": 65536}; a value is TOML's, or a text failing that.

    Raises:
        ConfigError: one is malformed.
    """
    options = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"--engine-option {text}: write it as NAME=VALUE, such as tensor_parallel_size=4")
        options[name] = parse_value(value)
    return options


def read_rows(given: list[str] | None) -> dict[str, str]:
    """["math_500=FILE"] as {"math_500": "FILE"}.

    Raises:
        ConfigError: one is malformed, or stands twice.
    """
    rows: dict[str, str] = {}
    for text in given or []:
        name, _, place = text.partition("=")
        if not (name and place):
            raise ConfigError(f"--rows {text}: write it as BENCHMARK=PLACE, such as --rows math_500=math500.jsonl")
        if name in rows:
            raise ConfigError(f"--rows {text}: {name} is given twice")
        rows[name] = place
    return rows
