"""A benchmark whose content changed under its name."""

import warnings
from dataclasses import replace

import pytest

from open_exaone.base.errors import DataError
from open_exaone.tasks.benchmarks.benchmark import Pin
from open_exaone.tasks.benchmarks.registry import get_benchmark, load_benchmark
from tasks.benchmarks.rows import MADE_UP, write_rows

ROWS = MADE_UP["gsm8k"]


@pytest.fixture
def pinned(tmp_path):
    plain = replace(get_benchmark("gsm8k"), pins=())
    sha256 = load_benchmark(plain, write_rows(tmp_path / "known.jsonl", ROWS)).sha256
    return replace(plain, pins=(Pin(frozenset(ROWS[0]), sha256),))


def test_the_known_content_is_known(pinned, tmp_path) -> None:
    assert load_benchmark(pinned, str(tmp_path / "known.jsonl")).is_pinned


@pytest.mark.parametrize(
    "rows",
    [ROWS[::-1], ROWS[:1], [*ROWS, {"question": "?", "answer": "#### 1"}], [ROWS[0], {**ROWS[1], "answer": "#### 7"}]],
)
def test_changed_content_is_an_error_or_a_warning(rows, pinned, tmp_path) -> None:
    source = write_rows(tmp_path / "changed.jsonl", rows)
    with pytest.raises(DataError, match=r"changed.jsonl: the benchmark's content changed: .* or accept it with --ch"):
        load_benchmark(pinned, source)
    with pytest.warns(UserWarning, match="the benchmark's content changed"):
        loaded = load_benchmark(pinned, source, on_change="warn")
    assert not loaded.is_pinned and len(loaded.problems) == len(rows)


def test_a_copy_with_other_fields_is_another_file(pinned, tmp_path) -> None:
    source = write_rows(tmp_path / "other.jsonl", [{**row, "source": "a copy"} for row in ROWS])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not load_benchmark(pinned, source).is_pinned


def test_a_part_is_compared_with_nothing(pinned, tmp_path) -> None:
    assert not load_benchmark(pinned, write_rows(tmp_path / "changed.jsonl", ROWS[::-1]), limit=2).is_pinned


def test_a_limit_that_leaves_nothing_out_leaves_the_known_content_known(pinned, tmp_path) -> None:
    known = str(tmp_path / "known.jsonl")
    for limit in (len(ROWS), len(ROWS) + 1):
        loaded = load_benchmark(pinned, known, limit=limit)
        assert loaded.is_pinned and loaded.is_whole
    part = load_benchmark(pinned, known, limit=len(ROWS) - 1)
    assert not part.is_pinned and not part.is_whole
    (tmp_path / "broken.jsonl").write_text((tmp_path / "known.jsonl").read_text() + "{", encoding="utf-8")
    assert not load_benchmark(pinned, str(tmp_path / "broken.jsonl"), limit=len(ROWS)).is_whole  # a row is a row
