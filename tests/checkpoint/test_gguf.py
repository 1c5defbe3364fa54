"""What we export as GGUF holds our model and tokenizer whole, and llama.cpp computes from it what we compute."""

import json
import os
import random
import resource
import sys
import weakref
from pathlib import Path

import gguf
import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import TINY, make_model, make_tokenizer, random_ids
from open_exaone.base.errors import CheckpointError, ConfigError, RunFolderError
from open_exaone.checkpoint.gguf import export_gguf
from open_exaone.checkpoint.gguf_tokenizer import _PRE_TOKENIZERS
from open_exaone.model.config import RopeScaling
from open_exaone.model.rope import inverse_frequencies
from open_exaone.text.tokenizer import Tokenizer

SCALED = RopeScaling(factor=8.0, original_max_positions=32)
BASE = TINY.model_copy(update={"width": 64, "rope_theta": 10_000.0, "norm_eps": 1e-3})  # 4 heads of 16 fill the width
UPDATES = {
    "exaone": {"family": "exaone", "width": 48, "head_width": 20, "rope_scaling": SCALED, "tied_embeddings": False},
    "exaone4": {"rope_scaling": SCALED},
    "exaone4-hybrid": {"num_layers": 64, "pattern": "LLLG", "window": 6, "rope_scaling": SCALED},
    "llama": {"family": "llama", "width": 48, "rope_scaling": SCALED},
    "qwen2": {"family": "qwen2", "tied_embeddings": False},
    "qwen3": {"family": "qwen3", "width": 48},
}
SHAPES = {name: BASE.model_copy(update=update) for name, update in UPDATES.items()}
DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def weights_of(config, seed=0):
    """Random weights; biases too, which start at zero."""
    generator = torch.Generator().manual_seed(seed)
    model = make_model(config, seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(".bias"):
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return model, {name: weight.detach() for name, weight in model.named_parameters()}


def export(config, folder, *, weights=None, dtype=torch.float32):
    weights = weights_of(config)[1] if weights is None else weights
    export_gguf(config, weights, folder, folder / "model.gguf", dtype=dtype)
    return folder / "model.gguf"


def value(reader, key):
    field = reader.get_field(key)
    return None if field is None else field.contents()


@pytest.fixture
def folder(tmp_path):
    make_tokenizer().save(tmp_path)
    return tmp_path


def rewrite(path, change):
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


# --- weights ---


def as_torch(tensor):
    if tensor.tensor_type == gguf.GGMLQuantizationType.BF16:
        return torch.from_numpy(tensor.data.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(tensor.data.copy())


def neighbours(weight, head_width):
    """llama.cpp's llama turns channels 2i and 2i + 1 of a head, where Hugging Face's turns i and i + H/2."""
    half = head_width // 2
    rows = [head + i + s * half for head in range(0, len(weight), head_width) for i in range(half) for s in (0, 1)]
    return weight[rows]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_every_weight_comes_back(name, dtype, folder):
    config = SHAPES[name]
    _, weights = weights_of(config)
    reader = gguf.GGUFReader(export(config, folder, weights=weights, dtype=dtype))
    found = {tensor.name: as_torch(tensor) for tensor in reader.tensors}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[config.family.upper()], config.num_layers)
    for source, weight in weights.items():
        if config.family == "llama" and ("q_proj" in source or "k_proj" in source):
            weight = neighbours(weight, config.head_width)
        stored = found.pop(names.get_name(source, (".weight", ".bias")))
        assert stored.dtype == (dtype if weight.ndim == 2 else torch.float32)
        assert torch.equal(stored, weight.to(stored.dtype))
    if config.rope_scaling:
        plain = inverse_frequencies(config.model_copy(update={"rope_scaling": None}))
        factors = found.pop("rope_freqs.weight")
        torch.testing.assert_close(plain / factors, inverse_frequencies(config))
        assert factors[0] == 1 and factors[-1] == pytest.approx(config.rope_scaling.factor)
    assert found == {}


def test_weights_are_read_once_and_one_at_a_time(folder):
    config = SHAPES["llama"]
    _, weights = weights_of(config)

    reads: list[str] = []
    alive: list[weakref.ref[torch.Tensor]] = []

    class Lazy(dict[str, torch.Tensor]):
        def __getitem__(self, name: str) -> torch.Tensor:
            assert [reference for reference in alive if reference() is not None] == []
            tensor = super().__getitem__(name).clone()
            alive.append(weakref.ref(tensor))
            reads.append(name)
            return tensor

    export(config, folder, weights=Lazy(weights))
    assert sorted(reads) == sorted(weights)


def test_what_float16_cannot_hold_is_refused(folder):
    _, weights = weights_of(BASE)
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = 70_000.0
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj.*float16.*bfloat16 or float32"):
        export(BASE, folder, weights=weights, dtype=torch.float16)
    export(BASE, folder, weights=weights, dtype=torch.bfloat16)


# --- shape ---


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_is_written(name, folder):
    config = SHAPES[name]
    reader = gguf.GGUFReader(export(config, folder))
    family = config.family
    assert value(reader, "general.architecture") == family
    wanted = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_positions,
        "embedding_length": config.width,
        "block_count": config.num_layers,
        "feed_forward_length": config.ffn_width,
        "attention.head_count": config.num_heads,
        "attention.head_count_kv": config.num_kv_heads,
        "attention.key_length": config.head_width,
        "attention.value_length": config.head_width,
        "rope.dimension_count": config.head_width,
        "rope.freq_base": pytest.approx(config.rope_theta),
        "attention.layer_norm_rms_epsilon": pytest.approx(config.norm_eps),
        "attention.sliding_window": config.window,
        "attention.sliding_window_pattern": [True, True, True, False] * 16 if config.is_hybrid else None,
    }
    assert {key: value(reader, f"{family}.{key}") for key in wanted} == wanted


