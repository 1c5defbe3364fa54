"""What a leaderboard shows: models and their scores, published and measured here, side by side."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from open_exaone.present.card_facts import NOT_FINISHED, Facts

PLAIN = ("pass@1", "")  # metric and setting of the number that tables show
SURENESS = ("measured", "P", "S2", "S")  # the surest first


@dataclass(frozen=True, slots=True)
class Score:
    """One number of one model."""

    benchmark: str
    mode: str  # "reasoning", "non_reasoning" or "not stated"
    metric: str
    setting: str
    percent: float
    low: float | None
    high: float | None
    num_problems: int | None
    k: int | None
    source: str
    tag: str  # "measured" here, or as published: "P", "S2" or "S"
    thought_tokens: float | None = None

    @property
    def is_plain(self) -> bool:
        return (self.metric, self.setting) == PLAIN

    @property
    def is_measured(self) -> bool:
        return self.tag == SURENESS[0]


@dataclass(frozen=True, slots=True)
class Seed:
    """A model's page on a public list: (heading, number or None, footnote, other numbers), and its figures."""

    list: str
    facts: tuple[tuple[str, str], ...]
    parameters: float
    tokens: float
    columns: tuple[tuple[str, float | None, str, tuple[tuple[float, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class Model:
    """One model; sizes are numbers, None where they are not known."""

    name: str
    lab: str
    type: str
    access: str
    parameters: float | None
    tokens: float | None
    flops: float | None
    is_estimate: bool  # of its sizes
    source: str
    scores: tuple[Score, ...]
    active: float | None = None
    revision: str = ""
    folder: str = ""  # the name of the one that it was found in
    facts: Facts | None = None  # of a model that was measured here
    seed: Seed | None = None
    slug: str = ""

    @property
    def is_own(self) -> bool:
        return self.facts is not None

    @property
    def is_unfinished(self) -> bool:
        """Whether it is of a run some of whose stages are still to come."""
        return self.facts is not None and any(note.startswith(NOT_FINISHED) for note in self.facts.notes)


class Group(NamedTuple):
    """Models that share a lab or a type."""

    name: str
    slug: str
    models: tuple[Model, ...]


def named_apart(models: Sequence[Model]) -> list[Model]:
    """The models with a page name each. Of several with one name, those of the user show what sets them apart: their
    folders' names, else the beginning of their revisions, else numbers."""
    same: dict[str, list[Model]] = {}
    for model in models:
        same.setdefault(model.name, []).append(model)
    named = {name: iter(_apart(several)) for name, several in same.items()}
    taken: set[str] = set()
    return [replace(model, name=next(named[model.name]), slug=_free_slug(model.name, taken)) for model in models]


def _apart(several: Sequence[Model]) -> list[str]:
    """A name for each of several models of one name."""
    name, own = several[0].name, [model for model in several if model.is_own]
    marks = [[model.folder for model in own], [model.revision[:8] for model in own]]
    found = next(
        (one for one in marks if all(one) and len(set(one)) == len(own)), [str(n + 1) for n in range(len(own))]
    )
    mark = iter(found)
    marked = [next(mark) if model.is_own and len(several) > 1 else name for model in several]
    return [name if one == name else f"{name} ({one})" for one in marked]


def _free_slug(name: str, taken: set[str]) -> str:
    """A page name that is not taken yet, which is taken now."""
    slug, number = slug_of(name), 2
    while slug in taken:
        slug, number = f"{slug_of(name)}-{number}", number + 1
    taken.add(slug)
    return slug


def slug_of(name: str) -> str:
    """A name as a file's: letters of ASCII, digits and hyphens, at most 60."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-") or "unnamed"


def groups(models: Sequence[Model], by: str) -> list[Group]:
    """Models by "lab" or "type", the largest group first."""
    found: dict[str, list[Model]] = {}
    for model in models:
        found.setdefault(getattr(model, by), []).append(model)
    slugs = unique_slugs(found)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Group(name, slugs[name], tuple(own)) for name, own in ordered]


def unique_slugs(names: Iterable[str]) -> dict[str, str]:
    """A page name for each name."""
    taken: set[str] = set()
    return {name: _free_slug(name, taken) for name in names}


def best(model: Model, benchmark: str, mode: str) -> Score | None:
    """The plain number of a benchmark in a mode: measured here before published, of those the surest."""
    found = [score for score in model.scores if score.is_plain and (score.benchmark, score.mode) == (benchmark, mode)]
    return min(found, key=lambda score: SURENESS.index(score.tag), default=None)


def benchmarks(models: Sequence[Model]) -> dict[str, int]:
    """Every benchmark with the number of models that have a number on it, those with most first."""
    counts: dict[str, set[str]] = {}
    for model in models:
        for score in model.scores:
            counts.setdefault(score.benchmark, set()).add(model.slug)
    return {name: len(slugs) for name, slugs in sorted(counts.items(), key=lambda item: (-len(item[1]), item[0]))}


def modes(model: Model, shown: Sequence[str] | None = None) -> list[str]:
    """The modes in which a model has a plain number on the benchmarks that are shown; else those of all its numbers."""
    order = ("reasoning", "non_reasoning", "not stated")
    there = {score.mode for score in model.scores if score.is_plain and (shown is None or score.benchmark in shown)}
    there = there or {score.mode for score in model.scores}
    return [mode for mode in order if mode in there] or ["not stated"]


def in_order(model: Model) -> list[Score]:
    """A model's numbers as its page has them: the plain ones first, by mode and benchmark."""
    order = ("reasoning", "non_reasoning", "not stated")
    return sorted(model.scores, key=lambda one: (not one.is_plain, order.index(one.mode), one.benchmark, one.setting))


def ranked(models: Sequence[Model], benchmark: str) -> list[tuple[Model, Score]]:
    """Every number of a benchmark with its model, best first."""
    rows = [(model, score) for model in models for score in model.scores if score.benchmark == benchmark]
    return sorted(rows, key=lambda row: (not row[1].is_plain, -row[1].percent, row[0].name))


def ranks(rows: Sequence[tuple[Model, Score]]) -> Mapping[int, int]:
    """The rank of each plain number within its mode, by its place in `rows`: 1 + the number of better models."""
    found: dict[int, int] = {}
    for place, (_, score) in enumerate(rows):
        if score.is_plain:
            better = {
                model.slug
                for model, one in rows
                if one.is_plain and one.mode == score.mode and one.percent > score.percent
            }
            found[place] = len(better) + 1
    return found
