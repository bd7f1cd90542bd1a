"""A page of a stage's keys as whoever asks from outside sees it: where to go on is a text."""

from __future__ import annotations

from mesh.core.events.work import ListingAsked
from mesh.core.keys import Key
from mesh.core.places import START, from_text, to_text
from mesh.runtime.status import KeysPage
from mesh.runtime.worker import Worker


def keys_page(worker: Worker, slots: int, stage: str, limit: int, after: str | None, timeout: float) -> KeysPage:
    """Blocks for `timeout` seconds at most. `after` is the `next` of another page; raises BadPosition."""
    position = START if after is None else from_text(after, slots)
    listed = worker.listing(lambda ticket: ListingAsked(ticket, stage, position, limit), timeout)
    keys: tuple[Key, ...] = tuple(listed.keys)
    return KeysPage(listed.outcome, keys, None if listed.next is None else to_text(listed.next), listed.why)
