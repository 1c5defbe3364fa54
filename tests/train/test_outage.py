"""A judge model that is down: RL waits for it, asks again, and learns what it would have learned."""

import hashlib
import json
import socket
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

import mock_endpoint as mock_endpoint_module
from mock_endpoint import mock_endpoint
from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_jsonl
from open_exaone.base.records import Reply
from open_exaone.remote import http
from open_exaone.remote.http import EndpointError
from open_exaone.remote.settings import Endpoint
from open_exaone.rollout import judge_outage
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train import loop
from open_exaone.train.loop import train
from open_exaone.train.saver import Saver
from open_exaone.verify.settings import JudgeSettings
from tiny_stages import Watched, online_rl, same, start

REWARD = {"preference": 1.0, "overlong": 0.1}
STEPS_DOWN = (1, 2, 3)  # counted from 0
PROBE = "Say OK."


class Killed(BaseException):
    """As sudden as SIGKILL."""


class Judge:
    """An endpoint that grades by a hash of the question, and can be taken down and brought up at its address."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.answers_left: int | None = None  # then it drops connections
        self._stack = ExitStack()
        self._port = 0
        self.up()

    def up(self) -> None:
        self.answers_left = None
        self._stack.close()
        server = self._stack.enter_context(mock_endpoint(self._grade, port=self._port))
        self._port, self.url = server.server_address[1], server.url

    def down(self) -> None:
        self._stack.close()

    def _grade(self, question, request):
        if self.answers_left is not None:
            self.answers_left -= 1
            if self.answers_left < 0:
                raise ConnectionError
        self.asked[question] += 1
        return str(hashlib.sha256(question.encode()).digest()[0] % 11)


@pytest.fixture
def judge():
    judge = Judge()
    yield judge
    judge.down()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(judge_outage, "_sleep", lambda seconds: None)
    monkeypatch.setattr(http, "FIRST_WAIT_S", 1e-3)
    monkeypatch.setattr(Tokenizer, "split", lambda self, reply, thinking: Reply("", _text(self, reply)))


def _text(tokenizer, reply):
    return reply if isinstance(reply, str) else tokenizer.decode(list(reply))


class Clock(list):
    """Seconds that were slept, without sleeping, beside those of the real clock."""

    on_sleep = staticmethod(lambda: None)

    def sleep(self, seconds):
        self[0] += seconds
        if self[0] > 1e5:
            pytest.fail("it waits without end")
        self.on_sleep()

    def now(self):
        return time.monotonic() + self[0]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock([0.0])
    monkeypatch.setattr(judge_outage, "_sleep", clock.sleep)
    monkeypatch.setattr(judge_outage, "_clock_s", clock.now)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=clock.now))
    return clock


def run(folder, judge, before_judging=lambda step: None, num_steps=5, **endpoint):
    """Trains; returns the weights, the rows of metrics and the steps that were sampled."""
    folder.mkdir(exist_ok=True)
    model, optimizer = start()
    fields = {"base_url": judge.url, "model": "m", "timeout_s": 5.0, "max_attempts": 1, **endpoint}
    objective = online_rl(model, folder, reward=REWARD, num_steps=num_steps)
    objective = replace(objective, settings=JudgeSettings(endpoint=Endpoint(**fields)))
    sampled = []

    def after(requests):
        sampled.append(requests[0].sampling.seed - objective.seed)
        before_judging(sampled[-1])

    objective = replace(objective, provider=Watched(objective.provider, after=after))
    rows = []
    with suppress(Killed):
        train(model, optimizer, objective, folder, rows.append)
    return optimizer.masters, rows, sampled


@pytest.mark.parametrize("is_midway", [False, True])
def test_an_outage_changes_no_weight(is_midway, judge, tmp_path, monkeypatch, caplog):
    def fall(step):
        if step in STEPS_DOWN:
            judge.down() if not is_midway else setattr(judge, "answers_left", 5)

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) % 3 == 0:
            judge.up()

    wanted, rows, _ = run(tmp_path / "up", judge)
    asked, judge.asked, pauses = judge.asked, Counter(), []
    monkeypatch.setattr(judge_outage, "_sleep", sleep)
    masters, others, sampled = run(tmp_path / "down", judge, fall)
    assert same(masters, wanted) and sampled == list(range(5))
    assert sum(row["gradient_norm"] > 0 for row in rows) == 5  # else every run would end as it began
    assert [row["reward_mean"] for row in others] == [row["reward_mean"] for row in rows]
    assert pauses == [2.0, 4.0, 8.0] * 3 and judge.asked.pop(PROBE) == 3
    assert judge.asked == asked  # nothing is asked twice
    assert caplog.text.count("waiting for the judge model") == 3
    for name in ("up", "down"):
        found = read_jsonl(tmp_path / name / "rollouts" / "step-000003.jsonl")
        assert all(isinstance(row["terms"]["preference"], float) for row in found)


def test_killed_while_it_waits_it_samples_and_asks_for_nothing_again(judge, tmp_path, monkeypatch):
    def kill(seconds):
        raise Killed

    wanted, _, _ = run(tmp_path / "up", judge)
    asked, judge.asked = judge.asked, Counter()
    monkeypatch.setattr(judge_outage, "_sleep", kill)
    fall = {2: lambda: setattr(judge, "answers_left", 7)}
    _, rows, before = run(tmp_path / "down", judge, lambda step: fall.get(step, int)())
    assert before == [0, 1, 2] and len(rows) == 2
    saved = read_jsonl(tmp_path / "down" / "rollouts" / "step-000003.jsonl")
    assert sum(row["terms"].get("preference") is not None for row in saved) == 7
    assert all((row["reward"] is None) == (row["terms"].get("preference") is None) for row in saved)
    assert all(row["ids"] and len(row["ids"]) == len(row["logprobs"]) for row in saved)
    judge.up()
    masters, _, after = run(tmp_path / "down", judge)
    assert same(masters, wanted) and after == [3, 4] and judge.asked == asked


@pytest.mark.parametrize("wait_s", [0.0, 1e6])
def test_one_that_stays_down_stops_the_stage_with_all_saved(wait_s, judge, tmp_path, monkeypatch):
    wanted, _, _ = run(tmp_path / "up", judge)
    clock = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr(judge_outage, "_clock_s", lambda: next(clock))
    with pytest.raises(
        EndpointError, match=r"has judged nothing for .* s \(max_wait_s\): .*; the samples are saved"
    ) as stopped:
        run(tmp_path / "down", judge, lambda step: judge.down() if step == 2 else None, max_wait_s=wait_s)
    assert str(stopped.value).count("\n") == 0
    assert [path.name for path in (tmp_path / "down" / "checkpoints").iterdir()] == ["step-000002"]
    other = Judge()  # at another address
    masters, _, sampled = run(tmp_path / "down", other)
    other.down()
    assert same(masters, wanted) and sampled == [3, 4]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_not_waited_for(status, judge, tmp_path, monkeypatch):
    url = judge.url if status != 404 else judge.url.replace("/v1", "/v2")
    if status != 404:
        monkeypatch.setattr("mock_endpoint._fault", lambda *_: 0)
        handler = mock_endpoint_module._Handler
        monkeypatch.setattr(handler, "_fail", lambda self, fault: handler._send(self, status, {}))
    monkeypatch.setattr(judge_outage, "_sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(EndpointError, match=rf"refuses: .*answers {status}.*; the samples are saved"):
        run(tmp_path, judge, base_url=url)
    rows = read_jsonl(tmp_path / "rollouts" / "step-000001.jsonl")
    assert all(row["reward"] is None and row["terms"].get("preference") is None for row in rows)


def test_one_question_that_it_always_fails_is_given_up_and_masked(judge, tmp_path, monkeypatch):
    """The endpoint answers all others, so that it is not down."""
    grade, failed = judge._grade, []

    def but_one(question, request):
        failed.append(question) if not failed and question != PROBE else None
        if question in failed:
            raise ConnectionError
        return grade(question, request)

    judge._grade = but_one
    judge.up()
    _, rows, _ = run(tmp_path, judge, num_steps=1)
    found = read_jsonl(tmp_path / "rollouts" / "step-000001.jsonl")
    missing = [row["terms"]["preference"]["missing"] for row in found if row["reward"] is None]
    assert len(missing) == rows[0]["masked_rollouts"] == rows[0]["missing_preference"] >= 1
    assert all("no answer" in text for text in missing)
    assert rows[0]["missing_overlong"] == 0 and rows[0]["gradient_norm"] > 0


def test_one_that_answers_nonsense_teaches_nothing_and_the_cause_is_named(judge, tmp_path, monkeypatch, caplog):
    judge._grade = lambda question, request: "Well, hard to tell."
    judge.up()
    masters, rows, _ = run(tmp_path, judge, num_steps=5)
    assert same(masters, start()[1].masters)
    assert [row["empty_steps"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(row["masked_rollouts"] == 16 and row["reward_mean"] is None for row in rows)
    json.dumps(rows, allow_nan=False)
    assert "16 of 16 samples could not be rewarded" in caplog.text and "m gave no grade" in caplog.text


def test_a_question_that_takes_it_down_each_time_is_not_waited_for_without_end(judge, tmp_path, clock):
    """The first look after it fails, and the second is answered: neither down for long, nor one that answers others."""
    grade, killers, looks_to_fail = judge._grade, [], []

    def falls(question, request):
        killers.append(question) if not killers and question != PROBE else None
        if question in killers:
            looks_to_fail[:] = [PROBE]
            raise ConnectionError
        if question in looks_to_fail:
            looks_to_fail.clear()
            raise ConnectionError
        return grade(question, request)

    judge._grade = falls
    judge.up()
    with pytest.raises(EndpointError, match=r"has judged nothing for \d+ s \(max_wait_s\)"):
        run(tmp_path, judge, num_steps=1, max_wait_s=3000.0)
    assert 3000 <= clock[0] < 3400


def test_a_wait_is_logged_again_and_counts_neither_as_work_nor_as_training(judge, tmp_path, clock, monkeypatch, caplog):
    acts = []
    monkeypatch.setattr(Saver, "warn_of_slow_stop", lambda self, longest_act_s: acts.append(longest_act_s))
    clock.on_sleep = lambda: judge.up() if clock[0] > 36_000 else None
    _, rows, _ = run(tmp_path, judge, lambda step: judge.down() if step == 2 else None)
    assert clock[0] > 36_000 and 58 <= caplog.text.count("waiting for the judge model: ") <= 61
    assert max(acts) < 18_000 and rows[-1]["seconds"] < 18_000 and rows[2]["seconds_left"] < 18_000


def test_a_host_name_that_was_never_found_is_not_waited_for(judge, tmp_path, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(judge_outage, "_sleep", lambda seconds: pytest.fail("it waits"))
    with pytest.raises(EndpointError, match=r"refuses: http://judge\.example/v1: .*not known.*; the samples are saved"):
        run(tmp_path, judge, base_url="http://judge.example/v1")


@pytest.mark.parametrize("error", [ConfigError("JUDGE_KEY is not set"), TimeoutError("late"), KeyboardInterrupt("now")])
def test_what_goes_wrong_in_looking_is_raised_where_it_is_waited(error, monkeypatch):
    def fails(endpoint):
        raise error

    monkeypatch.setattr(judge_outage, "find_outage", fails)
    with pytest.raises(type(error), match=str(error)):
        judge_outage._look(Endpoint(base_url="http://localhost", model="m"))


def test_ctrl_c_ends_the_wait(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(interrupt, "_requested", True)
    with pytest.raises(interrupt.Interrupted):
        judge_outage._sleep(1000.0)
