"""How likely tokens were, as each API gives it: the full model's log-softmax, of all tokens or of the answer's."""

import openai
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from doubles import make_tokenizer
from open_exaone.serve.logprobs import TokenLogprobs, places_of
from open_exaone.text.stream import token_bytes

QUESTION = [{"role": "user", "content": "How much is 3 + 4?"}]


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@torch.no_grad()
def expected(server, prompt_ids, reply_ids):
    """The log-softmax at each token of a reply."""
    logits = server.engine.model(torch.tensor([[*prompt_ids, *reply_ids]]))[0, len(prompt_ids) - 1 : -1]
    return logits.log_softmax(-1)


def prompt_of(server):
    return server.engine.tokenizer.render(QUESTION, thinking=True, generation_prompt=True)


def test_chat_gives_the_most_likely_tokens_whole_and_streamed(server, client) -> None:
    options = {"model": "tiny", "messages": QUESTION, "seed": 4, "max_tokens": 20, "logprobs": True}
    tokens = client.chat.completions.create(top_logprobs=20, **options).choices[0].logprobs.content
    chunks = list(client.chat.completions.create(top_logprobs=20, stream=True, **options))
    given = [one.choices[0].logprobs for one in chunks if one.choices and one.choices[0].logprobs]
    assert [token for logprobs in given for token in logprobs.content] == tokens
    tokenizer = server.engine.tokenizer
    ids = [next(n for n in range(320) if token_bytes(tokenizer, n) == bytes(token.bytes)) for token in tokens]
    for wanted_V, token, number in zip(expected(server, prompt_of(server), ids), tokens, ids, strict=True):
        assert token.logprob == pytest.approx(float(wanted_V[number]), abs=1e-3)
        assert [one.logprob for one in token.top_logprobs] == pytest.approx(wanted_V.topk(20).values.tolist(), abs=1e-3)
    assert client.chat.completions.create(top_logprobs=0, **options).choices[0].logprobs.content[0].top_logprobs == []
    plain = client.chat.completions.create(**options)
    assert [one.token for one in plain.choices[0].logprobs.content] == [one.token for one in tokens]


def test_completions_give_the_chosen_token_beside_the_most_likely(server, client) -> None:
    options = {"model": "tiny", "prompt": [9, 10, 11], "max_tokens": 12, "seed": 2, "temperature": 1.5}
    whole = client.completions.create(logprobs=3, **options).choices[0].logprobs
    assert len(whole.top_logprobs) == len(whole.tokens) == len(whole.token_logprobs)
    for token, logprob, top in zip(whole.tokens, whole.token_logprobs, whole.top_logprobs, strict=True):
        assert top[token] == pytest.approx(logprob, abs=1e-5) and len(top) <= 4
    streamed = [one.choices[0].logprobs for one in client.completions.create(logprobs=3, stream=True, **options)]
    assert [top for one in streamed for top in one.top_logprobs or ()] == whole.top_logprobs
    assert client.completions.create(logprobs=0, **options).choices[0].logprobs.top_logprobs is None


def test_responses_give_them_for_the_answer_alone(server, client) -> None:
    options = {"model": "tiny", "input": "How much is 3 + 4?", "temperature": 0, "max_output_tokens": 24}
    options |= {"reasoning": {"effort": "medium"}, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    whole = client.responses.create(**options)
    [thought, message] = whole.output
    [part] = message.content
    assert thought.type == "reasoning" and part.text and whole.top_logprobs == 2
    text = b"".join(bytes(token.bytes) for token in part.logprobs).decode(errors="replace")
    assert text.strip("\n").startswith(part.text) and len(part.logprobs) < whole.usage.output_tokens - 8
    assert all(
        len(token.top_logprobs) == 2 and token.top_logprobs[0].logprob >= token.logprob for token in part.logprobs
    )
    events = list(client.responses.create(stream=True, **options))
    [done] = [event for event in events if event.type == "response.output_text.done"]
    assert [one.model_dump() for one in done.logprobs] == [
        {
            "token": one.token,
            "logprob": one.logprob,
            "top_logprobs": [
                {"token": top.token, "logprob": top.logprob, "bytes": top.bytes} for top in one.top_logprobs
            ],
            "bytes": one.bytes,
        }
        for one in part.logprobs
    ]
    assert events[-1].response.output[-1].content[0].logprobs == part.logprobs


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": QUESTION, "logprobs": True, "top_logprobs": 21}),
        ("/v1/chat/completions", {"messages": QUESTION, "top_logprobs": 2}),
        ("/v1/completions", {"prompt": "a", "logprobs": 21}),
        ("/v1/responses", {"input": "a", "top_logprobs": 2}),
    ],
)
def test_what_cannot_be_given_is_refused(server, path, body) -> None:
    refused = server.post(path, body)
    assert refused.status_code == 400 and "logprobs" in refused.json()["error"]["param"]


def test_a_token_that_is_part_of_a_character_has_its_own_bytes() -> None:
    tokenizer = make_tokenizer()
    text = "안녕 3 + 4?"
    ids = tokenizer.encode(text)
    assert b"".join(token_bytes(tokenizer, token) for token in ids) == text.encode()
    records = TokenLogprobs(tokenizer, ids, [-1.0] * len(ids), []).records()
    assert bytes(byte for record in records for byte in record["bytes"]) == text.encode()
    assert token_bytes(tokenizer, 1 << 20) == b""


@given(st.lists(st.sampled_from(["3 + 4", "안", "</think", "is", "\n4", " ", "think>"]), min_size=2, max_size=2))
def test_the_tokens_of_a_text_are_found_behind_its_tag(texts) -> None:
    tokenizer, [thought, answer] = make_tokenizer(), texts
    thought, answer = f"hm {thought}", f"so {answer}."
    before, between = tokenizer.encode(thought + "\n"), [tokenizer.think_close_id, *tokenizer.encode("\n\n")]
    ids = tokenizer.encode(answer)
    everything = [*before, *between, *ids, tokenizer.end_id]
    places = places_of(tokenizer, everything, [thought, answer], ["", "</think>"])
    assert everything[places[1]] == ids and tokenizer.decode(everything[places[0]]).startswith(thought)
