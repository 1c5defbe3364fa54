"""The viewer in a real browser: the right sample, filters, search, keys, and text that stays text.

Without Chromium these tests are skipped; test_evaluation.py reads the same page in Python.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import chromium
import tiny_evaluation
from chromium import Chromium
from open_exaone.present import viewer
from open_exaone.present.evaluation import write_evaluation_page

READY = "document.documentElement?.dataset.ready"

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason=chromium.MISSING)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as started:
        started.look(1200, 900)
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viewer, "CHUNK_CHARS", 2_000)  # so that there are several
        return write_evaluation_page(tiny_evaluation.write(tmp_path_factory.mktemp("evaluation")))


def rows_of(page: Path) -> list[dict[str, Any]]:
    lines = (page.parent / "samples.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def path_of(row: dict[str, Any]) -> str:
    return "/".join(quote(str(row[name]), safe="") for name in ("task", "problem", "index"))


def visit(browser: Chromium, page: Path, address: str = "") -> None:
    browser.visit(f"{page.as_uri()}{address}", READY)


def text(browser: Chromium, selector: str) -> str:
    """The text of the first element that matches, white space made one."""
    told: str = browser.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
    return " ".join(told.split())


def texts(browser: Chromium, selector: str) -> list[str]:
    found: list[str] = browser.evaluate(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.textContent)"
    )
    return found


def data(browser: Chromium, name: str) -> str | None:
    told: str | None = browser.evaluate(f"document.documentElement.dataset.{name} ?? null")
    return told


def num_shown(browser: Chromium) -> int:
    return int(data(browser, "shown") or -1)


def test_a_permalink_shows_that_sample_whole(browser: Chromium, page: Path) -> None:
    rows = rows_of(page)
    row = next(row for row in rows if row["verdict"] == "wrong" and row["task"] == "csat_2025_math")
    visit(browser, page, f"#{path_of(row)}?thought=open")
    browser.wait("document.querySelector('.thought').textContent.length > 1")
    assert data(browser, "open") == path_of(row)
    assert "다음 값을 구하시오." in text(browser, ".question")
    assert text(browser, ".source .answer") == row["answer"]
    assert text(browser, ".thought") == " ".join(row["thought"].split())
    assert text(browser, ".why") == row["why"]
    assert text(browser, ".detail .chip") == "✗ wrong"
    assert texts(browser, ".versus .text") == [str(int(row["extracted"]) - 1), row["extracted"]]
    told = text(browser, "#detail")
    assert f"{row['num_tokens']}, of them {row['num_thought_tokens']} thought" in told
    assert f"samples.jsonl, line {1 + rows.index(row)}" in told
    assert browser.evaluate("list.getAttribute('aria-activedescendant')") == f"sample-{rows.index(row)}"
    assert texts(browser, ".strip a") == ["0", "1", "2"]


def test_a_thought_is_folded_and_left_packed_until_it_is_opened(browser: Chromium, page: Path) -> None:
    visit(browser, page)
    first = rows_of(page)[0]
    assert data(browser, "open") == path_of(first)  # the first, where none is asked for
    assert text(browser, ".thought") == "…"
    assert not browser.evaluate("document.querySelector('.detail details').open")
    browser.press("t")
    browser.wait("document.querySelector('.thought').textContent.length > 1")
    assert text(browser, ".thought") == " ".join(first["thought"].split())
    assert "thought=open" in browser.evaluate("location.hash")


Test = Callable[[dict[str, Any]], bool]
FILTERS: dict[str, Test] = {
    "verdict=wrong": lambda row: row["verdict"] == "wrong",
    "verdict=wrong,truncated&task=math_500": lambda r: r["verdict"] in "wrong,truncated" and r["task"] == "math_500",
    "language=ko": lambda row: row["task"] == "csat_2025_math",
    "min=60&max=140": lambda row: 60 <= row["num_tokens"] <= 140,
    "problem=2025%2F002": lambda row: "2025/002" in row["problem"],
    "q=CANNOT+tell": lambda row: "cannot tell" in row["answer"],
    "q=problem+3+of": lambda row: row["problem"].endswith("003"),  # in the question alone
    "q=modulo&in=thoughts": lambda row: "modulo" in row["thought"],
    "q=modulo": lambda row: False,
    "q=%5Cboxed%7B1%7D.&verdict=correct,wrong": lambda row: "\\boxed{1}." in row["answer"],  # text, no pattern
    "q=다음+값을": lambda row: row["task"] == "csat_2025_math",
    "task=nothing": lambda row: False,
}


@pytest.mark.parametrize(("address", "passes"), FILTERS.items())
def test_filters_and_searches_in_the_address_find_what_python_finds(
    browser: Chromium, page: Path, address: str, passes: Test
) -> None:
    found = [path_of(row) for row in rows_of(page) if passes(row)]
    visit(browser, page, f"#{address}")
    assert num_shown(browser) == len(found)
    assert text(browser, "#status") == f"{len(found)} of {len(rows_of(page))} samples"
    assert data(browser, "open") == (found[0] if found else None)


def test_filters_set_by_hand_filter_and_stand_in_the_address(browser: Chromium, page: Path) -> None:
    rows = rows_of(page)
    visit(browser, page)
    browser.press("/", *"cannot")
    right = [row for row in rows if "cannot" in row["answer"]]
    browser.wait(f"document.documentElement.dataset.shown == {len(right)}")
    assert data(browser, "open") == path_of(right[0])
    browser.evaluate("task.value = 'math_500'; task.dispatchEvent(new Event('input', { bubbles: true }))")
    right = [row for row in right if row["task"] == "math_500"]
    browser.wait(f"document.documentElement.dataset.shown == {len(right)}")
    assert browser.evaluate("location.hash.split('?')[1]") == "q=cannot&task=math_500"
    browser.evaluate("verdicts.querySelector('[value=truncated]').click()")
    browser.wait("location.hash.includes('verdict=truncated')")
    assert num_shown(browser) == [row["verdict"] for row in right].count("truncated")
    order = [told.split()[1].rstrip("0123456789,") for told in texts(browser, "#verdicts button")]
    assert order == [verdict for verdict in tiny_evaluation.VERDICTS if verdict in order]
    browser.evaluate("clear.click()")
    browser.wait(f"document.documentElement.dataset.shown == {len(rows)}")
    assert "?" not in browser.evaluate("location.hash")


def test_each_verdict_tells_how_many_pass_the_other_filters(browser: Chromium, page: Path) -> None:
    visit(browser, page, "#task=math_500&verdict=wrong")
    rows = [row["verdict"] for row in rows_of(page) if row["task"] == "math_500"]
    counts = browser.evaluate(
        "Object.fromEntries([...verdicts.children].map((b) => [b.value, Number(b.querySelector('span').textContent)]))"
    )
    assert {verdict: number for verdict, number in counts.items() if number} == {v: rows.count(v) for v in set(rows)}


def test_keys_walk_the_list_and_links_keep_the_filters(browser: Chromium, page: Path) -> None:
    visit(browser, page, "#verdict=correct&sort=longest")
    rows = sorted((r for r in rows_of(page) if r["verdict"] == "correct"), key=lambda r: -r["num_tokens"])
    browser.press("j", "j", "j", "k")
    browser.wait(f"document.documentElement.dataset.open === {json.dumps(path_of(rows[2]))}")
    assert browser.evaluate("location.hash") == f"#{path_of(rows[2])}?sort=longest&verdict=correct"
    assert browser.evaluate("document.querySelector('.row[aria-selected=true]').getAttribute('aria-posinset')") == "3"
    tokens = [int(told.split()[0].replace(",", "")) for told in texts(browser, ".row .tokens")]
    assert tokens == [row["num_tokens"] for row in rows][: len(tokens)]
    browser.evaluate("document.querySelector('.strip a:not([aria-current])').click()")
    browser.wait(f"document.documentElement.dataset.open !== {json.dumps(path_of(rows[2]))}")
    assert browser.evaluate("location.hash").endswith("?sort=longest&verdict=correct")


def test_what_was_searched_for_is_marked(browser: Chromium, page: Path) -> None:
    visit(browser, page, "#q=MODULO&in=thoughts")
    browser.wait("document.querySelector('.thought').textContent.length > 1")
    assert texts(browser, ".thought mark") == ["modulo"] * text(browser, ".thought").count("modulo") != []


@pytest.mark.parametrize(
    "address", ["#%E0%A4%A/b/0", "#no/such/7", "#a/b", "#?", "#=", "#%00=%ff&q=%ed%a0%80", "#samples"]
)
def test_an_address_that_names_nothing_still_opens_the_page(browser: Chromium, page: Path, address: str) -> None:
    visit(browser, page, address)
    assert browser.evaluate("loading.hidden && !viewer.hidden")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every text of every file tries to leave its place."""
    folder = tmp_path_factory.mktemp("hostile")
    bad = tiny_evaluation.HOSTILE + tiny_evaluation.STEERING

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: spoil(part) for name, part in value.items()}
        if isinstance(value, list):
            return [spoil(part) for part in value]
        return bad if isinstance(value, str) else value

    problem = spoil(next(tiny_evaluation.problems(1)))
    rows = [spoil(row) for row in tiny_evaluation.samples(tiny_evaluation.problems(1, ["aime_2025"]), k=2)]
    rows[0] |= {
        "extracted": bad,
        "tool_calls": [bad],
        "thought": bad + "x" * 10_000_000 + bad,
        "verdict": "constructor",
    }
    rows[1] |= {"extracted": bad}
    tiny_evaluation.write_files(folder, spoil(tiny_evaluation.report(["aime_2025"])), [problem], rows)
    return write_evaluation_page(folder)


