"""Plans of meshes: what fits, in which order, how long it takes, by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest

from open_exaone.base.errors import ConfigError
from open_exaone.model.cluster import Cluster, MeshPlan, plan_meshes, plan_stage_on
from open_exaone.model.cost import StageCost
from open_exaone.model.gpus import GPUS, gpu_by_name
from open_exaone.model.memory import cache_bytes, local_parameters
from open_exaone.model.mesh import Mesh
from open_exaone.model.speed import Assumptions, Sampler, decode_seconds, stage_seconds
from open_exaone.pipeline.plan import plan_recipe, shape_of
from open_exaone.pipeline.recipe import load_recipe

H100, ASSUMED = GPUS["h100"], Assumptions()


def costs_of(name: str, *changes: str) -> list[StageCost]:
    recipe = load_recipe(name, list(changes))
    return plan_recipe(recipe, shape_of(recipe))


DEEP = costs_of("exaone-deep-32b")
SFT, _, RL = DEEP
SMALL = costs_of("smollm2-gsm8k")


def test_training_takes_its_flops_at_the_stated_mfu() -> None:
    assert SFT.work is not None
    mesh = Mesh(shard=8)
    found = stage_seconds(SFT, mesh, None, H100, ASSUMED)
    assert found["training"] == pytest.approx(SFT.work.training / (8 * 989e12 * 0.4), rel=0.01)
    halved = stage_seconds(SFT, mesh, None, H100, replace(ASSUMED, mfu=0.2))
    assert halved["training"] == pytest.approx(2 * found["training"])


def test_devices_without_a_sequence_wait() -> None:
    few = costs_of("smollm2-gsm8k", "sft.batch_documents=16")[0]
    at_16, at_12, at_64 = (stage_seconds(few, Mesh(data=n), None, H100, ASSUMED)["training"] for n in (16, 12, 64))
    assert at_12 == pytest.approx(at_16 * 2, rel=0.01)  # some devices have two sequences
    assert at_64 == pytest.approx(at_16, rel=0.01)  # 48 have none


def test_writing_is_bound_by_the_weights_or_by_keys_and_values_that_are_read() -> None:
    """One group of GPUs that holds all replies of a round at once: a step for each token of the longest one."""
    assert RL.work is not None and RL.work.sampled is not None
    sampled = RL.work.sampled
    sampler = Sampler(num_gpus=8, tensor=8, most_at_once=10**6)
    context = round(sampled.prompt_tokens + sampled.reply_tokens / 2)
    read = 28_672 * 2 * local_parameters(RL.shape, Mesh(tensor=8))
    read += 1024 * sampled.reply_tokens * cache_bytes(RL.shape, context, 2, 8)
    assert decode_seconds(RL, sampler, H100, ASSUMED) == pytest.approx(sampled.num_rounds * read / (3.35e12 * 0.6))
    one_by_one = decode_seconds(RL, replace(sampler, most_at_once=1), H100, ASSUMED)
    steps = 1024 * sampled.reply_tokens * 2 * local_parameters(RL.shape, Mesh(tensor=8))
    assert one_by_one > sampled.num_rounds * steps / (3.35e12 * 0.6)
    slow = replace(H100, flops=1e12)
    assert decode_seconds(RL, sampler, slow, ASSUMED) == pytest.approx(RL.work.decode / (8 * 1e12 * 0.4), rel=1e-6)


def test_communication_counts_where_arithmetic_does_not_hide_it() -> None:
    """Sums over tensor are waited for; gathered weights only where they take longer than the arithmetic."""
    alone = stage_seconds(SFT, Mesh(shard=8), None, H100, ASSUMED)
    assert "communication" not in alone
    assert SFT.num_steps is not None and SFT.train_tokens is not None
    tensor = stage_seconds(SFT, Mesh(tensor=8), None, H100, ASSUMED)["communication"]
    sums = 2 * 3 * 64 * (2 * 7 / 8) * SFT.train_tokens * 5120 * 2  # two a layer in each of three passes, bfloat16
    assert tensor == pytest.approx(sums / 450e9, rel=0.01)
    between = stage_seconds(SFT, Mesh(tensor=8), None, H100, replace(ASSUMED, node_gpus=4))["communication"]
    assert between == pytest.approx(9 * tensor, rel=0.01)  # 50 GB/s instead of 450
    crawling = replace(ASSUMED, node_gpus=4, network_bandwidth=1e9)
    assert stage_seconds(SFT, Mesh(shard=8), None, H100, crawling)["communication"] > 0


EIGHTH = 8  # micro-batches of 32,768 tokens in an eighth of a batch of 2,000,000


def sent_in_a_step(mesh: Mesh, change: str) -> float:
    """Bytes that one GPU sends in a step of SFT: seconds on links of one byte a second, behind no arithmetic."""
    [cost, *_] = costs_of("exaone-deep-32b", "sft.batch_tokens=2_000_000", change)
    crawling = replace(H100, link_bandwidth=1.0, flops=1e30)
    assert cost.num_steps is not None
    return stage_seconds(cost, mesh, None, crawling, ASSUMED)["communication"] / cost.num_steps


def test_gradients_that_are_reduced_in_bfloat16_send_half_as_much() -> None:
    """On links so slow that nothing is hidden: bytes by hand, of one GPU in one step."""
    weights = SFT.shape.num_parameters
    for number, dtype in ((4, "float32"), (2, "bfloat16")):
        change = f'parallel.reduce_dtype="{dtype}"'
        sent = EIGHTH * 7 / 8 * (2 * 2 + number) * weights
        assert sent_in_a_step(Mesh(shard=8), change) == pytest.approx(sent, rel=1e-3)
        sent = EIGHTH * 3 / 4 * (2 * 2 + number) * weights + 2 * 1 / 2 * number * weights / 4
        assert sent_in_a_step(Mesh(data=2, shard=4), change) == pytest.approx(sent, rel=1e-3)
        sent = 2 * 7 / 8 * 4 * weights  # whole copies are added up in float32
        assert sent_in_a_step(Mesh(data=8), change) == pytest.approx(sent, rel=1e-3)


def test_weights_that_stay_gathered_are_sent_once_a_micro_batch() -> None:
    found = sent_in_a_step(Mesh(shard=8), "parallel.reshard_after_forward=false")
    assert found == pytest.approx(EIGHTH * 7 / 8 * (2 + 4) * SFT.shape.num_parameters, rel=1e-3)


def test_what_fits_comes_first_and_the_fastest_of_it() -> None:
    cluster = Cluster(H100, 64)
    plans = plan_meshes(DEEP, cluster)
    fits = [plan.fits(cluster) for plan in plans]
    assert fits == sorted(fits, reverse=True) and 0 < sum(fits) < len(fits)
    fitting = [plan for plan in plans if plan.fits(cluster)]
    assert all(a.seconds <= 1.02 * b.seconds for a, b in pairwise(fitting))
    others = [plan.fullest.needed for plan in plans if not plan.fits(cluster)]
    assert others == sorted(others) and others[0] > cluster.room
    assert all(plan.mesh.num_shares > 1 or plan.mesh.tensor > 1 for plan in fitting)


def test_a_cache_holds_what_is_sampled_at_once_as_far_as_there_is_room() -> None:
    cluster = Cluster(H100, 8)
    rl = SMALL[-1]
    plan = plan_stage_on(rl, Mesh(data=8), cluster)
    one = cache_bytes(rl.shape, rl.held.longest, 2)
    assert plan.memory.cache == 16 * one  # 128 replies of 8 GPUs
    assert plan.needed == replace(plan.memory, cache=one).total and plan.memory.sampler == 0
    little = replace(H100, memory_bytes=(plan.memory.state + 3.5 * one) / 0.9)
    tight = plan_stage_on(rl, Mesh(data=8), Cluster(little, 8))
    assert tight.memory.cache == 3 * one and tight.sampler is not None and tight.sampler.most_at_once == 3


def test_gpus_that_only_sample_hold_weights_and_caches_alone() -> None:
    cluster = Cluster(H100, 24, sampler_gpus=8)
    plan = plan_stage_on(RL, Mesh(shard=16), cluster)
    assert plan.memory.sampler == plan.memory.cache == 0 and plan.sampler is not None
    other = plan.sampler_memory
    assert other is not None and other.optimizer == other.activations == other.weights == 0
    assert other.sampler == 2 * local_parameters(RL.shape, Mesh(tensor=plan.sampler.tensor))
    together = plan_stage_on(RL, Mesh(shard=16), Cluster(H100, 16))
    assert together.memory.sampler > 0 and together.sampler_memory is None
    assert plan_stage_on(SFT, Mesh(shard=16), cluster).sampler is None


def test_a_stage_of_unknown_length_has_memory_and_no_time() -> None:
    unknown = replace(SFT, work=None, num_steps=None, train_tokens=None)
    plan = plan_stage_on(unknown, Mesh(shard=8), Cluster(H100, 8))
    assert plan.seconds == {} and plan.memory == plan_stage_on(SFT, Mesh(shard=8), Cluster(H100, 8)).memory
    assert MeshPlan(Mesh(shard=8), (plan,)).seconds == 0


@pytest.mark.parametrize(
    ("num_gpus", "sampler_gpus", "message"),
    [
        (0, 0, "--gpus 0: must be at least 1"),
        (-1, 0, "--gpus -1: must be at least 1"),
        (8, 8, "--sampler-gpus 8: must lie in 0 to 7"),
        (8, -1, "--sampler-gpus -1: must lie in 0 to 7"),
        (10**9, 0, "--gpus 1,000,000,000: at most 1,000,000"),
    ],
)
def test_a_cluster_has_gpus_that_train(num_gpus: int, sampler_gpus: int, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Cluster(H100, num_gpus, sampler_gpus).check()
    assert message in str(caught.value)


def test_a_mesh_that_does_not_divide_the_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="--parallel: tensor = 16: must divide the model's num_heads = 40"):
        plan_meshes(DEEP, Cluster(H100, 16), Mesh(tensor=16))


def test_an_unknown_gpu_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match='--gpu h20: is not known; did you mean "h200"'):
        gpu_by_name("h20")
    assert gpu_by_name("H200") is GPUS["h200"]


def test_data_sheets_are_dense_and_one_way() -> None:
    """Sheets print FLOP/s with sparsity and both ways of a link: a number that is twice as large is a slip."""
    for gpu in GPUS.values():
        assert 20e9 < gpu.memory_bytes < 300e9 and 100e12 < gpu.flops < 3000e12
        assert 0.5e12 < gpu.memory_bandwidth < 10e12 and 30e9 < gpu.link_bandwidth < 1e12 and 300 < gpu.power_w < 1500
        assert gpu.source
