"""Four sizes of one recipe, each on shares of its data: pass@1 after every stage against the FLOPs spent.

    python benchmarks/curve.py --out runs/curve --have 0.9M-x1=runs/nano-exaone-deep     # about 90 minutes, one core
    python benchmarks/curve.py --out runs/curve --only 1.9M-x1 7.7M-x0.25               # these runs, in this order
    python benchmarks/curve.py --out runs/curve --only                                  # no run: what is finished

Each run is nano/exaone-deep with another shape and a share of every stage's data, in a process of its own, one after
the other, in OUT/SIZE-xSHARE; the same command continues what was interrupted. The test problems are the same in all,
so that scores are paired. Of all finished runs, OUT/curve.json, the tables of docs/findings.md (on the terminal) and
the figure are written; those that are not finished are named. FLOPs are those of the tokens that were trained and
sampled (model/cost.py), the evaluation left out.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from curve_figure import draw
from curve_points import find_points, read_run, tables

from open_exaone.base import interrupt
from open_exaone.base.config import differences
from open_exaone.base.errors import OpenExaoneError, RunFolderError
from open_exaone.base.files import write_json
from open_exaone.pipeline.ablation import claim, job_of
from open_exaone.pipeline.ablation_jobs import run_jobs
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder, decisive
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import is_finished
from open_exaone.train.config import RlStage

RECIPE = "nano/exaone-deep"
SHAPES = {  # what a size changes of the recipe's model; heads stay 32 wide, and one key head serves all queries
    "0.3M": {"width": 80, "num_layers": 3, "num_heads": 2, "ffn_width": 240},
    "0.9M": {},
    "1.9M": {"width": 160, "num_layers": 6, "num_heads": 5, "ffn_width": 480},  # 3.8 MB in bfloat16
    "7.7M": {"width": 288, "num_layers": 8, "num_heads": 9, "ffn_width": 864},
}
QUARTER, HALF, WHOLE = Fraction(1, 4), Fraction(1, 2), Fraction(1)
TRAINED_ON = ("base", "sft", "preference", "rl")  # the recipe's data; the others are measured on
NOT_READ = {"evaluation.faithfulness"}  # may differ: no score depends on it


class Cell(NamedTuple):
    """One run of the table."""

    size: str
    share: Fraction

    @property
    def name(self) -> str:
        """Such as 0.3M-x0.25; its folder's too."""
        return f"{self.size}-x{float(self.share):g}"


CELLS = tuple(
    Cell(size, share)
    for size in SHAPES
    for share in (QUARTER, HALF, WHOLE)
    if (size, share) != ("7.7M", WHOLE)  # an hour by itself
)


def recipe_of(cell: Cell) -> Recipe:
    """The recipe with the cell's shape and its share of the data; the thought is not tested."""
    recipe = load_recipe(RECIPE)
    changes = {f"model.{key}": value for key, value in SHAPES[cell.size].items()}
    changes |= share_settings(recipe, cell.share)
    recipe = load_recipe(RECIPE, [f"{key}={value}" for key, value in changes.items()])
    assert recipe.evaluation is not None
    return recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"faithfulness": None})})


def share_settings(recipe: Recipe, share: Fraction) -> dict[str, int]:
    """A share of the problems of every stage and of RL's steps, as `exaone run --set` takes them; what is measured
    stays."""
    found = {
        f"data.{name}.sources.{place}.num_problems": max(1, round(source.num_problems * share))
        for name in TRAINED_ON
        for place, source in enumerate(recipe.data[name].sources)
    }
    steps = {
        f"{stage.name}.num_steps": max(1, round(stage.num_steps * share))
        for stage in recipe.stages
        if isinstance(stage, RlStage)
    }
    return found | steps


def train(cells: Sequence[Cell], out: Path) -> dict[str, str]:
    """Runs what is not finished, one process after the other.

    Returns:
        of those that failed, why, by the cell's name.
    """
    machine, jobs = Machine(), []
    with interrupt.deferred_interrupts():
        for cell in cells:
            folder, recipe = RunFolder(out / cell.name), recipe_of(cell)
            claim(folder, recipe)
            job = job_of((cell.name, recipe.seed), folder, recipe, len(recipe.stages), machine)
            jobs += [] if job is None else [job]
        failures = run_jobs(jobs, 1, lambda event: print(event.get("message", ""), flush=True))
    return {name: why for (name, _), why in failures.items()}


def check_run(cell: Cell, path: Path) -> RunFolder:
    """A finished run of the cell.

    Raises:
        RunFolderError: it is another cell's or recipe's, or not finished.
    """
    folder, recipe = RunFolder(path), recipe_of(cell)
    if keys := sorted(differences(decisive(folder.recipe()), decisive(recipe)) - NOT_READ):
        raise RunFolderError(f"{path}: is no run of {cell.name} (it differs in {', '.join(keys)}): name another folder")
    if not is_finished(folder, recipe):
        raise RunFolderError(f"{path}: this run of {cell.name} is not finished: finish it with {finish(cell, path)}")
    return folder


def finish(cell: Cell, path: Path) -> str:
    """The command that finishes a run."""
    if path.name == cell.name:
        return f"`python benchmarks/curve.py --out {path.parent} --only {cell.name}`"
    return f"`exaone run {path / 'recipe.toml'} --out {path}`"


def finished(out: Path, had: Mapping[Cell, Path]) -> dict[str, RunFolder]:
    """The finished runs by their cells' names; others are named on stderr. Raises what `check_run` does of `had`."""
    found = dict[str, RunFolder]()
    for cell in CELLS:
        path = out / cell.name
        try:
            found[cell.name] = check_run(cell, had.get(cell, path))
        except RunFolderError as error:
            if cell in had:
                raise
            print(error if path.is_dir() else f"{cell.name}: was not run", file=sys.stderr)
    return found


def cell_named(name: str) -> Cell:
    found = {cell.name: cell for cell in CELLS}
    if name not in found:
        raise argparse.ArgumentTypeError(f"{name!r}: is no run of the table; there are {', '.join(found)}")
    return found[name]


def cell_and_folder(text: str) -> tuple[Cell, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not folder:
        raise argparse.ArgumentTypeError(f"{text!r}: write SIZE-xSHARE=FOLDER, such as 0.9M-x1=runs/nano-exaone-deep")
    return cell_named(name), Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/curve"), help="the folder of the runs")
    parser.add_argument("--only", type=cell_named, nargs="*", help="runs to train, in this order; all if left out")
    parser.add_argument("--have", type=cell_and_folder, action="append", default=[], help="a finished run elsewhere")
    parser.add_argument("--figure", type=Path, default=Path("docs/images/curve.svg"))
    args = parser.parse_args()
    had = dict(args.have)
    try:
        for cell, path in had.items():
            check_run(cell, path)
        wanted = CELLS if args.only is None else args.only
        failures = train([cell for cell in wanted if cell not in had], args.out)
        runs = {name: read_run(folder) for name, folder in finished(args.out, had).items()}
        points = find_points(runs, [cell.name for cell in CELLS])
    except interrupt.Interrupted:
        sys.exit("curve.py: stopped, its state is saved: run the same command again to go on")
    except OpenExaoneError as error:
        sys.exit(f"curve.py: {error}")
    for name, why in failures.items():
        print(f"{name}: failed: {why}", file=sys.stderr)
    if points["runs"]:
        write_json(args.out / "curve.json", points)
        print(tables(points))
        draw(points, args.figure)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
