"""Rows in the formats that other trainers document are learned as their authors meant them, or refused by name.

Expected is what EXAONE 4.0's format makes of the row, what is learned in « and »; a pair is a list of two.
"""

import itertools
import json

import pytest

from data.made_up import write_rows
from doubles import make_tokenizer
from open_exaone.base.errors import DataError
from open_exaone.data.check import check
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.prepare import prepare

TOKENIZER = make_tokenizer()
ASK = "[|assistant|]\n<think>\n\n</think>\n\n"
END = "[|endofturn|]"


def user(text="Q"):
    return f"[|user|]\n{text}{END}\n"


def system(text="S"):
    return f"[|system|]\n{text}{END}\n"


def reply(text="A"):
    return f"{ASK}«{text}{END}»\n"


def silent(text="A"):
    return f"{ASK}{text}{END}\n"


def thinks(thought="T", text="A"):
    return f"[|assistant|]\n<think>\n«{thought}\n</think>\n\n{text}{END}»\n"


WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
OFFER = (
    "[|system|]\n# Functions\nYou may call these functions. Each line describes one of them in JSON:\n{}\n"
    "\nTo call functions, write one line for each call, with the function's name and its arguments in JSON:\n"
    f'<tool_call>{{{{"name": "NAME", "arguments": {{{{"ARGUMENT": "VALUE"}}}}}}}}</tool_call>{END}\n'
)
OFFERED = OFFER.format(json.dumps(WEATHER))
OFFERED_OPENAI = OFFER.format(json.dumps({"type": "function", "function": WEATHER}))
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Seoul"}}</tool_call>'
RESULT = f'[|tool|]\n<tool_result>{{"result": "sunny"}}</tool_result>{END}\n'
CALLED = {"name": "weather", "arguments": {"city": "Seoul"}}
Q, A, B = ({"role": role, "content": text} for role, text in (("user", "Q"), ("assistant", "A"), ("assistant", "B")))
S = {"role": "system", "content": "S"}
HUMAN, GPT = {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}
NO_TURNS = {"name": None, "tool_calls": None, "tool_call_id": None}

