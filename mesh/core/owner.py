"""The owner's side: the states of this node's keys, created lazily, changed one batch at a time.

States    per stage a dict key -> state. Keys are str, int or bytes, so equal keys are the same key (no 1 == 1.0).
Events    `apply(stage, keys, values)`, in the order in which the link delivered the batches.
Invariant a record whose step raises leaves no trace: its state is what it was, its output does not exist, the records
          before and after it count. A state that is replaced (int, str, tuple ...) gives this for nothing. One that is
          changed in place is guarded: an image of it is taken at its first touch in a batch, and after a failure it is
          rebuilt from the image and the good records since.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import length_hint
from typing import Any

from mesh.app.plan import StagePlan
from mesh.core import columns, values

_IMMUTABLE = frozenset({int, str, float, bool, bytes, type(None), complex, tuple, frozenset})
_ABSENT: Any = object()


@dataclass(slots=True)
class Applied:
    """What became of a batch: outputs by columns, and the records that were set aside."""

    out_keys: list[Any] = field(default_factory=list)
    outs: list[Any] = field(default_factory=list)
    failures: list[tuple[int, BaseException]] = field(default_factory=list)  # (index in the batch, what was raised)


class StageStates:
    """All states of one stage on this node."""

    def __init__(self, plan: StagePlan) -> None:
        self.plan = plan
        self.states: dict[Any, Any] = {}
        self._step = _normal_step(plan)
        self._guarded: bool | None = None  # not known before the first state is made

    def apply(self, keys: list[Any], items: list[Any]) -> Applied:
        """Run the stage's step for every record, in order."""
        if self._guarded is None:
            self._guarded = self._makes_mutable_states()
        applied = Applied()
        if self._guarded:
            _GuardedRun(self, keys, items, applied).run()
        else:
            self._apply_replaced(keys, items, applied)
        return applied

    def _makes_mutable_states(self) -> bool:
        try:
            return type(self.plan.new()) not in _IMMUTABLE
        except Exception:
            return False  # it will fail again, per record, where it can be told

    def _apply_replaced(self, keys: list[Any], items: list[Any], applied: Applied) -> None:
        created: list[Any] = []
        key_iterator, value_iterator = iter(keys), iter(items)
        while True:
            try:
                self._loop(key_iterator, value_iterator, created, applied)
                break
            except Exception as error:
                index = len(keys) - length_hint(key_iterator) - 1
                applied.failures.append((index, error))
                self._note_mutable(keys[index])
        if created and any(type(self.states[key]) not in _IMMUTABLE for key in created):
            self._guarded = True

    def _loop(self, keys: Any, items: Any, created: list[Any], applied: Applied) -> None:
        plan = self.plan
        if plan.kind != "fold":
            columns.stateful(self.states, keys, items, plan.new, self._step, created, applied.out_keys, applied.outs)
        elif plan.fragment.empty:
            columns.fold(self.states, keys, items, plan.new, plan.step, created)
        else:
            columns.fold_out(self.states, keys, items, plan.new, plan.step, created, applied.out_keys, applied.outs)

    def _note_mutable(self, key: Any) -> None:
        """A fold may begin with None and go on with a list: from its first failure on, it is guarded."""
        if key in self.states and type(self.states[key]) not in _IMMUTABLE:
            self._guarded = True


class _GuardedRun:
    """One batch over states that are changed in place."""

    def __init__(self, stage: StageStates, keys: list[Any], items: list[Any], applied: Applied) -> None:
        self._states = stage.states
        self._new = stage.plan.new
        self._step = stage._step
        self._copy_outputs = stage.plan.kind == "fold" and not stage.plan.fragment.empty
        self._keys = keys
        self._items = items
        self._applied = applied
        self._failed: set[int] = set()
        self._images: dict[Any, tuple[Callable[[], Any] | None, int]] = {}  # key -> (rebuild, from which index on)

    def run(self) -> None:
        for index, (key, value) in enumerate(zip(self._keys, self._items, strict=True)):
            try:
                out = self._change(index, key, value)
            except Exception as error:
                self._failed.add(index)
                self._applied.failures.append((index, error))
                self._rebuild(index, key)
                continue
            if out is not None:
                self._applied.out_keys.append(key)
                self._applied.outs.append(_image(out)() if self._copy_outputs else out)

    def _change(self, index: int, key: Any, value: Any) -> Any:
        state = self._states.get(key, _ABSENT)
        if key not in self._images:
            self._images[key] = (None if state is _ABSENT else _image(state), index)
        if state is _ABSENT:
            state = self._new()
        self._states[key], out = self._step(state, value)
        return out

    def _rebuild(self, index: int, key: Any) -> None:
        rebuild, since = self._images[key]
        state = _ABSENT if rebuild is None else rebuild()
        for earlier in range(since, index):
            if self._keys[earlier] == key and earlier not in self._failed:
                state, _ = self._step(self._new() if state is _ABSENT else state, self._items[earlier])
        if state is _ABSENT:
            self._states.pop(key, None)
        else:
            self._states[key] = state
        self._images[key] = (None if state is _ABSENT else _image(state), index + 1)


def _image(state: Any) -> Callable[[], Any]:
    """A way to make this state again. Bytes are ten times cheaper than a deep copy, and most states can be bytes."""
    if type(state) in _IMMUTABLE:
        return lambda: state
    try:
        packed = values.pack(state)
    except values.NotSerializable:
        copied = copy.deepcopy(state)
        return lambda: copy.deepcopy(copied)
    return lambda: values.unpack(packed)


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


class Owner:
    """All stages' states on this node."""

    def __init__(self, stages: Sequence[StagePlan]) -> None:
        self.stages = tuple(StageStates(plan) for plan in stages)

    def apply(self, stage: int, keys: list[Any], items: list[Any]) -> Applied:
        return self.stages[stage].apply(keys, items)

    def key_count(self) -> int:
        """Keys created on this node, over all stages."""
        return sum(len(stage.states) for stage in self.stages)
