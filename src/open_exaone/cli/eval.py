"""`exaone eval`: a measurement, or stored replies judged again."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError
from open_exaone.base.terminal import Console
from open_exaone.cli.flags import (
    BenchmarkRows,
    JudgeLimits,
    MachineFlags,
    Repeated,
    SamplingFlags,
    Switch,
    read_options,
)
from open_exaone.cli.ranks import sample_in_ranks

if TYPE_CHECKING:
    from open_exaone.evaluation.report import Report
    from open_exaone.pipeline.evaluate import Choices
    from open_exaone.present.terminal import Progress
    from open_exaone.train.parallel.world import World

SUITE_HELP = (
    "What to measure: a suite or a benchmark (`exaone suites` lists them), several joined by commas, one of the "
    "run's own data sets, a .toml or .jsonl file, or FILE.py:function. If left out, a run's own evaluation is repeated."
)
WITH_RESCORE = frozenset({"compare", "against", "shared_only", "rescore", "kind", "out", "settings", "machine"})


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EvalArguments:
    """The flags of `exaone eval`; where one of how to sample is left out, the suite's own value holds."""

    suite: Annotated[str | None, Parameter(help=SUITE_HELP)] = None
    stage: str | None = None
    """The stage of the run whose model is measured; its last finished stage if left out."""
    engine: str = "local"
    """What generates the replies: local, vllm, vllm_server (this model's own vLLM server: --engine-option url=ADDRESS)
    or the address of an OpenAI-compatible endpoint; several with one model, joined by commas, share the requests."""
    engine_option: Repeated = None
    """An option of the engine: weights=int8 (local), tensor_parallel_size=4 (vllm), timeout_s=600 (a server); may be
    repeated."""
    samples: int | None = None
    """Samples per problem; the suite's own number if left out."""
    limit: int | None = None
    """The number of problems to take from each benchmark; all if left out."""
    budget: Annotated[list[int] | None, Parameter(negative="", consume_multiple=True)] = None
    """Thinking budgets in tokens, such as --budget 1024 4096; the suite is measured once with each of them."""
    mode: Literal["reasoning", "non_reasoning"] | None = None
    """Run only the suite's tasks in this mode."""
    drawing: SamplingFlags = field(default_factory=SamplingFlags)
    rows: BenchmarkRows = field(default_factory=BenchmarkRows)
    skip_missing: Switch = False
    """Leave out benchmarks that cannot be loaded, instead of stopping."""
    changed: Switch = False
    """Accept benchmarks whose content differs from the version that this project has seen."""
    until_width: float | None = None
    """Stop a task once its 95% interval reaches no further than this to each side of its score, such as 0.02."""
    faithfulness: Switch = False
    """Also measure whether answers depend on their thoughts: the model answers again after its own thoughts, cut or
    with a wrong result in them, and after those of other problems."""
    compare: Switch = False
    """Print the published scores beside the measured ones."""
    concurrency: int | None = None
    """The number of requests that each server gets at the same time; 32, or 256 with vllm_server, if left out."""
    ranks: int | None = None
    """Sample and judge in so many processes on this machine, each with the model on its GPU or its share of the cores;
    torchrun starts them too. For the local engine."""
    against: Path | None = None
    """The folder of another evaluation, to compare this one with."""
    shared_only: Switch = False
    """With --against: if the problems differ, compare only those that both evaluations have."""
    rescore: Path | None = None
    """Judge stored replies again instead of generating: an evaluation's folder, or a file of another harness."""
    kind: str | None = None
    """How --rescore FILE compares answers (math if left out); for a folder, your own function that judged it."""
    out: Path | None = None
    """The evaluation's folder; one under runs/eval, named after the model and the suite, if left out."""
    settings: JudgeLimits = field(default_factory=JudgeLimits)
    machine: MachineFlags = field(default_factory=MachineFlags)

    def choices(self) -> "Choices":
        """What the measurement itself takes.

        Raises:
            ConfigError: --rows or --engine-option is malformed, or a number is out of range.
        """
        from open_exaone.pipeline.evaluate import Choices

        same = {theirs.name for theirs in fields(Choices)} & {own.name for own in fields(self)} - {"rows"}
        return Choices(
            **{name: getattr(self, name) for name in same},
            num_samples=self.samples,
            budgets=tuple(self.budget) if self.budget else None,
            modes=(self.mode,) if self.mode else None,
            sampling=self.drawing.given(),
            rows=self.rows.by_benchmark(),
            engine_options=read_options(self.engine_option),
        )

    def changed_from_default(self) -> list[str]:
        """The given flags that choose what is generated."""
        default, given = EvalArguments(), list[str]()
        for name in (own.name for own in fields(self) if own.name not in WITH_RESCORE):
            if name == "drawing":
                given += self.drawing.given()
            elif getattr(self, name) != getattr(default, name):
                given.append(name)
        return [f"--{name.replace('_', '-')}" for name in given]


