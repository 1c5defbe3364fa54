"""The figures of docs/story.md, from the folders of a run of nano/exaone-deep, of its controls and of its seeds.

    python benchmarks/story_plots.py runs/nano-exaone-deep --controls runs/controls --seeds runs/seeds

Writes to docs/images, or --out: story-stages.svg, story-rl.svg and story-thought.svg from the run,
ablation-controls.svg from its controls, story-seeds.svg from its seeds. Bars are 95 % intervals. The same folders give
the same bytes.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from findings_plots import (
    WIDTH,
    Mean,
    Series,
    flat_bar,
    label_of,
    mark,
    panel,
    plot_ablation,
    upright_grid,
    write,
)

from open_exaone.base.files import iterate_jsonl, read_json
from open_exaone.evaluation.statistics import estimate
from open_exaone.present.faithfulness import LABELS
from open_exaone.present.plots import Frame, caption, grid, line_path, moving_mean, nice_ticks
from open_exaone.present.stages import read_report
from open_exaone.tasks.registry import families_of

TASK = "test"
BASE = "base"
GROUPS = {"worked": "Families with worked thoughts", "unworked": "Families without any"}
REACH = 10  # steps on either side in the moving mean of RL's pass rate


def groups() -> dict[str, str]:
    """The group of each family that the recipe trains on."""
    return {family.name: group for group in GROUPS for family in families_of([group])}


def by_group(run: Path, report: Mapping[str, Any]) -> dict[str, list[Mean | None]]:
    """pass@1 in percent of each group of families, by stage."""
    group_of, means = groups(), defaultdict[str, list[Mean | None]](list)
    for stage in report["stages"]:
        verdicts = defaultdict[str, list[bool]](list)
        for _, row in iterate_jsonl(run / stage["folder"] / "eval" / "samples.jsonl"):
            if row["task"] == TASK:
                verdicts[row["problem"]].append(row["verdict"] == "correct")
        for group in GROUPS:
            found = estimate(
                [sum(row) / len(row) for problem, row in verdicts.items() if group_of[family(problem)] == group]
            )
            means[group].append(Mean(100 * found.value, 100 * found.low, 100 * found.high))
    return means


def family(problem: str) -> str:
    return problem.partition("/")[0]


def plot_stages(run: Path, report: Mapping[str, Any], out: Path) -> None:
    """pass@1 by stage of families with and without worked thoughts."""
    stages = [stage["name"] for stage in report["stages"]]
    parts, shown = list[str](), list[Series]()
    for place, (group, means) in enumerate(by_group(run, report).items()):
        left, one = place * WIDTH / 2, Series(GROUPS[group], place + 1, means)
        frame = Frame(left + 48, 40, left + WIDTH / 2 - 20, 240, (-0.4, len(stages) - 0.4), (0.0, 100.0))
        parts += [caption(left + 12, 22, f"{GROUPS[group]}: pass@1", "title", "start")]
        parts += panel(frame, stages, [one], " %")
        shown.append(one)
    write(out / "story-stages.svg", 272, label_of("pass@1 by stage", stages, shown), parts)


def plot_rl(run: Path, report: Mapping[str, Any], out: Path) -> None:
    """The share of correct samples in each step of RL: moving means of the two groups."""
    [stage] = [one for one in report["stages"] if one["kind"] == "rl"]
    rows = [row for _, row in iterate_jsonl(run / stage["folder"] / "metrics.jsonl")]
    frame = Frame(54, 40, WIDTH - 150, 230, (1, len(rows)), (0.0, 100.0))
    ticks = nice_ticks(0.0, 100.0)
    parts = [
        caption(12, 22, "RL: samples that are correct, by step", "title", "start"),
        grid(frame, ticks, [f"{tick:g} %" for tick in ticks]),
        *(caption(frame.x(step), 248, f"{step}", "tick", "middle") for step in (1, len(rows) // 2, len(rows))),
        caption(frame.x(len(rows) / 2), 264, f"step (moving mean over {2 * REACH - 1})", "tick", "middle"),
    ]
    words = []
    for colour, group in enumerate(GROUPS, 1):
        names = [f"pass_rate/{name}" for name, of in groups().items() if of == group]
        shares = [[row[name] for name in names if row.get(name) is not None] for row in rows]
        steps = [row["step"] for row, share in zip(rows, shares, strict=True) if share]
        values = moving_mean([100 * sum(share) / len(share) for share in shares if share], REACH)
        parts.append(line_path(frame.points(steps, values), f"line of-{colour}"))
        name = ("with thoughts", "without")[colour - 1]
        y = frame.y(values[-1]) + (16 if colour == 1 else -4)
        parts.append(caption(frame.right + 8, y, f"{name}: {values[-1]:.0f} %", f"series of-{colour}", "start"))
        words.append(f"families {name}: from {values[0]:.0f} to {values[-1]:.0f} %")
    write(out / "story-rl.svg", 276, f"Samples that are correct by step of RL: {'; '.join(words)}", parts)


def plot_thought(report: Mapping[str, Any], out: Path) -> None:
    """The final model's accuracy after its thought was changed."""
    [use] = report["stages"][-1]["faithfulness"]
    bottom = 40 + 26 * len(use["conditions"])
    frame = Frame(150, 40, WIDTH - 60, bottom, (0.0, 100.0), (0, 1))
    title = f"The answer after a changed thought: accuracy, greedy, {use['num_problems']} problems"
    parts, words = [caption(12, 22, title, "title", "start"), *upright_grid(frame, " %")], []
    for row, found in enumerate(use["conditions"]):
        y, name = 40 + 26 * (row + 0.5), LABELS[found["condition"]]
        value, low, high = (100 * number for number in (found["accuracy"], *found["ci95"]))
        parts += [
            caption(140, y + 4, name, "name", "end"),
            flat_bar(frame.x(low), frame.x(high), y, 1 if row == 0 else 2),
            mark(frame.x(value), y, 1 if row == 0 else 2),
            caption(frame.x(high) + 8, y + 4, f"{value:.1f}", "value", "start"),
        ]
        words.append(f"{name} {value:.1f} ({low:.1f} to {high:.1f})")
    write(out / "story-thought.svg", bottom + 32, f"{title}: {'; '.join(words)}", parts)


