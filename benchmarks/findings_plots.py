"""The figures of docs/findings.md, from the folders of a run and of its ablations.

    python benchmarks/findings_plots.py runs/nano-4 --ablation runs/rl-loss --ablation runs/preference-loss

Writes to docs/images, or --out: stages-accuracy.svg, stages-replies.svg and needles.svg from the run, ablation-NAME.svg
from each ablation.
Bars are 95 % intervals. The same folders give the same bytes.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from open_exaone.base.files import iterate_jsonl, read_json, write_text
from open_exaone.evaluation.statistics import estimate, t_interval
from open_exaone.pipeline.folder import RunFolder
from open_exaone.present.cells import grids
from open_exaone.present.plots import Frame, caption, drawing, error_bar, grid, line_path, nice_ticks
from open_exaone.present.stages import read_report
from open_exaone.verify.language import inconsistent_parts

WIDTH = 660
# Okabe and Ito's blue and vermilion, which no common colour blindness mixes up; series differ in their marks too.
STYLE = """
svg { background: #fff } text { font: 12px system-ui, sans-serif; fill: #444 }
.title { font-weight: 600; font-size: 14px; fill: #111 } .value { font-size: 11px; fill: #111 }
.grid { fill: none; stroke: #ddd } .zero { fill: none; stroke: #666; stroke-dasharray: 4 3 }
.line, .bar { fill: none; stroke: var(--tone); stroke-width: 1.5 } .mark { fill: var(--tone) }
.of-1 { --tone: #0072b2 } .of-2 { --tone: #d55e00 } text.series { fill: var(--tone); font-weight: 600 }
"""
BLUES = ("#f2f7fb", "#cfe1f0", "#9cc3e0", "#5d9bc9", "#2470ab", "#08427a")  # from no fault to many
STEPS = (0.0, 0.02, 0.05, 0.10, 0.15)  # shares of faults at which the next colour begins

Interval = tuple[float, float]


class Mean(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float


class Series(NamedTuple):
    """A number by stage; None where a stage was not measured so."""

    name: str
    colour: int
    means: Sequence[Mean | None]


def write(path: Path, height: float, label: str, parts: Iterable[str], more_style: str = "") -> None:
    """One figure as a file that stands alone."""
    head = f"<title>{escape(label)}</title><style>{STYLE}{more_style}</style>"
    svg = drawing(WIDTH, round(height), label, [head, *parts])
    size = f'xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{round(height)}"'
    write_text(path, svg.replace("<svg ", f"<svg {size} ", 1) + "\n")
    print(path)


def measured(report: Mapping[str, Any], task: str) -> dict[str, Mapping[str, Any]]:
    """By stage, what the report has of a task."""
    entries = [entry for entry in report["stages"] if "filter" not in entry]
    found = ((entry["name"], part) for entry in entries for part in entry.get("tasks") or [entry])
    return {name: part for name, part in found if part.get("measured_on") == task}


def accuracy(report: Mapping[str, Any], task: str) -> list[Series]:
    """pass@1 of both modes by stage, from SFT on."""
    both = (measured(report, task), measured(report, f"{task}-non-reasoning"))
    stages = [name for name, part in both[0].items() if part["mode"] == "reasoning"]
    names = ("reasoning mode", "non-reasoning mode")
    return [
        Series(name, colour, [scored(found.get(stage)) for stage in stages])
        for colour, (name, found) in enumerate(zip(names, both, strict=True), 1)
    ]


def scored(part: Mapping[str, Any] | None) -> Mean | None:
    return None if part is None else Mean(100 * part["pass_at_1"], *(100 * bound for bound in part["ci95"]))


def replies(folder: RunFolder, report: Mapping[str, Any], task: str, stages: Sequence[str]) -> list[Series]:
    """Thought tokens, and the percentage of replies in the wrong language, by stage."""
    languages = {problem.id: problem.language for problem in folder.problems(task)}
    folders = {entry["name"]: folder.path / entry["folder"] for entry in report["stages"]}
    lengths, shares = list[Mean | None](), list[Mean | None]()
    for stage in stages:
        tokens, wrong = defaultdict(list), defaultdict(list)
        for _, row in iterate_jsonl(folders[stage] / "eval" / "samples.jsonl"):
            if row["task"] == task:
                tokens[row["problem"]].append(row["num_thought_tokens"])
                language = languages[row["problem"]]
                wrong[row["problem"]].append(bool(inconsistent_parts(row["thought"], row["answer"], language)))
        by_problem = [sum(values) / len(values) for values in tokens.values()]
        most = max(*by_problem, 1.0)  # intervals are of numbers from 0 to 1
        low, high = t_interval([value / most for value in by_problem])
        lengths.append(Mean(sum(by_problem) / len(by_problem), most * low, most * high))
        found = estimate([sum(values) / len(values) for values in wrong.values()])
        shares.append(Mean(100 * found.value, 100 * found.low, 100 * found.high))
    return [Series("thought tokens", 1, lengths), Series("wrong language, %", 2, shares)]


def mark(x: float, y: float, colour: int) -> str:
    """A circle for the first series, a square for the second, then a triangle and a diamond."""
    if colour == 1:
        return f'<circle class="mark of-1" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    if colour == 2:
        return f'<rect class="mark of-2" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    outline = "l5 9h-10z" if colour == 3 else "l5 5l-5 5l-5 -5z"
    return f'<path class="mark of-{colour}" d="M{x:.1f} {y - 5:.1f}{outline}"/>'


def panel(frame: Frame, stages: Sequence[str], series: Sequence[Series], unit: str) -> list[str]:
    """Numbers by stage, a line a series, their values beside the marks."""
    ticks = nice_ticks(0.0, frame.y_range[1])
    parts = [grid(frame, ticks, [f"{tick:g}{unit}" for tick in ticks])]
    for i, stage in enumerate(stages):
        for line, word in enumerate(stage.split("_")):
            parts.append(caption(frame.x(i), frame.bottom + 18 + 14 * line, word, "name", "middle"))
    for name, colour, means in series:
        points = [(i, mean) for i, mean in enumerate(means) if mean is not None]
        parts.append(line_path([(frame.x(i), frame.y(mean.value)) for i, mean in points], f"line of-{colour}"))
        for i, mean in points:
            bar = error_bar(frame.x(i), frame.y(mean.low), frame.y(mean.high))
            parts.append(bar.replace('class="bar"', f'class="bar of-{colour}"'))
            parts.append(mark(frame.x(i), frame.y(mean.value), colour))
            parts.append(caption(frame.x(i) + 8, frame.y(mean.value) - 7, f"{mean.value:.1f}", "value", "start"))
        if len(series) > 1:
            last, mean = points[-1]
            parts.append(caption(frame.x(last) - 8, frame.y(mean.high) - 12, name, f"series of-{colour}", "end"))
    return parts


def top(series: Sequence[Series]) -> float:
    """Where an axis from 0 ends that has room for all intervals."""
    highest = max(mean.high for one in series for mean in one.means if mean is not None)
    return nice_ticks(0.0, highest)[-1]


def label_of(title: str, stages: Sequence[str], series: Sequence[Series]) -> str:
    """The figure in words."""
    return f"{title}: " + "; ".join(
        f"{one.name}, {stage} {mean.value:.1f} ({mean.low:.1f} to {mean.high:.1f})"
        for one in series
        for stage, mean in zip(stages, one.means, strict=True)
        if mean is not None
    )


def plot_stages(folder: RunFolder, report: Mapping[str, Any], task: str, out: Path) -> None:
    """Accuracy by stage in both modes; thought tokens and the wrong language by stage."""
    stages = [name for name, part in measured(report, task).items() if part["mode"] == "reasoning"]
    series = accuracy(report, task)
    first = measured(report, task)[stages[0]]
    title = f"Accuracy by stage (pass@1, {first['num_problems']:,} problems, {first['k']} samples; 95 % intervals)"
    frame = Frame(54, 40, WIDTH - 20, 270, (-0.4, len(stages) - 0.4), (0.0, top(series)))
    parts = [caption(12, 22, title, "title", "start"), *panel(frame, stages, series, " %")]
    write(out / "stages-accuracy.svg", 312, label_of(title, stages, series), parts)

    both = replies(folder, report, task, stages)
    parts = []
    for left, one, title in zip(
        (0, WIDTH / 2), both, ("Tokens of a thought", "Replies in the wrong language"), strict=True
    ):
        frame = Frame(left + 48, 40, left + WIDTH / 2 - 8, 230, (-0.4, len(stages) - 0.4), (0.0, top([one])))
        parts.append(caption(left + 12, 22, title, "title", "start"))
        parts += panel(frame, stages, [one], " %" if one.colour == 2 else "")
    write(out / "stages-replies.svg", 272, label_of("Reasoning mode by stage", stages, both), parts)


def plot_needles(report: Mapping[str, Any], out: Path) -> None:
    """The needle tests' cells over all languages, after each stage that has them."""
    by_stage: dict[str, dict[tuple[int, str], list[int]]] = {}
    for entry in report["stages"]:
        cells: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
        for part in entry.get("tasks") or [entry]:
            for found in grids(part):
                for depth, row in found.rows:
                    for cell in filter(None, row):
                        cells[cell.length, depth][0] += cell.correct
                        cells[cell.length, depth][1] += cell.total
        if cells:
            by_stage[entry["name"]] = cells
    if not by_stage:
        return
    parts = [caption(12, 22, "Needle tests: correct answers in percent, both languages", "title", "start")]
    width, words = (WIDTH - 40) / len(by_stage), list[str]()
    for place, (stage, cells) in enumerate(by_stage.items()):
        parts += heatmap(40 + place * width, width - 50, f"after {stage}", cells)
        low, (length, depth) = min((correct / total, key) for key, (correct, total) in cells.items())
        words.append(
            f"after {stage} the lowest of {len(cells)} cells has {low:.0%}, {length} tokens at depth {depth} %"
        )
    write(out / "needles.svg", 272, "Needle tests: " + "; ".join(words), parts)


def heatmap(left: float, width: float, name: str, cells: Mapping[tuple[int, str], Sequence[int]]) -> list[str]:
    """A grid: a column for each length, a row for each depth; the darker, the more faults."""
    lengths = sorted({length for length, _ in cells})
    depths = sorted({depth for _, depth in cells}, key=float)
    wide, high, from_top = (width - 40) / len(lengths), 32, 66
    parts = [caption(left + 40, 48, name, "name", "start")]
    for row, depth in enumerate(depths):
        y = from_top + row * high
        parts.append(caption(left + 32, y + 20, f"{depth} %", "tick", "end"))
        for column, length in enumerate(lengths):
            correct, total = cells[length, depth]
            step = sum(1 - correct / total > least + 1e-9 for least in STEPS)
            x = left + 40 + column * wide
            box = f'x="{x:.1f}" y="{y}" width="{wide - 2:.1f}" height="{high - 2}"'
            parts.append(f'<rect {box} fill="{BLUES[step]}"/>')
            number = caption(x + wide / 2 - 1, y + 20, f"{100 * correct / total:.3g}", "value", "middle")
            parts.append(number.replace("<text ", '<text style="fill:#fff" ', 1) if step > 2 else number)
    bottom = from_top + high * len(depths) + 16
    parts += [
        caption(left + 40 + (column + 0.5) * wide, bottom, f"{length:,}", "tick", "middle")
        for column, length in enumerate(lengths)
    ]
    parts.append(caption(left + 40 + width / 2 - 20, bottom + 17, "tokens of the text; rows: depth", "tick", "middle"))
    return parts


def plot_ablation(folder: Path, out: Path) -> None:
    """Each arm's score by seed with its interval, and its paired difference to the first arm."""
    found = read_json(folder / "ablation.json")
    arms, sizes = found["arms"], found["measured"]
    runs = [run for arm in arms for run in arm["runs"]]
    lows, highs = (100 * choose(run["ci95"][end] for run in runs) for end, choose in ((0, min), (1, max)))
    title = (
        f"{', '.join(arm['name'] for arm in arms)}: pass@1, {sizes['num_problems']:,} problems, {sizes['k']} samples"
    )
    shown = [arm["difference"] for arm in arms if arm["difference"]]
    reach = 100 * max((abs(one[end]) for one in shown for end in ("low", "high")), default=0.01)
    bottom = 44 + 62 * len(arms)
    frame = Frame(110, 44, 380, bottom, ends_of(lows, highs), (0, 1))
    other = Frame(430, 44, WIDTH - 24, bottom, ends_of(-reach, reach), (0, 1))
    parts = [caption(12, 22, title, "title", "start"), *upright_grid(frame, " %"), *upright_grid(other, "")]
    for row, arm in enumerate(arms):
        y, colour = 75 + 62 * row, min(2, row + 1)
        parts.append(caption(100, y + 4, arm["name"], "name", "end"))
        for place, run in enumerate(arm["runs"]):
            seed_y = y + 15 * (place - (len(arm["runs"]) - 1) / 2)
            parts.append(flat_bar(*(frame.x(100 * end) for end in run["ci95"]), seed_y, colour))
            parts.append(mark(frame.x(100 * run["score"]), seed_y, colour))
        if difference := arm["difference"]:
            parts.append(flat_bar(*(other.x(100 * difference[end]) for end in ("low", "high")), y, colour))
            parts.append(mark(other.x(100 * difference["value"]), y, colour))
            words = (
                f"{100 * difference['value']:+.1f} ({100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})"
            )
            parts.append(caption(other.x(0), y - 14, words, "value", "middle"))
    parts.append(f'<path class="zero" d="M{other.x(0):.1f} 44V{bottom}"/>')
    parts.append(caption(245, bottom + 38, "by seed, intervals over problems", "tick", "middle"))
    parts.append(caption(other.x(0), bottom + 38, f"points above {found['baseline']}, paired", "tick", "middle"))
    label = f"{title}; " + "; ".join(f"{arm['name']} {100 * arm['mean']:.1f} %" for arm in arms)
    write(out / f"ablation-{found['ablation'].replace('_', '-')}.svg", bottom + 52, label, parts)


def ends_of(low: float, high: float) -> Interval:
    """Round numbers around a range."""
    ticks = nice_ticks(low, high)
    return ticks[0], ticks[-1]


def upright_grid(frame: Frame, unit: str) -> list[str]:
    """The grid of a plot whose values run to the right."""
    ticks = nice_ticks(*frame.x_range)
    lines = [f'<path class="grid" d="M{frame.x(tick):.1f} {frame.top}V{frame.bottom}"/>' for tick in ticks]
    names = [caption(frame.x(tick), frame.bottom + 18, f"{tick:g}{unit}", "tick", "middle") for tick in ticks]
    return [*lines, *names]


def flat_bar(low: float, high: float, y: float, colour: int) -> str:
    ends = f"M{low:.1f} {y - 4:.1f}v8M{high:.1f} {y - 4:.1f}v8"
    return f'<path class="bar of-{colour}" d="M{low:.1f} {y:.1f}H{high:.1f}{ends}"/>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run of nano/exaone-4.0")
    parser.add_argument("--ablation", type=Path, action="append", default=[], help="the folder of an ablation")
    parser.add_argument("--task", default="test", help="the evaluation's data")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    report = read_report(given.run)
    plot_stages(RunFolder(given.run), report, given.task, given.out)
    plot_needles(report, given.out)
    for folder in given.ablation:
        plot_ablation(folder, given.out)


if __name__ == "__main__":
    main()
