"""Several servers of one model: who is asked, who is lost, who comes back, with which weights."""

import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from doubles import make_tokenizer
from mock_endpoint import endpoint, mock_endpoint
from mock_vllm import MockVllm, mock_vllm
from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Request, Sampling
from open_exaone.pipeline.evaluate import Choices, evaluate
from open_exaone.remote import http as transport
from open_exaone.remote.http import EndpointError
from open_exaone.rollout.config import ChatEndpoint, VllmServer
from open_exaone.rollout.provider import requests_for
from open_exaone.rollout.providers.vllm_server import VllmServerProvider

TOKENIZER = make_tokenizer()
WAIT_S = 60.0


@pytest.fixture(autouse=True)
def _short_waits_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def asks(number: int) -> list[Request]:
    setting = Sampling(max_new_tokens=20, temperature=1.0, top_p=1.0)
    conversations = [[{"role": "user", "content": f"How much is {place} + 3?"}] for place in range(number)]
    return requests_for(conversations, TOKENIZER, setting, thinking=True)


def say(prompt: list[int]) -> list[int]:
    return [len(prompt) % 50 + 20, TOKENIZER.end_id]


def provider_of(*urls: str, **settings: Any) -> VllmServerProvider:
    return VllmServerProvider(VllmServer(kind="vllm_server", url=urls, **settings), TOKENIZER)


def texts(done: dict[int, Any]) -> list[Any]:
    return [done[place].ids for place in sorted(done)]


class Gate:
    """Holds replies back until so many are asked for, at all servers together."""

    def __init__(self, number: int) -> None:
        self.barrier = threading.Barrier(number)

    def __call__(self, path: str, server: MockVllm) -> None:
        if path == "/v1/completions":
            self.barrier.wait(WAIT_S)


def test_requests_go_to_the_server_with_the_fewest_in_flight_and_no_more_than_concurrency() -> None:
    gate = Gate(8)  # eight at once: four at each, which is what each may get
    with mock_vllm(say, fail=gate) as first, mock_vllm(say, fail=gate) as second:
        done = dict(provider_of(first.url, second.url, concurrency=4).stream(asks(32)))
    with mock_vllm(say) as alone:
        assert texts(done) == texts(dict(provider_of(alone.url).stream(asks(32))))
    assert len(first.asked) == len(second.asked) == 16
    assert first.most_running == second.most_running == 4
    key = lambda body: tuple(body["prompt"])  # noqa: E731
    assert sorted(map(key, first.asked + second.asked)) == sorted(map(key, alone.asked))
    seeds = {key(body): body["seed"] for body in alone.asked}
    assert all(seeds[key(body)] == body["seed"] for body in first.asked + second.asked)


def test_few_requests_are_shared_out_evenly() -> None:
    gate = Gate(6)
    with mock_vllm(say, fail=gate) as first, mock_vllm(say, fail=gate) as second:
        dict(provider_of(first.url, second.url, concurrency=6).stream(asks(6)))
    assert len(first.asked) == len(second.asked) == 3


def test_a_lost_servers_requests_go_to_the_others() -> None:
    def dies(path: str, server: MockVllm) -> None:
        if path == "/v1/completions" and len(server.asked) == 3 and not server.is_dead:
            threading.Thread(target=server.die).start()

    with mock_vllm(say, fail=dies) as dying, mock_vllm(say) as staying:
        provider = provider_of(dying.url, staying.url, concurrency=2)
        done = dict(provider.stream(asks(24)))
    assert sorted(done) == list(range(24)) and provider.failure is None
    assert len(staying.asked) >= 20


def test_a_run_ends_only_when_all_servers_are_lost_and_names_each() -> None:
    def dies(path: str, server: MockVllm) -> None:
        if path == "/v1/completions":
            server.is_dead = True
            threading.Thread(target=server.die).start()

    with mock_vllm(say, fail=dies) as first, mock_vllm(say, fail=dies) as second:
        provider = provider_of(first.url, second.url, concurrency=2)
        with pytest.raises(EndpointError, match="all 2 servers have failed") as caught:
            dict(provider.stream(asks(8)))
    assert first.url in str(caught.value) and second.url in str(caught.value)


