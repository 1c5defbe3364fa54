"""Measures any model by any suite: a run, a checkpoint, an endpoint."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.text import count
from open_exaone.base.version import code_version
from open_exaone.evaluation.compare import with_published
from open_exaone.evaluation.config import EvaluationConfig
from open_exaone.evaluation.faithfulness import ThoughtUse
from open_exaone.evaluation.missing import counted_notes
from open_exaone.evaluation.plan import plan
from open_exaone.evaluation.report import Entry, Report, build_report, write_report
from open_exaone.evaluation.run import Samples, run_tasks
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.spread import serving
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.suite import load_suite
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.card_training import size_record
from open_exaone.pipeline.faithfulness import measure_thoughts, seconds_of, with_greedy_replies
from open_exaone.pipeline.folder import RunFolder, rendering_time
from open_exaone.pipeline.measure import Machine, OnEvent, find_model, own_tasks
from open_exaone.pipeline.report import versions
from open_exaone.pipeline.source import is_address, is_run
from open_exaone.present.evaluation import write_evaluation_page
from open_exaone.present.report import write_report as write_run_page
from open_exaone.rollout.config import ChatEndpoint, EngineConfig, LocalEngine, VllmEngine, VllmServer
from open_exaone.rollout.provider import Provider
from open_exaone.rollout.providers.local import weights_hash
from open_exaone.rollout.providers.open import Policy, open_provider
from open_exaone.rollout.team import Serve
from open_exaone.tasks.own import own_problems
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.verify.own import is_own
from open_exaone.verify.settings import JudgeSettings

LOCAL, VLLM, VLLM_SERVER = "local", "vllm", "vllm_server"
FLAGS = {"rows": "rows", "budgets": "budget", "modes": "mode", "skip_missing": "skip-missing", "changed": "changed"}


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a measurement leaves to whoever asks for it; None is the suite's own."""

    suite: str | None = None  # a suite, a benchmark, a file of problems, a set of the run; None: the run's own
    stage: str | None = None  # which stage's model of a run; its last if None
    engine: str = LOCAL  # "local", "vllm", "vllm_server", or an endpoint's address
    rows: Mapping[str, str] = field(default_factory=dict)  # benchmark -> where its rows are
    limit: int | None = None  # so many problems of each benchmark
    modes: tuple[str, ...] | None = None
    num_samples: int | None = None
    budgets: tuple[int, ...] | None = None  # thinking budgets in tokens
    sampling: Mapping[str, Any] = field(default_factory=dict)  # fields of `Sampling`, such as {"temperature": 0.0}
    until_width: float | None = None  # stop a task once its interval is so wide to each side
    concurrency: int | None = None  # requests in flight, of a server; None: the engine's default
    skip_missing: bool = False  # leave out benchmarks that cannot be loaded
    changed: bool = False  # take benchmarks whose content differs from what we know
    compare: bool = False  # set the published numbers beside
    faithfulness: bool = False  # also measure whether answers depend on their thoughts
    engine_options: Mapping[str, Any] = field(default_factory=dict)  # of vLLM, or fields of the engine's table

    def given(self) -> dict[str, Any]:
        """What is given of how samples are drawn, by name."""
        own = {"num_samples": self.num_samples, "budgets": self.budgets}
        return {name: value for name, value in {**own, **self.sampling}.items() if value is not None}

    def __post_init__(self) -> None:
        if self.until_width is not None and not 0 < self.until_width < 0.5:
            raise ConfigError(f"--until-width {self.until_width}: must lie between 0 and 0.5, such as 0.02")
        for flag, number in (("--samples", self.num_samples), ("--limit", self.limit)):
            if number is not None and number < 1:
                raise ConfigError(f"{flag} {number}: must be at least 1")


