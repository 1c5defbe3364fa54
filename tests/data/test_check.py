"""A check names every bad row, counts the reasons, and knows rows that come again."""

import re

import pytest

from data.made_up import PAIR, PROBLEM, TALK, TEXT, THOUGHT, write_rows
from doubles import make_tokenizer
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.data.check import check
from open_exaone.data.config import SourceConfig
from open_exaone.data.examples import open_examples
from open_exaone.data.repeats import Repeats
from open_exaone.data.rows import Example
from open_exaone.text import template_process
from open_exaone.text.tokenizer import Tokenizer


def test_every_bad_row_is_reported_with_its_line(tmp_path):
    no_reply = {"messages": TALK["messages"][:1]}
    rows = [TALK, b"\xff", no_reply, THOUGHT, PAIR, {"messages": []}, TALK]
    told = []
    report = check(write_rows(tmp_path / "rows.jsonl", rows), on_bad=told.append)
    assert (report.format, report.rows, report.good, report.num_bad) == ("messages", 7, 3, 4)
    assert [(error.number, error.reason) for error in report.bad] == [
        (2, "not UTF-8"),
        (3, "no assistant turn"),
        (5, "mixed schema"),
        (6, "empty"),
    ]
    assert told == report.bad
    assert dict(report.formats) == {"messages": 5, "pairs": 1}
    assert dict(report.modes) == {"non_reasoning": 2, "reasoning": 1}
    assert report.repeated == 1


def test_an_id_that_comes_again_is_bad_wherever_it_stands(tmp_path):
    rows = [{**PROBLEM, "id": number} for number in range(1500)]
    rows[1400]["id"] = 3
    rows[1401]["id"] = 1400
    rows[2]["id"] = 1
    report = check(write_rows(tmp_path / "rows.jsonl", rows))
    assert [(error.number, error.field, error.reason) for error in report.bad] == [
        (3, "id", "duplicate id"),
        (1401, "id", "duplicate id"),
    ]
    assert "is the id of row 4 too" in report.bad[1].why


def test_an_id_may_stand_in_several_files_unless_the_source_forbids_it(tmp_path):
    for name, ids in (("a", "xy"), ("b", "xyx"), ("c", "zz")):
        write_rows(tmp_path / f"{name}.jsonl", [{**PROBLEM, "id": id} for id in ids])

    def bad(**settings):
        report = check(SourceConfig(path=str(tmp_path), **settings))
        return [(error.file.rpartition("/")[2], error.number, error.field) for error in report.bad]

    assert bad() == [("b.jsonl", 3, "id"), ("c.jsonl", 2, "id")]
    assert bad(unique_ids="source") == [("b.jsonl", 1, "id"), ("b.jsonl", 2, "id"), *bad()]
    opened = open_examples(SourceConfig(path=str(tmp_path)))
    ids = [
        parsed.result.content.id for chunk in opened.chunks for parsed in chunk if isinstance(parsed.result, Example)
    ]
    assert ids == ["x", "y", "x#3", "y#4", "z"]


def test_an_empty_file_is_bad(tmp_path):
    write_rows(tmp_path / "a.jsonl", [])
    with pytest.raises(DataError, match=r"a\.jsonl: holds no row"):
        check(str(tmp_path / "a.jsonl"))
    write_rows(tmp_path / "b.jsonl", [TEXT])
    report = check(str(tmp_path))
    assert (report.rows, report.good) == (1, 1)
    assert [str(error) for error in report.bad] == [
        f"{tmp_path / 'a.jsonl'}: holds no row; write rows into it, or take it out"
    ]


