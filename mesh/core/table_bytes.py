"""The bytes of a table: the same on every machine, since they are what the nodes agree on.

A canonical, run-length encoded msgpack, which is refused when it is anything else, or breaks an invariant of `table`.
An epoch's value is the whole table, not what changed: it is a few KB, and who was away needs the newest one only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgpack

from mesh.core.electorate import Electorate
from mesh.core.slot import LOST, PENDING, Slot
from mesh.core.table import MAX_COPIES, MAX_LEFT, MAX_MEMBERS, MAX_SLOTS, WITNESS, WORKER, Seat, Table, runs_of

MAX_TERM = (1 << 63) - 1
MAX_BYTES = 4 << 20  # of an encoded table: it must fit into a message
MAX_TEXT = 1024
FORMAT = 6


def table_to_bytes(table: Table) -> bytes:
    table.invariants()
    return _encoded(table)


def table_from_bytes(data: bytes) -> Table:
    """Raises ValueError, whatever the bytes."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"a table of {len(data)} bytes")
    return _parsed(data)


def voters_of(epoch: int, value: bytes) -> Electorate:
    """Who follows up on this value of this epoch. Raises ValueError if it is no table of that epoch."""
    table = table_from_bytes(value)
    if table.epoch != epoch:
        raise ValueError(f"a table of epoch {table.epoch} where one of epoch {epoch} belongs")
    return table.electorate()


def _encoded(table: Table) -> bytes:
    members = [
        [s.name, s.node, s.endpoint, s.http, s.role, s.zone, s.voter, s.up, s.home, s.boot] for s in table.members
    ]
    runs = [
        [
            count, slot.term, slot.owner, slot.status, list(slot.backups), slot.donor, slot.since, slot.joining,
            list(slot.parting),
        ]
        for _, count, slot in runs_of(table.slots)
    ]  # fmt: skip
    lists = [members, runs, list(table.left), list(table.founders)]
    fields = [FORMAT, table.epoch, table.cluster_id, *lists, table.copies, table.durable]
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return packed


# -- what came from elsewhere -----------------------------------------------------------------------------------------


@lru_cache(maxsize=16)  # each value is looked at several times: as it is proposed, accepted, chosen, and followed
def _parsed(data: bytes) -> Table:
    try:
        plain = msgpack.unpackb(data, max_array_len=MAX_SLOTS, max_map_len=0, max_ext_len=0)
    except Exception as error:  # msgpack raises ValueError's children, but also others
        raise ValueError(f"a table that is not msgpack: {error}") from None
    table = _table(plain)
    if _encoded(table) != data:
        raise ValueError("a table that is not in its canonical form")
    return table


def _table(plain: Any) -> Table:
    items = _list(plain, 9)
    if items[0] != FORMAT:
        raise ValueError(f"a table of format {items[0]!r:.40}, not {FORMAT}")
    members = tuple(_seat(each) for each in _list(items[3], None, MAX_MEMBERS))
    left = tuple(_id(each) for each in _list(items[5], None, MAX_LEFT))
    founders = tuple(_id(each) for each in _list(items[6], None, MAX_MEMBERS))
    epoch, copies = _count(items[1], 1, MAX_TERM), _count(items[7], 1, MAX_COPIES)
    if type(items[8]) is not bool:
        raise ValueError(f"a table that is durable: {items[8]!r:.40}")
    table = Table(epoch, _id(items[2]), members, _slots(items[4]), left, founders, copies, items[8])
    fault = table.fault()
    if fault is not None:
        raise ValueError(f"a table in which {fault}")
    return table


def _seat(plain: Any) -> Seat:
    name, node, endpoint, http, role, zone, voter, up, home, boot = _list(plain, 10)
    if role not in (WORKER, WITNESS) or type(voter) is not bool or type(up) is not bool:
        raise ValueError(f"a table in which a seat is {role!r:.40}, has the vote {voter!r:.40}, is up {up!r:.40}")
    texts = _text(name), _text(endpoint), _text(http), _text(zone)
    return Seat(
        texts[0], _id(node), texts[1], texts[2], role, texts[3], voter, up, _id(home), _count(boot, 1, MAX_TERM)
    )


def _slots(plain: Any) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    known: dict[bytes, Slot] = {}
    for each in _list(plain, None, MAX_SLOTS):
        count, *fields = _list(each, 9)
        if len(slots) + _count(count, 1, MAX_SLOTS) > MAX_SLOTS:
            raise ValueError(f"a table of more than {MAX_SLOTS} slots")
        name = msgpack.packb(fields)
        if name not in known:
            known[name] = _slot(fields)
        slots.extend([known[name]] * count)
    return tuple(slots)


def _slot(fields: Sequence[Any]) -> Slot:
    term, owner, status, backups, donor, since, joining, parting = fields
    places, goers = (tuple(_place(each) for each in _list(given, None, MAX_MEMBERS)) for given in (backups, parting))
    giver, comer = (None if place is None else _place(place) for place in (donor, joining))
    reign = _count(since, 1, MAX_TERM)
    return Slot(
        _count(term, 1, MAX_TERM), _place(owner), places, _count(status, PENDING, LOST), giver, reign, comer, goers
    )


def _place(value: Any) -> int:
    return _count(value, 0, MAX_MEMBERS)


def _list(value: Any, length: int | None, most: int = 0) -> list[Any]:
    if type(value) is not list or (len(value) > most if length is None else len(value) != length):
        raise ValueError(f"a table with {value!r:.40} in place of a list of {length or f'up to {most}'}")
    return value


def _count(value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"a table with {value!r:.40} in place of a number from {low} to {high}")
    return value


def _id(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != 16:
        raise ValueError(f"a table with {value!r:.40} in place of an id of 16 bytes")
    return value


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_TEXT:
        raise ValueError(f"a table with {value!r:.40} in place of a short text")
    return value
