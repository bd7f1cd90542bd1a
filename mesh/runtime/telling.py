"""What a node's operator is told in its log: that it waits, is ready, is not any more; bad input now and then.

    waiting -> a partition is known -> ready (`node.ready`, once) -> not ready -> ready again -> ...

What a node may say of itself changes with its beliefs, with the partition, and with the fence; only then it is looked
at, as it is many slots to look at and this is asked at every pump.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from mesh.core.events import Millis
from mesh.core.messages.members import STAYING
from mesh.core.node import Node
from mesh.runtime import view
from mesh.runtime.config import NodeConfig
from mesh.runtime.moves import MoveWatch
from mesh.runtime.reports import RateLimited

WAITING_MS, WAITING_AGAIN_MS = 2_000, 30_000  # when a node that waits for others says so, and says it again


class Telling:
    """Used under the node's lock."""

    def __init__(self, node: Node, name: str, declared: tuple[NodeConfig, ...], log: Any, now: Millis) -> None:
        self.formed_at: Millis | None = None  # since when a partition is known
        self.moves = MoveWatch()
        self.rejected: Counter[str] = Counter()
        self._node = node
        self._name = name
        self._declared = declared
        self._log = log
        self._limited = RateLimited()
        self._waiting_at = now + WAITING_MS
        self._beliefs_changed = True
        self._seen: tuple[int, bool] = (0, False)  # epoch, fenced
        self._was_ready = False
        self._ever_ready = False

    def reject(self, reason: str, detail: str, now: Millis) -> None:
        self.rejected[reason] += 1
        if self._limited.may_tell(reason, now):
            self._log.warning("peer.rejected", reason=reason, detail=detail, so_far=self.rejected[reason])

    def beliefs_changed(self) -> None:
        self._beliefs_changed = True

    def watch(self, now: Millis) -> None:
        """At every pump."""
        control = self._node.control
        seen = view.epoch(self._node), control.contact.fenced
        if seen == self._seen and not self._beliefs_changed:
            self._waiting(now)
            return
        if control.table is not None:
            self.formed_at = now if self.formed_at is None else self.formed_at
            self.moves.agreed(control.table, control.membership.members)
        self._seen, self._beliefs_changed = seen, False
        self._readiness()

    def _waiting(self, now: Millis) -> None:
        if self.formed_at is None and now >= self._waiting_at:
            self._waiting_at = now + WAITING_AGAIN_MS
            self._log.info("node.waiting", name=self._name, detail=view.awaited(self._node, self._declared))

    def _readiness(self) -> None:
        why_not = view.why_not_ready(self._node)
        if self._was_ready == (not why_not):
            return
        self._was_ready = not why_not
        if self._node.control.membership.me.leaving != STAYING:
            return  # it says what it does
        if why_not:
            self._log.warning("node.not_ready", name=self._name, detail=why_not)
        else:
            event = "node.ready_again" if self._ever_ready else "node.ready"
            self._log.info(event, name=self._name, epoch=view.epoch(self._node))
            self._ever_ready = True

    def counts(self, now: Millis) -> dict[str, Any]:
        """What this node has done since there is a partition."""
        report, formed_at = self._node.data.report(), self.formed_at
        return {
            "name": self._name,
            "seconds": 0.0 if formed_at is None else (now - formed_at) / 1_000,
            "records_in": sum(source.records for source in report.sources),
            "records_keyed": report.records_keyed,
            "records_out": report.records_out,
            "keys": report.keys,
            "failed": report.failed,
            "first_failure": self._node.data.set_aside.first,
        }
