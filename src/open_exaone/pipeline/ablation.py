"""Runs an ablation: what its arms share once, then every arm with every seed, several at once, each in its own folder.

OUT/shared is an ordinary run of the recipe that ends before the stage that differs. OUT/ARM-SEED is an ordinary run of
the arm's recipe whose first stages are those of the shared run, as hard links: it stands alone, and the command that
continues any run continues it. Arms that begin from a finished run of the recipe take from it all stages that they have
in common with it; the first of them is that run itself.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from open_exaone.base import interrupt
from open_exaone.base.config import differences
from open_exaone.base.errors import ConfigError, RunFolderError
from open_exaone.base.files import explain_os_errors, locked, replace_folder, write_text
from open_exaone.base.machine import num_cores
from open_exaone.base.text import some
from open_exaone.pipeline.ablation_arms import Ablation, shared_values
from open_exaone.pipeline.ablation_jobs import Job, run_jobs
from open_exaone.pipeline.ablation_report import write_results
from open_exaone.pipeline.ablation_stages import with_budgets
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.contents import STAGE
from open_exaone.pipeline.folder import LOCK, RunFolder
from open_exaone.pipeline.measure import Machine, OnEvent
from open_exaone.pipeline.run import is_finished, run_recipe
from open_exaone.pipeline.source import is_run
from open_exaone.pipeline.spent import stages_spent
from open_exaone.present.ablation import write_ablation_page

SHARED = "shared"
MARK = "ablation.toml"  # in the folder of an ablation: its table
_NOT_LINKED = frozenset({"checkpoints", "data", "prompts", "validation"})  # of a finished stage, nothing needs them
_OF_THE_RUN = ("machine.json", "rendering.json")  # what the shared stages were computed on, and when rendered


@dataclass(frozen=True)
class AblationRun:
    """An ablation on its way, and where."""

    ablation: Ablation
    out: Path
    begun_from: Path | None = None  # another run whose first stages are taken instead of training them
    folders: Mapping[tuple[str, int], RunFolder] = field(init=False)

    def __post_init__(self) -> None:
        places = [(arm, seed) for seed in self.ablation.seeds for arm in self.ablation.arms]
        folders = {(arm, seed): RunFolder(self.out / f"{arm}-{seed}") for arm, seed in places}
        if self.begun_from is not None and self.ablation.config.begins_from_run:
            folders[self.ablation.baseline, self.ablation.recipe.seed] = RunFolder(self.begun_from)
        object.__setattr__(self, "folders", folders)

    @property
    def shared(self) -> RunFolder | None:
        """The run that has the shared stages; None where there are none."""
        has_shared = self.ablation.shared or self.ablation.config.begins_from_run
        return RunFolder(self.begun_from or self.out / SHARED) if has_shared else None

    @property
    def trained(self) -> list[tuple[str, int]]:
        """The arms and seeds that have a folder here; the run that arms begin from is trained already."""
        return [place for place, folder in self.folders.items() if folder.path != self.begun_from]


def run_ablation(
    ablation: Ablation,
    out: Path,
    on_event: OnEvent,
    machine: Machine | None = None,
    *,
    jobs: int | None = None,
    begun_from: Path | None = None,
) -> dict[str, Any]:
    """Runs an ablation from where its folder stands to the end; finished runs are not run again.

    Args:
        out: the ablation's folder; one that was killed there continues.
        on_event: as for `run_recipe`.
        jobs: how many runs are trained at once, each in a process of one thread; as many as there are cores if None,
            one on a GPU.
        begun_from: a run of the same recipe whose stages before the one that differs are taken, not trained again; a
            whole one where arms begin from a run.

    Returns:
        what ablation.json holds; an arm's run that failed has its `error` there.

    Raises:
        ConfigError: `begun_from` has other settings, has not finished these stages, or is missing where arms need it;
            `jobs` is below 1.
        RunFolderError: a folder holds something else.
        Interrupted: after Ctrl-C or SIGTERM; every run has saved its state.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be at least 1")
    run, machine = AblationRun(ablation, out, begun_from), machine or Machine()
    _check_from(run)
    if ablation.config.match:
        assert begun_from is not None  # it was checked
        taken = stages_spent(ablation.recipe, RunFolder(begun_from))
        ablation = replace(ablation, arms=with_budgets(ablation.arms, ablation.config, taken))
        run = AblationRun(ablation, out, begun_from)
    _make(run)
    busy = f"{out}: another process runs this ablation: wait for it or stop it"
    with locked(out / LOCK, busy), interrupt.deferred_interrupts():
        write_text(out / MARK, tomli_w.dumps(ablation.config.model_dump(mode="json", exclude_none=True)))
        for place in run.trained:  # another recipe's folder is found before anything is trained
            claim(run.folders[place], ablation.recipe_of(*place))
        _train_shared(run, on_event, machine)
        interrupt.check()
        waiting = [job for place in run.trained if (job := _job(run, place, machine)) is not None]
        failures = run_jobs(waiting, jobs or default_jobs(machine), on_event)
        found = write_results(ablation, out, run.folders, run.shared, failures)
        write_ablation_page(out)
        return found


def default_jobs(machine: Machine) -> int:
    """The default number of runs that are trained at the same time."""
    from open_exaone.checkpoint.folder import resolve_device

    return 1 if resolve_device(machine.device).type == "cuda" else num_cores()


