"""The short way for requests of which a client makes many, one after the other: past the layers of the framework.

Starlette tries a dozen routes, and wraps each request in two middlewares and four closures: half of what an ask costs
at its door. Here a request that fits goes straight to its endpoint; whatever else comes goes to the framework, which
has the same routes. What an endpoint raises is answered by the same handlers.

What comes whole is asked without a task of the event loop, if its endpoint has a quick form (see `quick`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mesh.core.events import Event
from nodes.quick import Question

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Request, Exception], Response | Awaitable[Response]]
QuickEndpoint = Callable[[Request, bytes], Question | None]


class Front:
    """An application. The endpoints with a short way are those whose path ends with a parameter: /v1/ask/{stage}."""

    def __init__(
        self,
        endpoints: Mapping[tuple[str, str], Endpoint],
        rest: ASGIApp,
        handlers: Mapping[type[Exception], Handler],
        quick: Mapping[tuple[str, str], QuickEndpoint],
        submit: Callable[[Callable[[int], Event], Callable[[str, bytes], None]], None],
    ) -> None:
        """`endpoints` and `quick`: by method and path."""
        self._short = dict(_by_folder(endpoints))
        self._quick = dict(_by_folder(quick))
        self._rest = rest
        self._handlers = handlers
        self.submit = submit

    def question(self, scope: Scope, body: bytes) -> Question | None:
        """What is asked, if it can be understood at once. None: the request is for `__call__`, which also knows what is
        wrong with it; nothing has been done yet."""
        folder, _, last = scope["path"].rpartition("/")
        found = self._quick.get((scope["method"], folder))
        if found is None or not last:
            return None
        endpoint, name = found
        scope["path_params"] = {name: last}
        try:
            return endpoint(Request(scope), body)
        except Exception:
            return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        folder, _, last = scope["path"].rpartition("/")
        found = self._short.get((scope["method"], folder))
        if found is None or not last:
            await self._rest(scope, receive, send)
            return
        endpoint, name = found
        scope["path_params"] = {name: last}
        request = Request(scope, receive)
        try:
            response = await endpoint(request)
        except Exception as error:
            response = await self._answer(request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request, error: Exception) -> Response:
        handler = next(self._handlers[kind] for kind in type(error).__mro__ if kind in self._handlers)
        answer = handler(request, error)
        return answer if isinstance(answer, Response) else await answer


def _by_folder(endpoints: Mapping[tuple[str, str], T]) -> Iterator[tuple[tuple[str, str], tuple[T, str]]]:
    for (method, path), endpoint in endpoints.items():
        folder, _, last = path.rpartition("/")
        if last.startswith("{"):
            yield (method, folder), (endpoint, last.strip("{}"))
