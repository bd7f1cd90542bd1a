"""`mesh run --nodes N`: a job on N nodes of this machine, from start to summary.

The job is done when every node has logged `app.done`, or has left in good order after handing over. Then the summary,
and all nodes are stopped, unless they shall be kept. A node that ends otherwise before that fails the job: what it held
is gone, so the others are stopped too. One that is killed and can be spared is not waited for; what it had counted is
not in the summary.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from nodes.progress import RunProgress
from nodes.summary import Summary, tell_summary
from nodes.upkeep import Upkeep

PROGRESS_SECONDS = 0.5


class Job(Upkeep):
    """One run."""

    def __init__(
        self, topology_file: str, names: Sequence[str], options: Sequence[str], *, app: str, keep: bool, spare: int = 0
    ) -> None:
        super().__init__(topology_file, names, options, spare=spare)
        self.summary: Summary | None = None  # once done
        self.port_taken = False
        self._app = app
        self._names = tuple(names)
        self._keep = keep
        self._done: dict[str, dict[str, Any]] = {}  # name -> fields of its app.done
        self._progress = RunProgress(app)
        self._asked = 0.0
        if sys.stdout.isatty():
            self.fleet.on_output = self._progress.stop  # lines and a bar do not share a screen

    def run(self) -> int:
        with self._progress:
            return super().run()

    def heard(self, name: str, fields: dict[str, Any]) -> None:
        super().heard(name, fields)
        if fields["event"] == "node.refused" and "listens there already" in str(fields.get("detail")):
            self.port_taken = True
        if fields["event"] == "node.left" and name in self.leavers:
            self._done.setdefault(name, fields)
        if fields["event"] == "app.done":
            self._done.setdefault(name, fields)
        self._finish_if_done()

    def on_spared(self) -> None:
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self.summary is None and self._done and self._done.keys() | self.spared.keys() == {*self._names}:
            self._finish()

    def needs(self, name: str) -> bool:
        return self.summary is None and name not in self.leavers

    def on_loss(self) -> None:
        if self.summary is None:
            self.stop()

    def tick(self) -> None:
        if self.stopping or self.summary is not None or time.monotonic() - self._asked < PROGRESS_SECONDS:
            return
        status = self.ask("v1", "status")
        self._asked = time.monotonic()
        if status is not None:
            totals = [sum(source[name] for source in status["sources"]) for name in ("records", "done", "splits")]
            self._progress.tell(*totals)

    def _finish(self) -> None:
        self._progress.stop()
        self.summary = self._sum()
        tell_summary(self.summary)
        self.code = 1 if self.summary.failed else self.code
        if not self._keep:
            self.stop()

    def _sum(self) -> Summary:
        done = list(self._done.values())

        def total(name: str) -> int:
            return sum(int(fields[name]) for fields in done)

        return Summary(
            app=self._app,
            nodes=len(self._names),
            seconds=max(float(fields["seconds"]) for fields in done),
            records_in=total("records_in"),
            records_keyed=total("records_keyed"),
            records_out=total("records_out"),
            keys=total("keys"),
            failed=total("failed"),
            first_failure=next((str(fields["first_failure"]) for fields in done if fields.get("first_failure")), ""),
        )
