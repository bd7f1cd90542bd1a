"""The short way for requests of which a client makes many, one after the other: past the layers of the framework.

Starlette tries a dozen routes, and wraps each request in two middlewares and four closures: half of what an ask costs
at its door. Here a request that fits goes straight to its endpoint; whatever else comes goes to the framework, which
has the same routes. What an endpoint raises is answered by the same handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Request, Exception], Response | Awaitable[Response]]


class Front:
    """An application. The endpoints with a short way are those whose path ends with a parameter: /v1/ask/{stage}."""

    def __init__(
        self,
        endpoints: Mapping[tuple[str, str], Endpoint],
        rest: ASGIApp,
        handlers: Mapping[type[Exception], Handler],
    ) -> None:
        """`endpoints`: by method and path."""
        self._short: dict[tuple[str, str], tuple[Endpoint, str]] = {}
        for (method, path), endpoint in endpoints.items():
            folder, _, last = path.rpartition("/")
            if last.startswith("{"):
                self._short[method, folder] = endpoint, last.strip("{}")
        self._rest = rest
        self._handlers = handlers

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
