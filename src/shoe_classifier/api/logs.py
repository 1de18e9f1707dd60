"""How the service logs: one line or one JSON object for each event, which no text of a client can forge."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from shoe_classifier.settings import Settings
from shoe_classifier.types import to_iso

_INDENT = "    "  # of all lines that do not begin an event


def log_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`; uvicorn's workers apply it, too.

    Libraries log from `warning` on: at lower levels they write each request, some of them with its keys.
    """
    level = settings.log_level.upper()
    formatter = JsonFormatter if settings.log_format == "json" else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"default": {"()": f"{formatter.__module__}.{formatter.__qualname__}"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "default"}},
        "root": {"handlers": ["stderr"], "level": "ERROR" if level == "ERROR" else "WARNING"},
        "loggers": {"shoe_classifier": {"level": level}, "uvicorn": {"level": level}},
    }


class TextFormatter(logging.Formatter):
    """A line with the time (UTC) and the level; what belongs to it follows on indented lines."""

    def format(self, record: logging.LogRecord) -> str:
        message = _escaped(record.getMessage().strip())
        details = [_INDENT + _escaped(line) for line in _details(self, record).split("\n") if line]
        return "\n".join([f"{_time(record)} {record.levelname:<7} {message}", *details])


class JsonFormatter(logging.Formatter):
    """A JSON object in ASCII: `time` (UTC), `level`, `logger`, `process`, `message` and, if any, `details`."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage().strip(),
        }
        details = _details(self, record)
        return json.dumps({**event, "details": details} if details else event)


def _time(record: logging.LogRecord) -> str:
    return to_iso(datetime.fromtimestamp(record.created, UTC))


def _details(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback of an exception, or the text that the caller gave as `extra={"details": …}`."""
    if record.exc_info:
        return formatter.formatException(record.exc_info)
    return str(getattr(record, "details", ""))


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
