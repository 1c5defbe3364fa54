"""What public conformance suites ask of a server, rebuilt on a reply that the test chooses.

Open Responses' compliance tests (openresponses.org): basic, streamed, system prompt, tools whole and streamed, image,
several turns. The classes "standard" and "reasoning" of llm-serving-tests (github.com/aldehir/llm-serving-tests):
content, one call, several, a demanded one, one beside a thought, nested and long arguments, JSON of a schema, a thought
that is given and does not leak. Both whole and streamed.
"""

import json
import re

import openai
import pytest

from doubles import TINY, make_model, make_tokenizer
from open_exaone.engine.engine import Engine
from open_exaone.serve import conversation, guided
from open_exaone.serve.service import Served

from .conftest import running

QUESTION = [{"role": "user", "content": "How much is 3 + 4?"}]
ORDER = {
    "type": "object",
    "properties": {
        "rooms": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {
                "type": "object",
                "properties": {"kind": {"enum": ["hall", "attic"]}, "heated": {"type": "boolean"}},
                "required": ["kind"],
                "additionalProperties": False,
            },
        },
        "when": {
            "type": "object",
            "properties": {"hour": {"type": "integer", "minimum": 0, "maximum": 23}},
            "additionalProperties": False,
        },
    },
    "required": ["rooms"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "book", "description": "Books rooms.", "parameters": ORDER}},
    {"type": "function", "function": {"name": "write", "parameters": {"type": "object"}}},
]
CODE = 'def f(x):\n    """Adds 1; \\ and \'quotes\', 한글."""\n    return x + 1\n' * 12


@pytest.fixture(scope="module")
def server():
    """A server whose model holds conversations with tools."""
    model = make_model(TINY.model_copy(update={"max_positions": 8192}))
    with running(models=[Served("tiny", Engine(model, make_tokenizer(), num_slots=4))]) as one:
        yield one


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def says(monkeypatch):
    """Has the model answer with a text, behind its free thought."""

    def choose(text: str) -> None:
        def rule(service, model, asked):
            parts = [part for part in re.split("(</?tool_call>)", text) if part]
            tags = {tag: guided._literal(model.tokenizer, tag) for tag in ("<tool_call>", "</tool_call>")}
            grammar = r"start: /\n{0,2}/ " + " ".join(tags.get(part) or json.dumps(part) for part in parts)
            return guided._rule(model, grammar, "test")

        monkeypatch.setattr(conversation.Conversation, "is_restricted", True)
        monkeypatch.setattr(conversation, "_rule", rule)

    return choose


def call(name: str, **arguments) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}</tool_call>"


def chat(client, stream: bool, **options):
    """A reply: thought, content, its calls as (id, name, arguments), and why it ended."""
    extra = {"thinking_token_budget": 6, **options.pop("extra_body", {})}
    options = {"model": "tiny", "messages": QUESTION, "seed": 1, "extra_body": extra, **options}
    if stream:
        calls: dict[int, list[str]] = {}
        thought, content, finish = "", "", None
        for chunk in client.chat.completions.create(stream=True, **options):
            for choice in chunk.choices:
                thought += getattr(choice.delta, "reasoning_content", None) or ""
                content += choice.delta.content or ""
                finish = choice.finish_reason or finish
                for part in choice.delta.tool_calls or ():
                    whole = calls.setdefault(part.index, ["", "", ""])
                    for place, value in enumerate((part.id, part.function.name, part.function.arguments)):
                        whole[place] += value or ""
        return thought, content, [calls[index] for index in sorted(calls)], finish
    [choice] = client.chat.completions.create(**options).choices
    message = choice.message
    calls = [[one.id, one.function.name, one.function.arguments] for one in message.tool_calls or ()]
    return getattr(message, "reasoning_content", "") or "", message.content or "", calls, choice.finish_reason


BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@BOTH
def test_a_thought_is_given_and_leaves_nothing_in_the_content(client, says, stream) -> None:
    says("It is 7.")
    thought, content, calls, finish = chat(client, stream)
    assert thought.strip() and (content, calls, finish) == ("It is 7.", [], "stop")
    assert "think>" not in thought
    assert chat(client, stream, reasoning_effort="none", extra_body={})[:2] == ("", "It is 7.")


@BOTH
def test_one_call_by_the_models_own_choice(client, says, stream) -> None:
    says(call("book", rooms=[{"kind": "hall"}]))
    thought, content, [(id, name, arguments)], finish = chat(client, stream, tools=TOOLS, tool_choice="auto")
    assert thought.strip() and id and (content, name, finish) == ("", "book", "tool_calls")
    assert json.loads(arguments) == {"rooms": [{"kind": "hall"}]}


