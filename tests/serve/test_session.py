"""A conversation, whatever replies to it."""

import json
from pathlib import Path

import pytest

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.serve.session import End, Nothing, Session
from serve.made_up import MadeUp


def told(session: Session, text: str) -> str:
    return "".join(getattr(event, "text", "") for event in session.ask(text))


def test_a_turn_is_remembered_and_the_next_one_is_asked_behind_it_without_thoughts() -> None:
    session = Session(MadeUp())
    session.settings.system = "Be brief."
    assert told(session, "ab") == "hm, soba"
    told(session, "cd")
    contents = [[message["content"] for message in messages] for messages, _, _ in session.model.asked]
    assert contents == [["Be brief.", "ab"], ["Be brief.", "ab", "ba", "cd"]]
    assert all("reasoning_content" not in message for messages, _, _ in session.model.asked for message in messages)
    assert session.messages[1] == {"role": "assistant", "content": "ba", "reasoning_content": "hm, so"}
    assert [turn for _, _, turn in session.model.asked] == [0, 1]


def test_what_came_before_a_failure_is_kept_and_can_be_asked_again() -> None:
    session = Session(MadeUp())
    with pytest.raises(DataError):
        told(session, "fail")
    assert session.messages[-1]["content"] == "li"
    with pytest.raises(DataError):
        list(session.retry())
    assert len(session.messages) == 2


def test_a_turn_of_which_nothing_came_is_forgotten_and_can_be_asked_again() -> None:
    session = Session(MadeUp())
    told(session, "ab")
    with pytest.raises(DataError):
        told(session, "fail at once")
    assert len(session.messages) == 2
    with pytest.raises(DataError):
        list(session.retry())
    assert [messages[-1]["content"] for messages, _, _ in session.model.asked] == ["ab", "fail at once", "fail at once"]
    assert len(session.messages) == 2


def test_leaving_a_stream_keeps_what_came() -> None:
    session = Session(MadeUp())
    events = session.ask("abcd")
    for _ in range(3):
        next(events)
    events.close()
    assert [message["content"] for message in session.messages] == ["abcd", "dc"]


def test_retry_and_undo_go_back_one_turn_each() -> None:
    session = Session(MadeUp())
    with pytest.raises(Nothing, match="nothing was asked"):
        session.retry()
    told(session, "ab")
    told(session, "cd")
    *_, end = session.retry()
    assert isinstance(end, End) and end.reply.answer == "dc" and len(session.messages) == 4
    assert (session.undo(), session.undo(), session.messages) == ("cd", "ab", [])
    with pytest.raises(Nothing):
        session.undo()


def test_tool_calls_stay_in_the_conversation_as_text() -> None:
    session = Session(MadeUp())
    told(session, "call")
    calls = '<tool_call>{"name": "roll", "arguments": {}}</tool_call>\n<tool_call>{</tool_call>'
    assert session.messages[-1]["content"] == f"llac\n{calls}"


def test_a_saved_conversation_goes_on_elsewhere(tmp_path: Path) -> None:
    session, other = Session(MadeUp()), Session(MadeUp())
    session.settings.system, session.settings.budget, session.settings.thinking = "값", 7, False
    told(session, "ab")
    session.save(tmp_path / "chat.json")
    session.save(tmp_path / "chat.json")  # over its own kind
    other.load(tmp_path / "chat.json")
    assert (other.messages, other.settings) == (session.messages, session.settings)
    assert json.loads((tmp_path / "chat.json").read_text())["model"] == "made-up"


def test_nothing_but_a_saved_conversation_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="choose another name"):
        Session(MadeUp()).save(path)
    assert path.read_text() == "mine"


USER, REPLY = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", 'must be an object with "messages"'),
        ("{}", 'must be an object with "messages"'),
        ("{", "not valid JSON"),
        (json.dumps({"messages": [USER]}), "has no reply"),
        (json.dumps({"messages": [REPLY, USER]}), r"messages\[0\].role"),
        (json.dumps({"messages": [USER, {**REPLY, "role": "tool"}]}), "messages"),
        (json.dumps({"messages": [USER, {**REPLY, "content": 3}]}), "content"),
        (json.dumps({"messages": [], "budget": 0}), "budget"),
        (json.dumps({"messages": [], "colour": 1}), "colour"),
    ],
)
def test_another_file_is_refused_by_name_and_field(tmp_path: Path, text: str, why: str) -> None:
    session = Session(MadeUp())
    told(session, "ab")
    (tmp_path / "chat.json").write_text(text)
    with pytest.raises(DataError, match=why) as refused:
        session.load(tmp_path / "chat.json")
    assert "chat.json" in str(refused.value) and len(session.messages) == 2
