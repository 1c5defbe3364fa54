"""Saved states: whole or not at all, broken ones found at any byte, kept as asked, no other run's."""

import shutil
import threading

import pytest
import torch

from open_exaone.base.errors import CheckpointError, DataError, OpenExaoneError, RunFolderError
from open_exaone.learn.config import OptimizerConfig
from open_exaone.train import saver as saving
from open_exaone.train.loop import train
from open_exaone.train.saver import Saver
from open_exaone.train.settings import KeepConfig
from open_exaone.train.state import (
    Progress,
    Snapshot,
    best_checkpoint,
    checkpoints,
    fingerprint_of,
    read_state,
    remove_old,
    write_state,
)
from tiny_stages import copy_of, same, start, supervised

FILES = ["master.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS"]


def write_small(folder, step=2, **values):
    tensors = {"a": torch.arange(6.0).view(2, 3)}
    write_state(folder, Snapshot(step, tensors, {"0/0/step": torch.tensor(3.0)}, {"score": None, **values}))
    return folder / f"step-{step:06d}"


def test_a_state_with_any_byte_flipped_or_cut_off_is_found(tmp_path):
    path = write_small(tmp_path)
    assert torch.equal(read_state(path)[0]["a"], torch.arange(6.0).view(2, 3))
    assert sorted(file.name for file in path.iterdir()) == sorted(FILES)
    for name in FILES:
        whole = (path / name).read_bytes()
        for place in range(len(whole)):
            flipped = whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :]
            for broken in (flipped, whole[:place]):
                (path / name).write_bytes(broken)
                with pytest.raises(DataError, match="checksum"):
                    read_state(path)
        (path / name).unlink()
        with pytest.raises(DataError, match=f"it has no {name}$"):
            read_state(path)
        (path / name).write_bytes(whole)
    read_state(path)


@pytest.mark.parametrize("name", FILES)
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
    from open_exaone.train import state_tensors

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    model, optimizer = start()
    with monkeypatch.context() as patched:
        calls = []
        real = state_tensors.save_file
        patched.setattr(
            state_tensors, "save_file", lambda *a: (calls.append(1), full() if len(calls) > 3 else real(*a))
        )
        with pytest.raises(OpenExaoneError, match="disk is full.*kept"):
            train(model, optimizer, supervised(), tmp_path, lambda row: None)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000002"]
    whole = start()
    (tmp_path / "other").mkdir()
    train(*whole, supervised(), tmp_path / "other", lambda row: None)
    again = start()
    train(*again, supervised(), tmp_path, lambda row: None)
    assert all(torch.equal(again[1].masters[key], whole[1].masters[key]) for key in again[1].masters)


def test_what_the_thread_writes_is_the_state_as_it_was(tmp_path, monkeypatch):
    """The weights move on while the disk is slow."""
    may_write, real = threading.Event(), saving.write_state
    monkeypatch.setattr(saving, "write_state", lambda *a: (may_write.wait(10), real(*a))[1])
    _, optimizer = start()
    before = copy_of(optimizer)
    with Saver(tmp_path, optimizer, KeepConfig()) as saver:
        saver.save(Progress(step=3), {}, 0)
        assert not checkpoints(tmp_path)
        for master in optimizer.masters.values():
            master.data.add_(1.0)
        may_write.set()
    assert same(read_state(tmp_path / "step-000003")[0], before)


@pytest.mark.parametrize(("async_save", "free"), [(False, 1 << 60), (True, 1000)])
def test_without_leave_or_memory_for_a_copy_training_waits(async_save, free, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "free_bytes", lambda device: free)
    _, optimizer = start()
    saver = Saver(tmp_path, optimizer, KeepConfig(async_save=async_save))
    saver.save(Progress(step=3), {}, 0)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000003"]


def test_the_newest_and_the_best_are_kept(tmp_path):
    keep = KeepConfig(last=2, best="loss")
    for step, score in [(2, 0.5), (4, 0.1), (6, 0.3), (8, 0.2), (10, None), (1_000_000, 0.4)]:
        remove_old(tmp_path, keep, write_small(tmp_path, step, score=score))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000004", "step-000010", "step-1000000"]
    assert best_checkpoint(tmp_path, keep).name == "step-000004"
    assert best_checkpoint(tmp_path, KeepConfig(best="reward_mean", best_is="highest")).name == "step-1000000"
    remove_old(tmp_path, KeepConfig(last=1), tmp_path / "step-1000000")
    assert [path.name for path in tmp_path.iterdir()] == ["step-1000000"]


