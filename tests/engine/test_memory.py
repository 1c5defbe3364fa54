"""How many keys and values memory holds, and that it decides nothing else."""

import pytest
import torch

from doubles import TINY, make_model, make_tokenizer
from open_exaone.base.errors import PromptTooLongError
from open_exaone.base.records import Sampling
from open_exaone.engine import engine as engine_module
from open_exaone.engine.engine import Engine
from open_exaone.engine.memory import _free_of_group, _free_of_machine, block_bytes, free_bytes, pool_sizes

GIB = 1 << 30


def taken(config, lengths, free=1 << 60, dtype=torch.bfloat16):
    """Memory of the blocks that these sequences get."""
    sizes = block_bytes(config, dtype)
    nums = pool_sizes(lengths, config.window, sizes, free)
    return sum(num * size for num, size in zip(nums, sizes, strict=True))


def test_sequences_get_what_their_keys_and_values_take_as_far_as_memory_goes():
    needed = TINY.kv_cache_bytes(1000)
    assert needed <= taken(TINY, [1000]) <= 1.03 * needed
    assert 8 * needed <= taken(TINY, [1000] * 8) <= 8 * 1.03 * needed
    assert taken(TINY, [1000] * 8, dtype=torch.float32) == 2 * taken(TINY, [1000] * 8)
    assert 1.9 * needed < taken(TINY, [1000] * 8, free=int(2.5 * needed)) <= 2 * needed
    with pytest.raises(PromptTooLongError, match=r"keys and values of 1000 tokens take .* GiB, and .* GiB are free"):
        pool_sizes([1000], None, block_bytes(TINY, torch.bfloat16), needed)


def test_a_window_makes_room():
    windowed = TINY.model_copy(update={"pattern": "LLLG", "num_layers": 8, "window": 4096})
    needed = windowed.kv_cache_bytes(131_072)
    assert needed <= taken(windowed, [131_072]) <= 1.05 * needed
    assert needed < 0.3 * windowed.model_copy(update={"pattern": "G", "window": None}).kv_cache_bytes(131_072)


def test_the_machine_and_its_group_say_what_is_free(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:    2048 kB\n")
    assert _free_of_machine(tmp_path / "meminfo") == 2 << 20
    assert _free_of_machine(tmp_path / "none") == 4 * GIB
    assert _free_of_group(tmp_path) == 1 << 62
    for name, text in [("memory.max", "1000\n"), ("memory.current", "900\n"), ("memory.stat", "x 1\ninactive_file 50")]:
        (tmp_path / name).write_text(text)
    assert _free_of_group(tmp_path) == 150
    (tmp_path / "memory.max").write_text("max\n")
    assert _free_of_group(tmp_path) == 1 << 62
    assert free_bytes(torch.device("cpu")) > 0


def test_little_memory_changes_no_token(monkeypatch, backend):
    prompts, sampling = [[30 + n for n in range(40)], [40], [50] * 20], Sampling(40, 1.0, 1.0, num_samples=4)
    engine = Engine(make_model(), make_tokenizer(), backend=backend)

    def replies():
        return [[completion.ids for completion in group] for group in engine.generate(prompts, sampling)]

    plenty = replies()
    enough = int(1.5 * TINY.kv_cache_bytes(96, bytes_per_value=4) / 0.8)
    monkeypatch.setattr(engine_module, "free_bytes", lambda device: enough)
    assert replies() == plenty
    monkeypatch.setattr(engine_module, "free_bytes", lambda device: 1000)
    with pytest.raises(PromptTooLongError, match="prompt 0: the keys and values of 80 tokens take"):
        replies()
