"""Suites: benchmarks, the number of samples of each question, and their sampling. Each is a TOML file in `suites/`.

A task's values come from its own row, from the table of its mode, or from `[defaults]`, in this order. `not_published`
names those that LG did not publish and we chose; docs/suites.md has them all as tables.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from open_exaone.base.config import Config, did_you_mean, read_toml, short, validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Sampling, mode_label
from open_exaone.rollout.config import SamplingConfig
from open_exaone.tasks.benchmarks.names import spelled
from open_exaone.tasks.benchmarks.registry import BENCHMARKS, get_benchmark
from open_exaone.verify.own import is_own

FOLDER = Path(__file__).parent / "suites"
SHIPPED: Mapping[str, Path] = MappingProxyType({path.stem: path for path in sorted(FOLDER.glob("*.toml"))})
Mode = Literal["reasoning", "non_reasoning"]
MODES: tuple[Mode, ...] = get_args(Mode)
OF_A_RUN = "run:"  # before the name of a run's own set of problems
SEED = 20250316

_METRIC = re.compile(r"(pass|cons)@([1-9][0-9]{0,3})|csat")
_UNPUBLISHED = ("prompt", "rows")  # what a report may leave open, besides a task's fields
_ONE = {  # a benchmark by itself: the reports' sampling
    "k": 1,
    "temperature": 0.6,
    "top_p": 0.95,
    "max_new_tokens": 32768,
    "not_published": ("k", "presence_penalty", "seed"),
}
_ONE_NON_REASONING = {  # greedy, as the reports are where k = 1
    "mode": "non_reasoning",
    "temperature": 0.0,
    "not_published": ("k", "presence_penalty", "seed", "max_new_tokens"),
}


class SuiteTask(SamplingConfig):
    """One benchmark in one mode."""

    benchmark: str = Field(min_length=1)
    """Its name, a `.toml` that describes one, a `.jsonl` of problems, "FILE.py:function", or "run:NAME" of a run."""
    name: str | None = Field(default=None, min_length=1)
    """Its name in the report; by default, made from the benchmark and the mode."""
    mode: Mode = "reasoning"
    """Whether the model writes a thought before its answer."""
    k: int = Field(ge=1, le=1024)
    """The number of samples of each question."""
    temperature: float = Field(ge=0, le=10)
    """The sampling temperature; 0 is greedy decoding."""
    top_p: float = Field(gt=0, le=1)
    """Nucleus sampling: the most probable tokens that add up to this probability. Unused in greedy decoding."""
    max_new_tokens: int = Field(ge=1, le=1 << 24)
    """The length limit of a reply in tokens, thought included."""
    budgets: tuple[int, ...] = ()
    """Thinking budgets in tokens. Each makes a task whose replies have at most budget + answer_tokens tokens."""
    answer_tokens: int = Field(default=4096, ge=1, le=1 << 20)
    """The tokens left for the answer after a thought that a budget ended."""
    seed: int = Field(default=SEED, ge=0, le=1 << 63)
    """The seed of sampling."""
    metrics: tuple[str, ...] = ("pass@1",)
    """What the report's row holds: "pass@K", "cons@K", or "csat", the mean over the three electives."""
    source: str | None = None
    """Where its rows are, or what code is asked to make; the benchmark's own where left out."""
    not_published: tuple[str, ...] = ()
    """Which of these LG did not publish and we chose; also "prompt" and "rows"."""

    @property
    def label(self) -> str:
        """The task's name, a thinking budget left out."""
        plain = self.plain_name
        return self.name or (plain if self.mode == "reasoning" else f"{plain}-{mode_label(self.mode)}")

    @property
    def plain_name(self) -> str:
        """The benchmark without what says where it is: "run:test" is "test", "sets/capitals.toml" is "capitals"."""
        if is_own(self.benchmark):
            return self.benchmark.rpartition(":")[2]
        if self.benchmark.endswith((".toml", ".jsonl")):
            return Path(self.benchmark).stem
        return self.benchmark.removeprefix(OF_A_RUN)

    @property
    def sampling(self) -> Sampling:
        """How its samples are drawn, a thinking budget left out."""
        return self.to_sampling(num_samples=self.k)

    def in_modes(self, modes: Iterable[str]) -> tuple["SuiteTask", ...]:
        """The task, if its mode is one of these."""
        return (self,) if self.mode in modes else ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.temperature == 0 and self.k > 1:
            raise ValueError(
                f"{self.label}: k = {self.k} with temperature = 0: greedy replies are all the same: set k = 1, or a "
                "temperature above 0"
            )
        if self.budgets and self.mode != "reasoning":
            raise ValueError(
                f"{self.label}: budgets with mode = {self.mode!r}: such replies have no thought to cut: leave the "
                "budgets out, or ask in mode 'reasoning' alone"
            )
        for budget in self.budgets:
            if not 1 <= budget < self.max_new_tokens:
                raise ValueError(
                    f"{self.label}: budget {budget} with max_new_tokens = {self.max_new_tokens}: must be at least 1 "
                    "and below it: leave this budget out, or raise max_new_tokens"
                )
        if len(set(self.budgets)) < len(self.budgets):
            raise ValueError(f"{self.label}: budgets = {list(self.budgets)}: one is listed twice: remove it")
        for metric in self.metrics:
            found = _METRIC.fullmatch(metric)
            if not found:
                raise ValueError(f"{self.label}: metric {metric!r}: must be pass@K, cons@K or csat")
            if found[2] and int(found[2]) > self.k:
                raise ValueError(f"{self.label}: metric {metric!r}: needs k = {found[2]} samples, not {self.k}")
        known = (*type(self).model_fields, *_UNPUBLISHED)
        if unknown := [item for item in self.not_published if item not in known]:
            raise ValueError(f"{self.label}: not_published: {unknown[0]!r} is none of {', '.join(known)}")
        return self


