"""`exaone data build`: SFT data from a teacher's verified responses."""

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
class BuildSampling(SamplingFlags):
    """How `exaone data build` samples replies."""

    max_new_tokens: int | None = None
    """The longest reply in tokens, its thought included; 8192 if left out."""
    temperature: float | None = None
    """Sampling temperature; 0 is greedy decoding; 0.6 if left out."""
    top_p: float | None = None
    """Nucleus sampling: keep the most likely tokens up to this total probability; 0.95 if left out."""
    seed: int | None = None
    """The seed of the samples; 0 if left out."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BuildAsking(AskingFlags):
    """Which model is asked, and how."""

    drawing: BuildSampling = field(default_factory=BuildSampling)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataBuildArguments:
    """The flags of `exaone data build`."""

    out: Path
    """A folder that gets sft.jsonl, dropped.jsonl, sft.toml, build.json, report.html and the samples."""
    samples: int = 4
    """Responses drawn to each problem in each mode."""
    keep: int = 2
    """The most responses kept of a problem in a mode."""
    min_distance: float = 0.3
    """How unlike every other kept response to the problem a response must be, 0 (any) to 1 (nothing in common)."""
    mode: Literal["reasoning", "non_reasoning", "both"] = "reasoning"
    """The mode in which the teacher is asked; both asks all problems in each."""
    reasoning_ratio: float = 1.5
    """With --mode both, tokens in reasoning mode for each token in non-reasoning mode, as sft.toml mixes them."""
    max_tokens: int | None = None
    """Drop responses of more tokens, as the teacher counts them."""
    asking: BuildAsking = field(default_factory=BuildAsking)

    def config(self) -> "dict[str, Any]":
        """What a `BuildConfig` takes."""
        own = ("keep", "min_distance", "mode", "reasoning_ratio", "max_tokens")
        return {"num_samples": self.samples, **{name: getattr(self, name) for name in own}, **self.asking.sampling()}


def build(
    teacher: Asked,
    sources: Problems,
    /,
    *,
    args: DataBuildArguments,
) -> int:
    """Build SFT data from a teacher's verified responses to problems with answers.

    Run the same command again to resume one that was interrupted; with
    other --keep, --min-distance or --max-tokens, the samples that are there are
    used.

    The exit code is 1 if a sample could not be generated.
    """
    return args.asking.sample(teacher, lambda world: _build(teacher, sources, args, world))


def _build(teacher: str, sources: Sequence[str], args: DataBuildArguments, world: "World") -> int:
    """Builds and prints: the exit status."""
    from open_exaone.pipeline.build import build_files
    from open_exaone.pipeline.responses import BuildConfig
    from open_exaone.present.built import print_build
    from open_exaone.present.terminal import Progress

    console = Console()
    config = read_record(BuildConfig, args.config(), "exaone data build")
    with Progress(console) as progress:
        built, stats = build_files(args.asking.read(teacher, sources, args.out, progress, world), config)
    print_build(built, stats, console)
    console.print(
        f"Rows: {args.out / 'sft.jsonl'}; dropped ones: {args.out / 'dropped.jsonl'}; report: "
        f"{args.out / 'report.html'}\nTrain on them: exaone train {args.out / 'sft.toml'} --set model=MODEL",
        soft_wrap=True,
    )
    return 1 if built["num_missing"] else 0
