"""How far a run is, on stderr: a bar on a terminal, a log line every two seconds otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from nodes import logs

LINE_SECONDS = 2.0


class RunProgress:
    """A context; `tell` may be called as often as one likes."""

    def __init__(self, app: str, *, bar: bool = True) -> None:
        self._log = logs.logger()
        self._started = self._told = time.monotonic()
        self._bar = _bar() if bar and sys.stderr.isatty() else None
        self._task = self._bar.add_task(app, total=None, records=0, rate=0.0) if self._bar else TaskID(0)

    def __enter__(self) -> RunProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Nothing more is shown."""
        if self._bar:
            self._bar.stop()

    def tell(self, records: int, splits_done: int, splits: int) -> None:
        now = time.monotonic()
        rate = records / max(0.001, now - self._started)
        if records == 0:
            self._started = now  # the nodes are still finding each other
        if self._bar:
            self._bar.update(self._task, completed=splits_done, total=splits or None, records=records, rate=rate / 1e6)
        elif now - self._told >= LINE_SECONDS:
            self._told = now
            self._log.info("run.progress", records=records, rate=round(rate), splits_done=splits_done, splits=splits)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[records]:,} records read, {task.fields[rate]:.2f} M/s"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )
