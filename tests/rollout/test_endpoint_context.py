"""Endpoints whose context is shorter than prompt and token limit together."""

import json
from dataclasses import replace
from typing import Any

import pytest

from mock_endpoint import TOO_LARGE, endpoint, mock_endpoint
from open_exaone.base.records import Generation, Reply, Request, Sampling, StopReason
from open_exaone.remote import http as transport
from open_exaone.remote.http import EndpointError
from open_exaone.rollout.providers.context import Overflow, fit, read_overflow
from open_exaone.rollout.providers.endpoint import EndpointProvider

CONTEXT = 50
OLD_VLLM = (
    "This model's maximum context length is {context} tokens. However, you requested 99 tokens ({prompt} in the "
    "messages, {limit} in the completion). Please reduce the length of the messages or completion."
)
NEW_VLLM = (
    "This model's maximum context length is {context} tokens. However, you requested {limit} output tokens and your "
    "prompt contains at least {bound} input tokens, for a total of at least 99 tokens."
)
PASSED = (
    "You passed {bound} input tokens and requested {limit} output tokens. However, the model's context length is only "
    "{context} tokens, resulting in a maximum input length of 9 tokens. (parameter=input_tokens, value={bound})"
)
SGLANG = (
    "Requested token count exceeds the model's maximum context length of {context} tokens. You requested a total of 99 "
    "tokens: {prompt} tokens from the input messages and {limit} tokens for the completion."
)
WORDS = [TOO_LARGE, OLD_VLLM, NEW_VLLM, PASSED, SGLANG]


@pytest.fixture(autouse=True)
def _short_waits_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def asks(lengths: list[int], k: int = 1, *, thinking: bool = True, **sampling: Any) -> list[Request]:
    """Questions of so many tokens."""
    setting = Sampling(**{"max_new_tokens": 100, **sampling})
    texts = [" ".join([f"질문{place}"] + ["단어"] * (length - 1)) for place, length in enumerate(lengths)]
    return [
        Request(({"role": "user", "content": text},), None, thinking, setting, index)
        for text in texts
        for index in range(k)
    ]


def answers(provider: EndpointProvider, wanted: list[Request]) -> dict[int, Generation]:
    return dict(provider.stream(wanted))


def says(number: int) -> Any:
    return lambda question, request: " ".join(["hm"] * number)


@pytest.mark.parametrize("fills", [True, False])
@pytest.mark.parametrize("max_new_tokens", [45, CONTEXT, 51, 100])
@pytest.mark.parametrize("words", WORDS)
def test_a_reply_gets_all_the_room_that_the_context_has(words: str, max_new_tokens: int, fills: bool) -> None:
    room = 43 - (not fills)
    with mock_endpoint(says(70), context=CONTEXT, context_words=words, fills_context=fills) as server:
        provider = endpoint(server.url, concurrency=1)
        done = answers(provider, asks([7], 3, max_new_tokens=max_new_tokens))
    assert [(one.num_tokens, one.num_prompt_tokens, one.stop) for one in done.values()] == [
        (room, 7, StopReason.LENGTH)
    ] * 3
    assert [request["max_tokens"] for request in server.requests[-2:]] == [room] * 2  # what was learned is kept
    assert len(server.requests) <= 3 + 4
    assert all("seed" in request for request in server.requests)


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("length", [49, 50, 51, 200])
def test_the_notes_and_the_empty_replies_are_those_of_an_engine_that_counts_itself(words: str, length: int) -> None:
    wanted = asks([7, length, 7], 2)
    with mock_endpoint(says(20), context=CONTEXT, context_words=words, models=["m"], tells_context=True) as server:
        provider = endpoint(server.url, concurrency=2)
        done = answers(provider, wanted)
    counted = [replace(one, prompt_ids=(7,) * len(one.messages[0]["content"].split())) for one in wanted]
    fitted = fit(counted, CONTEXT)
    assert provider.notes == fitted.notes
    assert sorted(done) == list(range(6))
    assert provider.failure is None
    unanswered = dict(fitted.unanswered)
    assert all(done[place].num_tokens == 20 and done[place].stop is StopReason.END for place in (0, 1, 4, 5))
    for place in (2, 3):
        if place in unanswered:
            assert done[place].reply == unanswered[place].reply == Reply("", "", finished=False)
            assert (done[place].stop, done[place].num_tokens) == (StopReason.LENGTH, 0)
        else:
            assert (done[place].stop, done[place].num_tokens) == (StopReason.LENGTH, 1)


def test_what_fits_is_asked_as_it_is_and_noted_nowhere() -> None:
    with mock_endpoint(says(20), context=CONTEXT, tells_context=True) as server:
        provider = endpoint(server.url)
        answers(provider, asks([7, 10], max_new_tokens=40))
    assert [request["max_tokens"] for request in server.requests] == [40, 40]
    assert provider.notes == ()


