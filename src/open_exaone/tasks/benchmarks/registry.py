"""Every benchmark by its name, and the one way to its problems."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from open_exaone.base.config import did_you_mean, short
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks import choice_sets, code_sets, csat, gym_set, ifeval, math_sets, needle
from open_exaone.tasks.benchmarks.benchmark import Benchmark
from open_exaone.tasks.benchmarks.described import describe
from open_exaone.tasks.benchmarks.fetched import fetched_file
from open_exaone.tasks.benchmarks.load import Found, Loaded, OnChange, find, read
from open_exaone.tasks.benchmarks.names import spelled

_MORE = Path(__file__).parent / "more"
_CODED = (
    math_sets.MATH_500,
    math_sets.AIME_2024,
    math_sets.AIME_2025,
    math_sets.HMMT_FEB_2025,
    csat.CSAT_2025_MATH,
    choice_sets.GPQA_DIAMOND,
    choice_sets.MMLU,
    choice_sets.MMLU_REDUX,
    choice_sets.MMLU_REDUX_CORRECTED,
    choice_sets.MMLU_PRO,
    code_sets.LIVECODEBENCH,
    code_sets.LIVECODEBENCH_V5,
    code_sets.LIVECODEBENCH_V6,
    code_sets.HUMANEVAL,
    code_sets.MBPP,
    math_sets.GSM8K,
    ifeval.IFEVAL,
    math_sets.HLE,
    gym_set.REASONING_GYM,
    needle.NEEDLE,
    needle.NEEDLE_KO,
)
BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {item.name: item for item in (*_CODED, *map(describe, sorted(_MORE.glob("*.toml"))))}
)


def get_benchmark(name: str) -> Benchmark:
    """The benchmark of that name, however it is spelled ("MATH-500"), or the one that a `.toml` file describes.

    Raises:
        ConfigError: there is none; names the known ones. Or the file is wrong.
    """
    if name.endswith(".toml"):
        return describe(Path(name))
    if (known := spelled(name, BENCHMARKS)) in BENCHMARKS:
        return BENCHMARKS[known]
    raise ConfigError(
        f"benchmark {short(name)}: unknown{did_you_mean(name, BENCHMARKS)} The benchmarks are "
        f"{', '.join(BENCHMARKS)}, or a .toml file"
    )


def is_shipped(benchmark: Benchmark) -> bool:
    """Whether it comes with the package."""
    return BENCHMARKS.get(benchmark.name) is benchmark


def find_benchmark(which: str | Benchmark, source: str | None = None) -> Found:
    """Where a benchmark's rows are; of those that come with the package, what was fetched goes before the hub.

    Raises:
        ConfigError: there is no such benchmark.
        DataError: as `load.find`.
    """
    benchmark = get_benchmark(which) if isinstance(which, str) else which
    if source is None and isinstance(which, str) and is_shipped(benchmark) and benchmark.make is None:
        fetched = fetched_file(benchmark.name)
        if fetched.is_file():
            return replace(find(benchmark, str(fetched)), is_accepted=True)
    return find(benchmark, source)


def load_benchmark(
    which: str | Benchmark, source: str | None = None, *, limit: int | None = None, on_change: OnChange = "error"
) -> Loaded:
    """A benchmark's problems with the hash of their content; `find` and `read` say what the arguments mean.

    Raises:
        ConfigError: there is no such benchmark.
        DataError: as `find` and `read`.
    """
    return read(find_benchmark(which, source), limit=limit, on_change=on_change)


def load_problems(
    which: str | Benchmark, source: str | None = None, *, limit: int | None = None, on_change: OnChange = "error"
) -> list[Problem]:
    """A benchmark's problems alone.

    Raises:
        ConfigError, DataError: as `load_benchmark`.
    """
    return list(load_benchmark(which, source, limit=limit, on_change=on_change).problems)
