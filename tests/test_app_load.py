"""From `file.py:attr` or `package.module:attr` to an app, and what is said when there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.app import AppError, load_app

APP = 'import mesh\napp = mesh.App("{name}")\nother = mesh.App("other")\nnumber = 3\n'


@pytest.fixture(autouse=True)
def _restored_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def sentence(spec: str, base: Path | None = None) -> str:
    with pytest.raises(AppError) as caught:
        load_app(spec, base)
    return str(caught.value)


def test_a_file_is_loaded_and_its_folder_appended_to_the_path(tmp_path: Path) -> None:
    write(tmp_path, "beside_the_app.py", 'NAME = "from-beside"')
    file = write(tmp_path, "loaded_app.py", "from beside_the_app import NAME\nimport mesh\napp = mesh.App(NAME)\n")
    assert load_app(str(file)).name == "from-beside"
    assert sys.path[-1] == str(tmp_path.resolve())
    assert sys.modules["loaded_app"].__name__ == "loaded_app"


def test_another_attribute_and_another_base(tmp_path: Path) -> None:
    write(tmp_path, "apps/loaded_two.py", APP.format(name="one"))
    assert load_app("apps/loaded_two.py:other", tmp_path).name == "other"
    assert load_app("../apps/loaded_two.py", tmp_path / "apps").name == "one"


def test_the_same_file_is_loaded_once(tmp_path: Path) -> None:
    file = write(tmp_path, "loaded_once.py", APP.format(name="once"))
    assert load_app(str(file)) is load_app(f"{file}:app")


def test_a_file_whose_name_is_taken_shadows_nothing(tmp_path: Path) -> None:
    import random

    for name in ("random.py", "mesh.py", "app_random.py"):
        write(tmp_path, name, f"from dataclasses import dataclass\n{APP.format(name=name[:-3])}")
    assert load_app(str(tmp_path / "random.py")).name == "random"
    assert load_app(str(tmp_path / "mesh.py")).name == "mesh"
    assert load_app(str(tmp_path / "app_random.py")).name == "app_random"
    assert sys.modules["random"] is random
    assert "app_mesh" in sys.modules


def test_a_module_is_imported_from_the_base(tmp_path: Path) -> None:
    write(tmp_path, "loaded_package/__init__.py", "")
    write(tmp_path, "loaded_package/job.py", APP.format(name="job"))
    assert load_app("loaded_package.job", tmp_path).name == "job"
    assert load_app("loaded_package.job:other", tmp_path).name == "other"


def test_a_missing_file_names_the_one_that_was_meant(tmp_path: Path) -> None:
    write(tmp_path, "word_count.py", APP.format(name="x"))
    assert sentence("word_cuont.py", tmp_path) == (
        f'{tmp_path}/word_cuont.py: there is no such file (did you mean "word_count.py"?)'
    )


def test_a_missing_module_says_that_files_have_a_suffix(tmp_path: Path) -> None:
    assert sentence("no_such_package.job", tmp_path) == (
        "no_such_package.job: there is no such module (a file is named with its .py)"
    )


def test_a_missing_attribute_names_the_apps_that_there_are(tmp_path: Path) -> None:
    write(tmp_path, "loaded_three.py", APP.format(name="x"))
    assert sentence("loaded_three.py:othre", tmp_path) == (
        'loaded_three.py: there is no "othre" in it (did you mean "other"?); its apps are app, other'
    )
    assert sentence("loaded_three.py:number", tmp_path) == 'loaded_three.py: "number" is no mesh.App but 3'


def test_a_file_without_an_app_says_how_to_make_one(tmp_path: Path) -> None:
    write(tmp_path, "loaded_four.py", "")
    assert sentence("loaded_four.py", tmp_path) == 'loaded_four.py: there is no "app" in it: say app = mesh.App(...)'


@pytest.mark.parametrize(
    ("text", "line", "column", "told"),
    [
        ("import mesh\n1 / 0\n", 2, 1, "ZeroDivisionError: division by zero"),
        ("def f():\n    import no_such_thing\nf()\n", 2, 5, "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("import mesh\napp = mesh.Ap('x')\n", 2, 7, "AttributeError: module 'mesh' has no attribute 'Ap'"),
        ("x = 1 +\n", 1, 8, "SyntaxError: invalid syntax"),
        ("import json\njson.loads('')\n", 2, 1, "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        ("import sys\nsys.exit(3)\n", 2, 1, "SystemExit: 3"),
    ],
)
def test_what_an_import_raises_is_told_at_the_authors_line(
    tmp_path: Path, text: str, line: int, column: int, told: str
) -> None:
    file = write(tmp_path, "loaded_broken.py", text)
    assert sentence(str(file)) == f"{file}:{line}:{column}: {told}"
    assert "loaded_broken" not in sys.modules
