"""An evaluation's page tells what its files say, holds every sample, and survives files that are odd or broken."""

import base64
import functools
import hashlib
import json
import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest

import tiny_evaluation
from open_exaone.base.errors import DataError
from open_exaone.evaluation.published import benchmark_name
from open_exaone.evaluation.report import Report
from open_exaone.present import evaluation, evaluation_plots, evaluation_tables, viewer
from open_exaone.present.evaluation import write_evaluation_page
from open_exaone.tasks.benchmarks.registry import BENCHMARKS

Row = dict[str, Any]


def page_of(folder: Path) -> str:
    return write_evaluation_page(folder).read_text(encoding="utf-8")


def unpacked(html: str, kind: str) -> list[Any]:
    """Every chunk of a kind, as the viewer's script unpacks it."""
    found = re.findall(rf'<script type="application/octet-stream" data-kind="{kind}">([^<]*)</script>', html)
    return [json.loads(zlib.decompress(base64.b64decode(text, validate=True), wbits=31)) for text in found]


def lines_of(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_the_page_holds_every_sample_and_each_question_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "CHUNK_CHARS", 3_000)
    html = page_of(tiny_evaluation.write(tmp_path))
    (index,) = unpacked(html, "index")
    chunks = {kind: unpacked(html, kind) for kind in ("questions", "answers", "thoughts")}
    for kind, parts in chunks.items():
        starts = [sum(map(len, parts[:number])) for number in range(len(parts))]
        assert index["starts"][kind] == starts
        assert len(parts) > 1 or kind == "questions"
    questions, answers, thoughts = ([text for part in parts for text in part] for parts in chunks.values())
    assert len(questions) == 3 * 4  # three of the five tasks ask one benchmark, under three budgets
    rows = lines_of(tmp_path / "samples.jsonl")
    assert len(rows) == len(answers) == len(thoughts) == len(index["problem"])
    for i, row in enumerate(rows):
        task, key, language, place = index["problems"][index["problem"][i]]
        assert (index["tasks"][task], key, index["index"][i]) == (row["task"], row["problem"], row["index"])
        assert language == ("ko" if row["task"].startswith("csat") else "en")
        assert row["thought"].startswith(questions[place][0]) and thoughts[i] == row["thought"]
        told = [row["answer"], row["extracted"], row["why"], [], len(row["thought"]), row["finished"], i + 1]
        assert answers[i] == told
        assert index["verdicts"][index["verdict"][i]] == row["verdict"]
        assert index["stops"][index["stop"][i]] == row["stop"]
        numbers = [index[column][i] for column in ("prompt", "tokens", "thought")]
        assert numbers == [row[name] for name in viewer.NUMBERS]


def test_the_page_stands_alone_and_lets_nothing_else_run(tmp_path: Path) -> None:
    html = page_of(tiny_evaluation.write(tmp_path))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    assert policy[1].startswith("default-src 'none';")
    assert "unsafe" not in policy[1]
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy[1]
    assert not re.search(r"<(link|iframe|img|object|embed|base)\b|\bsrc=|@import|url\(", html)
    assert [value for value in re.findall(r'href="([^"]*)"', html) if not value.startswith("#")] == []


def test_the_pages_beside_it_are_linked_where_there_are_some(tmp_path: Path) -> None:
    folder = tiny_evaluation.write(tmp_path / "run" / "01-sft" / "eval")
    (folder / "against.html").write_text("")
    (tmp_path / "run" / "report.html").write_text("")
    assert re.findall('href="([^#"]*)"', page_of(folder)) == ["against.html"]  # that folder is no run's
    (tmp_path / "run" / "recipe.toml").write_text("")
    assert re.findall('href="([^#"]*)"', page_of(folder)) == ["against.html", "../../report.html"]


