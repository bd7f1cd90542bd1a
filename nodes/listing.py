"""`/v1/keys`: what may be asked of it, and its pages, as the door writes them and as the commands read them."""

from __future__ import annotations

import json
import re
from decimal import Decimal

from starlette.exceptions import HTTPException

from mesh.core.keys import key_to_text
from mesh.core.listing import MAX_LIMIT
from mesh.runtime.status import KeysPage

LIMIT = 1000  # keys of a page, where nothing is said

_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)


def limit(text: str | None) -> int:
    """What `limit=` asks for; HTTPException if that is not allowed."""
    if text is None:
        return LIMIT
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= MAX_LIMIT:
        raise HTTPException(400, f"limit is a number of keys from 1 to {MAX_LIMIT}")
    return int(text)


def body(page: KeysPage) -> bytes:
    """`{"keys":[...],"next":C or null}`"""
    return written([key_to_text(key) for key in page.keys], page.next).encode() + b"\n"


def written(keys: list[str], following: str | None) -> str:
    """Of keys that are JSON text already."""
    return f'{{"keys":[{",".join(keys)}],"next":{json.dumps(following)}}}'


def text_of(key: object) -> str:
    """JSON text of a key of an answer; ints of many digits have come as `Decimal`."""
    return format(key, "f") if isinstance(key, Decimal) else json.dumps(key, ensure_ascii=False, separators=(",", ":"))


def type_of(key: object) -> str:
    """As `--key-type` names it."""
    if isinstance(key, str):
        return "str"
    return "bytes" if isinstance(key, dict) else "int"