def evaluate(
    source: str,
    choices: Choices,
    *,
    out: Path | None = None,
    machine: Machine | None = None,
    settings: JudgeSettings | None = None,
    on_event: OnEvent = lambda event: None,
    world: World = ALONE,
) -> tuple[Path, Report]:
    """Measures a model; a measurement that was cut goes on where it was.

    Args:
        source: a run's folder, a model's folder, a name on the hub, or an endpoint's address.
        out: the evaluation's folder; one under runs/eval, named after model and suite, if left out.
        settings: what judging may cost; the recipe's, for a run, if left out.
        world: the ranks that sample together; this is the first one, and the others serve (`serving_model`).

    Returns:
        the folder (`report.json`, `report.html`, `samples.jsonl`, …), and the report.

    Raises:
        ConfigError: there is no such model, stage, suite or engine, or the choices contradict one another.
        DataError: a benchmark cannot be loaded, or samples could not be had.
        RunFolderError: the folder is another evaluation's.
        Interrupted: after Ctrl-C or SIGTERM; what was generated is kept.
    """
    machine = machine or Machine()
    choices = _with_run_suite(source, choices)
    settings = judge_settings(source, settings, machine)
    left_out: list[str] = []
    suite, tasks, not_published = _planned(source, choices, settings, left_out.append)
    tasks = with_greedy_replies(tasks) if choices.faithfulness else tasks
    provider = open_model(source, choices, machine, world)
    store = Store(out or _default_folder(source, suite, tasks, provider))
    if provider.tokenizer is not None:
        with store.opened():
            provider.tokenizer.rendered_at = rendering_time(store.folder)
    num_samples = sum(len(task.problems) * task.sampling.num_samples for task in tasks)
    on_event({"message": f"{suite}: {count(num_samples, 'sample')} into {store.folder}"})
    started = datetime.now(UTC)
    done = run_tasks(tasks, provider, store, settings, suite=suite, until_width=choices.until_width, on_event=on_event)
    how: dict[str, Any] = {"suite": suite, "on_event": on_event}
    thoughts = measure_thoughts(done, provider, store.folder, settings, **how) if choices.faithfulness else []
    entries = [_scored(task, samples, provider, _ours(task, not_published, choices)) for task, samples in done]
    again = _asks_again((*entries, *thoughts), provider)
    notes = [*left_out, *again, *counted_notes([*store.notes, *provider.notes], done), *_stopped_early(tasks, done)]
    for note in notes:
        on_event({"message": f"note: {note}"})
    report = build_report(
        entries,
        suite=suite,
        model={**provider.identity, **_size(provider, source, choices), "notes": notes},
        code_version=code_version(),
        versions=versions(),
        started=started.isoformat(timespec="seconds"),
        seconds=store.seconds + seconds_of(store.folder) * choices.faithfulness,
        faithfulness=thoughts,
    )
    return store.folder, publish(store.folder, report, compare=choices.compare)


def _size(provider: Provider, source: str, choices: Choices) -> dict[str, Any]:
    """How large the model is and what its training took; nothing is known of an endpoint's."""
    from open_exaone.checkpoint.folder import load_config

    if provider.tokenizer is None:
        return {}
    folder, _ = find_model(Path(source), choices.stage)
    return size_record(folder, load_config(folder).num_parameters)


def _asks_again(entries: Sequence[Entry | ThoughtUse], provider: Provider) -> list[str]:
    why = f" (the first failed: {provider.failure})" if provider.failure else ""
    is_missing = any(entry.missing for entry in entries)
    return [f"run the same command again to generate the replies that are missing{why}"] * is_missing


def _scored(task: Task, samples: Samples, provider: Provider, not_published: Sequence[str]) -> Entry:
    flops, of_endpoint = _flops(provider, samples), provider.tokenizer is None
    return score_task(task, samples, flops=flops, not_published=not_published, of_endpoint=of_endpoint)


def _with_run_suite(source: str, choices: Choices) -> Choices:
    recipe = RunFolder(Path(source)).recipe() if is_run(Path(source)) else None
    if recipe is None or recipe.evaluation is None or choices.suite is not None:
        return choices
    return _with_suite(choices, recipe.evaluation)


def _with_suite(choices: Choices, config: EvaluationConfig) -> Choices:
    """The choices with the suite that a run was measured on, as it was, but for what is chosen."""
    if config.suite is None:
        return choices
    own = config.sampling
    num_samples = own.pop("num_samples", None)
    return replace(
        choices,
        suite=config.suite,
        limit=choices.limit or config.limit,
        num_samples=choices.num_samples or num_samples,
        rows={**config.rows, **choices.rows},
        modes=choices.modes or (None if config.mode is None or _is_own_file(config.suite) else (config.mode,)),
        sampling={**own, **choices.sampling},
    )


