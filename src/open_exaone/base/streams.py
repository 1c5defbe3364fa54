"""Data read as a stream and within limits: a small file may unpack to terabytes, and a small text to gigabytes.

open_bytes(path) -> IO[bytes]            a file, unpacked where its name ends in .gz, up to a limit
parse_json(text) -> value                ValueError where it is no JSON, nested too deeply, or a swarm of brackets
list_items(stream, path) -> Iterator     a JSON list item by item, whatever its length
"""

import codecs
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from open_exaone.base.errors import DataError

MAX_LINE_BYTES = 128 << 20  # of one line or item; rows of LiveCodeBench carry tens of megabytes of tests
MAX_BRACKETS = 4_000_000  # of one JSON text: a bracket of two bytes may become an object of 230
MIN_UNPACKED_BYTES = 64 << 20  # that any packed file may hold
MAX_RATIO = 500  # gzip packs JSON lines to a tenth, one row again and again to a 410th, zeros to a thousandth
MAX_BLANK_BYTES = 4 << 20  # in a row: counting empty lines one by one takes minutes
_CHUNK_BYTES = 1 << 20
_BLANKS = (b" :", b"\t:", b"\n:", b"\r:")  # a key may end before one
_ENDS = tuple(" \t\r\n,]")  # what may follow an item
_TO_BRACKET = re.compile(r'(?:[^"\[{]++|"(?:[^"\\]++|\\.)*+(?:"|\\?\Z))*+(?:([\[{])|\Z)', re.DOTALL)  # outside strings


def open_bytes(path: Path) -> io.BufferedReader:
    """Opens a file to read its bytes; one whose name ends in .gz is unpacked as it is read.

    Reading raises:
        DataError: it unpacks to more than 64 MiB and to more than 500 times its size, or to blanks alone.
    """
    file: io.BufferedReader = io.BufferedReader(io.FileIO(path), _CHUNK_BYTES)
    if not path.name.lower().endswith(".gz"):
        return file
    return io.BufferedReader(_Unpacked(file, path), _CHUNK_BYTES)


class _Unpacked(io.RawIOBase):
    """The content of a gzipped file, up to a limit."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__()
        self._file, self._path = file, path
        self._left = self._limit = max(MIN_UNPACKED_BYTES, MAX_RATIO * path.stat().st_size)
        self._blank = 0
        self._unzip = gzip.GzipFile(fileobj=file, mode="rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._unzip.read1(min(len(buffer), _CHUNK_BYTES))
        self._left -= len(data)
        self._blank = self._blank + len(data) if data.isspace() else 0
        if self._left < 0:
            size = f"more than {MAX_RATIO} times its size (more than {self._limit:,} bytes)"
            raise DataError(f"{self._path}: unpacks to {size}: if it holds data, unpack it and name the unpacked file")
        if self._blank > MAX_BLANK_BYTES:
            raise DataError(f"{self._path}: unpacks to more than {MAX_BLANK_BYTES:,} blanks in a row: remove them")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def read_line(stream: Any, max_size: int = MAX_LINE_BYTES) -> Any:
    """The next line of a stream of bytes or text; empty at its end.

    Raises:
        ValueError: it is longer than `max_size`, in bytes or characters.
    """
    line = stream.readline(max_size + 1)
    if len(line) > max_size:
        raise ValueError(f"is longer than {max_size >> 20} MiB")
    return line


def parse_json(text: str | bytes, *, unique_keys: bool = False) -> Any:
    """A JSON text's value.

    Args:
        unique_keys: refuse an object in which a key stands twice; of those, else, the last one counts.

    Raises:
        ValueError: it is not UTF-8, not JSON, nested too deeply, or holds more brackets than any data.
    """
    if unique_keys and isinstance(text, bytes) and (value := _parsed_fast(text)) is not None:
        return value
    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    _check_brackets(text)
    try:
        return _UNIQUE.decode(text) if unique_keys else json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        if "set_int_max_str_digits" in str(error):  # Python's own fix
            raise ValueError(_TOO_LONG) from None
        raise


def _parsed_fast(text: bytes) -> dict[str, Any] | None:
    """An object in which no key stands twice, by a parser several times as fast; None where `json` must decide.

    That parser takes the last value of a key. A colon stands behind each key, and perhaps in a text: where there are no
    more of them than the objects have keys, every key was kept. So it is with colons right behind a quote, where none
    stands behind a blank.
    """
    if len(text) > MAX_BRACKETS:
        return None
    try:
        value = from_json(text, cache_strings="keys")
    except ValueError:  # such as half a surrogate pair, which `json` takes
        return None
    if type(value) is not dict:
        return None
    number = _num_keys(value)
    if text.count(b":") == number:
        return value
    has_blanks = any(blank in text for blank in _BLANKS)
    return value if not has_blanks and text.count(b'":') == number else None


def _num_keys(value: Any) -> int:
    """How many keys the objects in a value have."""
    number, level = 0, [value]
    while level:
        inner = []
        for item in level:
            if type(item) is dict:
                number += len(item)
                for value in item.values():
                    if type(value) is not str and (type(value) is dict or type(value) is list):
                        inner.append(value)
            else:
                inner += [value for value in item if type(value) is dict or type(value) is list]
        level = inner
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON text; of a key that stands twice, nobody knows which value is meant."""
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(name for name, number in Counter(name for name, _ in pairs).items() if number > 1)
        raise ValueError(f"the key {twice[:80]!r} appears twice in one object; leave one out")
    return value


