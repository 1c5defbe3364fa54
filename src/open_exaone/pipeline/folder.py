"""A run's folder: what stands where, and whose it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from open_exaone.base.config import differences, read_toml, validate
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.files import explain_os_errors, locked, read_json, read_jsonl, write_json, write_jsonl, write_text
from open_exaone.base.links import own_file
from open_exaone.base.records import Problem
from open_exaone.pipeline.contents import own_story
from open_exaone.pipeline.recipe import Recipe
from open_exaone.remote.settings import WITHOUT_ADDRESS
from open_exaone.train.settings import MAY_CHANGE
from open_exaone.verify.own import check_kind_of_row, file_of, is_own


@dataclass(frozen=True, slots=True)
class RunFolder:
    """runs/NAME: recipe.toml, problems/, one folder a stage, report.json, report.html, card.md."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def report_file(self) -> Path:
        return self.path / "report.json"

    @property
    def prepared_file(self) -> Path:
        """There once the problems are drawn and the tokenizer is trained."""
        return self.path / "problems" / "outcome.json"

    def stage(self, index: int, name: str) -> Path:
        return self.path / f"{index + 1:02d}-{name}"

    def claim(self, recipe: Recipe) -> None:
        """Makes the folder this recipe's, or finds that it already is.

        Raises:
            RunFolderError: it holds another recipe's run, or something else.
        """
        if self.recipe_file.exists():
            found = self.recipe()
            if keys := ", ".join(sorted(differences(_decisive(found), _decisive(recipe)))):
                if not self.prepared_file.exists():  # it failed before it began: nothing is lost
                    write_text(self.recipe_file, _with_version(recipe))
                    return
                raise RunFolderError(
                    f"{self.path}: holds a run of another recipe ({found.name}; it differs in {keys}): "
                    f"choose another folder with --out, or remove this one"
                )
            if found != recipe:
                write_text(self.recipe_file, _with_version(recipe))
            return
        if self.path.is_dir() and any(self.path.iterdir()):
            raise RunFolderError(f"{self.path}: is not empty and holds no run: choose another folder with --out")
        with explain_os_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe_file, _with_version(recipe))

    def recipe(self) -> Recipe:
        """The resolved recipe of the run.

        Raises:
            RunFolderError: the folder is no run's, or a link in it leads out of it.
        """
        if not self.recipe_file.is_file():
            raise RunFolderError(f"{self.path}: is no run's folder (it has no recipe.toml): name one that `story` made")
        own_story(self.path)
        return validate(Recipe, read_toml(self.recipe_file), str(self.recipe_file))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second process out; the lock goes with the process that holds it.

        Raises:
            RunFolderError: another process runs this story now.
        """
        with locked(self.path / ".lock", f"{self.path}: another process runs this story: wait for it or stop it"):
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

    def save_problems(self, splits: dict[str, tuple[Problem, ...]]) -> None:
        for name, problems in splits.items():
            write_jsonl(self.path / "problems" / f"{name}.jsonl", (asdict(problem) for problem in problems))

    def problems(self, split: str) -> list[Problem]:
        """Reads one set of problems back.

        Raises:
            DataError: the file is missing, cut or has a wrong field; or names code that the recipe does not.
        """
        path = self.path / "problems" / f"{split}.jsonl"
        rows = read_jsonl(path)
        try:
            problems = [Problem(**row) for row in rows]
        except TypeError as error:
            raise DataError(f"{path}: a line is no problem: {error}") from error
        for kind in {problem.verifier for problem in problems if is_own(problem.verifier)}:
            if file_of(kind) not in self._files_of_sources():
                check_kind_of_row(kind, f"in the file of a function that {self.recipe_file} has as its `source`")
        return problems

    def _files_of_sources(self) -> set[str]:
        """The files of the functions that gave the run its problems, as its recipe names them."""
        sources = [split.source for split in self.recipe().problems.splits.values()]
        return {file_of(source) for source in sources if source and is_own(source)}

    def model_folders(self) -> list[Path]:
        """The finished stages' models, in order."""
        stages = self.recipe().stages
        folders = [self.stage(index, stage.name) / "model" for index, stage in enumerate(stages)]
        return [folder for folder in folders if folder.is_dir()]


def _decisive(recipe: Recipe) -> dict[str, Any]:
    """What decides a run's outcome: a stage's memory, saving and watching, and where the judge model is, may change
    between two sittings."""
    values = recipe.model_dump(mode="json", exclude={"judge": WITHOUT_ADDRESS})
    may_change = set(MAY_CHANGE) - {"name"}  # a stage's folder is called so
    values["stages"] = [
        {key: value for key, value in stage.items() if key not in may_change} for stage in values["stages"]
    ]
    return values


def _with_version(recipe: Recipe) -> str:
    return f"# open-exaone {metadata.version('open-exaone')}\n{recipe.to_toml()}"


def is_run(source: Path) -> bool:
    """Whether a folder is a run's."""
    return (source / "recipe.toml").is_file()


def resolve_tokenizer(source: Path) -> Path:
    """A folder with a tokenizer: itself, or that of the model that `resolve_model` finds; raises what that does."""
    return source if (source / "tokenizer.json").is_file() else resolve_model(source)


def resolve_model(source: Path) -> Path:
    """A model's folder: itself, that of a run's last finished stage, or that of a model of the hub.

    Raises:
        ConfigError: there is none.
        CheckpointError: the hub has no such model, or cannot be reached.
    """
    from open_exaone.base.hub import is_hub_name
    from open_exaone.checkpoint.hub import download

    try:
        is_there = source.exists()
    except OSError as error:  # a name too long, or a folder that may not be looked into
        raise ConfigError(f"{str(source)[:100]}: cannot be opened: {error.strerror}") from error
    if (source / "config.json").is_file():
        return source
    if is_run(source):
        folders = RunFolder(source).model_folders()
        if folders:
            return folders[-1]
        raise ConfigError(f"{source}: no stage of this run has finished yet: run `exaone story --out {source}`")
    if (source / "model" / "config.json").is_file():
        return own_file(source / "model")
    if (source / "adapter").is_dir():
        merge = f"exaone convert BASE MERGED --adapter {source / 'adapter'}"
        raise ConfigError(f"{source}: was trained with LoRA: merge it first: {merge}")
    if (source / "config.toml").is_file() and (source / "fingerprint.json").is_file():
        again = f"exaone train {source / 'config.toml'} --out {source}"
        raise ConfigError(f"{source}: this training has not finished: go on with it: {again}")
    hides = source.parts[:1] if len(source.parts) == 2 and Path(source.parts[0]).exists() else ()
    if not is_there and is_hub_name(source) and not hides:
        return download(source)
    beside = f", nor looked up on the hub, as {hides[0]}/ is a folder here" if hides else ", nor a name on the hub"
    raise ConfigError(
        f"{source}: is neither a model's folder (config.json) nor a run's (recipe.toml){beside} (owner/name)"
    )
