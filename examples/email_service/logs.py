"""Structured logs: one JSON object a line on standard error, with the instance id on each.

Modules log as usual, `log.info("mail sent", extra={"job_id": job.id})`; the fields of `extra` become members of the
line. `read_line` is the inverse, for the demonstration and the tests, which wait for such lines.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_OWN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, instance, event, the extra fields, a traceback if any."""

    def __init__(self, instance_id: str) -> None:
        super().__init__()
        self._instance_id = instance_id

    def format(self, record: logging.LogRecord) -> str:
        """One line; values that JSON cannot carry are written as their `str`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "instance": self._instance_id,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _OWN_ATTRIBUTES)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logs(instance_id: str, level: str) -> None:
    """Send everything of this process, libraries included, to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(instance_id))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def read_line(text: str) -> dict[str, Any]:
    """The fields of one log line; empty for a line that is not ours (a traceback of the interpreter, for example)."""
    try:
        line = json.loads(text)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
