"""How threads wait for each other is set before torch is there, unless the user has said how."""

import os

import pytest

from open_exaone.base import machine
from open_exaone.base.machine import HeapTrimmer, has_own_threads, num_cores, prepare_process, quota_cores, rss_bytes

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}),
        ({"KMP_BLOCKTIME": "200"}, {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "200"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_how_threads_wait(own, expected, monkeypatch):
    for name in WAITING:
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    prepare_process()
    assert {name: os.environ[name] for name in WAITING if name in os.environ} == expected


def test_who_sets_threads():
    assert has_own_threads({"OMP_NUM_THREADS": "2"}) and has_own_threads({"MKL_NUM_THREADS": "2"})
    assert not has_own_threads({}) and not has_own_threads({"OMP_NUM_THREADS": "", "OMP_WAIT_POLICY": "passive"})


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),  # in a container of version 2
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/../x\n", {"cpu.max": "300000 100000\n"}, 3.0),  # a group beside the one that is seen as the root
        (
            "3:memory:/m\n4:cpu,cpuacct:/docker/x\n0::/\n",  # version 1: the container sees its own group alone
            {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("4:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "1\n"}, None),
        ("nonsense\n", {}, None),
    ],
)
def test_a_quota_of_processor_time_is_found(own, files, expected, tmp_path):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert quota_cores(tmp_path / "cgroup", tmp_path / "own") == expected


@pytest.mark.parametrize(("quota", "expected"), [(None, 64), (0.2, 1), (1.5, 2), (2.0, 2), (100.0, 64)])
def test_cores_are_those_that_the_quota_leaves(quota, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(machine, "quota_cores", lambda: quota)
    assert num_cores() == expected


class Heap:
    """A process whose steps need `needed` bytes, and of which each leaves `leak` more in holes until a trim."""

    def __init__(self, needed: int, leak: int) -> None:
        self.needed, self.leak, self.holes, self.peak, self.trims = needed, leak, 0, 0, 0

    def rss(self) -> int:
        self.holes += self.leak
        self.peak = max(self.peak, self.needed + self.holes)
        return self.needed + self.holes

    def trim(self) -> None:
        self.holes = 0
        self.trims += 1


@pytest.mark.parametrize(("leak", "most", "trims"), [(0, 1000, 0), (10, 1300, 40), (100, 3500, 200)])
def test_holes_in_the_heap_do_not_add_up(leak, most, trims):
    heap = Heap(1000, leak)
    trimmer = HeapTrimmer(heap.rss, heap.trim)
    for _ in range(1000):
        trimmer.after_step()
    assert heap.peak <= most and heap.trims <= trims


def test_memory_that_steps_need_is_left_alone():
    heap = Heap(1000, 0)
    trimmer = HeapTrimmer(heap.rss, heap.trim)
    for step in range(1000):
        heap.needed = 1000 if step < 100 or step % 3 else 2000  # longer documents now and then
        trimmer.after_step()
    assert heap.trims <= 2


def test_what_a_process_holds():
    assert 2**20 < rss_bytes() < 2**40
