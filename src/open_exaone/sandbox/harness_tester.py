"""The tests' side of the wire: it runs the tests on stand-ins for what the program defines, and reports.

Its report goes to its own standard output, after a token that no program has seen.
"""

import builtins
import contextlib
import importlib
import json
import linecache
import re
import reprlib
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from math import isclose, isfinite
from typing import Any

from open_exaone.sandbox.harness_wire import SCALARS, Graph, Wire, without_collection

TOLERANCE = 1e-6  # as in compare.py
WIRE_S_PER_BYTE = 3e-7  # what packing and unpacking take, on a slow core
MODULES = {"np": "numpy", "pd": "pandas"}  # how modules are commonly called


class Late(BaseException):
    """What the program returned took too long to read."""


class VeryLate(BaseException):
    """The program used up no processor time, and gave no answer."""


class Stopped(BaseException):
    """The program can answer no more. No `except Exception` of a test may hide it."""


class Broken(BaseException):
    """The tests are no Python."""


class Unsupported(BaseException):
    """The tests send what cannot cross the wire."""


class Mismatch(Exception):
    """A call returned another value than expected."""


class Candidate:
    """The program, as the tests see it."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.test = 0  # under way: the program has so much time for each
        self.stopped: str | None = None  # why it answers no more
        self.handles: dict[int, Handle] = {}
        self.returned: list[Any] = []  # what its last call gave, at most one

    def ask(self, operation: str, *args: object) -> Any:
        """One question and its answer.

        Raises:
            Exception: what the program raised, as the nearest built-in exception.
            Stopped: the program is gone, or what it sent is no answer.
        """
        if self.stopped:
            raise Stopped(self.stopped)
        graph = Graph(self._close, self._open)
        with without_collection():
            nodes = graph.pack(args)
            frame = {"do": operation, "test": self.test, "nodes": nodes, "with": graph.closed(args)}
            return self._hear(graph, frame)

    def load(self) -> None:
        """Waits until the program has run through; raises what it raised."""
        self._hear(Graph(self._close, self._open))

    def _hear(self, graph: Graph, frame: object = None) -> Any:
        try:
            if frame is not None:
                self.wire.send(frame)
            reply = self.wire.receive()
            graph.unpack(reply["nodes"])
            graph.change(reply["changed"])
            names, value = reply["names"], graph.opened(reply["value" if reply["names"] is None else "raised"])
            error = None if names is None else _exception(names, value)
        except (EOFError, OSError):
            raise self._stop("the program ended before it answered") from None
        except Exception as fault:  # whatever a program sends must not end the tests in another way
            raise self._stop(f"what the program sent is no answer ({_message(fault)})") from None
        if isinstance(error, Stopped):
            raise self._stop(_text_of(error))
        if error is not None:
            raise error
        return value

    def _stop(self, why: str) -> Stopped:
        self.stopped = _line(why)
        return Stopped(self.stopped)

    def _close(self, value: Any) -> Any:
        if type(value) is not Handle:
            raise Unsupported(
                f"the tests pass an object of type {type(value).__name__}, which cannot cross to the program"
            )
        return ["h", object.__getattribute__(value, "_handle_number")]

    def _open(self, value: Any) -> Any:
        tag, number = value
        if tag != "h" or type(number) is not int:
            raise ValueError(f"tag {tag!r}")
        if number not in self.handles:
            self.handles[number] = Handle(self, number)
        return self.handles[number]


class Handle:
    """An object that lives in the program. It is equal to itself alone: a program's own == decides nothing."""

    __slots__ = ("_handle_number", "_handle_of")
    _handle_of: Candidate
    _handle_number: int

    def __init__(self, candidate: Candidate, number: int) -> None:
        object.__setattr__(self, "_handle_of", candidate)
        object.__setattr__(self, "_handle_number", number)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        result = self._handle_of.ask("call", self, args, kwargs)
        self._handle_of.returned = [result]
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__name__":  # protocols such as numpy's trust what these say
            raise AttributeError(name)
        return self._handle_of.ask("get", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._handle_of.ask("set", self, name, value)

    def __getitem__(self, key: object) -> Any:
        return self._handle_of.ask("item", self, key)

    def __setitem__(self, key: object, value: object) -> None:
        self._handle_of.ask("put", self, key, value)

    def __iter__(self) -> Any:
        return self._handle_of.ask("iter", self)

    def __next__(self) -> Any:
        return self._handle_of.ask("next", self)

    def __len__(self) -> int:
        return self._handle_of.ask("len", self)

    def __bool__(self) -> bool:
        return self._handle_of.ask("bool", self)

    def __str__(self) -> str:
        return self._handle_of.ask("str", self)

    def __repr__(self) -> str:
        return self._handle_of.ask("repr", self)


class Names(dict[str, Any]):
    """The globals of the tests: their own, the built-in ones, modules that they use, and then the program's.

    A module must be a real one: a program's own `math` may say what it likes.
    """

    def __init__(self, candidate: Candidate, source: str, entry_point: str | None) -> None:
        super().__init__(__name__="tests", __builtins__=builtins)
        self.candidate, self.source, self.entry_point = candidate, source, entry_point

    def __missing__(self, key: str) -> Any:
        if key == self.entry_point:
            return self.candidate.ask("name", key)
        if hasattr(builtins, key):
            return getattr(builtins, key)
        if re.search(rf"\b{re.escape(key)}\s*\.", self.source):
            try:
                return importlib.import_module(MODULES.get(key, key))
            except ImportError:
                pass  # a class of the program
        return self.candidate.ask("name", key)


Steps = list[Callable[[], None]]  # the first runs the program, each other one is a test


def run_tests(spec: dict[str, Any]) -> None:
    """Runs tests until one fails, and prints the token and a report: {status, test, why}.

    Args:
        spec: "token", and either "tests" (sources), "setup" (sources run before them) and "entry_point" (a name that
            is the program's even where the setup defines it), or "function", "cases" ([arguments, expected]),
            "unwraps", and of each call "limit_s" of processor time and "clock_s" by the clock.
    """
    candidate = Candidate()
    report: dict[str, Any] = {"status": "failed", "why": "", "test": 0}
    try:
        steps = _calls(spec, candidate) if "cases" in spec else _script(spec, candidate)
        for number, step in enumerate(steps):
            report["test"] = candidate.test = number
            step()
        report |= {"status": "failed" if candidate.stopped else "passed", "why": candidate.stopped or ""}
    except Late:
        report["status"] = "timeout"
    except VeryLate:
        report["status"] = "clock"
    except Broken as error:
        report |= {"status": "broken", "why": _line(str(error))}
    except Unsupported as error:
        report |= {"status": "unsupported", "why": _line(str(error))}
    except BaseException as error:  # tests may raise whatever they like: they failed
        with contextlib.suppress(Exception):
            report["why"] = _explain(error, candidate)
    print("\n" + spec["token"] + json.dumps(report), file=sys.__stdout__, flush=True)


def _script(spec: dict[str, Any], candidate: Candidate) -> Steps:
    """Test code, run where the program's names stand for what the program defines."""
    entry_point = spec["entry_point"]
    names = Names(candidate, "\n".join([*spec["setup"], *spec["tests"]]), entry_point)
    setup = [_compiled(source, f"<setup {number}>") for number, source in enumerate(spec["setup"], start=1)]
    tests = [_compiled(source, f"<test {number}>") for number, source in enumerate(spec["tests"], start=1)]

    def prepare() -> None:
        candidate.load()
        for code in setup:
            exec(code, names)
        names.pop(entry_point, None)

    return [prepare, *(partial(exec, code, names) for code in tests)]


def _compiled(source: str, name: str) -> Any:
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for tracebacks
    try:
        return compile(source, name, "exec")
    except (SyntaxError, ValueError) as error:
        raise Broken(f"{name} is not valid Python ({error})") from None


def _calls(spec: dict[str, Any], candidate: Candidate) -> Steps:
    """One call for each case, each with its own time limit."""

    def call(arguments: list[Any], expected: Any) -> None:
        got = candidate.ask("method", spec["function"])(*arguments)
        is_wrapped = spec["unwraps"] and isinstance(expected, list) and len(expected) == 1
        if not (_same(got, expected) or (is_wrapped and _same(got, expected[0]))):
            raise Mismatch(f"expected {_shown(expected)}, got {_shown(got)}")

    steps: Steps = [candidate.load, *(partial(call, arguments, expected) for arguments, expected in spec["cases"])]
    return [partial(_in_time, spec["limit_s"], spec["clock_s"], candidate.wire, step) for step in steps]


def _in_time(limit_s: float, clock_s: float, wire: Wire, step: Callable[[], None]) -> None:
    """Ends a step that takes too long; the program's own time is limited on its side.

    Args:
        limit_s: the processor time of this side. What crosses the wire is given its own, at most as much again.
        clock_s: the time by the clock, in which the program must have answered.
    """
    late_s, num_bytes = time.process_time() + limit_s, wire.num_bytes

    def be_late(*_: object) -> None:
        allowance_s = min(limit_s, (wire.num_bytes - num_bytes) * WIRE_S_PER_BYTE)
        left_s = late_s + allowance_s - time.process_time()
        if left_s <= 0:
            raise Late
        signal.setitimer(signal.ITIMER_PROF, left_s)

    def be_very_late(*_: object) -> None:
        raise VeryLate

    signal.signal(signal.SIGPROF, be_late)
    signal.signal(signal.SIGALRM, be_very_late)
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    signal.setitimer(signal.ITIMER_REAL, clock_s)
    try:
        step()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _same(got: Any, expected: Any) -> bool:
    """Whether two values are the same JSON: a tuple is a list, floats are equal within TOLERANCE."""
    if got == expected:
        return True
    if isinstance(got, list | tuple) and isinstance(expected, list):
        return len(got) == len(expected) and all(map(_same, got, expected))
    if isinstance(got, dict) and isinstance(expected, dict):
        return got.keys() == expected.keys() and all(_same(got[key], expected[key]) for key in expected)
    if isinstance(got, float) and isinstance(expected, float) and isfinite(got) and isfinite(expected):
        return isclose(got, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return False


def _exception(names: list[str], args: tuple[Any, ...]) -> BaseException:
    """What the program raised, as the nearest built-in exception; one that ends programs as Stopped."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(*args)
            except TypeError:
                continue  # it wants other arguments; its parent may not
    return Stopped(f"the program raised {names[0]}")


def _explain(error: BaseException, candidate: Candidate) -> str:
    """Why the tests failed, in a few words."""
    if isinstance(error, Stopped | Mismatch):
        return _line(_text_of(error))
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith("<test ")]
    if isinstance(error, AssertionError) and lines:
        parts = [lines[-1], *(f"the last call gave {_shown(value)}" for value in candidate.returned)]
    else:
        parts = [_message(error), *lines[-1:]]
    return "; ".join(_line(str(part), 120) for part in parts)


def _message(error: BaseException) -> str:
    return f"{type(error).__name__}: {_text_of(error)}".rstrip(": ")


def _text_of(error: BaseException) -> str:
    """What an error says. Where its arguments are not plain, to ask for its text may be to ask the program."""
    parts = [part for arg in error.args for part in (arg if type(arg) is tuple else (arg,))]  # such as SyntaxError's
    if any(type(part) not in SCALARS for part in parts):
        return ", ".join(map(_shown, error.args[:3]))
    try:
        return str(error)[:300]
    except ValueError:  # an integer too long to be written
        return ", ".join(map(_shown, error.args[:3]))


def _line(text: str, limit: int = 300) -> str:
    """A text that may be anything, as a piece of one line that can be written."""
    return " ".join(text[:limit].split()).encode(errors="replace").decode()


def _shown(value: object) -> str:
    """A value for a sentence. The program is not asked what its objects look like."""
    try:
        return "an object of its own" if type(value) is Handle else _REPR.repr(value)
    except Exception:  # such as an integer too long to be written
        return f"a very long {type(value).__name__}"


class _Repr(reprlib.Repr):
    """Short, and silent about what lives in the program."""

    def repr_Handle(self, value: Handle, level: int) -> str:
        return "an object"


_REPR = _Repr()
