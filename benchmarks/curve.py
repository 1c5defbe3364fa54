"""Four sizes of one recipe, each on a share of its data: pass@1 after every stage against the FLOPs spent.

    python benchmarks/curve.py --out runs/curve                                  # hours: every cell of the table
    python benchmarks/curve.py --out runs/curve --only 0.3M-x0.25 0.3M-x0.5      # some of them, in this order

Each cell is an ordinary run of nano/exaone-deep with another shape and a share of every stage's data, in a process of
its own, one after the other; the same command continues what was interrupted. The test problems are the same in all.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from open_exaone.base import interrupt
from open_exaone.base.errors import OpenExaoneError
from open_exaone.pipeline.ablation import claim, job_of
from open_exaone.pipeline.ablation_jobs import run_jobs
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.train.config import RlStage

RECIPE = "nano/exaone-deep"
QUARTER, HALF, WHOLE = Fraction(1, 4), Fraction(1, 2), Fraction(1)
TRAINED_ON = ("base", "sft", "preference", "rl")  # the recipe's data; the others are measured on


class Shape(NamedTuple):
    """What a size changes of the recipe's model; heads are as wide as the recipe's, one key head serves all queries."""

    width: int
    num_layers: int

    def settings(self) -> dict[str, int]:
        """By dotted key, as `exaone run --set` takes them."""
        of_model = {
            **{"width": self.width, "num_layers": self.num_layers},
            **{"num_heads": self.width // 32, "ffn_width": 3 * self.width},
        }
        return {f"model.{key}": value for key, value in of_model.items()}


SHAPES = {
    "0.3M": Shape(80, 3),
    "0.9M": Shape(128, 4),  # the recipe's own
    "1.9M": Shape(160, 6),  # 3.8 MB in bfloat16
    "7.7M": Shape(288, 8),
}


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
    for size, shares in {
        **dict.fromkeys(("0.3M", "0.9M"), (QUARTER, HALF, WHOLE)),
        "1.9M": (QUARTER, HALF, WHOLE),
        "7.7M": (QUARTER, HALF),
    }.items()
    for share in shares
)


def recipe_of(cell: Cell) -> Recipe:
    """The recipe with the cell's shape and its share of the data; the thought is not tested."""
    recipe = load_recipe(RECIPE)
    changes = {**SHAPES[cell.size].settings(), **share_settings(recipe, cell.share)}
    recipe = load_recipe(RECIPE, [f"{key}={value}" for key, value in changes.items()])
    assert recipe.evaluation is not None
    return recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"faithfulness": None})})


def share_settings(recipe: Recipe, share: Fraction) -> dict[str, int]:
    """A share of the problems of every stage, and of RL's steps; what is measured stays."""
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


def train(cells: Sequence[Cell], out: Path, had: Mapping[Cell, Path]) -> dict[Cell, str]:
    """Runs what is not finished, one process after the other.

    Returns:
        of those that failed, why.
    """
    machine, jobs = Machine(), []
    with interrupt.deferred_interrupts():
        for cell in cells:
            if cell not in had:
                folder, recipe = RunFolder(out / cell.name), recipe_of(cell)
                claim(folder, recipe)
                job = job_of((cell.name, recipe.seed), folder, recipe, len(recipe.stages), machine)
                jobs += [] if job is None else [job]
        failures = run_jobs(jobs, 1, lambda event: print(event.get("message", ""), flush=True))
    return {cell: why for cell in cells for (place, _), why in failures.items() if place == cell.name}


def cell_named(name: str) -> Cell:
    found = {cell.name: cell for cell in CELLS}
    if name not in found:
        raise argparse.ArgumentTypeError(f"{name!r}: is no run of the table; there are {', '.join(found)}")
    return found[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/curve"), help="the folder of the runs")
    parser.add_argument("--only", type=cell_named, nargs="+", default=list(CELLS), help="runs to train, in this order")
    args = parser.parse_args()
    try:
        failures = train(args.only, args.out, {})
    except OpenExaoneError as error:
        sys.exit(f"curve.py: {error}")
    for cell, why in failures.items():
        print(f"{cell.name}: {why}", file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