def eval_(
    model: Annotated[
        str | None,
        Parameter(
            help="A run's folder, a model's folder, owner/name[@revision] on the hub, the name of the model that comes "
            "with Open-EXAONE, or an endpoint's address; with --engine ADDRESS, the model's name at that endpoint."
        ),
    ] = None,
    /,
    *,
    args: EvalArguments = EvalArguments(),
) -> int:
    """Measure a model, with error bars.

    Give the same command again to continue a measurement that was interrupted,
    also with another number of --ranks.
    """
    from open_exaone.pipeline.evaluate import serving_model

    choices = args.choices()
    _check(model, args)
    return sample_in_ranks(
        args.ranks,
        args.machine.device,
        lambda world: _evaluate(model, choices, args, world),
        lambda: serving_model(model or "", choices, args.machine.machine(), args.settings.read()),
    )


def _evaluate(model: str | None, choices: "Choices", args: EvalArguments, world: "World") -> int:
    """Measures and prints: the exit status."""
    from open_exaone.pipeline.source import is_run
    from open_exaone.present.cells import lowest_cells
    from open_exaone.present.faithfulness import sections, show_thought_use
    from open_exaone.present.terminal import Progress, measured_table

    console = Console()
    with Progress(console) as progress:
        folder, report = _measure(model, choices, args, progress, world)
    measured = report.model_dump(mode="json")
    console.print(measured_table(measured, console.width))
    for line in lowest_cells(measured["tasks"]):
        console.print(line, soft_wrap=True)
    show_thought_use(sections(measured["faithfulness"]), console)
    console.print(f"Report with every sample: {folder}/report.html", soft_wrap=True)
    for entry in report.tasks:
        if entry.grader is not None:
            console.print(
                f"{entry.name}: {entry.grader.score:.1%} by the other grader, which agrees on "
                f"{entry.grader.agreement:.1%} of the replies; the others are in {folder}/differences.jsonl",
                soft_wrap=True,
            )
    _print_comparisons(console, args, folder, report)
    if (
        model is not None
        and set(args.changed_from_default()) <= {"--stage", "--concurrency", "--faithfulness", "--ranks"}
        and is_run(Path(model))
    ):
        _print_whether_repeated(console, Path(model), args.stage, report)
    for entry in report.tasks:
        for note in entry.notes:
            console.print(f"note: {entry.name}: {note}", soft_wrap=True)
    is_missing = any(entry.missing for entry in report.tasks) or any(use.missing for use in report.faithfulness)
    return 1 if model is not None and is_missing else 0


def _check(model: str | None, args: EvalArguments) -> None:
    """Refuses flags that contradict one another before anything is generated."""
    from open_exaone.evaluation.store import Store
    from open_exaone.verify.own import is_own

    rescore, kind = args.rescore, args.kind
    if model is None and rescore is None:
        raise ConfigError("eval: name a model to measure, or give --rescore to judge stored replies again")
    if model is not None and rescore is not None:
        raise ConfigError(f"--rescore {rescore}: generates nothing: leave the model {model} out, or --rescore")
    if rescore is not None and (useless := args.changed_from_default()):
        raise ConfigError(f"{useless[0]}: --rescore generates nothing: leave it out")
    if kind is not None and (rescore is None or (rescore.is_dir() and not is_own(kind))):
        raise ConfigError(
            f"--kind {kind}: is for --rescore FILE, or for a folder that your own function judged; a benchmark defines "
            "how it is judged"
        )
    if args.shared_only and args.against is None:
        raise ConfigError("--shared-only: needs --against")
    check_engine(model or "", args.engine, args.concurrency, args.machine)
    check_ranks(model, args.engine, args.ranks)
    if args.against is not None:
        Store(args.against).read()


