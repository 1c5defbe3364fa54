"""vLLM in process, by a double that has its interface: what it is asked, and what is made of its tokens."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Generation, Request, Sampling, StopReason
from open_exaone.rollout.provider import requests_for
from open_exaone.rollout.providers.vllm import VllmProvider
from open_exaone.text.encode import PieceEncoder
from open_exaone.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["How much is 2 + 3? hm hm hm\n\nThe answer is 5. 그래서 5입니다."] * 9, 320)
MAX_MODEL_LEN = 2000


def reply_ids(text: str) -> list[int]:
    """As a model writes a reply: tags are tokens."""
    return [*PieceEncoder(TOKENIZER.backend).encode([(text, True)])[0], TOKENIZER.end_id]


THOUGHT = "hm " * 40
LONG = reply_ids(f"{THOUGHT}\n</think>\n\nThe answer is 5.")


@dataclass
class SamplingParams:
    temperature: float
    top_p: float
    max_tokens: int
    presence_penalty: float
    seed: int
    stop_token_ids: list[int]
    logprobs: int | None
    detokenize: bool
    output_kind: str
    top_k: int
    min_p: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: dict[int, float] | None
    stop: list[str] | None


def logprob_of(token: int) -> float:
    return -token / 64


@dataclass
class FakeEngine:
    """Says what `say` gives for a prompt, a token a step for each request, shortest first."""

    say: Callable[[list[int]], list[int]]
    model_config: Any = field(default_factory=lambda: SimpleNamespace(max_model_len=MAX_MODEL_LEN))
    asked: list[tuple[list[int], SamplingParams]] = field(default_factory=list)
    running: dict[str, tuple[list[int], SamplingParams, int]] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    reason: str | None = None
    calls: list[str] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def collective_rpc(self, method: str, kwargs: dict[str, str]) -> None:
        self.calls.append(method)
        self.weights = load_file(Path(kwargs["weights_path"], "model.safetensors"))

    def add_request(self, request_id: str, prompt: dict[str, list[int]], params: SamplingParams) -> None:
        assert request_id not in self.running
        assert params.max_tokens >= 1
        self.asked.append((prompt["prompt_token_ids"], params))
        self.running[request_id] = (self.say(prompt["prompt_token_ids"]), params, 0)

    def step(self) -> list[Any]:
        outputs = []
        for name, (said, params, done) in list(self.running.items()):
            done += 1
            text = TOKENIZER.decode(said[:done], skip_special=True) if params.stop else ""
            assert params.detokenize or not params.stop  # vLLM refuses stop strings without text
            ended = said[done - 1] in params.stop_token_ids or any(string in text for string in params.stop or ())
            if ended or done == params.max_tokens:
                del self.running[name]
                reply = SimpleNamespace(
                    token_ids=said[:done], finish_reason=self.reason or ("stop" if ended else "length"), logprobs=None
                )
                if params.logprobs is not None:
                    reply.logprobs = [
                        {token: SimpleNamespace(logprob=logprob_of(token)), 7: SimpleNamespace(logprob=-0.5)}
                        for token in reply.token_ids
                        if token != 7
                    ]
                outputs.append(SimpleNamespace(request_id=name, finished=True, outputs=[reply]))
            else:
                self.running[name] = (said, params, done)
        return outputs

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names
        for name in names:
            del self.running[name]


Opened = Callable[..., tuple[VllmProvider, FakeEngine]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Puts the double in vLLM's place and opens a provider on it."""

    def open_it(say: Callable[[list[int]], list[int]], **settings: Any) -> tuple[VllmProvider, FakeEngine]:
        engine = FakeEngine(say)

        def llm(model: str, **options: Any) -> Any:
            if "unknown" in options:
                raise TypeError("unexpected keyword argument 'unknown'")
            assert model == "a/model"
            return SimpleNamespace(
                llm_engine=engine,
                collective_rpc=engine.collective_rpc,
                reset_prefix_cache=lambda: engine.calls.append("reset_prefix_cache"),
            )

        vllm = ModuleType("vllm")
        params = ModuleType("vllm.sampling_params")
        vars(vllm).update(__version__="0.99", LLM=llm, SamplingParams=SamplingParams)
        vars(params).update(RequestOutputKind=SimpleNamespace(FINAL_ONLY="final only"))
        monkeypatch.setitem(sys.modules, "vllm", vllm)
        monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)
        return VllmProvider("a/model", TOKENIZER, **settings), engine

    return open_it


def asks(number: int, k: int = 1, *, thinking: bool = True, **sampling: Any) -> list[Request]:
    setting = Sampling(**{"max_new_tokens": 500, "num_samples": k, **sampling})
    conversations = [[{"role": "user", "content": f"How much is {place} + 3?"}] for place in range(number)]
    return requests_for(conversations, TOKENIZER, setting, thinking=thinking)


