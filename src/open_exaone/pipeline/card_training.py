"""What training put into a model's weights: its base, tokens and FLOPs, as far as any file records them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from open_exaone.base.errors import OpenExaoneError
from open_exaone.checkpoint.shipped import FACTS, is_shipped, shipped_model
from open_exaone.pipeline.card_conversion import converted, shipped
from open_exaone.pipeline.card_model import named, published
from open_exaone.pipeline.card_run import File, base_of, chain, stage_facts, total
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.source import is_run
from open_exaone.present.card_facts import Figure, Stage

NUM_PARAMETERS, TRAIN_TOKENS, TRAIN_FLOPS, BASE = "num_parameters", "train_tokens", "train_flops", "base"


class Training(NamedTuple):
    """What is recorded; None is not known."""

    base: str | None = None
    """The checkpoint that training began from."""
    tokens: Figure | None = None
    """A base's pretraining included where that is known."""
    flops: Figure | None = None
    """Of this package's training alone."""


def size_record(folder: Path, num_parameters: int) -> dict[str, Any]:
    """What an evaluation's report.json records of the size of the local model that it measured."""
    try:
        training = training_of(folder)
    except OpenExaoneError:  # a run's recipe that is broken or of another version does not stop a measurement
        training = Training()
    found = {
        NUM_PARAMETERS: num_parameters,
        TRAIN_TOKENS: training.tokens and training.tokens.value,
        TRAIN_FLOPS: training.flops and training.flops.value,
        BASE: training.base,
    }
    return {name: value for name, value in found.items() if value is not None}


def recorded_training(about: File) -> Training:
    """What an evaluation's report.json has of `size_record`."""
    tokens, flops = (_positive(about.figure(f"model.{name}")) for name in (TRAIN_TOKENS, TRAIN_FLOPS))
    return Training(about.text(f"model.{BASE}") or None, tokens, flops)


def recorded_parameters(about: File) -> Figure | None:
    return _positive(about.figure(f"model.{NUM_PARAMETERS}"))


def _positive(figure: Figure | None) -> Figure | None:
    return figure if figure is not None and figure.value > 0 else None


def training_of(folder: Path, place: str = "") -> Training:
    """Of a model's folder: a stage's in a run, the shipped model's, or one with a published model's name.

    Args:
        place: where the shipped model's folder is, for the sources of its numbers.

    Raises:
        OpenExaoneError: the run's recipe cannot be read.
    """
    stage = folder.resolve().parent
    if folder.name == "model" and is_run(stage.parent):
        return _of_stage(RunFolder(stage.parent), stage.name)
    if has_shipped_weights(folder):
        return _of_record(shipped(folder, None, place))
    if made := converted(folder):
        return _of_record(made)
    name, base = named(folder)
    return Training(base, tokens_with_base(name, None))


def shipped_weights() -> str:
    """The hash of the shipped model's files that tells its weights from any other's."""
    from open_exaone.rollout.providers.local import weights_hash

    return weights_hash(shipped_model())


def has_shipped_weights(folder: Path) -> bool:
    """Whether a folder is the shipped model's or a copy of it."""
    from open_exaone.rollout.providers.local import weights_hash

    return is_shipped(folder) or ((folder / FACTS).is_file() and weights_hash(folder) == shipped_weights())


def _of_record(made: Mapping[str, Any]) -> Training:
    return Training(*(made.get(name) for name in Training._fields))


def _of_stage(run: RunFolder, folder: str) -> Training:
    recipe = run.recipe()
    found = next((one for one in recipe.stages if one.name == folder.partition("-")[2]), None)
    if found is None:
        return Training()
    names, base = chain(recipe, found), base_of(recipe, File(run.path, run.report_file.name))
    stages: Sequence[Stage] = [stage_facts(run, recipe, one) for one in recipe.stages if one.name in names]
    own = total([stage.tokens for stage in stages])
    return Training(base, tokens_with_base(base, own), total([stage.flops for stage in stages]))


def tokens_with_base(base: str | None, own: Figure | None) -> Figure | None:
    """The tokens that weights were trained on; with a base, its pretraining too, and None where that is not known.

    Args:
        own: of the training on top of the base; None where there was none.
    """
    if base is None:
        return own
    known = published(base)
    if known is None:
        return None
    source = f"docs/provenance.md: pretraining of {known.hub_name}"
    before = Figure(value=known.training_tokens, sources=(source,))
    return total([before, own], "pretraining of the base model + own training")
