"""The algebra of membership (M2): which of two beliefs about one node is the newer, and which claims are absurd.

Why an order and not a table of cases: the largest of a total order is commutative, associative and idempotent by
nature, so gossip may be lost, doubled, and overtaken, and all nodes still end with the same belief. The order is, from
the strongest criterion to the weakest:

    left       final: a node id that left never comes back (a restart has a new id)
    incarnation  a higher one is newer, whatever the status; only the node itself raises it, to refute
    status     alive < suspect < dead at one incarnation: who is dead rises by a higher incarnation only
    the rest   leaving, role, endpoint, name, http, zone, boot, home: an honest node changes none of them within an
               incarnation; the order only makes liars and bit flips converge

What is absurd is refused before it is merged: it would otherwise win every comparison for ever.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from mesh.core.messages.members import ALIVE, LEFT, READY, STAYING, Member

MAX_MEMBERS = 10_000  # the table of a node: 2 MB as one push-pull message, and far above what one mesh is made for
MAX_JUMP = 1_000_000  # honest incarnations grow by one a refutation: years of flapping
MAX_BOOT = 1 << 40  # starts of one directory
MAX_NAME = 64  # characters of name and zone
MAX_ADDRESS = 256  # characters of endpoint and http
NODE_ID_BYTES = 16

Rank: TypeAlias = tuple[bool, int, int, int, str, str, str, str, str, int, bytes]

_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):([1-9][0-9]{0,4})")
_ROLES = ("worker", "witness")


def rank(member: Member) -> Rank:
    """The place of a belief in the order of all beliefs about one node."""
    return (
        member.status == LEFT,
        member.incarnation,
        member.status,
        member.leaving,
        member.role,
        member.endpoint,
        member.name,
        member.http,
        member.zone,
        member.boot,
        member.home,
    )


def newer(a: Member, b: Member) -> Member:
    """The belief that stays when both are known."""
    assert a.node == b.node, (a, b)
    return a if rank(a) >= rank(b) else b


def implausible(member: Member) -> str | None:
    """Why no honest node can have said this; None if one can."""
    if len(member.node) != NODE_ID_BYTES:
        return f"node id of {len(member.node)} bytes"
    if not ALIVE <= member.status <= LEFT:
        return f"status {member.status}"
    if not STAYING <= member.leaving <= READY:
        return f"leaving {member.leaving}"
    if len(member.home) != NODE_ID_BYTES or not 1 <= member.boot <= MAX_BOOT:
        return f"boot {member.boot} of a home of {len(member.home)} bytes"
    if not 0 < len(member.name) <= MAX_NAME or not member.name.isprintable():
        return f"name {member.name[:MAX_NAME]!r}"
    if len(member.zone) > MAX_NAME or len(member.http) > MAX_ADDRESS or member.role not in _ROLES:
        return f"role {member.role[:MAX_NAME]!r}, zone or http of {member.name!r}"
    if not _is_endpoint(member.endpoint):
        return f"endpoint {member.endpoint[:MAX_ADDRESS]!r} of {member.name!r}"
    return None


def _is_endpoint(endpoint: str) -> bool:
    match = _ENDPOINT.fullmatch(endpoint) if len(endpoint) <= MAX_ADDRESS else None
    return match is not None and int(match.group(2)) < 1 << 16


def leaps(claimed: int, known: int) -> bool:
    """Whether an incarnation is further ahead of the known one (0 for an unknown node) than a node can have come."""
    return claimed > known + MAX_JUMP
