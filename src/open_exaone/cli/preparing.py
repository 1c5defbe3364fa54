"""`exaone data …`: the flags of every command that reads training data; their bodies stand in `cli/data.py`."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from open_exaone.base.errors import ConfigError
from open_exaone.cli.asked import Rows, read_rows

data = App(name="data", help="Check, measure and clean training data.", help_format="plaintext")

Sources = Annotated[
    list[str],
    Parameter(
        help="Files (.jsonl, .json, .parquet, or .gz), folders, patterns, hub:owner/name, or a training's .toml file.",
        negative="",
    ),
]
Format = Annotated[
    Literal["messages", "prompt_completion", "pairs", "problems", "text"] | None,
    Parameter(name="--format", help="What a row holds; found out from its columns if left out."),
]
Fields = Annotated[
    list[str] | None,
    Parameter(name="--field", negative="", help="OURS=COLUMN, such as question=Question; may be repeated."),
]
HubConfig = Annotated[str | None, Parameter(name="--config", help="Which configuration of a hub data set.")]
Split = Annotated[str | None, Parameter(help="Which split of a hub data set; train if left out.")]
Limit = Annotated[int | None, Parameter(help="Only so many rows of each source.")]
TokenizerOf = Annotated[Path | None, Parameter(help="Count tokens with this one: a model's folder or hub name.")]


@data.command
def check(
    sources: Sources,
    /,
    *,
    format_: Format = None,
    field: Fields = None,
    config: HubConfig = None,
    split: Split = None,
    tokenizer: TokenizerOf = None,
    max_tokens: Annotated[int | None, Parameter(help="Count what is longer; needs --tokenizer.")] = None,
    limit: Limit = None,
    show_all: Annotated[bool, Parameter(name="--all", negative="", help="Print every bad row.")] = False,
    out: Annotated[Path | None, Parameter(help="Gets every bad row, one JSON object a line.")] = None,
) -> int:
    """Report every row that training could not use, with its line and field, and count the rest; 1 if one is bad."""
    fields = field or []
    return _body("check")(sources, format_, fields, config, split, tokenizer, max_tokens, limit, show_all, out)


@data.command
def stats(
    sources: Sources,
    /,
    *,
    tokenizer: Annotated[Path, Parameter(help="What counts tokens: a model's folder or hub name.")],
    format_: Format = None,
    field: Fields = None,
    domain: Annotated[str | None, Parameter(help="What the rows are about; a column with --field domain=…")] = None,
    config: HubConfig = None,
    split: Split = None,
    limit: Limit = None,
    out: Annotated[
        Path | None, Parameter(help="Gets a page (.html), the plot alone (.svg) or numbers (.json).")
    ] = None,
) -> int:
    """Tell how long examples are, by domain and by mode, as a table and a plot."""
    return _body("stats")(sources, tokenizer, format_, field or [], domain, config, split, limit, out)


@data.command
def decontaminate(
    source: Annotated[str, Parameter(help="A file, a folder, a pattern, or hub:owner/name.")],
    /,
    *,
    against: Annotated[list[str], Parameter(negative="", help="A benchmark or a file of its rows; may be repeated.")],
    out: Annotated[Path, Parameter(help="Gets the rows that share nothing with them (.jsonl).")],
    rows: Rows = None,
    report: Annotated[Path | None, Parameter(help="Gets what was left out, and why; beside --out if left out.")] = None,
    seed: Annotated[int, Parameter(help="Of the windows that are looked up.")] = 0,
    samples: Annotated[
        str, Parameter(help="Windows of 50 characters looked up in each row, as EXAONE 3.5's report has it; or all.")
    ] = "10",
    config: HubConfig = None,
    split: Split = None,
) -> int:
    """Leave out rows that hold a benchmark's items, by EXAONE 3.5's rule, and by exact equality."""
    if samples != "all" and not samples.isdecimal():
        raise ConfigError(f"--samples {samples}: a number, or all")
    windows = None if samples == "all" else int(samples)
    return _body("decontaminate")(source, against, read_rows(rows), out, report, seed, windows, config, split)


def _body(name: str) -> Callable[..., int]:
    """A command's body, imported once its arguments are known to be good."""
    body: Callable[..., int] = getattr(import_module("open_exaone.cli.data"), name)
    return body
