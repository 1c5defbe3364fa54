"""What a recipe takes on a cluster, as sections of tables: for the terminal and for plan.html."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from open_exaone.base.text import count
from open_exaone.model.cluster import Cluster, MeshPlan, StagePlan
from open_exaone.model.config import LayerKind, ModelConfig
from open_exaone.model.cost import Sampled, StageCost, dense_flops, dense_tokens
from open_exaone.model.memory import Memory
from open_exaone.model.registry import FINE_TUNING_PASSES, PUBLISHED, Reported
from open_exaone.model.speed import Sampler
from open_exaone.present.formatting import NONE, number, percent, size
from open_exaone.present.terminal import MESH

SHOWN_MESHES = 8
CONTEXTS = tuple(2**power for power in range(12, 18))  # 4,096 to 131,072
PARTS = {  # of a memory: the heading, and the colour of the page
    "weights": "weights",
    "masters": "masters",
    "gradients": "gradients",
    "moments": "moments",
    "reference": "reference",
    "sampler": "sampler",
    "activations": "activations",
    "cache": "KV cache",
}
SAMPLING, TRAINING = ("prefill", "decode"), ("forward", "training", "communication")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a table, and sentences below it."""

    title: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Money:
    """What a GPU takes; the price is the user's."""

    power_w: float  # of one GPU
    price: float | None  # of one GPU for an hour


def sections(plans: Sequence[MeshPlan], cluster: Cluster, money: Money, reported: Reported | None) -> Iterator[Section]:
    """All of a plan, whose first mesh is looked at closely."""
    best = plans[0]
    costs = [stage.cost for stage in best.stages]
    yield compute_section(costs)
    if reported is not None:
        yield reported_section(reported)
    yield meshes_section(plans, cluster)
    if best.fits(cluster):
        yield memory_section(best, cluster)
        yield from filter(None, [sampler_section(best)])
        yield time_section(best, cluster, money)
        yield from filter(None, [sampling_section(best)])
    yield cache_section(costs[-1].shape)


def flops_text(value: float | None) -> str:
    """7.04e21."""
    return NONE if not value else f"{value:.2e}".replace("e+", "e")


def compute_section(costs: Sequence[StageCost]) -> Section:
    """FLOPs by stage."""
    titles = ("stage", "steps", "trained", "sampled", "FLOPs", "of it sampling", "6ND")
    rows = []
    for cost in costs:
        sampling = None if cost.work is None else cost.work.prefill + cost.work.decode
        steps = NONE if cost.num_steps is None else f"{cost.num_steps:,}"
        tokens = [number(one) if one else NONE for one in (cost.train_tokens, cost.sampled_tokens)]
        flops = [flops_text(one) for one in (cost.flops, sampling, cost.dense_flops)]
        rows.append([cost.stage, steps, *tokens, *flops])
    note = "FLOPs: matrices and attention, recomputed activations too. 6ND: 6 x parameters x trained tokens."
    return Section("Compute", titles, rows, [note])


def reported_section(reported: Reported) -> Section:
    """What a report prints, beside 6 x parameters x tokens."""
    published = PUBLISHED[reported.model]
    shape, titles = published.config, ("training of", "tokens", "computed", "printed", "difference")
    rows = [_compared("pretraining", shape, published.training_tokens, reported.pretraining_flops)]
    notes = []
    if reported.fine_tuning_flops is not None and reported.fine_tuning_tokens is not None:
        tokens, printed = FINE_TUNING_PASSES * reported.fine_tuning_tokens, reported.fine_tuning_flops
        rows.append(_compared(f"fine-tuning, {FINE_TUNING_PASSES} passes", shape, tokens, printed))
        inferred = dense_tokens(shape, printed)
        rows.append([*_compared("fine-tuning, inferred", shape, inferred, printed)])
        each = reported.fine_tuning_tokens
        notes.append(
            f"Published: about {number(each)} tokens of SFT data. That it was passed {FINE_TUNING_PASSES} times is "
            f"inferred, and so are the {number(inferred)} tokens that the printed FLOPs are worth: "
            f"{inferred / each:.2f} passes, or what the later stages took besides."
        )
    return Section(f"{reported.model} as its report counts", titles, rows, notes)


def _compared(name: str, shape: ModelConfig, tokens: float, printed: float) -> list[str]:
    computed = dense_flops(shape, tokens)
    return [name, number(tokens), flops_text(computed), flops_text(printed), f"{100 * (computed / printed - 1):+.1f}%"]


