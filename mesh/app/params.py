"""What an operator may set. A param is declared beside the app, and read when a connector opens or a step runs.

An app's params are those that it uses: they are found in its connectors and by following its steps' functions into
what these refer to. So a param that could have no effect (nobody uses it, or its value was read while the graph was
built) is unknown to the app, and setting it is a mistake instead of a silence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Generic, TypeVar, cast, overload

from mesh.app.mistakes import Mistake, Place, did_you_mean, here, mistake_at, wrong_name

V = TypeVar("V", bound=str | int | float | bool | Path)
V_co = TypeVar("V_co", covariant=True)

KINDS: tuple[type, ...] = (str, int, float, bool, Path)
TRUE = ("true", "yes", "on", "1")
FALSE = ("false", "no", "off", "0")


class Param(Generic[V_co]):
    """Ask for `.value`, or call it."""

    def __init__(self, name: str, default: V_co, kind: type, help: str, place: Place) -> None:
        self.name = name
        self.default = default
        self.kind = kind
        self.help = help
        self.place = place
        self._value = default

    @property
    def value(self) -> V_co:
        return self._value

    def __call__(self) -> V_co:
        return self._value

    def __repr__(self) -> str:
        return f"<param {self.name} = {self._value!r}>"

    def parse(self, raw: object, base: Path | None = None) -> V_co:
        """A setting as the param's type; ValueError is one sentence. Relative paths start at `base`."""
        if self.default is None and raw in (None, ""):
            return cast(V_co, None)
        try:
            return cast(V_co, _parse(self.kind, raw, base))
        except ValueError as error:
            reason = f": {error}" if self.kind is bool else ""
            raise ValueError(f'param "{self.name}" is of type {self.kind.__name__}, not {raw!r}{reason}') from None

    def set(self, value: object) -> None:
        """Takes what `parse` gave."""
        self._value = cast(V_co, value)

    def reset(self) -> None:
        self._value = self.default

    def mistakes(self) -> Iterator[Mistake]:
        wrong = wrong_name("a param", self.name)
        if wrong:
            yield mistake_at(self.place, wrong)
        if self.kind not in KINDS:
            known = ", ".join(kind.__name__ for kind in KINDS)
            yield mistake_at(self.place, f'param "{self.name}" needs a default, or kind=, of one of the types {known}')


@overload
def param(name: str, *, default: V, help: str = "") -> Param[V]: ...


@overload
def param(name: str, *, default: None, kind: type[V], help: str = "") -> Param[V | None]: ...


def param(name: str, *, default: Any, kind: type | None = None, help: str = "") -> Param[Any]:
    """Declare what an operator may set. The default's type parses; a default of None needs `kind`, and "" sets it."""
    chosen = kind or (Path if isinstance(default, Path) else type(default))
    return Param(name, default, chosen, help, here())


def _parse(kind: type, raw: object, base: Path | None) -> object:
    if isinstance(raw, str):
        return _parse_text(kind, raw, base)
    if kind is Path and isinstance(raw, Path):
        return raw if base is None else base / raw
    if kind is float and type(raw) is int:
        return float(raw)
    if type(raw) is not kind:
        raise ValueError
    return raw


def _parse_text(kind: type, text: str, base: Path | None) -> object:
    if kind is bool:
        if text.lower() not in TRUE + FALSE:
            raise ValueError(f"say one of {', '.join(TRUE + FALSE)}")
        return text.lower() in TRUE
    if kind is Path:
        if not text:
            raise ValueError
        return Path(text) if base is None else base / text
    return kind(text)


# -- finding the params of an app -------------------------------------------------------------------------------------

MOST_VISITED = 10_000  # objects; an app refers to dozens, a library that it drags in to thousands
MOST_GROUPED = 100  # items; a larger collection is data, not settings


def params_of(roots: Iterable[object]) -> list[Param[Any]]:
    """Every param that is reachable from connectors and step functions, in the order of discovery."""
    found: list[Param[Any]] = []
    seen: dict[int, object] = {}  # holds on to what it saw, so that no id is used twice
    waiting = deque(roots)
    while waiting and len(seen) < MOST_VISITED:
        thing = waiting.popleft()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, Param):
            found.append(thing)
        else:
            waiting.extend(_referred(thing))
    return found


def _referred(thing: object) -> Iterator[object]:
    if isinstance(thing, FunctionType):
        yield from _of_function(thing) if _is_of_an_author(thing.__module__) else ()
    elif isinstance(thing, tuple | list | dict):
        yield from (thing.values() if isinstance(thing, dict) else thing) if len(thing) <= MOST_GROUPED else ()
    elif isinstance(thing, MethodType):
        yield from (thing.__func__, thing.__self__)
    elif isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, staticmethod | classmethod):
        yield thing.__func__
    elif hasattr(thing, "__wrapped__") and not isinstance(thing, type):  # functools.cache, wraps
        yield getattr(thing, "__wrapped__", None)
    elif isinstance(thing, property):
        yield thing.fget
    elif isinstance(thing, type):
        yield from list(vars(thing).values()) if _is_of_an_author(thing.__module__) else ()
    elif not isinstance(thing, ModuleType) and _is_of_an_author(type(thing).__module__):
        yield from _of_instance(thing)


def _is_of_an_author(module: str | None) -> bool:
    """Params are declared by authors and handed to connectors; the standard library need not be searched for them."""
    top = (module or "").partition(".")[0]
    if top == "mesh":
        return module is not None and module.startswith("mesh.connect")
    return top == "__main__" or top not in sys.stdlib_module_names


def _of_instance(thing: object) -> Iterator[object]:
    yield type(thing)
    yield from list(getattr(thing, "__dict__", {}).values())
    if dataclasses.is_dataclass(thing):
        yield from (getattr(thing, field.name, None) for field in dataclasses.fields(thing))


def _of_function(function: FunctionType) -> Iterator[object]:
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # not filled yet
            yield cell.cell_contents
    names = list(_names(function.__code__))
    for name in names:
        thing = function.__globals__.get(name)
        if isinstance(thing, ModuleType):  # settings.limit
            yield from (vars(thing)[each] for each in names if each in vars(thing))
        elif thing is not None:
            yield thing


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def read_settings(
    params: Mapping[str, Param[Any]], settings: Mapping[str, object], base: Path | None, app: Place
) -> tuple[dict[str, object], list[Mistake]]:
    """The settings, parsed, and what is wrong with them."""
    values: dict[str, object] = {}
    mistakes: list[Mistake] = []
    for name, raw in settings.items():
        found = params.get(name)
        if found is None:
            mistakes.append(mistake_at(app, unknown_param(name, params)))
            continue
        try:
            values[name] = found.parse(raw, base)
        except ValueError as error:
            mistakes.append(mistake_at(found.place, str(error)))
    return values, mistakes


def unknown_param(name: str, params: Iterable[str]) -> str:
    known = sorted(params)
    listed = f"it uses {', '.join(known)}" if known else "it uses none"
    return f'the app uses no param "{name}"{did_you_mean(name, known)}; {listed}'
