"""One logger for the whole package; the command line decides where its lines go."""

import logging

logger = logging.getLogger("open_exaone")
