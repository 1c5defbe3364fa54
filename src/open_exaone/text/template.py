"""The chat format that a checkpoint brings itself: its jinja template, rendered in a process of its own.

A template gives text and no loss mask. The mask is found by rendering the reply a second time with
marks in it (or with marks around what `{% generation %}` blocks print):

    the prompt                                   learned                                        the rest
    <|user|>Q<|end|><|assistant|>   ·thought·</think>\\n\\n·answer·<|end|>                        \\n
    as the generation prompt ends   the reply's parts, to the end-of-turn token behind them

Without a mask, the ids are those of transformers' `apply_chat_template`, but for markers' names in contents, which
stay plain text. With one, the text is tokenised in the three pieces above, as a model that generates sees it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.text.chat import ChatFormat, Message, Segment, Tool, check_messages, check_tools, json_text
from open_exaone.text.template_marks import THOUGHT_MARKERS, Marks, mapped_texts
from open_exaone.text.template_process import TemplateProcess
from open_exaone.text.tokenizer_files import ChatTemplates

PROBE: list[Message] = [{"role": "user", "content": "Q"}]


class Template:
    """A checkpoint's templates as a chat format; `chat_format` is what others see of it.

    Args:
        markers: the names of all added tokens.
        end_markers: the names of those that end a turn.
        normalize: what the tokenizer does to a text before it looks for markers.
    """

    def __init__(
        self,
        templates: ChatTemplates,
        markers: Sequence[str],
        end_markers: Sequence[str],
        normalize: Callable[[str], str] | None = None,
    ) -> None:
        self._templates = templates
        self._process = TemplateProcess(templates.sources, templates.paths)
        self._markers = markers
        self._end_markers = end_markers
        self._normalize = normalize
        self._opens: dict[bool, bool] = {}
        source = templates.sources["default"]
        self._tag = "thought" if "thought>" in source and "think>" not in source else "think"

    @property
    def chat_format(self) -> ChatFormat:
        return ChatFormat("template", self._tag, self.opens_thought, self.segments)

    def opens_thought(self, thinking: bool) -> bool:
        """Whether the generation prompt leaves a thought open, as one prompt shows."""
        if thinking not in self._opens:
            text = self._unless_refused(self.text, PROBE, thinking=thinking, generation_prompt=True)
            self._opens[thinking] = text.rfind(f"<{self._tag}>") > text.rfind(f"</{self._tag}>")
        return self._opens[thinking]

    def text(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Sequence[Tool] | None = None,
        generation_prompt: bool = False,
        around: tuple[str, str] | None = None,
    ) -> str:
        """What the template makes of a conversation, as it is, with the variables that transformers gives it.

        Args:
            around: marks to put around what `{% generation %}` blocks print.

        Raises:
            DataError: the template refuses the conversation.
            CheckpointError: the template is broken.
        """
        variables = {
            **self._templates.variables,
            "messages": [_as_transformers(message) for message in messages],
            "tools": tools,
            "documents": None,
            "add_generation_prompt": generation_prompt,
            "enable_thinking": thinking,
            "skip_think": not thinking or generation_prompt,
        }
        has_own = tools is not None and "tool_use" in self._templates.sources
        return self._process.render("tool_use" if has_own else "default", variables, around)

    def segments(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Sequence[Tool] | None = None,
        generation_prompt: bool = False,
        with_mask: bool = True,
    ) -> list[Segment]:
        """Renders a conversation; see `chat.Render`.

        Raises:
            DataError: a message is malformed (names its index and field), the template refuses the conversation, or
                what is learned can't be found.
            CheckpointError: the template is broken, reaches for what is forbidden, or exceeds a limit.
        """
        check_messages(messages)
        check_tools(tools)
        is_learned = with_mask and messages[-1]["role"] == "assistant" and not generation_prompt
        if is_learned and not thinking:
            messages = [*messages[:-1], _without_thought(messages[-1], self._tag)]
        given = json_text(mapped_texts(messages, str), "messages") + json_text(mapped_texts(tools, str), "tools")
        marks = Marks.draw(given + "".join(self._templates.sources.values()))
        broken = self._broken(marks)
        messages, tools = _changed(messages, broken, self._markers), _changed_tools(tools, broken, self._markers)

        def render(messages: Sequence[Message], prompt: bool = False, generation: bool = False) -> str:
            around = (marks.opens, marks.closes) if generation else None
            text = self.text(messages, thinking=thinking, tools=tools, generation_prompt=prompt, around=around)
            return marks.restore(text)

        whole = render(messages, generation_prompt)
        names = self._markers_in(whole)

        def with_edges(text: str, markers: Sequence[str]) -> str:
            return marks.with_edges(text, markers, self._normalize or str)

        edged = _changed(messages, with_edges, names), _changed_tools(tools, with_edges, names)
        if edged != (messages, tools):
            messages, tools = edged
            whole = render(messages, generation_prompt)
        learned = self._learned(whole, messages, marks, render, thinking) if is_learned else []
        return _cut(whole, marks, learned, None if self._normalize else self._markers)

    def _learned(
        self,
        whole: str,
        messages: Sequence[Message],
        marks: Marks,
        render: Callable[..., str],
        thinking: bool,
    ) -> list[tuple[int, int]]:
        """Where in the rendered conversation stands what is learned."""
        reply, before = messages[-1], messages[:-1]
        marked_reply = marks.around_reply(reply, self._tag)
        parts, around = marks.thought + marks.answer + marks.call, marks.opens + marks.closes
        text, places = _take_out(render([*before, marked_reply], generation=True), parts + around)
        given = str(marked_reply.get("reasoning_content")) + str(marked_reply.get("content"))
        if text != whole:
            raise self._no_mask("it rewrites the reply's content, or prints something else because of it")
        if marks.thought in given and not places[marks.thought]:
            what = (
                "the reply's thought; train without thinking" if thinking else "the reply's text before a closing tag"
            )
            raise self._no_mask(f"it drops {what}")
        if marks.answer in given and not places[marks.answer]:
            raise self._no_mask("it does not print the reply's content")
        if len(places[marks.call]) < 2 * _num_named_calls(reply):
            raise self._no_mask("it does not print all of the reply's tool calls")
        if places[marks.opens] and len(places[marks.opens]) == len(places[marks.closes]):
            begins = _num_common(whole, self._unless_refused(render, before, prompt=False))
            blocks = zip(places[marks.opens], places[marks.closes], strict=True)
            learned = [(max(start, begins), end) for start, end in blocks if end > begins]
            if not learned:
                raise self._no_mask("its {% generation %} blocks leave out the reply")
            return learned
        return [self._by_marks(whole, [place for part in parts for place in places[part]], before, render)]

    def _by_marks(
        self, whole: str, places: Sequence[int], before: Sequence[Message], render: Callable[..., str]
    ) -> tuple[int, int]:
        """From the generation prompt, or else the reply's first part, to the end-of-turn token behind its last."""
        prompt = self._unless_refused(render, before, prompt=True)
        start = len(prompt) if prompt and whole.startswith(prompt) else min(places, default=-1)
        if start < 0:
            raise self._no_mask("the reply is empty, and it does not begin as the generation prompt does")
        if start > min(places, default=start):
            raise self._no_mask("it prints the reply before the place where a model generates it")
        last = max(places, default=start)
        ends = [found + len(end) for end in self._end_markers if (found := whole.find(end, last)) >= 0]
        if not ends:
            names = " or ".join(self._end_markers) or "of which this folder names none"
            raise self._no_mask(
                f"behind the reply it prints no token that ends a turn ({names}); name it as eos_token_id in "
                f"generation_config.json"
            )
        return start, min(ends)

    def _unless_refused(self, render: Callable[..., str], messages: Sequence[Message], **options: bool) -> str:
        """What `render` makes of a conversation, or nothing where it is none that the template takes."""
        try:
            return render(messages, **options) if messages else ""
        except DataError:
            return ""

    def _no_mask(self, why: str) -> DataError:
        path = self._templates.paths["default"]
        return DataError(f"{path}: what a reply teaches can't be found in what this chat template prints: {why}")

    def _broken(self, marks: Marks) -> Callable[[str, Sequence[str]], str]:
        """Breaks markers' names; a text that the normalizer would make a marker of is broken as a whole."""

        def broken(text: str, markers: Sequence[str]) -> str:
            if self._normalize is not None and _makes_more(self._normalize, text, markers):
                return marks.broken(text)
            return marks.break_markers(text, markers)

        return broken

    def _markers_in(self, rendered: str) -> list[str]:
        """The markers that the tokenizer will find in a text, wherever they came from."""
        if self._normalize is None:
            return [marker for marker in self._markers if marker in rendered]
        try:
            normalized = self._normalize(rendered)
        except TypeError:  # no Unicode text: the tokenizer will refuse it
            return []
        both = {name: self._normalize(name) for name in self._markers}
        names = {form for name, normal in both.items() for form in (name, normal)}
        return [name for name in names if name in rendered or name in normalized]


