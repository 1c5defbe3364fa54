"""From tokens to what a client sees, and from a conversation to its prompt."""

import itertools
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles import make_tokenizer
from open_exaone.base.records import Request, Sampling, StopReason
from open_exaone.engine.request import Sample
from open_exaone.engine.stop import reply_text
from open_exaone.serve.blocks import blocks_of
from open_exaone.serve.prompts import Prompts, _size
from open_exaone.serve.reply import Delta, Outcome, Reader, StopText
from open_exaone.serve.routes.chat import ChatDialect, ChatRequest
from open_exaone.serve.worker import Job
from open_exaone.text.split import Part, split_reply

PIECES = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    '{"name": "f", "arguments": {}}',
    "\n",
    "안녕",
    " a",
    "stop",
]


def read(text: str, cuts: list[int], stops: tuple[str, ...] = (), *, thinking: bool = True, reads_calls: bool = True):
    """What a reader makes of a reply that comes in parts."""
    tokenizer = make_tokenizer()
    sampling = Sampling(max_new_tokens=10_000, stop=stops)
    ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
    sample = Sample(0, Request((), (1,), thinking, sampling))
    sample.ids, sample.logprobs = ids, [0.0] * len(ids)
    job = Job(sample.request, sample=sample)
    reader, outcome = Reader(0, job, tokenizer, thinking=thinking, reads_calls=reads_calls), Outcome()
    for cut in [*sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]:
        job.num_ready = cut
        if (delta := reader.read()) is not None:
            outcome.take(delta)
    job.stop = StopReason.STOP_STRING if any(stop in text for stop in stops) else StopReason.END
    outcome.take(reader.read())
    shown = reply_text(tokenizer, ids, job.stop, sampling)
    return outcome, split_reply(shown, thinking=thinking, thought_tags=("think",))


@given(
    st.lists(st.sampled_from(PIECES), max_size=12),
    st.lists(st.integers(0, 200), max_size=6),
    st.sampled_from([(), ("stop",), ("top", "p a"), ("\n",)]),
    st.booleans(),
)
def test_a_reply_is_the_same_however_it_comes(pieces, cuts, stops, thinking) -> None:
    outcome, reply = read("".join(pieces), cuts, stops, thinking=thinking)
    assert outcome.text(Part.THOUGHT) == reply.thought
    assert [call.text for call in outcome.calls] == [call.text for call in reply.tool_calls if call.error is None]
    assert len(outcome.notes) == sum(call.error is not None for call in reply.tool_calls)
    if not outcome.notes:
        assert outcome.text(Part.ANSWER) == reply.answer


def test_a_call_that_is_no_json_is_text_with_a_note() -> None:
    outcome, _ = read('Sure.<tool_call>{"name": oops}</tool_call>', [3], thinking=False)
    assert outcome.text(Part.ANSWER) == 'Sure.<tool_call>{"name": oops}</tool_call>' and not outcome.calls
    assert "not valid JSON" in outcome.notes[0]


def test_calls_are_text_where_no_tools_are_on_offer() -> None:
    text = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    outcome, _ = read(text, [], thinking=False, reads_calls=False)
    assert outcome.text(Part.ANSWER) == text and not outcome.calls and not outcome.notes
    assert len(read(text * 2, [], thinking=False)[0].calls) == 2  # parallel calls


def test_a_chunk_of_a_chat_has_one_part_alone() -> None:
    """Clients that read either the thought or the answer of a chunk would lose the other."""
    ask, ticket = SimpleNamespace(model=SimpleNamespace(name="m")), SimpleNamespace(id="1", jobs=[None])
    asked = json.dumps({"messages": [{"role": "user", "content": ""}]})
    dialect = ChatDialect(ask, ticket, ChatRequest.model_validate_json(asked))
    call = '{"name": "f", "arguments": {}}'
    pieces = [(Part.THOUGHT, "h"), (Part.THOUGHT, "m"), (Part.ANSWER, "7"), *[(Part.TOOL_CALL, call)] * 2]
    chunks = [json.loads(line[6:]) for line in dialect.take(Delta(0, pieces)).splitlines() if line]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[:2] == [{"reasoning": "hm", "reasoning_content": "hm"}, {"content": "7"}]
    assert [one["index"] for one in deltas[2]["tool_calls"]] == [0, 1] and len(deltas) == 3
    assert not dialect.take(Delta(0, ()))


