"""From a suite to tasks: every benchmark is loaded, and all that cannot be are reported at once, each with its fix."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

from open_exaone.base.config import did_you_mean, validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.hub import OutOfReach
from open_exaone.base.records import Problem
from open_exaone.evaluation.suite import OF_A_RUN, Suite, SuiteTask
from open_exaone.evaluation.task import Task
from open_exaone.tasks.benchmarks.load import Loaded, OnChange, read, rows_hash
from open_exaone.tasks.benchmarks.names import spelled
from open_exaone.tasks.benchmarks.registry import find_benchmark, get_benchmark
from open_exaone.tasks.own import own_problems
from open_exaone.verify.own import is_own
from open_exaone.verify.settings import JudgeSettings

K = {"num_samples": "k"}  # what a suite's task calls it
RunProblems = Callable[[str], list[Problem]]  # the name of a run's data -> its problems


@dataclass(frozen=True, slots=True)
class _Place:
    """What loading needs besides the suite."""

    limit: int | None
    run_problems: RunProblems | None
    settings: JudgeSettings | None
    on_change: OnChange


def plan(
    suite: Suite,
    *,
    rows: Mapping[str, str] | None = None,
    limit: int | None = None,
    modes: Iterable[str] | None = None,
    sampling: Mapping[str, object] | None = None,
    run_problems: RunProblems | None = None,
    settings: JudgeSettings | None = None,
    on_change: OnChange = "error",
    skip_missing: bool = False,
    on_skip: Callable[[str], object] = lambda why: None,
) -> list[Task]:
    """The tasks of a suite, with their problems.

    Args:
        sampling: how samples are drawn, where that is not as the suite has it.
        rows: benchmark -> where its rows are instead: a file, a folder, `owner/name` of the hub, or what code
            makes.
        limit: take only so many problems of each benchmark, from the start.
        modes: "reasoning", "non_reasoning", or both; the suite's where left out.
        sampling: fields of `Sampling` instead of the suite's, such as {"temperature": 0.0}, and "budgets": thinking
            budgets in tokens, each of which makes a task of its own, "aime_2025@16384".
        run_problems: gives the problems of a run's data by name, where a run's folder is measured.
        settings: the limits under which a user's own problems are judged.
        on_change: "warn" to accept a benchmark whose content changed.
        skip_missing: leave out benchmarks that cannot be loaded, and call `on_skip` with a line for each; wrong rows
            stay an error.

    Raises:
        ConfigError: settings contradict one another, or `rows` names a benchmark that is not asked.
        DataError: benchmarks cannot be loaded; names them all, each with its fix.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit = {limit}: must be at least 1")
    chosen = suite if modes is None else suite.of_modes(modes)
    changes = {K.get(name, name): value for name, value in (sampling or {}).items()}
    tasks = _override(chosen, rows or {}, changes)
    place = _Place(limit, run_problems, settings, on_change)
    loaded = _load_all(suite.name, tasks, place, on_skip if skip_missing else None)
    there = [task for task in tasks if (task.benchmark, task.source) in loaded]
    return [made for task in there for made in _tasks(task, loaded[task.benchmark, task.source])]


def _override(suite: Suite, rows: Mapping[str, str], changes: dict[str, object]) -> list[SuiteTask]:
    """The suite's tasks with the caller's changes, checked again."""
    asked = dict.fromkeys(task.benchmark for task in suite.tasks)
    rows = {spelled(name, asked): place for name, place in rows.items()}
    if unknown := sorted(rows.keys() - asked):
        near = did_you_mean(unknown[0], asked)
        raise ConfigError(f"--rows {unknown[0]}: not in suite {suite.name}{near} Its benchmarks are {', '.join(asked)}")
    tasks = list[SuiteTask]()
    for task in suite.tasks:
        values = task.model_dump() | changes | {"source": rows.get(task.benchmark, task.source)}
        values["metrics"] = [item for item in task.metrics if int(item.partition("@")[2] or 1) <= values["k"]]
        tasks.append(validate(SuiteTask, values, f"suite {suite.name}"))
    return tasks


