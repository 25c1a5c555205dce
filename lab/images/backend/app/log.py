"""Log lines as structlog writes them: one JSON object a line, on standard error, with credentials blanked."""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

_CREDENTIALS = re.compile(r"((?:mongodb(?:\+srv)?|https?)://[^:/@\s]+:)[^@\s]+(@)", re.IGNORECASE)


class Log:
    """A logger that takes fields as keyword arguments."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        """Log at DEBUG."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log at INFO."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log at WARNING."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exception: BaseException | None = None, **fields: Any) -> None:
        """Log at ERROR, with the exception's traceback when one is given."""
        if exception is not None:
            fields["exception"] = logging.Formatter().formatException(
                (type(exception), exception, exception.__traceback__)
            )
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            line = {
                **fields,
                "event": event,
                "logger": self._logger.name,
                "level": logging.getLevelName(level).lower(),
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            }
            self._logger.log(level, "%s", _CREDENTIALS.sub(r"\1***\2", json.dumps(line, default=str)))


def set_up_log(level: str) -> Log:
    """Send every library's log to standard error from a level on, as the real program does.

    Args:
        level: LOG_LEVEL of the settings. At DEBUG the Mongo and Kafka clients write megabytes a minute.

    Returns:
        The program's own logger.
    """
    logging.basicConfig(format="%(message)s", handlers=[logging.StreamHandler()])
    logging.getLogger().setLevel(level)
    return log


log = Log("integr8scode")
