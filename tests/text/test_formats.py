"""Which chat format a folder's model speaks."""

import json
import shutil
from pathlib import Path

import pytest

from open_exaone.base.errors import CheckpointError
from open_exaone.text import template_process
from open_exaone.text.exaone4 import jinja_template
from open_exaone.text.tokenizer import Tokenizer
from text.conversations import DEEP_TEMPLATE, EXAONE_35_TEMPLATE, TOOL, USER
from text.families import write_deepseek, write_llama, write_qwen


def folder_with(saved: Path, folder: Path, template: str | None, config: dict[str, str] | None = None) -> Path:
    """Our tokenizer with another template, or with none."""
    folder.mkdir()
    shutil.copy(saved / "tokenizer.json", folder)
    if template is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (jinja_template(), "exaone-4.0"),
        (jinja_template().replace("# Functions", "# Tools"), "exaone-4.0"),
        (EXAONE_35_TEMPLATE, "exaone-3.5"),
        (DEEP_TEMPLATE, "exaone-deep"),
        # Each of these renders something else, if only here or there.
        (jinja_template().replace("message.content -}}", "(message.content | trim) -}}"), "template"),
        (EXAONE_35_TEMPLATE.replace("message['content']", "message['content'].strip()"), "template"),
        (DEEP_TEMPLATE.replace("<thought>", "<think>"), "template"),
        (
            DEEP_TEMPLATE + "{% if messages[-1].role == 'assistant' and not add_generation_prompt %}.{% endif %}",
            "template",
        ),
        (DEEP_TEMPLATE.replace(".lstrip('\\n')", ""), "template"),
        (
            EXAONE_35_TEMPLATE + "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}",
            "template",
        ),
    ],
)
def test_a_template_that_says_the_same_is_spoken_natively(
    tmp_path: Path, saved: Path, template: str, name: str
) -> None:
    tokenizer = Tokenizer.load(folder_with(saved, tmp_path / "model", template))
    assert tokenizer.chat_format.name == name


def test_tools_are_offered_in_the_checkpoints_words(tmp_path: Path, saved: Path) -> None:
    template = jinja_template().replace("# Functions", "# Tools")
    tokenizer = Tokenizer.load(folder_with(saved, tmp_path / "model", template))
    assert "# Tools" in tokenizer.decode(tokenizer.render([USER], tools=[TOOL]))
    own = Tokenizer.load(tmp_path / "model", chat_format="exaone-4.0")
    assert "# Functions" in own.decode(own.render([USER], tools=[TOOL]))
    assert own.render([USER], tools=[]) == tokenizer.render([USER], tools=[])


def test_other_families_speak_by_their_template(tmp_path: Path) -> None:
    for write in (write_llama, write_qwen, write_deepseek):
        assert Tokenizer.load(write(tmp_path / write.__name__)).chat_format.name == "template"


@pytest.mark.parametrize(
    ("folder", "config", "name"),
    [
        ("model", {"model_type": "exaone4"}, "exaone-4.0"),
        ("model", {"model_type": "exaone"}, "exaone-3.5"),
        ("EXAONE-Deep-2.4B", {"model_type": "exaone"}, "exaone-deep"),
        ("my-exaone-DEEP", {"model_type": "exaone"}, "exaone-deep"),
        ("model", {"model_type": "exaone", "_name_or_path": "LGAI-EXAONE/EXAONE-Deep-7.8B"}, "exaone-deep"),
        ("exaone-3.5-deepspeed-sft", {"model_type": "exaone"}, "exaone-3.5"),
        ("EXAONE-3.5-2.4B", {"model_type": "exaone", "_name_or_path": ""}, "exaone-3.5"),
    ],
)
def test_without_a_template_the_config_says_it(
    tmp_path: Path, saved: Path, folder: str, config: dict[str, str], name: str
) -> None:
    tokenizer = Tokenizer.load(folder_with(saved, tmp_path / folder, None, config))
    assert tokenizer.chat_format.name == name
    assert tokenizer.render([USER], generation_prompt=True)


def test_the_hubs_cache_names_the_model_two_folders_up(tmp_path: Path, saved: Path) -> None:
    snapshots = tmp_path / "models--LGAI-EXAONE--EXAONE-Deep-2.4B" / "snapshots"
    snapshots.mkdir(parents=True)
    tokenizer = Tokenizer.load(folder_with(saved, snapshots / "abc", None, {"model_type": "exaone"}))
    assert tokenizer.chat_format.name == "exaone-deep"


@pytest.mark.parametrize("config", [None, {"model_type": "llama"}])
def test_without_either_only_rendering_is_refused(tmp_path: Path, saved: Path, config: dict[str, str] | None) -> None:
    tokenizer = Tokenizer.load(folder_with(saved, tmp_path / "model", None, config))
    assert tokenizer.split("hm</think>42", thinking=True).answer == "42"
    with pytest.raises(
        CheckpointError, match=r"model: has no chat template .*add one, or say how .*chat_format=\.\.\."
    ):
        tokenizer.render([USER])


def test_our_own_folders_start_no_process(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process.subprocess, "Popen", None)
    assert Tokenizer.load(saved).render([USER], tools=[TOOL])


def test_loading_alone_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process.subprocess, "Popen", None)
    tokenizer = Tokenizer.load(write_qwen(tmp_path))
    assert tokenizer.decode(tokenizer.encode("a")) == "a"


def test_a_native_format_starts_none_after_it_was_found(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = Tokenizer.load(folder_with(saved, tmp_path / "model", DEEP_TEMPLATE))
    assert tokenizer.chat_format.name == "exaone-deep"
    monkeypatch.setattr(template_process.TemplateProcess, "render", None)
    assert tokenizer.render([USER, {"role": "assistant", "content": "A"}], with_mask=True)


def test_the_real_folder_speaks_exaone_4(exaone: Path) -> None:
    tokenizer = Tokenizer.load(exaone)
    assert tokenizer.chat_format.name == "exaone-4.0"
    assert [tokenizer.chat_format.opens_thought(thinking) for thinking in (False, True)] == [False, True]
    assert "# Available Tools" in tokenizer.decode(tokenizer.render([USER], tools=[TOOL]))


def test_a_hostile_template_is_named_when_it_is_first_needed(
    tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_process, "TIMEOUT_S", 1.0)
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer = Tokenizer.load(folder_with(saved, tmp_path / "model", loop))
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: the chat template .* longer than 1 seconds"):
        tokenizer.render([USER])
