"""A recipe whose model is split by matrices over two ranks leaves what one process leaves, from its first stage on."""

import subprocess
import sys

import pytest
import torch

from open_exaone.base.files import read_jsonl
from open_exaone.checkpoint.folder import load_weights
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from ranked_runs import ENVIRONMENT, ROOT

RECIPE = f"""
name = "split"
parallel.step_timeout_s = 600
engine = {{ kind = "local", num_slots = 8 }}
evaluation = {{ data = ["held"], num_samples = 2, max_new_tokens = 16 }}

[data]
base = {{ sources = [{{ families = ["height_order"], num_problems = 24 }}] }}
pool = {{ sources = [{{ families = ["secret_number", "bus_ride"], num_problems = 8 }}] }}
held = {{ sources = [{{ families = ["height_order"], num_problems = 3 }}] }}

[model]
vocab_size = 512
width = 32
num_layers = 1
num_heads = 4
num_kv_heads = 2
head_width = 8
ffn_width = 64
max_positions = 256

[[stages]]
kind = "base"
name = "base"
data = "base"
batch_documents = 8
num_epochs = 1
optimizer = {{ kind = "adamw", learning_rate = 5e-3 }}

[[stages]]
kind = "preference"
name = "prefer"
data = "pool"
num_samples = 4
max_new_tokens = 16
batch_pairs = 4
pairs = {{ rule = "reward" }}
reward = "{ROOT}/tests/train/thought_length.py:score"
optimizer = {{ kind = "adamw", learning_rate = 1e-3 }}

[[stages]]
kind = "rl"
name = "rl"
data = "pool"
num_steps = 2
batch_prompts = 4
group_size = 4
max_new_tokens = 16
loss = {{ name = "grpo", kl = {{ beta = 0.05 }} }}
reward = "{ROOT}/tests/train/thought_length.py:score"
optimizer = {{ kind = "adamw", learning_rate = 1e-3 }}
"""
LAUNCHED = """
import sys
from open_exaone.pipeline import launch

launch.COMMAND = (sys.executable, sys.argv[1])
sys.exit(launch.launch(sys.argv[2:], 2))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of both runs. Rank 0 is the last to have its part of a state on disk, and alone knows when it is whole."""
    folder = tmp_path_factory.mktemp("split")
    (folder / "split.toml").write_text(RECIPE)
    arguments = ["run", "split.toml", "--out", "together", "--dtype", "float32", "--ranks", "2"]
    command = [sys.executable, "-c", LAUNCHED, str(ROOT / "tests" / "slow_first_rank.py"), *arguments]
    ran = subprocess.run(
        [*command, "--set", "parallel.tensor=2"],
        cwd=folder,
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    run_recipe(load_recipe(str(folder / "split.toml")), folder / "alone", print, Machine(dtype="float32"))
    return folder


@pytest.mark.parametrize("stage", ["01-base", "02-prefer", "03-rl"])
def test_each_stage_ends_in_the_same_weights_in_one_folder(folder, stage):
    alone, together = (load_weights(folder / run / stage / "model") for run in ("alone", "together"))
    assert alone.keys() == together.keys()
    for name in alone:
        torch.testing.assert_close(together[name], alone[name], rtol=0, atol=1e-4)
    steps = read_jsonl(folder / "together" / stage / "metrics.jsonl")
    assert all(step["gradient_norm"] > 1e-4 for step in steps)
    assert list((folder / "together" / stage / "checkpoints").glob("*/master-00002-of-00002.safetensors"))


def test_the_samples_are_the_same(folder):
    names = ["02-prefer/pairs.jsonl", *(f"03-rl/rollouts/step-00000{step}.jsonl" for step in (1, 2))]
    names += [f"{stage}/eval/samples.jsonl" for stage in ("01-base", "02-prefer", "03-rl")]
    for name in names:
        alone, together = (read_jsonl(folder / run / name) for run in ("alone", "together"))
        assert alone and [_sampled(row) for row in together] == [_sampled(row) for row in alone], name


def _sampled(row):
    """But for log-probabilities, which differ by rounding, and hashes of them and of the weights."""
    return {name: value for name, value in row.items() if name not in ("key", "sha256", "logprobs")}
