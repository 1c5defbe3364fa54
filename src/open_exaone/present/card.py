"""What a model's card says, section by section; `card_markdown` and `card_page` write it down.

Sections hold plain texts. Whoever writes them down makes them inert in that format.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from open_exaone.base.records import mode_label
from open_exaone.present import formatting, readings
from open_exaone.present.card_facts import DataSet, Facts, Figure, Part, Result, Stage
from open_exaone.present.card_parts import Block, Section, Table
from open_exaone.present.card_use import use_section
from open_exaone.present.localized import Texts

T = TypeVar("T")
ENGLISH: Final = Texts("card", "en")
FIELDS: Final = frozenset(
    {
        *("vocab_size", "width", "num_layers", "num_heads", "num_kv_heads", "head_width", "ffn_width", "max_positions"),
        *("window", "hardware", "device", "dtype", "threads", "ranks", "engine"),
    }
)  # of config.json and of the machine, that have a word of ours

ORIGINS = {
    "trained from random weights": "from_scratch",
    "trained": "trained",
    "converted or copied": "copied",
    "measured": "measured",
}


def title(facts: Facts, texts: Texts) -> str:
    """The page's title; a model from random weights is named after its recipe, and bears no other name."""
    return texts("title_trained", name=facts.name) if facts.stages else texts.said(facts.name)


def sections(facts: Facts, texts: Texts) -> list[Section]:
    """The whole card in one language, without its title."""
    parts = [_about, _architecture, *([_training, _data, _cost] if facts.stages else [])]
    parts += [_results, _by_family, _beside, _uses, _limits, _licence, use_section, _files, _versions]
    found = [part(facts, texts) for part in parts]
    return [section for section in found if section.blocks]


def shown(figure: Figure | None, show: Callable[[float], str]) -> str:
    """A number as people read it; a dash where there is none."""
    return formatting.NONE if figure is None else show(figure.value)