def check_engine(model: str, engine: str, concurrency: int | None, machine: MachineFlags) -> None:
    """Refuses flags of this machine for a server, and of a server for this machine."""
    from open_exaone.pipeline.evaluate import VLLM_SERVER
    from open_exaone.pipeline.source import is_address

    is_remote = engine == VLLM_SERVER or any(map(is_address, (model, engine)))
    if is_remote and (machine.device, machine.dtype) != ("auto", "auto"):
        raise ConfigError("--device, --dtype: a server has its own: leave them out")
    if concurrency is not None and not is_remote:
        raise ConfigError(f"--concurrency {concurrency}: is for servers: leave it out")


def check_ranks(model: str | None, engine: str, ranks: int | None) -> None:
    """Refuses several ranks where not the local engine samples."""
    from open_exaone.pipeline.source import is_address
    from open_exaone.train.parallel.place import own_place

    if ranks in (None, 1) and own_place() is None:
        return
    flag = "several ranks" if ranks is None else f"--ranks {ranks}"
    if model is None:
        raise ConfigError(f"{flag}: --rescore samples nothing, and judges in one process: run it without ranks")
    if engine == "vllm":
        raise ConfigError(
            f"{flag}: one vLLM computes on several GPUs by itself: give --engine-option tensor_parallel_size=N instead"
        )
    if engine != "local" or is_address(model):
        raise ConfigError(
            f"{flag}: a server is asked by one process, which sends it many requests at the same time: give "
            "--concurrency instead"
        )


def _measure(
    model: str | None, choices: "Choices", args: EvalArguments, progress: "Progress", world: "World"
) -> "tuple[Path, Report]":
    """The folder of the evaluation, and its report."""
    from open_exaone.pipeline.evaluate import evaluate
    from open_exaone.pipeline.rescore import rescore_file, rescore_folder
    from open_exaone.verify.settings import JudgeSettings

    machine, settings, stored, out = args.machine.machine(), args.settings.read(), args.rescore, args.out
    if stored is None:
        assert model is not None
        how: dict[str, Any] = {"machine": machine, "settings": settings, "on_event": progress, "world": world}
        return evaluate(model, choices, out=out, **how)
    if stored.is_dir():
        if out is not None:
            raise ConfigError(f"--out {out}: the new verdicts of an evaluation's folder stay in it: leave --out out")
        how = {"kind": args.kind, "machine": machine, "compare": args.compare, "on_event": progress}
        return stored, rescore_folder(stored, settings, **how)
    out = out or Path("runs") / "eval" / f"rescored-{stored.stem}"
    progress.message(f"judging the replies in {stored} into {out} …")
    settings = machine.judge(settings or JudgeSettings())
    return out, rescore_file(stored, out, settings, kind=args.kind or "math", compare=args.compare)


def _print_comparisons(console: Console, args: EvalArguments, folder: Path, report: "Report") -> None:
    from open_exaone.evaluation.compare import compare_runs, published_rows, run_rows
    from open_exaone.pipeline.evaluate import link_pages
    from open_exaone.present.against import write_against_page
    from open_exaone.present.terminal import rich_table

    def show(rows: Sequence[Sequence[str]], otherwise: str) -> None:
        console.print(rich_table(rows[0], rows[1:], console.width) if len(rows) > 1 else otherwise)

    if args.compare:
        show(published_rows(report), "No published table has what was measured here.")
    if args.against is not None:
        comparison = compare_runs(folder, args.against, shared_only=args.shared_only)
        rows, flips = run_rows(comparison), [flip for found in comparison for flip in found.flips]
        show(rows, f"{args.against} and this evaluation have nothing to compare.")
        page, gained = write_against_page(folder, args.against, rows, flips), sum(flip.is_gained for flip in flips)
        link_pages(folder)
        console.print(
            f"Questions whose verdict differs: {gained:,} gained, {len(flips) - gained:,} lost; side by side: {page}",
            soft_wrap=True,
        )


def _print_whether_repeated(console: Console, source: Path, stage: str | None, report: "Report") -> None:
    """Whether this measurement equals the run's own."""
    from open_exaone.base.files import read_json
    from open_exaone.pipeline.folder import RunFolder
    from open_exaone.pipeline.measure import find_model, is_repeated

    config = RunFolder(source).recipe().evaluation
    stored = find_model(source, stage)[0].parent / "eval" / "report.json"
    if config is not None and stored.is_file():
        same = is_repeated(read_json(stored), report.tasks, has_suite=config.suite is not None)
        console.print(
            f"This {'is the same as' if same else 'differs from'} the run's own measurement, {stored}.", soft_wrap=True
        )
