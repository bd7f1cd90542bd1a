"""`mesh keys`: walks through a stage's keys, page by page.

A page may have to wait for a slot that moves just then. The first one does not, so that a node that cannot answer is
told at once; a walk that is under way is patient.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from mesh.core.keys import KEY_TYPES
from mesh.core.listing import MAX_LIMIT
from nodes import listing
from nodes.client import Answer, Client, refusal
from nodes.commands import options

PATIENCE_SECONDS = 10.0  # for a slot that moves
PAUSE_SECONDS = 0.5


@click.command(epilog="\b\nExample:\n  mesh keys count --limit 10")
@click.argument("stage")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many; default: all.")
@click.option("--key-type", type=click.Choice(KEY_TYPES), help="Only keys of this type.")
@options.at
@options.as_json
def keys(stage: str, limit: int | None, key_type: str | None, at: str, as_json: bool) -> None:
    """The keys of STAGE in the whole cluster, one a line, as JSON. With --json all on one line."""
    found: list[str] = []
    following: str | None = None
    for answer in _pages(Client(at), stage, limit, key_type, as_json):
        page, following = _chosen(answer, key_type), answer.body["next"]
        if as_json:
            found += page
        elif page:
            click.echo("\n".join(page))
    if as_json:
        click.echo(listing.written(found, following))


def _chosen(answer: Answer, key_type: str | None) -> list[str]:
    keys = answer.body["keys"]
    return [listing.text_of(key) for key in keys if key_type in (None, listing.type_of(key))]


def _pages(client: Client, stage: str, limit: int | None, key_type: str | None, as_json: bool) -> Iterator[Answer]:
    """Until there are `limit` keys, or no more; raises `Failure`."""
    query: dict[str, str] = {}
    left = limit
    while left is None or left > 0:
        answer = _page(client, stage, {**query, "limit": str(min(left or MAX_LIMIT, MAX_LIMIT))})
        if answer.code != 200:
            if as_json:
                options.show(answer)
            raise refusal(answer)
        yield answer
        if answer.body["next"] is None:
            return
        query = {"after": answer.body["next"]}
        left = None if left is None else left - len(_chosen(answer, key_type))


def _page(client: Client, stage: str, query: dict[str, str]) -> Answer:
    until = time.monotonic() + (PATIENCE_SECONDS if "after" in query else 0)
    answer = client.get("v1", "keys", stage, **query)
    while answer.code == 503 and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)
        answer = client.get("v1", "keys", stage, **query)
    return answer
