"""From what an operator types to the app object: `file.py[:attr]` or `package.module[:attr]`.

The app's folder is *appended* to sys.path: what lies beside an app can be imported, and shadows nothing. A file becomes
a module named after it, because dataclasses travel between nodes by module and name, so every node must use the same.
Should something else already have that name (`random.py`, `mesh.py`), the file's module is called `app_<name>`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from mesh.app.builder import App
from mesh.app.mistakes import AppError, Mistake, did_you_mean


def load_app(spec: str, base: Path | None = None) -> App:
    """The app that `spec` names, in `base` or the working directory. Raises `AppError`, one sentence a mistake."""
    target, attribute = _parted(spec)
    base = Path.cwd() if base is None else base
    is_file = target.endswith(".py") or "/" in target
    module = _from_file(base / target) if is_file else _from_name(target, base)
    return _app_of(module, target, attribute)


def _wrong(target: object, text: str) -> AppError:
    return AppError([Mistake(str(target), 0, 0, text)])


def _parted(spec: str) -> tuple[str, str]:
    target, colon, attribute = spec.rpartition(":")
    return (target, attribute) if colon and attribute.isidentifier() else (spec, "app")


def _app_of(module: ModuleType, target: str, attribute: str) -> App:
    found = getattr(module, attribute, None)
    if isinstance(found, App):
        return found
    if found is not None:
        raise _wrong(target, f'"{attribute}" is no mesh.App but {found!r:.60}')
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    if not apps:
        raise _wrong(target, f'there is no "{attribute}" in it: say {attribute} = mesh.App(...)')
    hint = did_you_mean(attribute, apps)
    raise _wrong(target, f'there is no "{attribute}" in it{hint}; its apps are {", ".join(apps)}')


def _from_file(given: Path) -> ModuleType:
    path = given.resolve()
    if not path.is_file():
        beside = [each.name for each in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise _wrong(given, f"there is no such file{did_you_mean(path.name, beside)}")
    _append_to_path(path.parent)
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _wrong(given, "this is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(str(given), path.parent, error) from error
    return module


def _from_name(name: str, base: Path) -> ModuleType:
    _append_to_path(base.resolve())
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(missing + ".")):
            raise _wrong(name, "there is no such module (a file is named with its .py)") from None
        raise _failed(name, base.resolve(), error) from error


def _append_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _module_name(path: Path) -> str:
    """The file's own name, unless an import of it would find something else."""
    name = path.stem
    while not _is_free(name, path):
        name = f"app_{name}"
    return name


def _is_free(name: str, path: Path) -> bool:
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None) == str(path)
    try:
        spec = importlib.util.find_spec(name) if "." not in name else None
    except (ImportError, ValueError):
        return False
    return spec is None or spec.origin == str(path)


def _failed(target: str, folder: Path, error: BaseException) -> AppError:
    """What the import raised, with the last line that is the author's."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return AppError(
            [Mistake(error.filename, error.lineno or 1, error.offset or 1, f"{type(error).__name__}: {error.msg}")]
        )
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(folder))]
    if not frames:
        return _wrong(target, f"cannot be imported: {text}")
    return AppError([Mistake(frames[-1].filename, frames[-1].lineno or 1, (frames[-1].colno or 0) + 1, text)])
