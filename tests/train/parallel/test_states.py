"""Saved states of a sharded model: whole or not there, whoever dies; resumed on any number of ranks."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

import ranked_runs
import tiny_states
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_jsonl
from open_exaone.checkpoint.folder import load_weights
from open_exaone.cli import ranks
from open_exaone.pipeline import launch
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.train.state import checkpoints, read_state
from open_exaone.train.state_tensors import SavedTensors
from ranked_runs import ENVIRONMENT, ROOT

LAUNCHED = """
import sys
from open_exaone.pipeline import launch

launch.COMMAND = (sys.executable, sys.argv[1])
sys.exit(launch.launch(sys.argv[2:], 2))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder of trainings that were cut and resumed, the exit codes of their ranks, and what they found."""
    folder = tmp_path_factory.mktemp("states")
    command = [sys.executable, tiny_states.__file__, str(folder)]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=3600, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    return folder, rows.pop("codes"), rows


@pytest.mark.parametrize(("name", "size", "shard"), [("two", 2, 2), ("four", 4, 2)])
def test_a_killed_rank_of_a_sharded_model_ends_the_others_and_leaves_the_last_state(found, name, size, shard):
    folder, codes, rows = found
    victim, step, _ = codes[f"{name}-how"]
    assert codes[name] == [tiny_states.KILLED if rank == victim else 1 for rank in range(size)]
    for rank in set(range(size)) - {victim}:
        assert "cannot reach the other ranks" in rows[f"{name}-{rank}"]["error"]
    states = checkpoints(folder / name / "checkpoints")
    begun = (step - 1) // 4 * 4  # the newest state whose writing may have begun; the one before it is whole
    assert len(states) >= 2 and int(states[-1].name.removeprefix("step-")) in (begun, begun - 4)
    for path in states:
        wanted = [
            f"{kind}-{n + 1:05d}-of-{size:05d}.safetensors" for kind in ("master", "optimizer") for n in range(size)
        ]
        assert sorted(file.name for file in path.iterdir()) == sorted([*wanted, "SHA256SUMS", "state.json"])
        parts = [load_file(path / name) for name in wanted[:size]]
        total = sum(master.numel() for part in parts for master in part.values())
        assert total == sum(weight.numel() for weight in tiny_states.make_model(tiny_states.SHAPE).parameters())
        assert max(sum(m.numel() for m in part.values()) for part in parts) < 0.75 * total  # none has all of it
        with subprocess.Popen(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=path) as check:
            assert check.wait(60) == 0


@pytest.mark.parametrize(
    "name",
    ["two-in-one", "two-in-four", "four-in-one", "four-in-two", "four-in-three", "one-in-two", "dies-writing-in-two"],
)
def test_a_run_that_was_cut_resumes_on_any_number_of_ranks(found, name):
    """From the last saved state: the same order of data, and the loss of a run that nothing happened to."""
    folder, codes, rows = found
    assert set(codes[name]) == {0}
    whole = rows["alone"]["rows"]
    for rank in range(len(codes[name])):
        [resumed] = rows[f"{name}-{rank}"]["resumed"]
        source = checkpoints(folder / name.partition("-in-")[0] / "checkpoints")
        assert source[-1].name == f"step-{resumed:06d}"
        assert [row["tokens"] for row in rows[f"{name}-{rank}"]["rows"]] == [row["tokens"] for row in whole]
        losses = [row["loss"] for row in rows[f"{name}-{rank}"]["rows"]]
        assert losses == pytest.approx([row["loss"] for row in whole], abs=1e-5)


def test_the_end_is_that_of_a_run_that_was_not_cut(found):
    folder, *_ = found
    whole, tensors, _ = read_state(folder / "alone" / "checkpoints" / "step-000021")
    for name in ("two-in-four", "four-in-three", "four-in-one"):
        masters, states, _ = read_state(folder / name / "checkpoints" / "step-000021")
        assert masters.keys() == whole.keys() and states.keys() == tensors.keys()
        for key in whole:
            torch.testing.assert_close(masters[key], whole[key], rtol=1e-4, atol=1e-5)
        for key in tensors:
            torch.testing.assert_close(states[key], tensors[key], rtol=1e-2, atol=1e-5)


def test_a_rank_that_dies_while_it_writes_leaves_no_half_state(found):
    folder, codes, _ = found
    assert sorted(codes["dies-writing"]) in ([tiny_states.KILLED, 1], [tiny_states.KILLED, 0])
    assert [path.name for path in checkpoints(folder / "dies-writing" / "checkpoints")] == ["step-000004"]
    read_state(folder / "dies-writing" / "checkpoints" / "step-000004")
    assert not list((folder / "dies-writing-in-two" / "checkpoints").glob(".step-*"))


def test_a_disk_that_is_full_for_one_rank_ends_all_and_keeps_the_state_before(found):
    folder, codes, rows = found
    assert codes["full"] == [1, 1]
    assert "RunFolderError" in rows["full-1"]["error"] and "the disk is full" in rows["full-1"]["error"]
    assert (
        "rank 1 could not write its part of the state" in rows["full-0"]["error"] or "reach" in rows["full-0"]["error"]
    )
    assert [path.name for path in checkpoints(folder / "full" / "checkpoints")] == ["step-000004"]


def test_a_state_with_a_broken_part_is_passed_over_by_all_ranks(found):
    _, codes, rows = found
    [broken] = codes["broken"]
    before = int(broken.removeprefix("step-")) - 4
    assert codes["broken-in-two"] == [0, 0]
    assert [rows[f"broken-in-two-{rank}"]["resumed"] for rank in (0, 1)] == [[before], [before]]


def test_a_part_that_is_missing_is_named(found, tmp_path):
    folder, *_ = found
    state = tmp_path / "step-000004"
    shutil.copytree(checkpoints(folder / "four" / "checkpoints")[-1], state)
    (state / "master-00003-of-00004.safetensors").unlink()
    with pytest.raises(DataError, match="it has no master-00003-of-00004.safetensors"):
        read_state(state)


def test_tensors_of_which_a_part_is_missing_are_refused_whatever_the_sums_say(found, tmp_path):
    folder, *_ = found
    source = checkpoints(folder / "four" / "checkpoints")[-1]
    for kind in ("master", "optimizer"):
        shutil.copy(source / f"{kind}-00002-of-00004.safetensors", tmp_path / f"{kind}.safetensors")
    with pytest.raises(DataError, match="parts of .* are missing"):
        SavedTensors(tmp_path)


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_reads_and_draws_its_own_part_and_all_parts_are_the_model_of_one_process(found, rank):
    """To the bit, in whatever dtype the files are; no weight is read whole."""
    _, codes, rows = found
    assert codes["parts"] == [0, 0], rows
    names = ["float32 as bfloat16", "bfloat16 as float32", "float32 as float32", "drawn", "lora"]
    assert rows[f"parts-{rank}"] == {name: [] for name in names}


def test_weights_that_are_divided_in_two_dimensions_come_back_as_they_were(found):
    """Read from the meta device on, written by all ranks once each, and read again, in parts and whole."""
    _, codes, rows = found
    assert codes["mesh"] == [0] * 4, rows
    assert [rows[f"mesh-{rank}"]["wrong"] for rank in range(4)] == [[]] * 4
    assert sum(rows[f"mesh-{rank}"]["number"] for rank in range(4)) == 10 * 14 + 14 + 14 * 6 + 6


RECIPE = ranked_runs.RECIPE.format(checkpoint_steps=4)
FLAGS = ["--dtype", "float32", "--set", "parallel.shard=2"]


def losses(folder):
    return [row["loss"] for row in read_jsonl(folder / "01-base" / "metrics.jsonl")]


def kill_one(folder, ranks):
    """Kills a rank once there are some steps: which one."""
    metrics, pids, victim = folder / "01-base" / "metrics.jsonl", [], random.randrange(2)

    def has_begun():
        pids[:] = ranks()
        return len(pids) == 2 and metrics.is_file() and metrics.read_text().count("\n") >= 9

    yield has_begun
    os.kill(pids[victim], signal.SIGKILL)
    yield victim


@pytest.mark.skipif(sys.platform != "linux", reason="finds the ranks in /proc")
@pytest.mark.parametrize("by_torchrun", [False, True])
def test_ranks_are_started_again_and_end_as_a_run_that_nothing_happened_to(tmp_path, by_torchrun):
    """A sharded run on two ranks, one of which is killed; the model at its end is one folder."""
    (tmp_path / "tiny.toml").write_text(RECIPE)
    starts = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "-m"]
    command = [*starts, "open_exaone", "run"] if by_torchrun else ["-m", "open_exaone", "run", "--ranks", "2"]
    more = [] if by_torchrun else ["--restarts", "1"]
    run = subprocess.Popen(
        [sys.executable, *command, "tiny.toml", *FLAGS, "--out", "cut", *more],
        cwd=tmp_path,
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        kill = kill_one(tmp_path / "cut", lambda: ranked_runs.children(run)[:2])
        ranked_runs.wait_for(next(kill), run)
        victim = next(kill)
        _, printed = run.communicate(timeout=900)
    finally:
        run.kill()
    assert run.returncode == 0, printed.decode()
    if not by_torchrun:
        text = " ".join(printed.decode().split())
        assert f"rank {victim} was killed by SIGKILL. All 2 ranks start again from the last saved state" in text
        assert "(restart 1 of 1)" in text
    run_recipe(load_recipe(str(tmp_path / "tiny.toml")), tmp_path / "whole", print, Machine(dtype="float32"))
    assert len(losses(tmp_path / "whole")) == 40
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)
    whole, cut = (load_weights(tmp_path / name / "01-base" / "model") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name in whole:
        torch.testing.assert_close(cut[name], whole[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("error", "detail"), [("MemoryError", ""), ("OutOfMemoryError", r" \(CUDA out of memory.*\)")])
def test_a_rank_that_runs_out_of_memory_is_named_with_what_to_change(tmp_path, error, detail, monkeypatch, capfd):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, str(ROOT / "tests" / "failing_rank.py")))
    for name, value in {**ENVIRONMENT, "FAILS_WITH": error, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    arguments = ["run", str(tmp_path / "tiny.toml"), *FLAGS, "--out", str(tmp_path / "out"), "--ranks", "2"]
    assert launch.launch(arguments, 2, 1) == 1
    printed = " ".join(capfd.readouterr().err.split())
    for end in ("start again from the last saved state (restart 1 of 1).", "The same command resumes it"):
        assert re.search(
            rf"rank 1 ran out of memory{detail}: lower micro_batch_tokens, .* parallel.shard.* rank 1 exited with "
            rf"status 1\. (All 2 ranks|The run has ended\.) {re.escape(end)}",
            printed,
        ), printed
    assert checkpoints(tmp_path / "out" / "01-base" / "checkpoints")


def test_an_error_within_a_pass_of_a_sharded_model_ends_all_ranks_without_waiting_for_a_timeout(tmp_path):
    """The other rank is within a collective of FSDP2; it is awaited for an hour."""
    (tmp_path / "tiny.toml").write_text(RECIPE)
    program = str(ROOT / "tests" / "failing_rank.py")
    arguments = ["run", "tiny.toml", *FLAGS, "--out", "out", "--ranks", "2", "--set", "parallel.step_timeout_s=3600"]
    run = subprocess.Popen(
        [sys.executable, "-c", LAUNCHED, program, *arguments],
        cwd=tmp_path,
        env={**ENVIRONMENT, "FAILS_WITH": "OpenExaoneError", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    try:
        _, errors = run.communicate(timeout=300)
    finally:
        run.terminate()
    printed = " ".join(errors.decode().split())
    assert run.returncode == 1, printed
    assert "exaone: this rank alone fails" in printed and "rank 1 exited with status 1." in printed, printed
    assert checkpoints(tmp_path / "out" / "01-base" / "checkpoints")


def test_restarts_need_ranks_and_stop_where_they_would_help_nobody(tmp_path, monkeypatch):
    for number, restarts in ((None, 1), (1, 1), (2, -1)):
        with pytest.raises(ConfigError, match=f"--restarts {restarts}: must be 0 to 1000, beside --ranks .*torchrun"):
            ranks.starts_ranks(number, restarts)
    assert ranks.starts_ranks(2, 3)
    started = tmp_path / "started"
    for code, times in ((2, 1), (130, 1), (1, 3), (0, 1)):  # a wrong recipe, an interruption, a failure, the end
        started.write_text("")
        program = f"open({str(started)!r}, 'a').write('x'); import sys; sys.exit({code})"
        monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-c", program))
        assert launch.launch([], 1, 2) == code
        assert len(started.read_text()) == times


def test_an_error_that_every_rank_finds_is_printed_once(monkeypatch, capfd):
    """Rank 0 ends last; what another rank has printed of the same error is left out."""
    program = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "rank = int(os.environ['RANK']); time.sleep(0 if rank else 1); "
        "print(f'exaone: nothing is called arithmetic: rank {rank} found it', file=sys.stderr); sys.exit(2)"
    )
    monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-c", program))
    assert launch.launch([], 2) == 2
    printed = capfd.readouterr().err
    assert printed == "exaone: nothing is called arithmetic: rank 0 found it\n"
