"""What is told of a training: speeds, sinks that come and go, metrics of what was kept."""

import itertools
import math
import statistics
import sys
import types

import pytest
import torch

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_jsonl, write_jsonl
from open_exaone.train import loop, mfu
from open_exaone.train.loop import train
from open_exaone.train.metrics import MetricsWriter, Pace, spike_limit
from open_exaone.train.settings import LoggingConfig
from tiny_stages import start, supervised


def test_a_row_tells_speed_memory_and_the_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "peak_flops", lambda device, dtype: 1e9)
    rows = []
    train(*start(), supervised(), tmp_path, rows.append, flops_per_token=1e5)
    assert rows == read_jsonl(tmp_path / "metrics.jsonl")
    for row in rows:
        assert row["flops_per_second"] == pytest.approx(1e5 * row["tokens_per_second"])
        assert row["mfu"] == pytest.approx(row["flops_per_second"] / 1e9)
        assert row["peak_memory_bytes"] > 1e7 and math.isfinite(row["gradient_norm"]) and row["learning_rate"] > 0
    left = [row["seconds_left"] for row in rows]
    times = [now - before for before, now in itertools.pairwise([0.0, *(row["seconds"] for row in rows)])]
    assert left[:2] == [None, None] and left[-1] == 0.0
    assert left[3] == pytest.approx(statistics.median(times[:4]) * 5)
    for before, now in itertools.pairwise(rows):
        seconds = now["seconds"] - before["seconds"]
        assert now["tokens_per_second"] == pytest.approx((now["tokens"] - before["tokens"]) / seconds)


def test_without_a_cost_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "peak_flops", None)
    rows = []
    train(*start(), supervised(), tmp_path, rows.append)
    assert not {"mfu", "flops_per_second"} & rows[0].keys()


def test_the_peak_is_the_maker_s_or_measured(monkeypatch):
    monkeypatch.setattr(mfu, "WIDTH", 64)
    assert 1e6 < mfu._measured(torch.device("cpu"), torch.float32) < 1e15
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 PCIe")
    assert mfu.peak_flops.__wrapped__(torch.device("cuda", 0), torch.bfloat16) == 756e12
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert mfu.peak_flops.__wrapped__(torch.device("cuda", 0), torch.bfloat16) == 989e12


def test_the_time_left_follows_the_last_steps_and_the_longest_act_is_remembered():
    pace = Pace()
    assert math.isnan(pace.step(100.0, 9)) and math.isnan(pace.step(1.0, 8))
    assert pace.step(2.0, 7) == 14.0  # the first step, with start-up and compilation, does not count for it
    assert [pace.step(1.0, 2) for _ in range(20)][-1] == 2.0
    for seconds in (1.0, 5.0, 2.0):
        pace.act(seconds)
    assert pace.longest_act_s == 5.0


def test_a_spike_is_told_by_the_median_once_there_are_enough():
    assert spike_limit([1.0] * 15, 4.0) is None
    assert spike_limit([1.0] * 20, None) is None
    assert spike_limit([1.0] * 9 + [2.0] * 11 + [1e9], 4.0) == 8.0


class Board(types.ModuleType):
    """A stand-in for trackio and wandb alike."""

    def __init__(self, name, fails_at=None):
        super().__init__(name)
        self.__spec__ = None
        self.opened, self.logged, self.closed, self.fails_at = [], [], 0, fails_at

    def init(self, **settings):
        self.opened.append(settings)
        return self

    def log(self, values, step):
        if step == self.fails_at:
            raise ConnectionError("the network is down")
        self.logged.append((step, values))

    def finish(self):
        self.closed += 1


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_sink_gets_every_number_of_every_step(name, tmp_path, monkeypatch):
    board = Board(name)
    monkeypatch.setitem(sys.modules, name, board)
    rows = []
    train(*start(), supervised(logging={"track": (name,), "project": "mine"}), tmp_path, rows.append)
    assert [step for step, _ in board.logged] == list(range(1, 10)) and board.closed == 1
    for (_, values), row in zip(board.logged, rows, strict=True):
        assert values == {key: float(value) for key, value in row.items() if key != "step" and value is not None}
    assert board.opened[0]["project"] == "mine" and board.opened[0]["resume"] == "allow"
    assert str(tmp_path.name) in board.opened[0]["name"]


