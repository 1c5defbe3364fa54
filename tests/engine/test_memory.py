"""How many samples decode together is decided by what memory holds."""

import torch

from doubles import SHAPES, TINY, make_model, make_tokenizer
from open_exaone.base.records import Sampling
from open_exaone.engine import engine as engine_module
from open_exaone.engine.engine import Engine
from open_exaone.engine.memory import _free_of_group, _free_of_machine, free_bytes, slots_that_fit
from open_exaone.model.cache import Cache

GIB = 1 << 30


def slots(config=TINY, longest_prompt=100, max_length=1000, bytes_per_value=2, free=GIB):
    return slots_that_fit(
        config,
        longest_prompt=longest_prompt,
        max_length=max_length,
        bytes_per_value=bytes_per_value,
        free_bytes=free,
    )


def test_slots_follow_memory_between_one_and_128():
    assert slots(free=0) == 1
    assert slots(free=1 << 50) == 128
    few = slots(free=20 << 20)
    assert 1 < few < 128
    assert slots(free=40 << 20) in (2 * few, 2 * few + 1)
    assert slots(free=20 << 20, max_length=10_000) < few
    assert slots(free=20 << 20, longest_prompt=900) < few
    assert slots(free=20 << 20, bytes_per_value=4) < few


def test_a_window_makes_room():
    windowed = TINY.model_copy(update={"pattern": "LLG", "window": 64})
    assert slots(windowed, max_length=50_000, free=GIB // 4) > 2 * slots(max_length=50_000, free=GIB // 4)


def test_the_caches_of_all_slots_fit():
    for config in (SHAPES["exaone4-hybrid"], SHAPES["llama"]):
        free = 8 << 20
        num = slots(config, longest_prompt=20, max_length=500, bytes_per_value=4, free=free)
        assert 1 < num < 128
        assert Cache(config, rows=num, slots=500, dtype=torch.float32).num_bytes < free


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


def test_an_engine_without_a_number_takes_what_fits(monkeypatch):
    prompts, sampling = [[30, 31, 32], [40]], Sampling(max_new_tokens=8, num_samples=3)
    engine = Engine(make_model(), make_tokenizer(), num_slots=None)
    rows = []

    class Counted(Cache):
        def __init__(self, config, **sizes):
            rows.append(sizes["rows"])
            super().__init__(config, **sizes)

    monkeypatch.setattr(engine_module, "Cache", Counted)

    def replies():
        return [[completion.ids for completion in group] for group in engine.generate(prompts, sampling)]

    wide = replies()
    monkeypatch.setattr(engine_module, "free_bytes", lambda device: 0)
    assert replies() == wide
    assert (rows[0], rows[2]) == (6, 1)