def prompt_of(request: Request) -> list[int]:
    return TOKENIZER.render(request.messages, thinking=request.thinking, generation_prompt=True)


def echo(prompt: list[int]) -> list[int]:
    """The longer, the higher the question's number."""
    number = int(TOKENIZER.decode(prompt).split("much is ")[1].split()[0])
    return reply_ids(f"hm\n</think>\n\nAsked in {len(prompt)} tokens." + " hm" * number)


def test_every_sample_is_one_request_of_its_own(opened: Opened) -> None:
    provider, engine = opened(echo)
    wanted = [*asks(4, 3), *asks(1, thinking=False, temperature=0.0, presence_penalty=1.5)]
    done = dict(provider.stream(wanted))
    assert sorted(done) == list(range(13))
    assert [prompt for prompt, _ in engine.asked] == [prompt_of(ask) for ask in wanted]
    first, greedy = engine.asked[0][1], engine.asked[12][1]
    assert (first.temperature, first.top_p, first.max_tokens, first.presence_penalty) == (0.6, 0.95, 500, 0.0)
    assert (greedy.temperature, greedy.top_p, greedy.presence_penalty) == (0.0, 1.0, 1.5)
    assert first.stop_token_ids == list(TOKENIZER.end_ids)
    assert len({params.seed for _, params in engine.asked}) == 13
    assert all(0 <= params.seed < 2**31 for _, params in engine.asked)
    prompt = prompt_of(wanted[3])
    assert done[3].reply.thought == "hm"
    assert done[3].reply.answer.startswith(f"Asked in {len(prompt)} tokens.")
    assert (done[3].num_prompt_tokens, done[3].num_tokens) == (len(prompt), len(echo(prompt)))
    assert done[3].num_thought_tokens == len(TOKENIZER.encode("hm"))
    assert done[3].stop is StopReason.END
    again, other = opened(echo)
    assert dict(again.stream(wanted)) == done
    assert [params.seed for _, params in other.asked] == [params.seed for _, params in engine.asked]


def test_every_setting_reaches_vllm_by_its_name(opened: Opened) -> None:
    """Also what is at its default: vLLM's own defaults are those of the model's generation_config.json."""
    provider, engine = opened(echo)
    chosen = {"top_k": 9, "min_p": 0.1, "frequency_penalty": 0.5, "repetition_penalty": 1.2, "logit_bias": {7: -1.5}}
    list(provider.stream([*asks(1, stop_ids=[5], **chosen), *asks(1)]))
    (_, first), (_, plain) = engine.asked
    assert {name: getattr(first, name) for name in chosen} == chosen
    assert first.stop_token_ids == [*TOKENIZER.end_ids, 5]
    assert (plain.top_k, plain.min_p, plain.frequency_penalty, plain.repetition_penalty) == (-1, 0.0, 0.0, 1.0)
    assert (plain.logit_bias, plain.stop, plain.detokenize) == (None, None, False)


def test_a_stop_string_ends_the_text_and_not_the_ids(opened: Opened) -> None:
    provider, _ = opened(lambda prompt: LONG)
    [(_, done)] = provider.stream(asks(1, stop=("swer is", "zz")))
    assert (done.stop, done.reply.answer, done.reply.finished) == (StopReason.STOP_STRING, "The an", True)
    assert list(done.ids or ()) == LONG[: done.num_tokens]
    assert "The answer is" in TOKENIZER.decode(list(done.ids or ()))
    [(_, cut)] = provider.stream(asks(1, stop="hm hm"))
    assert (cut.stop, cut.reply.thought, cut.reply.finished) == (StopReason.STOP_STRING, "", False)


def test_the_limit_cuts(opened: Opened) -> None:
    provider, _ = opened(lambda prompt: LONG)
    [(_, cut)] = provider.stream(asks(1, max_new_tokens=10))
    assert (cut.stop, cut.num_tokens, cut.num_thought_tokens) == (StopReason.LENGTH, 10, 10)
    assert not cut.reply.finished


def with_budget(opened: Opened, budget: int, **sampling: Any) -> tuple[Generation, FakeEngine]:
    ask = asks(1, thinking_budget=budget, **sampling)[0]
    start = len(prompt_of(ask))

    def say(prompt: list[int]) -> list[int]:
        begun = prompt[start:]
        if begun == LONG[: len(begun)]:
            return LONG[len(begun) :]
        return reply_ids("So 5.")  # the thought was closed early

    provider, engine = opened(say)
    [(_, done)] = provider.stream([ask])
    return done, engine