def meshes_section(plans: Sequence[MeshPlan], cluster: Cluster) -> Section:
    """The meshes that fit, the fastest first; where none does, those that need least."""
    gpu, fitting = cluster.gpu, [plan for plan in plans if plan.fits(cluster)]
    shown = (fitting or list(plans))[:SHOWN_MESHES]
    rows = []
    for plan in shown:
        full = plan.fullest
        time = brief(plan.seconds) if plan.fits(cluster) and plan.seconds else NONE
        rows.append([str(plan.mesh), size(full.needed), percent(full.needed / gpu.memory_bytes), full.cost.stage, time])
    titles = (MESH, "on a GPU", "of it", "fullest in", "all stages")
    what = f"{len(fitting)} of {len(plans)} fit" if len(plans) > 1 else "the only one"
    share = cluster.assumed.memory_share
    notes = [
        f"Fits: at most {share:g} of a GPU's {size(gpu.memory_bytes)}, with the keys and values of one whole reply; "
        "the rest goes to the driver, to fragments, and to what these sums miss."
    ]
    return Section(f"Meshes of {count(cluster.training_gpus, 'GPU')}: {what}", titles, rows, notes)


def memory_section(plan: MeshPlan, cluster: Cluster) -> Section:
    """Bytes of one GPU that trains, by part and stage."""
    shown = {stage.cost.stage: stage.memory for stage in plan.stages}
    note = (
        f"Of {size(cluster.gpu.memory_bytes)}. Activations and KV cache are not there at the same time: the total has "
        "the larger one. The cache holds as many replies as are sampled at once and have room."
    )
    return _memory(f"Memory of each GPU on mesh {plan.mesh}", shown, note)


def sampler_section(plan: MeshPlan) -> Section | None:
    """Bytes of one GPU that only samples."""
    shown = {stage.cost.stage: stage.sampler_memory for stage in plan.stages if stage.sampler_memory is not None}
    return _memory("Memory of each GPU that only samples", shown, "") if shown else None


def _memory(title: str, shown: Mapping[str, Memory], note: str) -> Section:
    unit, sign = (1e9, "GB") if max(memory.total for memory in shown.values()) >= 1e9 else (1e6, "MB")
    found = [memory.parts() for memory in shown.values()]
    rows = [
        [PARTS[part], *(f"{parts[part] / unit:.1f}" if part in parts else NONE for parts in found)]
        for part in PARTS
        if any(part in parts for parts in found)
    ]
    rows.append(["total", *(f"{memory.total / unit:.1f}" for memory in shown.values())])
    return Section(title, (f"part, {sign}", *shown), rows, [note] if note else [])


def time_section(plan: MeshPlan, cluster: Cluster, money: Money) -> Section:
    """Time, energy and cost of each stage."""
    rows = [_time_row(stage.cost.stage, stage.seconds, cluster, money) for stage in plan.stages]
    together: dict[str, float] = {}
    for stage in plan.stages:
        for part, seconds in stage.seconds.items():
            together[part] = together.get(part, 0.0) + seconds
    rows.append(_time_row("together", together, cluster, money))
    assumed, notes = cluster.assumed, []
    if any(not stage.seconds for stage in plan.stages):
        notes.append("–: how much data there is, is not known: set data.NAME.expected.")
    notes.append(
        f"Assumed: an MFU of {assumed.mfu:g}, {assumed.bandwidth_share:g} of the memory bandwidth in decoding, "
        f"{assumed.node_gpus} GPUs a machine, {8 * assumed.network_bandwidth / 1e9:g} Gb/s a GPU between machines; "
        f"{money.power_w:g} W a GPU, the machine around it left out. Evaluation is left out."
    )
    titles = ["stage", "training", "sampling", "time", "GPU-hours", "kWh"]
    return Section(
        "Time, energy and cost" if money.price is not None else "Time and energy",
        titles + ["cost"] * (money.price is not None),
        rows,
        notes,
    )


def _time_row(name: str, seconds: Mapping[str, float], cluster: Cluster, money: Money) -> list[str]:
    trained, sampled = (sum(seconds.get(part, 0.0) for part in parts) for parts in (TRAINING, SAMPLING))
    whole = trained + sampled
    hours = whole * cluster.num_gpus / 3600
    cells = [name, *(brief(value) if value else NONE for value in (trained, sampled, whole))]
    cells += [short(hours), short(hours * money.power_w / 1000)] if whole else [NONE, NONE]
    if money.price is not None:
        cells.append(short(hours * money.price) if whole else NONE)
    return cells


