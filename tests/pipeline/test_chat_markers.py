"""The warning before LoRA: markers that were never trained are found, and trained ones are not."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import open_exaone
from open_exaone.pipeline.chat_markers import EMBEDDINGS, untrained_markers
from open_exaone.text.tokenizer import Tokenizer

PEBBLE = Path(open_exaone.__file__).parent / "models" / "pebble-0.9m"


def test_the_shipped_model_has_trained_markers() -> None:
    assert untrained_markers(PEBBLE, Tokenizer.load(PEBBLE)) == []


@pytest.mark.parametrize("case", ["zero", "same", "far"])
def test_untrained_markers_are_named(case: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PEBBLE, tmp_path / "model"))
    weights, tokenizer = load_file(folder / "model.safetensors"), Tokenizer.load(PEBBLE)
    ids = [tokenizer.backend.token_to_id(name) for name in ("[|user|]", "[|endofturn|]")]
    rows = weights[EMBEDDINGS]
    rows[ids] = {"zero": torch.zeros_like(rows[ids]), "same": rows[ids[0]].clone(), "far": rows[ids] * 20}[case]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert set(untrained_markers(folder, tokenizer)) == {"[|user|]", "[|endofturn|]"}