@pytest.mark.parametrize(
    ("name", "update", "reason"),
    [
        ("exaone4", {"pattern": "LLLG", "window": 6}, "local layers.*only at 64 layers: at 3"),
        ("exaone4", {"num_layers": 64}, "every exaone4 of 64 layers for a hybrid.*all global"),
        ("exaone4-hybrid", {"pattern": "LLG"}, "'LLG'.*'LLLG'"),
        ("exaone4-hybrid", {"pattern": "L"}, "'L'.*'LLLG'"),
        ("exaone4", {"width": 48}, "4 heads of 16 make 64 channels and its width is 48"),
        ("qwen2", {"width": 48}, "4 heads of 16 make 64 channels and its width is 48"),
        ("qwen2", {"pattern": "LG", "window": 6}, "qwen2 has none"),
        ("qwen3", {"pattern": "GL", "window": 6}, "qwen3 has none"),
        ("qwen2", {"rope_scaling": SCALED}, "Llama 3's RoPE scaling.*qwen2"),
        ("qwen3", {"rope_scaling": SCALED}, "Llama 3's RoPE scaling.*qwen3"),
        ("llama", {"num_layers": 513}, "513 layers.*at most 512"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(name, update, reason, folder):
    config = SHAPES[name].model_copy(update=update)
    with pytest.raises(CheckpointError, match=rf"{folder}: cannot become GGUF: .*{reason}.*Keep the model as safe"):
        export(config, folder, weights={})
    assert not (folder / "model.gguf").exists()


def test_the_whole_pattern_may_be_spelt_out(folder):
    config = SHAPES["exaone4-hybrid"].model_copy(update={"pattern": "LLLGLLLG"})
    assert value(gguf.GGUFReader(export(config, folder)), "exaone4.attention.sliding_window") == 6


def test_an_unknown_dtype_is_refused(folder):
    with pytest.raises(ValueError, match="torch.float64: must be one of torch.float32, torch.float16, torch.bfloat16"):
        export(BASE, folder, dtype=torch.float64)


def test_without_the_package_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ConfigError, match=r"pip install 'open-exaone\[gguf\]'"):
        export(BASE, folder)


# --- the file ---


class Failing(dict[str, torch.Tensor]):
    """Fails in the middle of the file."""

    def __getitem__(self, name: str) -> torch.Tensor:
        if ".layers.2." in name:
            raise OSError(28, "No space left on device")
        return super().__getitem__(name)


def test_a_failure_in_the_middle_leaves_the_old_file(folder):
    before = sorted(folder.iterdir())
    failing = Failing(weights_of(BASE)[1])
    with pytest.raises(RunFolderError, match="model.gguf: cannot write: the disk is full"):
        export(BASE, folder, weights=failing)
    assert sorted(folder.iterdir()) == before
    old = export(BASE, folder).read_bytes()
    with pytest.raises(RunFolderError, match="disk is full"):
        export(BASE, folder, weights=failing)
    assert (folder / "model.gguf").read_bytes() == old
    assert len(list(folder.iterdir())) == len(before) + 1


def test_why_the_system_refuses_to_write_is_not_hidden(folder):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(RunFolderError, match="the file is too large for this disk or for the limits set"):
            export(BASE, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (folder / "model.gguf").exists()


# --- tokenizer ---


def test_tokens_merges_and_template_are_written(folder):
    config = BASE.model_copy(update={"vocab_size": 330})
    reader = gguf.GGUFReader(export(config, folder))
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens, types = value(reader, "tokenizer.ggml.tokens"), value(reader, "tokenizer.ggml.token_type")
    assert tokens[:320] == [backend.id_to_token(token_id) for token_id in range(320)]
    assert len(set(tokens)) == len(types) == 330
    kinds = {kind: {token for token, of in zip(tokens, types, strict=True) if of == kind} for kind in gguf.TokenType}
    assert "[|endofturn|]" in kinds[gguf.TokenType.CONTROL] and "<think>" in kinds[gguf.TokenType.USER_DEFINED]
    assert "a" in kinds[gguf.TokenType.NORMAL] and kinds[gguf.TokenType.UNUSED] == set(tokens[320:])
    merges = json.loads(backend.to_str())["model"]["merges"]
    assert value(reader, "tokenizer.ggml.merges") == [f"{left} {right}" for left, right in merges]
    assert value(reader, "tokenizer.ggml.model") == "gpt2" and value(reader, "tokenizer.ggml.pre") == "exaone"
    assert value(reader, "tokenizer.chat_template") == (folder / "chat_template.jinja").read_text()


def special(folder):
    reader = gguf.GGUFReader(export(BASE, folder))
    keys = ("bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id", "padding_token_id", "unknown_token_id")
    flags = ("add_bos_token", "add_eos_token")
    return [value(reader, f"tokenizer.ggml.{key}") for key in (*keys, *flags)]


def test_special_tokens_are_those_of_tokenizer_config(folder):
    assert special(folder) == [1, 14, None, None, 0, 3, False, False]


def test_every_end_that_generation_config_names_is_written(folder):
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 14, 7], "bos_token_id": 9}')
    assert special(folder) == [1, 14, 2, 7, 0, 3, False, False]


def test_without_tokenizer_config_ids_come_from_the_other_configs(folder):
    (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").write_text('{"eos_token_id": 5, "pad_token_id": 999, "bos_token_id": null}')
    assert special(folder) == [5, 5, None, None, None, None, False, False]


def test_bos_is_added_where_the_tokenizer_adds_it(folder):
    rewrite(folder / "tokenizer_config.json", lambda values: values.pop("add_bos_token"))
    assert special(folder)[-2:] == [False, False]
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = tokenizers.processors.TemplateProcessing("[BOS] $A", None, [("[BOS]", 1)])
    backend.save(str(folder / "tokenizer.json"))
    assert special(folder)[-2:] == [True, False]


def test_a_template_of_tokenizer_config_is_taken_where_no_file_stands(folder):
    (folder / "chat_template.jinja").unlink()
    assert value(gguf.GGUFReader(export(BASE, folder)), "tokenizer.chat_template") is None
    rewrite(folder / "tokenizer_config.json", lambda values: values.update(chat_template="{{ messages }}"))
    assert value(gguf.GGUFReader(export(BASE, folder)), "tokenizer.chat_template") == "{{ messages }}"


NFC = {"type": "NFC"}
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.update(pre_tokenizer=METASPACE), "no name for its pre-tokenizer.*Metaspace"),
        (lambda state: state.update(pre_tokenizer=None), "no name for its pre-tokenizer null"),
        (lambda state: state["model"].update(ignore_merges=True), "ignore_merges = True"),
        (lambda state: state["model"].update(merges=[]), "no merges"),
        (lambda state: state["model"].update(byte_fallback=True), "not byte-level BPE"),
        (lambda state: state["model"].update(dropout=0.1), "dropout"),
        (lambda state: state.update(model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}), "WordLevel is"),
        (lambda state: state.update(normalizer={"type": "Lowercase"}), "normalizer is Lowercase"),
        (lambda state: state["added_tokens"][5].update(lstrip=True), "'<tool_call>' takes in the white space"),
        (lambda state: state.update(version="?"), "cannot be read as a tokenizer"),
    ],
)
def test_a_tokenizer_that_llama_cpp_lacks_is_refused(change, reason, folder):
    rewrite(folder / "tokenizer.json", change)
    with pytest.raises(CheckpointError, match=rf"tokenizer.json: .*{reason}"):
        export(BASE, folder, weights={})


