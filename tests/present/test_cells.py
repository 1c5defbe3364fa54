"""Scores by length and depth are drawn as they are, the lowest is named, and odd ones are left out."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import tiny_evaluation
from open_exaone.present import cells
from open_exaone.present import report as run_page
from open_exaone.present.evaluation import write_evaluation_page
from open_exaone.present.page_parts import TEMPLATES

LENGTHS, DEPTHS = (512, 1024), (0.0, 0.5, 1.0)


def cell(length: int, depth: float, share: float = 1.0, kind: str = "single", num_problems: int = 50) -> dict[str, Any]:
    about = {"kind": kind, "length": length, "depth": depth, "num_problems": num_problems, "pass_at_1": share}
    return {**about, "ci95": [max(0.0, share - 0.05), min(1.0, share + 0.04)]}


def needle(changed: dict[tuple[int, float], float], kind: str = "single", **entry: Any) -> dict[str, Any]:
    """An entry with cells that are all right, but for those."""
    grid = [cell(length, depth, changed.get((length, depth), 1.0), kind) for depth in DEPTHS for length in LENGTHS]
    return {"k": 1, "per_cell": grid, **entry}


def drawn(html: str) -> list[list[list[str]]]:
    """Each grid of a page as it is read: its rows' texts, headings first."""
    tables = re.findall(r'<table class="heat cells">(.*?)</table>', html, re.S)
    rows = [re.findall(r"<tr>(.*?)</tr>", table, re.S) for table in tables]
    return [[re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in table] for table in rows]


def test_a_grid_has_lengths_as_columns_and_depths_as_rows() -> None:
    entry = needle({(512, 0.5): 0.9, (1024, 1.0): 0.48})
    entry["per_cell"] = [*entry["per_cell"][::-1], cell(512, 1 / 3)]  # in any order, and with a gap
    (grid,) = cells.grids(entry)
    assert (grid.kind, grid.lengths) == ("single", [512, 1024])
    shares = [(depth, [found and found.share for found in row]) for depth, row in grid.rows]
    assert shares == [("0", [1, 1]), ("33.3", [1, None]), ("50", [0.9, 1]), ("100", [1, 0.48])]
    assert [found and found.step for _, row in grid.rows for found in row] == [10, 10, 10, None, 9, 10, 10, 4]


@pytest.mark.parametrize(
    ("changed", "k", "sentence"),
    [
        ({(1024, 0.5): 0.98}, 2, "The lowest cell: 98 of 100 at 1,024 tokens, depth 50 %."),
        ({(1024, 0.0): 0.9, (512, 1.0): 0.9}, 1, "The lowest cell: 45 of 50 at 512 tokens, depth 100 %; 1 other cell"),
        ({(1024, 0.0): 0.9, (512, 1.0): 0.88}, 1, "The lowest cell: 44 of 50 at 512 tokens, depth 100 %."),
        (
            {(512, 0.5): 0.0, (512, 1.0): 0.0, **{(1024, depth): 0.0 for depth in DEPTHS}},
            1,
            "The lowest cell: 0 of 50 at 512 tokens, depth 50 %; 4 other cells",
        ),
        ({}, 1, "All 6 cells are equal: 100.0%."),
    ],
)
def test_the_lowest_cell_is_named(changed: dict[tuple[int, float], float], k: int, sentence: str) -> None:
    (grid,) = cells.grids(needle(changed, k=k))
    assert grid.lowest == sentence + ("" if sentence.endswith(".") else " equally low.")


def test_the_lowest_of_each_kind_is_a_line_for_the_terminal() -> None:
    entry = needle({(512, 0.0): 0.5}, name="needle")
    entry["per_cell"] += needle({(1024, 1.0): 0.02}, "many_keys")["per_cell"]
    assert cells.lowest_cells([{"name": "other", "per_cell": []}, entry, {"name": "old"}]) == [
        "needle, single: the lowest cell: 25 of 50 at 512 tokens, depth 0 %.",
        "needle, many keys: the lowest cell: 1 of 50 at 1,024 tokens, depth 100 %.",
    ]


