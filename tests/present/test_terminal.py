"""The terminal: aligned tables, progress on a terminal and in a pipe, replies that cannot steer it."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.cells import cell_len
from rich.table import Table

import tiny_evaluation
from open_exaone.base.printable import printable
from open_exaone.base.terminal import Console
from open_exaone.present import terminal
from open_exaone.present.stages import closing_rows


def console(*, is_terminal: bool = False, width: int = 160) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=width, color_system=None, legacy_windows=False)


def printed(target: Console) -> str:
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue()


class Clock:
    """Seconds that pass only when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_closing_table_lines_up_and_holds_each_stage(report: dict[str, Any]) -> None:
    report["stages"][0]["name"] = "바탕"  # two cells a sign
    lines = terminal.closing_table(report).splitlines()
    assert len(lines) == 2 + len(report["stages"])
    assert len({cell_len(line) for line in lines}) == 1
    assert lines[-1].split()[:5] == ["rl", "reasoning", "63.1%", "60.5–65.7", "64.0%"]


def test_the_rich_table_tells_the_same(report: dict[str, Any]) -> None:
    target = console()
    target.print(terminal.closing_table_rich(report))
    for line in terminal.closing_table(report).splitlines()[2:]:
        assert all(cell in printed(target) for cell in line.split("  ") if cell)


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_rich_table_drops_columns_and_never_cuts_a_number(report: dict[str, Any], width: int) -> None:
    target, table = console(is_terminal=True, width=width), terminal.closing_table_rich(report, width)
    target.print(table)
    lines = printed(target).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    titles, rows = closing_rows(report)
    kept = [titles.index(str(column.header)) for column in table.columns]
    for line, row in zip(lines[-len(rows) :], rows, strict=True):
        assert " ".join(line.split()) == " ".join(row[index] for index in kept)
    assert {"stage", "pass@1", "95% interval"} <= {titles[index] for index in kept}
    assert (len(kept) == len(titles)) == (width == 120)


def changed(stage: str, start: str, measured_on: str, *modes: str) -> dict[str, Any]:
    return {
        **{"stage": stage, "start": start, "measured_on": measured_on, "mode": list(modes)},
        **{"value": -0.0165, "low": -0.1327, "high": 0.1001, "p_value": 0.5},
        **{"mean_thought_tokens": [148.62, 0.04], "language_mismatch_share": [0.1285, 0.048]},
    }


def test_what_stages_changed_is_whole_on_80_cells_with_its_modes(report: dict[str, Any]) -> None:
    both = ("reasoning", "reasoning")
    report["stages"] = [dict(report["stages"][0], name=name) for name in ("base", "sft", "prefer_aligned")]
    report["changes"] = [
        changed("sft", "base", "test", "non_reasoning", "reasoning"),
        changed("prefer_aligned", "sft", "test", *both),
        changed("sft", "m", "test", *both),
        changed("prefer_aligned", "sft", "harder", *both),
        changed("prefer_aligned", "sft", "unseen", *both),
    ]
    target = console(is_terminal=True, width=80)
    for part in terminal.change_tables(report, 80):
        target.print(part)
    lines = [line.rstrip() for line in printed(target).splitlines()]
    assert all(cell_len(line) <= 80 for line in lines)
    assert [line for line in lines if "changed" in line] == [
        "What each stage changed: test, non-reasoning → reasoning mode",
        "What each stage changed: test, reasoning mode",
    ]
    assert lines[-2:] == ["The report has these tables for harder, unseen too.", ""]
    rows = [" ".join(line.split()) for line in lines if "→" in line and "changed" not in line]
    figures = "−1.7 −13.3 to +10.0 148.6 → 0.0 12.8% → 4.8%"
    names = ["sft", "prefer_aligned", "sft (from m)"]
    assert rows == [f"{name} {figures}" for name in names]
    titles = "stage change of pass@1 95% interval thought tokens wrong language"
    assert [" ".join(line.split()) for line in lines].count(titles) == 2


def test_what_stages_changed_loses_columns_on_narrower_screens_alone(report: dict[str, Any]) -> None:
    report["changes"] = [changed("prefer_aligned", "model", "test", "reasoning", "reasoning")]
    for width, lost in ((82, set()), (68, {"wrong language"}), (52, {"wrong language", "thought tokens"})):
        _, table = terminal.change_tables(report, width)
        assert isinstance(table, Table)
        kept = {str(column.header) for column in table.columns}
        assert {"stage", "change of pass@1", "95% interval", "thought tokens", "wrong language"} - kept == lost
        target = console(is_terminal=True, width=width)
        target.print(table)
        assert "…" not in printed(target) and all(cell_len(line) <= width for line in printed(target).splitlines())