def _load_all(
    suite: str, tasks: list[SuiteTask], place: _Place, on_skip: Callable[[str], object] | None
) -> dict[tuple[str, str | None], Loaded]:
    """What can be loaded, by benchmark and source; `on_skip` gets what is missing, which is an error without it."""
    loaded, wrong, missing = dict[tuple[str, str | None], Loaded](), list[str](), dict[str, DataError]()
    for benchmark, source in dict.fromkeys((task.benchmark, task.source) for task in tasks):
        try:
            reader = _find(benchmark, source, place)
        except (DataError, ConfigError) as error:
            if source is None and isinstance(error, DataError):
                missing[benchmark] = error
            else:
                wrong.append(_named(benchmark, error))
            continue
        try:
            loaded[benchmark, source] = reader()
        except (DataError, ConfigError) as error:
            wrong.append(_named(benchmark, error))
    if on_skip is not None:
        for line in _listed_alone(missing):
            on_skip(line)
        missing.clear()
    if wrong or missing:
        number = len(wrong) + len(missing)
        lines = "".join(f"\n- {fault}" for fault in wrong) + _listed_together(missing, bool(loaded or wrong))
        raise DataError(f"suite {suite}: {number} of its benchmarks cannot be loaded:{lines}")
    if not loaded:
        raise DataError(f"suite {suite}: nothing is left to measure: none of its benchmarks can be loaded")
    return loaded


def _listed_alone(missing: Mapping[str, DataError]) -> list[str]:
    """A line for each that is left out, and why."""
    return [
        _named(name, f"{error.what}, and {error.reason}" if isinstance(error, OutOfReach) else error)
        for name, error in missing.items()
    ]


def _listed_together(missing: Mapping[str, DataError], has_others: bool) -> str:
    """A line for each with its fix, and after them what concerns them all, once."""
    if not missing:
        return ""
    reasons = dict.fromkeys(error.reason for error in missing.values() if isinstance(error, OutOfReach))
    lines = list[str]()
    for name, error in missing.items():
        if isinstance(error, OutOfReach):
            why = error.what if len(reasons) == 1 else f"{error.what}, and {error.reason}"
            lines.append(f"\n- {name}: {why}: {error.copy}, and add --rows {name}=FOLDER")
        else:
            lines.append(f"\n- {_named(name, error)}")
    if len(reasons) == 1:
        (reason,) = reasons
        lines.append(f"\n{reason[0].upper()}{reason[1:]}: check the network.")
    if reasons:
        lines.append("\n`exaone fetch NAME` downloads a benchmark's rows once.")
    if has_others:
        lines.append("\n--skip-missing evaluates the rest.")
    return "".join(lines)


def _find(benchmark: str, source: str | None, place: _Place) -> Callable[[], Loaded]:
    """The reader of the problems, once they are known to exist."""
    if benchmark.startswith(OF_A_RUN) and source is None:
        if place.run_problems is None:
            raise DataError(
                f"{benchmark}: belongs to a run: evaluate a run's folder, or name problems of "
                f"yours: --rows {benchmark}=FILE.jsonl"
            )
        return partial(_own, partial(place.run_problems, benchmark.removeprefix(OF_A_RUN)), benchmark, place)
    if benchmark.startswith(OF_A_RUN) or _is_own(benchmark):
        named = source or benchmark
        return partial(_own, partial(own_problems, named, place.settings), named, place)
    try:
        found = find_benchmark(benchmark, source)
    except OutOfReach:
        raise
    except DataError as error:
        raise DataError(f"{error}; or name a file here: --rows {benchmark}=FILE") from error
    return partial(read, found, limit=place.limit, on_change=place.on_change)


def _named(benchmark: str, error: Exception | str) -> str:
    return f"{benchmark}: {str(error).removeprefix(f'{benchmark}: ')}"


def _own(problems: Callable[[], list[Problem]], source: str, place: _Place) -> Loaded:
    """Problems that are no benchmark's: nothing is known of their content."""
    every = problems()
    some = tuple(every[: place.limit])
    if not some:
        raise DataError(f"{source}: has no problems: give it at least one")
    sha256 = rows_hash(asdict(problem) for problem in some)
    return Loaded(some, sha256, source, is_pinned=False, is_whole=len(some) == len(every))


def _is_own(benchmark: str) -> bool:
    return benchmark.endswith(".jsonl") or is_own(benchmark)


def _tasks(task: SuiteTask, content: Loaded) -> list[Task]:
    """One task, or one for each thinking budget."""
    is_described = task.benchmark.endswith(".toml")
    plain = Task(
        name=task.label,
        benchmark=get_benchmark(task.benchmark).name if is_described else task.plain_name,
        problems=content.problems,
        sampling=task.sampling,
        thinking=task.mode == "reasoning",
        source=content.source,
        sha256=content.sha256,
        is_pinned=content.is_pinned,
        is_whole=content.is_whole,
    )
    return [_with_budget(plain, budget, task.answer_tokens) for budget in task.budgets] or [plain]


def _with_budget(task: Task, budget: int, answer_tokens: int) -> Task:
    sampling = replace(task.sampling, max_new_tokens=budget + answer_tokens, thinking_budget=budget)
    return replace(task, name=f"{task.name}@{budget}", sampling=sampling)
