"""What `eval`, `fetch`, `suites` and `verify-real` do, once their arguments are parsed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_json
from open_exaone.base.output import say
from open_exaone.base.terminal import Console
from open_exaone.cli.asked import Asked
from open_exaone.cli.commands import judge_settings
from open_exaone.evaluation.compare import compare_runs, published_rows, run_rows
from open_exaone.evaluation.report import Report
from open_exaone.evaluation.store import Store
from open_exaone.pipeline.evaluate import Choices, evaluate, is_address
from open_exaone.pipeline.folder import is_run
from open_exaone.pipeline.measure import Machine, OnEvent, find_model, stage_entry
from open_exaone.pipeline.rescore import rescore_file, rescore_folder
from open_exaone.present.terminal import Progress, measured_table, rich_table
from open_exaone.verify.own import is_own
from open_exaone.verify.settings import JudgeSettings


def eval_(
    source: str | None,
    asked: Asked,
    rescore: Path | None,
    against: Path | None,
    shared_only: bool,
    kind: str | None,
    out: Path | None,
    settings: Path | None,
    device: str,
    dtype: str,
    unsafe: bool,
) -> int:
    console = Console()
    choices, machine = Choices(**asked.choices()), Machine(device, dtype, unsafe)
    _check(source, asked, rescore, against, shared_only, kind, machine)
    limits = judge_settings(settings)
    with Progress(console) as progress:
        if rescore is not None:
            folder, report = _rescore(rescore, out, limits, kind, choices.compare, machine, progress)
        else:
            assert source is not None
            limits = machine.judge(limits) if limits else None
            folder, report = evaluate(source, choices, out=out, machine=machine, settings=limits, on_event=progress)
    console.print(measured_table(report.model_dump(mode="json"), console.width))
    console.print(f"Report, samples, and a page to read them: {folder}/report.html")
    for entry in report.tasks:
        if entry.grader is not None:
            same = (
                f"the same verdict on {entry.grader.agreement:.1%} of replies, the others in {folder}/differences.jsonl"
            )
            console.print(f"{entry.name}: {entry.grader.score:.1%} by the other grader; {same}")
    if choices.compare:
        _tell_rows(console, published_rows(report), "no published table has what was measured here")
    if against is not None:
        _tell_rows(console, run_rows(compare_runs(folder, against, shared_only=shared_only)), "nothing to compare")
    if source is not None and set(asked.flags()) <= {"--stage", "--concurrency"} and is_run(Path(source)):
        _tell_stored(console, Path(source), choices.stage, report)
    return 0


def _check(
    source: str | None,
    asked: Asked,
    rescore: Path | None,
    against: Path | None,
    shared_only: bool,
    kind: str | None,
    machine: Machine,
) -> None:
    """Refuses flags that contradict one another before anything is asked."""
    if source is None and rescore is None:
        raise ConfigError("eval: name a model to measure, or with --rescore what to judge anew; `exaone eval --help`")
    if source is not None and rescore is not None:
        raise ConfigError(f"--rescore {rescore}: generates nothing: leave the model {source} out, or --rescore")
    if rescore is not None and (useless := [flag for flag in asked.flags() if flag != "--compare"]):
        raise ConfigError(f"{useless[0]}: --rescore generates nothing: leave it out")
    if kind is not None and (rescore is None or (rescore.is_dir() and not is_own(kind))):
        raise ConfigError(
            f"--kind {kind}: is for --rescore FILE, or the function of yours that judged a folder; a benchmark says "
            "itself how it is judged"
        )
    if shared_only and against is None:
        raise ConfigError("--shared-only: needs --against")
    is_remote = any(map(is_address, (source or "", asked.engine)))
    if is_remote and (machine.device, machine.dtype) != ("auto", "auto"):
        raise ConfigError("--device, --dtype: an endpoint has its own: leave them out")
    if asked.concurrency != Asked().concurrency and not is_remote:
        raise ConfigError(f"--concurrency {asked.concurrency}: is for endpoints: leave it out")
    if against is not None:
        Store(against).read()


def fetch(benchmark: str, rows: str | None, out: Path | None, changed: bool) -> int:
    from open_exaone.tasks.benchmarks.fetch import fetch_benchmark

    fetched = fetch_benchmark(benchmark, rows, out, on_change="warn" if changed else "error")
    known = "the rows that we know" if fetched.is_pinned else "no rows that we have seen: compare it with others'"
    say(f"{benchmark}: {fetched.num_rows:,} rows from {fetched.source}")
    say(f"sha256 {fetched.sha256}: {known}")
    say(fetched.path)
    return 0


def suites() -> int:
    from rich.table import Table

    from open_exaone.evaluation.suite import SHIPPED, load_suite
    from open_exaone.tasks.benchmarks.registry import BENCHMARKS

    console = Console()
    table = Table.grid(padding=(0, 2, 0, 0))
    for suite in map(load_suite, SHIPPED):
        table.add_row(suite.name, suite.what)
    console.print(table)
    console.print("\nOne mode of a suite that has both: NAME-reasoning, NAME-non-reasoning.")
    console.print(f"A benchmark is a suite of one: {', '.join(BENCHMARKS)}")
    console.print("\n`exaone fetch NAME` gets a benchmark's rows; --rows NAME=PATH says where they are.")
    return 0


def verify_real(
    source: Path,
    out: Path | None,
    rows: dict[str, str],
    problems: int | None,
    samples: int,
    rl_steps: int,
    device: str,
    dtype: str,
    unsafe: bool,
) -> int:
    from open_exaone.audit.verify_real import verify_real
    from open_exaone.present.verify_real import terminal_lines

    def measure_suite(source: Path, *, out: Path, machine: Machine, on_event: Any, **choices: Any) -> dict[str, Any]:
        return evaluate(str(source), Choices(**choices), out=out, machine=machine, on_event=on_event)[1].model_dump(
            mode="json"
        )

    out = out or Path("runs") / "verify-real" / source.name
    console = Console()
    with Progress(console) as progress:
        report = verify_real(
            source,
            out,
            machine=Machine(device, dtype, unsafe),
            rows=rows,
            num_problems=problems,
            num_samples=samples,
            num_rl_steps=rl_steps,
            on_event=progress,
            measure_suite=measure_suite,
        )
    for line in terminal_lines(report, out):
        console.print(line, soft_wrap=True)
    return 0 if report["passed"] else 1


def _rescore(
    stored: Path,
    out: Path | None,
    settings: JudgeSettings | None,
    kind: str | None,
    compare: bool,
    machine: Machine,
    on_event: OnEvent,
) -> tuple[Path, Report]:
    if stored.is_dir():
        if out is not None:
            raise ConfigError(f"--out {out}: an evaluation's folder is judged anew in its place: leave --out out")
        return stored, rescore_folder(stored, settings, kind=kind, machine=machine, compare=compare, on_event=on_event)
    out = out or Path("runs") / "eval" / f"rescored-{stored.stem}"
    on_event({"message": f"judging the replies in {stored} into {out} …"})
    return out, rescore_file(
        stored, out, machine.judge(settings or JudgeSettings()), kind=kind or "math", compare=compare
    )


def _tell_rows(console: Console, rows: Sequence[Sequence[str]], nothing: str) -> None:
    console.print(rich_table(rows[0], rows[1:], console.width) if len(rows) > 1 else nothing)


def _tell_stored(console: Console, source: Path, stage: str | None, report: Report) -> None:
    """Whether a run's own measurement was repeated."""
    stored = find_model(source, stage)[0].parent / "eval" / "report.json"
    if stored.is_file():
        same = read_json(stored) == stage_entry(*report.tasks)
        console.print(f"This {'is the same as' if same else 'differs from'} the story's own measurement, {stored}.")
