"""Shares requests among the servers of one model: chooses the next, and handles those that fail and return.

Each request goes to the server with the fewest in flight, at most `concurrency` on each. A server that asks for a pause
(Retry-After), or fails, gets none for that long. One that cannot be reached is lost: its requests go to the others, and
it is used again once it answers. Which server answers changes no reply: a sample's seed is its own.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from open_exaone.base.errors import ConfigError, OpenExaoneError
from open_exaone.base.log import logger
from open_exaone.base.records import Generation, Request
from open_exaone.remote.http import Caller, EndpointError, Server, backoff_s, may_pass

NUM_PROBES = 2  # of every lost server, before a run with none left ends


@dataclass(eq=False, slots=True)
class Peer:
    """One of the servers, and its state."""

    server: Server
    running: set[Caller] = field(default_factory=set)  # the exchanges in flight
    cut: set[Caller] = field(default_factory=set)  # those that were cancelled when it was lost
    num_failed: int = 0  # answers in a row that were none
    paused_until: float = 0.0  # by the monotonic clock, after such an answer
    why_lost: OpenExaoneError | None = None  # None: it is not
    num_probes: int = 0  # in vain, since it was lost

    def lose(self, why: OpenExaoneError) -> None:
        """Removes it; requests that are in flight there are cancelled."""
        if self.why_lost is None:
            logger.warning("%s; its requests go to the other servers", why)
        self.why_lost, self.num_probes = why, 0
        self.cut |= self.running
        for caller in self.running:
            caller.cancel()

    def find(self) -> None:
        """Adds it again."""
        self.why_lost, self.num_failed, self.paused_until = None, 0, 0.0

    @property
    def ready_at(self) -> float:
        """When it may receive requests again, by the monotonic clock."""
        return max(self.paused_until, self.server.pause.until)


@dataclass(slots=True)
class Asked:
    """A request, and how many of its attempts failed with an error that a retry may fix."""

    place: int
    request: Request
    num_failed: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """The error that came instead of a generation."""

    error: Exception
    is_final: bool = False  # nobody is left to ask


Result = Generation | Failed


@dataclass(frozen=True, slots=True)
class Terms:
    """How the servers of one model are used."""

    answer: Callable[[Request, Caller], Generation]  # one request with one server
    revive: Callable[[Server], None]  # raises EndpointError or ConfigError where a lost server is not to be used again
    concurrency: int  # requests in flight at each server
    max_attempts: int  # of each request
    timeout_s: float  # of each attempt


class Work:
    """The requests of one stream that are in flight; threads share it.

    With a single server nothing is handed over: whoever answers repeats its own attempts.
    """

    def __init__(self, terms: Terms, peers: Sequence[Peer], requests: Sequence[Request]) -> None:
        self._terms, self._peers = terms, peers
        self._todo = deque(Asked(place, request) for place, request in enumerate(requests))
        self._num_open = len(requests)
        self._changed = threading.Condition()
        self.stopped = threading.Event()
        for peer in peers:
            if peer.why_lost is not None:
                self._watch(peer)

    def stop(self) -> None:
        """Ends it; requests in flight are cancelled."""
        with self._changed:
            self.stopped.set()
            for caller in [caller for peer in self._peers for caller in peer.running]:
                caller.cancel()
            self._changed.notify_all()

    def work(self, put: Callable[[int, Result], None]) -> None:
        """One thread: takes requests until all are answered."""
        callers: dict[Peer, Caller] = {}
        while (taken := self._take(callers)) is not None:
            asked, peer = taken
            result = Failed(all_lost(self._peers), is_final=True) if peer is None else self._ask(asked, peer, callers)
            if result is not None:
                put(asked.place, result)
                with self._changed:
                    self._num_open -= 1
                    if not self._num_open:
                        self._changed.notify_all()
        for caller in callers.values():
            caller.close()

    def _take(self, callers: dict[Peer, Caller]) -> tuple[Asked, Peer | None] | None:
        """The next request and its server, once there is one; no server if all have failed; None at the end."""
        with self._changed:
            while self._num_open and not self.stopped.is_set():
                wait_s = None
                if self._todo:
                    now = time.monotonic()
                    found = [one for one in self._peers if one.why_lost is None]
                    free = [one for one in found if len(one.running) < self._terms.concurrency]
                    ready = [one for one in free if one.ready_at <= now]
                    if ready:
                        peer = min(ready, key=lambda one: len(one.running))
                        if peer not in callers:
                            callers[peer] = Caller(peer.server, keeps_connection=True)
                        peer.running.add(callers[peer])
                        return self._todo.popleft(), peer
                    if all(one.why_lost is not None and one.num_probes >= NUM_PROBES for one in self._peers):
                        return self._todo.popleft(), None
                    wait_s = min((one.ready_at - now for one in free), default=None)
                elif len(self._peers) == 1:
                    return None  # nothing comes back from another server
                self._changed.wait(wait_s)
        return None

    def _ask(self, asked: Asked, peer: Peer, callers: dict[Peer, Caller]) -> Result | None:
        """The result of a request; None if it is to be sent again."""
        started = time.monotonic()
        result: Result | None
        try:
            result = self._terms.answer(asked.request, callers[peer])
        except Exception as error:  # a thread's border: raised again where the stream is read
            result = Failed(error)
        with self._changed:
            peer.running.discard(callers[peer])
            if isinstance(result, Generation):
                peer.num_failed = 0
            elif isinstance(result, Failed) and len(self._peers) > 1:
                caller = callers.pop(peer)
                was_cut = caller in peer.cut
                peer.cut.discard(caller)
                if was_cut or self._is_asked_again(asked, peer, result.error, time.monotonic() - started):
                    self._todo.appendleft(asked)
                    result = None
            self._changed.notify_all()
        return result

    def _is_asked_again(self, asked: Asked, peer: Peer, error: Exception, seconds: float) -> bool:
        """Records why a server failed, and whether the request is sent again, to this server or another."""
        if not isinstance(error, EndpointError) or self.stopped.is_set() or seconds >= self._terms.timeout_s:
            return False
        if error.status is not None and not may_pass(error.status):
            return False  # the server has read the request and refuses it
        peer.num_failed += 1
        is_cut_off = error.status is None and error.is_down
        if error.is_unreachable or (is_cut_off and peer.num_failed > 1):
            peer.lose(error)
            self._watch(peer)
            return True
        peer.paused_until = time.monotonic() + backoff_s(peer.num_failed - 1)  # also where it answers all with 500
        asked.num_failed += 1
        if asked.num_failed >= self._terms.max_attempts:
            return False
        peer.server.count_retry(str(error.status or ("no connection" if is_cut_off else "unreadable answer")))
        return True

    def _watch(self, peer: Peer) -> None:
        threading.Thread(target=self._probe, args=[peer], name="lost server", daemon=True).start()

    def _probe(self, peer: Peer) -> None:
        """A thread: waits for a failed server to return."""
        for number in count():
            if self.stopped.wait(backoff_s(number)):
                return
            try:
                self._terms.revive(peer.server)
            except (EndpointError, ConfigError) as error:
                with self._changed:
                    peer.num_probes, peer.why_lost = peer.num_probes + 1, error
                    self._changed.notify_all()
                continue
            logger.warning("%s: the server responds again and receives requests again", peer.server.url)
            with self._changed:
                peer.find()
                self._changed.notify_all()
            return


def all_lost(peers: Sequence[Peer]) -> EndpointError:
    """The error where no server is left."""
    reasons = "; ".join(str(peer.why_lost) for peer in peers)
    return EndpointError(f"all {len(peers)} servers have failed: {reasons}", is_unreachable=True, is_down=True)
