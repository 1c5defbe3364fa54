"""The published tables: whole, well formed, found by name, and their claims checked."""

from collections import Counter
from pathlib import Path

import pytest

from open_exaone.evaluation.paired import published_estimate, unpaired_difference
from open_exaone.evaluation.published import (
    TAGS,
    Outcome,
    Published,
    benchmark_name,
    claims,
    compare,
    find,
    load_tables,
    rows_for,
)
from open_exaone.evaluation.statistics import Estimate

CELLS = {
    "exaone-deep": 11 * 8,
    "exaone-deep-further": 5 * 3,
    "exaone-4.0-32b-reasoning": 17 * 6,
    "exaone-4.0-32b-non-reasoning": 22 * 8,
    "exaone-4.0-1.2b-reasoning": 17 * 5,
    "exaone-4.0-1.2b-non-reasoning": 22 * 5,
    "exaone-4.0-budget": 6 * 2,
    "exaone-4.0-later": 12,
    "exaone-4.0-list": 3,
    "exaone-4.0-long-context": 3 * 3,
}
SUMS = {  # of every number in the table, so that no cell changes unseen
    "exaone-4.0-1.2b-non-reasoning": 3671.3,
    "exaone-4.0-1.2b-reasoning": 3675.9,
    "exaone-4.0-32b-non-reasoning": 9458.1,
    "exaone-4.0-32b-reasoning": 6974.7,
    "exaone-4.0-budget": 525.9,
    "exaone-4.0-later": 610.2,
    "exaone-4.0-list": 249.5,
    "exaone-4.0-long-context": 301.38,
    "exaone-deep": 6026.5,
    "exaone-deep-further": 993.7,
}


def cell(row: Published) -> tuple[str, ...]:
    return row.table, row.model, row.benchmark, row.mode, row.metric, row.setting


def test_every_table_is_whole_and_no_cell_stands_twice() -> None:
    rows = load_tables()
    assert Counter(row.table for row in rows) == CELLS
    assert max(Counter(map(cell, rows)).values()) == 1


def test_every_number_is_a_percentage_with_a_tag_and_a_source() -> None:
    for row in load_tables():
        assert row.tag in TAGS and row.source and row.mode in ("reasoning", "non_reasoning", "not stated")
        assert row.metric in ("pass@1", "cons@64", "score")
        assert row.percent is None or 0 < row.percent < 100
        assert row.k is None or 1 <= row.k <= 64


def test_the_sums_of_the_tables_have_not_changed() -> None:
    sums = {name: round(sum(row.percent or 0 for row in load_tables() if row.table == name), 2) for name in CELLS}
    assert sums == SUMS


@pytest.mark.parametrize(
    ("model", "benchmark", "mode", "metric", "percent"),
    [
        ("EXAONE Deep 32B", "MATH-500", "reasoning", "pass@1", 95.7),
        ("exaone-deep-2.4b", "aime24", "reasoning", "cons@64", 76.7),
        ("EXAONE Deep 7.8B", "csat", "reasoning", "pass@1", 89.9),
        ("EXAONE 4.0 32B", "AIME 2025", "reasoning", "pass@1", 85.3),
        ("EXAONE 4.0 32B", "aime-2025", "non_reasoning", "pass@1", 35.9),
        ("EXAONE 4.0 1.2B", "gpqa-diamond", "non_reasoning", "pass@1", 40.1),
        ("Qwen3 0.6B", "KSM", "non_reasoning", "pass@1", 0.1),
        ("DeepSeek V3-0324", "WMT24++ (ES)", "non_reasoning", "score", 94.3),
    ],
)
def test_numbers_are_found_by_name(model: str, benchmark: str, mode: str, metric: str, percent: float) -> None:
    row = find(model, benchmark, mode, metric)
    assert row is not None and row.percent == percent and row.value == pytest.approx(percent / 100)


def test_what_is_not_published_is_none() -> None:
    assert find("EXAONE Deep 2.4B", "MMLU-Pro", "non_reasoning") is None
    assert find("Phi 4", "HELMET", "non_reasoning", "score") is None  # printed as N/A
    assert benchmark_name("gsm8k") is None and rows_for("gsm8k") == []
    empty = next(row for row in load_tables() if row.percent is None)
    with pytest.raises(ValueError, match="has no number"):
        _ = empty.value


