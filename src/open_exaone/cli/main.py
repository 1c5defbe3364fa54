"""`exaone`: the commands, and how each of them ends. A command loads what is heavy only when it runs."""

import sys

from cyclopts import App, CycloptsError

from open_exaone.base.errors import ConfigError, OpenExaoneError
from open_exaone.base.interrupt import Interrupted
from open_exaone.base.machine import prepare_process
from open_exaone.base.output import guard_output, memory_error, say_error
from open_exaone.cli.card import card
from open_exaone.cli.chat import chat
from open_exaone.cli.convert import convert
from open_exaone.cli.data_build import build
from open_exaone.cli.data_check import check
from open_exaone.cli.data_decontaminate import decontaminate
from open_exaone.cli.data_filter import filter_
from open_exaone.cli.data_stats import stats
from open_exaone.cli.doctor import doctor
from open_exaone.cli.eval import eval_
from open_exaone.cli.fetch import fetch
from open_exaone.cli.help import OneParagraph, misuse
from open_exaone.cli.judge import judge
from open_exaone.cli.leaderboard import leaderboard
from open_exaone.cli.models import models
from open_exaone.cli.plan import plan
from open_exaone.cli.run import run
from open_exaone.cli.serve import serve
from open_exaone.cli.suites import suites
from open_exaone.cli.train import train
from open_exaone.cli.verify_real import verify_real
from open_exaone.cli.watch import watch

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
COMMANDS = (
    run,
    watch,
    train,
    plan,
    suites,
    fetch,
    verify_real,
    judge,
    chat,
    serve,
    convert,
    card,
    leaderboard,
    models,
    doctor,
)

app = App(
    name="exaone",
    help="Train a language model to reason, measure it, and talk to it.",
    help_format="plaintext",
    help_formatter=OneParagraph(),
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `_run` says what was saved
)
data = App(name="data", help="Build, check, measure, clean and filter training data.", help_format="plaintext")
for command in COMMANDS:
    app.command(command)
app.command(eval_, name="eval")
app.command(data)
for preparation in (build, check, stats, decontaminate):
    data.command(preparation)
data.command(filter_, name="filter")


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 misused, 130 interrupted."""
    guard_output()
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        prepare_process()
        result = command(*bound.args, **bound.kwargs)
        return result if isinstance(result, int) else DONE
    except CycloptsError as error:
        say_error(misuse(error))
        return MISUSED
    except ConfigError as error:
        say_error(error)
        return MISUSED
    except OpenExaoneError as error:
        say_error(error)
        return FAILED
    except Interrupted:
        say_error("interrupted; what was done so far is saved. Run the same command again to resume.")
        return INTERRUPTED
    except KeyboardInterrupt:
        say_error("interrupted. What was saved before is kept.")
        return INTERRUPTED
    except PermissionError as error:
        if error.filename is None:
            raise
        say_error(f"{error.filename}: permission is denied: let this user read it, or run as one who may")
        return FAILED
    except BrokenPipeError:
        sys.stdout = None  # whoever read the output has left
        return FAILED
    except Exception as error:
        if (why := memory_error(error)) is None:
            raise
        say_error(why)
        return FAILED
