"""`exaone card`: what is known of a model, from the run, folder or evaluation that has it, and the card's files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.files import read_json
from open_exaone.checkpoint.licence import licence_by_name
from open_exaone.checkpoint.shipped import SHIPPED, is_shipped, shipped_model
from open_exaone.model.hf import config_from_hf
from open_exaone.pipeline import card_model as model
from open_exaone.pipeline import card_results as results
from open_exaone.pipeline import card_run as from_run
from open_exaone.pipeline.card_conversion import CONVERSION, converted, leave_conversion, shipped
from open_exaone.pipeline.card_model import HUB_ID, STAGE_FOLDER
from open_exaone.pipeline.card_run import File, total
from open_exaone.pipeline.card_training import (
    has_shipped_weights,
    recorded_parameters,
    recorded_training,
    shipped_weights,
    tokens_with_base,
    training_of,
)
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.source import is_run, resolve_model
from open_exaone.present.card_facts import Facts, Figure, Licence, Result, read_facts
from open_exaone.present.card_files import CARD_JSON, write_card_files
from open_exaone.train.config import AnyStage, FilterStage

FROM_SCRATCH: Final = "trained from random weights"
_LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")


@dataclass(frozen=True, slots=True)
class CardOptions:
    """What the files do not say."""

    id: str | None = None  # "owner/name" of the hub
    licence: str | None = None  # as the hub names it
    evaluations: tuple[Path, ...] = ()  # folders of `exaone eval` of this very model
    data_licences: Mapping[str, str] = field(default_factory=dict)  # of a run's data, by their names in its recipe
    watts: float | None = None  # the machine's mean power
    source_url: str | None = None  # where the measurements can be read


def write_cards(source: Path, options: CardOptions | None = None, out: Path | None = None) -> tuple[Facts, list[Path]]:
    """Writes a model's card in English and Korean, card.json, .eval_results/ and every_eval_ever/.

    Args:
        source: a run's folder, a model's folder or hub name, or the folder of an evaluation.
        out: where to; into the run's, model's or evaluation's own folder if left out.

    Returns:
        what the card says, and the files.

    Raises:
        ConfigError: there is no model, or an option is wrong.
        DataError, CheckpointError: a file is missing or broken; names it and the field.
    """
    options = options or CardOptions()
    facts = gather(source, options)
    if out is None:
        if not source.is_dir():
            raise ConfigError(f"{source}: is a name, not a folder here: give --out, the folder for its card")
        out = source
    return facts, write_card_files(facts, out, source_url=options.source_url)


def gather(source: Path, options: CardOptions | None = None) -> Facts:
    """What is known of a model; raises what `write_cards` does."""
    options = options or CardOptions()
    _check_options(options)
    if source.suffix == ".gguf":
        raise ConfigError(f"{source}: a GGUF file has no card of its own: name the run or folder it was converted from")
    if is_run(source):
        facts = _of_run(RunFolder(source), options, None)
    elif (found := _stage_of_run(source)) is not None:
        facts = _of_run(found[0], options, found[1])
    elif (source / "evaluation.json").is_file():
        facts = _of_evaluation(source, options)
    elif (source / "config.json").is_file() or not (source / CARD_JSON).is_file():
        facts = _of_model(resolve_model(source), options)
    else:
        facts = read_facts(read_json(source / CARD_JSON), str(source / CARD_JSON))
    if options.data_licences and not facts.model_folder:
        raise ConfigError(f"--data-licence: {source} is no run with data of its own: leave it out")
    for evaluation in options.evaluations:
        facts = _with_evaluation(facts, evaluation)
    return facts


def record_conversion(source: Path, target: Path) -> None:
    """Leaves in a folder that a model was converted into how its weights were made, where that is known.

    Args:
        source: the model's folder that was converted, as `resolve_model` finds it.
    """
    if _stage_of_run(source) or is_shipped(source) or (source / CONVERSION).is_file():
        leave_conversion(gather(source), target)


def _check_options(options: CardOptions) -> None:
    if options.id is not None and not HUB_ID.fullmatch(options.id):
        raise ConfigError(f"--name {options.id[:100]}: write it as owner/name, as on the hub, such as me/my-model")
    given = {f"--data-licence {name}": licence for name, licence in options.data_licences.items()}
    for flag, licence in ({"--licence": options.licence} | given).items():
        if licence is not None and not _LICENCE_ID.fullmatch(licence):
            raise ConfigError(f"{flag} {licence[:60]}: write it as the hub does, such as apache-2.0 or mit")
    if options.watts is not None and not 0 < options.watts <= 1e9:
        raise ConfigError(f"--watts {options.watts}: must be a power in watts, above 0")
    if options.source_url is not None and not re.fullmatch(r"https?://[^\s\"'<>\\]{1,500}", options.source_url):
        raise ConfigError(f"--source-url {options.source_url[:100]}: must be an http or https address")


def _stage_of_run(source: Path) -> tuple[RunFolder, str] | None:
    """The run and the stage whose folder, or whose model's folder, this is or leads to; None where it is another's."""
    place = source.resolve()
    folder = place.parent if place.name == "model" else place
    if not STAGE_FOLDER.fullmatch(folder.name) or not is_run(folder.parent):
        return None
    run, name = RunFolder(folder.parent), folder.name.partition("-")[2]
    names = [stage.name for stage in run.recipe().stages]
    if name not in names:
        raise RunFolderError(f"{run.path}: its recipe has no stage {name!r}{did_you_mean(name, names)}")
    return run, name


def _of_run(folder: RunFolder, options: CardOptions, until: str | None) -> Facts:
    """What a run's files say, of the model of its last finished stage or of `until`."""
    recipe = folder.recipe()
    done, notes = from_run.done_stages(folder, recipe, until)
    last = [stage for stage in done if not isinstance(stage, FilterStage)][-1]
    if until is not None and last.name != until:
        raise _no_model(folder, recipe, until, last.name)
    at = from_run.stage_folder(folder, recipe, last) / "model"
    stages = [from_run.stage_facts(folder, recipe, stage) for stage in done]
    in_model = [stage for stage in stages if stage.name in from_run.chain(recipe, last)]
    data = from_run.data_sets(folder, recipe, done, options.data_licences)
    report = File(folder.path, folder.report_file.name)
    base, date = from_run.base_of(recipe, report), from_run.begun_at(folder)
    versions, machine = from_run.versions_of(folder, report)
    seconds = from_run.spent_seconds(folder, stages)
    about = model.folder_facts(at, folder.path)
    found = [result for stage in done for result in _stage_results(folder, recipe, stage, date, is_last=stage is last)]
    if note := from_run.changed_since(folder, at, last.name, about["revision"]):
        notes, found = [*notes, note], [result for result in found if result.stage != last.name]
    name = recipe.name.replace("/", "-")
    return Facts(
        **model.names(options.id, name, at, from_scratch=base is None),
        origin="trained" if base else FROM_SCRATCH,
        base=base,
        recipe=recipe.name,
        config_hash=report.text("config_hash") or recipe.config_hash,
        seed=Figure(value=recipe.seed, sources=("recipe.toml: seed",)),
        date=date,
        notes=(*notes, *model.naming(options.id, name, at, from_scratch=base is None)),
        stages=tuple(stages),
        data=tuple(data),
        tokens=_tokens(base, total([stage.tokens for stage in in_model])),
        flops=total([stage.flops for stage in stages]),
        machine=machine,
        seconds=seconds,
        energy=from_run.energy(seconds, machine, options.watts),
        results=tuple(found),
        licence=model.weights_licence(
            at,
            options.licence,
            from_scratch=[one for one in data if one.is_learned] if base is None else None,
            base=recipe.model if isinstance(recipe.model, str) else None,
        ),
        versions=versions,
        **about,
    )


