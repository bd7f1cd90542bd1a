#!/usr/bin/env python3
"""The log by which writers of a file sink show each item once, searched breadth first; see mesh/connect/commit_log.py.

What is modelled: streams of items, each with an owner, which any live process may become at any time; who was the owner
goes on with what it was given and hears nothing of it. Whoever becomes the owner is given all items that are not known
to be in the sink. A flush is cut into what other processes can come between: reading one commit and showing its part,
taking the next commit, showing the own part, telling. A process may end anywhere, and any may be slow without end.

Invariants, of each state: no item is shown twice; what is known to be in the sink is shown. Where nothing can happen
any more, all is known to be in the sink.

Each rule can be left out by its name; the search then shows what it is for. `python tools/model_sinks.py [name ..]`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.breadth_first import search

Item: TypeAlias = tuple[str, int]
Items: TypeAlias = tuple[Item, ...]

RULES = {
    "one takes it": "of several who want a commit's number one gets it, and the others read first",
    "leave out": "what others have committed is left out of a part",
    "leave out again": "so it is when another was faster after that",
    "show what you read": "who reads a commit shows its part, if that has not been done",
    "commit, then show": "a part is committed before it is shown",
    "show, then tell": "what is told to be in the sink is shown",
    "given again": "what is given again while it waits is not written again",
}


class Process(NamedTuple):
    given: frozenset[Item] = frozenset()  # since the last flush: to be told of
    part: Items = ()  # what of it is to be shown
    at: str = ""  # in a flush: reading, ready, committed, shown
    late: bool = False  # another took the commit that it wanted
    read: int = 0  # commits
    known: Items = ()
    ended: bool = False


class Stream(NamedTuple):
    owner: int = 0
    made: int = 0
    over: int = 0  # known to be in the sink


class State(NamedTuple):
    processes: tuple[Process, ...]
    streams: tuple[Stream, ...]
    log: tuple[Items, ...] = ()
    shown: tuple[int, ...] = ()  # commits, in no order
    strays: Items = ()  # shown without a commit
    moves: int = 0
    ends: int = 0


class Model:
    """The transitions of a state; `without` is a rule's name."""

    def __init__(self, items: int, without: str = "") -> None:
        assert not without or without in RULES
        self.items = items
        self.without = without

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for number in range(len(state.streams)):
            yield from self.life(state, number)
        for number, process in enumerate(state.processes):
            if process.ended:
                continue
            if state.ends:
                yield (
                    f"{number} ends",
                    self.to(state, number, process._replace(ended=True))._replace(ends=state.ends - 1),
                )
            yield from self.flush(state, number, process)

    def life(self, state: State, number: int) -> Iterator[tuple[str, State]]:
        """Items are made, and the stream's slot comes to another process."""
        stream = state.streams[number]
        owner = state.processes[stream.owner]
        if stream.made < self.items and not owner.ended and not owner.at:
            made = stream._replace(made=stream.made + 1)
            yield f"{stream.owner} makes", self.give(state, number, made, stream.made)
        for new, process in enumerate(state.processes):
            may = state.moves or owner.ended
            if may and new != stream.owner and not process.ended and not process.at:
                moved = state._replace(moves=max(0, state.moves - 1))
                yield (
                    f"stream {number} comes to {new}",
                    self.give(moved, number, stream._replace(owner=new), stream.over),
                )

    def give(self, state: State, number: int, stream: Stream, start: int) -> State:
        """The owner is given its items from there on."""
        process = state.processes[stream.owner]
        items = [("xyz"[number], each) for each in range(start, stream.made)]
        known = process.known if self.without == "given again" else (*process.known, *process.part)
        new = process._replace(
            given=process.given.union(items), part=(*process.part, *(item for item in items if item not in known))
        )
        given = state._replace(streams=_with(state.streams, number, stream))
        return self.to(given, stream.owner, new)

    def flush(self, state: State, number: int, process: Process) -> Iterator[tuple[str, State]]:
        match process.at:
            case "" if process.given:
                yield (
                    f"{number} flushes",
                    self.to(state, number, process._replace(at="reading" if process.part else "shown")),
                )
            case "reading" if process.read < len(state.log):
                yield f"{number} reads commit {process.read}", self.reads(state, number, process)
            case "reading":
                part = tuple(item for item in process.part if item not in process.known)
                if self.without == "leave out" or (self.without == "leave out again" and process.late):
                    part = process.part
                at = "ready" if part else "shown"
                yield f"{number} has read all", self.to(state, number, process._replace(part=part, at=at))
            case "ready":
                yield f"{number} wants commit {process.read}", self.commits(state, number, process)
            case "committed":
                yield f"{number} shows", self.shows(state, number, process)
            case "shown":
                yield f"{number} tells", self.tells(state, number, process)

    def reads(self, state: State, number: int, process: Process) -> State:
        known = (*process.known, *state.log[process.read])
        shown = state.shown if self.without == "show what you read" else _with_commit(state.shown, process.read)
        return self.to(state, number, process._replace(read=process.read + 1, known=known))._replace(shown=shown)

    def commits(self, state: State, number: int, process: Process) -> State:
        if self.without == "commit, then show" and not set(process.part) <= set(state.strays):
            return state._replace(strays=state.strays + process.part)
        if process.read < len(state.log) and self.without != "one takes it":
            return self.to(state, number, process._replace(at="reading", late=True))
        known = (*process.known, *process.part)
        new = process._replace(at="committed", read=len(state.log) + 1, known=known)
        return self.to(state, number, new)._replace(log=(*state.log, process.part))

    def shows(self, state: State, number: int, process: Process) -> State:
        if self.without == "show, then tell" and process.given:
            return self.told(state, number, process)
        mine = process.read - 1
        shown = state.shown if self.without == "commit, then show" else _with_commit(state.shown, mine)
        return self.to(state, number, process._replace(at="shown"))._replace(shown=shown)

    def tells(self, state: State, number: int, process: Process) -> State:
        return self.told(state, number, process._replace(at="", part=(), late=False))

    def told(self, state: State, number: int, process: Process) -> State:
        streams = list(state.streams)
        for name, each in process.given:
            place = "xyz".index(name)
            streams[place] = streams[place]._replace(over=max(streams[place].over, each + 1))
        return self.to(state, number, process._replace(given=frozenset()))._replace(streams=tuple(streams))

    def to(self, state: State, number: int, process: Process) -> State:
        return state._replace(processes=_with(state.processes, number, process))

    def wrong(self, state: State) -> str:
        shown = [item for number in state.shown for item in state.log[number]] + list(state.strays)
        if len(shown) > len(set(shown)):
            return "an item is shown twice"
        for number, stream in enumerate(state.streams):
            if any(("xyz"[number], each) not in shown for each in range(stream.over)):
                return "an item is lost"
        return ""

    def unfinished(self, state: State) -> str:
        """Nothing can happen any more."""
        living = any(not process.ended for process in state.processes)
        return "an item waits for ever" if living and any(each.over < each.made for each in state.streams) else ""


