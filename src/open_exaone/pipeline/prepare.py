"""Tokenises the data of all stages before the first one begins, and finds the prompts that they share."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.records import MODES, REASONING, mode_label
from open_exaone.base.text import count
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.mixture import Mixture, by_pass_rate
from open_exaone.data.overlap import Overlap, find_overlap, prompt_hash
from open_exaone.data.prepare import prepare
from open_exaone.data.store import Kind, Prepared
from open_exaone.evaluation.config import EvaluationConfig
from open_exaone.evaluation.plan import plan
from open_exaone.evaluation.suite import load_suite
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.measure import own_tasks, thinks_after
from open_exaone.pipeline.reuse import check_reuse
from open_exaone.pipeline.start import Run, check_language, samples_own
from open_exaone.train.config import (
    SAMPLING_KEYS,
    AnyStage,
    FilterStage,
    PreferenceStage,
    RejectionStage,
    RlStage,
    SupervisedStage,
    TrainedStage,
)

REPORT_EVERY_S = 5.0
EVALUATION = "evaluation"
_KINDS: dict[str, Kind] = {"pretrain": "pretrain", "base": "pretrain", "sft": "sft", "rl": "rl", "filter": "rl"}


@dataclass(frozen=True, slots=True)
class StageData:
    """What a stage reads."""

    examples: Prepared  # that it learns from
    validation: Prepared | None = None


def prepare_stage(run: Run, stage: AnyStage) -> StageData:
    """Tokenises what a stage reads, or opens what was tokenised before.

    Problems, of `rl`, of a filter and of a preference stage that samples its pairs, go into `prompts/`; all else goes
    into `data/`.

    Raises:
        ConfigError: the settings leave no room for a prompt, or do not go with the kind of stage.
        DataError: a row is wrong, the data is of the wrong kind, or has changed since.
    """
    kind: Kind = "rl" if samples_own(run, stage) else _KINDS.get(stage.kind, "preference")
    context = run.shape_of(stage).max_positions
    room, why = context, f"the model's context of {context:,}"
    if kind == "rl":
        assert isinstance(stage, PreferenceStage | RejectionStage | RlStage | FilterStage)
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
    if isinstance(stage, PreferenceStage) and kind != "rl":
        _check_unsampled(stage)
    data = run.data_of(stage)
    data = _in_mode(data, stage) if kind == "rl" or stage.kind == "base" else data
    prepared = _prepare(run, stage, run.recipe.data_of(stage), data, "prompts" if kind == "rl" else "data", kind, limit)
    if isinstance(stage, RlStage | PreferenceStage) and kind == "rl":
        check_language(stage, list(prepared.problems))
        if isinstance(stage, PreferenceStage):
            check_reuse(run, stage)
    elif isinstance(stage, PreferenceStage):
        _check_units(stage, prepared)
    if isinstance(stage, RlStage) and stage.curriculum is not None and run.recipe.filter_of(stage) is None:
        by_pass_rate(prepared.problems)  # refuses problems without one now
    if not isinstance(stage, SupervisedStage) or stage.validation is None:
        return StageData(prepared)
    held_out = run.data[stage.validation]
    held_out = _in_mode(held_out, stage) if stage.kind == "base" else held_out
    return StageData(prepared, _prepare(run, stage, stage.validation, held_out, "validation", kind, limit))


def _check_unsampled(stage: PreferenceStage) -> None:
    """Finds settings of sampling where nothing is sampled."""
    for name in stage.model_dump(include=set(SAMPLING_KEYS), exclude_defaults=True):
        raise ConfigError(
            f"{stage.name}.{name}: nothing is sampled, since data.{stage.data} holds pairs: leave it out, or name data "
            "with problems and answers"
        )


def _check_units(stage: PreferenceStage, prepared: Prepared) -> None:
    """Finds a loss that needs pairs or groups where the data has single replies."""
    num_single, learns = int((prepared.unit_sizes_N < 2).sum()), stage.loss.learns
    if num_single and learns != "replies":
        needs = (
            "pairs: rows of prompt, chosen and rejected" if learns == "pairs" else "pairs, or from problems to sample"
        )
        raise ConfigError(
            f"{stage.name}.loss.name = {stage.loss.name!r}: learns from {needs}; {num_single:,} of the "
            f"{len(prepared):,} examples of data.{stage.data} are single replies with a label, for kto"
        )


def _prepare(
    run: Run, stage: AnyStage, name: str, data: DataConfig, folder: str, kind: Kind, max_tokens: int
) -> Prepared:
    path = run.path(stage) / folder
    try:
        prepared = prepare(data, run.tokenizer, path, kind=kind, max_tokens=max_tokens, on_progress=_Progress(run))
    except (ConfigError, DataError) as error:
        if type(error) not in (ConfigError, DataError):  # such as a hub out of reach, which is no fault of the recipe
            raise
        key = "validation" if folder == "validation" else "data"
        raise type(error)(f"{stage.name}.{key} = {name!r}: {error}") from error
    _report_dropped(run, name, prepared, max_tokens)
    return prepared


def mixture_of(run: Run, stage: AnyStage, prepared: Prepared, places_N: NDArray[np.int64] | None = None) -> Mixture:
    """The order in which a stage learns its examples; what it makes of its own samples is one source, whatever their
    problems' sources are; where they are in both modes, `reasoning_ratio` holds for them too.

    Args:
        places_N: see `Mixture`.

    Raises:
        DataError: shares ask for what is not there.
    """
    data = run.data_of(stage)
    if samples_own(run, stage):
        ratio = data.reasoning_ratio
        if ratio is not None and len(prepared.groups) == 1:
            mode = mode_label(prepared.groups[0].mode)
            run.message(
                f"{stage.name}: all samples are of {mode} mode, so data.{run.recipe.data_of(stage)}.reasoning_ratio = "
                f"{ratio:g} has no effect"
            )
            ratio = None
        one = SourceConfig(path=stage.data)
        data = DataConfig(sources=(one,), reasoning_ratio=ratio, max_repeats=data.max_repeats)
    return Mixture(prepared, data, run.seed(stage), places_N)


def epoch_size(run: Run, stage: AnyStage, prepared: Prepared) -> tuple[int, int]:
    """How many examples, and about how many tokens, a pass over a stage's data takes; of problems that it samples pairs
    from, all of them. Raises what `mixture_of` does."""
    if samples_own(run, stage):
        return len(prepared), int(prepared.tokens_N.sum())
    mixture = mixture_of(run, stage, prepared)
    return mixture.num_examples, mixture.num_tokens


def teaches_thinking(run: Run, stage: AnyStage, prepared: Prepared) -> bool:
    """Whether a stage's model is to be asked in reasoning mode: as most of its rows are learned, or its problems
    asked."""
    if stage.kind in ("base", "pretrain", "filter"):
        return stage.thinking
    weights = Counter[bool]()
    for group in prepared.groups:
        weights[group.mode == REASONING] += group.examples
    thinks = weights[True] >= weights[False]
    is_surprise = not thinks and (prepared.kind != "rl" or stage.thinking)
    if run.recipe.evaluation is not None and run.recipe.evaluation.mode is None and is_surprise:
        why = "are asked without a thought" if prepared.kind == "rl" else "have no thought"
        run.message(
            f"{stage.name}: most rows of data.{run.recipe.data_of(stage)} {why}, so its model is measured in "
            "non-reasoning mode"
        )
    return thinks


def shared_prompts(run: Run, prepared: Mapping[str, StageData]) -> list[dict[str, Any]]:
    """The prompts that two stages of different data share, a stage and validation data, or a stage and the evaluation:
    counted, and the first named.

    Raises:
        DataError: there are some, and the recipe says `disjoint`; or a benchmark of the evaluation cannot be loaded.
    """
    found = []
    stages = [stage for stage in run.recipe.stages if stage.name in prepared]
    pairs = [
        ((one.name, prepared[one.name].examples), (other.name, prepared[other.name].examples))
        for one, other in combinations(stages, 2)
        if not run.recipe.may_share(one, other)
    ]
    learned = [(stage.name, prepared[stage.name].examples) for stage in stages]
    held_out = [(f"{stage.name}.validation", prepared[stage.name].validation) for stage in stages]
    pairs += [(one, (name, data)) for one, (name, data) in product(learned, held_out) if data is not None]
    for (one, examples), (other, others) in pairs:
        if (overlap := find_overlap(examples, others)) is not None:
            found.append(_row(one, other, overlap))
    measured = run.recipe.trained if run.recipe.evaluation is not None else ()
    measured = tuple(stage for stage in measured if stage.suite is not None or stage is measured[-1])
    tasks = [task for stage in measured for task in evaluation_tasks(run, stage)]
    questions = {prompt_hash(problem.question): problem.id for task in tasks for problem in task.problems}
    for stage in stages:
        hashes_N = prepared[stage.name].examples.prompts_N
        places = np.flatnonzero(np.isin(hashes_N, np.array(list(questions), np.uint64)))
        if len(places):
            first = int(places[0])
            count = len(set(hashes_N[places].tolist()))
            named = Overlap(
                count, prepared[stage.name].examples.place(first), f"problem {questions[int(hashes_N[first])]}"
            )
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
    """The data with every source in the mode in which the stage learns or asks it: its own, else the stage's."""
    sources = [
        source.model_copy(update={"mode": MODES[stage.thinking]})
        if source.mode == "auto" or stage.kind == "base"
        else source
        for source in data.sources
    ]
    return data.model_copy(update={"sources": tuple(sources)})


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
        for sentence in left_out(source, limit):
            run.message(f"data.{name}: {sentence}")


