"""What a run came to: the contract's object, and the same in a sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass

from nodes import logs


@dataclass(frozen=True, slots=True)
class Summary:
    app: str
    nodes: int
    seconds: float  # without start-up
    records_in: int
    records_keyed: int
    records_out: int
    keys: int
    failed: int
    first_failure: str

    @property
    def rate(self) -> int:
        """Keyed records a second."""
        return round(self.records_keyed / self.seconds) if self.seconds > 0 else 0

    def as_json(self) -> str:
        """The object of `mesh run --json`, on one line."""
        names = ("app", "nodes", "seconds", "records_in", "records_keyed", "records_out", "keys", "rate")
        return json.dumps({name: getattr(self, name) for name in names})

    def sentence(self) -> str:
        nodes = "one process" if self.nodes == 1 else f"{self.nodes} nodes"
        return (
            f"{self.app} on {nodes}: {self.records_in:,} records in, {self.records_keyed:,} keyed, "
            f"{self.records_out:,} out, {self.keys:,} keys, in {self.seconds:.2f} s ({self.rate:,} keyed records/s)"
        )

    def failure(self) -> str:
        """A sentence if records had to be set aside, else nothing."""
        if not self.failed:
            return ""
        return f"{self.failed:,} records could not be used and were set aside; the first: {self.first_failure}"


def tell_summary(summary: Summary) -> None:
    """In the log."""
    log = logs.logger()
    log.info("run.done", detail=summary.sentence())
    if summary.failed:
        log.error("run.failed", detail=summary.failure())
