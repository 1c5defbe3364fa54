"""Weights: nothing is lost or changed on the way to disk and back, and no broken or hostile file gets in."""

import errno
import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from doubles import SHAPES, make_model, make_tokenizer, random_ids
from open_exaone.base.errors import CheckpointError
from open_exaone.checkpoint.folder import load_config, load_model, load_weights, save_model
from open_exaone.checkpoint.weights import INDEX, SINGLE, Weights, expected_shapes, save_weights

SHAPES = {
    **SHAPES,
    "exaone": SHAPES["exaone4-untied"].model_copy(update={"family": "exaone", "width": 64}),
    "qwen2": SHAPES["llama"].model_copy(update={"family": "qwen2", "rope_scaling": None}),
    "qwen3": SHAPES["llama"].model_copy(update={"family": "qwen3", "rope_scaling": None}),
}
shapes = pytest.mark.parametrize("shape", SHAPES)
SMALL_SHARD = 40_000


def weights_of(model):
    return dict(model.named_parameters())


def bits(tensor):
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


@pytest.fixture
def saved(tmp_path):
    """A tiny model's folder, untied, in one file."""
    model = make_model(SHAPES["exaone4-untied"])
    save_model(tmp_path, model.config, weights_of(model), make_tokenizer(), {})
    return tmp_path


@pytest.fixture
def sharded(tmp_path):
    model = make_model(SHAPES["exaone4-untied"])
    save_model(tmp_path, model.config, weights_of(model), make_tokenizer(), {}, max_shard_bytes=SMALL_SHARD)
    return tmp_path


