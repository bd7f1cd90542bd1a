"""The owner's side: the states of this node's keys, created lazily, changed one batch at a time.

States    per stage a dict key -> state. Keys are str, int or bytes, so equal keys are the same key (no 1 == 1.0).
Events    `apply(stage, keys, values)`, in the order in which the link delivered the batches.
Invariant a record whose step raises leaves no trace: its state is what it was, its output does not exist, the records
          before and after it count. An output is what it was when it was made, whatever its state becomes.

Plain states (int, str, tuples of them ...) are replaced, not changed, and give both for nothing: their loops are in
`columns`. The first state of a stage that is not plain makes the stage guarded for good. There an image of a state is
taken before a step may change it, and put back when the step raises. A large state is imaged at its first touch in a
batch only; putting it back then runs the good records since once more.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import length_hint
from types import GeneratorType
from typing import Any

from mesh.app.jsontext import to_json
from mesh.app.plan import StagePlan
from mesh.core import columns, values

SMALL_IMAGE = 4096  # bytes; up to here a new image costs about as much as one call of a step
MAX_STATE = 8 << 20  # bytes of JSON: what the HTTP door takes, and far below what a link takes
TOO_LARGE = {"repr": f"a state of more than {MAX_STATE >> 20} MiB of JSON"}
FOUND, ABSENT, UNKNOWN_STAGE = "found", "absent", "unknown-stage"
_ABSENT: Any = object()


class UncopyableState(Exception):
    """A state that could be neither guarded nor ever moved to another node."""


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
        self.states: dict[Any, Any] = {}  # invariant: all plain until the stage is guarded
        self.step = _normal_step(plan)
        self._guarded = False

    def apply(self, keys: list[Any], items: list[Any]) -> Applied:
        """Run the stage's step for every record, in order."""
        applied = Applied()
        guarded = _GuardedRun(self, keys, items, applied)
        if self._guarded:
            guarded.run(0)
            return applied
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
                guarded.accept(taken - 1, *unplain)
                guarded.run(taken)
            return applied

    def _loop(self, keys: Any, items: Any, applied: Applied) -> tuple[Any, Any] | None:
        plan = self.plan
        if plan.kind != "fold":
            return columns.stateful(self.states, keys, items, plan.new, self.step, applied.out_keys, applied.outs)
        if plan.fragment.empty:
            return columns.fold(self.states, keys, items, plan.new, plan.step)
        return columns.fold_out(self.states, keys, items, plan.new, plan.step, applied.out_keys, applied.outs)


@dataclass(frozen=True, slots=True)
class _Image:
    """A state as it was before the record `since`; `restore(kept)` makes it again."""

    restore: Callable[[Any], Any]
    kept: Any
    since: int

    @property
    def small(self) -> bool:
        return self.restore is _itself or (self.restore is pickle.loads and len(self.kept) <= SMALL_IMAGE)


class _GuardedRun:
    """One batch over states that are changed in place."""

    def __init__(self, stage: StageStates, keys: list[Any], items: list[Any], applied: Applied) -> None:
        self._states = stage.states
        self._new = stage.plan.new
        self._step = stage.step
        self._wants_outputs = not stage.plan.fragment.empty
        self._keys = keys
        self._items = items
        self._applied = applied
        self._images: dict[Any, _Image] = {}  # invariant: no record of the key has failed since its image was taken

    def run(self, start: int) -> None:
        """The records from `start` on."""
        for index in range(start, len(self._keys)):
            key = self._keys[index]
            try:
                self._remember(index, key)
            except Exception as error:
                self._fail(index, error)
                continue
            try:
                state, out = self._step(self._state_of(key), self._items[index])
                self._take(key, state, out)
            except Exception as error:
                self._fail(index, error)
                self._put_back(index, key)

    def accept(self, index: int, state: Any, out: Any) -> None:
        """The state that showed that this stage needs a guard; what it replaces is plain and still there."""
        try:
            _image(state, index)
            self._take(self._keys[index], state, out)
        except Exception as error:
            self._fail(index, error)

    def _state_of(self, key: Any) -> Any:
        state = self._states.get(key, _ABSENT)
        return self._new() if state is _ABSENT else state

    def _remember(self, index: int, key: Any) -> None:
        image = self._images.get(key)
        if image is None or image.small:
            self._images[key] = _image(self._states.get(key, _ABSENT), index)

    def _take(self, key: Any, state: Any, out: Any) -> None:
        if type(out) is GeneratorType:
            out = list(out)  # here and now: it may change the state
        if key not in self._states:
            _image(state, 0)  # told at the first record, not at some later batch
        wanted = self._wants_outputs and out is not None
        if wanted:
            out = _detached(out)
        self._states[key] = state
        if wanted:
            self._applied.out_keys.append(key)
            self._applied.outs.append(out)

    def _fail(self, index: int, error: BaseException) -> None:
        self._applied.failures.append((index, error))

    def _put_back(self, index: int, key: Any) -> None:
        image = self._images.pop(key)
        state = _ABSENT
        try:
            state = image.restore(image.kept)
            for earlier in range(image.since, index):
                if self._keys[earlier] == key:
                    state, _ = self._step(self._new() if state is _ABSENT else state, self._items[earlier])
        except Exception as error:  # code that does not do the same twice: tell it, and keep what could be made again
            self._applied.failures.append((index, error))
        if state is _ABSENT:
            self._states.pop(key, None)
        else:
            self._states[key] = state


def _itself(state: Any) -> Any:
    return state


def _image(state: Any, since: int) -> _Image:
    """Raises UncopyableState. Pickled, in memory only: several times cheaper than a deep copy, and as faithful."""
    if state is _ABSENT or columns.is_plain(state):
        return _Image(_itself, state, since)
    try:
        return _Image(pickle.loads, pickle.dumps(state, pickle.HIGHEST_PROTOCOL), since)
    except Exception:  # a class that pickle does not find by its name, a lambda ...
        try:
            return _Image(copy.deepcopy, copy.deepcopy(state), since)
        except Exception as error:
            raise UncopyableState(f"{values.show(state)} cannot be a state: {type(error).__name__}: {error}") from None


def _detached(out: Any) -> Any:
    """An output is often the state itself, or a part of it, and later records of the batch change that."""
    if columns.is_plain(out):
        return out
    try:
        image = _image(out, 0)
    except UncopyableState:
        return out  # it can go to a sink of this node, as it is
    return image.kept if image.restore is copy.deepcopy else image.restore(image.kept)


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

    def read(self, stage: str, key: Any) -> tuple[str, bytes]:
        """(outcome, JSON text) of a key that this node owns; creates nothing."""
        for each in self.stages:
            if each.plan.name == stage:
                if key not in each.states:
                    return ABSENT, b""
                text = to_json(each.states[key]).encode("utf-8", "replace")
                return FOUND, text if len(text) <= MAX_STATE else to_json(TOO_LARGE).encode()
        return UNKNOWN_STAGE, b""

    def key_count(self) -> int:
        """Keys created on this node, over all stages."""
        return sum(len(stage.states) for stage in self.stages)