class LoneTask(SuiteTask):
    """A benchmark by itself, which may be asked in either mode."""

    def in_modes(self, modes: Iterable[str]) -> tuple[SuiteTask, ...]:
        """The task in each of these modes."""
        named = {"name": f"{self.name}-non-reasoning"} if self.name else {}
        other = self.model_copy(update={**_ONE_NON_REASONING, **named})
        return tuple(task for task in (self, other) if task.mode in modes)


class Suite(Config):
    """Tasks that are measured together."""

    name: str = Field(min_length=1)
    """What the report calls it."""
    what: str = Field(min_length=1)
    """One sentence."""
    protocol: str = "ours"
    """Whose way of measuring this is."""
    tasks: tuple[SuiteTask, ...] = Field(min_length=1)
    """In this order."""

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if twice := _first_twice(self.tasks):
            raise ValueError(f"tasks: two are called {twice!r}: give one a name of its own")
        return self

    def of_modes(self, modes: Iterable[str]) -> Self:
        """The tasks in these modes; a benchmark by itself is asked in any.

        Raises:
            ConfigError: a mode is unknown, or no task is left.
        """
        wanted = tuple(modes)
        for mode in wanted:
            if mode not in MODES:
                raise ConfigError(f"mode {mode!r}: must be one of {', '.join(MODES)}")
        tasks = tuple(made for task in self.tasks for made in task.in_modes(wanted))
        if not tasks:
            raise ConfigError(f"suite {self.name}: has no task in mode {' or '.join(wanted)}: choose another mode")
        return self.model_copy(update={"tasks": tasks})

    def not_published(self, name: str) -> tuple[str, ...]:
        """Which settings of a planned task LG did not publish; `name` as in `Task.name`, with or without its budget."""
        tasks = (made for task in self.tasks for made in task.in_modes(MODES))
        return next((task.not_published for task in tasks if task.label == name.partition("@")[0]), ())


def suite_names() -> list[str]:
    """Every name that `load_suite` knows besides the benchmarks': "exaone-4.0", "exaone-4.0-reasoning", …"""
    names = list[str]()
    for name in SHIPPED:
        modes = {task.mode for task in load_suite(name).tasks}
        names += [name, *(f"{name}-{mode_label(mode)}" for mode in MODES if len(modes) > 1)]
    return names


def load_suite(name_or_file: str) -> Suite:
    """A shipped suite, one mode of it ("exaone-4.0-reasoning"), a suite's file, or a benchmark as a suite of one.

    A benchmark is one by name, a `.toml` that describes it, a `.jsonl` of problems, a function that gives them
    ("FILE.py:function"), or a run's own set ("run:test"). It is asked with the reports' sampling, k = 1, in either
    mode. Several of all these are named with commas, "math_500,aime_2025". Case, hyphens and spaces of a name that the
    package has play no part.

    Raises:
        ConfigError: there is no such suite or benchmark, or two have a task of one name, or the file is wrong; names
            the file and the field.
    """
    if "," in name_or_file and not os.path.exists(name_or_file.rpartition(":")[0] or name_or_file):
        return _several(name_or_file)
    if name_or_file in SHIPPED:
        return _read(SHIPPED[name_or_file], read_toml(SHIPPED[name_or_file]))
    for mode in MODES[::-1]:  # "-non-reasoning" ends in "-reasoning"
        if (base := name_or_file.removesuffix(f"-{mode_label(mode)}")) != name_or_file and base in SHIPPED:
            return load_suite(base).of_modes([mode]).model_copy(update={"name": name_or_file})
    if name_or_file in BENCHMARKS:
        return _one(name_or_file, BENCHMARKS[name_or_file].what)
    if name_or_file.endswith(".toml"):
        return _from_toml(Path(name_or_file))
    if name_or_file.endswith(".jsonl") or is_own(name_or_file):
        return _one(name_or_file, "Problems of your own.")
    if name_or_file.startswith(OF_A_RUN) and name_or_file != OF_A_RUN:
        return _one(name_or_file, "A run's own problems.")
    names = (*suite_names(), *BENCHMARKS)
    if (known := spelled(name_or_file, names)) != name_or_file:
        return load_suite(known)
    raise ConfigError(
        f"suite {short(name_or_file)}: unknown{did_you_mean(name_or_file, names)} The suites are "
        f"{', '.join(suite_names())}; a benchmark by itself is one of {', '.join(BENCHMARKS)}; or name a file: .toml, "
        ".jsonl or FILE.py:function"
    )


