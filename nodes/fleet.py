"""Nodes as child processes of one command: started, listened to, stopped.

A child logs JSON lines to its stderr; they arrive here as happenings, in one queue, and the command decides what to do.
A child's stdout carries results: its whole lines go to this process's stdout, as many at once as are there. Children
have a process group of their own, so that a terminal's Ctrl-C reaches them through the parent only, in good order; and
their standard input is a pipe whose end tells them that the parent is gone, however it went.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from nodes import logs

BLOCK = 1 << 16
MAX_LINE = 16 << 20  # bytes; a longer line without an end is passed on in pieces


@dataclass(frozen=True, slots=True)
class Logged:
    """A node's log line."""

    name: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wrote:
    """Something else on a node's stderr: the author's print, a traceback."""

    name: str
    line: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A node's process is gone, and all that it wrote has been passed on."""

    name: str
    code: int  # negative: minus the signal's number


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Somebody asked this command to stop."""


@dataclass(frozen=True, slots=True)
class Unwritable:
    """Results cannot be written to this process's stdout; the children's are dropped from now on."""

    reason: str


Happening = Logged | Wrote | Exited | Interrupted | Unwritable


@dataclass
class Fleet:
    """The children of one command, by name in the order of their start."""

    topology_file: str
    names: tuple[str, ...]
    options: tuple[str, ...]  # those of `mesh node`
    on_output: Callable[[], None] = lambda: None  # before lines go to stdout
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _happenings: queue.SimpleQueue[Happening] = field(default_factory=queue.SimpleQueue)
    _stdout_lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "nodes", self.topology_file, "--parent-pipe", *self.options]
        for name in self.names:
            child = subprocess.Popen(
                [*command, "--name", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
            self.children[name] = child
            threading.Thread(target=self._watch, args=(name, child), name=f"watch-{name}", daemon=True).start()

    def next(self, timeout: float) -> Happening | None:
        """The next happening, or None when there was none for so many seconds."""
        try:
            return self._happenings.get(timeout=timeout)
        except queue.Empty:
            return None

    def interrupt(self) -> None:
        """May be called by a signal handler."""
        self._happenings.put(Interrupted())

    def stop(self) -> None:
        """Ask all to drain and end, in their order. They drain together: each may need another's answers."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for child in self.children.values():
            child.send_signal(number)  # does nothing to one that has ended

    # -- threads: three a child

    def _watch(self, name: str, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        readers = [
            threading.Thread(target=self._pass_results, args=(child.stdout,), daemon=True),
            threading.Thread(target=self._read_log, args=(name, child.stderr), daemon=True),
        ]
        for reader in readers:
            reader.start()
        code = child.wait()
        for reader in readers:
            reader.join(2.0)  # a grandchild may hold the pipes open
        self._happenings.put(Exited(name, code))

    def _read_log(self, name: str, stream: BinaryIO) -> None:
        for raw in stream:
            line = raw.decode(errors="replace").rstrip("\n")
            fields = logs.parse_line(line)
            self._happenings.put(Wrote(name, line) if fields is None else Logged(name, fields))

    def _pass_results(self, stream: BinaryIO) -> None:
        rest = b""
        while block := os.read(stream.fileno(), BLOCK):
            cut = block.rfind(b"\n") + 1
            if not cut and len(rest) < MAX_LINE:
                rest += block
                continue
            self._write(rest + block[:cut])
            rest = block[cut:]
        if rest:
            self._write(rest)

    def _write(self, lines: bytes) -> None:
        with self._stdout_lock:
            self.on_output()
            try:
                sys.stdout.buffer.write(lines)
                sys.stdout.buffer.flush()
            except OSError as error:  # a child whose pipe nobody empties would wait for ever
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                seen_enough = isinstance(error, BrokenPipeError)  # says whoever read the results
                self._happenings.put(Interrupted() if seen_enough else Unwritable(error.strerror or str(error)))
