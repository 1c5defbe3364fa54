"""What a recipe reads that may not be there: chat formats, suites and files of rows. Reads no row."""

from collections.abc import Iterator

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.data.config import SourceConfig
from open_exaone.data.hub import HUB
from open_exaone.data.source import find_files
from open_exaone.evaluation.suite import load_suite
from open_exaone.pipeline.config import Recipe
from open_exaone.tasks.generated import GeneratedSource
from open_exaone.text.formats import check_name
from open_exaone.train.config import SAMPLING_KEYS, AnyStage, PreferenceStage, SupervisedStage

_PROBLEMS = 'problems, such as {"question": "…", "answer": "…"}'
_PAIRS = 'pairs, such as {"prompt": "…", "chosen": "…", "rejected": "…"}'
_LABELLED = 'replies with a label, such as {"prompt": "…", "completion": "…", "label": true}'
_CONVERSATIONS = (
    'conversations, such as {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", '
    '"reasoning_content": "…", "content": "…"}]}'
)


def check_names(recipe: Recipe) -> None:
    """Finds a chat format or a suite that there is not.

    Raises:
        ConfigError: names the key, and what there is.
    """
    check_name(recipe.chat_format)
    suites = {} if recipe.evaluation is None else {"evaluation": recipe.evaluation.suite}
    suites |= {stage.name: stage.suite for stage in recipe.trained}
    for owner, suite in suites.items():
        if suite is not None:
            try:
                load_suite(suite)
            except ConfigError as error:
                raise ConfigError(f"{owner}.suite = {suite!r}: {error}") from error


def missing_files(recipe: Recipe) -> list[str]:
    """A line for each data set whose rows are not there: the files, who reads them, what a row must hold."""
    lines = []
    for name, reader, rows in _readers(recipe):
        sources = [source for source in recipe.data[name].sources if isinstance(source, SourceConfig)]
        if errors := [error for source in sources if (error := _missing(source))]:
            lines.append(f"data.{name}: {'; '.join(errors)}. {reader} reads {rows}")
    return lines


def check_files(recipe: Recipe) -> None:
    """Finds out that files are missing before a model is downloaded.

    Raises:
        DataError: some are; names each, with what its rows must hold.
    """
    if missing := missing_files(recipe):
        hint = "Other files: --set data.NAME.sources.0.path=FILE; formats of rows: docs/data.md"
        raise DataError("\n".join([*missing, hint]))


def _missing(source: SourceConfig) -> str:
    if not source.path.startswith(HUB):
        try:
            find_files(source)
        except DataError as error:
            return str(error)
    return ""


def _readers(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Data by name, its first reader, and what that needs its rows to hold."""
    seen = set[str]()
    readers = [(recipe.data_of(stage), stage.name, _rows_of(recipe, stage)) for stage in recipe.stages]
    for stage in recipe.stages:
        if isinstance(stage, SupervisedStage) and stage.validation is not None:
            readers.append((stage.validation, f"{stage.name}.validation", _rows_of(recipe, stage)))
    readers += [(name, "evaluation", _PROBLEMS) for name in (recipe.evaluation.names if recipe.evaluation else ())]
    for name, reader, rows in readers:
        if name not in seen:
            yield name, reader, rows
        seen.add(name)


def _rows_of(recipe: Recipe, stage: AnyStage) -> str:
    if isinstance(stage, SupervisedStage):
        return 'texts, such as {"text": "…"}' if stage.kind == "pretrain" else _CONVERSATIONS
    if isinstance(stage, PreferenceStage) and not samples_pairs(recipe, stage):
        return _LABELLED if stage.loss.learns == "replies" else _PAIRS
    return _PROBLEMS


def samples_pairs(recipe: Recipe, stage: PreferenceStage) -> bool:
    """Whether its data are problems, by what the recipe says of them: their format, or how they are sampled."""
    source = recipe.data[recipe.data_of(stage)].sources[0]
    if isinstance(source, GeneratedSource) or source.format != "auto":
        return isinstance(source, GeneratedSource) or source.format == "problems"
    return bool(stage.model_dump(include=set(SAMPLING_KEYS), exclude_defaults=True))
