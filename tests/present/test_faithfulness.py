"""Is the thought used? What the tables, sentences and pages show of it, whatever the report holds."""

from typing import Any

import pytest

from open_exaone.base.terminal import Console
from open_exaone.present.faithfulness import HEADINGS, sections, show_thought_use, stage_sections
from tiny_evaluation import HOSTILE, STEERING


def line(condition: str, number: int = 40, accuracy: float | None = 0.5, **others: Any) -> dict[str, Any]:
    shares = {"same_answer": 0.25, "other_answer": 0.7, "no_answer": 0.05}
    found = {"difference": -0.35, "difference_ci95": [-0.5, -0.2], "ci95": [0.4, 0.6], **shares}
    return {"condition": condition, "num_problems": number, "accuracy": accuracy, **found, **others}


def use(*lines: object, **others: Any) -> dict[str, Any]:
    about = {"task": "test-greedy", "num_problems": 43, "not_applicable": {"no thought": 3}, "cut_between": "tokens"}
    return {**about, "benchmark": "test", "missing": 0, "conditions": list(lines), **others}


EVERY = use(
    line("unchanged", accuracy=0.85, difference=None, difference_ci95=None),
    *(line(name) for name in ("none", "first_25", "first_50", "first_75", "other_problem")),
    line("slip", 31),
    line("slip_continued", 31),
)


def test_a_line_has_what_the_report_has() -> None:
    [section] = sections([EVERY])
    headings, rows = section.table
    assert headings == HEADINGS
    assert rows[0] == ["its own", "40", "85.0%", "–", "–", "25.0%", "70.0%", "5.0%"]
    assert rows[1] == ["none", "40", "50.0%", "−35.0", "−50.0 to −20.0", "25.0%", "70.0%", "5.0%"]
    about = "40 of 43 greedy replies gave a thought to change. The others: 3 no thought."
    assert section.sentences[0] == f"{about} Shares of a thought count its tokens."
    slips = [sentence for sentence in section.sentences if sentence.startswith("With a slip")]
    assert len(slips) == 2
    shares = "70.0% of the answers change, 25.0% stay the same, 5.0% of the replies have none"
    assert all(shares in sentence for sentence in slips)
    assert section.plot is not None
    assert "0% 50.0%; 25% 50.0%; 50% 50.0%; 75% 50.0%; 100% 85.0%" in section.plot


def test_the_terminal_shows_it_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    show_thought_use(sections([EVERY]), Console(width=80))
    shown = capsys.readouterr().out
    assert "Is the thought used? test-greedy" in shown
    table = [row for row in shown.splitlines() if "%" in row and "  " in row]
    assert len(table) >= 8
    assert all(len(row) <= 80 for row in table)
    rows = {row.split("  ")[0]: row.split() for row in table}
    assert rows["first 25%"] == ["first", "25%", "40", "50.0%", "−35.0", "−50.0", "to", "−20.0", "25.0%", "70.0%"]
    assert "another problem's" in rows


def test_conditions_that_apply_to_nothing_are_dashes() -> None:
    nothing = dict.fromkeys(("ci95", "difference", "difference_ci95", "same_answer", "other_answer", "no_answer"))
    [section] = sections([use(line("unchanged", 0, None, **nothing), line("slip", 0, None, **nothing))])
    assert section.table[1] == [["its own", "0", *["–"] * 6], ["own with a slip", "0", *["–"] * 6]]
    assert section.plot is None
    assert len(section.sentences) == 1


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}, [None], [{}], [{"task": 3}], [{"task": "a", "conditions": 5}]])
def test_odd_records_are_left_out(odd: object) -> None:
    assert [section.table[1] for section in sections(odd)] in ([], [[]])
    assert len(stage_sections([{"name": "rl", "faithfulness": odd}])) == len(sections(odd))


def test_hostile_texts_are_shown_as_texts(capsys: pytest.CaptureFixture[str]) -> None:
    bad = use(
        line("none", accuracy=float("nan")), line(HOSTILE), task=STEERING, not_applicable={STEERING: 3}, missing="x"
    )
    found = sections([bad])
    show_thought_use(found, Console(width=80))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown
    assert found[0].plot is None
