"""Cuts trainings of a sharded model by killing a rank, and resumes them on other numbers of ranks.

    tiny_states.py FOLDER

test_states.py starts it. The ranks are forked, so that they share what one process imports; what each of them finds is
in FOLDER/NAME-RANK.json.
"""

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from doubles import TINY, make_model, make_tokenizer
from open_exaone.base.files import read_jsonl
from open_exaone.checkpoint.folder import load_model, load_weights, open_model, save_model
from open_exaone.checkpoint.weights import Weights
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.lora import add_lora, initial_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.model.sharding import is_sharded, own_part, part_like, whole
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.launch import _free_port
from open_exaone.train import state, state_tensors
from open_exaone.train.loop import train
from open_exaone.train.parallel import sharded
from open_exaone.train.parallel.config import ParallelConfig
from open_exaone.train.parallel.join import join
from open_exaone.train.parallel.place import Place
from open_exaone.train.parallel.world import ALONE
from open_exaone.train.state import checkpoints
from tiny_stages import supervised

CPU = torch.device("cpu")
CONFIG = OptimizerConfig(learning_rate=1e-3, matrix_learning_rate=1e-3, kind="adamw")
SHAPE = TINY.model_copy(update={"num_layers": 1})
LIMIT_S = 240.0  # for one group of ranks: those that are still there are killed then, and the test fails
KILLED = -signal.SIGKILL


def learn(world, folder, shard=1, on_step=lambda row: None):
    """Trains, or resumes, to the end: the rows of its metrics."""
    objective = supervised(num_epochs=7.0, optimizer=CONFIG, checkpoint_steps=4)
    model = make_model(SHAPE)
    if shard > 1:
        sharded.shard(model, world, ParallelConfig(shard=shard), CPU)
    optimizer = MasterOptimizer(model, None, CONFIG)
    folder.mkdir(parents=True, exist_ok=True)
    resumed = []
    train(model, optimizer, objective, folder, on_step, world=world, on_resume=resumed.append)
    return {"resumed": resumed, "rows": read_jsonl(folder / "metrics.jsonl")}


def forked(size, name, folder, act):
    """Calls `act` with the world of each rank: their exit codes; and leaves what it gives, or its error."""
    port, children = _free_port(), []
    for rank in range(size):
        if not (child := os.fork()):
            try:
                place = Place(rank, size, rank, "127.0.0.1", port)
                world = join(place, ParallelConfig(step_timeout_s=600), {}, CPU)
                found = act(world)
                (folder / f"{name}-{rank}.json").write_text(json.dumps(found))
                world.close()
            except BaseException as error:
                (folder / f"{name}-{rank}.json").write_text(json.dumps({"error": f"{type(error).__name__}: {error}"}))
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    timer = threading.Timer(LIMIT_S, lambda: [os.kill(child, signal.SIGKILL) for child in children])
    timer.start()
    try:
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    finally:
        timer.cancel()


def killing(victim, at):
    """What kills one rank behind a step."""

    def of(world):
        def on_step(row):
            if world.rank == victim and row["step"] == at:
                os.kill(os.getpid(), signal.SIGKILL)

        return on_step

    return of


def breaking_writes(victim, error):
    """Has one rank fail in the middle of its second state: be killed, or find the disk full."""

    def of(world):
        real, calls = state_tensors.save_file, []

        def save_file(*args, **kwargs):
            calls.append(1)
            if world.rank == victim and len(calls) == 4:  # the optimizer's file; the masters' is written
                if error is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise error
            real(*args, **kwargs)

        state_tensors.save_file = save_file
        return lambda row: None

    return of


def cut(size, shard, name, folder, breaks):
    """Trains until `breaks` ends it: the exit codes."""
    return forked(size, name, folder, lambda world: learn(world, folder / name, shard, breaks(world)))


