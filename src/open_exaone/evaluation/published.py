"""The numbers that LG published, as records; and what its reports say of them, checked.

The tables are data files under `published/tables/`: numbers as printed, in percent, with where each stands.
docs/published.md says how sure they are. They are LG's and others' measurements, not ours.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from open_exaone.base.config import read_toml
from open_exaone.evaluation.paired import Difference, published_estimate, unpaired_difference
from open_exaone.evaluation.statistics import Estimate

FOLDER = Path(__file__).parent / "published"
TAGS = ("P", "S2", "S")  # the surest first
ROUNDING = 0.05  # half of the last digit printed, in percent points


@dataclass(frozen=True, slots=True)
class Published:
    """One number of one table."""

    table: str  # the data file's name, such as "exaone-deep"
    model: str
    benchmark: str
    mode: str  # "reasoning", "non_reasoning" or "not stated"
    metric: str  # "pass@1" (the mean over k samples), "cons@64", or "score" where it is no share of questions
    setting: str  # what sets it apart from the plain number, such as "budget 32K"; else ""
    percent: float | None  # as printed; None where the table has no number
    tag: str  # how sure: "P" primary, "S" one third-party account, "S2" two that agree (docs/provenance.md)
    source: str
    k: int | None  # samples of each question, where known
    num_questions: int | None  # of the benchmark, where known

    @property
    def value(self) -> float:
        """As a fraction.

        Raises:
            ValueError: the table has no number.
        """
        if self.percent is None:
            raise ValueError(f"{self.model}, {self.benchmark}: {self.table} has no number")
        return round(self.percent / 100, 6)

    @property
    def column(self) -> str:
        return f"{self.benchmark} {self.metric}" + (f" ({self.setting})" if self.setting else "")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run beside one published number; all as fractions."""

    published: Published
    difference: float  # ours minus published
    within: bool  # the published number lies in our interval
    both: Difference | None  # with the published number's own uncertainty; None where P is unknown or it is no share


class Outcome(StrEnum):
    """What the tables say of a claim."""

    HOLDS = "holds"  # in every cell
    ON_AVERAGE = "on average"  # in the mean over cells, not in every one
    FAILS = "fails"
    UNCHECKABLE = "cannot be checked"


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence about the tables, and what they say of it."""

    text: str
    source: str
    outcome: Outcome
    why: str  # one sentence with the numbers


def load_tables() -> list[Published]:
    """Every number of every table, EXAONE Deep's before EXAONE 4.0's, cells without a number included.

    Raises:
        ConfigError: a data file is broken.
        ValueError: a row has not one cell for each model.
    """
    return list(_load())


def find(model: str, benchmark: str, mode: str = "reasoning", metric: str = "pass@1") -> Published | None:
    """The plain published number (no budget, no part of the benchmark), or None.

    Of several the surest, and of those the one in the earlier report.

    Names are compared without case, spaces and punctuation; "aime24" and the like are known.
    """
    found = [row for row in rows_for(benchmark) if (row.mode, row.metric, row.setting) == (mode, metric, "")]
    named = [row for row in found if _key(row.model) == _key(model)]
    return min(named, key=lambda row: TAGS.index(row.tag), default=None)


def rows_for(benchmark: str) -> list[Published]:
    """Every published number of a benchmark; none for one that no report has."""
    name = benchmark_name(benchmark)
    return [row for row in _load() if row.benchmark == name and row.percent is not None]


def benchmark_name(name: str) -> str | None:
    """The name that the tables use for a benchmark, or None."""
    names = {_key(row.benchmark): row.benchmark for row in _load()}
    aliases = {_key(alias): known for alias, known in _about()["aliases"].items()}
    return names.get(_key(name)) or aliases.get(_key(name))


def compare(
    benchmark: str,
    value: float,
    interval: tuple[float, float],
    *,
    mode: str | None = None,
    metric: str = "pass@1",
    setting: str = "",
    correlation: float = 1.0,
) -> list[Comparison]:
    """A run's number beside every published one of the benchmark, best first.

    Args:
        value, interval: fractions.
        mode: "reasoning" or "non_reasoning"; all if left out.
        metric: "pass@1", "cons@64" or "score".
        setting: such as "budget 32K"; the plain numbers if left out.
        correlation: of samples of one question, as measured on the run (`statistics.question_correlation`).

    Raises:
        ValueError: the value lies outside its interval, or the interval outside 0 to 1.
    """
    low, high = interval
    if not 0 <= low <= value <= high <= 1:
        raise ValueError(f"value {value}, interval {interval}: must be fractions, the value inside its interval")
    ours = Estimate(value, low, high, 0)
    rows = [row for row in rows_for(benchmark) if (row.metric, row.setting) == (metric, setting)]
    return [
        Comparison(row, value - row.value, low <= row.value <= high, _both(ours, row, correlation))
        for row in sorted(rows, key=lambda row: -row.value)
        if mode in (None, row.mode)
    ]


def claims() -> list[Claim]:
    """The reports' own claims, and checks between tables, each with what the tables say of it."""
    return [claim for item in read_toml(FOLDER / "claims.toml")["claims"] for claim in _CHECKS[item["kind"]](item)]


def _both(ours: Estimate, row: Published, correlation: float) -> Difference | None:
    if row.num_questions is None or row.metric == "score":
        return None
    k, alike = (row.k or 1, correlation) if row.metric == "pass@1" else (1, 1.0)  # a consensus is one number
    return unpaired_difference(ours, published_estimate(row.value, row.num_questions, k, alike))


