"""The leaderboard's pages, each in one language: all models, a model, a lab or an architecture, a benchmark."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from open_exaone.present import formatting, readings
from open_exaone.present.card import alscore_text
from open_exaone.present.card_page import digest
from open_exaone.present.leaderboard_plots import dots, scatter, thought_dots
from open_exaone.present.leaderboard_rows import (
    Group,
    Model,
    Seed,
    benchmarks,
    best,
    groups,
    modes,
    ranked,
    unique_slugs,
)
from open_exaone.present.leaderboard_tables import (
    Links,
    Sheet,
    models_sheet,
    ranking_sheet,
    scores_sheet,
    size_cells,
)
from open_exaone.present.leaderboard_texts import LeaderboardTexts
from open_exaone.present.localized import Texts
from open_exaone.present.page_parts import read_templates, template

MAX_COLUMNS = 8  # benchmarks of the reports in the table of all models
MAX_OWN_COLUMNS = 4  # and of those that only models measured here have
MAX_CHARTS = 4  # on the page of all models
CHART_TEXTS = {  # of the title and of the axis
    "parameters": ("chart_parameters", "axis_parameters"),
    "flops": ("chart_flops", "axis_flops"),
    "thoughts": ("chart_thoughts", "axis_thoughts"),
}
# The tables' names of what the list calls MMLU and GPQA.
READ_AS = {"MMLU": "MMLU", "MMLU-Redux": "MMLU", "GPQA Diamond": "GPQA"}


class Figure(NamedTuple):
    """A chart."""

    title: str
    svg: str
    href: str = ""  # where its numbers are, if they are on another page


class Board(NamedTuple):
    """What all pages are made of."""

    models: tuple[Model, ...]
    labs: tuple[Group, ...]
    types: tuple[Group, ...]
    benchmarks: dict[str, int]
    slugs: dict[str, str]  # of benchmarks

    def links(self, root: str) -> Links:
        labs, types = ({group.name: group.slug for group in some} for some in (self.labs, self.types))
        return Links(root, labs, types, self.slugs)


def board(models: Sequence[Model]) -> Board:
    found = benchmarks(models)
    return Board(tuple(models), tuple(groups(models, "lab")), tuple(groups(models, "type")), found, unique_slugs(found))


def shown_benchmarks(some: Board) -> list[str]:
    """The benchmarks that have a column: those with most models, and before them those that only models measured here
    have, so that each of these has a number."""
    own = [name for name in some.benchmarks if any(_has(model, name) for model in some.models if model.is_own)]
    common = [name for name in some.benchmarks if any(_has(m, name) for m in some.models if not m.is_own)]
    first = common[:MAX_COLUMNS]
    return [*_covering([name for name in own if name not in first], some, first)[:MAX_OWN_COLUMNS], *first]


def _covering(names: Sequence[str], some: Board, others: Sequence[str]) -> list[str]:
    """The names with those first that give a number to a model that the ones before and `others` give none."""
    seen = {model.slug for model in some.models if any(_has(model, name) for name in others)}
    first = []
    for name in names:
        if new := {model.slug for model in some.models if _has(model, name)} - seen:
            first.append(name)
            seen |= new
    return [*first, *(name for name in names if name not in first)]


def _has(model: Model, benchmark: str) -> bool:
    return any(best(model, benchmark, mode) for mode in modes(model))


def index_page(some: Board, texts: LeaderboardTexts) -> str:
    """Every model in one table, charts, and where the other pages are."""
    links, shown = some.links(""), shown_benchmarks(some)
    counts = {
        "models": len(some.models),
        "own": sum(model.is_own for model in some.models),
        "scores": sum(len(model.scores) for model in some.models),
        "benchmarks": len(some.benchmarks),
    }
    lists = [
        (texts("labs"), [(texts.value(group.name), links.lab(group.name), len(group.models)) for group in some.labs]),
        (
            texts("types"),
            [(texts.value(group.name), links.type(group.name), len(group.models)) for group in some.types],
        ),
        (texts("rankings"), [(name, links.benchmark(name), number) for name, number in some.benchmarks.items()]),
    ]
    return _page(
        texts,
        "",
        "index.html",
        title=texts("site"),
        lead=texts("lead", **counts),
        notes=[texts("key")],
        sheets=[models_sheet(some.models, shown, texts, links)],
        figures=charts(some, shown, texts),
        lists=lists,
        after=[texts("how"), texts("how_size")],
    )


def charts(some: Board, shown: Sequence[str], texts: LeaderboardTexts) -> list[Figure]:
    """The charts of the benchmark that most models have, then those by thought tokens; each leads to its numbers."""
    links, found = some.links(""), []
    first = next(iter(some.benchmarks), None)
    for name in dict.fromkeys([*([first] if first else []), *shown]):
        drawn = benchmark_charts(
            some, name, texts, ("parameters", "flops", "thoughts") if name == first else ("thoughts",)
        )
        found += [figure._replace(href=links.benchmark(name)) for figure in drawn]
    return found[:MAX_CHARTS]


def benchmark_charts(
    some: Board, name: str, texts: LeaderboardTexts, kinds: Sequence[str] = ("parameters", "flops", "thoughts")
) -> list[Figure]:
    """The charts of one benchmark that have two points or more."""
    points = {
        "parameters": lambda: dots(some.models, name, lambda model, _: model.parameters),
        "flops": lambda: dots(some.models, name, lambda model, _: model.flops),
        "thoughts": lambda: thought_dots(some.models, name),
    }
    found = []
    for kind in kinds:
        key, axis = CHART_TEXTS[kind]
        title = texts(key, benchmark=name)
        if (svg := scatter(title, points[kind](), texts(axis), as_powers=kind == "flops")) is not None:
            found.append(Figure(title, svg))
    return found


def model_page(some: Board, model: Model, texts: LeaderboardTexts) -> str:
    """Everything about one model."""
    links, found = some.links("../"), model_readings(model)
    of_card = Texts("card", texts.language)
    alerts = [of_card.said(note) for note in model.facts.notes] if model.facts is not None else []
    return _page(
        texts,
        "../",
        f"models/{model.slug}.html",
        title=model.name,
        facts=model_facts(model, texts, links),
        readings=found,
        alerts=alerts,
        notes=[texts("reading_note")] if found else [],
        seed=seed_view(model.seed, texts) if model.seed else None,
        sheets=[scores_sheet(model, texts, links)],
        after=[texts("how")],
    )


def model_facts(model: Model, texts: LeaderboardTexts, links: Links) -> list[tuple[str, str, str]]:
    """What is known of a model besides its scores: heading, text, and where it leads."""
    names = ("parameters", "tokens", "ratio", "alscore", "flops")
    facts: list[tuple[str, str, str]] = [
        (texts("lab"), texts.value(model.lab), links.lab(model.lab)),
        (texts("type"), texts.value(model.type), links.type(model.type)),
        (texts("access"), texts.value(model.access), ""),
    ]
    for name, cell in zip(names, size_cells(model, texts), strict=True):
        facts.append((texts(name), f"{cell.text} {cell.below}".strip(), ""))
    facts.append((texts("source"), texts.tagged(model.source), ""))
    if model.facts is not None:
        licence = model.facts.licence
        facts.append((texts("licence"), licence.name or texts.value(licence.id), ""))
        facts.append((texts("revision"), texts.value(model.facts.revision), ""))
        facts.append((texts("card"), texts("open_card"), f"../cards/{model.slug}.html"))
    return facts


def model_readings(model: Model) -> list[tuple[str, str, str]]:
    """What the list says of the model's plain scores on MMLU and GPQA: benchmark and score, word, sentence."""
    found = []
    for name, read_as in READ_AS.items():
        for mode in modes(model):
            score = best(model, name, mode)
            said = readings.reading(read_as, score.percent) if score else None
            if score and said and (f"{name} {score.percent:.1f}", said.word, said.sentence) not in found:
                found.append((f"{name} {score.percent:.1f}", said.word, said.sentence))
    return found


