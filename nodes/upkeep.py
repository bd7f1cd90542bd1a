"""Keeping nodes of this machine up: one log, one end.

Every node's log lines appear as if they were this process's own. Ctrl-C asks all nodes to stop, a second one kills
them. A node that dies takes its part of the keys with it, so its slots are named; what then happens to the others is
`on_loss`'s to say: `mesh up` lets them go on. Where slots have copies, so many nodes may be killed that the others have
all that there was (`spare`): they go on, and that is no failure.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nodes import logs
from nodes.client import Client
from nodes.fleet import Exited, Fleet, Interrupted, Logged, Unwritable, Wrote
from nodes.mistakes import Failure
from nodes.ring import Run, ranges
from nodes.signals import on_stop_signals

TICK_SECONDS = 0.25
STOP_SECONDS = 30.0  # nodes drain for a few seconds at most; then they are killed
ASK_SECONDS = 1.0  # a busy node may answer late, and the log has to go on


class Upkeep:
    """The nodes of one command, from start to end."""

    def __init__(self, topology_file: str, names: Sequence[str], options: Sequence[str], *, spare: int = 0) -> None:
        self.spared: dict[str, None] = {}  # nodes that were killed, and whose part the others have
        self._spare = spare
        self.fleet = Fleet(topology_file, tuple(names), tuple(options))
        self.log = logs.logger()
        self.code = 0
        self.doors: dict[str, str] = {}  # name -> host:port of the nodes that are up
        self.stopping = False
        self.leavers: dict[str, None] = {}  # nodes that were asked to hand over and go
        self._left = set(names)
        self._stop_deadline = float("inf")
        self._slots: dict[str, str] = {}  # name -> what it said that it owns
        self._renderer = logs.Renderer(readable=sys.stderr.isatty(), colours=logs.has_colours(sys.stderr))

    def run(self) -> int:
        """Until all nodes have ended; the exit code."""
        on_stop_signals(self.fleet.interrupt, self.fleet.kill)
        try:
            self.fleet.start()
            while self._left:
                self._next()
                self.tick()
                self._lose_patience()
        finally:
            self.fleet.kill()
        return self.code

    def _next(self) -> None:
        match self.fleet.next(TICK_SECONDS):
            case Logged(name, fields):
                self._show(fields)
                self.heard(name, fields)
            case Wrote(name, line):
                self._pass(name, line)
            case Exited(name, code):
                self._left.discard(name)
                self.doors.pop(name, None)
                self._ended(name, code)
            case Interrupted():
                self.log.info("mesh.stopping")
                self.stop()
            case Unwritable(reason):
                self.log.error("mesh.stdout_failed", detail=f"results cannot be written: {reason}")
                self.code = 1
                self.stop()

    def tick(self) -> None:
        """Now and then, whether or not something happened."""

    def heard(self, name: str, fields: dict[str, Any]) -> None:
        """A node logged something."""
        if fields["event"] == "node.listening" and fields.get("http"):
            self.doors[name] = str(fields["http"])
        elif fields["event"] == "partition.agreed":
            self._slots[name] = str(fields.get("own", "none"))
        elif fields["event"] == "node.leaving":
            self.leavers[name] = None
        elif fields["event"] == "node.refused":
            self.code = self.code or 2

    def needs(self, name: str) -> bool:
        """Whether it is a loss, too, if this node stops in good order."""
        return False

    def on_loss(self) -> None:
        """A node ended that should not have."""

    def on_spared(self) -> None:
        """A node was killed, and the others go on without it."""

    def stop(self) -> None:
        if not self.stopping:
            self.stopping = True
            self._stop_deadline = time.monotonic() + STOP_SECONDS
            self.fleet.stop()

    def _lose_patience(self) -> None:
        if time.monotonic() > self._stop_deadline:
            self._stop_deadline = float("inf")
            self.log.error("mesh.killed", detail=f"did not stop within {STOP_SECONDS:g} s", nodes=sorted(self._left))
            self.code = self.code or 1
            self.fleet.kill()

    def _ended(self, name: str, code: int) -> None:
        if self.stopping and code in (0, -signal.SIGTERM):  # the signal, where it had not yet begun to listen to us
            return
        if code == 0 and not self.needs(name):  # somebody asked this one to stop
            return
        if self.stopping:
            self.log.warning("node.ended_badly", name=name, exit_code=code)
            self.code = self.code or 1
        elif code == 2:  # its own line said why
            self.code = self.code or 2
            self.on_loss()
        elif code < 0 and len(self.spared) < self._spare:
            self.spared[name] = None
            self._tell_death(name, code, "the others have copies of its slots, and go on")
            self.on_spared()
        else:
            self._tell_death(name, code)
            self.code = 1
            self.on_loss()

    def _tell_death(self, name: str, code: int, what_of_it: str = "") -> None:
        slots = self._slots_of(name)
        cause = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        detail = f"{name} ended {cause}; {what_of_it or _loss(slots)}"
        (self.log.warning if what_of_it else self.log.error)("node.died", name=name, slots=slots, detail=detail)

    def _slots_of(self, name: str) -> str:
        """As those that are up know it; they have moved since the founding."""
        ring = self.ask("v1", "ring")
        if ring is None or not any(run["owner"] == name for run in ring["runs"]):
            return self._slots.get(name, "none")
        return ranges([Run(each["first"], each["last"], name, "") for each in ring["runs"] if each["owner"] == name])

    # -- what nodes say of themselves

    def ask(self, *path: str) -> Mapping[str, Any] | None:
        """The first good answer of a node that is up."""
        for door in list(self.doors.values()):
            try:
                return dict(Client(f"http://{door}", ASK_SECONDS).result(*path).body)
            except Failure:
                continue
        return None

    # -- one log

    def _show(self, fields: dict[str, Any]) -> None:
        level = str(fields.get("level", "info"))
        self._print(self._renderer(None, level, dict(fields)))

    def _pass(self, name: str, line: str) -> None:
        if sys.stderr.isatty():
            self._print(f"{name} | {line}")
        else:
            self._print(json.dumps({"node": name, "event": "node.wrote", "line": line}))

    def _print(self, line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _loss(slots: str) -> str:
    if slots == "none":
        return "it owned no slots"
    return f"the state in its slots {slots} is gone, nobody else holds it"
