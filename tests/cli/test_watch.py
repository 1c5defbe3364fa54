"""`exaone watch` as a user starts it: its page in a browser while the run goes on, and who may open it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import chromium
from chromium import Chromium
from made_up_run import make_run
from open_exaone.base.files import locked

HOSTILE = '<img src=x onerror="document.title=1">'


def metrics_row(step: int) -> dict[str, Any]:
    return {"step": step, "num_steps": 3, "seconds_left": None, "reward_mean": step / 3, "tokens_per_second": 900.0}


def rollout(step: int, verdict: str) -> str:
    texts = {"question": "1 + 1?", "task": "sums", "language": "en", "answer": HOSTILE, "gold": "2", "why": "no"}
    thought = rf"thought {step}: \(\frac{{1}}{{{step}}}\)"
    row = {**texts, "problem": "p", "thought": thought, "verdict": verdict, "terms": {}, "reward": 1.0}
    return json.dumps(row) + "\n"


def add_step(run: Path, step: int) -> None:
    """What a run leaves of a step of RL."""
    stage = run / "02-rl"
    (stage / "rollouts").mkdir(parents=True, exist_ok=True)
    text = rollout(step, "correct") + rollout(step, "wrong")
    (stage / "rollouts" / f"step-{step:06d}.jsonl").write_text(text)
    with open(stage / "metrics.jsonl", "a") as file:
        file.write(json.dumps(metrics_row(step)) + "\n")


@contextmanager
def watching(run: Path) -> Iterator[int]:
    """The port of the page."""
    process = subprocess.Popen(
        [sys.executable, "-m", "open_exaone", "watch", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", first)
        assert found, first + process.stdout.read()
        yield int(found[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        assert "Traceback" not in process.stdout.read()
    finally:
        process.kill()
        process.communicate(timeout=60)


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"host": f"127.0.0.1:{port}", **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_only_this_machine_reads_the_page_and_no_path_names_a_file(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with watching(run) as port:
        assert ask(port, "/")[0] == ask(port, "/", host="localhost")[0] == ask(port, "/?stage=1")[0] == 200
        assert ask(port, "/", "HEAD") == (200, "")
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "[", "10.0.0.1"):
            assert ask(port, "/", host=host)[0] == 403
        status, script = ask(port, "/formulas.js")
        assert status == 200 and "drawFormulas" in script
        others = ("/02-rl/eval/report.json", "/recipe.toml", "/../run/recipe.toml", "/%2e%2e/x", "//", "/report.html/")
        for path in (*others, "/report.html"):
            assert ask(port, path)[0] == 404
        assert ask(port, "/", "POST")[0] == ask(port, "/", "DELETE")[0] == 405
        for stage in ("9", "0", "-1", "x", "%00", "1" * 5000, "%C2%B2"):
            assert ask(port, f"/?stage={stage}")[0] in (200, 400)
        (run / "report.html").write_text("<!doctype html><title>the report</title>")
        assert ask(port, "/report.html") == (200, "<!doctype html><title>the report</title>")
        (run / "02-rl" / "eval" / "against.html").write_text("flips")
        assert ask(port, "/02-rl/eval/against.html") == (200, "flips")


@pytest.mark.skipif(chromium.PATH is None, reason=chromium.MISSING)
def test_the_page_follows_the_run_and_keeps_an_open_thought(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Chromium() as browser, watching(run) as port:  # it is stopped while the page is open
        browser.look(400, 900)
        browser.visit(f"http://127.0.0.1:{port}/")
        browser.wait("document.body.textContent.includes('There is no run in')")
        make_run(run, stages=1)
        with locked(run / ".lock", "busy"):
            browser.wait("document.title === 'mine: running'")
            for step in (1, 2):
                add_step(run, step)
            browser.wait("document.querySelector('.at-hand')?.textContent.includes('2 of 3')")
            browser.wait("document.querySelector('#rollouts h2')?.textContent.includes('step 2')")
            assert browser.evaluate("document.querySelectorAll('#curves svg').length") == 2
            assert browser.evaluate("document.querySelector('#scores tbody').textContent").count("41.7%") == 1
            browser.evaluate("document.querySelector('#rollouts details').open = true")
            browser.wait("document.querySelectorAll('#rollouts .thought.formulas mfrac').length === 1")
            browser.evaluate("document.querySelector('#rollouts').scrollIntoView()")
            top = browser.evaluate("document.querySelector('#rollouts').getBoundingClientRect().top")
            browser.evaluate("document.querySelectorAll('.stages a')[1].focus({ preventScroll: true })")
            add_step(run, 3)
            browser.wait("document.querySelector('.at-hand')?.textContent.includes('3 of 3')")
            assert abs(browser.evaluate("document.querySelector('#rollouts').getBoundingClientRect().top") - top) < 2
            assert browser.evaluate("document.activeElement.textContent") == "rl"
            assert "step 2" in browser.evaluate("document.querySelector('#rollouts h2').textContent")
            browser.evaluate("document.querySelector('#rollouts details').open = false")
            (run / "log.jsonl").write_text('{"level": "warning", "text": "the disk is slow"}\n')
            browser.wait("document.querySelector('#rollouts h2').textContent.includes('step 3')")
            browser.wait("document.querySelector('#log').textContent.includes('the disk is slow')")
        make_run(tmp_path / "whole")
        os.rename(tmp_path / "whole" / "02-rl" / "model", run / "02-rl" / "model")
        os.rename(tmp_path / "whole" / "02-rl" / "eval", run / "02-rl" / "eval")
        (run / "report.html").write_text("<!doctype html><title>the report</title>")
        browser.wait("document.title === 'mine: done' && document.querySelector('a[href=\"report.html\"]')")
        assert browser.evaluate("document.querySelectorAll('#rollouts img').length") == 0
        assert browser.evaluate("document.documentElement.scrollWidth") <= 400
        said = [event for event in browser.events if event.get("method") == "Runtime.consoleAPICalled"]
        thrown = [event for event in browser.events if event.get("method") == "Runtime.exceptionThrown"]
        assert not said and not thrown
        browser.evaluate("document.querySelector('a[href=\"report.html\"]').click()")
        browser.wait("document.title === 'the report'")


def test_one_screen_in_the_terminal(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", stages=1)
    for step in (1, 2):
        add_step(run, step)
    command = [sys.executable, "-m", "open_exaone", "watch", str(run), "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) < 24
    for text in ("not running", "step 2 of 3", "training", "reward mean 0.667", "36.2–47.4", "41.7%"):
        assert text in done.stdout
    command[-2] = str(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "holds several runs; watch one of them: run" in done.stderr
