"""What a model's card says, section by section; `card_markdown` and `card_page` write it down.

Sections hold plain texts. Whoever writes them down makes them inert in that format.
"""

from collections.abc import Callable, Iterable, Sequence

from open_exaone.base.records import mode_label
from open_exaone.present import formatting, readings
from open_exaone.present.card_facts import DataSet, Facts, Figure, Part, Result, Stage
from open_exaone.present.card_parts import Block, Section, Table
from open_exaone.present.card_use import use_section

FROM_SCRATCH = (
    "This model was trained from random weights by Open-EXAONE, an open implementation of the EXAONE Deep and "
    "EXAONE 4.0 recipes that is independent of LG AI Research. It is not a model of LG's, holds no weights of LG's, "
    "and does not bear the EXAONE name; only its architecture follows the EXAONE 4.0 report (arXiv 2507.11407)."
)
TRAINED = (
    "This model was trained by Open-EXAONE from {base}. Open-EXAONE is independent of LG AI Research; the name EXAONE "
    "is LG's."
)
COPIED = "This card describes a model's folder as it was found: its files do not record how the model was made."
MEASURED = "This card describes a model that `exaone eval` measured: the measurement does not record how it was made."
LIMITS_FROM_SCRATCH = (
    "It knows what it was trained on and little else.",
    "A score on generated problems says nothing about any public benchmark.",
)
LIMITS_OF_RUN = (
    "The intervals cover the choice of problems and samples for this one run; another seed trains another model."
)
LIMITS = (
    "It may state a wrong answer with a fluent thought, and a thought need not be how the answer came about.",
    "It was not tested for safety, and has no filter: do not let it act or advise without a person who checks.",
)
USES_FROM_SCRATCH = (
    "Meant for learning and research: to see how the recipe's stages change a small model, and to test tools.",
    "Not meant for use in a product, nor for questions of another kind than it was trained on.",
)
USES = ("Meant for what the model that it comes from is meant for, and for nothing that its licence forbids.",)


def title(facts: Facts) -> str:
    """The page's title; a model from random weights is named after its recipe, and bears no other name."""
    return f"{facts.name}, trained with Open-EXAONE" if facts.stages else facts.name


def sections(facts: Facts) -> list[Section]:
    """The whole card, without its title."""
    made = [_training(facts), _data(facts), _cost(facts)] if facts.stages else []
    found = [_about(facts), _architecture(facts), *made, _results(facts), *_by_family(facts), *_beside(facts)]
    found += [
        _uses(facts),
        _limits(facts),
        _licence(facts),
        use_section(facts),
        _files(facts),
        _versions(facts),
    ]
    return [section for section in found if section.blocks]


def shown(figure: Figure | None, show: Callable[[float], str]) -> str:
    """A number as people read it, "about" before an estimate; a dash where there is none."""
    if figure is None:
        return formatting.NONE
    return ("about " if figure.is_estimate else "") + show(figure.value)


def exact(value: float) -> str:
    """886144 as `886,144`."""
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def flops(value: float) -> str:
    return f"{value:.2e}"


def interval(result: Result | Part) -> str:
    return formatting.interval((result.low.value, result.high.value)) if result.low and result.high else formatting.NONE


def _about(facts: Facts) -> Section:
    about = {
        "trained from random weights": FROM_SCRATCH,
        "trained": TRAINED.format(base=facts.base),
        "converted or copied": COPIED,
        "measured": MEASURED.replace("`", ""),
    }[facts.origin]
    rows = [
        ["name", facts.name],
        ["recipe", facts.recipe or ""],
        ["trained from", facts.base or ""],
        ["stages", ", ".join(stage.name for stage in facts.stages)],
        ["seed", shown(facts.seed, exact) if facts.seed else ""],
        ["date", facts.date],
        ["revision", facts.revision],
        ["settings", facts.config_hash],
        ["licence", facts.licence.name or facts.licence.id],
    ]
    return Section("What it is", [about, *facts.notes, Table(["", ""], [row for row in rows if row[1]])])


def _architecture(facts: Facts) -> Section:
    if facts.parameters is None:
        return Section("Architecture", ["Not recorded."])
    names = {
        "vocab_size": "vocabulary, tokens",
        "width": "hidden size",
        "num_layers": "layers",
        "num_heads": "attention heads",
        "num_kv_heads": "key and value heads",
        "head_width": "head size",
        "ffn_width": "feed-forward size",
        "max_positions": "context, tokens",
        "window": "sliding window, tokens",
    }
    rows = [
        ["type", "dense decoder"],
        ["family", facts.family],
        ["parameters", f"{formatting.billions(facts.parameters.value)} ({exact(facts.parameters.value)})"],
        *([names.get(name, formatting.words(name)), exact(figure.value)] for name, figure in facts.shape.items()),
        ["layer pattern", _pattern(facts.pattern)],
    ]
    return Section("Architecture", [Table(["", ""], rows), *_size(facts)])