def kept_of_measured(width: int, **rates: float) -> list[str]:
    """The headings that stay where every task has these rates."""
    told = tiny_evaluation.report(["aime_2025", "aime_2024", "hmmt_feb_2025"])
    for entry in told["tasks"]:
        entry["rates"] = {name: {"value": rates.get(name, 0.0)} for name in entry["rates"]}
    table = terminal.measured_table(told, width)
    target = console(is_terminal=True, width=width)
    target.print(table)
    assert all(cell_len(line) <= width for line in printed(target).splitlines())
    assert "…" not in printed(target)
    return [str(column.header) for column in table.columns]


FAULTS = {"truncated": "truncated", "no_answer": "no answer", "language_mismatch": "other language"}
FAULTS["error"] = "not judged"


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize(("rate", "title"), FAULTS.items())
def test_a_fault_that_there_is_stays_however_narrow_the_terminal(width: int, rate: str, title: str) -> None:
    kept = kept_of_measured(width, **{rate: 0.1})
    assert {title, "task", "pass@1", "95% interval", "problems"} <= set(kept)
    assert not set(kept) & (set(FAULTS.values()) - {title}) or width == 100


def test_of_faults_that_there_are_all_stay_and_none_that_there_is_not() -> None:
    assert kept_of_measured(80, **dict.fromkeys(FAULTS, 0.1))[-4:] == list(FAULTS.values())
    assert not set(kept_of_measured(80)) & set(FAULTS.values())
    assert {"problems", "cons@k", "pass@k"} <= set(kept_of_measured(80))
    assert {"FLOPs", *FAULTS.values()} <= set(kept_of_measured(160))  # there is room for all


def test_the_closing_table_at_80_columns_keeps_what_tells_most(report: dict[str, Any]) -> None:
    kept = [str(column.header) for column in terminal.closing_table_rich(report, 80).columns]
    assert kept == ["stage", "pass@1", "95% interval", "cons@4", "pass@4", "thought tokens", "truncated", "train time"]


def test_in_a_pipe_progress_is_a_line_now_and_then_with_the_last_step_always() -> None:
    target, clock = console(), Clock()
    with terminal.Progress(target, plain_every_s=10, clock=clock) as progress:
        for step in range(1, 101):
            clock.now = step - 1.0
            progress({"stage": "sft", "step": step, "num_steps": 100, "loss": 5 / step, "tokens_per_second": 12_345.0})
    lines = printed(target).splitlines()
    assert [line.split()[1] for line in lines] == [f"{step}/100" for step in [*range(1, 101, 10), 100]]
    assert "loss 0.455  12.3k tok/s  about 1 min 29 s left" in lines[1]
    assert lines[-1].endswith("done in 1 min 39 s")
    assert "\x1b" not in printed(target)


def test_time_left_counts_only_the_steps_done_since_a_stage_was_resumed() -> None:
    target, clock = console(), Clock()
    progress = terminal.Progress(target, plain_every_s=0, clock=clock)
    progress({"stage": "rl", "resumed_at": 500, "num_steps": 600})
    for step in (500, 502, 510):
        progress.update("rl", step, 600)
        clock.now += 10.0
    resumed, first, second, third = printed(target).splitlines()
    assert resumed == "rl: continuing at step 500 of 600"
    assert first.endswith("estimating …") and second.endswith("estimating …")
    assert third.endswith("about 3 min 00 s left")


def test_no_time_left_is_shown_while_training_reports_none() -> None:
    target = console()
    progress = terminal.Progress(target, plain_every_s=0)
    for left in (None, None, 200.0):
        progress({"stage": "sft", "step": 3, "num_steps": 400, "seconds_left": left})
    ends = ["estimating …", "estimating …", "about 3 min 20 s left"]
    assert [line.split("  ")[-1] for line in printed(target).splitlines()] == ends


def test_a_plan_gives_each_stage_its_place_and_the_whole_run_an_estimate() -> None:
    target = console()
    progress = terminal.Progress(target, plain_every_s=0)
    stages = [("sft", 100, 1.0), ("rl", 10, 50.0), ("prefer", 100, 1.0)]
    progress({"plan": [{"stage": name, "num_steps": steps, "cost": cost} for name, steps, cost in stages]})
    progress({"stage": "sft", "step": 1, "num_steps": 100, "seconds_left": None})
    progress({"stage": "sft", "step": 50, "num_steps": 100, "seconds_left": 50.0})  # a second a step
    progress({"stage": "rl", "step": 5, "num_steps": 10, "seconds_left": 300.0})  # slower than sft suggested
    progress({"stage": "prefer", "step": 50, "num_steps": 100, "seconds_left": 60.0})
    progress({"stage": "unplanned", "step": 1, "num_steps": 2, "seconds_left": 1.0})
    assert printed(target).splitlines() == [
        "sft: stage 1 of 3",
        "sft          1/100  estimating …",
        "sft         50/100  10 min 50 s left in all  about 50 s left",
        "rl: stage 2 of 3",
        "rl          5/10  7 min 00 s left in all  about 5 min 00 s left",
        "prefer: stage 3 of 3",
        "prefer      50/100  about 1 min 00 s left",
        "unplanned  1/2  about 1.0 s left",
    ]


