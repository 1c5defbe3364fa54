"""`exaone leaderboard`: the published models of the reports and the user's own, as one static site."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from open_exaone.base.errors import ConfigError
from open_exaone.evaluation import published
from open_exaone.evaluation.published_models import PublishedModel, list_page, published_models
from open_exaone.model.cost import dense_flops
from open_exaone.model.registry import PUBLISHED
from open_exaone.pipeline.card import CardOptions, gather
from open_exaone.pipeline.card_model import OURS
from open_exaone.pipeline.card_results import EXAM, published_interval
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.source import is_run
from open_exaone.present.card import last_results
from open_exaone.present.card_facts import Facts, Figure, Result
from open_exaone.present.leaderboard import write_site
from open_exaone.present.leaderboard_rows import Model, Score, Seed, named_apart
from open_exaone.present.plots import shorten

MEASURED = "measured"  # the origin of facts that an evaluation alone gives
MAX_NAME = 120  # characters of a name, which stands on many pages
TRAINING_FLOPS = 6.0  # for each parameter and token, as reports count; `dense_flops` does so for a shape


def build_leaderboard(
    folders: Sequence[Path], out: Path, on_note: Callable[[str], object] = lambda note: None
) -> tuple[list[Model], list[Path]]:
    """Writes the site.

    Args:
        folders, on_note: as for `leaderboard_models`.
        out: a new or empty folder, or one that holds an older leaderboard.

    Returns:
        the models, and the pages.

    Raises:
        ConfigError: what `leaderboard_models` raises, or `out` holds something else.
        DataError, CheckpointError: see there.
    """
    models = leaderboard_models(folders, on_note)
    return models, write_site(models, out)


def leaderboard_models(folders: Sequence[Path], on_note: Callable[[str], object] = lambda note: None) -> list[Model]:
    """The user's models, then the published ones.

    Args:
        folders: runs, models, evaluations, or folders with a card.json; may be empty.
        on_note: gets a sentence for each folder that is left out because nothing in it has finished yet, and for each
            run or model whose weights another one has too.

    Raises:
        ConfigError: a folder holds nothing that can be shown.
        DataError, CheckpointError: a file is missing or broken; names it and the field.
    """
    own: list[tuple[str, Facts]] = []
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                f"{folder}: is no folder: name a run, a model, an evaluation, or a folder with a card.json"
            )
        if what := _unfinished(folder):
            on_note(f"left out: {folder}: {what} has finished in it yet")
        else:
            own.append((folder.resolve().name, gather(folder, CardOptions())))
    joined = joined_by_weights(own, on_note)
    names = _benchmark_names([facts for _, facts in joined])
    return named_apart([*(_own(*one, names) for one in joined), *map(_published, published_models().values())])


def _unfinished(folder: Path) -> str | None:
    """What a folder has none of yet; None where there is something to show."""
    if is_run(folder) and not RunFolder(folder).model_folders():
        return "no stage"
    is_measured = (folder / "evaluation.json").is_file()
    return "no evaluation" if is_measured and not (folder / "report.json").is_file() else None


def joined_by_weights(
    found: Sequence[tuple[str, Facts]], on_note: Callable[[str], object] = lambda note: None
) -> list[tuple[str, Facts]]:
    """Each model once, where it stands first: what evaluations found of its weights stands with a run or a folder.

    Args:
        found: each folder's name and what it says. Weights are the same if their hashes are; models of endpoints, which
            have no hash, are the same if name and endpoint are.
    """
    models: dict[tuple[str, ...], tuple[str, Facts]] = {}
    for folder, facts in sorted(found, key=lambda one: one[1].origin == MEASURED):
        folder_of_first, first = models.setdefault(_identity(facts), (folder, facts))
        if first is not facts:
            if facts.origin != MEASURED:
                on_note(f"{folder} has the same weights as {folder_of_first}: one model, with the results of both")
            known = set(map(_key, last_results(first)))
            new = [_located(result, folder) for result in facts.results if _key(result) not in known]
            models[_identity(facts)] = (folder_of_first, first.model_copy(update={"results": (*first.results, *new)}))
    places = [_identity(facts) for _, facts in found]
    return sorted(models.values(), key=lambda one: places.index(_identity(one[1])))


def _identity(facts: Facts) -> tuple[str, ...]:
    if facts.revision and facts.revision != "not recorded":
        return (facts.revision,)
    return (facts.name, facts.machine.get("engine", ""), facts.revision)


def _key(result: Result) -> tuple[object, ...]:
    """Equal for two results that say the same, wherever they stand."""
    figures = (result.value, result.low, result.high, result.num_problems, result.k)
    return (result.benchmark, result.mode, result.metric, result.setting, *map(_value, figures))


def _located(result: Result, folder: str) -> Result:
    """With the folder's name before the file of its score."""
    sources = tuple(f"{folder}/{source}" for source in result.value.sources)
    return result.model_copy(update={"value": result.value.model_copy(update={"sources": sources}), "stage": None})


