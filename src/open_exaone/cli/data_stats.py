"""`exaone data stats`: how long examples are."""

from dataclasses import dataclass, field
from pathlib import Path

from cyclopts import Parameter

from open_exaone.base.output import say
from open_exaone.cli.data_sources import Sources, open_tokenizer, read_sources
from open_exaone.cli.flags import HubSet, RowFormat


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class DataStatsArguments:
    """The flags of `exaone data stats`."""

    tokenizer: Path
    """Count tokens with the tokenizer of this model: a folder, or a name on the hub."""
    columns: RowFormat = field(default_factory=RowFormat)
    domain: str | None = None
    """The subject of all rows; --field domain=COLUMN reads it from each row instead."""
    hub: HubSet = field(default_factory=HubSet)
    limit: int | None = None
    """The number of rows to read from each source; all if left out."""
    out: Path | None = None
    """A file that gets a page (.html), the plot alone (.svg) or the numbers (.json)."""


def stats(sources: Sources, /, *, args: DataStatsArguments) -> int:
    """Show how long examples are, by domain and by mode, as a table and a plot."""
    from open_exaone.data.lengths import lengths
    from open_exaone.data.measure import example_lengths
    from open_exaone.present.lengths import print_lengths, write_lengths

    tokenizer = open_tokenizer(args.tokenizer)
    opened = [(source, asked) for source, _, asked in read_sources(sources, args.columns, args.hub, args.domain)]
    found = lengths(
        length for source, asked in opened for length in example_lengths(source, tokenizer, args.limit, asked=asked)
    )
    print_lengths(found)
    if args.out is not None:
        write_lengths(found, args.out)
        say(f"Written: {args.out}")
    return 0
