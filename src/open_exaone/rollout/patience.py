"""What is done while the judge model is down: wait, look again, and know an outage from a question that it fails."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from open_exaone.base import interrupt
from open_exaone.base.log import logger
from open_exaone.base.records import Rollout, Verdict, VerdictStatus
from open_exaone.verify.endpoint import Down, EndpointError, Refused, find_outage
from open_exaone.verify.settings import Endpoint

FIRST_PAUSE_S = 2.0  # before the judge model is asked again; doubled from time to time
LONGEST_PAUSE_S = 60.0
MAX_FAILURES = 5  # of one question, each time while the endpoint answered another one just before and just after
_SAVED = "the samples are saved, and the same command goes on with them"
_POLL_S = 0.1  # how soon Ctrl-C is heeded

OPEN = (Down, Refused)  # what stands for a verdict or a term that is still to be asked for
UNJUDGED = Verdict(VerdictStatus.ERROR, None, Down("Not judged yet."))


def is_open(rollout: Rollout) -> bool:
    """Whether its verdict, or a term of its reward, is still to be asked for."""
    return why_open(rollout) is not None


def why_open(rollout: Rollout) -> Down | Refused | None:
    """Why it is open; None where all is known, or known not to be found."""
    whys = (rollout.verdict.why, *rollout.terms.values())
    return next((why for why in whys if isinstance(why, OPEN)), None)


def closed(rollout: Rollout) -> Rollout:
    """What was open in it is given up: it could not be found, and says nothing about the reply."""
    terms = {name: str(term) if isinstance(term, OPEN) else term for name, term in rollout.terms.items()}
    return replace(rollout, verdict=replace(rollout.verdict, why=str(rollout.verdict.why)), terms=terms)


class Patience:
    """One set of samples' waits for the judge model."""

    def __init__(self, endpoint: Endpoint | None) -> None:
        self._endpoint = endpoint
        self._failures: Counter[int] = Counter()
        self._num_open: int | None = None
        self._num_idle = 0  # waits in a row behind which nothing was judged

    def wait(self, failed: Sequence[tuple[int, Down | Refused | None]], num_open: int) -> list[int]:
        """Waits until the judge model answers.

        Args:
            failed: the questions that it failed last, and why.
            num_open: questions that are to be asked.

        Returns:
            those of `failed` to be given up: it answers others, and failed these time and again.

        Raises:
            EndpointError: it refuses, or stayed down for `max_wait_s`.
            Interrupted: after Ctrl-C or SIGTERM.
        """
        assert self._endpoint is not None and failed  # nobody else leaves a question open
        why = next((why for _, why in failed if isinstance(why, Refused)), failed[0][1])
        if isinstance(why, Refused):
            raise EndpointError(f"the judge model refuses: {why.rstrip('.')}; {_SAVED}")
        self._num_idle = self._num_idle + 1 if num_open == self._num_open else 0
        self._num_open = num_open
        logger.warning("waiting for the judge model: %s (%d samples are not judged; Ctrl-C stops)", why, num_open)
        if not self._until_up(self._endpoint):
            return []
        self._failures.update(index for index, _ in failed)
        return [index for index, _ in failed if self._failures[index] >= MAX_FAILURES]

    def _until_up(self, endpoint: Endpoint) -> bool:
        """Waits; returns whether the endpoint answered as soon as it was asked for the first time."""
        started = _clock_s()
        for attempt in itertools.count():
            _sleep(min(FIRST_PAUSE_S * 2.0 ** min(self._num_idle + attempt, 30), LONGEST_PAUSE_S))
            outage = _look(endpoint)
            if outage is None:
                return attempt == 0
            waited_s = _clock_s() - started
            if outage.is_refusal or waited_s >= endpoint.max_wait_s:
                what = "refuses" if outage.is_refusal else f"was down for {waited_s:.0f} s (max_wait_s)"
                raise EndpointError(f"the judge model {what}: {outage}; {_SAVED}")
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
    found: list[EndpointError | None] = []
    thread = threading.Thread(target=lambda: found.append(find_outage(endpoint)), daemon=True)
    thread.start()
    while thread.is_alive():
        interrupt.check()
        thread.join(_POLL_S)
    [outage] = found
    return outage