def test_nfc_is_let_through(folder):
    rewrite(folder / "tokenizer.json", lambda state: state.update(normalizer=NFC))
    export(BASE, folder)


def test_a_tokenizer_of_another_model_is_refused(folder):
    with pytest.raises(CheckpointError, match="tokenizer.json: has token id 319, and the model's last is 299"):
        export(BASE.model_copy(update={"vocab_size": 300}), folder)


def test_a_folder_that_names_no_end_is_refused(folder):
    rewrite(folder / "tokenizer_config.json", lambda values: values.pop("eos_token"))
    with pytest.raises(CheckpointError, match="nothing says what ends a reply: write eos_token"):
        export(BASE, folder)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="tokenizer.json: no such file"):
        export(BASE, tmp_path)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "added_tokens.json"])
def test_tokens_that_only_other_files_name_are_in_the_file(file, folder):
    number = make_tokenizer().vocab_size
    if file == "added_tokens.json":
        (folder / file).write_text(json.dumps({"<|call|>": number}))
    else:
        added = {str(number): {"content": "<|call|>", "special": True}}
        rewrite(folder / file, lambda values: values.update(added_tokens_decoder=added))
    reader = gguf.GGUFReader(export(BASE.model_copy(update={"vocab_size": number + 1}), folder))
    assert value(reader, "tokenizer.ggml.tokens")[number] == "<|call|>"
    kind = gguf.TokenType.CONTROL if file == "tokenizer_config.json" else gguf.TokenType.USER_DEFINED
    assert value(reader, "tokenizer.ggml.token_type")[number] == kind
    with pytest.raises(CheckpointError, match=f"has token id {number}, and the model's last is {number - 1}"):
        export(BASE.model_copy(update={"vocab_size": number}), folder)


