"""The model of the log that writers of a file sink share: what its rules are for."""

from __future__ import annotations

import pytest

from tools.breadth_first import search
from tools.model_sinks import RULES, SCOPES, Model, start


@pytest.mark.parametrize("rule", list(RULES))
def test_without_a_rule_an_item_is_lost_or_shown_twice(rule: str) -> None:
    items, first = start("one stream to and fro")
    found, _, steps = search(Model(items, rule), first, 20_000)
    assert found
    assert steps


@pytest.mark.parametrize("scope", list(SCOPES))
def test_with_all_rules_every_item_is_shown_once(scope: str) -> None:
    items, first = start(scope)
    assert search(Model(items), first)[0] == ""
