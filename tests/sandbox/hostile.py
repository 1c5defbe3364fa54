# ruff: noqa: E501 - a program is one line of the table
"""Hostile programs, as a table: (name, source, the statuses that it may end with).

Each tries to harm, to outlive, to see or to fool the judge. `{canary}`, `{port}` and `{pid}` in a source
stand for a file of the judge's with a secret in it, a port that the judge listens on, and the judge's process. A
program that could do what it tries prints ESCAPED, or the secret, which is in the judge's environment and memory too.
"""

OK, FAILED, TIMEOUT, MEMORY, OUTPUT = "ok", "failed", "timeout", "memory", "output"

# What several programs need.
_C = "import ctypes, os, sys\nlibc = ctypes.CDLL(None, use_errno=True)\n"
_TRY = """
def attempt(action):
    try:
        return action()
    except BaseException as error:
        return error
"""


def _syscall(number: int, *arguments: object) -> str:
    """A program that makes a system call, and says ESCAPED where that works."""
    text = ", ".join([f"ctypes.c_long({number})", *map(str, arguments)])
    return f"{_C}result = libc.syscall({text})\nprint('ESCAPED' if result >= 0 else 'refused')"


def _code(machine_code: str) -> str:
    """A program that runs bytes as machine code of x86_64, and prints what they leave in rax."""
    return f"""import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("{machine_code}"))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
result = ctypes.CFUNCTYPE(ctypes.c_long)(address)()
print("ESCAPED" if result >= 0 else "refused")"""


PROCESSES = [
    ("fork", "import os\nos.fork()\nprint('ESCAPED')", {FAILED}),
    ("fork bomb", "import os\nwhile True:\n    try: os.fork(); print('ESCAPED')\n    except OSError: pass", {TIMEOUT}),
    ("vfork", _syscall(58), {OK}),
    ("clone by hand", _syscall(56, 17, 0, 0, 0, 0), {OK}),
    ("clone3", _syscall(435, "ctypes.create_string_buffer(88)", 88), {OK}),
    ("subprocess", "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'echo ESCAPED'])", {FAILED}),
    ("system", "import os\nprint('ESCAPED' if os.system('true') == 0 else 'refused')", {OK}),
    ("popen", "import os\nprint(os.popen('echo ESCAPED').read())", {OK, FAILED}),
    ("exec", "import os, sys\nos.execv(sys.executable, ['python', '-c', 'print(\"ESCAPED\")'])", {FAILED}),
    ("posix_spawn", "import os\nos.posix_spawn('/bin/true', ['true'], {})\nprint('ESCAPED')", {FAILED}),
    ("multiprocessing", "import multiprocessing as m\nm.Process(target=print, args=('ESCAPED',)).start()", {FAILED}),
    (
        "daemon",
        "import os\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n    open('{canary}', 'w').write('x')",
        {FAILED},
    ),
    ("new session", "import os\nos.setsid()\nprint('ESCAPED')", {FAILED}),
    (
        "memfd and exec",
        "import os\nf = os.memfd_create('x')\nos.write(f, open('/usr/bin/true', 'rb').read())\n"
        "os.execv(f'/proc/self/fd/{f}', ['true'])\nprint('ESCAPED')",
        {FAILED},
    ),
    ("execveat", _syscall(322, 0, "b''", 0, 0, "0x1000"), {OK}),
    (
        "thread bomb",
        "import threading, time\nthreading.stack_size(65536)\nn = 0\n"
        "try:\n    while True:\n        threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n        n += 1\n"
        "except RuntimeError: print('ESCAPED' if n > 40 else n)",
        {OK},
    ),
]