def test_only_cells_without_a_fault_have_the_deepest_colour() -> None:
    """Nearly all right is not all right, and each step has a rule, so that no cell is without a colour."""
    steps = [cells.Cell(1, 0, correct, 1000, None).step for correct in (0, 99, 100, 570, 999, 1000)]
    assert steps == [0, 0, 1, 5, 9, 10]
    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    shares = re.findall(r"\.step-(\d+) { --share: ([\d.]+); }", css)
    assert [int(step) for step, _ in shares] == list(range(cells.NUM_STEPS + 1))
    assert [float(share) for _, share in shares] == sorted({float(share) for _, share in shares})


def odd_cells() -> list[Any]:
    whole = cell(512, 0.5, 0.25)
    odd: list[Any] = [None, "x", 7, []]
    for name in ("kind", "length", "depth", "num_problems", "pass_at_1"):
        values = (None, "x", True, [], {}, -1, 10**400, float("nan"))
        odd += [{**whole, name: value} for value in values if (name, value) != ("kind", "x")]
        odd.append({field: value for field, value in whole.items() if field != name})
    return [*odd, {**whole, "length": 512.0}, {**whole, "pass_at_1": 1.01}, {**whole, "num_problems": 0}]


@pytest.mark.parametrize("odd", odd_cells(), ids=lambda odd: str(odd)[:90])
def test_what_is_no_cell_is_left_out(odd: Any) -> None:
    """One cell by itself makes a grid of its own, one beside it changes nothing."""
    entry = {"k": 1, "per_cell": [cell(64, 0.0), odd]}
    assert cells.grids(entry) == cells.grids({"k": 1, "per_cell": [cell(64, 0.0)]})
    assert cells.grids({"k": 1, "per_cell": odd}) == []
    assert cells.grids({"k": odd, "per_cell": [cell(64, 0.0)]})[0].rows[0][1][0].total == (350 if odd == 7 else 50)


def test_a_grid_has_an_end() -> None:
    """Cells that share no length and no depth would make a table as large as their number squared."""
    (grid,) = cells.grids({"k": 1, "per_cell": [cell(place, place / 5000) for place in range(1, 5001)]})
    assert len(grid.lengths) == len(grid.rows) == cells.MAX_SIDE


def test_an_evaluation_s_page_has_a_grid_for_each_task_and_kind(tmp_path: Path) -> None:
    tiny_evaluation.write(tmp_path)
    report = tiny_evaluation.report()
    assert not drawn(write_evaluation_page(tmp_path).read_text(encoding="utf-8"))
    report["tasks"][0] |= needle({(1024, 0.5): 0.94})
    report["tasks"][1] |= needle({}, "<b>keys")
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    html = write_evaluation_page(tmp_path).read_text(encoding="utf-8")
    assert drawn(html)[0] == [
        ["depth (%)", "length (tokens)"],
        ["512", "1,024"],
        ["0", "100.0%", "100.0%"],
        ["50", "100.0%", "94.0%"],
        ["100", "100.0%", "100.0%"],
    ]
    assert re.findall(r'class="cell (step-\d+)"', html)[:6] == ["step-10"] * 3 + ["step-9"] + ["step-10"] * 2
    assert len(drawn(html)) == 2 and "The lowest cell: 47 of 50 at 1,024 tokens, depth 50 %." in html
    assert "<figcaption" in html and "aime_2025, single" in html and "math_500, &lt;b&gt;keys" in html
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "<table" in markup and " style=" not in markup  # the page's policy lets none act
    assert 'title="47 of 50, 95% interval 89.0–98.0"' in html


def test_a_run_s_page_has_a_grid_for_each_stage(run_folder: Path, report: dict[str, Any]) -> None:
    assert not drawn(run_page.write_report(run_folder).read_text(encoding="utf-8"))
    for place, entry in enumerate(report["stages"]):
        fields = {name: entry[name] for name in ("pass_at_1", "num_problems")}
        needles = {**fields, **needle({(512, 0.0): 0.2 * place}), "measured_on": "needle"}
        entry |= {**needles, "tasks": [needles, {**fields, "k": 1, "measured_on": "other"}]}
    html = run_page.render(report, lambda folder: [])
    assert html.count('<h3 dir="auto">needle, single</h3>') == 1 and "other, single" not in html
    assert [table[2] for table in drawn(html)] == [["0", f"{20 * place}.0%", "100.0%"] for place in range(4)]
    named = re.findall(r"<figcaption dir=\"auto\">(after [^<]*)<", html)
    assert named == [f"after {entry['name']}" for entry in report["stages"]]
    assert "The lowest cell: 30 of 50 at 512 tokens, depth 0 %." in html
