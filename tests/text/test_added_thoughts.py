"""A template that knows no thoughts gets them: the same in transformers, learned, saved, and off by default."""

import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from open_exaone.base.errors import CheckpointError
from open_exaone.text.formats import WITH_THOUGHTS
from open_exaone.text.tokenizer import Tokenizer
from text.conversations import TOOL, USER
from text.families import write_llama, write_qwen

CHATML = """\
{% for message in messages %}{% if loop.first and message.role != 'system' %}<|im_start|>system
Be kind.<|im_end|>
{% endif %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
THINKS = {"role": "assistant", "content": "It is 5.", "reasoning_content": "2 + 3 = 5"}
AGAIN = [USER, THINKS, {"role": "user", "content": "Sure?"}]


@pytest.fixture(scope="module", params=["chatml", "llama"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders") / request.param
    return write_llama(root) if request.param == "llama" else write_qwen(root, CHATML)


@pytest.fixture(scope="module")
def thoughtful(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder, chat_format=WITH_THOUGHTS)


def test_a_thought_is_learned_and_the_prompt_opens_it(thoughtful: Tokenizer) -> None:
    prompt = thoughtful.render([USER], thinking=True, generation_prompt=True)
    ids, mask = thoughtful.render([USER, THINKS], thinking=True, with_mask=True)
    learned = [id for id, is_learned in zip(ids, mask, strict=True) if is_learned]
    assert thoughtful.decode(prompt).endswith("<think>\n") and ids[: len(prompt)] == prompt
    assert thoughtful.decode(learned[:-1]) == "2 + 3 = 5\n</think>\n\nIt is 5." and learned[-1] in thoughtful.end_ids
    assert ids[len(prompt) : len(prompt) + len(learned)] == learned
    parts = thoughtful.split(learned, thinking=True)
    assert (parts.thought, parts.answer, parts.finished) == ("2 + 3 = 5", "It is 5.", True)


def test_an_earlier_thought_is_not_shown(thoughtful: Tokenizer) -> None:
    text = thoughtful.decode(thoughtful.render(AGAIN, thinking=True, generation_prompt=True))
    assert "It is 5." in text and "2 + 3 = 5" not in text and text.count("<think>") == 1


def test_without_thinking_nothing_changes(folder: Path, thoughtful: Tokenizer) -> None:
    plain = Tokenizer.load(folder, chat_format="template")
    for messages in ([USER], AGAIN):
        prompt = thoughtful.render(messages, thinking=False, generation_prompt=True)
        assert prompt == plain.render(messages, thinking=False, generation_prompt=True)
    reply = [USER, {"role": "assistant", "content": "5"}]
    assert thoughtful.render(reply, with_mask=True) == plain.render(reply, with_mask=True)


def test_what_is_saved_thinks_in_transformers_and_here(thoughtful: Tokenizer, tmp_path: Path) -> None:
    thoughtful.save(tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    for chat_format in (None, WITH_THOUGHTS):  # which leaves it as it is
        saved = Tokenizer.load(tmp_path / "model", chat_format=chat_format)
        for messages, thinking in (([USER], True), ([USER], False), (AGAIN, True)):
            asked = {"add_generation_prompt": True, "enable_thinking": thinking}
            ids = theirs.apply_chat_template(messages, **asked)["input_ids"]
            assert saved.render(messages, thinking=thinking, generation_prompt=True) == ids
        ids = theirs.apply_chat_template([USER, THINKS], enable_thinking=True)["input_ids"]
        assert saved.render([USER, THINKS], thinking=True) == ids


def test_a_template_for_tools_gets_thoughts_too(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path / "model", CHATML)
    tools = folder / "additional_chat_templates" / "tool_use.jinja"
    tools.parent.mkdir()
    tools.write_text("{{ tools | tojson }}" + CHATML)
    tokenizer = Tokenizer.load(folder, chat_format=WITH_THOUGHTS)
    text = tokenizer.decode(tokenizer.render([USER], tools=[TOOL], thinking=True, generation_prompt=True))
    assert "parameters" in text and text.endswith("assistant\n<think>\n")


def test_a_template_that_knows_thoughts_is_refused(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path / "model")
    with pytest.raises(CheckpointError, match='knows thoughts already: leave chat_format = "template-with-thoughts"'):
        Tokenizer.load(folder, chat_format=WITH_THOUGHTS)


def test_a_folder_without_a_template_is_refused(tmp_path: Path, saved: Path) -> None:
    shutil.copy(saved / "tokenizer.json", tmp_path)
    with pytest.raises(CheckpointError, match="has no chat template that thoughts could be added to"):
        Tokenizer.load(tmp_path, chat_format=WITH_THOUGHTS)