def _with(row: tuple, number: int, new: object) -> tuple:  # type: ignore[type-arg]
    return (*row[:number], new, *row[number + 1 :])


def _with_commit(shown: tuple[int, ...], number: int) -> tuple[int, ...]:
    return tuple(sorted({*shown, number}))


# name: (processes, streams, items of each, changes of owner, ends)
SCOPES = {
    "one stream to and fro": (2, 1, 2, 2, 1),
    "two streams, two takers": (3, 2, 1, 2, 1),
    "one stream through three": (3, 1, 2, 2, 2),
}


def start(scope: str) -> tuple[int, State]:
    processes, streams, items, moves, ends = SCOPES[scope]
    return items, State((Process(),) * processes, (Stream(),) * streams, moves=moves, ends=ends)


def main() -> int:
    failed = False
    for rule in sys.argv[1:] or ["", *RULES]:
        print(f"without: {rule} ({RULES[rule]})" if rule else "with all rules", flush=True)
        wrong = False
        for scope in SCOPES:
            items, first = start(scope)
            found, seen, steps = search(Model(items, rule), first)
            print("\n      ".join([f"  {scope}: {found or 'nothing wrong'} [{seen:,} states]", *steps]), flush=True)
            wrong |= bool(found)
        failed |= wrong != bool(rule)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
