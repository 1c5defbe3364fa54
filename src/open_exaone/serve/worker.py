"""One thread owns the engines and steps them; the server's event loop submits requests and reads what has come.

What is generated lies in the engine's samples. After each step the thread publishes how far each one is and wakes the
readers, once for all; a reader that is slow takes more at a time, and nothing queues up. No torch.
"""

import asyncio
import logging
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from open_exaone.base.records import Request, Sampling, StopReason
from open_exaone.engine.request import Constraint, Sample

if TYPE_CHECKING:
    from open_exaone.engine.engine import Engine
    from open_exaone.engine.session import Session

logger = logging.getLogger("open_exaone.serve")
# The event loop's time for each stream between two pieces of it: 64 streams get one in 32 ms at most. It takes a tenth.
PIECE_S = 0.0005


@dataclass(slots=True, eq=False)
class Job:
    """One sample of a ticket. The thread writes all but `num_read`, `stop` last of all."""

    request: Request
    constraint: Constraint | None = None
    sample: Sample | None = None
    num_ready: int = 0  # tokens that may be read
    num_read: int = 0
    error: str | None = None
    stop: StopReason | None = None  # no more tokens will come


@dataclass(slots=True, eq=False)
class Ticket:
    """A client's request: one job for each reply that it asked for."""

    id: str
    model: str
    jobs: Sequence[Job]
    is_streamed: bool
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: str | None = None  # why it was

    @property
    def is_done(self) -> bool:
        return all(job.stop is not None for job in self.jobs)


@dataclass(slots=True, eq=False)
class _Lane:
    """One model: its session, and the jobs that it runs."""

    engine: "Engine"
    session: "Session | None"  # None behind a failure, until the next request
    jobs: dict[Sample, tuple[Job, Ticket]] = field(default_factory=dict)
    published: float = -math.inf  # when streams last got what had come

    @property
    def is_idle(self) -> bool:
        return self.session is None or self.session.finished