@pytest.mark.parametrize("in_settings", [True, False])
def test_a_template_for_tools_is_in_the_file_too(in_settings, folder):
    if in_settings:
        named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
        rewrite(folder / "tokenizer_config.json", lambda values: values.update(chat_template=named))
        (folder / "chat_template.jinja").unlink()
    else:
        (folder / "chat_template.jinja").write_text("d")
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text("t")
    reader = gguf.GGUFReader(export(BASE, folder))
    found = [value(reader, key) for key in ("tokenizer.chat_template", "tokenizer.chat_template.tool_use")]
    assert found == ["d", "t"]


# --- llama.cpp itself, where it is installed ---


@pytest.fixture
def llama_cpp():
    return pytest.importorskip("llama_cpp")


def open_in(llama_cpp, path, **options):
    return llama_cpp.Llama(
        str(path), verbose=False, n_ctx=256, n_threads=1, type_k=0, type_v=0, **options
    )  # 0: float32


@pytest.mark.parametrize("name", SHAPES)
def test_llama_cpp_computes_what_we_compute(name, folder, llama_cpp):
    config = SHAPES[name]
    model, weights = weights_of(config)
    theirs = open_in(llama_cpp, export(config, folder, weights=weights), logits_all=True)
    ids = random_ids(1, 80)  # far beyond the original context of the scaled shapes
    theirs.eval(ids[0].tolist())
    for _ in range(40):
        with torch.inference_mode():
            logits_TV = model(ids)[0]
        found_TV = torch.from_numpy(theirs.scores[: ids.shape[1]])
        assert (found_TV - logits_TV).abs().max() < 1e-4 * logits_TV.abs().max()
        next_id = int(logits_TV[-1].argmax())
        assert int(found_TV[-1].argmax()) == next_id
        ids = torch.cat((ids, torch.tensor([[next_id]])), dim=1)
        theirs.eval([next_id])


PIECES = (
    *("0", "12", "345", "6789", "½", "Ⅻ", "٣", "\n", "\n\n", "\r\n", "\r", " ", "  ", "   ", "        ", "\t", "\t\t"),
    *("\u00a0", "\u3000", "\u2028", "\u200b", "\u0085", "\x0b", "a", "word", " word", "It's", "I'LL", "we're", "'S"),
    *(
        "é",
        "e\u0301",
        "답",
        "입니다",
        " 한글",
        "ㅋㅋ",
        "漢字",
        "😀",
        "👨‍👩‍👧",
        "🇰🇷",
        "!",
        "?!",
        "...",
        "$+",
        "_",
        "=",
        "\\boxed{",
    ),
    *("<think>", "</think>", "[|user|]", "[|endofturn|]"),
)
CORPUS = [
    *(f"What is {n} + {n * 7}?\n\n\nLet me think:\t  {n * 8}.\r\n  It's I'LL we're" for n in range(300)),
    *(f"답은 {n * 8}입니다. <think>\n\n[|user|]\n   \t\t 😀 ½" for n in range(300)),
]