@pytest.mark.parametrize("address", ["#thought=open", f"#q={quote(tiny_evaluation.HOSTILE)}&in=thoughts&thought=open"])
def test_hostile_text_is_shown_and_never_acts(browser: Chromium, hostile: Path, address: str) -> None:
    visit(browser, hostile, address)
    browser.wait("document.querySelector('.thought').textContent.length > 1")
    assert num_shown(browser) == 2
    assert browser.evaluate("document.querySelectorAll('img, iframe, object, link, base').length") == 0
    assert browser.evaluate("document.querySelectorAll('script:not([data-kind])').length") == 1  # the page's own
    assert browser.evaluate(
        "[...document.querySelectorAll('*')].every((e) => !e.getAttributeNames().some((n) => n.startsWith('on')))"
    )
    for place in (".question", ".answer", ".why", ".versus", ".thought", ".sheet", ".row", "#task", "h1"):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", "".join(texts(browser, place))), place
    for place in (".question", ".answer", ".why", ".versus"):
        assert tiny_evaluation.HOSTILE in text(browser, place), place
    assert browser.evaluate("document.title") != "pwned"
    assert "characters are left out here; line 1 of samples.jsonl has them all" in text(browser, ".thought")
    requests = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert all(url.partition("#")[0] in (hostile.as_uri(), "about:blank") for url in requests)