def exact(value: float) -> str:
    """886144 as `886,144`."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def flops(value: float) -> str:
    return f"{value:.2e}"


def interval(result: Result | Part) -> str:
    return formatting.interval((result.low.value, result.high.value)) if result.low and result.high else formatting.NONE


def named(text: str, texts: Texts) -> str:
    """The name of a field of the files: our word for it where there is one, else its own words."""
    return texts(text) if text in FIELDS else formatting.words(text)


def mode_text(mode: str, texts: Texts) -> str:
    key = mode.replace(" ", "_")
    return texts(key) if key in ("reasoning", "non_reasoning", "not_stated") else mode_label(mode)


def _about(facts: Facts, texts: Texts) -> Section:
    rows = [
        [texts("name"), texts.said(facts.name)],
        [texts("recipe"), facts.recipe or ""],
        [texts("trained_from"), (facts.base or "") if facts.stages else ""],
        [texts("stages"), ", ".join(stage.name for stage in facts.stages)],
        [texts("seed"), shown(facts.seed, exact) if facts.seed else ""],
        [texts("date"), facts.date],
        [texts("revision"), texts.said(facts.revision)],
        [texts("settings"), facts.config_hash],
        [texts("licence"), facts.licence.name or facts.licence.id],
    ]
    about, notes = texts(ORIGINS[facts.origin], base=facts.base), map(texts.said, facts.notes)
    origin = [texts("names_origin", base=facts.base)] if facts.base and not facts.stages else []
    return Section(texts("about"), [about, *origin, *notes, Table(["", ""], [row for row in rows if row[1]])])


def _architecture(facts: Facts, texts: Texts) -> Section:
    if facts.parameters is None:
        return Section(texts("architecture"), [texts("not_recorded")])
    rows = [
        [texts("type"), texts("dense_decoder")],
        *([[texts("family"), facts.family]] if facts.family else []),
        [texts("parameters"), f"{formatting.billions(facts.parameters.value)} ({exact(facts.parameters.value)})"],
        *([named(name, texts), exact(figure.value)] for name, figure in facts.shape.items()),
        *([[texts("layer_pattern"), _pattern(facts.pattern, texts)]] if facts.pattern else []),
    ]
    return Section(texts("architecture"), [Table(["", ""], rows), *_size(facts, texts)])


def _pattern(pattern: str, texts: Texts) -> str:
    """LLLG in words."""
    kinds = {"L": texts("local"), "G": texts("global")}
    if len(set(pattern)) == 1:
        return texts("every_layer", kind=kinds.get(pattern[0], pattern[0]))
    return texts("repeated", kinds=", ".join(kinds.get(letter, letter) for letter in pattern))


def _size(facts: Facts, texts: Texts) -> list[str]:
    """The figures by which a public list compares models."""
    if facts.parameters is None or facts.tokens is None or facts.tokens.value <= 0:
        return []
    size, tokens = facts.parameters.value, facts.tokens.value
    score, ratio = readings.alscore(size, tokens), readings.token_ratio(size, tokens)
    key = "size_optimal" if readings.is_compute_optimal(ratio) else "size"
    values = {"score": alscore_text(score), "tier": readings.tier(score)}
    return [texts(key, tokens=formatting.billions(tokens), ratio=f"{ratio:,}", **values)]


def alscore_text(score: float) -> str:
    """2.2; a small one to two digits that count."""
    return f"{score:.1f}" if score >= 0.1 else f"{score:.2g}"


STAGE_COLUMNS: Sequence[tuple[str, Callable[[Stage, Texts], str]]] = (
    ("stage", lambda stage, _: stage.name),
    ("kind", lambda stage, _: stage.kind),
    ("start", lambda stage, _: stage.start or formatting.NONE),
    ("data", lambda stage, _: stage.data or formatting.NONE),
    ("steps", lambda stage, _: shown(stage.steps, exact)),
    ("empty_steps", lambda stage, _: shown(stage.empty_steps, exact)),
    ("tokens", lambda stage, _: shown(stage.tokens, formatting.number)),
    ("sampled_tokens", lambda stage, _: shown(stage.sampled_tokens, formatting.number)),
    ("flops", lambda stage, _: shown(stage.flops, flops)),
    ("time", lambda stage, texts: shown(stage.seconds, texts.duration)),
    ("sampling_time", lambda stage, texts: shown(stage.sample_seconds, texts.duration)),
)


def _columns(columns: Sequence[tuple[str, Callable[[T, Texts], str]]], records: Sequence[T], texts: Texts) -> Table:
    """A row for each record, without the columns in which none has anything."""
    found = [(texts(key) if texts.has(key) else key, [read(one, texts) for one in records]) for key, read in columns]
    kept = [(name, cells) for name, cells in found if set(cells) != {formatting.NONE}]
    return Table([name for name, _ in kept], [list(row) for row in zip(*(cells for _, cells in kept), strict=True)])


def _training(facts: Facts, texts: Texts) -> Section:
    return Section(texts("made"), [_columns(STAGE_COLUMNS, facts.stages, texts), texts("made_note")])


def _data(facts: Facts, texts: Texts) -> Section:
    def row(data: DataSet) -> list[str]:
        used = ", ".join(map(texts.said, data.used_by))
        return [data.name, texts.said(data.what), shown(data.num_rows, exact), used, texts.said(data.licence)]

    titles = [texts(key) for key in ("data", "what", "rows", "used_by", "licence")]
    return Section(texts("data_title"), [Table(titles, [row(data) for data in facts.data])])


def _cost(facts: Facts, texts: Texts) -> Section:
    rows = [
        [texts("cost_tokens"), shown(facts.tokens, exact)],
        [texts("cost_flops"), shown(facts.flops, flops)],
        [texts("cost_time"), shown(facts.seconds, texts.duration)],
        *([named(name, texts), value] for name, value in facts.machine.items()),
    ]
    blocks: list[Block] = [Table(["", ""], rows)]
    if facts.energy:
        kwh, watts = texts("about_number", number=formatting.number(facts.energy.kwh.value)), facts.energy.watts
        source = texts.said(next(iter(watts.sources), ""))
        blocks.append(texts("energy", kwh=kwh, watts=exact(watts.value), source=source))
    return Section(texts("cost"), blocks)


def result_name(result: Result, texts: Texts = ENGLISH) -> str:
    """A benchmark, with what sets this measurement of it apart."""
    return result.benchmark + (f", {texts.said(result.setting)}" if result.setting else "")


RESULT_COLUMNS: Sequence[tuple[str, Callable[[Result, Texts], str]]] = (
    ("stage", lambda result, _: result.stage or formatting.NONE),
    ("benchmark", result_name),
    ("mode", lambda result, texts: mode_text(result.mode, texts)),
    ("pass@1", lambda result, _: formatting.percent(result.value.value)),
    ("interval", lambda result, _: interval(result)),
    (
        "problems",
        lambda result, texts: shown(result.num_problems, exact) if result.num_problems else texts("not_stated"),
    ),
    ("samples", lambda result, _: shown(result.k, exact)),
    ("greedy", lambda result, _: shown(result.greedy, formatting.percent)),
    ("cons@k", lambda result, _: shown(result.cons_at_k, formatting.percent)),
    ("thought_tokens", lambda result, _: shown(result.thought_tokens, formatting.number)),
    ("truncated", lambda result, _: shown(result.truncated, formatting.percent)),
)


def _results(facts: Facts, texts: Texts) -> Section:
    if not facts.results:
        return Section(texts("results"), [texts("no_results")])
    notes = [texts("how"), *_sampling(facts.results, texts), *_measured_with(facts, texts)]
    if any(not result.is_whole for result in facts.results):
        parts = ", ".join(result_name(result, texts) for result in facts.results if not result.is_whole)
        notes.append(texts("part_only", names=parts))
    if any(result.num_problems is None for result in facts.results):
        notes.append(texts("no_n"))
    return Section(texts("results"), [_columns(RESULT_COLUMNS, facts.results, texts), *notes])


def _sampling(results: Iterable[Result], texts: Texts) -> list[str]:
    """How replies were sampled, once for each way."""
    ways: dict[str, list[str]] = {}
    for result in results:
        settings = {"temperature": result.temperature, "top_p": result.top_p, "at_most": result.max_new_tokens}
        text = ", ".join(texts(key, value=exact(figure.value)) for key, figure in settings.items() if figure)
        if text and result_name(result, texts) not in ways.setdefault(text, []):
            ways[text].append(result_name(result, texts))
    return [texts("sampled", settings=text, names=", ".join(names)) for text, names in ways.items()]


def _measured_with(facts: Facts, texts: Texts) -> list[str]:
    """What an evaluation asked; a run's machine stands in a section of its own."""
    if facts.stages or not facts.machine:
        return []
    what = ", ".join(f"{named(key, texts)} {value}" for key, value in facts.machine.items())
    return [texts("measured_with", what=what)]


