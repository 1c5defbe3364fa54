"""Contaminated examples are found: against a slow and plain search, on real overlaps, and nothing else is dropped."""

import json
import os
import random
import string
import unicodedata
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base.errors import DataError, RunFolderError
from open_exaone.base.tables import Row
from open_exaone.data import decontaminate as module
from open_exaone.data.decontaminate import (
    WINDOW,
    Pool,
    Reason,
    decontaminate,
    drawn,
    normalise,
    window_hashes,
    write_decontaminated,
)

DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "math"
QUESTION = "A train leaves Busan at 9:00 and reaches Seoul, 325 km away, at 11:30. What is its mean speed in km/h?"
KOREAN = (
    "부산에서 아홉 시에 떠난 기차가 열한 시 삼십 분에 서울에 닿았다. 두 도시의 거리가 325 km일 때, "
    "이 기차의 평균 속력은 시속 몇 km인지 구하여라. 단, 기차는 중간에 서지 않는다."
)
words = st.text("ab", max_size=130)  # two letters, so that windows often coincide


def found(rows, items, **settings):
    """Why each row goes, by its place."""
    told = list(decontaminate(enumerate(rows), Pool.build(items), **settings))
    assert [place for place, _ in told] == list(range(len(rows)))
    return [overlap for _, overlap in told]


def letters(number, seed):
    return "".join(random.Random(seed).choices(string.ascii_lowercase, k=number))


@given(st.lists(words, max_size=12), st.lists(words.filter(bool), min_size=1, max_size=6))
@settings(max_examples=150)
def test_all_windows_find_what_a_plain_search_finds(rows, items):
    windows = {item[place : place + WINDOW] for item in items for place in range(len(item) - WINDOW + 1)}
    shares = [any(row[p : p + WINDOW] in windows for p in range(len(row) - WINDOW + 1)) for row in rows]
    told = found(rows, list(zip(map(str, range(len(items))), items, strict=True)), samples=None)
    expected = [row in items or shared for row, shared in zip(rows, shares, strict=True)]
    assert [overlap is not None for overlap in told] == expected
    for row, overlap in zip(rows, told, strict=True):
        if overlap:
            item = items[int(overlap.item)]
            assert overlap.text in row and overlap.text in item and overlap.item_chars == len(item)
            assert overlap.reason is (Reason.EQUAL if row in items else Reason.WINDOW)
            assert len(overlap.text) <= overlap.shared_chars <= min(len(row), len(item))


@pytest.mark.parametrize("samples", [1, 3, 10])
def test_a_sample_finds_what_its_windows_say(samples):
    item, outcomes = letters(300, "item"), set()
    rows = [letters(90, f"before {n}") + item[n : n + 80] + letters(90, f"after {n}") for n in range(20)]
    for seed in range(5):
        for row, overlap in zip(rows, found(rows, [("i", item)], seed=seed, samples=samples), strict=True):
            windows = [row[place : place + WINDOW] for place in drawn(row, seed, samples)]
            assert len(windows) == samples and all(len(window) == WINDOW for window in windows)
            assert (overlap is not None) == any(window in item for window in windows)
            outcomes.add(overlap is None)
    assert outcomes == {True, False}


def test_a_text_of_few_windows_is_looked_up_whole():
    item = letters(300, "item")
    for place in range(6):
        text = letters(place, "before") + item[:WINDOW] + letters(5 - place, "after")
        assert all(found([text], [("i", item)], seed=seed, samples=6)[0] for seed in range(5))


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_chances_are_those_of_the_method(share):
    """1 - (1 - f)^10, f being the share of the example's windows that are in the pool."""
    item, num_windows = letters(500, "item"), 400
    taken = round(share * num_windows)
    text = item[: taken + WINDOW - 1] + letters(num_windows - taken, "own")
    seeds = range(600)
    pool = Pool.build([("i", item)])
    hits = sum(overlap is not None for seed in seeds for _, overlap in decontaminate([(0, text)], pool, seed=seed))
    expected = 1 - (1 - share) ** 10
    assert hits / len(seeds) == pytest.approx(expected, abs=4 * (expected * (1 - expected) / len(seeds)) ** 0.5)


