"""Files that appear whole or not at all."""

import contextlib
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from open_exaone.base.errors import DataError, RunFolderError
from open_exaone.base.streams import parse_json, read_line

MAX_CONFIG_BYTES = 10_000_000  # of a model's config.json
OS_ERROR = re.compile(r"\(os error (\d+)\)")


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turns "no space left", "read-only" and "not permitted" into an error that names the fix."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = error.errno if isinstance(error, OSError) else _number(error)
        fixes = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again",
            errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
            errno.EFBIG: "the file is too large for this disk or for the limits set; choose another place",
            errno.EROFS: "the file system is read-only; choose another place",
            errno.EACCES: "permission is denied; choose another place",
            errno.EEXIST: "there is a file where a folder is needed; choose another place",
            errno.EISDIR: "there is a folder where a file is needed; choose another place",
            errno.ENOENT: "no folder can be made there; choose another place",
            errno.ENOTDIR: "there is a file where a folder is needed; choose another place",
            errno.ENOTEMPTY: "it has been filled meanwhile; choose another place",
            errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
            errno.ELOOP: "it is a link; remove it, or choose another place",
        }
        if number not in fixes:
            raise
        raise RunFolderError(f"{path}: cannot write: {fixes[number]}. What was saved before is kept.") from error


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Keeps other processes out, by a lock on the file `path`; it goes with the process that holds it.

    Raises:
        RunFolderError: another process holds it; says `busy`.
    """
    import fcntl

    with explain_os_errors(path.parent), open(path, "a", encoding="ascii", opener=_no_link) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(busy) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Whether a process on this machine holds the lock `path`; looks without touching the lock.

    The holder's id stands in the file. Linux lists the locks that are held; elsewhere the process must be alive.
    """
    try:
        holder, inode = int(path.read_text(encoding="ascii")[:20]), path.stat().st_ino
    except (OSError, ValueError):
        return False
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        try:
            os.kill(holder, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
        return True
    held = [line.split() for line in lines if "FLOCK" in line]
    return any(str(holder) in fields and any(part.endswith(f":{inode}") for part in fields) for fields in held)


def _no_link(path: str, flags: int) -> int:
    """Opens a file of a folder to write to it: a link there would have another file written."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _number(error: Exception) -> int | None:
    """The system's number of an error that safetensors, written in Rust, only says in words."""
    match = OS_ERROR.search(str(error))
    return int(match[1]) if match else None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write(temporary_path)`, flushes the file to disk and renames it to `path`.

    A reader sees the old file or the new one, never a part; a failed write leaves the old one.
    """
    temporary = path.with_name(f".{path.name}.partial")
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.unlink(missing_ok=True)  # it may be a link
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            mode = temporary.stat().st_mode
            write(temporary)
            with open(temporary, "rb+") as file:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))  # safetensors lets nobody but its user read its files
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: object) -> None:
    """Writes indented UTF-8 JSON atomically; NaN and infinity are refused, as JSON has none."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[object]) -> None:
    """Writes one JSON value a line, atomically."""
    write_text(path, "".join(map(json_line, rows)))


def append_jsonl(path: Path, row: object) -> None:
    """Appends one line; a cut last line is possible after a crash, and `read_jsonl` drops it."""
    with explain_os_errors(path), open(path, "a", encoding="utf-8", opener=_no_link) as file:
        file.write(json_line(row))


def json_line(row: object) -> str:
    line = json.dumps(row, ensure_ascii=False) + "\n"
    try:
        line.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which a reply may hold, is written as an escape
        return json.dumps(row) + "\n"
    return line


def read_json(path: Path, *, max_bytes: int = 64 << 20) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: the file is missing, is not JSON, or is larger than `max_bytes`.
    """
    with _explained_reading(path, "a JSON file"):
        with open(path, "rb") as file:
            text = file.read(max_bytes + 1)
        if len(text) > max_bytes:
            raise DataError(f"{path}: is larger than {max_bytes:,} bytes, the limit for this file")
        return parse_json(text)


def read_jsonl(path: Path, *, drop_cut_tail: bool = False) -> list[Any]:
    """Reads one JSON value a line, blank lines skipped.

    Args:
        drop_cut_tail: forget a last line that a crash cut in two.

    Raises:
        DataError: a line is not JSON; names the file and the line.
    """
    return [row for _, row in read_numbered_jsonl(path, drop_cut_tail=drop_cut_tail)]


def read_numbered_jsonl(path: Path, *, drop_cut_tail: bool = False) -> list[tuple[int, Any]]:
    """As `read_jsonl`, each value with the number of its line."""
    return list(iterate_jsonl(path, drop_cut_tail=drop_cut_tail))


def iterate_jsonl(path: Path, *, drop_cut_tail: bool = False) -> Iterator[tuple[int, Any]]:
    """As `read_numbered_jsonl`, line by line: a file may be larger than memory."""
    cut: DataError | None = None
    with _explained_reading(path, "a file of JSON lines"), open(path, "rb") as file:
        number = 0
        while line := read_line(file):
            number += 1
            if not line.strip():
                continue
            if cut is not None:  # it was not the last line
                raise cut
            try:
                yield number, parse_json(line)
            except ValueError as error:  # not UTF-8, not JSON, or a number of too many digits
                kind = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "not valid JSON"
                cut = DataError(f"{path}: line {number}: {kind}: {error}")
                if not drop_cut_tail:
                    raise cut from error


@contextlib.contextmanager
def _explained_reading(path: Path, kind: str) -> Iterator[None]:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise DataError(f"{path}: is a device or a pipe; {kind} is needed")
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; {kind} is needed") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from error
    except ValueError as error:  # JSON's errors, and numbers of too many digits
        raise DataError(f"{path}: not valid JSON: {error}") from error


def replace_folder(temporary: Path, final: Path) -> None:
    """Moves a folder that was fully written beside `final` into its place.

    There is a moment with neither when `final` existed; callers that cannot bear it name folders
    uniquely (`step-000120`) instead.
    """
    with explain_os_errors(final):
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
