"""Where in a rendered conversation stands what is learned, by the marks that a template's process found again.

    the prompt                                   learned                                        the rest
    <|user|>Q<|end|><|assistant|>   ·thought·</think>\\n\\n·answer·<|end|>                        \\n
    as the generation prompt ends   the reply's parts, to the end-of-turn token behind them

Or what `{% generation %}` blocks print, with the end-of-turn token that stands behind one.

Several replies are learned in one text where each beginning of the conversation, to the end of a reply, makes the same
text. Of up to `MAX_CHECKED` replies each is rendered to see that; of more, a few: the others must stand in the same
words as those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.text.chat import Dialogue, Message
from open_exaone.text.template_marks import Marks

MAX_CHECKED = 16  # replies; with more, a conversation of n turns would cost n times n
Span = tuple[int, int]


@dataclass
class Job:
    """A conversation on its way through a template."""

    dialogue: Dialogue  # as the template gets it
    marks: Marks
    replies: dict[int, dict[str, Any]] = field(default_factory=dict)  # that are learned, with marks in them
    reply: Mapping[str, Any] = field(default_factory=dict)  # what the process found
    text: str = ""
    lacks_end: bool = False  # no end-of-turn token was found behind the reply: it may open the next turn
    before_later_turn: str | None = None  # its text without the turn that was added to see that

    @property
    def is_joint(self) -> bool:
        return len(self.dialogue.learned) > 1


def checked_places(learned: Sequence[int]) -> list[int]:
    """Which of the replies to be learned are rendered as ends of conversations: all, or half as far each time."""
    if len(learned) <= MAX_CHECKED:
        return list(learned)
    place, found = len(learned) - 1, set[int]()
    while place:
        found.add(learned[place])
        place //= 2
    return sorted({learned[0], *found})


def learned_spans(job: Job, end_markers: Sequence[str], markers: Sequence[str]) -> list[Span] | None:
    """Where in `job.text` stands what is learned; None where several replies don't stand in one text.

    Raises:
        DataError: it can't be found; says why.
    """
    if not job.is_joint:
        return _spans(job, end_markers, markers)
    try:
        return _spans(job, end_markers, markers)
    except DataError:  # by themselves some may do
        return None


def _spans(job: Job, end_markers: Sequence[str], markers: Sequence[str]) -> list[Span] | None:
    if not job.reply["is_same"]:
        raise DataError("it rewrites the reply's content, or prints something else because of it")
    parts = _parts_of(job)
    places = job.reply["places"]
    opens, closes = places[job.marks.opens], places[job.marks.closes]
    if opens and len(opens) == len(closes):
        return _by_blocks(job, list(zip(opens, closes, strict=True)), parts, end_markers, markers)
    checked = {int(place): found for place, found in job.reply["checked"].items()}
    spans: dict[int, Span] = {}
    words = set()  # in which the checked replies stand: the generation prompt, what follows it, the end of the turn
    for place, (prompt, begins, common) in checked.items():
        start, end = _span(job, parts[place], prompt, common, end_markers, markers)
        spans[place] = start, end
        first, last = min(parts[place], default=start), max(parts[place], default=start)
        words.add((job.text[begins if begins >= 0 else start : start], job.text[start:first], job.text[last:end]))
    for place in parts.keys() - spans.keys():
        if len(words) > 1 or not parts[place]:
            return None
        [(prompt, opening, ending)] = words
        start, end = min(parts[place]) - len(opening), max(parts[place]) + len(ending)
        if not (job.text.endswith(prompt, 0, start) and job.text.startswith(ending, max(parts[place]))):
            return None
        spans[place] = start, end
    return [spans[place] for place in sorted(spans)]


def _parts_of(job: Job) -> dict[int, list[int]]:
    """Where the marks of each learned reply's parts stand.

    Raises:
        DataError: some were not printed.
    """
    marks, tag_free = job.marks, job.dialogue.thinking
    thought = (
        'the reply\'s thought; set mode = "non_reasoning" to train without thoughts'
        if tag_free
        else "the reply's text before a closing tag"
    )
    parts: dict[int, list[int]] = {place: [] for place in job.replies}
    for mark, why in (
        (marks.thought, f"it drops {thought}"),
        (marks.answer, "it does not print the reply's content"),
        (marks.call, "it does not print all of the reply's tool calls"),
    ):
        found = job.reply["places"][mark]
        wanted = {place: _num_marks(reply, mark, marks.call) for place, reply in job.replies.items()}
        if len(found) < sum(wanted.values()) or (job.is_joint and len(found) != sum(wanted.values())):
            raise DataError(why)
        taken = 0
        for place, number in wanted.items():
            parts[place] += found[taken : taken + number] if job.is_joint else found
            taken += number
    return parts


def _num_marks(reply: Message, mark: str, call_mark: str) -> int:
    """How many of these marks a template must print of a reply."""
    if mark == call_mark:
        calls = reply.get("tool_calls") or ()
        return sum(2 * (mark in (call.get("function") or call)["name"]) for call in calls)
    return 2 * any(mark in (reply.get(name) or "") for name in ("reasoning_content", "content"))


def _by_blocks(
    job: Job,
    blocks: Sequence[Span],
    parts: Mapping[int, Sequence[int]],
    end_markers: Sequence[str],
    markers: Sequence[str],
) -> list[Span] | None:
    """What the blocks of the learned replies print, each with an end-of-turn token that stands right behind it."""
    learned, text = job.dialogue.learned, job.text
    zones: dict[int, Span] = {}
    for key, (_, begins, common) in job.reply["checked"].items():
        place = int(key)
        first = begins if begins >= 0 else _block_start(blocks, parts[place])
        zones[place] = (first, len(text) if common < 0 else common)
    if any(_own(blocks, zone)[-1][1] > zone[1] for zone in zones.values()):
        return None
    if len(zones) < len(learned):  # then every reply must be learned, and with them every block
        messages = job.dialogue.messages
        if len(learned) < sum(message["role"] == "assistant" for message in messages[: learned[-1] + 1]):
            return None
        zones = {learned[0]: (zones[learned[0]][0], len(text))}
    spans: list[Span] = []
    ends: list[int] = []  # of each reply
    for zone in zones.values():
        spans += [(start, _end_behind(text, start, end, end_markers)) for start, end in _own(blocks, zone)]
        ends.append(spans[-1][1])
    if len(zones) < len(learned):
        ends = [
            max((end for start, end in spans if start <= max(parts[place], default=-1)), default=0) for place in learned
        ]
    for place, end in zip(learned, ends, strict=True):
        if not text[:end].rstrip().endswith(tuple(end_markers) or "\0"):
            job.lacks_end = place == learned[-1]
            behind = text[max(parts[place], default=end) : len(text) if job.lacks_end else end]
            raise DataError(_why_no_end(behind, end_markers, markers, "before {% endgeneration %}"))
    return spans


def _block_start(blocks: Sequence[Span], parts: Sequence[int]) -> int:
    """Where the reply's first block begins, by its first part, where the template takes no conversation before it.

    Raises:
        DataError: it has no part.
    """
    if not parts:
        raise DataError("the reply is empty, and it refuses the conversation before the reply")
    return min((start for start, end in blocks if start <= min(parts) <= end), default=min(parts))


def _own(blocks: Sequence[Span], zone: Span) -> list[Span]:
    """The parts of the blocks that stand in a reply's text, or begin there."""
    begins, stops = zone
    own = [(max(start, begins), end) for start, end in blocks if end > begins and start < stops]
    if not own:
        raise DataError("its {% generation %} blocks leave out the reply")
    return own


