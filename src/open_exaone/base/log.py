"""One logger for the whole package; the command line decides where its lines go."""

import logging

from open_exaone.base.printable import printable


class _Printable(logging.Filter):
    """Makes each record's text safe to print, whatever it quotes and wherever it goes."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = printable(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(arg if isinstance(arg, int | float) else printable(arg) for arg in record.args)
        if record.exc_info and not record.exc_text:
            record.exc_text = printable(logging.Formatter().formatException(record.exc_info))
        return True


logger = logging.getLogger("open_exaone")
logger.addFilter(_Printable())