def _changed(
    messages: Sequence[Message], change: Callable[[str, Sequence[str]], str], markers: Sequence[str]
) -> list[dict[str, Any]]:
    """Changes the texts of messages; an assistant's think tags are the template's affair."""
    changed = []
    for message in messages:
        others = {key: value for key, value in message.items() if key != "role"}
        texts = mapped_texts(others, lambda text: change(text, markers))
        if message["role"] == "assistant":
            spared = [marker for marker in markers if marker not in THOUGHT_MARKERS]
            own = {key: message[key] for key in ("content", "reasoning_content") if message.get(key)}
            texts |= {key: change(text, spared) for key, text in own.items()}
        changed.append({"role": message["role"], **texts})
    return changed


def _changed_tools(
    tools: Sequence[Tool] | None, change: Callable[[str, Sequence[str]], str], markers: Sequence[str]
) -> Any:
    return mapped_texts(tools, lambda text: change(text, markers))


def _cut(whole: str, marks: Marks, learned: Sequence[tuple[int, int]], markers: Sequence[str] | None) -> list[Segment]:
    """Cuts the rendered text where learning begins and ends, around broken markers, and across accidental ones."""

    def pieces() -> Iterator[Segment]:
        done = 0
        for start, end in learned:
            yield from marks.segments(whole[done:start], False, markers)
            yield from marks.segments(whole[max(start, done) : end], True, markers)
            done = end
        yield from marks.segments(whole[done:], False, markers)

    return [piece for piece in pieces() if piece.text]