def _check_from(run: AblationRun) -> None:
    """Holds the run that the arms shall begin from to the recipe.

    Raises:
        ConfigError: names the setting that differs, or the stage that is not finished.
    """
    ablation, of_run = run.ablation, run.ablation.config.begins_from_run
    if run.begun_from is None and of_run:
        raise ConfigError(
            f"--from: is missing: the arms begin from a finished run of {ablation.recipe.name}: name its folder, or "
            f"train it first: exaone run {ablation.recipe.name}"
        )
    if run.begun_from is None:
        return
    shared, where = ablation.recipe.stages if of_run else ablation.shared, f"--from {run.begun_from}"
    if not shared:
        raise ConfigError(
            f"{where}: the arms share no stage, as {run.ablation.config.stage} is the first: leave it out"
        )
    if not is_run(run.begun_from):
        raise ConfigError(f"{where}: is no run's folder (it has no recipe.toml): name one that `exaone run` made")
    folder = RunFolder(run.begun_from)
    recipe = folder.recipe()
    wanted = shared_values(ablation.recipe, shared)
    if keys := sorted(differences(shared_values(recipe, shared), wanted)):
        without = "name another run" if of_run else "leave --from out, which trains the shared stages anew"
        raise ConfigError(
            f"{where}: that run has other settings ({some(keys)}): give them by --set (or --quick), or {without}"
        )
    part = recipe.model_copy(update={"stages": recipe.stages[: len(shared)]})
    if not is_finished(folder, part):
        names = ", ".join(stage.name for stage in shared)
        without = "" if of_run else ", or leave --from out"
        raise ConfigError(
            f"{where}: that run has not finished {names}: finish it first ({folder.resume_command}){without}"
        )


def _make(run: AblationRun) -> None:
    """Makes the ablation's folder, unless it is there and may hold an ablation."""
    out = run.out
    if is_run(out):
        raise RunFolderError(f"{out}: is a run's folder: choose another folder for the ablation with --out")
    if out.is_dir() and not (out / MARK).exists() and any(path.name != LOCK for path in out.iterdir()):
        raise RunFolderError(f"{out}: is not empty and holds no ablation: choose another folder with --out")
    with explain_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)


def claim(folder: RunFolder, recipe: Recipe) -> None:
    """Makes a folder this recipe's, or finds that it already is."""
    folder.make()
    with folder.locked():
        folder.claim(recipe)


def _train_shared(run: AblationRun, on_event: OnEvent, machine: Machine) -> None:
    """Trains the shared stages, unless another run has them or they are there."""
    if run.shared is None or run.ablation.config.begins_from_run:
        return
    recipe, shared = run.ablation.recipe, run.ablation.shared
    part = recipe.model_copy(update={"stages": recipe.stages[: len(shared)]})
    if run.begun_from is None and not (is_run(run.shared.path) and is_finished(run.shared, part)):
        names = ", ".join(stage.name for stage in shared)
        on_event({"message": f"{names}: trained once for all arms, in {run.shared.path}"})
        run_recipe(recipe, run.shared.path, on_event, machine, until=shared[-1].name)
    elif run.begun_from is None:
        claim(run.shared, recipe)


def _job(run: AblationRun, place: tuple[str, int], machine: Machine) -> Job | None:
    """The process that trains an arm with a seed; None where that is done already."""
    ablation, folder = run.ablation, run.folders[place]
    recipe, stages = ablation.recipe_of(*place), ablation.stages_of(place[0])
    if run.shared is not None:
        with folder.locked():
            take_stages(run.shared, folder, recipe, len(ablation.taken(place[0])))
    return job_of(place, folder, recipe, len(stages), machine)


def job_of(place: tuple[str, int], folder: RunFolder, recipe: Recipe, num_stages: int, machine: Machine) -> Job | None:
    """The process that runs the first stages of a recipe in its folder; None where that is done already."""
    part = recipe.model_copy(update={"stages": recipe.stages[:num_stages]})
    if is_finished(folder, part) and folder.report_file.is_file():
        return None
    options = ["--until", part.stages[-1].name, "--device", machine.device, "--dtype", machine.dtype]
    options += ["--unsafe-code-execution"] if machine.unsafe_code_execution else []
    return Job(place, folder.path, ("run", str(folder.recipe_file), "--out", str(folder.path), *options))


def take_stages(shared: RunFolder, folder: RunFolder, recipe: Recipe, num_stages: int) -> None:
    """Gives a folder another run's tokenizer and first finished stages, each whole or not at all."""
    for name in _OF_THE_RUN:
        if (shared.path / name).is_file() and not (folder.path / name).exists():
            _link(shared.path / name, folder.path / name)
    tokenizer = folder.path / "tokenizer"  # before the stages, as their models speak its ids
    if (shared.path / tokenizer.name).is_dir() and not tokenizer.exists():
        _take_folder(shared.path / tokenizer.name, tokenizer)
    for index, stage in enumerate(recipe.stages[:num_stages]):
        if not folder.is_done(recipe, stage):
            source = shared.stage(index, stage.name)
            _take_folder(source, folder.stage(index, stage.name), _left_out(source))


def _take_folder(source: Path, target: Path, left_out: Any = None) -> None:
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with explain_os_errors(target):
        shutil.copytree(source, partial, copy_function=_link, ignore=left_out)
    replace_folder(partial, target)


def _left_out(stage: Path) -> Any:
    """What `shutil.copytree` leaves out: locks, what no finished stage needs, and what is not a run's."""

    def names(folder: str, inside: Sequence[str]) -> set[str]:
        if Path(folder) != stage:
            return {LOCK} & set(inside)
        return {name for name in inside if name not in STAGE - _NOT_LINKED or name.startswith(".")}

    return names


def _link(source: str | Path, target: str | Path) -> None:
    """A hard link, or a copy where the disk has none; all that is written in a run's folder is written anew, so that
    neither folder changes the other's files."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