def resume(size, shard, name, source, folder):
    """Resumes a copy of a run that was cut."""
    shutil.copytree(folder / source, folder / name)
    if size == 1:
        (folder / f"{name}-0.json").write_text(json.dumps(learn(ALONE, folder / name)))
        return [0]
    return forked(size, name, folder, lambda world: learn(world, folder / name, shard))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def parts(world, folder):
    """Models that are read or drawn in parts: what differs from one process's, and what was read at once."""
    found = {}
    for stored, computed in (("float32", "bfloat16"), ("bfloat16", "float32"), ("float32", "float32")):
        source, dtype = folder / f"model-{stored}", getattr(torch, computed)
        read, real = [], Weights.part

        def part(weights, name, place, real=real, read=read):
            values = real(weights, name, place)
            read.append((name, values.numel()))
            return values

        def refuse(weights, name):
            raise AssertionError(f"all of {name} was read")

        Weights.part, whole_tensors, Weights.__getitem__ = part, Weights.__getitem__, refuse
        try:
            model, weights = open_model(source, dtype)
            sharded.shard(model, world, ParallelConfig(shard=world.size), CPU)
            sharded.read_parts(model, weights, CPU)
            optimizer = MasterOptimizer(model, sharded.OwnParts(model, load_weights(source), CPU), CONFIG)
        finally:
            Weights.part, Weights.__getitem__ = real, whole_tensors
        alone = load_model(source, dtype=dtype)
        wanted = MasterOptimizer(alone, load_weights(source), CONFIG)
        found[f"{stored} as {computed}"] = differing(model, optimizer, alone, wanted)
        sizes = {name: weight.numel() for name, weight in alone.named_parameters()}
        found[f"{stored} as {computed}"] += [name for name, size in read if size > -(-sizes[name] // world.size)]
    with torch.device("meta"):
        model = LanguageModel(SHAPE).to(torch.bfloat16)
    sharded.shard(model, world, ParallelConfig(shard=world.size), CPU)
    optimizer = MasterOptimizer(model, sharded.draw_parts(model, model.initial_weights(3), CPU), CONFIG)
    alone = LanguageModel(SHAPE)
    alone.reset_parameters(3)
    masters = {name: weight.detach().clone() for name, weight in alone.named_parameters()}
    alone = alone.to(torch.bfloat16)
    found["drawn"] = differing(model, optimizer, alone, MasterOptimizer(alone, masters, CONFIG))
    model, weights = open_model(folder / "model-float32", torch.bfloat16)
    add_lora(model, LoraConfig(rank=4), 5)
    sharded.shard(model, world, ParallelConfig(shard=world.size), CPU)
    sharded.read_parts(model, weights, CPU)
    sharded.draw_parts(model, initial_lora(model, 5), CPU)
    alone = load_model(folder / "model-float32", dtype=torch.bfloat16)
    add_lora(alone, LoraConfig(rank=4), 5)
    found["lora"] = differing(model, MasterOptimizer(model, None, CONFIG), alone, MasterOptimizer(alone, None, CONFIG))
    return found


def mesh(world, folder):
    """Weights divided in two dimensions, tensor parallel and sharded, in unequal parts: what comes back wrong."""
    grid = init_device_mesh("cpu", (2, 2), mesh_dim_names=("shard", "tensor"))
    torch.manual_seed(0)
    wanted = {name: w.detach() for name, w in nn.Sequential(nn.Linear(10, 14), nn.Linear(14, 6)).named_parameters()}
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(10, 14), nn.Linear(14, 6))
    parallelize_module(model, grid["tensor"], {"0": ColwiseParallel(), "1": RowwiseParallel()})
    fully_shard(model, mesh=grid["shard"])
    own = {
        name: part_like(w, lambda place, name=name: wanted[name][place].clone()) for name, w in model.named_parameters()
    }
    model.load_state_dict(own, assign=True)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    wrong = [name for name, weight in weights.items() if not torch.equal(whole(weight), wanted[name])]
    parts = {
        name: part
        for number, (name, weight) in enumerate(weights.items())
        if (part := own_part(weight, number, is_first=world.is_first)) is not None
    }
    values, places = ({name: part[index] for name, part in parts.items()} for index in (0, 1))
    path = folder / "mesh"
    path.mkdir(exist_ok=True)
    state_tensors.write_tensors(path / f"master-{world.rank}.safetensors", values, places)
    world.gather(lambda: None)
    saved = state_tensors.SavedTensors(path)
    again = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    saved.read_into(again)
    wrong += [name for name in wanted if not torch.equal(saved[name], wanted[name])]
    wrong += [name for name in wanted if not torch.equal(whole(again[name]), wanted[name])]
    return {"wrong": wrong, "number": sum(part.numel() for part in values.values())}


def differing(model, optimizer, alone, wanted):
    """Names of weights and masters that are not those of one process to the bit, or that are whole on this rank."""
    others = dict(alone.named_parameters())
    names = [name for name, weight in model.named_parameters() if not torch.equal(whole(weight), others[name])]
    names += [
        name for name, master in optimizer.masters.items() if not torch.equal(whole(master), wanted.masters[name])
    ]
    names += [name for name, weight in model.named_parameters() if not is_sharded(weight) or weight.is_meta]
    return names + sorted(set(others) ^ set(dict(model.named_parameters())))


def main(folder):
    importlib.import_module("torch._dynamo")  # what FSDP2 would import in each rank
    codes, seed = {}, random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    (folder / "alone.json").write_text(json.dumps(learn(ALONE, folder / "alone")))
    for name, size, shard in (("two", 2, 2), ("four", 4, 2)):
        victim, at = draw.randrange(size), draw.randrange(13, 17)  # two states are whole then
        started = time.monotonic()
        codes[name] = cut(size, shard, name, folder, killing(victim, at))
        codes[f"{name}-how"] = [victim, at, time.monotonic() - started]
    codes["two-in-one"] = resume(1, 1, "two-in-one", "two", folder)
    codes["two-in-four"] = resume(4, 4, "two-in-four", "two", folder)
    codes["four-in-one"] = resume(1, 1, "four-in-one", "four", folder)
    codes["four-in-two"] = resume(2, 2, "four-in-two", "four", folder)
    codes["four-in-three"] = resume(3, 3, "four-in-three", "four", folder)  # parts of unequal size
    with contextlib.suppress(KeyboardInterrupt):
        learn(ALONE, folder / "one", on_step=lambda row: row["step"] == 10 and signal.raise_signal(signal.SIGINT))
    codes["one-in-two"] = resume(2, 2, "one-in-two", "one", folder)
    codes["dies-writing"] = cut(2, 2, "dies-writing", folder, breaking_writes(draw.randrange(2), None))
    codes["dies-writing-in-two"] = resume(2, 2, "dies-writing-in-two", "dies-writing", folder)
    codes["full"] = cut(2, 2, "full", folder, breaking_writes(1, OSError(28, "No space left on device")))
    shutil.copytree(folder / "two", folder / "broken")
    newest = checkpoints(folder / "broken" / "checkpoints")[-1]
    flip(newest / state._part_name("optimizer", 1, 2))
    codes["broken-in-two"] = resume(2, 2, "broken-in-two", "broken", folder)
    codes["broken"] = [newest.name]
    for dtype in ("float32", "bfloat16"):
        weights = {name: w.detach().to(getattr(torch, dtype)) for name, w in make_model(SHAPE).named_parameters()}
        save_model(folder / f"model-{dtype}", SHAPE, weights, make_tokenizer(), {})
    codes["parts"] = forked(2, "parts", folder, lambda world: parts(world, folder))
    codes["mesh"] = forked(4, "mesh", folder, lambda world: mesh(world, folder))
    (folder / "codes.json").write_text(json.dumps(codes))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