@shapes
@pytest.mark.parametrize("max_shard_bytes", [1, SMALL_SHARD, 10**9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_bit_survives_in_every_layout(shape, max_shard_bytes, dtype, tmp_path):
    model = make_model(SHAPES[shape]).to(dtype)
    save_model(tmp_path, model.config, weights_of(model), make_tokenizer(), {}, max_shard_bytes=max_shard_bytes)
    assert load_config(tmp_path) == model.config
    again = load_weights(tmp_path)
    assert list(again) == list(weights_of(model))
    for name, weight in model.named_parameters():
        assert again[name].dtype == dtype and bits(again[name]) == bits(weight)
    opened = load_model(tmp_path, dtype=dtype)
    for (name, weight), (other_name, other) in zip(model.named_parameters(), opened.named_parameters(), strict=True):
        assert name == other_name and bits(weight) == bits(other)
    assert (tmp_path / INDEX).exists() == (max_shard_bytes < 10**9)


@torch.no_grad()
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "exaone"])  # transformers has no `exaone`
def test_transformers_opens_our_shards(shape, tmp_path):
    model = make_model(SHAPES[shape])
    save_model(tmp_path, model.config, weights_of(model), make_tokenizer(), {}, max_shard_bytes=SMALL_SHARD)
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids_BT = random_ids(2, 30)
    torch.testing.assert_close(model(ids_BT), reference(ids_BT).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("max_shard_bytes", [1, SMALL_SHARD, 10**9])
def test_shards_are_no_larger_than_asked(max_shard_bytes, tmp_path):
    model = make_model(SHAPES["llama"])
    total = save_weights(tmp_path, model.config, weights_of(model), max_shard_bytes=max_shard_bytes)
    sizes = [[tensor.numel() * 4 for tensor in load_file(path).values()] for path in tmp_path.glob("*.safetensors")]
    assert sum(map(sum, sizes)) == total
    assert all(sum(size) <= max_shard_bytes or len(size) == 1 for size in sizes)


def test_weights_can_be_read_by_whoever_can_read_the_other_files(saved):
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1 and (saved / SINGLE).exists()


def test_a_second_save_leaves_nothing_of_the_first(tmp_path):
    for seed, max_shard_bytes in ((0, 10**9), (1, SMALL_SHARD), (2, 10**9), (3, 1)):
        model = make_model(seed=seed)
        save_weights(tmp_path, model.config, weights_of(model), max_shard_bytes=max_shard_bytes)
        again = Weights(tmp_path, model.config)
        assert all(bits(again[name]) == bits(weight) for name, weight in model.named_parameters())


def test_names_on_disk_are_the_family_s_own(tmp_path):
    model = make_model(SHAPES["exaone"])
    save_weights(tmp_path, model.config, weights_of(model))
    stored = load_file(tmp_path / SINGLE)
    assert "transformer.h.1.mlp.c_fc_0.weight" in stored and not any(name.startswith("model.") for name in stored)
    assert torch.equal(stored["transformer.h.1.mlp.c_fc_0.weight"], model.model.layers[1].mlp.gate_proj.weight)
    assert torch.equal(stored["transformer.h.1.mlp.c_fc_1.weight"], model.model.layers[1].mlp.up_proj.weight)


@pytest.mark.parametrize("target", [torch.float32, torch.bfloat16, torch.float16])
def test_a_model_opens_in_any_dtype(saved, target):
    for name, weight in load_model(saved, dtype=target).named_parameters():
        assert weight.dtype == target and weight.requires_grad
        assert torch.equal(weight, load_weights(saved)[name].to(target))


def test_an_opened_model_can_be_trained_and_the_file_stays_as_it_was(saved):
    before = (saved / SINGLE).read_bytes()
    model = load_model(saved, dtype="float32")
    model(random_ids(1, 9)).square().mean().backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight -= weight.grad
    assert (saved / SINGLE).read_bytes() == before


def test_a_tied_head_stored_once_more_must_be_the_embedding(tmp_path):
    model = make_model()
    save_model(tmp_path, model.config, weights_of(model), make_tokenizer(), {})
    tensors = load_file(tmp_path / SINGLE)
    embedding = tensors["model.embed_tokens.weight"]
    save_file({**tensors, "lm_head.weight": embedding.clone()}, tmp_path / SINGLE)
    assert torch.equal(load_model(tmp_path, dtype="float32").lm_head.weight, embedding)
    save_file({**tensors, "lm_head.weight": embedding + 1}, tmp_path / SINGLE)
    with pytest.raises(
        CheckpointError, match=r'lm_head.weight differs from model.embed_tokens.weight.*: set "tie_word'
    ):
        load_model(tmp_path)


def test_a_tied_head_may_stand_in_several_shards_and_be_wider(tmp_path):
    """As in transformers: a head in another shard than the index names, or of another dtype, is the embedding still."""
    model = make_model().to(torch.bfloat16)
    save_model(tmp_path, model.config, weights_of(model), make_tokenizer(), {}, max_shard_bytes=SMALL_SHARD)
    index = json.loads((tmp_path / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    embedding = weights_of(model)["model.embed_tokens.weight"].detach()
    for file, head in ((files[0], embedding.clone()), (files[-1], embedding.float())):
        save_file({**load_file(tmp_path / file), "lm_head.weight": head}, tmp_path / file)
    for named in (None, files[0], files[-1], files[1]):
        weight_map = index["weight_map"] | ({"lm_head.weight": named} if named else {})
        (tmp_path / INDEX).write_text(json.dumps({**index, "weight_map": weight_map}))
        assert bits(load_model(tmp_path, dtype="bfloat16").lm_head.weight) == bits(embedding)
        reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
        assert bits(reference.lm_head.weight) == bits(embedding)


@pytest.mark.parametrize("is_named", [True, False])
def test_a_tied_head_in_the_index_need_not_be_in_its_shard(is_named, tmp_path):
    model = make_model()
    save_model(tmp_path, model.config, weights_of(model), make_tokenizer(), {}, max_shard_bytes=SMALL_SHARD)
    index = json.loads((tmp_path / INDEX).read_text())
    place = index["weight_map"]["model.embed_tokens.weight"]
    index["weight_map"]["lm_head.weight"] = place
    if not is_named:  # and where shared tensors were left out, the head may be the one that is there
        del index["weight_map"]["model.embed_tokens.weight"]
        tensors = load_file(tmp_path / place)
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
        save_file(tensors, tmp_path / place)
    (tmp_path / INDEX).write_text(json.dumps(index))
    opened = load_model(tmp_path, dtype="float32")
    assert all(bits(weight) == bits(dict(model.named_parameters())[name]) for name, weight in opened.named_parameters())


def test_a_head_of_its_own_in_the_index_must_be_in_its_shard(sharded):
    index = json.loads((sharded / INDEX).read_text())
    file = index["weight_map"]["lm_head.weight"]
    save_file({n: t for n, t in load_file(sharded / file).items() if n != "lm_head.weight"} | {}, sharded / file)
    with pytest.raises(CheckpointError, match="tensors are missing there.*lm_head.weight"):
        load_model(sharded)


def test_tables_of_angles_from_old_versions_are_passed_over(saved):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    save_file({**load_file(saved / SINGLE), name: torch.ones(8)}, saved / SINGLE)
    load_model(saved)


NAME = "model.layers.1.mlp.up_proj.weight"


def changed(folder, change):
    tensors = load_file(folder / SINGLE)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors)
    save_file(tensors, folder / SINGLE)


def poke(value):
    def change(tensors):
        tensors[NAME][3, 5] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(NAME), rf"{SINGLE}: tensors are missing \(1\), such as {NAME}: config.json"),
        (
            lambda tensors: tensors.update({"extra": torch.ones(1)}),
            rf"{SINGLE}: tensors are unknown \(1\), such as extra",
        ),
        (
            lambda tensors: tensors.update({NAME: torch.ones(3, 4)}),
            rf"{SINGLE}: {NAME} has shape \(3, 4\); config.json",
        ),
        (
            lambda tensors: tensors.update({NAME: tensors[NAME].to(torch.int8)}),
            rf"{NAME} is stored as I8; only F32, BF16",
        ),
        (lambda tensors: tensors.update({NAME: tensors[NAME].double()}), rf"{NAME} is stored as F64; only"),
        (poke(float("nan")), rf"{SINGLE}: {NAME} holds NaN or infinity"),
        (poke(float("inf")), rf"{SINGLE}: {NAME} holds NaN or infinity"),
        (poke(-float("inf")), rf"{SINGLE}: {NAME} holds NaN or infinity"),
    ],
)
def test_wrong_tensors_are_named(saved, change, message):
    changed(saved, change)
    with pytest.raises(CheckpointError, match=message):
        load_model(saved)


