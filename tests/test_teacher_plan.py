"""The plan before anything is asked: what it adds up to is what asking one by one would come to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date

import pytest

from kardlib.errors import KardError
from kardlib.prices import Price, PriceTable
from kardlib.teacher_plan import (
    Measured,
    Unlimited,
    Way,
    completion_estimate,
    least_seconds,
    measure,
    plan,
    prompt_estimate,
)
from kardlib.teacher_records import Ask, Message, Sample, Sampling

PRICES = PriceTable(
    [
        Price(model="m", prompt=3, completion=7, batch_discount=0.5, dated=date(2025, 1, 1), source="x"),
        Price(model="local", prompt=0, completion=0, dated=date(2025, 1, 1), source="x"),
    ]
)


def ask(number: int, model: str = "m", words: int = 50, reply: str = "It is so. " * 8, most: int = 100) -> Ask:
    turns = [
        ("system", "Explain."),
        ("user", "A question?"),
        ("assistant", reply),
        ("user", f"{number} " + "x " * words),
    ]
    messages = tuple(Message(role=role, content=text) for role, text in turns if text)
    return Ask(
        teacher="t", model=model, messages=messages, question_id=f"q{number}", sampling=Sampling(max_tokens=most)
    )


def lacking(stored: dict[str, int], count: int, asks: Sequence[Ask]) -> dict[str, list[int]]:
    return {a.identity: list(range(stored[a.question_id], count)) for a in asks}


def test_sums_are_those_of_asking_one_by_one() -> None:
    rng = random.Random(4)
    asks = [ask(i, words=rng.randint(1, 300)) for i in range(40)]
    stored = {a.question_id: rng.randint(0, 6) for a in asks}
    missing = lacking(stored, 6, asks)
    made = plan(asks, 6, lambda a: missing[a.identity], PRICES)
    price = PRICES.of("m")
    assert price is not None
    one_by_one = [(prompt_estimate(a), completion_estimate(a)) for a in asks for _ in missing[a.identity]]
    per_request = [prompt_estimate(a) for a in asks if missing[a.identity]]
    assert made.apart.requests == made.missing == len(one_by_one) and made.together.requests == len(per_request)
    assert made.samples == 240 == made.stored + made.missing and made.stored == sum(stored.values())
    assert made.apart.prompt_tokens == pytest.approx(sum(p for p, _ in one_by_one))
    assert made.together.prompt_tokens == pytest.approx(sum(per_request))
    assert made.apart.online == pytest.approx(sum(price.cost(p, c) for p, c in one_by_one))
    assert made.together.completion_tokens == pytest.approx(made.apart.completion_tokens)
    assert made.apart.online_most == pytest.approx(sum(price.cost(p, 100) for p, _ in one_by_one))
    for way in (made.together, made.apart):
        assert None not in (way.online, way.batch, way.online_most, way.batch_most)
        assert way.batch == pytest.approx(way.online / 2) and way.batch_most == pytest.approx(way.online_most / 2)
        assert way.online <= way.online_most


def test_more_samples_tomorrow_cost_the_new_ones_alone() -> None:
    asks = [ask(i) for i in range(10)]
    today, all_at_once = (plan(asks, n, lambda a, n=n: range(n), PRICES) for n in (3, 10))
    tomorrow = plan(asks, 10, lambda a: range(3, 10), PRICES)
    assert (tomorrow.stored, tomorrow.missing) == (30, 70)
    assert today.apart.online + tomorrow.apart.online == pytest.approx(all_at_once.apart.online)
    assert today.together.online + tomorrow.together.online > all_at_once.together.online  # prompts billed twice


def test_an_ask_that_comes_again_counts_once_and_nothing_missing_is_nothing_to_pay() -> None:
    asks = [ask(1), ask(1), ask(2)]
    assert plan(asks, 2, lambda a: [0, 1], PRICES).missing == 4
    made = plan(asks, 2, lambda a: [], PRICES)
    assert made.apart == Way(made.apart.name) and made.together == Way(made.together.name)
    assert "4 stored, 0 to ask; nothing to pay" in str(made)
    assert plan([], 2, lambda a: [0], PRICES).samples == 0


def test_an_unknown_price_is_not_guessed_and_a_local_one_is_nothing() -> None:
    made = plan([ask(1), ask(2, model="other")], 1, lambda a: [0], PRICES)
    assert made.apart.online is made.apart.batch is made.apart.batch_most is None and made.unpriced == ("other",)
    assert "price of other: not known" in str(made) and "$" not in str(made)
    local = plan([ask(1, model="local")], 1, lambda a: [0], PRICES)
    assert local.apart.online == 0 and local.apart.batch is None and "batch: there is none" in str(local)


def test_without_worked_examples_a_completion_counts_as_long_as_it_may_be() -> None:
    assert completion_estimate(ask(1, reply="")) == 100
    assert completion_estimate(ask(1, reply="x" * 4000)) == 100 > completion_estimate(ask(1, reply="x" * 40)) == 10


# --- usage that is known ----------------------------------------------------------------------------------------------


def billed(asks: Sequence[Ask], rate: float, together: int, rng: random.Random) -> list[tuple[Ask, Sample]]:
    """Ten samples of each ask from a server with its own tokenizer, so many of them a request."""
    pairs = []
    for one in asks:
        bill = round(rate * prompt_estimate(one))
        for first in range(0, 10, together):
            size = min(together, 10 - first)
            for i in range(size):
                tokens = rng.randint(20, 60)
                text = "x" * round(rng.uniform(3.9, 4.7) * tokens / rate)  # replies have another rate than prompts
                share = bill // size + (i < bill % size)
                pairs.append((one, Sample(index=first + i, text=text, finish_reason="stop", prompt_tokens=share,
                                          completion_tokens=tokens)))  # fmt: skip
    rng.shuffle(pairs)
    return pairs


@pytest.mark.parametrize("rate", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("together", [1, 2, 3, 7, 10])
def test_measured_usage_corrects_the_estimate(rate: float, together: int) -> None:
    rng = random.Random(together)
    asks = [ask(i, words=rng.randint(50, 400)) for i in range(30)]
    pairs = billed(asks, rate, together, rng)
    known = measure(pairs)
    assert known.samples == 300 and known.completion_tokens == sum(s.completion_tokens for _, s in pairs)
    assert known.prompt_factor == pytest.approx(rate, rel=0.01)
    made = plan(asks, 11, lambda a: [10], PRICES, measured=known)
    assert made.apart.prompt_tokens == pytest.approx(rate * sum(map(prompt_estimate, asks)), rel=0.01)
    assert made.apart.completion_tokens == pytest.approx(30 * known.completion_tokens / 300)
    assert "as billed so far" in str(made) and "300 stored samples" in str(made)


def test_unknown_usage_corrects_nothing() -> None:
    known = measure([(ask(1), Sample(index=0, text="x", finish_reason="stop"))])
    assert known == Measured() and known.prompt_factor == 1
    assert "as in the worked examples" in str(plan([ask(1)], 1, lambda a: [0], PRICES, measured=known))


# --- time -------------------------------------------------------------------------------------------------------------


def test_the_slowest_limit_decides() -> None:
    free = Unlimited(8)
    assert least_seconds(free, 2, 0, 0) == 0 and least_seconds(free, 2, 1, 10**9) == 2
    assert least_seconds(free, 2, 17, 0) == 6
    assert least_seconds(Unlimited(1000, 60), 0.1, 120, 0) == pytest.approx(120)
    assert least_seconds(Unlimited(1000, None, 1000), 0.1, 120, 5000) == pytest.approx(300)
    assert least_seconds(Unlimited(1, 60, 1000), 5, 120, 5000) == pytest.approx(600)


def test_without_rates_the_time_is_that_of_workers_on_a_clock() -> None:
    """Each worker takes the next request when it is free."""
    rng = random.Random(0)
    for _ in range(50):
        workers, requests, latency = rng.randint(1, 9), rng.randint(0, 60), rng.uniform(0.1, 4)
        free = [0.0] * workers
        for _ in range(requests):
            free[free.index(min(free))] += latency
        assert least_seconds(Unlimited(workers), latency, requests, 0) == pytest.approx(max(free))


def test_tokens_count_with_the_most_that_may_come() -> None:
    asks = [ask(i) for i in range(20)]
    made = plan(asks, 3, lambda a: range(3), PRICES, Unlimited(tokens_per_minute=100), latency=0)
    for way, prompts in ((made.together, 20), (made.apart, 60)):
        assert way.seconds == pytest.approx(0.6 * (prompts * prompt_estimate(asks[0]) + 60 * 100), rel=0.01)


@pytest.mark.parametrize("latency", [-1.0, float("nan"), float("inf")])
def test_a_bad_latency_is_named(latency: float) -> None:
    with pytest.raises(KardError, match="latency = "):
        plan([ask(1)], 1, lambda a: [0], PRICES, latency=latency)


def test_no_samples_is_no_plan() -> None:
    with pytest.raises(KardError, match="0 samples a question"):
        plan([ask(1)], 0, lambda a: [], PRICES)


def test_the_table_holds_both_ways_and_what_it_rests_on() -> None:
    made = plan([ask(i) for i in range(1000)], 3, lambda a: range(3), PRICES, Unlimited(10), latency=1)
    text = str(made)
    assert text.startswith("3,000 samples of 1,000 prompts: 0 stored, 3,000 to ask")
    (together,) = [line for line in text.splitlines() if line.startswith("  n samples")]
    (apart,) = [line for line in text.splitlines() if line.startswith("  one sample")]
    assert " 1,000 " in together and " 3,000 " in apart and f"${made.apart.online:.2f}" in apart
    assert f"{made.together.prompt_tokens:,.0f}" in together and apart.endswith("5 min")
    assert "4 a token" in text and "(2025-01-01, x)" in text
