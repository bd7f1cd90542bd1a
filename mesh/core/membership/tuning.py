"""The numbers of the detector, by kind of network. All times are milliseconds.

What they are chosen for: a process that is killed is declared dead as soon as can be, yet a process that pauses for a
second (garbage, a laptop lid, a busy machine) never is. The pause may begin just before a Ping arrives, so
`verdict + suspicion` must outlast one second, a round trip and some margin; the rest of the detection time is the wait
for the next probe. `suspicion` is the shortest that is ever allowed; see `suspicion` for how it grows.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.events import Millis


@dataclass(frozen=True, slots=True)
class Tuning:
    period: Millis  # between two probes; every probe has another target
    timeout: Millis  # from the Ping until helpers are asked; above the slowest usual round trip
    verdict: Millis  # from the Ping until the target is suspected
    suspicion: Millis  # from suspect to dead, with enough accusers
    urge: Millis  # between two Pings of an accuser to the node it accuses
    gossip_every: Millis  # between two rounds of news, while there is news
    sync: Millis  # between two push-pulls with a member
    reconnect: Millis  # between two push-pulls with a dead member, so that a healed split merges
    forget_after: Millis  # a dead member leaves the table; its incarnation is remembered longer
    stretch: int = 6  # the longest suspicion, in shortest ones
    helpers: int = 3  # asked for an indirect probe
    fanout: int = 3  # members told in one round of news
    records: int = 8  # members in one message of gossip
    spread: int = 4  # a piece of news is told spread * ceil(log10(members + 1)) times
    max_awareness: int = 8  # own bad health slows probing by at most 1 + this


_HOUR = 3_600_000

# One machine: kill -9 is seen after about 1.25 s.
LOOPBACK = Tuning(
    period=100,
    timeout=80,
    verdict=200,
    suspicion=1_000,
    urge=25,
    gossip_every=50,
    sync=5_000,
    reconnect=3_000,
    forget_after=24 * _HOUR,
)

# One building or one region: round trips up to 200 ms pass unnoticed; kill -9 is seen after about 1.4 s.
LAN = Tuning(
    period=250,
    timeout=200,
    verdict=500,
    suspicion=750,
    urge=50,
    gossip_every=100,
    sync=10_000,
    reconnect=5_000,
    forget_after=24 * _HOUR,
)

# Between regions: round trips up to 600 ms; kill -9 is seen after about 5 s.
WAN = Tuning(
    period=1_000,
    timeout=600,
    verdict=1_500,
    suspicion=3_000,
    urge=200,
    gossip_every=300,
    sync=30_000,
    reconnect=15_000,
    forget_after=24 * _HOUR,
)
