"""What a teacher's tokens cost, by a dated table that the user may edit (``data/prices.toml``)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path

from pydantic import ConfigDict, Field, StrictFloat, StrictInt

from .errors import KardError
from .presets import REPOSITORY
from .records import Record, parse_record
from .toml_file import read_toml

PRICES_FILE = REPOSITORY / "data" / "prices.toml"
LOCAL = "local"
"""Row of the table for a server that nobody is paid for."""
_MILLION = 1_000_000


class Price(Record):
    """One row of the table: US dollars for a million tokens.

    Attributes:
        model: the name that the server knows, exactly; ``also`` holds further names of the same price.
        batch_discount: share that the Batch API takes off; None where there is no such API.
        dated: when the price was announced or looked up; ``source`` is where.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    model: str = Field(min_length=1)
    also: tuple[str, ...] = ()
    prompt: StrictFloat | StrictInt = Field(ge=0)
    completion: StrictFloat | StrictInt = Field(ge=0)
    batch_discount: StrictFloat | StrictInt | None = Field(default=None, ge=0, le=1)
    dated: date
    source: str = Field(min_length=1)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.model, *self.also)

    def cost(self, prompt_tokens: float, completion_tokens: float, batch: bool = False) -> float:
        """US dollars for so many tokens.

        Raises:
            KardError: a batch is asked for, and the row knows of no Batch API.
        """
        if batch and self.batch_discount is None:
            raise KardError(f"model {self.model}: the price table knows of no Batch API for it (batch_discount)")
        share = 1 - self.batch_discount if batch and self.batch_discount is not None else 1
        return share * (prompt_tokens * self.prompt + completion_tokens * self.completion) / _MILLION


class PriceTable:
    """Prices by the name of the model.

    Args:
        prices: where two rows name the same model, the first counts.
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        self.prices = tuple(prices)
        self._by_name: dict[str, Price] = {}
        for price in self.prices:
            for name in price.names:
                self._by_name.setdefault(name, price)

    def of(self, model: str, teacher: str = "") -> Price | None:
        """The price of a model; that of ``local`` for a teacher whose alias this is; None where there is none."""
        return self._by_name.get(LOCAL if teacher == LOCAL else model)


def read_prices(path: str | Path | None = None) -> PriceTable:
    """The shipped table, with the rows of a user's own file before it.

    Raises:
        KardError: one line that names the file, the row and the field of the first fault.
    """
    own = [] if path is None else _rows(Path(path).expanduser())
    return PriceTable([*own, *_rows(PRICES_FILE)])


def _rows(path: Path) -> list[Price]:
    table = read_toml(path)
    rows = table.get("price", [])
    unknown = next((name for name in table if name != "price"), None)
    if unknown is not None or not isinstance(rows, list):
        raise KardError(f"{path}: {unknown or 'price'}: rows are expected that begin with [[price]]")
    prices: list[Price] = []
    first: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        where = f"{path}: price {number}"
        if not isinstance(row, dict):
            raise KardError(f"{where}: a row that begins with [[price]] was expected")
        price = parse_record(row, Price, f"{where} ({row['model']})" if isinstance(row.get("model"), str) else where)
        for name in price.names:
            if name in first:
                raise KardError(f"{where}: field model: {name!r} has price {first[name]} already")
            first[name] = number
        prices.append(price)
    return prices
