"""What becomes of a verdict where the code that should find it, in a process of its own, returned nothing."""

from open_exaone.base.records import VerdictStatus
from open_exaone.sandbox.workers import CallResult


def status_of(result: CallResult) -> VerdictStatus:
    """The status of a call that is not "ok".

    A reply whose formula takes all the time or memory that it may have is at fault itself; whatever else keeps the code
    from an answer (it raised, it was killed, the machine had no time for it) is ours, and says nothing of the reply.
    """
    return {"timeout": VerdictStatus.TIMEOUT, "memory": VerdictStatus.WRONG}.get(result.status, VerdictStatus.ERROR)