def test_every_number_of_the_report_is_in_the_tables(tmp_path: Path) -> None:
    html = page_of(tiny_evaluation.write(tmp_path))
    told = tiny_evaluation.report()
    for row in evaluation_tables.results(told["tasks"])[1]:
        assert all(f">{cell}<" in html for cell in row)
    assert evaluation_tables.results(told["tasks"])[1][2] == [
        *("csat_2025_math", "reasoning", "8", "30", "34.0%", "27.9–40.3", "62.5", "44.0%", "54.0%"),
        *("1,834", "210.9", "4.7%", "3.1%", "1.2%", "0.0%", "490.8k", "1.3e+15"),
    ]
    for text in ("local", "0.1.0+3f2a9c01b7de", "2026-03-04 05:06", "1 h 10 min", "exaone-deep"):
        assert text in html
    assert '<b dir="auto">math_500</b>: content not pinned' in html
    chosen = "not published by LG, chosen here: presence penalty."
    assert f'<b dir="auto">csat_2025_math, aime_2025@4096</b>: {chosen}' in html
    assert "62.5" in html  # the examination's points
    assert "geometry" in html


def test_a_benchmark_that_was_cut_says_so_and_not_that_its_rows_are_unknown() -> None:
    entry = tiny_evaluation.report()["tasks"][3]
    cut = "so it compares with no published number of the whole set"
    assert evaluation_tables.notes([entry]) == [
        ("aime_2025@1024", f"measured on 30 of its problems only, {cut}."),
    ]
    assert evaluation_tables.notes([{**entry, "benchmark": "test"}]) == [
        ("aime_2025@1024", "measured on 30 of its problems only."),
    ]


def test_what_we_chose_is_told_once_and_only_of_what_lg_measured() -> None:
    made = {"benchmark": "needle", "not_published": ["seed", "k"], "is_pinned": True}
    told = [{"name": name, **made, "benchmark": name} for name in ("needle", "mmlu", "test", "ksm", "capitals")]
    assert evaluation_tables.notes(told) == [("mmlu, ksm", "not published by LG, chosen here: k, seed.")]
    assert {name for name in BENCHMARKS if benchmark_name(name)} == evaluation_tables.MEASURED_BY_LG


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("nano-exaone-deep/rl", "nano-exaone-deep/rl"),
        ("LGAI-EXAONE/EXAONE-Deep-2.4B", "LGAI-EXAONE/EXAONE-Deep-2.4B"),
        ("/home/me/runs/04-rl/nano", "nano"),
        ("/nano", "nano"),
        ("./runs/nano/", "nano"),
        ("model", "model"),
    ],
)
def test_the_title_is_the_models_name_and_the_suite(tmp_path: Path, model: str, name: str) -> None:
    told = tiny_evaluation.report()
    told["model"]["model"] = model
    tiny_evaluation.write_files(tmp_path, told, tiny_evaluation.problems(1), [])
    html = page_of(tmp_path)
    assert f"<title>{name}: exaone-deep</title>" in html
    assert f'<h1 dir="auto">{name}</h1>' in html


def test_what_to_know_of_a_measurement_stands_before_its_results(tmp_path: Path) -> None:
    html = page_of(tiny_evaluation.write(tmp_path))
    before = html[: html.index('id="results"')]
    assert all(f">{note}</li>" in before for note in tiny_evaluation.NOTES)
    assert html.count(tiny_evaluation.NOTES[0]) == 1  # and not as a list among the model's fields
    told = tiny_evaluation.report()
    told["model"]["notes"] = []
    (tmp_path / "report.json").write_text(json.dumps(told), encoding="utf-8")
    assert '<aside class="told"' not in page_of(tmp_path)


def test_problems_under_several_budgets_are_counted_once(tmp_path: Path) -> None:
    html = page_of(tiny_evaluation.write(tmp_path, num_problems=4))
    assert "5 tasks, 12 problems, 60 samples" in html  # one benchmark without a budget and under two


def test_a_published_number_beside_a_part_of_the_problems_lies_neither_within_nor_outside(tmp_path: Path) -> None:
    told = tiny_evaluation.report()
    told["tasks"][0]["published"] = [{**row, "within": None} for row in told["tasks"][0]["published"]]
    tiny_evaluation.write_files(tmp_path, told, tiny_evaluation.problems(1), [])
    html = page_of(tmp_path)
    assert 'class="yes"' not in html and 'class="no"' not in html
    assert html.count('<td>–</td>\n          <td class="source">') == len(told["tasks"][0]["published"])


