"""Online RL with samples drawn ahead, alone and on two ranks; test_ahead_ranks.py starts it.

tiny_ahead.py PORT FOLDER
"""

import json
import sys
import threading
from pathlib import Path

import torch

from doubles import make_model, make_tokenizer
from open_exaone.base import interrupt
from open_exaone.base.errors import DataError
from open_exaone.engine.engine import Engine
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.train import collect
from open_exaone.train.loop import train
from open_exaone.train.parallel.config import ParallelConfig
from open_exaone.train.parallel.join import join
from open_exaone.train.parallel.place import Place
from open_exaone.train.parallel.world import ALONE
from ranked_runs import forked
from tiny_ranks import ADAMW, judge_counted, tried
from tiny_stages import copy_of, online_rl, start

FIELDS = {"num_steps": 4, "max_staleness": 1, "checkpoint_steps": 2, "optimizer": ADAMW}
FIELDS["reward"] = f"{Path(__file__).parent / 'train' / 'thought_length.py'}:score"


class ServerDouble(LocalProvider):
    """A server: a model of its own, which gets weights by `update_weights`."""

    def __init__(self, fails):
        super().__init__(Engine(make_model(), make_tokenizer(), num_slots=8), is_copy=True)
        self.asked, self.fails = [], fails

    @property
    def identity(self):
        return {"engine": "http://double", "model": "policy"}

    def stream(self, requests):
        assert threading.current_thread() is not threading.main_thread()
        step = requests[0].sampling.seed - 3
        self.asked.append(step)
        if step == 2:
            self.fails()
        yield from super().stream(requests)


def run(world, folder, fails=lambda: None):
    """Trains: the rows, the weights' sums, what the server was asked for, and what it ends with."""
    folder.mkdir(parents=True, exist_ok=True)
    model, optimizer = start(ADAMW)
    objective = online_rl(model, folder, **FIELDS)
    server, rows = ServerDouble(fails), []
    object.__setattr__(objective, "provider", server)
    object.__setattr__(objective, "world", world)
    try:
        error = tried(lambda: train(model, optimizer, objective, folder, rows.append, world=world))
    finally:
        objective.close()
    weights = [float(master.double().sum()) for master in copy_of(optimizer).values()]
    return {"rows": rows, "weights": weights, "asked": server.asked, "error": error}


def fail():
    raise DataError("the server gives nonsense")


def hear():
    """A signal that the thread notices first."""
    interrupt._requested = True
    interrupt.check()


ENDS = {"whole": lambda: None, "error": fail, "interrupted": hear}


def together(name, rank, port, folder):
    place = Place(rank, 2, rank, "127.0.0.1", port)
    world = join(place, ParallelConfig(step_timeout_s=600), {"version": "1"}, torch.device("cpu"))
    judged = []

    def judge(groups, judging, **limits):
        judged.append(len(groups))
        return judge_counted(groups, judging, **limits)

    collect.judge_some = judge
    found = run(world, folder / name, ENDS[name]) | {"judged": judged}
    (folder / f"{name}-{rank}.json").write_text(json.dumps(found))
    if name == "whole":
        world.close()


def main(port, folder):
    (folder / "alone.json").write_text(json.dumps(run(ALONE, folder / "alone")))
    for number, name in enumerate(ENDS):
        codes = forked(2, lambda rank, name=name, number=number: together(name, rank, port + number, folder))
        assert not any(codes), (name, codes)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
