"""What the command line prints as plain lines, and what a whole process may print: all of it passes `printable`."""

import contextlib
import os
import sys
import traceback
import warnings
from types import TracebackType

from open_exaone.base.printable import as_written, printable

MAX_ERROR_CHARS = 5_000  # of one error that is printed: a file may hold a million faults


def say(text: object = "") -> None:
    """Prints a line."""
    print(as_written(printable(text), getattr(sys.stdout, "encoding", None)))


def say_aside(text: object) -> None:
    """Prints a line to standard error."""
    print(as_written(printable(text), getattr(sys.stderr, "encoding", None)), file=sys.stderr)


def say_error(error: object) -> None:
    """Prints what ended a command."""
    text = printable(f"exaone: {error}")
    if len(text) > MAX_ERROR_CHARS:
        text = f"{text[:MAX_ERROR_CHARS]}… ({len(text):,} characters in all)"
    print(as_written(text, getattr(sys.stderr, "encoding", None)), file=sys.stderr)


def guard_output() -> None:
    """Makes this process print nothing that steers a terminal, nor fail at what cannot be encoded, or decoded.

    For the command line: it changes how warnings and uncaught exceptions of every library are printed.
    """
    escape = "backslashreplace"
    for stream, errors in ((sys.stdout, escape), (sys.stderr, escape), (sys.stdin, "surrogateescape")):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # replaced by a test, closed, or none at all
            stream.reconfigure(errors=errors)  # type: ignore[union-attr]
    warnings.formatwarning = _format_warning
    sys.excepthook = _print_exception


def memory_error(error: BaseException) -> str | None:
    """What to say of an error that comes from too little memory; None where it comes from something else.

    A limit on the address space (`ulimit -v`) shows as errors of many kinds: libraries that cannot be loaded, files
    that cannot be mapped, threads that cannot be started.
    """
    text = str(error).lower()
    if not isinstance(error, MemoryError) and not any(sign in text for sign in _MEMORY_SIGNS):
        return None
    where = "free some, or take a smaller model, batch or file"
    if (limit := _address_space()) is not None:
        where = f"this process may have {limit / 2**30:.1f} GiB of address space: raise it with `ulimit -v unlimited`"
    detail = " ".join(str(error).split())[:200]
    return f"out of memory{f' ({detail})' if detail else ''}: {where}"


# In what the dynamic loader, torch, the tokenizers and Python's threads say.
_MEMORY_SIGNS = (
    *("cannot allocate memory", "failed to map segment", "not enough memory", "out of memory", "unable to allocate"),
    *("can't start new thread", "cannot mmap", "mmap failed", "unable to mmap", "os error 12", "bad_alloc"),
)


def _address_space() -> int | None:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return printable(f"{os.path.basename(filename)}:{lineno}: {category.__name__}: {message}") + "\n"


def _print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(printable("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
