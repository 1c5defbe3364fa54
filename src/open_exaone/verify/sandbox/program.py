"""Inside the sandbox: runs a source text as `python main.py` would, and ends the process."""

import atexit
import builtins
import importlib.machinery
import importlib.util
import os
import sys
import types
from typing import NoReturn

FILE_NAME = "main.py"


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
    _end(module, code)


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


def _end(module: types.ModuleType, code: int) -> NoReturn:
    """What the interpreter does last, less the taking apart of itself: threads, exit functions, objects, buffers."""
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
        for name in [name for name in vars(module) if name != "__builtins__"]:
            setattr(module, name, None)
    except BaseException as error:
        _show(error)
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except BaseException:
        code = 120  # as python says it
    os._exit(code)
