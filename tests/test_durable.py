from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.durable import Durable
from mesh.core.events import Effect, Log, Persist


def line(text: str) -> Effect:
    return Log(text)


def test_effects_wait_for_their_name_and_keep_their_order() -> None:
    durable = Durable()
    assert durable.persist("a", b"1", [line("one")]) == [Persist("a", b"1")]
    assert durable.persist("b", b"2", [line("two")]) == [Persist("b", b"2")]
    assert durable.persist("a", b"3", [line("three")]) == [Persist("a", b"3")]
    assert durable.persisted("b") == []  # one is not durable yet
    assert durable.persisted("a") == [line("one"), line("two")]
    assert durable
    assert durable.persisted("a") == [line("three")]
    assert not durable
    assert durable.persisted("a") == []


def test_what_depends_on_all_waits_for_all_and_is_performed_once() -> None:
    durable = Durable()
    assert durable.after_all(line("now")) == [line("now")]
    durable.persist("a", b"", [])
    durable.persist("b", b"", [])
    assert durable.after_all(line("later")) == durable.after_all(line("later")) == []
    assert durable.persisted("a") == []
    assert durable.persisted("b") == [line("later")]


@given(st.lists(st.sampled_from("abc"), max_size=12), st.randoms(use_true_random=False))
def test_in_whatever_order_the_disk_answers_effects_leave_in_the_order_asked(names: list[str], random: object) -> None:
    durable = Durable()
    for place, name in enumerate(names):
        durable.persist(name, b"", [line(str(place))])
    answers = list(names)
    random.shuffle(answers)  # type: ignore[attr-defined]
    left = [effect for name in answers for effect in durable.persisted(name)]
    assert left == [line(str(place)) for place in range(len(names))]
