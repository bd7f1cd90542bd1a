"""`mesh leave`, `slots accept-loss`, `recover`: what an operator tells a running cluster, through any node."""

from __future__ import annotations

import click

from nodes.client import Answer, Client, refusal
from nodes.commands import options
from nodes.mistakes import Failure


@click.command(epilog="\b\nExample:\n  mesh leave gamma --at http://127.0.0.1:7480")
@click.argument("name")
@options.at
@options.as_json
def leave(name: str, at: str, as_json: bool) -> None:
    """Have the node NAME hand over its slots and go.

    Any node passes it on. Nothing is waited for: once others have all it had, NAME logs `node.left` and exits with 0.
    """
    _told(Client(at).post("v1", "leave", name=name), as_json, f"{name} hands over and leaves")


@click.group(epilog="\b\nExample:\n  mesh slots accept-loss --at http://127.0.0.1:7480")
def slots() -> None:
    """What is done to slots by hand."""


@slots.command("accept-loss", epilog="\b\nExample:\n  mesh slots accept-loss --at http://127.0.0.1:7480")
@click.option("--gone", metavar="NAME", multiple=True, help="A node whose directory is gone for good. Repeatable.")
@click.option("--yes", is_flag=True, help="Give up what only those nodes could bring back.")
@options.at
@options.as_json
def accept_loss(gone: tuple[str, ...], yes: bool, at: str, as_json: bool) -> None:
    """Have the slots whose state is lost start again, empty.

    Slots that are unavailable are not lost, and stay as they are: their process may come back. With disks, name the
    nodes whose directories are gone for good with --gone: what only they could bring back is told, and given up with
    --yes.
    """
    client = Client(at)
    if yes and not gone:
        raise Failure(2, "--yes is for nodes whose directories are gone for good: name them with --gone")
    if gone and not yes:
        raise Failure(2, _what_would_go(client, gone))
    answer = client.post("v1", "accept-loss", gone=",".join(gone)) if gone else client.post("v1", "accept-loss")
    lost = answer.body.get("slots", 0) if isinstance(answer.body, dict) else 0
    _told(answer, as_json, f"{lost} slots start again, empty")


def _what_would_go(client: Client, gone: tuple[str, ...]) -> str:
    """And what could still be brought back, by whom."""
    going, told = 0, []
    for each in client.result("v1", "unavailable").body["unavailable"]:
        others = [name for name in each["nodes"] if name not in gone]
        going += 0 if others else each["count"]
        had = f"{each['count']} slots that {' and '.join(each['nodes'])} had ({each['slots']})"
        told.append(
            f"{had}: {' or '.join(others)} could bring them back" if others else f"{had}: would start again, empty"
        )
    if not going:
        return "\n  ".join(["nothing is unavailable that only these nodes could bring back", *told])
    return "\n  ".join([*told, f"if the directories of {' and '.join(gone)} are gone for good, add --yes"])


@click.command(epilog="\b\nExample:\n  mesh recover --yes --at http://127.0.0.1:7480")
@click.option("--yes", is_flag=True, help="The majority is lost for good, and nobody else recovers the cluster.")
@options.at
@options.as_json
def recover(yes: bool, at: str, as_json: bool) -> None:
    """Go on without a majority that is lost for good.

    Those that this node reaches become the cluster; all that the others held is lost. Only where the others will never
    come back: if they live, cut off, what they did since is given up.
    """
    if not yes:
        raise Failure(2, "recover gives up all that the unreachable nodes have; if they are lost for good, add --yes")
    _told(Client(at).post("v1", "recover"), as_json, "this node makes a cluster of those that it reaches")


def _told(answer: Answer, as_json: bool, sentence: str) -> None:
    if as_json:
        options.show(answer)
    if answer.code != 202:
        raise refusal(answer)
    if not as_json:
        click.echo(sentence)
