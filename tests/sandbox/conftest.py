"""What the tests of the sandbox share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from open_exaone.sandbox import programs
from open_exaone.sandbox.client import Server


@pytest.fixture
def use_without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """Has programs run by a server that may not use these mechanisms."""
    servers: list[Server] = []

    def use(*without: str) -> Server:
        servers.append(Server(without=without))
        monkeypatch.setattr(programs, "_SERVER", servers[-1])
        monkeypatch.setattr(programs, "_POOLS", {})
        return servers[-1]

    yield use
    for server in servers:
        for pool in programs._POOLS.values():
            pool.clear()
        server.stop()


@pytest.fixture
def descendants() -> Callable[[int], set[int]]:
    """Finds the processes below one, zombies included."""
    return _descendants


def _descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found
