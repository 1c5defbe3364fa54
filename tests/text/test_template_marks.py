"""No text makes a marker, whatever template, normalizer and neighbours do; and no mark breaks a template."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, normalizers
from transformers import AutoTokenizer

from open_exaone.base.errors import DataError
from open_exaone.text.tokenizer import Tokenizer
from text.conversations import CALL, REPLY, TOOL, USER
from text.families import QWEN_MARKERS, make_backend, write_family, write_qwen

CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    ("normalizer", "name", "text"),
    [
        (normalizers.NFKC(), "<stop>", "a＜stop＞b"),
        (normalizers.NFKC(), "<stop>", "a<stop>b"),
        (normalizers.NFKC(), "<｜User｜>", "a<|User|>b"),  # the marker's own name is in no normal form
        (normalizers.NFKC(), "<｜User｜>", "a<｜User｜>b"),
        (normalizers.Lowercase(), "<STOP>", "a<stop>b"),
        (normalizers.Lowercase(), "<STOP>", "a<Stop>b"),
    ],
)
def test_a_normalizer_makes_no_marker_of_content(
    tmp_path: Path, normalizer: normalizers.Normalizer, name: str, text: str
) -> None:
    backend = make_backend(QWEN_MARKERS)
    backend.normalizer = normalizer
    backend.add_tokens([AddedToken(name, special=False, normalized=True)])
    template = "{{ messages[0].content }}" + name + "{{ messages[1].content }}<|im_end|>"
    tokenizer = Tokenizer.load(write_family(tmp_path, template, backend, eos_token="<|im_end|>"))
    number = tokenizer.backend.token_to_id(name)
    ids = tokenizer.render([{"role": "user", "content": text}, {"role": "user", "content": "b"}])
    assert ids.count(number) == 1
    assert tokenizer.decode(ids) == f"{normalizer.normalize_str(text + name)}b<|im_end|>"
    for cut in range(len(text)):  # nor of two
        ids = tokenizer.render([{"role": "user", "content": text[start:end]} for start, end in ((0, cut), (cut, None))])
        assert ids.count(number) == 1


ADJACENT = "{% for m in messages %}{{ m.content }}{% endfor %}<|im_end|>"
KEYS = (
    "{% for k, v in tools[0].parameters.items() %}{{ '\n<' ~ k ~ '>' ~ (v|tojson) ~ '</' ~ k ~ '>' }}{% endfor %}"
    "<|im_end|>"
)
CALLED = "<{{ messages[0].tool_calls[0].name }}></{{ messages[0].tool_calls[0].name | trim }}>\n<|im_end|>"


@pytest.mark.parametrize(
    ("template", "contents", "text"),
    [
        (ADJACENT, ["x<|im_st", "art|>x"], "x<|im_start|>x<|im_end|>"),
        (ADJACENT, ["x<|im_st", "ar", "t|>x"], "x<|im_start|>x<|im_end|>"),
        (ADJACENT.replace("content", "content | trim"), ["x<|im_st \n", "\tart|>x"], "x<|im_start|>x<|im_end|>"),
        (ADJACENT.replace("content }}", "content }}>"), ["x<|im_start|"], "x<|im_start|><|im_end|>"),
        (ADJACENT.replace("{{ m", "<{{ m"), ["|im_start|>x"], "<|im_start|>x<|im_end|>"),
        (ADJACENT.replace("{{ m.content }}", "<{{ m.content }}>"), ["|im_start|"], "<|im_start|><|im_end|>"),
        (ADJACENT.replace("{{ m.content }}", "<{{ m.content }}>"), ["think", "/think"], "<think></think><|im_end|>"),
        # What is the template's own stays a marker.
        (ADJACENT, ["<|im_end|", "a<"], "<|im_end|a<<|im_end|>"),
    ],
)
def test_no_marker_forms_across_the_border_of_a_content(
    tmp_path: Path, template: str, contents: list[str], text: str
) -> None:
    tokenizer = Tokenizer.load(write_qwen(tmp_path, template), chat_format="template")
    for role in ("user", "system"):
        ids = tokenizer.render([{"role": role, "content": content} for content in contents])
        assert _added(tokenizer, ids) == ["<|im_end|>"]
        assert tokenizer.decode(ids) == text


def test_no_marker_forms_of_keys_and_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    keys = Tokenizer.load(write_qwen(tmp_path, KEYS), chat_format="template")
    ids = keys.render([USER], tools=[{"parameters": {"think": "x", "tool_call": 1}}])
    assert _added(keys, ids) == ["<|im_end|>"]
    assert keys.decode(ids) == '\n<think>"x"</think>\n<tool_call>1</tool_call><|im_end|>'
    called = Tokenizer.load(write_qwen(tmp_path / "b", CALLED), chat_format="template")
    call = {"name": "tool_call", "arguments": {}}
    assert _added(called, called.render([{**REPLY, "tool_calls": [call]}])) == ["<|im_end|>"]


def test_no_marker_forms_of_a_messages_own_keys(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_qwen(tmp_path, "{{ messages[0] | tojson }}<|im_end|>"))
    ids = tokenizer.render([{**USER, "<|im_start|>": "y"}])
    assert _added(tokenizer, ids) == ["<|im_end|>"]
    assert tokenizer.decode(ids) == '{"role": "user", "content": "Q1", "<|im_start|>": "y"}<|im_end|>'


def test_ids_stay_those_of_one_piece_where_no_marker_forms(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path)
    messages = [{"role": "user", "content": "a<"}, {"role": "user", "content": ">\n"}, {**REPLY, "content": "think"}]
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages)["input_ids"]
    assert Tokenizer.load(folder).render(messages) == ids


def test_an_added_token_that_is_a_word_breaks_no_key(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path)
    backend = make_backend(QWEN_MARKERS, ["name", "arguments", "content"])
    (folder / "tokenizer.json").write_text(backend.to_str())
    tokenizer = Tokenizer.load(folder)
    assert '{"name": "roll", "arguments": {"n": 6}}' in tokenizer.decode(tokenizer.render([USER, CALLING]))


@pytest.mark.parametrize("wrong", [{"name": "f"}, "ab", 3])
def test_tools_must_be_a_list(tmp_path: Path, tokenizer: Tokenizer, wrong: Any) -> None:
    for each in (Tokenizer.load(write_qwen(tmp_path)), tokenizer):
        with pytest.raises(DataError, match="tools: must be a list of mappings"):
            each.render([USER], tools=wrong)
        with pytest.raises(DataError, match=r"tools\[1\]: must be a mapping"):
            each.render([USER], tools=[TOOL, wrong if wrong != {"name": "f"} else None])


def test_marks_survive_json_in_ascii(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content | tojson(ensure_ascii=True) }}<|im_end|>{% endfor %}"
    tokenizer = Tokenizer.load(write_qwen(tmp_path, template))
    messages = [{"role": "user", "content": "a<|im_end|>b"}, {"role": "assistant", "content": "A<|im_end|>1"}]
    ids, mask = tokenizer.render(messages, with_mask=True)
    assert tokenizer.decode(ids) == '"a<|im_end|>b"<|im_end|>"A<|im_end|>1"<|im_end|>'
    assert ids.count(tokenizer.end_id) == 2
    assert tokenizer.decode([token for token, learned in zip(ids, mask, strict=True) if learned]) == (
        '"A<|im_end|>1"<|im_end|>'
    )


def test_a_broken_marker_is_the_plain_text_it_says(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_qwen(tmp_path))
    ids = tokenizer.render([{"role": "user", "content": "\n<|im_end|>\n"}])
    [start, end] = (tokenizer.backend.token_to_id(marker) for marker in ("<|im_start|>", "<|im_end|>"))
    plain = [*tokenizer.encode("user\n\n"), *tokenizer.encode("<|im_end|>"), *tokenizer.encode("\n")]
    assert ids == [start, *plain, end, *tokenizer.encode("\n")]


def test_every_private_character_can_be_content(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write_qwen(tmp_path))
    almost_all = "".join(map(chr, range(0xE010, 0xF900)))
    assert almost_all in tokenizer.decode(tokenizer.render([{"role": "user", "content": almost_all}]))
    with pytest.raises(DataError, match="every private-use character"):
        tokenizer.render([{"role": "user", "content": "".join(map(chr, range(0xE000, 0xF900)))}])


def _added(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    added = tokenizer.backend.get_added_tokens_decoder()
    return [added[token].content for token in ids if token in added]
