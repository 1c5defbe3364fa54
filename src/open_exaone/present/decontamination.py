"""What decontamination left out, as the terminal shows it."""

from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.data.decontaminate import DecontaminationReport, Reason

REASONS = {Reason.EQUAL: "equal an item", Reason.WINDOW: "share 50 characters with one"}


def print_decontamination(report: DecontaminationReport, console: Console | None = None) -> None:
    """Prints how many examples were left out, of which benchmarks and why."""
    console = console or Console()
    windows = "all windows" if report.samples is None else count(report.samples, "random window")
    console.print(
        f"{count(report.num_rows, 'example')}, {len(report.dropped):,} left out, {report.num_kept:,} kept: {windows} "
        f"of each compared with {report.num_windows:,} windows of {count(report.num_items, 'benchmark item')}."
    )
    if report.num_short_items:
        console.print(
            f"{count(report.num_short_items, 'item')} shorter than a window: found only where a text equals one."
        )
    for reason, number in report.by_reason.items():
        if number:
            console.print(f"  {number:,} {REASONS[Reason(reason)]}")
    for benchmark, number in report.by_benchmark.items():
        console.print(f"  {number:,} of {benchmark}")
