"""A server under mixed load on all of its paths, then SIGTERM while its slots and its queue are full.

    python benchmarks/serve_load.py MODEL [--minutes 60] [--clients 16]     # a context of 1,024 tokens or more

Clients send requests of every kind in turn: whole and streamed replies of each API, demanded calls and JSON of a
schema, thoughts that are ended, an adapter, bursts, clients that leave, read slowly or never, malformed and huge
requests. Prints the memory of the server and of its helpers every half minute. Fails where a request gets no answer,
half of one or a 5xx, where replies still run when all clients have gone, where memory grew by more than 5 % behind the
first fifth, or where a request that was accepted before SIGTERM is not finished in time.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from open_exaone.checkpoint.adapter import save_adapter
from open_exaone.checkpoint.folder import load_model, load_tokenizer
from open_exaone.model.lora import add_lora, lora_weights
from open_exaone.model.lora_config import LoraConfig
from open_exaone.pipeline.source import resolve_model
from serve import Server

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 9}, "unit": {"enum": ["apples", "사과"]}},
    "required": ["sum", "unit"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}
ANSWERED, REFUSED = ("200", "429"), ("400", "404", "413", "429")
ENDS = {
    CHAT: (b"data: [DONE]",),
    COMPLETIONS: (b"data: [DONE]",),
    RESPONSES: (b"event: response.completed", b"event: response.incomplete"),
    MESSAGES: (b"event: message_stop",),
}


def question(rng: random.Random) -> list[dict]:
    return [{"role": "user", "content": f"What is {rng.randrange(100)} + {rng.randrange(100)}? 더하면 얼마야? 🍎"}]


class Load:
    """Clients that go on until a deadline."""

    def __init__(self, port: int, ends: float) -> None:
        self.port, self.ends = port, ends
        self.seen: Counter[tuple[str, str]] = Counter()  # by kind and status
        self.faults: list[str] = []

    async def client(self, number: int) -> None:
        rng = random.Random(number)
        kinds = {
            **{self.whole: 8, self.stream: 8, self.schema: 2, self.call: 2, self.end_thought: 2, self.go_on: 2},
            **{self.small: 3, self.leave: 5, self.slow: 1, self.unread: 1, self.burst: 1, self.half_closed: 1},
            **{self.malformed: 3, self.broken: 1, self.huge: 1},
        }
        while time.perf_counter() < self.ends:
            [kind] = rng.choices(list(kinds), weights=list(kinds.values()))
            try:
                await asyncio.wait_for(kind(rng), 300)
            except (TimeoutError, OSError, ValueError) as error:
                self.fault(kind.__name__, f"{type(error).__name__} {error}")

    def fault(self, kind: str, what: str) -> None:
        self.seen[kind, "fault"] += 1
        self.faults.append(f"{time.strftime('%H:%M:%S')} {kind}: {what}")
        print(self.faults[-1], flush=True)

    async def send(self, path: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        return reader, writer

    async def ask(self, kind: str, path: str, body: dict | bytes, allowed: tuple[str, ...] = ANSWERED) -> bytes:
        """The answer's body, empty unless its status is 200."""
        reader, writer = await self.send(path, body if isinstance(body, bytes) else json.dumps(body).encode())
        return self.check(kind, path, await read_all(reader, writer), allowed)

    def check(self, kind: str, path: str, text: bytes, allowed: tuple[str, ...] = ANSWERED) -> bytes:
        status, head, body = parts_of(text)
        self.seen[kind, status] += 1
        if status not in allowed or not is_whole(head, body):
            self.fault(kind, f"{path}: {text[:15]!r} … {text[-200:]!r}")
        is_stream = status == "200" and b"event-stream" in head
        if is_stream and (not any(end in body for end in ENDS[path]) or b'"error": {' in body):
            self.fault(kind, f"{path}: a stream ends in {text[-300:]!r}")
        return body if status == "200" else b""

    def reply(self, rng: random.Random, *, streams: bool) -> tuple[str, dict]:
        """A path, and a request for a reply."""
        path = rng.choice(list(ENDS))
        body: dict = {"model": rng.choice(("model", "model", "model", "adapted")), "stream": streams}
        if path == COMPLETIONS:
            prompt = rng.choice(("What is 17 + 25?", [5, 6, 7], ["a", "가나다"], [[5, 6], [7]]))
            body |= {"prompt": prompt, "max_tokens": rng.choice((1, 40))}
        elif path == RESPONSES:
            body |= {"input": question(rng)[0]["content"], "max_output_tokens": 200}
        else:
            body |= {"messages": question(rng), "max_tokens": rng.choice((40, 200))}
        if path == CHAT:
            body |= {"n": rng.choice((1, 1, 2, 4)), "thinking_token_budget": rng.choice((None, 0, 3, 50))}
            body |= {"logprobs": rng.random() < 0.2, "stop": rng.choice((None, "1", ["=", "\n\n"]))}
        return path, body

    async def whole(self, rng: random.Random) -> None:
        path, body = self.reply(rng, streams=False)
        await self.ask(f"whole {path}", path, body)

    async def stream(self, rng: random.Random) -> None:
        path, body = self.reply(rng, streams=True)
        await self.ask(f"streamed {path}", path, body)

    async def schema(self, rng: random.Random) -> None:
        body = {"messages": question(rng), "response_format": FORMAT, "thinking_token_budget": 20, "max_tokens": 200}
        text = await self.ask("JSON of a schema", CHAT, body)
        for choice in json.loads(text)["choices"] if text else ():
            if choice["finish_reason"] == "stop" and set(json.loads(choice["message"]["content"])) != {"sum", "unit"}:
                self.fault("schema", f"{text!r}")

    async def call(self, rng: random.Random) -> None:
        body = {"messages": question(rng), "tools": [TOOL], "tool_choice": "required", "reasoning_effort": "none"}
        text = await self.ask("demanded call", CHAT, {**body, "parallel_tool_calls": False, "max_tokens": 200})
        for choice in json.loads(text)["choices"] if text else ():
            if choice["finish_reason"] != "length" and not choice["message"].get("tool_calls"):
                self.fault("call", f"{text!r}")

    async def end_thought(self, rng: random.Random) -> None:
        body = {"messages": question(rng), "stream": True, "max_tokens": 300}
        reader, writer = await self.send(CHAT, json.dumps(body).encode())
        text = b""
        while b'"id": "' not in text and (part := await reader.read(4096)):
            text += part
        if text.startswith(b"HTTP/1.1 200") and b'"id": "' in text:
            id = text.split(b'"id": "')[1].split(b'"')[0].decode()
            await self.ask("end_reasoning", f"/v1/requests/{id}/end_reasoning", {}, ("200", "404"))
        self.check("thought that is ended", CHAT, text + await read_all(reader, writer))

    async def go_on(self, rng: random.Random) -> None:
        text = await self.ask("response", RESPONSES, {"input": "What is 2 + 3?", "max_output_tokens": 60})
        if text:
            body = {"input": "And 4 more?", "previous_response_id": json.loads(text)["id"], "max_output_tokens": 60}
            await self.ask("response that goes on", RESPONSES, body)

    async def small(self, rng: random.Random) -> None:
        path = rng.choice(("/v1/models", "/v1/models/adapted", "/health", "/metrics", "/openapi.json", "/"))
        self.check(f"GET {path}", path, await fetched(self.port, path))
        ids = json.loads(await self.ask("tokenize", "/tokenize", {"prompt": "더하면 🍎?"}))["tokens"]
        await self.ask("detokenize", "/detokenize", {"tokens": ids})
        await self.ask("count_tokens", "/v1/messages/count_tokens", {"model": "model", "messages": question(rng)})

    async def leave(self, rng: random.Random) -> None:
        path, body = self.reply(rng, streams=rng.random() < 0.5)
        _, writer = await self.send(path, json.dumps(body).encode())
        await asyncio.sleep(rng.random() * 0.3)
        writer.transport.abort()
        self.seen["client that leaves", "-"] += 1

    async def slow(self, rng: random.Random) -> None:
        """Reads 200 bytes at a time."""
        path, body = self.reply(rng, streams=True)
        reader, writer = await self.send(path, json.dumps(body).encode())
        text = b""
        while part := await reader.read(200):
            text += part
            await asyncio.sleep(0.05)
        writer.close()
        self.check("slow reader", path, text)

    async def unread(self, rng: random.Random) -> None:
        path, body = self.reply(rng, streams=True)
        _, writer = await self.send(path, json.dumps(body).encode())
        await asyncio.sleep(5.0)
        writer.transport.abort()
        self.seen["client that never reads", "-"] += 1

    async def burst(self, rng: random.Random) -> None:
        await asyncio.gather(*(self.stream(rng) for _ in range(40)))

    async def half_closed(self, rng: random.Random) -> None:
        """Says that it will send no more, as `nc -N` does: it counts as having left, or gets its answer."""
        path, body = self.reply(rng, streams=False)
        reader, writer = await self.send(path, json.dumps(body).encode())
        writer.write_eof()
        text = await read_all(reader, writer)
        self.seen["half-closed", parts_of(text)[0]] += 1

    async def head_first(self, body: dict, begun: set[int], number: int) -> None:
        """A stream that says when it is accepted."""
        reader, writer = await self.send(COMPLETIONS, json.dumps({**body, "stream": True}).encode())
        text = await reader.read(12)
        begun.add(number)
        self.check("accepted before SIGTERM", COMPLETIONS, text + await read_all(reader, writer))

    async def malformed(self, rng: random.Random) -> None:
        path, request = self.reply(rng, streams=rng.random() < 0.3)
        body = bytearray(json.dumps(request).encode())
        for _ in range(rng.randrange(1, 6)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        await self.ask("malformed JSON", path, bytes(body), ("200", *REFUSED))

    async def broken(self, rng: random.Random) -> None:
        """No HTTP, or headers that contradict each other."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        heads = ("transfer-encoding: chunked\r\ncontent-length: 5", "content-length: -1", "a" * 100_000, "\0: 1")
        writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{rng.choice(heads)}\r\n\r\nhello\r\n".encode())
        text = await read_all(reader, writer)
        self.seen["malformed HTTP", parts_of(text)[0]] += 1
        if text and not text.startswith(b"HTTP/1.1 4"):
            self.fault("broken", f"{text!r}")

    async def huge(self, rng: random.Random) -> None:
        words = [{"role": "user", "content": "ab " * rng.choice((400_000, 4_000_000))}]
        await self.ask("huge", CHAT, {"messages": words}, REFUSED)


def parts_of(text: bytes) -> tuple[str, bytes, bytes]:
    """Status, head and body of an answer."""
    head, _, body = text.partition(b"\r\n\r\n")
    return text[9:12].decode("latin-1") or "none", head.lower(), body


def is_whole(head: bytes, body: bytes) -> bool:
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    return b"content-length: %d" % len(body) in head


async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    text = b""
    try:
        while part := await reader.read(1 << 16):
            text += part
    except ConnectionError:  # what came before it counts
        pass
    writer.close()
    return text


async def fetched(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    return await read_all(reader, writer)


async def num_replies(port: int) -> int:
    """Those that run or wait."""
    lines = (await fetched(port, "/metrics")).decode().splitlines()
    names = ("open_exaone_replies_running ", "open_exaone_replies_waiting ")
    return sum(int(line.split()[1]) for line in lines if line.startswith(names))


async def reached(port: int, found, seconds: float = 60.0) -> bool:
    """Whether the number of replies comes to be as wanted."""
    for _ in range(int(seconds / 0.1)):
        if found(await num_replies(port)):
            return True
        await asyncio.sleep(0.1)
    return False


async def measured(server: Server, minutes: float, num_clients: int) -> Load:
    """The load, and what was wrong."""
    load = Load(server.port, time.perf_counter() + 60 * minutes)
    running = [asyncio.create_task(load.client(number)) for number in range(num_clients)]
    sizes: list[dict[str, int]] = []
    while (await asyncio.wait(running, timeout=min(30.0, 6 * minutes)))[1]:
        sizes.append(memory_mib(server.process.pid))
        done = sum(number for (_, status), number in load.seen.items() if status != "fault")
        print(f"{time.strftime('%H:%M:%S')} {sizes[-1]} MiB; {done} requests, {len(load.faults)} faults", flush=True)
    await asyncio.gather(*running)
    if not await reached(server.port, lambda number: number == 0):
        load.fault("end", f"{await num_replies(server.port)} replies still run")
    totals = [sum(of.values()) for of in sizes[len(sizes) // 5 :]]
    share = max(1, len(totals) // 4)
    before, after = statistics.median(totals[:share]), statistics.median(totals[-share:])
    print(f"memory behind the first fifth: {before:,.0f} MiB, at the end: {after:,.0f} MiB ({after / before - 1:+.1%})")
    if after > 1.05 * before:
        load.fault("memory", f"grew from {before:,.0f} to {after:,.0f} MiB")
    return load


async def stopped(server: Server, load: Load, end_ids: list[int], num: int = 80) -> None:
    """SIGTERM while slots and queue are full: all that was accepted is answered, and nothing else is."""
    body = {"prompt": "What is 17 + 25?", "max_tokens": 100, "logit_bias": {str(token): -100 for token in end_ids}}
    accepted = [asyncio.create_task(load.ask("accepted before SIGTERM", COMPLETIONS, body)) for _ in range(num // 2)]
    await asyncio.sleep(0.5)
    begun: set[int] = set()
    accepted += [asyncio.create_task(load.head_first(body, begun, number)) for number in range(num // 2)]
    while len(begun) < num // 2:  # streams have their heads when they are accepted, and the others were sent before
        await asyncio.sleep(0.01)
    server.process.terminate()
    began = time.perf_counter()
    await asyncio.sleep(0.5)
    for _ in range(20):
        try:
            await load.ask("sent behind SIGTERM", CHAT, {"messages": [{"role": "user", "content": "Hi"}]}, ("503",))
        except OSError:
            load.seen["sent behind SIGTERM", "connection refused"] += 1
    await asyncio.gather(*accepted)
    print(f"all that was accepted had its answer {time.perf_counter() - began:.1f} s behind SIGTERM")
    while (code := server.process.poll()) is None and time.perf_counter() - began < 300:
        await asyncio.sleep(0.1)
    print(f"the server ended with {code}, {time.perf_counter() - began:.1f} s behind SIGTERM")
    if code != 0:
        load.fault("drain", f"the server ended with {code}")


def memory_mib(pid: int) -> dict[str, int]:
    """Resident memory of a process and of its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = {}
    for name, number in [("server", str(pid)), *((f"helper {one}", one) for one in children)]:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
        found[name] = int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) >> 10
    return found


def make_adapter(model: Path, folder: Path) -> Path:
    """An adapter of random weights."""
    network, config = load_model(model), LoraConfig(rank=2, alpha=4.0)
    add_lora(network, config, 0)
    for weight in lora_weights(network).values():
        torch.nn.init.normal_(weight, std=0.02)
    save_adapter(folder, network, config, base="model")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    folder = resolve_model(options.model)
    with tempfile.TemporaryDirectory() as place:
        adapter = make_adapter(folder, Path(place) / "adapter")
        limits = ("--limit", "max_waiting=64", "--engine-option", "num_slots=32")
        server = Server(folder, "--lora", f"adapted={adapter}", *limits)
    load = asyncio.run(run_all(server, options, list(load_tokenizer(folder).end_ids)))
    for (kind, status), number in sorted(load.seen.items()):
        print(f"  {kind:<28} {status:>6} {number:>8,}")
    print(f"{len(load.faults)} faults")
    return bool(load.faults)


async def run_all(server: Server, options: argparse.Namespace, end_ids: list[int]) -> Load:
    load = await measured(server, options.minutes, options.clients)
    await stopped(server, load, end_ids)
    return load


if __name__ == "__main__":
    sys.exit(main())
