"""A template that came with a checkpoint may be hostile: whatever it does ends soon, in an error that names it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.text import template_process
from open_exaone.text.template_process import TemplateProcess, request

SOURCE = Path(template_process.__file__).parents[2]
PATH = Path("model/chat_template.jinja")
needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
VARIABLES = {"messages": [{"role": "user", "content": "Q"}]}


def make_process(source: str) -> TemplateProcess:
    return TemplateProcess({"default": source}, {"default": PATH})


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "takes longer than 1 second",
        ),
        ("{{ 9 ** (9 ** 9) % 7 }}", "takes longer than 1 second"),
        ("{{ lipsum(n=100000000) }}", "takes longer than 1 second|more memory"),
        ("{{ 'a' * 10 ** 10 }}", "more memory"),
        ("{{ [0] * 10 ** 10 }}", "more memory"),
        ("{{ '%1000000000d' % 5 }}", "more memory|longer than 1 second"),
        ("{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}", "prints more than 8,000,000 characters"),
        ("{{ 'a' * 9000000 }}", "prints more than 8,000,000 characters"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recurses too deeply"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recurses too deeply"),
        ("{{ 1 / 0 }}", "fails on this conversation: ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", "'__class__' of 'str' object is unsafe"),
        ("{{ cycler.__init__.__globals__.os.system('id') }}", "'__init__' of 'type' object is unsafe"),
        ("{{ messages.append(1) }}", "'append' of 'list' object is unsafe"),
        ("{{ '{0.__class__.__mro__}'.format(1) }}", "'__class__' of 'int' object is unsafe"),
        ("{{ namespace(__class__=1) }}", "'__class__'"),
        ("{% set n = namespace() %}{% set n.__class__ = 1 %}", "'__class__'"),
        ("{% include '/etc/passwd' %}", "fails on this conversation"),
        ("{{ no.such.thing }}", "fails on this conversation: UndefinedError: 'no' is undefined"),
        ("{% for %}", "line 1: "),
        ("{% generation %}", "line 1: "),
    ],
)
def test_a_hostile_template_ends_in_an_error(source: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process, "TIMEOUT_S", 1.0)
    process = make_process(source)
    for _ in range(2):  # the second time in a process of its own, where the first was ended
        start = time.perf_counter()
        with pytest.raises((CheckpointError, DataError), match=f"^model/chat_template.jinja: .*({why})"):
            process.render("default", VARIABLES)
        assert time.perf_counter() - start < 60


def test_one_bad_conversation_does_not_spoil_the_next() -> None:
    process = make_process("{{ 'a' * messages[0].times }}{% if messages[0].times > 3 %}{{ 1 / 0 }}{% endif %}")
    for times in (3, 4, 10**10, 2):
        variables = {"messages": [{"times": times}]}
        if times > 3:
            with pytest.raises((CheckpointError, DataError)):
                process.render("default", variables)
        else:
            assert process.render("default", variables) == "a" * times


def test_each_of_many_conversations_has_its_own_answer_whichever_ends_the_process() -> None:
    process = make_process("{{ 'a' * messages[0].times }}{% if messages[0].times == 7 %}{{ 1 / 0 }}{% endif %}")
    times = [*range(1, 40), 10**10, *range(40, 60), 9_000_000, 7]
    asked = [request("default", {"messages": [{"times": number}]}) for number in times]
    for found, number in zip(process.render_all(asked), times, strict=True):
        if number in (7, 9_000_000, 10**10):
            why = {7: "fails on this conversation: Zero", 9_000_000: "too long", 10**10: "needs more memory"}[number]
            assert isinstance(found, DataError) and why in str(found)
        else:
            assert not isinstance(found, DataError) and found["text"] == "a" * number


def test_a_template_that_exceeds_limits_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of a thousand conversations would take hours; a few slow ones among many are the conversations' own."""
    monkeypatch.setattr(template_process, "TIMEOUT_S", 0.1)
    loop = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
    process = make_process("{% if messages[0].slow %}" + loop + "{% endif %}ok")

    def asked(*slow: bool) -> list[dict[str, Any]]:
        return [request("default", {"messages": [{"slow": each}]}) for each in slow]

    found = process.render_all(asked(*[False] * 20, True, *[False] * 400, True))
    slow = [place for place, reply in enumerate(found) if isinstance(reply, DataError)]
    assert slow == [20, 421] and "takes longer than 0.1 seconds" in str(found[20])
    with pytest.raises(CheckpointError, match=r"cannot be used: on 5 conversations it takes longer than 0\.1 seconds"):
        process.render_all(asked(*[True] * 1000))


def test_however_many_conversations_were_rendered_few_may_exceed_limits() -> None:
    """A hundredth of a million would take a day, at ten seconds each."""
    process = make_process("ok")
    process._num_rendered = 1_000_000
    exhausted = {"error": "memory", "message": "it needs more memory"}
    for _ in range(template_process.MAX_EXHAUSTED):
        process._check_exhausted("default", exhausted)
    with pytest.raises(CheckpointError, match="on 31 conversations it needs more memory"):
        process._check_exhausted("default", exhausted)