_UNIQUE = json.JSONDecoder(object_pairs_hook=_object)
_TOO_DEEP = "nested too deeply; flatten it"
_TOO_LONG = "it holds a number of thousands of digits; write it as a text"


def list_items(stream: IO[bytes], path: object) -> Iterator[Any]:
    """The items of a JSON list, each parsed when it is asked for; in the place of one in which a key stands twice, or a
    number has thousands of digits, its ValueError.

    Args:
        path: what errors call it.

    Raises:
        DataError: it is no list, not UTF-8, not valid JSON, or an item is too large; names the item.
    """
    try:
        yield from _items(_Text(stream))
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from error


def _items(text: "_Text") -> Iterator[Any]:
    if text.next_sign() != "[":
        raise ValueError("it must be a list")
    text.skip()
    if text.next_sign() == "]":
        text.skip()
    else:
        for number in range(1, 1 << 62):
            try:
                value = text.value()
                sign = text.next_sign()
            except (DataError, UnicodeDecodeError):
                raise
            except ValueError as error:
                raise ValueError(f"item {number}: {error}") from error
            yield value
            text.skip()
            if sign == "]":
                break
            if sign != ",":
                raise ValueError(
                    f"item {number}: a comma or ] must follow it" + ("" if sign else "; the file is truncated")
                )
    if text.next_sign():
        raise ValueError("something follows the list")


class _Text:
    """Text of a stream, read as far as it is needed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._parse = json.JSONDecoder(object_pairs_hook=self._object, parse_int=self._int).raw_decode
        self._fault: ValueError | None = None  # what is wrong with the value at hand, whose end is to be found
        self._text, self._place, self._is_all = "", 0, False

    def next_sign(self) -> str:
        """The next character that is no space, not taken yet; empty at the end."""
        while True:
            rest = self._text[self._place : self._place + 4096]
            self._place += len(rest) - len(rest.lstrip(" \t\r\n"))
            if rest.strip(" \t\r\n"):
                return self._text[self._place]
            if self._place >= len(self._text):
                if self._is_all:
                    return ""
                self._fill()

    def skip(self) -> None:
        """Takes a character."""
        self._place += 1

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any] | None:
        try:
            return _object(pairs)
        except ValueError as error:
            self._fault = error
            return None

    def _int(self, digits: str) -> int | None:
        try:
            return int(digits)
        except ValueError:
            self._fault = ValueError(_TOO_LONG)
            return None

    def value(self) -> Any:
        """Takes a JSON value; or a ValueError, of one in which a key stands twice or a number has too many digits."""
        self.next_sign()
        while True:
            self._fault = None
            try:
                value, end = self._parse(self._text, self._place)
            except RecursionError:
                raise ValueError(_TOO_DEEP) from None
            except json.JSONDecodeError as error:
                if self._is_all:
                    raise ValueError(error.msg) from error
            else:
                if self._is_all or self._text[end : end + 1] in _ENDS:  # a number that is cut is a number too
                    self._place = end
                    return self._fault or value
            self._fill()

    def _fill(self) -> None:
        kept = len(self._text) - self._place
        if kept > MAX_LINE_BYTES:
            raise ValueError(f"it is longer than {MAX_LINE_BYTES >> 20} MiB, or not valid JSON")
        data = self._stream.read(max(_CHUNK_BYTES, kept))
        self._is_all = not data
        self._text, self._place = self._text[self._place :] + self._decode(data, self._is_all), 0
        _check_brackets(self._text)


def _check_brackets(text: str) -> None:
    """Counts the brackets of a text that begins outside a string; those in strings cost nothing and are free."""
    if len(text) <= MAX_BRACKETS or text.count("[") + text.count("{") <= MAX_BRACKETS:
        return
    found = next(islice(_TO_BRACKET.finditer(text), MAX_BRACKETS, None), None)
    if found is not None and found[1]:
        raise ValueError(f"it holds more than {MAX_BRACKETS:,} brackets: split it into several rows or files")
