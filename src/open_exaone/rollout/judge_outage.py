"""What is done while the judge model is down: wait, look again, and know an outage from a question that it fails."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from open_exaone.base import interrupt
from open_exaone.base.log import logger
from open_exaone.base.records import Missing, Outage, Rollout, Verdict, VerdictStatus
from open_exaone.remote.question import EndpointError, find_outage
from open_exaone.remote.settings import Endpoint

FIRST_PAUSE_S = 2.0  # before the judge model is asked again; doubled from time to time
LONGEST_PAUSE_S = 60.0
LOG_EVERY_S = 600.0
MAX_FAILURES = 5  # of one question, each time while the endpoint answered another one just before and just after
UNJUDGED = Verdict(VerdictStatus.ERROR, None, "Not judged yet.", Outage.DOWN)
_SAVED = "the samples are saved, and the same command resumes"
_POLL_S = 0.1  # how soon Ctrl-C is heeded


def is_open(rollout: Rollout) -> bool:
    """Whether its verdict, or a term of its reward, is still to be asked for."""
    return bool(_open_parts(rollout))


def _open_parts(rollout: Rollout) -> list[Verdict | Missing]:
    parts = (rollout.verdict, *rollout.terms.values())
    return [part for part in parts if isinstance(part, Verdict | Missing) and part.outage]


def _closed(rollout: Rollout) -> Rollout:
    """What was open in it is given up: it could not be found, and says nothing about the reply."""
    terms = {n: replace(term, outage=None) if isinstance(term, Missing) else term for n, term in rollout.terms.items()}
    return replace(rollout, verdict=replace(rollout.verdict, outage=None), terms=terms)


class Patience:
    """One set of samples' waits for the judge model; `waited_s` is how long they took."""

    def __init__(self, endpoint: Endpoint | None) -> None:
        self.waited_s = 0.0
        self._endpoint = endpoint
        self._failures: Counter[int] = Counter()
        self._num_open = -1
        self._num_idle = 0  # waits in a row before which nothing was judged
        self._idle_since_s = self._next_log_s = 0.0

    def wait(self, before: Sequence[Rollout], after: Sequence[Rollout]) -> list[Rollout]:
        """Waits until the judge model answers.

        Args:
            before: all samples, as they were before they were last judged; those that were asked about are others in
                `after`, and open where the judge model failed them.

        Returns:
            `after`, with those closed that are given up: the judge model answers others, and failed these repeatedly.

        Raises:
            EndpointError: it refuses, or nothing was judged for `max_wait_s`.
            Interrupted: after Ctrl-C or SIGTERM.
        """
        assert self._endpoint is not None  # nobody else leaves a question open
        pairs = enumerate(zip(before, after, strict=True))
        failed = [index for index, (old, new) in pairs if new is not old and is_open(new)]
        parts = [part for index in failed for part in _open_parts(after[index])]
        first = next((part for part in parts if part.outage is Outage.REFUSED), parts[0])
        if first.outage is Outage.REFUSED:
            raise EndpointError(f"the judge model refuses: {first.why.rstrip('.')}; {_SAVED}")
        started_s, num_open = _clock_s(), sum(map(is_open, after))
        self._num_idle += 1
        if num_open != self._num_open:
            self._num_idle, self._num_open, self._idle_since_s, self._next_log_s = 0, num_open, started_s, started_s
        is_up = self._until_up(self._endpoint, first.why)
        self.waited_s += _clock_s() - started_s
        self._failures.update(failed if is_up else ())
        given_up = {index for index in failed if self._failures[index] >= MAX_FAILURES}
        return [_closed(rollout) if index in given_up else rollout for index, rollout in enumerate(after)]

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
    """`find_outage`, which may take long, in a thread, so that Ctrl-C is heeded meanwhile."""
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