def _end_behind(text: str, start: int, end: int, end_markers: Sequence[str]) -> int:
    """Where a block ends, with the end-of-turn token that follows it, unless it holds that itself."""
    if text[start:end].rstrip().endswith(tuple(end_markers) or "\0"):
        return end
    behind = end + len(text[end : end + 100]) - len(text[end : end + 100].lstrip())
    return next((behind + len(marker) for marker in end_markers if text.startswith(marker, behind)), end)


def _span(
    job: Job, parts: Sequence[int], prompt: int, common: int, end_markers: Sequence[str], markers: Sequence[str]
) -> Span:
    """From the generation prompt, or else the reply's first part, to the end-of-turn token behind its last."""
    start = prompt if prompt >= 0 else min(parts, default=-1)
    if start < 0:
        raise DataError("the reply is empty, and it does not begin as the generation prompt does")
    if start > min(parts, default=start):
        raise DataError("it prints the reply before the place where a model generates it")
    last, text = max(parts, default=start), job.text
    stops = len(text) if common < 0 else common
    if last > stops:
        raise DataError("what follows the reply changes it")
    found = [(place, end) for end in end_markers if (place := text.find(end, last)) >= 0]
    place, end = min(found, default=(-1, ""))
    is_end_common = place + len(end) <= stops  # an empty reply is nothing else than its end
    if found and (is_end_common or (parts and not text[stops:place].strip())):
        return start, place + len(end)
    job.lacks_end = True
    raise DataError(_why_no_end(text[last:stops], end_markers, markers, "behind the reply"))


def _why_no_end(behind: str, end_markers: Sequence[str], markers: Sequence[str], where: str) -> str:
    ends = " or ".join(end_markers) or "of which this folder names none"
    fix = "as eos_token in tokenizer_config.json, or among eos_token_id in generation_config.json"
    printed = min(((behind.find(marker), marker) for marker in markers if marker in behind), default=None)
    if printed is None:
        return (
            f"behind the reply it prints no token that ends a turn ({ends}): a model that learned this would never "
            f"stop; write {{{{ eos_token }}}} {where} in the template, or name the token that it prints {fix}"
        )
    return (
        f"behind the reply it prints {printed[1]}, and no token that ends a turn ({ends}): a model that learned this "
        f"would not stop where it is read to stop; name {printed[1]} {fix}"
    )
