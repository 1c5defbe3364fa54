"""What a run's files say of its model: every number with the file and field that it stands in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_json
from open_exaone.base.hub import is_hub_name
from open_exaone.base.text import some
from open_exaone.data.config import SourceConfig
from open_exaone.data.store import MANIFEST
from open_exaone.model.registry import PUBLISHED
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RENDERING, RunFolder
from open_exaone.pipeline.spent import sampled_by_rl
from open_exaone.present.card_facts import NOT_FINISHED, DataSet, Energy, Figure, Stage
from open_exaone.present.stages import is_number
from open_exaone.train.config import AnyStage, FilterStage, RlStage

# The mean power that a whole machine draws from the socket while it trains, of several GPUs for each of them: an
# assumption, not a measurement.
WATTS: Mapping[str, float] = {"cpu": 100.0, "cuda": 1000.0}
JOULES_PER_KWH = 3.6e6


class File:
    """A JSON file of the run, whose numbers come with their place."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        path = folder / name
        self.values: Any = read_json(path) if path.is_file() else {}

    def get(self, field: str, *keys: str) -> Any:
        """The value at a dotted field, and below it at keys that may hold dots; None where there is none."""
        value = self.values
        for key in (*filter(None, field.split(".")), *keys):
            if isinstance(value, list):
                value = value[int(key)] if key.isdecimal() and int(key) < len(value) else None
            else:
                value = value.get(key) if isinstance(value, dict) else None
        return value

    def figure(self, field: str, *keys: str) -> Figure | None:
        """The number there; None where there is none."""
        value = self.get(field, *keys)
        place = ".".join([*filter(None, field.split(".")), *keys])
        return Figure(value=value, sources=(f"{self.name}: {place}",)) if is_number(value) else None

    def text(self, field: str) -> str:
        """The text at a dotted field; empty where there is none."""
        value = self.get(field)
        return value if isinstance(value, str) else ""


def total(figures: Sequence[Figure | None], rule: str = "sum") -> Figure | None:
    """The sum of those that are there, with all their sources; None where there is none."""
    there = [figure for figure in figures if figure is not None]
    if not there:
        return None
    sources = tuple(dict.fromkeys(source for figure in there for source in figure.sources))
    value = sum(figure.value for figure in there)
    if len(there) == 1:
        return there[0]
    return Figure(value=value, sources=sources, rule=rule)


def done_stages(folder: RunFolder, recipe: Recipe, until: str | None) -> tuple[list[AnyStage], list[str]]:
    """The stages whose model or data is there, up to `until`; and what is to know of the rest.

    Raises:
        ConfigError: no stage with a model has finished.
    """
    names = [stage.name for stage in recipe.stages]
    wanted = recipe.stages if until is None else recipe.stages[: names.index(until) + 1]
    done = [stage for stage in wanted if folder.is_done(recipe, stage)]
    if not any(not isinstance(stage, FilterStage) for stage in done):
        filters_only = all(isinstance(stage, FilterStage) for stage in wanted)
        why = "this run has no model: a filter leaves none" if filters_only else "no stage of this run has finished yet"
        raise ConfigError(f"{folder.path}: {why}" + ("" if filters_only else f": run `{folder.resume_command}`"))
    rest = [stage.name for stage in recipe.stages if stage not in done]
    notes = []
    if rest and until is None:
        notes.append(
            f"{NOT_FINISHED}: {some([stage.name for stage in done])} of its {len(names)} stages are done, "
            f"{some(rest)} not yet. The card is of the last finished stage's model; `exaone run FOLDER/recipe.toml "
            "--out FOLDER` finishes the run, where FOLDER is the run's folder."
        )
    unmeasured = [
        stage.name
        for stage in done
        if recipe.evaluation is not None
        and not isinstance(stage, FilterStage)
        and not (stage_folder(folder, recipe, stage) / "eval" / "report.json").is_file()
    ]
    if unmeasured:
        notes.append(f"Not measured yet: {some(unmeasured)}. The same command measures it.")
    return done, notes


def stage_folder(folder: RunFolder, recipe: Recipe, stage: AnyStage) -> Path:
    return folder.stage(recipe.stages.index(stage), stage.name)


