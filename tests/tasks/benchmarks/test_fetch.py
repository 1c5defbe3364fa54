"""Fetch and convert: every row checked, one form, a checksum, and found again without being named."""

import csv
import os
from pathlib import Path

import pytest
from httpx2 import Request, Response
from huggingface_hub.errors import GatedRepoError

from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.tasks.benchmarks.fetch import fetch_benchmark
from open_exaone.tasks.benchmarks.fetched import fetched_file
from open_exaone.tasks.benchmarks.registry import load_benchmark, load_problems
from tasks.benchmarks.rows import MADE_UP, write_rows


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, **options: str(folder))
    return folder


@pytest.mark.filterwarnings("ignore:.*the benchmark's content changed")
@pytest.mark.parametrize("name", MADE_UP)
def test_what_was_fetched_is_what_is_loaded(name: str, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", MADE_UP[name])
    direct = load_benchmark(name, source, on_change="warn")
    fetched = fetch_benchmark(name, source, on_change="warn")
    assert (fetched.path, fetched.source, fetched.is_pinned) == (fetched_file(name), source, False)
    assert (fetched.num_rows, fetched.sha256) == (len(direct.problems), direct.sha256)
    assert len(fetched.path.read_text(encoding="ascii").splitlines()) == fetched.num_rows
    again = load_benchmark(name)
    assert (again.problems, again.sha256) == (direct.problems, direct.sha256)
    assert again.source == str(fetched.path)


def test_a_name_may_be_spelled_otherwise(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", MADE_UP["csat_2025_math"])
    assert fetch_benchmark("CSAT-2025 math", source).path == fetched_file("csat_2025_math")
    assert load_benchmark("CSAT_2025_Math").source == str(fetched_file("csat_2025_math"))


def test_content_that_changed_must_be_accepted_once(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", MADE_UP["gsm8k"])
    with pytest.raises(DataError, match="the benchmark's content changed: .*; fetch it again, or accept it with"):
        fetch_benchmark("gsm8k", source)
    assert not fetched_file("gsm8k").exists()
    with pytest.warns(UserWarning, match="content changed"):
        fetch_benchmark("gsm8k", source, on_change="warn")
    with pytest.warns(UserWarning, match="content changed"):
        assert not load_benchmark("gsm8k").is_pinned
    with pytest.raises(DataError, match="the benchmark's content changed"):
        load_benchmark("gsm8k", source)


def test_the_hub_is_asked_even_where_a_fetched_file_lies(hub: Path) -> None:
    write_rows(hub / "aime2025-I.jsonl", MADE_UP["aime_2025"][:1])
    assert fetch_benchmark("aime_2025").num_rows == 1
    write_rows(hub / "aime2025-II.jsonl", MADE_UP["aime_2025"][1:])
    assert len(load_problems("aime_2025")) == 1
    assert fetch_benchmark("aime_2025").num_rows == 2
    assert len(load_problems("aime_2025")) == 2


def test_other_forms_are_converted(tmp_path: Path) -> None:
    rows = MADE_UP["gpqa_diamond"]
    with (tmp_path / "gpqa.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "made" / "gpqa.jsonl"
    fetched = fetch_benchmark("gpqa_diamond", str(tmp_path / "gpqa.csv"), out)
    assert fetched.path == out and not fetched_file("gpqa_diamond").exists()
    plain = load_benchmark("gpqa_diamond", write_rows(tmp_path / "plain.jsonl", rows))
    assert load_benchmark("gpqa_diamond", str(out)).sha256 == plain.sha256 == fetched.sha256


def test_a_transcription_of_csat_is_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exaone fetch csat_2025_math --rows FILE"):
        fetch_benchmark("csat_2025_math")
    fetch_benchmark("csat_2025_math", write_rows(tmp_path / "mine.jsonl", MADE_UP["csat_2025_math"]))
    assert len(load_problems("csat_2025_math")) == 46


def test_a_wrong_row_leaves_the_earlier_file(tmp_path: Path) -> None:
    rows = MADE_UP["csat_2025_math"]
    path = fetch_benchmark("csat_2025_math", write_rows(tmp_path / "good.jsonl", rows)).path
    before = path.read_bytes()
    wrong = write_rows(tmp_path / "wrong.jsonl", [*rows[:-1], {**rows[-1], "answer": "x"}])
    with pytest.raises(DataError, match="wrong.jsonl: line 46: field 'answer': must be a whole number"):
        fetch_benchmark("csat_2025_math", wrong)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_gated_set_says_how_to_come_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo, **options):
        raise GatedRepoError("no", response=Response(403, request=Request("GET", "https://x")))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    mend = r"accept it at https://huggingface.co/datasets/Idavidrein/gpqa, then run `hf auth login`"
    with pytest.raises(DataError, match=mend):
        fetch_benchmark("gpqa_diamond")


def test_what_needs_no_fetching_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needle: is made by code, there is nothing to fetch; --out FILE.jsonl"):
        fetch_benchmark("needle")
    fetched = fetch_benchmark("needle", "256:depths=2", tmp_path / "needle.jsonl")
    assert load_problems("needle", str(fetched.path)) == load_problems("needle", "256:depths=2")
    with pytest.raises(ConfigError, match="--out .*needle.txt: must end in .jsonl"):
        fetch_benchmark("needle", None, tmp_path / "needle.txt")
    with pytest.raises(ConfigError, match="benchmark 'maths': unknown"):
        fetch_benchmark("maths")


def test_a_description_of_one_s_own_needs_a_place(tmp_path: Path) -> None:
    """In the common folder it could stand in for the package's benchmark of that name."""
    told = tmp_path / "aime_2025.toml"
    told.write_text('name = "aime_2025"\nwhat = "Mine."\nfile = "rows.jsonl"\n')
    write_rows(tmp_path / "rows.jsonl", [{"question": "1+1?", "answer": "2"}])
    with pytest.raises(ConfigError, match="is a description of your own: name a file with --out"):
        fetch_benchmark(str(told))
    assert fetch_benchmark(str(told), None, tmp_path / "out.jsonl").num_rows == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = write_rows(tmp_path / "rows.jsonl", MADE_UP["hle"])
    with pytest.raises(RunFolderError, match="cannot write: there is a file where a folder is needed"):
        fetch_benchmark("hle", source, tmp_path / "file" / "hle.jsonl")


def test_the_cache_s_folder_is_heeded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert fetched_file("hle") == Path(os.environ["XDG_CACHE_HOME"]) / "open-exaone" / "benchmarks" / "hle.jsonl"
    monkeypatch.setenv("HOME", str(tmp_path))
    for said in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", said)
        assert fetched_file("hle") == tmp_path / ".cache" / "open-exaone" / "benchmarks" / "hle.jsonl"
