"""Tokenises the data of all stages before the first one begins, and finds the prompts that they share."""

import time
from dataclasses import fields
from itertools import combinations
from typing import Any

import numpy as np

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.records import Sampling
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.overlap import Overlap, find_overlap, prompt_hash
from open_exaone.data.prepare import prepare
from open_exaone.data.store import Kind, Prepared
from open_exaone.evaluation.plan import plan
from open_exaone.evaluation.suite import load_suite
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.measure import own_tasks, thinks_after
from open_exaone.pipeline.problems import format_of
from open_exaone.pipeline.start import Run, check_language
from open_exaone.train.config import AnyStage, PreferenceStage, RlStage, SupervisedStage

REPORT_EVERY_S = 5.0
EVALUATION = "evaluation"
_KINDS: dict[str, Kind] = {"pretrain": "pretrain", "base": "pretrain", "sft": "sft", "rl": "rl"}


def samples_pairs(run: Run, stage: AnyStage) -> bool:
    """Whether a stage chooses its pairs from samples of its own model, since its data are problems."""
    return isinstance(stage, PreferenceStage) and format_of(run.data[stage.data]) == "problems"


def prepare_stage(run: Run, stage: AnyStage) -> Prepared:
    """Tokenises what a stage learns from, or opens what was tokenised before.

    Problems, of `rl` and of a preference stage that samples its pairs, go into `prompts/`, all else into `data/`.

    Raises:
        ConfigError: the settings leave no room for a prompt, or do not go with the kind of stage.
        DataError: a row is wrong, the data is of the wrong kind, or has changed since.
    """
    kind: Kind = "rl" if samples_pairs(run, stage) else _KINDS.get(stage.kind, "preference")
    context = run.shape.max_positions
    room, why = context, f"the model's context of {context:,}"
    if kind == "rl":
        assert isinstance(stage, PreferenceStage | RlStage)
        room = context - stage.max_new_tokens
        why = f"{why} less {stage.name}.max_new_tokens = {stage.max_new_tokens:,}"
        if room < 2:
            raise ConfigError(
                f"{stage.name}.max_new_tokens = {stage.max_new_tokens}: leaves no room for a prompt in {why}"
            )
    limit = room if stage.max_tokens is None else min(stage.max_tokens, room)
    if limit != stage.max_tokens and stage.max_tokens is not None:
        run.message(
            f"{stage.name}.max_tokens = {stage.max_tokens:,} is more than {why}, so the limit is {limit:,} tokens"
        )
    data = _in_mode(run.data[stage.data], stage) if kind == "rl" or stage.kind == "base" else run.data[stage.data]
    folder = run.path(stage) / ("prompts" if kind == "rl" else "data")
    prepared = prepare(data, run.tokenizer, folder, kind=kind, max_tokens=limit, on_progress=_Progress(run))
    _report_dropped(run, stage.data, prepared, limit)
    if isinstance(stage, RlStage):
        check_language(stage, list(prepared.problems))
    return prepared


def prepare_validation(run: Run, stage: SupervisedStage) -> Prepared | None:
    """Tokenises a stage's validation data; None where it has none."""
    if stage.validation is None:
        return None
    data = run.data[stage.validation]
    data, context = (_in_mode(data, stage) if stage.kind == "base" else data), run.shape.max_positions
    limit, folder = min(stage.max_tokens or context, context), run.path(stage) / "validation"
    return prepare(data, run.tokenizer, folder, kind=_KINDS[stage.kind], max_tokens=limit, on_progress=_Progress(run))


