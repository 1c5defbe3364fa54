"""Worked thoughts in sentences: an opening, steps, sometimes a second look at one of them, a closing.

The steps stay as they are; what stands around them differs in length from thought to thought, so that a stage that
rewards brevity has something to leave out, and is in a language, so that one that rewards the right language has too.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from open_exaone.tasks.thoughts import Step, written

OPENED_SHARE, CHECKED_SHARE, CLOSED_SHARE = 0.7, 0.5, 0.5  # of the thoughts that have such a sentence


@dataclass(frozen=True, slots=True)
class Sentences:
    """One language."""

    openings: tuple[str, ...]
    checks: tuple[str, ...]  # before a step that is looked at again
    closings: tuple[str, ...]  # before the answer


SENTENCES: Mapping[str, Sentences] = {
    "en": Sentences(
        openings=(
            "Let us work this out step by step.",
            "We will do this one step at a time.",
            "First we see what is given.",
        ),
        checks=("Wait, let us look at this step again:", "Let us check that this is right:"),
        closings=("So the answer is", "We now have the answer:"),
    ),
    "ko": Sentences(
        openings=("차례대로 하나씩 계산해 봅시다.", "주어진 것을 먼저 살펴봅니다.", "천천히 한 단계씩 풀어 봅시다."),
        checks=("잠깐, 이 단계를 다시 봅시다:", "맞는지 한 번 더 확인합니다:"),
        closings=("따라서 구하는 답은 다음과 같습니다:", "이제 답을 알 수 있습니다:"),
    ),
}


def in_sentences(rng: random.Random, steps: Sequence[Step], language: str, *, always_opened: bool = False) -> str:
    """The steps as a thought in sentences of a language.

    Args:
        always_opened: begin with a sentence, so that the thought is in a language in any case.
    """
    words, lines = SENTENCES[language], list[str]()
    if rng.random() < OPENED_SHARE or always_opened:
        lines.append(rng.choice(words.openings))
    lines.append(written(steps))
    if rng.random() < CHECKED_SHARE:
        lines.append(f"{rng.choice(words.checks)} {rng.choice(steps)}")
    if rng.random() < CLOSED_SHARE:
        lines.append(f"{rng.choice(words.closings)} {steps[-1].result}")
    return "\n".join(lines)
