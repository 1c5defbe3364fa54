"""Which plots a stage's metrics give: series that belong together share one, and what says nothing is folded away."""

import re
from typing import Any

from open_exaone.present import curves, plots

REASONS = ("set_aside_equal_rewards", "masked_groups", "set_aside_all_correct", "set_aside_all_wrong")


def drawn(**series: list[Any]) -> tuple[dict[str, curves.Plot], dict[str, curves.Plot]]:
    rows = [dict(zip(series, values, strict=True)) for values in zip(*series.values(), strict=True)]
    known, others = curves.stage_plots([{"step": step, **row} for step, row in enumerate(rows, start=1)])
    return {plot.title: plot for plot in known}, {plot.title: plot for plot in others}


def points(svg: str, style: str) -> list[tuple[float, float]]:
    [path] = re.findall(rf'<path class="{style}" d="M(.*?)"/>', svg)
    return [(float(x), float(y)) for x, y in (point.split() for point in path.split("L"))]


def test_the_commonest_answer_stands_beside_what_it_scores_and_thoughts_of_both_kinds_together() -> None:
    known, others = drawn(
        commonest_answer_share=[0.1, 0.5, 0.9],
        constant_score=[0.3, 0.3, 0.3],
        mean_thought_tokens_correct=[5, 6, 7],
        mean_thought_tokens_wrong=[9, None, 7],
        chosen_probability=[0.5, 0.6, 0.7],
        rejected_probability=[0.5, 0.4, 0.3],
    )
    assert not others
    titles = ["a family's commonest answer", "probability of a token (geometric mean)", "thought length (tokens)"]
    assert list(known) == titles
    plot = known["a family's commonest answer"]
    assert plot.legend == [(1, "share of the samples"), (2, "what it would score alone")]
    assert "share of the samples from 0.1 to 0.9; what it would score alone from 0.3 to 0.3 by step 3" in plot.svg
    share, score = (points(plot.svg, f"line of-{colour}") for colour in (1, 2))
    assert share[0][1] > score[0][1] == score[2][1] > share[2][1]  # downwards is more
    assert len(points(known["thought length (tokens)"].svg, "line of-2")) == 2


def test_groups_set_aside_are_stacked_by_reason_and_add_up() -> None:
    known, _ = drawn(**dict(zip(REASONS, ([0, 0], [4, 0], [1, 2], [3, 6]), strict=True)))
    plot = known["groups set aside"]
    assert plot.legend == [(2, "masked"), (3, "all correct"), (4, "all wrong")]  # none had equal rewards alone
    tops = {colour: points(plot.svg, f"area of-{colour}") for colour in (2, 3, 4)}
    ground, left, right, _ = zip(*tops.values(), strict=True)
    heights = [[ground[0][1] - y for _, y in side] for side in (left, right)]
    unit = heights[0][0] / 4
    assert [[round(height / unit, 2) for height in side] for side in heights] == [[4, 5, 8], [0, 2, 8]]
    assert plot.svg.index("of-4") < plot.svg.index("of-3") < plot.svg.index("of-2")  # the lower one is drawn over it


def test_a_reason_that_some_steps_lack_is_not_stacked_on_the_others() -> None:
    known, _ = drawn(**dict(zip(REASONS, ([1, 1, 1], [4, None, 0], [1, 2, 3], [0, 0, 0]), strict=True)))
    assert known["groups set aside"].legend == [(1, "equal rewards"), (3, "all correct")]


def test_what_says_nothing_is_folded_away() -> None:
    series = {"clip_share": [0.0, 0.0], "ratio_mean": [1.0, 1.0], "retries": [0, 1], "max_ratio": [1.0, 1.5]}
    known, others = drawn(**series, **{name: [0, 0] for name in REASONS}, truncated_share=[0, 0])
    assert set(known) == {"retries", "probability ratio to the policy that sampled, largest", "truncated share"}
    assert set(others) == {"clip share", "ratio mean", *(name.replace("_", " ") for name in REASONS)}


def test_the_numbers_behind_the_plots_are_the_series_at_some_steps_and_at_both_ends() -> None:
    rows = [{"step": step, "loss": step / 2, "chosen_probability": 0.5, "odd": 1.0} for step in range(1, 1_001)]
    titles, table = curves.numbers([*rows, {"step": 1_001, "loss": 7.0}])
    assert titles == ["step", "loss", "probability of a token (geometric mean): chosen"]
    assert len(table) == curves.MAX_NUMBERS and table[0] == ["1", "0.5", "0.5"] and table[-1] == ["1,001", "7", "–"]
    assert curves.numbers([]) == (["step"], [])


def test_a_flat_share_of_nothing_has_no_negative_axis() -> None:
    known, _ = drawn(truncated_share=[0, 0])
    assert "-0.5" not in known["truncated share"].svg and ">0.5<" in known["truncated share"].svg


def test_each_family_has_its_plot_folded_away() -> None:
    names = ("commonest_answer_share/<b>_x/y", "constant_score/<b>_x/y", "pass_rate/<b>_x/y", "odd", "pass_rate")
    values = ([0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [1, 2], [0.1, 0.9])
    known, others = drawn(**dict(zip(names, values, strict=True)))
    assert list(known) == ["pass rate"] and list(others) == ["odd", "<b> x/y"]
    plot = others["<b> x/y"]
    assert plot.legend == list(enumerate(curves.FAMILY.values(), start=1)) and "<b>" not in plot.svg
    assert "pass rate from 0.5 to 0.6 by step 2" in plot.svg


def test_curves_of_other_steps_share_an_axis() -> None:
    lines = [plots.Line("a", 1, [1, 2, 3], [0, 1, 2]), plots.Line("b", 2, [3, 5], [2, 2])]
    svg = plots.curves("t", lines)
    assert points(svg, "line of-1")[-1][0] == points(svg, "line of-2")[0][0]
    assert "step 5" in svg