def _planned(
    source: str, choices: Choices, settings: JudgeSettings, on_skip: Callable[[str], object]
) -> tuple[str, list[Task], Callable[[str], Sequence[str]]]:
    """The suite's name, its tasks, and which settings of a task LG did not publish."""
    run = RunFolder(Path(source)) if is_run(Path(source)) else None
    data = list(run.recipe().data) if run else []
    suite = choices.suite
    if run is not None and (suite is None or suite in data or _is_own_file(suite)):
        return (*_own(run, suite, choices, settings), lambda name: ())
    if suite is None:
        if not is_address(source):
            find_model(Path(source), choices.stage)  # raises where there is none
        raise ConfigError(f"{source}: is not a run's folder: choose what to measure, such as --suite exaone-deep")
    try:
        found = load_suite(suite)
    except ConfigError as error:
        of_run = f"; data of this run are {', '.join(data)}" if data else ""
        raise ConfigError(f"--suite {suite}: {str(error).removeprefix(f'suite {suite!r}: ')}{of_run}") from error
    if run is None and "/" not in source and choices.engine in ("local", "vllm"):
        find_model(Path(source), choices.stage)  # a wrong name is reported before missing rows; nothing is downloaded
    tasks = plan(
        found,
        rows=choices.rows,
        limit=choices.limit,
        modes=choices.modes,
        sampling=choices.given(),
        run_problems=run.problems if run else None,
        settings=settings,
        on_change="warn" if choices.changed else "error",
        skip_missing=choices.skip_missing,
        on_skip=lambda why: on_skip(f"left out: {why}"),
    )
    return found.name, tasks, found.not_published


def _is_own_file(suite: str) -> bool:
    """Whether it is a file of the user's, which is asked as the run's own data are."""
    return "," not in suite and (suite.endswith(".jsonl") or is_own(suite))


def _own(run: RunFolder, suite: str | None, choices: Choices, settings: JudgeSettings) -> tuple[str, list[Task]]:
    """The run's own sets of problems, one of them or a file of the user's, measured as the run measures itself."""
    from open_exaone.checkpoint.folder import load_config

    for flag in FLAGS:
        if getattr(choices, flag):
            raise ConfigError(f"--{FLAGS[flag]}: needs a suite or a benchmark, such as --suite nano")
    recipe = run.recipe()
    _, thinking = find_model(run.path, choices.stage)
    config = recipe.evaluation or EvaluationConfig(data=suite or next(iter(recipe.data)))
    names = config.names if suite is None else (suite,)  # `_with_suite` has taken a run's suite
    own_limit = config.limit if suite is None else None
    in_both = tuple(name for name in config.in_both_modes if name in names) or None
    place: dict[str, Any] = {"data": names, "both_modes": in_both, "suite": None, "rows": {}, "limit": own_limit}
    config = validate(EvaluationConfig, config.model_dump() | place | choices.given(), "evaluation")
    limit, context = choices.limit or config.limit, min(load_config(one).max_positions for one in run.model_folders())
    tasks = list[Task]()
    for name in names:
        is_file = _is_own_file(name)
        problems = own_problems(name, settings) if is_file else run.problems(name)
        source, is_whole = name if is_file else "", choices.limit is None or choices.limit >= len(problems)
        own = own_tasks(problems[:limit], config, name, context=context, thinking=thinking, source=source)
        tasks += [replace(task, is_whole=is_whole) for task in own]
    return ", ".join(names), tasks


def judge_settings(source: str, given: JudgeSettings | None, machine: Machine) -> JudgeSettings:
    """How replies are judged on this machine; where nothing is given, as the run does whose model is asked."""
    path = Path(source)
    return machine.judge(given or (RunFolder(path).recipe().judge if is_run(path) else JudgeSettings()))


def serving_model(source: str, choices: Choices, machine: Machine, settings: JudgeSettings | None) -> Serve:
    """What the other ranks do while the first one evaluates a model, or samples from it: draw and judge their share.

    Args:
        settings: as for `evaluate`.
    """
    return serving(lambda: open_model(source, choices, machine), judge_settings(source, settings, machine))