def _take_out(marked: str, marks: str) -> tuple[str, dict[str, list[int]]]:
    """Takes marks out of a text; where each stood in the text that is left."""
    places: dict[str, list[int]] = {mark: [] for mark in marks}
    for number, match in enumerate(re.finditer(f"[{marks}]", marked)):
        places[match[0]].append(match.start() - number)
    return re.sub(f"[{marks}]", "", marked), places


def _num_common(text: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = zip(text, other, strict=False)
    return next((place for place, (one, two) in enumerate(pairs) if one != two), min(len(text), len(other)))


def _as_transformers(message: Message) -> dict[str, Any]:
    """What isn't there is left out, and the thought goes by both its names."""
    given = {key: value for key, value in message.items() if value is not None}
    if "reasoning_content" in given:
        given.setdefault("thinking", given["reasoning_content"])
    return given


def _without_thought(reply: Message, tag: str) -> dict[str, Any]:
    """Without `thinking` a reply is learned without its thought, in every format.

    A closing tag alone is the answer's own text. The template gets no thought: it would look for one.
    """
    kept = {key: value for key, value in reply.items() if key not in ("reasoning_content", "thinking")}
    content = reply.get("content") or ""
    _, close, answer = content.rpartition(f"</{tag}>")
    if not close:
        return kept
    if reply.get("reasoning_content") is None and content.lstrip().startswith(f"<{tag}>"):
        return {**kept, "content": answer.lstrip("\n")}
    return {**kept, "reasoning_content": ""}


def _num_named_calls(reply: Message) -> int:
    calls = reply.get("tool_calls") or ()
    return sum(bool((call.get("function") or call)["name"].strip()) for call in calls)


def _makes_more(normalize: Callable[[str], str], text: str, markers: Sequence[str]) -> bool:
    """Whether normalising a text makes a marker's name of what was none."""
    try:
        normalized = normalize(text)
    except TypeError:  # no Unicode text: the tokenizer will refuse it
        return False
    return any(normalized.count(normalize(marker)) > text.count(marker) for marker in markers)
