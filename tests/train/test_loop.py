"""The loop: accumulation, exact resume, kills, broken states, gradients that are not finite."""

import json
from dataclasses import dataclass

import pytest
import torch

from doubles import TINY, make_model, make_tokenizer, random_ids
from open_exaone.base.errors import OpenExaoneError
from open_exaone.base.records import Problem
from open_exaone.data.batch import fold, stack
from open_exaone.data.document import Document
from open_exaone.engine.engine import Engine
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.train.config import PreferenceStage, RlStage, SupervisedStage
from open_exaone.train.loop import train
from open_exaone.train.preference import Preference
from open_exaone.train.rl import OnlineRl
from open_exaone.train.supervised import Supervised
from open_exaone.train.tensors import learned_logprobs

OPTIMIZER = OptimizerConfig(learning_rate=1e-2, matrix_learning_rate=1e-2)


def some_documents(num=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 20, (num,), generator=generator).tolist()
    documents = []
    for number, length in enumerate(lengths):
        half = length // 2
        ids = random_ids(length, seed=seed * 1000 + number).tolist()
        documents.append(
            Document(ids, [False] * half + [True] * (length - half), 1.0 - 2.0 * (number % 2), [-2.0] * (length - half))
        )
    return documents


def supervised(**changes):
    fields = {"kind": "sft", "name": "sft", "split": "sft", "num_epochs": 3.0, "batch_documents": 8}
    stage = SupervisedStage(**fields, optimizer=OPTIMIZER, checkpoint_steps=2, **changes)
    return Supervised(stage, some_documents(), seed=3)


def preference():
    fields = {"kind": "preference", "name": "p", "split": "p", "num_epochs": 3.0, "batch_pairs": 4, "max_new_tokens": 5}
    pairs = list(zip(some_documents()[::2], some_documents()[1::2], strict=True))
    return Preference(PreferenceStage(**fields, optimizer=OPTIMIZER, checkpoint_steps=2), pairs, seed=3)


def online_rl(model, folder):
    """Rewards that a random model earns: the answer is whatever its digits say."""
    fields = {"kind": "rl", "name": "rl", "split": "rl", "num_steps": 8, "batch_prompts": 4, "group_size": 4}
    stage = RlStage(**fields, max_new_tokens=6, optimizer=OPTIMIZER, checkpoint_steps=2, rubric={"truncated": 0.3})
    problems = [Problem(f"p/{n}", "t", "en", f"How much is {n} + 1?", str(n + 1), "exact") for n in range(10)]
    generate = Engine(model, make_tokenizer(), num_slots=8).generate
    return OnlineRl(stage, problems, make_tokenizer(), generate, folder, seed=3)


def start(config=OPTIMIZER):
    model = make_model()
    return model, MasterOptimizer(model, dict(model.named_parameters()), config)


