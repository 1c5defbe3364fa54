"""Trains tiny stages alone, then in several ranks together, and writes down both; test_ranks.py starts it.

    tiny_ranks.py SIZE PORT FOLDER [SCENARIO …]

The ranks are forked: what one process imports and computes alone, they all know.
"""

import contextlib
import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._C._distributed_c10d import PrefixStore

from doubles import TINY, make_model, make_tokenizer
from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_jsonl
from open_exaone.base.records import StopReason
from open_exaone.engine.engine import Engine
from open_exaone.learn import muon
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.lora import add_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.rollout.run import judge_some
from open_exaone.train import collect
from open_exaone.train.loop import train
from open_exaone.train.parallel.alike import check_alike
from open_exaone.train.parallel.config import ParallelConfig
from open_exaone.train.parallel.join import join
from open_exaone.train.parallel.place import Place
from open_exaone.train.parallel.ranks import Ranks
from open_exaone.train.parallel.sharded import shard
from open_exaone.train.parallel.world import ALONE
from open_exaone.train.policy_reference import Reference
from open_exaone.train.preference import open_preference
from open_exaone.train.validation import validating
from ranked_runs import forked
from tiny_stages import online_rl, preference, some_documents, start, supervised

ADAMW = OptimizerConfig(kind="adamw", learning_rate=1e-3)
MUON = OptimizerConfig(learning_rate=1e-3, matrix_learning_rate=1e-3)


MEASURED = ("second", "memory", "mfu")  # in names of metrics that no two runs have alike


class Stop(BaseException):
    """Ends a training as a kill would, on all ranks."""


SHARD: list = []  # a ParallelConfig, where the ranks are to keep a part of the model each; and for how many steps
SHAPE = [TINY.model_copy(update={"num_layers": 1})]  # one layer: each of a sharded model is several exchanges


def small():
    return make_model(SHAPE[0])


def begin(config, world, lora=None):
    model = small()
    if lora is not None:
        add_lora(model, lora, 0)
    if world.size > 1 and SHARD:
        shard(model, world, SHARD[0], torch.device("cpu"))
    return model, MasterOptimizer(model, None, config)


