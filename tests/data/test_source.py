"""Which files a source names: folders, patterns, and data sets of the hub."""

import gzip
import os
from decimal import Decimal

import pytest

from data.made_up import write_rows
from open_exaone.base.errors import DataError
from open_exaone.base.tables import Row
from open_exaone.data import hub
from open_exaone.data.check import check
from open_exaone.data.config import SourceConfig
from open_exaone.data.source import find_files, read_rows


def values(path):
    return [(row.number, row.value) for row in read_rows(str(path)) if isinstance(row, Row)]


def test_a_decimal_of_parquet_is_an_answer(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    answers = [{"question": "Q", "answer": Decimal("1.50")}]
    parquet.write_table(arrow.Table.from_pylist(answers), tmp_path / "c.parquet")
    assert check(str(tmp_path / "c.parquet")).good == 1


def test_folders_and_patterns_give_their_files_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("b/1.jsonl", "a.jsonl", "c.json", "notes.txt", ".cache/x.jsonl"):
        write_rows(tmp_path / name, [{"text": name}])
    assert [value["text"] for _, value in values(tmp_path)] == ["a.jsonl", "b/1.jsonl", "c.json"]
    for pattern, names in (
        ("*.jsonl", ["a.jsonl"]),
        ("*/1.jsonl", ["b/1.jsonl"]),
        ("[a-c]/*", ["b/1.jsonl"]),
        ("**/*.jsonl", [".cache/x.jsonl", "a.jsonl", "b/1.jsonl"]),
    ):
        assert [str(file.path.relative_to(tmp_path)) for file in find_files(f"{tmp_path}/{pattern}")] == names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.jsonl", "no such file"),
        ("none*.jsonl", "no file matches"),
        ("notes.txt", "is not in a supported format"),
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