@pytest.mark.parametrize("make", [supervised, preference, lambda: online_rl(make_model(), None)])
def test_micro_batches_add_up_to_one_big_batch(make):
    """Loss and gradient, in float32, however the step's documents are cut."""
    objective, documents = make(), some_documents()
    results = []
    for batches in ([stack(documents)], list(fold(documents, 40)), [stack([document]) for document in documents]):
        model = make_model(TINY.model_copy(update={"initializer_range": 0.02}))  # no probability near zero
        total = 0.0
        for batch in batches:
            loss, _ = objective.loss(model, batch, 17.0)
            loss.backward()
            total += float(loss.detach())
        results.append((total, [weight.grad for weight in model.parameters()]))
    for total, gradients in results[1:]:
        assert total == pytest.approx(results[0][0], rel=1e-5)
        for gradient, expected in zip(gradients, results[0][1], strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_learned_logprobs_are_those_of_each_document_alone():
    model, documents = make_model(), some_documents(6)
    learned = learned_logprobs(model, stack(documents))
    for row, document in enumerate(documents):
        logprobs = torch.log_softmax(model(torch.tensor([document.ids]))[0], -1)
        wanted = [logprobs[t - 1, token] for t, token in enumerate(document.ids) if document.is_learned[t]]
        torch.testing.assert_close(learned.logprobs_M[learned.rows_M == row], torch.stack(wanted), rtol=1e-4, atol=1e-4)


@dataclass
class Kill(BaseException):
    """As sudden as SIGKILL: nothing after it runs but this test."""


@pytest.mark.parametrize("kind", ["supervised", "preference", "rl"])
@pytest.mark.parametrize("killed_at", [1, 3, 4, 7])
def test_a_killed_run_ends_in_the_same_weights(kind, killed_at, tmp_path):
    def objective_of(model, folder):
        return {"supervised": supervised, "preference": preference}.get(kind, lambda: online_rl(model, folder))()

    def run(folder, on_step=lambda row: None):
        folder.mkdir(exist_ok=True)
        model, optimizer = start()
        progress = train(model, optimizer, objective_of(model, folder), folder, on_step)
        return optimizer.masters, progress

    def kill(row):
        if row["step"] == killed_at:
            raise Kill

    wanted, wanted_progress = run(tmp_path / "whole")
    with pytest.raises(Kill):
        run(tmp_path / "cut", kill)
    masters, progress = run(tmp_path / "cut")
    assert all(torch.equal(masters[name], wanted[name]) for name in wanted)
    assert (progress.step, progress.tokens) == (wanted_progress.step, wanted_progress.tokens)
    rows = [[json.loads(line) for line in (tmp_path / f / "metrics.jsonl").open()] for f in ("whole", "cut")]
    timeless = [[{k: v for k, v in row.items() if "second" not in k} for row in found] for found in rows]
    assert timeless[0] == timeless[1]
    if kind == "rl":
        folders = [sorted((tmp_path / f / "rollouts").iterdir()) for f in ("whole", "cut")]
        assert [path.read_text() for path in folders[0]] == [path.read_text() for path in folders[1]]
        versions = [{json.loads(line)["policy_version"] for line in path.open()} for path in folders[0]]
        assert versions == [{step} for step in range(8)]


@pytest.mark.parametrize("name", ["master.safetensors", "optimizer.safetensors", "state.json"])
def test_a_cut_state_is_passed_over_for_the_one_before(name, tmp_path, caplog):
    model, optimizer = start()
    train(model, optimizer, supervised(), tmp_path, lambda row: None)
    wanted = {key: master.clone() for key, master in optimizer.masters.items()}
    newest = max((tmp_path / "checkpoints").iterdir())
    (newest / name).write_bytes((newest / name).read_bytes()[:100])
    model, optimizer = start()
    train(model, optimizer, supervised(), tmp_path, lambda row: None)
    assert all(torch.equal(optimizer.masters[key], wanted[key]) for key in wanted)
    assert str(newest) in caplog.text


def test_the_disk_filling_up_keeps_the_last_state(tmp_path, monkeypatch):
    from open_exaone.train import state

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    model, optimizer = start()
    with monkeypatch.context() as patched:
        calls = []
        real = state.save_file
        patched.setattr(state, "save_file", lambda *a: (calls.append(1), full() if len(calls) > 3 else real(*a)))
        with pytest.raises(OpenExaoneError, match="disk is full.*kept"):
            train(model, optimizer, supervised(), tmp_path, lambda row: None)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000002"]
    whole = start()
    train(*whole, supervised(), (tmp_path / "other"), lambda row: None) if (
        tmp_path / "other"
    ).mkdir() is None else None
    again = start()
    train(*again, supervised(), tmp_path, lambda row: None)
    assert all(torch.equal(again[1].masters[key], whole[1].masters[key]) for key in again[1].masters)


def test_steps_that_are_not_finite_are_skipped_counted_and_at_last_fatal(tmp_path):
    class Poisoned(Supervised):
        def loss(self, model, batch, denominator):
            loss, metrics = super().loss(model, batch, denominator)
            return loss * float("nan"), metrics

    model, optimizer = start()
    before = {key: master.clone() for key, master in optimizer.masters.items()}
    objective = supervised()
    poisoned = Poisoned(objective.config.model_copy(update={"num_epochs": 100.0}), objective.documents, 0)
    with pytest.raises(OpenExaoneError, match="not finite.*lower the learning rate"):
        train(model, optimizer, poisoned, tmp_path, lambda row: None)
    assert all(torch.equal(optimizer.masters[key], before[key]) for key in before)


def test_training_lowers_the_loss(tmp_path):
    losses = []
    train(*start(), supervised(), tmp_path, lambda row: losses.append(row["loss"]))
    assert losses[-1] < losses[0]
