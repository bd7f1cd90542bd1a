"""Logs: to stderr, readable on a terminal, JSON lines otherwise. Events have fixed dotted names, as in `node.ready`.

A parent process that merges the logs of its nodes reads their JSON lines and shows them as it shows its own.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

_DIM, _BOLD = "\x1b[2m", "\x1b[1m"
_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_QUIET_LIBRARIES = ("uvicorn.access", "uvicorn.error")  # peers could fill a log; our own failures we log


def configure(stream: TextIO | None = None, *, level: str = "info") -> None:
    """Called once by each process, before anything is logged."""
    out = stream or cast(TextIO, _CurrentStderr())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            cast(Processor, Renderer(readable=out.isatty(), colours=has_colours(out))),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _take_over_library_logs()


def logger(**bound: Any) -> structlog.typing.FilteringBoundLogger:
    return cast(structlog.typing.FilteringBoundLogger, structlog.get_logger(**bound))


def has_colours(stream: TextIO) -> bool:
    """The convention of no-color.org, and dumb terminals."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _CurrentStderr:
    """Whatever sys.stderr is when a line is written: a progress bar puts itself in between."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()


class Renderer:
    """The last step of a log line: an event's fields become text."""

    def __init__(self, *, readable: bool, colours: bool = False) -> None:
        self._readable = readable
        self._colours = colours

    def __call__(self, log: Any, method: str, fields: EventDict) -> str:
        return self._line(fields) if self._readable else json.dumps(_event_first(fields), default=repr)

    def _line(self, fields: EventDict) -> str:
        """For a person, who knows the day, and reads a sentence as a sentence."""
        level = str(fields.pop("level", "info"))
        node = fields.pop("node", "")
        if fields.get("name") == node:
            fields.pop("name", None)
        time = str(fields.pop("timestamp", ""))[11:19]
        event, detail, trace = fields.pop("event", ""), fields.pop("detail", ""), fields.pop("exception", "")
        words = [
            self._in(_DIM, time),
            *[self._in(_BOLD, f"{node:<8}")] * bool(node),
            self._in(_COLOURS.get(level, ""), event),
        ]
        words += [f"{name}={_short(value)}" for name, value in fields.items() if value not in ("", None)]
        return " ".join(words) + (f": {printable(str(detail))}" if detail else "") + (f"\n{trace}" if trace else "")

    def _in(self, style: str, text: str) -> str:
        return f"{style}{text}\x1b[0m" if self._colours and style else text


def _short(value: object) -> str:
    return printable(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


def printable(text: str) -> str:
    """On one line, and without what would steer the terminal: values may be anybody's."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _event_first(fields: EventDict) -> dict[str, Any]:
    first = {name: fields[name] for name in ("timestamp", "level", "node", "event") if name in fields}
    return {**first, **{name: value for name, value in fields.items() if name not in first}}


def parse_line(line: str) -> dict[str, Any] | None:
    """The fields of another process's JSON log line; None for anything else that it wrote."""
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and isinstance(fields.get("event"), str) else None


class _Forward(logging.Handler):
    """Libraries that use the standard library's logging end up in the same stream."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(logger(), level)(
            "library.log", library=record.name, message=record.getMessage(), exc_info=record.exc_info
        )


def _take_over_library_logs() -> None:
    root = logging.getLogger()
    root.handlers = [_Forward(level=logging.WARNING)]
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL)
