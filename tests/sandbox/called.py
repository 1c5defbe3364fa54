"""Functions that the tests have workers call."""

import os
import signal
import time
from typing import Any

import numpy

CALLS: list[Any] = []


def preload() -> None:
    """Called once, before workers are forked."""
    CALLS.append("preloaded")


def act(argument: dict[str, Any]) -> Any:
    """Does what the argument says."""
    CALLS.append(argument)
    return {
        "echo": lambda: argument["value"],
        "calls": lambda: CALLS[0],
        "pid": os.getpid,
        "environment": lambda: dict(os.environ),
        "folder": os.getcwd,
        "read": lambda: open(argument["value"]).read(),
        "late": lambda: [None for _ in iter(lambda: signal.getitimer(signal.ITIMER_PROF)[0], 0)][:0],
        "loop": lambda: [None for _ in iter(int, 1)],
        "sleep": lambda: time.sleep(argument["value"]),
        "memory": lambda: len(bytearray(1 << 40)),
        "crash": lambda: os.kill(os.getpid(), 11),
        "coroutine": lambda: coroutine(),
        "generator": lambda: (i * i for i in range(3)),
        "numpy": lambda: [numpy.float32(0.5), numpy.int64(3), numpy.bool_(True)],
        "exit": lambda: os._exit(3),
        "fork": os.fork,
        "raise": lambda: [1][argument["value"]],
        "object": lambda: object(),
        "many": lambda: "x" * argument["value"],
        "deep": lambda: deep(argument["value"]),
        "print": lambda: print("printed"),
    }[argument["do"]]()


async def coroutine() -> None:
    """Nothing that JSON holds."""


def deep(depth: int) -> Any:
    """A list in a list, and so on."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found
