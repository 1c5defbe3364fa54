"""The figure of curve.py: the last models' pass@1 against FLOPs, and each stage's gain, a colour and a mark a size."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curve_points import TITLES, shared_share, sizes_of
from findings_plots import WIDTH, Mean, mark, write

from open_exaone.present.plots import Frame, caption, error_bar, grid, line_path, nice_ticks

HEIGHT, TOP, BOTTOM = 338, 62, 270
# Okabe and Ito's green and black beside the blue and vermilion of the other figures
STYLE = ".of-3 { --tone: #009e73 } .of-4 { --tone: #000 }"
PERCENTS = range(0, 101, 20)
BETWEEN = 0.17  # of a stage's place, from one size's mark to the next one's

Found = Mapping[str, Any]  # what curve.json holds


def draw(found: Found, path: Path) -> None:
    """Writes the figure; the same points give the same bytes."""
    sizes = sizes_of(found)
    about = found["runs"][0]["measured"]
    title = f"pass@1 of {about['num_problems']:,} problems, {about['k']} samples; 95 % intervals, one seed"
    parts = [caption(12, 20, title, "title", "start"), *legend(found, sizes)]
    parts += against_flops(found, sizes, Frame(48, TOP, 338, BOTTOM, flops_range(found), (0.0, 100.0)))
    share = shared_share(found)
    alike = [run for run in found["runs"] if run["share"] == share]
    parts += gains(alike, sizes, share)
    write(path, HEIGHT + 18 * bool(found["missing"]), label_of(found, alike, title, share), parts, STYLE)


def legend(found: Found, sizes: Sequence[str]) -> list[str]:
    """A size's mark and its name, in one row above both panels; below them, what is missing."""
    parts = [caption(12, 44, "parameters:", "tick", "start")]
    for place, size in enumerate(sizes, 1):
        x = 32 + 66 * place
        parts += [mark(x, 40, place), caption(x + 9, 44, size, f"series of-{place}", "start")]
    if found["missing"]:
        parts.append(caption(12, HEIGHT + 12, f"not run: {', '.join(found['missing'])}", "tick", "start"))
    return parts


def flops_range(found: Found) -> tuple[float, float]:
    """The logarithms of FLOPs that the axis spans, with some room."""
    spent = [math.log10(run["stages"][-1]["flops_so_far"]) for run in found["runs"]]
    return min(spent) - 0.12, max(spent) + 0.12


def against_flops(found: Found, sizes: Sequence[str], frame: Frame) -> list[str]:
    """The last model of every run, a line a size, from the smallest share of the data to the largest."""
    parts = [grid(frame, PERCENTS, [f"{tick} %" for tick in PERCENTS])]
    for tick in flops_ticks(*frame.x_range):
        x = frame.x(math.log10(tick))
        parts.append(f'<path class="grid" d="M{x:.1f} {frame.top}V{frame.bottom}"/>')
        parts.append(caption(x, frame.bottom + 18, f"{tick:.0e}".replace("e+", "e"), "tick", "middle"))
    parts.append(caption((frame.left + frame.right) / 2, frame.bottom + 38, "FLOPs of all stages", "name", "middle"))
    parts.append(
        caption(
            (frame.left + frame.right) / 2, frame.bottom + 54, "one mark for each share of the data", "tick", "middle"
        )
    )
    for colour, size in enumerate(sizes, 1):
        lasts = [run["stages"][-1] for run in found["runs"] if run["size"] == size]
        spots = [(frame.x(math.log10(last["flops_so_far"])), mean_of(last)) for last in lasts]
        if spots:
            parts.append(line_path([(x, frame.y(mean.value)) for x, mean in spots], f"line of-{colour}"))
        for x, mean in spots:
            parts += marked(frame, x, mean, colour)
    return parts


def flops_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two logarithms; powers alone where that is many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    found = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    within = [tick for tick in found if low <= math.log10(tick) <= high]
    return within if len(within) <= 6 else [tick for tick in within if f"{tick:e}".startswith("1")]


def gains(alike: Sequence[Found], sizes: Sequence[str], share: float) -> list[str]:
    """What each stage after the first gained, of the runs on one share of the data."""
    stages = [stage["stage"] for stage in alike[0]["stages"][1:]]
    ends = [100 * stage["gain"][end] for run in alike for stage in run["stages"][1:] for end in ("low", "high")]
    ticks = nice_ticks(min(0.0, *ends), max(ends))
    frame = Frame(404, TOP, WIDTH - 12, BOTTOM, (-0.5, len(stages) - 0.5), (ticks[0], ticks[-1]))
    parts = [grid(frame, ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])]
    parts.append(f'<path class="zero" d="M{frame.left} {frame.y(0):.1f}H{frame.right}"/>')
    middle = (frame.left + frame.right) / 2
    parts.append(caption(middle, frame.bottom + 38, "points gained on the stage before, paired", "name", "middle"))
    parts.append(caption(middle, frame.bottom + 54, f"with {share:g} of the data", "tick", "middle"))
    for place, stage in enumerate(stages):
        parts.append(caption(frame.x(place), frame.bottom + 18, TITLES.get(stage, stage), "name", "middle"))
        for run in alike:
            colour = sizes.index(run["size"]) + 1
            gain = run["stages"][place + 1]["gain"]
            x = frame.x(place + BETWEEN * (colour - (len(sizes) + 1) / 2))
            parts += marked(frame, x, Mean(*(100 * gain[key] for key in ("value", "low", "high"))), colour)
    return parts


def marked(frame: Frame, x: float, mean: Mean, colour: int) -> list[str]:
    """A mark with its interval."""
    bar = error_bar(x, frame.y(mean.low), frame.y(mean.high))
    return [bar.replace('class="bar"', f'class="bar of-{colour}"'), mark(x, frame.y(mean.value), colour)]


def mean_of(stage: Found) -> Mean:
    return Mean(100 * stage["score"], *(100 * bound for bound in stage["ci95"]))


def label_of(found: Found, alike: Sequence[Found], title: str, share: float) -> str:
    """The figure in words."""
    scores = [
        f"{run['size']} on {run['share']:g} of the data, {last['flops_so_far']:.2g} FLOPs: {100 * last['score']:.1f}"
        for run in found["runs"]
        for last in (run["stages"][-1],)
    ]
    gained = [
        f"{run['size']} {TITLES.get(stage['stage'], stage['stage'])} {100 * stage['gain']['value']:+.1f}"
        for run in alike
        for stage in run["stages"][1:]
    ]
    return f"{title}: {'; '.join(scores)}. Points gained on {share:g} of the data: {'; '.join(gained)}"