def seed_view(seed: Seed, texts: LeaderboardTexts) -> dict[str, Any]:
    """A list's page, as the list writes its numbers."""
    score = readings.alscore(seed.parameters, seed.tokens)
    ratio = readings.token_ratio(seed.parameters, seed.tokens)
    optimal = f" {texts('optimal')}" if readings.is_compute_optimal(ratio) else ""
    facts = [(texts(name), value) for name, value in seed.facts]
    facts += [
        (texts("parameters"), f"{seed.parameters / readings.BILLION:.1f}B"),
        (texts("tokens"), f"{seed.tokens / readings.BILLION:,.1f}B"),
        (texts("ratio"), f"{ratio}:1{optimal}"),
        (texts("alscore"), f"{alscore_text(score)} ({readings.tier(score)})"),
    ]
    rows, notes = [], []
    for name, percent, note, elsewhere in seed.columns:
        marked = name
        if note:
            notes.append(note)
            marked = f"{name} [{len(notes)}]"
        others = "; ".join(f"{value:g} ({texts.said(source)})" for value, source in elsewhere)
        rows.append((marked, "-" if percent is None else f"{percent:.1f}", others or formatting.NONE))
    said = [
        item.sentence
        for name, percent, _, _ in seed.columns
        if percent is not None and (item := readings.reading(name, percent))
    ]
    return {
        "about": texts("on_list_note", list=texts.said(seed.list)),
        "facts": facts,
        "rows": rows,
        "notes": notes,
        "said": said,
    }


