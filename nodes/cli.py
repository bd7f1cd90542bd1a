"""The `mesh` command: its subcommands, and how every end of one becomes an exit code.

    0 done, or asked to stop    1 the application failed, or a child died with state nobody else holds
    2 a mistake in usage, config, app or identity    3 no node reachable, or a timeout    4 not found    130 interrupted

stdout carries results only; everything else goes to stderr.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from nodes.commands.asking import get, owner, show_ring, status
from nodes.commands.checking import check
from nodes.commands.giving import ask
from nodes.commands.listing import keys
from nodes.commands.ordering import leave, recover, slots
from nodes.commands.running import run
from nodes.commands.starting import node, up
from nodes.mistakes import Failure, Mistaken

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="hashmesh", message="%(package)s %(version)s")
def mesh() -> None:
    """A stateful event processor: a defaultdict across machines.

    Start with `mesh run APP`, where APP is file.py[:attr] or package.module[:attr].
    """


for command in (run, up, node, status, show_ring, owner, get, keys, ask, leave, slots, recover, check):
    mesh.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    sys.exit(exit_code(mesh, arguments))


def exit_code(command: click.Command, arguments: Sequence[str] | None = None, name: str = "mesh") -> int:
    """Run a command to its end, whatever that is."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal's encoding may lack what a key has
    try:
        code = command.main(arguments, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Failure as failure:
        _tell(failure)
        return failure.code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:  # whoever read our results has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        click.echo(f"mesh: cannot write: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered is tried again at the end
        return 1
    return code if isinstance(code, int) else 0


def _open_missing_streams() -> None:
    """As `2>&-` leaves us. Else a socket would get the stream's number, and whoever prints would fail."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def _tell(failure: Failure) -> None:
    prefix = "" if isinstance(failure, Mistaken) else "mesh: "
    for sentence in failure.sentences:
        click.echo(prefix + sentence, err=True)
    if isinstance(failure, Mistaken) and len(failure.mistakes) > 1:
        click.echo(f"{len(failure.mistakes)} mistakes", err=True)


if __name__ == "__main__":
    main()