def test_a_server_that_comes_back_is_asked_again_with_the_weights_of_now(tmp_path: Path) -> None:
    """Its replies show which weights it has; until it has those of now, it gets no request."""
    came_back, wrong = threading.Event(), list[str]()

    def checked(path: str, server: MockVllm) -> None:
        if path == "/v1/completions":
            if not server.weights or float(server.weights["w"][0]) != 2.0:
                wrong.append("asked with other weights")
            came_back.set()

    with ExitStack() as servers:
        first = servers.enter_context(mock_vllm(say))
        port = first.server_address[1]

        def slow(path: str, server: MockVllm) -> None:
            if path == "/v1/completions" and len(server.asked) >= 4:
                came_back.wait(WAIT_S)

        second = servers.enter_context(mock_vllm(say, fail=slow))
        provider = provider_of(first.url, second.url, concurrency=1, weights_folder=str(tmp_path))
        provider.update_weights([("w", torch.ones(1))], 1)
        provider.update_weights([("w", torch.full((1,), 2.0))], 2)
        first.die()
        stream = provider.stream(asks(12))
        done = dict([next(stream)])
        again = servers.enter_context(mock_vllm(say, fail=checked, port=port))
        done |= dict(stream)
    assert sorted(done) == list(range(12)) and not wrong
    assert again.asked and again.paths.index("/collective_rpc") < again.paths.index("/v1/completions")
    assert {one.policy_version for one in done.values()} == {2}


def test_a_server_that_has_another_model_when_it_comes_back_is_not_asked() -> None:
    with ExitStack() as servers:
        first = servers.enter_context(mock_vllm(say))
        port = first.server_address[1]
        looked = threading.Event()

        def slow(path: str, server: MockVllm) -> None:
            if path == "/v1/completions":
                looked.wait(WAIT_S)

        def look(path: str, server: MockVllm) -> None:
            if server.paths.count("/v1/models") > 1:
                looked.set()

        second = servers.enter_context(mock_vllm(say, fail=slow))
        provider = provider_of(first.url, second.url, concurrency=1)
        first.die()
        provider.peers[0].lose(EndpointError("gone"))
        other = servers.enter_context(mock_vllm(say, model="another", fail=look, port=port))
        assert len(dict(provider.stream(asks(6)))) == 6
    assert other.paths and set(other.paths) == {"/v1/models"}


def test_a_server_that_was_started_again_unseen_gets_the_weights_before_any_request(tmp_path: Path) -> None:
    with ExitStack() as servers:
        first, second = (servers.enter_context(mock_vllm(say)) for _ in range(2))
        port, url = first.server_address[1], first.url
        both = provider_of(url, second.url, concurrency=1, weights_folder=str(tmp_path))
        alone = provider_of(url, weights_folder=str(tmp_path))
        for provider in (alone, both):
            provider.update_weights([("w", torch.ones(1))], 1)
        assert len(dict(both.stream(asks(4)))) == 4
        first.die()
        again = servers.enter_context(mock_vllm(say, port=port))
        with pytest.raises(ConfigError, match=f"{url}: the server was restarted after it got the weights"):
            dict(alone.stream(asks(1)))
        assert len(dict(both.stream(asks(40)))) == 40
    paths = [path for path in again.paths if path in ("/collective_rpc", "/v1/completions")]
    assert "/v1/completions" not in paths[: paths.index("/collective_rpc")] if paths else True


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_a_pause_gets_nothing_until_then(status: int) -> None:
    busy = lambda path, server: (status, {}, {"Retry-After": "3000"}) if "completions" in path else None  # noqa: E731
    with mock_vllm(say, fail=busy) as paused, mock_vllm(say, fail=Gate(3)) as free:
        provider = provider_of(paused.url, free.url, concurrency=3)
        assert len(dict(provider.stream(asks(30)))) == 30
        assert len(dict(provider.stream(asks(30)))) == 30  # also in the next step
    assert paused.paths.count("/v1/completions") <= 3 and len(free.asked) == 60
    assert free.most_running == 3  # it gets no more at once for that
    assert any(f"x {status}" in note for note in provider.notes)


