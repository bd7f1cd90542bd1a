"""Orders of customers whom nobody knows yet: an application whose keys cannot be known before it starts.

A customer comes into being with the first order. Orders fold into a total, and the one that lifts it to the reward
makes an e-mail, once. Compare stock_prices.py.

    mesh run examples/new_customers.py --nodes 2 --set reward=250
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import mesh

reward = mesh.param("reward", default=500, help="the total of orders that earns an e-mail")


@dataclass(frozen=True)
class Order:
    customer: str
    amount: int


@dataclass(frozen=True)
class Email:
    to: str
    text: str


@dataclass
class Customer:
    total: int = 0
    is_rewarded: bool = False

    def on_record(self, order: Order) -> Email | None:
        self.total += order.amount
        if self.is_rewarded or self.total < reward.value:
            return None
        self.is_rewarded = True
        return Email(order.customer, f"You have ordered for {self.total} so far. Thank you!")


def orders_of_a_week(count: int = 5_000) -> Iterator[Order]:
    """Instead of a web shop: the same week again at every start. Some customers come back, most do not."""
    chance = random.Random(1852)
    for _ in range(count):
        customer = f"{int(chance.paretovariate(0.2)):x}@example.org"
        yield Order(customer, chance.randint(1, 60))


app = mesh.App("new-customers")
orders = app.source("orders", mesh.items(orders_of_a_week(), splits=4))
mails = orders.key_by(lambda order: order.customer).stateful("customer", Customer)
mails.values().to(mesh.stdout())