def test_blocks_keep_the_order() -> None:
    text = 'hm</think>a<tool_call>{"name": "f"}</tool_call><tool_call>{"name": "g"}</tool_call>b'
    blocks = blocks_of(read(text, [])[0].pieces)
    assert [block.part for block in blocks] == [Part.THOUGHT, Part.ANSWER, Part.TOOL_CALL, Part.TOOL_CALL, Part.ANSWER]


@given(st.text("ab", max_size=30), st.lists(st.integers(0, 30), max_size=5), st.sampled_from([("aa",), ("ab", "bab")]))
def test_stop_strings_are_found_across_parts(text, cuts, strings) -> None:
    stops, places = StopText(strings), [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    shown = "".join(stops.feed(text[a:b]) for a, b in itertools.pairwise(places)) + stops.finish()
    assert shown == text[: min([text.find(string) for string in strings if string in text], default=len(text))]


def test_a_reply_goes_on_in_the_tokens_that_the_model_wrote() -> None:
    tokenizer = make_tokenizer()
    prompts, turns = Prompts(tokenizer), [{"role": "user", "content": "How much is 3 + 4?"}]
    first = prompts.render(turns, thinking=False)
    letters = [token for letter in "The answer" for token in tokenizer.encode(letter)]
    assert letters != tokenizer.encode("The answer") and tokenizer.decode(letters) == "The answer"
    prompts.keep(first, letters)
    turns = [*turns, {"role": "assistant", "content": "The answer"}, {"role": "user", "content": "And?"}]
    again = prompts.render(turns, thinking=False)
    assert again[: len(first) + len(letters)] == (*first, *letters)
    assert tokenizer.decode(again) == tokenizer.decode(tokenizer.render(turns, generation_prompt=True))
    other = [{"role": "user", "content": "How much is 5 + 4?"}, *turns[1:]]  # another conversation with that reply
    assert prompts.render(other, thinking=False) == tuple(tokenizer.render(other, generation_prompt=True))


def test_thoughts_that_are_kept_go_on_in_their_tokens_too() -> None:
    tokenizer = make_tokenizer()
    prompts, turns = Prompts(tokenizer), [{"role": "user", "content": "How much is 3 + 4?"}]
    first = prompts.render(turns, thinking=True)
    written = [token for letter in "hm\n</think>\n\n7" for token in tokenizer.encode(letter)]
    prompts.keep(first, written)
    turns = [*turns, {"role": "assistant", "content": "7", "reasoning_content": "hm"}, {"role": "user", "content": "?"}]
    kept = prompts.render(turns, thinking=True, keeps_thoughts=True)
    assert kept[: len(first) + len(written)] == (*first, *written)
    assert "hm" not in tokenizer.decode(prompts.render(turns, thinking=True))


def test_what_is_kept_is_bounded() -> None:
    """Also where replies are short, which take more memory than their tokens."""
    tokenizer = make_tokenizer()
    prompts = Prompts(tokenizer, most_bytes=10_000)
    for number in range(100):
        prompts.keep([number], tokenizer.encode("abc"))
        prompts.keep([number % 3], tokenizer.encode("a" * number))
    assert 10 < len(prompts._kept) <= 10_000 / 400
    assert prompts._num_bytes == sum(_size(*kept) for kept in prompts._kept.values()) <= 10_000


@pytest.mark.parametrize("name", ["exaone-deep", "exaone-4.0"])
def test_thoughts_of_earlier_replies_can_stay(name) -> None:
    from open_exaone.text.formats import NATIVE

    turns = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A", "reasoning_content": "hm"},
        {"role": "user", "content": "R"},
    ]
    texts = [
        "".join(segment.text for segment in NATIVE[name].segments(turns, generation_prompt=True, keeps_thoughts=keeps))
        for keeps in (False, True)
    ]
    tag = NATIVE[name].thought_tag
    assert "hm" not in texts[0] and f"<{tag}>\nhm\n</{tag}>\n\nA" in texts[1]
