"""benchmarks/generate.py on a tiny model: its parts run, count what they say they count, and name who is missing."""

import importlib
import math
import re
import sys
from pathlib import Path

import pytest
import torch

from open_exaone.model.config import ModelConfig

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
TINY = ModelConfig(
    vocab_size=384,
    width=32,
    num_layers=4,
    num_heads=2,
    num_kv_heads=1,
    head_width=16,
    ffn_width=48,
    max_positions=2048,
    pattern="LLLG",
    window=64,
)


@pytest.fixture(scope="module")
def benchmark():
    """The benchmarks' modules by name, importable while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        known = set(sys.modules)
        importlib.import_module("generate")
        patch.setitem(sys.modules["shapes"].SHAPES, "tiny", TINY)
        patch.setattr(sys.modules["processor"], "READ_BYTES", 1 << 20)
        yield importlib.import_module
        for name in set(sys.modules) - known:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(BENCHMARKS):
                del sys.modules[name]


def run(benchmark, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["generate.py", *arguments, "--rounds", "1", "--dtype", "float32"])
    benchmark("generate").main()
    return capsys.readouterr().out


def test_contestants_take_turns_and_those_who_cannot_are_named(benchmark, monkeypatch, capsys, tmp_path):
    no_python = tmp_path / "python"
    no_python.write_text("#!/bin/sh\necho 'ModuleNotFoundError: nothing here' >&2; exit 1\n")
    no_python.chmod(0o755)
    peers = ["--llama-python", str(no_python), "--vllm-python", str(no_python)]
    sizes = ["--shape", "tiny", "--requests", "6", "--longest", "24", "--new", "200", "--busy", "1"]
    out = run(benchmark, monkeypatch, capsys, *sizes, "--workload", "ragged,batch1", *peers)
    for name in ("open-exaone", "open-exaone in eager PyTorch", "transformers generate"):
        assert re.search(rf"^{name}, \w+, 6 together +[\d,.]+ +[\d,.]+ +[\d.]+x", out, flags=re.MULTILINE), out
    for name in ("open-exaone, int8", "open-exaone in eager PyTorch, bfloat16", "transformers generate, \\w+"):
        assert re.search(rf"^{name} +\d.*of the bandwidth|^{name} +left out: .*raise --new", out, flags=re.MULTILINE)
    assert len(re.findall(r"(?:llama\.cpp|vllm) +left out: ModuleNotFoundError: nothing here", out)) == 4
    assert "beside 1" in out and "of the fair share" in out


def test_ragged_requests_are_spread_evenly_over_the_logarithm(benchmark):
    generators = benchmark("generators")
    for number in (4, 64):
        lengths = sorted(generators.ragged_work(number, 3, 100).num_new)
        places = [math.log(length / 16) / math.log(513 / 16) * number for length in lengths]
        assert all(part - 1.2 < place < part + 1 for part, place in enumerate(places))  # floored to tokens
        assert 16 <= lengths[0] and lengths[-1] <= 512


def test_tokens_behind_an_end_are_not_useful(benchmark, monkeypatch, tmp_path):
    generators = benchmark("generators")
    peer = generators.Transformers(tmp_path, [2])
    peer.batch = 2
    replies = iter([[[5, 6, 9, 9], [5, 6, 7, 8]], [[9, 1, 1, 1]]])
    monkeypatch.setattr(peer, "_generate", lambda *_, **__: next(replies))
    work = generators.Work([[1]] * 3, [4, 3, 4], end_ids=[9])
    assert peer.run(work).num_tokens == 3 + 3 + 1


def test_all_generate_as_many_useful_tokens(benchmark, tmp_path):
    generators, lab = benchmark("generators"), benchmark("lab")
    args = benchmark("argparse").Namespace(peers=["plain", "transformers"], llama_python="", vllm_python="")
    made = lab.Lab("tiny", args, tmp_path, torch.float32)
    work = generators.ragged_work(5, 8, TINY.vocab_size, longest=20)
    contestants = made.contestants(batches=[2])
    contestants.append(generators.Worker("earlier", tmp_path, sys.executable, ["float32"], [2]))
    for contestant in contestants:
        contestant.open("float32", 2, work.context)
        even = generators.Work(work.prompts, [4] * 5)
        assert contestant.run(even).num_tokens == 20
        if contestant.title != "earlier":  # its replies are of one length
            assert contestant.run(work).num_tokens == sum(work.num_new)
        contestant.close()


def test_a_peer_whose_process_dies_is_left_out_with_its_signal(benchmark, tmp_path):
    generators = benchmark("generators")
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -ILL $$\n")
    dying.chmod(0o755)
    worker = generators.Worker("llama.cpp", tmp_path, str(dying), ["Q8_0"], [1])
    with pytest.raises(generators.PeerError, match="SIGILL"):
        worker.open("Q8_0", 1, 64)
    worker.close()


def test_a_text_that_the_engine_is_forced_to_give_has_the_log_probabilities_of_one_pass(benchmark):
    gauge, generators = benchmark("gauge"), benchmark("generators")
    model = generators.random_model(TINY, torch.float32)
    pieces = generators.random_prompts(3, 100, TINY.vocab_size)
    engine = benchmark("open_exaone.engine.engine").Engine(model, benchmark("lab").Tokenizer.train(["0 1"], 320))
    forced = gauge.forced_logprobs(engine, pieces)
    read_T = gauge.one_pass(model, [(piece[:1], piece[1:], ()) for piece in pieces])
    torch.testing.assert_close(torch.tensor(forced).flatten(), read_T, rtol=0, atol=1e-4)


def test_a_long_context_takes_the_memory_of_the_formula(benchmark, monkeypatch, capsys):
    out = run(benchmark, monkeypatch, capsys, "--shape", "tiny", "--workload", "group,long", "--context", "2000")
    assert float(re.search(r"GB: ([\d.]+) times", out.replace("\n", " "))[1]) < 1.2  # blocks round up
    assert "times one prefill" in out
