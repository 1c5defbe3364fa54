"""Splits a whole reply, whoever wrote it: what is judged, in `ox.judge`, files of replies, evaluation and training.

`split.ReplySplitter` sees a reply as it streams, so it must decide at each tag. Here the end is known: a thought may
have blanks, a template's header or a sentence before its opening tag, have none, or follow another thought.
"""

import re
from collections.abc import Mapping
from functools import cache

from open_exaone.base.records import Reply
from open_exaone.text.split import split_reply

_NAMES = ("think", "thought", "thinking", "thoughts", "reasoning")
STORED_TAGS: Mapping[str, str] = {  # what opens a thought, and what closes it
    **{f"<{name}>": f"</{name}>" for name in _NAMES},
    "[think]": "[/think]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi
    "<|begin_of_thought|>": "<|end_of_thought|>",  # Sky-T1
    "<|channel|>analysis<|message|>": "<|channel|>final<|message|>",  # gpt-oss
}
_BLANK = r"[\s\ufeff\u200b]"
_HEADER = re.compile(  # of an assistant's turn, which a server may leave before its reply
    rf"(?:{_BLANK}|\[\|assistant\|\]|<\|im_start\|>assistant|<\|start_header_id\|>assistant<\|end_header_id\|>"
    r"|<[|｜]assistant[|｜]>|<start_of_turn>model|<\|start\|>assistant|<s>|<bos>|<\|begin_of_text\|>|(?:assistant|model)\n)*+",
    re.IGNORECASE,
)
_QUOTES = "`'\"“‘"


def split_stored(text: str, *, thinking: bool, tags: Mapping[str, str] = STORED_TAGS) -> Reply:
    """Thought, answer and tool calls of a whole reply, its end-of-turn token left out.

    A thought begins at an opening tag at the start of a line outside code, or at the reply's beginning where its first
    tag closes one that is not open (the prompt has opened it); it ends at the first closing tag. A quoted tag is text.
    Several thoughts are removed alike. One at the reply's beginning that is never closed leaves it unfinished.

    Args:
        thinking: the prompt has opened the thought; a reply may also open its thought itself.
        tags: what opens a thought, in small letters, and what closes it.
    """
    pattern = _STORED if tags is STORED_TAGS else _pattern((*tags, *tags.values()))
    found = [(mark, mark[0].lower()) for mark in pattern.finditer(text)]
    if not found and not thinking:
        return split_reply(text, thinking=False, thought_tags=())
    head = _HEADER.match(text)
    begins = head.end() if head else 0
    ends = {tag: mark.start() for mark, tag in found}  # the last of each
    closings = set[str]()  # of the thought that is open
    start = place = last = num_fences = 0
    if thinking and not (found and found[0][0].start() == begins and found[0][1] in tags):
        closings = set(tags.values())
    thoughts, answers, inline = list[str](), list[str](), set[str]()
    for mark, tag in found:
        between, is_next = text[last : mark.start()], place == last  # is_next: no tag stands behind `place` before it
        num_fences, last = num_fences + between.count("```"), mark.end()
        if closings:
            if tag in closings:
                thoughts.append(text[start : mark.start()])
                closings, place = set(), mark.end()
        elif tag not in tags:
            if not thoughts and tag not in inline and text[max(0, mark.start() - 1) : mark.start()] not in _QUOTES:
                thoughts, answers, place = [*answers, text[place : mark.start()]], [], mark.end()
        elif (
            mark.start() == begins
            or (thoughts and is_next and not between.strip())
            or (num_fences % 2 == 0 and ends.get(tags[tag], 0) > mark.end() and _begins_line(text, mark.start()))
        ):
            answers += [text[place : mark.start()]] if mark.start() > begins else []
            start, closings = mark.end(), {tags[tag]}
        else:
            inline.add(tags[tag])
    (thoughts if closings else answers).append(text[start if closings else place :])
    answer = split_reply("".join(answers), thinking=False, thought_tags=())
    thought = "\n\n".join(part.strip("\n") for part in thoughts)
    return Reply(thought, answer.answer, answer.tool_calls, finished=not closings)


def _begins_line(text: str, place: int) -> bool:
    """Whether a tag stands at the start of a line, or behind another tag."""
    while place and text[place - 1] in " \t\ufeff\u200b":
        place -= 1
    return not place or text[place - 1] in "\n]>▷"


@cache
def _pattern(marks: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, marks)), re.IGNORECASE)


_STORED = _pattern((*STORED_TAGS, *STORED_TAGS.values()))
