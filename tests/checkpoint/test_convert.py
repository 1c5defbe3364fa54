"""Converting: legal pairs lose no bit, illegal ones are refused, and what comes along comes along."""

import errno
import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from doubles import TINY, make_model, make_tokenizer, random_ids
from open_exaone.base.errors import CheckpointError, ConfigError, RunFolderError
from open_exaone.base.files import locked, read_json
from open_exaone.checkpoint import weights as weights_module
from open_exaone.checkpoint.convert import convert
from open_exaone.checkpoint.folder import load_config, load_model, load_weights, save_model
from open_exaone.cli.main import main
from open_exaone.model.config import RopeScaling
from open_exaone.model.family import FAMILIES

LG_LICENCE = "EXAONE AI Model License Agreement 1.1 - NC\n\nThis License Agreement ...\n"


def config_of(family, **changes):
    scaling = RopeScaling(factor=8.0, original_max_positions=32)
    changes = {"family": family, "width": 64, "rope_scaling": scaling, "tied_embeddings": False} | changes
    return TINY.model_copy(update=changes)


def save(folder, family="exaone", **changes):
    model = make_model(config_of(family, **changes))
    save_model(folder, model.config, dict(model.named_parameters()), make_tokenizer(), {}, max_shard_bytes=100_000)
    return folder


