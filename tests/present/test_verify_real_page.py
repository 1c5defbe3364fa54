"""verify-real.md and .html: every figure of the report is told, and nothing in it can steer the page."""

import copy
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from open_exaone.base.errors import DataError
from open_exaone.present.verify_real import terminal_lines, write_pages

TEXT = {
    **{"num_tokens": 90, "max": 0.00012, "mean": 3.4e-05, "other_best": 2, "other_best_margin": 1e-5},
    **{"greedy_same": 41, "greedy_parts": True, "greedy_margin": 2e-5},
}
PAIR = {"max": 0.00012, "mean": 3.4e-05, "same_best": 0.98, "texts": {"korean": TEXT, "long": {**TEXT, "max": None}}}
ROW = {"difference": -0.013, "within": True, "table": "t", "source": "github.com/x", "tag": "P"}
PUBLISHED = {"model": "EXAONE Deep 2.4B", "percent": 92.3}
HELD_OUT = {
    **{"value": 0.4, "low": 0.3, "high": 0.5, "mean_gap": 0.011, "max_gap": 0.71, "mean_reply_tokens": 512.0},
    **{"truncated_share": 0.25, "error_share": 0.0},
}
STEPS = [{"step": n, "reward_mean": n / 10, "loss": None if n == 1 else 0.1 * n, "entropy": 0.5} for n in (1, 2, 3)]
REPORT = {
    "schema_version": 1,
    "passed": False,
    "model": {"name": "LGAI-EXAONE/EXAONE-Deep-2.4B", "sha256": "ab" * 32, "num_parameters": 2_405_327_360}
    | {"shape": {}, "licence": "EXAONE AI Model License Agreement 1.1 - NC: research only"},
    "machine": {"device": "cuda", "gpu": "NVIDIA H100 80GB", "gpu_memory_bytes": 85_000_000_000, "processor": "x86_64"},
    "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
    "settings": {"num_problems": None, "num_samples": 8, "num_rl_steps": 50},
    "started": "2026-01-02T03:04:05+00:00",
    "seconds": 4000.0,
    "parts": {
        "logits": {
            **{"status": "failed", "why": "did not pass: greedy", "seconds": 61.0, "peak_memory_bytes": 12_300_000_000},
            "checks": [
                {"name": "float32: greedy text", "passed": False, "detail": "1 of 2 texts part."},
                {"name": "bfloat16", "passed": None, "detail": "Not compared: the weights do not fit in bfloat16."},
            ],
            "figures": {"texts": {"korean": 91, "long": 5120}, "num_scored": 512, "window": 4096, "float32": PAIR}
            | {"bfloat16_costs": PAIR},
        },
        "math_500": {
            **{"status": "passed", "why": "", "seconds": 3000.0, "peak_memory_bytes": 70_000_000_000},
            "checks": [{"name": "the published number", "passed": True, "detail": "91.0 % beside 92.3 %, within."}],
            "figures": {"num_problems": 500, "k": 8, "pass_at_1": 0.91, "ci95": [0.89, 0.93], "published": PUBLISHED}
            | {"beside": [{**ROW, "model": f"Other {n}", "percent": 91.0} for n in range(9)] + [{**ROW, **PUBLISHED}]},
        },
        "rl": {
            **{"status": "passed", "why": "", "seconds": 900.0, "peak_memory_bytes": 70_000_000_000},
            "checks": [{"name": "losses", "passed": True, "detail": "2 of 3 steps had something to learn."}],
            "figures": {"before": HELD_OUT, "after": HELD_OUT, "num_held_out": 64, "num_steps": 3, "dtype": "bfloat16"}
            | {"change": {"value": 0.02, "low": -0.04, "high": 0.08, "p_value": 0.5}, "problems": "reasoning-gym"}
            | {"batch_prompts": 8, "group_size": 8, "max_new_tokens": 1024, "learning_rate": 1e-6, "steps": STEPS},
        },
    },
}


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def pages(tmp_path, report=REPORT):
    (tmp_path / "verify-real.json").write_text(json.dumps(report), encoding="utf-8")
    return [path.read_text(encoding="utf-8") for path in write_pages(tmp_path)]


