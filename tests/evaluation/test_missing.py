"""Notes on replies agree with the replies."""

import pytest

from evaluation.made_up import sums
from open_exaone.base.records import Generation, Reply, Sample, StopReason, Verdict, VerdictStatus
from open_exaone.evaluation.missing import counted_notes
from open_exaone.rollout.providers.context import note

LIMIT = 64


def sample(stop: StopReason, num_tokens: int) -> Sample:
    generation = Generation(Reply("", "1"), stop, 5, num_tokens, 0)
    return Sample("k", "sums", "sum/0", 0, generation, Verdict(VerdictStatus.CORRECT, None, ""))


@pytest.mark.parametrize(
    ("samples", "number"),
    [
        ([(StopReason.END, 7), (StopReason.LENGTH, LIMIT)], None),  # one ends by itself, one at its own limit
        ([(StopReason.END, 7), (StopReason.LENGTH, 20), (StopReason.LENGTH, 0)], "2 of 3 replies"),
    ],
)
def test_the_context_is_noted_with_the_replies_that_it_cut(
    samples: list[tuple[StopReason, int]], number: str | None
) -> None:
    done = [(sums(1, len(samples)), [[sample(*one) for one in samples]])]
    notes = counted_notes(["another", note(100), note(100)], done)
    assert notes == ["another", *([f"{note(100)} ({number})"] if number else [])]