SFT = {
    "TRL, conversational": ({"messages": [S, Q, A]}, system() + user() + reply()),
    "ms-swift, a turn's loss_scale": (
        {"messages": [Q, {**B, "loss_scale": 0}, Q, {**A, "loss_scale": 1.0, "prefix": False}]},
        user() + silent("B") + user() + reply(),
    ),
    "ShareGPT, with Arrow's nulls for another set's keys": (
        {"conversations": [{**HUMAN, "role": None, "content": None}, {**GPT, "role": None, "content": None}]},
        user() + reply(),
    ),
    "TRL, prompt and completion": ({"prompt": "Q", "completion": "A"}, user() + reply()),
    "TRL, prompt and completion of turns": ({"prompt": [S, Q], "completion": [A]}, system() + user() + reply()),
    "TRL, tools as JSON text": (
        {
            "messages": [
                Q,
                {"role": "assistant", "tool_calls": [{"type": "function", "function": CALLED}]},
                {"role": "tool", "name": "weather", "content": "sunny"},
                A,
            ],
            "tools": json.dumps([{"type": "function", "function": WEATHER}]),
        },
        OFFERED_OPENAI + user() + reply(CALL) + RESULT + reply(),
    ),
    "TRL, every key that Arrow gives": (
        {
            "messages": [
                {**Q, **NO_TURNS},
                {
                    **NO_TURNS,
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{**CALLED, "id": None, "arguments": {"city": "Seoul", "day": None}}],
                },
                {**NO_TURNS, "role": "tool", "content": "sunny", "tool_call_id": "1"},
                {**A, **NO_TURNS},
            ],
            "tools": [{**WEATHER, "strict": None, "description": None}],
        },
        OFFERED + user() + reply(CALL) + RESULT + reply(),
    ),
    "LLaMA-Factory, Alpaca": (
        {"instruction": "Q", "input": "more", "output": "A", "system": "S", "history": [["Q1", "A1"], ["Q2", "A2"]]},
        system() + user("Q1") + reply("A1") + user("Q2") + reply("A2") + user("Q\n\nmore") + reply(),
    ),
    "LLaMA-Factory, Alpaca without what is optional": (
        {"instruction": "Q", "input": "", "output": "A", "system": "", "history": []},
        user() + reply(),
    ),
    "LLaMA-Factory, ShareGPT": (
        {"conversations": [HUMAN, GPT], "system": "S", "tools": json.dumps([WEATHER])},
        OFFERED.replace("[|system|]\n", "[|system|]\nS\n\n") + user() + reply(),
    ),
    "LLaMA-Factory, ShareGPT with calls": (
        {
            "conversations": [
                HUMAN,
                {"from": "function_call", "value": json.dumps(CALLED)},
                {"from": "observation", "value": "sunny"},
                GPT,
            ],
            "tools": json.dumps([WEATHER]),
        },
        OFFERED + user() + reply(CALL) + RESULT + reply(),
    ),
    "axolotl, chat_template with train": (
        {
            "messages": [
                {"role": "system", "content": "S", "train": False},
                {**Q, "training": False},
                {**A, "train": False},
                {"role": "user", "content": "Q2"},
                {**B, "train": True},
            ]
        },
        system() + user() + silent() + user("Q2") + reply("B"),
    ),
    "axolotl, ShareGPT with weight": (
        {"conversations": [HUMAN, {**GPT, "weight": 0}, HUMAN, {**GPT, "value": "B", "weight": 1}]},
        user() + silent() + user() + reply("B"),
    ),
    "axolotl, a last turn that is not learned": (
        {"messages": [Q, A, Q, {**B, "weight": 0.0}]},
        user() + reply(),
    ),
    "axolotl, alpaca without instruction": ({"input": "Q", "output": "A"}, user() + reply()),
    "OpenRLHF": ({"input": [Q], "output": "A"}, user() + reply()),
    "ms-swift, query and response": (
        {"system": "S", "query": "Q", "response": "A", "history": [["Q1", "A1"]]},
        system() + user("Q1") + reply("A1") + user() + reply(),
    ),
    "ms-swift, loss": (
        {"messages": [Q, {**A, "loss": False}, Q, {**B, "loss": True}]},
        user() + silent() + user() + reply("B"),
    ),
    "ms-swift, calls side by side": (
        {
            "messages": [
                Q,
                {"role": "tool_call", "content": json.dumps(CALLED)},
                {"role": "tool_call", "content": json.dumps(CALLED)},
                {"role": "tool_response", "content": "sunny"},
                A,
            ],
            "tools": json.dumps([WEATHER]),
        },
        OFFERED + user() + reply(f"{CALL}\n{CALL}") + RESULT + reply(),
    ),
    "NeMo-RL, OpenAI's form": (
        {"messages": [Q, {**A, "thinking": None, "function_call": None}], "task_name": "sft"},
        user() + reply(),
    ),
    "OpenAI, parts of text": ({"messages": [{**Q, "content": [{"type": "text", "text": "Q"}]}, A]}, user() + reply()),
    "OpenAI, functions": (
        {
            "messages": [
                Q,
                {"role": "assistant", "content": None, "function_call": {**CALLED, "arguments": '{"city": "Seoul"}'}},
                {"role": "function", "name": "weather", "content": "sunny"},
                A,
            ],
            "functions": [WEATHER],
        },
        OFFERED + user() + reply(CALL) + RESULT + reply(),
    ),
    "OpenOrca": ({"id": "x", "system_prompt": "S", "question": "Q", "response": "A"}, system() + user() + reply()),
    "Dolly": ({"instruction": "Q", "context": "C", "response": "A", "category": "qa"}, user("Q\n\nC") + reply()),
    "a developer's turn and a thought": (
        {"messages": [{**S, "role": "developer"}, Q, {**A, "reasoning_content": "T"}]},
        system() + user() + thinks(),
    ),
    "a prompt beside its messages": ({"prompt": "Q", "prompt_id": "1", "messages": [Q, A]}, user() + reply()),
}
PAIRS = {
    "TRL, explicit prompt": ({"prompt": [S, Q], "chosen": [A], "rejected": [B]}, system() + user()),
    "TRL, implicit prompt": ({"chosen": [S, Q, A], "rejected": [S, Q, B]}, system() + user()),
    "UltraFeedback": ({"prompt": "Q", "chosen": [Q, A], "rejected": [Q, B], "messages": [Q, A]}, user()),
    "LLaMA-Factory, Alpaca": (
        {"instruction": "Q", "input": "more", "system": "S", "history": [["Q1", "A1"]], "chosen": "A", "rejected": "B"},
        system() + user("Q1") + silent("A1") + user("Q\n\nmore"),
    ),
    "LLaMA-Factory, ShareGPT": (
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "B"}, "system": "S"},
        system() + user(),
    ),
    "axolotl, chat_template.default": ({"messages": [S, Q], "chosen": A, "rejected": B}, system() + user()),
    "axolotl, chatml.intel": ({"system": "S", "question": "Q", "chosen": "A", "rejected": "B"}, system() + user()),
    "axolotl, chatml.icr": ({"system": "S", "input": "Q", "chosen": "A", "rejected": "B"}, system() + user()),
    "axolotl, chatml.argilla": (
        {"system": "S", "instruction": "Q", "chosen_response": "A", "rejected_response": "B"},
        system() + user(),
    ),
    "ms-swift": ({"messages": [S, Q, A], "rejected_response": "B"}, system() + user()),
    "ms-swift, whole conversations": ({"messages": [Q, A], "rejected_messages": [Q, B]}, user()),
}
NEMO = {"context": [Q], "completions": [{"rank": 1, "completion": [B]}, {"rank": 0, "completion": [A]}]}
PROBLEMS = {
    "verl": (
        {
            "data_source": "gsm8k",
            "prompt": [Q],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "5"},
            "extra_info": {"index": 0},
        },
        {},
        {"data_source": "gsm8k", "ability": "math", "extra_info": {"index": 0}},
    ),
    "TRL, GRPO": ({"prompt": [Q], "solution": "It is \\boxed{5}."}, {}, {}),
    "OpenRLHF": ({"input": "Q", "label": "5"}, {"fields": {"question": "input", "answer": "label"}}, {}),
    "NeMo-RL": (
        {"input": "Q", "output": "5"},
        {"format": "problems", "fields": {"question": "input", "answer": "output"}},
        {},
    ),
    "ms-swift, GRPO": (
        {"messages": [Q], "solution": "\\boxed{5}"},
        {"format": "problems", "fields": {"question": "messages"}},
        {},
    ),
}


