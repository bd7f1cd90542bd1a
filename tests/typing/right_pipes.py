"""Graphs that a type checker must accept as they are. Not a test by itself: see tests/test_typing.py."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

import mesh


@dataclass
class Order:
    customer: str
    amount: float


class RushOrder(Order):
    pass


@dataclass
class Email:
    to: str


@dataclass
class Customer:
    total: float = 0.0

    def on_record(self, order: Order) -> Email | None:
        self.total += order.amount
        return Email(order.customer) if self.total > 100 else None


class OrderSink:
    def open(self, writer: str) -> mesh.Writer[Order]:
        raise NotImplementedError


def parse(line: str) -> Order | None:
    customer, _, amount = line.partition(" ")
    return Order(customer, float(amount)) if amount else None


def add(total: float, order: Order) -> tuple[float, str | None]:
    return total + order.amount, f"{total}" if total > 100 else None


path = mesh.param("input", default=Path("orders.txt"), help="a file of orders")
limit = mesh.param("limit", default=100)
output = mesh.param("output", default=None, kind=Path)
assert_type(path, mesh.Param[Path])
assert_type(limit.value + 1, int)
assert_type(output, mesh.Param[Path | None])

app = mesh.App("right-pipes")
lines = app.source("lines", mesh.files(path))
assert_type(lines, mesh.Stream[str])
words = lines.flat_map(str.split).key_by(lambda word: word)
assert_type(words, mesh.KeyedStream[str, str])
counts = words.fold("count", int, lambda n, _: n + 1)
assert_type(counts, mesh.KeyedStream[str, int])
counts.to(mesh.stdout())
counts.to(mesh.jsonl(output))

orders = lines.map(parse)
assert_type(orders, mesh.Stream[Order])
rushed = app.source("rushed", mesh.items([RushOrder("ann", 3.0)]))
either: mesh.Stream[Order] = rushed  # a stream of the narrower is one of the wider
everything = orders.merge(rushed).filter(lambda order: order.amount > limit())
everything.to(OrderSink())
rushed.to(OrderSink())
by_customer = everything.key_by(lambda order: order.customer)
mails = by_customer.stateful("customer", Customer)
assert_type(mails, mesh.KeyedStream[str, Email])
warnings = by_customer.stateful("totals", float, add)
assert_type(warnings, mesh.KeyedStream[str, str])
by_length = mails.items().key_by(lambda pair: len(pair[1].to))
assert_type(by_length, mesh.KeyedStream[int, tuple[str, Email]])
by_length.values().map(lambda pair: pair[0].encode()).key_by(lambda raw: raw).fold(
    "raw", list[bytes], lambda a, b: [*a, b]
)


def letters(text: str) -> Iterable[str]:
    yield from text


def gather(seen: list[str], word: str) -> list[str]:
    return [*seen, word]


grouped = words.fold("all", list[str], gather)
assert_type(grouped, mesh.KeyedStream[str, list[str]])
assert_type(grouped.flatten(), mesh.KeyedStream[str, str])
assert_type(lines.flat_map(letters), mesh.Stream[str])
