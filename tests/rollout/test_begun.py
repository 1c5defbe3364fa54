"""Replies that begin with a given thought: what is asked, and what comes back."""

from dataclasses import replace

import pytest

from doubles import make_model, make_tokenizer
from mock_endpoint import endpoint, mock_endpoint
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Begun, Reply, Sampling
from open_exaone.engine.engine import Engine
from open_exaone.engine.thought import Thoughts
from open_exaone.rollout.begun import read_reply
from open_exaone.rollout.provider import prompt_text, requests_for
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.text.tokenizer import Tokenizer

QUESTION = [{"role": "user", "content": "3 + 4?"}]
GREEDY = Sampling(max_new_tokens=40, temperature=0.0)
THOUGHTS = ("3+4=7", "", "한글 7\n8", "a\n", "<think> is no tag here", "7 <")


def begin(thought, *, closed=True, tokenizer=None, sampling=GREEDY):
    begun = [Begun(thought, closed)]
    [request] = requests_for([QUESTION], tokenizer, sampling, thinking=True, begun=begun)
    return request


@pytest.mark.parametrize("name", ["exaone-4.0", "exaone-deep", "exaone-3.5"])
@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_begun_reply_is_written_as_the_format_writes_it(name, thought):
    tokenizer = Tokenizer(make_tokenizer().backend, chat_format=name)
    tag = tokenizer.chat_format.thought_tag
    prompt = tokenizer.decode(tokenizer.render(QUESTION, thinking=True, generation_prompt=True))
    if tokenizer.chat_format.opens_thought(True):
        assert prompt.endswith(f"<{tag}>\n")
    else:
        prompt += f"<{tag}>\n"
    opened, closed = (begin(thought, closed=closed, tokenizer=tokenizer) for closed in (False, True))
    assert tokenizer.decode(opened.prompt_ids) == prompt + thought
    assert tokenizer.decode(closed.prompt_ids) == prompt + thought.removesuffix("\n") + f"\n</{tag}>\n\n"


@pytest.mark.parametrize("thought", ["3+4=7", "한글 7\n8"])
def test_its_ids_are_those_that_training_sees(thought):
    tokenizer = make_tokenizer()
    reply = {"role": "assistant", "reasoning_content": thought, "content": "It is 7."}
    learned = tokenizer.render([*QUESTION, reply], thinking=True)
    begun = begin(thought, tokenizer=tokenizer).prompt_ids
    assert tuple(learned[: len(begun)]) == begun


def test_tokens_that_are_given_count_among_those_that_may_be():
    tokenizer = make_tokenizer()
    plain = requests_for([QUESTION], tokenizer, GREEDY, thinking=True)[0]
    begun = begin("3+4=7", tokenizer=tokenizer, sampling=replace(GREEDY, thinking_budget=3))
    assert len(begun.prompt_ids) + begun.sampling.max_new_tokens == len(plain.prompt_ids) + GREEDY.max_new_tokens
    assert begun.sampling.thinking_budget is None
    assert begin("3+4=7 " * 90, tokenizer=tokenizer).sampling.max_new_tokens == 1


def test_requests_that_begin_otherwise_have_other_keys():
    texts = {prompt_text(begin(*what)) for what in (("a",), ("b",), ("",))}
    texts.add(prompt_text(requests_for([QUESTION], None, GREEDY, thinking=True)[0]))
    tokenizer = make_tokenizer()
    texts |= {prompt_text(begin("a", closed=closed, tokenizer=tokenizer)) for closed in (True, False)}
    assert len(texts) == 6


@pytest.mark.parametrize("closed", [True, False])
def test_the_engine_goes_on_from_what_is_given(closed):
    tokenizer = make_tokenizer()
    engine = Engine(make_model(), tokenizer, num_slots=4)
    request = begin("3+4=7", closed=closed, tokenizer=tokenizer)
    [(_, generation)] = LocalProvider(engine, model="tiny").stream([request])
    [[alone]] = engine.generate([list(request.prompt_ids)], request.sampling)
    text = tokenizer.decode(alone.ids, skip_special=True)
    assert generation.ids == alone.ids and generation.num_tokens == len(alone.ids)
    assert generation.reply.thought.startswith("3+4=7")
    assert generation.reply.finished == (closed or "</think>" in text)
    assert generation.num_thought_tokens == (0 if closed else engine.thoughts.num_tokens(alone.ids, generation.reply))


@pytest.mark.parametrize("name", ["exaone-4.0", "exaone-deep", "exaone-3.5"])
@pytest.mark.parametrize(
    ("begun", "text", "reply"),
    [
        (Begun("3+4=7", True), "It is 7.", Reply("3+4=7", "It is 7.")),
        (Begun("", True), "It is 7.", Reply("", "It is 7.")),
        (Begun("3+4=8\n", False), "8-1=7\n</think>\n\n7", Reply("3+4=8\n8-1=7", "7")),
        (Begun("3+4=8", False), " so", Reply("3+4=8 so", "", finished=False)),
        (Begun("3+4", True), "<think>\n3+4=7\n</think>\n\n7", Reply("3+4\n\n3+4=7", "7")),
    ],
)
def test_a_reply_is_read_with_what_it_was_begun_with(name, begun, text, reply):
    tokenizer = Tokenizer(make_tokenizer().backend, chat_format=name)
    tag = tokenizer.chat_format.thought_tag
    text = text.replace("think>", f"{tag}>")
    request, thoughts = begin(begun.thought, closed=begun.closed, tokenizer=tokenizer), Thoughts(tokenizer)
    ids = tokenizer.encode(text)
    found, num_thought_tokens = read_reply(text, ids, request, tokenizer, thoughts)
    assert found == reply
    in_thought = "" if begun.closed else text.partition(f"\n</{tag}>")[0]
    assert num_thought_tokens == len(tokenizer.encode(in_thought))


def test_an_endpoint_continues_the_given_thought():
    with mock_endpoint(lambda question, request: "<think>\nmine\n</think>\n\nIt is \\boxed{7}.") as server:
        [(_, done)] = endpoint(server.url).stream([begin("3+4=8")])
    [asked] = server.requests
    assert asked["messages"][-1] == {"role": "assistant", "content": "3+4=8\n</think>\n\n"}
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
    assert done.reply == Reply("3+4=8", "It is \\boxed{7}.")
    assert done.num_thought_tokens == 0


def test_an_endpoint_that_continues_nothing_is_refused():
    def begins_anew(question, request):
        return {"content": "<think>\nhm\n</think>\n\n7"}

    refused = pytest.raises(ConfigError, match="does not continue a reply.*--faithfulness.*local")
    with mock_endpoint(lambda *_: "7", refuse_fields=["continue_final_message"]) as server, refused:
        list(endpoint(server.url).stream([begin("3+4=8")]))
    with mock_endpoint(begins_anew) as server, pytest.raises(ConfigError, match="does not continue a reply"):
        list(endpoint(server.url).stream([begin("3+4=8")]))
    with pytest.raises(ConfigError, match="cannot continue an unfinished thought"):
        begin("3+4=8", closed=False)