def _no_model(folder: RunFolder, recipe: Recipe, name: str, last: str) -> ConfigError:
    """Why a stage has no card."""
    if any(stage.name == name and isinstance(stage, FilterStage) for stage in recipe.stages):
        return ConfigError(f"{folder.path}: stage {name} is a filter, which leaves no model: name the run's folder")
    return ConfigError(f"{folder.path}: stage {name} has not finished yet; the last that has is {last}")


def _stage_results(folder: RunFolder, recipe: Recipe, stage: AnyStage, date: str, *, is_last: bool) -> list[Result]:
    name = from_run.stage_folder(folder, recipe, stage).name
    return results.of_stage(folder.path, stage.name, name, date, has_parts=is_last)


def _tokens(base: str | None, own: Figure | None) -> Figure | None:
    """The tokens that a run's weights were trained on; not known where the run records none."""
    return None if own is None else tokens_with_base(base, own)


def _of_model(folder: Path, options: CardOptions) -> Facts:
    """What a model's folder says: its shape, its files and its licence."""
    name, about = model.named(folder)[0], model.folder_facts(folder, folder)
    training = training_of(folder)
    is_ours = has_shipped_weights(folder)
    made = shipped(folder, options.watts) if is_ours else converted(folder, about["revision"])
    licence = model.weights_licence(folder, options.licence, from_scratch=None, recorded=made.get("licence"))
    facts: dict[str, Any] = {
        "origin": "converted or copied",
        "base": training.base,
        "tokens": training.tokens,
        "flops": training.flops,
        **made,
        "licence": licence,
    }
    from_scratch = facts["origin"] == FROM_SCRATCH
    return Facts(**model.names(options.id, name, folder, from_scratch=from_scratch), **facts, **about)


