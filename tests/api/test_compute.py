"""The public API on the folders that users have."""

import pytest

import open_exaone as ox
from doubles import make_model, make_tokenizer
from open_exaone.base.errors import CheckpointError, ConfigError
from open_exaone.checkpoint.folder import save_model


def test_a_tokenizer_needs_no_model_beside_it(tmp_path):
    make_tokenizer().save(tmp_path)
    assert ox.load_tokenizer(tmp_path).encode("3 + 4") == make_tokenizer().encode("3 + 4")
    assert ox.load_tokenizer(str(tmp_path), chat_format="exaone-deep").chat_format.name == "exaone-deep"
    with pytest.raises(ConfigError, match="is neither a model's folder"):
        ox.load_model(tmp_path)


def test_a_folder_opens_by_path_and_by_text(tmp_path):
    model = make_model()
    save_model(tmp_path / "model", model.config, dict(model.named_parameters()), make_tokenizer(), {})
    for source in (tmp_path / "model", str(tmp_path / "model"), tmp_path):
        assert ox.load_model(source, dtype="float32").config == model.config
        assert ox.load_tokenizer(source).end_id == make_tokenizer().end_id


def test_a_model_without_a_tokenizer_opens_alone(tmp_path):
    model = make_model()
    save_model(tmp_path, model.config, dict(model.named_parameters()), make_tokenizer(), {})
    (tmp_path / "tokenizer.json").unlink()
    ox.load_model(tmp_path)
    with pytest.raises(CheckpointError, match="tokenizer.json: no such file"):
        ox.load_tokenizer(tmp_path)


def test_an_unknown_format_or_device_is_named(tmp_path):
    make_tokenizer().save(tmp_path)
    with pytest.raises(
        ConfigError, match="chat_format = 'exaone-9': unknown.* The formats are exaone-3.5, exaone-deep, exaone-4.0"
    ):
        ox.load_tokenizer(tmp_path, chat_format="exaone-9")
    model = make_model()
    save_model(tmp_path, model.config, dict(model.named_parameters()), make_tokenizer(), {})
    with pytest.raises(ConfigError, match="device tpu9: torch knows no such device"):
        ox.load_model(tmp_path, device="tpu9")
