"""Formulas of the pages in a real browser: drawn in every text, inert whatever they hold, and text without scripts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chromium
import tiny_evaluation
from chromium import Chromium
from hostile_formulas import DRAWN, EITHER, KEPT
from open_exaone.base.records import Flip, Generation, Problem, Reply, Sample, StopReason, Verdict, VerdictStatus
from open_exaone.present import report
from open_exaone.present.against import MAX_BYTES, write_against_page
from open_exaone.present.evaluation import write_evaluation_page
from open_exaone.present.formulas import converter, drawing, may_hold_formulas, packed

MAX_PAGE_BYTES = 300_000  # without its data
LAST = "x" * 400 + r"\(\frac{1}{2}\)"  # so long that it is folded as a thought
HALF = r"One half, \(\frac{1}{2}\): \[\frac{3}{6}\]"
BAD = r"script:not([data-kind]):not(:last-of-type), img, iframe, .formulas :is(a[href], [id], [onerror], [onclick])"

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason=chromium.MISSING)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as started:
        started.look(400, 900)
        started.send("Log.enable")
        yield started


def item(text: str) -> dict[str, Any]:
    """A problem of a run's showcase whose question, thought and answer are this text."""
    reply = {"stage": "rl", "thought": text, "answer": text, "verdict": "correct", "why": ""}
    return {"problem": {"task": "sums", "language": "en", "question": text, "answer": "1"}, "replies": [reply]}


def write_page(folder: Path, *texts: str) -> Path:
    page = folder / "report.html"
    told = {"recipe": "mine", "stages": [{"name": "rl"}], "showcase": [item(text) for text in texts]}
    page.write_text(report.render(told, lambda folder: []), encoding="utf-8", errors="replace")
    return page


def faults(browser: Chromium) -> list[Any]:
    kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    return [event for event in browser.events if event["method"] in kinds]


