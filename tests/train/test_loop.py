"""The loop: accumulation, exact resume, kills, broken states, gradients that are not finite."""

import contextlib
import functools
import json
import random
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from doubles import TINY, make_model
from open_exaone.base import interrupt
from open_exaone.base.errors import OpenExaoneError
from open_exaone.base.files import read_jsonl
from open_exaone.data.batch import join, pack, singles
from open_exaone.model.threads import WORTH_THREADS
from open_exaone.train import accumulate
from open_exaone.train.forward import document_logprobs, learned_logprobs
from open_exaone.train.loop import StepData, notes_on, train
from open_exaone.train.saver import Saver
from open_exaone.train.settings import LoggingConfig
from open_exaone.train.supervised import Supervised
from tiny_stages import OPTIMIZER, copy_of, online_rl, preference, same, some_documents, start, supervised

FAILURE = "none of the 24 steps had anything to learn from.*the same reward.*choose problems.*another folder"
REWARD = f"{Path(__file__).with_name('thought_length.py')}:score"
MEASURED = ("second", "memory")  # in names of metrics that no two runs have alike


def in_pairs(documents):
    """With reference log-probabilities, of a size that makes a split pair felt."""
    known = [replace(document, reference_logprob=-3.0 * len(document.ids)) for document in documents]
    return list(zip(known[::2], known[1::2], strict=True))


@pytest.mark.parametrize(
    ("make", "units_of"),
    [
        (supervised, singles),
        (preference, in_pairs),
        (lambda: preference(loss={"name": "dpo", "beta": 0.05}), in_pairs),  # does not separate into replies
        (lambda: online_rl(make_model(), None), singles),
    ],
)
def test_micro_batches_add_up_to_one_big_batch(make, units_of):
    """Loss and gradient, in float32, however the step's documents are cut."""
    objective, units = make(), units_of(some_documents())
    results = []
    for batches in ([join(units)], list(pack(units, 40)), [join([unit]) for unit in units]):
        assert len(batches) in (1, len(units)) or 2 < len(batches) < len(units)
        model = make_model(TINY.model_copy(update={"initializer_range": 0.02}))  # no probability near zero
        total = 0.0
        for batch in batches:
            loss, _ = objective.loss(model, batch, 17.0)
            loss.backward()
            total += float(loss.detach())
        results.append((total, [weight.grad for weight in model.parameters()]))
    for total, gradients in results[1:]:
        # a probability of e^-11: 1e-6 of its logarithm is 1e-5; on-policy, advantages of ±1 add up to next to nothing
        assert total == pytest.approx(results[0][0], rel=5e-5, abs=1e-7)
        for gradient, expected in zip(gradients, results[0][1], strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)


def test_a_pair_that_was_split_is_found():
    pairs = in_pairs(some_documents(8))
    (chosen, other), (_, rejected) = pairs[:2]
    for units in ([[chosen], [rejected]], [[chosen, chosen], [other, rejected]]):
        with pytest.raises(AssertionError, match="a pair was split"):
            preference(loss={"name": "dpo"}).loss(make_model(), join(units), 1.0)


def test_learned_logprobs_are_those_of_each_document_alone():
    model, documents = make_model(), some_documents(6)
    logprobs_M, _, documents_M = learned_logprobs(model, join(singles(documents)))
    for row, document in enumerate(documents):
        logprobs = torch.log_softmax(model(torch.tensor([document.ids]))[0], -1)
        wanted = [logprobs[t - 1, token] for t, token in enumerate(document.ids) if document.loss_mask[t]]
        torch.testing.assert_close(logprobs_M[documents_M == row], torch.stack(wanted), rtol=1e-4, atol=1e-4)


def test_workers_threads_make_log_probabilities_without_gradients(with_cores):
    model, documents = make_model(), some_documents(6)
    alone = document_logprobs(model, documents, 40)
    with_cores(2)
    for one, two in zip(alone, document_logprobs(model, documents, 40), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5)


@dataclass
class Kill(BaseException):
    """As sudden as SIGKILL: nothing after it runs but this test."""


def train_kind(kind, dtype, folder, on_step=lambda row: None, config=OPTIMIZER):
    """Trains a stage of this kind in `folder`: its weights and its progress."""
    folder.mkdir(exist_ok=True)
    model, optimizer = start(config, getattr(torch, dtype))
    if kind == "rl":
        objective = online_rl(model, folder, reward=REWARD)
    else:
        objective = supervised() if kind == "supervised" else preference()
    return optimizer.masters, train(model, optimizer, objective, folder, on_step)