def prepared(tmp_path, row, kind, source=None):
    path = write_rows(tmp_path / "rows.jsonl", [row])
    config = SourceConfig(path=path, **(source or {}))
    report = check(config)
    assert (report.good, report.bad) == (1, [])
    return prepare(DataConfig(sources=(config,)), TOKENIZER, tmp_path / "out", kind=kind, max_tokens=4000)


def marked(document):
    """A document's text, what is learned in « and »."""
    runs = itertools.groupby(zip(document.ids, document.loss_mask, strict=True), key=lambda pair: bool(pair[1]))
    texts = [(learned, TOKENIZER.decode([int(id) for id, _ in run])) for learned, run in runs]
    return "".join(f"«{text}»" if learned else text for learned, text in texts)


@pytest.mark.parametrize("name", SFT)
def test_conversations(tmp_path, name):
    row, expected = SFT[name]
    assert [marked(document) for document in prepared(tmp_path, row, "sft").documents] == [expected]


@pytest.mark.parametrize("name", [*PAIRS, "NeMo-RL"])
def test_pairs(tmp_path, name):
    row, prompt = (NEMO, user()) if name == "NeMo-RL" else PAIRS[name]
    source = {"fields": {"messages": "context"}} if name == "NeMo-RL" else None
    [pair] = prepared(tmp_path, row, "preference", source).units
    assert [marked(document) for document in pair] == [prompt + reply("A"), prompt + reply("B")]


