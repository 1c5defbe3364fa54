"""The program's side of the wire: it runs the reply's program, then answers the calls of the tests.

It shares its interpreter with the program, so nothing it says is more than the program's word.
"""

import signal
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from open_exaone.sandbox.harness_wire import Graph, Wire, is_changed, parts_of, without_collection


class Budget:
    """The processor time that the program may take for one test. Where it takes more, the timer's signal ends it.

    Args:
        limit_s: of each test; None for no limit but the whole program's.
    """

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s, self.left_s, self.test = limit_s, limit_s, 0
        self._set_timer, self._now = signal.setitimer, time.process_time  # the program may put others in their place

    def begin(self, test: int) -> None:
        """Grants the whole limit where this is another test than before."""
        if test != self.test:
            self.test, self.left_s = test, self.limit_s

    def spend(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Calls a function of the program."""
        if self.left_s is None:
            return function(*args)
        start_s = self._now()
        self._set_timer(signal.ITIMER_PROF, self.left_s)
        try:
            return function(*args)
        finally:
            self._set_timer(signal.ITIMER_PROF, 0)
            self.left_s = max(self.left_s - (self._now() - start_s), 1e-3)


def serve(program: str, limit_s: float | None) -> None:
    """Runs a program as the module `solution`, says whether that went well, and answers calls until the tests end.

    Args:
        limit_s: the processor time that it may take to run through, and for each test; None for no such limit.
    """
    wire, module, budget = Wire(), ModuleType("solution"), Budget(limit_s)
    sys.modules["solution"] = module
    objects: list[Any] = []  # what the tests hold by number
    numbers: dict[int, int] = {}  # by id

    def close(value: Any) -> Any:
        if hasattr(value, "item") and type(value).__module__ == "numpy" and not getattr(value, "shape", True):
            return Graph(close, open).closed(value.item())  # a numpy scalar is as good as Python's
        if id(value) not in numbers:
            numbers[id(value)] = len(objects)
            objects.append(value)
        return ["h", numbers[id(value)]]

    def open(value: Any) -> Any:
        return objects[value[1]]

    def load() -> None:
        exec(compile(program, "solution.py", "exec"), vars(module))

    wire.send(_answer(budget, load, (), Graph(close, open)))
    while True:
        graph = Graph(close, open)
        with without_collection():
            request = wire.receive()
            graph.unpack(request["nodes"])
            args = graph.opened(request["with"])
        budget.begin(request["test"])
        wire.send(_answer(budget, _operations(module)[request["do"]], args, graph))


def _operations(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """What the tests may ask for, by name."""

    def name(key: str) -> Any:
        if key not in vars(module):
            raise NameError(f"name {key!r} is not defined")
        return vars(module)[key]

    def method(key: str) -> Any:
        solution: Any = vars(module).get("Solution")
        return getattr(solution(), key) if hasattr(solution, key) else name(key)

    return {
        "name": name,
        "method": method,
        "call": lambda function, args, kwargs: function(*args, **kwargs),
        "get": getattr,
        "set": setattr,
        "item": lambda value, key: value[key],
        "put": lambda value, key, item: value.__setitem__(key, item),
        "iter": iter,
        "next": next,
        "len": len,
        "bool": bool,
        "str": str,
        "repr": repr,
    }


def _answer(budget: Budget, function: Callable[..., Any], args: tuple[Any, ...], graph: Graph) -> dict[str, Any]:
    """Calls a function; reports what it returned or raised, and how it changed its arguments."""
    key, value, names = "value", None, None
    with without_collection():
        before = graph.contents()
    try:
        value = budget.spend(function, args)
    except BaseException as error:  # whatever a program raises is its answer
        key, value = "raised", error.args
        names = [kind.__name__ for kind in type(error).__mro__]
    with without_collection():
        changed = [(target, kind) for target, kind, parts in before if is_changed(target, kind, parts)]
        nodes = graph.pack(value, *(part for target, kind in changed for part in parts_of(target, kind)))
        now = [graph.node(target, kind) for target, kind in changed]
        return {"nodes": nodes, "changed": now, key: graph.closed(value), "names": names}
