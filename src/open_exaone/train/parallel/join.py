"""How ranks come together: they meet at one address, and find that they run the same thing."""

import json
import socket
import time
from collections.abc import Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from open_exaone.base.errors import ConfigError, RankError
from open_exaone.train.parallel.config import ParallelConfig
from open_exaone.train.parallel.place import Place
from open_exaone.train.parallel.ranks import Ranks


def join(place: Place, config: ParallelConfig, hello: Mapping[str, str], device: torch.device) -> Ranks:
    """Meets the other ranks.

    Args:
        hello: what must be the same on all ranks, by its name.
        device: that this rank computes on.

    Raises:
        ConfigError: the ranks run different things; names what differs.
        RankError: they cannot be reached in time; names the address and the rank.
    """
    if device.type == "cuda":
        _take_gpu(place)
    store = _meet(place, config.start_timeout_s)
    _compare(place, store, config.start_timeout_s, hello)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore("group", store),
        rank=place.rank,
        world_size=place.size,
        timeout=timedelta(seconds=config.step_timeout_s),
    )
    return Ranks(place.rank, place.size, PrefixStore("world", store), config.step_timeout_s)


def _take_gpu(place: Place) -> None:
    number = torch.cuda.device_count()
    if place.local_rank >= number:
        raise ConfigError(
            f"rank {place.rank} has LOCAL_RANK = {place.local_rank}, and {socket.gethostname()} has {number} "
            f"GPU{'' if number == 1 else 's'}: start as many ranks as the machine has GPUs, or use --device cpu"
        )
    torch.cuda.set_device(place.local_rank)


def _meet(place: Place, timeout_s: float) -> Store:
    """What is stored here, all ranks see."""
    try:
        store = TCPStore(
            place.address,
            place.port,
            place.size,
            is_master=place.rank == 0 and not place.has_agent,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        why = str(error).strip().partition("\n")[0][:200]
        raise RankError(
            f"rank {place.rank} cannot reach rank 0 at {place.address}:{place.port} within parallel.start_timeout_s = "
            f"{timeout_s:g} seconds ({why}): check MASTER_ADDR and MASTER_PORT, and that rank 0 is running"
        ) from error
    return PrefixStore(f"exaone/{place.attempt}", store)


def _compare(place: Place, store: Store, timeout_s: float, hello: Mapping[str, str]) -> None:
    """Finds ranks that have not connected, or run something else."""
    own = {**hello, "WORLD_SIZE": str(place.size)}
    store.set(f"hello/{place.rank}", json.dumps({**own, "host": socket.gethostname()}))
    deadline = time.monotonic() + timeout_s
    for rank in range(place.size):
        try:
            store.wait([f"hello/{rank}"], timedelta(seconds=max(0.1, deadline - time.monotonic())))
            found = json.loads(store.get(f"hello/{rank}"))
        except RuntimeError as error:
            raise RankError(
                f"rank {rank} of {place.size} has not connected to {place.address}:{place.port} within "
                f"parallel.start_timeout_s = {timeout_s:g} seconds: look at its output, or raise the timeout"
            ) from error
        if differs := [name for name in own if found.get(name) != own[name]]:
            values = "; ".join(f"{name} is {found.get(name)} there and {own[name]} here" for name in differs)
            raise ConfigError(
                f"rank {rank} on {found['host']} was started differently from rank {place.rank}: {values}: start all "
                f"ranks with the same version, recipe and flags"
            )
