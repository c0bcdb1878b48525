"""Logs as JSON lines."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.backends import LOG_MESSAGE


class OperatorLogFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        message = record.getMessage()
        if len(message) > LOG_MESSAGE.value:
            LOG_MESSAGE.record()
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean_text(message, LOG_MESSAGE.value),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(level: str) -> None:
    """Send all logs to standard error; libraries tell only what needs attention."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OperatorLogFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":
        for name in ("kopf", "aiohttp", "asyncio", "kubernetes"):
            logging.getLogger(name).setLevel(logging.WARNING)
