"""Links: numbered frames, acknowledgements, credits (see `link`). A frame's cargo is the envelope's payload."""

from __future__ import annotations

from mesh.core.fixed import fixed
from mesh.core.messages import Message


@fixed(frozen=True, slots=True)
class Frame(Message):
    """One numbered frame of a channel; its cargo is the envelope's payload part."""

    channel: int
    number: int  # from 1


@fixed(frozen=True, slots=True)
class LinkAck(Message):
    """`received`: all frames up to this number have arrived. `limit`: bytes that may be sent in all, ever."""

    channel: int
    received: int
    limit: int
    gap: bool  # True: a later frame arrived (or was named) but not received + 1: go back


@fixed(frozen=True, slots=True)
class LinkProbe(Message):
    """An idle or stuck sender names its highest number."""

    channel: int
    highest: int