def _benchmark_names(own: Sequence[Facts]) -> dict[tuple[str, str], str]:
    """What a set of problems is called, by its name and the hash of its rows: two sets of one name show their hash."""
    found = {
        (name, result.rows) for facts in own for result in last_results(facts) for name in [_plain_name(facts, result)]
    }
    several = Counter(name for name, rows in found if rows and published.benchmark_name(name) is None)
    return {(name, rows): f"{name} ({rows[:8]})" if rows and several[name] > 1 else name for name, rows in found}


def _plain_name(facts: Facts, result: Result) -> str:
    """The reports' name of a benchmark; for a run's own problems, which its recipe makes, the recipe's name too."""
    if (known := published.benchmark_name(result.benchmark)) is not None:
        return known
    is_of_recipe = facts.recipe and result.hub is None and not result.rows
    return f"{facts.recipe}: {result.benchmark}" if is_of_recipe else result.benchmark


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


def _own(folder: str, facts: Facts, names: Mapping[tuple[str, str], str]) -> Model:
    """A model of the user's; its FLOPs are those that its stages recorded, and a base's as reports count them."""
    base = PUBLISHED.get((facts.base or facts.id).rpartition("/")[2])
    spent = facts.flops.value if facts.flops else 0.0
    before = dense_flops(base.config, base.training_tokens) if base else 0.0
    is_known = facts.flops is not None and (facts.base is None or base is not None)
    is_here = bool(facts.files) or facts.parameters is not None
    return Model(
        name=shorten(facts.name, MAX_NAME),
        lab=shorten(_lab(facts), MAX_NAME),
        type="dense" if facts.parameters else "not stated",
        access="open weights" if is_here else "not stated",
        parameters=_value(facts.parameters),
        tokens=_value(facts.tokens),
        flops=spent + before if is_known or (base and not facts.stages) else None,
        is_estimate=base is not None,
        source="card.json" if facts.origin != MEASURED else "report.json",
        scores=tuple(_own_score(facts, result, names) for result in last_results(facts)),
        revision="" if facts.revision == "not recorded" else facts.revision,
        folder=shorten(folder, MAX_NAME),
        facts=facts,
    )


def _lab(facts: Facts) -> str:
    """Whose model it is; a model that was not trained in a run here is nobody's unless its name says whose."""
    is_run = facts.origin.startswith("trained") or "/" in facts.name  # an evaluation of RUN/STAGE
    return facts.lab if is_run or not facts.id.startswith("local/") or facts.lab == OURS else "not stated"


def _own_score(facts: Facts, result: Result, names: Mapping[tuple[str, str], str]) -> Score:
    """A measured number, under the reports' name of the benchmark."""
    name = names[_plain_name(facts, result), result.rows]
    is_exam = name == EXAM
    settings = [result.setting, "" if result.is_whole else "part", "share of problems" if is_exam else ""]
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
