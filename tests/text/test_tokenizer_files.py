"""What a folder says about its tokenizer: special ids from whichever file, and broken files named."""

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

from open_exaone.base.errors import CheckpointError, ConfigError
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.text.tokenizer_files import Source, add_missing_tokens

MARKERS = ["<s>", "</s>", "<pad>", "<eot>"]  # ids 256 to 259


def backend(markers: list[str]) -> tokenizers.Tokenizer:
    vocab = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = tokenizers.Tokenizer(models.BPE(vocab, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(marker, special=True, normalized=False) for marker in markers])
    return made


def write(folder: Path, markers: list[str] = MARKERS, **files: Any) -> Path:
    (folder / "tokenizer.json").write_text(backend(markers).to_str())
    for name, value in files.items():
        (folder / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


@pytest.mark.parametrize(
    ("files", "bos", "pad", "ends"),
    [
        ({"generation_config": {"eos_token_id": [259, 257], "bos_token_id": 256}}, 256, 259, (259, 257)),
        ({"generation_config": {"eos_token_id": 257}, "config": {"eos_token_id": 259}}, None, 257, (257,)),
        ({"config": {"eos_token_id": 259, "pad_token_id": 258, "bos_token_id": None}}, None, 258, (259,)),
        ({"config": {"eos_token_id": 259, "pad_token_id": -1}}, None, 259, (259,)),
        ({"tokenizer_config": {"eos_token": "</s>", "bos_token": {"content": "<s>"}}}, 256, 257, (257,)),
        ({"special_tokens_map": {"eos_token": {"content": "<eot>"}, "pad_token": "<pad>"}}, None, 258, (259,)),
        ({"tokenizer_config": {"eos_token": "</s>"}, "special_tokens_map": {"eos_token": "<eot>"}}, None, 257, (257,)),
        # What a model's list lacks, the tokenizer's own end of a turn, ends a generation too.
        ({"config": {"eos_token_id": 257}, "tokenizer_config": {"eos_token": "<eot>"}}, None, 259, (259, 257)),
        ({"config": {"eos_token_id": [259]}, "tokenizer_config": {"eos_token": "<eot>"}}, None, 259, (259,)),
        # Of a list, what the tokenizer lacks is left out.
        ({"generation_config": {"eos_token_id": [2000, 257, 1 << 40, -3]}}, None, 257, (257,)),
    ],
)
def test_special_ids(tmp_path: Path, files: dict[str, Any], bos: int | None, pad: int, ends: tuple[int, ...]) -> None:
    tokenizer = Tokenizer.load(write(tmp_path, **files))
    assert (tokenizer.bos_id, tokenizer.pad_id, tokenizer.end_ids) == (bos, pad, ends)
    assert tokenizer.end_id == ends[0]


def test_exaones_own_markers_come_last(tmp_path: Path) -> None:
    folder = write(tmp_path, ["[PAD]", "[BOS]", "[|endofturn|]", "</s>"])
    tokenizer = Tokenizer.load(folder)
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.end_ids) == (256, 257, (258,))
    write(folder, ["[PAD]", "[BOS]", "[|endofturn|]", "</s>"], tokenizer_config={"eos_token": "</s>"})
    assert Tokenizer.load(folder).end_ids == (259,)


