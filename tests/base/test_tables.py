"""One reader of rows for every format: the same rows, and an error in the place of each row that cannot be read."""

import contextlib
import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base import tables
from open_exaone.base.errors import DataError
from open_exaone.base.tables import Row, RowError, read_table

ROWS = [{"text": "x", "more": 'a,"b"\nc'}, {"text": "한국어", "more": ""}, {"text": " ", "more": "é"}]


def to_csv(rows: list[dict[str, Any]], end: str = "\r\n") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def to_lines(rows: list[dict[str, Any]], end: str = "\r\n") -> bytes:
    return "".join(json.dumps(row) + end for row in rows).encode()


def values(path: Path) -> list[Any]:
    return [row.value if isinstance(row, Row) else (row.number, row.reason) for row in read_table(path)]


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    files = {
        "a.jsonl": to_lines(ROWS),
        "a.json": json.dumps(ROWS, ensure_ascii=False).encode(),
        "lines.json": to_lines(ROWS),  # as many that end in .json
        "a.csv": to_csv(ROWS),
        "b.csv": to_csv(ROWS, "\n"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"bom-{name}").write_bytes(b"\xef\xbb\xbf" + content)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        for path in (tmp_path / name, tmp_path / f"bom-{name}", tmp_path / f"{name}.gz"):
            assert values(path) == ROWS, path.name


def test_a_key_or_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"a": 1, "a": 1}\n{"a": {"b": 1, "c": [{"d": 1, "d": 2}]}}\n{"a": {"a": 1}, "b": 1}\n'
    )
    first, second, third = read_table(tmp_path / "a.jsonl")
    assert isinstance(first, RowError) and isinstance(second, RowError) and isinstance(third, Row)
    assert "line 1: is not valid JSON: the key 'a' appears twice" in str(first) and "'d' appears twice" in str(second)
    (tmp_path / "a.json").write_text('[{"a": 1}, {"a": 1, "b": {"c": 1, "c": [2]}}, {"d": 3, "d": 4}, {"a": 5}]')
    one, two, three, four = read_table(tmp_path / "a.json", "a.json")
    assert (one, four) == (Row("a.json", 1, {"a": 1}, "row"), Row("a.json", 4, {"a": 5}, "row"))
    assert str(two) == "a.json: row 2: is not valid JSON: the key 'c' appears twice in one object; leave one out"
    assert str(three) == "a.json: row 3: is not valid JSON: the key 'd' appears twice in one object; leave one out"
    (tmp_path / "a.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(DataError, match="line 1: names 'a' twice"):
        list(read_table(tmp_path / "a.csv"))
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table([[1], [2]], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the column 'a' appears twice"):
        list(read_table(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_parquet_and_arrow_give_the_same_rows(name: str, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def write(table: Any) -> None:
        if name == "a.parquet":
            parquet.write_table(table, tmp_path / name, row_group_size=700)
        else:
            with arrow.OSFile(str(tmp_path / name), "wb") as file, arrow.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=700)

    rows = [{"text": f"row {number}"} for number in range(2500)]
    write(arrow.Table.from_pylist(rows))
    assert [(row.number, row.value) for row in read_table(tmp_path / name)] == list(enumerate(rows, start=1))
    (tmp_path / f"cut-{name}").write_bytes((tmp_path / name).read_bytes()[:30])
    with pytest.raises(DataError, match=f"cut-{name}: row 1: cannot be read"):
        list(read_table(tmp_path / f"cut-{name}"))
    broken = arrow.Array.from_buffers(  # three texts of two bytes each, the second no UTF-8
        arrow.string(),
        3,
        [None, arrow.array([0, 2, 4, 6], arrow.int32()).buffers()[1], arrow.py_buffer(b"ok\xff\xfeok")],
    )
    write(arrow.table({"text": broken}))
    assert values(tmp_path / name) == [{"text": "ok"}, (2, "not UTF-8"), {"text": "ok"}]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_without_pyarrow_the_extra_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pyarrow", "pyarrow.parquet", "pyarrow.ipc"):
        monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r'pip install "open-exaone\[data\]", or convert the file to .jsonl'):
        list(read_table(tmp_path / name))


def test_a_broken_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    deep = b"[" * 100_000
    lines = [b'\xef\xbb\xbf{"a": 1}', b'{"text": "caf\xe9"}', b'{"text": ', b"", deep, b'{"a": 1' + b"0" * 5000 + b"}"]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([*lines, b'{"a": 2}']))
    bad = "not JSON"
    assert values(path) == [{"a": 1}, (2, "not UTF-8"), (3, bad), (5, bad), (6, bad), {"a": 2}]  # line 4 is blank
    error = list(read_table(path))[1]
    assert str(error).startswith(f"{path}: line 2: is not UTF-8 text: byte 14 of the line is 0xe9")


def test_a_broken_row_of_a_csv_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'a,b\n1,2\n3\n"4"x,5\n6,7,8\n\n"9\n0",1\n')
    wrong = "not CSV"
    assert values(path) == [{"a": "1", "b": "2"}, (3, wrong), (4, wrong), (5, wrong), {"a": "9\n0", "b": "1"}]
    assert [row.number for row in read_table(path)] == [2, 3, 4, 5, 8]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["csv", "jsonl", "json"]))
def test_no_content_does_more_than_raise_its_error(tmp_path_factory, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("rows") / f"a.{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        assert all(isinstance(row, Row | RowError) for row in read_table(path))


@pytest.mark.parametrize(
    ("name", "write", "found"),
    [
        ("a.jsonl", lambda long: b'{"a": 1}\n"' + long + b'"\n{"a": 2}', [{"a": 1}, (2, "too large"), {"a": 2}]),
        ("a.csv", lambda long: b'a\n"' + b"x\n" * len(long) + b'"', "line [0-9]+: the row is longer than"),
        ("a.json", lambda long: b'["' + long + b'"]', "item 1: it is longer than"),
    ],
)
def test_a_row_that_never_ends_does_not_fill_the_memory(
    name: str, write: Callable[[bytes], bytes], found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr("open_exaone.base.streams.MAX_LINE_BYTES", 100)
    monkeypatch.setattr("open_exaone.base.streams._CHUNK_BYTES", 10)
    (tmp_path / name).write_bytes(write(b"x" * 1000))
    if isinstance(found, list):
        assert values(tmp_path / name) == found
    else:
        with pytest.raises(DataError, match=found):
            list(read_table(tmp_path / name))
