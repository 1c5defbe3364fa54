"""The decoder against transformers' own, and against itself under padding, packing and caching."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from doubles import SHAPES, make_model, make_tokenizer, random_ids
from open_exaone.checkpoint.folder import load_model, save_model
from open_exaone.model.cache import Cache
from open_exaone.model.config import LayerKind
from open_exaone.model.hf import config_from_hf, config_to_hf
from open_exaone.model.logprobs import entropy, token_logprobs

shapes = pytest.mark.parametrize("shape", SHAPES)


@shapes
@torch.no_grad()
def test_transformers_opens_our_folder_and_computes_the_same(shape, tmp_path):
    model, tokenizer = make_model(SHAPES[shape]), make_tokenizer()
    save_model(tmp_path, model.config, dict(model.named_parameters()), tokenizer, {"temperature": 0.6, "top_p": 0.95})
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids_BT = random_ids(3, 40)
    torch.testing.assert_close(model(ids_BT), reference(ids_BT).logits, rtol=1e-4, atol=1e-4)

    prompt = tokenizer.render(
        [{"role": "user", "content": "How much is 3 + 4?"}], thinking=True, generation_prompt=True
    )
    theirs = reference.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=40, temperature=None, top_p=None
    )
    ids = torch.tensor([prompt])
    while ids.shape[1] < theirs.shape[1]:
        ids = torch.cat((ids, model(ids)[:, -1:].argmax(-1)), dim=1)
    assert ids.tolist() == theirs.tolist()

    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert (opened.eos_token_id, opened.pad_token_id) == (tokenizer.end_id, tokenizer.pad_id)
    assert (reference.generation_config.eos_token_id, reference.config.pad_token_id) == (
        tokenizer.end_id,
        tokenizer.pad_id,
    )


@shapes
@torch.no_grad()
def test_saving_and_loading_is_exact(shape, tmp_path):
    model = make_model(SHAPES[shape])
    save_model(tmp_path, model.config, dict(model.named_parameters()), make_tokenizer(), {})
    again = load_model(tmp_path, dtype="float32")
    assert again.config == model.config
    for (name, weight), (other_name, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert name == other_name and torch.equal(weight, other)


@shapes
@torch.no_grad()
@pytest.mark.parametrize("chunks", [[1] * 30, [12, 1, 1, 9, 7], [30]])
def test_cached_reading_equals_the_full_forward(shape, chunks):
    model = make_model(SHAPES[shape])
    ids_BT = random_ids(2, 30)
    cache = Cache.of_rows(model.config, rows=2, slots=30, dtype=torch.float32)
    start, pieces = 0, []
    for length in chunks:
        positions_BT = torch.arange(start, start + length).expand(2, -1)
        pieces.append(model(ids_BT[:, start : start + length], positions_BT, cache=cache))
        start += length
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids_BT), rtol=1e-4, atol=1e-4)


@shapes
@torch.no_grad()
def test_rows_of_a_cache_have_lengths_of_their_own(shape):
    """Ragged prompts padded at the end, then decoded together, equal each sequence alone."""
    model = make_model(SHAPES[shape])
    sequences = [random_ids(length, seed=length) for length in (17, 5, 11)]
    num_decoded = 8
    cache = Cache.of_rows(model.config, rows=3, slots=17 + num_decoded, dtype=torch.float32)
    ids_BT, positions_BT = torch.zeros(3, 17, dtype=torch.long), torch.full((3, 17), -1)
    for row, ids in enumerate(sequences):
        ids_BT[row, : len(ids)], positions_BT[row, : len(ids)] = ids, torch.arange(len(ids))
    model(ids_BT, positions_BT, cache=cache)
    for step in range(num_decoded):
        new = random_ids(3, 1, seed=100 + step)
        positions_B1 = torch.tensor([[len(ids)] for ids in sequences])
        logits_B1V = model(new, positions_B1, cache=cache)
        sequences = [torch.cat((ids, new[row])) for row, ids in enumerate(sequences)]
        for row, ids in enumerate(sequences):
            torch.testing.assert_close(logits_B1V[row, 0], model(ids[None])[0, -1], rtol=1e-4, atol=1e-4)


@shapes
@torch.no_grad()
def test_packed_documents_equal_each_alone(shape):
    model = make_model(SHAPES[shape])
    lengths = [9, 1, 14, 6]
    documents = [random_ids(length, seed=length) for length in lengths]
    packed = model(
        torch.cat(documents)[None],
        torch.cat([torch.arange(length) for length in lengths])[None],
        torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None],
    )[0]
    alone = torch.cat([model(ids[None])[0] for ids in documents])
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)


@shapes
@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(shape, side):
    model = make_model(SHAPES[shape])
    ids, padding = random_ids(12), torch.zeros(5, dtype=torch.long)
    order = (padding, ids) if side == "left" else (ids, padding)
    positions = [torch.full((5,), -1), torch.arange(12)][:: 1 if side == "left" else -1]
    padded = model(torch.cat(order)[None], torch.cat(positions)[None])[0]
    kept = padded[5:] if side == "left" else padded[:12]
    torch.testing.assert_close(kept, model(ids[None])[0], rtol=1e-4, atol=1e-4)
    assert torch.isfinite(padded).all()


@pytest.mark.parametrize(
    ("fields", "pattern"),
    [
        ({"layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2}, "LLG"),
        ({"sliding_window": 8, "sliding_window_pattern": "LLLG"}, "LLLG"),
        ({"sliding_window": 8, "sliding_window_pattern": 4}, "LLLG"),
        ({"sliding_window": 8, "sliding_window_pattern": None}, "G"),
        ({"sliding_window": None, "sliding_window_pattern": "LLLG"}, "G"),
    ],
)
def test_layer_kinds_are_read_in_every_spelling(fields, pattern):
    hf = config_to_hf(SHAPES["exaone4-global"], dtype="float32")
    del hf["layer_types"]
    config = config_from_hf({**hf, "num_hidden_layers": 6, "sliding_window": 8, **fields})
    full = SHAPES["exaone4-global"].model_copy(update={"num_layers": 6, "pattern": pattern})
    assert config.layer_kinds == full.layer_kinds
    assert config.uses_rope(LayerKind.GLOBAL) == ("L" not in pattern)


@shapes
def test_parameters_are_counted_right(shape):
    model = make_model(SHAPES[shape])
    assert sum(weight.numel() for weight in model.parameters()) == model.config.num_parameters


def test_logprobs_and_entropy_equal_torch_distributions():
    logits = torch.randn(4, 7, 50) * 3
    ids = torch.randint(0, 50, (4, 7))
    reference = torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(token_logprobs(logits, ids), reference.log_prob(ids))
    torch.testing.assert_close(entropy(logits), reference.entropy())


def test_a_model_that_has_generated_can_still_be_trained():
    """What the engine leaves in the model under inference mode must not break the backward pass, in float32 too."""
    model = make_model()
    with torch.inference_mode():
        model(random_ids(1, 5))
    model(random_ids(1, 5)).mean().backward()