def test_a_broken_state_is_not_kept_in_the_place_of_a_whole_one(tmp_path):
    """The one before it was gone on from, and interrupted before it came as far."""
    for step in (6, 8):
        write_small(tmp_path, step)
    remove_old(tmp_path, KeepConfig(last=2), write_small(tmp_path, 7))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000006", "step-000007"]
    remove_old(tmp_path, KeepConfig(last=1), tmp_path / "step-000007")
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000007"]


def test_a_state_s_score_is_the_mean_since_the_state_before(tmp_path, caplog):
    losses = []
    keep = KeepConfig(last=100, best="loss")
    train(*start(), supervised(), tmp_path, lambda row: losses.append(row["loss"]), keep=keep)
    scores = [read_state(path)[2]["score"] for path in checkpoints(tmp_path / "checkpoints")]
    assert scores[:4] == pytest.approx([sum(losses[i : i + 2]) / 2 for i in (0, 2, 4, 6)])
    assert "keep.best" not in caplog.text


def test_a_metric_that_no_step_has_is_told_of_once_with_those_that_there_are(tmp_path, caplog):
    train(*start(), supervised(), tmp_path, lambda row: None, keep=KeepConfig(best="lozz"))
    [told] = [record.message for record in caplog.records if "keep.best" in record.message]
    assert "'lozz'" in told and ", loss, " in told and "num_steps" not in told


def test_another_run_s_state_is_refused_and_what_differs_is_named(tmp_path):
    first = supervised(keep={"last": 9}, micro_batch_tokens=64)
    data = {"train.jsonl": "a" * 64}
    train(*start(), first, tmp_path, lambda row: None, fingerprint={**fingerprint_of(first.config), **data})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    rate = OptimizerConfig(learning_rate=1e-3, matrix_learning_rate=1e-2)
    other = fingerprint_of(supervised(optimizer=rate, batch_documents=4).config) | {"train.jsonl": "b" * 64}
    said = r"batch_documents was 8 and is 4; optimizer.learning_rate was 0.01 and is 0.001; train.jsonl was aaaa"
    with pytest.raises(RunFolderError, match=said):
        train(*start(), supervised(), tmp_path, lambda row: None, fingerprint=other)
    with pytest.raises(RunFolderError, match="train.jsonl was a+… and is not set"):
        train(*start(), supervised(), tmp_path, lambda row: None, fingerprint=fingerprint_of(first.config))
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    freely = supervised(micro_batch_tokens=32, checkpoint_steps=3, logging={"project": "mine"}, name="again")
    train(*start(), freely, tmp_path, lambda row: None, fingerprint={**fingerprint_of(freely.config), **data})


def test_a_state_of_another_model_is_refused(tmp_path):
    train(*start(), supervised(), tmp_path, lambda row: None)
    model, optimizer = start()
    optimizer.masters["another.weight"] = next(iter(optimizer.masters.values()))
    with pytest.raises(CheckpointError, match=r"step-000009: .* of another model.*another.weight"):
        train(model, optimizer, supervised(), tmp_path, lambda row: None)


def test_where_every_state_is_broken_the_run_stops_and_says_how_to_begin_anew(tmp_path):
    train(*start(), supervised(), tmp_path, lambda row: None)
    for path in checkpoints(tmp_path / "checkpoints"):
        (path / "SHA256SUMS").unlink()
    with pytest.raises(CheckpointError, match="no saved state can be read; .* remove the folder"):
        train(*start(), supervised(), tmp_path, lambda row: None)


def test_what_a_killed_process_left_half_written_or_half_removed_goes(tmp_path):
    (tmp_path / ".step-000004.partial").mkdir()
    shutil.copytree(write_small(tmp_path), tmp_path / ".step-000001.gone")
    shutil.rmtree(tmp_path / "step-000002")
    assert Saver(tmp_path, start()[1], KeepConfig()).load() == (Progress(), None)
    assert not list(tmp_path.iterdir())


def test_a_stop_that_would_take_too_long_is_told_of_once(tmp_path, caplog):
    train(*start(), supervised(keep={"stop_within_s": 1e-6}), tmp_path, lambda row: None)
    [told] = [record.message for record in caplog.records if "stop_within_s" in record.message]
    assert "after SIGTERM, the run can need" in told
