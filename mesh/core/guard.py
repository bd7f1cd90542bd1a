"""States that a step may change in place: an image is taken before, and put back when the step raises.

States    per key of a batch the newest image, and the record before which it was taken. A small state is imaged before
          every record; a large one at its first touch in a batch, and putting it back then runs the good records since
          once more.
Invariant a record whose step raises leaves no trace. An output is what it was when it was made, whatever its state
          becomes.

Where states must travel, a record after which its state cannot is one whose step raised. A small state is packed after
every record to find out; a large one after the batch, and if it cannot, the key's records are run again, one by one.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Any

from mesh.core import columns, values
from mesh.core.codec import check_can_travel
from mesh.core.values import NotSerializable

SMALL_IMAGE = 4096  # bytes; up to here a new image costs about as much as one call of a step
_ABSENT: Any = object()


class UncopyableState(Exception):
    """A state that could be neither guarded nor ever moved to another node."""


@dataclass(slots=True)
class Applied:
    """What became of a batch: outputs by columns, and the records that were set aside."""

    out_keys: list[Any] = field(default_factory=list)
    outs: list[Any] = field(default_factory=list)
    failures: list[tuple[int, BaseException]] = field(default_factory=list)  # (index in the batch, what was raised)


@dataclass(slots=True)
class _Image:
    """A state as it was before the record `since`; `restore(kept)` makes it again."""

    restore: Callable[[Any], Any]
    kept: Any
    since: int
    outs: int = 0  # of the key, in this batch, by then; of a large one that must travel

    @property
    def small(self) -> bool:
        return self.restore is _itself or (self.restore is pickle.loads and len(self.kept) <= SMALL_IMAGE)


class GuardedRun:
    """One batch over states that are changed in place."""

    def __init__(
        self,
        states: dict[Any, Any],
        new: Callable[[], Any],
        step: Callable[[Any, Any], tuple[Any, Any]],
        wants_outputs: bool,
        keys: list[Any],
        items: list[Any],
        applied: Applied,
        must_travel: bool = False,
    ) -> None:
        self._states = states
        self._new = new
        self._step = step
        self._wants_outputs = wants_outputs
        self._keys = keys
        self._items = items
        self._applied = applied
        self._must_travel = must_travel
        self.lost_one = False  # a state that was there before could not be made again
        self._images: dict[Any, _Image] = {}  # invariant: no record of the key has failed since its image was taken
        self._one_by_one: dict[Any, None] = {}  # keys whose states are looked at after each record, however large

    def run(self, start: int) -> None:
        """The records from `start` on."""
        for index in range(start, len(self._keys)):
            self._run_one(index, self._keys[index])
        if self._must_travel:
            for key, image in list(self._images.items()):
                if not image.small and not _travels(self._states.get(key)):
                    self._run_again(key, image, len(self._keys))

    def _run_one(self, index: int, key: Any) -> None:
        try:
            self._remember(index, key)
        except Exception as error:
            self._fail(index, error)
            return
        try:
            state, out = self._step(self._state_of(key), self._items[index])
            self._take(key, state, out)
        except Exception as error:
            self._fail(index, error)
            self._put_back(index, key)

    def _run_again(self, key: Any, image: _Image, end: int) -> None:
        """This key's records from its image on: some of them made a state that cannot travel."""
        try:
            self._states[key] = image.restore(image.kept)
        except Exception:  # code that does not do the same twice; whoever copies the state tells it
            return
        self._one_by_one[key] = None
        self._images.pop(key, None)
        self._take_back_outputs(key, image.outs)
        for index in range(image.since, end):
            if self._keys[index] == key:
                self._run_one(index, key)
        self._one_by_one.pop(key, None)
        self._images.pop(key, None)  # the record at `end` may have failed

    def _take_back_outputs(self, key: Any, but: int) -> None:
        """All of this key's but the first so many."""
        out_keys, outs = self._applied.out_keys, self._applied.outs
        places = [place for place, each in enumerate(out_keys) if each == key]
        for place in reversed(places[but:]):
            del out_keys[place], outs[place]

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
        if image is None or image.small or key in self._one_by_one:
            image = self._images[key] = _image(self._states.get(key, _ABSENT), index)
            if self._must_travel and not image.small:
                image.outs = self._applied.out_keys.count(key)

    def _take(self, key: Any, state: Any, out: Any) -> None:
        if type(out) is GeneratorType:
            out = list(out)  # here and now: it may change the state
        if key not in self._states:
            _image(state, 0)  # told at the first record, not at some later batch
        if self._must_travel and self._looks_at_once(key) and not columns.is_plain(state, columns.NUMBERS):
            check_can_travel(state)
        wanted = self._wants_outputs and out is not None
        if wanted:
            out = _detached(out)
        self._states[key] = state
        if wanted:
            self._applied.out_keys.append(key)
            self._applied.outs.append(out)

    def _looks_at_once(self, key: Any) -> bool:
        image = self._images.get(key)
        return image is None or image.small or key in self._one_by_one

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
            self.lost_one = self.lost_one or image.kept is not _ABSENT
        else:
            self._states[key] = state
            if self._must_travel and not image.small and not _travels(state):
                self._run_again(key, image, index)


def _itself(state: Any) -> Any:
    return state


def _travels(state: Any) -> bool:
    try:
        check_can_travel(state)
    except NotSerializable:
        return False
    return True


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
