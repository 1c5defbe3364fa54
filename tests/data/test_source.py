"""Files give their rows one by one; what cannot be read is named, and reading goes on behind it."""

import gzip
import json
import os
import sys
from decimal import Decimal

import pytest

from data.made_up import TALK, TEXT, write_rows
from open_exaone.base.errors import DataError
from open_exaone.data import hub, source
from open_exaone.data.check import check
from open_exaone.data.config import SourceConfig
from open_exaone.data.rows import Row, RowError
from open_exaone.data.source import find_files, read_rows


def values(path):
    return [(row.number, row.value) for row in read_rows(str(path)) if isinstance(row, Row)]


def test_a_broken_line_is_named_and_the_others_are_read(tmp_path):
    deep = b"[" * 100_000
    broken = [b'{"text": "caf\xe9"}', b'{"text": ', b"", deep, b'{"text": 1' + b"0" * 5000 + b"}"]
    path = write_rows(tmp_path / "rows.jsonl", [b"\xef\xbb\xbf" + json.dumps(TEXT).encode(), *broken, TALK])
    rows = list(read_rows(path))
    assert [(row.number, type(row)) for row in rows] == [
        (1, Row),
        (2, RowError),
        (3, RowError),
        (5, RowError),  # line 4 is blank
        (6, RowError),
        (7, Row),
    ]
    assert [row.reason for row in rows if isinstance(row, RowError)] == [
        "not UTF-8",
        "not JSON",
        "not JSON",
        "not JSON",
    ]
    assert str(rows[1]).startswith(f"{path}: line 2: is not UTF-8 text: byte 14 of the line is 0xe9")


def test_every_form_of_a_file_gives_the_same_rows(tmp_path):
    rows = [TALK, TEXT, {"text": "한국어"}]
    lines = "".join(json.dumps(row) + "\r\n" for row in rows).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "a.json").write_bytes(json.dumps(rows, ensure_ascii=False).encode())
    (tmp_path / "lines.json").write_bytes(lines)  # as many that end in .json
    for name in ("a.jsonl", "a.json"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    for name in ("a.jsonl", "a.json", "lines.json", "a.jsonl.gz", "a.json.gz"):
        assert values(tmp_path / name) == list(enumerate(rows, start=1)), name


def test_parquet_gives_the_same_rows(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"text": f"row {number}"} for number in range(2500)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert values(tmp_path / "a.parquet") == list(enumerate(rows, start=1))
    answers = [{"question": "Q", "answer": Decimal("1.50")}]
    parquet.write_table(arrow.Table.from_pylist(answers), tmp_path / "c.parquet")
    assert check(str(tmp_path / "c.parquet")).good == 1
    broken = arrow.Array.from_buffers(  # three texts of two bytes each, the second no UTF-8
        arrow.string(),
        3,
        [None, arrow.array([0, 2, 4, 6], arrow.int32()).buffers()[1], arrow.py_buffer(b"ok\xff\xfeok")],
    )
    parquet.write_table(arrow.table({"text": broken}), tmp_path / "b.parquet")
    found = list(read_rows(str(tmp_path / "b.parquet")))
    assert [row.value if isinstance(row, Row) else (row.number, row.reason) for row in found] == [
        {"text": "ok"},
        (2, "not UTF-8"),
        {"text": "ok"},
    ]


def test_without_pyarrow_the_mend_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r'pip install "open-exaone\[data\]"'):
        list(read_rows(str(tmp_path / "a.parquet")))


def test_a_line_that_never_ends_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MAX_LINE_BYTES", 100)
    path = write_rows(tmp_path / "rows.jsonl", [TEXT, b'{"text": "' + b"x" * 1000 + b'"}', TEXT])
    assert [getattr(row, "reason", "good") for row in read_rows(path)] == ["good", "too large", "good"]


def test_folders_and_patterns_give_their_files_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("b/1.jsonl", "a.jsonl", "c.json", "notes.txt", ".cache/x.jsonl"):
        write_rows(tmp_path / name, [{"text": name}])
    assert [value["text"] for _, value in values(tmp_path)] == ["a.jsonl", "b/1.jsonl", "c.json"]
    assert [file.path.name for file in find_files(f"{tmp_path}/*.jsonl")] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.jsonl", "no such file"),
        ("none*.jsonl", "no file matches"),
        ("notes.txt", "in no form that is read here"),
        ("empty", "holds no file that is read here"),
        ("cut.jsonl.gz", "cannot be read"),
        ("list.json", "not valid JSON"),
        ("hub:no-owner", "must be hub:owner/name"),
    ],
)
def test_what_cannot_be_opened_is_named(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 1000)[:-20])
    (tmp_path / "list.json").write_text('[{"text": "x"}')
    path = name if name.startswith("hub:") else str(tmp_path / name)
    with pytest.raises(DataError, match=said) as raised:
        list(read_rows(path))
    assert path in str(raised.value)


CARD = """---
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*.jsonl
  - split: test
    path: main/test.jsonl
- config_name: other
  data_files: other/all.jsonl
---
A card.
"""


@pytest.fixture
def make_hub(tmp_path, monkeypatch):
    """A data set of the hub as the cache has it: `snapshot_download` finds all its files there."""

    def make(files):
        folder = tmp_path / "snapshot"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))

    return make


@pytest.mark.parametrize(
    ("card", "config", "split", "files"),
    [
        (CARD, "main", "train", ["main/train-0.jsonl", "main/train-1.jsonl"]),
        (CARD, "main", "test", ["main/test.jsonl"]),
        (CARD, "other", "train", ["other/all.jsonl"]),
        ("", "main", "train", ["main/train-0.jsonl", "main/train-1.jsonl"]),
        ("", "main", "test", ["main/test.jsonl"]),
    ],
)
def test_a_split_of_the_hub_is_found_by_its_card_or_by_names(make_hub, card, config, split, files):
    names = ("main/train-0.jsonl", "main/train-1.jsonl", "main/test.jsonl", "other/all.jsonl")
    make_hub({"README.md": card, **dict.fromkeys(names, '{"text": "x"}\n')})
    found = find_files(SourceConfig(path="hub:owner/name", config=config, split=split))
    assert [file.name for file in found] == [f"hub:owner/name/{name}" for name in files]


@pytest.mark.parametrize(
    ("config", "split", "said"),
    [(None, "train", "config = None: must be one of main, other"), ("main", "dev", "split = 'dev': must be one of")],
)
def test_what_the_card_does_not_name_is_refused(make_hub, config, split, said):
    make_hub({"README.md": CARD, "main/test.jsonl": ""})
    with pytest.raises(DataError, match=said):
        hub.hub_files("owner/name", config, split, (".jsonl",))


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    for name in ("pipe.jsonl", "zero.jsonl"):
        with pytest.raises(DataError, match=f"{name}: is a device or a pipe"):
            find_files(str(tmp_path / name))
    with pytest.raises(DataError, match="holds no file"):
        find_files(str(tmp_path))