def last_results(facts: Facts) -> list[Result]:
    """Those of the card's own model, not of the stages before it."""
    trained = [stage.name for stage in facts.stages if stage.kind != "filter"]
    return [result for result in facts.results if result.stage in (None, trained[-1] if trained else None)]


def _by_family(facts: Facts, texts: Texts) -> Section:
    titles = [texts("problem_family"), "pass@1", texts("interval"), texts("problems")]
    blocks: list[Block] = []
    for result in last_results(facts):
        rows = [
            [
                formatting.words(part.name),
                formatting.percent(part.value.value),
                interval(part),
                shown(part.num_problems, exact),
            ]
            for part in result.per_task
        ]
        if len(rows) > 1:
            of = texts("on", name=result_name(result, texts), mode=mode_text(result.mode, texts))
            blocks += [of, Table(titles, rows)]
    return Section(texts("by_family"), blocks)


def _beside(facts: Facts, texts: Texts) -> Section:
    titles = [texts("model"), "pass@1", texts("interval"), texts("source")]
    blocks: list[Block] = []
    for result in last_results(facts):
        rows = [
            [
                row.model,
                f"{row.percent:.1f}%",
                f"{row.low:.1f}–{row.high:.1f}" if row.low is not None and row.high is not None else formatting.NONE,
                f"{row.source} [{row.tag}]",
            ]
            for row in result.published
        ]
        if rows:
            percent = formatting.percent(result.value.value)
            ours = [texts("this_model"), percent, interval(result), texts("measured_here")]
            blocks.append(f"{result_name(result, texts)}, {mode_text(result.mode, texts)}:")
            blocks.append(Table(titles, [ours, *rows]))
    return Section(texts("beside"), [*blocks, texts("beside_note")] if blocks else [])


def _uses(facts: Facts, texts: Texts) -> Section:
    is_own = facts.origin == "trained from random weights"
    keys = ("use_scratch_1", "use_scratch_2") if is_own else ("use_derived",)
    return Section(texts("uses"), [tuple(map(texts, keys))])


def _limits(facts: Facts, texts: Texts) -> Section:
    scratch = ("limit_scratch_1", "limit_scratch_2") if facts.origin == "trained from random weights" else ()
    of_run = ("limit_run",) if facts.stages and facts.results else ()
    return Section(texts("limits"), [tuple(map(texts, (*scratch, *of_run, "limit_1", "limit_2")))])


def _licence(facts: Facts, texts: Texts) -> Section:
    licence = facts.licence
    name = f"{licence.name} ({licence.id})" if licence.name else licence.id
    credit = [texts("credit", base=facts.base)] if facts.base and facts.stages else []
    text = texts.said(licence.why) if licence.id == "unknown" else f"{name}. {texts.said(licence.why)}"
    return Section(texts("licence_title"), [text, *credit, texts("own_licence")])


def _files(facts: Facts, texts: Texts) -> Section:
    rows = [[file.name, exact(file.num_bytes.value), file.sha256] for file in facts.files]
    if not rows:
        return Section(texts("files"), [texts("revision_only", revision=texts.said(facts.revision))])
    key = "revision_in" if facts.model_folder else "revision_of"
    where = texts(key, folder=facts.model_folder, revision=facts.revision)
    return Section(texts("files"), [where, Table([texts("file"), texts("bytes"), "SHA-256"], rows)])


def _versions(facts: Facts, texts: Texts) -> Section:
    rows = [[name, version] for name, version in facts.versions.items()]
    return Section(texts("versions"), [Table(["", ""], rows)] if rows else [])
