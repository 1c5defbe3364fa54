"""A vLLM server as a sampler, by a double that answers as its completions endpoint does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from doubles import TINY, make_model
from mock_vllm import MockVllm, Say, mock_vllm
from open_exaone.base.errors import ConfigError, RunFolderError
from open_exaone.base.records import Generation, Request, Sampling, StopReason
from open_exaone.checkpoint.folder import save_model
from open_exaone.pipeline.evaluate import Choices, evaluate
from open_exaone.remote import http as transport
from open_exaone.remote.http import EndpointError
from open_exaone.rollout.config import VllmServer
from open_exaone.rollout.provider import requests_for
from open_exaone.rollout.providers import vllm_server, vllm_weights
from open_exaone.rollout.providers.vllm_parts import weights_written
from open_exaone.rollout.providers.vllm_server import VllmServerProvider
from open_exaone.text.encode import PieceEncoder
from open_exaone.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["How much is 2 + 3? hm hm hm\n\nThe answer is 5. 그래서 5입니다."] * 9, 320)
RAW = {"temperature": 1.0, "top_p": 1.0}


def reply_ids(text: str) -> list[int]:
    """As a model writes a reply: tags are tokens."""
    return [*PieceEncoder(TOKENIZER.backend).encode([(text, True)])[0], TOKENIZER.end_id]


LONG = reply_ids("hm " * 40 + "\n</think>\n\nThe answer is 5.")


def echo(prompt: list[int]) -> list[int]:
    return reply_ids(f"hm\n</think>\n\nAsked in {len(prompt)} tokens.")


def serving(say: Say = echo, change: Callable[[Any], None] = lambda choice: None, **settings: Any) -> Any:
    return mock_vllm(say, change=change, **settings)


@pytest.fixture(autouse=True)
def _short_waits_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def provider_of(server: MockVllm, **settings: Any) -> VllmServerProvider:
    return VllmServerProvider(VllmServer(kind="vllm_server", url=server.url, **settings), TOKENIZER)


def asks(number: int, k: int = 1, **sampling: Any) -> list[Request]:
    setting = Sampling(**{"max_new_tokens": 200, "num_samples": k, **RAW, **sampling})
    conversations = [[{"role": "user", "content": f"How much is {place} + 3?"}] for place in range(number)]
    return requests_for(conversations, TOKENIZER, setting, thinking=True)


def answers(provider: VllmServerProvider, wanted: list[Request]) -> dict[int, Generation]:
    return dict(provider.stream(wanted))


def test_prompts_go_as_ids_and_ids_and_log_probabilities_come_back() -> None:
    with serving() as server:
        provider = provider_of(server)
        wanted = asks(3, 2)
        done = answers(provider, wanted)
        again = answers(provider, wanted[::-1])
    assert provider.gives_ids and provider.identity == {"engine": server.url, "model": "policy"}
    assert sorted(tuple(body["prompt"]) for body in server.asked[:6]) == sorted(one.prompt_ids or () for one in wanted)
    for place, request in enumerate(wanted):
        ids = tuple(echo(list(request.prompt_ids or ())))
        assert (done[place].ids, done[place].logprobs) == (ids, tuple(-token / 64 for token in ids))
        assert (done[place].reply, done[place].stop) == (TOKENIZER.split(ids, thinking=True), StopReason.END)
        assert done[place] == again[5 - place]
    body = server.asked[0]
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["logprobs"]) == (1.0, 1.0, 200, 0)
    assert body["stop_token_ids"] == list(TOKENIZER.end_ids)
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0.0, 1.0)  # not the server's defaults
    assert "logit_bias" not in body and "stop" not in body
    seeds = [body["seed"] for body in server.asked]
    assert len(set(seeds)) == 6 and sorted(seeds[:6]) == sorted(seeds[6:])


def test_a_thought_over_its_budget_is_continued_from_its_ids() -> None:
    [wanted] = asks(1, temperature=0.6, top_p=0.95, thinking_budget=20)
    start = len(wanted.prompt_ids or ())
    with serving(lambda prompt: LONG if len(prompt) == start else reply_ids("So 5.")) as server:
        [done] = answers(provider_of(server), [wanted]).values()
    first, second = server.asked
    assert second["prompt"][: start + 20] == first["prompt"] + LONG[:20]
    assert (first["max_tokens"], second["max_tokens"]) == (20, 200 - len(second["prompt"]) + start)
    assert (done.stop, done.reply.answer, done.num_thought_tokens) == (StopReason.BUDGET, "So 5.", 20)
    assert done.ids is not None and len(done.ids) == done.num_tokens and done.logprobs is None
    assert "logprobs" not in first  # the server's are the model's own, not those of what was sampled from


def test_bias_and_stop_strings_go_to_the_server() -> None:
    with serving(lambda prompt: LONG) as server:
        [done] = answers(provider_of(server), asks(1, stop="hm hm ", logit_bias={7: 2.0})).values()
    [body] = server.asked
    assert (body["stop"], body["logit_bias"]) == (["hm hm "], {"7": 2.0})
    assert (done.stop, done.reply.thought) == (StopReason.STOP_STRING, "")
    assert done.ids is not None and done.num_tokens == len(done.ids) == len(LONG)  # whatever the server keeps


def test_replies_end_where_the_context_does() -> None:
    with serving(lambda prompt: [5] * 1000) as server:
        provider = provider_of(server)
        [done] = answers(provider, asks(1, max_new_tokens=1000)).values()
    assert done.num_tokens + done.num_prompt_tokens == 400 and done.stop is StopReason.LENGTH
    assert len(provider.notes) == 1 and "context of 400 tokens" in provider.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda choice: choice.pop("token_ids"), "returns no token ids: serve the model with vLLM"),
        (lambda choice: choice.update(token_ids=[-1]), "returns no token ids"),
        (lambda choice: choice.update(token_ids=["5"]), "returns no token ids"),
        (lambda choice: choice.update(token_ids=[True]), "returns no token ids"),
        (lambda choice: choice.pop("logprobs"), "returns no log-probabilities: serve the model with vLLM"),
        (lambda choice: choice["logprobs"].update(token_logprobs=[-1.0]), "returns no log-probabilities"),
        (lambda choice: choice["logprobs"]["token_logprobs"].__setitem__(0, None), "returns no log-probabilities"),
        (lambda choice: choice["logprobs"]["token_logprobs"].__setitem__(0, float("nan")), "no log-probabilities"),
        (lambda choice: choice["logprobs"]["token_logprobs"].__setitem__(0, 2.0), "no log-probabilities"),
        (lambda choice: choice["prompt_token_ids"].append(1), "returned other prompt token ids"),
    ],
)
def test_a_server_that_does_not_return_what_rl_needs_is_refused_at_once(change: Any, message: str) -> None:
    with serving(change=lambda choice: change(choice)) as server:
        with pytest.raises(ConfigError, match=message):
            answers(provider_of(server, concurrency=2), asks(50))
        assert len(server.asked) < 10


@pytest.mark.parametrize("change", [lambda choice: choice.update(finish_reason="abort"), lambda choice: choice.clear()])
def test_what_is_no_completion_is_tried_again_and_then_left_out(change: Any) -> None:
    with serving(change=lambda choice: change(choice)) as server:
        with pytest.raises(EndpointError):
            answers(provider_of(server, max_attempts=3), asks(1))
        assert len(server.asked) == 3


def test_new_weights_go_through_the_folder_that_both_see(tmp_path: Path) -> None:
    weights = {"model.norm.weight": torch.arange(6.0).reshape(2, 3).T, "lm_head.weight": torch.ones(2).bfloat16()}
    with serving() as server:
        provider = provider_of(server, weights_folder=str(tmp_path))
        assert answers(provider, asks(1))[0].policy_version is None
        provider.update_weights(weights.items(), 7)
        assert answers(provider, asks(1))[0].policy_version == 7
    assert pushed(server) == ["/collective_rpc", "/reset_prefix_cache", "/update_weight_version"]
    assert server.weights.keys() == weights.keys()
    assert all(torch.equal(server.weights[name], weights[name]) for name in weights)
    assert list(tmp_path.iterdir()) == []


WEIGHTS = [("model.embed_tokens.weight", torch.ones(4, 2)), ("model.norm.weight", torch.ones(2).bfloat16())]


def pushed(server: MockVllm) -> list[str]:
    """The paths of a transfer, those aside that only look."""
    looks = ("/v1/models", "/v1/completions", "/server_info?config_format=json", "/weight_info", "/version")
    return [path for path in server.paths if path not in looks]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"dev_mode": False},
            r"\(vLLM 0.32.0\): has no route /collective_rpc, .*start vLLM 0.18 .*VLLM_SERVER_DEV_MODE=1",
        ),
        ({"dev_mode": False, "version": None}, "its vLLM version is not known"),
        ({"dev_mode": False, "version": "0.17.1"}, r"\(vLLM 0.17.1\): .*upgrade the server to vLLM 0.18 or later"),
        ({"resets": False}, r"\(vLLM 0.32.0\): failed .*prefix cache is in use"),
    ],
)
def test_a_server_that_takes_no_weights_is_refused_in_one_sentence(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with serving(**settings) as server:
        with pytest.raises((ConfigError, EndpointError), match=message if "resets" not in settings else "prefix cache"):
            provider_of(server, weights_folder=str(tmp_path)).update_weights(WEIGHTS, 1)
        with pytest.raises(ConfigError, match="needs weights_folder, a folder that this process and the server both"):
            provider_of(server).update_weights([], 1)


def test_a_folder_that_the_server_does_not_see_is_named(tmp_path: Path) -> None:
    blind = lambda path, server: (500, {"error": {"message": "Repo id must be"}}, {}) if "rpc" in path else None  # noqa: E731
    with (
        serving(fail=blind) as server,
        pytest.raises(
            ConfigError, match=r"could not load the new weights: .*see the folder engine.weights_folder under"
        ),
    ):
        provider_of(server, weights_folder=str(tmp_path)).update_weights(WEIGHTS, 1)
    assert pushed(server) == ["/collective_rpc"]  # half an update is not repeated


def test_on_a_cpu_a_head_that_is_tied_is_refused_and_gets_its_own_weights_where_it_is_not(tmp_path: Path) -> None:
    with serving(device="cpu", parameters=["dp0:model.embed_tokens.weight"]) as tied:
        with pytest.raises(ConfigError, match=r"runs on a CPU.*tie_word_embeddings = false"):
            provider_of(tied, weights_folder=str(tmp_path)).check_weights(is_tied=True)
        provider_of(tied, weights_folder=str(tmp_path)).check_weights(is_tied=False)
    with serving(device="cpu", parameters=["dp0:lm_head.weight"]) as untied, serving() as gpu:
        for server, names in ((untied, {"lm_head.weight"}), (gpu, set[str]())):
            provider = provider_of(server, weights_folder=str(tmp_path))
            provider.check_weights(is_tied=True)
            provider.update_weights(WEIGHTS, 1)
            assert server.weights.keys() == dict(WEIGHTS).keys() | names
    assert torch.equal(untied.weights["lm_head.weight"], WEIGHTS[0][1])


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """NCCL as a double: what was joined, and what was broadcast to whom."""
    done: list[Any] = []
    monkeypatch.setattr(vllm_weights, "nccl_classes", lambda: (None, None))
    monkeypatch.setattr(vllm_server, "nccl_classes", lambda: (None, None))
    monkeypatch.setattr(vllm_weights, "join_group", lambda classes, *place: (done.append(place), place)[1])
    send = lambda group, weights: done.append((group, [name for name, _ in weights]))  # noqa: E731
    monkeypatch.setattr(vllm_weights, "broadcast", send)
    return done


def test_weights_go_from_gpu_to_gpu_in_vllms_four_phases(groups: list[Any]) -> None:
    phases = ["/start_weight_update", "/update_weights", "/finish_weight_update", "/reset_prefix_cache"]
    with serving() as server:
        provider = provider_of(server, weights="nccl")
        provider.check_weights(is_tied=True)
        provider.update_weights(WEIGHTS, 1)
        provider.update_weights(WEIGHTS, 2)
        assert answers(provider, asks(1))[0].policy_version == 2
    mark = ["/update_weight_version"]
    assert pushed(server) == [
        *("/reset_prefix_cache", "/get_world_size", "/init_weight_transfer_engine"),
        *(*phases, *mark, *phases, *mark),
    ]
    bodies = {path: body for path, body in zip(server.paths, server.bodies, strict=True) if body}
    address, port, size = groups[0]
    info = {"master_address": address, "master_port": port, "rank_offset": 1, "world_size": size}
    assert bodies["/init_weight_transfer_engine"] == {"init_info": info} and size == 3 and address == "127.0.0.1"
    names = [name for name, _ in WEIGHTS]
    described = {"names": names, "dtype_names": ["float32", "bfloat16"], "shapes": [[4, 2], [2]]}
    assert bodies["/update_weights"] == {"update_info": described}
    assert bodies["/start_weight_update"] == {"is_checkpoint_format": True}  # vLLM 0.22 to 0.28 needs it; later ignored
    assert groups == [groups[0], (groups[0], names), (groups[0], names)]  # joined once


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"transfer": False}, r"\(vLLM 0.32.0\): has no route /get_world_size.*start vLLM 0.22 or later with"),
        (
            {"transfer": False, "version": "0.21.0"},
            r"\(vLLM 0.21.0\): .*weights = 'nccl': upgrade the server to vLLM 0.22",
        ),
        (
            {"fail": lambda path, server: (500, {"error": "not configured"}, {}) if "init" in path else None},
            r"not configured.*start it with --weight-transfer-config '\{\"backend\": \"nccl\"\}'",
        ),
    ],
)
def test_a_server_without_weight_transfer_is_named_with_its_version_and_the_fix(
    settings: dict[str, Any], message: str, groups: list[Any]
) -> None:
    with serving(**settings) as server, pytest.raises(ConfigError, match=message):
        provider_of(server, weights="nccl").update_weights(WEIGHTS, 1)


def test_nccl_without_a_gpu_is_refused_before_anything_is_asked() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with serving() as server:
        provider = provider_of(server, weights="nccl")
        with pytest.raises(ConfigError, match=r"engine.weights = 'nccl': sends weights from GPU to GPU.*\"folder\""):
            provider.check_weights(is_tied=True)
    assert pushed(server) == []


def test_an_evaluation_samples_from_a_server_of_the_model(tmp_path: Path) -> None:
    model = tmp_path / "model"
    save_model(model, TINY, dict(make_model().named_parameters()), TOKENIZER, {})
    questions = tmp_path / "mine.jsonl"
    questions.write_text('{"question": "How much is 2 + 3?", "answer": "5"}\n' * 2)
    with serving(lambda prompt: reply_ids("hm\n</think>\n\n\\boxed{5}")) as server:
        options = {"suite": str(questions), "num_samples": 2, "engine": "vllm_server"}
        options["sampling"] = {"max_new_tokens": 60}
        out, url = tmp_path / "out", {"url": server.url}
        _, report = evaluate(str(model), Choices(**options, engine_options=url, concurrency=3), out=out)
        with pytest.raises(ConfigError, match="--engine-option: url: is missing"):
            evaluate(str(model), Choices(**options), out=tmp_path / "refused")
    [entry] = report.tasks
    assert (entry.num_problems, entry.k, entry.pass_at_1) == (2, 2, 1.0)
    assert len(server.asked) == 4 and all(TOKENIZER.decode(body["prompt"]) for body in server.asked)


def test_weights_are_handed_over_in_a_folder_that_another_user_can_read(tmp_path: Path) -> None:
    with weights_written([("w", torch.ones(2))], str(tmp_path)) as folder:
        assert folder.stat().st_mode & 0o777 == 0o755 and load_file(folder / "model.safetensors").keys() == {"w"}
    assert not list(tmp_path.iterdir())
    with pytest.raises(RunFolderError, match="nowhere: cannot write"), weights_written([], str(tmp_path / "nowhere")):
        pass