UNPAIRED = {
    "TRL": {"prompt": "Q", "completion": "A", "label": True},
    "TRL, turns": {"prompt": [Q], "completion": [A], "label": True},
    "LLaMA-Factory": {"instruction": "Q", "output": "A", "kto_tag": True},
    "LLaMA-Factory, ShareGPT": {
        "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],
        "kto_tag": True,
    },
    "ms-swift": {"messages": [Q, A], "label": True},
}


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("name", UNPAIRED)
def test_unpaired_preferences(tmp_path, name, label):
    row = {key: label if value is True else value for key, value in UNPAIRED[name].items()}
    [[document]] = prepared(tmp_path, row, "preference").units
    assert marked(document) == user() + reply("A")
    assert document.advantage == (1.0 if label else -1.0)

    data = DataConfig(sources=(SourceConfig(path=str(tmp_path / "rows.jsonl")),))
    with pytest.raises(DataError, match="its rows have the format unpaired; sft trains on messages"):
        prepare(data, TOKENIZER, tmp_path / "sft", kind="sft", max_tokens=99)
    column = "kto_tag" if "kto_tag" in row else "label"
    read = "messages" if {"messages", "conversations"} & row.keys() else "prompt_completion"
    [error] = check(SourceConfig(path=str(tmp_path / "rows.jsonl"), format=read)).bad
    assert error.field == column and "learn it with KTO" in str(error)
    assert check(SourceConfig(path=str(tmp_path / "rows.jsonl"), ignore=(column,))).format == read


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems(tmp_path, name):
    row, source, metadata = PROBLEMS[name]
    [problem] = prepared(tmp_path, row, "rl", source).problems
    assert (problem.question, problem.answer, dict(problem.metadata)) == ("Q", "5", metadata)


