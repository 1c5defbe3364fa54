"""Hostile model folders: hundreds of changed files, each refused in one sentence of ours, or opened."""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend

from doubles import make_model, make_tokenizer
from open_exaone.base.errors import CheckpointError, OpenExaoneError
from open_exaone.checkpoint.adapter import read_adapter
from open_exaone.checkpoint.folder import load_config, load_model, load_tokenizer, sampling_defaults, save_model
from open_exaone.model.hf import config_from_hf

ESCAPES = "\x1b]52;c;cm0gLXJm\x07\x1b[31m\x9b2J\u202e"
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 2**31, 2**63, 2**70, 10**400, -(10**400), 1e308, -1e308, 1e-320, 0.5),
    *(float("inf"), float("nan"), "", "x", ESCAPES, "\ud800", "L" * 5000, [], [ESCAPES], [[[]]], {}, {ESCAPES: 1}),
    *(
        {"content": 10**400},
        [10**400],
        {"rope_type": "llama3", "factor": 1e308},
        "llama3",
        {"999999999": {"content": "z"}},
    ),
)
FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json")
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "use_rslora": False, "bias": "none"}
LINKED = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")
LINKED += ("special_tokens_map.json", "additional_chat_templates/tool_use.jinja", "LICENSE", "model.safetensors")


def refusal(call: Callable[[], object], kind: type[Exception] = OpenExaoneError) -> str:
    """What our own error says; empty where there is none. Any other error fails the test."""
    try:
        call()
    except kind as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    model = make_model()
    save_model(folder, model.config, dict(model.named_parameters()), make_tokenizer(), {})
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def test_every_number_of_a_config_may_be_anything(whole) -> None:
    values = json.loads((whole / "config.json").read_text())
    values |= {"rope_scaling": None, "use_sliding_window": True, "max_window_layers": 1, "layer_types": None}
    inner = [("rope_parameters", key) for key in ("rope_theta", "rope_type", "factor", "low_freq_factor", "original_x")]
    num_refused = 0
    for family in ("exaone4", "exaone", "llama", "qwen2"):
        for place in [(key,) for key in values] + inner:
            for value in VALUES:
                changed = {**values, "model_type": family}
                if place == ("rope_theta",):
                    del changed["rope_parameters"]
                if len(place) == 2:
                    changed = {**changed, "rope_theta": None, place[0]: {**values[place[0]], place[1]: value}}
                else:
                    changed[place[0]] = value
                why = refusal(partial(config_from_hf, changed), ValueError)
                num_refused += why != ""
                assert len(why) < 1000
    assert num_refused > 500


@pytest.mark.parametrize("name", FILES)
def test_a_field_of_any_file_may_be_anything(folder, name) -> None:
    path = folder / name
    values = json.loads(path.read_text()) if path.exists() else {}
    extra = (
        "eos_token_id",
        "eos_token",
        "added_tokens_decoder",
        "chat_template",
        "added_tokens",
        "extra_special_tokens",
    )
    chosen = random.Random(name)
    for key in chosen.sample([*values, *extra], min(12, len(values))):
        for value in chosen.sample(VALUES, 6):
            path.write_text(json.dumps({**values, key: value}))
            assert len(refusal(partial(load_tokenizer, folder))) < 2000


def test_a_token_that_tokenizer_json_has_counts_with_its_id_there(folder) -> None:
    """As in transformers, whatever id a file beside it gives the token."""
    name = json.loads((folder / "tokenizer.json").read_text())["added_tokens"][0]["content"]
    (folder / "added_tokens.json").write_text(json.dumps({name: 9_999_999}))
    assert load_tokenizer(folder).encode("a")
    (folder / "added_tokens.json").write_text(json.dumps({name: 9_999_999, "<new>": 9_999_999}))
    with pytest.raises(CheckpointError, match=r"has ids up to 9999999, and the embedding"):
        load_tokenizer(folder)


