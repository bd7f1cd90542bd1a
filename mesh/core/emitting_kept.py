"""Where records go where slots have copies: with their names, and what a stage gives out only once it is committed.

States    of what came of a chunk of a split: named -> router, sink
          of what came of a batch: named, in its pack -> (committed, or adopted) given to router, sink
          of an item: given to its sink -> safely in it (`written`)

The owner's side makes packs of what it has applied (`packed`): the fragment behind a stage is run at once, since its
outputs are a part of what the copies must know. A stage numbers its outputs as they come out, across all targets.

Invariant sinks say in the order in which they were given items how many are safe; those that nobody named are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from mesh.app.plan import Plan
from mesh.core import columns
from mesh.core.emitting import Emitting
from mesh.core.events.work import WriteSink
from mesh.core.guard import Applied
from mesh.core.intake import Intake
from mesh.core.numbers import Numbers, Producer
from mesh.core.owner import Owner
from mesh.core.packs import Outputs, Pack, pack_of
from mesh.core.router import Router


class KeptEmitting(Emitting):
    """`next_output(stage, count)` gives out numbers."""

    def __init__(
        self, plan: Plan, router: Router, intake: Intake, owner: Owner, next_output: Callable[[int, int], int]
    ) -> None:
        super().__init__(plan, router, intake)
        self._owner = owner
        self._next_output = next_output
        self._unwritten: list[deque[tuple[int, Numbers | None]]] = [deque() for _ in plan.sinks]  # counts, and names

    # -- what a source gave

    def read(self, source: int, split: str, values: list[Any], number: Callable[[int, int], int]) -> None:
        """A chunk; `number(target, count)` is the first of so many for one target."""
        fragment, out = self._plan.sources[source].fragment, _OfSplit(self, (False, source, split), number)
        if fragment.one_way:
            fragment.run(None, values, out)  # half the time, and nobody asks what came of which
        else:
            fragment.trace(None, values, list(range(len(values))), out)
        self.send(self._router.full_batches(fragment.stages))

    # -- what a stage gave

    def packed(self, stage: int, keys: list[Any], slots: Sequence[int], applied: Applied) -> Pack:
        """What has come of these records: states and outputs."""
        pack = pack_of(stage, keys, slots, self._owner.stages[stage].states)
        fragment = self._plan.stages[stage].fragment
        if applied.outs and not fragment.empty:
            slot_of = dict(zip(pack.keys, pack.slots, strict=True))
            origins = list(map(slot_of.__getitem__, applied.out_keys))
            out = _OfStage(self, self._plan, stage, self._next_output)
            fragment.trace(applied.out_keys, applied.outs, origins, out)
            pack.outputs = out.outputs
        return pack

    def give(self, stage: int, outputs: Sequence[Outputs]) -> None:
        """These are committed: out with them."""
        stages = len(self._plan.stages)
        targets: dict[int, None] = {}
        for out in outputs:
            if not out.numbers:
                continue
            names = Numbers(out.numbers, out.origins, [0], [(True, stage, "")])
            if out.target < stages:
                self.put(out.target, out.keys, out.values, names)
                targets[out.target] = None
            else:
                self.write(out.target - stages, out.values, names)
        if targets:
            self.send(self._router.full_batches([*targets]))

    # -- to whom

    def put(self, stage: int, keys: list[Any], values: list[Any], names: Numbers) -> None:
        self._router.put(stage, keys, values, names)
        self._tell_set_aside()

    def to_sink(self, sink: int, items: list[Any]) -> None:
        """Without names: who sent them sends them again if it was not answered."""
        self._unwritten[sink].append((len(items), None))
        super().to_sink(sink, items)

    def write(self, sink: int, items: list[Any], names: Numbers) -> None:
        self.records_out += len(items)
        self._unwritten[sink].append((len(items), names))
        self.effects.append(WriteSink(sink, items, names))

    def written(self, sink: int, count: int) -> list[Numbers]:
        """The names of so many items more, which are safe."""
        found, waiting = [], self._unwritten[sink]
        while count:
            items, names = waiting.popleft()
            taken = min(items, count)
            count -= taken
            if names is not None:
                found.append(names if taken == items else names.part(0, taken))
            if taken < items:
                waiting.appendleft((items - taken, None if names is None else names.part(taken, items)))
        return found


class _OfSplit:
    """What a fragment makes of a chunk; see `Emit` and `TracedEmit`."""

    def __init__(self, to: KeptEmitting, producer: Producer, number: Callable[[int, int], int]) -> None:
        self._to = to
        self._producer = producer
        self._number = number
        self._stages = len(to._plan.stages)
        self.failed = to.failed

    def _names(self, target: int, count: int) -> Numbers:
        first = self._number(target, count)
        return Numbers(list(range(first, first + count)), [0] * count, [0], [self._producer])

    def to_stage(self, stage: int, keys: list[Any], values: list[Any], _: Sequence[int] = ()) -> None:
        self._to.put(stage, keys, values, self._names(stage, len(keys)))

    def to_sink(self, sink: int, items: list[Any], _: Sequence[int] = ()) -> None:
        self._to.write(sink, items, self._names(self._stages + sink, len(items)))


class _OfStage:
    """What a fragment makes of a batch's outputs; see `TracedEmit`. Bad keys are set aside, and have no numbers."""

    def __init__(self, to: KeptEmitting, plan: Plan, stage: int, next_output: Callable[[int, int], int]) -> None:
        self._plan = plan
        self._stage = stage
        self._next_output = next_output
        self.outputs: list[Outputs] = []
        self.failed = to.failed

    def to_stage(self, stage: int, keys: list[Any], values: list[Any], origins: list[int]) -> None:
        if not columns.all_keys_good(keys):
            keys, values, origins = self._good(stage, keys, values, origins)
        self._add(stage, keys, values, origins)

    def to_sink(self, sink: int, items: list[Any], origins: list[int]) -> None:
        self._add(len(self._plan.stages) + sink, items, items, origins)

    def _add(self, target: int, keys: list[Any], values: list[Any], origins: list[int]) -> None:
        if keys:
            first = self._next_output(self._stage, len(keys))
            self.outputs.append(Outputs(target, origins, list(range(first, first + len(keys))), keys, values))

    def _good(
        self, stage: int, keys: list[Any], values: list[Any], origins: list[int]
    ) -> tuple[list[Any], list[Any], list[int]]:
        bad, to = columns.bad_keys(keys), self._plan.stages[stage]
        for index, error in bad.items():
            self.failed(f"on the way to {to.name}", to.where, values[index], error)
        good = [index for index in range(len(keys)) if index not in bad]
        good_keys, good_values = [keys[index] for index in good], [values[index] for index in good]
        return good_keys, good_keys if values is keys else good_values, [origins[index] for index in good]
