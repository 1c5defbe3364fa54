"""Models whose matrices are split (tensor), documents whose tokens are (context): they give what one process gives."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tiny_meshes
from doubles import SHAPES, TINY
from open_exaone.base.errors import ConfigError
from open_exaone.base.log import logger
from open_exaone.kernels import reference
from open_exaone.model.attention import attend
from open_exaone.model.config import LayerKind
from open_exaone.model.mesh import check_tensor
from open_exaone.model.packed import Packed, PackedPart
from open_exaone.model.split_vocabulary import Vocabulary
from open_exaone.pipeline import launch, together
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.train.parallel.world import ALONE
from open_exaone.train.state import checkpoints
from tiny_ranks import assert_alike

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where one process and ranks on each mesh have trained, with what they found."""
    folder = tmp_path_factory.mktemp("meshes")
    command = [sys.executable, tiny_meshes.__file__, str(launch._free_port()), str(folder)]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=1800, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder


def rows_of(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("mesh", "case"),
    [(mesh, f"{name} {shape}") for mesh, (_, _, cases) in tiny_meshes.MESHES.items() for name, shape in cases],
)
def test_a_split_model_gives_what_one_process_gives(folder, mesh, case):
    """Losses, norms, token counts and every metric: blocks of both kinds, local layers, biases, adapters, both
    optimizers, steps in which ranks have nothing, references, and an engine's copy that samples."""
    alone, found = rows_of(folder, "alone")[case], rows_of(folder, mesh)[case]
    steps = tiny_meshes.MESHES[mesh][2][tuple(case.split())]
    assert len(found) == steps
    if case.startswith("drawn"):  # each rank's own engine drew
        assert [row["max_logprob_gap"] < 1e-4 and row["gradient_norm"] > 0 for row in found] == [True] * steps
        return
    assert_alike(alone[:steps], found)
    assert max(row["gradient_norm"] for row in found) > 0.01


def test_a_state_of_a_split_model_resumes_in_one_process_and_the_other_way_round(folder):
    wanted = rows_of(folder, "alone")["supervised tied"]
    assert_alike(wanted, rows_of(folder, "shard x tensor")["resumed"])
    place = folder / "supervised-tied-shard x tensor"
    assert [path.name for path in checkpoints(place / "checkpoints")] == ["step-000030", "step-000040"]
    assert_alike(wanted, tiny_meshes.trained(ALONE, "supervised", "tied", place))


class OneOf:
    """One of several ranks, as a mesh of one axis tells it."""

    def __init__(self, rank, number):
        self.rank, self.number = rank, number

    def size(self):
        return self.number

    def get_local_rank(self):
        return self.rank


@pytest.mark.parametrize("window", [None, 5])
def test_a_ranks_part_of_a_row_attends_as_the_whole_row(window):
    """Documents, one of them behind a shared prompt, that rank borders cut through."""
    q, k, v = torch.randn(3, 48, 2, 8, generator=torch.Generator().manual_seed(0)).unbind()
    starts_E, prefix_J = torch.tensor([0, 7, 8, 30, 41, 48], dtype=torch.int32), torch.tensor([4, -1, -1, 4, -1])
    wanted = reference.attention(q, k, v, starts_E, window, prefix_J)
    row, found = Packed(starts_E, torch.device("cpu"), prefix_J), torch.full_like(wanted, torch.nan)
    kind, queries = LayerKind.GLOBAL if window is None else LayerKind.LOCAL, []
    for rank in range(3):
        part = PackedPart(row, OneOf(rank, 3))
        keys, values = (x[part.places_S][None].transpose(1, 2) for x in (k, v))
        mask = part.sees(kind, window).mask
        found[part.places_T] = attend(q[part.places_T][None], keys, values, mask)[0]
        assert torch.equal(part.positions_T, row.positions_T[part.places_T])
        queries.append(int((part.places_T + 1).sum()))
    torch.testing.assert_close(found, wanted)
    assert max(queries) == min(queries)  # of one long document, all ranks have as many scores