def test_columns_that_nobody_knows_are_told(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [{"Question": "Q", "Gold": "5"}])
    with pytest.raises(DataError, match="line 1: has columns Question, Gold: no format that is known"):
        check(path)
    for name, near in (("question", '; did you mean "Question"?'), ("text", "."), ("a.b", ".")):
        sentence = f"{path}: line 1: fields.answer = '{name}': no such column{near} Its columns are Question, Gold"
        with pytest.raises(DataError, match=f"^{re.escape(sentence)}$"):
            check(SourceConfig(path=path, fields={"answer": name}))
    report = check(SourceConfig(path=path, fields={"question": "Question", "answer": "Gold"}))
    assert report.good == 1
    assert check(write_rows(tmp_path / "more.jsonl", [{**TALK, "source": "x"}])).unread == {"source": 1}


@pytest.mark.parametrize("value", [None, "", [], {}, [None]])
def test_what_is_empty_is_not_unread(tmp_path, value):
    rows = [{**TALK, "images": value, "source": value}, {**TALK, "images": value, "source": 0}]
    assert check(write_rows(tmp_path / "rows.jsonl", rows)).unread == {"source": 1}


def test_keys_of_turns_that_nothing_reads_are_listed(tmp_path):
    user, reply = TALK["messages"]
    talk = {"messages": [{**user, "name": "ann", "mask": 1}, {**reply, "mask": 0, "refusal": None, "weight": 1}]}
    pair = {"prompt": [user], "chosen": {**reply, "score": 1}, "rejected": [{**reply, "content": "No.", "score": 0}]}
    assert check(write_rows(tmp_path / "talks.jsonl", [talk, TALK, talk])).unread == {"messages[].mask": 2}
    assert check(write_rows(tmp_path / "pairs.jsonl", [pair])).unread == {"chosen[].score": 1, "rejected[].score": 1}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"prompt": "Q", "chosen": "A", "rejected": null}', "has columns prompt, chosen, rejected (null): no format"),
        (f'{{"prompt": "Q", "n": {"9" * 5000}}}', "JSON: it holds a number of thousands of digits; write it as a text"),
    ],
)
def test_why_no_row_has_a_format(tmp_path, text, sentence):
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(DataError, match=f"rows.jsonl: line 1: .*{re.escape(sentence)}"):
        check(str(tmp_path / "rows.jsonl"))


def test_with_a_tokenizer_single_tokens_and_long_rows_are_bad(tmp_path):
    tokenizer = make_tokenizer()
    path = write_rows(tmp_path / "rows.jsonl", [TALK, THOUGHT])
    size = len(tokenizer.render(TALK["messages"]))
    report = check(path, tokenizer=tokenizer, max_tokens=size)
    assert (report.good, report.tokens, report.longest) == (1, size, size)
    assert [(error.number, error.reason) for error in report.bad] == [(2, "too long")]
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": "a"}, TEXT])
    assert [(error.number, error.reason) for error in check(texts, tokenizer=tokenizer).bad] == [(1, "single token")]
    with pytest.raises(ConfigError, match="max_tokens"):
        check(path, max_tokens=5)


def test_only_so_many_rows_are_read(tmp_path):
    assert check(write_rows(tmp_path / "rows.jsonl", [TALK] * 9), limit=4).rows == 4


def test_repeats_know_the_first_place_over_many_chunks():
    repeats, seen = Repeats(), {}
    for start in range(0, 3000, 70):
        texts = [str((place * place) % 1999) for place in range(start, start + 70)]
        first = repeats.first(texts, range(start, start + 70))
        for place, text, found in zip(range(start, start + 70), texts, first, strict=True):
            assert found == seen.get(text)
            seen.setdefault(text, place)


def test_rows_are_looked_at_as_training_renders_them(tmp_path):
    tokenizer = make_tokenizer()
    user, plain = TALK["messages"]
    long = {**plain, "reasoning_content": "So. " * 50}
    talk = [user, long, {"role": "user", "content": "And?"}, plain]  # the last reply is not shown the thought
    path = write_rows(tmp_path / "rows.jsonl", [{"messages": talk}])
    sizes = len(tokenizer.render([user, long], thinking=True)), len(tokenizer.render(talk))
    assert sizes[0] > sizes[1]
    report = check(path, tokenizer=tokenizer)
    assert (report.tokens, report.longest) == (sum(sizes), sizes[0])
    [error] = check(path, tokenizer=tokenizer, max_tokens=sizes[1]).bad
    assert error.reason == "too long" and "a part of it, such as a reply" in error.why
    last = check(path, tokenizer=tokenizer, max_tokens=sizes[1], turns="last")
    assert (last.good, last.longest) == (1, sizes[1])


