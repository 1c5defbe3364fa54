"""Rows made ready by several processes are what one makes of them, byte for byte, and none outlives its work."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.made_up import PAIR, PROBLEM, TALK, TEXT, THOUGHT, write_rows
from doubles import make_tokenizer
from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.data import workers
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.examples import Parsed
from open_exaone.data.prepare import _small, prepare
from open_exaone.data.rows import Conversation, Example
from open_exaone.data.worker import Chunk
from open_exaone.text.tokenizer import Tokenizer

TOKENIZER = make_tokenizer()
LONG = {"messages": [TALK["messages"][0], {"role": "assistant", "content": "So. " * 40}]}
TWICE = {"messages": THOUGHT["messages"] * 2}
BAD = [b"\xff", {"messages": []}, {"messages": TALK["messages"], "tools": 3}]
ROWS = {
    "sft": [TALK, THOUGHT, {**TALK, "source": "x"}, LONG, TWICE, *BAD],
    "preference": [PAIR, {**PAIR, "rejected": "a" * 90 + "b", "chosen": "a" * 90 + "c"}, {**PAIR, "tags": 1}, *BAD],
    "pretrain": [TEXT, {"text": "How much? " * 30}, {"text": "a"}, {"text": ""}, *BAD],
    "rl": [{**PROBLEM, "level": 3}, {"question": "몇 개?", "answer": "2"}, {**PROBLEM, "id": "a"}, *BAD],
}


@pytest.fixture
def on_cores(monkeypatch):
    """on_cores(3): work is divided from the first row on; returns the processes, as they are started."""
    started = []

    class Spy(workers._Worker):
        def __init__(self):
            self.chunks = 0
            super().__init__()
            started.append(self)

        def ask(self, chunk, tokenizer):
            self.chunks += 1
            return super().ask(chunk, tokenizer)

    def set_cores(number, alone_s=0.0):
        started.clear()
        monkeypatch.setattr(workers, "num_cores", lambda: number)
        monkeypatch.setattr(workers, "ALONE_S", alone_s)
        return started

    monkeypatch.setattr(workers, "_Worker", Spy)
    monkeypatch.setattr("open_exaone.data.examples.CHUNK_ROWS", 7)
    return set_cores


@pytest.fixture
def made(tmp_path):
    """Prepares rows: made(kind, rows, …) -> Prepared."""

    def make(kind, rows, name="out", *, tokenizer=TOKENIZER, on_progress=None, **settings):
        data = DataConfig(sources=(SourceConfig(path=write_rows(tmp_path / "rows.jsonl", rows)),), **settings)
        return prepare(data, tokenizer, tmp_path / name, kind=kind, max_tokens=80, on_progress=on_progress)

    return make


def contents(prepared):
    """Everything in the folder, by the name of the file."""
    return {file.name: file.read_bytes() for file in prepared.folder.iterdir()}


@pytest.mark.parametrize(
    ("kind", "too_long", "template"),
    [
        *(("sft", "drop", False), ("sft", "truncate", True), ("preference", "truncate", False)),
        *(("preference", "drop", True), ("pretrain", "split", False), ("rl", "drop", True)),
    ],
)
def test_any_number_of_processes_writes_the_same_folder(
    made, on_cores, tmp_path, monkeypatch, kind, too_long, template
):
    tokenizer = TOKENIZER
    if template:
        TOKENIZER.save(tmp_path / "model")
        tokenizer = Tokenizer.load(tmp_path / "model", chat_format="template")
    rows = [row for number in range(20) for row in (ROWS[kind] if number % 3 else ROWS[kind][::-1])]
    rows = [row for number, row in enumerate(rows) if isinstance(row, bytes) or "id" not in row or number < 9]
    monkeypatch.setattr("open_exaone.data.prepare.CHUNK_CHARS", 500)
    settings = {"tokenizer": tokenizer, "too_long": too_long, "bad_rows": "drop"}
    on_cores(1)
    alone = contents(made(kind, rows, "alone", **settings))
    for number in (2, 3):
        started = on_cores(number)
        seen = []
        together = made(
            kind, rows, f"with{number}", on_progress=lambda _, rows, seen=seen: seen.append(rows), **settings
        )
        assert contents(together) == alone and seen == sorted(seen) and seen[-1] == len(rows)
        assert len(started) == number and all(one.chunks for one in started)
        assert all(one._process.returncode is not None for one in started)


def test_the_first_bad_row_is_named_whoever_comes_to_it(made, on_cores):
    rows = [TALK] * 40 + [{"messages": []}] + [TALK] * 20 + [b"\xff"] + [TALK] * 40
    errors = []
    for number in (1, 3):
        on_cores(number)
        with pytest.raises(DataError, match="line 41") as caught:
            made("sft", rows)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_an_error_of_the_tokenizer_is_the_same(made, on_cores, tmp_path):
    TOKENIZER.save(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{% if %}")
    tokenizer = Tokenizer.load(tmp_path / "model", chat_format="template")
    errors = []
    for number in (1, 2):
        on_cores(number)
        with pytest.raises(CheckpointError) as caught:
            made("sft", [TALK] * 20, tokenizer=tokenizer)
        errors.append(str(caught.value))
    assert errors[0] == errors[1] and "chat_template.jinja" in errors[0]


def test_a_process_that_is_killed_is_one_sentence(made, on_cores, tmp_path):
    started = on_cores(2)

    def kill(*_):
        for one in started:
            one._process.send_signal(signal.SIGKILL)

    with pytest.raises(
        DataError, match="a process that prepared rows was killed, .*memory.*; run the same command again"
    ):
        made("sft", [TALK] * 200, on_progress=kill)
    assert not (tmp_path / "out").exists() and not (tmp_path / ".out.partial").exists()
    assert all(one._process.returncode is not None for one in started)


@pytest.mark.parametrize("how", ["no process", "none that runs", "one alone"])
def test_where_no_process_starts_the_rows_are_prepared_here(made, on_cores, monkeypatch, caplog, how):
    on_cores(1)
    alone = contents(made("sft", [TALK, THOUGHT] * 50, "alone"))
    started = on_cores(3)
    if how == "none that runs":
        monkeypatch.setattr(workers.sys, "executable", "/bin/false")
    else:
        popen, left = subprocess.Popen, [1 if how == "one alone" else 0]

        def limited(command, **options):
            if "open_exaone.data.worker" not in command:
                return popen(command, **options)
            left[0] -= 1
            if left[0] < 0:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return popen(command, **options)

        monkeypatch.setattr(workers.subprocess, "Popen", limited)
    with caplog.at_level("WARNING", "open_exaone"):
        assert contents(made("sft", [TALK, THOUGHT] * 50)) == alone
    assert [record.getMessage()[:43] for record in caplog.records] == ["rows are prepared in fewer processes than t"]
    assert bool(started) == (how != "no process")


def test_processes_start_only_once_there_is_work_for_them(made, on_cores, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(workers.time, "monotonic", lambda: now[0])
    started = on_cores(2, alone_s=1.0)
    made("sft", [TALK] * 70)
    assert not started

    def tick(*_):
        now[0] += 0.3

    made("sft", [TALK] * 70, "later", on_progress=tick)
    assert 0 < sum(one.chunks for one in started) < 6


def test_few_chunks_are_at_hand_at_once_and_they_come_in_order(on_cores):
    on_cores(3)
    taken, seen = [], []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    chunk = Chunk([], SourceConfig(path="a"), "sft", "each", 80, "drop")
    with workers.Workers(TOKENIZER) as few:
        for number, made in few.ahead(items(), lambda _: chunk):
            seen.append(number)
            assert made == [] and len(taken) - len(seen) <= 4
    assert seen == list(range(50))


def test_chunks_of_long_rows_are_cut(monkeypatch):
    monkeypatch.setattr("open_exaone.data.prepare.CHUNK_CHARS", 10)
    rows = [
        Parsed(place, None, Example(Conversation(())), "a" * size) for place, size in enumerate([3, 30, 4, 6, 1, 0])
    ]
    assert [[len(row.text) for row in chunk] for chunk in _small([rows, rows[:1]])] == [[3], [30], [4, 6], [1, 0], [3]]


RUNS = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts jobs in the background without it
import sys, time
from pathlib import Path
from open_exaone.data import workers
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.prepare import prepare
from open_exaone.text.tokenizer import Tokenizer
workers.ALONE_S, workers.num_cores = 0.0, lambda: 2
def goes(*_):
    print("goes", flush=True)
    time.sleep(600)
data, tokenizer = DataConfig(sources=(SourceConfig(path={path!r}),)), Tokenizer.train(["a"], 300)
prepare(data, tokenizer, Path({out!r}), kind="sft", max_tokens=200, on_progress=goes)
"""


