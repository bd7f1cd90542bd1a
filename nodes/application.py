"""The author's application as the operator starts it: found, loaded, its parameters set, its mistakes told.

The mistakes of the parameters and of the author's graph come back together; only where there is no app to look at is
that all there is to say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mesh
from mesh import App, AppError, ConnectorError
from mesh.app.load import load_app
from mesh.app.plan import Plan
from mesh.app.plan import compile as compile_app
from nodes.mistakes import Mistake, Mistaken, did_you_mean
from nodes.topology import AppChoice, Examined, ParamValue, Topology


@dataclass(frozen=True, slots=True)
class Application:
    """An app without mistakes, its parameters set."""

    app: App
    plan: Plan


def load(examined: Examined) -> tuple[Topology, Application]:
    """What a file and its app came to. Raises `Mistaken` with the mistakes of both."""
    application, mistakes = open_application(examined.app) if examined.app else (None, [])
    if examined.topology is None or application is None:
        raise Mistaken([*examined.mistakes, *mistakes])
    return examined.topology, application


def open_application(choice: AppChoice) -> tuple[Application | None, list[Mistake]]:
    """Load, set, check."""
    try:
        app = load_app(choice.module, Path(choice.base))
    except AppError as error:
        return None, [_located(each, choice.place) for each in error.mistakes]
    mistakes = [*set_params(app, choice.params), *(ours(each) for each in app.check())]
    return (None if mistakes else Application(app, compile_app(app))), mistakes


def _located(mistake: mesh.Mistake, place: Mistake) -> Mistake:
    """What is not in a line of the author's is in the choice of the app."""
    return ours(mistake) if mistake.line else replace(place, text=mistake.text)


def set_params(app: App, params: Sequence[ParamValue]) -> list[Mistake]:
    """What is not set has its default."""
    known = app.params
    values: dict[str, object] = {name: param.default for name, param in known.items()}
    mistakes = []
    for each in params:
        param = known.get(each.name)
        try:
            if param is None:
                raise ValueError(_unknown_param(app.name, each.name, known))
            values[each.name] = param.parse(each.value, Path(each.base))
        except ValueError as error:
            mistakes.append(replace(each.place, text=str(error)))
    for name, param in known.items():
        param.set(values[name])
    return mistakes


def _unknown_param(app: str, name: str, known: Iterable[str]) -> str:
    return f'app "{app}" has no param "{name}"' + (did_you_mean(name, known) or "; it has none at all")


def ours(mistake: mesh.Mistake) -> Mistake:
    """An author's mistake, its file as short as it can be said from here."""
    file = os.path.relpath(mistake.file) if os.path.isabs(mistake.file) else mistake.file
    return Mistake(mistake.file if file.startswith("..") else file, mistake.line, mistake.column, mistake.text)


def missing_input(plan: Plan) -> list[str]:
    """Sources that would fail at once on this machine, a sentence each."""
    sentences = []
    for source in plan.sources:
        try:
            source.connector.splits()
        except ConnectorError as error:
            sentences.append(f'source "{source.name}": {error}')
    return sentences


def reads_stdin(plan: Plan) -> bool:
    return any(type(source.connector) is type(mesh.stdin()) for source in plan.sources)


def takes_posts(plan: Plan) -> list[str]:
    """The sources that producers post to."""
    return [source.name for source in plan.sources if isinstance(source.connector, type(mesh.http()))]


def writes_stdout(plan: Plan) -> bool:
    return any(type(sink.connector) is type(mesh.stdout()) for sink in plan.sinks)
