"""`exaone data filter`: the problems that a model solves sometimes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from open_exaone.base.terminal import Console
from open_exaone.cli.asking import Asked, AskingFlags
from open_exaone.cli.data_sources import Problems
from open_exaone.cli.flags import SamplingFlags, read_record

if TYPE_CHECKING:
    from open_exaone.train.parallel.world import World


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FilterSampling(SamplingFlags):
    """How `exaone data filter` samples replies."""

    max_new_tokens: int | None = None
    """The longest reply in tokens, its thought included; 1024 if left out."""
    temperature: float | None = None
    """Sampling temperature, above 0; 1 if left out."""
    top_p: float | None = None
    """Nucleus sampling: keep the most likely tokens up to this total probability; 1 if left out."""
    seed: int | None = None
    """The seed of the samples; 0 if left out."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FilterAsking(AskingFlags):
    """Which model is asked, and how."""

    drawing: FilterSampling = field(default_factory=FilterSampling)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataFilterArguments:
    """The flags of `exaone data filter`."""

    out: Path
    """A folder that gets kept.jsonl, pass_rates.jsonl, filter.json, report.html and the samples."""
    samples: int = 8
    """Samples of each problem."""
    min_correct: int = 0
    """Drop problems of which fewer samples are correct."""
    max_correct: int | None = None
    """Drop problems of which more samples are correct; samples - 1 if left out, which drops those always solved."""
    mode: Literal["reasoning", "non_reasoning"] = "reasoning"
    """The mode in which all problems are asked."""
    asking: FilterAsking = field(default_factory=FilterAsking)

    def config(self) -> "dict[str, Any]":
        """What a `FilterConfig` takes."""
        own = {name: getattr(self, name) for name in ("min_correct", "max_correct", "mode")}
        return {"num_samples": self.samples, **own, **self.asking.sampling()}


def filter_(
    model: Asked,
    sources: Problems,
    /,
    *,
    args: DataFilterArguments,
) -> int:
    """Keep the problems that a model solves sometimes, for RL to learn from.

    Run the same command again to resume one that was interrupted; with
    other --min-correct and --max-correct, the samples that are there are used.

    The exit code is 1 if a sample could not be generated.
    """
    return args.asking.sample(model, lambda world: _filter(model, sources, args, world))


def _filter(model: str, sources: Sequence[str], args: DataFilterArguments, world: "World") -> int:
    """Filters and prints: the exit status."""
    from open_exaone.pipeline.filter_files import filter_files
    from open_exaone.present.filtered import print_filter
    from open_exaone.present.terminal import Progress
    from open_exaone.train.config import FilterConfig

    console = Console()
    config = read_record(FilterConfig, args.config(), "exaone data filter")
    with Progress(console) as progress:
        kept = filter_files(args.asking.read(model, sources, args.out, progress, world), config)
    print_filter(kept, console)
    console.print(f"Kept: {args.out / 'kept.jsonl'}\nReport: {args.out / 'report.html'}", soft_wrap=True)
    return 1 if kept["num_missing"] else 0