@pytest.fixture(scope="module")
def train_whole(tmp_path_factory):
    """Trains without a cut, once for each kind, type and number of threads: the folder, weights and progress."""

    @functools.cache
    def whole(kind, dtype, num_threads):
        folder = tmp_path_factory.mktemp("whole")
        return folder, *train_kind(kind, dtype, folder)

    return whole


@pytest.mark.parametrize("kind", ["supervised", "preference", "rl"])
@pytest.mark.parametrize(("killed_at", "dtype"), [(1, "float32"), (3, "bfloat16"), (4, "float32"), (7, "float32")])
def test_a_killed_run_ends_in_the_same_weights(kind, killed_at, dtype, tmp_path, train_whole):
    def kill(row):
        if row["step"] == killed_at:
            raise Kill

    whole, wanted, wanted_progress = train_whole(kind, dtype, torch.get_num_threads())
    with pytest.raises(Kill):
        train_kind(kind, dtype, tmp_path / "cut", kill)
    masters, progress = train_kind(kind, dtype, tmp_path / "cut")
    assert all(torch.equal(masters[name], wanted[name]) for name in wanted)
    assert (progress.step, progress.tokens) == (wanted_progress.step, wanted_progress.tokens)
    folders = whole, tmp_path / "cut"
    rows = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in folders]
    timeless = [
        [{k: v for k, v in row.items() if not any(part in k for part in MEASURED)} for row in found] for found in rows
    ]
    assert timeless[0] == timeless[1]
    if kind == "rl":
        assert sum(row["gradient_norm"] > 0 for row in rows[0]) > 4  # else every run would end as it began
        files = [sorted((folder / "rollouts").iterdir()) for folder in folders]
        assert [path.read_text() for path in files[0]] == [path.read_text() for path in files[1]]
        versions = [{json.loads(line)["policy_version"] for line in path.open()} for path in files[0]]
        assert versions == [{step} for step in range(8)]


