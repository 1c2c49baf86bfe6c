"""How fast a teacher may be asked, and how long to wait after a fault."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping
from typing import Protocol

from aiolimiter import AsyncLimiter
from pydantic import Field

from .records import Record

MINUTE = 60.0
TOKEN_WINDOW = 10.0
"""Seconds over which tokens are levelled out."""


class Limits(Record):
    """What an endpoint allows, and how patient a run is.

    Attributes:
        concurrency: requests under way at a time.
        requests_per_minute: None for as many as it takes.
        tokens_per_minute: prompt and completion together; a request is counted with the most that it may bring.
        tries: requests for one sample, the first included, after which the run ends.
        first_wait: seconds; the k-th wait is drawn from 0 to first_wait * 2^(k-1) (full jitter).
        longest_wait: seconds; no drawn wait is longer.
        patience: seconds; where a server's Retry-After asks for more, the run ends and says so.
        grace: seconds that a run which ends waits for the answers under way.
    """

    concurrency: int = Field(default=16, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    tries: int = Field(default=12, ge=1)
    first_wait: float = Field(default=0.5, ge=0)
    longest_wait: float = Field(default=60.0, ge=0)
    patience: float = Field(default=900.0, ge=0)
    grace: float = Field(default=15.0, ge=0)


class Draw(Protocol):
    """What is used of :class:`random.Random`."""

    def uniform(self, a: float, b: float) -> float:
        """A number from ``a`` to ``b``."""


class Pace:
    """The rates of one run; made within its event loop."""

    def __init__(self, limits: Limits, draw: Draw | None = None) -> None:
        self.limits = limits
        self._draw = draw or random.Random()
        self._held_until = 0.0
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        # a bucket of one second, not of one minute: what providers call 600 a minute they enforce as 10 a second
        self._requests = _limiter(requests, max(1.0, requests / MINUTE)) if requests else None
        self._tokens = _limiter(tokens, tokens * TOKEN_WINDOW / MINUTE) if tokens else None

    @property
    def free(self) -> bool:
        """Whether a request may be sent at once, whatever its size."""
        return self._requests is None and self._tokens is None and time.monotonic() >= self._held_until

    async def admit(self, tokens: int) -> None:
        """Return when a request of so many tokens may be sent."""
        await self._end_of_hold()
        if self._tokens is not None:
            left = float(tokens)
            while left > 0:  # in pieces: one request may be larger than the bucket
                piece = min(left, self._tokens.max_rate)
                await self._tokens.acquire(piece)
                left -= piece
        if self._requests is not None:
            await self._requests.acquire()
        await self._end_of_hold()

    async def _end_of_hold(self) -> None:
        while (rest := self._held_until - time.monotonic()) > 0:
            await asyncio.sleep(rest + self._draw.uniform(0, min(1.0, rest)))  # not all at once after a pause

    def wait(self, tries: int, retry_after: float | None) -> float:
        """Seconds to wait before a sample is asked for once more.

        A Retry-After holds up every request of the run, as the limit that it tells of is one of the whole key.

        Args:
            tries: requests for this sample so far, 1 or more.
            retry_after: seconds, or None where the server does not say.
        """
        most = min(self.limits.longest_wait, self.limits.first_wait * 2.0 ** min(tries - 1, 32))
        if retry_after is None:
            return self._draw.uniform(0, most)
        self._held_until = max(self._held_until, time.monotonic() + retry_after)
        return retry_after


def _limiter(per_minute: float, bucket: float) -> AsyncLimiter:
    return AsyncLimiter(bucket, bucket * MINUTE / per_minute)


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a server asks to wait for: ``retry-after-ms``, or ``retry-after`` in seconds or as a date.

    Args:
        headers: looked up in lower case.
        now: seconds since the epoch.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        date = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, date - (time.time() if now is None else now))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
