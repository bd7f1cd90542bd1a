"""What waits for the disk: effects that depend on something that is not durable yet.

The order is kept: effects leave in the order they were asked for, each when all that was to be persisted before it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from mesh.core.events import Effect, Persist


@dataclass(slots=True)
class Pending:
    name: str
    effects: list[Effect]
    done: bool = False


class Durable:
    """A queue of `Persist`s under way; every `Persist` is answered by one `Persisted` of its name, in order."""

    def __init__(self) -> None:
        self._pending: deque[Pending] = deque()

    def __bool__(self) -> bool:
        """Is anything under way?"""
        return bool(self._pending)

    def persist(self, name: str, value: bytes, then: Sequence[Effect]) -> list[Effect]:
        self._pending.append(Pending(name, list(then)))
        return [Persist(name, value)]

    def after_all(self, effect: Effect) -> list[Effect]:
        """Once all that is under way is durable; asked for again it is still performed once."""
        if not self._pending:
            return [effect]
        waiting = self._pending[-1].effects
        if effect not in waiting:
            waiting.append(effect)
        return []

    def persisted(self, name: str) -> list[Effect]:
        first = next((each for each in self._pending if each.name == name and not each.done), None)
        if first is not None:
            first.done = True
        effects: list[Effect] = []
        while self._pending and self._pending[0].done:
            effects += self._pending.popleft().effects
        return effects