def test_a_stage_first_heard_of_at_its_end_tells_no_time_and_no_speed() -> None:
    target = console()
    with terminal.Progress(target, clock=Clock()) as progress:
        progress({"stage": "measure", "step": 8, "num_steps": 8, "tokens_per_second": 0.0})
        progress({"stage": "again", "step": 8, "num_steps": 8, "seconds": 75.0, "tokens_per_second": 10.0})
    assert [line.split(maxsplit=1)[1] for line in printed(target).splitlines()] == [
        "8/8  done",
        "8/8  10 tok/s  done in 1 min 15 s",
    ]


def test_each_stage_starts_a_clock_of_its_own() -> None:
    target, clock = console(), Clock()
    with terminal.Progress(target, plain_every_s=1000, clock=clock) as progress:
        for stage in ("base", "sft"):
            for step in (0, 1, 2):
                progress.update(stage, step, 2)
                clock.now += 5
    assert [line.split("  ")[0].split()[0] for line in printed(target).splitlines()] == ["base", "base", "sft", "sft"]
    assert printed(target).count("done in 10 s") == 2


def test_on_a_terminal_one_line_moves_and_the_finished_stage_stays() -> None:
    target, clock = console(is_terminal=True, width=80), Clock()
    with terminal.Progress(target, clock=clock) as progress:
        for step in range(1, 6):
            clock.now += 1
            progress.update("base", step, 5, loss=1.0, reward_mean=None, learning_rate=0.1)
        progress({"message": "measured [bold]\x1b[31m"})
    shown = printed(target)
    assert shown.count("\n") <= 3
    assert "━" in shown
    assert "5/5  loss 1.000  done in 4.0 s" in shown
    assert "learning" not in shown
    assert "measured [bold]�[31m" in shown


TRAINED = {"loss": 1.234, "tokens_per_second": 9876.0, "mfu": 0.412, "peak_memory_bytes": 1_900_000_000}


def test_a_training_step_tells_mfu_memory_skipped_steps_and_the_time_left_that_it_was_given() -> None:
    target = console()
    terminal.Progress(target).update(
        "sft", 3, 400, **TRAINED, skipped_steps=2, seconds_left=200.0, flops_per_second=1e9
    )
    assert printed(target).split(maxsplit=1)[1] == (
        "3/400  loss 1.234  9,876 tok/s  MFU 41.2%  1.9 GB  skipped 2  about 3 min 20 s left\n"
    )


@pytest.mark.parametrize(
    ("width", "gone"),
    [(120, ()), (104, ("GB",)), (92, ("GB", "MFU")), (80, ("GB", "MFU", "tok/s")), (60, ("GB", "MFU", "tok/s", "━"))],
)
def test_on_a_narrow_terminal_the_time_left_is_never_cut_off(width: int, gone: tuple[str, ...]) -> None:
    target = console(is_terminal=True, width=width)
    with terminal.Progress(target) as progress:
        progress.update("sft", 300, 400, **TRAINED, seconds_left=200.0)
    shown = printed(target)
    assert "about 3 min 20 s left" in shown and "loss 1.234" in shown
    assert [part for part in ("GB", "MFU", "tok/s", "━") if part not in shown] == list(gone)


def test_progress_takes_events_that_are_not_steps() -> None:
    target = console()
    with terminal.Progress(target) as progress:
        progress({"stage": "sft", "note": 1})
        progress({"message": "saved"})
        progress({"stage": "sft", "step": 0, "num_steps": 0, "loss": float("nan"), "tokens_per_second": float("inf")})
    assert printed(target).splitlines()[0] == "saved"
    assert "0/0  loss nan  inf tok/s" in printed(target)


@pytest.fixture
def replies(report: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    return ((item["problem"], item["replies"]) for item in report["showcase"])


def test_replies_are_shown_whole_and_steer_nothing(replies: Iterator[tuple[dict[str, Any], list[Any]]]) -> None:
    for problem, told in replies:
        target = console(width=2000)
        terminal.show_replies(problem, told, target)
        shown = printed(target)
        assert "\x1b" not in shown
        assert printable(problem["question"]) in shown
        for reply in told:
            assert printable(reply["answer"]) in shown
            assert printable(reply["thought"]).strip() in shown
            assert reply["verdict"] in shown


def test_the_thought_is_dimmed_and_the_answer_is_not(report: dict[str, Any]) -> None:
    target = Console(file=io.StringIO(), force_terminal=True, width=200, color_system="standard")
    terminal.show_replies(report["showcase"][0]["problem"], report["showcase"][0]["replies"][3:], target)
    assert "\x1b[2m17 + 45 = 62." in printed(target)
    assert "\n17 + 45 - 8 is \\boxed{54}." in printed(target)


def test_a_bar_is_as_long_as_the_share() -> None:
    assert [terminal.bar(share, 4) for share in (-1, 0, 0.5, 1, 2)] == ["╌╌╌╌", "╌╌╌╌", "━━╌╌", "━━━━", "━━━━"]
