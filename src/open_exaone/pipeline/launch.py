"""Starts the ranks of a run on this machine, and ends them all where one of them ends badly. Loads no torch."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO

from open_exaone.base.errors import ConfigError
from open_exaone.base.machine import has_own_threads, num_cores
from open_exaone.base.output import say_aside, say_error
from open_exaone.pipeline.together import LAUNCHER

POLL_S = 0.1
GRACE_S = 40.0  # from one rank's failure until the others are killed; the first saves its state meanwhile
LAST_LINES = 20  # of what a rank printed
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class _Rank:
    number: int
    process: subprocess.Popen[bytes]
    printed: IO[bytes] | None  # None: it prints where this process does


def launch(arguments: Sequence[str], number: int) -> int:
    """Runs the command line in `number` processes, the ranks of one run; the first of them prints.

    Ctrl-C and SIGTERM go to each of them. Where one fails the others get SIGTERM, and are killed after `GRACE_S`.

    Args:
        arguments: of `exaone`, with the flag that has the ranks started: they see from the environment that they are.

    Returns:
        the exit status of the rank that failed first, or 0.
    """
    if not 1 <= number <= 1024:
        raise ConfigError(f"--ranks {number}: must be 1 to 1024")
    ranks: list[_Rank] = []
    reading, writing = os.pipe()
    try:
        with _forwarded(ranks):
            port = _free_port()
            for rank in range(number):
                ranks.append(_start(arguments, rank, number, port, reading))
            failed = _wait(ranks)
    finally:
        for one in ranks:
            one.process.kill()  # does nothing to one that has ended
            one.process.wait()
        os.close(reading)
        os.close(writing)
    return 0 if failed is None else _explain(failed)


def _start(arguments: Sequence[str], rank: int, number: int, port: int, pipe: int) -> _Rank:
    printed = tempfile.TemporaryFile() if rank else None  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, "-m", "open_exaone", *arguments],
        env=_environment(os.environ, rank, number, port) | {LAUNCHER: str(pipe)},
        stdout=subprocess.DEVNULL if rank else None,
        stderr=printed,
        stdin=subprocess.DEVNULL,
        pass_fds=(pipe,),
        process_group=0,  # Ctrl-C reaches this process, which hands it on once
    )
    return _Rank(rank, process, printed)


def _environment(own: Mapping[str, str], rank: int, number: int, port: int) -> dict[str, str]:
    """Of a rank, as torchrun sets it; the machine's cores are shared out among the ranks."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_PORT": port}
    environment = {**own, **{name: str(value) for name, value in place.items()}, "MASTER_ADDR": "127.0.0.1"}
    if not has_own_threads(own):
        environment["OMP_NUM_THREADS"] = str(max(1, num_cores() // number))
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(ranks: Sequence[_Rank]) -> _Rank | None:
    """Waits for all to end: the rank that failed first, or None.

    An interrupted rank is no reason to end the others: they are interrupted too, and the first one saves its state.
    """
    failed: _Rank | None = None
    deadline = float("inf")
    while running := [rank for rank in ranks if rank.process.poll() is None]:
        ended = [rank for rank in ranks if rank.process.returncode]
        if ended and failed is None:
            failed = ended[0]
        if failed is not None and failed.process.returncode == INTERRUPTED and len(ended) > 1:
            failed = next((rank for rank in ended if rank.process.returncode != INTERRUPTED), failed)
        if failed is not None and failed.process.returncode != INTERRUPTED and deadline == float("inf"):
            deadline = time.monotonic() + GRACE_S
            for rank in running:
                rank.process.terminate()
        if time.monotonic() > deadline:
            for rank in running:
                rank.process.kill()
        time.sleep(POLL_S)
    failed = failed or next((rank for rank in ranks if rank.process.returncode), None)
    if failed is None or failed.process.returncode < 0 or failed.process.returncode == INTERRUPTED:
        return failed
    bad = [rank for rank in (*ranks[1:], ranks[0]) if rank.process.returncode > 0]
    return next((rank for rank in bad if not _is_echo(rank)), failed)


def _is_echo(rank: _Rank) -> bool:
    """Whether it failed because another one did."""
    return rank.printed is not None and _last_lines(rank.printed).startswith("exaone: rank ")


def _last_lines(printed: IO[bytes]) -> str:
    printed.seek(0)
    return "\n".join(printed.read().decode(errors="replace").splitlines()[-LAST_LINES:])


@contextmanager
def _forwarded(ranks: Sequence[_Rank]) -> Iterator[None]:
    """Within it, signals that ask this process to end go to all ranks."""

    def forward(number: int, frame: FrameType | None) -> None:
        for rank in ranks:
            if rank.process.poll() is None:
                rank.process.send_signal(number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
    previous = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _explain(failed: _Rank) -> int:
    """Prints why a run ended, where the first rank does not: its exit status."""
    code = failed.process.returncode
    if code == INTERRUPTED or (failed.number == 0 and code > 0):
        return int(code)
    if failed.printed is not None:
        say_aside(_last_lines(failed.printed))
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with exit status {code}"
    say_error(
        f"rank {failed.number} {how}, and the run has ended. The same command goes on from the last saved state, "
        "also on another number of ranks."
    )
    return 1 if code < 0 else int(code)
