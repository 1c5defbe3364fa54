"""Judged samples of the problems in files: what `exaone data filter` and `exaone data build` begin with.

A folder of such a command holds `samples/` (a `Store`) and what the command makes of it; the same command resumes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from open_exaone.base.errors import DataError, RunFolderError
from open_exaone.base.links import own_folder
from open_exaone.base.records import Sample, Sampling
from open_exaone.base.text import count
from open_exaone.data.config import DataConfig
from open_exaone.data.document import prompt_ids
from open_exaone.data.prepare import check_verifiers
from open_exaone.evaluation.missing import counted_notes, names_of_missing, notes_on_replies, refuse_missing
from open_exaone.evaluation.run import Samples, run_tasks
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.evaluate import Choices, judge_settings, open_model
from open_exaone.pipeline.folder import BUILD_FILE, FILTER_FILE, rendering_time
from open_exaone.pipeline.measure import Machine, OnEvent, find_model
from open_exaone.pipeline.problems import read_problems
from open_exaone.pipeline.source import is_address, is_run
from open_exaone.rollout.provider import Provider
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.verify.settings import JudgeSettings

SAMPLES, REPORT = "samples", "report.html"
_OF_OTHERS = frozenset({"recipe.toml", FILTER_FILE, BUILD_FILE})


@dataclass(frozen=True, kw_only=True)
class Asking:
    """A model, the problems that it is asked, and where what comes of it stands."""

    source: str  # a run's folder, a model's folder, a name on the hub, or an endpoint's address
    data: DataConfig  # all is asked in the command's modes, whatever the sources' own modes
    out: Path  # the command's folder
    engine: Choices  # the stage, the engine and its options; its other fields are not read
    seed: int = 0  # of the samples
    machine: Machine = field(default_factory=Machine)
    settings: JudgeSettings | None = None  # of judging; a run's own, or the defaults, where None
    on_event: OnEvent = lambda event: None
    world: World = ALONE  # as for `evaluate`

    @property
    def judge(self) -> JudgeSettings:
        """How replies are judged."""
        return judge_settings(self.source, self.settings, self.machine)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Samples, and what a report must state of them."""

    done: list[tuple[Task, Samples]]
    num_missing: int  # samples without a reply
    notes: list[str]
    seconds: float  # that sampling took, over all parts

    @property
    def samples(self) -> list[Sample]:
        return [sample for _, samples in self.done for row in samples for sample in row]


def draw(
    tasks: Sequence[Task],
    provider: Provider,
    folder: Path,
    judge: JudgeSettings,
    *,
    name: str,
    on_event: OnEvent,
    needs_all: bool = False,
) -> Drawn:
    """Samples and judges; what `folder`/samples has is not sampled again.

    Args:
        name: what events and errors call it.
        needs_all: refuse samples without a reply; otherwise they count as those that could not be judged.

    Raises:
        DataError, EndpointError, RunFolderError, Interrupted: see `run_tasks`.
    """
    store = Store(folder / SAMPLES)
    done = run_tasks(tasks, provider, store, judge, suite=name, label=name, on_event=on_event)
    flat = [sample for _, samples in done for row in samples for sample in row]
    if needs_all:
        refuse_missing(flat, provider.failure)
    noted = counted_notes([*store.notes, *provider.notes], done)
    notes = list(dict.fromkeys([*notes_on_replies(flat, of_endpoint=provider.tokenizer is None), *noted]))
    for note in notes:
        on_event({"message": f"note: {note}"})
    return Drawn(done, len(names_of_missing(flat)), notes, store.seconds)


def open_asked(
    asking: Asking, modes: Sequence[tuple[str, bool, Sampling]], *, name: str, files: frozenset[str]
) -> tuple[list[Task], Provider]:
    """The problems of files as tasks that fit into a model's context, and what samples from the model.

    Args:
        modes: of each task its name, whether it is asked in reasoning mode, and how it is sampled.
        name: what errors call the data.
        files: all that the command opens in its folder.

    Raises:
        ConfigError: there is no such model, stage, engine or verifier.
        DataError: a row is no problem, or no prompt fits.
        RunFolderError: the folder holds something else.
    """
    check_verifiers(asking.data)
    problems = read_problems(asking.data, name)
    if not problems:
        raise DataError("the sources have no problem")
    _check_folder(asking.out, name, files)
    provider = open_model(asking.source, asking.engine, asking.machine, asking.world)
    store = Store(asking.out / SAMPLES)
    with store.opened():
        if provider.tokenizer is not None:
            provider.tokenizer.rendered_at = rendering_time(store.folder)
    tasks = [Task(own, name, tuple(problems), sampling, thinking) for own, thinking, sampling in modes]
    context = _context(asking.source, asking.engine)
    return [_fitting(task, provider, context, asking.on_event) for task in tasks], provider


def _check_folder(out: Path, name: str, files: frozenset[str]) -> None:
    """Leaves what is another command's alone."""
    if out.is_dir():
        own_folder(out, RunFolderError, names=files)
    is_ours = (out / SAMPLES).is_dir() and not any((out / other).exists() for other in _OF_OTHERS - files)
    is_ours = is_ours and Store(out / SAMPLES).suite in (None, name)
    if is_run(out.parent):
        raise RunFolderError(f"{out}: belongs to a run: choose another --out")
    if not is_ours and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(f"{out}: is not empty and holds no {name}: choose another --out")


def _context(source: str, engine: Choices) -> int | None:
    """The most tokens that the model takes; None of an endpoint, which refuses what is too long itself."""
    if is_address(source) or is_address(engine.engine):
        return None
    from open_exaone.checkpoint.folder import load_config

    return load_config(find_model(Path(source), engine.stage)[0]).max_positions


def _fitting(task: Task, provider: Provider, context: int | None, on_event: OnEvent) -> Task:
    """The task, less the problems whose prompts leave the reply too little of the context."""
    if provider.tokenizer is None or context is None:
        return task
    room = context - task.sampling.max_new_tokens
    lengths = map(len, prompt_ids(task.problems, provider.tokenizer, thinking=task.thinking))
    fitting = tuple(problem for problem, length in zip(task.problems, lengths, strict=True) if length <= room)
    if not fitting:
        raise DataError(
            f"no prompt fits: the model's context of {context:,} tokens less {task.sampling.max_new_tokens:,} for the "
            f"reply leaves {max(0, room):,}: lower --max-new-tokens"
        )
    if number := len(task.problems) - len(fitting):
        on_event({"message": f"{count(number, 'problem')} left out: the prompt has more than {room:,} tokens"})
    return Task(task.name, task.benchmark, fitting, task.sampling, task.thinking)
