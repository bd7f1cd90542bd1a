"""What people and programs ask of a running node, and what operators order, from any thread: what the HTTP door serves.

Reads of the control side are under its lock, and look once. What is asked of the data plane is the worker's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any

from mesh.core.events import Event
from mesh.core.events.operator import AcceptLoss, AskToLeave, Recover
from mesh.core.keys import Key
from mesh.core.leaving import refusal
from mesh.core.lookups import UNAVAILABLE
from mesh.core.messages.members import SUSPECT
from mesh.core.node import Node
from mesh.runtime import giving_up, view
from mesh.runtime.listing import keys_page
from mesh.runtime.status import GivenUp, KeysPage, Metric, Moving, Ownership, Reading, Ring, Status, Waiting
from mesh.runtime.telling import Telling
from mesh.runtime.worker import Worker


class Outside:
    """Of one node. `order` has the control side handle an event; `is_over`: the node ends, and orders nothing more."""

    def __init__(
        self,
        node: Node,
        worker: Worker,
        telling: Telling,
        lock: AbstractContextManager[Any],
        *,
        rejected: Callable[[], Mapping[str, int]],
        order: Callable[[Event], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._node = node
        self._worker = worker
        self._telling = telling
        self._lock = lock
        self._rejected = rejected
        self._order = order
        self._is_over = is_over

    # -- reads, from any thread

    def status(self) -> Status:
        with self._lock:
            return view.status(self._node, self._worker.job_done)

    def why_not_ready(self) -> str:
        with self._lock:
            return view.why_not_ready(self._node)

    def owner(self, key: Key) -> Ownership | None:
        """Raises BadKey."""
        with self._lock:
            return view.owner(self._node, key)

    def ring(self) -> Ring:
        with self._lock:
            control = self._node.control
            moves = self._telling.moves
            moving = moves.now(control.table, control.membership.members) if control.table else Moving(0, 0, ())
            return view.ring(self._node, moving)

    def lookup(self, stage: str, key: Key, timeout: float) -> Reading:
        """Blocks; any key, wherever it lives. Raises BadKey."""
        outcome, state = self._worker.lookup(stage, key, timeout)
        owner = self.owner(key)
        name, term = ("", 0) if owner is None else (owner.owner, owner.term)
        with self._lock:
            why = view.why_unavailable(self._node, key) if outcome == UNAVAILABLE else ""
        return Reading(outcome, state, name, term, why)

    def keys(self, stage: str, limit: int, after: str | None, timeout: float) -> KeysPage:
        """Blocks; of the whole cluster. Raises BadPosition."""
        return keys_page(self._worker, self._node.identity.slots, stage, limit, after, timeout)

    def submit(self, question: Callable[[int], Event], done: Callable[[str, bytes], None]) -> None:
        """Does not block, not even for the lock."""
        self._worker.submit(question, done)

    def metrics(self) -> list[Metric]:
        with self._lock:
            rejected = Counter(self._telling.rejected)
            rejected.update(self._rejected())
            members = self._node.control.membership.members
            backlog = sum(self._node.control.links.backlog(peer) for peer in members)
            return view.metrics(self._node, rejected, backlog)

    # -- requests, from any thread

    def leave(self, name: str) -> str | None:
        """Have a member hand over and go. Why not: unknown | unreachable | last-worker | out-of-touch; or None."""
        with self._lock:
            control = self._node.control
            members = control.membership.members
            if control.contact.fenced or self._is_over():
                return "out-of-touch"
            refused = refusal(control.table, members, name)
            if refused is not None:
                return refused
            for member in [each for each in members.values() if each.name == name and each.status <= SUSPECT]:
                self._order(AskToLeave(member.node))
        return None

    def accept_loss(self) -> int | None:
        """Have all slots that are LOST now start again, empty: how many; None if it cannot be agreed on from here."""
        with self._lock:
            control = self._node.control
            if control.table is None or control.contact.fenced or self._is_over():
                return None
            lost = control.table.counts()["lost"]
            self._order(AcceptLoss())
        return lost

    def what_waits(self) -> tuple[Waiting, ...]:
        """Slots that nobody who has them is there for, by who could bring them back."""
        with self._lock:
            table = self._node.control.table
        return () if table is None else giving_up.waiting(table)

    def give_up(self, gone: Collection[str]) -> GivenUp:
        """Have the unavailable slots that only these nodes could bring back become LOST, and start again, empty."""
        with self._lock:
            control = self._node.control
            if control.table is None or control.contact.fenced or self._is_over():
                return GivenUp(0, "out-of-touch")
            answer, slots = giving_up.given_up(control.table, gone)
            if slots:
                self._order(AcceptLoss(slots))
        return answer

    def recover(self) -> bool:
        """Go on without a majority that is lost for good. False if it is not lost: nothing is done then."""
        with self._lock:
            if not self._node.control.contact.fenced or self._is_over():
                return False
            self._order(Recover())
        return True
