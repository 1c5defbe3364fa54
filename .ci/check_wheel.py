"""Builds the wheel, installs it into a new environment, and uses it there without a compiler: `make wheel`.

What the wheel holds and says of itself is checked; then, on a PATH that has nothing but the environment's own programs,
`exaone doctor`, a question to the shipped model, and an evaluation of an endpoint that `exaone serve` of the same wheel
opens. Needs nothing but Python and pip; OPEN_EXAONE_BUILD_KERNELS=1 checks the wheel with compiled kernels.
"""

import email
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
HELD = (  # a file of each kind that is no module
    *(
        "py.typed",
        "recipes/nano/exaone-deep.toml",
        "evaluation/suites/nano.toml",
        "models/pebble-0.9m/model.safetensors",
    ),
    *("kernels/decode/decoder.cpp", "serve/web/index.html", "evaluation/report.schema.json"),
)
QUESTION = (
    "Tom buys 9 pens at $17 each. Mia buys 2 cups at $20 each. They pay together with $200. How much change is there?"
)
PROBLEM = {"question": QUESTION, "answer": "7"}
LIMIT_S = 900


def faults_of(wheel: Path) -> Iterator[str]:
    """What is missing in a wheel, or wrong in what it says of itself."""
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        said = email.message_from_bytes(opened.read(metadata))
    yield from (f"{name} is not in it" for name in HELD if f"open_exaone/{name}" not in names)
    yield from (f"{name} does not belong in it" for name in names if not name.startswith("open_exaone"))
    licences = {name.rsplit("/", 1)[1] for name in names if ".dist-info/licenses/" in name}
    checks = {
        "Name": said["Name"] == "open-exaone",
        "Requires-Python": said["Requires-Python"] == ">=3.11",
        "License-Expression": said["License-Expression"] == "Apache-2.0",
        "the licence's files": licences == {"LICENSE", "NOTICE"},
        "Project-URL": len(said.get_all("Project-URL", [])) >= 2,
        "Classifier": {"Typing :: Typed", "Programming Language :: Python :: 3.11"}
        <= set(said.get_all("Classifier", [])),
        "Provides-Extra": {"data", "gguf", "guided", "track", "vllm"} <= set(said.get_all("Provides-Extra", [])),
        "Description-Content-Type": said["Description-Content-Type"] == "text/markdown",
        "torch among Requires-Dist": any(line.startswith("torch") for line in said.get_all("Requires-Dist", [])),
    }
    yield from (f"{what} is wrong in its metadata" for what, is_right in checks.items() if not is_right)


class Installed:
    """A wheel in an environment of its own, used from an empty folder without a compiler."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.folder = folder / "empty"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        self.bin = folder / "venv" / "bin"
        constraints = ("--constraint", str(ROOT / "constraints.txt"))
        subprocess.run([self.bin / "python", *PIP, "install", *constraints, str(wheel)], check=True)
        self.environment = {
            "PATH": str(self.bin),
            "HOME": str(self.folder),
            "COLUMNS": "120",
            **{name: value for name, value in os.environ.items() if name in ("OMP_NUM_THREADS", "LANG", "LC_ALL")},
        }

    def run(self, *arguments: str, asked: str = "") -> str:
        """The standard output of `exaone` with these arguments."""
        done = subprocess.run(
            [self.bin / "exaone", *arguments],
            **{"cwd": self.folder, "env": self.environment, "input": asked, "timeout": LIMIT_S, "text": True},
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"exaone {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def evaluate_an_endpoint(self) -> str:
        """What `exaone eval` prints of an endpoint that the same wheel serves."""
        (self.folder / "problem.jsonl").write_text(json.dumps(PROBLEM) + "\n", encoding="utf-8")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        command = [self.bin / "exaone", "serve", "--port", str(port), "--quiet"]
        server = subprocess.Popen(command, cwd=self.folder, env=self.environment)
        try:
            wait_until_healthy(port, server)
            address = f"http://127.0.0.1:{port}/v1"
            return self.run("eval", address, "--suite", "problem.jsonl", "--samples", "1", "--max-new-tokens", "160")
        finally:
            server.terminate()
            server.wait(60)


def wait_until_healthy(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Returns when the server answers."""
    until = time.monotonic() + LIMIT_S
    while server.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("exaone serve does not answer")


def main() -> None:
    dist = ROOT / "dist"
    subprocess.run([sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", dist, ROOT], check=True)
    wheel = max(dist.glob("open_exaone-*.whl"), key=lambda path: path.stat().st_mtime)
    print(f"built {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
    if faults := list(faults_of(wheel)):
        raise SystemExit("\n".join(faults))
    with tempfile.TemporaryDirectory(prefix="open-exaone-wheel-") as name:
        print("installing it into a new environment (torch is large) ...", flush=True)
        installed = Installed(wheel, Path(name))
        [kernels] = re.findall(r"native kernels: (.+)", installed.run("doctor"))
        print(f"doctor: native kernels: {kernels}", flush=True)
        answer = installed.run("chat", "--temperature", "0", asked=QUESTION).strip()
        print(f"chat: {answer}", flush=True)
        if answer != r"The change is \boxed{7}.":
            raise SystemExit("that is not the shipped model's answer")
        print(installed.evaluate_an_endpoint())
    print("The wheel works without a compiler.")


if __name__ == "__main__":
    main()
