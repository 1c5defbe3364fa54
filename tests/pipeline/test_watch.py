"""What `exaone watch` finds in a run's folder, at every moment of the run."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from made_up_run import make_run
from open_exaone.base.errors import ConfigError, OpenExaoneError
from open_exaone.base.files import is_held, locked
from open_exaone.base.log import logger
from open_exaone.base.tail import Tail
from open_exaone.pipeline.run_log import RunLog
from open_exaone.pipeline.watch import MAX_LINES, MAX_ROWS, Metrics, Watcher
from open_exaone.present.watch import MAX_PAGE_BYTES, State, page


def metrics_row(step: int, num_steps: int, **more: Any) -> dict[str, Any]:
    left = {"seconds": 2.0 * step, "seconds_left": 2.0 * (num_steps - step), "tokens_per_second": 100.0}
    return {"step": step, "num_steps": num_steps, **left, "peak_memory_bytes": 5_000_000, "loss": 1 / step, **more}


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def states(run: Path) -> list[str]:
    seen = Watcher(run).look()
    return [seen.state, *(stage.state for stage in seen.stages)]


@pytest.mark.parametrize("number", [1, 2, 159, 160, 161, 321, 322, 5000])
def test_rows_for_the_curves_are_few_keep_the_mean_and_end_with_the_newest(tmp_path: Path, number: int) -> None:
    rows = [metrics_row(step, number, only_every_third=float(step)) for step in range(1, number + 1)]
    for row in rows:
        if row["step"] % 3:
            del row["only_every_third"]
    write_metrics(tmp_path, rows)
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.look()
    kept = metrics.rows()
    assert len(kept) <= MAX_ROWS + 2
    steps = [row["step"] for row in kept]
    assert steps == sorted(steps) and steps[-1] == pytest.approx(number, abs=number / MAX_ROWS)
    gaps = [after - before for before, after in pairwise(steps)]
    assert max(gaps, default=0) <= 4 * max(1, number / MAX_ROWS)  # older steps are not thinned more than newer ones
    assert metrics.newest["step"] == number
    if number <= MAX_ROWS:
        assert kept == rows
    assert all(
        row["only_every_third"] == pytest.approx(row["step"], abs=64) for row in kept if "only_every_third" in row
    )


def test_a_run_at_every_moment(tmp_path: Path) -> None:
    run = tmp_path / "run"
    watcher = Watcher(run)
    assert watcher.look().state == State.WAITING
    make_run(run, stages=1)
    with locked(run / ".lock", "busy"):
        seen = watcher.look()
        assert [seen.state, *(stage.state for stage in seen.stages)] == ["running", "done", "preparing"]
        assert seen.at_hand == 1
        (run / "02-rl" / "samples").mkdir(parents=True)
        assert states(run) == ["running", "done", "sampling"]
        write_metrics(run / "02-rl", [metrics_row(step, 3) for step in (1, 2)])
        with open(run / "02-rl" / "metrics.jsonl", "a") as file:
            file.write('{"step": 3, "num_st')  # the run writes it at this moment
        seen = watcher.look()
        assert seen.stages[1].state == "training" and seen.stages[1].share == pytest.approx(2 / 3)
        assert [row["step"] for row in seen.rows] == [1, 2]
        assert watcher.look(1).shown == 0 and watcher.look(7).shown == 1
    seen = watcher.look()
    assert seen.state == State.STOPPED and seen.stages[1].state == "training"
    assert seen.stages[0].scores[0]["pass_at_1"] == 0.4173
    (run / "02-rl" / "model").mkdir()
    assert states(run) == ["not running", "done", "measuring"]
    make_run(tmp_path / "whole")
    assert states(tmp_path / "whole") == ["done", "done", "done"]


def test_broken_files_of_a_run_are_reported_and_raise_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for name in ("outcome.json", "eval/report.json"):
        (run / "02-rl" / name).write_text("{")
    (run / "log.jsonl").write_text('{"plan": [{"stage": 3}, 4]}\n{"progress": {"stage": 1}}\n{"text": "a"}\n')
    watcher = Watcher(run)
    assert b"</html>" in page(watcher.look())
    assert [line.text for line in watcher.look().lines] == ["a"]
    (run / "recipe.toml").write_text("name = 3")
    assert watcher.look().state == State.UNREADABLE
    assert b"recipe.toml" in page(watcher.look())
    (run / "recipe.toml").unlink()
    assert watcher.look().state == State.WAITING
    (tmp_path / "outside.html").write_text("secret")
    (run / "report.html").symlink_to(tmp_path / "outside.html")
    assert list(watcher.pages()) == ["/report.html", "/card.html", "/card.ko.html"]
    assert watcher.read(watcher.pages()["/report.html"]) is None


def log_lines(run: Path, *levels: str) -> None:
    (run / "log.jsonl").write_text("".join(json.dumps({"level": one, "text": f"an {one}"}) + "\n" for one in levels))


def test_a_run_that_failed_is_told_from_one_that_was_stopped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=1)
    write_metrics(run / "02-rl", [{**metrics_row(step, 3), "seconds_left": 60.0} for step in (1, 2)])
    log_lines(run, "warning", "error")
    seen = Watcher(run).look()
    text = page(seen).decode()
    assert seen.state == State.FAILED and "ended with an error" in text and "training, not running" in text
    assert "time left" not in text
    with locked(run / ".lock", "busy"):  # it is resumed
        seen = Watcher(run).look()
        assert seen.state == State.RUNNING and "time left" in page(seen).decode()
    log_lines(run, "error", "warning")  # it was interrupted later on
    assert Watcher(run).look().state == State.STOPPED
    make_run(tmp_path / "whole")
    log_lines(tmp_path / "whole", "error")
    assert Watcher(tmp_path / "whole").look().state == State.DONE


def test_the_pages_that_a_report_links_to_are_its_stages_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    pages = Watcher(run).pages()
    names = [f"/{stage}/eval/{name}.html" for stage in ("01-sft", "02-rl") for name in ("report", "against")]
    assert list(pages) == ["/report.html", "/card.html", "/card.ko.html", *names]
    (run / "02-rl" / "eval" / "against.html").write_text("flips")
    assert Watcher(run).read(pages["/02-rl/eval/against.html"]) == b"flips"
    assert Watcher(run).read(pages["/01-sft/eval/against.html"]) is None


def test_a_log_whose_last_line_was_cut_loses_no_later_line(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"level": "info", "te')
    with RunLog(tmp_path, frozenset(), lambda event: None) as on_event:
        on_event({"message": "resumed"})
    lines = list[dict[str, Any]]()
    Tail(tmp_path / "log.jsonl").read(lines.append, lines.clear)
    assert [row["text"] for row in lines] == ["resumed"]


def test_a_folder_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "one", stages=1)
    with pytest.raises(ConfigError, match="holds several runs; watch one of them: one"):
        Watcher(tmp_path / "runs")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        Watcher(tmp_path / "file")
    with pytest.raises(ConfigError, match="is no run's folder"):
        Watcher(tmp_path)
    (tmp_path / "runs" / "seeds.html").write_text("")
    with pytest.raises(ConfigError, match="watch one of them: one; its page is .*seeds.html"):
        Watcher(tmp_path / "runs")
    (tmp_path / "eval").mkdir()
    for name in ("evaluation.json", "report.html"):
        (tmp_path / "eval" / name).write_text("{}")
    with pytest.raises(ConfigError, match="holds an evaluation and no run: .*its page is .*eval/report.html"):
        Watcher(tmp_path / "eval")
    (tmp_path / "empty").mkdir()
    assert Watcher(tmp_path / "empty").look().state == State.WAITING


def test_a_held_lock_is_seen_and_not_touched(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    assert not is_held(lock)
    code = (
        "import sys, pathlib; from open_exaone.base.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 'busy'): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert is_held(lock)
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert not is_held(lock)  # though its id still stands there
    lock.write_text(str(os.getpid()))
    assert not is_held(lock)


def fail_in(log: RunLog, clock: list[float]) -> None:
    """A run that logs, measures for 40 seconds, and fails."""
    with log as on_event:
        on_event({"message": "preparing"})
        on_event({"message": "note: one step was skipped"})
        on_event({"plan": [{"stage": "sft", "num_steps": 4, "cost": 1.0}]})
        logger.warning("the disk is %s", "slow")
        on_event({"stage": "sft", "step": 1, "num_steps": 4, "loss": 1.0})  # metrics.jsonl has it
        for step in range(1, 41):
            clock[0] += 1.0
            on_event({"stage": "sft: measure", "step": step, "num_steps": 40, "tokens_per_second": 9.0})
        raise OpenExaoneError("the disk is full")


def test_the_log_has_messages_warnings_the_plan_and_why_a_run_ended(tmp_path: Path) -> None:
    clock, events = [0.0], list[dict[str, Any]]()
    log = RunLog(tmp_path, frozenset({"sft"}), events.append, lambda: clock[0])
    with pytest.raises(OpenExaoneError):
        fail_in(log, clock)
    logger.warning("of another run")
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    said = [(row["level"], row["text"]) for row in rows if "text" in row]
    assert said == [
        ("info", "preparing"),
        ("warning", "one step was skipped"),
        ("warning", "the disk is slow"),
        ("error", "the disk is full"),
    ]
    steps = [row["progress"]["step"] for row in rows if "progress" in row]
    assert steps[0] == 1 and steps[-1] == 40 and len(steps) < 12
    assert len(events) == 44


def test_a_log_that_cannot_be_written_stops_no_run(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    events = list[dict[str, Any]]()
    with RunLog(tmp_path, frozenset(), events.append) as on_event:
        on_event({"message": "a"})
        on_event({"message": "b"})
    assert [event["message"] for event in events] == ["a", "b"]


def test_the_page_is_small_however_long_and_hostile_the_run_is(tmp_path: Path) -> None:
    run, hostile = make_run(tmp_path / "run"), '<script>alert("\u202e")</script>&"\'' * 2000
    series = {f"reward_term{number}": 0.5 for number in range(60)}
    rows = [metrics_row(n, 3_000, **{name: 1 / (n + k) for k, name in enumerate(series)}) for n in range(1, 3_001)]
    write_metrics(run / "02-rl", rows)
    texts = dict.fromkeys(("question", "task", "language", "thought", "answer", "gold", "why"), hostile)
    sample = {**texts, "terms": {}, "reward": 1.0}
    (run / "02-rl" / "rollouts").mkdir()
    (run / "02-rl" / "rollouts" / "step-000001.jsonl").write_text(
        "".join(
            json.dumps({**sample, "problem": problem, "verdict": verdict}) + "\n"
            for problem in "ab"
            for verdict in ("correct", "wrong")
        )
    )
    (run / "log.jsonl").write_text(json.dumps({"level": hostile, "text": hostile, "time": hostile}) + "\n")
    with open(run / "log.jsonl", "a") as file:
        file.write((json.dumps({"level": "warning", "text": hostile}) + "\n") * (MAX_LINES + 5))
    seen = Watcher(run).look()
    text = page(seen)
    assert len(text) <= MAX_PAGE_BYTES
    assert text.count(b"<script>") == 1 and b"alert(" in text and b'<script>alert("' not in text
    assert "\u202e".encode() not in text
    assert len(seen.lines) == MAX_LINES
