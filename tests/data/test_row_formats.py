"""The field's formats are known by their columns and parsed; what is wrong with a row is said with its field."""

import json
import math
from dataclasses import asdict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.made_up import COMPLETION, PAIR, PROBLEM, TALK, TEXT, THOUGHT
from open_exaone.base.records import Problem
from open_exaone.base.tables import Row, RowError
from open_exaone.data.columns import FORMATS, detect_format
from open_exaone.data.config import KNOWN, SourceConfig
from open_exaone.data.row_formats import RowParser
from open_exaone.data.rows import Conversation, Example, Pair, Text

USER, REPLY = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
THINKS = {**REPLY, "reasoning_content": "T"}


def parse(value, **settings):
    source = SourceConfig(path="rows.jsonl", **settings)
    format = detect_format(value, source) if source.format == "auto" else source.format
    assert format is not None
    return RowParser(format, source).parse(Row("rows.jsonl", 7, value))[0]


@pytest.mark.parametrize(
    ("value", "format", "content"),
    [
        ({"messages": [USER, REPLY]}, "messages", Conversation((USER, REPLY))),
        (
            {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
            "messages",
            Conversation((USER, REPLY)),
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, REPLY]},
            "messages",
            Conversation((USER, REPLY)),
        ),
        (
            {"messages": [USER, {**REPLY, "content": "<think>\nT\n</think>\n\nA"}]},
            "messages",
            Conversation((USER, THINKS)),
        ),
        ({"messages": [USER, {**REPLY, "content": "<thought>T</thought>A"}]}, "messages", Conversation((USER, THINKS))),
        ({"messages": [USER, {**REPLY, "content": "T\n</think>\n\nA"}]}, "messages", Conversation((USER, THINKS))),
        ({"messages": [USER, {**REPLY, "thinking": "T"}]}, "messages", Conversation((USER, THINKS))),
        ({"prompt": "Q", "completion": "A"}, "prompt_completion", Conversation((USER, REPLY))),
        ({"prompt": [USER], "completion": [REPLY]}, "prompt_completion", Conversation((USER, REPLY))),
        ({"prompt": "Q", "response": "A", "thinking": "T"}, "prompt_completion", Conversation((USER, THINKS))),
        (
            {"instruction": "Add.", "input": "2, 3", "output": "A"},
            "prompt_completion",
            Conversation(({**USER, "content": "Add.\n\n2, 3"}, REPLY)),
        ),
        (
            {"prompt": "Q", "chosen": "A", "rejected": "B"},
            "pairs",
            Pair((USER,), (REPLY,), ({**REPLY, "content": "B"},)),
        ),
        (
            {"prompt": [USER], "chosen": [THINKS], "rejected": [REPLY]},
            "pairs",
            Pair((USER,), (THINKS,), (REPLY,)),
        ),
        ({"chosen": [USER, THINKS], "rejected": [USER, REPLY]}, "pairs", Pair((USER,), (THINKS,), (REPLY,))),
        (
            {"prompt": "Q", "chosen": [USER, REPLY, USER, THINKS], "rejected": [USER, REPLY, USER, REPLY]},
            "pairs",
            Pair((USER, REPLY, USER), (THINKS,), (REPLY,)),
        ),
        ({"prompt": "Q", "completion": "A", "label": True}, "unpaired", Conversation((USER, REPLY), label=True)),
        ({"messages": [USER, THINKS], "label": False}, "unpaired", Conversation((USER, THINKS), label=False)),
        ({"prompt": "Q", "completion": "A", "label": 1}, "prompt_completion", Conversation((USER, REPLY))),
        ({"text": "Plain.", "meta": 1}, "text", Text("Plain.")),
    ],
)
def test_a_row_of_each_format_is_known_and_read(value, format, content):
    assert detect_format(value, SourceConfig(path="x")) == format
    assert parse(value).content == content


