"""The paths of a vLLM server that are not OpenAI's: those of its development mode, and what it states of itself."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from open_exaone.base.errors import ConfigError
from open_exaone.remote.http import Caller, EndpointError, Limits, Server, UnreadableError

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

    def world_size(self) -> int:
        """How many workers the server has.

        Raises:
            ConfigError, EndpointError: see `post`.
        """
        return self.post("/get_world_size", None, _read_world_size)

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
                f"{self.shown} (vLLM {self.version}): runs on a CPU, where vLLM does not update an lm_head that is "
                "tied to the embeddings: serve a copy of the model whose config.json has tie_word_embeddings = false "
                "and whose weights contain lm_head.weight (docs/vllm.md)"
            )

    def _problem(self, path: str, error: EndpointError) -> str:
        oldest = OLDEST[self.way]
        wanted = ".".join(map(str, oldest))
        numbers = re.match(r"(\d{1,4})\.(\d{1,4})", self.version or "")
        is_old = numbers is not None and (int(numbers[1]), int(numbers[2])) < oldest
        named = (
            f"{self.shown} (vLLM {self.version[:40]})"
            if self.version
            else f"{self.shown} (its vLLM version is not known)"
        )
        if is_old:
            return (
                f"{named}: cannot load new weights with engine.weights = {self.way!r}: upgrade the server to vLLM "
                f"{wanted} or later"
            )
        if error.status in (404, 405):
            return (
                f"{named}: has no route {path}, which it needs to load new weights: start vLLM {wanted} or later with "
                "the environment variable VLLM_SERVER_DEV_MODE=1, where nobody else can reach it"
            )
        if self.way == "folder" and path == "/collective_rpc":
            return (
                f"{named}: could not load the new weights: {error}; the server must see the folder "
                "engine.weights_folder under the same path, and must have a model of the same shape: see its log"
            )
        fix = f"start it with {_TRANSFER}, and see its log" if self.way == "nccl" else "see its log"
        return f"{named}: failed to load the new weights: {error}; {fix}"


def _read_success(answer: bytes) -> None:
    try:
        value = json.loads(answer or b"{}")
    except (ValueError, RecursionError):
        value = {}
    if isinstance(value, dict) and value.get("success") is False:
        raise UnreadableError("its prefix cache is in use and was not reset; no other client may use the server")


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
        raise UnreadableError("its response lists no weights") from error


def _read_version(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["version"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableError("its response has no version") from error


def _read_world_size(answer: bytes) -> int:
    try:
        size = json.loads(answer)["world_size"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreadableError("its response has no world size") from error
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= 65536:
        raise UnreadableError("its response has no world size")
    return size