FLOODS = [
    ("a list without end", "x = []\nwhile True: x.append('y' * 1000000)", {MEMORY}),
    ("one large block", "x = bytearray(1 << 40)", {MEMORY}),
    ("a mapping", "import mmap\nx = mmap.mmap(-1, 1 << 40)\nprint('ESCAPED')", {FAILED, MEMORY}),
    (
        "shared mappings",
        "import mmap\nx = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 26, flags=mmap.MAP_SHARED)\n    x.append(m)\n"
        "    m.write(b'x' * (1 << 26))",
        {FAILED, MEMORY, TIMEOUT},
    ),
    ("a memfd", _syscall(319, "b'x'", 0), {OK}),
    ("a large number", "print(10 ** 10 ** 10)", {TIMEOUT, MEMORY}),
    ("a tower", "x = 9 ** 9 ** 9", {TIMEOUT, MEMORY}),
    (
        "memory caught",
        "x = []\nwhile True:\n    try: x.append(bytes(1 << 24))\n    except MemoryError: pass",
        {TIMEOUT},
    ),
    ("stdout", "while True: print('x' * 100000)", {OUTPUT}),
    ("a gigabyte of stdout", "import sys\nsys.stdout.write('x' * 1000)\nprint('y' * 10**9)", {OUTPUT, MEMORY}),
    ("stderr", "import sys\nwhile True: sys.stderr.write('x' * 100000)", {OUTPUT}),
    ("stdout below Python", "import os\nwhile True: os.write(1, b'x' * 65536)", {OUTPUT}),
    ("one file", "with open('f', 'wb') as f:\n    while True: f.write(b'x' * 1000000)", {FAILED}),
    (
        "many files",
        "n = 0\ntry:\n    while True:\n        open(f'f{n}', 'wb').write(b'x' * 1000000)\n        n += 1\n"
        "except OSError: print('ESCAPED' if n > 100 else n)",
        {OK},
    ),
    (
        "empty files",
        "n = 0\ntry:\n    while True:\n        open(f'f{n}', 'wb').close()\n        n += 1\n"
        "except OSError: print('ESCAPED' if n > 9999 else n)",
        {OK},
    ),
    ("a sparse file", "f = open('f', 'wb')\nf.truncate(1 << 40)\nprint('ESCAPED')", {FAILED}),
    ("shared memory", "open('/dev/shm/x', 'wb').write(b'x')\nprint('ESCAPED')", {FAILED}),
    (
        "descriptors",
        "import os\nn = 0\ntry:\n    while True:\n        os.pipe()\n        n += 1\n"
        "except OSError: print('ESCAPED' if n > 1000 else n)",
        {OK},
    ),
]

CLOCK = [
    ("a loop", "while True: pass", {TIMEOUT}),
    ("sleep", "import time\ntime.sleep(999)", {TIMEOUT}),
    ("a loop in C", "sum(iter(int, 1))", {TIMEOUT}),
    ("a regular expression", "import re\nre.match(r'(a+)+$', 'a' * 50 + 'b')", {TIMEOUT}),
    (
        "signals ignored",
        "import signal\nfor s in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(s, signal.SIG_IGN)\n"
        "while True: pass",
        {TIMEOUT},
    ),
    ("sleep in atexit", "import atexit, time\natexit.register(time.sleep, 999)", {TIMEOUT}),
    ("a thread stays", "import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()", {TIMEOUT}),
    (
        "a daemon thread",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(999,), daemon=True).start()",
        {OK},
    ),
    ("no descriptors", "import os\nos.closerange(0, 99)\nwhile True: pass", {TIMEOUT}),
    (
        "a timer",
        "import signal\nsignal.signal(14, lambda *_: None)\nsignal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)\nwhile 1: 1",
        {TIMEOUT},
    ),
    ("stopped", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", {TIMEOUT}),
    (
        "busy threads",
        "import threading, hashlib\nfor _ in range(4): threading.Thread(target=lambda: hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**9)).start()",
        {TIMEOUT},
    ),
    ("deadlock", "import _thread\nlock = _thread.allocate_lock()\nlock.acquire()\nlock.acquire()", {TIMEOUT}),
    ("del at the end", "class A:\n    def __del__(self):\n        while True: pass\na = A()", {TIMEOUT}),
    ("waiting for input", "import os\nr, w = os.pipe()\nos.read(r, 1)", {TIMEOUT}),
]