def left_out(source: Mapping[str, Any], limit: int) -> Iterator[str]:
    """What a source lost on its way into the data, a sentence for each reason, with the first row that has it."""
    rows = f"of the {source['rows']:,} rows of {source['name']}"
    for key, what in (("dropped", ""), ("dropped_parts", "part")):
        for reason, number in source[key].items():
            why = f"longer than {limit:,} tokens" if reason == "too long" else reason
            first = source["first_dropped"].get(reason) if reason != "too long" else None
            number_of = count(number, what) if what else f"{number:,}"
            sentence = f"{number_of} {rows} {_are(number)} left out ({why})"
            yield sentence + (f"; the first is {first}" if first else "")
    for how, done in (("truncated", "truncated to"), ("split", "split into pieces of at most")):
        if number := source[how]:
            yield f"{number:,} {rows} {_are(number)} {done} {limit:,} tokens"
    if columns := ", ".join(list(source["unread"])[:12]):
        yield f"these columns of {source['name']} are not read: {columns}"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def evaluation_tasks(run: Run, stage: TrainedStage) -> list[Task]:
    """What the model that a stage leaves is measured on.

    Raises:
        ConfigError, DataError: a suite or a benchmark of it cannot be loaded, or the stage's suite has a task that is
            called like one of the evaluation.
    """
    config, thinking = run.recipe.evaluation, thinks_after(run.folder, run.recipe, stage)
    assert config is not None  # the caller has looked
    if config.suite is None:
        context = run.recipe.shortest_context(run.shape)
        own = [
            task
            for name, problems in run.evaluation_problems.items()
            for task in own_tasks(problems, config, name, context=context, thinking=thinking)
        ]
    else:
        modes = None if config.mode is None else (MODES[thinking],)
        own = _of_suite(run, config.suite, rows=config.rows, modes=modes, sampling=config.sampling)
    if stage.suite is None:
        return own
    besides = _of_suite(run, stage.suite)
    _check_named_once(stage, own, besides, config)
    return [*own, *besides]


def _of_suite(run: Run, name: str, **changes: Any) -> list[Task]:
    """A suite's tasks as `plan` changes them, loaded once in a run."""
    config, key = run.recipe.evaluation, f"{name}{changes}"
    assert config is not None  # it has a suite, or a stage that is measured has one
    if key not in run.suites:
        run.suites[key] = plan(load_suite(name), limit=config.limit, settings=run.judge, **changes)
    return run.suites[key]


def _check_named_once(
    stage: TrainedStage, own: Sequence[Task], besides: Sequence[Task], config: EvaluationConfig
) -> None:
    """Finds a task of a stage's suite that is called like one of the evaluation."""
    names = {task.name for task in own}
    if twice := next((task.name for task in besides if task.name in names), None):
        if config.suite is None:
            why = f"{twice} is what evaluation.data measures already: call that data something else"
        elif twice == stage.suite:
            why = "is measured by evaluation.suite already: leave it out"
        else:
            why = f"its {twice} is measured by evaluation.suite already: leave it out"
        raise ConfigError(f"{stage.name}.suite = {stage.suite!r}: {why}")
