"""Where rows come from: files in every form, folders, and what is wrong with them."""

import csv
import gzip
import json
from pathlib import Path

import pytest

from open_exaone.base.errors import DataError
from open_exaone.tasks.benchmarks.registry import load_benchmark, load_problems
from open_exaone.tasks.benchmarks.sources import find_files
from tasks.benchmarks.rows import MADE_UP, unpinned, write_rows

ROWS = MADE_UP["gpqa_diamond"]


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)


def test_every_form_gives_the_same_problems_and_the_same_hash(tmp_path: Path) -> None:
    plain = load_benchmark(unpinned("gpqa_diamond"), write_rows(tmp_path / "a.jsonl", ROWS))
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    write_csv(tmp_path / "a.csv")
    (tmp_path / "bom.jsonl").write_bytes(
        b"\xef\xbb\xbf" + (tmp_path / "a.jsonl").read_bytes().replace(b"\n", b"\r\n\n")
    )
    for name in ("a.jsonl", "a.json", "a.csv"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    for path in tmp_path.iterdir():
        loaded = load_benchmark(unpinned("gpqa_diamond"), str(path))
        assert (loaded.problems, loaded.sha256, loaded.source) == (plain.problems, plain.sha256, str(path))


def test_parquet_and_arrow_as_pyarrow_gives_them(tmp_path: Path) -> None:
    """The hub's own form, where pyarrow is installed."""
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    table = pa.Table.from_pylist(ROWS)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=5)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    plain = load_benchmark(unpinned("gpqa_diamond"), write_rows(tmp_path / "a.jsonl", ROWS))
    for name in ("a.parquet", "a.arrow"):
        assert load_benchmark(unpinned("gpqa_diamond"), str(tmp_path / name)).sha256 == plain.sha256
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    with pytest.raises(DataError, match="b.parquet: row 1: cannot be read"):
        load_problems(unpinned("gpqa_diamond"), str(tmp_path / "b.parquet"))


def test_fields_that_hold_nothing_do_not_change_the_hash(tmp_path: Path) -> None:
    """Parquet and CSV write every field of every row; JSON lines leave out what is not there."""
    rows = MADE_UP["ifeval"]
    full = [{**row, "more": None, "kwargs": [{"relation": None, **table} for table in row["kwargs"]]} for row in rows]
    sparse = load_benchmark(unpinned("ifeval"), write_rows(tmp_path / "a.jsonl", rows)).sha256
    assert load_benchmark(unpinned("ifeval"), write_rows(tmp_path / "b.jsonl", full)).sha256 == sparse
    full[1]["prompt"] += " "
    assert load_benchmark(unpinned("ifeval"), write_rows(tmp_path / "c.jsonl", full)).sha256 != sparse


def test_a_folder_stands_for_the_hub_s_files_in_it(tmp_path: Path) -> None:
    write_rows(tmp_path / "aime2025-II.jsonl", MADE_UP["aime_2025"][1:])
    write_rows(tmp_path / "aime2025-I.jsonl", MADE_UP["aime_2025"][:1])
    write_rows(tmp_path / "other.jsonl", [{"nothing": 1}])
    problems = load_problems(unpinned("aime_2025"), str(tmp_path))
    assert [(problem.id, problem.answer) for problem in problems] == [("aime_2025/1", "70"), ("aime_2025/2", "2")]


def test_files_are_read_in_the_order_of_their_patterns(tmp_path: Path) -> None:
    for name in ("a-2.jsonl", "a-1.jsonl", "b.jsonl", "c.jsonl"):
        write_rows(tmp_path / name, ROWS)
    assert [path.name for path in find_files(tmp_path, ("b*", "a-*", "*-1*"))] == ["b.jsonl", "a-1.jsonl", "a-2.jsonl"]


def test_a_folder_stands_for_its_only_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "mine.jsonl", MADE_UP["aime_2025"])
    (tmp_path / "readme.md").write_text("#")
    assert len(load_problems(unpinned("aime_2025"), str(tmp_path))) == 2
    write_rows(tmp_path / "yours.jsonl", MADE_UP["aime_2025"])
    with pytest.raises(DataError, match=r"holds several files \(mine.jsonl, yours.jsonl\): name the one"):
        load_problems(unpinned("aime_2025"), str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file that is read here; those end in .jsonl"):
        load_problems(unpinned("aime_2025"), str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.jsonl", b'{"problem": "?", "answer": "1"}\n\n{"problem": ', "a.jsonl: line 3: is not valid JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1: is not valid JSON: nested too deeply"),
        ("a.jsonl", b"\xff\xfe", "a.jsonl: line 1: is not UTF-8 text"),
        ("a.jsonl", b"[1]\n", "line 1: must be an object with named fields"),
        ("a.jsonl", b"", "no row belongs to math_500"),
        ("a.json", b'{"problem": "?"}', "a.json: line 1: field 'answer': is missing"),
        ("a.json", b'[{"problem": "?", "answer": "1"}, 7]', "a.json: row 2: must be an object"),
        ("a.csv", b"problem,answer\n?\n", "a.csv: line 2: must have as many cells as the first line, 2"),
        ("a.csv", b"problem,answer\n?,1,2\n", "line 2: must have as many cells"),
        ("a.csv", b'problem,answer\n"?"x,1\n', "a.csv: line 2: is not valid CSV"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz: cannot be read"),
        ("a.jsonl.gz", gzip.compress(b"{}" * 1000, mtime=0)[:-20], "a.jsonl.gz: cannot be read"),
        ("a.txt", b"?", "a.txt: is not in a supported format"),
    ],
)
def test_a_broken_file_is_named_with_its_line(name: str, content: bytes, fault: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=fault):
        load_problems(unpinned("math_500"), str(tmp_path / name))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for source in (tmp_path / "a.jsonl", "data/not_here.jsonl"):
        with pytest.raises(DataError, match="no such file"):
            load_problems(unpinned("math_500"), str(source))


def test_what_cannot_be_fetched_says_what_to_bring() -> None:
    with pytest.raises(DataError, match=r"csat_2025_math: cannot be fetched \(copyright of KICE.*docs/benchmarks.md"):
        load_problems(unpinned("csat_2025_math"))
    with pytest.raises(DataError, match="owner/name: there is no such file or folder here, and the hub has no copy"):
        load_problems(unpinned("csat_2025_math"), "owner/name")