def test_a_row_on_which_a_template_takes_too_long_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(template_process, "TIMEOUT_S", 0.2)
    loop = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
    slow = "{% for m in messages %}{% if m.content == 'slow' %}" + loop + "{% endif %}{% endfor %}"
    make_tokenizer().save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(
        slow + "{% for m in messages %}{{ m.role }}: {{ m.content }}[|endofturn|]\n{% endfor %}"
    )
    rows = [{"messages": [{**TALK["messages"][0], "content": text}, TALK["messages"][1]]} for text in ["a"] * 40]
    rows[30]["messages"][0]["content"] = "slow"
    report = check(write_rows(tmp_path / "rows.jsonl", rows), tokenizer=Tokenizer.load(tmp_path))
    assert [str(error) for error in report.bad] == [
        f"{tmp_path}/rows.jsonl: line 31: the chat format cannot express it: {tmp_path}/chat_template.jinja: the chat "
        "template fails on this conversation: it takes longer than 0.2 seconds; fix the file, or name one of "
        "Open-EXAONE's own formats with chat_format=..."
    ]
    assert report.good == 39


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            b'{"messages": [',
            "is not valid JSON: Expecting value at character 15; write one JSON object a line",
        ),
        (
            b'{"messages": []},',
            r".*: Extra data at character 17; take out the comma at the end of the line; write one JSON object a "
            "line",
        ),
        (
            b"{'messages': []}",
            r".* at character 2; this is how Python prints a dict; write it with "
            "json.dumps, one JSON object a line",
        ),
        (
            b"[{",
            r".*; a list of rows belongs in a file whose name ends in .json; here, "
            "write one JSON object a line",
        ),
        (
            b"\xff\xfe{\x00",
            "is not UTF-8 text: byte 1 of the line is 0xff; it looks like UTF-16; save the file as UTF-8",
        ),
        (
            b'{"messages": [], "messages": []}',
            "is not valid JSON: the key 'messages' appears twice in one object; leave one out",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}, TALK["messages"][1]]},
            "messages[0].content: holds a part that is no text: {'type': 'image', 'image': 'x'}; take the row out, "
            "since only text is learned",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}, TALK["messages"][1]]},
            "messages[0].content: holds a part that is no text: {'type': 'text', 'text': None}; write its text",
        ),
        (
            b'{"a": ' + b"9" * 5000 + b"}",
            "is not valid JSON: it holds a number of thousands of digits; write it as a text",
        ),
        (b"[" * 100_000, "is not valid JSON: nested too deeply; flatten it"),
        (
            {"messages": [{"role": "user", "content": None}, TALK["messages"][1]]},
            "messages[0].content: is missing; write it, or take the row out",
        ),
        (
            b'{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "assistant", "content": "4"}]}',
            "holds half of a surrogate pair, '\\ud83d'; write the whole character, or take it out",
        ),
        (
            {**TALK, "images": ["a.png"]},
            "images: holds what is not text; leave the column out, or list it in the source's `ignore`",
        ),
        (
            {**TALK, "tools": "[{"},
            "tools: is text that is no valid JSON: Expecting property name enclosed in double quotes: line 1 column 3 "
            "(char 2); write it as JSON",
        ),
        (
            {"messages": [{"role": "user", "content": "x" * 9_000_000}, TALK["messages"][1]]},
            r"has 9,000,\d\d\d characters, more than 4,000,000; split it into several rows",
        ),
    ],
)
def test_a_bad_row_s_sentence_names_the_fix(tmp_path, row, sentence):
    [error] = check(write_rows(tmp_path / "rows.jsonl", [TALK, row, TALK])).bad
    found = str(error).removeprefix(f"{tmp_path}/rows.jsonl: line 2: ")
    assert found == sentence or re.fullmatch(sentence, found)


