"""A run's folder: what stands where, and whose it is."""

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from open_exaone.base.config import differences, read_toml, validate
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.files import explain_os_errors, locked, read_json, write_json, write_text
from open_exaone.base.links import own_file
from open_exaone.base.records import Problem
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.contents import own_run
from open_exaone.pipeline.problems import as_files, read_problems
from open_exaone.pipeline.together import TOKEN_FILE
from open_exaone.remote.settings import WITHOUT_ADDRESS
from open_exaone.rollout.config import ENGINE_MAY_CHANGE
from open_exaone.train.config import AnyStage, FilterStage
from open_exaone.train.settings import MAY_CHANGE

LOCK = ".lock"
RENDERING = "rendering.json"
FILTER_FILE = "filter.json"  # in a filter's folder, once it is done
BUILD_FILE = "build.json"  # in the folder of `exaone data build`, once it is done
BEGUN = ("outcome.json", "rollouts", "samples", "pairs.jsonl", "groups.jsonl")  # what a stage leaves once it has begun


def rendering_time(folder: Path) -> datetime:
    """When a folder's conversations were first rendered, which a template may print; recorded there, now if need be.

    Raises:
        DataError: the record is broken.
        RunFolderError: it cannot be written, or is a link that leads out.
    """
    path = own_file(folder / RENDERING, folder, RunFolderError)
    if not path.is_file():
        with explain_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"rendered_at": datetime.now().isoformat(timespec="seconds")})
    try:
        return datetime.fromisoformat(read_json(path)["rendered_at"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f'{path}: must hold {{"rendered_at": an ISO time}}; put it back or remove it') from error


@dataclass(frozen=True, slots=True)
class RunFolder:
    """runs/NAME: recipe.toml, problems/, tokenizer/, one folder a stage, report.json, report.html, its card."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def resume_command(self) -> str:
        """The command that resumes this run, quoted for a shell."""
        return shlex.join(["exaone", "run", str(self.recipe_file), "--out", str(self.path)])

    @property
    def report_file(self) -> Path:
        return self.path / "report.json"

    @property
    def prepared_file(self) -> Path:
        """There once the data of all stages is prepared; the prompts that they share."""
        return self.path / "prepared.json"

    def prepared(self) -> dict[str, Any] | None:
        """What `prepared.json` holds; None where it is missing or broken, and everything is prepared again."""
        try:
            found: dict[str, Any] = read_json(self.prepared_file)
            names, epochs, thinking = {stage.name for stage in self.recipe().stages}, found["epochs"], found["thinking"]
            is_whole = {"seconds", "num_examples", "shared_prompts", "evaluation"} <= found.keys()
            return found if is_whole and epochs.keys() == thinking.keys() == names else None
        except (DataError, KeyError, TypeError, AttributeError):
            return None

    def stage(self, index: int, name: str) -> Path:
        return self.path / f"{index + 1:02d}-{name}"

    def make(self) -> None:
        """Makes the folder, unless it is there and may hold a run.

        Raises:
            RunFolderError: it holds something else.
        """
        is_ours = self.recipe_file.exists() or not self.path.is_dir()
        if not is_ours and any(path.name not in (LOCK, TOKEN_FILE) for path in self.path.iterdir()):
            raise RunFolderError(f"{self.path}: is not empty and holds no run: choose another folder with --out")
        with explain_os_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def claim(self, recipe: Recipe) -> None:
        """Makes the folder this recipe's, or finds that it already is; call it while the folder is locked.

        Raises:
            RunFolderError: it holds another recipe's run, or something else.
        """
        self.make()
        if not self.recipe_file.exists():
            write_text(self.recipe_file, _with_version(recipe))
            return
        found = self.recipe()
        changed = differences(decisive(found), decisive(recipe)) - self._open_ends(found)
        if keys := ", ".join(sorted(changed)):
            if any(self._has_begun(found, stage) for stage in found.stages):
                raise RunFolderError(
                    f"{self.path}: holds a run of another recipe ({found.name}; it differs in {keys}): choose another "
                    "folder with --out, put the settings back, or remove this folder"
                )
            self._forget(found)  # it failed before anything was learned
        if found != recipe:
            write_text(self.recipe_file, _with_version(recipe))

    def _has_begun(self, recipe: Recipe, stage: AnyStage) -> bool:
        """Whether a stage has a saved state, a sample or a result."""
        path = self.stage(recipe.stages.index(stage), stage.name)
        return any((path / name).exists() for name in BEGUN) or any((path / "checkpoints").glob("step-*"))

    def _open_ends(self, recipe: Recipe) -> set[str]:
        """The ends of filters, which may change until a stage reads what is kept: the samples stay the same."""
        filters = {stage.name for stage in recipe.stages if isinstance(stage, FilterStage)}
        filters -= {stage.data for stage in recipe.stages if self._has_begun(recipe, stage)}
        return {f"{name}.{end}" for name in filters for end in ("min_correct", "max_correct")}

    def is_done(self, recipe: Recipe, stage: AnyStage) -> bool:
        """Whether a stage has left what it is for: a model, or of a filter what is kept between these ends."""
        path = self.stage(recipe.stages.index(stage), stage.name)
        if not isinstance(stage, FilterStage):
            return (path / "model").is_dir()
        found = read_json(path / FILTER_FILE) if (path / FILTER_FILE).is_file() else {}
        return (found.get("min_correct"), found.get("max_correct")) == (stage.min_correct, stage.most_correct)

    def _forget(self, recipe: Recipe) -> None:
        """Removes what was prepared for a recipe that learned nothing: all of it can be made again."""
        self.prepared_file.unlink(missing_ok=True)
        (self.path / "machine.json").unlink(missing_ok=True)
        for folder in (
            "problems",
            "tokenizer",
            *(self.stage(i, stage.name).name for i, stage in enumerate(recipe.stages)),
        ):
            shutil.rmtree(self.path / folder, ignore_errors=True)

    def recipe(self) -> Recipe:
        """The resolved recipe of the run.

        Raises:
            RunFolderError: the folder is no run's, or a link in it leads out of it.
        """
        if not self.recipe_file.is_file():
            raise RunFolderError(
                f"{self.path}: is no run's folder (it has no recipe.toml): name one that `exaone run` made"
            )
        own_run(self.path)
        return validate(Recipe, read_toml(self.recipe_file), str(self.recipe_file))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second process out; the lock goes with the process that holds it.

        Raises:
            RunFolderError: another process runs it now.
        """
        with locked(self.path / LOCK, f"{self.path}: another process runs this recipe: wait for it or stop it"):
            yield

    def claim_machine(self, device: str, dtype: str) -> None:
        """Makes a kind of device and a dtype this run's, or finds that they already are.

        Raises:
            RunFolderError: it was begun with others: its weights would be of neither.
        """
        file, wanted = self.path / "machine.json", {"device": device, "dtype": dtype}
        if not file.is_file():
            write_json(file, wanted)
        elif (found := read_json(file)) != wanted:
            raise RunFolderError(
                f"{self.path}: it was begun in {found['dtype']} on {found['device']}, not in {dtype} on {device}: "
                f"give --dtype {found['dtype']} --device {found['device']}, or choose another folder with --out"
            )

    def problems(self, name: str, limit: int | None = None) -> list[Problem]:
        """The problems of one of the run's data, the first `limit` of them.

        Raises:
            ConfigError: the recipe has no such data.
            DataError: a row is no problem, or its file is missing or was changed to name code.
        """
        recipe = self.recipe()
        if name not in recipe.data:
            raise ConfigError(f"{self.path}: has no data {name!r}; there are {', '.join(recipe.data)}")
        return read_problems(as_files(recipe, self.path / "problems")[name], name, limit)

    def model_folders(self) -> list[Path]:
        """The finished stages' models, in order."""
        stages = self.recipe().stages
        folders = [self.stage(index, stage.name) / "model" for index, stage in enumerate(stages)]
        return [folder for folder in folders if folder.is_dir()]


def decisive(recipe: Recipe) -> dict[str, Any]:
    """What decides a run's outcome: a stage's memory, saving and watching, where the judge model and the engine's
    servers are, how much data was expected, and how many ranks share the run, may change between two sittings."""
    values = recipe.model_dump(mode="json", exclude={"judge": WITHOUT_ADDRESS})
    may_change = set(MAY_CHANGE) - {"name"}  # a stage's folder is called so
    for name in ENGINE_MAY_CHANGE:
        values["engine"].pop(name, None)
    values.pop("parallel")
    for dataset in values["data"].values():
        dataset.pop("expected", None)
    stages = values.pop("stages")
    by_name = {s["name"]: {key: value for key, value in s.items() if key not in may_change} for s in stages}
    return {**values, **by_name, "order of stages": list(by_name)}


def _with_version(recipe: Recipe) -> str:
    return f"# open-exaone {metadata.version('open-exaone')}\n{recipe.to_toml()}"
