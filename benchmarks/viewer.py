"""report.html of 50,000 samples: how long it takes to write, and how quick it is in headless Chromium.

    python benchmarks/viewer.py [--samples 50000] [--words 400]

Times in the browser are the page's own (its `data-` attributes): `ready` from the
start of loading until the index is read, filtered, drawn and a sample open; a click is measured until two frames later.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import tiny_evaluation
from chromium import Chromium
from open_exaone.present.evaluation import write_evaluation_page

ROUNDS = 5
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def told(browser: Chromium, name: str) -> float:
    return float(browser.evaluate(f"document.documentElement.dataset.{name}"))


def open_page(browser: Chromium, url: str, name: str) -> float:
    browser.visit(url, "document.documentElement?.dataset.ready")
    return told(browser, name)


def timed(browser: Chromium, action: str) -> float:
    """Milliseconds until the page has drawn what an action changed."""
    work = f"const since = performance.now(); {action}; await {FRAMES}; return performance.now() - since"
    ms: float = browser.evaluate(f"(async () => {{ {work} }})()")
    return ms


def longest_task(browser: Chromium, url: str) -> float:
    """The longest time, in ms, that the page was deaf while it searched through every body."""
    browser.visit(url, "document.documentElement?.dataset.ready")
    browser.evaluate(
        "globalThis.longest = 0; globalThis.last = performance.now();"
        "globalThis.beat = setInterval(() => { const now = performance.now();"
        "longest = Math.max(longest, now - last); last = now }, 5);"
        "document.getElementById('in').checked = true;"
        "document.getElementById('in').dispatchEvent(new Event('input', { bubbles: true }));"
        "q.value = 'no such words'; q.dispatchEvent(new Event('input', { bubbles: true }))"
    )
    browser.wait("document.documentElement.dataset.searched && progress.hidden")
    ms: float = browser.evaluate("longest")
    return ms


def show(name: str, values: list[float], unit: str = "ms") -> None:
    print(f"  {name:<52} {statistics.median(values):>8,.0f} {unit}   [{min(values):,.0f} … {max(values):,.0f}]")


def main(num_samples: int, num_words: int) -> None:
    num_problems = max(1, num_samples // (8 * len(tiny_evaluation.TASKS)))
    with tempfile.TemporaryDirectory() as name:
        folder = tiny_evaluation.write(Path(name), num_problems, 8, num_words)
        stored = (folder / "samples.jsonl").stat().st_size
        started = time.perf_counter()
        page = write_evaluation_page(folder)
        seconds = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(f"{num_problems * 8 * len(tiny_evaluation.TASKS):,} samples, {stored / 1e6:.0f} MB of samples.jsonl")
        print(f"  written in {seconds:.1f} s, {memory / 1e6:.0f} MB memory at most")
        print(f"  {page.stat().st_size / 1e6:.1f} MB page")
        url = page.as_uri()
        with Chromium() as browser:
            browser.look(1400, 900)
            show("load until ready", [open_page(browser, url, "ready") for _ in range(ROUNDS)])
            tasks = ["math_500", "", "aime_2025", "", "csat_2025_math"]
            change = "task.value = '{}'; state.task = task.value; filter()"
            show("filter by task", [timed(browser, change.format(task)) for task in tasks])
            order = [
                timed(browser, f"state.sort = '{way}'; filter()") for way in ("longest", "", "shortest", "", "longest")
            ]
            show("order by length", order)
            open_one = [timed(browser, f"await choose({place})") for place in (7, 20_000, 31, 4_000, 123)]
            show("open a sample", open_one)
            bodies = [open_page(browser, f"{url}#q=no+such+words", "searched") for _ in range(ROUNDS)]
            show("search questions, answers, extracted", bodies)
            thoughts = [open_page(browser, f"{url}#q=no+such+words&in=thoughts", "searched") for _ in range(ROUNDS)]
            show("search thoughts as well", thoughts)
            show("longest time deaf during that search", [longest_task(browser, url) for _ in range(ROUNDS)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--words", type=int, default=400, help="the mean length of a thought")
    args = parser.parse_args()
    main(args.samples, args.words)