def _of_evaluation(folder: Path, options: CardOptions) -> Facts:
    """What an evaluation says of the model that it measured."""
    about = File(folder, "report.json")
    if about.get("schema_version") is None:
        raise DataError(
            f"{folder / 'report.json'}: schema_version: is missing: the evaluation has not finished; give "
            "the same `exaone eval` again to finish it"
        )
    name = about.text("model.model") or "a model without a name"
    revision = about.text("model.weights") or about.text("model.revision") or "not recorded"
    engine = {key: text for key in ("engine", "dtype", "device") if (text := about.text(f"model.{key}"))}
    versions, notes = about.get("versions"), about.get("model.notes")
    measured = _measured_model(about, name, revision)
    if options.licence is not None:
        measured |= {"licence": model.chosen_licence(options.licence)}
    return Facts(
        **{**model.names(options.id, name, None), **measured},
        origin="measured",
        revision=revision,
        date=about.text("started"),
        notes=tuple(note for note in notes if isinstance(note, str)) if isinstance(notes, list) else (),
        results=tuple(results.of_evaluation(folder)),
        machine=engine,
        versions={str(key): str(value) for key, value in versions.items()} if isinstance(versions, dict) else {},
    )


def _measured_model(about: File, name: str, weights: str) -> dict[str, Any]:
    """Shape, training and licence of a measured model: the shipped one by its weights, a published one by its name,
    and of any other what the evaluation recorded."""
    if name == SHIPPED and weights == shipped_weights():
        folder = shipped_model()
        config, own = read_json(folder / "config.json"), training_of(folder, f"{SHIPPED}/")
        shape = model.shape_facts(config_from_hf(config), f"{SHIPPED}/config.json", config)
        licence = model.weights_licence(folder, None, from_scratch=None)
        return {"lab": model.OURS, "tokens": own.tokens, "flops": own.flops, "licence": licence, **shape}
    training, known = recorded_training(about), model.published(name)
    of_lg = licence_by_name([name, training.base or ""])
    why = f"By its name: {of_lg.use}." if of_lg else "The evaluation does not record it."
    licence = Licence(id="other", name=of_lg.name, why=why) if of_lg else Licence(id="unknown", why=why)
    found = {"base": training.base, "flops": training.flops, "licence": licence}
    if known is not None:
        shape = model.shape_facts(known.config, "docs/provenance.md: the published shape", {})
        return {**found, "tokens": training.tokens or tokens_with_base(name, None), **shape}
    return {**found, "tokens": training.tokens, "parameters": recorded_parameters(about)}


def _with_evaluation(facts: Facts, folder: Path) -> Facts:
    """The same with the results of an evaluation of this very model.

    Raises:
        DataError: it measured other weights, or is none.
    """
    if not (folder / "evaluation.json").is_file():
        raise DataError(f"{folder}: is no folder of an evaluation: name one that `exaone eval` made")
    file = File(folder, "report.json")
    weights = file.text("model.weights")
    if weights and facts.revision not in (weights, "not recorded"):
        raise DataError(
            f"{folder}: measured {file.text('model.model') or 'a model'} with other weights ({weights[:12]}) than "
            f"{facts.name} has ({facts.revision[:12]}): measure this model, or leave the evaluation out"
        )
    return facts.model_copy(update={"results": (*facts.results, *results.of_evaluation(folder, folder.resolve().name))})
