"""The leaderboard's tables: cells with a text, a number to sort by, and where they lead."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from open_exaone.present import formatting, readings
from open_exaone.present.card import alscore_text
from open_exaone.present.leaderboard_rows import Model, Score, best, in_order, modes, ranks
from open_exaone.present.leaderboard_texts import LeaderboardTexts

ESTIMATE = "≈"
MAX_WORD = 14  # characters of a word of a printed heading


class Cell(NamedTuple):
    """What stands in a cell."""

    text: str
    number: float | None = None  # that it is sorted by; None sorts by the text, or last in a column of numbers
    below: str = ""  # in small type
    href: str = ""
    title: str = ""


class Column(NamedTuple):
    """A heading."""

    title: str
    is_number: bool = False

    @property
    def classes(self) -> str:
        """Of the style sheet: words, and one that is too long for a printed column, where it may be broken anywhere."""
        is_long = max(map(len, re.split(r"[\s/-]", self.title))) > MAX_WORD
        return " ".join(["w"] * (not self.is_number) + ["long"] * is_long)


class Row(NamedTuple):
    """A row, and what filters it."""

    cells: tuple[Cell, ...]
    lab: str = ""
    type: str = ""
    mode: str = ""
    origin: str = ""  # "measured" or "published"


class Sheet(NamedTuple):
    """A table that can be sorted and filtered."""

    label: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


class Links(NamedTuple):
    """Where pages lead, seen from a page; texts are slugs, never foreign."""

    root: str  # "" or "../"
    labs: dict[str, str]
    types: dict[str, str]
    benchmarks: dict[str, str]

    def model(self, model: Model) -> str:
        return f"{self.root}models/{model.slug}.html"

    def lab(self, name: str) -> str:
        return f"{self.root}labs/{self.labs[name]}.html"

    def type(self, name: str) -> str:
        return f"{self.root}architectures/{self.types[name]}.html"

    def benchmark(self, name: str) -> str:
        return f"{self.root}rankings/{self.benchmarks[name]}.html"


NOTHING = Cell(formatting.NONE)


def models_sheet(
    models: Sequence[Model], shown: Sequence[str], texts: LeaderboardTexts, links: Links, without: str = ""
) -> Sheet:
    """A row for each model and mode in which it has a number on one of the benchmarks that are shown.

    Args:
        without: "lab" or "type", where all models have the same.
    """
    sizes = ("parameters", "tokens", "ratio", "alscore", "flops")
    columns = [Column(texts(name), name == "parameters") for name in ("model", "mode", "parameters")]
    columns += [Column(name, True) for name in shown]
    columns += [Column(texts(name), True) for name in sizes[1:]]
    columns += [Column(texts(name)) for name in ("lab", "type") if name != without]
    rows = [_model_row(model, mode, shown, texts, links, without) for model in models for mode in modes(model, shown)]
    return without_empty(Sheet(texts("all_models"), tuple(columns), tuple(rows)))


def _model_row(
    model: Model, mode: str, shown: Sequence[str], texts: LeaderboardTexts, links: Links, without: str
) -> Row:
    parameters, *sizes = size_cells(model, texts)
    about = {
        "lab": Cell(texts.value(model.lab), href=links.lab(model.lab)),
        "type": Cell(texts.value(model.type), href=links.type(model.type)),
    }
    cells = [
        _name_cell(model, texts, links),
        Cell(texts.value(mode)),
        parameters,
        *(score_cell(best(model, name, mode)) for name in shown),
        *sizes,
        *(cell for name, cell in about.items() if name != without),
    ]
    return Row(tuple(cells), model.lab, model.type, mode, "measured" if model.is_own else "published")


def _name_cell(model: Model, texts: LeaderboardTexts, links: Links) -> Cell:
    return Cell(model.name, href=links.model(model), below=texts("unfinished") if model.is_unfinished else "")


def without_empty(sheet: Sheet) -> Sheet:
    """The sheet without the columns of numbers in which no row has one."""
    kept = [
        place
        for place, column in enumerate(sheet.columns)
        if not column.is_number or any(row.cells[place] != NOTHING for row in sheet.rows)
    ]
    rows = [row._replace(cells=tuple(row.cells[place] for place in kept)) for row in sheet.rows]
    return sheet._replace(columns=tuple(sheet.columns[place] for place in kept), rows=tuple(rows))


def size_cells(model: Model, texts: LeaderboardTexts) -> list[Cell]:
    """Parameters, tokens, tokens for each parameter, ALScore and FLOPs."""
    mark = ESTIMATE if model.is_estimate else ""
    active = texts("active", n=formatting.billions(model.active)) if model.active else ""

    def cell(value: float | None, text: str = "", below: str = "") -> Cell:
        return NOTHING if value is None else Cell(mark + (text or formatting.billions(value)), value, below)

    size, tokens = model.parameters, model.tokens
    if not size or not tokens or size < 0 or tokens < 0:
        return [cell(size, below=active), cell(tokens), NOTHING, NOTHING, cell(model.flops, _flops(model.flops))]
    ratio, score = readings.token_ratio(size, tokens), readings.alscore(size, tokens)
    optimal = texts("optimal") if readings.is_compute_optimal(ratio) else ""
    return [
        cell(size, below=active),
        cell(tokens),
        cell(ratio, f"{ratio:,}:1", optimal),
        cell(score, alscore_text(score), readings.tier(score)),
        cell(model.flops, _flops(model.flops)),
    ]


def _flops(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}".replace("e+", "e")


def score_cell(score: Score | None) -> Cell:
    """A score with its interval and n."""
    if score is None:
        return NOTHING
    parts = [interval_text(score), f"n {score.num_problems:,}" if score.num_problems else "n ?"]
    return Cell(f"{score.percent:.1f}", score.percent, " · ".join(filter(None, parts)))


def interval_text(score: Score) -> str:
    """`45.9–58.3`, a published number's with a mark; empty where there is none."""
    if score.low is None or score.high is None:
        return ""
    return f"{'' if score.is_measured else ESTIMATE}{score.low:.1f}–{score.high:.1f}"


