"""Every schedule of a small model, breadth first: a shortest one to the first state in which something is wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Protocol, TypeVar

S = TypeVar("S", bound=Hashable)


class Steps(Protocol[S]):
    """A model: what can happen next, in words, and what must hold."""

    def steps(self, state: S) -> Iterator[tuple[str, S]]: ...

    def wrong(self, state: S) -> str: ...

    def unfinished(self, state: S) -> str:
        """What is wrong where nothing can happen any more."""
        ...


def search(model: Steps[S], start: S, limit: int = 2_000_000) -> tuple[str, int, list[str]]:
    """(what is wrong, states seen, a shortest schedule); nothing is wrong: ("", ..)."""
    came: dict[S, tuple[S, str] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        found = model.wrong(state)
        steps = [] if found else list(model.steps(state))
        found = found or ("" if steps else model.unfinished(state))
        if found:
            return found, len(came), schedule(came, state)
        if len(came) > limit:
            return f"nothing found up to the limit of {limit} states", len(came), []
        for told, new in steps:
            if new not in came:
                came[new] = (state, told)
                queue.append(new)
    return "", len(came), []


def schedule(came: dict[S, tuple[S, str] | None], state: S) -> list[str]:
    told = []
    while (step := came[state]) is not None:
        state, words = step
        told.append(words)
    return told[::-1]
