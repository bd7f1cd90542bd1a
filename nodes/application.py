"""The author's application as the operator starts it: found, loaded, its parameters set, its mistakes told.

The mistakes of the file that names the app, of its parameters and of the author's graph come back together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mesh.app import App, AppError, ConnectorError, Plan, compile_app, load_app
from nodes.mistakes import Mistake, did_you_mean
from nodes.topology import ParamValue


@dataclass(frozen=True, slots=True)
class Application:
    """What was asked for and what came of it; without a plan there are mistakes."""

    app: App | None
    plan: Plan | None
    mistakes: tuple[Mistake, ...]


def open_application(module: str, params: Sequence[ParamValue], place: Mistake) -> Application:
    """Load, set, check. `place` is where the module was named."""
    try:
        app = load_app(module)
    except AppError as error:
        return Application(None, None, tuple(_located(error.mistakes, place)))
    mistakes = [*set_params(app, params), *(_ours(mistake) for mistake in app.check())]
    plan = None if mistakes else compile_app(app)
    return Application(app, plan, tuple(mistakes))


def set_params(app: App, params: Sequence[ParamValue]) -> list[Mistake]:
    """Later values win; what is not set has its default."""
    known = app.params
    values = {name: param.default for name, param in known.items()}
    mistakes = []
    for each in params:
        param = known.get(each.name)
        try:
            if param is None:
                hint = did_you_mean(each.name, known) or "; it has none"
                raise ValueError(f'app "{app.name}" has no param "{each.name}"{hint}')
            values[each.name] = param.parse(each.value, Path(each.base))
        except ValueError as error:
            mistakes.append(replace(each.place, text=str(error)))
    for name, param in known.items():
        param.set(values[name])
    return mistakes