def in_session(leader):
    """The processes of a session that have not ended, but for its first."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it ended meanwhile
            continue
        if int(session) == leader and state != "Z" and int(stat.parent.name) != leader:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes as Linux shows them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(tmp_path, number):
    path = write_rows(tmp_path / "rows.jsonl", [TALK, THOUGHT] * 5000)
    script = RUNS.format(path=path, out=str(tmp_path / "out"))
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None and "goes" in process.stdout.readline()
        assert len(in_session(process.pid)) == 2
        if number == signal.SIGINT:  # as a terminal sends it
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait()
    for _ in range(600):
        if not (left := in_session(process.pid)):
            break
        time.sleep(0.1)
    for one in left:
        os.kill(one, signal.SIGKILL)
    assert not left


def test_a_template_that_prints_a_date_prints_the_same_everywhere(made, on_cores, tmp_path):
    TOKENIZER.save(tmp_path / "model")
    template = (tmp_path / "model" / "chat_template.jinja").read_text()
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ strftime_now('%f') }}" + template)
    tokenizer = Tokenizer.load(tmp_path / "model", chat_format="template")
    on_cores(2)
    prepared = made("sft", [TALK] * 40, tokenizer=tokenizer)
    assert len({json.dumps(document.ids.tolist()) for document in prepared.documents}) == 1
    assert prepared.documents[0].ids.tolist() == tokenizer.render(TALK["messages"])