def plot_seeds(found: Mapping[str, Any], out: Path) -> None:
    """pass@1 by stage with each seed, by sampling and greedily; the base, near 0, in the label alone."""
    parts, words = list[str](), list[str]()
    ways = {"samples": "By sampling", "greedy": "Greedily"}
    shown = {way: [stage for stage in found["ways"][way]["stages"] if stage["name"] != BASE] for way in ways}
    lowest = min(score for stages in shown.values() for stage in stages for score in stage["by_seed"].values())
    ticks = nice_ticks(100 * lowest, 100.0)
    for place, (way, name) in enumerate(ways.items()):
        left, stages = place * WIDTH / 2, shown[way]
        frame = Frame(left + 48, 40, left + WIDTH / 2 - 62, 250, (-0.3, len(stages) - 0.7), (ticks[0], ticks[-1]))
        parts += [
            caption(left + 12, 22, f"{name}: pass@1 of {found['measured']['num_problems']:,}", "title", "start"),
            grid(frame, ticks, [f"{tick:g} %" for tick in ticks]),
            *(caption(frame.x(i), 268, stage["name"], "name", "middle") for i, stage in enumerate(stages)),
        ]
        ends = spread({seed: frame.y(100 * score) for seed, score in stages[-1]["by_seed"].items()})
        for seed, y in ends.items():
            scores = [100 * stage["by_seed"][seed] for stage in stages]
            points = [(frame.x(i), frame.y(score)) for i, score in enumerate(scores)]
            parts.append(line_path(points, f"line of-{place + 1}"))
            parts += [mark(*point, place + 1) for point in points]
            parts.append(caption(points[-1][0] + 9, y + 4, f"seed {seed}: {scores[-1]:.1f}", "value", "start"))
            every = (f"{100 * stage['by_seed'][seed]:.1f}" for stage in found["ways"][way]["stages"])
            words.append(f"{name}, seed {seed}: {', '.join(every)}")
    names = ", ".join(stage["name"] for stage in found["ways"]["samples"]["stages"])
    write(out / "story-seeds.svg", 284, f"pass@1 after {names}. {'; '.join(words)}", parts)


def spread(heights: Mapping[str, float], apart: float = 13.0) -> dict[str, float]:
    """The heights of captions, moved down so that none covers another."""
    placed, last = dict[str, float](), float("-inf")
    for name, y in sorted(heights.items(), key=lambda item: item[1]):
        placed[name] = last = max(y, last + apart)
    return placed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run of nano/exaone-deep")
    parser.add_argument("--controls", type=Path, help="the folder of its controls")
    parser.add_argument("--seeds", type=Path, help="the folder of its seeds")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    report = read_report(given.run)
    plot_stages(given.run, report, given.out)
    plot_rl(given.run, report, given.out)
    plot_thought(report, given.out)
    if given.controls:
        plot_ablation(given.controls, given.out)
    if given.seeds:
        plot_seeds(read_json(given.seeds / "seeds.json"), given.out)


if __name__ == "__main__":
    main()
