"""Trains a whole recipe once with each of several seeds, and compares its stages over them: `exaone run --seeds`.

OUT/seed-N is an ordinary run of the recipe with that seed: other random weights, another order of the data, other
samples. Generated problems have seeds of their own and stay the same, so that scores are paired by problem.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_exaone.base import interrupt
from open_exaone.base.config import differences
from open_exaone.base.errors import ConfigError, RunFolderError
from open_exaone.base.files import explain_os_errors, locked, write_json
from open_exaone.base.text import some
from open_exaone.pipeline.ablation import claim, default_jobs, job_of
from open_exaone.pipeline.ablation_jobs import Job, run_jobs
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import LOCK, RunFolder, decisive
from open_exaone.pipeline.measure import Machine, OnEvent
from open_exaone.pipeline.run import is_finished
from open_exaone.pipeline.seeds_report import write_seeds
from open_exaone.pipeline.source import is_run
from open_exaone.present.seeds import write_seeds_page

ARM = "seed"
MARK = "seeds-of.json"  # in the folder: which recipe, so that nothing else is taken for it


def run_seeds(
    recipe: Recipe,
    seeds: Sequence[int],
    out: Path,
    on_event: OnEvent,
    machine: Machine | None = None,
    *,
    jobs: int | None = None,
    begun_from: Path | None = None,
) -> dict[str, Any]:
    """Runs a recipe with each seed from where the folder stands to the end; finished runs are not run again.

    Args:
        out: the folder of all of them; one that was killed there continues.
        on_event, jobs: as for `run_ablation`.
        begun_from: a finished run of the recipe with one of these seeds, which is taken, not trained again.

    Returns:
        what seeds.json holds; a run that failed has its `error` there.

    Raises:
        ConfigError: there are too few stages to compare, `begun_from` is another recipe's run, or `jobs` is below 1.
        RunFolderError: a folder holds something else.
        Interrupted: after Ctrl-C or SIGTERM; every run has saved its state.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}: must be at least 1")
    if recipe.evaluation is None:
        raise ConfigError(f"--seeds: {recipe.name} has no [evaluation], so that no score can be compared: give it one")
    machine = machine or Machine()
    recipes = {seed: recipe.model_copy(update={"seed": seed}) for seed in seeds}
    own = None if begun_from is None else _seed_of(begun_from, recipes)
    _make(out)
    busy = f"{out}: another process runs these seeds: wait for it or stop it"
    with locked(out / LOCK, busy), interrupt.deferred_interrupts():
        write_json(out / MARK, {"recipe": recipe.name})
        folders = {seed: RunFolder(out / f"{ARM}-{seed}") for seed in seeds}
        if begun_from is not None and own is not None:
            folders[own] = RunFolder(begun_from)
        waiting = list[Job]()
        for seed, folder in folders.items():
            if seed != own:
                claim(folder, recipes[seed])
                job = job_of((ARM, seed), folder, recipes[seed], len(recipe.stages), machine)
                waiting += [] if job is None else [job]
        failures = run_jobs(waiting, jobs or default_jobs(machine), on_event)
        found = write_seeds(recipe, out, folders, {seed: why for (_, seed), why in failures.items()})
        write_seeds_page(out)
        return found


def _seed_of(run: Path, recipes: Mapping[int, Recipe]) -> int:
    """The seed of a finished run of the recipe.

    Raises:
        ConfigError: it is no such run, or not finished.
    """
    where = f"--from {run}"
    if not is_run(run):
        raise ConfigError(f"{where}: is no run's folder (it has no recipe.toml): name one that `exaone run` made")
    found = RunFolder(run).recipe()
    if found.seed not in recipes:
        raise ConfigError(
            f"{where}: has the seed {found.seed}, which is not among --seeds: add it, or leave --from out"
        )
    if keys := sorted(differences(decisive(found), decisive(recipes[found.seed]))):
        raise ConfigError(
            f"{where}: that run has other settings ({some(keys)}): give them by --set (or --quick), or leave --from out"
        )
    if not is_finished(RunFolder(run), recipes[found.seed]):
        raise ConfigError(f"{where}: that run is not finished: finish it first, or leave --from out")
    return found.seed


def _make(out: Path) -> None:
    """Makes the folder, unless it is there and may hold runs of several seeds."""
    if is_run(out):
        raise RunFolderError(f"{out}: is a run's folder: choose another folder for the seeds with --out")
    if out.is_dir() and not (out / MARK).exists() and any(path.name != LOCK for path in out.iterdir()):
        raise RunFolderError(f"{out}: is not empty and holds no seeds: choose another folder with --out")
    with explain_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
