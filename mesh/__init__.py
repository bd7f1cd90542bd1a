"""hashmesh: a stateful event processor, a defaultdict across machines. These are the names an application needs."""

from mesh.app.builder import App, KeyedStream, Stateful, Stream
from mesh.app.connectors import (
    Chunk,
    ConnectorError,
    ItemName,
    NamedSink,
    NamedWriter,
    Reader,
    Sink,
    Source,
    Split,
    Writer,
)
from mesh.app.mistakes import AppError, Mistake
from mesh.app.params import Param, param
from mesh.connect.files import files
from mesh.connect.http import http
from mesh.connect.items import items
from mesh.connect.jsonl import jsonl
from mesh.connect.stdin import stdin
from mesh.connect.stdout import stdout

__all__ = [
    "App",
    "AppError",
    "Chunk",
    "ConnectorError",
    "ItemName",
    "KeyedStream",
    "Mistake",
    "NamedSink",
    "NamedWriter",
    "Param",
    "Reader",
    "Sink",
    "Source",
    "Split",
    "Stateful",
    "Stream",
    "Writer",
    "files",
    "http",
    "items",
    "jsonl",
    "param",
    "stdin",
    "stdout",
]
