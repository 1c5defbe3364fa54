"""A recipe's stages on so many GPUs: which meshes hold them, what each GPU holds, how long they take. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import log

from open_exaone.base.errors import ConfigError
from open_exaone.model.cost import StageCost
from open_exaone.model.gpus import Gpu
from open_exaone.model.memory import Held, Memory, cache_bytes, memory_of
from open_exaone.model.mesh import MAX_DEVICES, Mesh, divisors, meshes, why_not
from open_exaone.model.speed import Assumptions, Sampler, decode_seconds, stage_seconds


@dataclass(frozen=True)
class Cluster:
    """GPUs of one kind. Where `sampler_gpus` is 0, the GPUs that train sample too."""

    gpu: Gpu
    num_gpus: int
    sampler_gpus: int = 0
    assumed: Assumptions = field(default_factory=Assumptions)

    @property
    def training_gpus(self) -> int:
        return self.num_gpus - self.sampler_gpus

    @property
    def room(self) -> int:
        """Bytes of a GPU that a plan may fill."""
        return int(self.gpu.memory_bytes * self.assumed.memory_share)

    def check(self) -> None:
        """Raises:
        ConfigError: no GPU is left to train, or there are more than anybody has.
        """
        if self.num_gpus < 1:
            raise ConfigError(f"--gpus {self.num_gpus}: must be at least 1")
        if self.num_gpus > MAX_DEVICES:
            raise ConfigError(f"--gpus {self.num_gpus:,}: at most {MAX_DEVICES:,} are planned for")
        if not 0 <= self.sampler_gpus < self.num_gpus:
            raise ConfigError(
                f"--sampler-gpus {self.sampler_gpus}: must lie in 0 to {self.num_gpus - 1}: of {self.num_gpus} GPUs, "
                "at least one trains"
            )


@dataclass(frozen=True)
class StagePlan:
    """One stage on one mesh."""

    cost: StageCost
    memory: Memory  # on one of the GPUs that train
    sampler_memory: Memory | None  # on one of those that only sample
    sampler: Sampler | None
    seconds: dict[str, float]  # by part; empty where the number of rows is not known
    needed: int  # bytes on the GPU that has most, with the keys and values of one whole reply

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True)
class MeshPlan:
    """All stages on one mesh."""

    mesh: Mesh
    stages: tuple[StagePlan, ...]

    @cached_property
    def seconds(self) -> float:
        return sum(stage.total_seconds for stage in self.stages)

    @cached_property
    def fullest(self) -> StagePlan:
        return max(self.stages, key=lambda stage: stage.needed)

    def fits(self, cluster: Cluster) -> bool:
        return self.fullest.needed <= cluster.room


def plan_meshes(
    costs: Sequence[StageCost], cluster: Cluster, mesh: Mesh | None = None, where: str = "--parallel"
) -> list[MeshPlan]:
    """Every mesh of the cluster's training GPUs, or the given one; those that hold all stages first, the fastest first.

    Args:
        where: what gives the mesh, for errors.

    Raises:
        ConfigError: the model cannot be computed on the given mesh, or on any.
    """
    cluster.check()
    shape = costs[0].shape
    if mesh is not None and (why := why_not(mesh, shape)):
        raise ConfigError(f"{where}: {why}")
    found = [mesh] if mesh is not None else list(meshes(cluster.training_gpus, shape, cluster.assumed.node_gpus))
    plans = [MeshPlan(one, tuple(plan_stage_on(cost, one, cluster) for cost in costs)) for one in found]
    return sorted(plans, key=lambda plan: (*_order(plan, cluster), plan.mesh.tensor, plan.mesh.context))


def _order(plan: MeshPlan, cluster: Cluster) -> tuple[bool, float, int]:
    """What fits by its time, and within a hundredth by the memory that it needs; what does not fit by that alone."""
    fits, needed = plan.fits(cluster), plan.fullest.needed
    return not fits, round(100 * log(plan.seconds)) if fits and plan.seconds else 0, needed


def plan_stage_on(cost: StageCost, mesh: Mesh, cluster: Cluster) -> StagePlan:
    """One stage on one mesh."""
    held = cost.held
    if not held.longest:
        memory = memory_of(cost.shape, held, mesh)
        return StagePlan(cost, memory, None, None, _seconds(cost, mesh, None, cluster), memory.total)
    memory, sampler, needed = memory_of(cost.shape, replace(held, longest=0), mesh), None, 0
    sampler_memory = None
    if cluster.sampler_gpus:
        only = Held(None, held.value_bytes, 0, held.longest)
        sizes = _splits(cost, cluster.sampler_gpus, cluster.assumed.node_gpus)
        tried = [(size, memory_of(cost.shape, only, sampler_tensor=size)) for size in sizes]
        sampler_memory, sampler, needed = _fastest(cost, tried, cluster, cluster.sampler_gpus)
        memory = Memory(0) if held.training is None else memory
        needed = max(needed, memory.total)
    else:
        splits = _splits(cost, mesh.num_devices, cluster.assumed.node_gpus)
        tried = [(size, memory_of(cost.shape, held, mesh, sampler_tensor=size)) for size in splits]
        tried = [(1, memory_of(cost.shape, held, mesh))] if mesh.is_whole else tried
        memory, sampler, needed = _fastest(cost, tried, cluster, mesh.num_devices)
    return StagePlan(cost, memory, sampler_memory, sampler, _seconds(cost, mesh, sampler, cluster), needed)


def _seconds(cost: StageCost, mesh: Mesh, sampler: Sampler | None, cluster: Cluster) -> dict[str, float]:
    if cost.work is None:
        return {}
    return stage_seconds(cost, mesh, sampler, cluster.gpu, cluster.assumed)


def _splits(cost: StageCost, num_gpus: int, node_gpus: int) -> list[int]:
    """Over how many GPUs of a machine the sampler may split the matrices."""
    return [size for size in divisors(num_gpus) if size <= node_gpus and not why_not(Mesh(tensor=size), cost.shape)]


def _fastest(
    cost: StageCost, tried: Sequence[tuple[int, Memory]], cluster: Cluster, num_gpus: int
) -> tuple[Memory, Sampler, int]:
    """Of the splits that hold one whole reply the one that writes fastest, or the largest where none does.

    Returns:
        its memory with as many replies as are sampled at once and have room; itself; what it needs with one reply.
    """
    holding = [one for one in tried if one[1].total <= cluster.room] or [tried[-1]]
    found = []
    for tensor, memory in holding:
        one = cache_bytes(cost.shape, cost.held.longest, cost.held.value_bytes, tensor)
        sampler = Sampler(num_gpus, tensor, max(1, int((cluster.room - memory.state) // one)))
        seconds, replies = 0.0, 1
        if cost.work is not None and cost.work.sampled is not None:
            seconds = decode_seconds(cost, sampler, cluster.gpu, cluster.assumed)
            replies = -(-cost.work.sampled.num_replies // sampler.num_groups)
        filled = replace(memory, cache=one * min(sampler.most_at_once, replies))
        found.append((seconds, tensor, filled, sampler, memory.total))
    _, _, filled, sampler, needed = min(found, key=lambda item: item[:2])
    return filled, sampler, needed
