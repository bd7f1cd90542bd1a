"""What a checker raises."""

from __future__ import annotations


class Violation(Exception):
    """The cluster did what it must not do, or did not do what it must; `rule` is its name in docs/protocol.md."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail
