"""What `exaone run --controls` asks of a recipe and of its finished run, besides what every ablation does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError
from open_exaone.pipeline.ablation_config import ABLATIONS, CONTROLS
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.recipe import read_recipe, resolve
from open_exaone.pipeline.run import is_finished
from open_exaone.pipeline.source import is_run

NEEDED = {"sft": "SFT", "rl": "RL"}  # the kinds of stages that controls ask about


def check_controls(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, quick: bool) -> None:
    """Holds a recipe to what controls need.

    Args:
        source, overrides, quick: see `load_recipe`.

    Raises:
        ConfigError: it has no SFT or no RL to compare with, or lists no controls; names the recipe.
    """
    raw = read_recipe(source, overrides, quick=quick)
    recipe = resolve(raw)
    for kind, name in NEEDED.items():
        if not any(stage.kind == kind for stage in recipe.stages):
            raise ConfigError(
                f"--controls: {recipe.name} has no stage of kind {kind!r}: controls ask whether SFT and RL do more "
                f"than simpler training, and there is no {name} here: compare arms of your own with --ablate"
            )
    if CONTROLS not in raw.ablations:
        raise ConfigError(
            f"--controls: {raw.source}: has no [{ABLATIONS}.{CONTROLS}]: list its controls there; docs/controls.md has "
            "an example, and nano/exaone-deep has them"
        )
    if not raw.ablations[CONTROLS].begins_from_run:
        raise ConfigError(
            f"{raw.source}: {ABLATIONS}.{CONTROLS}.stage: controls begin from a finished run: leave `stage` out"
        )


def base_run(recipe: Recipe, folder: Path, command: str) -> Path:
    """The folder where the finished run stands that controls are compared with, where none is named.

    Args:
        command: what makes it.

    Raises:
        ConfigError: it is not there, or not finished.
    """
    if is_run(folder) and is_finished(RunFolder(folder), recipe):
        return folder
    raise ConfigError(
        f"--controls: there is no finished run of {recipe.name} in {folder}: train it first ({command}), or name its "
        "folder with --from"
    )
