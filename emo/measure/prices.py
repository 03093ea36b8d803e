"""What a server's answers cost: by the prices that were given, else by the table ``conf/prices.yaml``, else unknown.

With prices in USD per million tokens

    cost = (input tokens * input price + output tokens * output price) / 1e6,   in a batch half of it
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from emo.core import home
from emo.measure.chat_server import ServerSettings

SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")  # the day of a version, behind the name of a model


class Tokens(NamedTuple):
    """What was sent and came back; in a batch or not."""

    input: int = 0
    output: int = 0
    batch_input: int = 0
    batch_output: int = 0

    def plus(self, tokens_in: int, tokens_out: int, batch: bool) -> Tokens:
        """Return these and those of one more answer."""
        more = (0, 0, tokens_in, tokens_out) if batch else (tokens_in, tokens_out, 0, 0)
        return Tokens(*(a + b for a, b in zip(self, more, strict=True)))


class Price(NamedTuple):
    """USD per million tokens."""

    input: float
    output: float
    source: str  # where it is from, for the user; empty: he gave it

    def cost(self, tokens: Tokens) -> float:
        """Return what tokens cost, in USD."""
        share = float(_table()["batch"])
        whole = tokens.input + share * tokens.batch_input, tokens.output + share * tokens.batch_output
        return (whole[0] * self.input + whole[1] * self.output) / 1e6


def price_of(settings: ServerSettings) -> Price | None:
    """Return the price of a model; None: nobody gave one, and the table has none for this address and name."""
    if settings.price_input is not None and settings.price_output is not None:
        return Price(settings.price_input, settings.price_output, "")
    table = _table()
    row = table["models"].get(SNAPSHOT.sub("", settings.model))
    if row is None or settings.url() != table["url"]:
        return None
    return Price(float(row["input"]), float(row["output"]), f"prices of {table['as_of']}, conf/prices.yaml")


def cost_words(settings: ServerSettings, tokens: Tokens, digits: int = 4, *, about: bool = False) -> str:
    """Return ``0.1234 USD`` with where the price is from, or that it is not known and what to give."""
    price = price_of(settings)
    if price is None:
        return f"cost not known (give {settings.section}.price_input and {settings.section}.price_output)"
    return f"{'about ' if about else ''}{price.cost(tokens):.{digits}f} USD" + (
        f" ({price.source})" if price.source else ""
    )


@cache
def _table() -> dict[str, Any]:
    made = OmegaConf.to_container(OmegaConf.load(home.CONF / "prices.yaml"))
    assert isinstance(made, dict)
    return {str(key): value for key, value in made.items()}
