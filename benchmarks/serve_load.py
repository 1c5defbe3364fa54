"""A server under mixed load: bursts, clients that leave, that never read, malformed and huge requests; then SIGTERM.

    python benchmarks/serve_load.py MODEL [--minutes 60] [--clients 16]

Prints the server's memory every half minute; fails where a request gets no answer or a 5xx that is not called for,
where replies still run when all clients have gone, or where memory grew by more than 5 % in the second half.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

from serve import Server

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]


class Load:
    """Clients that go on until a deadline."""

    def __init__(self, port: int, ends: float) -> None:
        self.port, self.ends = port, ends
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []

    async def client(self, number: int) -> None:
        rng = random.Random(number)
        kinds = (self.whole, self.stream, self.leave, self.malformed, self.huge, self.unread, self.burst)
        while time.perf_counter() < self.ends:
            kind = rng.choices(kinds, weights=(6, 6, 4, 3, 1, 1, 1))[0]
            try:
                await asyncio.wait_for(kind(rng), 120)
                self.seen[kind.__name__] += 1
            except (TimeoutError, OSError) as error:
                self.faults.append(f"{kind.__name__}: {type(error).__name__} {error}")

    async def send(self, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        return reader, writer

    async def ask(self, body: bytes, allowed: tuple[bytes, ...] = (b"200",)) -> bytes:
        reader, writer = await self.send(body)
        text = await reader.read()
        while part := await reader.read():
            text += part
        writer.close()
        if text[9:12] not in allowed:
            self.faults.append(f"{text[:12]!r} {text[-200:]!r}")
        return text

    async def whole(self, rng: random.Random) -> None:
        question = [{"role": "user", "content": f"What is {rng.randrange(100)} + {rng.randrange(100)}?"}]
        await self.ask(json.dumps({"messages": question, "n": rng.choice((1, 1, 2, 4))}).encode(), (b"200", b"429"))

    async def stream(self, rng: random.Random) -> None:
        body = {"messages": QUESTION, "stream": True, "thinking_token_budget": rng.choice((None, 0, 3, 50))}
        text = await self.ask(json.dumps(body).encode(), (b"200", b"429"))
        if text[9:12] == b"200" and b"data: [DONE]" not in text:
            self.faults.append(f"a stream ends in {text[-200:]!r}")

    async def leave(self, rng: random.Random) -> None:
        _, writer = await self.send(json.dumps({"messages": QUESTION, "stream": rng.random() < 0.5}).encode())
        await asyncio.sleep(rng.random() * 0.05)
        writer.transport.abort()

    async def malformed(self, rng: random.Random) -> None:
        body = bytearray(json.dumps({"messages": QUESTION, "max_tokens": 4}).encode())
        for _ in range(rng.randrange(1, 6)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        await self.ask(bytes(body), (b"200", b"400", b"404", b"429"))

    async def huge(self, rng: random.Random) -> None:
        await self.ask(json.dumps({"messages": [{"role": "user", "content": "ab " * 400_000}]}).encode(), (b"400",))

    async def unread(self, rng: random.Random) -> None:
        _, writer = await self.send(json.dumps({"messages": QUESTION, "stream": True}).encode())
        await asyncio.sleep(2.0)
        writer.transport.abort()

    async def burst(self, rng: random.Random) -> None:
        await asyncio.gather(*(self.stream(rng) for _ in range(20)))

    async def run(self, num_clients: int) -> None:
        await asyncio.gather(*map(self.client, range(num_clients)))


async def gauge(port: int, name: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    text = (await reader.read(-1)).decode()
    writer.close()
    return int(next(line for line in text.splitlines() if line.startswith(f"open_exaone_{name} ")).split()[1])


async def measured(server: Server, minutes: float, num_clients: int) -> list[str]:
    load = Load(server.port, time.perf_counter() + 60 * minutes)
    running, sizes = asyncio.create_task(load.run(num_clients)), []
    while not running.done():
        await asyncio.wait([running], timeout=30.0)
        sizes.append(memory_kib(server.process.pid))
        print(f"{sizes[-1] / 1024:,.0f} MiB; {dict(load.seen)}", flush=True)
    await running
    for _ in range(100):
        left = await gauge(server.port, "replies_running") + await gauge(server.port, "replies_waiting")
        if not left:
            break
        await asyncio.sleep(0.1)
    faults = list(load.faults)
    if left:
        faults.append(f"{left} replies still run")
    second = sizes[len(sizes) // 2 :]
    if second and second[-1] > 1.05 * second[0]:
        faults.append(f"memory grew from {second[0]:,} to {second[-1]:,} KiB")
    return faults


def memory_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    server = Server(options.model)
    faults = asyncio.run(measured(server, options.minutes, options.clients))
    server.close()
    print(f"{len(faults)} faults; the server ended with {server.process.returncode}")
    print("\n".join(faults[:20]))
    return bool(faults or server.process.returncode)


if __name__ == "__main__":
    sys.exit(main())
