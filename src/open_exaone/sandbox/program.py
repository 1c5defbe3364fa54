"""Inside the sandbox: runs a source text as `python main.py` would, and ends the process."""

import atexit
import builtins
import gc
import importlib.machinery
import importlib.util
import io
import os
import sys
import types
import weakref
from typing import Any, NoReturn, TextIO

FILE_NAME = "main.py"
_STANDARD = {
    f"{folder}{name}": number
    for number, own in enumerate(("stdin", "stdout", "stderr"))
    for folder, name in (("/dev/", own), ("/dev/fd/", number), ("/proc/self/fd/", number))
}


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads the one module there is from memory, where traceback and inspect find its lines too."""

    def __init__(self, source: bytes) -> None:
        super().__init__("__main__", FILE_NAME)
        self._source = source

    def get_source(self, fullname: str) -> str:
        """The source text."""
        return importlib.util.decode_source(self._source)

    def get_code(self, fullname: str) -> types.CodeType:
        """The source, compiled; an encoding that it declares counts."""
        return self.source_to_code(self._source, FILE_NAME)


def offer_standard_files() -> None:
    """Lets `open` find /dev/stdin and its like: it opens the descriptor anew. No other call finds them."""
    builtins.open = io.open = _open_anything


def _open_anything(file: Any, *args: Any, **kwargs: Any) -> Any:
    name = os.fspath(file) if isinstance(file, os.PathLike) else file
    number = _STANDARD.get(name) if isinstance(name, str) else None
    return _OPEN(file if number is None else os.dup(number), *args, **kwargs)


_OPEN = open


def run_as_main(source: bytes) -> NoReturn:
    """Runs it as `__main__`, then ends the process with the code that python would end with."""
    module = types.ModuleType("__main__")
    loader = _Loader(source)
    vars(module).update(__file__=FILE_NAME, __loader__=loader, __builtins__=builtins)
    sys.modules["__main__"] = module
    sys.argv[:] = [FILE_NAME]
    code = 0
    try:
        loader.exec_module(module)
    except SystemExit as error:
        code = _exit_code(error)
    except BaseException as error:
        _show(error)
        code = 1
    remains = weakref.ref(module)
    del module, loader
    _end(remains, code)


def _show(error: BaseException) -> None:
    """Has the error printed without the frames that are ours."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != FILE_NAME:
        trace = trace.tb_next
    error.__traceback__ = trace
    if sys.excepthook is sys.__excepthook__:
        import traceback  # after a fork, because few programs need it

        traceback.print_exception(error)  # unlike the hook it finds lines that are in no file
    else:
        sys.excepthook(type(error), error, trace)


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _end(remains: "weakref.ref[types.ModuleType]", code: int) -> NoReturn:
    """What the interpreter does last, in its order: threads, exit functions, stdout, objects, the first stdout."""
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
    except BaseException as error:
        _show(error)
    is_written = _flush(sys.stdout)
    try:
        sys.stdout = sys.__stdout__  # a program's own goes while it still finds its modules
        gc.collect()  # as the interpreter does: it decides the order in which a file that is in a ring ends
        sys.modules.pop("__main__", None)
        gc.collect()  # what the program made ends while it still finds its modules
        if (module := remains()) is not None:
            for name in [name for name in vars(module) if name != "__builtins__"]:
                setattr(module, name, None)
            gc.collect()
    except BaseException as error:
        _show(error)
    is_written = _flush(sys.__stdout__) and is_written
    _flush(sys.__stderr__)
    os._exit(code if is_written else 120)  # as python says it


def _flush(file: TextIO | None) -> bool:
    """Whether all that was printed is written."""
    try:
        if file is not None and not file.closed:
            file.flush()
    except BaseException:
        return False
    return True
