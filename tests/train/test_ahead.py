"""Samples of coming steps, drawn while the trainer learns: which weights, what is saved, what is read back."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from doubles import make_model, make_tokenizer
from open_exaone.base.errors import OpenExaoneError
from open_exaone.base.files import read_jsonl
from open_exaone.engine.engine import Engine
from open_exaone.learn.policy_parts import Correction
from open_exaone.pipeline.engine_checks import check_engine
from open_exaone.rollout.config import LocalEngine, VllmEngine, VllmServer
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.train.loop import train
from tiny_stages import copy_of, online_rl, same, start

NUM_STEPS = 5
REWARD = f"{Path(__file__).with_name('thought_length.py')}:score"


class ServerDouble(LocalProvider):
    """A server: a model of its own, which gets weights by `update_weights`."""

    def __init__(self):
        super().__init__(Engine(make_model(), make_tokenizer(), num_slots=8), is_copy=True)
        self.pushed, self.asked, self.before = [], [], lambda step: None

    @property
    def identity(self):
        return {"engine": "http://double", "model": "policy"}

    def update_weights(self, weights, version):
        weights = dict(weights)
        self.pushed.append((version, {name: weight.clone() for name, weight in weights.items()}))
        super().update_weights(weights.items(), version)

    def stream(self, requests):
        step = requests[0].sampling.seed - 3
        self.before(step)
        self.asked.append(step)
        yield from super().stream(requests)


class Cut(BaseException):
    pass


def run(folder, k, *, cut_at=None, before=lambda step: None, on_row=lambda row: None, **changes):
    """Trains; SIGKILL is played by an exception behind the sampling of a step, before it is learned from.

    Returns:
        the weights, the server and the rows.
    """
    folder.mkdir(exist_ok=True)
    model, optimizer = start()
    fields = {"num_steps": NUM_STEPS, "max_staleness": k, "checkpoint_steps": 2, "reward": REWARD}
    objective = online_rl(model, folder, **fields | changes)
    server, rows, advantages = ServerDouble(), [], objective._advantages
    server.before = before
    object.__setattr__(objective, "provider", server)

    def learned(groups):
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and model.version == cut_at:
            raise Cut
        return advantages(groups)

    object.__setattr__(objective, "_advantages", learned)

    def on_step(row):
        rows.append({**row, "weights": copy_of(optimizer)})
        on_row(row)

    try:
        train(model, optimizer, objective, folder, on_step)
    except Cut:
        assert cut_at is not None
    finally:
        objective.close()
    return copy_of(optimizer), server, rows


@pytest.fixture(scope="module")
def run_whole(tmp_path_factory):
    known = {}

    def whole(k, **changes):
        name = str((k, changes))
        if name not in known:
            folder = tmp_path_factory.mktemp("whole")
            known[name] = folder, *run(folder, k, **changes)
        return known[name]

    return whole


@pytest.mark.parametrize("k", [1, 2])
def test_each_step_is_drawn_from_the_model_as_it_was_k_steps_before(k, run_whole):
    folder, _, server, rows = run_whole(k)
    before = {0: dict(make_model().named_parameters())} | {row["step"]: row["weights"] for row in rows}
    assert server.asked == list(range(NUM_STEPS))
    for step, (version, weights) in enumerate(server.pushed):
        assert version == max(0, step - k)
        assert same(weights, before[version])
        groups = read_jsonl(folder / "rollouts" / f"step-{step + 1:06d}.jsonl")
        assert {row["policy_version"] for row in groups} == {version}
    assert [row["staleness"] for row in rows] == [min(step, k) for step in range(NUM_STEPS)]
    assert all(row["sampling_wait_seconds"] >= 0 for row in rows)
    assert all(row["mean_logprob_gap"] < 1e-4 for row in rows[:1]) and rows[-1]["mean_logprob_gap"] > 1e-3
    assert rows[-1]["sampler_ratio_mean"] != 1.0  # the correction acts
    assert not list((folder / "rollouts").glob("*.policy.safetensors"))


def test_without_staleness_nothing_is_changed(run_whole):
    _, _, server, rows = run_whole(0)
    assert [version for version, _ in server.pushed] == list(range(NUM_STEPS))
    assert "staleness" not in rows[0] and "sampling_wait_seconds" not in rows[0]


@pytest.mark.parametrize(
    ("k", "cut_at", "changes"),
    [(1, 0, {}), (1, 3, {}), (2, 2, {"max_prompts": 8}), (2, 5, {"num_minibatches": 2})],
    ids=["at once", "plain", "refill", "between two updates"],
)
def test_a_run_that_is_cut_at_any_step_ends_in_the_same_weights(k, cut_at, changes, tmp_path, run_whole):
    whole, wanted, _, _ = run_whole(k, **changes)
    run(tmp_path / "cut", k, cut_at=cut_at, **changes)
    masters, server, _ = run(tmp_path / "cut", k, **changes)
    assert same(masters, wanted)
    assert len(server.asked) < NUM_STEPS or cut_at == 0  # what was there is not drawn again
    texts = [
        [path.read_text() for path in sorted((folder / "rollouts").glob("*.jsonl"))]
        for folder in (whole, tmp_path / "cut")
    ]
    assert texts[0] == texts[1]


def test_samples_that_are_missing_are_drawn_from_the_saved_weights_of_their_step(tmp_path, run_whole):
    """The server hangs from step 3 on: when the run is cut, step 3 has no samples, and the model has moved on."""
    _, wanted, _, _ = run_whole(1)
    release = threading.Event()

    def hangs(step):
        if step >= 3:
            release.wait(60)
            raise OpenExaoneError("the server has died")

    def on_row(row):
        if row["step"] == 3:
            release.set()

    with pytest.raises(OpenExaoneError, match="the server has died"):
        run(tmp_path / "cut", 1, before=hangs, on_row=on_row)
    kept = sorted(path.name for path in (tmp_path / "cut" / "rollouts").glob("*.policy.safetensors"))
    assert kept == ["step-000003.policy.safetensors", "step-000004.policy.safetensors"]
    masters, server, _ = run(tmp_path / "cut", 1)
    assert [version for version, _ in server.pushed][:2] == [2, 3] and server.asked[0] == 3
    assert same(masters, wanted)


def test_sampling_runs_while_the_trainer_learns(tmp_path):
    """Step 1 is asked for before step 0 is learned from to its end, without any clock."""
    asked = threading.Event()

    def on_row(row):
        if row["step"] == 1:
            assert asked.wait(60)

    def before(step):
        if step == 1:
            asked.set()

    run(tmp_path / "out", 1, before=before, on_row=on_row, num_steps=2)


def test_an_error_or_the_end_leaves_no_thread(tmp_path):
    def fails(step):
        if step == 2:
            raise OpenExaoneError("no server")

    with pytest.raises(OpenExaoneError, match="no server"):
        run(tmp_path / "out", 1, before=fails)
    deadline = time.monotonic() + 60
    while any(one.name == "sampling ahead" for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_staleness_is_corrected_for_by_default_and_refused_where_it_cannot_be(tmp_path):
    objective = online_rl(make_model(), tmp_path, max_staleness=1)
    object.__setattr__(objective, "provider", ServerDouble())
    assert objective.loss_settings.correction == Correction()
    stage = objective.config
    check_engine(VllmServer(kind="vllm_server", url="http://a:1/v1"), [stage])
    for engine in (LocalEngine(), VllmEngine(kind="vllm")):
        with pytest.raises(ValueError, match=r"rl.max_staleness = 1: .*set engine.kind = 'vllm_server'"):
            check_engine(engine, [stage])
    for loss in ({"name": "agapo"}, {"name": "grpo", "kl": {"beta": 0.1, "estimator": "sequence"}}):
        with pytest.raises(
            ValueError, match="correct for on-policy samples only, and this stage has max_staleness = 1"
        ):
            type(stage).model_validate({**stage.model_dump(exclude={"loss"}), "loss": loss}, strict=False)


def test_weights_that_are_gone_are_named(tmp_path):
    from open_exaone.base.errors import RunFolderError
    from open_exaone.train.snapshot import take_snapshot

    model = make_model()
    snapshot = take_snapshot(model, tmp_path / "a.policy.safetensors")
    assert same(dict(snapshot.weights()), {name: weight.detach() for name, weight in model.named_parameters()})
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert take_snapshot(model, tmp_path / "b").digest != snapshot.digest
    with pytest.raises(RunFolderError, match="nowhere: the weights that the next samples are drawn from"):
        dict(replace(snapshot, path=tmp_path / "nowhere").weights())
