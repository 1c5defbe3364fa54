"""The model card says what the model is, what it cost and what it reached, and whose name it does not bear."""

from pathlib import Path
from typing import Any

from open_exaone.present import card, stages


def test_the_card_of_a_run(run_folder: Path, report: dict[str, Any]) -> None:
    text = card.write_card(run_folder).read_text(encoding="utf-8")
    assert "does not bear the EXAONE name" in text
    assert "EXAONE" not in text.splitlines()[0].replace("Open-EXAONE", "")
    assert "3.4M (3,412,224)" in text
    assert "Apache-2.0" in text
    for row in stages.closing_rows(report)[1]:
        assert "| " + " | ".join(row) + " |" in text
    assert "| rl | rl | 2.1M | 4 min 49 s | 4.30e+13 |" in text
    assert "1000" in text or "1,000" in text


def test_a_model_that_began_from_a_checkpoint_keeps_its_licence(report: dict[str, Any]) -> None:
    report["model"]["source"] = "LGAI-EXAONE/EXAONE-Deep-2.4B"
    text = card.render_card(report)
    assert "derive from `LGAI-EXAONE/EXAONE-Deep-2.4B`" in text
    assert "random weights" not in text
    assert "little else" not in text


def test_names_cannot_break_the_card(report: dict[str, Any]) -> None:
    report["stages"][0]["name"] = "a|b\n<script>`"
    text = card.render_card(report)
    assert "| a\\|b &lt;script>' |" in text
    assert "<script" not in text


def test_a_bare_report_is_enough() -> None:
    text = card.render_card({"stages": [{"name": "sft", "pass_at_1": 0.5, "num_problems": 3}]})
    assert "Not recorded." in text
    assert "50.0%" in text


def test_a_run_without_an_evaluation_has_a_card(trained_folder: Path) -> None:
    text = card.write_card(trained_folder).read_text(encoding="utf-8")
    assert "This run has no evaluation." in text and "pass@1" not in text and "intervals" not in text
    assert "| rl | rl | 4 | 1.2M | 1 min 15 s | 30 s | 2.1 GB | 0 | 3 (429: 2, 500: 1) |" in text
