"""What several commands share: their options, and how a result is printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console, RenderableType

from mesh.core.keys import KEY_TYPES
from nodes import logs
from nodes.client import DEFAULT_AT, Answer

F = TypeVar("F", bound=Callable[..., Any])
NARROW = 80  # columns where stdout is no terminal


def at(command: F) -> F:
    return click.option(
        "--at",
        metavar="http://H:P",
        envvar="MESH_AT",
        default=DEFAULT_AT,
        show_default=True,
        help="Any node. [env: MESH_AT]",
    )(command)


def as_json(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="The node's answer as it is, on one line.")(command)


def key_type(command: F) -> F:
    return click.option(
        "--key-type",
        type=click.Choice(KEY_TYPES),
        default="str",
        show_default=True,
        help="bytes: as unpadded base64url.",
    )(command)


def sets(command: F) -> F:
    return click.option(
        "--set", "sets", metavar="K=V", multiple=True, help="A parameter of the app, or cluster.KEY=VALUE. Repeatable."
    )(command)


def insecure(command: F) -> F:
    return click.option("--insecure", is_flag=True, help="Listen off loopback although there is no security yet.")(
        command
    )


def console() -> Console:
    """For results. Plain text and 80 columns where nobody looks."""
    terminal = sys.stdout.isatty()
    return Console(
        file=sys.stdout,
        width=None if terminal else NARROW,
        no_color=not logs.has_colours(sys.stdout),
        highlight=False,
        markup=False,
        emoji=False,
    )


def show(result: RenderableType | Answer) -> None:
    if isinstance(result, Answer):
        click.echo(result.line)
    else:
        console().print(result)