TALK = {"messages": [Q, A]}
REFUSED = {
    "images": ({**TALK, "images": ["a.png"]}, "images"),
    "an image within a prompt": ({"prompt": "<image>Q", "completion": "A", "image": {"bytes": "x"}}, "image"),
    "an image's part": (
        {"messages": [{**Q, "content": [{"type": "image_url", "image_url": "x"}]}, A]},
        "messages[0].content",
    ),
    "a turn's images": ({"messages": [{**Q, "images": ["x"]}, A]}, "messages[0].images"),
    "a tool's image": (
        {"messages": [Q, {**A, "tool_calls": [CALLED]}, {"role": "tool", "content": [{"type": "image"}]}, A]},
        "messages[2].content",
    ),
    "a video of a problem": ({"question": "Q", "answer": "5", "videos": ["a.mp4"]}, "videos"),
    "a history beside messages": ({**TALK, "history": [["Q", "A"]]}, "history"),
    "a thought beside messages": ({**TALK, "reasoning": "T"}, "reasoning"),
    "a thought beside a pair": ({"prompt": "Q", "chosen": "A", "rejected": "B", "thinking": "T"}, "thinking"),
    "a problem's system": ({"question": "Q", "answer": "5", "system": "S"}, "system"),
    "a problem's tools": ({"question": "Q", "answer": "5", "tools": [WEATHER]}, "tools"),
    "a problem's context": ({"question": "Q", "answer": "5", "context": "C"}, "context"),
    "two systems": ({"messages": [S, Q, A], "system": "other"}, "system"),
    "two prompts": ({"prompt": "other", "chosen": [Q, A], "rejected": [Q, B]}, "prompt"),
    "a prompt that holds the instruction": (
        {"instruction": "Q", "prompt": "### Q\n### A", "output": "A"},
        "instruction",
    ),
    "two replies": ({"prompt": "Q", "response": "A", "output": "B"}, "output"),
    "half a weight": ({"messages": [Q, {**A, "weight": 0.5}]}, "messages[1].weight"),
    "a row's weight": ({**TALK, "weight": 0}, "weight"),
    "a row that is not trained on": ({"prompt": "Q", "completion": "A", "train": False}, "train"),
    "a pair that is not learned": ({"prompt": "Q", "chosen": "A", "rejected": "B", "loss": 0.0}, "loss"),
    "a reply that is to go on": ({"messages": [Q, {**A, "prefix": True}]}, "messages[1].prefix"),
    "half a loss": ({"messages": [Q, {**A, "loss_scale": 0.5}]}, "messages[1].loss_scale"),
    "tools by their names": ({**TALK, "tools": {"weather": WEATHER}}, "tools[0]"),
    "arguments with a key twice": (
        {"messages": [Q, {**A, "tool_calls": [{"name": "f", "arguments": '{"a": 1, "a": 2}'}]}]},
        "messages[1].tool_calls[0].arguments",
    ),
    "a question that is learned": ({"messages": [{**Q, "train": True}, A]}, "messages[0].train"),
    "parts of a turn that are learned": (
        {"messages": [Q, {**A, "training_detail": [{}]}]},
        "messages[1].training_detail",
    ),
    "a pair's turn that is not learned": ({"prompt": "Q", "chosen": [{**A, "weight": 0}], "rejected": [B]}, "chosen"),
    "two thoughts": ({"messages": [Q, {**A, "thinking": "T", "reasoning": "U"}]}, "messages[1]"),
    "a user's thought": ({"messages": [{**Q, "thinking": "T"}, A]}, "messages[0].thinking"),
    "a user's call": ({"messages": [{**Q, "tool_calls": [CALLED]}, A]}, "messages[0].tool_calls"),
    "a call that is no JSON": (
        {"conversations": [HUMAN, {"from": "function_call", "value": "weather()"}, GPT]},
        "conversations[1].value",
    ),
    "tools that are no JSON": ({**TALK, "tools": "weather"}, "tools"),
    "a history of texts": ({"instruction": "Q", "output": "A", "history": ["Q1", "A1"]}, "history[0]"),
    "a history beside whole conversations": (
        {"chosen": [Q, A], "rejected": [Q, B], "history": [["Q1", "A1"]]},
        "history",
    ),
    "an input beside whole conversations": ({"messages": [Q, A], "rejected_response": "B", "input": "more"}, "input"),
    "a name that is no text": ({"messages": [{**Q, "name": ["ann"]}, A]}, "messages[0].name"),
    "a thought that is no text": ({"messages": [Q, {**A, "thinking": ["T"]}]}, "messages[1].thinking"),
    "a prompt and another question": ({"prompt": "P", "question": "Q", "response": "A"}, "question"),
    "a problem's prompt and another question": ({"prompt": "P", "question": "Q", "answer": "5"}, "question"),
    "a problem's input": ({"question": "Sum it.", "input": "1 2", "answer": "3"}, "input"),
    "a question beside whole conversations": ({"question": "P", "chosen": [Q, A], "rejected": [Q, B]}, "question"),
    "sides of a pair that ask different questions": (
        {"chosen": [S, Q, A], "rejected": [S, {**Q, "content": "other"}, B]},
        "chosen",
    ),
    "input beside turns": ({"prompt": [Q], "input": "more", "completion": "A"}, "input"),
    "tools of 5 million characters": ({**TALK, "tools": [{**WEATHER, "description": "x" * 5_000_000}]}, ""),
    "a result of 5 million characters": (
        {"messages": [Q, {**A, "tool_calls": [CALLED]}, {"role": "tool", "content": {"a": "x" * 5_000_000}}, A]},
        "",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_with_its_line_and_field(tmp_path, name):
    row, field = REFUSED[name]
    path = write_rows(tmp_path / "rows.jsonl", [row])
    [error] = check(path).bad
    assert (error.number, error.field) == (1, field)
    kind = (
        "preference"
        if {"chosen", "rejected_response"} & row.keys()
        else "rl"
        if {"question", "answer"} <= row.keys()
        else "sft"
    )
    with pytest.raises(DataError) as raised:
        prepare(DataConfig(sources=(SourceConfig(path=path),)), TOKENIZER, tmp_path / "out", kind=kind, max_tokens=99)
    assert str(raised.value).startswith(str(error))


@pytest.mark.parametrize(
    "row",
    [
        {**TALK, "tools": [{**WEATHER, "description": "\ud800"}]},
        {"messages": [Q, {**A, "tool_calls": [CALLED]}, {"role": "tool", "content": {"a": "\ud800"}}, A]},
    ],
)
def test_half_a_surrogate_pair_is_a_bad_row_wherever_it_stands(tmp_path, row):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    [error] = check(str(path)).bad
    assert (error.number, error.reason) == (1, "not Unicode")


@pytest.mark.parametrize("name", ["images", "a history beside messages", "a problem's system", "two prompts"])
def test_columns_can_be_ignored(tmp_path, name):
    row, field = REFUSED[name]
    assert check(SourceConfig(path=write_rows(tmp_path / "rows.jsonl", [row]), ignore=(field,))).good == 1


@pytest.mark.parametrize("depth", [90, 400])
@pytest.mark.parametrize("name", ["images", "history", "tools", "system", "input", "thought", "label", "functions"])
def test_columns_of_any_depth_break_nothing(tmp_path, name, depth):
    value = []
    for _ in range(depth):
        value = [value, None]
    row = {"prompt": "Q", "completion": "A", "tools": [WEATHER], name: value}
    report = check(write_rows(tmp_path / "rows.jsonl", [row]))
    assert report.rows == 1


def test_every_field_can_be_named(tmp_path):
    row = {"s": "S", "h": [["Q1", "A1"]], "p": "Q", "i": "more", "c": "A", "f": [WEATHER]}
    fields = {"system": "s", "history": "h", "prompt": "p", "input": "i", "completion": "c", "tools": "f"}
    [document] = prepared(tmp_path, row, "sft", {"fields": fields}).documents
    head = OFFERED.replace("[|system|]\n", "[|system|]\nS\n\n")
    assert marked(document) == head + user("Q1") + reply("A1") + user("Q\n\nmore") + reply()


@pytest.mark.parametrize("name", ["system", "weight"])
def test_pretraining_learns_every_token_or_none(tmp_path, name):
    row = {"messages": [{**S, "train": False}, Q, A]} if name == "system" else {"messages": [Q, {**A, "weight": 0}]}
    if name == "weight":
        with pytest.raises(DataError, match="nothing learned"):
            prepared(tmp_path, row, "pretrain")
    else:
        [document] = prepared(tmp_path, row, "pretrain").documents
        assert all(document.loss_mask)


def test_the_nulls_of_parquet_are_no_part_of_tools_and_calls(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    other = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number", "minimum": 0}}}}
    rows = [
        {
            "messages": [Q, {"role": "assistant", "tool_calls": [CALLED]}, {"role": "tool", "content": "sunny"}, A],
            "tools": [WEATHER],
        },
        {
            "messages": [Q, {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]}],
            "tools": [other],
        },
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    data = DataConfig(sources=(SourceConfig(path=str(tmp_path / "rows.parquet")),))
    documents = prepare(data, TOKENIZER, tmp_path / "out", kind="sft", max_tokens=4000).documents
    call = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    expected = [
        OFFERED + user() + reply(CALL) + RESULT + reply(),
        OFFER.format(json.dumps(other)) + user() + reply(call),
    ]
    texts = [marked(document) for document in documents]
    assert "null" not in "".join(texts)
    assert [json.loads(line) for line in texts[0].splitlines() if line.startswith('{"name"')] == [WEATHER]
    assert len(texts) == len(expected) and texts[1].endswith(user() + reply(call))
