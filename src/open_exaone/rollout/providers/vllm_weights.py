"""How the weights of each step reach vLLM servers: from files in a folder that all see, or from GPU to GPU.

Both go over paths that vLLM serves in its development mode alone. They are called while nothing is generated, and the
prefix cache is emptied behind them, as its keys and values are of the weights before. Where vLLM keeps a name of its
weights (/update_weight_version, /weight_info), that shows a server that was started again, which has other ones:

    folder   /collective_rpc (reload_weights), /reset_prefix_cache; vLLM 0.18 or later
    nccl     /get_world_size and /init_weight_transfer_engine, once; then /start_weight_update, /update_weights beside
             the broadcast, /finish_weight_update, /reset_prefix_cache; vLLM 0.22 or later
"""

import importlib
import json
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from open_exaone.base.errors import ConfigError
from open_exaone.remote.http import Caller, EndpointError, Limits, Server, UnreadableError
from open_exaone.rollout.providers.vllm_parts import weights_written

if TYPE_CHECKING:
    from torch import Tensor

OLDEST = {"folder": (0, 18), "nccl": (0, 22)}  # vLLM that takes weights so
EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_TRANSFER = """--weight-transfer-config '{"backend": "nccl"}'"""
_MAX_ATTEMPTS = 3
_MAX_BYTES = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class Control:
    """The paths of one vLLM server that are not OpenAI's.

    Args:
        server: its address without /v1.
        shown: the address as the user wrote it.
        way: how it gets weights.
    """

    server: Server
    shown: str
    way: str
    timeout_s: float

    def post(self, path: str, body: object, read: Callable[[bytes], T], num_attempts: int = _MAX_ATTEMPTS) -> T:
        """What `read` makes of the answer.

        Raises:
            ConfigError: the server has no such path, or fails of it: names the server, its version and the fix.
            EndpointError: it cannot be reached.
        """
        limits = Limits(self.timeout_s, num_attempts, _MAX_BYTES)
        method = "GET" if body is None else "POST"
        data = b"" if body is None else json.dumps(body).encode()
        try:
            return Caller(self.server).exchange(method, path, data, limits, read)
        except EndpointError as error:
            if error.status is None:
                raise
            raise ConfigError(self._problem(path, error)) from error

    def call(self, path: str, body: object) -> None:
        self.post(path, body, lambda answer: None, num_attempts=1)  # half an update is not repeated

    def reset_prefix_cache(self) -> None:
        """Forgets keys and values of the weights before.

        Raises:
            ConfigError, EndpointError: see `post`; also where blocks stay in use, as by another client's requests.
        """
        self.post("/reset_prefix_cache", {}, _read_success)

    def mark(self, name: str) -> bool:
        """Has the server keep the name of its weights, until it is started again; False where it cannot (before 0.30).

        Raises:
            ConfigError, EndpointError: see `post`.
        """
        if self.marked() is None:
            return False
        self.call("/update_weight_version", {"new_version": name})
        return True

    def marked(self) -> str | None:
        """The name of its weights; None where it keeps none.

        Raises:
            EndpointError: it cannot be reached.
        """
        limits = Limits(min(60.0, self.timeout_s), _MAX_ATTEMPTS, _MAX_BYTES)
        try:
            return Caller(self.server).exchange("GET", "/weight_info", b"", limits, _read_mark)
        except EndpointError as error:
            if error.status is None:
                raise
            return None

    @cached_property
    def version(self) -> str | None:
        """Of vLLM; None where the server does not state it."""
        try:
            limits = Limits(min(60.0, self.timeout_s), 1, _MAX_BYTES)
            return Caller(self.server).exchange("GET", "/version", b"", limits, _read_version)
        except EndpointError:
            return None

    @cached_property
    def device(self) -> str | None:
        """What the server computes on, such as "cpu"; None where it does not state it."""
        try:
            limits = Limits(min(60.0, self.timeout_s), 1, _MAX_BYTES)
            return Caller(self.server).exchange("GET", "/server_info?config_format=json", b"", limits, _read_device)
        except EndpointError:
            return None

    def check_head(self) -> None:
        """Refuses a server on a CPU whose head is tied to the embeddings: no weights that are handed over reach it.

        vLLM 0.32 multiplies by a packed copy of the head there, which it makes at its start alone.

        Raises:
            ConfigError: the head is tied: says what to serve.
        """
        if self.device == "cpu" and not self.post("/weight_checker", {"action": "checksum"}, _read_has_head):
            raise ConfigError(
                f"{self.shown} (vLLM {self.version}): computes on a CPU, where new weights do not reach a head that is "
                "tied to the embeddings: serve a copy of the model whose config.json has tie_word_embeddings = false "
                "and whose weights hold lm_head.weight too (docs/vllm.md)"
            )

    def _problem(self, path: str, error: EndpointError) -> str:
        oldest = OLDEST[self.way]
        wanted = ".".join(map(str, oldest))
        numbers = re.match(r"(\d{1,4})\.(\d{1,4})", self.version or "")
        is_old = numbers is not None and (int(numbers[1]), int(numbers[2])) < oldest
        named = (
            f"{self.shown} (vLLM {self.version[:40]})"
            if self.version
            else f"{self.shown} (it states no version of vLLM)"
        )
        if is_old:
            return f"{named}: takes no weights by {self.way!r}: upgrade the server to vLLM {wanted} or later"
        if error.status in (404, 405):
            return (
                f"{named}: has no path {path}, so it takes no weights: start vLLM {wanted} or later with the "
                "environment variable VLLM_SERVER_DEV_MODE=1, and let nobody else reach it"
            )
        if self.way == "folder" and path == "/collective_rpc":
            return (
                f"{named}: could not load the weights: {error}; the folder engine.weights_folder must be there for the "
                "server too, under the same path, and the server must have a model of the same shape: see its log"
            )
        fix = f"start it with {_TRANSFER}, and see its log" if self.way == "nccl" else "see its log"
        return f"{named}: failed to take the weights: {error}; {fix}"


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
        size = 1 + control.post("/get_world_size", None, _read_world_size)
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
            "engine.weights = 'nccl': sends weights from GPU to GPU, and this process has none: take weights = "
            '"folder"'
        )
    try:
        pynccl = importlib.import_module("vllm.distributed.device_communicators.pynccl")
        return importlib.import_module("vllm.distributed.utils").StatelessProcessGroup, pynccl.PyNcclCommunicator
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            "engine.weights = 'nccl': needs vLLM in this environment too, whose NCCL communicator both ends use: pip "
            f'install "open-exaone[vllm]", or take weights = "folder" ({error})'
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
                f"{url}: this machine's address towards it is not to be found ({error}): set engine.weights_address"
            ) from error


