"""What the command line logs, as the table `[logging]` says; a program that embeds oq sets up its own logging."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from oq.cli.rendering import harmless, harmless_json
from oq.config import LoggingSettings


def start_logging(settings: LoggingSettings, packages: Iterable[str]) -> logging.Handler:
    """Log what these packages say, and warnings of all others, until `stop_logging`.

    Raises OSError when the file cannot be written.
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    handler = LineHandler(settings.file)
    handler.setLevel(level)
    handler.setFormatter(JsonLines() if settings.format == "json" else TextLines())
    for package in packages:
        logging.getLogger(package).setLevel(level)
    logging.getLogger().addHandler(handler)
    return handler


def stop_logging(handler: logging.Handler) -> None:
    """Log no more."""
    logging.getLogger().removeHandler(handler)
    handler.close()


class TextLines(logging.Formatter):
    """A line for people; what belongs to it is indented below."""

    def format(self, record: logging.LogRecord) -> str:
        local = datetime.fromtimestamp(record.created, UTC).astimezone()
        first, *more = _told(record)
        lines = "".join(f"\n    {line}" for text in (*more, _exception(record)) for line in text.splitlines())
        return harmless(f"{local:%Y-%m-%d %H:%M:%S}  {record.levelname.lower():8}  {record.name}: {first}{lines}")


class JsonLines(logging.Formatter):
    """A line for programs: one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": "\n".join(_told(record)),
            "process": record.process,
        }
        if exception := _exception(record):
            said["exception"] = exception
        return harmless_json(json.dumps(said, ensure_ascii=False))


class LineHandler(logging.Handler):
    """Writes each record at once and in one piece, so that the lines of several processes do not mix.

    A file that was moved away or deleted, as when logs are rotated, is made anew.
    """

    def __init__(self, file: str | None) -> None:
        """Raise OSError when the file cannot be written; without one, lines go to standard error."""
        super().__init__()
        self._path = None if file is None else Path(os.path.expanduser(file))  # noqa: PTH111  # pathlib's raises without a home
        self._descriptor: int | None = None
        self._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001  # a wrong format in some log call must not hurt what it reports
            self.handleError(record)
            return
        try:
            self._open()
            if self._descriptor is not None:
                data = line.encode(errors="backslashreplace")
                while data:
                    data = data[os.write(self._descriptor, data) :]
                return
        except OSError:  # a full disk, say; better in the wrong place than nowhere
            pass
        try:
            sys.stderr.write(line)
            sys.stderr.flush()
        except (OSError, ValueError):
            pass

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        super().close()

    def _open(self) -> None:
        """Open the file, unless it is open and still the one of this name."""
        if self._path is None:
            return
        if self._descriptor is not None:
            try:
                there = self._path.stat()
            except FileNotFoundError:
                there = None
            ours = os.fstat(self._descriptor)
            if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
            os.close(self._descriptor)
            self._descriptor = None
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _told(record: logging.LogRecord) -> list[str]:
    """The lines of the message, at least one."""
    return record.getMessage().splitlines() or [""]


def _exception(record: logging.LogRecord) -> str:
    """The traceback, if there is one."""
    if record.exc_info and record.exc_info[0] is not None:
        return logging.Formatter().formatException(record.exc_info)
    return record.exc_text or ""