def short(value: float) -> str:
    """A quantity without an exponent: 0.012, 3.4, 57, 1,240."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}" if value < 1 else f"{value:.1f}"


def sampling_section(plan: MeshPlan) -> Section | None:
    """What one round of samples takes: in RL, one step."""
    columns = {
        stage.cost.stage: _round(stage, stage.sampler, stage.cost.work.sampled)
        for stage in plan.stages
        if stage.sampler is not None and stage.cost.work is not None and stage.cost.work.sampled is not None
    }
    if not columns:
        return None
    names = ("samples", "groups x GPUs", "at once in a group", "read prompts", "write replies", "log-probs", "update")
    rows = [list(row) for row in zip((*names, "together"), *columns.values(), strict=True)]
    notes = [
        "A round is a step of RL, or all samples of another stage. A group of GPUs holds one model. A reply is taken "
        "to have a quarter of max_new_tokens, and the longest of a round all of them. log-probs: of the reference, and "
        "before the first of several updates."
    ]
    return Section("A round of samples, and what is learned from it", ("part", *columns), rows, notes)


def _round(stage: StagePlan, sampler: Sampler, sampled: Sampled) -> list[str]:
    seconds, num_rounds = stage.seconds, sampled.num_rounds
    update = seconds.get("training", 0.0) + seconds.get("communication", 0.0)
    parts = [*(seconds.get(part, 0.0) for part in ("prefill", "decode", "forward")), update]
    times = [brief(part / num_rounds) if part else NONE for part in (*parts, sum(parts))]
    at_once = min(sampler.most_at_once, -(-sampled.num_replies // sampler.num_groups))
    return [f"{sampled.num_replies:,}", f"{sampler.num_groups} x {sampler.tensor}", f"{at_once:,}", *times]


def cache_section(shape: ModelConfig) -> Section:
    """Keys and values of one sequence by its length; local layers keep their window."""
    lengths = [length for length in CONTEXTS if length < shape.max_positions] + [shape.max_positions]
    lengths = lengths[-len(CONTEXTS) :]
    full = shape.model_copy(update={"pattern": "G"})
    pairs = [(shape.kv_cache_bytes(length), full.kv_cache_bytes(length)) for length in lengths]
    rows = [
        [f"{length:,}", size(kept), size(of_all), percent(kept / of_all)]
        for length, (kept, of_all) in zip(lengths, pairs, strict=True)
    ]
    kinds = shape.layer_kinds
    local = kinds.count(LayerKind.LOCAL)
    notes = [f"In bfloat16. {shape.num_layers - local} global layers"]
    notes[0] += f", {local} local ones with a window of {shape.window:,}." if local else ", no local one."
    return Section("KV cache of one sequence", ("tokens", "KV cache", "if all were global", "of it"), rows, notes)


def brief(seconds: float) -> str:
    """Seconds in one unit and to three digits at most: 64 ms, 5.6 min, 4.7 days."""
    for least, unit, sign in ((172_800, 86_400, "days"), (7_200, 3600, "h"), (120, 60, "min"), (1, 1, "s")):
        if seconds >= least:
            return f"{short(seconds / unit)} {sign}"
    return f"{1000 * seconds:.3g} ms"


def too_large(plan: MeshPlan, cluster: Cluster) -> str:
    """Why even the mesh that needs least does not fit, and what would help."""
    stage = plan.fullest
    memory = stage.memory
    if stage.sampler_memory is not None and stage.sampler_memory.total > memory.total:
        memory = stage.sampler_memory
    counted = memory.parts()
    counted.pop("cache" if memory.activations >= memory.cache else "activations", None)
    part = max(counted, key=lambda name: counted[name])
    fixes = _fixes(stage.cost, part, cluster, plan)
    room = f"{size(cluster.room)} of a GPU's {size(cluster.gpu.memory_bytes)} may be filled"
    return (
        f"{stage.cost.stage}: no mesh fits. {plan.mesh} ({MESH}) needs least, {size(stage.needed)}, and {room}; the "
        f"largest part is {PARTS[part]}, {size(counted[part])}. What would help: {'; '.join(fixes)}"
    )


def _fixes(cost: StageCost, part: str, cluster: Cluster, plan: MeshPlan) -> list[str]:
    name, training = cost.stage, cost.held.training
    can_shard = plan.mesh.num_shares == cluster.training_gpus
    fixes = []
    if part == "activations" and training is not None:
        if not training.recomputes:
            fixes.append(f"--set {name}.recompute_activations=true")
        fixes.append(f"a smaller {name}.micro_batch_tokens or {name}.max_tokens")
    elif part == "cache":
        fixes.append(f"a smaller {name}.max_new_tokens")
    elif part == "sampler":
        fixes.append("--sampler-gpus K, so that other GPUs sample")
    elif not can_shard:
        fixes.append("more of shard in --parallel")
    if training is not None and training.lora is None and part in ("weights", "masters", "gradients", "moments"):
        fixes.append(f"--set {name}.lora.rank=16")
    if not fixes or part in ("masters", "gradients", "moments", "sampler", "cache", "activations"):
        fixes.append("more GPUs, or a --gpu with more memory")
    return fixes
