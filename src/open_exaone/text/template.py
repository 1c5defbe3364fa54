"""The chat format that a checkpoint brings itself: its jinja template, rendered in a process of its own.

A template gives text and no loss mask. The mask is found by rendering the reply a second time with marks in it (or
with marks around what `{% generation %}` blocks print): `template_mask`.

Without a mask, the ids are those of transformers' `apply_chat_template`, but for markers' names in contents, which
stay plain text. With one, the text is tokenised in pieces where learning begins and ends, as a model that generates
sees it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.text.chat import (
    ChatFormat,
    Dialogue,
    Message,
    Rendering,
    Segment,
    Tool,
    check_messages,
    check_tools,
    json_text,
)
from open_exaone.text.template_calls import PROBED_TOOL, Form, arguments_form, in_form
from open_exaone.text.template_marks import (
    THOUGHT_MARKERS,
    Marks,
    find_any,
    holds_private,
    mapped_texts,
    may_touch,
    plain_texts,
)
from open_exaone.text.template_mask import Job, Span, checked_places, learned_spans
from open_exaone.text.template_process import TemplateProcess, request
from open_exaone.text.tokenizer_files import ChatTemplates

_UNPRINTED_TOOLS = (
    'tools: the chat template does not print tools: leave the column out with ignore = ["tools"], or use another '
    "template"
)
PROBE: list[Message] = [{"role": "user", "content": "Q"}]


class Template:
    """A checkpoint's templates as a chat format; `chat_format` is what others see of it.

    Args:
        markers: the names of all added tokens.
        end_markers: the names of those that end a turn.
        normalize: what the tokenizer does to a text before it looks for markers.
        now: what a template that prints a date is given as the time.
    """

    def __init__(
        self,
        templates: ChatTemplates,
        markers: Sequence[str],
        end_markers: Sequence[str],
        normalize: Callable[[str], str] | None = None,
        now: datetime | None = None,
    ) -> None:
        self._templates = templates
        self._process = TemplateProcess(templates.sources, templates.paths, now)
        self._all_sources = "".join(templates.sources.values())
        self._markers = markers
        self._any_marker = find_any(markers)
        self._may_end_later = True  # an end of turn may stand in the next turn's text
        self._ends_later = False  # and has stood there
        self._end_markers = end_markers
        self._normalize = normalize
        self._opens: dict[bool, bool] = {}
        self._forms: dict[bool, Form] = {}  # of the arguments of calls, without tools on offer and with them
        source = templates.sources["default"]
        self._tag = "thought" if "thought>" in source and "think>" not in source else "think"

    @property
    def chat_format(self) -> ChatFormat:
        return ChatFormat("template", self._tag, self.opens_thought, self.render_all)

    def opens_thought(self, thinking: bool) -> bool:
        """Whether the generation prompt leaves a thought open, as one prompt shows."""
        if thinking not in self._opens:
            try:
                text = self.text(PROBE, thinking=thinking, generation_prompt=True)
            except DataError:
                text = ""
            self._opens[thinking] = text.rfind(f"<{self._tag}>") > text.rfind(f"</{self._tag}>")
        return self._opens[thinking]

    def text(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Sequence[Tool] | None = None,
        generation_prompt: bool = False,
    ) -> str:
        """What the template makes of a conversation, as it is.

        Raises:
            DataError: the template refuses the conversation.
            CheckpointError: the template is broken.
        """
        return self._process.render(*self._variables(Dialogue(messages, thinking, tools, generation_prompt)))

    def render_all(self, dialogues: Sequence[Dialogue]) -> list[Rendering]:
        """Renders conversations; see `chat.RenderAll`.

        Raises:
            CheckpointError: the template is broken, reaches for what is forbidden, or exceeds a limit.
        """
        marks = Marks.draw(self._all_sources)
        jobs = [self._job(dialogue, marks) for dialogue in dialogues]
        self._render(jobs)
        again = [place for place, job in enumerate(jobs) if isinstance(job, Job) and self._needs_edges(job)]
        for place, job in zip(again, self._render([jobs[place] for place in again]), strict=True):
            jobs[place] = job
        results = [self._cut(job) if isinstance(job, Job) else job for job in jobs]
        self._find_later_ends(jobs, results)
        self._refuse_unprinted(jobs, results)
        return results

    def _drops_thoughts(self, dialogue: Dialogue) -> bool:
        """Whether a reply has no thought where it is learned, and has one where the conversation goes on."""
        earlier = () if dialogue.thinking else dialogue.learned[:-1]
        return any(
            _without_thought(message, self._tag) != message for message in map(dialogue.messages.__getitem__, earlier)
        )

    def _with_arguments(self, dialogue: Dialogue) -> Dialogue:
        """A conversation with the arguments of its calls as the template takes them, which one probe shows."""
        if not any(message.get("tool_calls") for message in dialogue.messages):
            return dialogue
        has_tools = dialogue.tools is not None
        if has_tools not in self._forms:
            tools = [PROBED_TOOL] if has_tools else None
            self._forms[has_tools] = arguments_form(lambda messages: self.text(messages, tools=tools))
        form = self._forms[has_tools]
        return dialogue._replace(messages=[in_form(message, form) for message in dialogue.messages])

    def _job(self, dialogue: Dialogue, marks: Marks) -> DataError | Job | None:
        """A conversation made ready: thoughts that are not learned left out, markers' names broken; None where its
        replies don't stand in one text.

        Args:
            marks: to be used, unless they stand in it.
        """
        try:
            check_messages(dialogue.messages)
            check_tools(dialogue.tools)
            if self._drops_thoughts(dialogue):
                return None
            dialogue = self._with_arguments(dialogue)
            messages: Sequence[Message] = [
                message if dialogue.thinking or place not in dialogue.learned else _without_thought(message, self._tag)
                for place, message in enumerate(dialogue.messages)
            ]
            tools, given = dialogue.tools, plain_texts(messages) if dialogue.tools is None else None
            if given is None:
                messages, tools = mapped_texts(messages, str), mapped_texts(tools, str)
                given = json_text(messages, "messages") + json_text(tools, "tools")
            if holds_private(given):
                marks = Marks.draw(given + self._all_sources)
            if self._normalize is not None or self._any_marker.search(given):
                broken = self._broken(marks)
                messages = _changed(messages, broken, self._markers)
                tools = _changed_tools(tools, broken, self._markers)
        except DataError as error:
            return error
        return Job(dialogue._replace(messages=messages, tools=tools), marks)

    def _render(self, jobs: list[DataError | Job | None]) -> list[DataError | Job | None]:
        """Asks the process for all jobs at once; one that it refuses becomes its error, in the list itself."""
        places = [place for place, job in enumerate(jobs) if isinstance(job, Job)]
        waiting = [job for job in jobs if isinstance(job, Job)]
        replies = self._process.render_all([self._request(job) for job in waiting])
        for place, job, reply in zip(places, waiting, replies, strict=True):
            if isinstance(reply, DataError):
                jobs[place] = reply
            else:
                job.reply, job.text = reply, reply["text"]
        return jobs

    def _refuse_unprinted(self, jobs: Sequence[DataError | Job | None], results: list[Rendering]) -> None:
        """Puts an error in the place of each conversation whose replies would be learned without its tools or turns."""
        doubts = [
            (place, job.text, Job(changed, job.marks), why)
            for place, job in enumerate(jobs)
            if isinstance(job, Job) and job.dialogue.learned and isinstance(results[place], list)
            for changed, why in _doubts(job)
        ]
        changed = self._render([job for _, _, job, _ in doubts])
        for (place, text, _, why), job in zip(doubts, changed, strict=True):
            if isinstance(job, Job) and job.text == text:
                results[place] = DataError(why)

    def _request(self, job: Job) -> dict[str, Any]:
        dialogue, marks = job.dialogue, job.marks
        messages = dialogue.messages
        mask: dict[str, Any] | None = None
        if dialogue.learned:
            job.replies = {place: marks.around_reply(messages[place], self._tag) for place in dialogue.learned}
            mask = {
                "replies": {place: _as_transformers(reply) for place, reply in job.replies.items()},
                "parts": marks.thought + marks.answer + marks.call,
                "around": (marks.opens, marks.closes),
                "checked": checked_places(dialogue.learned),
                "is_joint": not dialogue.learns_the_end_alone,
                "prompt": self._modes(dialogue.thinking, True),
            }
        name, variables = self._variables(dialogue)
        return request(name, variables, mask, "".join(marks))

    def _variables(self, dialogue: Dialogue) -> tuple[str, dict[str, Any]]:
        """Which template renders a conversation, and the variables that transformers gives it."""
        has_own = dialogue.tools is not None and "tool_use" in self._templates.sources
        return "tool_use" if has_own else "default", {
            **self._templates.variables,
            "messages": [_as_transformers(message) for message in dialogue.messages],
            "tools": dialogue.tools,
            "documents": None,
            **self._modes(dialogue.thinking, dialogue.generation_prompt),
            **({"preserve_thinking": True} if dialogue.keeps_thoughts else {}),
        }

    def _modes(self, thinking: bool, generation_prompt: bool) -> dict[str, bool]:
        skips = not thinking or generation_prompt
        return {"add_generation_prompt": generation_prompt, "enable_thinking": thinking, "skip_think": skips}

    def _needs_edges(self, job: Job) -> bool:
        """Whether a text may make up a marker with its neighbour; then its edges are marked."""
        names, messages = self._markers_in(job.text), job.dialogue.messages
        is_plain = self._normalize is None and job.dialogue.tools is None and plain_texts(messages) is not None
        if is_plain and not any(may_touch(message["content"], tuple(names)) for message in messages):
            return False

        def with_edges(text: str, markers: Sequence[str]) -> str:
            return job.marks.with_edges(text, markers, self._normalize or str)

        dialogue = job.dialogue
        messages = _changed(messages, with_edges, names)
        edged = dialogue._replace(messages=messages, tools=_changed_tools(dialogue.tools, with_edges, names))
        is_changed = (messages, edged.tools) != (dialogue.messages, dialogue.tools)
        job.dialogue = edged if is_changed else dialogue
        return is_changed

    def _cut(self, job: Job) -> Rendering:
        """Cuts the rendered text where learning begins and ends, around broken markers, and across accidental ones."""
        learned: list[Span] | None = []
        if job.dialogue.learned:
            try:
                learned = learned_spans(job, self._end_markers, self._markers)
            except DataError as error:
                path, why = self._templates.paths["default"], "what a reply teaches can't be found in what this chat"
                return DataError(f"{path}: {why} template prints: {error}")
        if learned is None:
            return None
        whole = job.text if job.before_later_turn is None else job.text[: learned[-1][1]]
        markers = None if self._normalize else self._markers
        pieces: list[Segment] = []
        done = 0
        for start, end in learned:
            pieces += job.marks.segments(whole[done:start], False, markers)
            pieces += job.marks.segments(whole[max(start, done) : end], True, markers)
            done = max(done, end)
        pieces += job.marks.segments(whole[done:], False, markers)
        return [piece for piece in pieces if piece.text]

    def _find_later_ends(self, jobs: Sequence[DataError | Job | None], results: list[Rendering]) -> None:
        """Looks for ends of turns in the text of a next turn, where replies have none in their own."""
        if not self._may_end_later:
            return
        lacking = [(place, job) for place, job in enumerate(jobs) if isinstance(job, Job) and job.lacks_end]
        later: list[DataError | Job | None] = []
        for _, job in lacking:
            dialogue = job.dialogue._replace(messages=[*job.dialogue.messages, *PROBE])
            later.append(Job(dialogue, job.marks, before_later_turn=job.text))
        for (place, job), again in zip(lacking, self._render(later), strict=True):
            found = self._cut(again) if isinstance(again, Job) and again.text.startswith(job.text) else None
            if isinstance(found, list) and isinstance(again, Job) and not again.lacks_end:
                results[place] = found
                self._ends_later = True
            elif not (job.is_joint or self._ends_later) and isinstance(again, Job) and again.text.startswith(job.text):
                self._may_end_later = False  # nor will the next reply

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


def _doubts(job: Job) -> Iterator[tuple[Dialogue, str]]:
    """The conversation, changed in what its text may not hold: if its text stays the same, that is not printed."""
    dialogue = job.dialogue._replace(learned=())
    if dialogue.tools:
        longest = max(_texts(dialogue.tools), key=len, default="")
        is_said = json_text(longest, "tools")[1:-1] in json_text(dialogue.messages, "messages")
        if is_said or longest not in job.text:
            yield dialogue._replace(tools=()), _UNPRINTED_TOOLS
    behind = 0
    for place, message in enumerate(dialogue.messages):
        content = message.get("content")
        if message["role"] == "assistant" or not isinstance(content, str) or not (body := content.strip()):
            continue
        if (found := job.text.find(body, behind)) < 0:
            others = list(dialogue.messages)
            others[place] = {**message, "content": f"{content}."}
            why = f"messages[{place}]: the chat template does not print this turn of role {message['role']}"
            yield dialogue._replace(messages=others), f"{why}: take the row out, or use another template"
            return
        behind = found + len(body)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, Sequence) else ()
    return [text for item in items for text in _texts(item)]


def _changed_tools(
    tools: Sequence[Tool] | None, change: Callable[[str, Sequence[str]], str], markers: Sequence[str]
) -> Any:
    return mapped_texts(tools, lambda text: change(text, markers))


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


def _makes_more(normalize: Callable[[str], str], text: str, markers: Sequence[str]) -> bool:
    """Whether normalising a text makes a marker's name of what was none."""
    try:
        normalized = normalize(text)
    except TypeError:  # no Unicode text: the tokenizer will refuse it
        return False
    return any(normalized.count(normalize(marker)) > text.count(marker) for marker in markers)