LONG = "<think>\n" + "hm " * 60 + "\n</think>\n\nThe answer is \\boxed{7} " + "so " * 50


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("budget", [5, 20, 42, 43, 44, 60])
def test_a_thinking_budget_holds_where_the_context_has_room_for_it(words: str, budget: int) -> None:
    with mock_endpoint(lambda question, request: LONG, context=CONTEXT, context_words=words) as server:
        provider = endpoint(server.url, concurrency=1)
        [done] = answers(provider, asks([7], thinking_budget=budget)).values()
    assert done.stop is StopReason.LENGTH
    assert done.num_tokens <= CONTEXT - 7
    if budget <= 20:
        assert done.reply.finished and done.reply.answer.startswith("The answer is \\boxed{7}")
        assert done.num_thought_tokens == budget
    else:  # the context ends the thought, or leaves nothing behind its forced end
        assert (done.reply.answer, done.reply.finished) == ("", False)
    assert len(provider.notes) == 1
    assert len(server.requests) <= 6
    assert any("continue_final_message" in request for request in server.requests) == (budget <= 43)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("maximum context length is 8192 tokens. Your prompt is long", (8192, None)),
        ("max_tokens=99cannot be greater than max_model_len=max_total_tokens=8192. Please", (8192, None)),
        ("max_tokens=99 cannot be greater than max_model_len=8192. Please request fewer output tokens.", (8192, None)),
        ("maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", (8192, 9000)),
        (
            "maximum context length is 8192 tokens, however you requested 9 tokens (8100 in your prompt; 99",
            (8192, 8100),
        ),
        ("The input (9000 tokens) is longer than the model's context length (8192 tokens).", (8192, 9000)),
        ("Input length (9000) exceeds model's maximum context length (8192).", (8192, 9000)),
        ('{"error":{"code":400,"message":"too big","n_prompt_tokens":9000,"n_ctx":8192}}', (8192, 9000)),
        ("request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it", (8192, 9000)),
        ("`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 8100 `inputs` tokens and 4000", (8192, 8100)),
        ("maximum context length is 8192 tokens ... your prompt contains at least 9000 input tokens", (8192, 9000)),
        ("maximum context length is 8192 tokens ... your prompt contains at least 8100 input tokens", (8192, None)),
        ("maximum context length is 8192 tokens and your request has 8094 input tokens", (8192, None)),
        ("You passed 9999 input characters. However, the model's context length is only 8192 tokens", (8192, None)),
        ("max_tokens is too large: 99. This model supports at most 16 completion tokens", (None, None)),
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", None),
        ("Unsupported field: seed", None),
    ],
)
def test_what_servers_say_of_a_length(said: str, found: tuple[int | None, int | None] | None) -> None:
    refusal = EndpointError("x", status=400, detail=said)
    assert read_overflow(refusal, 99) == (None if found is None else Overflow(*found))
    assert read_overflow(EndpointError("x", status=500, detail=said), 99) is None


@pytest.mark.parametrize(
    "words",
    [
        "the prompt is too long",
        "This model supports at most 16 completion tokens, seed, max_completion_tokens",
        "maximum context length is 8192 tokens and your request has 7 input tokens",  # which would fit
        "the maximum context length is 50 tokens, however long the prompt",
    ],
)
@pytest.mark.parametrize("told", [True, False])
def test_a_refusal_for_the_length_that_no_figures_explain_ends_with_the_mend(words: str, told: bool) -> None:
    with mock_endpoint(says(20), context=5, context_words=words, tells_context=told) as server:
        provider = endpoint(server.url, concurrency=1)
        with pytest.raises(EndpointError) as caught:
            answers(provider, asks([7] * 20, thinking_budget=20))
    assert str(caught.value).endswith("or lower --max-new-tokens")
    assert len(server.requests) <= 9 * 4  # one more may be under way when the stream ends


def test_a_continuation_that_is_too_long_is_not_taken_for_one_that_cannot_be() -> None:
    words = "the prompt is too long"
    mended = pytest.raises(EndpointError, match="lower --max-new-tokens$")
    with mock_endpoint(lambda question, request: LONG, context=30, context_words=words) as server, mended:
        answers(endpoint(server.url), asks([7], thinking_budget=20))
    assert len(server.requests) == 2


def test_a_server_whose_figures_change_with_every_answer_is_not_asked_forever() -> None:
    def grows(question: str, request: dict[str, Any]) -> str:
        raise AssertionError

    class Shrinking(str):
        def format(self, **figures: Any) -> str:  # type: ignore[override]
            return f"maximum context length is {figures['limit'] + 5} tokens and your request has 7 input tokens"

    with mock_endpoint(grows, context=0, context_words=Shrinking("")) as server:
        provider = endpoint(server.url, concurrency=1)
        with pytest.raises(EndpointError, match="lower --max-new-tokens$"):
            answers(provider, asks([7], max_new_tokens=30_000))
    assert len(server.requests) <= 12


def test_a_server_that_counts_nothing_is_asked_as_its_refusal_says_or_not_at_all() -> None:
    with mock_endpoint(says(70), context=CONTEXT, usage=False) as server:
        [done] = answers(endpoint(server.url), asks([7])).values()
        assert len(f"{done.reply.thought} {done.reply.answer}".split()) == 43
    mended = pytest.raises(EndpointError, match="lower --max-new-tokens$")
    with mock_endpoint(says(70), context=CONTEXT, usage=False, context_words=NEW_VLLM) as server, mended:
        answers(endpoint(server.url), asks([7]))


def test_another_name_for_the_limit_goes_with_a_context_that_is_short() -> None:
    with mock_endpoint(says(70), context=CONTEXT, refuse_fields=["max_tokens", "seed"]) as server:
        provider = endpoint(server.url, concurrency=1)
        [done] = answers(provider, asks([7])).values()
    assert done.num_tokens == server.requests[-1]["max_completion_tokens"] == 43
    assert len(provider.notes) == 2
    assert "seed" not in json.dumps(server.requests[-1])
