"""Hostile TOML ends in one sentence, quickly."""

import os

import pytest

from open_exaone.base.config import Config, parse_override, read_toml, validate
from open_exaone.base.errors import ConfigError

HOSTILE = {
    "deep list": ("a = " + "[" * 100_000, "nested too deeply"),
    "deep table": ("a = " + "{a=" * 50_000, "nested too deeply"),
    "long dotted key": ("a." * 100_000 + "a = 1", "a key has more than 64 parts"),
    "long quoted key": ('"a" . ' * 100_000 + "a = 1", "a key has more than 64 parts"),
    "long header": ("[" + "a." * 50_000 + "a]", "a key has more than 64 parts"),
    "deep by both": ("a = " + ("{" + "a." * 50 + "a = ") * 150 + "1" + "}" * 150, "nested too deeply"),
    "large": ("#" * (2 << 20), "is larger than 1 MiB"),
    "large number": ("a = " + "9" * 10_000, "not valid TOML: "),
    "large hexadecimal": ("a = 0x" + "f" * 100_000, "not valid TOML: "),
    "not UTF-8": (b"a = 1 # \xff", "is not UTF-8 text: byte 9 is 0xff; write the file as UTF-8"),
    "null": (b"\0", "not valid TOML: "),
    "escapes": ("\x1b[31m", "not valid TOML: "),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_toml_is_refused_in_a_sentence(tmp_path, name) -> None:
    content, why = HOSTILE[name]
    (tmp_path / "x.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=f"x.toml: .*{why}") as caught:
        read_toml(tmp_path / "x.toml")
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_long_words_and_texts_with_dots_are_read_in_no_time(tmp_path) -> None:
    text = "k" * 400_000 + ' = "' + "a. " * 60 + '"\nb = """\n' + "One sentence of two words. " * 5_000 + '"""\n'
    (tmp_path / "x.toml").write_text(text + "numbers = [" + "1.5, " * 1000 + "]\n")
    assert set(read_toml(tmp_path / "x.toml")) == {"k" * 400_000, "b", "numbers"}


def test_what_is_no_file_is_not_read(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    (tmp_path / "sparse.toml").touch()
    os.truncate(tmp_path / "sparse.toml", 1 << 40)
    for name, why in (("pipe", "is a device or a pipe"), ("zero", "is a device or a pipe"), ("sparse", "is larger")):
        with pytest.raises(ConfigError, match=f"{name}.toml: {why}"):
            read_toml(tmp_path / f"{name}.toml")
    for name in ("x" * 300, "x" * 5000):
        with pytest.raises(ConfigError, match="cannot be read: File name too long"):
            read_toml(tmp_path / name)


def test_overrides_are_text_where_they_are_no_toml() -> None:
    for text in ("[" * 100_000, "0x" + "f" * 100_000, "a." * 10):
        assert parse_override(f"a.b={text}") == (["a", "b"], text)


class Small(Config):
    number: int = 1


def test_an_error_lists_no_thousand_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"… and 980 more mistakes") as caught:
        validate(Small, {f"{'k' * 1000}{number}": 1 for number in range(1000)}, "x.toml")
    assert len(str(caught.value)) < 10_000
