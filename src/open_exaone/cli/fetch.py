"""`exaone fetch`: a benchmark's rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from open_exaone.base.output import say
from open_exaone.base.text import count
from open_exaone.cli.flags import Switch


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FetchArguments:
    """The flags of `exaone fetch`."""

    rows: str | None = None
    """Read the rows from this file, folder or owner/name on the hub, instead of the benchmark's own place."""
    out: Path | None = None
    """The file to write; the place where `exaone eval` looks if left out."""
    changed: Switch = False
    """Accept rows that differ from the version that this project has seen."""


def fetch(
    benchmark: Annotated[str, Parameter(help="The benchmark's name, or a .toml file that describes it.")],
    /,
    *,
    args: FetchArguments = FetchArguments(),
) -> int:
    """Get a benchmark's rows from the hub or from your own file, check each of them and print their checksum."""
    from open_exaone.tasks.benchmarks.fetch import fetch_benchmark

    fetched = fetch_benchmark(benchmark, args.rows, args.out, on_change="warn" if args.changed else "error")
    known = (
        "the version that this project has seen" if fetched.is_pinned else "not a version that this project has seen"
    )
    say(f"{benchmark}: {count(fetched.num_rows, 'row')} from {fetched.source}")
    say(f"sha256 {fetched.sha256}: {known}")
    say(fetched.path)
    return 0
