"""The owner's side: the states of this node's keys, created lazily, changed one batch at a time.

States    per stage a dict key -> state. Keys are str, int or bytes, so equal keys are the same key (no 1 == 1.0).
          Beside it, once a slot is to move, each slot's keys: filed a part at a time, and never as records come.
Events    `apply(stage, keys, values)`, in the order in which the link delivered the batches; `put` and `drop` of a slot
          that moves.
Invariant a record whose step raises leaves no trace: its state is what it was, its output does not exist, the records
          before and after it count. An output is what it was when it was made, whatever its state becomes.

Plain states (int, str, tuples of them ...) are replaced, not changed, and give both for nothing: their loops are in
`columns`. The first state of a stage that is not plain makes the stage guarded for good, see `guard`; where states must
travel, so does the first that is not made of numbers.

New keys stand at the end of a dict, so that each is filed once, and a record costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import length_hint
from typing import Any, Protocol

from mesh.app.jsontext import to_json
from mesh.app.plan import StagePlan
from mesh.core import columns
from mesh.core.guard import Applied, GuardedRun
from mesh.core.storing import StateUnreadable
from mesh.core.windows import Windows

MAX_STATE = 8 << 20  # bytes of JSON: what the HTTP door takes, and far below what a link takes
TOO_LARGE = {"repr": f"a state of more than {MAX_STATE >> 20} MiB of JSON"}
FILED_AT_ONCE = 1 << 14  # keys a stage: a few milliseconds
FOUND, ABSENT, UNKNOWN_STAGE = "found", "absent", "unknown-stage"
UNREADABLE = "unreadable"  # with a sentence in the place of the state


class StageStates:
    """All states of one stage on this node."""

    def __init__(self, plan: StagePlan, shift: int, seed: int) -> None:
        self.plan = plan
        self.name = plan.name
        self.states: dict[Any, Any] = {}  # invariant: all plain until the stage is guarded
        self.step = _normal_step(plan)
        self.must_travel = False  # a state that cannot be copied is its record's fault
        self._guarded = False
        self._wants_outputs = False
        self._shift = shift
        self._seed = seed
        self._keys_of_slot: dict[int, list[Any]] = {}
        self._unfiled: list[Any] = []  # keys that are next to be filed, the last one first
        self._seen = 0  # invariant: the keys in these two; they are the first ones of `states`

    def apply(self, keys: list[Any], items: list[Any], *, wants_outputs: bool = False) -> Applied:
        """Run the stage's step for every record, in order. Outputs are made for who reads them, or wants them."""
        applied = Applied()
        self._wants_outputs = wants_outputs or not self.plan.fragment.empty
        if self._guarded:
            self._run_guarded(self._guard(keys, items, applied), 0)
        else:
            self._run(keys, items, applied)
        return applied

    def fetch(self, keys: list[Any]) -> None:
        """They are about to be looked at; all are in memory here."""

    def _run(self, keys: list[Any], items: list[Any], applied: Applied) -> None:
        key_iterator, item_iterator = iter(keys), iter(items)
        while True:
            try:
                unplain = self._loop(key_iterator, item_iterator, applied)
            except Exception as error:
                applied.failures.append((len(keys) - length_hint(key_iterator) - 1, error))
                continue
            if unplain is not None:
                self._guarded = True
                taken = len(keys) - length_hint(key_iterator)
                guard = self._guard(keys, items, applied)
                guard.accept(taken - 1, *unplain)
                self._run_guarded(guard, taken)
            return

    def _guard(self, keys: list[Any], items: list[Any], applied: Applied) -> GuardedRun:
        return GuardedRun(
            self.states, self.plan.new, self.step, self._wants_outputs, keys, items, applied, self.must_travel
        )

    def _run_guarded(self, guard: GuardedRun, start: int) -> None:
        guard.run(start)
        if guard.lost_one:  # not the first keys any more: file all anew
            self._keys_of_slot.clear()
            self._unfiled.clear()
            self._seen = 0

    def _loop(self, keys: Any, items: Any, applied: Applied) -> tuple[Any, Any] | None:
        plan, scalars = self.plan, columns.NUMBERS if self.must_travel else columns.SCALARS
        out_keys, outs = applied.out_keys, applied.outs
        if plan.kind != "fold":
            return columns.stateful(self.states, keys, items, plan.new, self.step, out_keys, outs, scalars)
        if not self._wants_outputs:
            return columns.fold(self.states, keys, items, plan.new, plan.step, scalars)
        return columns.fold_out(self.states, keys, items, plan.new, plan.step, out_keys, outs, scalars)

    # -- slots

    def file_some(self, most: int) -> bool:
        """File so many keys; True when all are filed."""
        if not self._unfiled:
            self._unfiled = list(islice(reversed(self.states), len(self.states) - self._seen))
            self._seen = len(self.states)
        keys = self._unfiled[: -most - 1 : -1]
        del self._unfiled[-most:]
        for key, slot in zip(keys, columns.slots_of(keys, self._seed, self._shift), strict=True):
            self._keys_of_slot.setdefault(slot, []).append(key)
        return not self._unfiled and self._seen == len(self.states)

    def keys_of(self, slot: int) -> Sequence[Any]:
        """All of the slot's, once all keys are filed."""
        return self._keys_of_slot.get(slot, ())

    def put(self, keys: Sequence[Any], states: Sequence[Any]) -> None:
        """A part of a slot that comes from another node."""
        self._guarded = self._guarded or not all(map(columns.is_plain, states))
        self.states.update(zip(keys, states, strict=True))

    def take_out(self, slot: int) -> dict[Any, Any]:
        """The slot's states, which are not here any more."""
        while not self.file_some(FILED_AT_ONCE):
            pass
        keys = self._keys_of_slot.pop(slot, ())
        taken = {key: self.states.pop(key) for key in keys if key in self.states}
        self._seen = len(self.states)
        return taken

    def drop(self, slot: int) -> None:
        self.take_out(slot)


