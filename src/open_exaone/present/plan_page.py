"""plan.html and plan.json of `exaone plan`: a page that loads nothing and runs nothing, and the same numbers."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from open_exaone.base.files import write_json, write_text
from open_exaone.model.cluster import Cluster, MeshPlan, StagePlan
from open_exaone.model.cost import dense_flops, dense_tokens
from open_exaone.model.registry import FINE_TUNING_PASSES, PUBLISHED, Reported
from open_exaone.present.cluster import PARTS, SHOWN_MESHES, Money, Section, brief
from open_exaone.present.formatting import size
from open_exaone.present.page_parts import TEMPLATES, template
from open_exaone.present.plots import Frame, caption, drawing, nice_ticks, shorten

PAGE, RECORD = "plan.html", "plan.json"
TIMES = {
    "prefill": "reading prompts",
    "decode": "writing replies",
    "forward": "log-probabilities",
    "training": "training",
}
TIMES["communication"] = "communication"
ROW = 26  # of a bar and the gap below it, in the plot's units
Bar = tuple[str, dict[str, float], str]  # its name, its parts in their order, what stands behind it


def write_plan(
    folder: Path,
    heading: str,
    lead: str,
    found: Sequence[Section],
    plans: Sequence[MeshPlan],
    cluster: Cluster,
    record: dict[str, Any],
) -> Path:
    """Writes both files; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD, record)
    write_text(folder / PAGE, render(heading, lead, found, plans, cluster))
    return folder / PAGE


