"""A recipe whose samples come from vLLM servers: one or several, with and without staleness, one that dies midway."""

import threading
import tomllib
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from doubles import TINY, make_model, make_tokenizer
from mock_vllm import mock_vllm
from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_jsonl
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.pipeline.folder import decisive
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.remote import http as transport

RECIPE = """
name = "mine"
model = "PLACE/checkpoint"
data.prompts.sources = [{ path = "PLACE/prompts.jsonl" }]
engine = { kind = "vllm_server", url = "URLS", weights_folder = "PLACE/weights" }

[[stages]]
kind = "rl"
name = "rl"
data = "prompts"
mode = "non_reasoning"
rubric = { truncated = 0.5 }
num_steps = 4
batch_prompts = 3
group_size = 4
max_new_tokens = 6
checkpoint_steps = 1
optimizer = { kind = "adamw", learning_rate = 1e-2 }
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(transport, "FIRST_WAIT_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    save_model(tmp_path / "checkpoint", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    (tmp_path / "weights").mkdir()
    rows = (f'{{"question": "How much is {n} + 1?", "answer": "{n + 1}"}}\n' for n in range(24))
    (tmp_path / "prompts.jsonl").write_text("".join(rows))
    return tmp_path


def draw(body):
    """A reply that depends on the request's seed alone: some end by themselves, some at the limit."""
    seed = body["seed"]
    return [seed % 97 + 100, seed // 97 % 89 + 100, *([make_tokenizer().end_id] if seed % 2 else [120] * 9)]


def run(place, name, urls, *changes):
    recipe = load_recipe(tomllib.loads(RECIPE.replace("PLACE", str(place)).replace("URLS", ",".join(urls))), changes)
    run_recipe(recipe, place / name, lambda event: None, Machine(device="cpu", dtype="float32"))
    return {name: weight.clone() for name, weight in load_weights(place / name / "01-rl" / "model").items()}


@pytest.mark.parametrize("staleness", [0, 1])
def test_servers_of_which_one_dies_train_the_model_that_one_server_trains(place, staleness):
    change = f"rl.max_staleness={staleness}"
    with mock_vllm(draw=draw, context=64) as alone:
        wanted = run(place, "alone", [alone.url], change)

    def dies(path, server):
        if path == "/v1/completions" and len(server.pushes) == 2 and not server.is_dead:
            server.is_dead = True
            threading.Thread(target=server.die).start()

    with mock_vllm(draw=draw, context=64, fail=dies) as first, mock_vllm(draw=draw, context=64) as second:
        found = run(place, "several", [first.url, second.url], change)
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())
    assert first.is_dead and len(first.pushes) == 2 and len(second.pushes) == 4
    before = load_weights(place / "checkpoint")
    assert not all(torch.equal(before[name], weight) for name, weight in wanted.items())
    last = alone.weights["model.norm.weight"]  # the weights behind step 3 - staleness
    assert not torch.equal(last, before["model.norm.weight"])
    rows = read_jsonl(place / "several" / "01-rl" / "metrics.jsonl")
    assert [row.get("staleness", 0) for row in rows] == [0.0, *[float(staleness)] * 3]
    assert not list((place / "weights").iterdir())  # nothing is left there


def test_a_run_ends_where_all_servers_are_lost_and_resumes_with_others(place):
    def dies(path, server):
        if path == "/v1/completions" and len(server.pushes) == 3:
            server.is_dead = True
            threading.Thread(target=server.die).start()

    with ExitStack() as servers:
        urls = [servers.enter_context(mock_vllm(draw=draw, context=64, fail=dies)).url for _ in range(2)]
        with pytest.raises(transport.EndpointError, match="all 2 servers have failed"):
            run(place, "cut", urls)
    with mock_vllm(draw=draw, context=64) as other, mock_vllm(draw=draw, context=64) as alone:
        found = run(place, "cut", [other.url])
        wanted = run(place, "alone", [alone.url])
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())
    assert len(other.pushes) == 2  # steps that were done are not sampled again


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({"dev_mode": False}, (), r"has no route /reset_prefix_cache.*VLLM_SERVER_DEV_MODE=1"),
        ({"dev_mode": False, "version": "0.9.2"}, (), r"\(vLLM 0.9.2\): .*upgrade the server to vLLM 0.18"),
        ({"device": "cpu"}, (), r"runs on a CPU.*tie_word_embeddings = false"),
        ({}, ("engine.weights='nccl'",), r"engine.weights = 'nccl': (sends weights from GPU to GPU|uses vLLM)"),
        ({}, ("engine.url=['http://127.0.0.1:1/v1']",), "http://127.0.0.1:1/v1: no answer"),
    ],
    ids=["no development mode", "too old", "tied on a CPU", "nccl", "unreachable"],
)
def test_a_server_that_cannot_serve_is_refused_before_anything_is_trained(place, settings, changes, message):
    with (
        mock_vllm(draw=draw, **settings) as server,
        pytest.raises((ConfigError, transport.EndpointError), match=message),
    ):
        run(place, "out", [server.url], *changes)
    assert "/v1/completions" not in server.paths and not list((place / "out").glob("01-rl"))


def test_token_ids_that_the_model_does_not_have_end_the_run(place):
    with (
        mock_vllm(draw=lambda body: [10**6, 5], context=64) as server,
        pytest.raises(Exception, match="returned token ids outside the model's vocabulary"),
    ):
        run(place, "out", [server.url])


def test_where_the_servers_are_may_change_between_two_sittings(place):
    def of(*changes):
        text = RECIPE.replace("PLACE", str(place)).replace("URLS", "http://a:1/v1")
        return decisive(load_recipe(tomllib.loads(text), changes))

    moved = ("engine.url=['http://b:1/v1', 'http://c:1/v1']", "engine.concurrency=7", "engine.weights_folder='/w'")
    assert of(*moved) == of() and of("rl.max_staleness=1") != of()


def test_a_recipe_that_cannot_sample_ahead_is_refused(place):
    text = RECIPE.replace("PLACE", str(Path(place))).replace("URLS", "http://a:1/v1")
    with pytest.raises(ConfigError, match=r"rl.max_staleness = 2: .*set engine.kind = 'vllm_server'"):
        load_recipe(tomllib.loads(text), ("rl.max_staleness=2", "engine={kind='local'}"))