FILES = [
    ("passwords", "print('ESCAPED', open('/etc/passwd').read())", {FAILED}),
    ("shadow", "print('ESCAPED', open('/etc/shadow').read())", {FAILED}),
    ("home", "import os\nprint('ESCAPED', os.listdir('/root'), os.listdir('/home'))", {FAILED}),
    ("the judge's file", "print(open('{canary}').read())", {FAILED}),
    ("writing the judge's file", "open('{canary}', 'w').write('x')\nprint('ESCAPED')", {FAILED}),
    ("removing the judge's file", "import os\nos.remove('{canary}')\nprint('ESCAPED')", {FAILED}),
    ("mode of the judge's file", "import os\nos.chmod('{canary}', 0)\nprint('ESCAPED')", {FAILED}),
    (
        "writing Python",
        f"import os, sys\n{_TRY}\n"
        "for path in (os.__file__, sys.executable, os.path.dirname(os.__file__) + '/sitecustomize.py', '/usr/lib/x', '/x'):\n"
        "    error = attempt(lambda: open(path, 'a'))\n    print('refused' if isinstance(error, OSError) else 'ESCAPED')\n"
        "    error = attempt(lambda: os.chmod(path, 0o777))\n    print('refused' if isinstance(error, OSError) else 'ESCAPED')",
        {OK},
    ),
    ("a symbolic link", "import os\nos.symlink('{canary}', 'link')\nprint(open('link').read())", {FAILED}),
    ("a hard link", "import os\nos.link('{canary}', 'link')\nprint(open('link').read())", {FAILED}),
    ("dots", "print(open('../' * 20 + '{canary}'.lstrip('/')).read())", {FAILED}),
    ("the root in /proc", "print(open('/proc/self/root{canary}').read())", {FAILED}),
    ("the judge's root", "print(open('/proc/{pid}/root{canary}').read())", {FAILED}),
    ("the judge's folder", "print(open('/proc/{pid}/cwd/x').read())", {FAILED}),
    ("another's descriptors", "import os\nprint('ESCAPED', os.listdir('/proc/{pid}/fd'))", {FAILED}),
    (
        "descriptors left open",
        "import os\nleft = []\nfor n in range(3, 256):\n    try: os.fstat(n); left.append(n)\n    except OSError: pass\n"
        "print('ESCAPED' if left else 'none', left)",
        {OK},
    ),
    (
        "writing to descriptor 3",
        "import os\nfor n in range(3, 99):\n    try: os.write(n, b'ESCAPED'); print('ESCAPED')\n    except OSError: pass",
        {OK},
    ),
    ("writing to stdin", "import os\nos.write(0, b'x')\nprint('ESCAPED')", {FAILED}),
    ("file handles", _syscall(304, 0, 0, 0), {OK}),
    ("chroot", "import os\nos.chroot('.')\nprint('ESCAPED')", {FAILED, OK}),
    ("pivot_root", _syscall(155, "b'.'", "b'.'"), {OK}),
    ("mount", _syscall(165, "b'none'", "b'.'", "b'tmpfs'", 0, 0), {OK}),
    ("unmount", _syscall(166, "b'/'", 2), {OK}),
    ("mount_setattr", _syscall(442, 0, "b'/'", 0, 0, 0), {OK}),
    ("devices", "import os\nos.mknod('d', 0o666 | 0o020000, os.makedev(1, 1))\nprint('ESCAPED')", {FAILED}),
    ("the disk", "print('ESCAPED', open('/dev/vda', 'rb').read(1))", {FAILED}),
    ("memory of the machine", "print('ESCAPED', open('/dev/mem', 'rb').read(1))", {FAILED}),
    ("the kernel's settings", "open('/proc/sys/kernel/core_pattern', 'w').write('|x')\nprint('ESCAPED')", {FAILED}),
    ("the terminal", "open('/dev/tty', 'w').write('ESCAPED')\nprint('ESCAPED')", {FAILED}),
]