def trained(steps, ignore_merges):
    """A tokenizer with a pre-tokenizer of the table's.

    It is trained behind GPT-2's, so that it has tokens of several digits and newlines, which only the pre-tokenizer
    keeps apart (ours promises that it has none: it is trained as it is). Some tokens can't be reached by merges.
    """
    is_ours = steps[0].get("pattern") == {"Regex": r"\p{N}|\n"}
    backend = with_steps(
        tokenizers.Tokenizer(tokenizers.models.BPE()), steps if is_ours else steps[-1:], use_regex=True
    )
    backend.train_from_iterator(
        CORPUS,
        tokenizers.trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["[PAD]", "[BOS]", "[EOS]"],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return with_steps(backend, steps, ignore_merges=ignore_merges)


def with_steps(backend, steps, *, use_regex=None, ignore_merges=False):
    state = json.loads(backend.to_str())
    steps = [{**step, "trim_offsets": True} for step in steps]
    if use_regex:
        steps[-1]["use_regex"] = True
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    state["model"]["ignore_merges"] = ignore_merges
    state["model"]["merges"] = [merge for number, merge in enumerate(state["model"]["merges"]) if number % 5 != 4]
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def vocabulary_in(llama_cpp, backend, folder):
    """llama.cpp's own tokenizer, of the same vocabulary."""
    backend.save(str(folder / "tokenizer.json"))
    rewrite(folder / "tokenizer_config.json", lambda values: values.update(eos_token="[EOS]"))
    config = BASE.model_copy(update={"vocab_size": backend.get_vocab_size(), "num_layers": 1, "width": 64})
    return open_in(llama_cpp, export(config, folder, dtype=torch.float16), vocab_only=True)


def ids_in(theirs, text):
    return theirs.tokenize(text.encode(), add_bos=True, special=True)


@pytest.mark.parametrize("number", range(len(_PRE_TOKENIZERS)))
def test_llama_cpp_tokenises_as_every_known_tokenizer(number, folder, llama_cpp):
    _, ignore_merges, steps = _PRE_TOKENIZERS[number]
    backend = trained(steps, ignore_merges)
    theirs = vocabulary_in(llama_cpp, backend, folder)
    draw = random.Random(number)
    for _ in range(3000):
        text = "".join(draw.choices(PIECES, k=draw.randrange(1, 14)))
        assert ids_in(theirs, text) == backend.encode(text).ids, ascii(text)


@pytest.fixture(scope="module")
def ours_and_theirs(tmp_path_factory):
    llama_cpp, folder = pytest.importorskip("llama_cpp"), tmp_path_factory.mktemp("ours")
    tokenizer = Tokenizer.train(CORPUS, 600)
    tokenizer.save(folder)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return tokenizer, backend, vocabulary_in(llama_cpp, backend, folder)


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12))
@settings(deadline=None, max_examples=300)
def test_llama_cpp_tokenises_as_ours(pieces, ours_and_theirs):
    _, backend, theirs = ours_and_theirs
    text = "".join(pieces)
    assert ids_in(theirs, text) == backend.encode(text).ids


def test_llama_cpp_tokenises_a_rendered_conversation_as_ours(ours_and_theirs):
    tokenizer, _, theirs = ours_and_theirs
    messages = [
        {"role": "system", "content": "Be kind.\n"},
        {"role": "user", "content": "What is 12 + 345?"},
        {"role": "assistant", "content": "답은 357입니다.", "reasoning_content": "12 + 345 = 357"},
    ]
    ids = tokenizer.render(messages, thinking=True)
    assert ids_in(theirs, tokenizer.decode(ids)) == ids


def test_llama_cpp_tokenises_as_exaone_4(folder, llama_cpp):
    path = DATA / "tokenizer-exaone" / "tokenizer.json"
    if not path.exists():
        pytest.skip(f"{path} isn't here; set OPEN_EXAONE_DATA to where tokenizer-exaone/ stands")
    backend = tokenizers.Tokenizer.from_file(str(path))
    theirs = vocabulary_in(llama_cpp, backend, folder)
    draw = random.Random(0)
    for _ in range(3000):
        text = "".join(draw.choices(PIECES, k=draw.randrange(1, 14)))
        assert ids_in(theirs, text) == backend.encode(text).ids, ascii(text)
