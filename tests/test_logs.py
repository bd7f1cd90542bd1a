"""Logs: JSON lines for machines, readable lines on a terminal, the same events in both."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from nodes import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers = handlers
    structlog.reset_defaults()


def test_json_lines_keep_event_names_and_fields() -> None:
    out = io.StringIO()
    logs.configure(out)
    logs.logger(node="alpha").info("node.listening", name="alpha", listen="tcp://127.0.0.1:1", http="")
    logs.logger().warning("odd", value={1, 2}.__class__, text="ä\ud800\n")
    first, second = [json.loads(line) for line in out.getvalue().splitlines()]
    assert list(first) == ["timestamp", "level", "node", "event", "name", "listen", "http"]
    assert (first["event"], first["level"], first["name"]) == ("node.listening", "info", "alpha")
    assert (second["event"], second["level"], second["text"]) == ("odd", "warning", "ä\ud800\n")


def test_a_terminal_shows_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    logs.configure(out)
    logs.logger(node="alpha").error("node.refused", detail="the port is in use")
    logs.logger(node="b").info("app.done", name="b", keys=3, first_failure="", members=["b", "c"])
    first, second = [line[9:] for line in out.getvalue().splitlines()]  # after the time of day
    assert first == "alpha    node.refused: the port is in use"
    assert second == "b        app.done keys=3 members=b,c"


def test_no_colour_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    plain, coloured = Terminal(), Terminal()
    logs.configure(plain)
    logs.logger().error("a.b")
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    logs.configure(coloured)
    logs.logger().error("a.b")
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[31ma.b" in coloured.getvalue()


def test_exceptions_stay_on_their_line() -> None:
    out = io.StringIO()
    logs.configure(out)
    try:
        raise ValueError("inside")
    except ValueError as error:
        logs.logger().error("http.failed", exc_info=error)
    (line,) = out.getvalue().splitlines()
    assert "ValueError: inside" in json.loads(line)["exception"]


def test_warnings_of_libraries_are_told_in_the_same_form() -> None:
    out = io.StringIO()
    logs.configure(out)
    logging.getLogger("some.library").warning("careful: %s", 3)
    logging.getLogger("some.library").info("not this")
    logging.getLogger("uvicorn.error").warning("nor what a peer can cause")
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["message"] == "careful: 3"


@pytest.mark.parametrize("line", ["", "Traceback", "{", "{}", '{"event": 3}', "[1]", '{"a": 1} x'])
def test_what_is_no_log_line(line: str) -> None:
    assert logs.parse_line(line) is None


def test_a_log_line_of_a_child_is_shown_as_ones_own() -> None:
    fields = logs.parse_line(
        '{"timestamp": "2024-01-01T10:11:12.5Z", "level": "info", "node": "a", "event": "node.ready"}'
    )
    assert fields is not None
    assert json.loads(logs.Renderer(readable=False)(None, "info", dict(fields))) == fields
    shown = logs.Renderer(readable=True)(None, "info", dict(fields))
    assert shown == "10:11:12 a        node.ready"


def test_a_value_does_not_steer_the_terminal() -> None:
    shown = logs.Renderer(readable=True)(None, "info", {"event": "a.b", "value": "x\x1b[2J\n", "detail": "\r\x07ä"})
    assert shown.strip() == r"a.b value=x\x1b[2J\n: \r\x07ä"