def test_a_folder_that_names_no_end_opens_and_says_so_when_asked(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(write(tmp_path))
    assert tokenizer.decode(tokenizer.encode("<s>답")) == "<s>답"
    assert tokenizer.bos_id is None
    for name in ("end_id", "end_ids", "pad_id"):
        with pytest.raises(CheckpointError, match="names no token that ends a generation; add eos_token"):
            getattr(tokenizer, name)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("generation_config", {"eos_token_id": 999}, "eos_token_id = 999: tokenizer.json has no such id; fix"),
        ("generation_config", {"eos_token_id": [999, 1 << 40]}, "eos_token_id = .*: tokenizer.json has no such id"),
        ("config", {"eos_token_id": "</s>"}, "eos_token_id = </s>: must be an id, or a list of ids; fix"),
        ("config", {"bos_token_id": True}, "bos_token_id = True: must be an id"),
        ("config", {"pad_token_id": -2}, "pad_token_id = -2: tokenizer.json has no such id"),
        ("tokenizer_config", {"eos_token": "<no>"}, "eos_token = '<no>': tokenizer.json has no such token; fix"),
        ("special_tokens_map", {"pad_token": {"content": "<no>"}}, "pad_token = '<no>': tokenizer.json has no such"),
        ("tokenizer_config", {"eos_token": 3}, "eos_token: must be a text or"),
        ("tokenizer_config", {"bos_token": {"text": "<s>"}}, "bos_token: must be a text or|no such"),
    ],
)
def test_a_field_that_fits_nothing_is_named_when_it_is_asked_for(
    tmp_path: Path, name: str, content: Any, why: str
) -> None:
    tokenizer = Tokenizer.load(write(tmp_path, **{name: content}))
    assert tokenizer.decode(tokenizer.encode("a")) == "a"
    [field] = content
    with pytest.raises(CheckpointError, match=rf"{name}\.json: ({why})"):
        getattr(tokenizer, {"bos": "bos_id", "pad": "pad_id", "eos": "end_ids"}[field[:3]])


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("tokenizer_config", "{", "not valid JSON"),
        ("tokenizer_config", {"added_tokens_decoder": []}, "added_tokens_decoder: must be a JSON object, not list"),
        ("tokenizer_config", {"added_tokens_decoder": {"x": {"content": "x"}}}, "added_tokens_decoder: 'x': must be"),
        ("tokenizer_config", {"added_tokens_decoder": {"300": "x"}}, "added_tokens_decoder: '300': must be an id"),
        ("added_tokens", {"<x>": "300"}, "'<x>': must have an id"),
        ("added_tokens", "[]", "must be a JSON object, not list"),
        ("config", "[]", "must be a JSON object, not list"),
        ("config", '{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("generation_config", "[" * 100_000, "not valid JSON: nested too deeply"),
        ("special_tokens_map", "\ud83d", "is no UTF-8 text"),
        (
            "generation_config",
            '{"top_k": 1, "temperature": NaN}',
            "temperature: holds NaN or infinity.*; fix it or leave it out",
        ),
        ("generation_config", '{"a": {"b": [0, -Infinity]}}', "a: holds NaN or infinity"),
        ("generation_config", '{"top_p": 1e999}', "top_p: holds NaN or infinity"),
    ],
)
def test_a_broken_file_is_named_with_its_field(tmp_path: Path, name: str, content: Any, why: str) -> None:
    folder = write(tmp_path)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / f"{name}.json").write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(CheckpointError, match=rf"{name}\.json: ({why})"):
        Tokenizer.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja"])
def test_what_is_too_large_or_no_file_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)  # reading it would wait for ever
    with pytest.raises(CheckpointError, match=f"{name}: is no ordinary file"):
        Tokenizer.load(folder)
    (folder / name).unlink()
    with open(folder / name, "wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(CheckpointError, match=f"{name}: is larger than"):
        Tokenizer.load(folder)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (3, "must be a text or a list"),
        ([{"name": "default"}], "must be a text or a list"),
        ([3], "must be a text or a list"),
        ([{"name": "rag", "template": "x"}], "has no template named 'default'"),
        ("x" * 1_000_001, "has more than 1,000,000 characters"),
    ],
)
def test_a_broken_template_field_is_named(tmp_path: Path, template: Any, why: str) -> None:
    tokenizer = Tokenizer.load(write(tmp_path, tokenizer_config={"chat_template": template}))
    with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: chat_template: {why}"):
        tokenizer.render([{"role": "user", "content": "Q"}])


def test_templates_in_the_settings(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "d{{ eos_token }}"}, {"name": "tool_use", "template": "t"}]
    folder = write(tmp_path, tokenizer_config={"chat_template": named, "eos_token": {"content": "<eot>"}})
    messages = [{"role": "user", "content": "Q"}]
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.decode(tokenizer.render(messages)) == "d<eot>"
    assert tokenizer.decode(tokenizer.render(messages, tools=[{}])) == "t"
    (folder / "chat_template.jinja").write_text("j")  # a file of its own comes first
    assert tokenizer.decode(tokenizer.render(messages)) == "d<eot>"  # what was loaded stays
    assert tokenizer.decode(Tokenizer.load(folder).render(messages, tools=[{}])) == "j"


def test_saving_keeps_every_file_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    folder = write(tmp_path / "a", tokenizer_config={"x": 1})
    (folder / "chat_template.jinja").write_bytes("d\r\n답".encode())
    (folder / "merges.txt").write_bytes(b"#version\n")
    (folder / "special_tokens_map.json").write_bytes(b'{ "pad_token":"<pad>" }')
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("t")
    (folder / "config.json").write_text("{}")
    (folder / "weights.bin").write_text("no")
    kept = {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("config.json", "weights.bin")
    }
    tokenizer = Tokenizer.load(folder)
    for path in kept:
        (folder / path).unlink()  # what was loaded is enough
    tokenizer.save(tmp_path / "b")
    saved = {path.relative_to(tmp_path / "b"): path for path in (tmp_path / "b").rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in saved.items()} == kept


