"""Mistakes of an author, each with the place in the author's own file, told all together.

The builder never raises where a mistake is made: one wrong line would hide the next. It notes the mistake and goes on,
and `App.check` and every way to run an app tell them all.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType

_OWN_FRAMES = str(Path(__file__).parents[1] / "_").removesuffix("_")  # .../mesh/
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
LONGEST_NAME = 64  # names stand in every envelope, in URLs and in file names


@dataclass(frozen=True, slots=True, order=True)
class Place:
    file: str
    line: int
    column: int  # from 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = Place("<unknown>", 1, 1)


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    file: str
    line: int  # from 1; 0: the whole file
    column: int  # from 1; 0: the whole line
    text: str

    def __str__(self) -> str:
        place = [self.file] + [str(number) for number in (self.line, self.column) if number]
        return f"{':'.join(place)}: {self.text}"


def mistake_at(place: Place, text: str) -> Mistake:
    return Mistake(place.file, place.line, place.column, text)


class AppError(Exception):
    """Everything that is wrong with an app, one line a mistake."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = sorted(set(mistakes))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def here() -> Place:
    """Where the author called into the library."""
    frame: FrameType | None = sys._getframe(1)
    called = ""
    while frame is not None and frame.f_code.co_filename.startswith(_OWN_FRAMES):
        called = frame.f_code.co_name
        frame = frame.f_back
    return NOWHERE if frame is None else _place_of_call(frame, called)


def _place_of_call(frame: FrameType, called: str) -> Place:
    """The column of the called name. A call's own position starts where its whole chain of calls starts, so look for
    the widest expression that starts there too and is not the call: that is the chain up to the called name."""
    positions = list(islice(frame.f_code.co_positions(), frame.f_lasti // 2 + 1))
    line, end_line, column, end_column = positions[-1]
    if line is None or column is None or end_column is None:  # python -X no_debug_ranges
        return Place(frame.f_code.co_filename, line or frame.f_lineno, 1)
    within = [
        end
        for start_line, stop_line, start, end in positions
        if (start_line, start) == (line, column) and end is not None and stop_line is not None
        if (stop_line, end) < (end_line or line, end_column) and stop_line == line
    ]
    if within and max(within) - len(called) > column and not called.startswith("_"):
        column = max(within) - len(called)
    return Place(frame.f_code.co_filename, line, column + 1)


def wrong_name(what: str, name: object) -> str | None:
    """Names end up in URLs, file names and on the wire."""
    if isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= LONGEST_NAME:
        return None
    return (
        f"{name!r} cannot name {what}: a name has small letters, digits, - and _, "
        f"starts with a letter or a digit, and is at most {LONGEST_NAME} long"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean "x"?)`, or nothing."""
    close = difflib.get_close_matches(name, sorted(known), 1)
    return f' (did you mean "{close[0]}"?)' if close else ""
