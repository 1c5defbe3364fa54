"""The recipe's data as files: generated problems are drawn into the run's folder, and are then rows like any others."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path

from open_exaone.base.errors import DataError
from open_exaone.base.files import write_json, write_jsonl
from open_exaone.base.records import Problem
from open_exaone.base.tables import RowError
from open_exaone.data.columns import RowFormat
from open_exaone.data.config import DataConfig, DataOptions, SourceConfig
from open_exaone.data.examples import open_examples
from open_exaone.data.rows import Example
from open_exaone.data.source import find_files
from open_exaone.pipeline.config import Dataset, Recipe
from open_exaone.tasks.generated import GeneratedSource, draw_problems, seen_share
from open_exaone.train.config import SupervisedStage
from open_exaone.verify.own import file_of, is_own
from open_exaone.verify.settings import JudgeSettings

FAMILIES_FILE = "families.json"


def draw_all(recipe: Recipe, folder: Path, settings: JudgeSettings) -> None:
    """Draws every generated source of the recipe and writes it into `folder`, with what was drawn of each family.

    Raises:
        DataError: a problem of the user's own is wrong, or there are not as many new questions as are wanted.
    """
    used, learned, held_out = set[str](), set[str](), set[str]()
    learned_names = {stage.data for stage in recipe.stages}
    measured_names = {stage.validation for stage in recipe.stages if isinstance(stage, SupervisedStage)}
    measured_names |= set(recipe.evaluation.names) if recipe.evaluation else set()
    families: dict[str, dict[str, int]] = {}
    for index, (name, place, source) in enumerate(_generated(recipe)):
        before = set(used)
        problems = draw_problems(source, index, used, name, settings, held_out=held_out)
        learned |= used - before if name in learned_names else set()
        held_out |= used - before if name in measured_names else set()
        write_jsonl(_file(recipe, folder, name, place), (asdict(problem) for problem in problems))
        for problem in problems if source.families else ():
            counts = families.setdefault(problem.task, {})
            counts[name] = counts.get(name, 0) + 1
    seen = {
        family: {"problems": counts, "seen_share": seen_share(family, learned)} for family, counts in families.items()
    }
    write_json(folder / FAMILIES_FILE, seen)


def as_files(recipe: Recipe, folder: Path) -> dict[str, DataConfig]:
    """The recipe's data, each generated source replaced by the file in `folder` that holds what was drawn."""
    return {name: _as_files(recipe, folder, name, dataset) for name, dataset in recipe.data.items()}


def _as_files(recipe: Recipe, folder: Path, name: str, dataset: Dataset) -> DataConfig:
    sources = [
        _as_rows(source, _file(recipe, folder, name, place)) if isinstance(source, GeneratedSource) else source
        for place, source in enumerate(dataset.sources)
    ]
    options = {key: getattr(dataset, key) for key in DataOptions.model_fields}
    return DataConfig(**options, sources=tuple(sources))


def _as_rows(source: GeneratedSource, file: Path) -> SourceConfig:
    code = (file_of(source.problems),) if source.problems and is_own(source.problems) else ()
    rows = SourceConfig(path=file.name, format="problems", mode=source.mode, share=source.share, code=code)
    return rows.within(file.parent)


def _generated(recipe: Recipe) -> Iterator[tuple[str, int, GeneratedSource]]:
    """The generated sources in order: the name of their data, their place in it, and themselves."""
    for name, dataset in recipe.data.items():
        for place, source in enumerate(dataset.sources):
            if isinstance(source, GeneratedSource):
                yield name, place, source


def _file(recipe: Recipe, folder: Path, name: str, place: int) -> Path:
    is_alone = len(recipe.data[name].sources) == 1
    return folder / (f"{name}.jsonl" if is_alone else f"{name}-{place + 1}.jsonl")


def format_of(data: DataConfig) -> RowFormat:
    """The format of the rows of a data set's first source.

    Raises:
        DataError: it cannot be opened, or no row has a format that is known.
    """
    return open_examples(data.sources[0]).format


def read_problems(
    data: DataConfig, name: str, limit: int | None = None, on_drop: Callable[[RowError], object] = lambda error: None
) -> list[Problem]:
    """The problems of a data set, in memory, with ids that are unique in it; each row of a file once.

    Args:
        limit: only so many, the first ones; no row behind them counts.
        on_drop: called with each row that `bad_rows = "drop"` leaves out.

    Raises:
        DataError: a row is no problem with an answer; names its line and field.
    """
    return list(islice(_problems(data, name, on_drop), limit))


def _problems(data: DataConfig, name: str, on_drop: Callable[[RowError], object]) -> Iterator[Problem]:
    seen = set[tuple[Path, int]]()  # a file that is listed in both modes is asked once
    for index, source in enumerate(data.sources):
        paths = {file.name: file.path.resolve() for file in find_files(source)}
        for parsed in chain.from_iterable(open_examples(source, asked=True).chunks):
            row = parsed.result if isinstance(parsed.result, RowError) else parsed.row
            assert row is not None  # of an example there is one
            if (place := (paths[row.file], row.number)) in seen:
                continue
            seen.add(place)
            if not isinstance(parsed.result, RowError):
                yield _problem(parsed.result, name, index, parsed.place, source.path, len(data.sources))
            elif data.bad_rows == "refuse":
                raise DataError(f"data.{name}: {parsed.result}")
            else:
                on_drop(parsed.result)


def _problem(example: Example, name: str, index: int, place: int, path: str, num_sources: int) -> Problem:
    content = example.content
    if not isinstance(content, Problem):
        raise DataError(
            f"data.{name}: row {place + 1} of {path} is no problem with an answer, and only those are asked"
        )
    own = example.id or f"{name}/{place + 1}"
    return replace(content, id=own if num_sources == 1 else f"{index}/{own}")