def test_what_is_drawn_depends_on_seed_and_text_alone():
    rows = [letters(200, seed) for seed in range(30)]
    item = [("i", "".join(row[:70] for row in rows))]
    alone = [found([row], item, seed=3)[0] for row in rows]
    assert found(rows, item, seed=3) == alone
    assert found(rows[::-1], item, seed=3) == alone[::-1]
    assert len({tuple(drawn(rows[0], seed, 10)) for seed in range(20)}) == 20
    assert drawn("abc" * 100, 7, 3).tolist() == [75, 70, 185]  # the same on every machine


@pytest.mark.parametrize("length", [1, 49, 50, 51, 400])
def test_an_equal_text_is_found_at_any_seed(length):
    item = letters(length, length)
    for seed in range(20):
        [overlap] = found([item], [("x:1", item)], seed=seed, samples=1)
        assert (overlap.reason, overlap.item, overlap.text) == (Reason.EQUAL, "x:1", item[:WINDOW])


def test_a_part_that_equals_an_item_is_found_behind_a_long_rest():
    solution = letters(20_000, "long")
    for parts in ([QUESTION, solution], [solution, QUESTION]):
        assert all(found([parts], [("q", QUESTION)], seed=seed)[0].reason is Reason.EQUAL for seed in range(10))
    [missed] = found([QUESTION[:-1] + "!" + solution], [("short", "No such text")])
    assert missed is None


def test_parts_that_make_up_an_item_are_found():
    [overlap] = found([["What is", "2 + 3?"]], [("other", "What is"[:-1]), ("sum", "What is 2 + 3?")])
    assert (overlap.item, overlap.reason) == ("sum", Reason.EQUAL)


def test_of_equal_items_the_first_is_named():
    assert found(["What is 2 + 3?"], [("a", "What is 2+3"), ("b", "What is 2 + 3?")])[0].item == "a"


def test_windows_run_over_the_parts_of_a_row():
    item = letters(80, "item")
    [overlap] = found([[item[:30], item[30:60]]], [("i", item)], samples=None)
    assert (overlap.text, overlap.shared_chars) == (item[:WINDOW], 60)
    assert found([item[:30], item[30:60]], [("i", item)], samples=None) == [None, None]  # but not over rows


def test_an_item_shorter_than_a_window_is_found_whole_only():
    items = [("short", "What is 2 + 3?"), ("long", QUESTION)]
    told = found(["what is 2+3", "What is 2 + 3? It is 5.", "What is 2 + 33?", ""], items, samples=None)
    assert [overlap and overlap.item for overlap in told] == ["short", None, None, None]


def test_the_item_with_most_of_the_windows_is_named():
    common, rest = letters(55, "c"), letters(120, "r")
    items = [("formula", "zz" + common + "zz"), ("true", rest)]
    [overlap] = found([common + rest[:100]], items, samples=None)
    assert (overlap.item, overlap.shared_chars, overlap.item_chars) == ("true", 100, 120)


@pytest.mark.parametrize(
    "text",
    [
        QUESTION.upper(),
        QUESTION.replace(" ", "\n\n* "),
        f"$${QUESTION}$$",
        QUESTION.replace("325", "３２５"),
        QUESTION.replace("ai", "\N{ZERO WIDTH SPACE}a\N{SOFT HYPHEN}i"),
    ],
)
def test_the_same_words_in_another_form_are_the_same(text):
    assert normalise(text) == normalise(QUESTION)
    assert found([text], [("q", QUESTION)])[0].reason is Reason.EQUAL


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("_a-b_\t1 ", "ab1"),
        ("½ x² + ﬁ", "12x2fi"),
        ("Straße ΣΑΣ", "strasseσασ"),
        ("數學 문제 ١", "數學문제١"),
        ("\ud83d\ude00 !?", ""),
        ("\ud800a\0", "a"),
    ],
)
def test_letters_and_digits_of_every_script_stay(text, kept):
    assert normalise(text) == kept