def requests(browser: Chromium) -> set[str]:
    sent = [event for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    return {event["params"]["request"]["url"] for event in sent} - {"about:blank"}


def open_all(browser: Chromium) -> list[int]:
    """Opens what is folded, and waits until the last of the texts is drawn; how many texts of each problem are."""
    browser.evaluate("document.querySelectorAll('details').forEach((node) => (node.open = true))")
    browser.wait("[...document.querySelectorAll('.thought.formulas')].at(-1)?.textContent.startsWith('xxxx')")
    articles = "[...document.querySelectorAll('article')]"
    found: list[int] = browser.evaluate(f"{articles}.map((node) => node.querySelectorAll('.formulas').length)")
    return found


def test_hostile_formulas_are_drawn_or_kept_and_run_load_and_reorder_nothing(browser: Chromium, tmp_path: Path) -> None:
    page = write_page(tmp_path, *EITHER.values(), *DRAWN.values(), *KEPT.values(), LAST)
    browser.visit(page.as_uri())
    assert open_all(browser)[len(EITHER) :] == [3] * len(DRAWN) + [0] * len(KEPT) + [3]
    kept = browser.evaluate("[...document.querySelectorAll('article > .question')].map((node) => node.textContent)")
    assert kept[-1 - len(KEPT) : -1] == list(KEPT.values())
    assert requests(browser) == {page.as_uri()}
    assert browser.evaluate(f"document.querySelectorAll({json.dumps(BAD)}).length") == 0
    assert browser.evaluate("document.title") == "mine"
    assert not re.search("[\u202a-\u202e]", browser.evaluate("document.body.textContent"))
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
    assert faults(browser) == []


def test_a_formula_is_not_drawn_over_what_stands_around_its_text(browser: Chromium, tmp_path: Path) -> None:
    browser.visit(write_page(tmp_path, DRAWN["shift"], LAST).as_uri())
    assert open_all(browser) == [3, 3]
    assert browser.evaluate("getComputedStyle(document.querySelector('.formulas')).contain") == "paint"


def test_without_scripts_the_page_shows_the_source(browser: Chromium, tmp_path: Path) -> None:
    page = write_page(tmp_path, HALF)
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.visit(page.as_uri())
        shown = browser.evaluate("[...document.querySelectorAll('[data-latex]')].map((node) => node.innerText)")
        assert shown == [HALF] * 3
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_a_report_draws_questions_thoughts_and_answers_beside_their_source(browser: Chromium, tmp_path: Path) -> None:
    browser.visit(write_page(tmp_path, HALF, LAST).as_uri())
    assert open_all(browser) == [3, 3]
    assert browser.evaluate("document.querySelectorAll('.question.formulas mfrac').length") == 3
    assert browser.evaluate("document.querySelectorAll('.thought.formulas mfrac').length") == 3
    assert browser.evaluate("document.querySelector('.question.formulas [title]').title") == r"\frac{1}{2}"
    assert browser.evaluate("document.querySelector('details.source .question').textContent") == HALF
    assert browser.evaluate("getComputedStyle(document.querySelector('.math.display')).display") == "block"


def test_a_box_around_a_number_needs_no_source(browser: Chromium, tmp_path: Path) -> None:
    browser.visit(write_page(tmp_path, r"It is \boxed{5}.", LAST).as_uri())
    assert open_all(browser) == [3, 3]
    assert browser.evaluate("document.querySelectorAll('article:first-of-type .source').length") == 0
    assert browser.evaluate("document.querySelector('.formulas').textContent") == "It is 5."


def test_texts_without_formulas_need_no_script(tmp_path: Path) -> None:
    page = write_page(tmp_path, "It costs $5.").read_text(encoding="utf-8")
    assert "<script" not in page and "script-src" not in page
    assert len(write_page(tmp_path, HALF).read_bytes()) < MAX_PAGE_BYTES
    assert not drawing(["$5", "a (b)"]).scripts and may_hold_formulas("$5$") and not may_hold_formulas("$5")


def test_the_policy_names_both_scripts_and_the_style(tmp_path: Path) -> None:
    page = write_page(tmp_path, HALF).read_text(encoding="utf-8")
    found = drawing([HALF])
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert "unsafe" not in policy and policy.startswith("default-src 'none'") and policy.count("sha256-") == 3
    assert found.scripts[1] == converter() and str(packed()) in page
    assert "url(" not in found.style and "@import" not in found.style  # it loads no font


def test_a_viewer_draws_questions_and_thoughts_too(browser: Chromium, tmp_path: Path) -> None:
    problems = [{**row, "question": HALF} for row in tiny_evaluation.problems(1, ["aime_2025"])]
    rows = [{**row, "thought": HALF, "answer": "So."} for row in tiny_evaluation.samples(problems, 1)]
    tiny_evaluation.write_files(tmp_path, tiny_evaluation.report(["aime_2025"]), problems, rows)
    page = write_evaluation_page(tmp_path)
    assert page.stat().st_size < MAX_PAGE_BYTES
    browser.visit(page.as_uri() + "#thought=open", "document.querySelector('.thought.formulas')")
    for place in ("question", "thought"):
        assert browser.evaluate(f"document.querySelectorAll('.{place}.formulas mfrac').length") == 2
    assert browser.evaluate("document.querySelector('.question.formulas').lang") == problems[0]["language"]
    assert faults(browser) == []


def test_both_ends_of_a_thought_that_is_cut_are_drawn(
    browser: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open_exaone.present.viewer.MAX_TEXT_CHARS", 100)
    problems = list(tiny_evaluation.problems(1, ["aime_2025"]))
    rows = [{**next(tiny_evaluation.samples(problems, 1)), "thought": r"\(\frac{1}{2}\)" + "x" * 200 + r"\(\sqrt{2}\)"}]
    tiny_evaluation.write_files(tmp_path, tiny_evaluation.report(["aime_2025"]), problems, rows)
    page = write_evaluation_page(tmp_path)
    browser.visit(page.as_uri() + "#thought=open", "document.querySelector('.thought.formulas')")
    drawn = "[...document.querySelector('.thought.formulas').querySelectorAll('mfrac, msqrt, .left-out')]"
    assert browser.evaluate(f"{drawn}.map((node) => node.localName)") == ["mfrac", "span", "msqrt"]


def flip(number: int, text: str) -> Flip:
    problem = Problem(f"q{number}", "sums", "en", text, "1", "math")

    def sample(status: VerdictStatus) -> Sample:
        reply = Generation(Reply(text, text), StopReason.END, 1, 1, 0)
        return Sample(f"{number}", "sums", problem.id, 0, reply, Verdict(status, "1", ""))

    ours, theirs = sample(VerdictStatus.CORRECT), sample(VerdictStatus.WRONG)
    return Flip("sums", problem, ours, theirs, (1, 1), (0, 1), is_gained=True)


def test_questions_gained_and_lost_are_drawn_in_a_page_that_stays_small(browser: Chromium, tmp_path: Path) -> None:
    rows = [("task", "pass@1"), ("sums", "50.0%")]
    page = write_against_page(tmp_path, tmp_path / "other", rows, [flip(n, HALF + "x" * 3_000) for n in range(40)])
    assert page.stat().st_size <= MAX_BYTES
    browser.visit(page.as_uri(), "document.querySelectorAll('details').length > 10")
    browser.evaluate("document.querySelectorAll('details').forEach((node) => (node.open = true))")
    num_texts = 5 * browser.evaluate("document.querySelectorAll('article').length")
    browser.wait(f"document.querySelectorAll('.formulas').length === {num_texts}")
    assert num_texts > 40 and browser.evaluate("document.querySelectorAll('.unread').length") == 0
    assert faults(browser) == []
