"""A vLLM server as a double: its completions in token ids, and the paths of its development mode.

It holds the contract of both ways in which weights are handed over: paths, bodies and order; a step out of order, or a
body without a field that vLLM needs, is answered as vLLM answers it.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

Say = Callable[[list[int]], list[int]]
Answer = tuple[int, Any, dict[str, str]]


class MockVllm(ThreadingHTTPServer):
    """Says what `say` gives for a prompt's ids, up to max_tokens."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, say: Say, port: int, settings: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.say, self.settings = say, settings
        self.lock = threading.Lock()
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.bodies: list[Any] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.pushes: list[str] = []  # the folders that weights were read from
        self.num_running = self.most_running = 0
        self.update: str | None = None  # how far a weight transfer is
        self.is_dead = False
        self.mark = "default"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The asker went away, or the server is dead."""

    def die(self) -> None:
        """Closes all that is open, answers nobody any more and frees the port."""
        self.is_dead = True
        self.shutdown()
        self.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> Answer:
        with self.lock:
            self.paths.append(path)
            self.bodies.append(body)
            self.num_running += 1
            self.most_running = max(self.most_running, self.num_running)
        try:
            failure = self.settings["fail"](path, self)
            if failure is not None:
                return failure
            return self._answer(path, body)
        finally:
            with self.lock:
                self.num_running -= 1

    def _answer(self, path: str, body: dict[str, Any]) -> Answer:
        if path == "/v1/models":
            return 200, {"data": [{"id": self.settings["model"], "max_model_len": self.settings["context"]}]}, {}
        if path == "/version" and self.settings["version"] is not None:
            return 200, {"version": self.settings["version"]}, {}
        if path == "/v1/completions":
            with self.lock:
                self.asked.append(body)
            return 200, self._completion(body), {}
        if not self.settings["dev_mode"]:
            return 404, {"detail": "Not Found"}, {}
        if path == "/server_info?config_format=json":
            return 200, {"vllm_config": {"device_config": {"device": self.settings["device"]}}}, {}
        if path == "/weight_checker":
            return 200, {"checksums": dict.fromkeys(self.settings["parameters"], "00")}, {}
        if path == "/weight_info":
            return 200, {"weight_version": self.mark}, {}
        if path == "/update_weight_version":
            self.mark = body["new_version"]
            return 200, {"success": True}, {}
        if path == "/collective_rpc":
            return self._reload(body)
        if path == "/reset_prefix_cache":
            return 200, {"success": self.settings["resets"]}, {}
        if self.settings["transfer"]:
            return self._transfer(path, body)
        return 404, {"detail": "Not Found"}, {}

    def _reload(self, body: dict[str, Any]) -> Answer:
        assert body["method"] == "reload_weights"
        file = Path(body["kwargs"]["weights_path"], "model.safetensors")
        if not file.is_file():
            return 500, {"error": {"message": f"Cannot find any model weights with `{file.parent}`"}}, {}
        self.weights = load_file(file)
        self.pushes.append(str(file.parent))
        return 200, {"results": [None]}, {}

    def _transfer(self, path: str, body: dict[str, Any]) -> Answer:
        """The four phases; out of order they fail as vLLM's do."""
        if path == "/get_world_size":
            return 200, {"world_size": 2}, {}
        if path == "/init_weight_transfer_engine":
            needed, before = {"master_address", "master_port", "rank_offset", "world_size"}, (None, "ready")
            given, after = body.get("init_info", {}).keys(), "ready"
        elif path == "/start_weight_update":
            needed, before, given, after = set(), ("ready",), {}.keys(), "started"
        elif path == "/update_weights":
            needed, before = {"names", "dtype_names", "shapes"}, ("started",)
            given, after = body.get("update_info", {}).keys(), "updated"
        elif path == "/finish_weight_update":
            needed, before, given, after = set(), ("updated",), {}.keys(), "ready"
        else:
            return 404, {"detail": "Not Found"}, {}
        if not needed <= set(given):
            return 422, {"detail": f"field required: {sorted(needed - set(given))}"}, {}
        if self.update not in before:
            return 500, {"error": {"message": f"{path} after {self.update}"}}, {}
        self.update = after
        return 200, {"message": "done"}, {}

    def _completion(self, body: dict[str, Any]) -> Any:
        said = self.say(body["prompt"]) if self.settings["draw"] is None else self.settings["draw"](body)
        ids = said[: body["max_tokens"]]
        choice = {"index": 0, "text": "", "finish_reason": "stop" if ids[-1] in body["stop_token_ids"] else "length"}
        if body["return_token_ids"]:
            choice |= {"token_ids": ids, "prompt_token_ids": body["prompt"]}
        if "logprobs" in body:
            choice["logprobs"] = {"token_logprobs": [-token / 64 for token in ids]}
        self.settings["change"](choice)
        return {"object": "text_completion", "choices": [choice], "usage": {}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: MockVllm

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        self._send(*self.server.answer(self.path, {}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(*self.server.answer(self.path, body))

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        if self.server.is_dead:
            raise ConnectionAbortedError("the server is dead")
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def mock_vllm(
    say: Say = lambda prompt: [0],
    *,
    draw: Callable[[dict[str, Any]], list[int]] | None = None,
    change: Callable[[Any], None] = lambda choice: None,
    fail: Callable[[str, MockVllm], Answer | None] = lambda path, server: None,
    dev_mode: bool = True,
    transfer: bool = True,
    version: str | None = "0.32.0",
    model: str = "policy",
    context: int = 400,
    resets: bool = True,
    device: str = "cuda",
    parameters: Sequence[str] = (),
    port: int = 0,
) -> Iterator[MockVllm]:
    """Serves while the context is open.

    Args:
        say: a prompt's ids -> the reply's.
        draw: the whole request -> the reply's ids, instead.
        change: changes a completion's choice before it is sent.
        fail: (path, server) -> what is answered instead, if anything.
        dev_mode: it has the paths of VLLM_SERVER_DEV_MODE=1.
        transfer: it has those of the weight transfer.
        device: what it computes on.
        parameters: the names of its weights.
        resets: whether the prefix cache is emptied.
        port: where it listens; a free one if 0.
    """
    settings = {"change": change, "fail": fail, "dev_mode": dev_mode, "transfer": transfer, "version": version}
    server = MockVllm(
        say,
        port,
        settings
        | {
            "model": model,
            "context": context,
            "resets": resets,
            "device": device,
            "parameters": parameters,
            "draw": draw,
        },
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            server.shutdown()
            server.server_close()
        thread.join()
