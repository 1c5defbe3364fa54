"""How threads wait for each other is set before torch is there, unless the user has said how."""

import os

import pytest

from open_exaone.base.machine import has_own_threads, prepare_process

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