def test_the_real_files_are_kept(exaone: Path, tmp_path: Path) -> None:
    Tokenizer.load(exaone).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "chat_template.jinja",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        if path.name == "tokenizer_config.json":  # nothing but response_template is added
            config = json.loads(content)
            assert config.pop("response_template")
            content = json.dumps(config, ensure_ascii=False, indent=2).encode() + b"\n"
        assert content == (exaone / path.name).read_bytes()


def test_ids_may_have_holes(tmp_path: Path) -> None:
    state = json.loads(backend([]).to_str())
    state["model"]["vocab"] = {**state["model"]["vocab"], "xyz": 5000}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocab_size == 5001
    assert tokenizer.decode([4000]) == ""


def test_leftover_truncation_and_padding_cut_nothing(tmp_path: Path) -> None:
    made = backend(MARKERS)
    made.enable_truncation(3)
    made.enable_padding(length=10, pad_id=258, pad_token="<pad>")
    (tmp_path / "tokenizer.json").write_text(made.to_str())
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.decode(tokenizer.encode("abcdef")) == "abcdef"
    assert len(tokenizer.encode("ab")) == 2


def test_white_space_keeps_its_ids_among_added_tokens(tmp_path: Path) -> None:
    """Behind markers that stand in no vocabulary, as in GPT-NeoX's and Phi's."""
    made = backend(MARKERS)
    made.add_tokens([AddedToken("  ", normalized=False), "<x>", AddedToken("    ", normalized=False)])
    (tmp_path / "tokenizer.json").write_text(made.to_str())
    tokenizer = Tokenizer.load(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("a  b    c") == theirs("a  b    c", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(tokenizer.encode("<s><x>  </s>")) == "<s><x>  </s>"
    assert not {*range(256, 260), 261} & set(tokenizer.encode("<s><x>  </s>"))


def test_a_unigram_model_finds_no_marker_in_plain_text(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("▁", -2.0), ("<", -3.0), ("s", -3.0), (">", -3.0), ("a", -2.5)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, 0, False))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(["<s>"])
    (tmp_path / "tokenizer.json").write_text(made.to_str())
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode("a<s>") == [2, 6, 3, 4, 5]


def test_sentencepiece_pieces_get_no_space_before_them(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("▁", -2.0), ("<", -3.0), ("s", -3.0), (">", -3.0), ("a", -2.5), ("\n", -3)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, 0, False))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(["<s>"])
    (tmp_path / "tokenizer.json").write_text(made.to_str())
    (tmp_path / "chat_template.jinja").write_text("<s>{% for m in messages %}{{ m.content }}a<s>{% endfor %}")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<s>"}))
    messages = [{"role": "user", "content": "a<s>a"}, {"role": "assistant", "content": "aa"}]
    ids, mask = Tokenizer.load(tmp_path).render(messages, with_mask=True)
    assert ids == [1, 6, 3, 4, 5, 6, 6, 1, 6, 6, 6, 1]
    assert mask == [False] * 8 + [True] * 4


def test_a_tokenizer_that_makes_rust_panic_is_refused(tmp_path: Path) -> None:
    state = json.loads(backend([]).to_str())
    state["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_text_that_the_model_has_no_words_for_is_refused(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(models.WordLevel({"a": 0}, "[UNK]"))
    (tmp_path / "tokenizer.json").write_text(made.to_str())
    assert Tokenizer.load(tmp_path).encode("a") == [0]
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: cannot tokenise this text: .*UNK"):
        Tokenizer.load(tmp_path).encode("b")


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="chat_format = 'chatml': unknown. The formats are exaone-3.5, exaone-deep"):
        Tokenizer.load(write(tmp_path), chat_format="chatml")
    with pytest.raises(CheckpointError, match="has no chat template; leave chat_format='template' out"):
        Tokenizer.load(tmp_path, chat_format="template")