def run(objective, model, optimizer, folder, world, **options):
    """Trains in `folder`: the rows of its metrics, on the first rank."""
    folder.mkdir(parents=True, exist_ok=True)
    on_step, first = options.pop("on_step", lambda row: None), []

    def watch(row):
        on_step(row)
        first.append(row["step"])
        if SHARD and world.size > 1 and len(first) == SHARD[1]:
            raise Stop

    with contextlib.suppress(Stop):
        train(model, optimizer, objective, folder, watch, world=world, **options)
    return read_jsonl(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []


def supervised_on(world, folder, config=ADAMW, num_epochs=17, **options):
    objective = supervised(num_epochs=float(num_epochs), optimizer=config, checkpoint_steps=10)
    model, optimizer = begin(config, world)
    held_out = validating(objective, model, some_documents(7, seed=5), 10, world)
    return run(objective, model, optimizer, folder, world, measure=held_out, **options)


def few_documents_on(world, folder):
    """Two documents a step for as many ranks, and steps of one: a rank has none."""
    objective = supervised(optimizer=ADAMW, num_epochs=0.5)
    objective = type(objective)(objective.config, objective.documents, [[0], [1, 2], [3], [4, 5]])
    return run(objective, *begin(ADAMW, world), folder, world)


def bfloat16_gradients_on(world, folder):
    config = ADAMW.model_copy(update={"gradient_dtype": "bfloat16"})
    return run(supervised(optimizer=config), *begin(config, world), folder, world)


def preference_on(loss):
    def on(world, folder):
        stage = preference(loss=loss, optimizer=ADAMW, num_epochs=2.0)
        model, optimizer = begin(ADAMW, world)
        folder.mkdir(parents=True, exist_ok=True)
        objective = open_preference(stage.config, stage.units, stage.steps, model, folder, world)
        return run(objective, model, optimizer, folder, world)

    return on


class Replaying(LocalProvider):
    """Gives what was drawn before for the same request of the same step, and draws the rest."""

    def __init__(self, provider, model, drawn):
        vars(self).update(vars(provider))
        self.policy, self.drawn, self.num_asked = model, drawn, 0

    def stream(self, requests):
        keys = [(self.policy.version, request.prompt_ids, request.occurrence, request.index) for request in requests]
        self.num_asked += len(requests)
        if not all(key in self.drawn for key in keys):
            for place, generation in super().stream(requests):
                stop = StopReason.END if sum(generation.ids) % 2 else StopReason.LENGTH  # rewards that differ
                self.drawn[keys[place]] = replace(generation, stop=stop)
        yield from ((place, self.drawn[key]) for place, key in enumerate(keys))


DRAWN: dict = {}
ASKED: dict = {}
JUDGED: list = []  # how many groups this rank has judged, of each step


def judge_counted(groups, judging, **limits):
    JUDGED.append(len(groups))
    return judge_some(groups, judging, **limits)


def rl_on(name, **changes):
    def on(world, folder):
        config = ADAMW.model_copy(update={"learning_rate": 1e-2 if name == "drawn" else 1e-3})
        model, optimizer = begin(config, world)
        folder.mkdir(parents=True, exist_ok=True)
        objective = online_rl(model, folder, optimizer=config, mode="non_reasoning", **changes)
        reference = None
        if objective.config.loss.divergence is not None:
            reference = Reference(objective.config, model, folder, small, world)
        object.__setattr__(objective, "reference", reference)
        object.__setattr__(objective, "world", world)
        engine = Engine(small() if model.sharing else model, make_tokenizer(), num_slots=8)
        local = LocalProvider(engine, is_copy=model.sharing is not None)
        provider = Replaying(local, model, DRAWN.setdefault(name, {}) if name != "drawn" else {})
        object.__setattr__(objective, "provider", provider)
        rows = run(objective, model, optimizer, folder, world)
        ASKED.setdefault(name, []).append(provider.num_asked)
        return rows

    return on


def lora_on(world, folder):
    return run(supervised(optimizer=ADAMW), *begin(ADAMW, world, LoraConfig(rank=4)), folder, world)


def muon_on(world, folder):
    """In float32: in bfloat16, which a processor may be fast at, other sums round to other updates."""
    muon.has_fast_cpu_bfloat16 = lambda: False
    return supervised_on(world, folder, MUON, 4)


def assert_alike(alone, together):
    """Two runs with the same metrics, but for what is measured, and rounding."""
    for one, two in zip(alone, together, strict=True):
        assert one.keys() == two.keys()
        for key in one.keys() - {"loss", "gradient_norm", "max_ratio", "ratio_mean"}:
            if not any(part in key for part in MEASURED):
                near = one[key] if one[key] is None else pytest.approx(one[key], rel=1e-5, abs=1e-5)
                assert two[key] == near, (one["step"], key)
        if one.get("loss") is not None:
            assert two["loss"] == pytest.approx(one["loss"], abs=1e-5), one["step"]
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4), one["step"]


SCENARIOS = {
    "supervised": supervised_on,
    "muon": muon_on,
    "few": few_documents_on,
    "bfloat16": bfloat16_gradients_on,
    "lora": lora_on,
    "simper": preference_on({"name": "simper"}),
    "dpo": preference_on({"name": "dpo"}),
    "kto": preference_on({"name": "kto"}),
    "grpo": rl_on("grpo", num_iterations=2, num_minibatches=2, num_steps=4),
    "drawn": rl_on("drawn", num_steps=3),  # not replayed: each rank's own engine draws
    "agapo": rl_on("agapo", loss={"name": "agapo"}, reference_refresh_steps=3, max_prompts=8),
}


