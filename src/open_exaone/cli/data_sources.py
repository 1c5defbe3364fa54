"""What the commands `exaone data …` read: the sources and the tokenizer that a command line names."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError
from open_exaone.cli.flags import HubSet, RowFormat

if TYPE_CHECKING:
    from open_exaone.data.config import DataConfig, SourceConfig
    from open_exaone.text.tokenizer import Tokenizer

Sources = Annotated[
    list[str],
    Parameter(
        help="Files (.jsonl, .json, .csv, or these with .gz, .parquet, .arrow), folders, patterns, hub:owner/name, "
        "or a recipe (.toml).",
        negative="",
    ),
]
Problems = Annotated[
    list[str],
    Parameter(
        help="Files of problems with answers (.jsonl, .json, .csv, or these with .gz, .parquet, .arrow), folders, "
        "patterns or hub:owner/name.",
        negative="",
    ),
]


def read_problem_sources(
    paths: Sequence[str], columns: RowFormat, hub: HubSet, domain: str | None = None
) -> "DataConfig":
    """The files of problems that a command line names.

    Raises:
        ConfigError: a flag is wrong, or one is a recipe, some of whose problems may be those that it is measured on.
    """
    from open_exaone.data.config import DataConfig

    if recipes := [path for path in paths if path.endswith(".toml")]:
        raise ConfigError(f"{recipes[0]}: is a recipe: name the files of those of its problems that are meant")
    return DataConfig(sources=tuple(source for source, _, _ in read_sources(paths, columns, hub, domain)))


def read_sources(
    paths: Sequence[str], columns: RowFormat, hub: HubSet, domain: str | None = None
) -> "list[tuple[SourceConfig, str, bool]]":
    """The sources that a command line names, each with which of its replies are learned (`DataConfig.turns`), and
    whether its problems are only asked.

    A .toml file is a recipe, and stands for the sources of its data.

    Raises:
        ConfigError: a flag is wrong, or given for a .toml file, whose sources have their own.
    """
    from open_exaone.base.config import validate
    from open_exaone.data.config import SourceConfig

    if not paths:
        raise ConfigError("name a file, a folder, hub:owner/name, or a recipe (.toml)")
    pairs = [field.partition("=") for field in columns.field or []]
    if not all(name and equals and column for name, equals, column in pairs):
        raise ConfigError("--field: write it as FIELD=COLUMN, such as --field question=Question")
    flags = {
        "format": columns.format_,
        "fields": {name: column for name, _, column in pairs} or None,
        "ignore": columns.ignore or None,
        "domain": domain,
        "config": hub.config,
        "split": hub.split,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    found: list[tuple[SourceConfig, str, bool]] = []
    for path in paths:
        if not path.endswith(".toml"):
            found.append((validate(SourceConfig, {"path": path, **given}, path), "each", False))
        elif given:
            raise ConfigError(f"{path}: its sources have their own {', '.join(given)}; leave the flags out")
        else:
            found += _sources_of_recipe(path)
    return found


def _sources_of_recipe(path: str) -> "list[tuple[SourceConfig, str, bool]]":
    """The files that a recipe learns from or is measured on; generated problems are left out."""
    from open_exaone.data.config import SourceConfig
    from open_exaone.pipeline.recipe import load_recipe
    from open_exaone.train.config import SupervisedStage

    recipe = load_recipe(path)
    stages = [stage for stage in recipe.stages if isinstance(stage, SupervisedStage)]
    learned = {name for stage in stages for name in (stage.data, stage.validation)}
    return [
        (source, one.turns, name not in learned)
        for name, one in recipe.data.items()
        for source in one.sources
        if isinstance(source, SourceConfig)
    ]


def open_tokenizer(source: Path) -> "Tokenizer":
    from open_exaone.pipeline.source import resolve_tokenizer
    from open_exaone.text.tokenizer import Tokenizer

    return Tokenizer.load(resolve_tokenizer(source))