def test_a_server_that_answers_everything_with_500_does_not_draw_all_requests() -> None:
    broken = lambda path, server: (500, {"error": "broken"}, {}) if "completions" in path else None  # noqa: E731
    with mock_vllm(say, fail=broken) as black_hole, mock_vllm(say) as good:
        provider = provider_of(black_hole.url, good.url, concurrency=2)
        assert len(dict(provider.stream(asks(60)))) == 60 and provider.failure is None
    assert len(good.asked) == 60
    assert black_hole.paths.count("/v1/completions") < 60


def test_what_a_server_refuses_is_not_asked_of_all_the_others() -> None:
    refuses = lambda path, server: (400, {"error": "no"}, {}) if "completions" in path else None  # noqa: E731
    with mock_vllm(say, fail=refuses) as first, mock_vllm(say, fail=refuses) as second:
        provider = provider_of(first.url, second.url)
        with pytest.raises(EndpointError, match="it answers 400"):
            dict(provider.stream(asks(3)))
    assert first.paths.count("/v1/completions") + second.paths.count("/v1/completions") == 3


def test_servers_of_different_models_are_refused_and_one_that_does_not_answer_is_named() -> None:
    with mock_vllm(say) as first, mock_vllm(say, model="another") as second:
        with pytest.raises(
            ConfigError, match=rf"{second.url}: has no model 'policy', which {first.url} has, but another"
        ):
            provider_of(first.url, second.url)
        first.die()
        with pytest.raises(EndpointError, match=first.url):
            provider_of(second.url, first.url)


def test_the_shortest_context_of_the_servers_holds_for_all() -> None:
    with mock_vllm(say, context=400) as first, mock_vllm(say, context=36) as second:
        provider = provider_of(first.url, second.url)
        dict(provider.stream(asks(4)))
    longest = max(body["max_tokens"] + len(body["prompt"]) for body in first.asked + second.asked)
    assert longest <= 36 and "context of 36" in provider.notes[0]


def test_addresses_are_a_list_or_joined_by_commas() -> None:
    a, b = "http://a:1/v1", "http://b:1/v1"
    for given in (f"{a},{b}", f" {a} , {b} ", [a, b]):
        assert validate(ChatEndpoint, {"url": given}, "engine").urls == (a, b)
    assert ChatEndpoint(url=a).url == a and ChatEndpoint(url=(a,)).urls == (a,)
    for wrong, why in (("", "is empty"), (f"{a},", "is empty"), ([], "is empty"), ([a, b, a], f"{a} is named twice")):
        with pytest.raises(ConfigError, match=why):
            validate(ChatEndpoint, {"url": wrong}, "engine")


def test_an_evaluation_spreads_over_endpoints_and_gives_what_one_gives(tmp_path: Path) -> None:
    questions = tmp_path / "mine.jsonl"
    questions.write_text("".join(f'{{"question": "How much is {n} + 1?", "answer": "{n + 1}"}}\n' for n in range(12)))
    answered = Counter[int]()

    def reply(name: int) -> Any:
        def answer(question: str, request: dict[str, Any]) -> str:
            answered[name] += 1
            return f"\\boxed{{{request['seed'] % 13}}}"

        return answer

    scores = []
    with mock_endpoint(reply(0), latency_s=0.01) as first, mock_endpoint(reply(1), latency_s=0.01) as second:
        for number, engine in enumerate((first.url, f"{first.url},{second.url}")):
            options = {"suite": str(questions), "num_samples": 2, "engine": engine}
            options["sampling"] = {"max_new_tokens": 60}
            answered.clear()
            _, report = evaluate("mock", Choices(**options, concurrency=4), out=tmp_path / str(number))
            scores.append(report.tasks[0].pass_at_1)
    assert sum(answered.values()) == 24 and min(answered[0], answered[1]) > 0
    assert scores[0] == scores[1]
    assert report.model["engine"] == f"{first.url}, {second.url}"


def test_a_chat_endpoint_of_several_with_a_named_model_asks_each_whether_it_has_it() -> None:
    with mock_endpoint(lambda q, r: "5", models=("a", "b")) as first, mock_endpoint(lambda q, r: "5") as second:
        with pytest.raises(ConfigError, match="has no model 'b'"):
            endpoint(f"{first.url},{second.url}", "b")
        assert endpoint(first.url, "b").identity["model"] == "b"