@pytest.mark.parametrize("kind", ["supervised", "preference", "rl"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_any_number_of_workers_gives_the_same_run_to_the_bit(kind, dtype, tmp_path, with_cores, monkeypatch):
    """Gradients in float32, and in the model's own; a step is several shares also for one worker."""
    monkeypatch.setattr(accumulate, "SHARE_TOKENS", 16)
    config = OPTIMIZER.model_copy(update={"gradient_dtype": dtype})
    found = []
    for number in (1, 2, 4):
        with_cores(number)
        masters, _ = train_kind(kind, dtype, tmp_path / str(number), config=config)
        rows = read_jsonl(tmp_path / str(number) / "metrics.jsonl")
        found.append(
            (masters, [{k: v for k, v in row.items() if not any(part in k for part in MEASURED)} for row in rows])
        )
    for masters, rows in found[1:]:
        assert same(masters, found[0][0]) and rows == found[0][1]
    assert not same(found[0][0], start(config, getattr(torch, dtype))[1].masters)


def test_a_step_s_shares_follow_from_its_tokens_and_a_larger_model_has_none(tmp_path, with_cores, monkeypatch):
    sizes = []

    class Counted(Supervised):
        def loss(self, model, batch, denominator):
            sizes.append(batch.num_tokens)
            return super().loss(model, batch, denominator)

    def sizes_with(num_cores):
        sizes.clear()
        with_cores(num_cores)
        (folder := tmp_path / str(len(list(tmp_path.iterdir())))).mkdir()
        objective = Counted(**vars(supervised(num_epochs=0.4)))
        train(*start(), objective, folder, lambda row: None)
        return sorted(sizes)

    monkeypatch.setattr(accumulate, "SHARE_TOKENS", 16)
    assert 3 < len(sizes_with(1)) <= accumulate.MAX_SHARES
    assert sizes_with(4) == sizes_with(1)
    monkeypatch.setitem(WORTH_THREADS, "train", 1)
    assert len(sizes_with(4)) == 1


def test_nor_do_two_threads_change_where_a_killed_run_ends(tmp_path, train_whole, two_threads):
    test_a_killed_run_ends_in_the_same_weights("supervised", 4, "float32", tmp_path, train_whole)


class Wild(Supervised):
    """Gradients that are `factor` times as long in the steps of `wild_steps`."""

    factor = float("nan")
    wild_steps = range(10_000)

    def step_data(self, step, memory=None):
        object.__setattr__(self, "is_wild", step in self.wild_steps)
        return super().step_data(step)

    def loss(self, model, batch, denominator):
        loss, metrics = super().loss(model, batch, denominator)
        return loss * (self.factor if self.is_wild else 1.0), metrics


def wild(base=Wild, **changes):
    tame = supervised(**changes)
    return base(tame.config, tame.documents, tame.steps)


def test_steps_that_are_not_finite_are_skipped_counted_and_at_last_fatal(tmp_path):
    model, optimizer = start()
    before, rows = copy_of(optimizer), []
    with pytest.raises(OpenExaoneError, match="not finite, 20 steps in a row; .* saved .* lower the learning rate"):
        train(model, optimizer, wild(num_epochs=100.0, checkpoint_steps=1000), tmp_path, rows.append)
    assert same(optimizer.masters, before)
    assert [row["skipped_steps"] for row in rows] == list(range(1, 21))
    assert rows[0]["loss"] is None and rows[0]["skipped"]
    with pytest.raises(OpenExaoneError, match="20 steps in a row"):  # it goes on behind them, with as much patience
        train(*start(), wild(num_epochs=100.0), tmp_path, rows.append)
    assert [row["step"] for row in rows] == list(range(1, 41))


def test_a_spike_is_skipped_and_forgotten_by_the_median(tmp_path):
    class Spiky(Wild):
        factor = 1e4
        wild_steps = (3, 20, 21)  # the first comes before there is a median

    watch = LoggingConfig(spike_factor=50.0, max_skipped_steps=3)
    rows, optimizers, outliers = [], [], []
    for on_step, config in ((rows.append, watch), (lambda row: None, LoggingConfig())):
        model, optimizer = start()
        (tmp_path / str(len(optimizers))).mkdir()
        objective = wild(Spiky, num_epochs=10.0)
        progress = train(model, optimizer, objective, tmp_path / str(len(optimizers)), on_step, logging=config)
        optimizers.append(optimizer)
        outliers.append(sum(norm > 1000.0 for norm in progress.norms))
    assert [row["step"] for row in rows if row["skipped"]] == [21, 22]
    assert rows[-1]["skipped_steps"] == 2 and outliers == [1, 3]
    assert not same(*(optimizer.masters for optimizer in optimizers))


def test_a_step_without_a_gradient_is_no_measure_of_spikes(tmp_path):
    """Half of the steps: were they in it, the median of norms would be near zero and every other step a spike."""

    class Idle(Wild):
        factor = 0.0
        wild_steps = range(0, 1000, 2)

    objective, rows = wild(Idle, num_epochs=10.0), []
    progress = train(*start(), objective, tmp_path, rows.append, logging=LoggingConfig(spike_factor=100.0))
    assert [row["gradient_norm"] == 0.0 for row in rows] == [True, False] * 15
    assert len(progress.norms) == 15 and min(progress.norms) > 0 and progress.skipped_steps == 0


class Taught(Supervised):
    """Nothing to learn from in the first `num_empty` steps."""

    num_empty = 0

    def step_data(self, step, memory=None):
        data = super().step_data(step)
        return StepData([], 1) if step < self.num_empty else data


@pytest.mark.parametrize(("num_empty", "warned_at"), [(9, []), (12, [10]), (24, [10, 20])])
def test_a_stage_that_learned_from_nothing_is_no_success(num_empty, warned_at, tmp_path, caplog):
    objective = wild(Taught, num_epochs=8.0)
    object.__setattr__(objective, "num_empty", num_empty)
    model, optimizer = start()
    before, fails = copy_of(optimizer), num_empty == 24
    for _ in range(2):  # the second finds that all is done
        with pytest.raises(OpenExaoneError, match=FAILURE) if fails else contextlib.nullcontext():
            notes = notes_on(train(model, optimizer, objective, tmp_path, lambda row: None))
            assert [note.partition(":")[0] for note in notes] == (
                ["12 of 24 steps had nothing to learn from"] if warned_at else []
            )
    assert same(optimizer.masters, before) == fails
    told = [record.message for record in caplog.records if "nothing to learn from" in record.message]
    assert [text.partition(" steps in a row")[0] for text in told] == list(map(str, warned_at))
    assert all("larger group_size" in text for text in told)


def test_an_interruption_is_heeded_between_micro_batches_and_loses_only_the_step(tmp_path):
    """With random numbers drawn on the way, as dropout would: the step that was given up drew some of them."""

    class Noisy(Supervised):
        asked_at = None  # of all micro-batches

        def loss(self, model, batch, denominator):
            loss, metrics = super().loss(model, batch, denominator)
            object.__setattr__(self, "asked_at", self.asked_at and self.asked_at - 1)
            if self.asked_at == 0:
                signal.raise_signal(signal.SIGTERM)
            noise = float(torch.rand(())) + random.random() + float(np.random.random())
            return loss * noise, metrics

    def run(folder, asked_at=None):
        folder.mkdir(exist_ok=True)
        model, optimizer = start()
        objective = wild(Noisy, micro_batch_tokens=30, checkpoint_steps=1000)
        object.__setattr__(objective, "asked_at", asked_at)
        try:
            with interrupt.deferred_interrupts():
                train(model, optimizer, objective, folder, lambda row: None)
        finally:
            assert all(master.grad is None for master in optimizer.masters.values())
        return optimizer.masters

    wanted = run(tmp_path / "whole")
    with pytest.raises(interrupt.Interrupted):
        run(tmp_path / "cut", asked_at=14)
    saved = [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()]
    rows = read_jsonl(tmp_path / "cut" / "metrics.jsonl")
    assert saved == [f"step-{rows[-1]['step']:06d}"] and 1 < len(rows) < 5
    random.random(), np.random.random(), torch.rand(3)
    assert same(run(tmp_path / "cut"), wanted)


@pytest.mark.parametrize("where", ["note", "check", "warn_of_slow_stop"])
def test_an_interruption_at_the_end_of_a_step_loses_nothing(tmp_path, monkeypatch, where):
    """Before or behind the place where the step's state may be saved."""
    called = getattr(Saver, where)

    def interrupted(saver, *values):
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.undo()
        return called(saver, *values)

    monkeypatch.setattr(Saver, where, interrupted)
    model, optimizer = start()
    with interrupt.deferred_interrupts(), pytest.raises(interrupt.Interrupted):
        train(model, optimizer, supervised(checkpoint_steps=1000), tmp_path, lambda row: None)
    rows = read_jsonl(tmp_path / "metrics.jsonl")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"step-{rows[-1]['step']:06d}"]


def test_a_stage_that_is_done_says_so_and_trains_nothing(tmp_path, caplog):
    for _ in range(2):
        rows = []
        model, optimizer = start()
        progress = train(model, optimizer, supervised(), tmp_path, rows.append)
    assert not rows and progress.step == 9
    assert "all 9 steps are done" in caplog.text
    assert not same(copy_of(optimizer), copy_of(start()[1]))  # they are the trained ones


def test_another_split_into_micro_batches_sees_the_same_and_loses_the_same(tmp_path):
    """Changed in the middle of a run."""

    class Seen(Supervised):
        def step_data(self, step, memory=None):
            data = super().step_data(step)
            seen.setdefault(step, []).append([document.ids for document in data.documents])
            return data

    def kill_at_4(row):
        if row["step"] == 4:
            raise Kill

    def losses(folder):
        return [row["loss"] for row in read_jsonl(folder / "metrics.jsonl")]

    seen = {}
    for folder, max_tokens, on_step in [("cut", 30, kill_at_4), ("cut", 50, len), ("whole", 4096, len)]:
        (tmp_path / folder).mkdir(exist_ok=True)
        with pytest.raises(Kill) if on_step is kill_at_4 else contextlib.nullcontext():
            train(*start(), wild(Seen, micro_batch_tokens=max_tokens), tmp_path / folder, on_step)
    assert [len(documents) for documents in seen.values()] == [2, 2, 3, 3, 2, 2, 2, 2, 2]  # two were run again
    assert all(found == documents[0] for documents in seen.values() for found in documents)
    cut, whole = losses(tmp_path / "cut"), losses(tmp_path / "whole")
    assert cut[0] == pytest.approx(whole[0], rel=1e-5)
    assert cut == pytest.approx(whole, rel=2e-3)  # nine steps at a high rate carry the noise on


def test_training_lowers_the_loss(tmp_path):
    losses = []
    train(*start(), supervised(), tmp_path, lambda row: losses.append(row["loss"]))
    assert losses[-1] < losses[0]