def _normal_step(plan: StagePlan) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Every kind of stage as (state, value) -> (state, output)."""
    if plan.kind == "fold":
        fold = plan.step

        def folded(state: Any, value: Any) -> tuple[Any, Any]:
            after = fold(state, value)
            return after, after

        return folded
    if plan.kind == "class":

        def on_record(state: Any, value: Any) -> tuple[Any, Any]:
            return state, state.on_record(value)

        return on_record
    return plan.step


class SlotPart(Protocol):
    """What a slot has, beside others, by keys of its own."""

    @property
    def name(self) -> str: ...

    @property
    def states(self) -> Mapping[Any, Any]: ...

    def keys_of(self, slot: int) -> Sequence[Any]: ...

    def put(self, keys: Sequence[Any], states: Sequence[Any]) -> None: ...

    def drop(self, slot: int) -> None: ...


class Owner:
    """All stages' states on this node, and what else its slots have."""

    def __init__(self, stages: Sequence[StagePlan], slots: int, seed: int, splits: SlotPart | None = None) -> None:
        shift = 33 - slots.bit_length()  # as in the router
        self.stages = tuple(self._stage(plan, shift, seed) for plan in stages)
        self.windows = Windows(claims=len(stages))
        parts: tuple[SlotPart, ...] = (*self.stages, self.windows)
        for stage in self.stages:
            stage.must_travel = splits is not None
        self.splits = splits
        self.parts = parts if splits is None else (*parts, splits)  # of a slot, when it moves

    def _stage(self, plan: StagePlan, shift: int, seed: int) -> StageStates:
        return StageStates(plan, shift, seed)

    def apply(self, stage: int, keys: list[Any], items: list[Any], *, wants_outputs: bool = False) -> Applied:
        return self.stages[stage].apply(keys, items, wants_outputs=wants_outputs)

    def read(self, stage: str, key: Any) -> tuple[str, bytes]:
        """(outcome, JSON text) of a key that this node owns; creates nothing."""
        part = next((each for each in self.stages if each.plan.name == stage), None)
        if part is None:
            return UNKNOWN_STAGE, b""
        try:
            part.fetch([key])
        except StateUnreadable as error:  # a record of this key would end the node; a question changes nothing
            return UNREADABLE, to_json(str(error)).encode("utf-8", "replace")
        if key not in part.states:
            return ABSENT, b""
        text = to_json(part.states[key]).encode("utf-8", "replace")
        return FOUND, text if len(text) <= MAX_STATE else to_json(TOO_LARGE).encode()

    def file_some(self) -> bool:
        """Find out a few milliseconds' worth of which key is in which slot; True when all is known."""
        done = [stage.file_some(FILED_AT_ONCE) for stage in self.stages]  # each gets its turn
        return all(done)

    def drop(self, slot: int) -> None:
        """Another node owns this slot now, and has its states."""
        for part in self.parts:
            part.drop(slot)

    def take_out(self, slot: int) -> list[dict[Any, Any]]:
        """Its states, by stage, which are not here any more. All else stays: who has a copy of a slot has that here."""
        return [stage.take_out(slot) for stage in self.stages]

    def key_count(self) -> int:
        """Keys created on this node, over all stages."""
        return sum(len(stage.states) for stage in self.stages)
