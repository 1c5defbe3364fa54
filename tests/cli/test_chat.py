"""`exaone chat`: a conversation with a finished run."""

import io
import sys


def test_chat_works_on_a_finished_run(cli, finished_run, monkeypatch):
    folder, _ = finished_run
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who is the tallest?\n/think off\n1\n/quit\nnever read\n"))
    code, text = cli("chat", folder, "--device", "cpu")
    assert code == 0
    assert "thinking is off" in text