@BOTH
def test_several_calls_behind_a_text(client, says, stream) -> None:
    says("Two of them." + call("book", rooms=[{"kind": "hall"}]) + "\n" + call("book", rooms=[{"kind": "attic"}]))
    _, content, calls, finish = chat(client, stream, tools=TOOLS, parallel_tool_calls=True)
    assert (content, finish) == ("Two of them.", "tool_calls") and len({id for id, _, _ in calls}) == 2
    assert [json.loads(arguments)["rooms"][0]["kind"] for _, _, arguments in calls] == ["hall", "attic"]


@BOTH
def test_long_text_with_line_ends_and_quotes_in_an_argument(client, says, stream) -> None:
    says(call("write", code=CODE))
    _, _, [(_, name, arguments)], _ = chat(client, stream, tools=TOOLS)
    assert name == "write" and json.loads(arguments) == {"code": CODE}


@BOTH
def test_a_demanded_call_follows_a_nested_schema_and_does_not_suppress_the_thought(client, stream) -> None:
    options = {"tools": TOOLS[:1], "tool_choice": "required", "parallel_tool_calls": False}
    thought, content, [(_, name, arguments)], finish = chat(client, stream, **options)
    assert thought.strip() and (content, name, finish) == ("", "book", "tool_calls")
    rooms = json.loads(arguments)["rooms"]
    assert 1 <= len(rooms) <= 2 and all(room["kind"] in ("hall", "attic") for room in rooms)


@BOTH
def test_json_of_a_schema_behind_a_thought(client, stream) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": ORDER}}
    thought, content, _, finish = chat(client, stream, response_format=form)
    assert thought.strip() and finish == "stop" and json.loads(content)["rooms"]


