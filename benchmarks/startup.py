"""How long `exaone --help` takes: the median wall time of ten whole processes.

python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time

RUNS = 10
HELP = [sys.executable, "-m", "open_exaone", "--help"]


def main() -> None:
    """Runs the command once to warm the disk cache, then ten times, and prints the times."""
    subprocess.run(HELP, check=True, capture_output=True)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(HELP, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    print(
        f"exaone --help: median {statistics.median(seconds):.3f} s of {RUNS} ({min(seconds):.3f} to {max(seconds):.3f})"
    )


if __name__ == "__main__":
    main()
