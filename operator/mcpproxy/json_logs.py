"""JSON log lines of both programs: one object for each record."""

import json
import logging
import time

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.backends import LOG_MESSAGE


class JsonLogFormatter(logging.Formatter):
    """Format a record as one line of JSON, with its exception if it has one."""

    def __init__(self, worker: int | None = None) -> None:
        """`worker` is the number of this process if the program runs several."""
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if len(message) > LOG_MESSAGE.value:
            LOG_MESSAGE.record()
        line = {
            "time": _rfc3339(record),
            "level": record.levelname.lower(),
            **self._worker,
            "logger": record.name,
            "message": clean_text(message, LOG_MESSAGE.value),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _rfc3339(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