JUDGE = [
    ("the environment", "import os\nprint(dict(os.environ))", {OK}),
    ("the first environment", "print(open('/proc/self/environ').read())", {FAILED}),
    ("the judge's environment", "print(open('/proc/{pid}/environ').read())", {FAILED}),
    ("the parent's memory", "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb')\nprint('ESCAPED')", {FAILED}),
    ("the judge's memory", "open('/proc/{pid}/mem', 'rb')\nprint('ESCAPED')", {FAILED}),
    (
        "process_vm_readv",
        _syscall(310, "os.getppid()", "ctypes.create_string_buffer(16)", 1, "ctypes.create_string_buffer(16)", 1, 0),
        {OK},
    ),
    ("ptrace the parent", f"{_C}print('ESCAPED' if libc.ptrace(16, os.getppid(), 0, 0) == 0 else 'refused')", {OK}),
    ("ptrace me", f"{_C}print('ESCAPED' if libc.ptrace(0, 0, 0, 0) == 0 else 'refused')", {OK}),
    ("kill the parent", "import os\nos.kill(os.getppid(), 9)\nprint('ESCAPED')", {FAILED}),
    ("kill the judge", "import os\nos.kill({pid}, 9)\nprint('ESCAPED')", {FAILED}),
    ("kill all", "import os\nos.kill(-1, 9)\nprint('ESCAPED')", {FAILED}),
    ("kill the group", "import os\nos.kill(0, 9)\nprint('ESCAPED')", {FAILED}),
    ("pidfd", _syscall(434, "os.getppid()", 0), {OK}),
    (
        "signals by F_SETOWN",
        "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 8, os.getppid())\nprint('ESCAPED')",
        {FAILED},
    ),
    (
        "the parent's limits",
        "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))\nprint('ESCAPED')",
        {FAILED},
    ),
    ("higher limits", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nprint('ESCAPED')", {FAILED}),
    ("not dying with the parent", f"{_C}print('ESCAPED' if libc.prctl(1, 0, 0, 0, 0) == 0 else 'refused')", {OK}),
    ("dumpable", f"{_C}print('ESCAPED' if libc.prctl(4, 1, 0, 0, 0) == 0 else 'refused')", {OK}),
    ("priority", "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)\nprint('ESCAPED')", {FAILED}),
    (
        "objects of the harness",
        "import gc, sys\nfound = []\nframe = sys._getframe()\nwhile frame: found.append(repr(frame.f_locals)); frame = frame.f_back\n"
        "found += [repr(x) for x in gc.get_objects() if isinstance(x, (dict, list, tuple))][:20000]\n"
        "sys.stdout.write(' '.join(found)[:5_000_000])",
        {OK},
    ),
    (
        "what earlier programs left in memory",
        _C + "libc.sbrk.restype = ctypes.c_void_p\nr, w = os.pipe()\nfound = pages = 0\n"
        "for end in (libc.sbrk(0), (id(object()) & ~4095) + (16 << 20)):\n"
        "    for page in range(end - (32 << 20), end, 4096):\n"
        "        if libc.write(w, ctypes.c_void_p(page), 4096) == 4096:\n"
        "            pages += 1\n"
        "            found += b'MARGORP-REILRAE' in os.read(r, 4096)[::-1]\n"
        "print('ESCAPED' if found or pages < 1000 else 'nothing')",
        {OK},
    ),
    (
        "modules patched",
        "import sys, os, json\nfor n in list(sys.modules): sys.modules[n] = None\nos._exit = None\njson.dumps = None",
        {OK, FAILED},
    ),
    (
        "exit patched",
        "import os, sys\nos._exit = lambda code: None\nsys.exit = None\nraise SystemExit(3)",
        {FAILED, OK},
    ),
    ("exit at once", "import os\nos._exit(0)", {OK}),
    ("exit in atexit", "import atexit, os\natexit.register(os._exit, 0)\nraise ValueError", {OK}),
    (
        "a faked report",
        "import json, os\nfor n in range(99):\n    try: os.write(n, json.dumps({'status': 'ok', 'exit_code': 0}).encode())\n    except OSError: pass\nraise SystemExit(1)",
        {FAILED},
    ),
]

NETWORK = [
    ("inet", "import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)\nprint('ESCAPED')", {FAILED}),
    ("inet6", "import socket\nsocket.socket(socket.AF_INET6)\nprint('ESCAPED')", {FAILED}),
    ("udp", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nprint('ESCAPED')", {FAILED}),
    ("names", "import socket\nprint('ESCAPED', socket.gethostbyname('example.com'))", {FAILED}),
    (
        "http",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:{port}', timeout=1)\nprint('ESCAPED')",
        {FAILED},
    ),
    ("unix", "import socket\nsocket.socket(socket.AF_UNIX)\nprint('ESCAPED')", {FAILED}),
    ("abstract unix", "import socket\nsocket.socket(socket.AF_UNIX).bind('\\0x')\nprint('ESCAPED')", {FAILED}),
    ("netlink", "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)\nprint('ESCAPED')", {FAILED}),
    ("raw", "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW)\nprint('ESCAPED')", {FAILED}),
    ("packet", "import socket\nsocket.socket(socket.AF_PACKET)\nprint('ESCAPED')", {FAILED}),
    ("vsock", "import socket\nsocket.socket(40)\nprint('ESCAPED')", {FAILED}),
    (
        "a pair of sockets leads nowhere",
        "import socket\na, b = socket.socketpair(type=socket.SOCK_DGRAM)\na.sendto(b'x', '\\0x')\nprint('ESCAPED')",
        {FAILED},
    ),
]

KERNEL = [
    ("new user namespace", f"{_C}print('ESCAPED' if libc.unshare(0x10000000) == 0 else 'refused')", {OK}),
    ("new mount namespace", f"{_C}print('ESCAPED' if libc.unshare(0x20000) == 0 else 'refused')", {OK}),
    ("setns", _syscall(308, 0, 0), {OK}),
    ("setuid", "import os\nos.setuid(0)\nprint('ESCAPED')", {FAILED}),
    ("capabilities", _syscall(126, "b'\\x22\\x05\\x08\\x20\\0\\0\\0\\0'", "b'\\xff' * 24"), {OK}),
    ("bpf", _syscall(321, 0, 0, 0), {OK}),
    ("io_uring", _syscall(425, 8, "ctypes.create_string_buffer(120)"), {OK}),
    ("keys", _syscall(250, 0, -3, 1), {OK}),
    ("add_key", _syscall(248, "b'user'", "b'x'", "b'y'", 1, -3), {OK}),
    ("userfaultfd", _syscall(323, 1), {OK}),
    ("perf", _syscall(298, "ctypes.create_string_buffer(128)", 0, -1, -1, 0), {OK}),
    ("personality", _syscall(135, "0x0400000"), {OK}),
    ("seccomp", _syscall(317, 0, 0, 0), {OK}),
    ("shared memory of System V", _syscall(29, 0, 4096, "0o1600"), {OK}),
    ("messages", _syscall(240, "b'x'", "0o102", "0o600", 0), {OK}),
    ("inotify", _syscall(294, 0), {OK}),
    ("kernel log", _syscall(103, 2, "ctypes.create_string_buffer(99)", 99), {OK}),
    ("reboot", _syscall(169, "0xfee1dead", 672274793, 0), {OK}),
    ("host name", "import socket\nsocket.sethostname('x')\nprint('ESCAPED')", {FAILED}),
    ("the clock", "import time\ntime.clock_settime(0, 0)\nprint('ESCAPED')", {FAILED}),
]

X86_64 = [
    # mov eax, 20 (getpid); int 0x80; movsxd rax, eax; ret
    ("a call of 32 bits", _code("b814000000cd804863c0c3"), {FAILED}),
    # mov eax, 0x40000027 (getpid of x32); syscall; ret
    ("a call of x32", _code("b8270000400f05c3"), {OK}),
]

TEXTS = [
    ("no Python", "this is not python", {FAILED}),
    ("nothing", "", {OK}),
    ("NUL bytes", "print(1)\0print(2)", {FAILED}),
    ("a lone surrogate", "print('\ud800')", {FAILED}),
    ("ten megabytes", "x = 1\n" + "# " + "y" * 10_000_000 + "\nprint(x)", {OK}),
    ("a hundred thousand parentheses", "(" * 100_000 + ")" * 100_000, {FAILED, MEMORY}),
    ("deep unary", "-" * 100_000 + "1", {FAILED, MEMORY, OK}),
    ("an encoding", "# coding: nonsense\nprint(1)", {FAILED}),
    ("invalid UTF-8 on stdout", "import sys\nsys.stdout.buffer.write(b'\\xff\\xfe\\x00')", {OK}),
    ("surrogates on stdout", "print('\\ud800')", {FAILED}),
    ("deep recursion", "def f(): return f()\nf()", {FAILED}),
    (
        "deep recursion in C",
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())",
        {FAILED, MEMORY},
    ),
    ("a null pointer", "import ctypes\nctypes.string_at(0)", {FAILED}),
    ("abort", "import os\nos.abort()", {FAILED}),
    ("killing itself", "import os\nos.kill(os.getpid(), 9)", {FAILED}),
    ("stdout closed", "import sys\nsys.stdout.close()", {OK, FAILED}),
    ("exit with a text", "import sys\nsys.exit('bye')", {FAILED}),
    ("exit with a large number", "import sys\nsys.exit(10**30)", {OK, FAILED}),
    ("a broken hook", "import sys\nsys.excepthook = None\n1 / 0", {FAILED}),
    ("an error that cannot be printed", "class E(Exception):\n    def __str__(self): raise self\nraise E", {FAILED}),
]

HOSTILE = [*PROCESSES, *FLOODS, *CLOCK, *FILES, *JUDGE, *NETWORK, *KERNEL, *TEXTS]
