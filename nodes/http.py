"""The HTTP door of a node: what it says about itself, where keys live, and what their state is.

Any node answers for any key: a read goes over the mesh to the key's owner and waits there, so it runs in a thread of
a pool of its own, and a slow owner holds up neither `/healthz` nor the event loop. All that is wrong is answered as
`{"error": short-name, "detail": sentence}`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mesh.core.keys import BadKey, Key, key_to_json
from mesh.core.places import BadPosition
from mesh.runtime.status import GivenUp, KeysPage, Metric, Ownership, Reading, Ring, RingRun, Status, Waiting
from nodes import listing, posting
from nodes.answers import (
    error_answer,
    internal_error,
    json_answer,
    key_asked,
    not_now,
    query_fields,
    refuse_other_sites,
    shown,
)
from nodes.front import Front, Handler
from nodes.ndjson import BadLine

LOOKUP_SECONDS = 5.0  # a read that takes longer is answered with 503
LOOKUPS_AT_ONCE = 32  # each holds a thread
LOOKUPS_WAITING = 256  # more are refused at once
LISTINGS_AT_ONCE = 8  # as each lookup, but longer
OUT_OF_TOUCH = "a majority of the voters is out of touch with this node; ask one that has it"
MAX_NAME = 200  # characters of a name that are said again

T = TypeVar("T")


class Served(posting.Takes, Protocol):
    """What the door shows; all of it may be called from any thread."""

    def status(self) -> Status: ...

    def why_not_ready(self) -> str:
        """Nothing if it is."""

    def owner(self, key: Key) -> Ownership | None:
        """None before there is a partition."""

    def ring(self) -> Ring: ...

    def lookup(self, stage: str, key: Key, timeout: float) -> Reading:
        """Waits for the owner's answer, at most so many seconds."""

    def keys(self, stage: str, limit: int, after: str | None, timeout: float) -> KeysPage:
        """Waits for their owners' answers, at most so many seconds. Raises BadPosition."""

    def metrics(self) -> list[Metric]: ...

    def leave(self, name: str) -> str | None:
        """Have a node hand over and go; else why not: unknown | unreachable | last-worker | out-of-touch."""

    def accept_loss(self) -> int | None:
        """Have the lost slots start again, empty: how many; None if that cannot be agreed on from here."""

    def what_waits(self) -> tuple[Waiting, ...]:
        """Slots that nobody who has them is there for, by who could bring them back."""

    def give_up(self, gone: Collection[str]) -> GivenUp:
        """Have those start again, empty, that only these nodes could bring back."""

    def recover(self) -> bool:
        """Go on without a majority that is lost for good; False if it is not lost."""


def make_app(served: Served) -> ASGIApp:
    door = _Door(served)
    questions = {
        "/healthz": door.healthz,
        "/readyz": door.readyz,
        "/metrics": door.metrics,
        "/v1/status": door.status,
        "/v1/ring": door.ring,
        "/v1/owner": door.owner,
        "/v1/state/{stage}": door.state,
        "/v1/keys/{stage}": door.keys,
        "/v1/unavailable": door.unavailable,
    }
    orders = {"/v1/leave": door.leave, "/v1/accept-loss": door.accept_loss, "/v1/recover": door.recover}
    posts, quick = posting.endpoints(served)
    endpoints = {
        **{("GET", path): endpoint for path, endpoint in questions.items()},
        **{("POST", path): endpoint for path, endpoint in (orders | posts).items()},
    }
    handlers: dict[type[Exception], Handler] = {
        HTTPException: _http_error,
        BadKey: _bad_key,
        BadPosition: _bad_cursor,
        BadLine: posting.bad_line,
        Exception: _internal_error,
    }
    routes = [Route(path, endpoint, methods=[method]) for (method, path), endpoint in endpoints.items()]
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # one address a thing
    return Front(endpoints, app, handlers, {("POST", path): each for path, each in quick.items()}, served.submit)


