"""Keys as they are typed in a query string or on a command line, and as JSON shows them.

A key is str, int or bytes. `bytes` are typed as unpadded base64url, the same text that their JSON form holds.
"""

from __future__ import annotations

import base64
import re
from typing import TypeAlias

Key: TypeAlias = str | int | bytes
KEY_TYPES = ("str", "int", "bytes")
MAX_DIGITS = 4000  # Python itself refuses to read integers of more than 4300

_INT = re.compile(r"-?[0-9]+")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


class BadKey(ValueError):
    """The text is no key of that type; one sentence."""


def parse_key(text: str, key_type: str = "str") -> Key:
    """Raises `BadKey`."""
    if key_type == "str":
        return _text(text)
    if key_type == "int":
        return _int(text)
    if key_type == "bytes":
        return _bytes(text)
    raise BadKey(f"key_type must be one of {', '.join(KEY_TYPES)}, not {key_type!r}")


def key_as_json(key: Key) -> object:
    if isinstance(key, bytes):
        return {"bytes": base64.urlsafe_b64encode(key).rstrip(b"=").decode()}
    return key


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadKey(f"{text!r} is not text: it has a lone surrogate, or it was not UTF-8") from None
    return text


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise BadKey(f"{text[:60]!r} is not a whole number")
    if len(text) > MAX_DIGITS:
        raise BadKey(f"a number of {len(text)} digits is too long for a key; {MAX_DIGITS} are allowed")
    return int(text)


def _bytes(text: str) -> bytes:
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise BadKey(f"{text[:60]!r} is not unpadded base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
