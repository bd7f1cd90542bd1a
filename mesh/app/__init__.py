"""The dataflow builder: what an application is, as a pure description, and how one is found. Nothing runs in here."""

from mesh.app.builder import App, KeyedStream, Stream
from mesh.app.connectors import ConnectorError
from mesh.app.load import load_app
from mesh.app.mistakes import AppError, Mistake
from mesh.app.params import Param
from mesh.app.plan import Plan
from mesh.app.plan import compile as compile_app

__all__ = [
    "App",
    "AppError",
    "ConnectorError",
    "KeyedStream",
    "Mistake",
    "Param",
    "Plan",
    "Stream",
    "compile_app",
    "load_app",
]