def _pattern(pattern: str) -> str:
    """LLLG in words."""
    kinds = {"L": "sliding window", "G": "full attention"}
    if len(set(pattern)) == 1:
        return f"{kinds.get(pattern[0], pattern[0])} in every layer"
    return ", ".join(kinds.get(letter, letter) for letter in pattern) + ", repeated"


def _size(facts: Facts) -> list[str]:
    """The figures by which a public list compares models."""
    if facts.parameters is None or facts.tokens is None or facts.tokens.value <= 0:
        return []
    size, tokens = facts.parameters.value, facts.tokens.value
    score, ratio = readings.alscore(size, tokens), readings.token_ratio(size, tokens)
    optimal = ", compute-optimal by the rule of 20" if readings.is_compute_optimal(ratio) else ""
    return [
        f"Trained on {formatting.billions(tokens)} tokens in all, {ratio:,} for each parameter (rounded up{optimal}). "
        f"ALScore √(parameters × tokens) ÷ 300, both in billions: {alscore_text(score)}, {readings.tier(score)}."
    ]


def alscore_text(score: float) -> str:
    """2.2; a small one to two digits that count."""
    return f"{score:.1f}" if score >= 0.1 else f"{score:.2g}"


STAGE_COLUMNS: Sequence[tuple[str, Callable[[Stage], str]]] = (
    ("stage", lambda stage: stage.name),
    ("kind", lambda stage: stage.kind),
    ("from", lambda stage: stage.start or formatting.NONE),
    ("data", lambda stage: stage.data or formatting.NONE),
    ("steps", lambda stage: shown(stage.steps, exact)),
    ("tokens", lambda stage: shown(stage.tokens, formatting.number)),
    ("tokens sampled", lambda stage: shown(stage.sampled_tokens, formatting.number)),
    ("FLOPs", lambda stage: shown(stage.flops, flops)),
    ("time", lambda stage: shown(stage.seconds, formatting.duration)),
    ("sampling time", lambda stage: shown(stage.sample_seconds, formatting.duration)),
)


def _training(facts: Facts) -> Section:
    columns = [(name, [read(stage) for stage in facts.stages]) for name, read in STAGE_COLUMNS]
    kept = [(name, cells) for name, cells in columns if set(cells) != {formatting.NONE}]
    table = Table([name for name, _ in kept], [list(row) for row in zip(*(cells for _, cells in kept), strict=True)])
    note = (
        "Tokens are trained ones without padding, prompts included. FLOPs are those of training, counted from the "
        "model's shape."
    )
    return Section("How it was made", [table, note])


def _data(facts: Facts) -> Section:
    def row(data: DataSet) -> list[str]:
        return [data.name, data.what, shown(data.num_rows, exact), ", ".join(data.used_by), data.licence]

    return Section("Data", [Table(["data", "what", "rows", "used by", "licence"], [row(data) for data in facts.data])])


def _cost(facts: Facts) -> Section:
    rows = [
        ["tokens trained", shown(facts.tokens, exact)],
        ["FLOPs of training", shown(facts.flops, flops)],
        ["time, measuring included", shown(facts.seconds, formatting.duration)],
        *([formatting.words(name), value] for name, value in facts.machine.items()),
    ]
    blocks: list[Block] = [Table(["", ""], rows)]
    if facts.energy:
        blocks.append(
            f"Energy: {shown(facts.energy.kwh, formatting.number)} kWh, an estimate and no measurement: the time above "
            f"at {exact(facts.energy.watts.value)} W for the whole machine ({facts.energy.watts.sources[0]})."
        )
    return Section("Hardware, time and energy", blocks)


def result_name(result: Result) -> str:
    """A benchmark, with what sets this measurement of it apart."""
    return result.benchmark + (f", {result.setting}" if result.setting else "")


RESULT_COLUMNS: Sequence[tuple[str, Callable[[Result], str]]] = (
    ("stage", lambda result: result.stage or formatting.NONE),
    ("benchmark", result_name),
    ("mode", lambda result: mode_label(result.mode)),
    ("pass@1", lambda result: formatting.percent(result.value.value)),
    ("95% interval", interval),
    ("problems", lambda result: shown(result.num_problems, exact) if result.num_problems else "not stated"),
    ("samples", lambda result: shown(result.k, exact)),
    ("greedy", lambda result: shown(result.greedy, formatting.percent)),
    ("cons@k", lambda result: shown(result.cons_at_k, formatting.percent)),
    ("thought tokens", lambda result: shown(result.thought_tokens, formatting.number)),
    ("truncated", lambda result: shown(result.truncated, formatting.percent)),
)
HOW = (
    "pass@1 is the mean over problems of the share of correct samples; cons@k the majority's answer. Intervals are at "
    "95%, clustered by problem."
)


