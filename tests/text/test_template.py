"""A checkpoint's own template: transformers' ids, the loss mask by marks, and markers in contents broken."""

import copy
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.text.chat import Dialogue
from open_exaone.text.template_process import TemplateProcess
from open_exaone.text.tokenizer import Tokenizer
from text.conversations import (
    CALL,
    REPLY,
    THOUGHTFUL,
    TOOL,
    USER,
    Message,
    assistant,
    content,
    conversations,
    flags,
    function,
    other,
    tool,
    tools,
)
from text.families import (
    DEEPSEEK_TEMPLATE,
    GENERATION_TEMPLATE,
    LLAMA_TEMPLATE,
    QWEN_TEMPLATE,
    write_deepseek,
    write_llama,
    write_qwen,
)

Q2 = {"role": "user", "content": "Q2"}
SYSTEM = {"role": "system", "content": "S"}
INLINE = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA1"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {
        "llama": write_llama(root / "llama"),
        "qwen": write_qwen(root / "qwen"),
        "deepseek": write_deepseek(root / "deepseek"),
        "generation": write_qwen(root / "generation", GENERATION_TEMPLATE),
    }


@pytest.fixture(scope="module")
def ours(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {name: Tokenizer.load(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def theirs(folders: dict[str, Path]) -> dict[str, Any]:
    return {name: AutoTokenizer.from_pretrained(folder) for name, folder in folders.items()}


@pytest.mark.parametrize("name", ["llama", "qwen"])
@given(messages=conversations, thinking=flags, tools=tools, prompt=flags)
def test_transformers_makes_the_same_ids(
    ours: dict[str, Tokenizer],
    theirs: dict[str, Any],
    name: str,
    messages: list[Message],
    thinking: bool,
    tools: Any,
    prompt: bool,
) -> None:
    as_it_takes_them = messages if name == "qwen" else list(map(_with_read_arguments, messages))
    ids = theirs[name].apply_chat_template(
        as_it_takes_them, enable_thinking=thinking, tools=tools, add_generation_prompt=prompt
    )["input_ids"]
    assert ours[name].render(messages, thinking=thinking, tools=tools, generation_prompt=prompt) == ids


@pytest.fixture(scope="module")
def exaone_template(exaone: Path) -> Tokenizer:
    return Tokenizer.load(exaone, chat_format="template")


@pytest.fixture(scope="module")
def exaone_itself(exaone: Path) -> Tokenizer:
    return Tokenizer.load(exaone)


@pytest.fixture(scope="module")
def exaone_in_transformers(exaone: Path) -> Any:
    return AutoTokenizer.from_pretrained(exaone)


@given(messages=conversations, thinking=flags, tools=tools, prompt=flags)
def test_exaone_has_transformers_ids_with_tools_too(
    exaone_template: Tokenizer,
    exaone_itself: Tokenizer,
    exaone_in_transformers: Any,
    messages: list[Message],
    thinking: bool,
    tools: Any,
    prompt: bool,
) -> None:
    options = {"enable_thinking": thinking, "skip_think": not thinking or prompt}

    read = [_with_read_arguments(message) for message in messages]
    made = exaone_in_transformers.apply_chat_template(read, tools=tools, add_generation_prompt=prompt, **options)
    rendered = exaone_template.render(messages, thinking=thinking, tools=tools, generation_prompt=prompt)
    assert rendered == made["input_ids"]
    if tools:  # LG's tool wording isn't ours, and its models know no other
        rendered = exaone_itself.render(messages, thinking=thinking, tools=tools, generation_prompt=prompt)
        assert rendered == made["input_ids"]


def _with_read_arguments(message: Message) -> Message:
    """As templates take it that would quote arguments which are text."""

    def read(call: Any) -> Any:
        if "function" in call:
            return {**call, "function": read(call["function"])}
        given = call["arguments"]
        return {**call, "arguments": json.loads(given) if isinstance(given, str) else given}

    return {**message, "tool_calls": list(map(read, message["tool_calls"]))} if "tool_calls" in message else message


LLAMA_HEAD = "<|start_header_id|>assistant<|end_header_id|>\n\n"
QWEN_HEAD, NO_THOUGHT = "<|im_start|>assistant\n", "<think>\n\n</think>\n\n"
CALL_TEXT = '<tool_call>\n{"name": "roll", "arguments": {"n": 6}}\n</tool_call>'


@pytest.mark.parametrize(
    ("name", "reply", "thinking", "prompt_ends", "learned"),
    [
        ("llama", REPLY, False, LLAMA_HEAD, "A1<|eot_id|>"),
        ("llama", {**REPLY, "content": " \n A1\n"}, False, LLAMA_HEAD, "A1<|eot_id|>"),
        ("llama", CALLING, False, LLAMA_HEAD, '{"name": "roll", "parameters": {"n": 6}}<|eot_id|>'),
        ("llama", {**REPLY, "content": ""}, False, LLAMA_HEAD, "<|eot_id|>"),
        ("llama", {**REPLY, "content": "a<|eot_id|>b"}, False, LLAMA_HEAD, "a<|eot_id|>b<|eot_id|>"),
        ("qwen", THOUGHTFUL, True, QWEN_HEAD, "<think>\nhm\n</think>\n\nA1<|im_end|>"),
        ("qwen", INLINE, True, QWEN_HEAD, "<think>\nhm\n</think>\n\nA1<|im_end|>"),
        ("qwen", REPLY, True, QWEN_HEAD, f"{NO_THOUGHT}A1<|im_end|>"),
        ("qwen", {**REPLY, "content": "<think>\n\n</think>\n\nA1"}, True, QWEN_HEAD, f"{NO_THOUGHT}A1<|im_end|>"),
        # Without thinking a thought is not learned, and the prompt holds the empty block.
        ("qwen", THOUGHTFUL, False, QWEN_HEAD + NO_THOUGHT, "A1<|im_end|>"),
        ("qwen", INLINE, False, QWEN_HEAD + NO_THOUGHT, "A1<|im_end|>"),
        ("qwen", {**REPLY, "content": "a</thought>b"}, False, QWEN_HEAD + NO_THOUGHT, "a</thought>b<|im_end|>"),
        ("qwen", {**REPLY, "tool_calls": [CALL]}, False, QWEN_HEAD + NO_THOUGHT, f"A1\n{CALL_TEXT}<|im_end|>"),
        ("qwen", CALLING, False, QWEN_HEAD + NO_THOUGHT, f"{CALL_TEXT}<|im_end|>"),
        # The whole does not begin as the prompt: learned from the reply's first part on.
        ("deepseek", INLINE, False, "<|assistant|>", "A1<|end|>"),
        ("deepseek", {**REPLY, "content": "<think></think>A1"}, True, "<|assistant|>", "A1<|end|>"),
        # A closing tag alone is the answer's own text.
        ("qwen", {**THOUGHTFUL, "content": "a </think> b"}, False, QWEN_HEAD + NO_THOUGHT, "a </think> b<|im_end|>"),
        ("qwen", {**REPLY, "content": "a </think> b"}, False, QWEN_HEAD + NO_THOUGHT, "a </think> b<|im_end|>"),
        ("llama", {**REPLY, "content": "a </think> b"}, False, LLAMA_HEAD, "a </think> b<|eot_id|>"),
        ("generation", REPLY, False, QWEN_HEAD, "A1<|im_end|>"),
    ],
)
def test_what_is_learned(
    ours: dict[str, Tokenizer], name: str, reply: Message, thinking: bool, prompt_ends: str, learned: str
) -> None:
    tokenizer = ours[name]
    messages = [USER, REPLY, Q2]
    ids, mask = tokenizer.render([*messages, reply], thinking=thinking, with_mask=True)
    start = mask.index(True)
    assert tokenizer.decode(ids[:start]).endswith(prompt_ends)
    assert tokenizer.decode([token for token, is_learned in zip(ids, mask, strict=True) if is_learned]) == learned
    end = start + sum(mask)
    assert mask == [False] * start + [True] * (end - start) + [False] * (len(ids) - end)
    assert ids[end - 1] == tokenizer.end_id
    if name != "deepseek":
        assert ids[:start] == tokenizer.render(messages, thinking=thinking, generation_prompt=True)


@pytest.mark.parametrize("name", ["llama", "qwen"])
@given(messages=conversations, reply=assistant, thinking=flags, tools=tools)
def test_a_prompt_and_the_learned_part_make_the_whole(
    ours: dict[str, Tokenizer], name: str, messages: list[Message], reply: Message, thinking: bool, tools: Any
) -> None:
    messages = [*messages, Q2]  # Qwen's template keeps thoughts only behind the last question
    reply = {**reply, "content": reply["content"].rpartition("</think>")[2]}
    if name == "llama":  # whose template has no thoughts, and drops what stands before a call
        reply = {"role": "assistant", "content": reply["content"]}
    tokenizer = ours[name]
    prompt = tokenizer.render(messages, thinking=thinking, tools=tools, generation_prompt=True)
    ids, mask = tokenizer.render([*messages, reply], thinking=thinking, tools=tools, with_mask=True)
    learned = [token for token, is_learned in zip(ids, mask, strict=True) if is_learned]
    assert ids[: len(prompt) + len(learned)] == prompt + learned
    assert mask == [False] * len(prompt) + [True] * len(learned) + [False] * (len(ids) - len(prompt) - len(learned))
    assert learned[-1] == tokenizer.end_id


# LG's template prints names as they are.
plainly_named = function.filter(lambda call: json.dumps(call["name"], ensure_ascii=False) == f'"{call["name"]}"')


@given(answer=content, thought=content, calls=st.lists(plainly_named, max_size=2), thinking=flags)
def test_a_learned_reply_splits_into_what_it_was_made_of(
    exaone_itself: Tokenizer, answer: str, thought: str, calls: list[Any], thinking: bool
) -> None:
    answer = answer or "a"  # LG's template drops a thought that only calls follow
    reply = {"role": "assistant", "content": answer, "reasoning_content": thought, "tool_calls": calls}
    ids, mask = exaone_itself.render([USER, reply], tools=[TOOL], thinking=thinking, with_mask=True)
    learned = [token for token, is_learned in zip(ids, mask, strict=True) if is_learned]
    prompt = exaone_itself.render([USER], tools=[TOOL], thinking=thinking, generation_prompt=True)
    assert ids[: len(prompt)] == prompt
    parts = exaone_itself.split(learned, thinking=thinking)
    assert (parts.thought, parts.answer) == (thought.strip("\n") if thinking else "", answer.strip("\n"))
    assert [(call.name, call.error) for call in parts.tool_calls] == [(call["name"], None) for call in calls]


@pytest.mark.parametrize("thought", ["hm", "<think>", "a\nb"])
def test_exaone_learns_an_inline_thought_with_tools_too(exaone_itself: Tokenizer, thought: str) -> None:
    apart = {**REPLY, "reasoning_content": thought}
    inline = {**REPLY, "content": f"<think>\n{thought}\n</think>\n\nA1"}
    learned = [
        exaone_itself.render([USER, reply], tools=[TOOL], thinking=True, with_mask=True) for reply in (apart, inline)
    ]
    assert learned[0] == learned[1]


@given(messages=st.lists(other | tool, max_size=3), learns=flags)
def test_only_a_reply_at_the_end_is_learned(ours: dict[str, Tokenizer], messages: list[Message], learns: bool) -> None:
    for name in ("llama", "qwen", "generation"):
        last = [REPLY] if learns else [REPLY, Q2]
        plain = [{**message, "role": "user", "content": "Q"} for message in messages]
        _, mask = ours[name].render([*plain, REPLY, Q2, *last], with_mask=True)
        assert any(mask) == learns


def test_earlier_generation_blocks_are_not_learned(ours: dict[str, Tokenizer]) -> None:
    tokenizer = ours["generation"]
    ids, mask = tokenizer.render([USER, REPLY, {**REPLY, "content": "A2"}, {**REPLY, "content": "A3"}], with_mask=True)
    assert tokenizer.decode([token for token, is_learned in zip(ids, mask, strict=True) if is_learned]) == (
        "A3<|im_end|>"
    )


def test_generation_blocks_may_stand_in_each_other(tmp_path: Path) -> None:
    inner = "{% generation %}{{ messages[-1].content }}{% endgeneration %}"
    template = "Q{% generation %}a" + inner + "b{% endgeneration %}<|im_end|>"
    tokenizer = Tokenizer.load(write_qwen(tmp_path, template), chat_format="template")
    ids, mask = tokenizer.render([REPLY], with_mask=True)
    assert tokenizer.decode(ids) == "QaA1b<|im_end|>"
    assert learned_text(tokenizer, ids, mask) == "aA1b<|im_end|>"


def learned_text(tokenizer: Tokenizer, ids: list[int], mask: list[bool]) -> str:
    return tokenizer.decode([token for token, is_learned in zip(ids, mask, strict=True) if is_learned])


BLOCK = "{% generation %}{{ m.content }}END{% endgeneration %}"
TURNS = "{% for m in messages %}{% if m.role == 'user' %}HEAD<|im_start|>user\n{{ m.content }}<|im_end|>\n{% else %}"


@pytest.mark.parametrize("end", ["<|im_end|>", "<|im_end|>\n", "{{ '\\n' }}<|im_end|>", " <|im_end|>"])
@pytest.mark.parametrize("block", [BLOCK, BLOCK.replace("END", "") + "END", "{{ m.content }}END"])
def test_the_end_of_a_turn_is_learned_wherever_it_stands(tmp_path: Path, block: str, end: str) -> None:
    """In a generation block, behind it, and without blocks."""
    template = TURNS.replace("HEAD", "") + "<|im_start|>assistant\n" + block.replace("END", end)
    template += "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    tokenizer = Tokenizer.load(write_qwen(tmp_path, template), chat_format="template")
    for before in ([USER], [USER, REPLY, Q2]):
        ids, mask = tokenizer.render([*before, REPLY], with_mask=True)
        assert learned_text(tokenizer, ids, mask).rstrip() == f"A1{end}".replace("{{ '\\n' }}", "\n").rstrip()


@pytest.mark.parametrize("block", [BLOCK.replace("END", ""), "{{ m.content }}"])
@pytest.mark.parametrize("end", ["<|im_end|>", "<|im_end|>\n", "{{ '\\n' }}<|im_end|>"])
def test_an_end_in_the_next_turns_text_is_learned(tmp_path: Path, block: str, end: str) -> None:
    """As where a template ends a turn only once another one begins; the text then ends there."""
    head = "{% if not loop.first %}" + end + "{% endif %}"
    template = TURNS.replace("HEAD", head) + "<|im_start|>assistant\n" + block
    template += "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    tokenizer = Tokenizer.load(write_qwen(tmp_path, template), chat_format="template")
    turns: list[Message] = [USER, REPLY]
    for messages in (turns, [*turns, Q2, {**REPLY, "content": "A2"}]):
        ids, mask = tokenizer.render(messages, with_mask=True)
        assert learned_text(tokenizer, ids, mask) == messages[-1]["content"] + end.rstrip().replace("{{ '\\n' }}", "\n")
        assert ids[-1] == tokenizer.end_id
        later = tokenizer.render([*messages, USER])
        assert ids == later[: len(ids)]


@pytest.mark.parametrize("end", ["", "<|endoftext|>", "{% if loop.index0 == 1 %}<|im_end|>{% endif %}"])
def test_a_block_without_an_end_of_turn_is_refused(tmp_path: Path, end: str) -> None:
    """Whoever learned it would never stop; transformers takes it as it is."""
    template = TURNS.replace("HEAD", "") + BLOCK.replace("END", "") + end + "{% endif %}{% endfor %}"
    tokenizer = Tokenizer.load(write_qwen(tmp_path, template), chat_format="template")
    messages = [USER, REPLY, Q2, REPLY]
    why = "prints <|endoftext|>" if end == "<|endoftext|>" else r"write {{ eos_token }} before {% endgeneration %}"
    with pytest.raises(DataError, match=rf"chat_template.jinja: .*({re.escape(why)}|{why})"):
        tokenizer.render(messages, with_mask=True)
    assert tokenizer.render_dialogues([Dialogue(messages, learned=(1, 3))]) == [None]
    tokenizer.render(messages)


@pytest.mark.parametrize("num_replies", [2, 40])
def test_an_end_of_the_last_turn_alone_is_learned_with_each_reply(tmp_path: Path, num_replies: int) -> None:
    """Then a reply in the midst has none to be learned with, and is rendered by itself."""
    template = TURNS.replace("HEAD", "") + BLOCK.replace("END", "{% if loop.last %}<|im_end|>{% endif %}")
    template += "{% endif %}{% endfor %}"
    tokenizer = Tokenizer.load(write_qwen(tmp_path, template), chat_format="template")
    messages = [USER, REPLY] * num_replies
    assert tokenizer.render_dialogues([Dialogue(messages, learned=tuple(range(1, len(messages), 2)))]) == [None]
    assert learned_text(tokenizer, *tokenizer.render(messages, with_mask=True)) == "A1<|im_end|>"


@pytest.mark.parametrize("refused", ["messages[-1].role != 'assistant'", "messages|length == 3"])
@pytest.mark.parametrize("num_before", [1, 20])
def test_replies_before_the_learned_one_stay_unlearned_where_a_template_takes_no_open_end(
    tmp_path: Path, refused: str, num_before: int
) -> None:
    refusal = "{% if REFUSED %}{{ raise_exception('no') }}{% endif %}".replace("REFUSED", refused)
    for block in (BLOCK, "{{ m.content }}END"):
        template = refusal + TURNS.replace("HEAD", "") + block.replace("END", "<|im_end|>") + "{% endif %}{% endfor %}"
        tokenizer = Tokenizer.load(write_qwen(tmp_path, template), chat_format="template")
        messages = [*[USER, REPLY] * num_before, Q2, {**REPLY, "content": "A2"}]
        assert learned_text(tokenizer, *tokenizer.render(messages, with_mask=True)) == "A2<|im_end|>"
        every = tuple(range(1, len(messages), 2))
        for learned in (every, every[1:]):
            [whole] = tokenizer.render_dialogues([Dialogue(messages, learned=learned)])
            expected = "A1<|im_end|>" * (len(learned) - 1) + "A2<|im_end|>"
            is_apart = whole is None and num_before > 1 and (learned != every or "length" in refused)
            assert is_apart or (isinstance(whole, tuple) and learned_text(tokenizer, *whole) == expected)


def test_an_end_that_is_no_eos_token_is_named_with_the_fix(tmp_path: Path) -> None:
    """As in Qwen's base models, whose eos_token is <|endoftext|>."""
    folder = write_qwen(tmp_path)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": "<|endoftext|>"}))
    with pytest.raises(
        DataError,
        match=r"behind the reply it prints <\|im_end\|>, and no token that ends a turn \(<\|endoftext\|>\).*would not "
        r"stop.*name <\|im_end\|> as eos_token in tokenizer_config.json, or among eos_token_id in generation_config",
    ):
        Tokenizer.load(folder).render([USER, REPLY], with_mask=True)
    ends = [Tokenizer.load(folder).backend.token_to_id(name) for name in ("<|endoftext|>", "<|im_end|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    ids, mask = Tokenizer.load(folder).render([USER, REPLY], with_mask=True)
    assert learned_text(Tokenizer.load(folder), ids, mask).endswith("A1<|im_end|>")


@pytest.mark.parametrize(
    ("template", "reply", "thinking", "why"),
    [
        (DEEPSEEK_TEMPLATE, INLINE, True, 'it drops the reply\'s thought; set mode = "non_reasoning"'),
        (DEEPSEEK_TEMPLATE, {**REPLY, "content": "a </think> b"}, False, "drops the reply's text before a closing tag"),
        (LLAMA_TEMPLATE, THOUGHTFUL, True, "it drops the reply's thought"),
        (LLAMA_TEMPLATE, {**REPLY, "tool_calls": [CALL]}, False, "it does not print the reply's content"),
        (LLAMA_TEMPLATE, {**CALLING, "tool_calls": [CALL, CALL]}, False, "it does not print all of the reply's tool"),
        (QWEN_TEMPLATE.replace("<|im_end|>", "<|endoftext|>"), REPLY, True, r"no token that ends a turn \(<\|im_end\|"),
        ("{{ messages[-1].content | length }}<|im_end|>", REPLY, False, "rewrites the reply's content"),
        ("{{ messages[-1].content | urlencode }}<|im_end|>", REPLY, False, "rewrites the reply's content"),
        ("{{ messages[0].content }}<|im_end|>", REPLY, False, "does not print the reply's content"),
        ("{{ add_generation_prompt }}<|im_end|>", {**REPLY, "content": ""}, False, "the reply is empty"),
        ("{{ messages[-1].content }}{% if add_generation_prompt %}A1P{% endif %}", REPLY, False, "no token that ends"),
        (
            "{% generation %}{{ messages[0].content }}{% endgeneration %}{{ messages[-1].content }}<|im_end|>",
            REPLY,
            False,
            "blocks leave out the reply",
        ),
    ],
)
def test_where_the_mask_is_not_found_learning_is_refused_and_rendering_is_not(
    tmp_path: Path, template: str, reply: Message, thinking: bool, why: str
) -> None:
    tokenizer = Tokenizer.load(write_qwen(tmp_path, template), chat_format="template")
    with pytest.raises(DataError, match=f"chat_template.jinja: what a reply teaches can't be found.*{why}"):
        tokenizer.render([USER, reply], thinking=thinking, with_mask=True)
    with pytest.raises(DataError, match="what a reply teaches"):
        tokenizer.render_many([[USER, reply]], thinking=thinking)
    tokenizer.render([USER, reply], thinking=thinking)


@pytest.mark.parametrize("name", ["llama", "qwen", "generation", "deepseek"])
@settings(max_examples=40)
@given(turns=st.lists(assistant, min_size=1, max_size=4), thinking=flags, data=st.data())
def test_replies_learned_together_are_those_learned_apart(
    ours: dict[str, Tokenizer], name: str, turns: list[Message], thinking: bool, data: st.DataObject
) -> None:
    messages = [turn for reply in turns for turn in (data.draw(other), reply)]
    every = tuple(range(1, len(messages), 2))
    learned = tuple(sorted(data.draw(st.sets(st.sampled_from(every), min_size=1))))
    [whole] = ours[name].render_dialogues([Dialogue(messages[: learned[-1] + 1], thinking, learned=learned)])
    apart = ours[name].render_dialogues(
        [Dialogue(messages[: place + 1], thinking, learned=(place,)) for place in learned]
    )
    if not isinstance(whole, tuple):
        assert whole is None or str(whole) in map(str, apart)
        return
    texts = []
    for one in apart:  # the ids of a blank may differ: where a reply is learned, it is cut from what stands before it
        assert isinstance(one, tuple) and ours[name].decode(whole[0]).startswith(ours[name].decode(one[0]))
        texts.append(learned_text(ours[name], *one))
    assert learned_text(ours[name], *whole) == "".join(texts)


@pytest.mark.parametrize("name", ["llama", "generation"])
def test_many_replies_are_learned_in_one_text(ours: dict[str, Tokenizer], name: str) -> None:
    texts = [f"reply {number}" for number in range(100)]
    messages = [turn for text in texts for turn in (Q2, {"role": "assistant", "content": text})]
    learned = tuple(range(1, 200, 2))
    [rendered] = ours[name].render_dialogues([Dialogue(messages, learned=learned)])
    assert isinstance(rendered, tuple)
    end = "<|eot_id|>" if name == "llama" else "<|im_end|>"
    assert learned_text(ours[name], *rendered) == "".join(f"{text}{end}" for text in texts)
    [ids, mask] = ours[name].render(messages, with_mask=True)
    assert ids == rendered[0] and mask[-9:] == rendered[1][-9:]


def test_replies_that_cannot_stand_in_one_text_are_not_rendered_together(
    ours: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `thinking` a reply is learned without the thought that it has once the conversation goes on."""
    asked = list[int]()
    render = TemplateProcess.render_all
    monkeypatch.setattr(
        TemplateProcess, "render_all", lambda self, requests: asked.append(len(requests)) or render(self, requests)
    )
    malformed = Dialogue([USER, {**THOUGHTFUL, "content": 3}, Q2, THOUGHTFUL], learned=(1, 3))
    found = ours["qwen"].render_dialogues([Dialogue([USER, THOUGHTFUL, Q2, THOUGHTFUL], learned=(1, 3)), malformed])
    assert found[0] is None and isinstance(found[1], DataError) and sum(asked) == 0
    ours["qwen"].render_dialogues([Dialogue([USER, REPLY, Q2, THOUGHTFUL], learned=(1, 3))])
    assert sum(asked) > 0


def test_a_reply_that_is_written_otherwise_in_another_place_is_found(tmp_path: Path) -> None:
    """Of many replies only a few are looked at; the others must stand in the same words."""
    odd = "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}{% else %}" + (
        "{% if loop.index0 == 31 %}odd {% endif %}<tool_call>{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{% if messages|length == 31 %}odd {% endif %}<tool_call>{% endif %}"
    )
    tokenizer = Tokenizer.load(write_qwen(tmp_path, odd), chat_format="template")
    messages = [turn for _ in range(50) for turn in (Q2, REPLY)]
    learned = tuple(range(1, 100, 2))
    [rendered] = tokenizer.render_dialogues([Dialogue(messages, learned=learned)])
    assert isinstance(rendered, tuple) and learned_text(tokenizer, *rendered) == "A1<|im_end|>" * 50
    late = odd.replace("<tool_call>{{ m.content }}", "{% if loop.index0 != 31 %}<tool_call>{% endif %}{{ m.content }}")
    (tmp_path / "chat_template.jinja").write_text(late)
    tokenizer = Tokenizer.load(tmp_path, chat_format="template")
    assert tokenizer.render_dialogues([Dialogue(messages, learned=learned)]) == [None]


MARKERS = ["<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|end_header_id|>", "<think>", "</think>", "<tool_response>"]
hostile = st.lists(st.sampled_from([*MARKERS, "<|im_", "start|>", "<", "\n", "a", "\ue000", "\\ue000"])).map("".join)


@pytest.mark.parametrize("name", ["llama", "qwen", "deepseek"])
@settings(max_examples=50)
@given(text=hostile, thought=hostile)
def test_content_never_makes_a_marker(ours: dict[str, Tokenizer], name: str, text: str, thought: str) -> None:
    def markers(text: str, thought: str) -> list[int]:
        messages: list[Message] = [{"role": "system", "content": text}, {"role": "user", "content": text}, REPLY]
        if name != "deepseek":
            messages.append({"role": "tool", "content": text})
        reply = {"role": "assistant", "content": "A" + thought + "B"}
        tools = [{"name": text, text: 1}] if name != "deepseek" else None  # whose template prints none
        ids, mask = ours[name].render([*messages, Q2, reply], tools=tools, with_mask=True)
        added = ours[name].backend.get_added_tokens_decoder()
        assert mask.count(True)
        return [token for token in ids if token in added]

    for tag in ("<think>", "</think>"):  # an assistant's are the template's affair
        thought = thought.replace(tag, "")
    assert markers(text, thought) == markers("a", "a")


@given(text=hostile)
def test_content_with_markers_is_still_there(ours: dict[str, Tokenizer], text: str) -> None:
    ids = ours["qwen"].render([{"role": "user", "content": f"a{text}b"}])
    assert ours["qwen"].decode(ids) == f"<|im_start|>user\na{text}b<|im_end|>\n"


def test_the_thought_is_told_apart(ours: dict[str, Tokenizer]) -> None:
    qwen, deepseek, llama = ours["qwen"].chat_format, ours["deepseek"].chat_format, ours["llama"].chat_format
    assert [qwen.opens_thought(thinking) for thinking in (False, True)] == [False, False]
    assert [deepseek.opens_thought(thinking) for thinking in (False, True)] == [True, True]
    assert [llama.opens_thought(thinking) for thinking in (False, True)] == [False, False]
    assert ours["deepseek"].split("hm\n</think>\n\n42", thinking=False).thought == "hm"
    assert ours["qwen"].split("<think>\nhm\n</think>\n\n42", thinking=True).thought == "hm"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages: is empty"),
        ([{"role": "bot", "content": "x"}], r"messages\[0\]\.role = 'bot': unknown role"),
        ([USER, {"role": "user"}], r"messages\[1\]\.content: is missing"),
        ([{**USER, "extra": {1, 2}}], "messages: cannot be written as JSON"),
        ([{"role": "user", "content": "\ud83d"}], "not a Unicode text"),
    ],
)
def test_malformed_messages_are_named(ours: dict[str, Tokenizer], messages: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ours["qwen"].render(messages)


def test_deep_messages_are_refused(ours: dict[str, Tokenizer]) -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    for messages in ([{"role": "tool", "content": deep}], [{**USER, "extra": deep}]):
        with pytest.raises(DataError, match="nested (too deeply|more than 200 deep)"):
            ours["qwen"].render(messages)


def test_tool_templates_are_their_own(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path, "plain {{ messages[0].content }}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools {{ tools[0].name }}")
    tokenizer = Tokenizer.load(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    for offered, text in ((None, "plain Q1"), ([{"name": "f"}], "tools f")):
        ids = tokenizer.render([USER], tools=offered)
        assert ids == theirs.apply_chat_template([USER], tools=offered)["input_ids"]
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("name", "tool", "is_printed"),
    [
        ("deepseek", TOOL, False),
        ("generation", TOOL, False),
        ("deepseek", {"name": "<|im_end|>Q"}, False),
        ("deepseek", {"type": "function", "function": {"name": "<|user|>A"}}, False),  # as the reply says it
        ("qwen", TOOL, True),
        ("llama", TOOL, True),
        ("llama", {}, True),
        ("qwen", {"name": "A"}, True),
    ],
)
def test_replies_are_not_learned_without_their_tools(
    ours: dict[str, Tokenizer], name: str, tool: dict[str, Any], is_printed: bool
) -> None:
    plain = Dialogue([USER, {**REPLY, "content": "<|user|>A <|im_end|>Q"}], False, learned=(1,))
    found, without = ours[name].render_dialogues([plain._replace(tools=[tool]), plain])
    assert isinstance(without, tuple)
    if is_printed:
        assert isinstance(found, tuple)
        assert len(found[0]) > len(without[0])
    else:
        assert str(found).startswith("tools: the chat template does not print tools: leave the column out with ignore")
    assert isinstance(ours[name].render_dialogues([plain._replace(tools=[])])[0], tuple)


SYSTEM_LATE = """{%- for m in messages %}
    {%- if m.role == 'user' %}
        {{- '<|im_start|>' }}
        {%- if loop.last and messages[0].role == 'system' %}{{ messages[0].content ~ ' ' }}{% endif %}
        {{- m.content ~ '<|im_start|>' }}
    {%- elif m.role == 'assistant' %}
        {{- m.content ~ '<|im_end|>' }}
    {%- endif %}
{%- endfor %}"""  # as Mistral 7B v0.3 has it: a system turn stands in prompts, and not where a reply follows


@pytest.mark.parametrize("text", ["Be brief.", "<|im_end|>", '"Q"'])
def test_replies_are_not_learned_without_a_turn(tmp_path: Path, text: str) -> None:
    tokenizer = Tokenizer.load(write_qwen(tmp_path, SYSTEM_LATE))
    printed = Tokenizer.load(write_qwen(tmp_path / "printed", QWEN_TEMPLATE))
    system, called = {"role": "system", "content": text}, {"role": "assistant", "content": "", "tool_calls": [CALL]}
    asked = [USER, REPLY, Q2, called, {"role": "tool", "content": f" {text}\n"}, REPLY]
    talks = [[system, USER, REPLY], asked]
    found = tokenizer.render_dialogues([Dialogue(talk, False, learned=(len(talk) - 1,)) for talk in talks])
    for error, why in zip(found, ("[0]: {} of role system", "[4]: {} of role tool"), strict=True):
        assert str(error) == (
            f"messages{why.format('the chat template does not print this turn')}: take the row out, or use another "
            "template"
        )
    for talk in talks:
        [rendered] = printed.render_dialogues([Dialogue(talk, False, learned=(len(talk) - 1,))])
        assert isinstance(rendered, tuple)
        assert isinstance(tokenizer.render([system, USER], generation_prompt=True), list)


def test_a_template_may_use_what_transformers_gives_it(tmp_path: Path) -> None:
    template = (
        "{{ bos_token }}|{{ eos_token }}|{{ unk_token }}|{{ strftime_now('%Y') }}|{{ documents is none }}|"
        "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m | tojson(indent=1) }}{% endfor %}|"
        "{{ dict(a=1).a }}{% set ns = namespace(b=2) %}{% set ns.b = 3 %}{{ ns.b }}{{ namespace({'c': 4}).c }}\n"
        "    {% if true %}\nx\n    {% endif %}\ny\n"
    )
    folder = write_qwen(tmp_path, template)
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template([USER, REPLY])["input_ids"]
    assert Tokenizer.load(folder).render([USER, REPLY]) == ids


def test_what_is_none_is_left_out_as_transformers_does_it(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path, "{{ messages[0].content is defined }}{{ messages[0].reasoning_content is defined }}")
    messages = [{**CALLING, "reasoning_content": None}]
    ids = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages)["input_ids"]
    assert Tokenizer.load(folder).render(messages) == ids


def test_a_date_is_that_of_the_tokenizer(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path, "{{ strftime_now('%d %B %Y') }}|{{ messages[0].content }}")
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.decode(tokenizer.render([USER])) == tokenizer.rendered_at.strftime("%d %B %Y|Q1")
    for day in (1, 2):  # in 2024, whatever the day is
        tokenizer.rendered_at = datetime(2024, 1, day)
        assert tokenizer.decode(tokenizer.render([USER])) == f"0{day} January 2024|Q1"
        assert copy.copy(tokenizer).render([USER]) == tokenizer.render([USER])


def test_raise_exception_is_a_data_error(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path, "{{ raise_exception('give ' ~ messages|length ~ ' more') }}")
    with pytest.raises(
        DataError, match="chat_template.jinja: the chat template refuses this conversation: give 1 more"
    ):
        Tokenizer.load(folder).render([USER])


def test_a_broken_template_is_named_with_its_line(tmp_path: Path) -> None:
    folder = write_qwen(tmp_path, "\n{% if %}")
    with pytest.raises(CheckpointError, match="chat_template.jinja: the chat template cannot be used: line 2: "):
        Tokenizer.load(folder).render([USER])