def open_model(source: str, choices: Choices, machine: Machine, world: World = ALONE) -> Provider:
    """What samples from a model: `choices` name its stage, the engine and the engine's options.

    Args:
        world: the ranks that each have the model, and share out an evaluation's samples.

    Raises:
        ConfigError: there is no such model, stage or engine.
    """
    config = _engine(source, choices)
    if isinstance(config, ChatEndpoint):
        return open_provider(config, Policy(source))
    from open_exaone.checkpoint.folder import load_config, load_model, load_tokenizer, resolve_device
    from open_exaone.checkpoint.licence import licence_of, model_name, warn_before_generating

    folder, _ = find_model(Path(source), choices.stage)
    warn_before_generating(licence_of(folder), model_name(folder))
    is_local = isinstance(config, LocalEngine)
    policy = Policy(
        shown_name(folder),
        load_tokenizer(folder),
        load_model(folder, dtype=machine.dtype, device=resolve_device(machine.device)) if is_local else None,
        folder,
        weights_hash(folder),
        load_config(folder).num_parameters,
        team=world if world.size > 1 else None,
    )
    return open_provider(config, policy)


def shown_name(folder: Path) -> str:
    """What reports call the model in a folder: RUN/STAGE of a run's, for all of those folders are called "model"."""
    from open_exaone.checkpoint.licence import model_name

    stage = folder.resolve().parent
    return (
        f"{stage.parent.name}/{stage.name}" if folder.name == "model" and is_run(stage.parent) else model_name(folder)
    )


def _engine(source: str, choices: Choices) -> EngineConfig:
    """What --engine and --engine-option name."""
    given = choices.engine_options
    served = given if choices.concurrency is None else {"concurrency": choices.concurrency, **given}
    if is_address(source) and choices.engine != LOCAL:
        raise ConfigError(f"--engine {choices.engine}: {source} is an endpoint itself: leave --engine out")
    if is_address(source) or is_address(choices.engine):
        if choices.stage is not None:
            raise ConfigError(f"--stage {choices.stage}: an endpoint has no stages; name a run's folder")
        url, model = (source, None) if is_address(source) else (choices.engine, source)
        return validate(ChatEndpoint, {"url": url, "model": model, **served}, "--engine-option")
    if choices.engine == VLLM_SERVER:
        return validate(VllmServer, {"kind": VLLM_SERVER, **served}, "--engine-option")
    if choices.engine == VLLM:
        return VllmEngine(kind="vllm", options=dict(given))
    if choices.engine != LOCAL:
        raise ConfigError(
            f"--engine {choices.engine}: must be local, vllm, vllm_server, or an address such as "
            "http://localhost:8000/v1"
        )
    return validate(LocalEngine, dict(given), "--engine-option")


def _default_folder(source: str, suite: str, tasks: Sequence[Task], provider: Provider) -> Path:
    """One for each model and way of asking: more samples or problems go to the same folder, others to another."""
    ways = [(task.name, task.thinking, replace(task.sampling, num_samples=1)) for task in tasks]
    digest = hashlib.sha256(repr((sorted(provider.identity.items()), code_version(), ways)).encode()).hexdigest()
    model, asked = (re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[-40:] for text in (source, suite))
    return Path("runs") / "eval" / f"{model}-{asked}-{digest[:6]}"


def _ours(task: Task, not_published: Callable[[str], Sequence[str]], choices: Choices) -> list[str]:
    """The settings that LG did not publish, and those that whoever asks has changed."""
    published = not_published(task.name)
    names = {"num_samples": "k", "budgets": "thinking_budget"}
    changed = [names.get(name, name) for name in choices.given()]
    return list(dict.fromkeys([*published, *(changed if published else ())]))


def _stopped_early(tasks: Sequence[Task], done: Sequence[tuple[Task, Samples]]) -> list[str]:
    """Which tasks had an interval that was narrow enough before their last question."""
    return [
        f"{task.name}: stopped after {len(asked.problems)} of {len(task.problems)} questions: narrow enough by then"
        for task, (asked, _) in zip(tasks, done, strict=True)
        if len(asked.problems) < len(task.problems)
    ]


def _flops(provider: Provider, samples: Samples) -> float | None:
    costs = [provider.flops(sample.generation) for row in samples for sample in row]
    return None if None in costs else math.fsum(cost for cost in costs if cost is not None)


def link_pages(folder: Path) -> None:
    """Writes the pages around an evaluation's anew, so that they link to a page which has come since: its own, and the
    report of the run whose stage was measured."""
    write_evaluation_page(folder)
    run = folder.resolve().parent.parent
    if folder.resolve().name == "eval" and is_run(run) and (run / "report.json").is_file():
        write_run_page(run)


def publish(folder: Path, report: Report, *, compare: bool) -> Report:
    """Writes report.json and report.html."""
    report = with_published(report) if compare else report
    write_report(folder / "report.json", report)
    write_evaluation_page(folder)
    return report