@BOTH
def test_the_result_of_a_tool_is_gone_on_with(client, says, stream) -> None:
    says(call("book", rooms=[{"kind": "hall"}]))
    thought, _, [(id, name, arguments)], _ = chat(client, stream, tools=TOOLS)
    says("Done.")
    called = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    turns = [
        *QUESTION,
        {"role": "assistant", "content": None, "reasoning_content": thought, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": id, "content": '{"booked": true}'},
    ]
    _, content, calls, finish = chat(client, stream, messages=turns, tools=TOOLS)
    assert (content, calls, finish) == ("Done.", [], "stop")


TEXT, WHOLE, RATIO, FLAG = (str,), (int,), (int, float), (bool,)
NONE = type(None)
RESOURCE = {  # field -> its types
    **dict.fromkeys(("id", "status", "model", "truncation", "service_tier"), TEXT),
    **dict.fromkeys(("created_at", "top_logprobs"), WHOLE),
    **dict.fromkeys(("completed_at", "max_output_tokens", "max_tool_calls"), (int, NONE)),
    **dict.fromkeys(("top_p", "temperature", "presence_penalty", "frequency_penalty"), RATIO),
    **dict.fromkeys(("parallel_tool_calls", "store", "background"), FLAG),
    **dict.fromkeys(("previous_response_id", "instructions", "safety_identifier", "prompt_cache_key"), (str, NONE)),
    **dict.fromkeys(("incomplete_details", "error", "reasoning", "usage"), (dict, NONE)),
    **dict.fromkeys(("output", "tools"), (list,)),
    **{"tool_choice": (str, dict), "text": (dict,), "metadata": (dict,)},
}
ITEMS = {
    "message": {"id": TEXT, "status": TEXT, "role": TEXT, "content": (list,)},
    "reasoning": {"id": TEXT, "summary": (list,), "content": (list,)},
    "function_call": {"id": TEXT, "call_id": TEXT, "name": TEXT, "arguments": TEXT, "status": TEXT},
}
PLACE = {"item_id": TEXT, "output_index": WHOLE}
IN_PART = {**PLACE, "content_index": WHOLE}
EVENTS = {  # type -> its fields' types
    **{f"response.{name}": {"response": (dict,)} for name in ("created", "in_progress", "completed", "incomplete")},
    **{f"response.output_item.{name}": {"output_index": WHOLE, "item": (dict,)} for name in ("added", "done")},
    **{f"response.content_part.{name}": {**IN_PART, "part": (dict,)} for name in ("added", "done")},
    "response.output_text.delta": {**IN_PART, "delta": TEXT, "logprobs": (list,)},
    "response.output_text.done": {**IN_PART, "text": TEXT, "logprobs": (list,)},
    "response.reasoning_text.delta": {**IN_PART, "delta": TEXT},
    "response.reasoning_text.done": {**IN_PART, "text": TEXT},
    "response.function_call_arguments.delta": {**PLACE, "delta": TEXT},
    "response.function_call_arguments.done": {**PLACE, "arguments": TEXT},
}


def check(record: dict, fields: dict) -> None:
    for name, types in fields.items():
        assert name in record and isinstance(record[name], types), (name, record)


def check_resource(resource: dict) -> None:
    """Whether a response has every field, of the right type."""
    assert resource["object"] == "response"
    check(resource, RESOURCE)
    for item in resource["output"]:
        check(item, ITEMS[item["type"]])
    if usage := resource["usage"]:
        check(usage, {"input_tokens": WHOLE, "output_tokens": WHOLE, "total_tokens": WHOLE})
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def respond(server, stream: bool, **body):
    """A response, and its events; each checked."""
    body = {"model": "tiny", "reasoning": {"effort": "none"}, **body}
    answer = server.post("/v1/responses", {**body, "stream": stream})
    assert answer.status_code == 200, answer.text
    if not stream:
        check_resource(answer.json())
        return answer.json(), []
    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        check(event, EVENTS[event["type"]])
        if "response" in event:
            check_resource(event["response"])
    for item in events[-1]["response"]["output"]:  # each has begun and ended in the stream
        seen = [event["type"] for event in events if event.get("item", {}).get("id") == item["id"]]
        assert seen == ["response.output_item.added", "response.output_item.done"]
    return events[-1]["response"], events


@BOTH
def test_a_response_is_complete_and_every_field_is_there(server, says, stream) -> None:
    says("Hello there, you.")
    body = {"safety_identifier": "me", "prompt_cache_key": "k", "max_tool_calls": 3, "presence_penalty": 0.5}
    found, events = respond(server, stream, input=[{"type": "message", "role": "user", "content": "Hi"}], **body)
    assert found["status"] == "completed" and found["completed_at"] >= found["created_at"]
    [item] = found["output"]
    assert item["content"][0]["text"] == "Hello there, you." and item["status"] == "completed"
    assert {name: found[name] for name in body} == body
    if stream:
        assert [event["type"] for event in events][:2] == ["response.created", "response.in_progress"]
        deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
        assert "".join(deltas) == "Hello there, you."


@BOTH
def test_a_response_with_a_thought(server, says, stream) -> None:
    says("7")
    found, events = respond(server, stream, input="3 + 4?", reasoning={"effort": "low"}, max_output_tokens=40)
    assert [item["type"] for item in found["output"]] == ["reasoning", "message"]
    if stream:
        deltas = [event["delta"] for event in events if event["type"] == "response.reasoning_text.delta"]
        assert "".join(deltas) == found["output"][0]["content"][0]["text"]


@BOTH
def test_system_prompts_and_earlier_turns_are_heeded(server, says, stream) -> None:
    says("Aye.")
    user = {"type": "message", "role": "user", "content": "Say hello."}
    bare, _ = respond(server, stream, input=[user])
    system = {"type": "message", "role": "system", "content": "Speak as a pirate does."}
    told, _ = respond(server, stream, input=[system, user])
    instructed, _ = respond(server, stream, input=[user], instructions="Speak as a pirate does.")
    assert bare["usage"]["input_tokens"] < told["usage"]["input_tokens"] == instructed["usage"]["input_tokens"]
    reply = {"type": "message", "role": "assistant", "content": "Hello, Ann."}
    several, _ = respond(server, stream, input=[user, reply, {**user, "content": "My name?"}])
    assert several["status"] == "completed" and several["usage"]["input_tokens"] > bare["usage"]["input_tokens"]


@BOTH
def test_a_response_calls_a_function(server, says, stream) -> None:
    says(call("book", rooms=[{"kind": "attic"}]))
    tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
    found, events = respond(server, stream, input="A room, please.", tools=tools)
    [item] = found["output"]
    assert item["type"] == "function_call" and json.loads(item["arguments"]) == {"rooms": [{"kind": "attic"}]}
    assert [tool["name"] for tool in found["tools"]] == ["book", "write"]
    if stream:
        kinds = [event["type"] for event in events]
        assert "response.function_call_arguments.delta" in kinds and "response.function_call_arguments.done" in kinds
    says("Booked.")
    result = {"type": "function_call_output", "call_id": item["call_id"], "output": "ok"}
    again, _ = respond(server, stream, input=[result], previous_response_id=found["id"], tools=tools)
    assert again["output"][0]["content"][0]["text"] == "Booked." and again["previous_response_id"] == found["id"]


def test_a_response_that_is_cut_says_so(server) -> None:
    found, events = respond(server, True, input="3 + 4?", max_output_tokens=3, temperature=0)
    assert found["status"] == "incomplete" and found["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events[-1]["type"] == "response.incomplete" and found["completed_at"] is None


def test_an_image_is_refused_by_its_name(server) -> None:
    """The models read text alone: nothing else would be honest."""
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
    content = [{"type": "input_text", "text": "What is this?"}, image]
    refused = server.post("/v1/responses", {"model": "tiny", "input": [{"role": "user", "content": content}]})
    assert refused.status_code == 400 and "input_image" in refused.json()["error"]["message"]
