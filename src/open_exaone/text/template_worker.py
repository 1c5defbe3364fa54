"""Renders chat templates in a process of its own: `python -m open_exaone.text.template_worker`.

A template is a program that came with a checkpoint, so it runs in jinja2's immutable sandbox, and the sandbox in a
process with little memory, no files to write and no processes to start. The first line on stdin is the setup, each
further line a request, or empty: then the replies to all before it are written, a line on stdout each. Lines are JSON:

    setup    {"templates": {name: source}, "now": ISO time, "memory_bytes": int, "max_chars": int, "timeout_s": number}
    request  {"template": name, "variables": {...}, "marks": characters that JSON in ASCII must not hide,
              "mask": null or what is learned}
    reply    {"text": str, …} or {"error": kind, "message": str}

What is learned is

    {"replies": {place: message with marks in it}, "parts": those marks, "around": two for `{% generation %}` blocks,
     "checked": [place, …], "is_joint": bool, "prompt": variables of a generation prompt}

and the reply then also holds {"is_same": whether the marks alone make the texts differ, "places": {mark: [place in the
text, …]}, "checked": {place: [where a model begins the reply, how far the turns before it make the same text, how far
the turns to its end do]}}, each -1 where it is not known. The end of stdin ends the process. So does a timer, from
within, where a request takes too much processor time, even if nobody is left to end it.
"""

import contextlib
import json
import signal
import sys
from datetime import datetime
from typing import Any

MARKS: list[str] = []  # around what a generation block prints, while one request asks for them


