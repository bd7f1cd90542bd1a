"""The door (signatures first; the body follows)."""

from __future__ import annotations

from random import Random

from mesh.core.events import Effect, Event, Millis
from mesh.core.messages import Introduction


class Admission:
    """Meets others at their addresses; emits Approach, Admitted, Stop, Rejected, Log. Feed it every MemberChanged."""

    def __init__(self, introduction: Introduction, seeds: tuple[str, ...], random: Random) -> None:
        self.formed = introduction.formed  # set True by the control plane once there is a partition

    @property
    def introduction(self) -> Introduction:
        """What this node says of itself now."""
        raise NotImplementedError

    def handle(self, event: Event, now: Millis) -> list[Effect]:
        """Understands Received (Hello, Welcome, Refused), MemberChanged, Woke."""
        raise NotImplementedError

    def next_deadline(self) -> Millis | None:
        """When to wake next."""
        raise NotImplementedError
