"""The price table: shipped rows are sound, a user's own come first, and a bad row is named in one line."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path

import pytest

from kardlib.errors import KardError
from kardlib.prices import LOCAL, PRICES_FILE, Price, read_prices

ROW = {"model": '"m"', "prompt": "1.0", "completion": "2", "dated": "2025-01-31", "source": '"x"'}


def written(folder: Path, *rows: dict[str, str]) -> Path:
    path = folder / "mine.toml"
    lines = ["[[price]]\n" + "\n".join(f"{name} = {value}" for name, value in row.items()) for row in rows]
    path.write_text("\n".join(lines))
    return path


def test_shipped_rows_are_dated_and_sourced() -> None:
    table = read_prices()
    assert {"gpt-3.5-turbo", "gpt-4o-mini", LOCAL} <= {price.model for price in table.prices}
    for price in table.prices:
        assert price.model == LOCAL or price.source.startswith("https://openai.com/")
        assert price.dated < date(2027, 1, 1) and price.completion >= price.prompt
        assert all(table.of(name) is price for name in price.names)
    local = table.of(LOCAL)
    assert local is not None and local.cost(10**9, 10**9) == 0


def test_cost_is_linear_in_tokens_and_a_batch_takes_its_discount_off() -> None:
    rng = random.Random(2)
    for _ in range(100):
        price = Price(model="m", prompt=rng.random(), completion=rng.random(), batch_discount=rng.random(),
                      dated=date(2025, 1, 1), source="x")  # fmt: skip
        a, b, c, d = (rng.randrange(10**7) for _ in range(4))
        assert price.cost(a + c, b + d) == pytest.approx(price.cost(a, b) + price.cost(c, d))
        assert price.cost(10**6, 0) == pytest.approx(price.prompt)
        assert price.cost(0, 10**6) == pytest.approx(price.completion)
        assert price.cost(a, b, batch=True) == pytest.approx(price.cost(a, b) * (1 - (price.batch_discount or 0)))
        assert price.cost(0, 0) == 0


def test_no_batch_discount_is_no_batch_price(tmp_path: Path) -> None:
    price = read_prices(written(tmp_path, ROW)).of("m")
    assert price is not None and price.cost(1, 1) > 0
    with pytest.raises(KardError, match="model m: .*no Batch API"):
        price.cost(1, 1, batch=True)


def test_an_unknown_model_has_no_price_and_a_local_teacher_costs_nothing() -> None:
    table = read_prices()
    assert table.of("gpt-4o-mini-2099-01-01") is None and table.of("") is None
    of_local, listed = table.of("llama", teacher=LOCAL), table.of("gpt-4o-mini", teacher="openai")
    assert of_local is not None and of_local.cost(10**6, 10**6) == 0
    assert listed is not None and listed.cost(10**6, 10**6) > 0


def test_a_users_own_rows_come_first(tmp_path: Path) -> None:
    own = written(tmp_path, ROW | {"model": '"gpt-4o-mini"', "prompt": "7"}, ROW)
    table = read_prices(own)
    changed, added = table.of("gpt-4o-mini"), table.of("m")
    assert changed is not None and changed.prompt == 7 and added is not None
    assert table.of("gpt-3.5-turbo") == read_prices().of("gpt-3.5-turbo")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"prompt": "-1"}, r"price 2 \(m\): field prompt"),
        ({"prompt": '"1"'}, r"price 2 \(m\): field prompt"),
        ({"completion": "inf"}, r"price 2 \(m\): field completion"),
        ({"completion": "true"}, r"price 2 \(m\): field completion"),
        ({"batch_discount": "50"}, r"price 2 \(m\): field batch_discount"),
        ({"dated": '"last year"'}, r"price 2 \(m\): field dated"),
        ({"source": '""'}, r"price 2 \(m\): field source"),
        ({"model": "3"}, "price 2: field model"),
        ({"cached": "0.1"}, r"price 2 \(m\): field cached"),
        ({"model": '"other"'}, "price 2: field model: 'other' has price 1 already"),
        ({"also": '["other"]'}, "price 2: field model: 'other' has price 1 already"),
        ({"prompt": "1,5"}, "not TOML"),
    ],
)
def test_a_bad_row_is_named_in_one_line(tmp_path: Path, change: dict[str, str], told: str) -> None:
    path = written(tmp_path, ROW | {"model": '"other"'}, ROW | change)
    with pytest.raises(KardError, match=told) as caught:
        read_prices(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["price = 3", "[prices]\nx = 1", "price = [1]", "[price]\nmodel = 'm'"])
def test_a_file_without_rows_is_named_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(KardError, match=r"mine.toml: .*\[\[price\]\]"):
        read_prices(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KardError, match="nowhere.toml: cannot be read"):
        read_prices(tmp_path / "nowhere.toml")
    assert PRICES_FILE.is_file()
