"""What the argument MODEL of a command stands for. Loads no recipe, so that a server starts fast."""

import re
from pathlib import Path

from open_exaone.base.config import read_toml
from open_exaone.base.errors import ConfigError
from open_exaone.base.links import own_file
from open_exaone.base.text import some
from open_exaone.pipeline.contents import own_run

_STAGE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def is_address(source: str) -> bool:
    """Whether an endpoint is meant."""
    return source.startswith(("http://", "https://"))


def is_run(source: Path) -> bool:
    """Whether a folder is a run's."""
    return (source / "recipe.toml").is_file()


def resolve_tokenizer(source: Path) -> Path:
    """A folder with a tokenizer: itself, or that of the model that `resolve_model` finds; raises what that does."""
    return source if (source / "tokenizer.json").is_file() else resolve_model(source)


def resolve_model(source: Path) -> Path:
    """A model's folder: itself, that of a run's last finished stage, of the shipped model, or of a model of the hub.

    Raises:
        ConfigError: there is none.
        CheckpointError: the hub has no such model, or cannot be reached; or the shipped model is damaged.
    """
    from open_exaone.base.hub import is_hub_name
    from open_exaone.checkpoint.hub import download
    from open_exaone.checkpoint.shipped import SHIPPED, shipped_model

    try:
        is_there = source.exists()
    except OSError as error:  # a name too long, or a folder that may not be looked into
        raise ConfigError(f"{str(source)[:100]}: cannot be opened: {error.strerror}") from error
    if (source / "config.json").is_file():
        return source
    if is_run(source):
        if folders := _models_of_run(source):
            return folders[-1]
        from open_exaone.pipeline.folder import RunFolder

        run = RunFolder(source)
        if not run.recipe().trained:
            raise ConfigError(f"{source}: this run has no model: a filter leaves none")
        raise ConfigError(f"{source}: no stage of this run has finished yet: run `{run.resume_command}`")
    if (source / "model" / "config.json").is_file():
        return own_file(source / "model")
    if not is_there and str(source) == SHIPPED:
        return shipped_model()
    if not is_there and source.parts[:1] == ("runs",):
        runs = sorted(path.parent.name for path in Path("runs").glob("*/recipe.toml"))
        there = f"the runs here are {some(runs)}" if runs else "no run is in runs/ yet: `exaone run` makes one"
        raise ConfigError(f"{source}: there is no such folder; {there}")
    hides = source.parts[:1] if len(source.parts) == 2 and Path(source.parts[0]).exists() else ()
    if not is_there and is_hub_name(source) and not hides:
        return download(source)
    beside = f", nor looked up on the hub, as {hides[0]}/ is a folder here" if hides else ", nor a name on the hub"
    raise ConfigError(
        f"{source}: is neither a model's folder (config.json) nor a run's (recipe.toml){beside} (owner/name)"
    )


def _models_of_run(run: Path) -> list[Path]:
    """The finished stages' models, in order: of the recipe, only the stages' names are read.

    Raises:
        RunFolderError: a link leads out of the folder.
        ConfigError: the recipe is no TOML.
    """
    own_run(run)
    stages = read_toml(run / "recipe.toml").get("stages")
    names = (
        [stage.get("name") if isinstance(stage, dict) else None for stage in stages] if isinstance(stages, list) else []
    )
    folders = [
        run / f"{place:02d}-{name}" / "model"
        for place, name in enumerate(names, start=1)
        if isinstance(name, str) and _STAGE_NAME.fullmatch(name)
    ]
    return [folder for folder in folders if folder.is_dir()]
