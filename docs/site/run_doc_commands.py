"""Runs the commands and the Python of README and docs/ as printed: `make docs-commands`, or this file with page names.

Each line runs in a scratch folder that has a run of the quick recipe under the names that the pages use, files of rows,
recipes, and an endpoint. `RULES` names the lines that are only parsed, and why; tests/test_doc_commands.py parses all.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import doc_commands
import doc_scratch
from doc_commands import ROOT, Block, blocks, lines_of

LIMIT_S = 1200.0
"""Seconds that one line may take; time in which this process is paused does not count."""
QUESTION = (
    "Tom buys 5 eggs at $7 each. Ben buys 7 books at $11 each. They pay together with $200. How much change is there?"
)
RUN, DRY, PARSED = "run", "dry run", "parsed"
RULES: tuple[tuple[str, str, str], ...] = (  # a pattern of a line, how it is checked, why it is not run as printed
    (
        r"^(git clone|make |pip install|source )",
        PARSED,
        "installs the package, as .ci/run and make wheel do, or changes the repository",
    ),
    (r"--dry-run", RUN, ""),
    (r"--seeds", PARSED, "trains five runs, and has no dry run"),
    (r"benchmarks/(curve|story_in_trl|story_plots)\.py", PARSED, "takes hours, or reads what those runs leave"),
    (r"--(ablate|controls)", DRY, "trains several runs, minutes each"),
    (
        r"LGAI-EXAONE/|HuggingFaceTB/|hub:|^exaone fetch math_500|EXAONE-Deep-2.4B-llama",
        PARSED,
        "downloads from the hub",
    ),
    (r"(?<!plan )smollm2-gsm8k|(?=.*--suite \S*\.toml,)", PARSED, "needs SmolLM2 and GSM8K from the hub, and hours"),
    (r"--engine (vllm|http\S+,http)|\bvllm serve\b|vllm_rl\.py", PARSED, "needs vLLM, and mostly a GPU"),
    (r"benchmarks/gpu/(?!.*--device cpu)", PARSED, "needs a GPU"),
    (
        r"math_500|aime_2025|--suite exaone-|csat",
        PARSED,
        "needs a benchmark's rows from the hub or from a transcription",
    ),
    (r"--suite mine.toml", PARSED, "needs a benchmark's rows from the hub"),
    (r"exaone-deep-7.8b --ranks", DRY, "needs a checkpoint from the hub, and eight GPUs"),
    (r"--suite needle", PARSED, "needs a model that reads long texts"),
    (r"^exaone train mine.toml$", PARSED, "needs EXAONE 4.0 1.2B from the hub"),
    (r"nano/exaone-deep(?!.*--quick)|nano/exaone-4.0", DRY, "trains for 5 to 15 minutes or more"),
    (r"^exaone run --set ", DRY, "trains for 5 to 15 minutes"),
)
PYTHON_RULES: tuple[tuple[str, str, str], ...] = (
    (r"LGAI-EXAONE", PARSED, "downloads from the hub"),
    (r"messages, reply|reply_ids|generate\(\[prompt_ids\]|judge\(\"code\", reply", PARSED, "is a part of a program"),
    (r"fetch_benchmark\(", PARSED, "needs a benchmark's rows from the hub or from a transcription"),
    (r"sys\.argv|^class Ipo", PARSED, "is quoted from a file that tests run, or changes the package's own source"),
)


@dataclass
class Result:
    """What became of a line or of a Python block."""

    place: str
    text: str
    how: str
    why: str
    status: int = 0
    seconds: float = 0.0
    output: str = ""


def rule(text: str, rules: tuple[tuple[str, str, str], ...]) -> tuple[str, str]:
    """How a line or a program is checked, and why so."""
    text = re.sub(r" +#.*", "", text)
    return next(((how, why) for pattern, how, why in rules if re.search(pattern, text)), (RUN, ""))


def unused_rules() -> list[str]:
    """The patterns that no line of any page has."""
    every = [block for page in doc_commands.PAGES for block in blocks(page)]
    shown = [line for block in every if block.language in doc_commands.SHELL for line in lines_of(block.text)]
    programs = [block.text for block in every if block.language == "python"]
    return [
        pattern
        for rules, texts in ((RULES, shown), (PYTHON_RULES, programs))
        for pattern, how, why in rules
        if not any(rule(text, rules) == (how, why) for text in texts)
    ]


@dataclass
class Runner:
    """Runs the blocks of pages, one after another, in one scratch folder."""

    folder: Path
    log: IO[str]
    server: subprocess.Popen[str] | None = None
    port: int = field(default_factory=doc_scratch.free_port)

    def page(self, page: Path) -> Iterator[Result]:
        """Every line of a page's shell blocks and every Python block."""
        self._prepare(page)
        try:
            for block in blocks(page):
                if block.language in doc_commands.SHELL:
                    for line in lines_of(block.text):
                        if page.stem in doc_scratch.ALTERNATIVES:
                            self._prepare(page)
                        yield self._line(block, line)
                elif block.language == "python":
                    yield self._python(block)
        finally:
            self._stop_server()

    def _prepare(self, page: Path) -> None:
        doc_scratch.clear(self.folder)
        doc_scratch.write_files(self.folder, page)

    def _line(self, block: Block, line: str) -> Result:
        how, why = rule(line, RULES)
        result = Result(block.place, line.strip(), how, why)
        command = doc_scratch.filled(line, self.port)
        if how == DRY:
            command = re.sub(r" --(?:from|jobs|out) \S+", "", command.partition(" #")[0]) + " --dry-run"
        if how == PARSED or not command.partition("#")[0].strip():
            return result
        if re.match("exaone (serve|watch)(?!.*--once)", command):
            return self._serve(result, command)
        if "localhost:" in command and self.server is None:
            self._start_server(f"exaone serve pebble-0.9m --port {self.port}")
        return self._run(result, ["bash", "-c", f"set -o pipefail; {command}"])

    def _python(self, block: Block) -> Result:
        how, why = rule(block.text, PYTHON_RULES)
        result = Result(block.place, block.text.strip().splitlines()[0], how, why)
        if how == PARSED:
            return result
        return self._run(result, [sys.executable, "-c", doc_scratch.filled(block.text, self.port)])

    def _run(self, result: Result, command: list[str]) -> Result:
        began, asked = time.monotonic(), QUESTION if "exaone chat" in command[-1] else ""
        running = subprocess.Popen(
            command,
            **{
                "cwd": self.folder,
                "env": doc_scratch.environment(self.folder),
                "text": True,
                "start_new_session": True,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            result.output = _output(running, asked)
            result.status = running.returncode
        except subprocess.TimeoutExpired:
            result.status, result.output = 124, f"not done after {LIMIT_S:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError):  # its own group: also what it started
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        result.seconds = time.monotonic() - began
        return result

    def _serve(self, result: Result, command: str) -> Result:
        began = time.monotonic()
        self._stop_server()
        command = re.sub(r" --port \d+", "", command.partition(" #")[0])
        if not self._start_server(f"{command} --port {self.port}", "/health" if "serve" in command else "/"):
            result.status, result.output = 1, "the server did not come up"
        result.seconds = time.monotonic() - began
        return result

    def _start_server(self, command: str, path: str = "/health") -> bool:
        environment = doc_scratch.environment(self.folder)
        self.server = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            **{"cwd": self.folder, "env": environment, "stdout": self.log, "stderr": self.log, "text": True},
        )
        return doc_scratch.is_up(f"http://127.0.0.1:{self.port}{path}", self.server)

    def _stop_server(self) -> None:
        if self.server is not None:
            self.server.terminate()
            try:
                self.server.wait(60)
            except subprocess.TimeoutExpired:  # also where both processes were paused for a minute
                self.server.kill()
                self.server.wait()
            self.server = None


def _output(running: subprocess.Popen[str], asked: str) -> str:
    """What a command prints until it ends; the limit is counted in waits of a second, so a pause costs one of them."""
    question: str | None = asked
    for _ in range(int(LIMIT_S)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return running.communicate(question, timeout=1)[0]
        question = None  # is sent already
    raise subprocess.TimeoutExpired(running.args, LIMIT_S)


def show(result: Result) -> None:
    """One line for a result, and the end of the output where it failed."""
    text = re.sub(r"\s+", " ", result.text.partition(" #")[0])
    took = f"{result.seconds:6.1f} s" if result.how != PARSED else " " * 8
    print(f"{'FAILED' if result.status else result.how:8} {took}  {result.place}  {text[:110]}", flush=True)
    if result.status:
        print(
            "\n".join(f"    {line}" for line in [f"exit {result.status}", *result.output.splitlines()[-15:]]),
            flush=True,
        )


def main() -> int:
    """Runs the pages that the arguments name, or all; 1 where a command failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what it has started, too
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pages", nargs="*", help="pages such as README.md or docs/chat.md; all if left out")
    parser.add_argument("--run", type=Path, help="a finished run of the quick recipe; one is trained if left out")
    parser.add_argument("--out", type=Path, help="a file that also gets the whole output of each command")
    arguments = parser.parse_args()
    pages = [ROOT / name for name in arguments.pages] or [
        page for page in doc_commands.PAGES if ".ko." not in page.name
    ]
    counted: Counter[str] = Counter()
    began = time.monotonic()
    with (
        (arguments.out or Path(os.devnull)).open("w", encoding="utf-8") as log,
        tempfile.TemporaryDirectory(prefix="open-exaone-docs-") as name,
    ):
        folder = Path(name)
        doc_scratch.prepare(folder, arguments.run)
        runner = Runner(folder, log)
        for page in pages:
            for result in runner.page(page):
                show(result)
                log.write(f"== {result.place} {result.text}\n{result.output}\n")
                log.flush()
                counted["failed" if result.status else result.how] += 1
    print(", ".join(f"{number} {how}" for how, number in counted.most_common()), f"in {time.monotonic() - began:.0f} s")
    return 1 if counted["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
