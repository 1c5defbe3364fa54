"""The fork server: a small process that has loaded what programs and calls need, and forks a keeper for each.

It is started with one end of a socket as its descriptor 0, lives as long as somebody holds the other end, and never
sees anything but the programs and the arguments themselves.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from open_exaone.sandbox import kernel, wire
from open_exaone.sandbox.confine import Confinement, enter_namespaces, is_below, readable_paths
from open_exaone.sandbox.keeper import ending_of, keep_programs
from open_exaone.sandbox.program import offer_standard_files
from open_exaone.sandbox.trial import Note, find_confinement
from open_exaone.sandbox.worker import Hidden, explain, load, work

# What most programs import. Not `threading` and `random`, nor what imports them: what these do after each fork would
# cost small programs a quarter of their time.
PRELOADED = (
    "abc array ast base64 bisect calendar cmath collections.abc contextlib copy dataclasses datetime decimal enum "
    "fractions functools heapq inspect io itertools json math numbers operator os pathlib re string struct sys "
    "textwrap time types typing unicodedata zlib"
)

_ENVIRONMENT = {
    "HOME": "/box",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/usr/bin:/bin",
    "PYTHONHASHSEED": "0",
    "TMPDIR": "/box",
}

_END_TIMEOUT_S = 1
_FIRST_FREE = 4  # descriptors below this one are for programs to have
Begin = Callable[[socket.socket, int, int], NoReturn]  # of a link to the judge, bytes of memory, and an alarm


def main() -> NoReturn:
    """Serves until the judge hangs up."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what the judge blocks or ignores comes with a start
    for number in (signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    control = socket.socket(fileno=fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE))
    received = wire.receive(control)
    if received is None:
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(_FIRST_FREE):
        if received[0]["confined"] or descriptor not in (1, 2):  # what a user's own function prints is shown
            os.dup2(nothing, descriptor)
    try:
        greeting, confinement, begin = _set_up(**received[0])
    except BaseException as error:  # a user's module raises whatever it likes
        place = received[0]["function"].rpartition(":")[0]
        wire.send(control, {"error": f"{explain(error, place)}.", "findings": [], "is_confined": False})
        os._exit(1)
    wire.send(control, greeting)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who end need no burial
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            _end()
        if os.fork() == 0:
            control.close()
            _seclude(socket.socket(fileno=descriptors[0]), confinement, begin, bool(received[0]["function"]))
        for descriptor in descriptors:
            os.close(descriptor)


def _end() -> NoReturn:
    """Waits until all that was forked has seen that the judge hung up; what has not is ended by the kernel, with us."""
    signal.alarm(_END_TIMEOUT_S)
    with contextlib.suppress(ChildProcessError):
        os.wait()
    os._exit(0)


def _seclude(link: socket.socket, confinement: Confinement | None, begin: Begin, reports_end: bool) -> NoReturn:
    """Forks what will serve this link, into namespaces of its own, and ends it when either side hangs up.

    Args:
        reports_end: whether the judge waits for how it ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server = os.getppid()
    received = wire.receive(link)
    if received is None:
        os._exit(0)
    timer, alarm = os.pipe()
    try:
        if confinement and confinement.namespaces:
            enter_namespaces(confinement.readable, received[0]["file_bytes"])
        if sys.platform == "linux":
            kernel.die_with_parent()
            if os.getppid() != server:
                os._exit(0)
        pid = os.fork()
        if pid == 0:
            begin(link, received[0]["memory_bytes"], alarm)
    except OSError as error:
        link.sendall(json.dumps({"why": f"{error}."}).encode())
        os._exit(1)
    poll = select.poll()
    poll.register(link.fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))
    ending = ending_of(pid)
    for descriptor in filter(None, (ending, timer)):
        poll.register(descriptor, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll()}
    for kill in (os.kill,) if confinement else (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if reports_end and ready & {ending, timer}:
        code = -signal.SIGPROF if timer in ready else os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):
            wire.send(link, {"exit_code": code})
    os._exit(0)


def _set_up(
    function: str, confined: bool, without: list[str], path: list[str]
) -> tuple[dict[str, Any], Confinement | None, Begin]:
    """Loads, and finds out what there is.

    Args:
        function: what calls are of; "" for programs.
        without: mechanisms that must not be used, for tests.
        path: folders of modules besides those that Python finds by itself; what is confined may read them.

    Returns:
        What is sent to the judge, how to confine, and what serves a link.
    """
    sys.path += [folder for folder in path if folder not in sys.path]
    if function:
        called, place, hidden = load(function), function.rpartition(":")[0], Hidden()
    else:
        for name in PRELOADED.split():
            importlib.import_module(name)
    confinement: Confinement | None = None
    findings: list[Note] = []
    if confined:
        _forget_environment()
        besides = [os.path.dirname(os.path.dirname(__file__))] if function else []
        confinement, findings = find_confinement(readable_paths([*besides, *path]), without)
    greeting = {"error": "", "findings": findings, "is_confined": confinement is not None}
    if function:
        return greeting, confinement, partial(work, confinement, called, place, hidden)
    _forget_ourselves(confinement)
    return greeting, confinement, lambda link, _, __: keep_programs(link, confinement)


_KEPT: list[Any] = []  # modules that nobody finds any more; to free them would be each program's loss


def _forget_ourselves(confinement: Confinement | None) -> None:
    """Leaves programs the modules and the search path that a plain interpreter would."""
    if confinement:
        sys.path[:] = [path for path in sys.path if any(is_below(path, folder) for folder in confinement.readable)]
    sys.path.insert(0, "")
    offer_standard_files()
    _KEPT.append(sys.modules["__main__"])  # each program puts another in its place
    for name in [name for name in sys.modules if name.partition(".")[0] == "open_exaone"]:
        _KEPT.append(sys.modules.pop(name))


def _forget_environment() -> None:
    os.environ.clear()
    os.environ.update(_ENVIRONMENT)
    if sys.platform == "linux":
        kernel.use_one_arena()
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # where memory runs out, the judge is not what ends


if __name__ == "__main__":
    main()
