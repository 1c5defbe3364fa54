"""Meshes of devices: all of a number, those that a model divides by, and as they are written."""

import pytest

from open_exaone.base.errors import ConfigError
from open_exaone.model.mesh import Mesh, divisors, meshes, parse_mesh, why_not
from open_exaone.model.registry import PUBLISHED

SHAPE = PUBLISHED["EXAONE-4.0-32B"].config  # 40 heads, 8 key and value heads


@pytest.mark.parametrize("number", [1, 6, 8, 48])
def test_every_mesh_of_a_number_is_tried_once(number: int) -> None:
    found = list(meshes(number, SHAPE, 8))
    assert len(set(found)) == len(found) and all(mesh.num_devices == number for mesh in found)
    by_hand = {
        Mesh(data, shard, tensor, number // (data * shard * tensor))
        for data in range(1, number + 1)
        for shard in range(1, number + 1)
        for tensor in (1, 2, 4, 8)
        if number % (data * shard * tensor) == 0
    }
    assert set(found) == by_hand


def test_matrices_are_split_by_what_divides_the_heads_inside_one_machine() -> None:
    assert {mesh.tensor for mesh in meshes(40, SHAPE, 8)} == {1, 2, 4, 8}
    assert {mesh.tensor for mesh in meshes(40, SHAPE, 4)} == {1, 2, 4}
    assert why_not(Mesh(tensor=5), SHAPE) == "tensor = 5: must divide the model's num_kv_heads = 8"
    assert why_not(Mesh(tensor=3), SHAPE) == "tensor = 3: must divide the model's num_heads = 40"
    odd = SHAPE.model_copy(update={"vocab_size": 102_401})
    assert why_not(Mesh(tensor=2), odd) == "tensor = 2: must divide the model's vocab_size = 102,401"
    assert why_not(Mesh(data=3, shard=5, context=7), SHAPE) is None


def test_a_meshs_axes_share_out_batches_and_weights() -> None:
    mesh = Mesh(data=2, shard=4, tensor=2, context=3)
    assert (mesh.num_devices, mesh.num_batches, mesh.num_shares, str(mesh)) == (48, 8, 12, "2 x 4 x 2 x 3")
    assert Mesh(data=8).is_whole and not any(Mesh(**{axis: 2}).is_whole for axis in ("shard", "tensor", "context"))
    assert divisors(12) == [1, 2, 3, 4, 6, 12] and divisors(1) == [1] and divisors(9) == [1, 3, 9]


def test_a_mesh_is_written_by_its_axes() -> None:
    assert parse_mesh("data=2, shard=4", 8) == Mesh(2, 4, 1, 1)
    assert parse_mesh("context=8", 8) == Mesh(context=8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pipeline=8", "'pipeline=8': write it as data=2,shard=4,tensor=1,context=1: these four names"),
        ("data=0", "'data=0': write it as"),
        ("data=-8", "'data=-8': write it as"),
        ("data", "'data': write it as"),
        ("", "'': write it as"),
        ("data=٨", "write it as"),
        ("data=" + "9" * 5000, "write it as"),
        ("data=2,data=4", "data is given twice"),
        ("data=3,tensor=2", "3 x 2 = 6 GPUs, and 8 train"),
    ],
)
def test_a_wrong_mesh_is_refused_with_the_fix(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_mesh(text, 8)
    assert message in str(caught.value)