def chain(recipe: Recipe, last: AnyStage) -> list[str]:
    """The stages whose training the last one's model has in it, the first one first."""
    names: list[str] = []
    stage: AnyStage | None = last
    while stage is not None:
        names.insert(0, stage.name)
        stage = recipe.start_of(stage)
    return names


def stage_facts(folder: RunFolder, recipe: Recipe, stage: AnyStage) -> Stage:
    """What a finished stage's files say that it took."""
    name = stage_folder(folder, recipe, stage).name
    outcome, measured = File(folder.path, f"{name}/outcome.json"), File(folder.path, f"{name}/eval/outcome.json")
    sampled = File(folder.path, f"{name}/{'filter' if isinstance(stage, FilterStage) else 'sampling'}.json")
    start = recipe.start_of(stage)
    return Stage(
        name=stage.name,
        kind=stage.kind,
        start=None if start is None else start.name,
        data=stage.data,
        steps=outcome.figure("train_steps"),
        empty_steps=outcome.figure("empty_steps") if outcome.get("empty_steps") else None,
        tokens=outcome.figure("train_tokens"),
        sampled_tokens=_sampled_by_rl(folder, name, stage) or sampled.figure("sampled_tokens"),
        flops=outcome.figure("train_flops"),
        seconds=outcome.figure("train_seconds"),
        sample_seconds=sampled.figure("sample_seconds"),
        eval_seconds=measured.figure("seconds"),
    )


def _sampled_by_rl(folder: RunFolder, name: str, stage: AnyStage) -> Figure | None:
    """The tokens of an RL stage's replies; None of any other stage, and where its metrics are gone."""
    if not isinstance(stage, RlStage) or not (folder.path / name / "metrics.jsonl").is_file():
        return None
    tokens = round(sampled_by_rl(stage, folder.path / name).tokens)
    rule = "sum over the steps of replies x their mean tokens"
    return Figure(value=tokens, sources=(f"{name}/metrics.jsonl: mean_reply_tokens",), rule=rule)


def data_sets(
    folder: RunFolder, recipe: Recipe, done: Sequence[AnyStage], licences: Mapping[str, str]
) -> list[DataSet]:
    """Every source of data that a finished stage or the evaluation reads.

    Args:
        licences: what the user names as the licence of rows, by the data's name in the recipe.

    Raises:
        ConfigError: the recipe has no such data, or they are generated problems alone.
    """
    found = []
    for name in licences:
        if name not in recipe.data:
            raise ConfigError(f"--data-licence {name}: the recipe has no such data{did_you_mean(name, recipe.data)}")
        if all(_described(source)[1] == GENERATED for source in recipe.data[name].sources):
            raise ConfigError(f"--data-licence {name}: its problems are generated, under Apache-2.0: leave it out")
    toml = folder.recipe_file.name
    for name, data in recipe.data.items():
        learned = [stage.name for stage in done if stage.data == name]
        used = learned + [f"{stage.name}.validation" for stage in done if getattr(stage, "validation", None) == name]
        used += ["evaluation"] if recipe.evaluation and name in recipe.evaluation.names else []
        for place, source in enumerate(data.sources):
            what, licence = _described(source)
            licence = licences.get(name, licence) if licence != GENERATED else licence
            number = getattr(source, "num_problems", None)
            at = f"{toml}: data.{name}.sources.{place}.num_problems"
            rows = Figure(value=number, sources=(at,)) if isinstance(number, int) else None
            if isinstance(source, SourceConfig) and learned:
                rows = _rows_read(folder, recipe, learned[0], place, source)
            about: dict[str, Any] = {"what": what, "licence": licence, "num_rows": rows, "used_by": tuple(used)}
            if used:
                found.append(DataSet(name=name, **about, is_learned=bool(learned)))
    return found


def _rows_read(folder: RunFolder, recipe: Recipe, name: str, place: int, source: SourceConfig) -> Figure | None:
    """How many rows a stage has read of one of its data's sources; None where its folder does not record it."""
    stage = stage_folder(folder, recipe, next(one for one in recipe.stages if one.name == name)).name
    for part in ("data", "prompts"):
        manifest = File(folder.path, f"{stage}/{part}/{MANIFEST}")
        if manifest.text(f"sources.{place}.path") == source.path:
            return manifest.figure(f"sources.{place}.rows")
    return None


