"""Samples without a reply: a question that an endpoint never answers, or a null in a file of replies.

They count as not correct and the report names them, whether they were generated or read; a run's stage stops instead.
"""

from collections.abc import Iterable, Sequence

from open_exaone.base.errors import DataError
from open_exaone.base.records import Generation, Reply, Sample, StopReason, Verdict, VerdictStatus
from open_exaone.evaluation.task import Task
from open_exaone.rollout.providers.context import counted

NO_REPLY = Verdict(VerdictStatus.ERROR, None, "There is no whole reply: the generation failed or was cancelled.")
NO_GENERATION = Generation(Reply("", ""), StopReason.ERROR, 0, 0, 0)
_NAMED = 3  # samples that a sentence names


def is_missing(sample: Sample) -> bool:
    """Whether no reply was got at all."""
    reply = sample.generation.reply
    return sample.generation.stop is StopReason.ERROR and not (reply.thought or reply.answer or reply.tool_calls)


def answered(samples: Iterable[Sample]) -> list[Sample]:
    """Those that have a reply."""
    return [sample for sample in samples if not is_missing(sample)]


def names_of_missing(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The problem and the number of each sample that has no reply, such as "sums/3 #0"."""
    return tuple(f"{sample.problem} #{sample.index}" for sample in samples if is_missing(sample))


def refuse_missing(samples: Sequence[Sample], failure: str | None) -> None:
    """For a run, whose stages build on one another: there, every sample must have its reply.

    Args:
        failure: why the first of them could not be had, where that is known.

    Raises:
        DataError: a sample has none; names it.
    """
    if names := names_of_missing(samples):
        why = f": {failure}" if failure else ""
        raise DataError(f"{_some_of(names, samples)} have no reply{why}: the same command asks for them again")


def notes_on_replies(samples: Sequence[Sample], *, of_endpoint: bool) -> list[str]:
    """What a report must state of a task's replies: which are missing, and that none has an answer.

    Args:
        of_endpoint: whether a server has split them into thought and answer.
    """
    notes = []
    if names := names_of_missing(samples):
        notes.append(f"{_some_of(names, samples)} have no reply and count as not correct")
    there = [sample.generation.reply for sample in answered(samples)]
    if there and all(reply.finished and not reply.answer.strip() and not reply.tool_calls for reply in there):
        part = "a thought and no answer" if any(reply.thought.strip() for reply in there) else "no text at all"
        why = (
            ": the server's reasoning parser may take the answer for the thought; serve the model without it, or with "
            "the one of its family"
        )
        notes.append(f"every reply has {part}{why if of_endpoint else ''}")
    return notes


def counted_notes(notes: Iterable[str], done: Iterable[tuple[Task, Sequence[Sequence[Sample]]]]) -> list[str]:
    """Providers' notes, each once; that of the context only if it cut replies, and with their number."""
    replies = [
        (sample.generation, task.sampling.max_new_tokens)
        for task, rows in done
        for row in rows
        for sample in answered(row)
    ]
    cut = sum(generation.stop is StopReason.LENGTH and generation.num_tokens < limit for generation, limit in replies)
    return counted(notes, cut, len(replies))


def _some_of(names: Sequence[str], samples: Sequence[Sample]) -> str:
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names)} of {len(samples)} samples ({shown})"