def test_a_part_of_the_vocabulary_computes_the_softmax_of_all():
    logits = torch.randn(7, 20, generator=torch.Generator().manual_seed(1)) * 4
    ids, coefficients = torch.tensor([0, 19, 3, 9, 10, 11, 0]), torch.linspace(-1, 1, 7)
    known = reference.logprobs_and_entropy(logits, ids)
    torch.testing.assert_close(Vocabulary.all_of(20).logprobs_and_entropy(logits, ids), known)
    wanted = logits.clone()
    reference.softmax_loss(wanted, ids, coefficients)
    Vocabulary.all_of(20).softmax_loss(logits, ids, coefficients)
    torch.testing.assert_close(logits, wanted)
    assert Vocabulary(0, 10, 20, None).own(ids)[1].tolist() == [True, False, True, True, False, False, True]
    own, is_own = Vocabulary(10, 10, 20, None).own(ids)
    assert own.tolist() == [0, 9, 0, 0, 0, 1, 0] and is_own.tolist() == [False, True, False, False, True, True, False]


RECIPE = """
name = "tiny"
data.base = { sources = [{ families = ["height_order"], num_problems = 40 }] }

[model]
vocab_size = 512
width = 32
num_layers = 1
num_heads = 4
num_kv_heads = 2
head_width = 8
ffn_width = 64
max_positions = 256

[[stages]]
kind = "base"
name = "base"
data = "base"
num_epochs = 1.0
batch_documents = 8
checkpoint_steps = 4
optimizer = { learning_rate = 5e-3 }
"""


@pytest.mark.parametrize(
    ("parallel", "size", "message"),
    [
        (
            {"tensor": 2},
            3,
            "parallel.tensor = 2: does not divide .* ranks, and the run has 3 ranks: start it with --ranks 2 or",
        ),
        (
            {"shard": 2, "context": 2},
            2,
            r"shard = 2 x parallel.context = 2: does not divide .* 2 ranks: .* --ranks 4 or",
        ),
        (
            {"data": 1, "tensor": 2},
            4,
            "parallel.data = 1 x parallel.tensor = 2: needs 2 ranks, and the run has 4 ranks: .* --ranks 2",
        ),
        (
            {"tensor": 4},
            4,
            "parallel.tensor = 4: must divide the model's num_heads = 4, num_kv_heads = 2, ffn_width = 64 and "
            "vocab_size = 512: set it to 1 or 2$",
        ),
        ({"tensor": 2, "data": 2}, 4, None),
        ({"tensor": 2, "context": 2, "shard": 2}, 8, None),
    ],
)
def test_a_mesh_that_does_not_fit_the_model_or_the_ranks_is_refused(tmp_path, parallel, size, message):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    recipe = load_recipe(str(path), [f"parallel.{name}={value}" for name, value in parallel.items()])
    if message is None:
        together._check(recipe, size)
        return
    with pytest.raises(ConfigError, match=message):
        together._check(recipe, size)


def test_the_sizes_of_tensor_that_work_are_named():
    odd = TINY.model_copy(update={"vocab_size": 321})
    with pytest.raises(ConfigError, match=re.escape("and vocab_size = 321: set it to 1")):
        check_tensor(2, odd)
    check_tensor(2, SHAPES["llama"])


def test_tensor_between_machines_is_warned_of(caplog):
    logger.propagate, before = True, logger.propagate
    try:
        together._warn_of_machines(8, {"LOCAL_WORLD_SIZE": "8"})
        together._warn_of_machines(1, {"LOCAL_WORLD_SIZE": "3"})
        assert not caplog.records
        together._warn_of_machines(8, {"LOCAL_WORLD_SIZE": "4"})
    finally:
        logger.propagate = before
    assert "parallel.tensor = 8: does not divide the 4 ranks of this machine" in caplog.text
