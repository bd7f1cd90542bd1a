"""The grammar of the wire: every message that one node may send to another.

An envelope is two or three ZeroMQ parts: header, message, and for link frames a payload.

    header   = [VERSION, cluster name, cluster id, source, target]
    message  = [kind, *fields]                     the fields of the dataclasses below, in their order
    payload  = [kind, *fields]                     a link's cargo: one of the messages marked (cargo)

Field types are int (0 .. 2**63-1), bool, str (at most 1 KiB), bytes, NodeId (16 bytes), tuples of these, nested
records, and `Column` (a list whose items are the application's). `codec` is the only module that parses what a peer
sent; it builds its checks from the annotations here, so these files are the whole truth about what is acceptable:

    members    admission and membership           links      frames, acknowledgements, credits
    epochs     agreement, and what it rests on    work       (cargo) records, splits, how far the job is
    kinds      the number of each message         states     (cargo) states that move or are copied
                                                  outside    (cargo) what was asked over HTTP, and its answers
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

VERSION = 2
NodeId: TypeAlias = Annotated[bytes, 16]  # 16 random bytes, new for every process start
HomeId: TypeAlias = Annotated[bytes, 16]  # 16 random bytes, kept in a data directory; without one it is the node id
Column: TypeAlias = list[Any]  # one item a record; what is inside is the application's


class Message:
    """Base of all messages; the number of each on the wire is in `kinds`."""

    __slots__ = ()
