"""Calls in processes that may be killed."""

import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from open_exaone.base.machine import num_cores
from open_exaone.sandbox import client, workers
from open_exaone.sandbox.programs import server
from open_exaone.sandbox.workers import CallResult, call, warm

CALLED = str(Path(__file__).with_name("called.py"))
MEMORY = 1 << 29

needs_confinement = pytest.mark.skipif(
    not server().greeting()["is_confined"], reason="workers cannot be confined on this machine"
)


def act(do: str, value: Any = None, *, time_limit_s: float = 5.0) -> CallResult:
    """Has a worker with the user's rights do something."""
    argument = {"do": do, "value": value}
    return call(f"{CALLED}:act", argument, time_limit_s=time_limit_s, memory_bytes=MEMORY, confined=False)


@pytest.mark.parametrize("value", [None, 1.5, "가나다", "\ud800", [1, {"a": []}], "x" * 3_000_000])
def test_values_come_back(value: Any) -> None:
    assert act("echo", value) == CallResult("ok", value, "")


def test_a_worker_is_kept() -> None:
    warm(f"{CALLED}:act", memory_bytes=MEMORY, confined=False)
    assert act("pid").value == act("pid").value != os.getpid()
    assert act("calls").value == "preloaded"


def test_a_worker_is_replaced_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_CALLS", 3)
    assert 3 <= len({act("pid").value for _ in range(10)}) <= 5


@pytest.mark.parametrize(
    ("do", "value", "status", "why"),
    [
        ("loop", None, "timeout", "longer than 0.2 seconds of processor time"),
        ("sleep", 9, "clock", "within 2 seconds by the clock, 10 times its 0.2 seconds of processor time"),
        ("memory", None, "memory", "memory"),
        ("exit", None, "failed", "ended by itself .exit code 3."),
        ("crash", None, "failed", "ended by itself .signal 11."),
        ("coroutine", None, "failed", "^It returned a coroutine, and not what JSON can hold.$"),
        ("raise", 7, "failed", "called.py, line .*: IndexError: list index out of range"),
        ("object", None, "failed", "^It returned an object, and not what JSON can hold.$"),
        ("many", 70_000_000, "failed", "TooLongError"),
        ("deep", 100_000, "failed", "RecursionError"),
    ],
)
def test_what_goes_wrong_is_told_and_passes(do: str, value: Any, status: str, why: str) -> None:
    result = act(do, value, time_limit_s=0.2 if status in ("timeout", "clock") else 10.0)
    assert result.status == status and result.value is None
    assert result.why.endswith(".")
    assert re.search(why, result.why), result.why
    assert act("echo", 1).value == 1


def test_what_is_nearly_json_comes_back_as_json() -> None:
    assert act("numpy").value == [0.5, 3, True]
    assert act("generator").value == [0, 1, 4]


def test_warm_says_what_keeps_a_function_from_starting(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    for place, why in (
        (CALLED, "has no function"),
        (f"{tmp_path}/broken.py", "no_such_module"),
        ("none.py", "no file"),
    ):
        assert why in warm(f"{place}:score", memory_bytes=MEMORY, confined=False)
    assert warm(f"{CALLED}:act", memory_bytes=MEMORY, confined=False) == ""


def test_an_edited_file_leaves_nothing(tmp_path: Path, descendants: Callable[[int], set[int]]) -> None:
    path = tmp_path / "mine.py"
    limits: dict[str, Any] = {"time_limit_s": 5, "memory_bytes": MEMORY, "confined": False}
    for number in range(6):
        path.write_text(f"def score(x):\n    return {number}  {'#' * number}\n")
        assert call(f"{path}:score", 1, **limits).value == number
        if number == 0:
            before = len(descendants(os.getpid())), len(client._SERVERS), len(client._FORGETFUL)
    after = len(descendants(os.getpid())), len(client._SERVERS), len(client._FORGETFUL)
    assert after == before


def test_a_call_under_way_outlives_an_edit(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    limits: dict[str, Any] = {"time_limit_s": 20, "memory_bytes": MEMORY, "confined": False}
    path.write_text("import time\ndef score(x):\n    return time.sleep(x) or 'old'\n")
    with ThreadPoolExecutor(1) as threads:
        assert warm(f"{path}:score", memory_bytes=MEMORY, confined=False) == ""
        slow = threads.submit(call, f"{path}:score", 5, **limits)
        time.sleep(0.5)
        path.write_text("def score(x):\n    return 'new'\n")
        assert call(f"{path}:score", 1, **limits).value == "new"
        assert slow.result().value in ("old", "new")


def test_a_file_is_found_from_the_folder_that_is_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"def score(x):\n    return {name!r}\n")
        os.utime(tmp_path / name / "mine.py", (1, 1))
    for name in ("one", "two", "one"):
        monkeypatch.chdir(tmp_path / name)
        assert call("mine.py:score", 1, time_limit_s=5, memory_bytes=MEMORY, confined=False).value == name


def test_an_interpreter_that_may_not_be_run_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path))
    result = call("math:factorial", 7, time_limit_s=5, memory_bytes=MEMORY - 1, confined=False)
    assert result.status == "failed" and "PermissionError" in result.why