SCORE_COLUMNS = (("score", True), ("interval", True), ("problems", True), ("samples", True), ("thought_tokens", True))


def _score_cells(score: Score, texts: LeaderboardTexts) -> list[Cell]:
    def count(number: float | None) -> Cell:
        return NOTHING if number is None else Cell(f"{number:,}", number)

    interval = interval_text(score)
    n = count(score.num_problems) if score.num_problems is not None else Cell(texts("not_stated"))
    return [
        Cell(f"{score.percent:.1f}", score.percent),
        Cell(interval, score.low) if interval else NOTHING,
        n,
        count(score.k),
        NOTHING
        if score.thought_tokens is None
        else Cell(formatting.number(score.thought_tokens), score.thought_tokens),
    ]


def _origin(score: Score, texts: LeaderboardTexts) -> Cell:
    word = texts("measured") if score.is_measured else f"{texts('published')} [{score.tag}]"
    file, _, where = score.source.partition(": ")
    return Cell(word, below=file, title=f"{file}: {texts.said(where)}")


def _metric(score: Score, texts: LeaderboardTexts) -> Cell:
    return Cell(texts.said(score.metric), below=texts.setting(score.setting))


def scores_sheet(model: Model, texts: LeaderboardTexts, links: Links) -> Sheet:
    """Every number of a model."""
    columns = [Column(texts(name)) for name in ("benchmark", "mode", "metric")]
    columns += [Column(texts(name), is_number) for name, is_number in SCORE_COLUMNS]
    rows = [
        Row(
            (
                Cell(score.benchmark, href=links.benchmark(score.benchmark)),
                Cell(texts.value(score.mode)),
                _metric(score, texts),
                *_score_cells(score, texts),
                _origin(score, texts),
            ),
            mode=score.mode,
        )
        for score in in_order(model)
    ]
    return without_empty(Sheet(texts("scores_of"), (*columns, Column(texts("source"))), tuple(rows)))


def ranking_sheet(rows: Sequence[tuple[Model, Score]], texts: LeaderboardTexts, links: Links) -> Sheet:
    """Every number of a benchmark, best first, with its rank; the metric only where one is not the plain one."""
    places, has_metric = ranks(rows), any(not score.is_plain for _, score in rows)
    columns = [Column(texts("model")), Column(texts("rank"), True), Column(texts("mode"))]
    columns += [Column(texts("metric"))] * has_metric
    columns += [Column(texts(name), is_number) for name, is_number in SCORE_COLUMNS]
    columns += [Column(texts("parameters"), True), Column(texts("flops"), True), Column(texts("source"))]
    found = []
    for place, (model, score) in enumerate(rows):
        rank = Cell(str(places[place]), places[place]) if place in places else NOTHING
        head = (_name_cell(model, texts, links), rank, Cell(texts.value(score.mode)))
        metric, sizes = (_metric(score, texts),) * has_metric, size_cells(model, texts)
        cells = (*head, *metric, *_score_cells(score, texts), sizes[0], sizes[-1], _origin(score, texts))
        found.append(Row(cells, model.lab, model.type, score.mode, "measured" if score.is_measured else "published"))
    return without_empty(Sheet(texts("scores_of"), tuple(columns), tuple(found)))
