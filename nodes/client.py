"""Asking a running node over HTTP, for the commands and for a parent that watches its nodes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from nodes.mistakes import Failure

DEFAULT_AT = "http://127.0.0.1:7480"
TIMEOUT_SECONDS = 10.0  # a node gives up a read of state after five
MAX_BODY = 64 << 20  # bytes

_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a mesh node is never behind the web's proxy


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node said: its code, and its JSON body as it is and on one line."""

    code: int
    body: Any
    line: str


class Unreachable(Failure):
    """Nothing that is a node answers there."""

    def __init__(self, at: str, reason: str) -> None:
        super().__init__(3, f"no node answers at {at}: {reason}")


class Client:
    """A node's HTTP door."""

    def __init__(self, at: str, timeout: float = TIMEOUT_SECONDS) -> None:
        self.at = _base(at)
        self._timeout = timeout

    def get(self, *path: str, **query: str) -> Answer:
        """Raises `Unreachable`. Any answer of a node is an answer, also an error."""
        return self._ask("GET", path, query, None)

    def post(self, *path: str, body: bytes | None = None, **query: str) -> Answer:
        """The same, for an order."""
        return self._ask("POST", path, query, body)

    def _ask(self, method: str, path: tuple[str, ...], query: Mapping[str, str], body: bytes | None) -> Answer:
        url = "/".join([self.at, *[quote(part, safe="") for part in path]])
        if query:
            url += "?" + urlencode(query)
        try:
            code, text = self._fetch(urllib.request.Request(url, body, method=method))
        except (OSError, HTTPException) as error:
            raise Unreachable(self.at, _reason(error)) from None
        try:
            parsed = _parsed(text)
        except ValueError:
            raise Unreachable(self.at, "what listens there is not a mesh node") from None
        return Answer(code, parsed, text.decode().strip().replace("\n", " "))

    def _fetch(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with _NO_PROXY.open(request, timeout=self._timeout) as response:
                return int(response.status), response.read(MAX_BODY)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(MAX_BODY)

    def result(self, *path: str, **query: str) -> Answer:
        """The answer if it is a good one; else `Failure` with the exit code that fits."""
        answer = self.get(*path, **query)
        if answer.code == 200:
            return answer
        raise refusal(answer)

    def status(self) -> Mapping[str, Any]:
        return dict(self.result("v1", "status").body)


def _parsed(text: bytes) -> Any:
    """Raises ValueError. Where an int has more digits than Python reads, all of them are `Decimal`."""
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(text, parse_int=Decimal)


def refusal(answer: Answer) -> Failure:
    """A node's error as the end of a command."""
    said = answer.body if isinstance(answer.body, dict) else {}
    sentence = str(said.get("detail", f"the node answered {answer.code}"))
    code = {400: 2, 404: 4, 405: 2, 409: 2, 503: 3, 504: 3}.get(answer.code, 1)
    return Failure(code, sentence)


def _base(at: str) -> str:
    url = at if "://" in at else f"http://{at}"
    parts = urlsplit(url)
    try:
        good = parts.scheme == "http" and parts.hostname and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:
        good = False
    if not good or parts.path not in ("", "/"):
        raise Failure(2, f"--at must be http://HOST:PORT, not {at!r}")
    return url.rstrip("/")


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
