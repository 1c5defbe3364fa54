"""One logger for the whole package; the command line decides where its lines go."""

import logging
from typing import Any

from open_exaone.base.printable import printable

logger = logging.getLogger("open_exaone")
_make = logging.getLogRecordFactory()


def _printable_record(*args: Any, **options: Any) -> logging.LogRecord:
    """A record that is safe to print, whatever it quotes and wherever it goes, if it is this package's."""
    record = _make(*args, **options)
    if str(record.name).partition(".")[0] != logger.name:
        return record
    try:
        text = record.getMessage()
    except (TypeError, ValueError, KeyError) as error:  # a fault of the call's: it ends nothing
        text = f"{record.msg} {record.args} ({error})"
    record.msg, record.args = printable(text), ()
    if record.exc_info and not record.exc_text:
        record.exc_text = printable(logging.Formatter().formatException(record.exc_info))
    return record


logging.setLogRecordFactory(_printable_record)  # a filter of `logger` would not see its children's records
