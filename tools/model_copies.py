#!/usr/bin/env python3
"""One slot and its copies, searched breadth first: every schedule in a small scope, and a shortest one to each failure.

What is modelled: a chain of agreed configurations, which any planner may extend at any time with whatever the rules
allow, whoever it believes alive; processes that learn them late, and leap over some; packs, the chunks of a fill and
the marks that seal a hand-over, in one FIFO lane a pair, of which any suffix may never arrive; processes that end. A
process that starts again is another process, as it is in a table. In a durable scope it returns with its disk, on which
is all that it acknowledged and all that it committed, and of the rest anything; what was on its way to it is gone, and
its seat is its own again once a configuration says so. Agreement itself is taken for correct.

    a process   the newest configuration that it knows; the entries that it holds; how far its fill of another has got
    an entry    applied by an owner -> packed into its lanes -> held by the copies -> committed: answered, given out
    a claim     (term, process): "I hold what this configuration asks of me"

What may be agreed on is in `model_chain`, the rules are in `model_rules`, the search is `breadth_first`.

Invariants, of each state: an owner that knows that it is ACTIVE in the newest configuration holds all that was ever
committed, by anybody; if all that the newest configuration names have ended, nobody lives on whom its owner still
counted, as far as that one knew: who is promoted, or left alone, has heard of it; as long as a copy of the last ACTIVE
configuration lives, the newest one names a copy of it that lives.

Each rule can be left out by its name; the search then shows what it is for. `python tools/model_copies.py [name ..]`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.breadth_first import search
from tools.model_chain import ACTIVE, PENDING, Chain, Claims, Config
from tools.model_rules import RULES


class Process(NamedTuple):
    knows: int = 0  # which configuration
    since: int = 0  # from which one on, as far as it knows, the source has been the same
    held: frozenset[str] | None = None
    chunks: int = 0  # of this term's fill, sent to whoever joins
    claimed: int = 0  # the term at which it said that whoever joins is filled
    ended: bool = False
    life: int = 0


class State(NamedTuple):
    chain: tuple[Config, ...]
    processes: tuple[Process, ...]
    lanes: tuple[tuple[tuple[object, ...], ...], ...]  # from * number + to
    acks: frozenset[
        tuple[object, object, str]
    ]  # (source and since when, entry, by whom); (-a fill's term, key, by whom)
    claims: Claims
    committed: frozenset[str]
    ends: int  # how many processes may still end


class Model:
    """The transitions of a state; `without` is a rule's name."""

    def __init__(
        self, names: str, entries: str, configurations: int, without: str = "", durable: bool = False, copies: int = 2
    ) -> None:
        self.chain = Chain(names, copies, without)
        self.has = self.chain.has
        self.names = names
        self.entries = entries
        self.configurations = configurations
        self.durable = durable

    def place(self, name: str) -> int:
        return self.names.index(name)

    def start(self, chain: tuple[Config, ...], late: str, ends: int, held: str = "") -> State:
        """All know the newest configuration, except who is late; what is held is committed."""
        last = chain[-1]
        all_held = (*last.members, *late)
        processes = tuple(
            Process(0 if name in late else len(chain) - 1, 0, frozenset(held) if name in all_held else None)
            for name in self.names
        )
        empty: tuple[tuple[object, ...], ...] = ()
        lanes = (empty,) * len(self.names) ** 2
        acks = frozenset(((last.source, 0, 0), entry, name) for entry in held for name in last.members)
        return State(chain, processes, lanes, acks, frozenset(), frozenset(held), ends)

    # -- what can happen

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        for name in self.names:
            if not state.processes[self.place(name)].ended:
                yield from self._learns(state, name)
                yield from self._works(state, name)
                yield from self._receives(state, name)
                yield from self._ends(state, name)
        if len(state.chain) < self.configurations:
            lives = {name: process.life for name, process in zip(self.names, state.processes, strict=True)}
            for config in self.chain.next_configs(state.chain[-1], lives, state.claims):
                yield f"agreed: {config}", state._replace(chain=(*state.chain, config))

    def _me(self, state: State, name: str) -> tuple[Process, Config]:
        process = state.processes[self.place(name)]
        return process, state.chain[process.knows]

    def _reign(self, state: State, name: str) -> tuple[str, int, int]:
        """Whose packs, and since when, and which of its lives."""
        process = state.processes[self.place(name)]
        return name, process.since, process.life

    def _with(self, state: State, name: str, **changes: object) -> State:
        place = self.place(name)
        process = state.processes[place]._replace(**changes)
        return state._replace(processes=(*state.processes[:place], process, *state.processes[place + 1 :]))

    def _send(self, state: State, sender: str, to: str, *message: object) -> State:
        lane = self.place(sender) * len(self.names) + self.place(to)
        lanes = list(state.lanes)
        lanes[lane] = (*lanes[lane], message)
        return state._replace(lanes=tuple(lanes))

    def _learns(self, state: State, name: str) -> Iterator[tuple[str, State]]:
        process, before = self._me(state, name)
        for epoch in range(process.knows + 1, len(state.chain)):
            config = state.chain[epoch]
            same = config.source == before.source and config.life(config.source) == before.life(before.source)
            since = process.since if same else process.knows + 1
            new = self._with(state, name, knows=epoch, since=since)
            if before.term != config.term and (self.has("fills of this term") or before.joining != config.joining):
                new = self._with(new, name, chunks=0, claimed=0)
            elif before.term != config.term and process.claimed:
                new = self._with(new, name, claimed=config.term)._replace(claims=new.claims | {(config.term, name)})
            yield f"{name} learns {config}", self._follow(new, name, config, process.since != since)

    def _follow(self, state: State, name: str, config: Config, is_new: bool) -> State:
        """`is_new`: the slot has another source."""
        hasty = not self.has("keep while PENDING") and config.status == PENDING and name != config.owner
        if name not in config.members or (hasty and not config.hands_over):
            return self._with(state, name, held=None)
        process = state.processes[self.place(name)]
        held = process.held or frozenset()
        if config.status == ACTIVE and name == config.owner and is_new:
            # what it begins with is at all copies
            reign = self._reign(state, name)
            return state._replace(acks=state.acks | {(reign, e, c) for e in held for c in config.backups})
        if process.life != config.life(name):
            return state
        if config.owner == name and (config.parting or name == config.donor):
            return state._replace(claims=state.claims | {(config.term, name)})
        if config.hands_over and name == config.donor:
            for other in config.members:
                if other != name:
                    epoch = state.processes[self.place(name)].knows
                    state = self._send(state, name, other, "mark", epoch, process.life, config.term)
            if self.has("mark when durable"):
                state = state._replace(acks=state.acks | {(self._reign(state, name), entry, name) for entry in held})
        return state

    def _works(self, state: State, name: str) -> Iterator[tuple[str, State]]:
        process, config = self._me(state, name)
        reigns = config.owner if config.status == ACTIVE else config.donor if config.hands_over else ""
        if reigns != name or process.held is None or process.life != config.life(name):
            return
        if config.status == ACTIVE or not self.has("donor stops"):
            yield from self._applies(state, name, process, config)
        others = [other for other in config.members if other != name]
        if config.joining and process.chunks == len(self.entries) and self.has("wait for who is filled"):
            others.append(config.joining)
        for entry in sorted(process.held - state.committed):
            if all((self._reign(state, name), entry, other) in state.acks for other in others):
                yield f"{name} commits {entry}", state._replace(committed=state.committed | {entry})
        if config.joining:
            yield from self._fills(state, name, process, config)

    def _applies(self, state: State, name: str, process: Process, config: Config) -> Iterator[tuple[str, State]]:
        assert process.held is not None
        for entry in self.entries:
            if entry not in process.held and entry not in state.committed:
                new = self._with(state, name, held=process.held | {entry})
                for other in (*config.members, *config.joining):
                    if other != name:
                        new = self._send(new, name, other, "pack", process.knows, self._reign(state, name), entry)
                yield f"{name} applies {entry}", new

    def _fills(self, state: State, name: str, process: Process, config: Config) -> Iterator[tuple[str, State]]:
        assert process.held is not None
        if process.chunks < len(self.entries):
            key = self.entries[process.chunks]  # each entry has a key of its own
            content = process.held & {key}
            new = self._with(state, name, chunks=process.chunks + 1)
            of = self._reign(state, name)
            new = self._send(new, name, config.joining, "chunk", process.knows, config.term, of, key, content)
            yield f"{name} sends {config.joining} what it has of key {key}", new
        elif not process.claimed and all((-config.term, key, config.joining) in state.acks for key in self.entries):
            new = self._with(state, name, claimed=config.term)
            yield (
                f"{name} says that {config.joining} is filled",
                new._replace(claims=new.claims | {(config.term, name)}),
            )

    def _receives(self, state: State, name: str) -> Iterator[tuple[str, State]]:
        knows = state.processes[self.place(name)].knows
        for sender in self.names:
            lane = self.place(sender) * len(self.names) + self.place(name)
            for number, message in enumerate(state.lanes[lane]):
                free = not self.has("one lane") or (message[0] == "mark" and not self.has("marks in the lane"))
                if (number and not free) or message[1] > knows:  # type: ignore[operator]
                    continue
                rest = state.lanes[lane][:number] + state.lanes[lane][number + 1 :]
                new = state._replace(lanes=(*state.lanes[:lane], rest, *state.lanes[lane + 1 :]))
                yield f"{name} gets {message[0]} {message[-1]!s} of {sender}", self._take(new, name, sender, message)

    def _take(self, state: State, name: str, sender: str, message: tuple[object, ...]) -> State:
        process, config = self._me(state, name)
        held = process.held or frozenset()
        life = config.life(sender)
        if process.life != config.life(name):
            return state
        match message:
            case ("pack", epoch, of, entry):
                copy = (name in config.members or name == config.joining) and of[2] == life  # type: ignore[index]
                if copy and config.source == sender and epoch >= process.since:  # type: ignore[operator]
                    new = self._with(state, name, held=held | {entry})
                    return new._replace(acks=state.acks | {(of, entry, name)})
                if not self.has("refuse the deposed"):
                    return state._replace(acks=state.acks | {(of, entry, name)})
            case ("chunk", _, term, of, key, content) if (config.term, config.owner, config.joining, life) == (
                term, sender, name, of[2],  # type: ignore[index]
            ):  # fmt: skip
                new = self._with(state, name, held=(held - {key}) | content)  # type: ignore[operator]
                acks: set[tuple[object, object, str]] = {(of, entry, name) for entry in content}  # type: ignore[attr-defined]
                return new._replace(acks=state.acks | acks | {(-config.term, key, name)})
            case ("mark", _, of, term) if config.hands_over and (config.term, config.donor, life) == (term, sender, of):
                return state._replace(claims=state.claims | {(config.term, name)})
        return state

    def _ends(self, state: State, name: str) -> Iterator[tuple[str, State]]:
        if not state.ends:
            return
        left = state._replace(ends=state.ends - 1)
        if self.durable:
            yield from self._returns(left, name)
            return
        yield f"{name} ends", self._with(left, name, ended=True, held=None)
        if not self.has("another process"):
            yield f"{name} starts again, empty", self._with(left, name, held=None, chunks=0, claimed=0)

    def _returns(self, state: State, name: str) -> Iterator[tuple[str, State]]:
        process, _ = self._me(state, name)
        kept = state.committed | {entry for _, entry, who in state.acks if who == name}
        lanes = [
            () if number % len(self.names) == self.place(name) else lane for number, lane in enumerate(state.lanes)
        ]
        for held in {process.held, process.held and frozenset(each for each in process.held if each in kept)}:
            new = self._with(state, name, held=held, chunks=0, claimed=0, life=process.life + 1)
            yield f"{name} ends, and returns with {sorted(held or ())}", new._replace(lanes=tuple(lanes))

    # -- invariants

    def wrong(self, state: State) -> str:
        now = state.chain[-1]
        owner = state.processes[self.place(now.owner)]
        knows = owner.knows == len(state.chain) - 1 and not owner.ended and owner.life == now.life(now.owner)
        if now.status == ACTIVE and knows:
            missing = state.committed - (owner.held or frozenset())
            if missing:
                return f"{now.owner} is ACTIVE and lacks {sorted(missing)}, which was committed"
        last = next(config for config in reversed(state.chain) if config.status == ACTIVE)
        living = [name for name in last.members if not state.processes[self.place(name)].ended]
        named = [name for name in now.members if not state.processes[self.place(name)].ended]
        if living and not named:
            return f"{living} of the last ACTIVE configuration live, and nobody looks for them"
        counted = [name for name in state.chain[owner.knows].counted if not state.processes[self.place(name)].ended]
        if counted and not named:
            return f"{now.owner} ended before it knew that it goes on without {counted}, who live"
        return ""

    def unfinished(self, state: State) -> str:
        """A scope is small: it may end anywhere."""
        return ""