def _results(facts: Facts) -> Section:
    if not facts.results:
        return Section("Results", ["This model has no evaluation."])
    columns = [(name, [read(result) for result in facts.results]) for name, read in RESULT_COLUMNS]
    kept = [(name, cells) for name, cells in columns if set(cells) != {formatting.NONE}]
    table = Table([name for name, _ in kept], [list(row) for row in zip(*(cells for _, cells in kept), strict=True)])
    notes = [HOW, *_sampling(facts.results)]
    if any(not result.is_whole for result in facts.results):
        parts = ", ".join(result_name(result) for result in facts.results if not result.is_whole)
        notes.append(f"Measured on part of the benchmark only, so it stands beside no published number: {parts}.")
    if any(result.num_problems is None for result in facts.results):
        notes.append(
            "Where the number of problems is not stated, no interval can be given, and small differences mean nothing."
        )
    return Section("Results", [table, *notes])


def _sampling(results: Iterable[Result]) -> list[str]:
    """How replies were sampled, once for each way."""
    ways: dict[str, list[str]] = {}
    for result in results:
        named = {"temperature": result.temperature, "top-p": result.top_p, "at most": result.max_new_tokens}
        parts = [f"{name} {exact(figure.value)}" for name, figure in named.items() if figure]
        text = ", ".join(parts) + (" tokens a reply" if result.max_new_tokens else "")
        if parts and result_name(result) not in ways.setdefault(text, []):
            ways[text].append(result_name(result))
    return [f"Sampled with {text}: {', '.join(names)}." for text, names in ways.items()]


def last_results(facts: Facts) -> list[Result]:
    """Those of the card's own model, not of the stages before it."""
    trained = [stage.name for stage in facts.stages if stage.kind != "filter"]
    return [result for result in facts.results if result.stage in (None, trained[-1] if trained else None)]


def _by_family(facts: Facts) -> list[Section]:
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
            of = f"{result_name(result)}, {mode_label(result.mode)}"
            blocks += [f"On {of}:", Table(["family", "pass@1", "95% interval", "problems"], rows)]
    return [Section("Results by family of problems", blocks)] if blocks else []


def _beside(facts: Facts) -> list[Section]:
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
            ours = ["this model", formatting.percent(result.value.value), interval(result), "measured here"]
            blocks.append(f"{result_name(result)}, {mode_label(result.mode)}:")
            blocks.append(Table(["model", "pass@1", "95% interval", "source"], [ours, *rows]))
    if blocks:
        blocks.append(
            "Published numbers are their authors' measurements. Their intervals are our estimate from the benchmark's "
            "number of questions alone; no report gives one. Tags: P the publisher's own page, S2 two accounts, S one."
        )
    return [Section("Beside published numbers", blocks)] if blocks else []


def _uses(facts: Facts) -> Section:
    return Section("Intended use", [USES_FROM_SCRATCH if facts.origin == "trained from random weights" else USES])


def _limits(facts: Facts) -> Section:
    scratch = LIMITS_FROM_SCRATCH if facts.origin == "trained from random weights" else ()
    of_run = (LIMITS_OF_RUN,) if facts.stages and facts.results else ()
    return Section("Limits", [(*scratch, *of_run, *LIMITS)])


def _licence(facts: Facts) -> Section:
    named = f"{facts.licence.name} ({facts.licence.id})" if facts.licence.name else facts.licence.id
    trained_from = [f"Trained from {facts.base}, to whose makers the credit for it is due."] if facts.base else []
    return Section(
        "Licence and attribution",
        [f"{named}. {facts.licence.why}", *trained_from, "Open-EXAONE, which wrote this card, is under Apache-2.0."],
    )


def _files(facts: Facts) -> Section:
    rows = [[file.name, exact(file.num_bytes.value), file.sha256] for file in facts.files]
    if not rows:
        return Section("Revision and checksums", [f"Revision {facts.revision}."])
    where = f"The files of {facts.model_folder}/. " if facts.model_folder else ""
    return Section(
        "Revision and checksums",
        [
            f"{where}Revision {facts.revision}: SHA-256 over weights, config and tokenizer.",
            Table(["file", "bytes", "SHA-256"], rows),
        ],
    )


def _versions(facts: Facts) -> Section:
    rows = [[name, version] for name, version in facts.versions.items()]
    return Section("Versions", [Table(["", ""], rows)] if rows else [])