@pytest.mark.parametrize(
    ("value", "answer", "reply"),
    [
        ({"question": "Q", "answer": "so 1,234\n#### 1,234"}, "1234", "so 1,234\n#### 1,234"),
        ({"question": "Q", "answer": "#### 5"}, "5", None),
        ({"problem": "Q", "solution": r"So \boxed{\frac{1}{2}}.", "answer": "0.5"}, "0.5", r"So \boxed{\frac{1}{2}}."),
        ({"problem": "Q", "solution": r"So \boxed{\frac{1}{2}}."}, r"\frac{1}{2}", r"So \boxed{\frac{1}{2}}."),
        ({"question": "Q", "answer": 5}, "5", None),
        ({"question": "Q", "answer": "A", "choices": ["x", "y"]}, "A", None),
        ({"question": "Q", "answer": 1, "choices": ["x", "y"]}, "B", None),
        ({"question": "Q", "answer": "y", "choices": ["x", "y"]}, "B", None),
    ],
)
def test_the_answer_of_a_problem_is_found(value, answer, reply):
    problem = parse(value).content
    assert isinstance(problem, Problem)
    assert (problem.answer, problem.reply) == (answer, reply)
    assert problem.verifier == ("choice" if "choices" in value else "math")


@pytest.mark.parametrize(
    ("value", "thought", "reply"),
    [
        ({"answer": "6 + 1 = <<6+1=7>>7\n#### 1,007"}, "6 + 1 = 7", r"\boxed{1007}"),
        ({"solution": "6 < 7 << 8 and\n6 > 1\n#### 7"}, "6 < 7 << 8 and\n6 > 1", r"\boxed{7}"),
        ({"solution": r"So \boxed{\frac{1}{2}}."}, r"So \boxed{\frac{1}{2}}.", r"\boxed{\frac{1}{2}}"),
        ({"solution": "It is half.", "answer": "0.5"}, "It is half.", r"\boxed{0.5}"),
        ({"solution": "Hm.", "answer": "5", "thought": "T", "reply": "R"}, "T", "R"),
    ],
)
def test_a_worked_solution_may_be_the_thought(value, thought, reply):
    example = parse({"question": "Q", **value}, solution_as="thought", mode="reasoning")
    assert (example.content.thought, example.content.reply) == (thought, reply)


@pytest.mark.parametrize("answer", ["5", "#### 5", "<<5=5>>\n#### 5"])
def test_a_problem_without_a_worked_solution_gives_no_thought(answer):
    error = parse({"question": "Q", "answer": answer}, solution_as="thought")
    assert (error.file, error.number, error.field, error.reason) == ("rows.jsonl", 7, "answer", "no solution")
    assert "worked solution" in error.why and "solution_as" in error.fix
    assert parse({"question": "Q", "answer": answer}).content.answer == "5"


def test_a_problem_keeps_what_its_verifier_may_need():
    row = {"id": 3, "question": "사과는 몇 개?", "answer": "5", "tests": ["t"], "subject": "수학", "empty": None}
    example = parse(row, fields={"domain": "subject"}, verifier="code")
    problem = example.content
    assert (example.id, example.domain, problem.language, problem.verifier) == ("3", "수학", "ko", "code")
    assert dict(problem.metadata) == {"tests": ["t"]}


@pytest.mark.parametrize(("first_option", "answer", "label"), [(0, "1", "B"), (1, "1", "A"), (1, 2, "B")])
def test_what_an_options_number_counts_from_can_be_said(first_option, answer, label):
    row = {"question": "Q", "answer": answer, "options": ["5", "1"]}
    assert parse(row, first_option=first_option).content.answer == label
    assert parse({**row, "answer": "1"}).reason == "ambiguous answer"


@pytest.mark.parametrize(
    "text",
    [
        "Close it with </think> and go on.",
        "Write:\n<think>\nT\n</think>\nThat is all.",
        "T</think>A",  # not on a line of its own
        "The tag <think> opens it,\n</think>\ncloses it.",
    ],
)
@pytest.mark.parametrize("mode", ["auto", "non_reasoning"])
def test_a_reply_that_speaks_of_tags_stays_whole(text, mode):
    for row in ({"prompt": "Q", "completion": text}, {"messages": [USER, {**REPLY, "content": text}]}):
        assert parse(row, mode=mode).content.messages[-1] == {**REPLY, "content": text}