def test_a_thought_over_its_budget_is_closed_and_the_answer_follows(opened: Opened) -> None:
    done, engine = with_budget(opened, 20)
    (prompt, first), (continued, second) = engine.asked
    closing = continued[len(prompt) + 20 :]
    assert continued[: len(prompt) + 20] == prompt + LONG[:20]
    assert TOKENIZER.decode(closing) == "\n</think>\n\n"
    assert (first.max_tokens, second.max_tokens) == (20, 500 - 20 - len(closing))
    assert done.stop is StopReason.BUDGET
    assert THOUGHT.startswith(done.reply.thought) and done.reply.answer == "So 5." and done.reply.finished
    assert done.num_tokens == 20 + len(closing) + len(reply_ids("So 5."))
    assert done.num_thought_tokens == 20


def test_a_budget_changes_no_reply_whose_thought_is_shorter(opened: Opened) -> None:
    whole, engine = with_budget(opened, 450)
    assert len(engine.asked) == 1
    in_the_answer, engine = with_budget(opened, len(LONG) - 3)
    assert len(engine.asked) == 2
    assert in_the_answer == whole
    assert whole.reply.answer == "The answer is 5." and whole.stop is StopReason.END


def test_a_budget_that_leaves_no_room_for_an_answer_ends_by_length(opened: Opened) -> None:
    done, engine = with_budget(opened, 20, max_new_tokens=21)
    assert len(engine.asked) == 1
    assert done.stop is StopReason.LENGTH


def test_closing_and_ctrl_c_free_what_is_running(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, engine = opened(echo)
    stream = provider.stream(asks(9, 9))
    next(stream)
    num_running = len(engine.running)
    stream.close()
    assert engine.running == {} and len(engine.aborted) == num_running > 50
    stream = provider.stream(asks(9))
    next(stream)
    monkeypatch.setattr(interrupt, "_requested", True)
    with pytest.raises(interrupt.Interrupted):
        list(stream)
    assert engine.running == {}


def test_many_requests_are_given_bit_by_bit(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_exaone.rollout.providers.vllm.MAX_UNFINISHED", 7)
    provider, engine = opened(echo)
    stream = provider.stream(asks(10, 10))
    next(stream)
    assert len(engine.asked) == 7
    assert len(list(stream)) == 99
    assert len(engine.asked) == 100


def test_what_vllm_gives_up_is_left_out_and_told(opened: Opened) -> None:
    provider, engine = opened(echo)
    engine.reason = "abort"
    assert list(provider.stream(asks(3))) == []
    assert provider.failure is not None and "abort" in provider.failure


def test_replies_end_where_the_context_does(opened: Opened) -> None:
    provider, engine = opened(echo)
    told = dict(provider.stream([*asks(1), *asks(1, max_new_tokens=1990)]))
    assert len(told) == 2 and len(engine.asked) == 2
    assert len(provider.notes) == 1 and "context of 2000 tokens" in provider.notes[0]


def test_who_it_is_and_what_it_costs(opened: Opened) -> None:
    provider, _ = opened(echo, weights="abc", num_parameters=10**9)
    assert dict(provider.identity) == {"engine": "vllm 0.99", "model": "a/model", "weights": "abc"}
    [(_, done)] = provider.stream(asks(1))
    assert provider.flops(done) == 2e9 * (done.num_prompt_tokens + done.num_tokens)
    assert opened(echo)[0].flops(done) is None


def test_ids_and_log_probabilities_are_those_of_the_sampled_tokens(opened: Opened) -> None:
    provider, engine = opened(echo)
    assert provider.gives_ids
    plain = asks(2, temperature=1.0, top_p=1.0)
    done = dict(provider.stream([*plain, *asks(1)]))
    for place, request in enumerate(plain):
        ids = tuple(echo(prompt_of(request)))
        assert done[place].ids == ids and done[place].logprobs == tuple(map(logprob_of, ids))
        assert done[place].policy_version is None
    assert (done[2].ids, done[2].logprobs) == (tuple(echo(prompt_of(plain[0]))), None)  # not the model's own
    assert [params.logprobs for _, params in engine.asked] == [0, 0, None]


def test_new_weights_are_read_before_the_next_sample(opened: Opened) -> None:
    provider, engine = opened(echo)
    weights = {"model.norm.weight": torch.arange(6.0).reshape(2, 3).T, "lm_head.weight": torch.ones(2).bfloat16()}
    provider.update_weights(weights.items(), 4)
    assert engine.calls == ["reload_weights", "reset_prefix_cache"]
    assert engine.weights.keys() == weights.keys()
    assert all(torch.equal(engine.weights[name], weights[name]) for name in weights)
    [(_, done)] = provider.stream(asks(1))
    assert done.policy_version == 4


def test_without_vllm_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r'pip install "open-exaone\[vllm\]"'):
        VllmProvider("a/model", TOKENIZER)


def test_what_vllm_does_not_open_is_told(opened: Opened) -> None:
    with pytest.raises(ConfigError, match="vLLM cannot load a/model: .*unknown"):
        opened(echo, options={"unknown": 1})
