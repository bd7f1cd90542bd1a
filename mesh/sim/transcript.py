"""A run in words, one line an event: "0.312 s  alpha     suspects beta"."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mesh.core import codec
from mesh.core.events import Log, Millis, Rejected
from mesh.core.messages import Message
from mesh.core.messages.links import Frame
from mesh.core.messages.members import Introduction, Member

if TYPE_CHECKING:
    from mesh.sim.process import Process

_WORDS = {
    "member.alive": "sees {member}",
    "member.suspect": "suspects {member} (incarnation {incarnation})",
    "member.refuted": "hears that {member} lives (incarnation {incarnation})",
    "member.refuting": "hears that it is suspected, and refutes (incarnation {incarnation})",
    "member.dead": "declares {member} dead (incarnation {incarnation})",
    "member.left": "hears that {member} has left",
    "epoch.chosen": "knows what was chosen for epoch {epoch}",
    "partition.agreed": "takes the partition of epoch {epoch}: {slots} slots for {members}",
    "admission.refused": "refuses {member}: its {field} is {yours}, not {mine}",
    "admission.ignored": "was refused by {member} and stays: {field} {mine} against {yours}",
    "record.set_aside": "sets a record aside at {step}: {error}",
}


class Transcript:
    """Collects nothing; lines go to `write` at once, or nowhere."""

    def __init__(self, write: Callable[[str], None] | None = None, *, verbose: bool = False) -> None:
        self.now: Millis = 0
        self._write = write
        self.verbose = verbose and write is not None

    def say(self, who: str, what: str) -> None:
        if self._write is not None:
            self._write(f"{self.now / 1000:8.3f} s  {who:<8} {what}")

    def fault(self, words: str) -> None:
        self.say("*****", words)

    def log(self, process: Process, log: Log) -> None:
        if self._write is not None:
            self.say(process.name, _told(log.event, log.fields))

    def rejected(self, process: Process, rejected: Rejected) -> None:
        if self.verbose:
            self.say(process.name, f"rejects ({rejected.reason}): {rejected.detail}")

    def message(self, sender: str, receiver: str, parts: list[bytes], what: str = "->") -> None:
        """Only when verbose: the caller looks, so that a silent run decodes nothing twice."""
        message = codec.decode(parts[1])
        size = f" + {len(parts[2])} bytes" if len(parts) > 2 else ""
        self.say(sender, f"{what} {receiver}: {_shown(message)}{size}")


def _told(event: str, fields: Mapping[str, Any]) -> str:
    words = _WORDS.get(event)
    if words is None:
        return " ".join([event, *(f"{name}={value}" for name, value in fields.items())])
    shown = {name: " ".join(value) if isinstance(value, list) else value for name, value in fields.items()}
    return words.format(**shown)


def _shown(message: Message) -> str:
    if isinstance(message, Frame):
        return f"frame {message.number} of channel {message.channel}"
    names: tuple[str, ...] = message.__slots__
    fields = [f"{name}={_short(getattr(message, name))}" for name in names]
    return f"{type(message).__name__} {' '.join(fields)}".rstrip()


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return value[:4].hex() if len(value) == 16 else f"{len(value)} bytes"
    if isinstance(value, tuple):
        return f"({', '.join(_short(each) for each in value)})"
    if isinstance(value, Introduction):
        formed = "formed" if value.formed else "not formed"
        return f"({_short(value.member)} of {value.cluster}, {formed}, met {value.met})"
    return f"{value.name}/{value.incarnation}/{value.status}" if isinstance(value, Member) else str(value)