def _described(source: Any) -> tuple[str, str]:
    """What a source is, and its licence as far as anything records it."""
    if isinstance(source, SourceConfig):
        if source.path.startswith("hub:"):
            return (
                f"data set {source.path.removeprefix('hub:')} of the hub",
                "unknown here: its page on the hub names it",
            )
        return f"rows of {Path(source.path).name}", "unknown: the rows name none"
    families = getattr(source, "families", None)
    if families is None:
        return "problems of the user's own code", "unknown: the code names none"
    named = ", ".join([families] if isinstance(families, str) else families)
    return f"generated problems: {named}", GENERATED


GENERATED = "Apache-2.0 (made by this package and by Reasoning Gym's generators)"


def spent_seconds(folder: RunFolder, stages: Sequence[Stage]) -> Figure | None:
    """The time that preparing, training, sampling and measuring took."""
    prepared = File(folder.path, folder.prepared_file.name).figure("seconds")
    parts = [figure for stage in stages for figure in (stage.seconds, stage.sample_seconds, stage.eval_seconds)]
    return total([prepared, *parts], "sum of preparing, training, sampling and measuring")


def energy(seconds: Figure | None, machine: Mapping[str, str], watts: float | None) -> Energy | None:
    """Energy from time and a mean power that is assumed, or given."""
    if seconds is None:
        return None
    device, ranks = machine.get("device", "").partition(":")[0] or "cpu", machine.get("ranks", "")
    gpus = int(ranks) if device == "cuda" and ranks.isdecimal() and 0 < int(ranks) < 10**6 else 1
    assumed = WATTS.get(device, WATTS["cpu"]) * gpus
    what = device if gpus == 1 else f"{gpus} x {device}"
    source = "--watts" if watts is not None else f"assumption of this package for a machine with {what}"
    power = Figure(value=assumed if watts is None else watts, sources=(source,), is_estimate=True)
    kwh = seconds.value * power.value / JOULES_PER_KWH
    rule = "time x power, the whole machine counted as under load for all of it"
    figure = Figure(value=kwh, sources=(*seconds.sources, source), rule=rule, is_estimate=True)
    return Energy(kwh=figure, watts=power)


def begun_at(folder: RunFolder) -> str:
    """When the run's conversations were first rendered, which is when it began; empty where that is not recorded."""
    return File(folder.path, RENDERING).text("rendered_at")


def base_of(recipe: Recipe, report: File) -> str | None:
    """The checkpoint that training began from: a name on the hub whole, a folder by its own name.

    A path such as models/mine reads as a name on the hub too; the run's report records which of them it was.
    """
    if not isinstance(recipe.model, str):
        return None
    is_on_hub = report.get("model.is_on_hub")
    if is_on_hub is None:
        is_on_hub = is_hub_name(recipe.model) and not Path(recipe.model).exists()
    if is_on_hub:
        return recipe.model
    place = Path(recipe.model).resolve()
    if place.name in PUBLISHED:
        return PUBLISHED[place.name].hub_name
    return "/".join(place.parts[-3:]) if place.name == "model" and len(place.parts) > 3 else place.name


def changed_since(folder: RunFolder, model: Path, stage: str, revision: str) -> str | None:
    """What to know of a stage's model whose files are others than those that the run measured; None if they are not."""
    measured = File(model.parent, "eval/evaluation.json").text("model.weights")
    if not measured or measured == revision:
        return None
    return (
        f"The files of {model.relative_to(folder.path)} have changed since the run measured them (revision "
        f"{measured[:12]}), so the results of stage {stage} are left out. Measure the model again with `exaone eval` "
        "and name that folder with --evaluation."
    )


def versions_of(folder: RunFolder, report: File) -> tuple[dict[str, str], dict[str, str]]:
    """The versions, and the machine, that the run's own report names."""
    try:
        versions = {str(name): str(value) for name, value in (report.get("versions") or {}).items()}
        machine = {str(name): str(value) for name, value in (report.get("machine") or {}).items() if value is not None}
    except AttributeError as error:
        raise DataError(f"{folder.report_file}: versions, machine: must be objects; run the recipe again") from error
    return versions, machine or {
        key: value for key in ("device", "dtype") if (value := File(folder.path, "machine.json").text(key))
    }