def free_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            raise ConfigError(
                f"engine.weights_address = {address!r}: is no address of this machine ({error}): give the one by "
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


def _read_success(answer: bytes) -> None:
    try:
        value = json.loads(answer or b"{}")
    except (ValueError, RecursionError):
        value = {}
    if isinstance(value, dict) and value.get("success") is False:
        raise UnreadableError("its prefix cache is in use and was not emptied; let nobody else use the server")


def _read_mark(answer: bytes) -> str | None:
    try:
        return str(json.loads(answer)["weight_version"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _read_device(answer: bytes) -> str | None:
    try:
        return str(json.loads(answer)["vllm_config"]["device_config"]["device"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _read_has_head(answer: bytes) -> bool:
    try:
        return any(name.endswith(HEAD) for name in json.loads(answer)["checksums"])  # "dp0:…:lm_head.weight"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError("its answer names no weights") from error


def with_head(weights: "Iterable[tuple[str, Tensor]]") -> "Iterator[tuple[str, Tensor]]":
    """Weights with the head by its own name, where it is tied to the embeddings."""
    tied = None
    for name, weight in weights:
        tied = weight if name == EMBEDDINGS else None if name == HEAD else tied
        yield name, weight
    if tied is not None:
        yield HEAD, tied.detach().clone()  # a file holds each tensor's own bytes


def _read_version(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["version"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableError("its answer is no version") from error


def _read_world_size(answer: bytes) -> int:
    try:
        size = json.loads(answer)["world_size"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableError("its answer is no world size") from error
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 65536:
        raise UnreadableError("its answer is no world size")
    return size