def header(values, data=b""):
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "break_bytes",
    [
        lambda data: b"",
        lambda data: data[:4],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data + data,
        lambda data: struct.pack("<Q", 2**63) + data[8:],
        lambda data: struct.pack("<Q", 10**9) + data[8:],
        lambda data: b"PK\3\4" + data,
        lambda data: header(b"[" * 100_000),
        lambda data: header({NAME: {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, b"\0" * 4),
        lambda data: header({NAME: {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, b"\0" * 4),
    ],
)
def test_a_broken_file_is_named(saved, break_bytes):
    path = saved / SINGLE
    path.write_bytes(break_bytes(path.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"{SINGLE}: .*(Copy or download it again|unknown|missing)"):
        load_model(saved)


def test_weights_that_this_user_may_not_read_are_not_called_missing(saved, monkeypatch):
    def denied(path, mode):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("open_exaone.checkpoint.weights.open", denied, raising=False)  # root may read all
    with pytest.raises(CheckpointError, match=rf"{SINGLE}: permission is denied: let this user read it"):
        load_model(saved)


def rewrite_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(change(index)))


def named(file):
    return lambda index: {**index, "weight_map": {**index["weight_map"], NAME: file}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: [], rf"{INDEX}: weight_map: must be an object"),
        (lambda index: {}, rf"{INDEX}: weight_map: must be an object"),
        (lambda index: {"weight_map": [1]}, rf"{INDEX}: weight_map: must be an object"),
        (named("../elsewhere.safetensors"), rf"{INDEX}: weight_map: '../elsewhere.safetensors' must be the name of a"),
        (named("/etc/passwd"), r"'/etc/passwd' must be the name of a .safetensors file in the same folder"),
        (named("sub/x.safetensors"), r"must be the name of a .safetensors file"),
        (named("weights.bin"), r"must be the name of a .safetensors file"),
        (named(7), rf"weight_map.{NAME} = 7: must be a file's name"),
        (named(["a"]), r"= \['a'\]: must be a file's name"),
        (named("gone.safetensors"), r"gone.safetensors: no such file, though .* names it: copy or download it again"),
        (
            lambda index: {"weight_map": {**index["weight_map"], "ghost": index["weight_map"][NAME]}},
            r"safetensors: tensors are missing there \(1\), such as ghost",
        ),
        (
            lambda index: {"weight_map": {name: file for name, file in index["weight_map"].items() if name != NAME}},
            rf"safetensors: tensors are there, where {INDEX} has them elsewhere or not \(1\), such as {NAME}",
        ),
    ],
)
def test_a_wrong_index_is_refused(sharded, change, message):
    rewrite_index(sharded, change)
    with pytest.raises(CheckpointError, match=message):
        load_model(sharded)


def test_an_index_that_is_not_json_is_named(sharded):
    for text in ("{", "[" * 100_000, '{"weight_map": 1e999999'):
        (sharded / INDEX).write_text(text)
        with pytest.raises(CheckpointError, match=rf"{INDEX}: (not valid JSON|is nested too deeply)"):
            load_model(sharded)


def test_links_lead_nowhere(saved, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.safetensors"
    os.replace(saved / SINGLE, elsewhere)
    (saved / SINGLE).symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match=rf"{SINGLE}: is a link to .*secret.safetensors: copy the file itself"):
        load_model(saved)


def test_a_linked_shard_is_refused_unless_it_stays_in_the_folder(sharded, tmp_path_factory):
    shard = sorted(sharded.glob("model-*.safetensors"))[0]
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "real.safetensors"
    os.replace(shard, elsewhere)
    shard.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match=r"is a link to .*real.safetensors"):
        load_model(sharded)
    shard.unlink()
    os.replace(elsewhere, sharded / "real.bin")
    shard.symlink_to("real.bin")
    load_model(sharded)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt"])
def test_pickles_are_never_read(saved, file):
    (saved / SINGLE).rename(saved / file)
    with pytest.raises(CheckpointError, match=rf"only safetensors are read \({file} is a pickle, which may run code\)"):
        load_model(saved)


def test_what_does_not_fit_into_float16_is_said(saved):
    changed(saved, poke(1e30))
    with pytest.raises(CheckpointError, match=rf"{NAME} does not fit into float16: choose a wider dtype"):
        load_model(saved, dtype="float16")
    load_model(saved, dtype="bfloat16")


def test_a_tokenizer_larger_than_the_embedding_is_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    make_tokenizer(400).save(saved)
    with pytest.raises(
        CheckpointError, match=r"tokenizer.json: has ids up to 399, and the embedding of .*config.json has 320"
    ):
        load_model(saved)
    assert config["vocab_size"] == 320


def test_expected_shapes_cannot_be_changed_by_a_caller():
    with pytest.raises(TypeError):
        expected_shapes(SHAPES["llama"])["model.norm.weight"] = (1,)
