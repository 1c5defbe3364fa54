"""Our decoder against transformers' own and a NumPy reference: the same checkpoint, the same logits, the same text."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

import open_exaone
from doubles import make_tokenizer
from model.parity import (
    CASES,
    NUM_GREEDY,
    PROMPTS,
    TOLERANCE,
    VOCAB,
    exaone4,
    layers,
    logits_error,
    numpy_error,
    open_pair,
    our_greedy,
    packed_error,
    padded_error,
    parting_gap,
    random_model,
    reference_greedy,
    scaled,
)
from open_exaone.base.records import Sampling
from open_exaone.engine import native
from open_exaone.engine.engine import Engine


@pytest.fixture(params=CASES)
def pair(request, root):
    return open_pair(request.param, root)


# 90 tokens run over every window and the scaled models' original 64 positions; above 512 attention is the fused kernel.
@pytest.mark.parametrize(("rows", "length"), [(2, 90), (1, 530)])
def test_logits_are_transformers(pair, rows, length):
    assert logits_error(pair.ours, pair.reference, rows, length) < TOLERANCE


def test_greedy_texts_are_transformers(pair):
    expected = reference_greedy(pair.reference)
    for ids in expected.ids_BT.tolist():
        late = list(zip(ids[-100:], ids[-99:], strict=False))
        assert len(set(ids)) > 60 and len(set(late)) > 80, "a text in a loop shows little: draw other weights"
    assert parting_gap(our_greedy(pair.ours, NUM_GREEDY), expected) < TOLERANCE
    assert parting_gap(our_greedy(pair.ours, 40, side="right"), expected) < TOLERANCE


@pytest.mark.parametrize("backend", ["native", "graphs", "plain"])
def test_the_engines_greedy_texts_are_transformers(pair, backend):
    """Both backends; a text may end before the reference's, at the end token of the engine's tokenizer."""
    if backend == "native" and (why := native.why_not(pair.ours)):
        pytest.skip(why)
    engine = Engine(pair.ours, make_tokenizer(VOCAB), backend=backend)
    expected = reference_greedy(pair.reference)
    num = NUM_GREEDY if backend == "native" else 40
    groups = engine.generate([ids.tolist() for ids in PROMPTS], Sampling(num, temperature=0.0))
    texts = [torch.tensor(completion.ids) for [completion] in groups]
    assert all(len(ids) == num or int(ids[-1]) in engine.end_ids for ids in texts)
    assert parting_gap(texts, expected) < TOLERANCE


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batches_are_transformers(pair, side):
    assert padded_error(pair.ours, pair.reference, side) < TOLERANCE


def test_rows_padded_at_the_end_need_no_positions(pair):
    assert padded_error(lambda ids_BT, _: pair.ours(ids_BT), pair.reference, "right") < TOLERANCE


def test_packed_documents_are_transformers(pair):
    assert packed_error(pair.ours, pair.reference) < TOLERANCE


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("exaone")])
def test_logits_are_the_numpy_references(case, root):
    """Three implementations agree, NumPy's from the equations alone; for 3.x, transformers' runs the Llama names."""
    ours, reference, folder = open_pair(case, root)
    assert numpy_error(ours, folder) < TOLERANCE
    assert numpy_error(lambda ids_BT: reference(ids_BT, use_cache=False).logits, folder) < TOLERANCE


# How config.json may be spelled.


def spell(folder, target, changes, absent=()):
    """A copy of a checkpoint with another `config.json`."""
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in config.items() if key not in absent}
    (target / "config.json").write_text(json.dumps(kept))
    return target


@pytest.mark.parametrize(
    ("letters", "spelling"),
    [
        ("LLLGLLLG", {"sliding_window_pattern": 4}),
        ("LLLGLLLG", {"sliding_window_pattern": "LLLG"}),
        ("LGLGL", {"sliding_window_pattern": 2}),
        ("LGLGL", {"sliding_window_pattern": "LG"}),  # the last layer is local: transformers' code, not its docs
        ("LLGLL", {"sliding_window_pattern": 3}),
        ("LLGLL", {"sliding_window_pattern": "LLG"}),
        ("GLLGL", {"sliding_window_pattern": "GLL"}),
        ("GGG", {"sliding_window_pattern": None}),
        ("GGG", {"sliding_window": None, "sliding_window_pattern": None}),
        ("GGG", {"sliding_window": None, "sliding_window_pattern": 4}),
        ("GGG", {"sliding_window": None, "sliding_window_pattern": "LLLG"}),
    ],
)
def test_every_spelling_of_layer_kinds_is_the_explicit_one(letters, spelling, tmp_path):
    """With `layer_types` absent, where transformers crashes on most, and with it null."""
    window = 8 if "L" in letters else None
    reference = random_model(exaone4(**layers(letters), sliding_window=window, **scaled(16.0, 1e6)))
    reference.save_pretrained(tmp_path / "explicit")
    changes = {"sliding_window": 8, **spelling}
    absent = spell(tmp_path / "explicit", tmp_path / "absent", changes, absent=("layer_types",))
    null = spell(tmp_path / "explicit", tmp_path / "null", {**changes, "layer_types": None})
    for folder in (absent, null):
        assert logits_error(open_exaone.load_model(folder, dtype="float32"), reference) < TOLERANCE


@pytest.mark.parametrize("num_layers", [4, 6])
def test_an_integer_pattern_is_read_as_transformers_reads_it(num_layers, tmp_path):
    """transformers resolves this spelling itself, and forces no global layer at the end."""
    config = exaone4(num_hidden_layers=num_layers, sliding_window=8, sliding_window_pattern=4, tie_word_embeddings=True)
    random_model(config).save_pretrained(tmp_path / "saved")
    folder = spell(tmp_path / "saved", tmp_path / "bare", {}, absent=("layer_types",))
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert (reference.config.layer_types[-1] == "full_attention") == (num_layers == 4)
    assert logits_error(open_exaone.load_model(folder, dtype="float32"), reference) < TOLERANCE


@pytest.mark.parametrize(
    ("case", "absent"),
    [
        ("exaone4-LLLG", ("layer_types", "sliding_window", "sliding_window_pattern")),
        ("exaone4-LLG-ends-local", ("layer_types", "sliding_window_pattern", "rms_norm_eps")),
        ("llama", ("head_dim", "num_key_value_heads", "tie_word_embeddings", "rms_norm_eps", "rope_parameters")),
        ("qwen2", ("layer_types", "use_sliding_window", "sliding_window", "max_window_layers", "rms_norm_eps")),
        ("qwen2-window", ("layer_types", "rope_parameters")),  # as published: layers from max_window_layers on
        ("qwen3", ("head_dim", "layer_types", "rms_norm_eps", "rope_parameters")),
    ],
)
def test_keys_left_out_have_transformers_values(case, absent, root, tmp_path):
    folder = spell(open_pair(case, root).folder, tmp_path / "bare", {}, absent)
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert logits_error(open_exaone.load_model(folder, dtype="float32"), reference) < TOLERANCE


@pytest.mark.parametrize("case", ["exaone4-LLLG", "exaone4-LG", "llama", "llama-scaled", "qwen2", "qwen3"])
@pytest.mark.parametrize("rope_type_key", ["rope_type", "type"])
def test_rope_in_the_old_spelling_is_the_new(case, rope_type_key, root, tmp_path):
    pair = open_pair(case, root)
    rope = json.loads((pair.folder / "config.json").read_text())["rope_parameters"]
    theta, rope_type = rope.pop("rope_theta"), rope.pop("rope_type")
    scaling = None if rope_type == "default" else {rope_type_key: rope_type, **rope}
    changes = {"rope_theta": theta, "rope_scaling": scaling}
    folder = spell(pair.folder, tmp_path / "old", changes, absent=("rope_parameters",))
    assert logits_error(open_exaone.load_model(folder, dtype="float32"), pair.reference) < TOLERANCE


@pytest.mark.parametrize("spelling", [{}, {"layer_types": None, "sliding_window_pattern": None}])
def test_a_window_without_local_layers_leaves_rope_everywhere(spelling, root, tmp_path):
    """FACTS 1.4: the layer kinds decide. transformers asks for the window instead, and computes without RoPE."""
    pair = open_pair("exaone4-global", root)
    folder = spell(pair.folder, tmp_path / "window", {"sliding_window": 8, **spelling})
    assert logits_error(open_exaone.load_model(folder, dtype="float32"), pair.reference) < TOLERANCE
    explicit = spell(pair.folder, tmp_path / "explicit", {"sliding_window": 8})
    without_rope = AutoModelForCausalLM.from_pretrained(explicit, dtype=torch.float32)
    assert logits_error(pair.ours, without_rope) > 100 * TOLERANCE


@pytest.mark.parametrize("case", ["qwen2", "qwen3"])
def test_a_window_switched_off_hides_nothing(case, root, tmp_path):
    pair = open_pair(case, root)
    changes = {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0, "layer_types": None}
    folder = spell(pair.folder, tmp_path / "off", changes)
    assert logits_error(open_exaone.load_model(folder, dtype="float32"), pair.reference) < TOLERANCE
