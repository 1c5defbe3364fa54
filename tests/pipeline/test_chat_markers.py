"""The warning before LoRA: markers that were never trained are found, and trained ones are not."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import open_exaone
from open_exaone.checkpoint.folder import load_model
from open_exaone.data.document import Document
from open_exaone.pipeline.chat_markers import EMBEDDINGS, KNOWN, end_probability, untrained_markers
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


def documents(tokenizer: Tokenizer) -> list[Document]:
    """Rows that have little to do with what the shipped model was trained on."""
    pairs = [("What is the capital of Korea?", "Seoul."), ("Say yes.", "Yes, of course."), ("1, 2, 3,", "4, 5, 6")]
    chats = [[{"role": "user", "content": ask}, {"role": "assistant", "content": reply}] for ask, reply in pairs]
    return [Document(*tokenizer.render(chat, thinking=False, with_mask=True)) for chat in chats]


def test_a_trained_model_ends_replies_and_one_with_random_markers_or_weights_does_not() -> None:
    tokenizer = Tokenizer.load(PEBBLE)
    model = load_model(PEBBLE, dtype="float32")
    name, probability = end_probability(model, documents(tokenizer), tokenizer, 512)
    assert name == "[|endofturn|]" and probability > 5 * KNOWN
    rows = model.model.embed_tokens.weight
    markers = list(tokenizer.backend.get_added_tokens_decoder())
    with torch.no_grad():
        rows[markers] = (
            torch.randn(len(markers), rows.shape[1], generator=torch.Generator().manual_seed(1)) * rows.std()
        )
    assert end_probability(model, documents(tokenizer), tokenizer, 512)[1] < KNOWN
    model.reset_parameters(0)
    assert end_probability(model, documents(tokenizer), tokenizer, 512)[1] < KNOWN


def test_documents_that_were_cut_before_their_end_say_nothing() -> None:
    tokenizer = Tokenizer.load(PEBBLE)
    ends = [max(place for place, is_learned in enumerate(one.loss_mask) if is_learned) for one in documents(tokenizer)]
    cut = [Document(one.ids[:end], one.loss_mask[:end]) for one, end in zip(documents(tokenizer), ends, strict=True)]
    assert end_probability(load_model(PEBBLE, dtype="float32"), cut, tokenizer, 512) is None
