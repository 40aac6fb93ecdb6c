"""Writes the agent's own log: an event's name and its fields, one line each, in a file that rotates by size.

It refuses to let a value break a line or to print the API key.
"""

import itertools
import logging
import os
import sys
import time
from pathlib import Path

from reco3.agent.config import LoggingConfig

_LOGGER = logging.getLogger("reco3.agent")
_PLAIN_PUNCTUATION = frozenset("._:/@+-,")


def open_log(config: LoggingConfig, *, secret: str) -> None:
    """Send the events of all `reco3.agent` modules to the configured file, or to standard error.

    Raises: OSError.
    """
    handler = _file_handler(config) if config.file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(secret))
    close_log()
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(config.level)
    _LOGGER.propagate = False


def close_log() -> None:
    """Write out and close what `open_log` opened."""
    for handler in list(_LOGGER.handlers):
        _LOGGER.removeHandler(handler)
        handler.close()


def log_event(event: str, level: int = logging.INFO, **fields: object) -> None:
    """Log one decision."""
    _LOGGER.log(level, "%s", event, extra={"fields": fields})


def log_traceback(event: str, error: Exception, **fields: object) -> None:
    """Log an exception that nobody expected, its traceback in one field."""
    _LOGGER.error("%s", event, exc_info=error, extra={"fields": fields})


def escape(value: object) -> str:
    """Show a value on one line: as it is when it is one plain word, otherwise in quotes with all else escaped."""
    text = str(value)
    if text and all(character.isalnum() or character in _PLAIN_PUNCTUATION for character in text):
        return text
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _file_handler(config: LoggingConfig) -> logging.Handler:
    assert config.file is not None  # noqa: S101 - the caller looked; this tells the type checker
    config.file.parent.mkdir(parents=True, exist_ok=True)
    return _RotatingFile(config.file, max_bytes=int(config.max_size_mb * 1024 * 1024), backup_count=config.backup_count)


class _RotatingFile(logging.FileHandler):
    """A file that becomes FILE.1 before a line would make it too large, the older ones moving up to `backup_count`.

    It stands in for that of `logging.handlers`, which brings half a megabyte of pickling and networking along.
    """

    def __init__(self, path: Path, *, max_bytes: int, backup_count: int) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._max_bytes = max_bytes
        self._backup_count = backup_count

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; like every handler it tells standard error what went wrong, and never its caller."""
        try:
            if self._is_full(len(self.format(record).encode("utf-8", "backslashreplace")) + 1):
                self._rotate()
        except OSError:
            self.handleError(record)
        super().emit(record)

    def _is_full(self, more_bytes: int) -> bool:
        # A pipe or a device has no size to speak of, and nobody could move it away.
        path = Path(self.baseFilename)
        size_bytes = path.stat().st_size if path.is_file() else 0
        return size_bytes > 0 and size_bytes + more_bytes > self._max_bytes

    def _rotate(self) -> None:
        self.acquire()
        try:
            if self.stream is not None:
                self.stream.close()  # Windows renames nothing that is open.
            names = [self.baseFilename, *(f"{self.baseFilename}.{n + 1}" for n in range(self._backup_count))]
            for newer, older in reversed(list(itertools.pairwise(names))):
                if os.path.exists(newer):  # noqa: PTH110 - as `logging` itself, which knows paths as text
                    os.replace(newer, older)  # noqa: PTH105 - likewise
        finally:
            self.stream = self._open()
            self.release()


class _LineFormatter(logging.Formatter):
    def __init__(self, secret: str) -> None:
        super().__init__()
        self._secret = secret

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = getattr(record, "fields", {})
        message = self._redacted(record.getMessage())
        parts = [_timestamp(record), record.levelname, message if message.isprintable() else escape(message)]
        parts += [f"{name}={escape(self._redacted(value))}" for name, value in fields.items()]
        if record.exc_info:
            parts.append(f"traceback={escape(self._redacted(self.formatException(record.exc_info)))}")
        return " ".join(parts)

    def _redacted(self, value: object) -> str:
        return str(value).replace(self._secret, "***")


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
