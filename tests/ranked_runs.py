"""A tiny recipe for `exaone run` on several ranks, and its ranks as processes."""

import os
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "GLOO_SOCKET_IFNAME": "lo"}
RECIPE = """
name = "tiny"
parallel.step_timeout_s = 600
data.base = {{ sources = [{{ families = ["height_order"], num_problems = 40 }}] }}

[model]
vocab_size = 512
width = 32
num_layers = 1
num_heads = 2
num_kv_heads = 1
head_width = 16
ffn_width = 64
max_positions = 256

[[stages]]
kind = "base"
name = "base"
data = "base"
num_epochs = 8
batch_documents = 8
checkpoint_steps = {checkpoint_steps}
optimizer = {{ kind = "adamw", learning_rate = 5e-3 }}
"""


def forked(size, act):
    """Calls `act` with the number of each rank in a process of its own: their exit codes; what this process has
    imported and computed, they all know."""
    ranks = []
    for rank in range(size):
        if not (child := os.fork()):
            try:
                act(rank)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        ranks.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks]


def children(process):
    """The ids of its children, in the order in which they were started."""
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


def wait_for(what, process):
    while not what():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
