"""`exaone leaderboard`: the published models of the reports and the user's own, as one static site."""

from collections.abc import Sequence
from pathlib import Path

from open_exaone.base.errors import ConfigError
from open_exaone.evaluation import published
from open_exaone.evaluation.published_models import PublishedModel, list_page, published_models
from open_exaone.model.cost import dense_flops
from open_exaone.model.registry import PUBLISHED
from open_exaone.pipeline.card import CardOptions, gather
from open_exaone.pipeline.card_results import EXAM, published_interval
from open_exaone.present.card import last_results
from open_exaone.present.card_facts import Facts, Figure, Result
from open_exaone.present.leaderboard import write_site
from open_exaone.present.leaderboard_rows import Model, Score, Seed, named_apart
from open_exaone.present.plots import shorten

MAX_NAME = 120  # characters of a name, which stands on many pages
TRAINING_FLOPS = 6.0  # for each parameter and token, as reports count; `dense_flops` does so for a shape


def build_leaderboard(folders: Sequence[Path], out: Path) -> tuple[list[Model], list[Path]]:
    """Writes the site.

    Args:
        folders: runs, models, evaluations, or folders with a card.json; may be empty.
        out: a new or empty folder, or one that holds an older leaderboard.

    Returns:
        the models, and the pages.

    Raises:
        ConfigError: a folder holds nothing that can be shown, or `out` holds something else.
        DataError, CheckpointError: a file is missing or broken; names it and the field.
    """
    own: list[Facts] = []
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"{folder}: is no folder: name a run, a model, an evaluation, or a folder with a card.json"
            )
        facts = gather(folder, CardOptions())
        if facts not in own:  # one that is named twice
            own.append(facts)
    models = named_apart([*(_own(facts) for facts in own), *map(_published, published_models().values())])
    return models, write_site(models, out)


def _published(known: PublishedModel) -> Model:
    rows = [row for row in published.load_tables() if row.model == known.name and row.percent is not None]
    size, tokens = known.active or known.parameters, known.tokens
    return Model(
        name=known.name,
        lab=known.lab,
        type=known.type,
        access=known.access,
        parameters=known.parameters,
        active=known.active,
        tokens=tokens,
        flops=TRAINING_FLOPS * size * tokens if size and tokens else None,
        is_estimate=known.is_estimate,
        source=f"{known.source} [{known.tag}]" if known.tag else known.source,
        scores=tuple(map(_published_score, rows)),
        seed=_seed(known.name),
    )


def _published_score(row: published.Published) -> Score:
    low, high = published_interval(row)
    assert row.percent is not None  # cells without a number were left out
    return Score(
        benchmark=row.benchmark,
        mode=row.mode,
        metric=row.metric,
        setting=row.setting,
        percent=row.percent,
        low=low,
        high=high,
        num_problems=row.num_questions,
        k=row.k,
        source=f"{row.table}: {row.source}",
        tag=row.tag,
    )


def _seed(model: str) -> Seed | None:
    page = list_page(model)
    if page is None:
        return None
    names = ("organization", "released", "access", "type", "data")
    facts = (*((name, getattr(page, name)) for name in names), ("tags", ", ".join(page.tags)))
    columns = tuple((column.name, column.percent, column.note, column.elsewhere) for column in page.columns)
    return Seed(page.list, facts, page.parameters, page.tokens, columns)


def _own(facts: Facts) -> Model:
    """A model of the user's; its FLOPs are those that its stages recorded, and a base's as reports count them."""
    base = PUBLISHED.get((facts.base or facts.id).rpartition("/")[2])
    spent = facts.flops.value if facts.flops else 0.0
    before = dense_flops(base.config, base.training_tokens) if base else 0.0
    is_known = facts.flops is not None and (facts.base is None or base is not None)
    return Model(
        name=shorten(facts.name, MAX_NAME),
        lab=shorten(facts.lab, MAX_NAME),
        type="dense" if facts.parameters else "not stated",
        access="open weights" if facts.files else "not stated",
        parameters=_value(facts.parameters),
        tokens=_value(facts.tokens),
        flops=spent + before if is_known or (base and not facts.stages) else None,
        is_estimate=base is not None,
        source="card.json",
        scores=tuple(_own_score(facts, result) for result in last_results(facts)),
        revision=facts.revision,
        facts=facts,
    )


def _own_score(facts: Facts, result: Result) -> Score:
    """A measured number, under the reports' name of the benchmark; a run's own problems under the recipe's name."""
    known = published.benchmark_name(result.benchmark)
    name = known or (f"{facts.recipe}: {result.benchmark}" if facts.recipe and result.hub is None else result.benchmark)
    settings = [result.setting, "" if result.is_whole else "part", "share of problems" if known == EXAM else ""]
    problems, k = result.num_problems, result.k
    return Score(
        benchmark=shorten(name, MAX_NAME),
        mode=result.mode,
        metric=result.metric,
        setting=", ".join(filter(None, settings)),
        percent=100 * result.value.value,
        low=100 * result.low.value if result.low and result.high else None,
        high=100 * result.high.value if result.low and result.high else None,
        num_problems=int(problems.value) if problems else None,
        k=int(k.value) if k else None,
        source=result.value.sources[0],
        tag="measured",
        thought_tokens=_value(result.thought_tokens),
    )


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value
