"""`exaone data filter`: the problems that a model solves sometimes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from open_exaone.base.terminal import Console
from open_exaone.cli.data_sources import Problems, read_problem_sources
from open_exaone.cli.eval import check_engine
from open_exaone.cli.flags import HubSet, JudgeLimits, MachineFlags, Repeated, RowFormat, read_options


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
    max_new_tokens: int = 1024
    """The longest reply in tokens, its thought included."""
    temperature: float = 1.0
    """Sampling temperature."""
    mode: Literal["reasoning", "non_reasoning"] = "reasoning"
    """The mode in which all problems are asked."""
    seed: int = 0
    """The seed of the samples."""
    stage: str | None = None
    """The stage of the run whose model is asked; its last finished stage if left out."""
    engine: str = "local"
    """What generates the replies: local, vllm, vllm_server, or the address of an OpenAI-compatible endpoint; see
    `exaone eval --help`."""
    engine_option: Repeated = None
    """An option of the engine, such as tensor_parallel_size=4 (vllm); may be repeated."""
    concurrency: int | None = None
    """The number of requests that a server gets at the same time; 32, or 256 with vllm_server, if left out."""
    columns: RowFormat = field(default_factory=RowFormat)
    domain: str | None = None
    """The subject of all rows; --field domain=COLUMN reads it from each row instead."""
    hub: HubSet = field(default_factory=HubSet)
    settings: JudgeLimits = field(default_factory=JudgeLimits)
    machine: MachineFlags = field(default_factory=MachineFlags)

    def config(self) -> "dict[str, Any]":
        """What a `FilterConfig` takes."""
        names = ("min_correct", "max_correct", "max_new_tokens", "temperature", "mode")
        return {"num_samples": self.samples, **{name: getattr(self, name) for name in names}}


def filter_(
    model: Annotated[
        str,
        Parameter(
            help="A run's folder, a model's folder, owner/name[@revision] on the hub, or an endpoint's address; with "
            "--engine ADDRESS, the model's name at that endpoint."
        ),
    ],
    sources: Problems,
    /,
    *,
    args: DataFilterArguments,
) -> int:
    """Keep the problems that a model solves sometimes, for RL to learn from.

    Give the same command again to continue one that was interrupted; with
    other --min-correct and --max-correct, the samples that are there are used.

    The exit code is 1 if a sample could not be had.
    """
    from open_exaone.base.config import validate
    from open_exaone.pipeline.evaluate import Choices
    from open_exaone.pipeline.filter_files import filter_files
    from open_exaone.present.filtered import print_filter
    from open_exaone.present.terminal import Progress
    from open_exaone.train.config import FilterConfig

    machine, console = args.machine.machine(), Console()
    check_engine(model, args.engine, args.concurrency, args.machine)
    config = validate(FilterConfig, args.config(), "exaone data filter")
    data = read_problem_sources(sources, args.columns, args.hub, args.domain)
    options = read_options(args.engine_option)
    engine = Choices(stage=args.stage, engine=args.engine, concurrency=args.concurrency, engine_options=options)
    with Progress(console) as progress:
        kept = filter_files(
            model,
            data,
            config,
            args.out,
            engine=engine,
            seed=args.seed,
            machine=machine,
            settings=args.settings.read(),
            on_event=progress,
        )
    print_filter(kept, console)
    console.print(f"Kept: {args.out / 'kept.jsonl'}\nReport: {args.out / 'report.html'}", soft_wrap=True)
    return 1 if kept["num_missing"] else 0