def test_a_sink_that_fails_is_told_of_once_and_training_goes_on(tmp_path, monkeypatch, caplog):
    board = Board("trackio", fails_at=3)
    monkeypatch.setitem(sys.modules, "trackio", board)
    progress = train(*start(), supervised(logging={"track": ("trackio",)}), tmp_path, lambda row: None)
    assert progress.step == 9 and [step for step, _ in board.logged] == [1, 2] and not board.closed
    [told] = [record.message for record in caplog.records if "trackio" in record.message]
    assert "the network is down" in told and "training continues" in told


@pytest.mark.parametrize("module", [None, Board("wandb")])
def test_a_sink_that_is_not_there_or_does_not_open_stops_the_run_before_it_begins(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", module)
    if module is not None:
        monkeypatch.setattr(module, "init", lambda **settings: 1 / 0)
    said = "not installed.*open-exaone\\[track\\]" if module is None else "cannot be opened: ZeroDivisionError"
    with pytest.raises(ConfigError, match=f"logging.track: wandb .*{said}" if module is None else said):
        train(*start(), supervised(logging={"track": ("wandb",)}), tmp_path, lambda row: None)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_tensorboard_shows_each_step_once_though_the_run_was_killed(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def kill(row):
        if row["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(*start(), supervised(logging={"track": ("tensorboard",)}), tmp_path, kill)
    train(*start(), supervised(logging={"track": ("tensorboard",)}), tmp_path, lambda row: None)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 10))
    losses = [row["loss"] for row in read_jsonl(tmp_path / "metrics.jsonl")]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses)


@pytest.mark.parametrize("shift", [0, -10, 10])
def test_metrics_behind_the_saved_state_are_forgotten_even_if_the_disk_lost_some(shift, tmp_path):
    """`shift`: the bytes that the file had more, when the state was saved, than the rows that are still there."""
    rows = [{"step": step, "loss": step / 7} for step in range(1, 6)]
    write_jsonl(tmp_path / "metrics.jsonl", rows[:3])
    size = (tmp_path / "metrics.jsonl").stat().st_size
    if shift <= 0:
        with open(tmp_path / "metrics.jsonl", "ab") as file:
            file.write(b'{"step": 4, "loss": 1}\n{"ste')
    num_bytes = size + shift if shift > 0 else size if shift == 0 else None
    MetricsWriter(tmp_path, LoggingConfig(), 3, num_bytes)
    assert read_jsonl(tmp_path / "metrics.jsonl") == rows[:3]


@pytest.mark.parametrize("is_shorter", [True, False])
def test_metrics_that_were_edited_lose_their_broken_lines_and_no_others(is_shorter, tmp_path, caplog):
    """Where the bytes of the saved state are in the middle of a line, rows are told by their steps."""
    path, rows = tmp_path / "metrics.jsonl", [{"step": step, "loss": step / 7} for step in range(1, 6)]
    write_jsonl(path, rows)
    lines = path.read_bytes().splitlines(keepends=True)
    num_bytes = sum(map(len, lines[:4]))
    broken = [b'{"step": 2, "lo\n', b"\xff\n", b"[1]\n", b'{"loss": 1}\n', b"[" * 100_000 + b"\n"]
    if is_shorter:
        path.write_bytes(lines[0] + b"".join(broken[:1]) + lines[2] + b'{"step": 3')
        wanted, num_broken = [rows[0], rows[2]], 1
    else:
        path.write_bytes(b"".join([lines[0], *broken, *lines[1:]]))
        wanted, num_broken = rows[:4], 5
    MetricsWriter(tmp_path, LoggingConfig(), 4, num_bytes)
    assert read_jsonl(path) == wanted
    [told] = [record.message for record in caplog.records]
    assert f"{num_broken} lines are not valid metrics" in told and "the first is line 2" in told and str(path) in told
