"""What generates, as a table of a recipe, and how it is opened."""

from dataclasses import replace
from typing import Any

import pytest

from doubles import TINY, make_model, make_tokenizer
from mock_endpoint import mock_endpoint
from open_exaone.base.config import Config, validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Sampling
from open_exaone.kernels.build import library
from open_exaone.rollout.config import ChatEndpoint, EngineConfig, LocalEngine, VllmEngine, VllmServer
from open_exaone.rollout.provider import requests_for
from open_exaone.rollout.providers.open import Policy, open_provider


class Holder(Config):
    engine: EngineConfig = LocalEngine()


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ({"kind": "local", "num_slots": 8}, LocalEngine),
        ({"kind": "vllm", "options": {"tensor_parallel_size": 2}}, VllmEngine),
        ({"kind": "vllm_server", "url": "http://localhost:8000/v1", "weights_folder": "w"}, VllmServer),
        ({"kind": "endpoint", "url": "http://localhost:8000/v1", "thought_tag": "thought"}, ChatEndpoint),
    ],
)
def test_the_kind_decides_which_settings_there_are(table: dict[str, Any], kind: type) -> None:
    config = validate(Holder, {"engine": table}, "recipe").engine
    assert type(config) is kind
    assert all(getattr(config, name) == value for name, value in table.items())
    with pytest.raises(ConfigError, match="nonsense"):
        validate(Holder, {"engine": {**table, "nonsense": 1}}, "recipe")


@pytest.mark.parametrize("table", [{"kind": "sglang"}, {"num_slots": 8}, {"kind": "endpoint"}, {"kind": "vllm_server"}])
def test_an_unknown_kind_and_a_missing_address_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="engine"):
        validate(Holder, {"engine": table}, "recipe")


def test_rounded_weights_are_another_engine_s_and_need_native_code() -> None:
    config, tokenizer = LocalEngine(weights="int8"), make_tokenizer()
    policy = Policy("tiny", tokenizer, make_model(), weights="abc")
    if library() is None:
        with pytest.raises(ConfigError, match="weights = 'int8': the native engine cannot compute this model: there"):
            open_provider(config, policy)
        return
    rounded, exact = (open_provider(engine, policy) for engine in (config, LocalEngine()))
    assert {**exact.identity, "weights_dtype": "int8"} == rounded.identity
    conversation = [{"role": "user", "content": "How much is 1 + 2?"}]
    wanted = requests_for([conversation], tokenizer, Sampling(8), thinking=True)
    [(_, one)], [(_, other)] = rounded.stream(wanted), exact.stream(wanted)
    assert one.logprobs is not None and other.logprobs is not None
    assert one.logprobs[0] != other.logprobs[0] and one.logprobs[0] == pytest.approx(other.logprobs[0], abs=0.1)
    narrow = replace(policy, model=make_model(TINY.model_copy(update={"width": 40})))
    with pytest.raises(ConfigError, match="weights = 'int8': the native engine cannot compute this model: width = 40"):
        open_provider(config, narrow)
    with pytest.raises(ConfigError, match="weights = 'int8', backend = 'plain': int8 = True is for the native engine"):
        open_provider(LocalEngine(weights="int8", backend="plain"), policy)


def test_engines_are_opened_as_their_settings_say() -> None:
    tokenizer = make_tokenizer()
    local = open_provider(LocalEngine(num_slots=2), Policy("tiny", tokenizer, make_model(), weights="abc"))
    assert (local.identity["model"], local.identity["weights"], local.gives_ids) == ("tiny", "abc", True)
    conversation = [{"role": "user", "content": "How much is 1 + 2?"}]
    wanted = requests_for([conversation], local.tokenizer, Sampling(5, num_samples=3), thinking=True)
    assert sorted(place for place, _ in local.stream(wanted)) == [0, 1, 2]
    with mock_endpoint(lambda question, request: "5") as server:
        remote = open_provider(ChatEndpoint(url=server.url), Policy("any"))
        assert (remote.gives_ids, remote.tokenizer, remote.identity["model"]) == (False, None, "mock")
        with pytest.raises(ConfigError, match="'vllm_server' renders prompts itself: name a model with a tokenizer"):
            open_provider(VllmServer(kind="vllm_server", url=server.url), Policy("any"))
        assert open_provider(VllmServer(kind="vllm_server", url=server.url), Policy("any", tokenizer)).gives_ids
