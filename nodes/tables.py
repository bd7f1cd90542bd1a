"""`mesh status` and `mesh owner` for a person: plain tables that fit 80 columns and need no colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

MOST_TRANSFERS = 12  # pairs of nodes that are shown
STATE_STYLES = {"alive": "green", "suspect": "yellow", "dead": "red", "joining": "cyan", "leaving": "cyan"}


def status_table(
    status: Mapping[str, Any], why_not_ready: str = "", moving: Mapping[str, Any] | None = None
) -> RenderableType:
    """From the body of /v1/status, and `moving` of /v1/ring. The node that was asked is marked with a star."""
    troubles = [Text(f"{status['this']} is not ready: {why_not_ready}")] if why_not_ready else []
    return Group(_title(status), *troubles, _nodes(status), *_work(status), *moving_lines(moving))


def moving_lines(moving: Mapping[str, Any] | None) -> list[Text]:
    """How far the slots are, and who hands them to whom."""
    if not moving or not moving["total"]:
        return []
    lines = [Text(f"moving: {moving['arrived']} of {moving['total']} slots have arrived")]
    for each in moving["transfers"][:MOST_TRANSFERS]:
        lines.append(Text(f"  {each['donor']} -> {each['owner']}: {each['slots']} slots on their way"))
    more = len(moving["transfers"]) - MOST_TRANSFERS
    return lines + ([Text(f"  and {more} more")] if more > 0 else [])


def _title(status: Mapping[str, Any]) -> Text:
    words = [f"{status['cluster']}: epoch {status['epoch']}", f"app {status['app']}"]
    words += ["ready" if status["ready"] else "not ready"] + ["done"] * bool(status["done"])
    return Text(", ".join(words))


def _nodes(status: Mapping[str, Any]) -> Table:
    with_backups = any(node["backups"] for node in status["nodes"])
    table = Table(box=None, pad_edge=False, padding=(0, 1 if with_backups else 2, 0, 0))
    for heading in ("node", "state", "role"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for heading in ("slots", *["backups"] * with_backups, "keys"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("endpoint", "http"):
        table.add_column(heading, overflow="fold")
    for node in status["nodes"]:
        counts = [str(node["slots"])] + [str(node["backups"])] * with_backups + [f"{node['keys']:,}"]
        name = Text(node["name"] + (" *" if node["name"] == status["this"] else ""))
        state = Text(node["state"], STATE_STYLES.get(node["state"], ""))
        table.add_row(name, state, node["role"], *counts, Text(node["endpoint"]), Text(node["http"]))
    return table


def _work(status: Mapping[str, Any]) -> list[Text]:
    slots = status["slots"]
    counts = [f"{slots[name]} {name}" for name in ("active", "pending", "unavailable", "lost") if slots[name]]
    lines = [Text(f"slots: {', '.join(counts) or 'not assigned yet'}, of {slots['total']}")]
    for source in status["sources"]:
        done = f"{source['done']} of {source['splits']} splits read, " if source["splits"] else ""  # none by HTTP
        lines.append(Text(f"source {source['name']}: {done}{source['records']:,} records"))
    return lines


def owner_lines(body: Mapping[str, Any]) -> list[str]:
    """From the body of /v1/owner."""
    low, high = body["interval"]
    lines = [
        f"owner     {body['owner']}",
        f"slot      {body['slot']}  (hash {body['hash']:08x} in {low:08x}-{high - 1:08x})",
        f"term      {body['term']}  (epoch {body['epoch']})",
    ]
    return lines + ([f"backups   {', '.join(body['backups'])}"] if body["backups"] else [])
