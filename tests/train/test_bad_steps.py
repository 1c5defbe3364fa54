"""`exaone train` on data of which some rows give gradients that are not finite, or far too long."""

import json

import pytest
import torch

from doubles import SHAPES, make_model, make_tokenizer
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.cli.main import main
from open_exaone.train.state import read_state

CONFIG = """
name = "bad"
model = "PLACE/base"
[data.rows]
sources = [{ path = "PLACE/rows.jsonl" }]
[[stages]]
kind = "pretrain"
name = "it"
data = "rows"
num_epochs = 4
batch_documents = 1
checkpoint_steps = 1000
optimizer = { learning_rate = 1e-4, matrix_learning_rate = 1e-4 }
logging = { WATCH }
"""
GOOD, BAD = 10, 2  # rows
BAD_TEXT = "Q " * 20
OVERFLOWS, STEEP = 3e38, 1e-6  # what the letter Q, of the bad rows alone, is embedded by: both blow up inside


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command on a model of this `shape` with Q embedded by `value`: exit code, metrics, what it said."""

    def run(value, num_good=GOOD, watch="", shape="exaone4-untied"):
        model, tokenizer = make_model(SHAPES[shape].model_copy(update={"tied_embeddings": False})), make_tokenizer()
        letter = tokenizer.encode("Q")[-1]
        with torch.no_grad():
            model.model.embed_tokens.weight[letter] = value
        save_model(tmp_path / "base", model.config, dict(model.named_parameters()), tokenizer, {})
        texts = [f"{n} + 1 = {n + 1}" for n in range(num_good)] + [f"{n} {BAD_TEXT}" for n in range(BAD)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        (tmp_path / "bad.toml").write_text(CONFIG.replace("PLACE", str(tmp_path)).replace("WATCH", watch))
        command = ["train", str(tmp_path / "bad.toml"), "--out", str(tmp_path / "out"), "--device", "cpu"]
        with pytest.raises(SystemExit) as ended:
            main([*command, "--dtype", "float32"])
        told = capsys.readouterr()
        rows = [json.loads(line) for line in (tmp_path / "out" / "01-it" / "metrics.jsonl").open()]
        return ended.value.code, rows, " ".join((told.out + told.err).split())

    return run


def test_steps_whose_gradient_is_not_finite_are_skipped_and_counted(run, tmp_path):
    code, rows, told = run(OVERFLOWS)
    skipped = [row for row in rows if row["skipped"]]
    assert code == 0 and len(rows) == 48 and len(skipped) == 4 * BAD
    assert all(row["gradient_norm"] is None and row["loss"] is None for row in skipped)
    assert all(row["gradient_norm"] > 0 for row in rows if not row["skipped"])
    assert rows[-1]["skipped_steps"] == 8 and "48 steps (8 of them skipped)" in told
    assert json.loads((tmp_path / "out" / "01-it" / "outcome.json").read_text())["skipped_steps"] == 8
    before, after = load_weights(tmp_path / "base"), load_weights(tmp_path / "out" / "01-it" / "model")
    assert all(torch.isfinite(after[name]).all() for name in after)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_too_many_in_a_row_stop_the_run_with_its_state_saved(run, tmp_path):
    code, rows, told = run(OVERFLOWS, num_good=0, watch="max_skipped_steps = 3")
    assert code == 1 and [row["skipped"] for row in rows] == [True] * 3
    assert "not finite, 3 steps in a row" in told and "lower the learning rate, or look at the data" in told
    assert not (tmp_path / "out" / "01-it" / "model").exists()
    masters, _, values = read_state(tmp_path / "out" / "01-it" / "checkpoints" / "step-000003")
    before = load_weights(tmp_path / "base")
    assert all(torch.equal(masters[name], before[name]) for name in masters) and values["progress"]["step"] == 3
    code, rows, _ = run(OVERFLOWS, num_good=0, watch="max_skipped_steps = 3")
    assert code == 1 and len(rows) == 6  # the same command goes on, with as much patience


@pytest.mark.parametrize("factor", [None, 8.0])
def test_spikes_are_skipped_and_counted_where_that_is_asked_for(factor, run):
    code, rows, told = run(STEEP, watch="" if factor is None else f"spike_factor = {factor}", shape="llama")
    norms = sorted(row["gradient_norm"] for row in rows)
    assert code == 0 and norms[-4 * BAD] > 8 * norms[len(norms) // 2], "the rows are not bad enough to test anything"
    skipped = [row for row in rows if row["skipped"]]
    assert all(row["gradient_norm"] >= norms[-4 * BAD] for row in skipped)
    assert len(skipped) == (0 if factor is None else sum(row["gradient_norm"] >= norms[-8] for row in rows[16:]))
    assert (f"{len(skipped)} of them skipped" in told) == (factor is not None)
