"""One logger for the whole package; the command line decides where its lines go."""

import logging
from typing import Any

from open_exaone.base.printable import printable

logger = logging.getLogger("open_exaone")
_make = logging.getLogRecordFactory()


class _Record(logging.LogRecord):
    """A record that is safe to print, whatever it quotes and wherever it goes."""

    def getMessage(self) -> str:
        """The message, without what could steer a terminal."""
        try:
            text = super().getMessage()
        except (TypeError, ValueError, KeyError) as error:  # a fault of the call's: it ends nothing
            text = f"{self.msg} {self.args} ({error})"
        return printable(text)


def _make_record(name: str, *args: Any, **options: Any) -> logging.LogRecord:
    if str(name).partition(".")[0] != logger.name:
        return _make(name, *args, **options)
    record = _Record(name, *args, **options)
    if record.exc_info:
        record.exc_text = printable(logging.Formatter().formatException(record.exc_info))
    return record


logging.setLogRecordFactory(_make_record)  # a filter of `logger` would not see its children's records
