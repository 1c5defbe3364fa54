"""Replies that end where the model's context does: LG's limits are the whole context of some of its models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from open_exaone.base.records import Ask, Generation, Reply, Sampling, StopReason


@dataclass(frozen=True, slots=True)
class Fitted:
    """Asks as a context has room for them."""

    asks: dict[int, Ask]  # place -> the ask, its reply no longer than there is room for
    unanswered: list[tuple[int, Generation]]  # those whose prompt fills the context, with their empty reply
    notes: tuple[str, ...]  # what a report must say of it


def fit(asks: Sequence[Ask], prompts: Sequence[Sequence[int]], context: int) -> Fitted:
    """Shortens replies to what `context` positions have room for behind each prompt's ids; a cut one is truncated."""
    fitted, unanswered = dict[int, Ask](), list[tuple[int, Generation]]()
    shortened = set[str]()
    for place, (ask, ids) in enumerate(zip(asks, prompts, strict=True)):
        room = context - len(ids)
        if room < ask.sampling.max_new_tokens:
            shortened.add(ask.question)
        if room < 1:
            nothing = Reply("", "", finished=not ask.thinking)
            unanswered.append((place, Generation(nothing, StopReason.LENGTH, len(ids), 0, 0)))
        else:
            fitted[place] = replace(ask, sampling=_shortened(ask.sampling, room))
    num_filled = len({asks[place].question for place, _ in unanswered})
    note = (
        f"the model's context of {context} tokens ends the replies to {len(shortened)} questions before their token "
        f"limit does; {num_filled} of these fill it by themselves, and their empty replies count as truncated"
    )
    return Fitted(fitted, unanswered, (note,) if shortened else ())


def _shortened(sampling: Sampling, room: int) -> Sampling:
    if room >= sampling.max_new_tokens:
        return sampling
    budget = sampling.thinking_budget
    return replace(sampling, max_new_tokens=room, thinking_budget=budget if budget and budget < room else None)