@given(st.text(st.characters(max_codepoint=127)))
def test_both_ways_to_normalise_agree(text):
    assert normalise(text) == normalise(text + "\N{EM DASH}") == "".join(filter(str.isalnum, text.lower()))


def test_korean_is_found_in_either_form_of_unicode():
    decomposed = unicodedata.normalize("NFD", KOREAN)
    assert decomposed != KOREAN and len(normalise(KOREAN)) > WINDOW
    assert found([decomposed], [("k", KOREAN)])[0].reason is Reason.EQUAL
    [overlap] = found([decomposed[: len(decomposed) * 9 // 10]], [("k", KOREAN)])
    assert overlap.reason is Reason.WINDOW


def test_accents_without_end_take_no_time():
    """Sorting n accents of two kinds takes Python n² steps: half a minute for these."""
    assert normalise("a" + "\u0345\u0300" * 200_000 + "b") == "ab"


def test_hashes_are_those_of_their_windows():
    codes = np.frombuffer(letters(300, "h").encode("utf-32-le"), np.uint32)
    hashes = window_hashes(codes)
    alone = [window_hashes(codes[place : place + WINDOW])[0] for place in range(300 - WINDOW + 1)]
    assert hashes.tolist() == alone and len(set(alone)) == len(alone)
    expected = sum(int(code) * pow(module.FACTOR, WINDOW - 1 - i, 2**64) for i, code in enumerate(codes[:WINDOW]))
    assert int(hashes[0]) == expected % 2**64
    assert all(len(window_hashes(codes[:n])) == 0 for n in range(WINDOW))


def test_a_clash_of_hashes_drops_nothing(monkeypatch):
    item, text = letters(90, "item"), letters(90, "text")

    def zeros(codes):
        return np.zeros(max(0, len(codes) - WINDOW + 1), np.uint64)

    monkeypatch.setattr(module, "window_hashes", zeros)
    assert found([text], [("i", item)], samples=None) == [None]


@pytest.mark.parametrize("block", [1, 60, 173])
def test_blocks_change_nothing(monkeypatch, block):
    item = letters(4000, "item")
    rows = [letters(900, "own") + item[100:151] + letters(300, "more"), item[:10], "", item[200:260]] * 3
    rows.append(letters(30, "own") + item[300 : 300 + WINDOW])  # the last window of all
    whole = found(rows, [("i", item)], samples=None)
    assert [overlap is not None for overlap in whole] == [True, False, False, True] * 3 + [True]
    monkeypatch.setattr(module, "BLOCK_CHARS", block)
    monkeypatch.setattr(module, "BLOCK_ROWS", 2)
    assert found(rows, [("i", item)], samples=None) == whole


def test_rows_stream():
    read = []

    def rows():
        for number in range(30_000):
            read.append(number)
            yield number, "x"

    first = next(iter(decontaminate(rows(), Pool.build([("q", QUESTION)]))))
    assert first == (0, None) and len(read) <= module.BLOCK_ROWS


@pytest.mark.parametrize("items", [[], [("a", " "), ("b", "?!")]])
def test_a_pool_of_nothing_is_refused(items):
    with pytest.raises(DataError, match="name a benchmark"):
        Pool.build(items)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="samples = 0: must be at least 1"):
        found(["x"], [("q", QUESTION)], samples=0)


def located(file, values):
    return [(Row(file, number, value), value["text"]) for number, value in enumerate(values, start=1)]


def test_what_stays_and_what_goes_is_written(tmp_path):
    values = [{"text": "Short.", "이름": "하나"}, {"text": QUESTION}, {"text": f"{QUESTION} Explain."}, {"text": ""}]
    pool = Pool.build([("trains:7", QUESTION), ("sums:1", "What is 2 + 3?")])
    out, report = tmp_path / "new" / "clean.jsonl", tmp_path / "report.json"
    told = write_decontaminated(located("a.jsonl", values), pool, out, report, seed=5)
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == [values[0], values[3]]
    assert (told.num_rows, told.num_kept) == (4, 2)
    read = json.loads(report.read_text(encoding="utf-8"))
    assert read == json.loads(json.dumps(told.as_json()))
    length = len(normalise(QUESTION))
    assert read["dropped_rows"] == [
        {
            "file": "a.jsonl",
            "line": line,
            "item": "trains:7",
            "reason": reason,
            "text": read["dropped_rows"][line - 2]["text"],
            "shared_chars": length,
            "item_chars": length,
        }
        for line, reason in ((2, "equal"), (3, "window"))
    ]
    assert {key: read[key] for key in ("rows", "kept", "dropped", "items", "short_items", "samples", "seed")} == {
        "rows": 4,
        "kept": 2,
        "dropped": 2,
        "items": 2,
        "short_items": 1,
        "samples": 10,
        "seed": 5,
    }
    assert read["by_reason"] == {"equal": 1, "window": 1} and read["by_benchmark"] == {"trains": 2}


def test_a_failure_leaves_the_old_files(tmp_path):
    def rows():
        yield from located("a", [{"text": "x"}])
        raise DataError("line 2")

    out, report = tmp_path / "clean.jsonl", tmp_path / "report.json"
    out.write_text("old"), report.write_text("old")
    with pytest.raises(DataError):
        write_decontaminated(rows(), Pool.build([("q", QUESTION)]), out, report)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"clean.jsonl": "old", "report.json": "old"}
    with pytest.raises(RunFolderError):
        write_decontaminated([], Pool.build([("q", QUESTION)]), out / "inside", report)


def test_a_value_that_json_has_not_is_named(tmp_path):
    rows = [(Row("a.parquet", 4, {"text": "x", "day": date(2025, 7, 30)}, "row"), "x")]
    with pytest.raises(DataError, match=r"a\.parquet: row 4: .*date is not JSON serializable"):
        write_decontaminated(rows, Pool.build([("q", QUESTION)]), tmp_path / "out.jsonl", tmp_path / "report.json")
    assert not list(tmp_path.iterdir())


def real(name):
    if not (DATA / name).is_file():
        pytest.skip(f"{DATA / name}: not here; OPEN_EXAONE_DATA names the folder")
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def real_pool():
    return Pool.build([(row["unique_id"], row["problem"]) for row in real("math500.jsonl")])


LONG_PREFIX = (5558, 11114, 3314, 11898, 9329, 6698)  # begin as an item does, for 120 letters and digits or more


def test_the_known_overlaps_are_found_at_any_seed():
    pool, known = real_pool(), json.loads((DATA / "contamination_exact.json").read_text(encoding="utf-8"))["hits"]
    num_checked = 0
    for file, hits in known.items():
        if hits and (DATA.parent / file).is_file():
            rows = real(Path(file).name)
            for line, _, item in hits:
                for parts in (rows[line]["problem"], [rows[line]["problem"], rows[line]["solution"]]):
                    for samples, seed in [(None, 0), *((10, seed) for seed in range(10)), (1, 0)]:
                        [(_, overlap)] = decontaminate([(0, parts)], pool, seed=seed, samples=samples)
                        assert (overlap.reason, overlap.item) == (Reason.EQUAL, item)
                        num_checked += 1
    assert num_checked


def test_long_prefixes_are_found_by_all_windows_and_little_else_is_equal():
    pool, rows = real_pool(), real("math_prm800k_train_12000.jsonl")
    told = dict(decontaminate(((line, row["problem"]) for line, row in enumerate(rows)), pool, samples=None))
    assert all(told[line] and told[line].shared_chars >= 120 for line in LONG_PREFIX)
    assert [line for line, overlap in told.items() if overlap and overlap.reason is Reason.EQUAL] == [7163]
    sampled = [dict(decontaminate(((n, rows[n]["problem"]) for n in LONG_PREFIX), pool, seed=s)) for s in range(20)]
    assert all(sum(overlap is not None for overlap in told.values()) >= 5 for told in sampled)
