"""What is done while the judge model is down: wait, look again, and know an outage from a question that it fails."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Hashable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from open_exaone.base import interrupt
from open_exaone.base.log import logger
from open_exaone.base.records import Missing, Outage, Rollout, Sample, Verdict, VerdictStatus
from open_exaone.remote.question import EndpointError, find_outage
from open_exaone.remote.settings import Endpoint

FIRST_PAUSE_S = 2.0  # before the judge model is asked again; doubled from time to time
LONGEST_PAUSE_S = 60.0
LOG_EVERY_S = 600.0
MAX_FAILURES = 5  # of one question, each time while the endpoint answered another one just before and just after
UNJUDGED = Verdict(VerdictStatus.ERROR, None, "Not judged yet.", Outage.DOWN)
_SAVED = "the samples are saved, and the same command resumes"
_POLL_S = 0.1  # how soon Ctrl-C takes effect
Item = TypeVar("Item", Rollout, Sample)
Key = TypeVar("Key", bound=Hashable)


def is_open(item: Rollout | Sample) -> bool:
    """Whether its verdict, or a term of its reward, is still to be asked for."""
    return bool(_open_parts(item))


def _open_parts(item: Rollout | Sample) -> list[Verdict | Missing]:
    parts = (item.verdict, *(item.terms.values() if isinstance(item, Rollout) else ()))
    return [part for part in parts if isinstance(part, Verdict | Missing) and part.outage]


def given_up(item: Item) -> Item:
    """What was open in it could not be found, and says nothing about the reply."""
    verdict = replace(item.verdict, outage=None)
    if isinstance(item, Sample):
        return replace(item, verdict=verdict)
    terms = {n: replace(term, outage=None) if isinstance(term, Missing) else term for n, term in item.terms.items()}
    return replace(item, verdict=verdict, terms=terms)


class Patience:
    """One set of samples' waits for the judge model; `waited_s` is how long they took."""

    def __init__(self, endpoint: Endpoint | None) -> None:
        self.waited_s = 0.0
        self._endpoint = endpoint
        self._failures: Counter[Hashable] = Counter()
        self._num_open = -1
        self._num_idle = 0  # waits in a row before which nothing was judged
        self._idle_since_s = self._next_log_s = 0.0

    def wait(self, failed: Mapping[Key, Rollout | Sample], num_open: int) -> list[Key]:
        """Waits until the judge model answers.

        Args:
            failed: those that it was just asked about, and that are still open.
            num_open: how many are open, those that it was not asked about included.

        Returns:
            those of `failed` to give up: the judge model answers others, and failed these repeatedly.

        Raises:
            EndpointError: it refuses, or nothing was judged for `max_wait_s`.
            Interrupted: after Ctrl-C or SIGTERM.
        """
        assert self._endpoint is not None  # nobody else leaves a question open
        parts = [part for item in failed.values() for part in _open_parts(item)]
        first = next((part for part in parts if part.outage is Outage.REFUSED), parts[0])
        if first.outage is Outage.REFUSED:
            raise EndpointError(f"the judge model refuses: {first.why.rstrip('.')}; {_SAVED}")
        started_s = _clock_s()
        self._num_idle += 1
        if num_open != self._num_open:
            self._num_idle, self._num_open, self._idle_since_s, self._next_log_s = 0, num_open, started_s, started_s
        is_up = self._until_up(self._endpoint, first.why)
        self.waited_s += _clock_s() - started_s
        self._failures.update(list(failed) if is_up else ())
        return [key for key in failed if self._failures[key] >= MAX_FAILURES]

    def _until_up(self, endpoint: Endpoint, why: str) -> bool:
        """Waits; returns whether the endpoint answered as soon as it was asked for the first time."""
        for attempt in itertools.count():
            if _clock_s() >= self._next_log_s:
                self._next_log_s = _clock_s() + LOG_EVERY_S
                rest = "%s (%d samples are not judged; Ctrl-C stops)"
                logger.warning(f"waiting for the judge model: {rest}", why, self._num_open)
            _sleep(min(FIRST_PAUSE_S * 2.0 ** min(self._num_idle + attempt, 30), LONGEST_PAUSE_S))
            error = _look(endpoint)
            if error is None:
                return attempt == 0
            why, idle_s = str(error), _clock_s() - self._idle_since_s
            if error.is_refusal or idle_s >= endpoint.max_wait_s:
                what = "refuses" if error.is_refusal else f"has judged nothing for {idle_s:.0f} s (max_wait_s)"
                raise EndpointError(f"the judge model {what}: {why}; {_SAVED}")
        raise AssertionError("counting does not end")


def _clock_s() -> float:
    return time.monotonic()


def _sleep(seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 0:
        interrupt.check()
        time.sleep(min(left_s, _POLL_S))
    interrupt.check()


def _look(endpoint: Endpoint) -> EndpointError | None:
    """`find_outage`, which may take long, in a thread, so that Ctrl-C takes effect meanwhile."""
    found: Future[EndpointError | None] = Future()

    def look() -> None:
        try:
            found.set_result(find_outage(endpoint))
        except BaseException as error:  # raised again by the thread that waits
            found.set_exception(error)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    while thread.is_alive():
        interrupt.check()
        thread.join(_POLL_S)
    return found.result()