def main() -> None:
    """Answers requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the parent process
    setup = json.loads(sys.stdin.buffer.readline())
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the default action ends the process, also in the midst of C code
    environment = _environment(datetime.fromisoformat(setup["now"]))
    datetime.now().strftime("%c %Z")  # reads what it needs before the limits forbid it
    _limit(setup["memory_bytes"])
    compiled: dict[str, Any] = {}
    replies: list[bytes] = []
    for line in sys.stdin.buffer:
        if line == b"\n":
            sys.stdout.buffer.write(b"".join(replies))
            sys.stdout.buffer.flush()
            replies.clear()
            continue
        signal.setitimer(signal.ITIMER_PROF, setup["timeout_s"])
        replies.append(json.dumps(_answer(environment, compiled, setup, line)).encode() + b"\n")
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit(memory_bytes: int) -> None:
    """Takes away what a template never needs."""
    import resource

    limits = {resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NPROC: 0}
    for name, limit in {**limits, resource.RLIMIT_CORE: 0}.items():
        with contextlib.suppress(ValueError, OSError):  # not every system has each of them
            resource.setrlimit(name, (limit, limit))


def _answer(environment: Any, compiled: dict[str, Any], setup: Any, line: bytes) -> dict[str, Any]:
    """Renders one conversation; whatever goes wrong is part of the reply."""
    from jinja2 import TemplateSyntaxError
    from jinja2.exceptions import SecurityError

    try:
        request = json.loads(line)
        name = request["template"]
        if name not in compiled:
            compiled[name] = environment.from_string(setup["templates"][name])
            compiled[name].globals = dict(compiled[name].globals)  # jinja2's chain of dicts is copied for each text
        render = _Render(compiled[name], request["variables"], request["marks"], setup["max_chars"])
        reply = {"text": render()}
        return reply | _found(render, reply["text"], request["mask"]) if request["mask"] else reply
    except RefusedByTemplate as error:
        return {"error": "refused", "message": str(error)[:1000]}
    except TemplateSyntaxError as error:
        return {"error": "syntax", "message": f"line {error.lineno}: {error.message}"[:1000]}
    except SecurityError as error:
        return {"error": "security", "message": str(error)[:1000]}
    except RecursionError:
        return {"error": "recursion", "message": "it recurses too deeply"}
    except (MemoryError, OverflowError):
        return {"error": "memory", "message": "it needs more memory than a template may have"}
    except TooLong as error:
        return {"error": "length", "message": str(error)}
    except Exception as error:  # the border of the process
        return {"error": "failed", "message": f"{type(error).__name__}: {error}"[:1000]}


class _Render:
    """Renders one conversation, whole or in part."""

    def __init__(self, template: Any, variables: dict[str, Any], marks: str, max_chars: int) -> None:
        self.variables = variables
        self._template, self._marks, self._max_chars = template, marks, max_chars

    def __call__(self, changes: dict[str, Any] | None = None, around: Any = None) -> str:
        MARKS[:] = around or ("", "")
        blocks, num_chars = [], 0
        for block in self._template.generate(**(self.variables | (changes or {}))):
            blocks.append(block)
            num_chars += len(block)
            if num_chars > self._max_chars:
                raise TooLong(f"it prints more than {self._max_chars:,} characters")
        return self._restored("".join(blocks))

    def _restored(self, text: str) -> str:
        """Undoes what `tojson(ensure_ascii=True)` does to marks."""
        for mark in self._marks if "\\u" in text else "":
            for escape in (f"\\u{ord(mark):04x}", f"\\u{ord(mark):04X}"):
                text = text.replace(escape, mark)
        return text

    def or_nothing(self, messages: list[Any], changes: dict[str, Any] | None = None) -> str:
        """What the template makes of a conversation, or nothing where it is none that the template takes."""
        from jinja2.exceptions import SecurityError

        try:
            return self({"messages": messages, **(changes or {})}) if messages else ""
        except (SecurityError, RecursionError, MemoryError, OverflowError, TooLong):
            raise
        except Exception:  # the template's own, or what it does not expect of a part of a conversation
            return ""


def _found(render: _Render, whole: str, mask: Any) -> dict[str, Any]:
    """Where the parts of the replies that are learned stand, and how far their beginnings make the same text."""
    messages = render.variables["messages"]
    replies = {int(place): reply for place, reply in mask["replies"].items()}
    marked = [replies.get(place, message) for place, message in enumerate(messages)]
    text, places = _take_out(render({"messages": marked}, mask["around"]), mask["parts"] + "".join(mask["around"]))
    checked = {}
    for place in mask["checked"] if text == whole else ():
        prompt = render.or_nothing(messages[:place], mask["prompt"])
        begins = common = -1
        if mask["is_joint"] or places[mask["around"][0]]:
            before = render.or_nothing(messages[:place])
            begins = _num_common(whole, before) if before or not place else -1
        if mask["is_joint"]:
            common = _num_common(whole, render.or_nothing(messages[: place + 1]))
        checked[place] = [len(prompt) if prompt and whole.startswith(prompt) else -1, begins, common]
    return {"is_same": text == whole, "places": places, "checked": checked}


def _take_out(marked: str, marks: str) -> tuple[str, dict[str, list[int]]]:
    """Takes marks out of a text; where each stood in the text that is left."""
    places: dict[str, list[int]] = {mark: [] for mark in marks}
    found: list[tuple[int, str]] = []
    for mark in marks:
        place = marked.find(mark)
        while place >= 0:
            found.append((place, mark))
            place = marked.find(mark, place + 1)
    for number, (place, mark) in enumerate(sorted(found)):
        places[mark].append(place - number)
    for mark in marks:
        marked = marked.replace(mark, "")
    return marked, places


def _num_common(text: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    if text.startswith(other):
        return len(other)
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text[low:middle] == other[low:middle] else (low, middle - 1)
    return low


class TooLong(Exception):
    """A template prints more than it may."""


class RefusedByTemplate(Exception):
    """What `raise_exception` in a template raises."""


def _environment(now: datetime) -> Any:
    """What chat templates expect around them, as transformers has it."""
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension
    from jinja2.parser import Parser
    from jinja2.runtime import Macro
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - jinja2's own way

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

        def _marked(self, caller: Macro) -> str:
            return MARKS[0] + caller() + MARKS[1]

    class SafeNamespace(Namespace):
        """Takes no underscored names, which reach into Python."""

        def __init__(*args: Any, **values: Any) -> None:  # `namespace(self=...)` is legal
            for name in dict(*args[1:], **values):
                _refuse_underscore(name)
            Namespace.__init__(*args, **values)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_underscore(name)
            Namespace.__setitem__(self, name, value)

    def _refuse_underscore(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace takes no name that begins with an underscore, such as {name!r}")

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=now.strftime, namespace=SafeNamespace, dict=_dict
    )
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> None:
    raise RefusedByTemplate(message)


def _dict(*args: Any, **values: Any) -> dict[Any, Any]:
    return dict(*args, **values)


if __name__ == "__main__":
    main()
