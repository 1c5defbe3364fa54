"""A server for the chat page's tests: the page's files, and replies that a test writes, streamed as OpenAI's API does.

A reply waits at `HOLD` until the test calls `release`, or the page ends the thought or goes away.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import open_exaone.serve

WEB = Path(open_exaone.serve.__file__).parent / "web"
HOLD = "\0hold"
BREAK = "\0break"  # the connection is closed here
MODEL = "open-exaone/nano"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".woff2": "font/woff2",
}


class ChatPageServer(ThreadingHTTPServer):
    """`replies` holds the next replies: (pieces of the thought, pieces of the answer), or a status with an error."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[tuple[list[str], list[str]] | tuple[int, str]] = []
        self.requests: list[dict[str, Any]] = []
        self.ended: list[str] = []  # ids of the requests whose thoughts were ended
        self.gone = threading.Event()  # the page went away while a reply was held
        self.key = ""
        self._released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def release(self) -> None:
        """Lets the reply go on that waits at HOLD."""
        self._released.set()

    def wait_for_release(self, still_there: Any) -> bool:
        """False where the page has gone away."""
        while not self._released.wait(0.02):
            if not still_there():
                self.gone.set()
                return False
        self._released.clear()
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The page went away: nothing to say."""


class _Handler(BaseHTTPRequestHandler):
    server: ChatPageServer

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/v1/models":
            if self._allowed():
                self._json(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            return
        file = WEB / (path.lstrip("/") or "index.html")
        if not file.is_file():
            self._json(404, {"error": {"message": f"no such file: {path}"}})
            return
        self._send(200, file.read_bytes(), TYPES[file.suffix])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            return
        if self.path.endswith("/end_reasoning"):
            self.server.ended.append(self.path.split("/")[-2])
            self.server.release()
            self._json(200, {})
            return
        self.server.requests.append(body)
        reply = self.server.replies.pop(0)
        if isinstance(reply[0], int):
            self._json(reply[0], {"error": {"message": reply[1]}}, {"Retry-After": "3"} if reply[0] == 429 else {})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self._stream(f"chatcmpl-{len(self.server.requests)}", *reply)

    def _stream(self, name: str, thought: list[str], answer: Any) -> None:
        for field, pieces in (("reasoning_content", thought), ("content", answer)):
            for piece in pieces:
                if piece == BREAK:
                    return
                if piece != HOLD:
                    self._event({"id": name, "choices": [{"index": 0, "delta": {field: piece}}]})
                elif not self.server.wait_for_release(lambda: self._ping()):
                    return
        num_thought = sum(piece != HOLD for piece in thought)
        usage = {
            "prompt_tokens": 12,
            "completion_tokens": num_thought + sum(piece != HOLD for piece in answer),
            "completion_tokens_details": {"reasoning_tokens": num_thought},
        }
        self._event({"id": name, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({"id": name, "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())

    def _ping(self) -> bool:
        try:
            self.wfile.write(b": still there\n\n")
        except OSError:
            return False
        return True

    def _allowed(self) -> bool:
        if not self.server.key or self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return True
        self._json(401, {"error": {"message": "The API key is missing or wrong."}})
        return False

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", headers)

    def _send(self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def chat_page_server() -> Iterator[ChatPageServer]:
    """A server on a free port of the loopback interface."""
    with ChatPageServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