def test_a_token_that_the_vocabulary_has_counts_with_its_id_there(folder) -> None:
    """As the tokenizers library counts it, whatever id `added_tokens` gives the token."""
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    vocab = values["model"]["vocab"]
    name = next(name for name, number in vocab.items() if number == 5)
    values["added_tokens"].append({**values["added_tokens"][0], "content": name, "id": 7})
    vocab[name] = 99_999
    path.write_text(json.dumps(values))
    assert Backend.from_file(str(path)).token_to_id(name) == 99_999
    with pytest.raises(CheckpointError, match=r"has ids up to 99999, and the embedding"):
        load_tokenizer(folder)


def test_bytes_of_any_file_may_be_anything(folder) -> None:
    chosen = random.Random(0)
    contents = (b"", b"\0" * 99, b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"[]", b"9" * 5000, b'{"a": 1e999999}')
    for name in FILES:
        whole = (folder / name).read_bytes() if (folder / name).exists() else b"{}"
        cut = [whole[: chosen.randrange(len(whole))] for _ in range(3)]
        for content in (*contents, *cut):
            (folder / name).write_bytes(content)
            why = refusal(partial(load_tokenizer, folder))
            assert not why or (name in why and len(why) < 2000)
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize("name", LINKED)
def test_no_file_of_a_model_s_folder_may_be_a_link_that_leaves_it(folder, name) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to("/etc/passwd")
    load = load_model if name == "model.safetensors" else load_tokenizer
    with pytest.raises(CheckpointError, match=f"{name}: is a link to /etc/passwd: copy the file itself"):
        load(folder)


@pytest.mark.parametrize(("field", "values"), [(field, VALUES) for field in LORA])
def test_every_field_of_an_adapter_may_be_anything(folder, tmp_path, field, values) -> None:
    config, adapter = load_config(folder), tmp_path / "adapter"
    adapter.mkdir()
    for value in values:
        (adapter / "adapter_config.json").write_text(json.dumps({**LORA, field: value}))
        with pytest.raises(CheckpointError, match="adapter_"):
            read_adapter(adapter, config)


def header(tensors: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: list[int], end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\0" * 100, b"\xff" * 16, struct.pack("<Q", 1 << 50) + b"{}", struct.pack("<Q", 9) + b"[[[[[[[[["),
        *(header({"a": tensor([1 << 50], 1 << 52)}), header({"a": tensor([1 << 32] * 3, 8)}, b"\0" * 8)),
        *(header({ESCAPES: tensor([1], 4)}, b"\0" * 4), header({"a": tensor([-1], 4)}, b"\0" * 4)),
    ],
)
def test_a_hostile_file_of_weights_is_refused(folder, content) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: "):
        load_model(folder)


def test_a_cut_or_sparse_file_of_weights_is_refused(folder) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 100):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read"):
            load_model(folder)
    path.write_bytes(header({"model.embed_tokens.weight": tensor([1 << 38], 1 << 40)}))
    os.truncate(path, path.stat().st_size + (1 << 40))
    with pytest.raises(CheckpointError, match=r"bytes long, of which [\d,]+ are on the disk"):
        load_model(folder)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "x" * 300 + ".safetensors",
            "x" * 5000 + ".safetensors",
            "a\0b.safetensors",
            "\ud800.safetensors",
            "",
            "..",
            5,
        ),
        *("../model.safetensors", "/etc/passwd", "/etc/passwd.safetensors", f"{ESCAPES}.safetensors", None, ["a"], {}),
    ],
)
def test_an_index_may_name_anything(folder, name) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="must be|no such file|cannot be opened"):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "\xff", '{"a": ' + "9" * 5000 + "}"])
def test_an_unreadable_generation_config_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"generation_config\.json: .*; correct the file, or delete it"):
        sampling_defaults(tmp_path)


def test_a_file_that_may_not_be_read_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tokenizer().save(tmp_path)
    (tmp_path / "generation_config.json").write_text("{}")
    own = open

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith("generation_config.json"):
            raise PermissionError(13, "Permission denied")
        return own(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CheckpointError, match=r"generation_config\.json: .* denied; make it readable .* or download"):
        load_tokenizer(tmp_path)