def test_a_run_stands_beside_what_is_published(tmp_path: Path) -> None:
    html = page_of(tiny_evaluation.write(tmp_path))
    section = html[html.index('id="published"') : html.index("Accuracy against thinking budget")]
    cells = [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", section)][7:]
    rows = [cells[place : place + 6] for place in range(0, len(cells), 7)]
    assert rows == [
        ["EXAONE Deep 2.4B", "pass@1", "47.9%", "+4.1", "-5.9 to +14.1", "yes"],
        ["DeepSeek-R1-Distill-Qwen-1.5B", "pass@1", "23.9%", "+28.1", "–", "no"],
        ["OpenAI o1-mini", "pass@1", "54.8%", "-2.8", "-12.8 to +7.2", "yes"],
        ["EXAONE Deep 2.4B", "cons@64", "60.0%", "+2.0", "-8.0 to +12.0", "yes"],
    ]
    assert "this run 52.0% (45.9–58.3). Beside it: EXAONE Deep 2.4B 47.9%; DeepSeek" in section
    assert "this run 62.0% (52.0–72.0). Beside it: EXAONE Deep 2.4B 60.0%" in section  # consensus beside consensus


def test_an_examinations_points_stand_beside_published_points() -> None:
    told = tiny_evaluation.report()["tasks"]
    (figure,) = evaluation.beside({**told[2], "published": told[0]["published"][:1]})
    assert "points beside published: this run 62.5% (55.0–70.0). Beside it: EXAONE Deep 2.4B 47.9%" in figure.svg


def test_other_graders_verdicts_stand_beside_ours() -> None:
    told = tiny_evaluation.report()["tasks"]
    table = evaluation_tables.graders(told)
    assert table and table[1] == [["csat_2025_math", "34.0%", "33.0%", "98.7%", "3", "1"]]
    assert evaluation_tables.graders(told[:2]) is None


def test_the_reports_that_these_tests_draw_are_the_ones_that_are_written() -> None:
    told = tiny_evaluation.report()
    assert Report.model_validate_json(json.dumps(told)).model_dump(mode="json") == told


def test_plots_tell_scores_budgets_and_lengths(tmp_path: Path) -> None:
    html = page_of(tiny_evaluation.write(tmp_path))
    assert "pass@1: aime_2025 52.0% (45.9–58.3); math_500 43.0%" in html
    assert "by thinking budget in tokens: 1K 21.0%; 4K 38.0%; 16K 47.0%; no limit 52.0%" in html
    rows = [row for row in lines_of(tmp_path / "samples.jsonl") if row["task"] == "math_500"]
    right = sorted(row["num_thought_tokens"] for row in rows if row["verdict"] == "correct")
    told = f"math_500: thought tokens of samples: {len(right)} correct (median {right[len(right) // 2]}), "
    assert re.sub(r" \(median", " (median", told).split(" correct")[0] in html


def test_a_point_is_drawn_where_its_value_is() -> None:
    svg = evaluation_plots.budgets(
        "x", [evaluation_plots.Budget(b, v, v, v) for b, v in ((1024, 0.2), (4096, 0.6), (2048, 0.4))]
    )
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert dots[1][0] - dots[0][0] == pytest.approx(dots[2][0] - dots[1][0], abs=0.2)  # doublings are even steps
    assert dots[0][1] - dots[1][1] == pytest.approx(dots[1][1] - dots[2][1], abs=0.2)
    heights = re.findall(r'outline (?:right|wrong)" d="M([^"]*)"', evaluation_plots.lengths("x", [1, 1, 1, 31], [5]))
    assert [len(set(re.findall(r" ([\d.]+)", path))) for path in heights] == [3, 2]  # 0, 1 and 3 samples; 0 and 1


def mangled(value: Any) -> list[Any]:
    """Reports that lack one field each, or hold something odd in its place."""
    found = []
    for odd in (None, "x", [], {}, -1, [1, "x"], [None]):
        for name in value:
            found.append({**value, name: odd})
    return found + [{key: part for key, part in value.items() if key != name} for name in value]


def test_a_report_that_lacks_a_field_or_holds_an_odd_one_is_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "template", functools.cache(evaluation.template))  # compiled once, not 600 times
    tiny_evaluation.write(tmp_path, num_problems=1, k=1)
    with open(tmp_path / "out", "wb") as out:
        packed = viewer.pack(tmp_path, out)
    told = tiny_evaluation.report()
    entry = {**told["tasks"][2], "published": told["tasks"][0]["published"]}
    entries = [odd for odd in mangled(entry) if isinstance(odd.get("name"), str)]
    whole = [odd for odd in mangled(told) if isinstance(odd.get("tasks"), list) and isinstance(odd["tasks"][:1], list)]
    whole = [odd for odd in whole if odd["tasks"] and all(isinstance(task, dict) for task in odd["tasks"])]
    for parts in ("tokens", "rates", "cost", "csat"):
        entries += [{**entry, parts: odd} for odd in mangled(entry[parts])]
    entries += [{**entry, "published": [odd]} for odd in mangled(entry["published"][0])]
    whole_cell = {
        "kind": "single",
        "length": 512,
        "depth": 0.5,
        "num_problems": 4,
        "pass_at_1": 0.5,
        "ci95": [0.1, 0.9],
    }
    entries += [{**entry, "per_cell": [whole_cell, odd]} for odd in mangled(whole_cell)]
    curves = [{**told["curve"][0], "points": [odd]} for odd in mangled(told["curve"][0]["points"][0])]
    for report in [*whole, *({**told, "tasks": [odd]} for odd in entries), *({**told, "curve": [c]} for c in curves)]:
        (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
        assert "</html>" in evaluation.render(evaluation.read_evaluation(tmp_path), packed)


def test_a_report_with_the_least_is_enough(tmp_path: Path) -> None:
    tiny_evaluation.write(tmp_path, num_problems=1, k=1)
    (tmp_path / "report.json").write_text('{"tasks": [{"name": "aime_2025"}]}', encoding="utf-8")
    assert "aime_2025" in page_of(tmp_path)


SAMPLE = next(tiny_evaluation.samples(tiny_evaluation.problems(1), 1))
BROKEN: dict[str, tuple[str, str, str]] = {
    "no report": ("report.json", "", "report.json: no such file"),
    "report cut": ("report.json", "{", "report.json: not valid JSON"),
    "no tasks": ("report.json", '{"tasks": []}', "report.json: tasks: holds no measured task"),
    "a list": ("report.json", "[1]", "report.json: tasks: holds no measured task"),
    "no name": ("report.json", '{"tasks": [{"name": "a"}, {}]}', "report.json: tasks: entry 2"),
    "no problems": ("problems.jsonl", "", "problems.jsonl: no such file"),
    "problem cut": ("problems.jsonl", '{"task', "problems.jsonl: line 1: not valid JSON"),
    "problem without gold": (
        "problems.jsonl",
        '{"task": "a", "id": "b", "question": "c"}',
        "problems.jsonl: line 1: field 'answer' must be a text",
    ),
    "problem twice": (
        "problems.jsonl",
        '{"task": "a", "id": "b", "question": "c", "answer": "d"}\n' * 2,
        "problems.jsonl: line 2: field 'id': 'b' stands twice",
    ),
    "no samples": ("samples.jsonl", "", "samples.jsonl: no such file"),
    "sample cut": ("samples.jsonl", f"{json.dumps(SAMPLE)}\n{{", "samples.jsonl: line 2: not valid JSON"),
    "no sample": ("samples.jsonl", "[]", "samples.jsonl: line 1: must be an object"),
    "other's sample": (
        "samples.jsonl",
        json.dumps({**SAMPLE, "problem": "z" * 1000}),
        "samples.jsonl: line 1: its problem, 'z{79}…' of task 'aime_2025', is not in problems.jsonl",
    ),
    **{
        f"{name} {value!r:.20}": (
            "samples.jsonl",
            f"\n{json.dumps({**SAMPLE, name: value})}",
            f"samples.jsonl: line 2: field '{name}' must be",
        )
        for name, value in (
            ("answer", None),
            ("verdict", 3),
            ("thought", []),
            ("index", -1),
            ("index", True),
            ("num_tokens", 2**40),
            ("num_tokens", "7"),
            ("tool_calls", ["a", 1]),
        )
    },
}


@pytest.mark.parametrize(("name", "content", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named_with_its_line_and_the_old_page_stays(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    write_evaluation_page(tiny_evaluation.write(tmp_path, num_problems=1, k=1)).write_text("old", encoding="utf-8")
    (tmp_path / name).unlink() if not content else (tmp_path / name).write_text(content, encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=message):
        write_evaluation_page(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "old"
    assert sorted(tmp_path.iterdir()) == before


def test_fields_that_other_writers_leave_out_have_defaults(tmp_path: Path) -> None:
    row = {name: SAMPLE[name] for name in ("task", "problem", "index", "answer", "verdict")}
    tiny_evaluation.write_files(tmp_path, tiny_evaluation.report(), tiny_evaluation.problems(1), [row])
    html = page_of(tmp_path)
    assert unpacked(html, "answers") == [[[row["answer"], None, "", [], 0, True, 1]]]
    assert "Thought tokens" not in html


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    assert page_of(tiny_evaluation.write(tmp_path)) == page_of(tmp_path)


def test_half_a_surrogate_pair_can_be_packed(tmp_path: Path) -> None:
    row = {**SAMPLE, "answer": "a\ud800b"}
    tiny_evaluation.write_files(tmp_path, tiny_evaluation.report(), tiny_evaluation.problems(1), [row])
    assert unpacked_answer(page_of(tmp_path)) == "a\ufffd\ufffd\ufffdb"


def unpacked_answer(html: str) -> str:
    (text,) = re.findall(r'data-kind="answers">([^<]*)<', html)
    packed = zlib.decompress(base64.b64decode(text), wbits=31)
    answer: str = json.loads(packed.decode("utf-8", "replace"))[0][0]
    return answer


def test_thoughts_share_the_room_where_all_are_too_many(tmp_path: Path) -> None:
    rows = list(tiny_evaluation.problems(1, ["aime_2025"]))
    sampled = list(tiny_evaluation.samples(rows, 4))
    for row, letters in zip(sampled, (10, 2_000, 100_001, 100_000), strict=True):
        row["thought"] = "x" * letters
    tiny_evaluation.write_files(tmp_path, tiny_evaluation.report(["aime_2025"]), rows, sampled)
    for limit, kept in ((10**6, None), (40_000, 10_000), (100, viewer.MIN_THOUGHT_CHARS)):
        with open(tmp_path / "out", "w+b") as out:
            assert viewer.pack(tmp_path, out, limit).thoughts_cut_at == kept
            out.seek(0)
            (thoughts,) = unpacked(out.read().decode(), "thoughts")
        if kept:
            assert thoughts[:2] == ["x" * 10, "x" * 2_000]
            assert [len(cut["head"] + cut["tail"]) for cut in thoughts[2:]] == [kept, kept]
            assert [cut["left_out"] for cut in thoughts[2:]] == [100_001 - kept, 100_000 - kept]
        else:
            assert thoughts == [row["thought"] for row in sampled]


def test_a_page_is_written_without_its_texts_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "read_evaluation", lambda _: tiny_evaluation.report())  # reserves 100 MB, unused
    rows = list(tiny_evaluation.problems(1, ["aime_2025"]))
    sampled = tiny_evaluation.samples(rows, 100)
    text = hashlib.shake_256(b"").hexdigest(75_000)
    tiny_evaluation.write_files(
        tmp_path, tiny_evaluation.report(), rows, ({**row, "thought": f"{row['index']} {text}"} for row in sampled)
    )
    page_of(tmp_path)  # what is loaded once is loaded
    tracemalloc.start()
    try:
        page = write_evaluation_page(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert page.stat().st_size > 10e6
    assert peak < 6e6
