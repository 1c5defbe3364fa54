"""The hub, with the download replaced: none can be reached here."""

from pathlib import Path

import pytest
from httpx2 import Request, Response
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from open_exaone.base.errors import DataError
from open_exaone.tasks.benchmarks.registry import BENCHMARKS, load_benchmark, load_problems
from tasks.benchmarks.rows import MADE_UP, unpinned, write_rows


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    calls = []

    def snapshot_download(repo, **options):
        calls.append({"repo": repo, **options})
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return calls


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def snapshot_download(repo, **options):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)


def test_without_a_source_the_benchmark_s_own_files_are_fetched(asked, tmp_path: Path) -> None:
    write_rows(tmp_path / "test.jsonl", MADE_UP["math_500"])
    loaded = load_benchmark(unpinned("math_500"), limit=2)
    assert loaded.source == "HuggingFaceH4/MATH-500" and len(loaded.problems) == 2
    assert asked == [
        {
            "repo": "HuggingFaceH4/MATH-500",
            "repo_type": "dataset",
            "revision": None,
            "allow_patterns": ["test.jsonl"],
            "ignore_patterns": None,
        }
    ]


def test_another_copy_at_a_revision(asked, tmp_path: Path) -> None:
    write_rows(tmp_path / "test.jsonl", MADE_UP["math_500"])
    assert load_benchmark(unpinned("math_500"), "someone/math@abc123", limit=1).source == "someone/math@abc123"
    assert (asked[0]["repo"], asked[0]["revision"]) == ("someone/math", "abc123")


def test_files_of_a_window_in_their_order(asked, tmp_path: Path) -> None:
    rows = MADE_UP["livecodebench"]
    write_rows(tmp_path / "test5.jsonl", rows[3:])
    write_rows(tmp_path / "test4.jsonl", rows[:3])
    write_rows(tmp_path / "test6.jsonl", [{"broken": 1}])
    assert len(load_problems(unpinned("livecodebench"))) == 3
    assert asked[0]["allow_patterns"] == ["test4.jsonl", "test5.jsonl"]


def test_a_set_arranged_anew_says_what_was_looked_for(asked, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="HuggingFaceH4/MATH-500: has no test.jsonl; its files were arranged anew"):
        load_problems(unpinned("math_500"))


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (GatedRepoError, "Idavidrein/gpqa: is behind a form on the hub: accept it at https://huggingface.co/datasets/"),
        (RepositoryNotFoundError, "the hub has no such data set"),
        (RevisionNotFoundError, "has no such revision"),
    ],
)
def test_the_hub_s_refusals_say_the_mend(error, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, error("no", response=Response(404, request=Request("GET", "https://x"))))
    with pytest.raises(DataError, match=fault):
        load_problems(unpinned("gpqa_diamond"))


def test_no_network_says_what_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ConnectionError("no route"))
    with pytest.raises(DataError, match=r"cannot be reached \(no route\): .* copy its files \(gpqa_diamond.csv\)"):
        load_problems(unpinned("gpqa_diamond"))


def test_every_benchmark_of_the_hub_names_its_files() -> None:
    for benchmark in BENCHMARKS.values():
        assert (benchmark.hub is None) == (benchmark.access in ("own", "made"))
        assert (benchmark.make is not None) == (benchmark.access == "made")
        if benchmark.hub:
            assert benchmark.hub.files and benchmark.hub.repo.count("/") == 1
