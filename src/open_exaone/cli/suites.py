"""`exaone suites`: what `exaone eval` knows."""

from open_exaone.base.terminal import Console


def suites() -> int:
    """List the suites and benchmarks that `exaone eval` knows."""
    from rich.table import Table

    from open_exaone.evaluation.suite import SHIPPED, load_suite
    from open_exaone.tasks.benchmarks.registry import BENCHMARKS

    console = Console()
    table = Table.grid(padding=(0, 2, 0, 0))
    for suite in map(load_suite, SHIPPED):
        table.add_row(suite.name, suite.what)
    console.print(table)
    console.print("\nFor one mode of a suite that has both: NAME-reasoning or NAME-non-reasoning.")
    console.print(f"Each benchmark is also the name of a suite: {', '.join(BENCHMARKS)}")
    console.print(
        "\n`exaone fetch NAME` downloads a benchmark's rows; `exaone eval --rows NAME=PATH` reads your own copy."
    )
    return 0
