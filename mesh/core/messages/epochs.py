"""How an epoch comes about: who may vote on it, its ballots, and what its proposers must hear of others.

Unnumbered datagrams, which may be lost, doubled or overtaken; repeated by their senders until something answers.
Ballots: see `agreement`. Starts of homes: `boots`. Claims, leavers and accepted losses: `claims`, `leaving`, `losses`.
"""

from __future__ import annotations

from mesh.core.fixed import fixed
from mesh.core.messages import HomeId, Message, NodeId


@fixed(frozen=True, slots=True)
class Prepare(Message):
    epoch: int
    ballot: int


@fixed(frozen=True, slots=True)
class Promise(Message):
    epoch: int
    ballot: int
    accepted_ballot: int  # 0: none
    accepted: bytes


@fixed(frozen=True, slots=True)
class Accept(Message):
    epoch: int
    ballot: int
    value: bytes


@fixed(frozen=True, slots=True)
class Accepted(Message):
    epoch: int
    ballot: int


@fixed(frozen=True, slots=True)
class Outbid(Message):
    """The ballot was too low; `ballot` is what was promised."""

    epoch: int
    ballot: int


@fixed(frozen=True, slots=True)
class Chosen(Message):
    epoch: int
    value: bytes


@fixed(frozen=True, slots=True)
class EpochKnown(Message):
    """The newest epoch that the sender holds. Who holds it too, or a newer one, answers; a newer one it tells also."""

    epoch: int
    number: int  # repeated in the answer; 0: no answer is wanted, only what is newer


@fixed(frozen=True, slots=True)
class EpochHeld(Message):
    """The answer: the newest epoch that the sender holds, not older than the one that was asked about."""

    epoch: int
    number: int


@fixed(frozen=True, slots=True)
class Booted(Message):
    """The sender's directory has been started for the `boot`th time. Does the receiver know of a later one?"""

    home: HomeId
    boot: int


@fixed(frozen=True, slots=True)
class BootKnown(Message):
    """The answer; or, when a later process of that home has come, unasked to the former one."""

    home: HomeId
    boot: int  # the highest that the sender knows, and keeps
    ok: bool  # it is the receiver's


@fixed(frozen=True, slots=True)
class Installed(Message):
    """What these slots ask of the sender at these terms is done; from a donor that is not asked: a state in them cannot
    travel, they have to stay where they are. See `claims`."""

    epoch: int  # the sender's
    slots: bytes  # unsigned 16-bit little-endian
    terms: tuple[int, ...]  # one a slot


@fixed(frozen=True, slots=True)
class LeaveAsked(Message):
    """An operator wants `node`, who is the receiver, to leave; repeated until it says that it is leaving."""

    node: NodeId


@fixed(frozen=True, slots=True)
class LossAccepted(Message):
    """An operator wants these slots, which are LOST at these terms, to start again empty; repeated until they have."""

    epoch: int  # the sender's
    slots: bytes  # unsigned 16-bit little-endian
    terms: tuple[int, ...]  # one a slot