def render(heading: str, lead: str, found: Sequence[Section], plans: Sequence[MeshPlan], cluster: Cluster) -> str:
    """The page as text; the same plan gives the same bytes."""
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    fitting = [plan for plan in plans if plan.fits(cluster)]
    shown = (fitting or list(plans))[:SHOWN_MESHES]
    page: str = template("plan.html.jinja").render(
        heading=heading,
        lead=lead,
        sections=found,
        memory=memory_plot(shown, cluster),
        time=time_plot(plans[0]) if fitting and plans[0].seconds else None,
        parts=[(place + 1, name) for place, name in enumerate(PARTS.values())],
        times=[(place + 1, name) for place, name in enumerate(TIMES.values())],
        fits=bool(fitting),
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    return page


def memory_plot(plans: Sequence[MeshPlan], cluster: Cluster) -> str:
    """A bar a mesh: the parts of its fullest GPU, and the line that a GPU's memory is."""
    bars: list[Bar] = []
    for plan in plans:
        memory = plan.fullest.memory
        if (other := plan.fullest.sampler_memory) is not None and other.total > memory.total:
            memory = other
        parts: dict[str, float] = dict(memory.parts())
        parts.pop("cache" if memory.activations >= memory.cache else "activations", None)
        bars.append((str(plan.mesh), {part: value / 1e9 for part, value in parts.items()}, size(memory.total)))
    return _bars("Memory of the fullest GPU by mesh, in GB", bars, list(PARTS), cluster.gpu.memory_bytes / 1e9)


def time_plot(plan: MeshPlan) -> str:
    """A bar a stage, in hours."""
    bars = [
        (
            stage.cost.stage,
            {part: value / 3600 for part, value in stage.seconds.items()},
            brief(stage.total_seconds),
        )
        for stage in plan.stages
        if stage.seconds
    ]
    return _bars(f"Time of each stage on mesh {plan.mesh}, in hours", bars, list(TIMES), None)


def _bars(label: str, bars: Sequence[Bar], order: Sequence[str], limit: float | None) -> str:
    most = max([*(sum(parts.values()) for _, parts, _ in bars), limit or 0.0])
    ticks = nice_ticks(0.0, most)
    frame = Frame(118, 8, 560, 8 + ROW * len(bars), (0.0, max(ticks[-1], most)), (0.0, 1.0))
    drawn = []
    for tick in ticks:
        drawn.append(f'<path class="grid" d="M{frame.x(tick):.1f} {frame.top:.1f}V{frame.bottom:.1f}"/>')
        drawn.append(caption(frame.x(tick), frame.bottom + 16, f"{tick:g}", "tick", "middle"))
    for row, (name, parts, behind) in enumerate(bars):
        top = frame.top + ROW * row + 3
        drawn.append(caption(frame.left - 8, top + 15, shorten(name, 18), "tick", "end"))
        drawn += _pieces(parts, order, frame, top)
        drawn.append(caption(frame.x(sum(parts.values())) + 6, top + 15, behind, "tick", "start"))
    if limit is not None:
        drawn.append(f'<path class="line" d="M{frame.x(limit):.1f} {frame.top:.1f}V{frame.bottom:.1f}"/>')
    spoken = "; ".join(f"{name} {behind}" for name, _, behind in bars)
    return drawing(640, round(frame.bottom) + 24, f"{label}: {spoken}", drawn)


def _pieces(parts: dict[str, float], order: Sequence[str], frame: Frame, top: float) -> Iterator[str]:
    done = 0.0
    for colour, part in enumerate(order, 1):
        if value := parts.get(part):
            x, end = frame.x(done), frame.x(done + value)
            yield f'<rect class="area of-{colour}" x="{x:.1f}" y="{top:.1f}" width="{end - x:.1f}" height="{ROW - 6}"/>'
            done += value


def plan_record(
    recipe: str, plans: Sequence[MeshPlan], cluster: Cluster, money: Money, reported: Reported | None
) -> dict[str, Any]:
    """The plan as JSON: bytes, seconds, FLOPs; every mesh with its totals, the first one with all parts."""
    best, gpu = plans[0], cluster.gpu
    fits = best.fits(cluster)
    return {
        "recipe": recipe,
        "parameters": best.stages[0].cost.shape.num_parameters,
        "gpus": cluster.num_gpus,
        "sampler_gpus": cluster.sampler_gpus,
        "gpu": asdict(gpu),
        "assumed": {**asdict(cluster.assumed), "power_w": money.power_w, "price": money.price},
        "reported": None if reported is None else _reported(reported),
        "fits": fits,
        "meshes": [
            {
                **asdict(plan.mesh),
                "fits": plan.fits(cluster),
                "bytes": plan.fullest.needed,
                "fullest": plan.fullest.cost.stage,
                "seconds": plan.seconds if plan.fits(cluster) else None,
            }
            for plan in plans
        ],
        "stages": [_stage(stage, cluster, money, fits=fits) for stage in best.stages],
    }


def _stage(stage: StagePlan, cluster: Cluster, money: Money, *, fits: bool) -> dict[str, Any]:
    cost, work = stage.cost, stage.cost.work
    seconds = stage.seconds if fits else {}
    hours = sum(seconds.values()) * cluster.num_gpus / 3600
    return {
        "stage": cost.stage,
        "kind": cost.kind,
        "steps": cost.num_steps,
        "train_tokens": cost.train_tokens,
        "sampled_tokens": cost.sampled_tokens,
        "flops": cost.flops,
        "flops_by_part": None
        if work is None
        else {part: getattr(work, part) for part in ("training", "forward", "prefill", "decode")},
        "dense_flops": cost.dense_flops,
        "bytes": {**stage.memory.parts(), "total": stage.memory.total},
        "sampler_bytes": None
        if stage.sampler_memory is None
        else {**stage.sampler_memory.parts(), "total": stage.sampler_memory.total},
        "sampler": None if stage.sampler is None else asdict(stage.sampler),
        "seconds": seconds,
        "gpu_hours": hours if seconds else None,
        "kwh": hours * money.power_w / 1000 if seconds else None,
        "cost": hours * money.price if seconds and money.price is not None else None,
    }


def _reported(reported: Reported) -> dict[str, Any]:
    published = PUBLISHED[reported.model]
    fine = None
    if reported.fine_tuning_flops is not None and reported.fine_tuning_tokens is not None:
        tokens = FINE_TUNING_PASSES * reported.fine_tuning_tokens
        fine = {
            "tokens": tokens,
            "computed": dense_flops(published.config, tokens),
            "printed": reported.fine_tuning_flops,
            "inferred_tokens": dense_tokens(published.config, reported.fine_tuning_flops),
        }
    computed = dense_flops(published.config, published.training_tokens)
    pretraining = {"tokens": published.training_tokens, "computed": computed, "printed": reported.pretraining_flops}
    return {"model": reported.model, "pretraining": pretraining, "fine_tuning": fine}
