"""against.html: two evaluations' flipped questions side by side."""

import re
from pathlib import Path

import pytest

from open_exaone.base.files import write_json, write_jsonl
from open_exaone.base.records import Generation, Problem, Reply, Sample, Sampling, StopReason, Verdict, VerdictStatus
from open_exaone.evaluation.compare import RunDifference, compare_runs, run_rows
from open_exaone.evaluation.rows import problem_rows, sample_row, task_row
from open_exaone.evaluation.task import Task
from open_exaone.present.against import MAX_BYTES, render, write_against_page

HOSTILE = '</div></details><script>alert("x")</script><img src=x onerror=alert(1)>\x1b[31m\u202e'
STATUS = {True: VerdictStatus.CORRECT, False: VerdictStatus.WRONG}


def write_run(folder: Path, verdicts: list[list[bool]], text: str = "So.", name: str = "sums") -> Path:
    """An evaluation of one question a row, one sample a verdict."""
    question = text if text != "So." else "Q"
    problems = tuple(Problem(f"q{n}", "f", "en", f"{question} {n}?", "1", "math") for n in range(len(verdicts)))
    task = Task(name, name, problems, Sampling(64, num_samples=len(verdicts[0])), True)
    samples = [
        Sample(
            f"{n}/{i}",
            name,
            f"q{n}",
            i,
            Generation(Reply(f"thought {folder.name} {n} {i} {text}", text), StopReason.END, 1, 1, 0),
            Verdict(STATUS[correct], "1", text),
        )
        for n, row in enumerate(verdicts)
        for i, correct in enumerate(row)
    ]
    folder.mkdir()
    write_json(folder / "evaluation.json", {"tasks": [task_row(task)]})
    write_jsonl(folder / "problems.jsonl", problem_rows([task]))
    write_jsonl(folder / "samples.jsonl", map(sample_row, samples))
    return folder


def page_of(ours: Path, theirs: Path) -> tuple[str, list[RunDifference]]:
    found = compare_runs(ours, theirs)
    path = write_against_page(ours, theirs, run_rows(found), [flip for one in found for flip in one.flips])
    assert path == ours / "against.html" and path.stat().st_size <= MAX_BYTES
    return path.read_text(encoding="utf-8"), found


def counts(page: str) -> list[int]:
    return [int(n.replace(",", "")) for n in re.findall(r">([\d,]+) (?:gained|lost)<", page)]


def test_the_counts_agree_with_the_paired_difference(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", [[n % 3 != 0] for n in range(30)])
    theirs = write_run(tmp_path / "theirs", [[n % 2 == 0] for n in range(30)])
    page, (found,) = page_of(ours, theirs)
    gained, lost = counts(page)
    assert (gained, lost) == (10, 5)
    assert (gained - lost) / found.difference.num_questions == pytest.approx(found.difference.value)
    assert all(f">{cell}<" in page for cell in run_rows([found])[1])
    assert page.count("<article>") == 15 and "left out" not in page


def test_of_several_samples_the_first_of_each_that_differs_is_shown(tmp_path: Path) -> None:
    rows = [[False, True, True], [True, False, False], [True, False, False]]
    ours = write_run(tmp_path / "ours", rows)
    theirs = write_run(tmp_path / "theirs", [[True, False, False], [True, True, False], [False, True, False]])
    page, _ = page_of(ours, theirs)
    assert counts(page) == [1, 1]
    shown = re.findall(r"thought (ours|theirs) (\d) (\d)", page)
    assert shown == [("ours", "0", "1"), ("theirs", "0", "1"), ("ours", "1", "1"), ("theirs", "1", "0")]
    assert "2 of 3" in page and page.count("<details>") == 4


def test_the_pages_of_two_evaluations_are_linked_where_there_are_some(tmp_path: Path) -> None:
    ours, theirs = (write_run(tmp_path / name, [[name == "ours"]]) for name in ("ours", "the other"))
    assert re.findall('href="([^"]*)"', page_of(ours, theirs)[0]) == []
    for folder in (ours, theirs):
        (folder / "report.html").write_text("")
    assert re.findall('href="([^"]*)"', page_of(ours, theirs)[0]) == ["report.html", "../the%20other/report.html"]


def test_hostile_text_is_inert(tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", [[True], [False]], HOSTILE, HOSTILE)
    page, _ = page_of(ours, write_run(tmp_path / "theirs", [[False], [True]], HOSTILE, HOSTILE))
    assert counts(page) == [1, 1] and "&lt;script&gt;" in page
    assert "<script" not in page and "<img" not in page and not set("\x1b\u202e") & set(page)
    assert page.count("<details>") == page.count("</details>") == 4


@pytest.mark.parametrize("text", ["x" * 100_000, "'" * 100_000, "한" * 100_000, "'"])
def test_the_page_stays_small_and_counts_what_it_leaves_out(text: str, tmp_path: Path) -> None:
    ours = write_run(tmp_path / "ours", [[n % 4 == 0] for n in range(400 if text == "'" else 12)], text)
    theirs = write_run(tmp_path / "theirs", [[n % 4 != 0] for n in range(400 if text == "'" else 12)], text)
    page, (found,) = page_of(ours, theirs)
    left_out = sum(int(n) for n in re.findall(r"shown, (\d+) questions? left out", page))
    shown = page.count("<article>")
    assert 2 <= shown and shown + left_out == sum(counts(page)) == len(found.flips)
    assert left_out > 0 or len(found.flips) == 12
    assert text == "'" or "characters are left out here." in page


def test_many_tasks_with_long_names_leave_room_for_questions(tmp_path: Path) -> None:
    name = "'" * 5_000
    ours = write_run(tmp_path / "ours", [[True], [False]], name)
    (found,) = compare_runs(ours, write_run(tmp_path / "theirs", [[False], [True]], name))
    rows = [run_rows([found])[0], *[(name, name, "1", "1", "1", "1", "1", "1")] * 500]
    page = render(Path(name), Path(name), rows, found.flips)
    assert len(page.encode()) <= MAX_BYTES and page.count("<article>") >= 1
    assert "460 more tasks left out of this table" in page
