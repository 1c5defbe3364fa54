"""`exaone chat`: a conversation with a finished run."""

import io
import sys

import pytest


@pytest.mark.parametrize("options", [(), ("--engine-option", "num_slots=1")])
def test_chat_works_on_a_finished_run(cli, finished_run, monkeypatch, options):
    folder, _ = finished_run
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who is the tallest?\n/think off\n1\n/quit\nnever read\n"))
    code, text = cli("chat", folder, "--device", "cpu", *options)
    assert code == 0
    assert "thinking is off" in text


def test_chat_refuses_an_option_that_the_engine_does_not_have(cli, tmp_path):
    code, text = cli("chat", tmp_path, "--engine-option", "colour=red")
    assert code == 2 and "--engine-option: colour" in text
