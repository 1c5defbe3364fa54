"""The page stands alone, tells what report.json says, and no model text can act in it."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from open_exaone.base.errors import DataError
from open_exaone.present import curves, stages
from open_exaone.present import report as page_of
from open_exaone.present.formulas import drawing, packed

OURS = (str(packed()), f"<script>{drawing(['$x$']).script}</script>")  # what draws the formulas
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would see: the tags, their attributes, the visible text; fails on tags that do not pair."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def html(run_folder: Path) -> str:
    return page_of.write_report(run_folder).read_text(encoding="utf-8")


def test_hostile_text_is_shown_and_never_acts(html: str, report: dict[str, Any]) -> None:
    page = Page(html)
    assert page.tags["script"] == len(OURS) and page.tags["img"] == 0 and all(part in html for part in OURS)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert '<script>alert("x")</script><img src=x onerror=alert(1)>' in page.text  # as text, unabridged
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", html)
    assert len(report["showcase"]) == page.tags["article"]


def test_the_page_loads_nothing_from_outside(html: str) -> None:
    page = Page(html)
    assert not page.tags.keys() & {"link", "iframe", "object", "embed", "use", "image"}
    assert not [value for name, value in page.attributes if name in {"src", "href", "srcset", "action", "data"}]
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_the_other_pages_of_the_run_are_linked_where_there_are_some(run_folder: Path, report: dict[str, Any]) -> None:
    (run_folder / "04-rl" / "eval").mkdir()
    for name in ("card.html", "04-rl/eval/report.html", "04-rl/eval/against.html"):
        (run_folder / name).write_text("")
    page = Page(page_of.write_report(run_folder).read_text(encoding="utf-8"))
    found = ["card.html", "04-rl/eval/report.html", "04-rl/eval/against.html"]
    assert [value for name, value in page.attributes if name == "href"] == found
    assert "every sample of rl" in page.text and "questions gained and lost by rl" in page.text
    report["stages"][0]["folder"] = "../run/04-rl"
    assert [place for place, _ in page_of.links(run_folder, report)] == found


def test_every_number_of_every_stage_is_on_the_page(html: str, report: dict[str, Any]) -> None:
    text = Page(html).text
    for row in stages.closing_rows(report)[1]:
        assert all(cell in text for cell in row)
    for entry in report["stages"]:
        for part in [*entry["per_task"].values(), *entry["per_language"].values()]:
            assert f"{100 * part['pass_at_1']:.1f}%" in text
    for item in report["showcase"][:2]:
        assert all(reply["answer"] in text and reply["thought"].strip() in text for reply in item["replies"])
    assert "18.3%→63.1%" in text
    assert report["config_hash"] in text
    assert "2.13.0" in text


def test_long_thoughts_are_folded_and_plots_are_described_in_words(html: str, report: dict[str, Any]) -> None:
    page = Page(html)
    thoughts = [r for item in report["showcase"] for r in item["replies"] if r["thought"].strip()]
    assert html.count("<summary>thought") == len(thoughts)
    assert html.count("<details open>") == sum(len(reply["thought"]) < 400 for reply in thoughts) > 0
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert "pass@1 by stage" in labels[0]
    assert "prefer 54.4% (51.7–57.1)" in labels[0]
    assert page.tags["svg"] == 1 + 3 * 5 + 6  # climb; four known series and one other in three stages; RL's six


def test_the_same_run_gives_the_same_bytes(run_folder: Path, html: str) -> None:
    assert page_of.write_report(run_folder).read_text(encoding="utf-8") == html


def test_a_bare_report_without_metrics_is_enough(tmp_path: Path) -> None:
    stages = [{"name": "sft", "pass_at_1": 0.5, "num_problems": 3}]
    (tmp_path / "report.json").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    text = Page(page_of.write_report(tmp_path).read_text(encoding="utf-8")).text
    assert "50.0%pass@1 after sft, on\n      3 problems." in re.sub(r"\n\s*\n?(?=pass)", "", text)


def test_half_a_surrogate_pair_can_be_written(run_folder: Path, report: dict[str, Any]) -> None:
    report["showcase"][0]["replies"][0]["answer"] = "\ud800"
    (run_folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    page_of.write_report(run_folder)


def test_a_cut_metrics_line_and_odd_values_are_left_out(tmp_path: Path) -> None:
    rows = '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": 1.0, "note": "x", "ok": true}\n{"st'
    (tmp_path / "01-base").mkdir()
    (tmp_path / "01-base" / "metrics.jsonl").write_text(rows, encoding="utf-8")
    series = curves.numeric_series(page_of.stage_metrics(tmp_path)("01-base"))
    assert series == {"loss": ([1, 3], [2.0, 1.0])}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("[]", "has no stage"),
        ('{"stages": []}', "has no stage"),
        ('{"stages": [{"pass_at_1": 1}]}', "a stage has no name"),
        ("{", "not valid JSON"),
    ],
)
def test_a_report_that_cannot_be_told_says_why(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "report.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        page_of.write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_each_benchmark_of_a_suite_has_its_rows_plot_and_heatmap(report: dict[str, Any]) -> None:
    plain = Page(page_of.render(report, lambda folder: []))
    for entry in report["stages"]:
        fields = {name: entry[name] for name in ("pass_at_1", "per_task", "num_problems", "k")}
        entry["tasks"] = [{**fields, "measured_on": "test"}, {**fields, "measured_on": "hard", "pass_at_1": 0.0125}]
    assert {name: [e["pass_at_1"] for e in entries] for name, entries in stages.by_benchmark(report).items()} == {
        "test": [0.183, 0.512, 0.544, 0.631],
        "hard": [0.0125] * 4,
    }
    titles, rows = stages.closing_rows(report)
    assert [row[:2] for row in rows[:3]] == [["base", "test"], ["base", "hard"], ["sft", "test"]]
    assert titles[1] == "benchmark" and [row[titles.index("pass@1")] for row in rows[:2]] == ["18.3%", "1.2%"]
    page = Page(page_of.render(report, lambda folder: []))
    assert page.tags["svg"] == plain.tags["svg"] + 1 == 2
    assert "By family of problems: hard" in page.text and "18.3%→63.1%" in page.text


@pytest.mark.parametrize("num_stages", [1, 2])
def test_a_run_without_an_evaluation_has_its_curves_and_what_was_trained(trained_folder: Path, num_stages: int) -> None:
    report = json.loads((trained_folder / "report.json").read_text(encoding="utf-8"))
    report["stages"] = report["stages"][:num_stages]
    (trained_folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    html = page_of.write_report(trained_folder).read_text(encoding="utf-8")
    page = Page(html)
    assert "pass@1" not in page.text and "arrow" not in html.split("</style>")[1]
    assert ("1 stage, 10 steps" if num_stages == 1 else "2 stages, 14 steps") in page.text
    captions = ["loss", "gradient norm", "tokens per second", "mean reward", "entropy (nats per token)"]
    assert re.findall("<figcaption>(.*?)</figcaption>", html) == captions[: 3 if num_stages == 1 else 5]
    titles, rows = stages.training_rows(report)
    only_rl = set() if num_stages == 1 else {"sampling", "retries"}
    assert set(titles) == {"stage", "kind", "steps", "tokens", "time", "memory", "skipped steps"} | only_rl
    assert rows[0][2:5] == ["10", "1.2M", "1 min 15 s"]
    assert all(cell in page.text for row in rows for cell in row)
    assert stages.closing_rows(report) == (titles, rows)


def test_data_that_reuses_other_data_is_named_where_prompts_are_counted(report: dict[str, Any]) -> None:
    page = page_of.render({**report, "shared_prompts": [], "reuses": {"<b>again": "first"}}, lambda folder: [])
    assert "Data &lt;b&gt;again reuses first on purpose: what these two share is not counted." in page


def test_a_stage_without_an_evaluation_stands_between_measured_ones(report: dict[str, Any]) -> None:
    del report["stages"][1]["pass_at_1"]
    assert [entry["name"] for entry in stages.by_benchmark(report)["test"]] == ["base", "prefer", "rl"]
    assert [row[2] for row in stages.closing_rows(report)[1]] == ["18.3%", "–", "54.4%", "63.1%"]
    assert "18.3%→63.1%" in Page(page_of.render(report, lambda folder: [])).text


def test_an_rl_stage_has_sample_rollouts_folded_and_their_text_never_acts(run_folder: Path) -> None:
    hostile = json.loads((run_folder / "report.json").read_text(encoding="utf-8"))["showcase"][2]["problem"]["task"]
    before = Page(page_of.write_report(run_folder).read_text(encoding="utf-8"))
    names = ("problem", "task", "language", "question", "gold", "thought", "answer", "why", "mode", "verdict")
    wrong = {**dict.fromkeys(names, hostile), "reward": -0.5, "terms": {hostile: 0.0, "format": {"missing": hostile}}}
    right = {**wrong, "thought": "Short.", "verdict": "correct", "reward": 1.0, "terms": {"correct": 1.0}}
    (run_folder / "04-rl" / "rollouts").mkdir()
    text = json.dumps(right) + "\n" + json.dumps(wrong) + "\n"
    (run_folder / "04-rl" / "rollouts" / "step-000007.jsonl").write_text(text, encoding="utf-8")
    html = page_of.write_report(run_folder).read_text(encoding="utf-8")
    page = Page(html)
    assert (
        page.tags["script"] == len(OURS) and page.tags["img"] == 0 and not re.search("[\x00-\x08\x0b-\x1f\u202e]", html)
    )
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    shown = page.text.partition("sample rollouts of step 7")[2]
    assert all(text in shown for text in ("Short.", "✓ correct", "reward 1", "reward -0.5", "format missing: <script>"))
    assert shown.count("<img src=x onerror=alert(1)>") > len(names)
    assert page.tags["article"] == before.tags["article"] + 1
    assert page.tags["details"] == before.tags["details"] + 3  # the samples, and the thought of each
    assert page.attributes.count(("open", "")) == before.attributes.count(("open", ""))  # thoughts are folded
