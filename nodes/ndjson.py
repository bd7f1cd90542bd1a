"""Lines of JSON, one record each, as producers post them: parsed all or not at all."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import mmh3


class BadLine(Exception):
    """The first line that is no record, from 1, and why."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(detail)
        self.line = line
        self.detail = detail


def parse_lines(body: bytes) -> tuple[list[Any], list[int]]:
    """The values, and a digest of each line. Raises BadLine."""
    lines = body.split(b"\n")
    if not lines[-1]:
        lines.pop()
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(parse_value(line))
        except ValueError as error:
            raise BadLine(number, str(error)) from None
    return values, [mmh3.hash64(line, signed=False)[0] for line in lines]


def parse_value(text: bytes) -> Any:
    """One JSON value. Raises ValueError with a sentence."""
    if not text.strip():
        raise ValueError("an empty line is no record" if not text else "a blank line is no record")
    try:
        value = _decoder.decode(text.decode())
        if b"\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError:
        raise ValueError("a text has a lone surrogate, which is no character") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse)
