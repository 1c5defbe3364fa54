"""Frames on a socket between the judge, the fork server and what it forks: a small JSON header, then raw bytes."""

import json
import socket
import struct
import time
from typing import Any

_PREFIX = struct.Struct("!I")
_MAX_HEADER_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 16


class TooLongError(Exception):
    """A frame announces more bytes than the receiver wants."""


def send(link: socket.socket, header: dict[str, Any], *blobs: bytes) -> None:
    """Sends one frame, blocking."""
    head = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
    link.sendall(b"".join([_PREFIX.pack(len(head)), head, *blobs]))


def receive(
    link: socket.socket, deadline: float | None = None, max_bytes: int = _MAX_HEADER_BYTES
) -> tuple[dict[str, Any], list[bytes]] | None:
    """Receives one frame; None where the other side has ended.

    Args:
        deadline: the `time.monotonic()` after which waiting ends.
        max_bytes: what the header, and all the blobs together, may take.

    Raises:
        TimeoutError: the deadline is past.
        TooLongError: the frame is larger than that.
        ValueError: what came is no frame.
    """
    prefix = _exactly(link, _PREFIX.size, deadline)
    if prefix is None:
        return None
    (num_bytes,) = _PREFIX.unpack(prefix)
    if num_bytes > max_bytes:
        raise TooLongError(f"{num_bytes} bytes, where {max_bytes} are allowed")
    head = _exactly(link, num_bytes, deadline)
    if head is None:
        return None
    header = json.loads(head)
    sizes = header.pop("blobs")
    if sum(sizes) > max_bytes:
        raise TooLongError(f"{sum(sizes)} bytes, where {max_bytes} are allowed")
    blobs = []
    for size in sizes:
        blob = _exactly(link, size, deadline)
        if blob is None:
            return None
        blobs.append(bytes(blob))
    return header, blobs


def _exactly(link: socket.socket, num_bytes: int, deadline: float | None) -> bytearray | None:
    """That many bytes; None where the other side ends before."""
    buffer = bytearray()
    while len(buffer) < num_bytes:
        if deadline is not None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            link.settimeout(left_s)
        try:
            chunk = link.recv(min(num_bytes - len(buffer), _CHUNK_BYTES))
        except (ConnectionResetError, BrokenPipeError):
            return None
        if not chunk:
            return None
        buffer += chunk
    return buffer
