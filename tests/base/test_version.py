"""The hash of the code that generates."""

import pytest

from open_exaone.base import version


@pytest.mark.parametrize("name", ["kernels/attention.cpp", "kernels/native.h", "engine/engine.py", "text/chat.jinja"])
@pytest.mark.parametrize("change", ["edited", "new"])
def test_code_of_any_kind_changes_the_version(name, change, tmp_path, monkeypatch):
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    (tmp_path / "kernels").mkdir(exist_ok=True)
    (tmp_path / "kernels" / "native.h").touch() if change == "new" else file.write_text("int one;")
    monkeypatch.setattr(version, "PACKAGE", tmp_path)
    before = version._hash.__wrapped__(version.GENERATING)
    file.write_text("int two;")
    assert version._hash.__wrapped__(version.GENERATING) != before
    (tmp_path / "kernels" / "notes.txt").write_text("no code")
    assert version._hash.__wrapped__(version.GENERATING) == version._hash.__wrapped__(version.GENERATING)


def test_every_source_file_of_the_kernels_is_code():
    assert {path.suffix for path in (version.PACKAGE / "kernels").iterdir() if path.is_file()} <= version.CODE
