"""How the weights of each step reach vLLM servers: from files in a folder that all see, or from GPU to GPU.

Both go over paths that vLLM serves in its development mode alone. They are called while nothing is generated, and the
prefix cache is emptied behind them, as its keys and values are of the weights before. Where vLLM keeps a name of its
weights (/update_weight_version, /weight_info), that shows a server that was started again, which has other ones:

    folder   /collective_rpc (reload_weights), /reset_prefix_cache; vLLM 0.18 or later
    nccl     /get_world_size and /init_weight_transfer_engine, once; then /start_weight_update, /update_weights beside
             the broadcast, /finish_weight_update, /reset_prefix_cache; vLLM 0.22 or later
"""

import importlib
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from open_exaone.base.errors import ConfigError
from open_exaone.remote.http import EndpointError
from open_exaone.rollout.providers.vllm_control import EMBEDDINGS, HEAD, Control
from open_exaone.rollout.providers.vllm_parts import weights_written

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class Push(Protocol):
    """A way in which weights reach servers."""

    def keep(self, weights: "Iterable[tuple[str, Tensor]]") -> None:
        """Makes weights the ones that `send` sends."""

    def send(self, controls: Sequence[Control]) -> "list[ConfigError | EndpointError | None]":
        """Sends what is kept to servers; gives what was wrong with each."""

    def drop(self) -> None:
        """Frees what is kept."""

    can_repeat: bool  # whether what is kept may be sent again later, to a server that came back


@dataclass
class FolderPush:
    """Through files in a folder that this process and the servers see."""

    folder: str
    can_repeat = True
    _written: ExitStack = field(default_factory=ExitStack)
    _path: Path | None = None

    def keep(self, weights: "Iterable[tuple[str, Tensor]]") -> None:
        self.drop()
        self._path = self._written.enter_context(weights_written(weights, self.folder))

    def send(self, controls: Sequence[Control]) -> "list[ConfigError | EndpointError | None]":
        return _each(self._send, controls)

    def _send(self, control: Control) -> None:
        assert self._path is not None
        control.call("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(self._path)}})
        control.reset_prefix_cache()

    def drop(self) -> None:
        self._written.close()
        self._path = None


@dataclass
class NcclPush:
    """From this process's GPU to the servers' by NCCL, in vLLM's weight transfer; one communicator a server.

    Whole tensors are sent one by one, which every version of the interface takes. vLLM must be installed here too:
    both ends use its communicator.

    Args:
        address: of this machine, as the servers reach it; None finds it out for each server.
    """

    address: str | None
    can_repeat = False
    _groups: dict[str, Any] = field(default_factory=dict)  # by the server's address
    _weights: "list[tuple[str, Tensor]]" = field(default_factory=list)

    def keep(self, weights: "Iterable[tuple[str, Tensor]]") -> None:
        self._weights = [(name, weight.detach().contiguous()) for name, weight in weights]

    def send(self, controls: Sequence[Control]) -> "list[ConfigError | EndpointError | None]":
        return [_outcome(lambda one=control: self._send(one)) for control in controls]  # type: ignore[misc]

    def _send(self, control: Control) -> None:
        described = {
            "names": [name for name, _ in self._weights],
            "dtype_names": [str(weight.dtype).removeprefix("torch.") for _, weight in self._weights],
            "shapes": [list(weight.shape) for _, weight in self._weights],
        }
        try:
            group = self._groups.get(control.shown) or self._joined(control)
            control.call("/start_weight_update", {"is_checkpoint_format": True})
            beside(
                lambda: control.call("/update_weights", {"update_info": described}),
                lambda: broadcast(group, self._weights),
            )
            control.call("/finish_weight_update", {})
            control.reset_prefix_cache()
        except (ConfigError, EndpointError):
            self._groups.pop(control.shown, None)  # the next attempt begins anew
            raise

    def _joined(self, control: Control) -> Any:
        """The communicator of this process, its rank 0, and a server's workers."""
        classes = nccl_classes()
        size = 1 + control.world_size()
        address = self.address or address_towards(control.shown)
        port = free_port(address)
        init = {"master_address": address, "master_port": port, "rank_offset": 1, "world_size": size}
        group = beside(
            lambda: control.call("/init_weight_transfer_engine", {"init_info": init}),
            lambda: join_group(classes, address, port, size),
        )
        self._groups[control.shown] = group
        return group

    def drop(self) -> None:
        self._weights = []


def nccl_classes() -> tuple[Any, Any]:
    """What both ends of a transfer use: vLLM's way to meet, and its NCCL communicator.

    Raises:
        ConfigError: vLLM is not installed here, or there is no GPU.
    """
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            "engine.weights = 'nccl': sends weights from GPU to GPU, and this process has no GPU: set weights = "
            '"folder"'
        )
    try:
        pynccl = importlib.import_module("vllm.distributed.device_communicators.pynccl")
        return importlib.import_module("vllm.distributed.utils").StatelessProcessGroup, pynccl.PyNcclCommunicator
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            "engine.weights = 'nccl': uses vLLM's NCCL communicator, so vLLM must be installed in this environment "
            f'too: pip install "open-exaone[vllm]", or set weights = "folder" ({error})'
        ) from error


