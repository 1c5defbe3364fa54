"""The pool that judges: batches, errors, outages, and what is left open."""

import threading
from dataclasses import replace

import pytest

from open_exaone.base import interrupt
from open_exaone.base.errors import DataError
from open_exaone.base.records import Generation, Outage, Reply, Sample, StopReason, Verdict, VerdictStatus
from open_exaone.remote.settings import Endpoint
from open_exaone.rollout import judge_outage, judging
from open_exaone.rollout.judge_outage import UNJUDGED, Patience, is_open
from open_exaone.rollout.judging import JUDGED_AT_ONCE, JudgePool

RIGHT = Verdict(VerdictStatus.CORRECT, "4", "Right.")
DOWN = Verdict(VerdictStatus.ERROR, None, "It is down.", Outage.DOWN)
ENDPOINT = Endpoint(base_url="http://localhost", model="m")


def samples(number):
    generation = Generation(Reply("", "4"), StopReason.END, 1, 1, 0)
    return {n: Sample("", "t", f"p/{n}", 0, generation, UNJUDGED) for n in range(number)}


def judge_all(items, judge, is_slow=lambda key: False, endpoint=None, **hooks):
    pool = JudgePool(items, judge, is_slow=is_slow, patience=Patience(endpoint), **hooks)
    try:
        for key in list(items):
            pool.add(key)
        pool.finish()
    finally:
        pool.stop()


def test_what_is_quick_is_judged_in_batches_and_what_is_slow_one_by_one(monkeypatch):
    monkeypatch.setattr(judging, "LONGEST_BATCH_S", 1e9)
    items, batches = samples(1000), []
    judge_all(
        items, lambda key, item: replace(item, verdict=RIGHT), lambda key: key % 10 == 0, on_judged=batches.append
    )
    assert all(item.verdict == RIGHT for item in items.values())
    assert sorted(key for batch in batches for key in batch) == list(range(1000))
    assert sorted(len(batch) for batch in batches) == [1] * 100 + [900 % JUDGED_AT_ONCE] + [JUDGED_AT_ONCE] * 14


def test_an_error_ends_it_with_the_rest_left_open_and_paused_for(monkeypatch):
    monkeypatch.setattr(judging.os, "cpu_count", lambda: 1)
    items, pauses = samples(200), []

    def judge(key, item):
        if key == 5:
            raise DataError("no gold answer")
        return replace(item, verdict=RIGHT)

    with pytest.raises(DataError, match="no gold answer"):
        judge_all(items, judge, on_pause=lambda: pauses.append(sum(map(is_open, items.values()))))
    assert [key for key, item in items.items() if not is_open(item)] == [0, 1, 2, 3, 4]
    assert pauses and pauses[-1] == 195


def test_an_error_that_shows_while_samples_still_arrive_is_paused_for_too(monkeypatch):
    monkeypatch.setattr(judging.os, "cpu_count", lambda: 1)
    items, pauses = samples(20), []

    def judge(key, item):
        if key == 5:
            raise DataError("no gold answer")
        return replace(item, verdict=RIGHT)

    def paused():
        pauses.append(sum(map(is_open, items.values())))

    pool = JudgePool(items, judge, is_slow=lambda key: True, patience=Patience(None), on_pause=paused)
    for key in range(6):
        pool.add(key)
    while pool._done.qsize() < 6:  # the error is there before the next one is added
        pass
    with pytest.raises(DataError, match="no gold answer"):
        pool.add(6)
    pool.stop()
    assert pauses == [15]


def test_an_outage_is_waited_for_and_nothing_is_judged_twice(monkeypatch):
    """Also where the judge model fails one question for good: that one is given up, and the rest is judged."""
    items, asked, is_up = samples(50), [], threading.Event()
    monkeypatch.setattr(judge_outage, "_sleep", lambda seconds: is_up.set())
    monkeypatch.setattr(judge_outage, "find_outage", lambda endpoint: None)

    def judge(key, item):
        asked.append(key)
        return replace(item, verdict=RIGHT if is_up.is_set() and key != 3 else DOWN)

    judge_all(items, judge, endpoint=ENDPOINT)
    assert {key for key, item in items.items() if item.verdict == RIGHT} == set(range(50)) - {3}
    assert items[3].verdict == replace(DOWN, outage=None)
    assert asked.count(3) == judge_outage.MAX_FAILURES
    assert all(asked.count(key) <= 2 for key in range(50) if key != 3)


def test_a_paused_pool_begins_again_while_samples_still_arrive(monkeypatch):
    monkeypatch.setattr(judging, "LONGEST_PAUSE_S", 0.0)
    monkeypatch.setattr(judging, "LONGEST_BATCH_S", 0.0)
    monkeypatch.setattr(judge_outage, "_sleep", lambda seconds: pytest.fail("it waits"))
    items, num_failed = samples(60), []

    def judge(key, item):
        if len(num_failed) < 3:
            num_failed.append(key)
            return replace(item, verdict=DOWN)
        return replace(item, verdict=RIGHT)

    pool = JudgePool(items, judge, is_slow=lambda key: True, patience=Patience(ENDPOINT))
    for key in items:
        pool.add(key)
        pool._drain()
    pool.finish()
    pool.stop()
    assert all(item.verdict == RIGHT for item in items.values())


def test_ctrl_c_is_heeded_while_a_verdict_takes_its_time(monkeypatch):
    begun, ends = threading.Event(), threading.Event()

    def judge(key, item):
        begun.set()
        ends.wait(60)
        return item

    items = samples(1)
    pool = JudgePool(items, judge, is_slow=lambda key: True, patience=Patience(None))
    pool.add(0)
    begun.wait(60)
    monkeypatch.setattr(interrupt, "_requested", True)
    with pytest.raises(interrupt.Interrupted):
        pool.finish()
    ends.set()
    pool.stop()