@pytest.mark.parametrize(
    "text",
    [
        "<think>I write </think> here.</think>\n\nA",
        "<think>T</think>The tag </think> closes it.",
        "T\n</think>\nIt was </think>.",
        "T\n</think>\nIt was <think>.",
    ],
)
def test_a_thought_of_which_nobody_knows_the_end_is_refused(text):
    error = parse({"prompt": "Q", "completion": text})
    assert (error.field, error.reason) == ("completion", "ambiguous thought")


@pytest.mark.parametrize("text", ["T\n</think>\n\nA", "T\r\n </think> \r\nA", "T\n</thought>\nA"])
def test_a_thought_that_its_prompt_opened_is_split_off(text):
    assert parse({"prompt": "Q", "completion": text}).content.messages[-1] == THINKS


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("Infinity")])
def test_an_answer_that_is_no_number_is_refused(value):
    error = parse({"question": "Q", "answer": value})
    assert (error.field, error.reason) == ("answer", "not finite")


def test_a_decimal_answer_is_taken_as_it_is_written():
    assert parse({"question": "Q", "answer": Decimal("1.50")}).content.answer == "1.50"
    assert parse({"question": "Q", "answer": Decimal("2E+3")}).content.answer == "2000"


@pytest.mark.parametrize("name", ["metadata", "question"])
@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_values_within_values_are_refused_where_they_would_break_copying(name, wrap):
    def nested(depth):
        value = "x"
        for _ in range(depth):
            value = wrap(value)
        return {**PROBLEM, name: value}

    error = parse(nested(800), format="problems")
    assert (error.reason, error.number) == ("too deep", 7)
    if name == "metadata":
        assert json.loads(json.dumps(asdict(parse(nested(90)).content)))["metadata"]


def test_half_a_surrogate_pair_in_a_column_can_be_printed():
    error = parse({"messages": [USER], "\udc00": 1})
    assert isinstance(error, RowError)
    error = parse({"\udc00": 1}, format="text")
    assert str(error).encode() and r"the row has \udc00" in str(error)
    assert parse({**PROBLEM, "\udc00": "\udc00"}, fields={"domain": "\udc00"}).domain == r"\udc00"


def test_columns_can_be_named_also_within_objects():
    row = {"ask": "Q", "reward_model": {"ground_truth": "5"}, "a.b": 1}
    example = parse(row, fields={"question": "ask", "answer": "reward_model.ground_truth"})
    assert (example.content.question, example.content.answer, dict(example.content.metadata)) == ("Q", "5", {"a.b": 1})