def shared_prompts(run: Run, prepared: dict[str, Prepared]) -> list[dict[str, Any]]:
    """The prompts that two stages of different data share, or a stage and the evaluation: counted, and the first named.

    Raises:
        DataError: there are some, and the recipe says `disjoint`.
    """
    found = []
    stages = [stage for stage in run.recipe.stages if stage.name in prepared]
    for one, other in combinations(stages, 2):
        overlap = find_overlap(prepared[one.name], prepared[other.name]) if one.data != other.data else None
        if overlap is not None:
            found.append(_row(one.name, other.name, overlap))
    questions = {prompt_hash(problem.question): problem.id for problem in run.evaluation_problems()}
    for stage in stages:
        hashes_N = prepared[stage.name].prompts_N
        places = np.flatnonzero(np.isin(hashes_N, np.array(list(questions), np.uint64)))
        if len(places):
            first = int(places[0])
            count = len(set(hashes_N[places].tolist()))
            named = Overlap(count, prepared[stage.name].place(first), f"problem {questions[int(hashes_N[first])]}")
            found.append(_row(stage.name, EVALUATION, named))
    for row in found:
        text = _sentence(row)
        if run.recipe.disjoint:
            raise DataError(f"{text}: the recipe says disjoint = true: leave these rows out of one of them")
        run.message(f"note: {text}")
    return found


def _row(one: str, other: str, overlap: Overlap) -> dict[str, Any]:
    places = {"first": overlap.one, "second": overlap.other}
    return {"between": [one, other], "num_prompts": overlap.num_prompts, "example": places}


def _sentence(row: dict[str, Any]) -> str:
    one, other = row["between"]
    number, place = row["num_prompts"], row["example"]
    what = "1 prompt is" if number == 1 else f"{number:,} prompts are"
    return f"{what} in the data of {one} and of {other} (such as {place['first']} and {place['second']})"


def _in_mode(data: DataConfig, stage: AnyStage) -> DataConfig:
    """The data with every source in the mode in which the stage asks.

    Raises:
        ConfigError: a source has the other mode.
    """
    return data.model_copy(update={"sources": tuple(_source_in_mode(source, stage) for source in data.sources)})


def _source_in_mode(source: SourceConfig, stage: AnyStage) -> SourceConfig:
    if not stage.thinking:
        return source.model_copy(update={"mode": "non_reasoning"})
    if source.mode == "non_reasoning":
        raise ConfigError(f'{stage.name}: samples in reasoning mode, and {source.path} has mode = "non_reasoning"')
    return source.model_copy(update={"mode": "auto"})  # a prompt needs no thought of its own


class _Progress:
    """Reports every few seconds how many rows of a source were read; Ctrl-C ends the preparation."""

    def __init__(self, run: Run) -> None:
        self._run, self._last_s = run, time.monotonic()

    def __call__(self, source: str, num_rows: int) -> None:
        interrupt.check()
        if time.monotonic() - self._last_s > REPORT_EVERY_S:
            self._last_s = time.monotonic()
            self._run.message(f"{source}: {num_rows:,} rows read")


def _report_dropped(run: Run, name: str, prepared: Prepared, limit: int) -> None:
    """Reports what was left out of the data, and why."""
    for source in prepared.manifest["sources"]:
        parts = [f"{number:,} left out ({_reason(why, limit)})" for why, number in source["dropped"].items()]
        parts += [
            f"{number:,} parts left out ({_reason(why, limit)})" for why, number in source["dropped_parts"].items()
        ]
        parts += [f"{source[how]:,} {how} to {limit:,} tokens" for how in ("truncated", "split") if source[how]]
        if parts:
            run.message(f"data.{name}: of {source['rows']:,} rows of {source['name']}, {', '.join(parts)}")


def _reason(reason: str, limit: int) -> str:
    return f"longer than {limit:,} tokens" if reason == "too long" else reason


def evaluation_tasks(run: Run, stage: AnyStage) -> list[Task]:
    """What the model that a stage leaves is measured on.

    Raises:
        ConfigError, DataError: a suite or a benchmark of it cannot be loaded.
    """
    config, thinking, context = run.recipe.evaluation, thinks_after(run.recipe, stage), run.shape.max_positions
    assert config is not None  # the caller has looked
    if config.data is not None:
        return own_tasks(run.evaluation_problems(), config, config.data, context=context, thinking=thinking)
    given = {field.name for field in fields(Sampling)} & config.model_fields_set - {"num_samples"}
    return plan(
        load_suite(str(config.suite)),
        rows=config.rows,
        limit=config.limit,
        num_samples=config.num_samples,
        modes=None if config.mode is None else ("reasoning" if thinking else "non-reasoning",),
        sampling={name: value for name in sorted(given) if (value := getattr(config, name)) is not None},
        settings=run.judge,
    )