def join_group(classes: tuple[Any, Any], address: str, port: int, size: int) -> Any:
    """The communicator of this process as rank 0 of `size`, on its current GPU; waits for the others."""
    import torch

    meeting, communicator = classes
    group = meeting.create(host=address, port=port, rank=0, world_size=size)
    return communicator(group, device=torch.cuda.current_device())


def broadcast(group: Any, weights: "Sequence[tuple[str, Tensor]]") -> None:
    """Sends each tensor whole; returns when all have left."""
    import torch

    for _, weight in weights:
        group.broadcast(weight, src=0, stream=torch.cuda.current_stream())
    torch.cuda.current_stream().synchronize()


def beside(theirs: Callable[[], None], ours: Callable[[], T]) -> T:
    """Does our part of an exchange while the server does its own; its error comes first.

    Where ours fails, theirs is not waited for: the server may wait for us.
    """
    threads = ThreadPoolExecutor(max_workers=1)
    try:
        future: Future[None] = threads.submit(theirs)
        if future.done():
            future.result()
        result = ours()
        future.result()
        return result
    finally:
        threads.shutdown(wait=False)


def address_towards(url: str) -> str:
    """This machine's address in the network by which it reaches a server; nothing is sent."""
    parts = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((parts.hostname or "", parts.port or 80))
            return str(probe.getsockname()[0])
        except OSError as error:
            raise ConfigError(
                f"{url}: cannot find the address by which the server reaches this machine ({error}): set "
                "engine.weights_address"
            ) from error


def free_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise ConfigError(
                f"engine.weights_address = {address!r}: is not an address of this machine ({error}): set the one by "
                "which the servers reach it"
            ) from error
        return int(probe.getsockname()[1])


def _each(act: Callable[[Control], None], controls: Sequence[Control]) -> "list[ConfigError | EndpointError | None]":
    """Does something with all servers at once."""
    with ThreadPoolExecutor(max_workers=max(1, len(controls))) as threads:
        return list(threads.map(lambda control: _outcome(lambda: act(control)), controls))


def _outcome(act: Callable[[], None]) -> ConfigError | EndpointError | None:
    try:
        act()
    except (ConfigError, EndpointError) as error:
        return error
    return None


def with_head(weights: "Iterable[tuple[str, Tensor]]") -> "Iterator[tuple[str, Tensor]]":
    """Weights with the head by its own name, where it is tied to the embeddings."""
    tied = None
    for name, weight in weights:
        tied = weight if name == EMBEDDINGS else None if name == HEAD else tied
        yield name, weight
    if tied is not None:
        yield HEAD, tied.detach().clone()  # a file holds each tensor's own bytes
