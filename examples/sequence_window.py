"""The last four ids of every key, in the order in which they came: records come by HTTP, state stays whatever moves.

    mesh run examples/sequence_window.py --http 127.0.0.1:7480 --set output=windows
    curl -X POST --data-binary '{"key": "a", "id": 1}' http://127.0.0.1:7480/v1/sources/events
    mesh get window a

It runs until Ctrl-C. A producer that names itself may send its lines again, to any node, and each is applied once:
-H 'Producer-Id: p' -H 'First-Seq: 0'.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import mesh


class Event(TypedDict):
    key: str
    id: int


@dataclass
class Window:
    count: int = 0
    sum: int = 0
    last: list[int] = field(default_factory=list)  # the last four ids

    def on_record(self, event: Event) -> tuple[str, int, int]:
        self.count += 1
        self.sum += event["id"]
        self.last = [*self.last, event["id"]][-4:]
        return event["key"], event["id"], self.count


def checked(event: object) -> Event:
    """Whoever posts something else is told so."""
    if not isinstance(event, dict) or not event.keys() >= {"key", "id"}:
        raise ValueError('an event is {"key": str, "id": int}')
    if not isinstance(event["key"], str) or type(event["id"]) is not int:
        raise ValueError('an event is {"key": str, "id": int}')
    return Event(key=event["key"], id=event["id"])


output = mesh.param("output", default=None, kind=Path, help="a directory, new or empty, for [key, id, count] lines")

app = mesh.App("sequence-window")
events = app.source("events", mesh.http()).map(checked)
windows = events.key_by(lambda event: event["key"]).stateful("window", Window)
windows.values().to(mesh.jsonl(output))
