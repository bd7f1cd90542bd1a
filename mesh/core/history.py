"""The epochs that a node keeps: the newest few, in memory and as records on the disk.

Every value is complete in itself, so nothing older is needed. A record is written over the one of KEPT epochs before,
which is how old ones go.

Invariant: the epochs kept are consecutive.
"""

from __future__ import annotations

from collections.abc import Mapping

KEPT = 4  # who missed a message or two is told each epoch, who was away for longer only the newest
EPOCH_BYTES = 8  # in front of a stored value


def record_name(epoch: int) -> str:
    return f"agreement.epoch.{epoch % KEPT}"


def record(epoch: int, value: bytes) -> bytes:
    return epoch.to_bytes(EPOCH_BYTES) + value


class History:
    """Starts with what is stored."""

    def __init__(self, stored: Mapping[str, bytes]) -> None:
        self._values: dict[int, bytes] = {}
        records = [stored[name] for place in range(KEPT) if (name := record_name(place)) in stored]
        for each in sorted(records, key=lambda each: each[:EPOCH_BYTES]):
            self.add(int.from_bytes(each[:EPOCH_BYTES]), each[EPOCH_BYTES:])

    @property
    def epoch(self) -> int:
        """The newest; 0: none."""
        return max(self._values, default=0)

    @property
    def newest(self) -> bytes | None:
        return self._values.get(self.epoch)

    def get(self, epoch: int) -> bytes | None:
        return self._values.get(epoch)

    def add(self, epoch: int, value: bytes) -> None:
        """A newer one; after a leap the older ones are forgotten."""
        assert epoch > self.epoch
        if epoch != self.epoch + 1:
            self._values.clear()
        self._values[epoch] = value
        self._values.pop(epoch - KEPT, None)

    def since(self, first: int) -> list[tuple[int, bytes]]:
        """From epoch `first` on; if that one is forgotten, only the newest."""
        start = first if first in self._values else self.epoch
        return [(epoch, value) for epoch, value in self._values.items() if epoch >= max(start, first)]
