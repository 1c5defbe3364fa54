"""Many clients of a server in one thread, on plain sockets: they share its processor, so they must cost little."""

import json
import re
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TEXT = re.compile(rb'"(?:content|text|reasoning|reasoning_content)": ?"[^"]')  # some, in a stream's piece
COUNT = re.compile(rb'"completion_tokens": ?(\d+)')
LENGTH = re.compile(rb'"finish_reason": ?"length"')
LONGEST_S = 900.0  # of one answer


@dataclass(slots=True)
class Reply:
    """What one client got."""

    began: float
    first_s: float | None = None  # seconds until its first text
    parts: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> bytes:
        return b"".join(self.parts)

    def num_tokens(self, most: int) -> int:
        """Tokens of the reply: as its usage counts them, else `most` where that ended it.

        Raises:
            RuntimeError: the answer is an error, or does not tell.
        """
        text = self.text
        if text.startswith(b"HTTP/1.1 200"):
            if counts := COUNT.findall(text):
                return int(counts[-1])
            if LENGTH.search(text):
                return most
        raise RuntimeError(f"the server answered: {text[:300]!r} … {text[-300:]!r}")


def ask_all(port: int, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[Reply]:
    """Sends all requests at once, each over a connection of its own, and reads all answers."""
    replies = []
    with selectors.DefaultSelector() as selector:
        for request in [_request(path, body) for body in bodies]:
            connection = socket.create_connection(("127.0.0.1", port))
            reply = Reply(time.perf_counter())
            connection.sendall(request)
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, reply)
            replies.append(reply)
        while selector.get_map():
            ready = selector.select(LONGEST_S)
            if not ready:
                raise RuntimeError(f"a server on port {port} said nothing for {LONGEST_S:g} s")
            for key, _ in ready:
                if not _take(key.fileobj, key.data):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    return replies


def _request(path: str, body: Mapping[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(data)}\r\nconnection: close\r\n\r\n".encode() + data


def _take(connection: socket.socket, reply: Reply) -> bool:
    """Reads what has come; whether the answer goes on."""
    part = connection.recv(1 << 16)
    reply.parts.append(part)
    if reply.first_s is None and TEXT.search(part):
        reply.first_s = time.perf_counter() - reply.began
    return bool(part)
