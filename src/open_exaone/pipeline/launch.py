"""Starts the ranks of a run on this machine, and ends them all where one of them ends badly. Loads no torch."""

import os
import re
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
MISUSED, INTERRUPTED = 2, 130  # exit statuses
COMMAND = (sys.executable, "-m", "open_exaone")
_HOW_TO_RESUME = (
    "The run has ended. The same command resumes it from the last saved state, also on another number of ranks."
)


@dataclass(frozen=True, slots=True)
class _Rank:
    number: int
    process: subprocess.Popen[bytes]
    printed: IO[bytes] | None  # None: it prints where this process does


def launch(arguments: Sequence[str], number: int, restarts: int = 0) -> int:
    """Runs the command line in `number` processes, the ranks of one run; the first of them prints.

    Ctrl-C and SIGTERM go to each of them. Where one fails the others get SIGTERM, and are killed after `GRACE_S`.

    Args:
        arguments: of `exaone`, with the flag that has the ranks started: they see from the environment that they are.
        restarts: how often all ranks are started again after one has failed; not after Ctrl-C, SIGTERM, or an error
            in the recipe or the command line.

    Returns:
        the exit status of the rank that failed first, or 0.
    """
    if not 1 <= number <= 1024:
        raise ConfigError(f"--ranks {number}: must be 1 to 1024")
    for attempt in range(restarts + 1):
        failed, was_signalled = _run(arguments, number, attempt)
        if failed is None:
            return 0
        code = failed.process.returncode
        if attempt == restarts or was_signalled or code in (MISUSED, INTERRUPTED):
            has_printed_why = failed.number == 0 and code > 0
            return int(code) if has_printed_why else _explain(failed, _HOW_TO_RESUME)
        again = f"All {number} ranks start again from the last saved state (restart {attempt + 1} of {restarts})."
        _explain(failed, again)
    raise ConfigError(f"restarts = {restarts}: must be 0 or more")


def _run(arguments: Sequence[str], number: int, attempt: int) -> tuple[_Rank | None, bool]:
    """Starts the ranks once: the one that failed first, or None, and whether this process was asked to end."""
    ranks: list[_Rank] = []
    reading, writing = os.pipe()
    try:
        with _forwarded(ranks) as signals:
            port = _free_port()
            for rank in range(number):
                environment = _environment(os.environ, rank, number, port, attempt) | {LAUNCHER: str(reading)}
                ranks.append(_start(arguments, rank, environment, reading))
            return _wait(ranks), bool(signals)
    finally:
        for one in ranks:
            one.process.kill()  # does nothing to one that has ended
            one.process.wait()
        os.close(reading)
        os.close(writing)


def _start(arguments: Sequence[str], rank: int, environment: dict[str, str], pipe: int) -> _Rank:
    printed = tempfile.TemporaryFile() if rank else None  # noqa: SIM115
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL if rank else None,
        stderr=printed,
        stdin=subprocess.DEVNULL,
        pass_fds=(pipe,),
        process_group=0,  # Ctrl-C reaches this process, which hands it on once
    )
    return _Rank(rank, process, printed)


def _environment(own: Mapping[str, str], rank: int, number: int, port: int, attempt: int) -> dict[str, str]:
    """Of a rank, as torchrun sets it; the machine's cores are shared out among the ranks."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_PORT": port}
    place["TORCHELASTIC_RESTART_COUNT"] = attempt
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
    if ranks[0].process.returncode == MISUSED:
        return ranks[0]  # it has printed the error, which others may have found as well
    bad = [rank for rank in (*ranks[1:], ranks[0]) if rank.process.returncode > 0]
    return next((rank for rank in bad if not _is_echo(rank)), failed)


def _is_echo(rank: _Rank) -> bool:
    """Whether it failed because another one did."""
    named = None if rank.printed is None else re.match(r"exaone: rank (\d+)", text := _last_lines(rank.printed))
    return named is not None and (int(named[1]) != rank.number or "cannot reach" in text)


def _last_lines(printed: IO[bytes]) -> str:
    printed.seek(0)
    return "\n".join(printed.read().decode(errors="replace").splitlines()[-LAST_LINES:])


@contextmanager
def _forwarded(ranks: Sequence[_Rank]) -> Iterator[list[int]]:
    """Within it, signals that ask this process to end go to all ranks: those that came."""
    came: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for rank in ranks:
            if rank.process.poll() is None:
                rank.process.send_signal(number)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    numbers = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
    previous = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _explain(failed: _Rank, what_now: str) -> int:
    """Prints why the ranks have ended, and what happens now: the exit status of the rank that failed."""
    code = failed.process.returncode
    if code == INTERRUPTED:
        return INTERRUPTED
    if failed.printed is not None:
        say_aside(_last_lines(failed.printed))
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
    say_error(f"rank {failed.number} {how}. {what_now}")
    return 1 if code < 0 else int(code)