def test_fifty_thousand_samples_open_and_are_filtered(browser: Chromium, tmp_path: Path) -> None:
    tiny_evaluation.write(tmp_path, num_problems=100, k=100, num_words=30)
    page = write_evaluation_page(tmp_path)
    rows = [row for row in rows_of(page) if row["verdict"] == "wrong" and row["task"] == "aime_2025@4096"]
    visit(browser, page, f"#{path_of(rows[-1])}?verdict=wrong&task=aime_2025%404096")
    assert text(browser, "#status") == f"{len(rows):,} of 50,000 samples"
    assert data(browser, "open") == path_of(rows[-1])
    assert text(browser, ".source .answer") == rows[-1]["answer"]
    drawn = texts(browser, ".row .name")
    assert 1 <= len(drawn) < 60  # of thousands: only what is seen is in the page
    assert drawn[-1] == f"{rows[-1]['problem']} · {rows[-1]['index']}"
    browser.evaluate("list.scrollTop = 0")
    browser.wait(f"document.querySelector('.row').id === 'sample-{rows_of(page).index(rows[0])}'")


def test_without_scripts_the_tables_stand_and_the_page_says_so(browser: Chromium, page: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.visit(page.as_uri(), "document.readyState === 'complete'")
        assert "needs JavaScript" in browser.evaluate("document.getElementById('samples').innerText")
        assert browser.evaluate("document.getElementById('viewer').hidden")
        assert "aime_2025@4096" in browser.evaluate("document.querySelector('.sheet').innerText")
        assert "Reading" not in browser.evaluate("document.getElementById('samples').innerText")
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_a_cut_thought_says_what_is_left_out(
    browser: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "MAX_TEXT_CHARS", 2_000)
    rows = list(tiny_evaluation.problems(1, ["aime_2025"]))
    row = {**next(tiny_evaluation.samples(rows, 1)), "thought": "a" * 2_000 + "b" * 2_000}
    tiny_evaluation.write_files(tmp_path, tiny_evaluation.report(["aime_2025"]), rows, [row])
    visit(browser, write_evaluation_page(tmp_path), "#thought=open")
    browser.wait("document.querySelector('.left-out')")
    assert text(browser, ".left-out") == "… 2,000 characters are left out here; line 1 of samples.jsonl has them all …"
    assert text(browser, ".thought").startswith("a" * 1_000 + "…")
    assert text(browser, ".thought").endswith("…" + "b" * 1_000)


def test_an_evaluation_without_samples_still_has_its_tables(browser: Chromium, tmp_path: Path) -> None:
    tiny_evaluation.write_files(tmp_path, tiny_evaluation.report(), [], [])
    visit(browser, write_evaluation_page(tmp_path), "#q=x")
    assert text(browser, "#status") == "0 of 0 samples"


def test_replies_whose_tokens_nobody_counted_are_measured_in_characters(browser: Chromium, tmp_path: Path) -> None:
    rows = list(tiny_evaluation.problems(2))
    sampled = [{**row, **dict.fromkeys(viewer.NUMBERS, 0)} for row in tiny_evaluation.samples(rows, 2)]
    tiny_evaluation.write_files(tmp_path, tiny_evaluation.report(), rows, sampled)
    lengths = sorted(len(row["thought"]) + len(row["answer"]) for row in sampled)
    least = lengths[5]
    visit(browser, write_evaluation_page(tmp_path), f"#min={least}&sort=shortest")
    assert texts(browser, ".row .tokens") == [f"{length:,} characters" for length in lengths if length >= least]
    assert "tokens of the replynot counted" in text(browser, "#detail")


def write_answers(folder: Path, *answers: str) -> Path:
    problems = list(tiny_evaluation.problems(1, ["aime_2025"]))
    rows = list(tiny_evaluation.samples(problems, len(answers)))
    rows = [{**row, "answer": answer} for row, answer in zip(rows, answers, strict=True)]
    tiny_evaluation.write_files(folder, tiny_evaluation.report(["aime_2025"]), problems, rows)
    return write_evaluation_page(folder)


def test_formulas_of_an_answer_are_drawn_beside_their_source(browser: Chromium, tmp_path: Path) -> None:
    answer = r"Half \(\frac{1}{2}\), \[x^2\] $$y$$ $z$, `$c$`: \boxed{\frac{3}{4}} for $5 and $10."
    page = write_answers(tmp_path, answer)
    assert page.stat().st_size < 300_000
    visit(browser, page)
    assert browser.evaluate("document.querySelectorAll('.formulas math').length") == 5
    assert browser.evaluate("document.querySelectorAll('.formulas mfrac').length") == 2
    assert ", `$c$`:" in text(browser, ".formulas")
    assert text(browser, ".formulas").endswith("for $5 and $10.")
    assert browser.evaluate("document.querySelector('.formulas [title]').title") == r"\frac{1}{2}"
    assert text(browser, ".source .answer") == answer
    assert not browser.evaluate("document.querySelector('details.source').open")
    visit(browser, page, f"#q={quote(chr(92) + 'frac{1}')}")
    assert num_shown(browser) == 1
    assert texts(browser, ".answer mark") == [r"\frac{1}"]
    assert browser.evaluate("document.querySelector('details.source').open")


def test_a_page_without_mathematics_has_no_converter(tmp_path: Path) -> None:
    assert b'data-kind="formulas">' not in write_answers(tmp_path, "It costs $5.").read_bytes()


@pytest.mark.parametrize(
    "answer",
    [
        r"\(\frac{1}{" + "{" * 50 + r"\)",
        r"\(" + "x" * 100_000 + r"\)",
        r"\(a\)" + "$" * 100_000,
        r"\(\text{<script>document.title='pwned'</script><img src=x onerror=alert(1)>}\)",
        r"\(\href{javascript:alert(1)}{x} \class{a}{b}\) $\style{color:red}{x}$",
        "$" + r"\sqrt{" * 500 + "x" + "}" * 500 + "$",
        r"\(" * 30_000,
        r"\(\def\a{\a\a}\a\)",
    ],
    ids=["unclosed", "long", "dollars", "script", "link", "deep", "openings", "macro"],
)
def test_hostile_formulas_stay_text_and_are_quick(browser: Chromium, tmp_path: Path, answer: str) -> None:
    page = write_answers(tmp_path, answer)
    browser.send("Runtime.enable")
    browser.send("Log.enable")
    browser.events.clear()
    visit(browser, page)
    assert " ".join(texts(browser, ".answer")[-1].split()) == answer
    assert browser.evaluate("document.querySelectorAll('script:not([data-kind])').length") == 1
    assert browser.evaluate("document.querySelectorAll('.detail :is(img, script, [onerror], .formulas a)').length") == 0
    assert browser.evaluate("document.title") != "pwned"
    assert int(data(browser, "opened") or 10**6) < 10_000
    assert not [
        e
        for e in browser.events
        if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    ]
