"""An OpenAI-compatible endpoint as a double: answers what a function says, and fails as often as it is told to.

A token is a word with the white space before it. Like vLLM without a reasoning parser, it gives all of a reply as
content, tags included, unless the function says otherwise.
"""

import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from open_exaone.rollout.config import ChatEndpoint
from open_exaone.rollout.providers.endpoint import EndpointProvider

_MENDS = {"max_tokens": "Use max_completion_tokens instead."}  # as some say
TOO_LARGE = (  # vLLM up to 0.14
    "'max_tokens' or 'max_completion_tokens' is too large: {limit}. This model's maximum context length is {context} "
    "tokens and your request has {prompt} input tokens ({limit} > {context} - {prompt})."
)

Answer = Callable[[str, dict[str, Any]], str | dict[str, Any]]


def endpoint(url: str, model: str | None = None, **settings: Any) -> EndpointProvider:
    """A provider with these settings."""
    return EndpointProvider(ChatEndpoint(url=url, model=model, **settings))


class MockEndpoint(ThreadingHTTPServer):
    """What a test sees of it; see `mock_endpoint`."""

    request_queue_size = 512
    daemon_threads = True

    def __init__(self, reply: Answer, settings: dict[str, Any], port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.reply = reply
        self.settings = settings
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []  # the bodies of all questions, refused and failed ones too
        self.headers: list[dict[str, str]] = []
        self.num_by_prompt: Counter[str] = Counter()  # how often each question was answered
        self.num_errors = 0
        self.num_connections = 0
        self.left = threading.Event()  # the asker of a stream went away

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The asker went away while it was answered."""
        self.left.set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.num_connections += 1
        super().process_request(request, client_address)


@contextmanager
def mock_endpoint(
    reply: Answer,
    *,
    error_share: float = 0.0,
    truncate: bool = False,
    latency_s: float = 0.0,
    models: Sequence[str] | None = ("mock",),
    refuse_fields: Sequence[str] = (),
    refuse_prompts: Sequence[str] = (),
    fail_prompts: Sequence[str] = (),
    usage: bool = True,
    seed: int = 0,
    context: int | None = None,
    context_words: str = TOO_LARGE,
    fills_context: bool = True,
    tells_context: bool = False,
    cut_after: int | None = None,
    port: int = 0,
) -> Iterator[MockEndpoint]:
    """Serves while the context is open.

    Args:
        reply: (question, request) -> the reply: its text, or the message's fields ("content", "reasoning_content", …;
            "finish_reason" and "usage" go where they belong; a stream with "waits" does not end).
        error_share: this share of requests, chosen by a hash of the seed and the request's number, gets a 500, a 429, a
            dropped connection, a body that is no JSON, or a body that is cut.
        truncate: every reply is cut in half and ends by length.
        models: what GET /models names; None: there is no such path.
        refuse_fields: fields of a request that get a 400.
        refuse_prompts: questions that get a 400 which says the whole request back.
        fail_prompts: questions that get a 500 each time.
        context: a request whose messages and limit are longer together gets a 400.
        context_words: the 400's message, of {context}, {prompt}, {limit}, and {bound}: as far as a server counts that
            stops where the prompt is too long.
        fills_context: False: prompt and limit must be shorter than the context.
        tells_context: GET /models gives the context as max_model_len.
        cut_after: a stream breaks off after so many events, with the message's "stream_error" where it has one.
        port: where it listens; a free one if 0.
    """
    settings = {
        "error_share": error_share,
        "truncate": truncate,
        "latency_s": latency_s,
        "models": models,
        "refuse_fields": refuse_fields,
        "refuse_prompts": refuse_prompts,
        "fail_prompts": fail_prompts,
        "usage": usage,
        "seed": seed,
        "context": context,
        "context_words": context_words,
        "fills_context": fills_context,
        "tells_context": tells_context,
        "cut_after": cut_after,
    }
    server = MockEndpoint(reply, settings, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: MockEndpoint

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        models = self.server.settings["models"]
        if self.path != "/v1/models" or models is None:
            self._send(404, {"error": {"message": "Not Found"}})
            return
        told = {"max_model_len": self.server.settings["context"]} if self.server.settings["tells_context"] else {}
        self._send(200, {"object": "list", "data": [{"id": name, "object": "model", **told} for name in models]})

    def do_POST(self) -> None:
        server, settings = self.server, self.server.settings
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.requests)
            server.requests.append(request)
            server.headers.append(dict(self.headers))
        if self.path != "/v1/chat/completions":
            self._send(404, {"error": {"message": "Not Found"}})
            return
        for name in settings["refuse_fields"]:
            if name in request:
                self._send(400, {"error": {"message": f"Unsupported field: {name}. {_MENDS.get(name, '')}"}})
                return
        if request["messages"][0]["content"] in settings["refuse_prompts"]:
            self._send(400, {"error": {"message": "the prompt is too long", "input": request}})
            return
        too_long = _too_long(request, settings)
        if too_long is not None:
            self._send(400, {"object": "error", "message": too_long, "type": "BadRequestError", "code": 400})
            return
        if request["messages"][-1]["content"] in settings["fail_prompts"]:
            self._send(500, {"error": {"message": "always fails"}})
            return
        time.sleep(settings["latency_s"])
        fault = _fault(settings["seed"], number, settings["error_share"])
        if fault is not None:
            server.num_errors += 1
            self._fail(fault)
            return
        question = next(turn["content"] for turn in reversed(request["messages"]) if turn["role"] == "user")
        answer = self._completion(question, request)
        with server.lock:
            server.num_by_prompt[question] += 1
        if request.get("stream"):
            self._stream(answer)
        else:
            self._send(200, answer)

    def _stream(self, answer: dict[str, Any]) -> None:
        """The completion as events: a few characters at a time, thoughts first, then how it ended."""
        [choice] = answer["choices"]
        cut_after = self.server.settings["cut_after"]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        message = choice["message"]
        deltas = [{"role": "assistant", "content": ""}]
        for key in ("reasoning_content", "reasoning", "content"):
            text = message.get(key) or ""
            deltas += [{key: text[place : place + 3]} for place in range(0, len(text), 3)]
        deltas += [{"tool_calls": [call]} for call in message.get("tool_calls", ())]
        for number, delta in enumerate(deltas):
            if number == cut_after:
                if "stream_error" in message:
                    self._event({"error": {"message": message["stream_error"]}})
                return
            self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if message.get("waits"):  # until the asker goes away; unread events turn its leaving into an error
            self.connection.recv(1)
            self.server.left.set()
            return
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
        self.wfile.write(b": a comment\n\ndata: [DONE]\n\n")

    def _event(self, value: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n")
        self.wfile.flush()

    def _completion(self, question: str, request: dict[str, Any]) -> dict[str, Any]:
        said = self.server.reply(question, request)
        message = {"role": "assistant", **(said if isinstance(said, dict) else {"content": said})}
        reason, usage = message.pop("finish_reason", "stop"), message.pop("usage", None)
        if isinstance(said, str):
            words = re.findall(r"\s*\S+|\s+$", _rest(said, request))
            limit = request.get("max_tokens", request.get("max_completion_tokens", len(words)))
            limit = min(limit, len(words) // 2) if self.server.settings["truncate"] else limit
            message["content"] = "".join(words[:limit])
            reason = "length" if limit < len(words) else reason
        num_tokens = sum(len(str(message.get(key) or "").split()) for key in ("content", "reasoning_content"))
        if usage is None and self.server.settings["usage"]:
            usage = {"prompt_tokens": _num_prompt_tokens(request), "completion_tokens": num_tokens}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return {"object": "chat.completion", "model": request["model"], "choices": [choice], "usage": usage}

    def _fail(self, fault: int) -> None:
        if fault == 0:
            self._send(500, {"error": {"message": "made to fail"}})
        elif fault == 1:
            self._send(429, {"error": {"message": "too many"}}, {"Retry-After": "0"})
        elif fault == 2:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault == 3:
            self._write(200, b"<html>busy</html>", {})
        else:
            self._write(200, b'{"choices": [{"mess', {"Content-Length": "5000"})
            self.close_connection = True

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._write(status, json.dumps(body, ensure_ascii=False).encode(), headers or {})

    def _write(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _fault(seed: int, number: int, share: float) -> int | None:
    """Which of five faults befalls a request, if any."""
    digest = hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=9).digest()
    return digest[8] % 5 if int.from_bytes(digest[:8], "big") < share * 2**64 else None


def _num_prompt_tokens(request: dict[str, Any]) -> int:
    return sum(len(turn["content"].split()) for turn in request["messages"])


def _too_long(request: dict[str, Any], settings: dict[str, Any]) -> str | None:
    """What is said of a request that the context has no room for."""
    context, prompt = settings["context"], _num_prompt_tokens(request)
    limit = request.get("max_tokens", request.get("max_completion_tokens", 1))
    if context is None or prompt + limit < context + settings["fills_context"]:
        return None
    if "{bound}" in settings["context_words"] and limit > context:
        return f"max_tokens={limit} cannot be greater than max_model_len=max_total_tokens={context}. Ask for less."
    bound = min(prompt, context - limit + 1)
    return str(settings["context_words"].format(context=context, prompt=prompt, limit=limit, bound=bound))


def _rest(text: str, request: dict[str, Any]) -> str:
    """What is left to say of a reply that was begun: behind its beginning, or behind a thought closed early."""
    begun = request["messages"][-1]
    if begun["role"] != "assistant" or not request.get("continue_final_message"):
        return text
    if text.startswith(begun["content"]):
        return text[len(begun["content"]) :]
    return re.split(r"</(?:think|thought)>\s*", text, maxsplit=1)[-1]
