"""Rates, Retry-After and back-off."""

from __future__ import annotations

import asyncio
import email.utils
import time

import pytest

from kardlib.teacher_limits import Limits, Pace, retry_after


class Most:
    """Draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Least(Most):
    """Draws the lower end."""

    def uniform(self, a: float, b: float) -> float:
        return a


@pytest.mark.parametrize(
    ("headers", "seconds"),
    (
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": email.utils.formatdate(1_000_060, usegmt=True)}, 60.0),
        ({"retry-after": email.utils.formatdate(999_000, usegmt=True)}, 0.0),
    ),
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1_000_000) == seconds


def test_waits_double_up_to_a_most_and_are_drawn_from_zero_on() -> None:
    limits = Limits(first_wait=0.5, longest_wait=10)
    most = [Pace(limits, Most()).wait(tries, None) for tries in range(1, 9)]
    assert most == [0.5, 1, 2, 4, 8, 10, 10, 10] and Pace(limits, Most()).wait(10_000, None) == 10
    assert Pace(limits, Least()).wait(5, None) == 0


def test_retry_after_is_waited_for_in_full_and_by_every_request() -> None:
    async def others() -> float:
        pace = Pace(Limits(first_wait=0.01))
        assert pace.free and pace.wait(1, 0.3) == 0.3 and not pace.free
        began = time.monotonic()
        await asyncio.gather(*(pace.admit(100) for _ in range(5)))
        return time.monotonic() - began

    assert 0.3 <= asyncio.run(others()) < 1.5


def sent(limits: Limits, tokens: int, requests: int) -> list[float]:
    """Seconds after which each request may be sent."""

    async def run() -> list[float]:
        pace, began, times = Pace(limits), time.monotonic(), []

        async def one() -> None:
            await pace.admit(tokens)
            times.append(time.monotonic() - began)

        await asyncio.gather(*(one() for _ in range(requests)))
        return sorted(times)

    return asyncio.run(run())


def test_requests_a_minute_hold_in_every_second() -> None:
    times = sent(Limits(requests_per_minute=600), 10, 25)  # ten a second, and ten at once to begin with
    assert all(sum(start <= t < start + 0.5 for t in times) <= 10 + 0.5 * 10 + 1 for start in times)
    assert times[-1] >= (25 - 10) / 10 - 0.05


def test_tokens_a_minute_hold_for_requests_larger_than_the_bucket_too() -> None:
    # 60,000 a minute are 1,000 a second, in a bucket of 10,000
    times = sent(Limits(tokens_per_minute=60_000), 5_500, 2)
    assert times[-1] >= 1 - 0.05
    assert sent(Limits(tokens_per_minute=60_000), 11_000, 1)[0] >= 1 - 0.05


def test_without_limits_nothing_waits() -> None:
    assert sent(Limits(), 10**9, 100)[-1] < 0.5