@cache
def _load() -> tuple[Published, ...]:
    paths = sorted((FOLDER / "tables").glob("*.toml"), reverse=True)  # "exaone-deep" before "exaone-4.0"
    return tuple(row for path in paths for row in _rows(path))


@cache
def _about() -> dict[str, Any]:
    return read_toml(FOLDER / "benchmarks.toml")


def _rows(path: Path) -> Iterator[Published]:
    table = read_toml(path)
    for row in table["rows"]:
        if len(row["percent"]) != len(table["models"]):
            raise ValueError(f"{path.name}: {row['benchmark']}: {len(table['models'])} cells are needed")
        for model, percent in zip(table["models"], row["percent"], strict=True):
            yield Published(
                table=path.stem,
                model=model,
                benchmark=row["benchmark"],
                mode=row.get("mode", table["mode"]),
                metric=row["metric"],
                setting=row.get("setting", ""),
                percent=None if isinstance(percent, str) else float(percent),
                tag=row.get("tag", table["tag"]),
                source=row.get("source", table["source"]),
                k=row.get("k"),
                num_questions=_about()["num_questions"].get(row["benchmark"]) if not row.get("setting") else None,
            )


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _percent(model: str, benchmark: str, *, table: str = "", setting: str = "") -> float | None:
    """The first number that fits."""
    for row in _load():
        if (row.model, row.benchmark, row.setting) == (model, benchmark, setting) and table in ("", row.table):
            return row.percent
    return None


def _cells(model: str) -> dict[tuple[str, str], float]:
    """(mode, column) -> percent."""
    rows = [row for row in _load() if row.model == model and not row.setting]
    return {(row.mode, row.column): row.percent for row in rows if row.percent is not None}


def _check_above(item: Mapping[str, Any]) -> Iterator[Claim]:
    """One claim for each model of `over`: better in every cell that both have."""
    ours = _cells(item["model"])
    for other in item["over"]:
        theirs = _cells(other)
        shared = [cell for cell in ours if cell in theirs]
        losses = [f"{cell[1]} ({ours[cell]} against {theirs[cell]})" for cell in shared if ours[cell] <= theirs[cell]]
        text = f"{item['text']}: {other}"
        if not shared:
            yield Claim(text, item["source"], Outcome.UNCHECKABLE, "No table has both models.")
            continue
        mean = fmean(ours[cell] - theirs[cell] for cell in shared)
        outcome = Outcome.HOLDS if not losses else Outcome.ON_AVERAGE if mean > 0 else Outcome.FAILS
        why = f"Better in {len(shared) - len(losses)} of {len(shared)} columns, {mean:+.1f} points on average"
        yield Claim(text, item["source"], outcome, f"{why}; not in {', '.join(losses)}." if losses else f"{why}.")


def _check_loss(item: Mapping[str, Any]) -> Iterator[Claim]:
    """What the second setting loses against the first, in percent of the first."""
    first, second = (_percent(item["model"], item["benchmark"], setting=setting) for setting in item["settings"])
    if first is None or second is None:
        yield Claim(item["text"], item["source"], Outcome.UNCHECKABLE, "The table's cell could not be had.")
        return
    loss = 100 * (first - second) / first
    low, high = item["loss_percent"]
    outcome = Outcome.HOLDS if low <= loss <= high else Outcome.FAILS
    rounding = 100 * ROUNDING * (first + second) / first**2  # the most that the printed digits leave open
    undecided = outcome is Outcome.FAILS and (abs(loss - low) <= rounding or abs(loss - high) <= rounding)
    why = f"From {first} to {second}, a loss of {loss:.2f} %"
    yield Claim(item["text"], item["source"], outcome, f"{why}; rounding may decide it." if undecided else f"{why}.")


def _check_mean(item: Mapping[str, Any]) -> Iterator[Claim]:
    """One claim for each model: the plain number is the mean of its parts, up to rounding."""
    for model in item["models"]:
        whole = _percent(model, item["benchmark"])
        parts = [_percent(model, item["benchmark"], setting=setting) for setting in item["settings"]]
        text, known = f"{item['text']}: {model}", [part for part in parts if part is not None]
        if whole is None or len(known) < len(parts):
            yield Claim(text, item["source"], Outcome.UNCHECKABLE, "The parts were not found.")
            continue
        mean = fmean(known)
        outcome = Outcome.HOLDS if abs(mean - whole) <= 2 * ROUNDING else Outcome.FAILS
        yield Claim(text, item["source"], outcome, f"The mean of {known} is {mean:.2f}; printed is {whole}.")


def _check_same(item: Mapping[str, Any]) -> Iterator[Claim]:
    """One claim for each benchmark: two tables print one number."""
    for benchmark in item["benchmarks"]:
        first, second = (_percent(item["model"], benchmark, table=table) for table in item["tables"])
        text = f"{item['text']}: {benchmark}"
        if first is None or second is None:
            yield Claim(text, item["source"], Outcome.UNCHECKABLE, "A table lacks the number.")
            continue
        outcome = Outcome.HOLDS if first == second else Outcome.FAILS
        yield Claim(text, item["source"], outcome, f"{item['tables'][0]}: {first}; {item['tables'][1]}: {second}.")


def _check_none(item: Mapping[str, Any]) -> Iterator[Claim]:
    yield Claim(item["text"], item["source"], Outcome.UNCHECKABLE, f"{item['why'].capitalize()}.")


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Claim]]] = {
    "above": _check_above,
    "loss": _check_loss,
    "mean": _check_mean,
    "same": _check_same,
    "none": _check_none,
}
