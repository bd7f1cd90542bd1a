"""Ctrl-C and SIGTERM: the first asks for an orderly stop, the second ends the process at once with 130."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop_signals(stop: Callable[[], None], at_once: Callable[[], None] | None = None) -> None:
    """`stop` and `at_once` run in the main thread, between two of its bytecodes: they may only set flags and signal."""
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            if at_once is not None:
                at_once()
            os._exit(130)
        asked = True
        stop()

    for each in STOP_SIGNALS:
        signal.signal(each, handle)