def test_the_samples_of_a_number_are_those_of_its_protocol() -> None:
    assert [find(m, "AIME 2025").k for m in ("EXAONE Deep 32B", "EXAONE 4.0 32B")] == [64, 32]  # type: ignore[union-attr]
    assert find("EXAONE Deep 2.4B", "AIME 2025").k == 64  # type: ignore[union-attr]  # its own report, not 4.0's
    assert {row.num_questions for row in rows_for("AIME 2025") if not row.setting} == {30}


def test_majorities_of_thirty_questions_are_thirtieths_but_for_one() -> None:
    odd = [
        (row.model, row.benchmark)
        for row in load_tables()
        if row.metric == "cons@64" and abs(row.percent * 0.3 - round(row.percent * 0.3)) > 0.02
    ]
    assert odd == [("DeepSeek-R1-Distill-Qwen-1.5B", "AIME 2024")]


def test_a_run_is_set_beside_every_published_number() -> None:
    found = compare("aime24", 0.72, (0.60, 0.78), correlation=0.5)
    assert len(found) == 11
    assert [c.published.value for c in found] == sorted((c.published.value for c in found), reverse=True)
    by_model = {c.published.model: c for c in found}
    ours = by_model["EXAONE Deep 32B"]
    assert ours.within and ours.difference == pytest.approx(-0.001) and ours.both and ours.both.is_zero_inside
    weak = by_model["DeepSeek-R1-Distill-Qwen-1.5B"]
    assert not weak.within and weak.both is not None and weak.both.low > 0
    assert weak.both.high - weak.both.low > 0.18  # wider than ours alone
    assert not by_model["QwQ-32B"].within  # 79.5


def test_the_mode_metric_and_setting_choose_the_rows() -> None:
    modes = {c.published.mode for c in compare("ifeval", 0.8, (0.75, 0.85), mode="reasoning")}
    assert modes == {"reasoning"}
    assert {c.published.metric for c in compare("aime25", 0.8, (0.7, 0.9), metric="cons@64")} == {"cons@64"}
    cut = compare("aime25", 0.75, (0.7, 0.8), setting="budget 32K")
    assert [c.published.percent for c in cut] == [74.8, 45.3]
    assert all(c.both is None for c in compare("ruler", 0.8, (0.7, 0.9), metric="score"))
    assert compare("gsm8k", 0.5, (0.4, 0.6)) == []
    with pytest.raises(ValueError, match="fractions"):
        compare("aime24", 72.0, (60.0, 80.0))


def test_a_published_majority_is_one_number_of_thirty_questions() -> None:
    ours = Estimate(0.8, 0.7, 0.9, 0)
    found = compare("aime25", 0.8, (0.7, 0.9), metric="cons@64", correlation=0.0)[0]
    assert found.both == unpaired_difference(ours, published_estimate(0.8, 30))


def test_every_claim_has_its_outcome() -> None:
    outcomes = {claim.text: claim.outcome for claim in claims()}
    assert all(claim.why.endswith(".") and claim.source for claim in claims())
    assert Counter(outcomes.values()) == {
        Outcome.HOLDS: 15,
        Outcome.ON_AVERAGE: 3,
        Outcome.FAILS: 2,
        Outcome.UNCHECKABLE: 4,
    }
    small = "EXAONE Deep 2.4B is better than the model of comparable size: DeepSeek-R1-Distill-Qwen-1.5B"
    assert outcomes[small] is Outcome.HOLDS
    large = "EXAONE Deep 32B is better than the distilled models: DeepSeek-R1-Distill-Qwen-32B"
    assert outcomes[large] is Outcome.ON_AVERAGE  # AIME 2024: 72.1 against 72.6


def test_a_failed_claim_says_by_how_much() -> None:
    failed = [claim.why for claim in claims() if claim.outcome is Outcome.FAILS]
    assert failed == [
        "From 45.3 to 43.0, a loss of 5.08 %; rounding may decide it.",
        "exaone-4.0-later: 84.7; exaone-4.0-32b-reasoning: 83.7.",
    ]


def test_the_document_lists_every_claim() -> None:
    text = (Path(__file__).parents[2] / "docs" / "published.md").read_text(encoding="utf-8")
    assert [c.text for c in claims() if f"| {c.text} | {c.outcome} | {c.why} |" not in text] == []
