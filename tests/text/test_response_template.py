"""What transformers' own parser makes of replies by the `response_template` that our tokenizers are saved with."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer
from transformers.utils.chat_parsing import ResponseParser

from doubles import make_tokenizer
from open_exaone.text.chat import END
from open_exaone.text.response_template import response_template
from open_exaone.text.split import split_reply
from open_exaone.text.tokenizer import Tokenizer

TAGS = {"exaone-4.0": "think", "exaone-deep": "thought"}
CALL = '<tool_call>{"name": "roll", "arguments": {"n": 6, "to": ["a", {"b": null}]}}</tool_call>'
PIECES = [
    *("<think>", "</think>", "<thought>", "</thought>", "<tool_call>", "</tool_call>", "<", "think>", "/think>"),
    *("\n", "\n\n", "a", "b c", "값", '{"name": "f"', ', "arguments": {}}', "}", CALL, "[|assistant|]", "[|user|]"),
    '<tool_call>{"arguments": {"x": -1.5e3}, "name": "g"}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"x": 1e999}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"x": ' + "9" * 5000 + "}}</tool_call>",
    '<tool_call>{"name": "f", "arguments": {"x": ' + "[" * 2000 + "]" * 2000 + "}}</tool_call>",
    '<tool_call>{"name": 1, "arguments": []}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "</tool_call>"}',
]
replies = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


@cache
def prompt(name: str, thinking: bool) -> str:
    tokenizer = make_tokenizer()
    by_name = Tokenizer(tokenizer.backend, chat_format=name)
    segments = by_name.chat_format.segments(
        [{"role": "user", "content": "Q <think> [|assistant|]\n"}], thinking=thinking, generation_prompt=True
    )
    return "".join(segment.text for segment in segments)


def parse(text: str, name: str, prefix: str, cut: Callable[[str], list[str]] = lambda text: [text]) -> dict[str, Any]:
    parser = ResponseParser(response_template(name), prefix=prefix)
    shown = {"thinking": "", "content": ""}
    events = list(parser.initial_events)
    for chunk in cut(text):
        events += parser.feed(chunk)
    message, last = parser.finalize()
    for event in events + last:
        if event["type"] == "region_chunk" and event["field"] in shown:
            shown[event["field"]] += event["text"]
    return message | {"shown": shown}


def ours(text: str, name: str, opened: bool) -> dict[str, Any]:
    """What our splitter says, in transformers' words; calls that are none are text there, and so hidden here."""
    tag = TAGS[name]
    hidden = re.sub(r"<tool_call>(?=(.*?)(</tool_call>|\Z))", _hide, text, flags=re.DOTALL)
    reply = split_reply(hidden, thinking=opened, thought_tags=(tag,))
    calls = [{"type": "function", "function": json.loads(call.text)} for call in reply.tool_calls]
    thought, answer = (part.replace("\ue000", "<tool_call>") for part in (reply.thought, reply.answer))
    if opened and text.lstrip("\n").startswith(f"<{tag}>"):
        thought = f"<{tag}>{thought}" if not thought.startswith("\n") else f"<{tag}>\n{thought}"
    message = {"thinking": thought.strip(), "content": answer.strip(), "tool_calls": calls}
    return {"role": "assistant"} | {key: value for key, value in message.items() if value}


def _hide(match: re.Match[str]) -> str:
    reply = split_reply(f"{match[0]}{match[1]}{match[2]}", thinking=False, thought_tags=())
    is_call = len(reply.tool_calls) == 1 and reply.tool_calls[0].error is None
    return match[0] if is_call and set(json.loads(reply.tool_calls[0].text)) == {"name", "arguments"} else "\ue000"


def squeezed(value: Any) -> Any:
    """Without white space, which the two strip differently inside a reply."""
    return re.sub(r"\s+", "", value) if isinstance(value, str) else value


def compare(text: str, name: str, prefix: str, opened: bool, cut: Callable[[str], list[str]]) -> None:
    theirs, mine = parse(text, name, prefix, cut), ours(text, name, opened)
    shown = theirs.pop("shown")
    assert squeezed(shown["content"]) == squeezed(mine.get("content", ""))  # what vLLM and SGLang send
    if mine.get("tool_calls"):  # of text around calls, the last remains
        assert mine.get("content", "").endswith(theirs.pop("content", ""))
        mine.pop("content", None)
    assert {key: squeezed(value) for key, value in theirs.items()} == {k: squeezed(value) for k, value in mine.items()}


CUTS = [lambda text: [text], list, lambda text: [text[place : place + 3] for place in range(0, len(text), 3)]]