SHARDED = ("supervised", "muon", "few", "lora", "kto", "agapo", "drawn")


def stopped_on(world, folder):
    """Cuts a training behind its second state, as a kill does."""

    def stop(row):
        if row["step"] == 25:
            raise Stop

    rows = supervised_on(world, folder, on_step=stop)
    assert len(rows) == 25 or not world.is_first


def tried(act):
    """The error that it ends with."""
    try:
        act()
    except (Exception, interrupt.Interrupted) as error:
        return f"{type(error).__name__}: {error}"
    return None


def interrupted_on(world, folder):
    """A signal that one rank alone has heard."""
    requested, heard = interrupt.requested, []
    interrupt.requested = lambda: bool(heard) and world.rank == 1
    try:
        return tried(lambda: supervised_on(world, folder, on_step=lambda row: row["step"] == 3 and heard.append(1)))
    finally:
        interrupt.requested = requested


def failing(act):
    """On one rank alone."""
    raise ConfigError(act)


def failures_on(fresh):
    """How an error of one rank reaches the others.

    Args:
        fresh: gives ranks that have not failed yet.
    """
    one, two, three = fresh(), fresh(), fresh()
    found = {"gather": tried(lambda: one.gather(lambda: failing("no such file") if one.rank == 1 else None))}
    found["after"] = tried(lambda: one.any(False))
    found["lead"] = tried(lambda: two.lead(lambda: failing("no such recipe")))
    _, optimizer = start(ADAMW)
    if three.rank == 1:
        with torch.no_grad():
            next(iter(optimizer.masters.values())).view(-1)[0] += 1
    found["alike"] = tried(lambda: check_alike(three, 3, optimizer))
    return found


def together(rank, size, port, folder, alone):
    world = join(
        Place(rank, size, rank, "127.0.0.1", port),
        ParallelConfig(step_timeout_s=600),
        {"version": "1"},
        torch.device("cpu"),
    )
    collect.judge_some = judge_counted
    found = {name: SCENARIOS[name](world, folder / f"{name}-together") for name in alone}

    def fresh():
        again.append(Ranks(rank, size, PrefixStore(f"again{len(again)}", world._store), 600))
        return again[-1]

    again = []
    if "supervised" in alone:
        stopped_on(fresh(), folder / "cut-together")
        found["resumed"] = supervised_on(world, folder / "cut-alone")
        found["interrupted"] = interrupted_on(fresh(), folder / "interrupted")
    found["sharded"] = {}
    for name in [name for name in SHARDED if name in alone]:
        SHARD[:] = ParallelConfig(shard=2), 12 if name == "supervised" else 3
        found["sharded"][name] = SCENARIOS[name](world, folder / f"{name}-sharded")
    if "supervised" in alone:
        SHARD[1] = 3
        found["sharded"]["resumed"] = supervised_on(world, folder / "cut-alone-2")
        SHARD[1] = 100
        found["sharded"]["interrupted"] = interrupted_on(fresh(), folder / "interrupted-sharded")
    SHARD.clear()
    values = world.total(np.array([1.5, rank])).tolist()
    found["exchanged"] = [values, world.shared({"from": rank}), world.any(rank == 1), world.gather(lambda: rank)]
    found["failures"] = failures_on(fresh)
    found["asked"], found["judged"] = ASKED, JUDGED
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    world.close()


def main(size, port, folder, names):
    importlib.import_module("torch._dynamo")  # what FSDP2 would import in each rank
    alone = {name: SCENARIOS[name](ALONE, folder / f"{name}-alone") for name in names or SCENARIOS}
    (folder / "alone.json").write_text(json.dumps(alone))
    if "supervised" in alone:
        stopped_on(ALONE, folder / "cut-alone")
        shutil.copytree(folder / "cut-alone", folder / "cut-alone-2")
    ASKED.clear()
    codes = forked(size, lambda rank: together(rank, size, port, folder, alone))
    sys.exit(max(map(abs, codes)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