def group_page(some: Board, group: Group, folder: str, texts: LeaderboardTexts) -> str:
    """The models of a lab or of an architecture."""
    links = some.links("../")
    counts = benchmarks(group.models)
    shown = list(counts)[: MAX_COLUMNS + MAX_OWN_COLUMNS]
    by, key = ("lab", "models_by_lab") if folder == "labs" else ("type", "models_by_type")
    return _page(
        texts,
        "../",
        f"{folder}/{group.slug}.html",
        title=texts(key, name=texts.value(group.name)),
        notes=[texts("key")],
        sheets=[models_sheet(group.models, shown, texts, links, without=by)],
        after=[texts("how")],
    )


def ranking_page(some: Board, name: str, texts: LeaderboardTexts) -> str:
    """Every number of a benchmark, and its charts."""
    return _page(
        texts,
        "../",
        f"rankings/{some.slugs[name]}.html",
        title=texts("ranking_of", name=name),
        notes=[texts("ranking_note")],
        sheets=[ranking_sheet(ranked(some.models, name), texts, some.links("../"))],
        figures=benchmark_charts(some, name, texts),
        after=[texts("how")],
    )


@cache
def _template() -> Any:
    return template("leaderboard.html.jinja")


def _page(texts: LeaderboardTexts, root: str, path: str, **parts: Any) -> str:
    """One page.

    Args:
        root: from the page to the top of its language.
        path: of the page, seen from there: the same page in the other language has it too.
    """
    style, script = (
        read_templates("report.css", "leaderboard.css", "print.css"),
        read_templates("leaderboard.js"),
    )
    empty: dict[str, Any] = {
        name: [] for name in ("alerts", "notes", "after", "facts", "readings", "figures", "lists", "sheets")
    }
    elsewhere = f"{root}ko/{path}" if texts.language == "en" else f"{root}../{path}"
    page: str = _template().render(
        **{"lead": "", "seed": None, **empty, **parts},
        t=texts,
        root=root,
        elsewhere=elsewhere,
        filters=[_filters(sheet, texts) for sheet in parts.get("sheets", [])],
        style=style,
        style_hash=digest(style),
        script=script,
        script_hash=digest(script),
    )
    return page


def _filters(sheet: Sheet, texts: LeaderboardTexts) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The choices of a table: the field, its heading, and (value, text); only those with two values or more."""
    found = []
    for field in ("lab", "type", "mode", "origin"):
        values = sorted({getattr(row, field) for row in sheet.rows if getattr(row, field)})
        if len(values) > 1:
            words = [texts(value) if field == "origin" else texts.value(value) for value in values]
            found.append((field, texts(field), list(zip(values, words, strict=True))))
    return found
