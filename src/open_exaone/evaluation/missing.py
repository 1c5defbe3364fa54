"""Samples without a reply: a question that an endpoint never answers, or a null in a file of replies.

They count as not correct, the report names them, and the same command asks for them again.
"""

from collections.abc import Iterable, Sequence

from open_exaone.base.records import Generation, Reply, Sample, StopReason, Verdict, VerdictStatus

NO_REPLY = Verdict(VerdictStatus.ERROR, None, "There is no whole reply: the generation failed or was cancelled.")
NO_GENERATION = Generation(Reply("", ""), StopReason.ERROR, 0, 0, 0)
_NAMED = 3  # samples that a note names


def is_missing(sample: Sample) -> bool:
    """Whether no reply was got at all."""
    reply = sample.generation.reply
    return sample.generation.stop is StopReason.ERROR and not (reply.thought or reply.answer or reply.tool_calls)


def names_of_missing(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The problem and the number of each sample that has no reply, such as "sums/3 #0"."""
    return tuple(f"{sample.problem} #{sample.index}" for sample in samples if is_missing(sample))


def notes_on_replies(task: str, samples: Sequence[Sample], failure: str | None = None) -> list[str]:
    """What a report must state of a task's replies: which are missing, and that none has an answer.

    Args:
        failure: why the first of them could not be had, where that is known.
    """
    names, notes = names_of_missing(samples), list[str]()
    if names:
        shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        why = f" ({failure})" if failure else ""
        notes.append(
            f"{task}: {len(names)} of {len(samples)} samples have no reply and count as not correct: {shown}{why}; "
            "the same command asks for them again"
        )
    there = [sample.generation.reply for sample in samples if not is_missing(sample)]
    if there and all(reply.finished and not reply.answer.strip() and not reply.tool_calls for reply in there):
        part = "a thought and no answer" if any(reply.thought.strip() for reply in there) else "no text at all"
        notes.append(
            f"{task}: every reply has {part}: the server's reasoning parser may take the answer for the thought; serve "
            "the model without it, or with the one of its family"
        )
    return notes
