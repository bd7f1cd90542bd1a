"""How requests are understood and answered: queries, keys, JSON, errors. All that is wrong is answered as
`{"error": short-name, "detail": sentence}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mesh.core.keys import BadKey, Key, key_to_json, parse_key
from nodes import logs
from nodes.mistakes import did_you_mean

MAX_KEY = 4000  # characters; Python writes no number of more than 4300 digits
RETRY_AFTER = {"Retry-After": "1"}


def key_asked(request: Request) -> Key:
    """The key that a query names; BadKey or HTTPException for anything else."""
    fields = query_fields(request, ("key", "key_type"))
    if "key" not in fields:
        raise HTTPException(400, "the query needs key=K")
    if len(fields["key"]) > MAX_KEY:
        raise BadKey(f"a key of {len(fields['key'])} characters is too long to ask for; {MAX_KEY} are allowed")
    return parse_key(fields["key"], fields.get("key_type", "str"))


def query_fields(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    """Strictly UTF-8: a replaced character would be another key."""
    try:
        pairs = parse_qsl(
            request.scope["query_string"].decode(), keep_blank_values=True, errors="strict", max_num_fields=16
        )
    except ValueError as error:
        raise HTTPException(400, f"the query cannot be read: {error}") from None
    fields = dict(pairs)
    for name in fields:
        if name not in known:
            raise HTTPException(400, f"unknown query field {json.dumps(name)}{did_you_mean(name, known)}")
    if len(fields) != len(pairs):
        raise HTTPException(400, "a query field is given twice")
    return fields


def json_answer(body: object, code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")
    return Response(text + b"\n", code, headers, "application/json")


def error_answer(code: int, name: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return json_answer({"error": name, "detail": detail}, code, headers)


def not_now(name: str, detail: str) -> Response:
    return error_answer(503, name, detail, RETRY_AFTER)


def shown(key: Key) -> str:
    text = json.dumps(key_to_json(key), ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def internal_error(path: str, error: Exception) -> Response:
    logs.logger().error("http.failed", path=path, exc_info=error)
    return error_answer(500, "internal", "this node failed to answer; its log says why")


def refuse_other_sites(request: Request) -> None:
    """A page that somebody looks at on this machine must not give orders to its nodes."""
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{request.headers.get('host')}":
        raise HTTPException(403, f"orders do not come from pages of {origin[:200]}")
