"""Renders chat templates in a process of its own: `python -m open_exaone.text.template_worker`.

A template is a program that came with a checkpoint, so it runs in jinja2's immutable sandbox, and the sandbox in a
process with little memory, no files to write and no processes to start. The first line on stdin is the setup, each
further line a request; each reply is a line on stdout. All lines are JSON:

    setup    {"templates": {name: source}, "memory_bytes": int, "max_chars": int, "timeout_s": number}
    request  {"template": name, "variables": {...}, "generation": null or two marks}
    reply    {"text": str} or {"error": kind, "message": str}

The two marks, if given, are put around what `{% generation %}` blocks print. The end of stdin ends the process. So
does a timer, from within, where a request takes too much processor time, even if nobody is left to end it.
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
    environment = _environment()
    datetime.now().strftime("%c %Z")  # reads what it needs before the limits forbid it
    _limit(setup["memory_bytes"])
    compiled: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, setup["timeout_s"])
        reply = _answer(environment, compiled, setup, line)
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit(memory_bytes: int) -> None:
    """Takes away what a template never needs."""
    import resource

    limits = {resource.RLIMIT_AS: memory_bytes, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NPROC: 0}
    for name, limit in {**limits, resource.RLIMIT_CORE: 0}.items():
        with contextlib.suppress(ValueError, OSError):  # not every system has each of them
            resource.setrlimit(name, (limit, limit))


def _answer(environment: Any, compiled: dict[str, Any], setup: Any, line: bytes) -> dict[str, str]:
    """Renders one conversation; whatever goes wrong is part of the reply."""
    from jinja2 import TemplateSyntaxError
    from jinja2.exceptions import SecurityError

    try:
        request = json.loads(line)
        name = request["template"]
        MARKS[:] = request["generation"] or ("", "")
        if name not in compiled:
            compiled[name] = environment.from_string(setup["templates"][name])
        blocks, num_chars = [], 0
        for block in compiled[name].generate(**request["variables"]):
            blocks.append(block)
            num_chars += len(block)
            if num_chars > setup["max_chars"]:
                return {"error": "length", "message": f"it prints more than {setup['max_chars']:,} characters"}
        return {"text": "".join(blocks)}
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
    except Exception as error:  # the border of the process
        return {"error": "failed", "message": f"{type(error).__name__}: {error}"[:1000]}


class RefusedByTemplate(Exception):
    """What `raise_exception` in a template raises."""


def _environment() -> Any:
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
        raise_exception=_raise_exception, strftime_now=_strftime_now, namespace=SafeNamespace, dict=_dict
    )
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> None:
    raise RefusedByTemplate(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _dict(*args: Any, **values: Any) -> dict[Any, Any]:
    return dict(*args, **values)


if __name__ == "__main__":
    main()
