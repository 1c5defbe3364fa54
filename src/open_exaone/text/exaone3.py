"""The chat formats of EXAONE 3.5 and of EXAONE Deep, which have no tools.

Both open with a system turn, an empty one where none is given, and put nothing but a newline behind a user's turn.
They differ from the published templates in two points, where those are wrong: a user's text that holds `</thought>`
is not cut (Deep's template cuts it), and a reply that is learned with `thinking` keeps its thought (Deep's template
drops it, so that nothing could be learned from it).

    3.5:  [|system|][|endofturn|]\\n[|user|]Q\\n[|assistant|]              answer[|endofturn|]
    Deep: [|system|][|endofturn|]\\n[|user|]Q\\n[|assistant|]<thought>\\n  thought\\n</thought>\\n\\nanswer[|endofturn|]
          `------------------- the prompt ----------------------------´  `-------------- learned -------------´

In EXAONE's vocabulary `<thought>` is no token of its own: the tag is plain text.
"""

from collections.abc import Sequence

from open_exaone.text.chat import (
    END,
    ChatFormat,
    Dialogue,
    Message,
    Segment,
    check_messages,
    content_text,
    format_text,
    one_by_one,
    refuse_tools,
    thought_and_answer,
)

MARKERS = ("[|system|]", "[|assistant|]", "[|user|]", END)
THOUGHT_OPEN, THOUGHT_CLOSE = "<thought>", "</thought>"


def render_exaone35(dialogue: Dialogue) -> list[Segment]:
    """Renders a conversation as EXAONE 3.5. No thought is ever rendered; the mask costs nothing.

    Raises:
        DataError: a message is malformed (names its index and field), or tools are used.
    """
    messages, _, tools, generation_prompt, learned, _ = dialogue
    check_messages(messages)
    refuse_tools(messages, tools, "exaone-3.5")
    rendered = _first_system_turn(messages)
    for index, message in enumerate(messages):
        is_reply = index in learned
        rendered += [format_text(f"[|{message['role']}|]"), content_text(message["content"], is_reply)]
        if message["role"] != "user":
            rendered.append(format_text(END, is_reply))
        rendered.append(format_text("\n"))
    if generation_prompt:
        rendered.append(format_text("[|assistant|]"))
    return rendered


def render_deep(dialogue: Dialogue) -> list[Segment]:
    """Renders a conversation as EXAONE Deep. The mask costs nothing here.

    The generation prompt always opens a thought. Without `thinking` a reply is rendered as the published template
    does it, without its thought; what is learned then is no continuation of the generation prompt.

    Raises:
        DataError: a message is malformed (names its index and field), or tools are used.
    """
    messages, thinking, tools, generation_prompt, learned, keeps_thoughts = dialogue
    check_messages(messages)
    refuse_tools(messages, tools, "exaone-deep")
    rendered = _first_system_turn(messages)
    for index, message in enumerate(messages):
        if index:
            rendered.append(format_text("\n"))
        if message["role"] == "assistant":
            thinks = thinking and index == len(messages) - 1 and not generation_prompt
            thinks |= keeps_thoughts and bool(thought_and_answer(message, "thought")[0])
            rendered += _deep_turn(message, thinking=thinks, is_learned=index in learned)
        else:
            rendered += [format_text(f"[|{message['role']}|]"), content_text(message["content"])]
            if message["role"] == "system":
                rendered.append(format_text(END))
    if generation_prompt:
        rendered += [format_text("\n"), format_text(f"[|assistant|]{THOUGHT_OPEN}\n")]
    return rendered


EXAONE_35 = ChatFormat("exaone-3.5", "thought", lambda thinking: False, one_by_one(render_exaone35), MARKERS)
EXAONE_DEEP = ChatFormat("exaone-deep", "thought", lambda thinking: True, one_by_one(render_deep), MARKERS)


def _first_system_turn(messages: Sequence[Message]) -> list[Segment]:
    """Every conversation opens with a system turn, an empty one if need be."""
    return [] if messages[0]["role"] == "system" else [format_text(f"[|system|]{END}\n")]


def _deep_turn(message: Message, *, thinking: bool, is_learned: bool) -> list[Segment]:
    thought, answer = thought_and_answer(message, "thought")
    if THOUGHT_CLOSE in message["content"]:
        answer = answer.lstrip("\n")
    turn = [content_text(answer, is_learned), format_text(END, is_learned)]
    if not thinking:
        return [format_text("[|assistant|]"), *turn]
    return [
        format_text(f"[|assistant|]{THOUGHT_OPEN}\n"),
        content_text(thought, is_learned),
        format_text(f"\n{THOUGHT_CLOSE}\n\n", is_learned),
        *turn,
    ]
