"""Programs get their files also where the kernel or Python has no files in memory."""

import errno
import os

import pytest

from open_exaone.sandbox import programs


def forbidden(number: int):
    def memfd_create(name: str, flags: int = 0) -> int:
        raise OSError(number, os.strerror(number))

    return memfd_create


@pytest.mark.parametrize("number", [None, errno.ENOSYS, errno.EPERM, errno.EINVAL])
def test_files_without_memfd(monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    if number is None:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    else:
        monkeypatch.setattr(os, "memfd_create", forbidden(number))
    with programs._files("print(1)", "input") as files:
        assert [os.read(file, 100) for file in files] == [b"print(1)", b"input", b"", b""]
        os.write(files[2], b"out")
        assert programs._read(files[2], 100) == "out"