class Worker:
    """Runs the engines.

    Args:
        engines: by the names of their models.
        max_unread_tokens: see `ServeConfig`.
    """

    def __init__(self, engines: "Mapping[str, Engine]", *, max_unread_tokens: int) -> None:
        self._lanes = {name: _Lane(engine, engine.open_session(first_steps=1)) for name, engine in engines.items()}
        self._max_unread = max_unread_tokens
        self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closing = False
        self.num_tokens = 0  # generated so far
        self.num_steps = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins; readers are woken in `loop`."""
        self._loop = loop
        for lane in self._lanes.values():
            assert lane.session is not None
            lane.session.submit([Request((), (0,), False, Sampling(max_new_tokens=2))])
            while not lane.session.finished:  # what is slow the first time
                lane.session.step()
        sys.setswitchinterval(0.0005)  # else a thread that has work waits 5 ms for the other
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """Ends the thread, whatever still runs, and frees the memory; a step that does not end is left behind."""
        self._inbox.put(self._close)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                logger.warning("a step of the engine has not finished within %g s: it is abandoned", timeout_s)

    def holds(self, model: str, length: int) -> bool:
        """Whether memory holds a prompt and its reply of so many tokens together."""
        session = self._lanes[model].session
        return session is None or session.holds(length)

    def counts(self) -> tuple[int, int]:
        """How many replies run, and how many wait."""
        lanes = self._lanes.values()
        sessions = [session for lane in lanes if (session := lane.session) is not None]
        running = sum(len(session.scheduler.running) for session in sessions)
        return running, max(0, sum(len(lane.jobs) for lane in lanes) - running)

    def submit(self, ticket: Ticket) -> None:
        """Puts a ticket's jobs at the end of its model's queue."""
        self._inbox.put(lambda: self._submit(ticket))

    def cancel(self, ticket: Ticket, why: str) -> None:
        """Takes out what of a ticket still runs or waits."""
        if not ticket.is_done:
            self._inbox.put(lambda: self._cancel(ticket, why))

    async def end_thought(self, ticket: Ticket) -> bool:
        """Ends the thoughts of a ticket's replies where they stand; whether one was open."""
        answer: Future[bool] = Future()

        def end() -> None:
            if not answer.set_running_or_notify_cancel():
                return
            session = self._lanes[ticket.model].session
            samples = [job.sample for job in ticket.jobs if job.sample is not None]
            try:
                ended = [session is not None and session.end_thought(sample) for sample in samples]
            except Exception as error:  # a border: whoever waits for the answer gets it
                answer.set_exception(error)
            else:
                answer.set_result(any(ended))

        self._inbox.put(end)
        return await asyncio.wrap_future(answer)

    def _run(self) -> None:
        while not self._is_closing:
            if all(lane.is_idle for lane in self._lanes.values()):
                self._do(self._inbox.get())
            while not self._inbox.empty():
                self._do(self._inbox.get())
            for lane in self._lanes.values():
                if not lane.is_idle:
                    self._step(lane)
        for lane in self._lanes.values():
            if lane.session is not None:
                lane.session.close()

    def _do(self, command: Callable[[], object]) -> None:
        try:
            command()
        except Exception:  # a border: the others go on
            logger.exception("the engine could not process a request")

    def _step(self, lane: _Lane) -> None:
        assert lane.session is not None
        try:
            num_tokens, _ = lane.session.step()
        except Exception as error:  # a border: the others go on, and the next request finds a session
            logger.exception("a step of the engine failed")
            self._do(partial(self._restart, lane, error))
            return
        self.num_tokens += num_tokens
        self.num_steps += 1
        self._publish(lane)

    def _publish(self, lane: _Lane) -> None:
        """Says how far each reply is, and cancels those that nobody reads.

        A reply's first tokens and its end are published at once, what comes between when it is worth a piece.
        """
        woken: list[Ticket] = []
        now, num_streams = time.perf_counter(), sum(ticket.is_streamed for _, ticket in lane.jobs.values())
        if is_due := now - lane.published >= PIECE_S * num_streams:
            lane.published = now
        for sample, (job, ticket) in list(lane.jobs.items()):
            num, stop = len(sample.ids), sample.stop
            if job.stop is not None or (stop is None and (num == job.num_ready or (job.num_ready and not is_due))):
                continue
            job.num_ready = num
            if stop is not None:
                del lane.jobs[sample]
                job.error, job.stop = sample.error, stop
            elif ticket.is_streamed and num - job.num_read > self._max_unread:
                logger.warning("%s: cancelled: its client left %d tokens unread", ticket.id, num - job.num_read)
                self._cancel(ticket, "its client did not read it")
            if ticket.is_streamed or ticket.is_done:
                woken.append(ticket)
        self._wake(woken)

    def _wake(self, tickets: Iterable[Ticket]) -> None:
        tickets = list(tickets)
        if tickets and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_set_all, tickets)

    def _submit(self, ticket: Ticket) -> None:
        lane = self._lanes[ticket.model]
        if ticket.cancelled is not None:
            return
        try:
            lane.session = lane.session or lane.engine.open_session(first_steps=1)
            samples = lane.session.submit([job.request for job in ticket.jobs])
        except Exception as error:  # a border: such as memory that is short
            logger.exception("%s: the engine could not take it", ticket.id)
            self._fail([(job, ticket) for job in ticket.jobs], error)
            return
        for job, sample in zip(ticket.jobs, samples, strict=True):
            sample.constraint = job.constraint
            job.sample = sample
            lane.jobs[sample] = job, ticket

    def _cancel(self, ticket: Ticket, why: str) -> None:
        lane = self._lanes[ticket.model]
        ticket.cancelled = why
        for job in ticket.jobs:
            if job.stop is None:
                if job.sample is not None:
                    lane.jobs.pop(job.sample, None)
                    if lane.session is not None:
                        lane.session.cancel(job.sample)
                job.stop = StopReason.CANCELLED
        self._wake([ticket])

    def _restart(self, lane: _Lane, error: Exception) -> None:
        """Gives up all that a session runs; the next request opens another."""
        jobs, lane.jobs = list(lane.jobs.values()), {}
        session, lane.session = lane.session, None
        self._fail(jobs, error)
        if session is not None:
            session.close()

    def _fail(self, jobs: Iterable[tuple[Job, Ticket]], error: Exception) -> None:
        jobs = list(jobs)
        for job, _ in jobs:
            job.error, job.stop = f"the engine failed: {type(error).__name__}", StopReason.ERROR
        self._wake(ticket for _, ticket in jobs)

    def _close(self) -> None:
        self._is_closing = True
        for lane in self._lanes.values():
            for _, ticket in list(lane.jobs.values()):
                self._cancel(ticket, "the server stops")


def _set_all(tickets: Iterable[Ticket]) -> None:
    for ticket in tickets:
        ticket.changed.set()
