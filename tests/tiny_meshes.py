"""Trains tiny stages alone, then on meshes that split the model and the tokens; test_meshes.py starts it.

    tiny_meshes.py PORT FOLDER [MESH …]

The ranks are forked: what one process imports and computes alone, they all know.
"""

import importlib
import json
import shutil
import sys
from pathlib import Path

import torch

import tiny_ranks
from doubles import TINY
from open_exaone.train.parallel.config import ParallelConfig
from open_exaone.train.parallel.join import join
from open_exaone.train.parallel.place import Place
from open_exaone.train.parallel.world import ALONE
from ranked_runs import forked
from tiny_ranks import ADAMW, SCENARIOS

# Both kinds of blocks, tied and untied heads, local layers and biases.
SHAPES = {
    "tied": TINY.model_copy(update={"num_layers": 1}),
    "untied": TINY.model_copy(
        update={"num_layers": 2, "pattern": "LG", "window": 6, "tied_embeddings": False, "ffn_width": 36}
    ),
    "biased": TINY.model_copy(update={"num_layers": 1, "family": "qwen2"}),
    "pre": TINY.model_copy(update={"num_layers": 1, "family": "llama", "tied_embeddings": True}),
}


def softened_on(world, folder):
    """With the options of the loss, which take a way of their own through the logits."""
    options = {"label_smoothing": 0.1, "z_loss": 0.01}
    objective = tiny_ranks.supervised(optimizer=ADAMW, loss=options, num_epochs=1.0, checkpoint_steps=100)
    return tiny_ranks.run(objective, *tiny_ranks.begin(ADAMW, world), folder, world)


SCENARIOS["softened"] = softened_on

# Of each mesh: its ranks, and which stages are trained on it, of which shape, for how many steps.
MESHES = {
    "tensor": (2, {"tensor": 2}, {("supervised", "pre"): 50, ("simper", "untied"): 3, ("softened", "untied"): 2}),
    "tensor-more": (2, {"tensor": 2}, {("grpo", "tied"): 4, ("lora", "biased"): 3, ("muon", "biased"): 3}),
    "context": (2, {"context": 2}, {("supervised", "untied"): 50, ("few", "pre"): 3}),
    "context-more": (2, {"context": 2}, {("simper", "untied"): 3, ("grpo", "tied"): 4, ("lora", "biased"): 3}),
    "shard x tensor": (4, {"shard": 2, "tensor": 2}, {("supervised", "tied"): 50, ("drawn", "tied"): 2}),
    "shard x tensor-more": (4, {"shard": 2, "tensor": 2}, {("grpo", "tied"): 3, ("muon", "biased"): 3}),
    "data x tensor": (4, {"tensor": 2}, {("few", "pre"): 3}),
    "tensor x context": (4, {"tensor": 2, "context": 2}, {("softened", "untied"): 2, ("agapo", "tied"): 3}),
}


def trained(world, name, shape, folder):
    tiny_ranks.SHAPE[0] = SHAPES[shape]
    return SCENARIOS[name](world, folder)


def together(rank, size, port, folder, meshes):
    place = Place(rank, size, rank, "127.0.0.1", port)
    world = join(place, ParallelConfig(step_timeout_s=600), {"version": "1"}, torch.device("cpu"))
    for mesh, (_, sizes, cases) in meshes.items():
        found = {}
        for (name, shape), steps in cases.items():
            tiny_ranks.SHARD[:] = ParallelConfig(**sizes), steps
            found[f"{name} {shape}"] = trained(world, name, shape, folder / f"{name}-{shape}-{mesh}")
        if mesh == "shard x tensor":
            found["resumed"] = trained(world, "supervised", "tied", folder / "cut")
        if world.is_first:
            (folder / f"{mesh}.json").write_text(json.dumps(found))
    world.close()


def main(port, folder, names):
    importlib.import_module("torch._dynamo")  # what FSDP2 would import in each rank
    meshes = {mesh: MESHES[mesh] for mesh in names or MESHES}
    cases = {case for _, _, of_mesh in meshes.values() for case in of_mesh}
    alone = {f"{n} {shape}": trained(ALONE, n, shape, folder / f"{n}-{shape}-alone") for n, shape in sorted(cases)}
    (folder / "alone.json").write_text(json.dumps(alone))
    if "shard x tensor" in meshes:  # cut behind its state of step 50
        shutil.copytree(folder / "supervised-tied-alone", folder / "cut")
        shutil.rmtree(folder / "cut" / "checkpoints" / "step-000051")
    for size in (2, 4):
        own = {mesh: row for mesh, row in meshes.items() if row[0] == size}
        codes = forked(
            size if own else 0, lambda rank, size=size, own=own: together(rank, size, port + size, folder, own)
        )
        assert not any(codes), codes


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
