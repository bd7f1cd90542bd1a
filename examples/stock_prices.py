"""The last and the highest price of every listed share: an application whose keys are known before it starts.

The 3,000 symbols are loaded from a file at the start; trades of anything else are dropped. Compare new_customers.py.

    mesh run examples/stock_prices.py --nodes 2 --set output=prices
"""

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mesh

LISTED = Path(__file__).with_name("stock_symbols.txt")

symbols = mesh.param("symbols", default=LISTED, help="a file with the symbols that are listed, one a line")
output = mesh.param("output", default=None, kind=Path, help="a new or empty directory for the prices")


@dataclass(frozen=True)
class Trade:
    symbol: str
    price: float


@dataclass
class Price:
    last: float = 0.0
    highest: float = 0.0


@functools.cache
def listed(file: Path) -> frozenset[str]:
    return frozenset(file.read_text().split())


def is_listed(trade: Trade) -> bool:
    return trade.symbol in listed(symbols.value)


def observe(price: Price, trade: Trade) -> Price:
    return Price(trade.price, max(price.highest, trade.price))


def a_day_of_trades(count: int = 30_000) -> Iterator[Trade]:
    """Instead of a feed from an exchange: the same day again at every start."""
    chance = random.Random(1987)
    known = LISTED.read_text().split()
    for _ in range(count):
        symbol = chance.choice(known) if chance.random() < 0.99 else "DELISTED"
        yield Trade(symbol, round(chance.lognormvariate(3, 1), 2))


app = mesh.App("stock-prices")
trades = app.source("trades", mesh.items(a_day_of_trades(), splits=4))
prices = trades.filter(is_listed).key_by(lambda trade: trade.symbol).fold("price", Price, observe)
prices.to(mesh.jsonl(output))