@needs_confinement
def test_a_confined_worker_imports_what_the_judge_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late imports work, and one that confinement prevents is told, whatever the function makes of it."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "hidden").mkdir()
    (tmp_path / "packages" / "late_one.py").write_text("VALUE = 7\n")
    (tmp_path / "hidden" / "late_two.py").write_text("VALUE = 8\n")
    (tmp_path / "packages" / "early.py").write_text(
        f"import sys\nsys.path.append({str(tmp_path / 'hidden')!r})\n"
        "def value(name):\n    try:\n        return __import__(name).VALUE\n    except ImportError:\n        return 0\n"
    )
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "late_three.py").write_text("VALUE = 9\n")
    (tmp_path / "packages" / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(str(tmp_path / "packages" / "link"))
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    limits: dict[str, Any] = {"time_limit_s": 5.0, "memory_bytes": MEMORY}
    assert call("early:value", "late_one", **limits) == CallResult("ok", 7, "")
    assert call("early:value", "late_three", **limits) == CallResult("ok", 9, "")
    result = call("early:value", "late_two", **limits)
    assert (result.status, result.why) == ("failed", "In its confinement it cannot import late_two.")


@needs_confinement
def test_a_call_that_returns_as_its_time_ends_is_late_and_the_next_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the server, which ends the worker, would answer for the next call."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for _ in range(5):
        late = call("called:act", {"do": "late"}, time_limit_s=0.02, memory_bytes=MEMORY)
        assert late.status == "timeout"
        assert call("called:act", {"do": "echo", "value": 7}, time_limit_s=5.0, memory_bytes=MEMORY).value == 7


def test_a_users_module_starts_no_threads_that_a_fork_would_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    environment = client.Server(f"{CALLED}:act", confined=False)._environment()
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("1", "3")


@needs_confinement
def test_a_module_that_fails_once_confined_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checked.py").write_text("def preload():\n    open('/etc/passwd')\ndef value(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = call("checked:value", 1, time_limit_s=5.0, memory_bytes=MEMORY)
    assert result.status == "failed" and "checked.py, line 2: " in result.why


def test_a_users_function_has_the_users_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN_EXAONE_TEST", "seen")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper.py").write_text("BASE = 40\n")
    (tmp_path / "my_rewards.py").write_text(
        "import os\nfrom helper import BASE\n\ndef score(x):\n"
        "    return [BASE + x, os.environ['OPEN_EXAONE_TEST'], open('data.txt').read()]\n"
    )
    (tmp_path / "data.txt").write_text("data")
    result = call("my_rewards.py:score", 2, time_limit_s=5, memory_bytes=MEMORY, confined=False)
    assert result == CallResult("ok", [42, "seen", "data"], "")


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ("import os\nx = nothing\n", "score", "broken.py, line 2: NameError: name 'nothing' is not defined"),
        ("def score(x:\n", "score", "broken.py, line 1: SyntaxError"),
        ("import no_such_module\n", "score", "broken.py, line 1: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "score", "broken.py, line 1: SystemExit: 3"),
        ("x = 1\n", "score", "broken.py has no function 'score'"),
        ("score = 1\n", "score", "broken.py has no function 'score'"),
        (None, "score", "there is no file"),
    ],
)
def test_a_users_file_that_cannot_be_used(tmp_path: Path, text: str | None, name: str, why: str) -> None:
    path = tmp_path / "broken.py"
    if text is not None:
        path.write_text(text)
    for _ in range(2):
        result = call(f"{path}:{name}", 1, time_limit_s=5, memory_bytes=MEMORY, confined=False)
        assert result.status == "failed" and why in result.why


def test_a_users_file_may_be_called_as_a_module_is(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def score(x):\n    return x + 1\n")
    result = call(f"{tmp_path}/json.py:score", 1, time_limit_s=5, memory_bytes=MEMORY, confined=False)
    assert result == CallResult("ok", 2, "")


@needs_confinement
def test_a_confined_worker_sees_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN_EXAONE_TEST", "secret")
    limits = {"time_limit_s": 5.0, "memory_bytes": MEMORY}
    assert call("math:factorial", 5, **limits) == CallResult("ok", 120, "")
    assert "secret" not in str(call("os:getenv", "OPEN_EXAONE_TEST", **limits))
    for function, argument in (
        ("os:listdir", "/etc"),
        ("os:listdir", str(tmp_path)),
        ("os:getpgid", 10**9),
        ("os:remove", str(tmp_path)),
        ("socket:gethostbyname", "localhost"),
        ("socket:create_server", ["127.0.0.1", 0]),
    ):
        assert call(function, argument, **limits).status == "failed", function
    assert call("os:system", "true", **limits).value != 0


def test_calls_run_side_by_side_and_waiting_is_free() -> None:
    count = 3 * num_cores()
    start = time.monotonic()
    with ThreadPoolExecutor(count) as threads:
        results = list(threads.map(lambda _: act("sleep", 0.4, time_limit_s=0.9), range(count)))
    seconds = time.monotonic() - start
    assert [result.status for result in results] == ["ok"] * count  # the last of them waited for 0.8 s
    assert seconds > 1.0
    if num_cores() > 1:
        assert seconds < 0.4 * count
