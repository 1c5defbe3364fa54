"""Whether all ranks are in one state, as they must be; where each keeps the whole model, with the same weights."""

import hashlib

from open_exaone.base.errors import RankError
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.sharding import is_sharded
from open_exaone.train.parallel.world import World

VALUES = 64  # of each weight; an update moves more than that


def check_alike(world: World, step: int, optimizer: MasterOptimizer) -> None:
    """Finds ranks whose step or weights differ, before that is saved or gone on from.

    Raises:
        RankError: names the rank.
    """
    if world.size == 1:
        return
    digest = hashlib.sha256(str(step).encode())
    for name, weight in optimizer.masters.items():
        if is_sharded(weight):  # each rank has a part of its own
            continue
        values = weight.detach().flatten()
        some = values[:: max(1, len(values) // VALUES)].cpu().contiguous()
        digest.update(name.encode() + some.numpy().tobytes())
    found = world.gather(digest.hexdigest)
    if others := [rank for rank, other in enumerate(found) if other != found[0]]:
        raise RankError(
            f"rank {others[0]} has weights that differ from those of rank 0 at step {step}: use one kind of machine, "
            f"the same versions and one shared folder for all ranks; the last saved state is not affected"
        )