class _Door:
    def __init__(self, served: Served) -> None:
        self._served = served
        self._lookups = CapacityLimiter(LOOKUPS_AT_ONCE)
        self._listings = CapacityLimiter(LISTINGS_AT_ONCE)

    async def healthz(self, request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(self, request: Request) -> Response:
        why_not = await _in_thread(self._served.why_not_ready)
        return not_now("not-ready", why_not) if why_not else PlainTextResponse("ready\n")

    async def metrics(self, request: Request) -> Response:
        return Response(exposition(await _in_thread(self._served.metrics)), media_type=CONTENT_TYPE_LATEST)

    async def status(self, request: Request) -> Response:
        return json_answer(dataclasses.asdict(await _in_thread(self._served.status)))

    async def ring(self, request: Request) -> Response:
        ring = await _in_thread(self._served.ring)
        return json_answer({**dataclasses.asdict(ring), "runs": [_run(run, ring.total) for run in ring.runs]})

    async def owner(self, request: Request) -> Response:
        key = key_asked(request)
        ownership = await _in_thread(lambda: self._served.owner(key))
        if ownership is None:
            return not_now("no-partition", "the cluster is not founded yet")
        return json_answer({"key": key_to_json(key), **dataclasses.asdict(ownership)})

    async def state(self, request: Request) -> Response:
        stage, key = request.path_params["stage"], key_asked(request)
        if self._lookups.statistics().tasks_waiting >= LOOKUPS_WAITING:
            return not_now("busy", f"{LOOKUPS_WAITING} reads are waiting already")
        try:
            reading = await _in_thread(lambda: self._served.lookup(stage, key, LOOKUP_SECONDS), self._lookups)
        except TimeoutError:
            return not_now("unavailable", f"the owner of {shown(key)} did not answer within {LOOKUP_SECONDS:g} s")
        return _reading(stage, key, reading)

    async def keys(self, request: Request) -> Response:
        stage, fields = request.path_params["stage"], query_fields(request, ("limit", "after"))
        limit, after = listing.limit(fields.get("limit")), fields.get("after")
        if self._listings.statistics().tasks_waiting >= LOOKUPS_WAITING:
            return not_now("busy", f"{LOOKUPS_WAITING} listings are waiting already")
        page = await _in_thread(lambda: self._served.keys(stage, limit, after, LOOKUP_SECONDS), self._listings)
        if page.outcome == "found":
            return Response(listing.body(page), media_type="application/json")
        if page.outcome == "unknown-stage":
            return _unknown_stage(stage)
        return not_now("unavailable", page.why)

    # -- orders

    async def leave(self, request: Request) -> Response:
        refuse_other_sites(request)
        name = query_fields(request, ("name",)).get("name")
        if not name:
            raise HTTPException(400, "the query needs name=N")
        return _leaving(name[:MAX_NAME], await _in_thread(lambda: self._served.leave(name)))

    async def unavailable(self, request: Request) -> Response:
        query_fields(request, ())
        found = await _in_thread(self._served.what_waits)
        return json_answer({"unavailable": [dataclasses.asdict(each) for each in found]})

    async def accept_loss(self, request: Request) -> Response:
        refuse_other_sites(request)
        gone = query_fields(request, ("gone",)).get("gone")
        if gone is not None:
            return _given_up(await _in_thread(lambda: self._served.give_up(gone.split(","))))
        slots = await _in_thread(self._served.accept_loss)
        if slots is None:
            return not_now("out-of-touch", OUT_OF_TOUCH)
        return json_answer({"slots": slots}, 202) if slots else error_answer(409, "nothing-lost", "no slot is lost")

    async def recover(self, request: Request) -> Response:
        refuse_other_sites(request)
        query_fields(request, ())
        if await _in_thread(self._served.recover):
            return json_answer({"recovering": True}, 202)
        detail = "a majority of the voters is in touch: there is nothing to recover from"
        return error_answer(409, "in-touch", detail)


def _given_up(answer: GivenUp) -> Response:
    match answer.refused:
        case "unknown":
            name = json.dumps(answer.name[:MAX_NAME], ensure_ascii=False)
            return error_answer(404, "unknown-node", f"no member is named {name}")
        case "up":
            return error_answer(409, "node-up", f"{answer.name} is up: what it has is not gone")
        case "in-memory":
            detail = "without disks a slot is lost by itself once all processes that had it have ended"
            return error_answer(409, "in-memory", detail)
        case "out-of-touch":
            return not_now("out-of-touch", OUT_OF_TOUCH)
    if not answer.slots:
        return error_answer(409, "nothing-lost", "no slot is unavailable that only these nodes could bring back")
    return json_answer({"slots": answer.slots}, 202)


def _leaving(name: str, refused: str | None) -> Response:
    if refused is None:
        return json_answer({"leaving": name}, 202)
    if refused == "unknown":
        detail = f"no node named {json.dumps(name, ensure_ascii=False)} is here"
        return error_answer(404, "unknown-node", detail)
    if refused == "last-worker":
        return error_answer(409, "last-worker", f"{name} is the last worker: its slots have nowhere to go")
    if refused == "unreachable":
        return not_now("unavailable", f"{name} is out of reach, and nobody else can hand over what it has")
    return not_now(refused, OUT_OF_TOUCH)


def _run(run: RingRun, total: int) -> dict[str, object]:
    width = (1 << 32) // total
    return {**dataclasses.asdict(run), "interval": [run.first * width, (run.last + 1) * width]}


def _reading(stage: str, key: Key, reading: Reading) -> Response:
    if reading.outcome == "found":
        body = {
            "stage": stage,
            "key": key_to_json(key),
            "state": reading.state,
            "owner": reading.owner,
            "term": reading.term,
        }
        return json_answer(body)
    if reading.outcome == "absent":
        return error_answer(404, "not-found", f"stage {stage} has never seen the key {shown(key)}")
    if reading.outcome == "unknown-stage":
        return _unknown_stage(stage)
    if reading.outcome == "unreadable":
        return error_answer(500, "unreadable-state", str(reading.state))
    why = reading.why or "ask again"
    return not_now("unavailable", f"the slot of {shown(key)} is not active now; {why}")


async def _in_thread(call: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
    """The node's lock may be held by the author's code for a while."""
    return await anyio.to_thread.run_sync(call, limiter=limiter)


# -- answers ----------------------------------------------------------------------------------------------------------


def _unknown_stage(stage: str) -> Response:
    return error_answer(404, "unknown-stage", f"the application has no stage {json.dumps(stage)}")


_ERROR_NAMES = {400: "bad-request", 403: "forbidden", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = error.detail
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path}"
    elif error.status_code == 405:
        detail = f"{request.url.path} does not take {request.method}"
    return error_answer(error.status_code, _ERROR_NAMES.get(error.status_code, "error"), detail, error.headers)


async def _bad_key(request: Request, error: Exception) -> Response:
    return error_answer(400, "bad-key", str(error))


async def _bad_cursor(request: Request, error: Exception) -> Response:
    return error_answer(400, "bad-cursor", f"after: {error}")


async def _internal_error(request: Request, error: Exception) -> Response:
    return internal_error(request.url.path, error)


# -- metrics ----------------------------------------------------------------------------------------------------------


def exposition(metrics: list[Metric]) -> bytes:
    """Prometheus text; samples of one name are one family, whatever their order."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(metrics))
    return generate_latest(registry)


class _Families:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Any]:
        families: dict[str, Any] = {}
        for metric in self._metrics:
            family = families.get(metric.name)
            if family is None:
                kind = CounterMetricFamily if metric.name.endswith("_total") else GaugeMetricFamily
                family = families[metric.name] = kind(
                    metric.name, metric.help, labels=[name for name, _ in metric.labels]
                )
            family.add_metric([value for _, value in metric.labels], metric.value)
        return list(families.values())
