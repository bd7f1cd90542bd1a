"""Tables as the data plane gets them, in few words."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.core.events.planes import TableAgreed
from mesh.core.messages import NodeId
from mesh.core.slot import ACTIVE


def agreed(
    epoch: int,
    workers: Sequence[NodeId],
    owners: Sequence[int],
    *,
    witnesses: Sequence[NodeId] = (),
    donors: Sequence[int] | None = None,
    statuses: Sequence[int] | None = None,
    terms: Sequence[int] | None = None,
    down: Sequence[NodeId] = (),
    left: Sequence[NodeId] = (),
    founders: Sequence[NodeId] = (),
) -> TableAgreed:
    """`owners` and `donors` by place among the workers, one a slot; all ACTIVE at term 1 unless told otherwise."""
    return TableAgreed(
        epoch,
        (*workers, *witnesses),
        tuple(workers),
        tuple(owners),
        tuple(donors or [-1] * len(owners)),
        tuple(statuses or [ACTIVE] * len(owners)),
        tuple(terms or [1] * len(owners)),
        workers[0],
        tuple(down),
        tuple(left),
        tuple(founders or workers),
    )