def _several(names: str) -> Suite:
    """All tasks of suites and benchmarks that are named with commas."""
    parts = [part.strip() for part in names.split(",")]
    if not all(parts):
        raise ConfigError(f"suite {short(names)}: a name is empty: write them as math_500,aime_2025")
    suites = [load_suite(part) for part in parts]
    tasks = tuple(task for suite in suites for task in suite.tasks)
    if twice := _first_twice(tasks):
        having = " and ".join(suite.name for suite in suites if twice in (task.label for task in suite.tasks))
        raise ConfigError(f"suite {short(names)}: {having} both have a task {twice!r}: name one of them alone")
    protocols = dict.fromkeys(suite.protocol for suite in suites)
    return Suite(
        name=",".join(suite.name for suite in suites),
        what=" ".join(suite.what for suite in suites),
        protocol=" and ".join(protocols),
        tasks=tasks,
    )


def _first_twice(tasks: Iterable[SuiteTask]) -> str | None:
    """A name that two tasks have."""
    labels = [task.label for task in tasks]
    return next((label for label in labels if labels.count(label) > 1), None)


def _from_toml(path: Path) -> Suite:
    """A suite's file has [[tasks]]; a benchmark's has what `described.Description` knows."""
    values = read_toml(path)
    of_benchmark = sorted({"judge", "fields", "file", "hub", "answer_is"} & values.keys())
    if "tasks" in values and of_benchmark:
        raise ConfigError(
            f"{path}: {of_benchmark[0]}: stands beside tasks: a suite has [[tasks]], a benchmark has file or hub; "
            "make two files of it"
        )
    if "tasks" in values:
        return _read(path, values)
    if not of_benchmark:
        raise ConfigError(
            f"{path}: is neither a suite, which has [[tasks]] with benchmark and k, nor a benchmark, which has name, "
            "what, and file or hub"
        )
    benchmark = get_benchmark(str(path))
    return _one(str(path), benchmark.what, benchmark.name)


def _one(benchmark: str, what: str, name: str | None = None) -> Suite:
    task = validate(LoneTask, {"benchmark": benchmark, "name": name, **_ONE}, benchmark)
    return Suite(name=task.label, what=what, tasks=(task,))


def _read(path: Path, values: dict[str, Any]) -> Suite:
    tables = {table: values.pop(table, {}) for table in ("defaults", *MODES)}
    for table, content in tables.items():
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: {table} = {short(content)}: must be a table of a task's fields")
        known = sorted(SuiteTask.model_fields.keys() - {"benchmark", "name", "mode"})
        if unknown := content.keys() - set(known):
            name = min(unknown)
            near = did_you_mean(name, known)
            raise ConfigError(f"{path}: {table}.{name}: unknown key{near} Known keys: {', '.join(known)}")
    if unknown := values.keys() - Suite.model_fields.keys():
        name, known = min(unknown), sorted((*Suite.model_fields, *tables))
        raise ConfigError(f"{path}: {name}: unknown key{did_you_mean(name, known)} Known keys: {', '.join(known)}")
    rows = values.get("tasks")
    if isinstance(rows, list):
        values["tasks"] = [_whole(path, row, tables) for row in rows]
    return validate(Suite, values, str(path))


def _whole(path: Path, row: Any, tables: Mapping[str, dict[str, Any]]) -> Any:
    """A row of [[tasks]] with what it does not say itself; what is not published adds up."""
    if not isinstance(row, dict):
        return row
    levels = [tables["defaults"], tables.get(str(row.get("mode", MODES[0])), {}), row]
    merged = {key: value for level in levels for key, value in level.items()}
    unpublished = [level["not_published"] for level in levels if "not_published" in level]
    if unpublished and all(isinstance(items, list) for items in unpublished):
        merged["not_published"] = list(dict.fromkeys(str(item) for items in unpublished for item in items))
    return merged | {key: _beside(path, merged[key]) for key in ("benchmark", "source") if key in merged}


def _beside(path: Path, written: Any) -> Any:
    """A file that stands beside the suite's file is meant from there."""
    if isinstance(written, str) and written not in BENCHMARKS:
        beside = path.parent / written.split(":")[0]
        if beside.suffix and beside.is_file():
            return str(path.parent / written)
    return written
