"""Jobs that ranks share: every chunk goes to one of them, rows come back in order, and nobody waits for ever.

The ranks are threads that meet at a store, as processes do.
"""

import json
import threading
import time

import pytest
from torch._C._distributed_c10d import PrefixStore, TCPStore

from open_exaone.base.errors import ConfigError, RankError
from open_exaone.base.interrupt import Interrupted
from open_exaone.train.parallel.jobs import JobOver
from open_exaone.train.parallel.ranks import Ranks
from open_exaone.train.parallel.world import ALONE

LIMIT_S = 60.0


def meet(size, timeout_s=600.0):
    """So many ranks of one process."""
    first = TCPStore("127.0.0.1", 0, size, is_master=True, wait_for_workers=False)
    stores = [first, *(TCPStore("127.0.0.1", first.port, size, wait_for_workers=False) for _ in range(size - 1))]
    return [Ranks(rank, size, PrefixStore("world", store), timeout_s) for rank, store in enumerate(stores)]


def together(acts):
    """What each of these gives, or the error that it ends with; all at once."""
    found = [None] * len(acts)

    def do(place):
        try:
            found[place] = acts[place]()
        except (Exception, Interrupted) as error:
            found[place] = error

    threads = [threading.Thread(target=do, args=(place,), daemon=True) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not any(thread.is_alive() for thread in threads)
    return found


def doubled(job):
    """Sends each chunk's number twice as large, until none is left."""
    number = 0
    while (chunk := job.take()) is not None:
        job.send([{"from": chunk["number"], "value": 2 * chunk["number"] * job.head["factor"]}])
        number += 1
    return number


def shared(world, number, rows, own):
    """The first rank's part of a job of so many chunks: what the others' `serve` gave."""
    job = world.share({"factor": 10}, [{"number": place} for place in range(number)], rows.append)
    while (place := job.take()) is not None:
        own.append(place)
        job.receive()
        time.sleep(0.002)
    return job.finish()


@pytest.mark.parametrize("size", [2, 3])
def test_every_chunk_goes_to_one_rank_and_its_rows_come_back(size):
    rows, own = [], []

    def act():
        return [shared(ranks[0], number, rows, own) for number in (40, 0, 40)]

    ranks = meet(size)
    found, *others = together(
        [lambda: ranks[0].lead(act)] + [lambda one=one: one.lead(act, doubled) for one in ranks[1:]]
    )
    assert others == [found] * (size - 1)
    assert sum(map(sum, found)) == len(rows) > 0 and len(own) > 0
    assert sorted([row["from"] for row in rows] + own) == sorted([*range(40), *range(40)])
    assert all(row["value"] == 20 * row["from"] for row in rows)


def test_a_world_of_one_leads_without_a_job():
    assert ALONE.lead(lambda: 3, doubled) == ALONE.first(lambda: 3, doubled) == 3


@pytest.mark.parametrize(
    ("error", "first", "second"),
    [
        (ConfigError("no such model"), "RankError: rank 1: no such model", "ConfigError: no such model"),
        (Interrupted(), "Interrupted: ", "Interrupted: "),
    ],
)
def test_a_failure_of_another_rank_ends_the_job_and_what_comes_after(error, first, second):
    def serve(job):
        job.send([{"from": -1}])
        raise error

    rows, (one, two) = [], meet(2)
    found = together([lambda: one.lead(lambda: shared(one, 5, rows, [])), lambda: two.lead(lambda: 0, serve)])
    assert [f"{type(each).__name__}: {each}" for each in found] == [first, second]
    assert rows == [{"from": -1}]  # what was done before is there
    again = together([lambda: one.lead(lambda: 0), lambda: two.lead(lambda: 0)])
    assert [f"{type(each).__name__}: {each}" for each in again] == [first, second]


def test_a_rank_that_is_interrupted_while_it_waits_ends_the_next_job(monkeypatch):
    one, two = meet(2)
    monkeypatch.setattr(two, "_waited_for", lambda key: (_ for _ in ()).throw(Interrupted))
    found = together([lambda: one.lead(lambda: shared(one, 5, [], [])), lambda: two.lead(lambda: 0, doubled)])
    assert [type(each) for each in found] == [Interrupted, Interrupted]


def test_a_job_that_the_first_rank_ends_is_over_for_the_others(monkeypatch):
    monkeypatch.setattr("open_exaone.train.parallel.jobs.BEAT_S", 0.01)
    ends, has_begun, (one, two) = [], threading.Event(), meet(2)

    def act():
        one.share({}, [{"number": 0}], [].append)
        assert has_begun.wait(LIMIT_S)
        raise ConfigError("the disk is full")

    def serve(job):
        has_begun.set()
        try:
            for _ in range(int(LIMIT_S / 0.01)):
                job.check()
                time.sleep(0.01)
        except JobOver:
            ends.append("over")
            raise
        return None

    first, second = together([lambda: one.lead(act), lambda: two.lead(act, serve)])
    assert (str(first), str(second)) == ("the disk is full", "rank 0: the disk is full")
    assert ends == ["over"]


def test_a_rank_that_gives_no_sign_of_life_is_named_and_one_that_does_is_waited_for(monkeypatch):
    """It may work for much longer than it may be silent."""
    monkeypatch.setattr("open_exaone.train.parallel.jobs.BEAT_S", 0.05)
    one, two = meet(2, timeout_s=2.0)

    def slow(job):
        time.sleep(4.0)
        return doubled(job)

    found = together([lambda: one.lead(lambda: shared(one, 5, [], [])), lambda: two.lead(lambda: 0, slow)])
    assert found == [[0], [0]]
    one, _ = meet(2, timeout_s=0.3)
    [error] = together([lambda: one.lead(lambda: shared(one, 5, [], []))])
    assert isinstance(error, RankError)
    assert "rank 1 has not responded for parallel.step_timeout_s = 0.3" in str(error)


def test_what_goes_between_ranks_is_json():
    one, two = meet(2)
    seen = []

    def serve(job):
        seen.append(json.dumps(job.head))
        return None

    head = {"text": "가\ud800", "none": None, "numbers": [1, 2.5]}
    together([lambda: one.lead(lambda: one.share(head, [], seen.append).finish()), lambda: two.lead(lambda: 0, serve)])
    assert [json.loads(text) for text in seen] == [head]