@pytest.mark.parametrize("name", TAGS)
@pytest.mark.parametrize("thinking", [True, False])
@settings(max_examples=150, deadline=None)
@example(text="</thought><thought>", way=0, ends=False)
@example(text="</think><think>", way=0, ends=False)
@example(text="<think>hm</think>\n\nA <think>", way=1, ends=True)
@given(text=replies, way=st.integers(0, 2), ends=st.booleans())
def test_transformers_splits_as_we_do(name: str, thinking: bool, text: str, way: int, ends: bool) -> None:
    opened = thinking or name == "exaone-deep"
    assume(not (opened and re.match(r"\n</think>\n\n\n*<think>", text)))  # with the prompt, as in non-reasoning mode
    finished = split_reply(text, thinking=opened, thought_tags=(TAGS[name],)).finished
    ends = ends and finished  # a thought that is never closed keeps the marker it ends in
    cut = CUTS[way if len(text) < 400 else 0]
    compare(text, name, prompt(name, thinking), opened, lambda _: cut(text + END * ends))


@pytest.mark.parametrize("name", TAGS)
@settings(max_examples=100, deadline=None)
@given(thought=replies, way=st.integers(0, 2))
def test_an_unclosed_thought_is_never_an_answer(name: str, thought: str, way: int) -> None:
    text = thought.replace("</think>", "").replace("</thought>", "")
    message = parse(text, name, prompt(name, True), CUTS[way if len(text) < 400 else 0])
    assert "content" not in message and "tool_calls" not in message and not message["shown"]["content"].strip()
    if name == "exaone-4.0":  # opened by the reply itself
        message = parse(f"<think>{text}", name, prompt(name, False), CUTS[way if len(text) < 400 else 0])
        assert "content" not in message and not message["shown"]["content"].strip()


@pytest.mark.parametrize("end", ["", END, END + "[PAD][PAD]"])
def test_a_usual_reply(end: str) -> None:
    text = f"hm\n</think>\n\nRolling.\n{CALL}\n{CALL}{end}"
    for cut in CUTS:
        message = parse(text, "exaone-4.0", prompt("exaone-4.0", True), cut)
        function = {"name": "roll", "arguments": {"n": 6, "to": ["a", {"b": None}]}}
        assert (message["thinking"], message["content"]) == ("hm", "Rolling.")
        assert message["tool_calls"] == [{"type": "function", "function": function}] * 2


def test_a_saved_tokenizer_parses_replies_by_ids(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "How much is 3 + 4?"}]
    prefix = theirs.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=True, tokenize=False)
    reply = [
        *tokenizer.encode("3+4=7\n"),
        tokenizer.think_close_id,
        *tokenizer.encode("\n\nIt is 7."),
        tokenizer.end_id,
    ]
    message = theirs.parse_response(reply, prefix=prefix)
    assert message == {"role": "assistant", "thinking": "3+4=7", "content": "It is 7."}
    again = theirs.apply_chat_template([*messages, message], tokenize=False)
    assert again.endswith(f"It is 7.{END}\n")


def folder_of(tmp_path: Path, template: str | None = None, **values: Any) -> Path:
    """A tokenizer's folder as LG's are: without a `response_template`."""
    make_tokenizer().save(tmp_path / "theirs")
    path = tmp_path / "theirs" / "tokenizer_config.json"
    kept = json.loads(path.read_text())
    del kept["response_template"]
    path.write_text(json.dumps(kept | values))
    if template is not None:
        (tmp_path / "theirs" / "chat_template.jinja").write_text(template)
    return tmp_path / "theirs"


def test_a_loaded_tokenizer_of_exaone_is_saved_with_it_and_its_folder_stays(tmp_path: Path) -> None:
    theirs = folder_of(tmp_path)
    before = {path.name: path.read_bytes() for path in theirs.iterdir()}
    Tokenizer.load(theirs).save(tmp_path / "ours")
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == before
    ours = {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}
    assert json.loads(ours.pop("tokenizer_config.json"))["response_template"] == response_template("exaone-4.0")
    assert ours == {name: content for name, content in before.items() if name != "tokenizer_config.json"}


@pytest.mark.parametrize(
    ("template", "values"),
    [
        (None, {"response_template": {"own": 1}}),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", {}),
        ("{% for broken", {}),
    ],
)
def test_another_format_or_a_grammar_of_its_own_is_saved_as_it_stands(
    tmp_path: Path, template: str | None, values: dict[str, Any]
) -> None:
    theirs = folder_of(tmp_path, template, **values)
    Tokenizer.load(theirs).save(tmp_path / "ours")
    name = "tokenizer_config.json"
    assert (tmp_path / "ours" / name).read_bytes() == (theirs / name).read_bytes()