def turns(*roles):
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        (turns("user"), "messages", "no assistant turn"),
        (turns("user", "assistant", "user"), "messages[2].role", "wrong role"),
        (turns("user", "user", "assistant"), "messages[1].role", "wrong role"),
        (turns("user", "assistant", "assistant"), "messages[2].role", "wrong role"),
        (turns("assistant"), "messages[0].role", "wrong role"),
        (turns("user", "system", "assistant"), "messages[1].role", "wrong role"),
        (turns("user", "tool", "assistant"), "messages[1].role", "wrong role"),
        (turns("user", "bystander", "assistant"), "messages[1].role", "wrong role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "wrong role"),
        ({"messages": []}, "messages", "empty"),
        ({"messages": "hello"}, "messages", "wrong type"),
        ({"messages": ["hello"]}, "messages[0]", "wrong type"),
        ({"messages": [{"role": "user", "content": " "}, REPLY]}, "messages[0].content", "empty"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "messages[1].content", "empty"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "messages[1].content", "empty"),
        ({"messages": [USER, {"role": "assistant", "content": 5}]}, "messages[1].content", "wrong type"),
        ({"messages": [{**USER, "content": [{"type": "image"}]}, REPLY]}, "messages[0].content", "wrong type"),
        ({"messages": [USER, {**REPLY, "content": "<think>T"}]}, "messages[1].content", "unclosed thought"),
        ({"messages": [USER, {**REPLY, "content": "<think>T</think>"}]}, "messages[1].content", "empty"),
        (
            {"messages": [USER, {**THINKS, "content": "<think>S</think>A"}]},
            "messages[1].content",
            "two thoughts",
        ),
        ({"messages": [USER, {**REPLY, "tool_calls": [{}]}]}, "messages[1].tool_calls[0]", "malformed turn"),
        ({"messages": [USER, REPLY], "tools": "t"}, "tools", "not JSON"),
        ({"messages": [USER, REPLY], "tools": 5}, "tools", "wrong type"),
        ({"messages": [USER, REPLY], "tools": ["1"]}, "tools[0]", "wrong type"),
        ({"messages": [USER, {**REPLY, "content": "\ud83d"}]}, "", "not Unicode"),
        ({"prompt": "", "completion": "A"}, "prompt", "empty"),
        ({"prompt": [USER, REPLY], "completion": "A"}, "prompt[1].role", "wrong role"),
        ({"prompt": "Q", "completion": 5}, "completion", "wrong type"),
        ({"prompt": "Q", "chosen": "A", "rejected": "A"}, "rejected", "same replies"),
        ({"chosen": "A", "rejected": "B"}, "prompt", "missing field"),
        ({"chosen": [USER, REPLY], "rejected": [{**USER, "content": "other"}, REPLY]}, "chosen", "wrong role"),
        ({"question": "", "answer": "5"}, "question", "empty"),
        ({"question": "Q", "answer": " "}, "answer", "empty"),
        ({"question": "Q", "answer": "####"}, "answer", "empty"),
        ({"question": "Q", "answer": ["5"]}, "answer", "wrong type"),
        ({"question": "Q", "solution": "So 5."}, "answer", "missing field"),
        ({"question": "Q", "answer": 2, "choices": ["x", "y"]}, "answer", "wrong answer"),
        ({"question": "Q", "answer": "z", "choices": ["x", "y"]}, "answer", "wrong answer"),
        ({"question": "Q", "answer": "A", "choices": ["x"]}, "choices", "wrong type"),
        ({"text": 5}, "text", "wrong type"),
        ({"text": "\n"}, "text", "empty"),
    ],
)
def test_a_bad_row_is_named_with_its_field(value, field, reason):
    error = parse(value)
    assert isinstance(error, RowError)
    assert (error.file, error.number, error.field, error.reason) == ("rows.jsonl", 7, field, reason)
    assert str(error).startswith("rows.jsonl: line 7: ")


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ({"prompt": "Q", "completion": "A", "label": "good"}, "label", "wrong type"),
        ({"prompt": "Q", "completion": "A", "label": 1}, "label", "wrong type"),
        ({"prompt": "Q", "completion": "A"}, "", "mixed schema"),
        ({"prompt": "Q", "completion": "A", "label": True, "kto_tag": False}, "kto_tag", "two columns"),
        ({"prompt": "Q", "completion": " ", "label": True}, "completion", "empty"),
        ({"messages": [USER, {**REPLY, "train": False}], "label": True}, "messages", "not read"),
        ({"messages": [USER], "label": True}, "messages", "no assistant turn"),
    ],
)
def test_a_bad_label_is_named(value, field, reason):
    error = parse(value, format="unpaired")
    assert (error.field, error.reason) == (field, reason)


def test_a_results_name_and_call_reach_the_template():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {}}}
    result = {"role": "tool", "name": "f", "tool_call_id": "c1", "content": "5"}
    row = {"messages": [{**USER, "name": "ann"}, {**REPLY, "tool_calls": [call]}, result, REPLY]}
    assert parse(row).content.messages == ({**USER, "name": "ann"}, {**REPLY, "tool_calls": [call]}, result, REPLY)