CHOICE = {"question": "Which?", "choices": ["a", "b", "c"]}
CHOSEN = {**CHOICE, "answer": 1}
ASKED = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("good", "row", "sentence"),
    [
        (PROBLEM, {"question": "Q", "answer": []}, "answer: must be a text or a number, not []"),
        (
            PROBLEM, {"question": "Q", "answer": "so ####"},
            "answer: has nothing behind ####; write it, or take the row out",
        ),
        (PROBLEM, {"question": "Q", "answer": "5", "solution": 5}, "solution: must be a text, not 5"),
        (
            PROBLEM, {"question": "Q", "answer": None, "solution": "5"},
            "answer: is missing, and solution ends neither in #### nor in a box; name its column in fields: "
            '{answer = …}, such as "solution"',
        ),
        (
            PROBLEM, {"question": "Q", "answer": "5", "input": "3"},
            "input: is not read beside a question; put it behind the question with fields: {input = \"input\"}, or "
            "list it in the source's `ignore`",
        ),
        (
            PROBLEM, {"question": [*ASKED, TALK["messages"][1]], "answer": "5"},
            "question: must be a text, or a single turn of the user's; write the other turns into it",
        ),
        (CHOSEN, {**CHOSEN, "choices": "ab"}, "choices: must be a list of texts, not 'ab'"),
        (CHOSEN, {**CHOSEN, "choices": ["a"]}, "choices: must hold 2 to 26 options, not 1"),
        (
            CHOSEN, {**CHOICE, "answer": "1"},
            "answer: is the text '1', which may count from 0 or from 1, or be an option's text; set the source's "
            "first_option, or write a letter",
        ),
        (
            CHOSEN, {**CHOICE, "answer": 3},
            "answer: is 3, which counts to none of the 3 options; the first is 0, the last 2",
        ),
        (
            CHOSEN, {**CHOICE, "answer": "d"},
            "answer: is 'd', which names none of the 3 options; write a whole number (from 0), a letter, or the "
            "option's text",
        ),
        (
            {"prompt": "Q", "completion": "A"}, {"prompt": ASKED, "completion": "A", "input": "3"},
            "input: is not read where prompt is a list of turns; put it into the turns",
        ),
        (
            {"prompt": "Q", "completion": "A"}, {"prompt": "Q", "completion": [TALK["messages"][1]], "thought": "hm"},
            "thought: is not read where completion is a list of turns; put it into the turn's reasoning_content",
        ),
        (
            TALK, {**TALK, "tools": [{"x": 1}]},
            "tools[0]: names no function: {'x': 1}; write {\"name\": …, \"parameters\": …}, bare or under \"function\"",
        ),
        (
            TALK, {"messages": [*ASKED, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": " "}]}]},
            "messages[1].tool_calls[0].arguments: a text here must be JSON: Expecting value: line 1 column 2 (char 1); "
            'write "{}" for none',
        ),
    ],
)  # fmt: skip
def test_a_refusal_names_file_line_field_and_fix(tmp_path, good, row, sentence):
    path = write_rows(tmp_path / "rows.jsonl", [good, row, good])
    assert [str(error) for error in check(path).bad] == [f"{path}: line 2: {sentence}"]


def test_a_calls_number_that_json_cannot_hold_is_refused(tmp_path):
    call = {"name": "f", "arguments": '{"n": 1e400}'}
    rows = [TALK, {"messages": [*ASKED, {"role": "assistant", "tool_calls": [call]}]}]
    [error] = check(write_rows(tmp_path / "rows.jsonl", rows)).bad
    assert "line 2: messages[1].tool_calls[0].arguments: cannot be written as JSON: " in str(error)
    assert str(error).endswith("; numbers must be finite")
