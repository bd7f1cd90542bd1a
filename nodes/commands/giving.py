"""`mesh ask`: one record for one key, and what the stage gives out for it."""

from __future__ import annotations

import json

import click

from mesh.core.keys import BadKey, parse_key
from nodes.client import Client, refusal
from nodes.commands import options
from nodes.mistakes import Failure
from nodes.ndjson import parse_value


@click.command(epilog="\b\nExample:\n  mesh ask total ann 12.5")
@click.argument("stage")
@click.argument("key")
@click.argument("record", metavar="JSON")
@options.key_type
@options.at
@options.as_json
def ask(stage: str, key: str, record: str, key_type: str, at: str, as_json: bool) -> None:
    """Give STAGE one record for KEY.

    Its outputs are shown, one a line, as JSON. The record is applied like any other, once: its outputs also go on to
    whatever reads the stage.
    """
    body = record.encode("utf-8", "surrogateescape")
    try:
        parse_key(key, key_type)
        parse_value(body)
    except BadKey as error:
        raise Failure(2, str(error)) from None
    except ValueError as error:
        raise Failure(2, f"the record is one JSON value: {error}") from None
    answer = Client(at).post("v1", "ask", stage, body=body, key=key, key_type=key_type)
    if as_json:
        options.show(answer)
    if answer.code != 200:
        raise refusal(answer)
    if not as_json:
        for output in answer.body["outputs"]:
            click.echo(json.dumps(output, ensure_ascii=False))
