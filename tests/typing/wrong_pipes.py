"""One wrong pipe a line, each marked. Not a test by itself: see tests/test_typing.py."""

from dataclasses import dataclass
from pathlib import Path

import mesh


@dataclass
class Order:
    customer: str
    amount: float


@dataclass
class Visit:
    page: str


@dataclass
class Customer:
    total: float = 0.0

    def on_record(self, order: Order) -> str | None:
        self.total += order.amount
        return None


@dataclass
class Needy:
    total: float  # no default: it cannot be made lazily

    def on_record(self, order: Order) -> str | None:
        return None


class OrderSink:
    def open(self, writer: str) -> mesh.Writer[Order]:
        raise NotImplementedError


def text_length(text: str) -> int:
    return len(text)


def spelled(total: float, order: Order) -> str:
    return f"{total + order.amount}"


app = mesh.App("wrong-pipes")
lines = app.source("lines", mesh.items([""]))
orders = app.source("orders", mesh.items([Order("ann", 1.0)]))
visits = app.source("visits", mesh.items([Visit("/")]))
by_customer = orders.key_by(lambda order: order.customer)
by_page = visits.key_by(lambda visit: visit.page)

lines.fold("count", int, lambda n, _: n + 1)  # WRONG no key before a fold
lines.stateful("customer", Customer)  # WRONG no key before a stage
orders.key_by(lambda order: order.amount)  # WRONG a float is no key
orders.key_by(lambda order: (order.customer, 1))  # WRONG a tuple is no key
orders.key_by(lambda order: order.costumer)  # WRONG a typo in the record
by_page.stateful("customer", Customer)  # WRONG the class takes other records
by_customer.stateful("needy", Needy)  # WRONG the class needs an argument
by_customer.fold("total", float, spelled)  # WRONG the step returns no state
by_customer.fold("total", float, lambda total: total)  # WRONG the step takes too little
by_customer.stateful("total", float, lambda total, order: total + order.amount)  # WRONG no (state, output)
orders.map(text_length)  # WRONG the step takes other records
orders.merge(visits)  # WRONG two kinds of records
visits.to(OrderSink())  # WRONG the sink takes other records
by_customer.to(OrderSink())  # WRONG the sink would get (key, order)
lines.to(mesh.files("out.txt"))  # WRONG a source is no sink
app.source("more", mesh.stdout())  # WRONG a sink is no source
lines.flatmap(str.split)  # WRONG a typo in the step
mesh.file("book.txt")  # WRONG a typo in the door
mesh.param("limit", default=None)  # WRONG nothing says of what type it is
mesh.files(mesh.param("input", default=3))  # WRONG the param is no path
limit: int = mesh.param("limit", default=Path()).value  # WRONG the param is no int
