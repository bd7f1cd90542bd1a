"""`mesh status`, `ring`, `owner`, `get`: what a running node says."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import click
from rich.console import RenderableType
from rich.live import Live

from mesh.core.keys import BadKey, parse_key
from nodes import logs, ring, tables
from nodes.client import Answer, Client, Unreachable, refusal
from nodes.commands import options
from nodes.mistakes import Failure

POLL_SECONDS = 0.2
WATCH_SECONDS = 0.5
GONE_SECONDS = 10.0  # a node that has answered and is silent for so long is not waited for
BAR_WIDTH = 78


@click.command(epilog="\b\nExample:\n  mesh status --wait ready --timeout 30 --at http://127.0.0.1:7481")
@options.at
@options.as_json
@click.option("--watch", is_flag=True, help="Stay and show every change, until Ctrl-C.")
@click.option("--wait", type=click.Choice(("ready", "done")), help="First wait until the node, or the job, is.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Seconds to wait; then exit code 3.")
def status(at: str, as_json: bool, watch: bool, wait: str | None, timeout: float | None) -> None:
    """Members, slots, and how far the sources are."""
    if timeout is not None and wait is None:
        raise click.UsageError("--timeout goes with --wait")
    client = Client(at)
    answer = _wait_for(client, wait, timeout) if wait else _ask(client, as_json, "v1", "status")
    if not watch:
        options.show(answer if as_json else _table(client, answer))
    elif as_json or not sys.stdout.isatty():
        _print_changes(client, as_json)
    else:
        _watch(client)


def _ask(client: Client, as_json: bool, *path: str, **query: str) -> Answer:
    """A good answer. With --json a bad one is shown as well, before it ends the command."""
    answer = client.get(*path, **query)
    if answer.code != 200:
        if as_json:
            options.show(answer)
        raise refusal(answer)
    return answer


def _wait_for(client: Client, what: str, timeout: float | None) -> Answer:
    """Poll until /v1/status says so. A node that does not answer yet may be starting."""
    start = answered = time.monotonic()
    reached = False
    while True:
        try:
            answer = client.get("v1", "status")
            if answer.code == 200 and answer.body.get(what):
                return answer
            reached, answered = True, time.monotonic()
        except Unreachable as error:
            if reached and time.monotonic() - answered > GONE_SECONDS:
                raise Failure(3, f"{error}; it has answered before") from None
            if timeout is not None and time.monotonic() - start >= timeout:
                raise Failure(3, f"not {what} within {timeout:g} s: {error}") from None
        if timeout is not None and time.monotonic() - start >= timeout:
            raise Failure(3, f"not {what} within {timeout:g} s, says {client.at}")
        time.sleep(POLL_SECONDS)


def _table(client: Client, status: Answer) -> RenderableType:
    """With the reason why the node is not ready, and what moves, which are said elsewhere."""
    body = status.body
    why, moving = "", None
    try:
        if not body["ready"]:
            why = str(client.get("readyz").body.get("detail", ""))
        if body["slots"]["pending"] or any(node["state"] in ("joining", "leaving") for node in body["nodes"]):
            moving = client.result("v1", "ring").body["moving"]
    except Failure:
        pass  # it is ready by now, or gone: the next look will tell
    return tables.status_table(body, why, moving)


def _every(seconds: float, client: Client) -> Iterator[Answer]:
    while True:
        yield client.result("v1", "status")
        time.sleep(seconds)


def _watch(client: Client) -> None:
    try:
        with Live(console=options.console(), auto_refresh=False) as live:
            for answer in _every(WATCH_SECONDS, client):
                live.update(_table(client, answer), refresh=True)
    except KeyboardInterrupt:
        return  # that is how watching ends


def _print_changes(client: Client, as_json: bool) -> None:
    last = ""
    try:
        for answer in _every(WATCH_SECONDS, client):
            if answer.line != last:
                options.show(answer if as_json else _table(client, answer))
                sys.stdout.flush()
            last = answer.line
    except KeyboardInterrupt:
        return


@click.command("ring", epilog="\b\nExample:\n  mesh ring --at http://127.0.0.1:7480")
@options.at
@options.as_json
def show_ring(at: str, as_json: bool) -> None:
    """The hash interval and whose it is, as a picture."""
    client = Client(at)
    answer = _ask(client, as_json, "v1", "ring")
    options.show(answer if as_json else _picture(client, answer))


def _picture(client: Client, answer: Answer) -> RenderableType:
    console = options.console()
    width = max(20, min(BAR_WIDTH, console.width))
    return ring.picture(answer.body, client.status(), width=width, colours=logs.has_colours(sys.stdout))


@click.command(epilog="\b\nExample:\n  mesh owner whale")
@click.argument("key")
@options.key_type
@options.at
@options.as_json
def owner(key: str, key_type: str, at: str, as_json: bool) -> None:
    """Which node owns KEY, and where in the hash interval it is."""
    _check_key(key, key_type)
    answer = _ask(Client(at), as_json, "v1", "owner", key=key, key_type=key_type)
    if as_json:
        options.show(answer)
    else:
        click.echo("\n".join(tables.owner_lines(answer.body)))


@click.command(epilog="\b\nExample:\n  mesh get count whale")
@click.argument("stage")
@click.argument("key")
@options.key_type
@options.at
@options.as_json
def get(stage: str, key: str, key_type: str, at: str, as_json: bool) -> None:
    """The state of KEY in STAGE, as JSON. Exit code 4 if the key was never seen."""
    _check_key(key, key_type)
    answer = _ask(Client(at), as_json, "v1", "state", stage, key=key, key_type=key_type)
    options.show(answer) if as_json else click.echo(json.dumps(answer.body["state"], ensure_ascii=False))


def _check_key(key: str, key_type: str) -> None:
    try:
        parse_key(key, key_type)
    except BadKey as error:
        raise Failure(2, str(error)) from None