def write_with_missing(folder: Path, *, in_settings: bool, first: int = 258) -> Path:
    """A folder whose tokenizer.json has two of four markers."""
    named = {"<pad>": first, "<eot>": first + 1}
    flags = {"special": True, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
    decoder = {str(number): {"content": name, **flags} for name, number in reversed(named.items())}
    settings: dict[str, Any] = {"eos_token": "<eot>", "pad_token": "<pad>"}
    if in_settings:
        return write(folder, MARKERS[:2], tokenizer_config={**settings, "added_tokens_decoder": decoder})
    return write(folder, MARKERS[:2], tokenizer_config=settings, added_tokens=named)


@pytest.mark.parametrize("in_settings", [False, True])
def test_tokens_beside_tokenizer_json_are_tokens(tmp_path: Path, in_settings: bool) -> None:
    folder = write_with_missing(tmp_path, in_settings=in_settings)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}<eot>")
    tokenizer, theirs = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "a"}]
    assert tokenizer.render(messages) == theirs.apply_chat_template(messages)["input_ids"] == [64, 259]
    assert (tokenizer.pad_id, tokenizer.end_ids) == (theirs.pad_token_id, (theirs.eos_token_id,)) == (258, (259,))
    assert tokenizer.decode([64, 259], skip_special=True) == theirs.decode([64, 259], skip_special_tokens=True) == "a"
    assert 259 not in tokenizer.encode("<eot>")


@pytest.mark.parametrize("in_settings", [False, True])
def test_a_token_that_cannot_have_its_id_is_refused(tmp_path: Path, in_settings: bool) -> None:
    folder = write_with_missing(tmp_path, in_settings=in_settings, first=300)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: lacks the token '<pad>', .* the id 300"):
        Tokenizer.load(folder)


def test_thousands_of_tokens_beside_tokenizer_json_are_added_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, each would have the tokenizer search for all of them anew."""
    named = {f"<x{number}>": 260 + number for number in range(5000)}
    added = tokenizers.Tokenizer.add_tokens
    sizes = list[int]()

    class Counting:
        def __init__(self, backend: tokenizers.Tokenizer) -> None:
            self.token_to_id, self._backend = backend.token_to_id, backend

        def add_tokens(self, tokens: list[AddedToken]) -> int:
            sizes.append(len(tokens))
            return added(self._backend, tokens)

    source = Source.read(write(tmp_path, added_tokens={**named, "</s>": 9_000_000}))  # tokenizer.json has that one
    add_missing_tokens(Counting(made := backend(MARKERS)), source)  # type: ignore[arg-type]  # all that it needs
    assert sizes == [5000] and made.encode("<x7><x4999>").ids == [267, 5259]


def write_state(folder: Path, **changes: Any) -> Path:
    state = {**json.loads(backend(MARKERS).to_str()), **changes}
    (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


def test_a_panic_while_encoding_is_an_error_of_the_file(tmp_path: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    tokenizer = Tokenizer.load(write_state(tmp_path, pre_tokenizer=split), chat_format="exaone-3.5")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: cannot tokenise this text"):
        tokenizer.encode("a" * 40 + "b")


@pytest.mark.parametrize("number", [100_000_000, 4_294_967_295])
def test_a_huge_id_is_refused_before_it_costs_time(tmp_path: Path, number: int) -> None:
    model = json.loads(backend([]).to_str())["model"]
    folder = write_state(tmp_path, model={**model, "vocab": {**model["vocab"], "xyz": number}}, added_tokens=[])
    with pytest.raises(CheckpointError, match=rf"tokenizer\.json: has the id {number}: ids go up to 10,000,000"):
        Tokenizer.load(folder).encode("a")


@pytest.mark.parametrize("is_nested", [False, True])
def test_a_normalizer_that_expands_without_bound_is_refused(tmp_path: Path, is_nested: bool) -> None:
    steps = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10} for _ in range(30)]
    chain: dict[str, Any] = {"type": "Sequence", "normalizers": steps}
    if is_nested:
        chain = {"type": "Sequence", "normalizers": [chain]}
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: normalizer: makes 10,000 characters of one"):
        Tokenizer.load(write_state(tmp_path, normalizer=chain))


def test_a_tokenizer_can_be_copied_and_sent_to_another_process(tmp_path: Path, exaone: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}<eot>")
    messages = [{"role": "user", "content": "a<eot>"}]
    for tokenizer in (Tokenizer.load(write(tmp_path)), Tokenizer.load(exaone), Tokenizer.train(["a"], 300)):
        ids = tokenizer.render(messages)
        for copied in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
            assert copied.render(messages) == ids


@pytest.mark.parametrize("kind", ["WordLevel", "BPE"])
def test_a_vocabulary_of_whole_words_makes_no_marker_of_plain_text(kind: str) -> None:
    vocab = {"<s>": 0, "?": 1, "a": 2, "<": 3, "s": 4, ">": 5}
    model = (
        tokenizers.models.WordLevel(vocab, unk_token="?")
        if kind == "WordLevel"
        else tokenizers.models.BPE(vocab, [], unk_token="?", ignore_merges=True)
    )
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["<s>"])
    assert backend.encode("a <s>").ids == [2, 0]
    ids = Tokenizer(backend).encode("a <s>")
    assert ids[0] == 2 and 0 not in ids
