"""Pages of keys where states have copies: what was found counts once the owner knows that its slots still are its own.

As with reads of single keys (`reads_kept`): also that a key is not there is an answer.
"""

from __future__ import annotations

from typing import Any

from mesh.core.events import Effect
from mesh.core.listing import Listing
from mesh.core.slot_keys import Search
from mesh.core.tokens import Wait


class KeptListing(Listing):
    """`wait` and `effects` are the data plane's."""

    def __init__(self, *args: Any, wait: Wait, effects: list[Effect]) -> None:
        super().__init__(*args)
        self._wait = wait
        self._told = effects

    def _searched(self, search: Search, found: bool) -> None:
        if found:
            self._wait(search.slots(), lambda withdrawn: self._settled(search, found=not withdrawn))
        else:
            super()._searched(search, found)

    def _settled(self, search: Search, *, found: bool) -> None:
        super()._searched(search, found)
        self._told += self._taken()