def test_both_pages_tell_every_figure(tmp_path):
    markdown, html = pages(tmp_path)
    for text in (markdown, " ".join(Page(html).text)):
        for told in (
            *("EXAONE-Deep-2.4B", "not everything passed", "NVIDIA H100 80GB", "ab" * 32, "5.23.0", "12.3 GB"),
            *("✗", "✓", "float32: greedy text", "0.00012", "not finite", "88 of 90", "41, then other", "4,096 tokens"),
            *("91.0%", "89.0–93.0", "EXAONE Deep 2.4B", "92.3%", "-1.3", "github.com/x [P]"),
            *("40.0%", "0.011", "0.71", "+2.0 points (-4.0 to +8.0)", "64 problems", "1e-06", "need not rise"),
            *("Licence of the model: EXAONE AI Model License Agreement 1.1", "independent of LG AI Research"),
        ):
            assert told in text, told
        assert "Other 4" in text and "Other 5" not in text  # the nearest, after the model's own
    assert html.count("<svg") == 3 and "mean reward" in html  # of two points or more


def test_the_terminal_tells_checks_the_nearest_numbers_and_both_pages():
    report = copy.deepcopy(REPORT)
    report["parts"]["logits"]["checks"][0]["detail"] = "evil\x1b[31m\nline"
    lines = terminal_lines(report, Path("out"))
    assert lines[0] == "Logits beside transformers: failed: did not pass: greedy"
    assert lines[1:3] == [
        "  ✗ float32: greedy text: evil\ufffd[31m line",
        "  – bfloat16: Not compared: the weights do not fit in bfloat16.",
    ]
    assert "    published of EXAONE Deep 2.4B: 92.3%, ours -1.3 points" in lines
    assert sum("published of" in line for line in lines) == 6
    assert lines[-1] == "The report, to share: out/verify-real.md; as a page: out/verify-real.html"


def test_a_published_number_beside_a_part_of_the_problems_lies_neither_within_nor_outside(tmp_path):
    report = copy.deepcopy(REPORT)
    report["parts"]["math_500"]["figures"]["beside"] = [{**ROW, **PUBLISHED, "within": None}]
    markdown, _ = pages(tmp_path, report)
    assert "| EXAONE Deep 2.4B | 92.3% | -1.3 | – |" in markdown


def test_parts_that_were_not_done_say_why(tmp_path):
    report = copy.deepcopy(REPORT)
    nothing = {"checks": [], "figures": {}, "seconds": 0.0, "peak_memory_bytes": 0}
    report["parts"]["logits"] = {**nothing, "status": "error", "why": 'no transformers: pip install "transformers"'}
    report["parts"]["rl"] = {**nothing, "status": "skipped", "why": "left out with --rl-steps 0"}
    markdown, html = pages(tmp_path, report)
    assert 'Could not be done: no transformers: pip install "transformers".' in markdown
    assert "Left out: left out with --rl-steps 0." in "".join(Page(html).text)


def test_no_text_of_the_report_becomes_a_tag_or_a_cell(tmp_path):
    report = copy.deepcopy(REPORT)
    evil = "<script>alert(1)</script> | cell \u202e\x1b[31m"
    report["model"]["name"] = report["parts"]["logits"]["checks"][0]["detail"] = evil
    report["parts"]["logits"]["figures"]["texts"][evil] = 3
    report["parts"]["logits"]["figures"]["float32"]["texts"][evil] = TEXT
    markdown, html = pages(tmp_path, report)
    assert "script" not in {tag for tag, _ in Page(html).tags}
    assert "<script" not in markdown and "\x1b" not in markdown + html and "\u202e" not in markdown + html
    rows = [line for line in markdown.splitlines() if line.startswith("|") and "cell" in line]
    plain = [line.replace("\\|", "") for line in rows]
    assert rows and all(line.count("|") == plain[0].count("|") for line in plain if "float32" in line)


def test_the_page_stands_alone(tmp_path):
    _, html = pages(tmp_path)
    assert not any({"src", "href"} & attributes.keys() for _, attributes in Page(html).tags)
    assert "default-src 'none'" in html


@pytest.mark.parametrize("text", ["{}", "[]", "no json"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "verify-real.json").write_text(text)
    with pytest.raises(DataError, match=r"verify-real\.json"):
        write_pages(tmp_path)
