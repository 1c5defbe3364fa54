"""`exaone`, but that rank 0 is the last to write its part of a state; test_split_run.py starts it in its place."""

import os
import time

from open_exaone.cli.main import main
from open_exaone.train import saver

if os.environ.get("RANK") == "0":
    real = saver.write_state

    def write_state(*arguments):
        time.sleep(1)
        return real(*arguments)

    saver.write_state = write_state
main()
