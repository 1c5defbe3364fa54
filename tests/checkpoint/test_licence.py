"""Whose licence a model is under: found by name, licence file and tokenizer; told once, carried, kept in the name."""

import json
import logging

import pytest

from doubles import make_model, make_tokenizer
from open_exaone.base.errors import ConfigError
from open_exaone.checkpoint import licence
from open_exaone.checkpoint.folder import load_model, load_tokenizer, save_model
from open_exaone.checkpoint.licence import K_EXAONE, LG_1_1, LG_1_2, check_derived_name, licence_by_name, licence_of

LG_LICENCE = "EXAONE AI Model License Agreement {} - NC\n\nThis License Agreement ...\n"


@pytest.fixture(autouse=True)
def nothing_told_yet():
    licence.warn_of_licence.cache_clear()
    licence.warn_before_generating.cache_clear()


def save(folder):
    model = make_model()
    save_model(folder, model.config, dict(model.named_parameters()), make_tokenizer(), {})
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LGAI-EXAONE/EXAONE-3.0-7.8B-Instruct", LG_1_1),
        ("LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct", LG_1_1),
        ("LGAI-EXAONE/EXAONE-Deep-32B", LG_1_1),
        ("someone/exaone-deep-7.8b-awq", LG_1_1),
        ("LGAI-EXAONE/EXAONE-4.0-1.2B", LG_1_2),
        ("EXAONE-4.0.1-32B", LG_1_2),
        ("LGAI-EXAONE/EXAONE-4.5-33B", LG_1_2),
        ("LGAI-EXAONE/K-EXAONE-236B-A23B", K_EXAONE),
        ("LGAI-EXAONE/K-EXAONE-2.0-750B-A37B", None),  # reported to be Apache-2.0
        ("LGAI-EXAONE/something-else", None),
        ("nano-exaone-deep", None),
        ("meta-llama/Llama-3.1-8B", None),
        ("model", None),
        ("", None),
    ],
)
def test_by_name(name, expected):
    assert licence_by_name([name]) is expected


def test_a_model_of_our_own_is_under_none(tmp_path, caplog):
    for folder in (tmp_path / "nano-exaone-deep" / "04-rl" / "model", tmp_path / "exaone-deep"):
        save(folder)
        with caplog.at_level(logging.WARNING):
            load_model(folder)
            load_tokenizer(folder)
        assert licence_of(folder) is None and not caplog.records
    check_derived_name(None, "anything")


def test_by_the_folder_and_what_its_config_tells(tmp_path):
    assert licence_of(save(tmp_path / "EXAONE-4.0-1.2B")) is LG_1_2
    folder = save(tmp_path / "checkpoint-500")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_name_or_path": "LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct"}))
    assert licence_of(folder) is LG_1_1


def test_a_folder_of_licences_is_no_licence(tmp_path):
    (save(tmp_path) / "LICENSES").mkdir()
    assert licence_of(tmp_path) is None


@pytest.mark.parametrize(("version", "expected"), [("1.1", LG_1_1), ("1.2", LG_1_2)])
def test_by_the_licence_file(tmp_path, version, expected):
    folder = save(tmp_path)
    (folder / "LICENSE").write_text("Apache License\nVersion 2.0")
    assert licence_of(folder) is None
    (folder / "LICENSE").write_text(LG_LICENCE.format(version))
    assert licence_of(folder) is expected


def test_by_the_tokenizer(tmp_path):
    tokenizer = {"added_tokens": [{"id": 361, "content": "[|endofturn|]"}], "model": {"vocab": {}}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert licence_of(tmp_path) is LG_1_1
    tokenizer["added_tokens"].append({"id": 356, "content": "<think>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer, indent=2))
    assert licence_of(tmp_path) is LG_1_2


def test_the_real_tokenizer_is_known(exaone):
    assert licence_of(exaone) is LG_1_2


def test_it_is_told_once_before_use(tmp_path, caplog):
    folder = save(tmp_path / "EXAONE-Deep-tiny")
    with caplog.at_level(logging.WARNING):
        load_tokenizer(folder)
        load_model(folder)
    assert [record.getMessage() for record in caplog.records] == [
        "EXAONE-Deep-tiny is under the EXAONE AI Model License Agreement 1.1 - NC: research only, no commercial use. "
        "Pass it or a derived model on only with a copy of the agreement, and name a derived model EXAONE…."
    ]


def test_a_derived_model_s_name_begins_as_asked():
    check_derived_name(LG_1_2, "EXAONE-4.0-1.2B-mine")
    with pytest.raises(ConfigError, match="mine: the EXAONE AI Model .* begin with EXAONE: call it EXAONE-mine"):
        check_derived_name(LG_1_2, "mine")
    with pytest.raises(ConfigError, match="call it K-EXAONE-EXAONE-mine"):
        check_derived_name(K_EXAONE, "EXAONE-mine")
