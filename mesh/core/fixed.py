"""Records that go from one machine, thread or node to another: dataclasses that nobody changes.

mypy takes them for frozen ones, and refuses whoever sets a field. At run time nothing guards them: a frozen dataclass
sets each of its fields by a call, which is three times the time to make one, and whatever somebody waits for becomes
twenty of them on its way through two nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["fixed"]

if TYPE_CHECKING:
    from dataclasses import dataclass as fixed
else:
    from dataclasses import dataclass

    def fixed(*, frozen, slots):
        """Equal and hashed by their fields, as frozen ones are."""
        return dataclass(slots=slots, unsafe_hash=frozen)