def test_a_process_that_is_killed_amid_a_batch_loses_no_answer() -> None:
    loop = "{% for i in range(messages[0].loops) %}{% for j in range(999) %}{% endfor %}{% endfor %}"
    process = make_process(loop + "{{ messages[0].loops }}")
    process.render("default", {"messages": [{"loops": 0}]})
    asked = [request("default", {"messages": [{"loops": number}]}) for number in range(300)]
    started = process._process
    assert started is not None
    threading.Timer(0.2, started.kill).start()
    replies = [found if isinstance(found, DataError) else found["text"] for found in process.render_all(asked)]
    assert replies == [str(number) for number in range(300)]


def test_a_date_is_the_one_that_was_given() -> None:
    now = datetime(2024, 2, 29, 23, 59)
    process = TemplateProcess({"default": "{{ strftime_now('%d %b %Y %H:%M') }}"}, {"default": PATH}, now)
    assert process.render("default", {}) == "29 Feb 2024 23:59"


def test_the_process_is_started_late_and_once() -> None:
    process = make_process("{{ messages[0].content }}")
    assert process._process is None
    assert process.render("default", VARIABLES) == "Q"
    started = process._process
    assert started is not None
    assert process.render("default", VARIABLES) == "Q"
    assert process._process is started
    del process
    assert started.returncode is not None  # it ended with its owner


def test_a_process_that_was_killed_is_replaced() -> None:
    process = make_process("{{ messages[0].content }}")
    process.render("default", VARIABLES)
    killed = process._process
    assert killed is not None
    killed.send_signal(signal.SIGINT)  # Ctrl-C reaches it too, and is ignored
    assert process.render("default", VARIABLES) == "Q"
    assert process._process is killed
    killed.kill()
    killed.wait()
    assert process.render("default", VARIABLES) == "Q"


def test_a_template_may_take_its_processor_time_however_long_that_is_by_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a busy machine: stopped for longer than its limit, it goes on."""
    monkeypatch.setattr(template_process, "TIMEOUT_S", 0.5)
    process = make_process("{{ messages[0].content }}")
    process.render("default", VARIABLES)
    started = process._process
    assert started is not None
    started.send_signal(signal.SIGSTOP)
    threading.Timer(1.5, started.send_signal, [signal.SIGCONT]).start()
    assert process.render("default", VARIABLES) == "Q"
    assert process._process is started


def test_a_process_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process, "TIMEOUT_S", 0.1)
    process = make_process("{{ messages[0].content }}")
    process.render("default", VARIABLES)
    assert process._process is not None
    process._process.send_signal(signal.SIGSTOP)
    with pytest.raises(DataError, match="does not end within 1 seconds by the clock"):
        process.render("default", VARIABLES)
    assert process.render("default", VARIABLES) == "Q"


@needs_proc
@pytest.mark.parametrize(
    "source", ["idle", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"]
)
def test_it_never_outlives_its_parent(source: str) -> None:
    """Not even where the parent is killed while the template loops."""
    code = f"""
import threading, time
from pathlib import Path
from open_exaone.text import template_process
template_process.TIMEOUT_S = 2.0
process = template_process.TemplateProcess({{"default": {source!r}}}, {{"default": Path("x")}})
threading.Thread(target=process.render, args=("default", {{}}), daemon=True).start()
while process._process is None:
    time.sleep(0.01)
time.sleep(0.5)
print(process._process.pid, flush=True)
time.sleep(100)
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 200
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@needs_proc
def test_it_sees_no_secrets_and_writes_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    process = make_process("x")
    process.render("default", {})
    assert process._process is not None
    environment = Path(f"/proc/{process._process.pid}/environ").read_bytes()
    assert b"secret" not in environment
    limits = Path(f"/proc/{process._process.pid}/limits").read_text()
    for name, limit in (("Max address space", template_process.MEMORY_BYTES), ("Max file size", 0)):
        [line] = [line for line in limits.splitlines() if line.startswith(name)]
        assert line.removeprefix(name).split()[0] == str(limit)


def test_a_fork_starts_a_process_of_its_own() -> None:
    process = make_process("{{ messages[0].content }}")
    process.render("default", VARIABLES)
    started = process._process
    child = os.fork()
    if child == 0:  # the answer is the exit code; no test may go on here
        code = 1
        try:
            has_own = process.render("default", VARIABLES) == "Q" and process._process is not started
            code = 0 if has_own else 1
            process._stop()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert process.render("default", VARIABLES) == "Q"
    assert process._process is started


def test_a_fork_while_another_thread_renders_does_not_wait_for_it() -> None:
    loop = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
    process = make_process("{% if slow %}" + loop + "{% endif %}ok")
    process.render("default", {})

    def render_slowly() -> None:
        with contextlib.suppress(DataError):
            process.render("default", {"slow": True})

    thread = threading.Thread(target=render_slowly)
    thread.start()
    time.sleep(0.3)
    child = os.fork()
    if child == 0:
        signal.alarm(200)  # it would hang for ever
        code = 1
        try:
            code = 0 if process.render("default", {}) == "ok" else 1
            process._stop()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    started = process._process
    assert started is not None
    started.kill()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0
