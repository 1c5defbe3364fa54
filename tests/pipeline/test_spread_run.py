"""Stages that sample, evaluations and `exaone eval` in two ranks leave what they leave in one process."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny_spread
from open_exaone.base.files import read_jsonl
from open_exaone.pipeline import launch
from open_exaone.pipeline.evaluate import Choices, evaluate
from open_exaone.pipeline.measure import Machine

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")},
    **{"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "GLOO_SOCKET_IFNAME": "lo"},
}
MEASURED = {"sample_seconds", "peak_rss_bytes", "seconds", "follows_from"}  # what no two runs have alike

RECIPE = """
name = "spread"
model = "pebble-0.9m"
engine = { kind = "local", num_slots = 8 }
parallel.step_timeout_s = 600

[data]
first = { sources = [{ families = ["height_order", "bus_ride"], num_problems = 8 }] }
second = { sources = [{ families = ["secret_number"], num_problems = 6 }] }
pool = { sources = [{ families = ["secret_number", "bus_ride", "height_order"], num_problems = 20 }] }

[evaluation]
data = ["first", "second"]
num_samples = 2
max_new_tokens = 64
faithfulness = 4

[[stages]]
kind = "filter"
name = "filter"
data = "pool"
start = "model"
num_samples = 4
temperature = 1.3
max_new_tokens = 64

[[stages]]
kind = "rejection"
name = "reject"
data = "pool"
start = "model"
num_samples = 4
max_new_tokens = 64
batch_documents = 16
num_epochs = 1
optimizer = { kind = "adamw", learning_rate = 1e-30 }

[[stages]]
kind = "preference"
name = "prefer"
data = "pool"
start = "model"
num_samples = 4
temperature = 1.3
max_new_tokens = 64
batch_pairs = 16
num_epochs = 1
optimizer = { kind = "adamw", learning_rate = 1e-30 }
"""  # the weights stay what they are, as training in ranks differs in the last bits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of both runs."""
    folder = tmp_path_factory.mktemp("spread")
    (folder / "spread.toml").write_text(RECIPE)
    command = [sys.executable, tiny_spread.__file__, str(folder / "spread.toml"), str(launch._free_port()), str(folder)]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=1800, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder


def both(folder, name):
    return [json.loads((folder / run / name).read_text()) for run in ("alone", "together")]


def test_the_other_rank_draws_for_every_stage_and_evaluation(folder):
    assert json.loads((folder / "drawn-0.json").read_text()) == []
    drawn = json.loads((folder / "drawn-1.json").read_text())
    assert len(drawn) == 6  # a filter, two stages that sample, two evaluations and one of altered thoughts
    assert sum(drawn) > 20


@pytest.mark.parametrize(
    "name",
    [
        "01-filter/pass_rates.jsonl",
        "01-filter/kept.jsonl",
        "02-reject/replies.jsonl",
        "03-prefer/pairs.jsonl",
        "02-reject/eval/report.json",
        "03-prefer/eval/report.json",
        "03-prefer/eval/faithfulness/report.json",
    ],
)
def test_what_stages_and_evaluations_leave_is_the_same_to_the_byte(folder, name):
    assert (folder / "together" / name).read_bytes() == (folder / "alone" / name).read_bytes()


@pytest.mark.parametrize("name", ["01-filter/filter.json", "02-reject/sampling.json", "03-prefer/sampling.json"])
def test_counts_and_tokens_are_those_of_all_ranks(folder, name):
    one, two = ({key: value for key, value in row.items() if key not in MEASURED} for row in both(folder, name))
    assert one == two and two["sampled_tokens"] > 0


@pytest.mark.parametrize("name", ["02-reject/eval", "03-prefer/eval", "03-prefer/eval/faithfulness"])
def test_samples_of_evaluations_are_the_same(folder, name):
    """But for their keys, which hash the weights."""
    one, two = (
        [
            {key: value for key, value in row.items() if key != "key"}
            for row in read_jsonl(folder / run / name / "samples.jsonl")
        ]
        for run in ("alone", "together")
    )
    assert one == two and len(one) >= 8


@pytest.mark.skipif(sys.platform != "linux", reason="finds the ranks in /proc")
def test_a_killed_rank_ends_an_evaluation_which_resumes_in_one_process(tmp_path, monkeypatch):
    """Whichever it is: nothing hangs, the rank is named, and what was drawn is not drawn again."""
    asked = "".join(
        json.dumps({"question": f"What is {n} + {n * 7 % 90}?", "answer": str(n + n * 7 % 90)}) + "\n"
        for n in range(80)
    )
    (tmp_path / "sums.jsonl").write_text(asked)
    flags = ["--suite", "sums.jsonl", "--samples", "5", "--max-new-tokens", "90", "--dtype", "float32", "--out", "cut"]
    command = [sys.executable, "-m", "open_exaone", "eval", "pebble-0.9m", *flags, "--ranks", "2"]
    run = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    journal = tmp_path / "cut" / "journal.jsonl"
    try:
        while not (journal.is_file() and journal.read_bytes().count(b"\n") > 30):
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        ranks = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        victim = random.randrange(2)
        os.kill(int(ranks[victim]), signal.SIGKILL)
        _, errors = run.communicate(timeout=600)
    finally:
        run.kill()
    assert run.returncode == 1
    assert f"rank {victim} was killed by SIGKILL" in errors.decode(), errors.decode()
    rows = read_jsonl(journal)
    assert 10 < sum("key" in row for row in rows) < 400
    monkeypatch.chdir(tmp_path)
    messages, choices = [], Choices(suite="sums.jsonl", num_samples=5, sampling={"max_new_tokens": 90})
    for out in ("cut", "whole"):
        evaluate("pebble-0.9m", choices, out=Path(out), machine=Machine(dtype="float32"), on_event=messages.append)
    assert sum("continuing at sample" in event.get("message", "") for event in messages) == 1
    assert (tmp_path / "cut" / "samples.jsonl").read_bytes() == (tmp_path / "whole" / "samples.jsonl").read_bytes()