def test_a_row_of_another_format_is_bad():
    for format, row in (("messages", PAIR), ("pairs", TALK), ("problems", TEXT), ("text", TALK)):
        assert parse(row, format=format).reason == "mixed schema"
    for format in FORMATS:
        assert parse({"other": 1}, format=format).reason == "missing field"
        assert parse([1], format=format).reason == "wrong type"


def test_a_question_may_be_one_turn():
    fields = {"question": "prompt", "answer": "reward_model.ground_truth"}
    row = {"prompt": [USER], "reward_model": {"ground_truth": "5"}}
    problem = parse(row, fields=fields).content
    assert (problem.question, problem.answer, dict(problem.metadata)) == ("Q", "5", {})
    error = parse({**row, "prompt": [USER, REPLY, USER]}, fields=fields)
    assert (error.field, error.reason) == ("prompt", "wrong role")


def test_the_mode_of_a_source_holds():
    assert parse(TALK, mode="reasoning").reason == "no thought"
    assert parse(THOUGHT, mode="reasoning").has_thought


def test_what_an_example_says_is_all_its_parts():
    assert parse(THOUGHT).text == "How much is 2 + 3?\n\n2 + 3 = 5\n\nIt is 5."
    assert parse(PAIR).text == "How much is 1 + 1?\n\nIt is 2.\n\nIt is 3."
    assert parse(PROBLEM).text == "How much is 6 + 1?\n\n6 + 1 = 7\n#### 7"
    assert parse(COMPLETION).text == "How much is 4 + 4?\n\nIt is 8."


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "from",
                    "value",
                    "type",
                    "text",
                    "tool_calls",
                    "thinking",
                    "name",
                    "weight",
                    "function_call",
                ]
            ),
            inner,
        )
    ),
    max_leaves=9,
)
columns = st.sampled_from(list(KNOWN)).flatmap(lambda field: st.sampled_from(KNOWN[field] or (field,)))


@given(st.dictionaries(columns, anything, max_size=5), st.sampled_from(list(FORMATS)))
def test_no_row_breaks_the_parser(value, format):
    result = parse(value, format=format)
    assert isinstance(result, Example | RowError)


_TEXTS = st.sampled_from(
    ["a", "b?", "", " ", "é", "<think>t</think>a", "</think>", "x\n</think>\ny", "\ud800", None, 3, ["a"]]
)
_TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool", "human", None, ["user"]]), "content": _TEXTS},
    optional={"name": _TEXTS, "weight": st.sampled_from([0, 1])},
)
_GOOD = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(
    lambda texts: [{"role": role, "content": text} for text in texts for role in ("user", "assistant")]
)
_ROWS = st.fixed_dictionaries(
    {"messages": _GOOD | st.lists(_TURNS, max_size=4) | st.just("a")},
    optional={"id": st.sampled_from(["", "x", 1, True, None]), "domain": _TEXTS, "other": _TEXTS, "system": _TEXTS}
    | {"images": _TEXTS, "tools": _TEXTS},
)


@given(values=st.lists(_ROWS, max_size=8), mode=st.sampled_from(["auto", "reasoning"]))
def test_plain_conversations_are_parsed_as_all_others_are(values, mode):
    source = SourceConfig(path="x.jsonl", mode=mode)
    quick, thorough = RowParser("messages", source), RowParser("messages", source)
    thorough._plain = lambda row: None  # type: ignore[method-assign]
    for number, value in enumerate([*values, *values]):
        row = Row("x.jsonl", number, value)
        assert quick.parse(row) == thorough.parse(row)
    assert quick.unread == thorough.unread


def test_a_plain_conversation_is_parsed_fast_in_every_script():
    parser = RowParser("messages", SourceConfig(path="x.jsonl"))
    row = Row(
        "x.jsonl", 1, {"messages": [{"role": "user", "content": "안녕?"}, {"role": "assistant", "content": "네."}]}
    )
    parser.parse(row)  # learns the columns
    assert parser._plain(row) == parser._example(row)
