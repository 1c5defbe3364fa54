"""Runs a recipe of sampling stages alone, then in two forked ranks; test_spread_run.py starts it.

    tiny_spread.py RECIPE PORT FOLDER

The ranks write down how many samples each has drawn for the others.
"""

import json
import os
import sys
from pathlib import Path

from open_exaone.evaluation import spread
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from ranked_runs import forked

NUM_DRAWN: list[int] = []


def counted(serve):
    """Counts the samples of each job."""

    def counting(job, provider, settings):
        send, rows = job.send, []
        job.send = lambda some: (rows.extend(some), send(some))
        end = serve(job, provider, settings)
        NUM_DRAWN.append(sum("key" in row for row in rows))
        return end

    return counting


def together(rank, port, recipe, folder):
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    spread.serve_samples = counted(spread.serve_samples)
    run_recipe(recipe, folder / "together", lambda event: None, Machine(dtype="float32"))
    (folder / f"drawn-{rank}.json").write_text(json.dumps(NUM_DRAWN))


def main(file, port, folder):
    recipe = load_recipe(file)
    run_recipe(recipe, folder / "alone", lambda event: None, Machine(dtype="float32"))
    codes = forked(2, lambda rank: together(rank, port, recipe, folder))
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