def tensors(folder):
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def same_bits(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_exaone_and_llama_stand_for_each_other(tmp_path, tied):
    source = save(tmp_path / "source", tied_embeddings=tied)
    convert(source, tmp_path / "llama", to="llama")
    convert(tmp_path / "llama", tmp_path / "back", to="exaone")
    assert not same_bits(tensors(source), tensors(tmp_path / "llama"))  # other names
    assert same_bits(tensors(source), tensors(tmp_path / "back"))
    assert load_config(tmp_path / "back") == load_config(source)
    ids_BT = random_ids(2, 60)  # beyond the length before scaling
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "llama", dtype=torch.float32)
    ours = load_model(source, dtype="float32")(ids_BT)
    torch.testing.assert_close(ours, reference(ids_BT).logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(ours, load_model(tmp_path / "llama", dtype="float32")(ids_BT))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_rewritten_as_itself(tmp_path, family):
    source = save(tmp_path / "source", family)
    convert(source, tmp_path / "again")
    assert same_bits(tensors(source), tensors(tmp_path / "again"))
    assert load_config(tmp_path / "again") == load_config(source)
    convert(source, tmp_path / "shards", to=family, max_shard_bytes=1)
    assert same_bits(tensors(source), tensors(tmp_path / "shards"))


@pytest.mark.parametrize(("family", "to"), list(itertools.permutations(FAMILIES, 2)))
def test_other_pairs_are_refused(tmp_path, family, to):
    source = save(tmp_path / "source", family)
    if {family, to} == {"exaone", "llama"}:
        convert(source, tmp_path / "target", to=to)
        return
    with pytest.raises(ConfigError, match=f"--to {to}: .*source is of family {family}, whose layers compute something"):
        convert(source, tmp_path / "target", to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_llama_that_exaone_cannot_say_is_refused(tmp_path):
    source = save(tmp_path / "source", "llama", width=96)
    with pytest.raises(
        CheckpointError, match=r"source: cannot be written as exaone: exaone's heads are 96 / 4 wide .* 16"
    ):
        convert(source, tmp_path / "target", to="exaone")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_dtype_is_cast_to(tmp_path, dtype):
    source = save(tmp_path / "source")
    convert(source, tmp_path / "target", dtype=dtype)
    before = load_weights(source)
    for name, weight in load_weights(tmp_path / "target").items():
        assert weight.dtype == getattr(torch, dtype) and torch.equal(weight, before[name].to(weight.dtype))
    assert read_json(tmp_path / "target" / "config.json")["dtype"] == dtype


def test_tokenizer_licence_and_special_ids_come_along(tmp_path):
    source = save(tmp_path / "source")
    (source / "NOTICE").write_text("a notice")
    (source / "LICENSE").write_text("some licence")
    (source / "modeling_exaone.py").write_text("raise SystemExit")
    values = read_json(source / "config.json")
    (source / "config.json").write_text(json.dumps({**values, "eos_token_id": [361, 2], "auto_map": {"x": "y"}}))
    convert(source, tmp_path / "target", to="llama")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        assert (tmp_path / "target" / name).read_bytes() == (source / name).read_bytes()
    assert (tmp_path / "target" / "NOTICE").read_text() == "a notice"
    assert (tmp_path / "target" / "LICENSE").read_text() == "some licence"
    assert not (tmp_path / "target" / "modeling_exaone.py").exists()
    written = read_json(tmp_path / "target" / "config.json")
    assert written["eos_token_id"] == [361, 2] and written["bos_token_id"] == 1 and "auto_map" not in written


def test_every_template_comes_along(tmp_path):
    source = save(tmp_path / "source")
    (source / "additional_chat_templates").mkdir()
    for name in ("tool_use", "rag", "default.v2"):
        (source / "additional_chat_templates" / f"{name}.jinja").write_text(f"{name} {{{{ messages[0].content }}}}")
    (source / "generation_config.json").write_text('{"temperature": 0.3, "top_k": 20, "repetition_penalty": 1.1}')
    convert(source, tmp_path / "target", to="llama")
    for path in (source / "additional_chat_templates").iterdir():
        assert (tmp_path / "target" / "additional_chat_templates" / path.name).read_text() == path.read_text()
    assert read_json(tmp_path / "target" / "generation_config.json")["repetition_penalty"] == 1.1
    (tmp_path / "secret.jinja").write_text("secret")
    (source / "additional_chat_templates" / "link.jinja").symlink_to(tmp_path / "secret.jinja")
    with pytest.raises(CheckpointError, match=r"link\.jinja: is a link to"):
        convert(source, tmp_path / "other", to="llama")


def test_a_model_of_lg_keeps_its_licence_and_its_name(tmp_path):
    source = save(tmp_path / "EXAONE-Deep-tiny")
    (source / "LICENSE").write_text(LG_LICENCE)
    with pytest.raises(ConfigError, match="begin with EXAONE: call it EXAONE-mine"):
        convert(source, tmp_path / "mine", to="llama")
    convert(source, tmp_path / "EXAONE-mine", to="llama")
    assert (tmp_path / "EXAONE-mine" / "LICENSE").read_text() == LG_LICENCE
    with pytest.raises(ConfigError, match="begin with EXAONE"):  # by its licence file, whatever the folder is called
        convert((tmp_path / "EXAONE-mine").rename(tmp_path / "renamed"), tmp_path / "other", to="exaone")


def test_a_target_in_use_is_refused(tmp_path):
    source = save(tmp_path / "source")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "work.txt").write_text("mine")
    for target in (tmp_path / "target", tmp_path / "target" / "work.txt", source):
        with pytest.raises(ConfigError, match="is there already and not empty: name another, or remove it"):
            convert(source, target)
    assert (tmp_path / "target" / "work.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    convert(source, tmp_path / "empty")
    load_model(tmp_path / "empty")


def test_a_target_is_a_new_name(tmp_path, monkeypatch):
    source = save(tmp_path / "source")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="link: is a link or a mount point: name a new folder inside it"):
        convert(source, tmp_path / "link")
    with pytest.raises(ConfigError, match="x.gguf: a name that ends in .gguf is for --to gguf"):
        convert(source, tmp_path / "x.gguf")
    with pytest.raises(ConfigError, match="cannot be taken: File name too long"):
        convert(source, tmp_path / ("a" * 300))
    with pytest.raises(ConfigError, match="--dtype auto: must be one of"):
        convert(source, tmp_path / "target", dtype="auto")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    convert(source, Path("."))
    load_model(tmp_path / "here")


def test_two_conversions_into_one_place_do_not_meet(tmp_path):
    source = save(tmp_path / "source")
    with locked(tmp_path / ".target.lock", "busy"):
        with pytest.raises(RunFolderError, match="target: another process converts into it: wait for it or stop it"):
            convert(source, tmp_path / "target")
        assert not (tmp_path / "target").exists()
    convert(source, tmp_path / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}


def test_a_licence_beside_a_gguf_file_takes_no_other_s_place(tmp_path):
    pytest.importorskip("gguf")
    source = save(tmp_path / "source")
    (source / "LICENSE").write_text("the model's")
    (tmp_path / "LICENSE").write_text("the project's")
    convert(source, tmp_path / "x.gguf", to="gguf")
    convert(source, source / "y.gguf", to="gguf")  # into the model's own folder
    assert (tmp_path / "LICENSE").read_text() == "the project's"
    assert (tmp_path / "x.gguf.LICENSE").read_text() == (source / "y.gguf.LICENSE").read_text() == "the model's"


def test_vectors_in_gguf_keep_their_precision(tmp_path):
    gguf = pytest.importorskip("gguf")
    source = save(tmp_path / "source")
    convert(source, tmp_path / "x.gguf", to="gguf", dtype="bfloat16")
    [norm] = [tensor for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors if tensor.name == "output_norm.weight"]
    assert torch.equal(torch.from_numpy(norm.data.copy()), load_weights(source)["model.norm.weight"])


@pytest.mark.parametrize("name", ["NOTICE", "tokenizer_config.json"])
def test_a_link_brings_no_file_of_this_machine_along(tmp_path, name):
    source = save(tmp_path / "source")
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to("/etc/passwd")
    with pytest.raises(CheckpointError, match=f"{name}: is a link to /etc/passwd: copy the file itself"):
        convert(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("fails_at", [1, 3])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, fails_at):
    source, calls = save(tmp_path / "source"), itertools.count(1)
    real = weights_module.save_file

    def save_file(*args, **options):
        if next(calls) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args, **options)

    monkeypatch.setattr(weights_module, "save_file", save_file)
    with pytest.raises(RunFolderError, match="cannot write: the disk is full"):
        convert(source, tmp_path / "target", max_shard_bytes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    monkeypatch.undo()
    (tmp_path / ".target.partial").mkdir()  # what a kill would leave
    (tmp_path / ".target.partial" / "junk").touch()
    convert(source, tmp_path / "target")
    assert same_bits(tensors(source), tensors(tmp_path / "target"))
    assert not (tmp_path / "target" / "junk").exists()


def test_broken_weights_are_refused_and_nothing_is_left(tmp_path):
    source = save(tmp_path / "source")
    file = sorted(source.glob("model-*.safetensors"))[-1]
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=rf"{file.name}: cannot be read"):
        convert(source, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("target", ["gguf-folder", "file.gguf"])
def test_gguf_as_a_file_or_in_a_folder(tmp_path, target):
    gguf = pytest.importorskip("gguf")
    source = save(tmp_path / "source", "exaone4")
    (source / "LICENSE").write_text("some licence")
    convert(source, tmp_path / target, to="gguf", dtype="bfloat16")
    path = tmp_path / target if target.endswith(".gguf") else tmp_path / target / f"{target}.gguf"
    assert {tensor.name for tensor in gguf.GGUFReader(path).tensors} >= {"token_embd.weight", "blk.0.attn_q.weight"}
    licence = "file.gguf.LICENSE" if target.endswith(".gguf") else "LICENSE"
    assert (path.parent / licence).read_text() == "some licence"
    assert not [left.name for left in path.parent.iterdir() if left.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["SOURCE", "TARGET", "--to", "llama"], 0, "parameters in 3 layers, as llama"),
        (["SOURCE", "TARGET", "--to", "qwen2"], 2, "only exaone and llama stand for each other"),
        (["SOURCE", "TARGET", "--to", "onnx"], 2, "--to"),
        (["SOURCE", "SOURCE"], 2, "is there already and not empty"),
        (["NOWHERE", "TARGET"], 2, "is neither a model's folder"),
        (["BROKEN", "TARGET"], 1, "model.safetensors: no such file"),
    ],
)
def test_the_command(tmp_path, capsys, arguments, code, said):
    save(tmp_path / "SOURCE")
    for path in save(tmp_path / "BROKEN").glob("*.safetensors*"):
        path.unlink()
    places = [str(tmp_path / argument) if argument.isupper() else argument for argument in arguments]
    with pytest.raises(SystemExit) as ended:
        main(["convert", *places])
    output = capsys.readouterr()
    assert ended.value.code == code and said in " ".join((output.out + output.err).split())


def test_the_published_models_are_listed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["models"])
    output = capsys.readouterr().out
    assert ended.value.code == 0 and "EXAONE-4.0-32B" in output and "32,003,216,384" in output and "27.3%" in output


@pytest.mark.parametrize("wanted", [True, False])
def test_a_copy_says_how_replies_are_split_and_the_source_stays(tmp_path, wanted):
    source = save(tmp_path / "source", "exaone4")
    path = source / "tokenizer_config.json"
    settings = read_json(path)
    grammar = settings.pop("response_template")
    path.write_text(json.dumps(settings))
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    convert(source, tmp_path / "copy", response_template=wanted)
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before
    assert read_json(tmp_path / "copy" / "tokenizer_config.json") == (
        settings | {"response_template": grammar} if wanted else settings
    )