TWO, THREE, ALONE = Config(1, 1, "A", ("B",)), Config(1, 1, "A", ("B", "C")), Config(1, 1, "A", ())
JOINING = Config(2, 1, "A", ("B",), joining="C")
JOINING_ONE = Config(2, 1, "A", (), joining="B")
PROMOTING = Config(2, 2, "B", ("A", "C"), PENDING, "B")
HANDING_OVER = Config(2, 1, "B", ("A", "C"), PENDING, "A")
PASSED_ON = (TWO, Config(5, 4, "C", ()))  # B was promoted, filled C and gave it the slot; A has heard of nothing

# name: (names, entries, most configurations, first ones, who is late, how many may end, committed at the start)
SCOPES: dict[str, tuple[str, str, int, tuple[Config, ...], str, int, str]] = {
    "two copies": ("AB", "p", 5, (TWO,), "", 1, ""),
    "three copies": ("ABC", "p", 3, (THREE,), "", 2, ""),
    "a copy joins": ("AB", "p", 5, (JOINING_ONE,), "", 1, ""),
    "two entries and a fill": ("AB", "pq", 4, (ALONE,), "", 0, ""),
    "two copies and a third": ("ABC", "p", 4, (JOINING,), "", 0, ""),
    "a hand-over has begun": ("ABC", "p", 5, (THREE, HANDING_OVER), "A", 0, ""),
    "three copies and a change of owner": ("ABC", "p", 5, (THREE, PROMOTING), "ABC", 0, ""),
    "a deposed owner that is late": ("ABC", "p", 4, PASSED_ON, "A", 1, ""),
    "one copy, and somebody returns": ("AB", "p", 5, (ALONE,), "", 1, ""),
    "two copies, and somebody returns": ("AB", "p", 5, (TWO,), "", 1, ""),
    "a copy joins, and somebody returns": ("AB", "p", 4, (JOINING_ONE,), "", 1, ""),
}
DURABLE = [scope for scope in SCOPES if "returns" in scope]


def main() -> int:
    wanted = sys.argv[1:] or ["", *RULES]
    failed = False
    for rule in wanted:
        told, only = RULES[rule] if rule else ("with all rules", "")
        print(f"without: {rule} ({told})" if rule else told, flush=True)
        for scope in [only] if rule else SCOPES:
            names, entries, most, chain, late, ends, held = SCOPES[scope]
            copies = 3 if scope == "three copies" else 2
            model = Model(names, entries, most, rule, scope in DURABLE, copies)
            found, seen, steps = search(model, model.start(chain, late, ends, held), 1_500_000)
            print("\n      ".join([f"  {scope}: {found or 'nothing wrong'} [{seen:,} states]", *steps]), flush=True)
            failed |= bool(steps) != bool(rule)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
